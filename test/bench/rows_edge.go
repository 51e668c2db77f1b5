package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

// settled returns the edge's resident memory in bytes after garbage collections, once it no longer
// shrinks. Free memory goes back to the operating system bit by bit.
func (e *edge) settled(ctx context.Context) (float64, error) {
	least, since := 0.0, time.Now()
	err := until(ctx, 90*time.Second, 500*time.Millisecond, "memory of "+e.name+" settles", func() (bool, error) {
		if _, err := e.get("/debug/pprof/heap?gc=1"); err != nil {
			return false, err
		}
		resident, err := e.ResidentMemory()
		if err != nil {
			return false, err
		}
		now := float64(resident)
		if least == 0 || now < 0.995*least {
			least, since = now, time.Now()
		}
		return time.Since(since) > 5*time.Second, nil
	})
	return least, err
}

// memory measures the memory per client of an edge with a million clients and without the index by
// place; liveMemory has that.
func memory(ctx context.Context, s *session) (o outcome, err error) {
	e, err := s.clark(ctx, "HERD_LIVE=off")
	if err != nil {
		return o, err
	}
	l := load{addr: e.addr, ids: "client", clients: 1000, requests: 1000, conns: 50, pipeline: 32}
	if _, err := l.run(ctx); err != nil {
		return o, err
	}
	empty, err := e.settled(ctx)
	if err != nil {
		return o, err
	}
	n := s.size(1_000_000, 100_000)
	l.clients, l.requests = n, 2*n // each client has moved
	if _, err := l.run(ctx); err != nil {
		return o, err
	}
	full, err := e.settled(ctx)
	if err != nil {
		return o, err
	}
	o.figure = (full - empty) / float64(n)
	o.met = o.figure <= 160
	o.note = fmt.Sprintf("the process without them: %s MiB", number(empty/(1<<20)))
	return o, nil
}

// rest is a little more than the silence after which the edge gives a connection a fresh stack.
const rest = 35 * time.Second

// idle measures the memory per connection that sent one request and then nothing, after rest. The
// note has the memory before that.
func idle(ctx context.Context, s *session) (o outcome, err error) {
	const least = 15_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return o, err
	}
	n := min(s.size(100_000, 1000), int(limit.Cur)-500)
	if n < least && !s.quick {
		return o, errCannot{fmt.Sprintf("the file limit is %d, and %d connections are the least to measure", limit.Cur, least)}
	}
	e, err := s.clark(ctx)
	if err != nil {
		return o, err
	}
	request := load{addr: e.addr, ids: "c", clients: 1000, requests: 1000, conns: 1, pipeline: 1}
	if _, err := request.run(ctx); err != nil {
		return o, err
	}
	empty, err := e.settled(ctx)
	if err != nil {
		return o, err
	}
	conns := make([]net.Conn, 0, n)
	defer func() {
		for _, nc := range conns {
			nc.Close()
		}
	}()
	line := fmt.Sprintf("IAMAT %s +34.068930-118.445127 %d\n", clientID("c", 1), time.Now().Unix())
	answer := make([]byte, 4096)
	for i := range n {
		// An address has some 28,000 ports for outgoing connections, so use several addresses.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i/20_000))}}
		nc, err := d.DialContext(ctx, "tcp", e.addr)
		if err != nil {
			return o, fmt.Errorf("connection %d: %w", i, err)
		}
		conns = append(conns, nc)
		if _, err := nc.Write([]byte(line)); err != nil {
			return o, err
		}
		if err := drain(nc, answer, 1); err != nil {
			return o, err
		}
	}
	silent := time.Now()
	early, err := e.settled(ctx)
	if err != nil {
		return o, err
	}
	select {
	case <-time.After(time.Until(silent.Add(s.span(rest, 0)))):
	case <-ctx.Done():
		return o, ctx.Err()
	}
	full, err := e.settled(ctx)
	if err != nil {
		return o, err
	}
	m, err := e.metrics()
	if err != nil {
		return o, err
	}
	if m["herd_connections"] < float64(n) {
		return o, fmt.Errorf("%v connections of %d are left", m["herd_connections"], n)
	}
	var times []float64
	for range 1000 {
		begun := time.Now()
		if _, err := conns[n/2].Write([]byte(line)); err != nil {
			return o, err
		}
		if err := drain(conns[n/2], answer, 1); err != nil {
			return o, err
		}
		times = append(times, time.Since(begun).Seconds()*1000)
	}
	middle := median(times) // sorts them
	p99 := times[len(times)*99/100]
	o.figure = (full - empty) / 1024 / float64(n)
	o.met = o.figure <= 5 && p99 < 5
	o.note = fmt.Sprintf("%s connections, %s KiB each in their first half minute of silence; an answer takes %s ms, p99 %s, at the most %s", number(float64(n)), number((early-empty)/1024/float64(n)), number(middle), number(p99), number(times[len(times)-1]))
	return o, nil
}

// pauses measures the slowest answers, which garbage collection delays.
func pauses(ctx context.Context, s *session) (o outcome, err error) {
	e, err := s.clark(ctx)
	if err != nil {
		return o, err
	}
	n := s.size(1_000_000, 100_000)
	l := load{addr: e.addr, ids: "c", clients: n, requests: 2 * n, conns: 50, pipeline: 32}
	if _, err := l.run(ctx); err != nil {
		return o, err
	}
	l, err = l.half(ctx, s.span(10*time.Second, time.Second))
	if err != nil {
		return o, err
	}
	_, echo, err := s.echoFloor(ctx)
	if err != nil {
		return o, err
	}
	before, err := e.metrics()
	if err != nil {
		return o, err
	}
	var middles []float64
	o, err = s.inTurn(
		func() (float64, error) {
			l.addr = e.addr
			_, err := l.run(ctx)
			middles = append(middles, l.milliseconds(0.5))
			return l.milliseconds(0.999), err
		},
		func() (float64, error) {
			l.addr = echo
			_, err := l.run(ctx)
			return l.milliseconds(0.999), err
		})
	if err != nil {
		return o, err
	}
	after, err := e.metrics()
	if err != nil {
		return o, err
	}
	o.met = o.figure <= 10
	const collections, stopped = "go_gc_duration_seconds_count", "go_gc_duration_seconds_sum"
	o.note = fmt.Sprintf("at %s requests/s in batches of 32, p50 %s ms; the floor is a line echo's p99.9 under the same load; %s collections meanwhile, which stopped the edge for %s ms in all",
		number(l.rate), number(median(middles)), number(after[collections]-before[collections]), number(1000*(after[stopped]-before[stopped])))
	return o, nil
}

// lockShare matches the share of the focused samples in the output of go tool pprof.
var lockShare = regexp.MustCompile(`Showing nodes accounting for \S+, ([0-9.]+)% of \S+ total`)

// lock measures the share of its CPU time that an edge with GOMAXPROCS=8 spends waiting for locks,
// by its own CPU profile. On fewer than eight cores the time that goroutines wait says little,
// because the goroutine that holds the lock may not have a core.
func lock(ctx context.Context, s *session) (o outcome, err error) {
	e, err := s.clark(ctx, "GOMAXPROCS=8")
	if err != nil {
		return o, err
	}
	l := load{addr: e.addr, ids: "c", clients: 100_000, conns: 50, pipeline: 32, requests: 200_000}
	took, err := l.run(ctx)
	if err != nil {
		return o, err
	}
	seconds := s.size(5, 1)
	l.requests = int(float64(l.requests) / took.Seconds() * float64(seconds+1))
	var rates, waits []float64
	o.figure, err = s.often(func() (float64, error) {
		before, err := e.metrics()
		if err != nil {
			return 0, err
		}
		profile := make(chan error, 1)
		file := s.path("profile")
		go func() {
			text, err := e.get(fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds))
			if err == nil {
				err = os.WriteFile(file, text, 0o600)
			}
			profile <- err
		}()
		took, err := l.run(ctx)
		if err := errors.Join(err, <-profile); err != nil {
			return 0, err
		}
		after, err := e.metrics()
		if err != nil {
			return 0, err
		}
		rates = append(rates, float64(l.requests)/took.Seconds())
		const wait, cpu = "go_sync_mutex_wait_total_seconds_total", "process_cpu_seconds_total"
		waits = append(waits, (after[wait]-before[wait])/(after[cpu]-before[cpu]))
		out, err := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-focus", `sync\.\(\*Mutex\)\.(lock|unlock)Slow`, file).CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("go tool pprof: %w\n%s", err, out)
		}
		m := lockShare.FindSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("no share in the output of go tool pprof:\n%s", out)
		}
		return strconv.ParseFloat(string(m[1]), 64)
	})
	o.met = o.figure <= 5
	o.note = fmt.Sprintf("at %s requests/s on %d cores; goroutines waited for %.2f s a second of CPU time", number(median(rates)), runtime.NumCPU(), median(waits))
	return o, err
}
