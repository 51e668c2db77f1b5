package edge

import (
	"errors"
	"maps"
	"slices"
	"time"

	"herd/edge/admin"
	"herd/edge/command"
	"herd/edge/journal"
	"herd/edge/overview"
)

// Source is this edge as the admin port shows it (and `herd up`'s, which shows
// several). It may be asked from New on.
func (e *Edge) Source() admin.Source {
	return admin.Source{
		Name:    e.cfg.Edge,
		Status:  e.Status,
		Metrics: e.Metrics,
		Ready:   e.readiness,
		Live:    e.liveness.live,
		History: e.pace.history,
		Ask:     e.answerOwn,
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

// Status is the edge at a glance, with its last events, as its endpoint shows it.
func (e *Edge) Status() overview.Status {
	now := time.Now()
	version, commit := Version()
	clients, head, _ := e.table.Stats()
	s := overview.Status{
		Edge: e.cfg.Edge, Epoch: e.epoch, Version: version, Commit: commit, Started: e.utc(e.start),
		Topology: e.cfg.Topology.String(), Configuration: e.configHash,
		Clients: clients, TableBytes: e.table.Bytes(), Connections: e.server.Stats().Connections, Revision: head,
		Journal: e.journalStatus(), Broker: e.brokerState(), Clock: e.clockNote(), Events: e.events.Events(),
		BrokerConnected: e.dialled() && e.conn.Connected(), BrokerAt: e.utc(e.absence.turned()),
	}
	if e.dialled() {
		s.BrokerServer = e.conn.Server()
	}
	if l := e.liveMetrics(); l != nil {
		s.Watches, s.Members = l.Watches, l.Members
	}
	since, why := e.absence.state(now)
	s.BrokerSince, s.BrokerError = e.utc(since), why
	if e.certs != nil {
		s.CertificateExpires = e.certs.Now().Pair.Leaf.NotAfter
	}
	s.Ready, s.Why, since = e.noteReadiness(now)
	s.ReadySince = e.utc(since)
	for _, p := range e.finder.Stats() {
		place := overview.PlacesStatus{Provider: p.Provider, BreakerOpen: p.Open}
		if p.Budgeted {
			place.BudgetLeft = &p.BudgetLeft
		}
		s.Places = append(s.Places, place)
	}
	is := e.sample(now)
	s.Counts = is.counts
	was, ok := e.pace.before(now)
	if ok {
		rates := is.since(&was)
		s.Rates = &rates
		s.Process = process(max(0, is.cpu-was.cpu), now.Sub(was.at))
	} else {
		s.Process = process(0, 0)
	}
	for i, n := range e.links() {
		l := n.status(e.utc)
		if over := now.Sub(was.at).Seconds(); ok && i < len(was.links) && i < len(is.links) {
			a, b := &is.links[i], &was.links[i]
			l.SentLinesRate, l.SentBytesRate = perSecond(a.sentLines, b.sentLines, over), perSecond(a.sentBytes, b.sentBytes, over)
			l.ReceivedLinesRate, l.ReceivedBytesRate = perSecond(a.receivedLines, b.receivedLines, over), perSecond(a.receivedBytes, b.receivedBytes, over)
		}
		s.Links = append(s.Links, l)
	}
	return s
}

// StatusFor is Status for who asks so. The page asks often, and leaves out what it has.
func (e *Edge) StatusFor(q overview.Question) overview.Status {
	s := e.Status()
	if n := len(s.Events); n > 0 && s.Events[n-1].ID == q.EventsAfter {
		s.Events = nil
	}
	if q.History {
		s.History = e.pace.history()
	}
	return s
}

// status is the link as it is shown; its rates are not known to it.
func (n *neighbour) status(utc func(time.Time) time.Time) overview.LinkStatus {
	s := n.link.Stats()
	l := overview.LinkStatus{
		Neighbour: n.name, Up: s.Up, In: s.In, Out: s.Out, Lag: s.Lag,
		RoundTripSeconds: s.RoundTrip.Seconds(), ClockSeconds: s.Clock.Seconds(), ConfigDiffers: n.differs.Load(), Downs: s.Downs,
		DownSince: utc(s.DownSince), Since: utc(s.Since), InSince: utc(s.InSince), OutSince: utc(s.OutSince), Reason: s.Why,
		PutOff: s.PutOff, Unsendable: s.Unsendable,
		SentLines: s.SentLines, SentBytes: s.SentBytes, ReceivedLines: s.ReceivedLines, ReceivedBytes: s.ReceivedBytes,
	}
	l.State = l.Words()
	if s.Since.IsZero() {
		l.State = overview.LinkNever
	}
	return l
}

// journalStatus is the journal as it is shown.
func (e *Edge) journalStatus() overview.Journal {
	s := overview.Journal{Mode: e.cfg.Journal}
	j := e.journalStats()
	if j == nil {
		return s
	}
	s.Up, s.Lag, s.DownSince = j.Up, j.Lag, e.utc(j.DownSince)
	s.Since = s.DownSince
	if j.Up {
		s.Since = e.utc(j.UpSince)
	}
	s.Replicas, s.Copies = j.Replicas, j.Copies
	s.NearlyFull, s.LeftOut, s.Skipped, s.FullRatio = j.NearlyFull, j.LeftOut, j.Skipped, j.Full
	s.Writes, s.Errors = j.Writes, j.Errors
	if j.Err != nil {
		s.Error = j.Err.Error()
	}
	return s
}

// utc is what this edge's clock showed at a moment, for people; the zero time stays zero.
func (e *Edge) utc(moment time.Time) time.Time {
	if moment.IsZero() {
		return moment
	}
	return time.Unix(0, e.wall(moment)).UTC()
}

// Metrics is what the rooms have counted.
func (e *Edge) Metrics() admin.Metrics {
	clients, _, forgotten := e.table.Stats()
	clientPort := e.server.Stats()
	m := admin.Metrics{
		CommandSeconds:     map[string]admin.Histogram{},
		PropagationSeconds: e.times.propagation.snapshot(),
		OlderSeconds:       e.times.older.snapshot(),
		Connections:        clientPort.Connections,
		ConnectionsPending: clientPort.Pending,
		ConnectionsRefused: clientPort.Refused,
		ConnectionsClosed:  clientPort.Closed,
		Positions:          clients,
		PositionsBytes:     e.table.Bytes(),
		PositionsForgotten: forgotten,
		Live:               e.liveMetrics(),
		Devices:            e.devicesMetrics(),
		BrokerConnected:    e.dialled() && e.conn.Connected(),
		BrokerReconnects:   e.reconnects.Load(),
		PlacesSeconds:      map[string]admin.Histogram{},
		PlacesBreaker:      map[string]bool{},
		PlacesBudget:       map[string]int{},
		PlacesKnown:        map[string]int{},
	}
	if j := e.journalStats(); j != nil {
		m.Journal = &admin.JournalMetrics{Up: j.Up, Lag: j.Lag, Skipped: j.Skipped, LeftOut: j.LeftOut, FullRatio: j.Full,
			Replicas: j.Replicas, Copies: j.Copies, Writes: j.Writes, Errors: j.Errors, Seconds: e.times.journal.snapshot()}
	}
	e.clockMetrics(&m)
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
			In: s.In, Out: s.Out, PutOff: s.PutOff, Unsendable: s.Unsendable,
			SentLines: s.SentLines, ReceivedLines: s.ReceivedLines, DuplicateLines: s.DuplicateLines,
			RefusedLines: s.RefusedLines, Rewinds: s.Rewinds, Downs: s.Downs,
			SentMessages: s.SentMessages, ReceivedMessages: s.ReceivedMessages, SentBytes: s.SentBytes, ReceivedBytes: s.ReceivedBytes,
		})
	}
	for _, p := range e.finder.Stats() {
		for _, outcome := range slices.Sorted(maps.Keys(p.Requests)) {
			m.PlacesRequests = append(m.PlacesRequests, admin.PlacesCount{Provider: p.Provider, Outcome: outcome, Count: p.Requests[outcome]})
		}
		m.PlacesSeconds[p.Provider] = admin.Histogram(p.Duration)
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

// dialled says whether the broker's connection and the links are made, which
// happens once, early in Run.
func (e *Edge) dialled() bool { return isClosed(e.made) }

func (e *Edge) links() []*neighbour {
	if !e.dialled() {
		return nil
	}
	return e.neighbours
}

// journalStats is how the journal is; nil where HERD_JOURNAL is off. Where the broker has no
// JetStream (D4) it is one that is not up: who looks must see that there is none.
func (e *Edge) journalStats() *journal.Stats {
	if !e.dialled() || e.journal == nil {
		return nil
	}
	s := e.journal.Stats()
	if !e.conn.Connected() { // the journal notices when it next writes or looks
		s.Up, s.Err = false, errBrokerAway
		if since, _ := e.absence.state(time.Now()); s.DownSince.IsZero() {
			s.DownSince = since
		}
	}
	if !s.Up { // of the last look, which may be long ago
		s.Replicas, s.Copies = 0, 0
	}
	return &s
}

var errBrokerAway = errors.New("the broker is away")

// reason is an error in words; nil is none yet.
func reason(err error) string {
	if err == nil {
		return "it was not tried yet"
	}
	return err.Error()
}
