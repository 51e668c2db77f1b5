package test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"herd/cmd/herd/load"
)

// H6: whatever has happened to edges, connections and the broker, once all are back all hold
// the same. What was told to an edge that was killed at once may be lost (D3), but nobody
// may differ about it.
func TestAllAgreeAfterAnyTrouble(t *testing.T) {
	h := newHerd(t, options{proxies: true})
	tr := begin(t, load.Config{
		Addrs: addresses(h.all()), Prefix: "device-", Rate: size(300.0, 1000), Conns: 40, Clients: size(400, 2000),
		WhatsatShare: 0.1, Radius: "0", Max: "0", Reconnect: true, Timeout: time.Second,
	})
	tr.warm(promise(10 * time.Second))

	seed := uint64(time.Now().UnixNano())
	dice := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	paused, muted := map[*edge]bool{}, map[*edge]bool{}
	brokerAway := false
	events := map[string]int{}
	for end := time.Now().Add(size(5*time.Second, 2*time.Minute)); time.Now().Before(end); {
		e := h.edges[h.names[dice.IntN(len(h.names))]]
		var what string
		switch dice.IntN(6) {
		case 0:
			what = "kill"
			if e.running() {
				e.kill()
				paused[e] = false
			}
		case 1:
			what = "pause"
			if e.running() && !paused[e] {
				e.pause()
				paused[e] = true
			}
		case 2:
			what = "cut"
			e.proxy.silent(!muted[e])
			muted[e] = !muted[e]
		case 3:
			what = "broker"
			if brokerAway {
				h.nats.start()
			} else {
				h.nats.kill()
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
		h.nats.start()
	}
	for _, e := range h.all() {
		repair(e, paused, muted)
	}
	healed := time.Now()
	for _, e := range h.all() {
		e.awaitReady()
	}
	for _, e := range h.all() {
		e.linksUp()
	}
	up := time.Since(healed)
	tr.cancelAndWait()
	tr.log()
	if r := tr.result; r.Counts.Of(load.Wrong) > 0 {
		t.Errorf("wrong answers: %+v: %q", r.Counts, tr.wrong)
	}
	agreed := eventually(t, promise(3*time.Second), "all hold the same", func() error { return sameOrNothing(h.all(), tr.ids) })
	t.Logf("%v; all links up %v after the last repair, all five agree %v after the last update", events, up.Round(time.Millisecond), agreed.Round(time.Millisecond))
}

// repair brings back whatever was done to an edge.
func repair(e *edge, paused, muted map[*edge]bool) {
	switch {
	case !e.running():
		e.start()
	case paused[e]:
		e.resume()
	}
	paused[e] = false
	if muted[e] {
		e.proxy.silent(false)
		muted[e] = false
	}
}

// sameOrNothing fails unless these edges hold the same line, or all none, for each client.
func sameOrNothing(edges []*edge, ids []string) error {
	first, err := held(edges[0].addr, ids)
	if err != nil {
		return err
	}
	for _, e := range edges[1:] {
		lines, err := held(e.addr, ids)
		if err != nil {
			return err
		}
		for i := range lines {
			if lines[i] != first[i] {
				return fmt.Errorf("%s holds %q, %s holds %q", edges[0].name, first[i], e.name, lines[i])
			}
		}
	}
	return nil
}
