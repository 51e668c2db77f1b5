package edge

import (
	"maps"
	"slices"

	"herd/edge/admin"
	"herd/edge/command"
)

// Source is this edge as the admin port shows it (and `herd up`'s, which shows
// several). It may be asked from New on.
func (e *Edge) Source() admin.Source {
	return admin.Source{
		Name:    e.cfg.Edge,
		Status:  e.Status,
		Metrics: e.Metrics,
		Ready: func() (bool, string) {
			switch {
			case !e.isReady():
				return false, "joining"
			case e.cfg.Durability == promiseJournal && !e.journal.Working():
				return false, "the journal cannot be written"
			}
			return true, ""
		},
		Live: func() bool { return true },
	}
}

// brokerState says in words where the broker is, without a secret.
func (e *Edge) brokerState() string {
	switch {
	case !e.dialled():
		return "away"
	case e.conn.Connected():
		return "connected " + e.conn.Server()
	default:
		return "away " + e.conn.Server()
	}
}

// Status is the edge at a glance, as its endpoint and its page show it.
func (e *Edge) Status() admin.Status {
	version, _ := Version()
	clients, head, _ := e.table.Stats()
	s := admin.Status{
		Edge: e.cfg.Edge, Epoch: e.epoch, Version: version,
		Ready: e.isReady(), Clients: clients, Connections: e.server.Stats().Connections, Revision: head,
		Journal: admin.Journal{Mode: e.cfg.Journal}, Broker: e.brokerState(),
	}
	if lag := e.journalLag(); lag != nil {
		s.Journal.Lag = *lag
	}
	for _, p := range e.finder.Stats() {
		place := admin.PlacesStatus{Provider: p.Provider, BreakerOpen: p.Open}
		if p.Budgeted {
			place.BudgetLeft = &p.BudgetLeft
		}
		s.Places = append(s.Places, place)
	}
	for _, l := range e.Metrics().Links {
		s.Links = append(s.Links, admin.LinkStatus{
			Neighbour: l.Neighbour, Up: l.Up, Lag: l.Lag,
			RoundTripSeconds: l.RoundTripSeconds, ClockSeconds: l.ClockSeconds, ConfigDiffers: l.ConfigDiffers,
		})
	}
	return s
}

// Metrics is what the rooms have counted.
func (e *Edge) Metrics() admin.Metrics {
	clients, _, forgotten := e.table.Stats()
	clientPort := e.server.Stats()
	m := admin.Metrics{
		CommandSeconds:     map[string]admin.Histogram{},
		PropagationSeconds: e.times.propagation.snapshot(),
		Connections:        clientPort.Connections,
		ConnectionsRefused: clientPort.Refused,
		ConnectionsClosed:  clientPort.Closed,
		Positions:          clients,
		PositionsForgotten: forgotten,
		BrokerConnected:    e.dialled() && e.conn.Connected(),
		PlacesSeconds:      map[string]admin.Histogram{},
		PlacesBreaker:      map[string]bool{},
		PlacesBudget:       map[string]int{},
		PlacesKnown:        map[string]int{},
		JournalLag:         e.journalLag(),
	}
	if e.certs != nil {
		m.CertificateExpires = e.certs.Now().Pair.Leaf.NotAfter
	}
	for _, c := range e.handler.Stats() {
		m.Commands = append(m.Commands, admin.CommandCount{Command: c.Verb.String(), Outcome: c.Outcome.String(), Count: c.N})
	}
	for v := range e.times.commands {
		m.CommandSeconds[command.Verb(v).String()] = e.times.commands[v].snapshot()
	}
	for _, n := range e.links() {
		s := n.link.Stats()
		m.Links = append(m.Links, admin.LinkMetrics{
			Neighbour: n.name, Up: s.Up, Lag: s.Lag,
			RoundTripSeconds: s.RoundTrip.Seconds(), ClockSeconds: s.Clock.Seconds(), ConfigDiffers: n.differs.Load(),
			SentLines: s.SentLines, ReceivedLines: s.ReceivedLines, DuplicateLines: s.DuplicateLines,
			RefusedLines: s.RefusedLines, Rewinds: s.Rewinds,
		})
	}
	for _, p := range e.finder.Stats() {
		for _, outcome := range slices.Sorted(maps.Keys(p.Requests)) {
			m.PlacesRequests = append(m.PlacesRequests, admin.PlacesCount{Provider: p.Provider, Outcome: outcome, Count: p.Requests[outcome]})
		}
		m.PlacesSeconds[p.Provider] = perBucket(p.Duration.Buckets, p.Duration.Sum, p.Duration.Count)
		if p.Guarded {
			m.PlacesBreaker[p.Provider] = p.Open
		}
		if p.Budgeted {
			m.PlacesBudget[p.Provider] = p.BudgetLeft
		}
		if p.Loads {
			m.PlacesKnown[p.Provider] = p.Known
		}
	}
	if e.transcript != nil {
		m.TranscriptDropped = e.transcript.Dropped()
	}
	return m
}

// perBucket turns running totals by upper bound into admin's counts a bucket.
func perBucket(totals map[float64]uint64, sum float64, count uint64) admin.Histogram {
	h := admin.Histogram{Sum: sum, Count: count, Buckets: slices.Sorted(maps.Keys(totals))}
	before := uint64(0)
	for _, bound := range h.Buckets {
		h.Counts = append(h.Counts, totals[bound]-before)
		before = totals[bound]
	}
	return h
}

// dialled says whether the broker's connection and the links are made, which
// happens once, early in Run.
func (e *Edge) dialled() bool {
	select {
	case <-e.made:
		return true
	default:
		return false
	}
}

func (e *Edge) links() []*neighbour {
	if !e.dialled() {
		return nil
	}
	return e.neighbours
}

// journalLag is how many revisions the journal does not hold yet; nil where there is
// none, or was none so far.
func (e *Edge) journalLag() *uint64 {
	if !e.dialled() || e.journal == nil {
		return nil
	}
	select {
	case <-e.journal.Loaded():
	default:
		return nil
	}
	lag := e.journal.Lag()
	return &lag
}
