package test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// traffic are clients that send positions on a fixed schedule, however slow the answers are. The
// client, location and time of every answer are checked byte for byte.
type traffic struct {
	t      *testing.T
	ids    []string
	newest []atomic.Int64 // per client: the newest acknowledged time; 0: none

	mu      sync.Mutex
	delays  *hdrhistogram.Histogram // µs from a command's sending to its answer
	replies int64
	wrong   []string // the first few answers that are not an AT line

	cancel context.CancelFunc
	ended  chan struct{}
	result *load.Result
	err    error
}

// begin starts traffic; cfg needs addresses, connections, clients, a prefix and a rate.
func begin(t *testing.T, cfg load.Config) *traffic {
	t.Helper()
	tr := &traffic{t: t, newest: make([]atomic.Int64, cfg.Clients), ended: make(chan struct{}), delays: hdrhistogram.New(1, 600e6, 3)}
	for i := range cfg.Clients {
		tr.ids = append(tr.ids, fmt.Sprintf("%s%d", cfg.Prefix, i))
	}
	cfg.OnAnswer = tr.answer
	cfg.Timeout = cmp.Or(cfg.Timeout, herdtest.Promise(10*time.Second))
	g, err := load.New(cfg)
	if err != nil {
		t.Fatalf("load: %v", err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	tr.cancel = cancel
	go func() {
		defer close(tr.ended)
		tr.result, tr.err = g.Run(ctx)
	}()
	t.Cleanup(tr.cancelAndWait)
	return tr
}

// populate sends one position of each of n clients, as fast as the edges accept them, and waits
// until all these edges hold all of them.
func populate(t *testing.T, edges []*herdtest.EdgeProcess, prefix string, n int) *traffic {
	t.Helper()
	tr := begin(t, load.Config{
		Addrs: addresses(edges), Prefix: prefix, Clients: n, Requests: uint64(n),
		Conns: 8, Pipeline: 512, Rate: 1e9, // all due at once, each client once
	})
	<-tr.ended
	took := tr.result.Took
	if tr.err != nil || tr.result.Counts.Of(load.OK) != uint64(n) {
		t.Fatalf("populate: %v, %+v, %q", tr.err, tr.result.Counts, tr.result.Samples)
	}
	for i, ns := range tr.answered() {
		if ns == 0 {
			t.Fatalf("%s told nothing", tr.ids[i])
		}
	}
	held := awaitHolds(t, time.Now(), herdtest.Promise(20*time.Second), edges, tr.ids, tr.answered())
	t.Logf("%d clients told their places in %v; all %d edges held them %v later", n, took.Round(time.Millisecond), len(edges), held.Round(time.Millisecond))
	return tr
}

func (tr *traffic) answer(a load.Answer) {
	told := int64(0)
	if a.Kind == load.IAMAT {
		told = stamp(string(bytes.TrimSuffix(a.Command, []byte("\n"))))
	}
	if a.Kind == load.IAMAT && a.Outcome == load.OK {
		tr.newest[a.Client].Store(told)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.replies++
	if told > 0 { // since it was sent, so that a late generator does not count as a slow edge
		tr.delays.RecordValue(max(0, (a.Received.UnixNano()-told)/1000))
	}
	if a.Outcome != load.OK && len(tr.wrong) < 5 {
		tr.wrong = append(tr.wrong, fmt.Sprintf("%s: %.100q answers %.100q (%v)", a.Addr, a.Text, a.Command, a.Outcome))
	}
}

// heard returns how many answers have come so far.
func (tr *traffic) heard() int64 {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.replies
}

// warm waits until a position of every client was acknowledged.
func (tr *traffic) warm(limit time.Duration) {
	tr.t.Helper()
	herdtest.Eventually(tr.t, limit, "every client has told its place", func() error {
		select {
		case <-tr.ended:
			tr.t.Fatalf("the traffic ended: %v", tr.err)
		default:
		}
		for i := range tr.newest {
			if tr.newest[i].Load() == 0 {
				return fmt.Errorf("%s has no answer yet", tr.ids[i])
			}
		}
		return nil
	})
}

// answered returns the newest acknowledged time per client.
func (tr *traffic) answered() []int64 {
	list := make([]int64, len(tr.newest))
	for i := range list {
		list[i] = tr.newest[i].Load()
	}
	return list
}

func (tr *traffic) cancelAndWait() {
	tr.cancel()
	<-tr.ended
}

// stop ends the traffic and logs its figures. It fails the test if a connection ended or an answer
// was wrong.
func (tr *traffic) stop() {
	tr.t.Helper()
	tr.cancelAndWait()
	tr.log()
	if r := tr.result; tr.err != nil || r.Deaths > 0 || r.Counts.Total() != r.Counts.Of(load.OK) {
		tr.t.Errorf("a client saw an error: %v, %d connections ended, answers %+v: %q %q", tr.err, r.Deaths, r.Counts, tr.wrong, r.Samples)
	}
}

func (tr *traffic) log() {
	tr.t.Helper()
	r := tr.result
	tr.t.Logf("%d answers in %v, %.0f/s; p50 %v, p99 %v, slowest %v (the generator itself was late by p99 %v, at most %v)",
		r.Counts.Total(), r.Took.Round(time.Millisecond), float64(r.Counts.Total())/r.Took.Seconds(),
		tr.quantile(50), tr.quantile(99), tr.quantile(100), r.Lateness.P99, r.Lateness.Maximum)
}

// quantile returns a quantile of the times from an update to its answer.
func (tr *traffic) quantile(percent float64) time.Duration {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return time.Duration(tr.delays.ValueAtQuantile(percent)) * time.Microsecond
}

// addresses returns the addresses of the edges' client ports.
func addresses(edges []*herdtest.EdgeProcess) []string {
	var list []string
	for _, e := range edges {
		list = append(list, e.Addr)
	}
	return list
}
