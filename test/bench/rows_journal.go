package main

import (
	"context"
	"fmt"
	"time"
)

// journaled starts two edges without running neighbours, one with a journal and one without. The
// NATS server has JetStream on disk.
func journaled(ctx context.Context, s *session) (on, off *edge, err error) {
	_, url, err := s.nats(ctx, "-js", "-sd", s.path("jetstream"))
	if err != nil {
		return nil, nil, err
	}
	if off, err = s.edge(ctx, "Clark", lone(url)...); err != nil {
		return nil, nil, err
	}
	on, err = s.edge(ctx, "Johnson", "NATS_URL="+url, "HERD_JOURNAL=on")
	return on, off, err
}

// journal compares the updates per second of both edges, and watches the journal's lag.
func journal(ctx context.Context, s *session) (o outcome, err error) {
	on, off, err := journaled(ctx, s)
	if err != nil {
		return o, err
	}
	l := load{ids: "c", clients: 100_000, conns: 50, pipeline: 32, requests: s.size(2_000_000, 100_000)}
	first := l
	for _, e := range []*edge{on, off} {
		first.addr, first.requests = e.addr, l.clients
		if _, err := first.run(ctx); err != nil {
			return o, err
		}
	}
	if _, err := on.journalEmpty(ctx); err != nil {
		return o, err
	}
	behind, drained := 0.0, time.Duration(0)
	var rates []float64
	ratio, err := s.inTurn(
		func() (float64, error) {
			l.addr = on.addr
			watching, stop := context.WithCancel(ctx)
			lags := make(chan float64, 1)
			go func() { lags <- on.worstLag(watching) }()
			took, err := l.run(ctx)
			stop()
			lag := <-lags
			if err != nil {
				return 0, err
			}
			rate := float64(l.requests) / took.Seconds()
			rates = append(rates, rate)
			behind = max(behind, lag/rate)
			left, err := on.journalEmpty(ctx)
			drained = max(drained, left)
			return rate, err
		},
		func() (float64, error) {
			l.addr = off.addr
			took, err := l.run(ctx)
			return float64(l.requests) / took.Seconds(), err
		})
	if err != nil {
		return o, err
	}
	o.figure, o.moved = 100*ratio.ratio, ratio.moved
	o.met = o.figure >= 60 && behind <= 2 && drained <= 5*time.Second
	o.note = fmt.Sprintf("%s updates/s, of %s without; at the most %s s of updates behind, and level %.1f s after the end",
		number(median(rates)), number(ratio.floor), number(behind), drained.Seconds())
	return o, nil
}

// worstLag returns the largest lag of the journal until ctx ends.
func (e *edge) worstLag(ctx context.Context) (worst float64) {
	for ctx.Err() == nil {
		if m, err := e.metrics(); err == nil {
			worst = max(worst, m["herd_journal_lag"])
		}
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return worst
}

// journalEmpty waits until the journal's lag is 0, and returns how long that took.
func (e *edge) journalEmpty(ctx context.Context) (time.Duration, error) {
	begun := time.Now()
	err := until(ctx, time.Minute, 20*time.Millisecond, "the journal's lag is 0", func() (bool, error) {
		m, err := e.metrics()
		if err != nil {
			return false, err
		}
		return m["herd_journal_lag"] == 0, fmt.Errorf("its lag is %v", m["herd_journal_lag"])
	})
	return time.Since(begun), err
}

// journalAnswers compares the times of answers at half the highest rate of the edge with a
// journal.
func journalAnswers(ctx context.Context, s *session) (o outcome, err error) {
	on, off, err := journaled(ctx, s)
	if err != nil {
		return o, err
	}
	l := load{addr: on.addr, ids: "c", clients: 100_000, requests: s.size(1_000_000, 100_000), conns: 50, pipeline: 32}
	l, err = l.half(ctx, s.span(5*time.Second, time.Second))
	if err != nil {
		return o, err
	}
	answer := func(e *edge) (float64, error) {
		if _, err := on.journalEmpty(ctx); err != nil {
			return 0, err
		}
		l.addr = e.addr
		_, err := l.run(ctx)
		return l.milliseconds(0.5), err
	}
	o, err = s.inTurn(func() (float64, error) { return answer(on) }, func() (float64, error) { return answer(off) })
	o.note = fmt.Sprintf("%s ms with it, %s without, at %s requests/s in batches of 32", number(o.figure), number(o.floor), number(l.rate))
	o.figure, o.met = o.ratio, o.ratio <= 1.1
	o.ratio, o.floor = 0, 0
	return o, err
}

// durable measures the answers per second of an edge whose answers wait for the journal.
func durable(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx, "-js", "-sd", s.path("jetstream"))
	if err != nil {
		return o, err
	}
	e, err := s.edge(ctx, "Clark", "NATS_URL="+url, "HERD_DURABILITY=journal", "HERD_JOURNAL_STORAGE=memory")
	if err != nil {
		return o, err
	}
	l := load{addr: e.addr, ids: "c", clients: 100_000, conns: 256, pipeline: 1, requests: 256 * s.size(600, 20)}
	o.figure, err = s.often(func() (float64, error) {
		took, err := l.run(ctx)
		return float64(l.requests) / took.Seconds(), err
	})
	o.met = o.figure >= 30_000
	return o, err
}

// loading measures the time from the start of an edge to its open port, with a journal of many
// entries. The floor is a bare reader of the same stream, in a process of its own.
func loading(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx, "-js", "-sd", s.path("jetstream"))
	if err != nil {
		return o, err
	}
	vars := []string{"NATS_URL=" + url, "HERD_JOURNAL=on", "HERD_TOPOLOGY=Clark"}
	e, err := s.edge(ctx, "Clark", vars...)
	if err != nil {
		return o, err
	}
	n := s.size(300_000, 20_000)
	if _, err := (load{addr: e.addr, ids: "c", clients: n, requests: n, conns: 50, pipeline: 32}).run(ctx); err != nil {
		return o, err
	}
	if _, err := e.journalEmpty(ctx); err != nil {
		return o, err
	}
	e.Stop(stopLimit)
	o, err = s.inTurn(
		func() (float64, error) {
			begun := time.Now()
			e, err := s.edge(ctx, "Clark", vars...)
			if err != nil {
				return 0, err
			}
			took := time.Since(begun)
			defer e.Stop(stopLimit)
			m, err := e.metrics()
			if err == nil && m["herd_positions"] != float64(n) {
				err = fmt.Errorf("port opened with %v clients of %d", m["herd_positions"], n)
			}
			return took.Seconds(), err
		},
		func() (float64, error) {
			begun := time.Now()
			c, err := s.start("reader", nil, s.self, roleRead, url, "herd_Clark", fmt.Sprint(n))
			if err != nil {
				return 0, err
			}
			<-c.Exited
			if !c.Cmd.ProcessState.Success() {
				return 0, fmt.Errorf("reader: %s", last(c))
			}
			return time.Since(begun).Seconds(), nil
		})
	o.met = o.ratio <= 3
	o.note = fmt.Sprintf("%d entries; %s entries/s", n, number(float64(n)/o.figure))
	return o, err
}
