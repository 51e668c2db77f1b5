package overview

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

var at = time.Date(2026, 11, 30, 11, 41, 2, 0, time.UTC)

// pair is two edges with a link between them, after a change.
func pair(change func(a, b *Status)) Herd {
	a, b := wellEdge("A", "B"), wellEdge("B", "A")
	for _, s := range []*Status{&a, &b} {
		s.Topology, s.Links[0].In, s.Links[0].Out, s.Links[0].State = "A-B", true, true, "up"
	}
	change(&a, &b)
	return of(a, b).Herd(at, Server{})
}

// TestNothingBrokenLooksWell: each thing that is wrong shows at its edge, in the summary, and in
// the sentence.
func TestNothingBrokenLooksWell(t *testing.T) {
	since := at.Add(-3 * time.Minute)
	for _, test := range []struct {
		name     string
		change   func(a, b *Status)
		level    Level
		words    string // of A
		short    string
		sentence string // its beginning
	}{
		{"nothing is wrong", func(a, _ *Status) {}, OK, "ready", "2 of 2 ready", "2 of 2 edges ready, 1 of 1 link up, 3 clients, 0 updates/s, nothing refused"},
		{"not ready", func(a, _ *Status) { a.Ready, a.Why, a.ReadySince = false, "joining", since }, Down, "not ready", "A not ready", "A is not ready since 11:38:02 UTC; 1 of 2 edges ready"},
		{"the broker away", func(a, b *Status) {
			for _, s := range []*Status{a, b} {
				s.Broker, s.BrokerSince = "away nats://x", since
				s.Links[0] = LinkStatus{Neighbour: s.Links[0].Neighbour, DownSince: since}
			}
		}, Down, "broker away", "broker away", "A and B have no broker since 11:38:02 UTC; 2 of 2 edges ready, 0 of 1 link up"},
		{"a link down", func(a, b *Status) {
			a.Links[0] = LinkStatus{Neighbour: "B", DownSince: since, Since: since}
			b.Links[0] = LinkStatus{Neighbour: "A", DownSince: since.Add(time.Second), Since: since}
		}, Down, "no link up", "link A-B down +1", "the link between A and B is down since 11:38:02 UTC and the herd is in 2 parts; "},
		{"a link in one direction", func(a, b *Status) {
			a.Links[0].Up, a.Links[0].In, a.Links[0].DownSince = false, false, since
			b.Links[0].Up, b.Links[0].Out, b.Links[0].DownSince = false, false, since
		}, Down, "no link up", "link A-B down +2", "the link from A to B is out only since 11:38:02 UTC, the link from B to A is in only since 11:38:02 UTC and 1 more; "},
		{"a certificate", func(a, _ *Status) { a.CertificateExpires = since.AddDate(0, 0, -1) }, Down, "certificate expired", "certificate expired", "the certificate of A has expired since 29 Nov 11:38:02 UTC; "},
		{"a certificate soon", func(a, _ *Status) { a.CertificateExpires = at.Add(time.Hour) }, Warning, "certificate expires", "certificate expires", "the certificate of A expires on 30 Nov 12:41:02 UTC; "},
		{"no journal", func(a, _ *Status) { a.Journal = Journal{Mode: "auto", Error: "no space", DownSince: since} }, Warning, "no journal", "journal not written", "the journal of A is not written since 11:38:02 UTC; "},
		{"no journal that is promised", func(a, _ *Status) { a.Journal = Journal{Mode: "on", Error: "no space", DownSince: since} }, Down, "no journal", "journal not written", "the journal of A is not written since 11:38:02 UTC; "},
		{"a journal nearly full", func(a, _ *Status) { a.Journal = Journal{Mode: "on", Up: true, Error: "nearly full"} }, Down, "journal nearly full", "journal nearly full", "the journal of A takes no new clients; "},
		{"a copy missing", func(a, _ *Status) { a.Journal = Journal{Mode: "on", Up: true, Replicas: 3, Copies: 2} }, Warning, "journal lacks a copy", "journal lacks a copy", "the journal of A has 2 of 3 copies; "},
		{"the clock", func(a, _ *Status) { a.Clock = "in doubt" }, Warning, "clock differs", "clock differs", "the clock of A: in doubt; "},
		{"configuration", func(a, _ *Status) { a.Links[0].ConfigDiffers = true }, Warning, "configuration differs", "configuration differs", "A and B are configured otherwise; "},
		{"places", func(a, _ *Status) { a.Places = []PlacesStatus{{Provider: "google", BreakerOpen: true}} }, Warning, "places failing", "places failing", "places of google fail at A; "},
		{"refusals", func(a, _ *Status) { a.Rates = &Rates{Updates: 1234, Refusals: 2.5} }, OK, "ready", "2 of 2 ready", "2 of 2 edges ready, 1 of 1 link up, 3 clients, 1,234 updates/s, 2.5 refused/s"},
		{"versions", func(a, _ *Status) { a.Version = "2" }, Warning, "ready", "versions differ", "versions differ; "},
	} {
		h := pair(test.change)
		s := h.Summary
		if s.Level != test.level || s.Short != test.short || !strings.HasPrefix(s.Sentence, test.sentence) || h.Edges[0].Words != test.words {
			t.Errorf("%s: %s, %q, %q, A is %q\nwant %s, %q, %q, %q", test.name, s.Level, s.Short, s.Sentence, h.Edges[0].Words, test.level, test.short, test.sentence, test.words)
		}
		if n := len([]rune(s.Short)); n > shortMost {
			t.Errorf("%s: %d characters: %q", test.name, n, s.Short)
		}
		if (s.Level == OK) != (len(s.Problems) == 0) {
			t.Errorf("%s: %+v", test.name, s)
		}
	}
}

func TestTheShortFormIsShort(t *testing.T) {
	long := strings.Repeat("x", 32)
	s := Seen{Statuses: []Status{wellEdge(long, "B")}, Failed: map[string]string{"B": ""}}
	s.Statuses[0].Ready = false
	if short := s.Herd(at, Server{}).Summary.Short; len([]rune(short)) > shortMost || !strings.Contains(short, " +") {
		t.Errorf("%q", short)
	}
}

// The state of a link is what both its ends say of its directions.
func TestALinkIsItsTwoDirections(t *testing.T) {
	up, down := at.Add(-time.Hour), at.Add(-time.Minute)
	works := LinkStatus{Up: true, In: true, Out: true, InSince: up, OutSince: up, Lag: 3, RoundTripSeconds: 0.1, SentLinesRate: 5, ReceivedLinesRate: 7}
	dead := LinkStatus{InSince: down, OutSince: down, DownSince: down, Reason: "nothing heard for 3s"}
	never := LinkStatus{}
	for _, test := range []struct {
		name         string
		a, b         *LinkStatus
		state, words string
		since        time.Time
		ab, ba       string
	}{
		{"up", &works, &works, LinkUp, "up", up, LinkUp, LinkUp},
		{"up, as one end says", &works, nil, LinkUp, "up", up, LinkUp, LinkUp},
		{"down", &dead, &dead, LinkDown, "down", down, LinkDown, LinkDown},
		{"down, as one end says", &dead, nil, LinkDown, "down", down, LinkDown, LinkDown},
		{"down at one end only", &works, &dead, LinkDown, "down", down, LinkDown, LinkDown},
		{"never", &never, &never, LinkNever, "never up", time.Time{}, LinkNever, LinkNever},
		{"half", &LinkStatus{In: true, InSince: up, OutSince: down, DownSince: down}, &LinkStatus{Out: true, OutSince: up, InSince: down, DownSince: down}, LinkHalf, "B does not hear A", down, LinkDown, LinkUp},
		{"not seen", nil, nil, LinkUnknown, "not visible from here", time.Time{}, LinkUnknown, LinkUnknown},
	} {
		l := Link{A: "A", B: "B", AB: direction(test.a, test.b), BA: direction(test.b, test.a)}
		l.judge(nil)
		if l.State != test.state || l.Words != test.words || !l.Since.Equal(test.since) || l.AB.State != test.ab || l.BA.State != test.ba {
			t.Errorf("%s: %+v", test.name, l)
		}
		if test.state == LinkDown && l.AB.Reason == "" {
			t.Errorf("%s: no reason", test.name)
		}
	}
	d := direction(&works, nil)
	if *d.Lag != 3 || *d.Lines != 5 || d.RoundTrip != 0.1 {
		t.Errorf("of its sender: %+v", d)
	}
	if d := direction(nil, &works); d.Lag != nil || *d.Lines != 7 {
		t.Errorf("of its receiver: %+v", d)
	}
}

func TestAnEdgeIsSilentSinceItWasLostAndLinksSayWhy(t *testing.T) {
	since := at.Add(-time.Minute)
	a := wellEdge("A", "B")
	a.Topology = "A-B,B-C"
	a.Links[0] = LinkStatus{Neighbour: "B", DownSince: since}
	s := Seen{Statuses: []Status{a}, Failed: map[string]string{"B": "not connected to the broker"}, Hidden: map[string]string{"C": "accounts"},
		Lost: map[string]time.Time{"B": since.Add(-3 * time.Second)}}
	h := s.Herd(at, Server{})
	b, c := h.Edges[1], h.Edges[2]
	if b.State != Silent || !b.Since.Equal(since.Add(-3*time.Second)) || b.Why != "not connected to the broker" || !slices.Equal(b.Neighbours, []string{"A"}) {
		t.Errorf("%+v", b)
	}
	if c.State != Hidden || c.Why != "accounts" || c.Level != Unknown {
		t.Errorf("%+v", c)
	}
	if h.Links[0].State != Silent || h.Links[1].State != Silent || h.Links[1].Words != "B is silent" {
		t.Errorf("%+v", h.Links)
	}
	if h.Totals.Edges != 3 || h.Totals.EdgesHidden != 1 || h.Totals.EdgesReady != 1 {
		t.Errorf("%+v", h.Totals)
	}
}

func TestTheTopologyOfMostIsTheUsualOne(t *testing.T) {
	h := pair(func(a, b *Status) { b.Topology = "A-B,B-C" })
	if h.Edges[0].TopologyDiffers || !h.Edges[1].TopologyDiffers {
		t.Errorf("%+v", h.Edges)
	}
}

// What parts the herd is found by the book's method; here by taking each away.
func TestWhatCannotBeMissedIsFound(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 500 {
		n := network{}
		edges := 1 + random.IntN(9)
		for i := range edges {
			n[fmt.Sprintf("E%d", i)] = nil
		}
		names := slices.Sorted(maps.Keys(n))
		links := map[string][2]string{}
		for range random.IntN(12) {
			a, b := names[random.IntN(edges)], names[random.IntN(edges)]
			if name := LinkName(a, b); a != b && links[name] == [2]string{} {
				links[name] = [2]string{a, b}
				n.join(a, b)
			}
		}
		without := func(edge, link string) int {
			rest := network{}
			for _, name := range names {
				if name != edge {
					rest[name] = nil
				}
			}
			for name, l := range links {
				if name != link && l[0] != edge && l[1] != edge {
					rest.join(l[0], l[1])
				}
			}
			return len(rest.parts())
		}
		all := len(n.parts())
		gotEdges, gotLinks := n.needed()
		for _, name := range names {
			alone := len(n[name]) == 0
			if want := !alone && without(name, "") > all; gotEdges[name] != want {
				t.Fatalf("round %d: %v of %v: edge %s parts: %v, want %v", round, links, names, name, gotEdges[name], want)
			}
		}
		for name := range links {
			if want := without("", name) > all; gotLinks[name] != want {
				t.Fatalf("round %d: %v: link %s parts: %v, want %v", round, links, name, gotLinks[name], want)
			}
		}
	}
}

func TestHistoriesAreAddedWhereTheyAreOfTheSameTime(t *testing.T) {
	history := func(until time.Time, updates ...float64) *History {
		h := &History{Every: 10, Until: until}
		for i := range updates {
			h.Add(&Point{Updates: &updates[i], P99: &updates[i]})
		}
		return h
	}
	end := time.Unix(1_800_000_000, 0).UTC()
	h := HistoryOf([]*History{nil, {Every: 10}, history(end, 1, 2, 3), history(end.Add(-10*time.Second), 10, 20, 30)})
	var got []string
	for i := range h.Len() {
		p := h.At(i)
		got = append(got, fmt.Sprintf("%v/%v", *p.Updates, *p.P99))
	}
	if want := "[10/10 21/20 32/30 3/3]"; fmt.Sprint(got) != want || !h.Until.Equal(end) || h.Lag[0] != nil {
		t.Errorf("%v until %v, want %s", got, h.Until, want)
	}
	long := history(end)
	for range 100 {
		long.Add(nil)
	}
	if h := HistoryOf([]*History{long}); h.Len() != HistoryMost || h.Updates[0] != nil {
		t.Errorf("%d steps", h.Len())
	}
	if h := HistoryOf(nil); h.Len() != 0 || h.Every == 0 {
		t.Errorf("%+v", h)
	}
}

func TestEventsAreMergedByTheirIDs(t *testing.T) {
	e := func(id string, second int, open bool) Event {
		return Event{ID: id, At: at.Add(time.Duration(second) * time.Second), Open: open}
	}
	known := MergeEvents(nil, []Event{e("a", 1, true), e("b", 2, false)})
	all := MergeEvents(known, []Event{e("a", 1, false), e("c", 0, false)})
	if len(all) != 3 || all[0].ID != "b" || all[1].ID != "a" || all[1].Open || all[2].ID != "c" {
		t.Errorf("%+v", all)
	}
	var many []Event
	for i := range 300 {
		many = append(many, e(fmt.Sprint(i), i, false))
	}
	if all := MergeEvents(known, many); len(all) != 100 || all[0].ID != "299" {
		t.Errorf("%d events, the first %+v", len(all), all[0])
	}
}
