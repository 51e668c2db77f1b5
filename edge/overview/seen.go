package overview

import (
	"slices"
	"strings"
	"time"

	"herd/broker/topology"
)

// Seen is what was found when the edges of a herd were asked for their statuses.
type Seen struct {
	Prefix   string   // HERD_SUBJECT_PREFIX, for the commands that help
	Statuses []Status // of the edges that answered, one each, sorted by name
	// Failed has why edges did not answer that were asked by name; "" if that is not known. An edge
	// that others name and that is not in Hidden counts as asked.
	Failed map[string]string
	Hidden map[string]string // edges that could not be asked, and why
	// Lost is since when an edge that answered before does not, as far as who asks knows.
	Lost map[string]time.Time
	// Blind is why no edge can be seen just now; "": some can, or the statuses say it.
	Blind string
}

// Named returns the edges that are known: by their status, by topologies or as neighbours, each
// with the sorted names of the edges that have it as a neighbour.
func (s *Seen) Named() map[string][]string {
	by := map[string][]string{}
	graphs := map[string]*topology.Graph{} // most have the same
	for i := range s.Statuses {
		e := &s.Statuses[i]
		by[e.Edge] = append(by[e.Edge], nil...)
		g, known := graphs[e.Topology]
		if !known {
			g, _ = topology.Parse(e.Topology)
			graphs[e.Topology] = g
		}
		if g != nil {
			for _, name := range g.Edges() {
				by[name] = append(by[name], nil...)
			}
		}
		for _, l := range e.Links {
			by[l.Neighbour] = append(by[l.Neighbour], e.Edge)
		}
	}
	for name := range s.Failed {
		by[name] = append(by[name], nil...)
	}
	for name := range s.Hidden {
		by[name] = append(by[name], nil...)
	}
	for _, names := range by {
		slices.Sort(names)
	}
	return by
}

// Unanswered returns the sorted names of edges that are known and did not answer; an edge whose
// name cannot be one is left out.
func (s *Seen) Unanswered() (names []string) {
	for name := range s.Named() {
		if s.status(name) == nil && topology.CheckName(name) == nil {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// status is an edge's; nil if it did not answer.
func (s *Seen) status(name string) *Status {
	for i := range s.Statuses {
		if s.Statuses[i].Edge == name {
			return &s.Statuses[i]
		}
	}
	return nil
}

// A SilentEdge is an edge that others name and that did not answer.
type SilentEdge struct {
	Name  string
	By    []string // edges that have it as a neighbour, sorted
	Why   string
	Since time.Time // when its neighbours last lost it; zero: not known
}

// Silent returns the silent edges, by name.
func (s *Seen) Silent() (all []SilentEdge) {
	by := s.Named()
	for _, name := range s.Unanswered() {
		if _, hidden := s.Hidden[name]; hidden {
			continue
		}
		why := s.Failed[name]
		if why == "" {
			why = "no answer"
		}
		all = append(all, SilentEdge{Name: name, By: by[name], Why: why, Since: s.unheardSince(name)})
	}
	return all
}

// unheardSince is when the last of an edge's neighbours that still have the broker ceased to
// hear it, or when it ceased to answer who asks, if that was earlier or they still hear it.
func (s *Seen) unheardSince(name string) (since time.Time) {
	for i := range s.Statuses {
		e := &s.Statuses[i]
		for _, l := range e.Links {
			switch {
			case l.Neighbour != name || e.Away():
			case l.Up:
				return s.Lost[name]
			case l.DownSince.After(since):
				since = l.DownSince
			}
		}
	}
	return earlier(since, s.Lost[name]) // links take three heartbeats to notice
}

// Away reports whether the edge has no broker.
func (s *Status) Away() bool { return !strings.HasPrefix(s.Broker, "connected") }
