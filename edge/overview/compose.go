package overview

import (
	"slices"
	"time"
)

// Herd puts together what the statuses say at a moment. Events and History are left empty.
func (s *Seen) Herd(at time.Time, server Server) Herd {
	h := Herd{At: at.UTC(), Server: server, Edges: []Edge{}, Links: []Link{}, Events: []Event{}, Columns: columns}
	by := s.Named()
	names := s.Unanswered()
	for i := range s.Statuses {
		names = append(names, s.Statuses[i].Edge)
	}
	slices.Sort(names)
	silent := map[string]SilentEdge{}
	for _, e := range s.Silent() {
		silent[e.Name] = e
	}
	usual := s.usualTopology()
	h.Links = s.composeLinks(silent)
	for _, name := range names {
		e := Edge{Name: name, Neighbours: []string{}}
		st := s.status(name)
		switch {
		case st != nil:
			own := *st
			own.Events, own.History = nil, nil
			e.Status = &own
			e.State, e.Since = Ready, st.ReadySince
			if !st.Ready {
				e.State, e.Why = NotReady, st.Why
			}
			e.Level, e.Words = st.state(at)
			if st.Away() && e.Why == "" {
				e.Why = st.BrokerState()
			}
			e.TopologyDiffers = st.Topology != usual
			for _, l := range st.Links {
				e.Neighbours = append(e.Neighbours, l.Neighbour)
				if l.ConfigDiffers {
					e.ConfigDiffers = append(e.ConfigDiffers, l.Neighbour)
				}
			}
		case silent[name].Name != "":
			e.State, e.Level, e.Words = Silent, Down, "silent"
			e.Why, e.Since, e.Neighbours = silent[name].Why, silent[name].Since, append(e.Neighbours, by[name]...)
		default:
			e.State, e.Level, e.Words, e.Why = Hidden, Unknown, "not visible from here", s.Hidden[name]
			e.Neighbours = append(e.Neighbours, by[name]...)
		}
		slices.Sort(e.Neighbours)
		h.Edges = append(h.Edges, e)
	}
	h.markParts()
	h.Totals = h.totals()
	h.Summary = h.summary(s.Problems(at))
	return h
}

// state is the most serious problem of an edge, in a few words: it may be ready, and yet be cut
// off from all its neighbours.
func (s *Status) state(now time.Time) (Level, string) {
	down := 0
	for _, l := range s.Links {
		if !l.Up {
			down++
		}
	}
	certificate, expired := s.Certificate(now)
	switch {
	case !s.Ready:
		return Down, "not ready"
	case expired:
		return Down, "certificate expired"
	case s.Away():
		return Down, "broker away"
	case down > 0 && down == len(s.Links):
		return Down, "no link up"
	case down > 0:
		return Warning, Counted(down, "link") + " down"
	case s.Journal.Mode != "off" && !s.Journal.Up:
		return Warning, "no journal"
	case s.Journal.Error != "":
		return Warning, "journal nearly full"
	case s.Journal.Copies < s.Journal.Replicas:
		return Warning, "journal lacks a copy"
	case s.Clock != "":
		return Warning, "clock differs"
	case certificate != "":
		return Warning, "certificate expires"
	case slices.ContainsFunc(s.Links, func(l LinkStatus) bool { return l.ConfigDiffers }):
		return Warning, "configuration differs"
	case slices.ContainsFunc(s.Places, func(p PlacesStatus) bool { return p.BreakerOpen }):
		return Warning, "places failing"
	}
	return OK, "ready"
}

// usualTopology is that of most edges; of two that are as usual the first.
func (s *Seen) usualTopology() (usual string) {
	count, most := map[string]int{}, 0
	for i := range s.Statuses {
		count[s.Statuses[i].Topology]++
	}
	for i := range s.Statuses {
		if t := s.Statuses[i].Topology; count[t] > most {
			usual, most = t, count[t]
		}
	}
	return usual
}

// composeLinks are all links that an edge has, or that a topology gives to edges that did not
// answer.
func (s *Seen) composeLinks(silent map[string]SilentEdge) []Link {
	type pair [2]string
	known := map[pair]bool{}
	for i := range s.Statuses {
		e := &s.Statuses[i]
		for _, l := range e.Links {
			known[pair{min(e.Edge, l.Neighbour), max(e.Edge, l.Neighbour)}] = true
		}
	}
	for _, g := range s.graphs() {
		for _, l := range g.Links() {
			if s.status(l[0]) == nil && s.status(l[1]) == nil {
				known[l] = true
			}
		}
	}
	all := []Link{}
	for p := range known {
		l := Link{A: p[0], B: p[1]}
		a, b := s.link(l.A, l.B), s.link(l.B, l.A)
		l.AB, l.BA = direction(a, b), direction(b, a)
		l.ConfigDiffers = a != nil && a.ConfigDiffers || b != nil && b.ConfigDiffers
		l.judge(silent)
		all = append(all, l)
	}
	slices.SortFunc(all, func(x, y Link) int {
		return slices.Compare([]string{x.A, x.B}, []string{y.A, y.B})
	})
	return all
}

// direction is the direction from one end of a link to the other, as both show the link; nil is
// an end that does not.
func direction(from, to *LinkStatus) (d Direction) {
	if from == nil && to == nil {
		d.State = LinkUnknown
		return d
	}
	up, never := true, true
	var since, lost time.Time
	look := func(l *LinkStatus, works bool, at time.Time) {
		never = never && !works && at.IsZero() && l.DownSince.IsZero()
		if works {
			if at.After(since) {
				since = at
			}
			return
		}
		up = false
		if !at.IsZero() && (lost.IsZero() || at.Before(lost)) {
			lost = at
		}
		if d.Reason == "" {
			d.Reason = l.Reason
		}
	}
	if from != nil {
		look(from, from.Up || from.Out, from.OutSince)
		lag, lines, bytes := from.Lag, from.SentLinesRate, from.SentBytesRate
		d.Lag, d.Lines, d.Bytes, d.RoundTrip = &lag, &lines, &bytes, from.RoundTripSeconds
	}
	if to != nil {
		look(to, to.Up || to.In, to.InSince)
		if from == nil {
			lines, bytes := to.ReceivedLinesRate, to.ReceivedBytesRate
			d.Lines, d.Bytes = &lines, &bytes
		}
	}
	switch {
	case up:
		d.State, d.Since = LinkUp, since
	case never:
		d.State = LinkNever
	default:
		d.State, d.Since = LinkDown, lost
	}
	return d
}

// judge says how the link is, by its directions and by who is silent.
func (l *Link) judge(silent map[string]SilentEdge) {
	l.Level = Down
	for _, end := range []string{l.A, l.B} {
		if e := silent[end]; e.Name != "" {
			l.State, l.Since, l.Words = Silent, e.Since, end+" is silent"
			if other := silent[l.B]; end == l.A && other.Name != "" {
				l.Words = l.A + " and " + l.B + " are silent"
			}
			return
		}
	}
	works := func(d Direction) bool { return d.State == LinkUp }
	switch ab, ba := works(l.AB), works(l.BA); {
	case l.AB.State == LinkUnknown:
		l.State, l.Level, l.Words = LinkUnknown, Unknown, "not visible from here"
	case ab && ba:
		l.State, l.Level, l.Words, l.Since = LinkUp, OK, "up", later(l.AB.Since, l.BA.Since)
	case ab:
		l.State, l.Words, l.Since = LinkHalf, l.A+" does not hear "+l.B, l.BA.Since
	case ba:
		l.State, l.Words, l.Since = LinkHalf, l.B+" does not hear "+l.A, l.AB.Since
	case l.AB.State == LinkNever && l.BA.State == LinkNever:
		l.State, l.Words = LinkNever, "never up"
	default:
		l.State, l.Words, l.Since = LinkDown, "down", earlier(l.AB.Since, l.BA.Since)
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// earlier is the earlier of two times that are known.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func (h *Herd) totals() (t Totals) {
	t.Edges = len(h.Edges)
	for i := range h.Edges {
		e := &h.Edges[i]
		switch e.State {
		case Ready:
			t.EdgesReady++
		case Hidden:
			t.EdgesHidden++
		}
		s := e.Status
		if s == nil {
			continue
		}
		t.Clients = max(t.Clients, s.Clients)
		t.Connections += s.Connections
		t.Watches += s.Watches
		if r := s.Rates; r != nil {
			t.Updates += r.Updates
			t.Questions += r.Questions
			t.Refusals += r.Refusals
			if r.P99 != nil && (t.P99 == nil || *r.P99 > *t.P99) {
				t.P99 = r.P99
			}
		}
	}
	for i := range h.Links {
		l := &h.Links[i]
		if l.State == LinkUnknown {
			continue
		}
		t.Links++
		if l.State == LinkUp {
			t.LinksUp++
		}
		for _, d := range []Direction{l.AB, l.BA} {
			if d.Lag != nil {
				t.Lag = max(t.Lag, *d.Lag)
			}
		}
	}
	return t
}

var columns = Columns{
	Edge: []string{"clients", "connections", "watches", "updates_per_second", "questions_per_second", "refusals_per_second", "p99_seconds", "cpu_cores", "memory_bytes", "goroutines", "journal_lag"},
	Link: []string{"ab.lag", "ab.round_trip_seconds", "ab.lines_per_second", "ab.bytes_per_second", "ba.lag", "ba.round_trip_seconds", "ba.lines_per_second", "ba.bytes_per_second"},
}

// Row has an edge's numbers in the order of Columns.Edge; nil is what is not known.
func (e *Edge) Row() []*float64 {
	s := e.Status
	if s == nil {
		return nil
	}
	row := []*float64{whole(s.Clients), whole(s.Connections), whole(s.Watches), nil, nil, nil, nil, s.Process.CPU, nil, whole(s.Process.Goroutines), whole(s.Journal.Lag)}
	if r := s.Rates; r != nil {
		row[3], row[4], row[5], row[6] = &r.Updates, &r.Questions, &r.Refusals, r.P99
	}
	if s.Process.Memory > 0 {
		row[8] = whole(s.Process.Memory >> 20 << 20) // so that it rarely changes
	}
	return row
}

// Row has a link's numbers in the order of Columns.Link; nil is what is not known.
func (l *Link) Row() (row []*float64) {
	for _, d := range []*Direction{&l.AB, &l.BA} {
		lag, trip := (*float64)(nil), (*float64)(nil)
		if d.Lag != nil {
			lag = whole(*d.Lag)
		}
		if d.RoundTrip > 0 {
			trip = &d.RoundTrip
		}
		row = append(row, lag, trip, d.Lines, d.Bytes)
	}
	return row
}

func whole[N int | uint64](n N) *float64 {
	f := float64(n)
	return &f
}

// Steady is the edge without what changes all the time: two that are equal need no more than
// their numbers compared.
func (e *Edge) Steady() Edge {
	c := *e
	if e.Status == nil {
		return c
	}
	s := *e.Status
	s.Clients, s.Connections, s.Watches, s.Members, s.Revision, s.TableBytes = 0, 0, 0, 0, 0, 0
	s.Counts, s.Rates = Counts{}, nil
	s.Process.CPU, s.Process.Memory, s.Process.Goroutines = nil, 0, 0
	s.Journal.Lag, s.Journal.Writes, s.Journal.Errors, s.Journal.FullRatio, s.Journal.LeftOut, s.Journal.Skipped = 0, 0, 0, 0, 0, 0
	s.Links = slices.Clone(s.Links)
	for i := range s.Links {
		l := &s.Links[i]
		*l = LinkStatus{Neighbour: l.Neighbour, Up: l.Up, In: l.In, Out: l.Out, ConfigDiffers: l.ConfigDiffers, Downs: l.Downs, DownSince: l.DownSince,
			State: l.State, Since: l.Since, InSince: l.InSince, OutSince: l.OutSince, Reason: l.Reason}
	}
	s.Places = slices.Clone(s.Places)
	for i := range s.Places {
		s.Places[i].BudgetLeft = nil
	}
	c.Status = &s
	return c
}

// Steady is the link without what changes all the time.
func (l *Link) Steady() Link {
	c := *l
	for _, d := range []*Direction{&c.AB, &c.BA} {
		d.Lag, d.RoundTrip, d.Lines, d.Bytes = nil, 0, nil, nil
	}
	return c
}

// Name names the link.
func (l *Link) Name() string { return LinkName(l.A, l.B) }

// HistoryOf adds up the histories of edges; what none of them knows stays unknown. Steps of edges
// whose clocks differ by less than a step are the same.
func HistoryOf(all []*History) History {
	h := History{Every: 10}
	var first time.Time
	for _, one := range all {
		if one == nil || one.Len() == 0 {
			continue
		}
		h.Every = one.Every
		h.Until = later(h.Until, one.Until)
		begun := one.Until.Add(-time.Duration(one.Len()*one.Every) * time.Second)
		first = earlier(first, begun)
	}
	if h.Until.IsZero() {
		return h
	}
	step := time.Duration(h.Every) * time.Second
	n := min(HistoryMost, int(h.Until.Sub(first)/step))
	for i := range n {
		end := h.Until.Add(-time.Duration(n-1-i) * step)
		var sum Point
		for _, one := range all {
			if one == nil || one.Every != h.Every {
				continue
			}
			if j := one.Len() - 1 - int(one.Until.Sub(end)/step); j >= 0 && j < one.Len() && !one.Until.Before(end) {
				sum.merge(one.At(j))
			}
		}
		h.Add(&sum)
	}
	return h
}

// HistoryMost is how many steps a history has at most: ten minutes of ten seconds.
const HistoryMost = 60

// merge adds another edge's step: rates add up, of durations and lags the worst counts.
func (p *Point) merge(other Point) {
	add := func(sum **float64, x *float64) {
		if x == nil {
			return
		}
		total := *x
		if *sum != nil {
			total += **sum
		}
		*sum = &total
	}
	worst := func(most **float64, x *float64) {
		if x != nil && (*most == nil || *x > **most) {
			*most = x
		}
	}
	add(&p.Updates, other.Updates)
	add(&p.Questions, other.Questions)
	add(&p.Refusals, other.Refusals)
	worst(&p.P99, other.P99)
	worst(&p.Lag, other.Lag)
}

// merged is the newest of events, newest first, at most n of them. Of two with the same ID the
// later in the list counts.
func merged(n int, lists ...[]Event) []Event {
	at := map[string]int{}
	all := []Event{}
	for _, list := range lists {
		for _, e := range list {
			if i, again := at[e.ID]; again {
				all[i] = e
				continue
			}
			at[e.ID] = len(all)
			all = append(all, e)
		}
	}
	slices.SortStableFunc(all, func(a, b Event) int { return b.At.Compare(a.At) })
	return all[:min(n, len(all))]
}

// MergeEvents adds newer events, or newer versions of them, to what is known: the newest first,
// at most a hundred.
func MergeEvents(known []Event, newer ...[]Event) []Event {
	return merged(100, append([][]Event{known}, newer...)...)
}
