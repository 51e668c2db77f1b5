package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/broker/brokertest"
	"herd/broker/topology"
	"herd/edge/clock"
	"herd/edge/config"
	"herd/edge/position"
	"herd/edge/wire"
)

// stepped is a wall clock that a test can step, while the monotonic clock goes on.
type stepped struct{ off atomic.Int64 }

func (s *stepped) Wall(moment time.Time) int64 { return moment.UnixNano() + s.off.Load() }

func (s *stepped) step(off time.Duration) { s.off.Store(int64(off)) }

func runStepped(t *testing.T, name, url string, more ...string) (*running, *stepped) {
	t.Helper()
	c := &stepped{}
	return runShared(t, Shared{Log: brokertest.Log(t), Clock: c}, name, url, more...), c
}

// says waits until /readyz has this status code and contains all of these texts; a text that begins
// with ! must be absent.
func (r *running) says(want int, words ...string) {
	r.t.Helper()
	eventually(r.t, r.edge.cfg.Edge+" to say "+strings.Join(words, ", "), func() bool {
		code, body := r.readyz()
		for _, w := range words {
			if no, found := strings.CutPrefix(w, "!"); strings.Contains(body, no) == found {
				return false
			}
		}
		return code == want
	})
}

func TestAnEdgeWhoseClockDiffersFromMostOthersIsInDoubtAndServes(t *testing.T) {
	nats := brokertest.Start(t)
	a, b := run(t, "A", nats.URL()).ready(), run(t, "C", nats.URL()).ready()
	middle, theirs := runStepped(t, "B", nats.URL())
	middle.ready().says(http.StatusOK, "!clock")

	theirs.step(2 * time.Hour)
	middle.says(http.StatusServiceUnavailable, "B not ready: the clock is in doubt", "2 of the 2 clocks heard", "'s is 2h0m0s behind")
	if m := middle.edge.Metrics(); !m.ClockInDoubt {
		t.Error("H8 no herd_clock_in_doubt")
	}
	for _, r := range []*running{a, b} { // each hears one other clock
		r.says(http.StatusOK, " ready", "differs by over a minute from the only other one heard (B's is 2h0m0s ahead)")
		if m := r.edge.Metrics(); m.ClockInDoubt {
			t.Error("H8 herd_clock_in_doubt by one other clock")
		}
	}
	if line := middle.say("IAMAT kiwi +1+1 %d", time.Now().Unix()); !strings.HasPrefix(line, "AT B +7200.") && !strings.HasPrefix(line, "AT B +7199.") {
		t.Errorf("H8, C10 in doubt it answers %q", line)
	}

	theirs.step(0)
	middle.says(http.StatusOK, "!clock")
	a.says(http.StatusOK, "!clock")

	b.end()
	theirs.step(-time.Hour)
	middle.says(http.StatusOK, " ready", "differs by over a minute from the only other one heard (A's is 1h0m0s ahead)")

	// Two of three differ: the broker's clock counts too.
	middle.edge.heardBroker(time.Now(), time.Now())
	middle.says(http.StatusServiceUnavailable, "2 of the 2 clocks heard")
	middle.edge.heardBroker(time.Now(), time.Now().Add(-brokerTold))
	middle.says(http.StatusOK, "the only other one heard")
}

// S4: with a wrong clock nothing is past that was not past before, whether it is read, stored or
// deleted; and no client is refused.
func TestAStepOfTheClockForgetsNothing(t *testing.T) {
	nats := brokertest.Start(t)
	a, theirs := runStepped(t, "A", nats.URL(), "HERD_RETAIN=1m")
	b := run(t, "B", nats.URL(), "HERD_RETAIN=1m").ready()
	a.ready()
	known := func(r *running) func() bool {
		return func() bool { return r.edge.Metrics().RetentionClockSeconds != nil }
	}
	eventually(t, "A to hear a clock", known(a))
	eventually(t, "B to hear a clock", known(b))
	if line := a.say("IAMAT past +1+1 %d", time.Now().Add(-2*time.Minute).Unix()); !strings.HasPrefix(line, "AT A +") {
		t.Errorf("S4 answered %q", line)
	}
	if line := a.say("WHATSAT past 0 0"); line != "? WHATSAT past 0 0\n" {
		t.Errorf("S4 stored %q", line)
	}

	lines := map[string]string{"before": a.say("IAMAT before +1+1 %d", time.Now().Unix())}
	eventually(t, "B to know", b.knows(lines["before"]))
	for _, off := range []time.Duration{24 * time.Hour, -24 * time.Hour} {
		theirs.step(off)
		id := "while" + off.String()
		lines[id] = a.say("IAMAT %s +1+1 %d", id, time.Now().Unix())
		for _, line := range lines {
			if !a.knows(line)() {
				t.Errorf("S4 %v off, A does not hold %q", off, line)
			}
		}
		for end := false; !end; { // what the forgetting loop does
			_, end = a.edge.table.Forget(a.edge.retention(time.Now()), 4096, nil)
		}
		if off > 0 {
			eventually(t, "B to know "+lines[id], b.knows(lines[id])) // by the client's time (H9)
			eventually(t, "the clocks to part", func() bool {
				m := a.edge.Metrics()
				return m.RetentionClockSeconds != nil && *m.RetentionClockSeconds < -86000 && *m.RetentionParts == 1
			})
			line := b.say("IAMAT theirs +1+1 %d", time.Now().Unix())
			eventually(t, "A to take what B tells", a.knows(line))
			a.says(http.StatusOK, "what is past is told without it, 24h0m0s behind it")
		}
		theirs.step(0)
		eventually(t, "the clocks to agree", func() bool { return *a.edge.Metrics().RetentionClockSeconds > -1 })
		a.says(http.StatusOK, "!clock")
	}
	// A position that was received by a clock a day behind is a day old (S2).
	delete(lines, "while-24h0m0s")
	for _, line := range lines {
		if !a.knows(line)() {
			t.Errorf("S4 in the end A does not hold %q", line)
		}
	}
	if m := a.edge.Metrics(); m.PositionsForgotten > 1 {
		t.Errorf("S4 %d were forgotten", m.PositionsForgotten)
	}
}

func TestNothingIsPastForALoneEdgeThatHasJustStarted(t *testing.T) {
	nats := brokertest.Start(t)
	r := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_RETAIN=1m").ready()
	r.says(http.StatusOK, "nothing is past until another clock is heard")
	line := r.say("IAMAT past +1+1 %d", time.Now().Add(-2*time.Minute).Unix())
	if !r.knows(line)() {
		t.Error("S4 what may be past was not stored")
	}
	r.edge.heardBroker(time.Now(), time.Now())
	eventually(t, "it to be past", func() bool { return r.say("WHATSAT past 0 0") == "? WHATSAT past 0 0\n" })
}

func TestTheBrokersClockIsHeardThroughTheJournal(t *testing.T) {
	nats := brokertest.Start(t, brokertest.JetStream)
	r := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_RETAIN=1m").ready()
	eventually(t, "the broker's clock", func() bool { return r.edge.clocks.State().Heard == 1 && r.edge.clocks.State().Known })
	r.says(http.StatusOK, "!clock")
}

// C11: a device whose clock is in the past is answered as usual; metrics and the transcript show
// it.
func TestADeviceInThePastShows(t *testing.T) {
	nats := brokertest.Start(t)
	file := filepath.Join(t.TempDir(), "A.log")
	r := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_TRANSCRIPT="+file).ready()
	r.say("IAMAT kiwi +1+1 1780000000.5")
	if line := r.say("IAMAT kiwi +2+2 %d", 1780000000-1024*7*24*3600); !strings.HasPrefix(line, "AT A +") {
		t.Errorf("C11 answered %q", line)
	}
	m := r.edge.Metrics().OlderSeconds
	if m.Count != 1 || m.Sum != 619315200.5 {
		t.Errorf("counted %+v", m)
	}
	for i, n := range m.Counts {
		if between := m.Buckets[i] > 619315200 && m.Buckets[i-1] < 619315200; (n == 1) != between {
			t.Errorf("%d up to %v s", n, m.Buckets[i])
		}
	}
	eventually(t, "the transcript", func() bool {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		return strings.Contains(string(text), " = older by 619315200.500000000 s: kiwi\n")
	})
}

// alone returns a topology of one edge.
func alone(t *testing.T) *topology.Graph {
	t.Helper()
	g, err := topology.Parse("A")
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// A journal that was loaded before any clock was heard may hold many lines that are past.
func TestWhatIsPastIsForgottenAsSoonAsThatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		cfg := config.Config{Edge: "A", Topology: alone(t), Retain: time.Hour}
		e := &Edge{log: slog.New(slog.DiscardHandler), cfg: cfg, shared: Shared{Clock: systemClock{}}, clocks: clock.New(now, now.UnixNano()),
			table: position.New(position.Config{Retain: cfg.Retain}),
			made:  make(chan struct{}), clockNews: make(chan struct{}, 1), pastKnown: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 2)
		go func() { done <- e.watchClocks(ctx) }()
		go func() { done <- e.forget(ctx) }()
		clients := func() int {
			synctest.Wait()
			n, _, _ := e.table.Stats()
			return n
		}
		for i, age := range []time.Duration{2 * time.Hour, time.Minute} {
			line := fmt.Appendf(nil, "AT A +0.000000000 client-%d +1+1 %d\n", i, now.Add(-age).Unix())
			at, err := wire.ParseAT(line[:len(line)-1])
			if err != nil {
				t.Fatal(err)
			}
			ops := make([]position.Op, 1)
			e.table.PreparePut(&ops[0], line, &at)
			e.table.Apply(e.retention(now), position.Source{}, ops)
		}
		if n := clients(); n != 2 {
			t.Errorf("S4 before a clock is heard there are %d clients, want 2", n)
		}
		e.heardBroker(time.Now(), time.Now())
		if n := clients(); n != 1 {
			t.Errorf("S4 when one is heard there are %d clients, want 1", n)
		}
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}

// Clients are served before the first clock is heard, so the edge must know soon what is past.
func TestAClockThatIsHeardIsLookedAtAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		e := &Edge{log: slog.New(slog.DiscardHandler), cfg: config.Config{Edge: "A", Topology: alone(t)}, shared: Shared{Clock: systemClock{}}, clocks: clock.New(now, now.UnixNano()),
			made: make(chan struct{}), clockNews: make(chan struct{}, 1)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- e.watchClocks(ctx) }()
		time.Sleep(clockEvery / 10)
		e.heardBroker(time.Now(), time.Now())
		synctest.Wait()
		if s := e.clocks.State(); s.Heard != 1 || !s.Known {
			t.Errorf("found %+v", s)
		}
		time.Sleep(brokerTold + clockEvery)
		synctest.Wait()
		if s := e.clocks.State(); s.Heard != 0 {
			t.Errorf("H8 half a minute after the last word: %+v", s)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestAnEdgeKnowsHowManyClocksThereAre(t *testing.T) {
	plain, jetStream := brokertest.Start(t), brokertest.Start(t, brokertest.JetStream)
	for _, c := range []struct {
		name, url, journal string
		want               int
	}{
		{"no journal", jetStream.URL(), "off", 2},
		{"a journal", jetStream.URL(), "auto", 3},
		{"no JetStream", plain.URL(), "auto", 2},
	} {
		r := run(t, "B", c.url, "HERD_JOURNAL="+c.journal).ready()
		if got := r.edge.otherClocks(); got != c.want {
			t.Errorf("H8 with %s there are %d others, want %d", c.name, got, c.want)
		}
		r.end()
	}
}
