package edge

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"herd/broker/brokertest"
	"herd/edge/admin"
	"herd/edge/overview"
)

// What the page shows of an edge comes of its status: since when everything is as it is, what it
// does per second, and what happened.
func TestStatusSaysSinceWhenHowFastAndWhatHappened(t *testing.T) {
	nats := brokertest.Start(t)
	a, b, c := run(t, "A", nats.URL()), run(t, "B", nats.URL(), "HERD_MAX_CLIENTS=1000"), run(t, "C", nats.URL())
	a.ready()
	b.ready()
	c.ready()
	line := a.say("IAMAT kiwi +34.068930-118.445127 1621464827.959498503")
	eventually(t, "C to know", c.knows(line))
	c.say("no command")
	eventually(t, "rates to be known", func() bool {
		c.say("WHATSAT kiwi 0 0")
		s := b.edge.Status()
		return s.Rates != nil && c.edge.Status().Rates != nil && len(s.Links) == 2
	})
	s := c.edge.Status()
	now := time.Now()
	recent := func(what string, at time.Time) {
		if at.IsZero() || at.After(now.Add(time.Second)) || now.Sub(at) > 5*time.Minute || at.Location() != time.UTC {
			t.Errorf("%s is %v", what, at)
		}
	}
	recent("started", s.Started)
	recent("ready since", s.ReadySince)
	recent("broker since", s.BrokerAt)
	l := s.Links[0]
	recent("link since", l.Since)
	recent("in since", l.InSince)
	recent("out since", l.OutSince)
	if !l.Up || l.State != "up" || l.Reason != "" || l.ReceivedLines == 0 || l.ReceivedBytes == 0 {
		t.Errorf("link %+v", l)
	}
	if !s.BrokerConnected || s.BrokerServer != nats.URL() || s.Configuration == "" || s.Configuration == b.edge.Status().Configuration {
		t.Errorf("broker %v at %q, configuration %q", s.BrokerConnected, s.BrokerServer, s.Configuration)
	}
	if p := s.Process; p.ID == "" || p.ID != b.edge.Status().Process.ID || p.Goroutines == 0 || p.Cores == 0 || p.CPU == nil || *p.CPU <= 0 {
		t.Errorf("process %+v", p)
	}
	if s.Counts.Refusals == 0 || s.Counts.Questions == 0 || s.Counts.Updates != 0 || a.edge.Status().Counts.Updates != 1 {
		t.Errorf("counts of C %+v, of A %+v", s.Counts, a.edge.Status().Counts)
	}
	if s.Rates.Questions == 0 || s.Rates.P99 == nil || *s.Rates.P99 <= 0 || s.Rates.Over < 1 {
		t.Errorf("rates %+v", s.Rates)
	}
	has := func(s overview.Status, event, neighbour string) bool {
		return slices.ContainsFunc(s.Events, func(e overview.Event) bool { return e.Event == event && e.Neighbour == neighbour })
	}
	if !has(s, "ready", "") || !has(s, "link up", "B") {
		t.Errorf("events %+v", s.Events)
	}
	if err := b.end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "C to miss B", func() bool { return !c.edge.Status().Links[0].Up })
	s = c.edge.Status()
	if l := s.Links[0]; l.State != "down" || l.Reason != "the neighbour shut down" || l.DownSince.IsZero() || l.Since.IsZero() {
		t.Errorf("link %+v", l)
	}
	eventually(t, "the link's end to be an event", func() bool { return has(c.edge.Status(), "link down", "B") })
}

// The page asks every second: it gets events where there are new ones only, and the history once.
func TestStatusIsAskedForWhatIsNew(t *testing.T) {
	nats := brokertest.Start(t)
	a := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A").ready()
	conn := brokertest.Dial(t, nats.URL(), "test")
	ask := func(question string) (s overview.Status) {
		t.Helper()
		text, err := conn.Status(t.Context(), "herd", "A", []byte(question))
		if err == nil {
			err = json.Unmarshal(text, &s)
		}
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := ask("")
	if len(s.Events) == 0 || s.History != nil {
		t.Fatalf("%d events, history %v", len(s.Events), s.History)
	}
	last := s.Events[len(s.Events)-1].ID
	if s := ask(`{"history":true,"events_after":"` + last + `"}`); s.Events != nil || s.History == nil || s.History.Every != 10 {
		t.Errorf("events %v, history %v", s.Events, s.History)
	}
	a.edge.log.Warn("something")
	if s := ask(`{"events_after":"` + last + `"}`); len(s.Events) < 2 {
		t.Errorf("events %v", s.Events)
	}
	if s := ask(`{"history":`); len(s.Events) == 0 || s.History != nil {
		t.Errorf("of what is no question: %+v", s)
	}
}

func TestReadinessHasASince(t *testing.T) {
	var p pace
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	for _, step := range []struct {
		ready   bool
		now     int
		changed bool
		since   int
	}{{false, 1, false, 1}, {false, 2, false, 1}, {true, 3, false, 3}, {true, 9, false, 3}, {false, 10, true, 10}, {true, 11, true, 11}} {
		if changed, since := p.note(step.ready, at(step.now)); changed != step.changed || !since.Equal(at(step.since)) {
			t.Errorf("at %d: changed %v, since %v; want %+v", step.now, changed, since, step)
		}
	}
}

// The last ten minutes are kept in steps of ten seconds, whatever the clock does meanwhile.
func TestTheHistoryHasTenMinutes(t *testing.T) {
	var p pace
	start := time.Now()
	wall := time.Unix(1_800_000_000, 0)
	step, updates := 0, uint64(0)
	run := func(n int, by uint64) {
		for range n {
			step++
			updates += by
			p.take(sample{at: start.Add(time.Duration(step) * paceEvery), counts: overview.Counts{Updates: updates}}, wall.Add(time.Duration(step)*paceEvery))
		}
	}
	run(4, 2)
	if h := p.history(); h.Len() != 0 {
		t.Fatalf("%d points of the first eight seconds", h.Len())
	}
	run(11, 2)
	h := p.history()
	if h.Len() != 3 || *h.Updates[2] != 1 || !h.Until.Equal(wall.Add(30*time.Second)) {
		t.Fatalf("%d points until %v", h.Len(), h.Until)
	}
	wall = wall.Add(40 * time.Second) // a gap
	run(5, 20)
	if h = p.history(); h.Len() != 8 || h.Updates[3] != nil || h.Updates[6] != nil || h.Updates[7] == nil || *h.Updates[7] != 10 {
		t.Errorf("after a gap: %d points until %v", h.Len(), h.Until)
	}
	wall = wall.Add(-50 * time.Second) // the clock goes back
	run(5, 2)
	if h = p.history(); h.Len() != 4 || !h.Until.Equal(time.Unix(1_800_000_040, 0)) || *h.Updates[3] != 1 {
		t.Errorf("after a step back: %d points until %v", h.Len(), h.Until)
	}
	run(5*200, 2)
	if h = p.history(); h.Len() != pacePoints || len(h.P99) != pacePoints || h.Updates[0] == nil {
		t.Errorf("%d points", h.Len())
	}
}

func TestQuantilesAreEstimatedWithinABucket(t *testing.T) {
	h := func(counts ...uint64) *admin.Histogram {
		all := &admin.Histogram{Buckets: []float64{1, 2, 4}, Counts: counts[:3]}
		for _, n := range counts {
			all.Count += n
		}
		return all
	}
	for _, test := range []struct {
		name         string
		now, earlier *admin.Histogram
		want         float64
	}{
		{"all in one", h(0, 100, 0, 0), &admin.Histogram{}, 1.99},
		{"the earlier do not count", h(1000, 100, 0, 0), h(1000, 0, 0, 0), 1.99},
		{"a slow one in ten", h(90, 0, 10, 0), h(0, 0, 0, 0), 3.8},
		{"beyond all bounds", h(0, 0, 0, 5), &admin.Histogram{}, 4},
	} {
		got := quantile(0.99, test.now, test.earlier)
		if got == nil || *got < test.want-1e-9 || *got > test.want+1e-9 {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
	if got := quantile(0.99, h(3, 2, 1, 0), h(3, 2, 1, 0)); got != nil {
		t.Errorf("of nothing: %v", *got)
	}
}
