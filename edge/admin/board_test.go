package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/admin"
	"herd/edge/overview"
)

// others are the edges of other processes, as a test wants them.
type others struct {
	mu    sync.Mutex
	reach admin.Reach
	edges map[string]*other
	asks  int // for statuses
	last  overview.Question
}

type other struct {
	status  overview.Status
	history *overview.History
	err     error
	silent  bool // it never answers
	answers map[string]string
}

func (o *others) Reach(context.Context) admin.Reach {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.reach
}

func (o *others) Ask(ctx context.Context, edge, endpoint string, payload []byte) ([]byte, error) {
	o.mu.Lock()
	e := o.edges[edge]
	if endpoint == "status" {
		o.asks++
	}
	o.mu.Unlock()
	switch {
	case e == nil:
		return nil, admin.ErrNobody
	case e.silent:
		<-ctx.Done()
		return nil, ctx.Err()
	case e.err != nil:
		return nil, e.err
	case endpoint != "status":
		text, ok := e.answers[endpoint]
		if !ok {
			return nil, &admin.Refusal{Code: "400", Text: "refused", Data: fmt.Appendf(nil, "? %s\n", payload)}
		}
		return []byte(strings.ReplaceAll(text, "$", string(payload))), nil
	}
	var q overview.Question
	if err := json.Unmarshal(payload, &q); err != nil {
		return nil, err
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.last = q
	s := e.status
	if n := len(s.Events); n > 0 && s.Events[n-1].ID == q.EventsAfter {
		s.Events = nil
	}
	if q.History {
		s.History = e.history
	}
	return json.Marshal(s)
}

func (o *others) set(name string, change func(*other)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(o.edges[name])
}

// fine is an edge of A-B,B-C without problems.
func fine(name string, neighbours ...string) overview.Status {
	s := overview.Status{Edge: name, Epoch: "e1", Version: "1", Ready: true, Clients: 7, Broker: "connected nats://x", BrokerConnected: true, Topology: "A-B,B-C",
		Rates: &overview.Rates{Over: 2, Updates: 10.123}, Journal: overview.Journal{Mode: "off"}}
	for _, n := range neighbours {
		s.Links = append(s.Links, overview.LinkStatus{Neighbour: n, Up: true, In: true, Out: true, State: "up"})
	}
	return s
}

// ownTurn guards the statuses that own shows, which tests change while streams look.
var ownTurn sync.Mutex

// turn changes what own shows.
func turn(change func()) {
	ownTurn.Lock()
	defer ownTurn.Unlock()
	change()
}

// own is a source that shows this status.
func own(s *overview.Status) admin.Source {
	return admin.Source{Name: s.Edge, Status: func() overview.Status {
		ownTurn.Lock()
		defer ownTurn.Unlock()
		return *s
	}, Metrics: func() admin.Metrics { return admin.Metrics{} },
		Ready: func() (bool, string) { return s.Ready, s.Why }, Live: func() (bool, string) { return true, "" }}
}

// line is the herd A-B,B-C, of which A is this process's edge.
func line(t *testing.T) (a *overview.Status, o *others, at func() overview.Herd) {
	t.Helper()
	status := fine("A", "B")
	a = &status
	o = &others{edges: map[string]*other{"B": {status: fine("B", "A", "C")}, "C": {status: fine("C", "B")}}}
	page := admin.New(admin.Config{Name: "A", Prefix: "herd", Others: o, Map: overview.Switch{On: true}}, own(a))
	return a, o, func() overview.Herd {
		t.Helper()
		answer, body := ask(t, page, "GET", "/status.json")
		var h overview.Herd
		if err := json.Unmarshal([]byte(body), &h); err != nil || answer.StatusCode != 200 {
			t.Fatalf("%s: %v in %s", answer.Status, err, body)
		}
		return h
	}
}

func edgeIn(t *testing.T, h overview.Herd, name string) overview.Edge {
	t.Helper()
	i := slices.IndexFunc(h.Edges, func(e overview.Edge) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("no %s in %+v", name, h.Edges)
	}
	return h.Edges[i]
}

func TestOneEdgesPageShowsTheWholeHerd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, at := line(t)
		h := at()
		if len(h.Edges) != 3 || len(h.Links) != 2 || h.Summary.Level != overview.OK || h.Server.Scope != overview.ScopeHerd {
			t.Fatalf("%+v", h)
		}
		if want := "3 of 3 edges ready, 2 of 2 links up, 7 clients, 30 updates/s, nothing refused"; h.Summary.Sentence != want {
			t.Errorf("says %q, want %q", h.Summary.Sentence, want)
		}
		if !edgeIn(t, h, "B").Parts || edgeIn(t, h, "A").Parts || !h.Links[0].Parts {
			t.Error("what parts the herd is not marked")
		}
	})
}

// An edge that nobody hears any more is silent at the next look, since its neighbours lost it; and
// both its end and its return are events.
func TestASilentEdgeIsShownAndComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o, at := line(t)
		at()
		time.Sleep(time.Second)
		began := time.Now()
		o.set("C", func(e *other) { e.err = admin.ErrNobody })
		lost := began.Add(-time.Second).UTC()
		o.set("B", func(e *other) {
			e.status.Links = slices.Clone(e.status.Links)
			e.status.Links[1] = overview.LinkStatus{Neighbour: "C", State: "down", DownSince: lost, Since: lost, InSince: lost, OutSince: lost}
		})
		h := at()
		c := edgeIn(t, h, "C")
		if c.State != overview.Silent || !c.Since.Equal(lost) || c.Why != "not connected to the broker" || c.Level != overview.Down {
			t.Errorf("%+v", c)
		}
		if l := h.Links[1]; l.State != overview.Silent || l.Words != "C is silent" || !l.Since.Equal(lost) {
			t.Errorf("%+v", l)
		}
		if h.Summary.Level != overview.Down || !strings.HasPrefix(h.Summary.Sentence, "C is silent since ") || len(h.Summary.Problems) != 1 || h.Summary.Short != "C silent" {
			t.Errorf("%+v", h.Summary)
		}
		if e := h.Events[0]; e.Event != "silent" || e.Edge != "C" || !e.Open {
			t.Errorf("%+v", h.Events)
		}
		time.Sleep(2 * time.Second)
		o.set("C", func(e *other) { e.err = nil; e.status.Epoch = "e2" })
		o.set("B", func(e *other) { e.status = fine("B", "A", "C") })
		h = at()
		if h.Summary.Level != overview.OK || len(h.Events) != 2 || h.Events[0].Event != "answers again" || h.Events[1].Open || h.Events[1].Until.IsZero() {
			t.Errorf("%+v, %+v", h.Summary, h.Events)
		}
		_ = a
	})
}

// One answer that is late is no alarm.
func TestAnEdgeThatIsLateIsAsItLastWas(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o, at := line(t)
		at()
		o.set("C", func(e *other) { e.silent = true })
		for range 2 {
			time.Sleep(time.Second)
			start := time.Now()
			if c := edgeIn(t, at(), "C"); c.State != overview.Ready {
				t.Errorf("%+v", c)
			}
			if took := time.Since(start); took > time.Second {
				t.Errorf("a look took %v", took)
			}
		}
		time.Sleep(2 * time.Second)
		if c := edgeIn(t, at(), "C"); c.State != overview.Silent || c.Why != "no answer" || c.Since.IsZero() {
			t.Errorf("%+v", c)
		}
	})
}

// Within a second all get the same, and while nobody asks, nobody is asked.
func TestEdgesAreAskedOnceASecondForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o, at := line(t)
		for range 10 {
			at()
		}
		if o.asks != 2 {
			t.Errorf("asked %d times, want 2", o.asks)
		}
		time.Sleep(time.Hour)
		if o.asks != 2 {
			t.Errorf("asked %d times while nobody looked", o.asks)
		}
	})
}

// With accounts an edge's page shows that edge, says that others are there, and what shows all.
func TestAccountsHideOtherEdges(t *testing.T) {
	for name, reach := range map[string]admin.Reach{
		"the broker says so":        {Restricted: "accounts", Command: "herd page"},
		"nobody answers, but lives": {Command: "herd page"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				_, o, at := line(t)
				o.reach = reach
				o.edges = map[string]*other{}
				h := at()
				if h.Server.Scope != overview.ScopeEdge || h.Server.ScopeNote == "" || h.Server.ScopeCommand != "herd page" {
					t.Errorf("%+v", h.Server)
				}
				if reach.Restricted != "" && o.asks != 0 {
					t.Errorf("asked %d times without a right to", o.asks)
				}
				for _, name := range []string{"B", "C"} {
					if e := edgeIn(t, h, name); e.State != overview.Hidden || e.Level != overview.Unknown {
						t.Errorf("%+v", e)
					}
				}
				if h.Summary.Level != overview.OK || h.Summary.Sentence != "1 of 1 edge ready (2 not visible from here), 1 of 1 link up, 7 clients, 10 updates/s, nothing refused" {
					t.Errorf("%+v", h.Summary)
				}
				if h.Links[0].State != overview.LinkUp || h.Links[1].State != overview.LinkUnknown {
					t.Errorf("%+v", h.Links)
				}
			})
		})
	}
}

// The page of a tool has no edge of its own: while it sees none, nothing looks well.
func TestAPageThatSeesNoEdgeDoesNotLookWell(t *testing.T) {
	for _, test := range []struct {
		reach admin.Reach
		want  string
	}{
		{admin.Reach{}, `no edge of the herd "herd" answers`},
		{admin.Reach{Restricted: "accounts"}, "this page's server may not ask the edges"},
		{admin.Reach{Away: true}, "this page's server has no broker"},
	} {
		synctest.Test(t, func(t *testing.T) {
			alone := fine("A")
			alone.Topology = "A"
			o := &others{edges: map[string]*other{"A": {status: alone}}, reach: test.reach}
			page := admin.New(admin.Config{Name: "herd page", Prefix: "herd", Others: o})
			at := func() (h overview.Herd) {
				if _, body := ask(t, page, "GET", "/status.json"); json.Unmarshal([]byte(body), &h) != nil {
					t.Fatal(body)
				}
				return h
			}
			if s := at().Summary; s.Level != overview.Down || !strings.HasPrefix(s.Sentence, test.want+"; ") {
				t.Errorf("%+v, want %q", s, test.want)
			}
			time.Sleep(time.Second)
			o.reach = admin.Reach{Edges: []string{"A"}}
			if s := at().Summary; s.Level != overview.OK {
				t.Errorf("%+v", s)
			}
		})
	}
}

func TestWithoutABrokerAnEdgeShowsItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o, at := line(t)
		at()
		time.Sleep(time.Second)
		o.reach.Away = true
		asks := o.asks
		since := time.Now().Add(-time.Minute).UTC()
		a.Broker, a.BrokerConnected, a.BrokerSince, a.BrokerError = "away nats://x", false, since, "connection refused"
		a.Links[0] = overview.LinkStatus{Neighbour: "B", State: "down", DownSince: since}
		h := at()
		if !h.Server.BrokerAway || o.asks != asks || edgeIn(t, h, "C").State != overview.Hidden || edgeIn(t, h, "A").Words != "broker away" {
			t.Errorf("%+v", h)
		}
		if s := h.Summary; s.Level != overview.Down || len(s.Problems) != 1 || !strings.HasPrefix(s.Sentence, "A has no broker since ") || s.Short != "broker away" {
			t.Errorf("%+v", s)
		}
	})
}

// An edge that left the topology is not silent for ever.
func TestAnEdgeThatLeftTheHerdIsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, o, at := line(t)
		at()
		time.Sleep(time.Second)
		a.Topology = "A-B"
		o.set("B", func(e *other) { e.status = fine("B", "A"); e.status.Topology = "A-B" })
		delete(o.edges, "C")
		if h := at(); len(h.Edges) != 2 || h.Summary.Level != overview.OK {
			t.Errorf("%+v", h)
		}
	})
}

func TestWhatAnEdgeAnswersIsNotTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o, at := line(t)
		o.set("B", func(e *other) { e.status.Edge = "A" }) // it says that it is another
		o.set("C", func(e *other) { e.status.Why = strings.Repeat("x", 1<<20) })
		h := at()
		if b := edgeIn(t, h, "B"); b.State != overview.Ready || b.Status.Edge != "B" {
			t.Errorf("%+v", b)
		}
		if c := edgeIn(t, h, "C"); c.State != overview.Silent || c.Why != "its answer is too long" {
			t.Errorf("%+v", c)
		}
	})
}

// Events of all edges are together, newest first, and what a run left open is over when it is.
func TestEventsOfAllEdgesAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o, at := line(t)
		now := time.Now().UTC()
		o.set("B", func(e *other) {
			e.status.Events = []overview.Event{{ID: "B/e1/1", At: now, Edge: "B", Event: "link down", Open: true}, {ID: "B/e1/2", At: now.Add(2), Edge: "B", Event: "x"}}
		})
		o.set("C", func(e *other) {
			e.status.Events = []overview.Event{{ID: "C/e1/1", At: now.Add(1), Edge: "C", Event: "y"}}
		})
		h := at()
		if len(h.Events) != 3 || h.Events[0].Event != "x" || h.Events[1].Event != "y" || !h.Events[2].Open {
			t.Fatalf("%+v", h.Events)
		}
		for _, e := range h.Edges {
			if len(e.Status.Events) > 0 {
				t.Errorf("%s has its events twice", e.Name)
			}
		}
		time.Sleep(time.Second)
		at()
		if o.last.EventsAfter == "" {
			t.Errorf("asked %+v", o.last)
		}
		time.Sleep(time.Second)
		o.set("B", func(e *other) { e.status.Epoch, e.status.Events, e.status.Started = "e2", nil, now.Add(time.Second) })
		if h := at(); h.Events[2].Open || !h.Events[2].Until.Equal(now.Add(time.Second)) {
			t.Errorf("%+v", h.Events)
		}
	})
}

// The history is there at the first look, and asked for when there is more of it.
func TestTheHistoryIsTheEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, o, at := line(t)
		until := time.Now().Truncate(10 * time.Second).UTC()
		history := func(updates ...float64) *overview.History {
			h := &overview.History{Every: 10, Until: until}
			for i := range updates {
				h.Add(&overview.Point{Updates: &updates[i], Lag: &updates[i]})
			}
			return h
		}
		o.set("B", func(e *other) { e.history = history(1, 2, 3) })
		o.set("C", func(e *other) { e.history = history(10, 20) })
		h := at().History
		if h.Len() != 3 || *h.Updates[0] != 1 || *h.Updates[2] != 23 || *h.Lag[2] != 20 || h.P99[0] != nil || !h.Until.Equal(until) {
			t.Errorf("%+v", h)
		}
		time.Sleep(time.Second)
		at()
		if o.last.History {
			t.Error("asked again within the same step")
		}
		time.Sleep(12 * time.Second)
		at()
		if !o.last.History {
			t.Error("not asked for the next step")
		}
	})
}

// asked is how many statuses were asked for.
func (o *others) asked() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asks
}
