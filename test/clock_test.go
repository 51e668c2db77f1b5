package test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
)

// tellEach sends the edge a position of each of these clients, and returns their times.
func tellEach(t *testing.T, e *herdtest.EdgeProcess, ids []string) (newest []int64) {
	t.Helper()
	var lines strings.Builder
	for _, id := range ids {
		ns := time.Now().UnixNano()
		newest = append(newest, ns)
		fmt.Fprintf(&lines, "IAMAT %s %s %s\n", id, ucla, posix(ns))
	}
	for i, answer := range strings.SplitAfter(talk(t, e.Addr, lines.String()), "\n")[:len(ids)] {
		if !strings.HasPrefix(answer, "AT "+e.Name+" ") {
			t.Fatalf("%s answers %q about %s", e.Name, answer, ids[i])
		}
	}
	return newest
}

func clientIDs(prefix string, n int) (ids []string) {
	for i := range n {
		ids = append(ids, fmt.Sprintf("%s-%d", prefix, i))
	}
	return ids
}

// inDoubt waits until an edge is not ready because its clock is in doubt, and checks that it still
// serves clients (H8).
func inDoubt(t *testing.T, e *herdtest.EdgeProcess) {
	t.Helper()
	herdtest.Eventually(t, herdtest.Promise(15*time.Second), e.Name+" is in doubt", func() error {
		code, body, err := e.Get("/readyz")
		if err != nil || code != http.StatusServiceUnavailable || !strings.Contains(body, "the clock is in doubt") {
			return fmt.Errorf("/readyz: %d %q, %v", code, body, err)
		}
		return nil
	})
	herdtest.Eventually(t, herdtest.Promise(15*time.Second), e.Name+" serves", func() error {
		_, err := herdtest.Held(e.Addr, []string{"anybody"})
		return err
	})
	if n := e.Metric("herd_clock_in_doubt"); n != 1 {
		t.Errorf("H8 herd_clock_in_doubt of %s is %v", e.Name, n)
	}
}

// S4: with HERD_RETAIN, half a minute of a wrong clock makes an edge forget nothing, neither in the
// table nor in the journal; nor does a start with such a clock.
func TestAWrongClockForgetsNothing(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Bernard-Clark,Clark-Jaquez", Clocks: true, NATS: []string{"--jetstream", "--store_dir", t.TempDir()},
		Env: map[string]string{"HERD_RETAIN": "1m", "HERD_JOURNAL": "on"}})
	clark, ids := h.Edges["Clark"], clientIDs("kept", 20)
	tellEach(t, clark, ids)
	knowsWhatIsPast(t, h.All())
	past := talk(t, clark.Addr, "IAMAT past "+ucla+" "+posix(time.Now().Add(-61*time.Second).UnixNano())+"\n")
	if got := lookup(t, clark.Addr, "past"); got != "? WHATSAT past 0 0" {
		t.Fatalf("S4 what was past is stored: %q, after %q", got, past)
	}

	// Meanwhile the clients move and send their positions to other edges. A position that Clark
	// receives while its clock is a day behind counts as a day old (S2).
	ctx, cancel := context.WithCancel(t.Context())
	var moving sync.WaitGroup
	defer moving.Wait()
	defer cancel()
	moving.Go(func() {
		for tick := time.NewTicker(2 * time.Second); ; {
			select {
			case <-ctx.Done():
				tick.Stop()
				return
			case <-tick.C:
				tellEach(t, h.Edges["Jaquez"], ids)
			}
		}
	})
	nc := operator(h)
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "all are in the journal", func() error { return journalHolds(nc, "Clark", ids) })
	nothingIsLost := func() error {
		for _, e := range h.All() {
			if err := holds(e, ids, make([]int64, len(ids))); err != nil {
				return err
			}
			lines, err := herdtest.Held(e.Addr, ids)
			if err != nil {
				return err
			}
			for i, line := range lines {
				if line == "" {
					return fmt.Errorf("%s knows nothing of %s", e.Name, ids[i])
				}
			}
		}
		return journalHolds(nc, "Clark", ids)
	}
	for _, by := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		clark.Step(by)
		herdtest.Throughout(t, size(4*time.Second, 30*time.Second), "with a clock that is wrong by "+by.String(), nothingIsLost)
		clark.Step(0)
		herdtest.Throughout(t, 2*time.Second, "when it is right again", nothingIsLost)
		if n := clark.Metric("herd_positions_forgotten_total"); n != 0 {
			t.Errorf("S4 %v positions were forgotten", n)
		}
	}
	if n := clark.Metric("herd_retention_clock_parted_total"); n != 1 {
		t.Errorf("S4 the retention clock parted %v times, want once", n)
	}

	clark.Kill()
	clark.Step(24 * time.Hour)
	clark.Start()
	inDoubt(t, clark)
	herdtest.Throughout(t, size(3*time.Second, 30*time.Second), "after a start with a clock that is a day ahead", nothingIsLost)
	clark.Step(0)
	clark.AwaitReady()
	herdtest.Throughout(t, 2*time.Second, "when it is right again", nothingIsLost)
}

// knowsWhatIsPast waits until these edges have a retention clock (S4).
func knowsWhatIsPast(t *testing.T, edges []*herdtest.EdgeProcess) {
	t.Helper()
	for _, e := range edges {
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), e.Name+" hears a clock", func() error {
			if behind := e.Metric("herd_retention_clock_seconds"); behind != 0 {
				return fmt.Errorf("herd_retention_clock_seconds is %v", behind)
			}
			return nil
		})
	}
}

// journalHolds returns an error if an edge's journal lacks one of these clients.
func journalHolds(nc *nats.Conn, edge string, ids []string) error {
	reply, err := nc.Request("$JS.API.STREAM.INFO.KV_herd_"+edge, []byte(`{"subjects_filter":">"}`), 2*time.Second)
	if err != nil {
		return fmt.Errorf("ask for the journal of %s: %w", edge, err)
	}
	var info struct {
		State struct{ Subjects map[string]int }
	}
	if err := json.Unmarshal(reply.Data, &info); err != nil {
		return fmt.Errorf("the journal of %s: %q: %w", edge, reply.Data, err)
	}
	for _, id := range ids {
		subject := "$KV.herd_" + edge + "." + id
		if info.State.Subjects[subject] == 0 {
			return fmt.Errorf("the journal of %s holds %d keys, not %s", edge, len(info.State.Subjects), subject)
		}
		reply, err := nc.Request("$JS.API.DIRECT.GET.KV_herd_"+edge+"."+subject, nil, 2*time.Second)
		if err != nil {
			return fmt.Errorf("ask the journal of %s for %s: %w", edge, id, err)
		}
		if !strings.HasPrefix(string(reply.Data), "AT ") {
			return fmt.Errorf("the journal of %s holds %q of %s", edge, reply.Data, id)
		}
	}
	return nil
}

// H9: an edge that starts with a clock two hours behind puts off the lines that it gets, and has
// them when its clock is right. Positions sent to it meanwhile reach the others. So do positions
// sent to an edge whose clock is two hours ahead, after its restart too.
func TestWhatAWrongClockPutsOffComesWhenItIsRight(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Bernard-Clark,Clark-Jaquez", Clocks: true})
	bernard, clark, jaquez := h.Edges["Bernard"], h.Edges["Clark"], h.Edges["Jaquez"]
	before := clientIDs("before", 20)
	times := tellEach(t, bernard, before)
	awaitHolds(t, time.Now(), herdtest.Promise(10*time.Second), h.All(), before, times)

	jaquez.Kill()
	jaquez.Step(-2 * time.Hour)
	jaquez.Start()
	jaquez.AwaitReady()
	putOff := `neighbour="Clark"`
	herdtest.Eventually(t, herdtest.Promise(45*time.Second), "Jaquez puts off what it hears", func() error {
		if n := jaquez.Metric("herd_link_put_off_lines_total", putOff); n < float64(len(before)) {
			return fmt.Errorf("herd_link_put_off_lines_total is %v", n)
		}
		return nil
	})
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "it is acknowledged all the same", func() error {
		if lag := clark.Metric("herd_link_lag", `neighbour="Jaquez"`); lag != 0 {
			return fmt.Errorf("herd_link_lag is %v", lag)
		}
		return nil
	})
	jaquez.Step(0)
	awaitHolds(t, time.Now(), herdtest.Promise(90*time.Second), h.All(), before, times)

	clark.Step(2 * time.Hour)
	ahead := clientIDs("ahead", 20)
	times = tellEach(t, clark, ahead)
	awaitHolds(t, time.Now(), herdtest.Promise(10*time.Second), h.All(), ahead, times)
	clark.Kill()
	clark.Step(0)
	clark.Start()
	clark.AwaitReady()
	awaitHolds(t, time.Now(), herdtest.Promise(90*time.Second), h.All(), ahead, times)
	if n := bernard.Metric("herd_link_refused_lines_total", putOff); n != 0 {
		t.Errorf("H9 %v lines were refused", n)
	}
}
