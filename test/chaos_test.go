package test

import (
	"math/rand/v2"
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// H6: whatever happened to edges, connections and the broker, once all are back all edges hold the
// same. A position that was sent to an edge just before it was killed may be lost (D3), but then at
// all edges.
func TestAllAgreeAfterAnyTrouble(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Proxies: true})
	tr := begin(t, load.Config{
		Addrs: addresses(h.All()), Prefix: "device-", Rate: size(300.0, 1000), Conns: 40, Clients: size(400, 2000),
		WhatsatShare: 0.1, Radius: "0", Max: "0", Reconnect: true, Timeout: time.Second,
	})
	tr.warm(herdtest.Promise(10 * time.Second))

	seed := uint64(time.Now().UnixNano())
	dice := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	paused, muted := map[*herdtest.EdgeProcess]bool{}, map[*herdtest.EdgeProcess]bool{}
	brokerAway := false
	events := map[string]int{}
	for end := time.Now().Add(size(3*time.Second, time.Minute)); time.Now().Before(end); {
		e := h.Edges[h.Names[dice.IntN(len(h.Names))]]
		var what string
		switch dice.IntN(6) {
		case 0:
			what = "kill"
			if e.Running() {
				e.Kill()
				paused[e] = false
			}
		case 1:
			what = "pause"
			if e.Running() && !paused[e] {
				e.Pause()
				paused[e] = true
			}
		case 2:
			what = "cut"
			e.Proxy.Silent(!muted[e])
			muted[e] = !muted[e]
		case 3:
			what = "broker"
			if brokerAway {
				h.NATS.Start()
			} else {
				h.NATS.Kill()
			}
			brokerAway = !brokerAway
		default:
			what = "repair"
			repair(e, paused, muted)
		}
		events[what]++
		pass(t, time.Duration(dice.IntN(300))*time.Millisecond)
	}
	if brokerAway {
		h.NATS.Start()
	}
	for _, e := range h.All() {
		repair(e, paused, muted)
	}
	healed := time.Now()
	for _, e := range h.All() {
		e.AwaitReady()
	}
	for _, e := range h.All() {
		e.LinksUp()
	}
	up := time.Since(healed)
	tr.cancelAndWait()
	tr.log()
	if r := tr.result; r.Counts.Of(load.Wrong) > 0 {
		t.Errorf("wrong answers: %+v: %q", r.Counts, tr.wrong)
	}
	agreed := herdtest.Eventually(t, herdtest.Promise(3*time.Second), "all hold the same", func() error { return same(h.All(), tr.ids, false) })
	t.Logf("%v; all links up %v after the last repair, all five agree %v after the last update", events, up.Round(time.Millisecond), agreed.Round(time.Millisecond))
}

// repair undoes everything that was done to an edge.
func repair(e *herdtest.EdgeProcess, paused, muted map[*herdtest.EdgeProcess]bool) {
	switch {
	case !e.Running():
		e.Start()
	case paused[e]:
		e.Resume()
	}
	paused[e] = false
	if muted[e] {
		e.Proxy.Silent(false)
		muted[e] = false
	}
}
