package test

import (
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// H8, H6: an edge whose broker is gone serves its clients as before, and sends what the others
// missed when it is back (for latencies meanwhile see row outage of test/bench).
func TestNoClientNoticesAnOutageOfTheBroker(t *testing.T) {
	t.Run("nats-server killed", func(t *testing.T) {
		quiet(t)
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{})
		outage(t, h, size(2*time.Second, 10*time.Second), h.NATS.Kill, h.NATS.Start)
	})
	// Each edge's connection goes through a proxy that goes on accepting and forwards nothing, so
	// that no connection reports that the broker is away.
	t.Run("proxies silent", func(t *testing.T) {
		quiet(t)
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Proxies: true})
		silent := func(yes bool) func() {
			return func() {
				for _, e := range h.All() {
					e.Proxy.Silent(yes)
				}
			}
		}
		outage(t, h, size(4*time.Second, 10*time.Second), silent(true), silent(false))
	})
}

func outage(t *testing.T, h *herdtest.Processes, span time.Duration, away, back func()) {
	spy := lookOn(t, h)
	tr := begin(t, load.Config{
		Addrs: addresses(h.All()), Prefix: "outage-",
		Rate: size(250.0, 1000), Conns: size(50, 200), Clients: size(250, 1000),
	})
	tr.warm(herdtest.Promise(10 * time.Second))
	before := tr.answered()
	awaitHolds(t, time.Now(), herdtest.Promise(3*time.Second), h.All(), tr.ids, before)

	away()
	pass(t, span)
	missed := 0
	for _, e := range h.All() { // otherwise there was no outage
		if holds(e, tr.ids, tr.answered()) != nil {
			missed++
		}
	}
	if missed != len(h.Names) {
		t.Errorf("%d of %d edges lack something of the others during the outage, want all", missed, len(h.Names))
	}
	back()
	returned := time.Now()
	newest := tr.answered()
	agreed := awaitHolds(t, returned, herdtest.Promise(3*time.Second), h.All(), tr.ids, newest)
	tr.stop() // no client saw an error
	settled := herdtest.Eventually(t, herdtest.Promise(time.Second), "all edges hold the same", func() error { return sameBytes(h.All(), tr.ids) })
	t.Logf("all five held what was told until the return %v after it, and the same bytes %v after the last update", agreed.Round(time.Millisecond), settled.Round(time.Millisecond))
	spy.check()
}
