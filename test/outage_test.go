package test

import (
	"testing"
	"time"

	"herd/cmd/herd/load"
)

// H8, H6: an edge whose broker is gone serves its clients as before and hands on what the
// others missed when it is back.
func TestNoClientNoticesAnOutageOfTheBroker(t *testing.T) {
	t.Run("nats-server killed", func(t *testing.T) {
		h := newHerd(t, options{})
		outage(t, h, size(2*time.Second, 10*time.Second), h.nats.kill, h.nats.start)
	})
	// Each edge's connection goes through a proxy that goes on accepting and says nothing:
	// nobody is told that the broker is away.
	t.Run("proxies silent", func(t *testing.T) {
		h := newHerd(t, options{proxies: true})
		silent := func(yes bool) func() {
			return func() {
				for _, e := range h.all() {
					e.proxy.silent(yes)
				}
			}
		}
		outage(t, h, size(4*time.Second, 10*time.Second), silent(true), silent(false))
	})
}

func outage(t *testing.T, h *herd, span time.Duration, away, back func()) {
	spy := lookOn(t, h)
	tr := begin(t, load.Config{
		Addrs: addresses(h.all()), Prefix: "outage-",
		Rate: size(250.0, 1000), Conns: size(50, 200), Clients: size(250, 1000),
	})
	tr.warm(promise(10 * time.Second))
	before := tr.answered()
	awaitHolds(t, time.Now(), promise(3*time.Second), h.all(), tr.ids, before)

	away()
	pass(t, span)
	missed := 0
	for _, e := range h.all() { // or there was no outage
		if holds(e, tr.ids, tr.answered()) != nil {
			missed++
		}
	}
	if missed != len(h.names) {
		t.Errorf("%d of %d edges lack something of the others during the outage, want all", missed, len(h.names))
	}
	back()
	returned := time.Now()
	newest := tr.answered()
	agreed := awaitHolds(t, returned, promise(3*time.Second), h.all(), tr.ids, newest)
	tr.stop() // no client saw an error
	settled := eventually(t, promise(time.Second), "all edges hold the same", func() error { return sameBytes(h.all(), tr.ids) })
	t.Logf("all five held what was told until the return %v after it, and the same bytes %v after the last update", agreed.Round(time.Millisecond), settled.Round(time.Millisecond))
	spy.check()
	if slowest := tr.quantile(100); slowest > delay(100*time.Millisecond) {
		t.Errorf("a client waited %v for its answer, want at most %v", slowest, delay(100*time.Millisecond))
	}
}
