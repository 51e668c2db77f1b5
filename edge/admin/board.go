package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"herd/edge/overview"
)

const (
	freshFor   = time.Second            // all that ask within it get the same
	askLimit   = 900 * time.Millisecond // for all edges together
	patience   = 3 * time.Second        // an edge that is late is as it last was
	mostEdges  = 1024                   // that are asked
	mostAnswer = 256 << 10              // bytes of an edge's status
)

// A board is what the page shows: the state of the whole herd. It is put together when somebody
// asks, at most once a second for all that do, from the process's own edges and from the answers of
// the others.
type board struct {
	sources []Source
	others  Others // nil: there are none
	server  overview.Server
	prefix  string

	turn chan struct{} // holds one while the herd is looked at; guards all below
	last *overview.Herd
	at   time.Time // of last
	mem  map[string]*memory
	news []overview.Event // newest first
}

// memory is what is known of an edge from look to look.
type memory struct {
	status  *overview.Status // nil: it never answered
	at      time.Time        // when it last did
	silent  time.Time        // since when it does not; zero: it does
	events  string           // the newest one's ID
	history *overview.History
	step    int64 // of the history, when it was last asked for
}

func newBoard(sources []Source, others Others, server overview.Server, prefix string) *board {
	return &board{sources: sources, others: others, server: server, prefix: prefix,
		turn: make(chan struct{}, 1), mem: map[string]*memory{}}
}

// herd returns the state of the herd, which is at most freshFor old. It takes askLimit, or a turn
// more; the error is that of ctx. The result must not be changed.
func (b *board) herd(ctx context.Context) (*overview.Herd, error) {
	select {
	case b.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	defer func() { <-b.turn }()
	if b.last != nil && time.Since(b.at) < freshFor-50*time.Millisecond { // a ticker is not exact
		return b.last, nil
	}
	limit, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	at := time.Now()
	h := b.look(ctx, limit)
	if h == nil { // who asked has gone: that others did not answer says nothing
		return nil, context.Cause(ctx)
	}
	b.last, b.at = h, at
	return h, nil
}

// look asks everybody, until limit ends. It returns nil where ctx has ended. b.turn is held.
func (b *board) look(ctx, limit context.Context) *overview.Herd {
	now := time.Now()
	seen := overview.Seen{Prefix: b.prefix, Failed: map[string]string{}, Hidden: map[string]string{}, Lost: map[string]time.Time{}}
	own := map[string]bool{}
	for _, s := range b.sources {
		own[s.Name] = true
		status := s.Status()
		status.Edge = s.Name
		if s.History != nil {
			status.History = s.History()
		}
		b.remember(now, &status)
		seen.Statuses = append(seen.Statuses, status)
	}
	server := b.server
	server.Scope = overview.ScopeHerd
	hide := ""
	if b.others != nil {
		reach := b.others.Reach(limit)
		switch {
		case reach.Restricted != "":
			server.Scope, server.ScopeNote, server.ScopeCommand = overview.ScopeEdge, reach.Restricted, reach.Command
			hide = reach.Restricted
			if len(b.sources) == 0 {
				seen.Blind = "this page's server may not ask the edges"
			}
		case reach.Away:
			server.BrokerAway = true
			hide = "the broker is away, so it cannot be asked"
			if len(b.sources) == 0 {
				seen.Blind = "this page's server has no broker"
			}
		default:
			b.askOthers(limit, now, &seen, own, reach.Edges)
			if len(b.sources) == 0 && len(seen.Statuses) == 0 && len(seen.Failed) == 0 {
				seen.Blind = fmt.Sprintf("no edge of the herd %q answers", b.prefix) // and none did before
			}
		}
		server.Scope, server.ScopeNote, server.ScopeCommand = b.walledIn(&seen, server, reach.Command)
	}
	if ctx.Err() != nil {
		return nil
	}
	if hide != "" {
		for name := range b.mem {
			if !own[name] {
				seen.Hidden[name] = hide
			}
		}
		for _, name := range seen.Unanswered() {
			seen.Hidden[name] = hide
		}
	}
	slices.SortFunc(seen.Statuses, func(x, y overview.Status) int {
		return slices.Compare([]string{x.Edge}, []string{y.Edge})
	})
	b.noteSilence(now, &seen)
	h := seen.Herd(now, server)
	h.Events = slices.Clone(b.news)
	h.History = overview.HistoryOf(b.histories())
	return &h
}

// walledIn tells accounts that the broker's answer does not show: neighbours are heard, but none
// can be asked.
func (b *board) walledIn(seen *overview.Seen, server overview.Server, command string) (scope, note, tool string) {
	if server.Scope == overview.ScopeEdge || len(b.sources) == 0 || len(seen.Failed) == 0 || len(seen.Statuses) > len(b.sources) {
		return server.Scope, server.ScopeNote, server.ScopeCommand
	}
	heard := false
	for i := range seen.Statuses {
		for _, l := range seen.Statuses[i].Links {
			_, failed := seen.Failed[l.Neighbour]
			heard = heard || failed && l.Up
		}
	}
	if !heard {
		return server.Scope, server.ScopeNote, server.ScopeCommand
	}
	note = "other edges are there, and cannot be asked from here"
	for name := range seen.Failed {
		seen.Hidden[name] = note
	}
	return overview.ScopeEdge, note, command
}

// askOthers asks all edges that are known and are not this process's own, and then those that
// their answers name.
func (b *board) askOthers(ctx context.Context, now time.Time, seen *overview.Seen, own map[string]bool, known []string) {
	there := slices.Clone(known)
	for name := range b.mem {
		known = append(known, name)
	}
	asked := map[string]bool{}
	for range 2 {
		names := append(known, seen.Unanswered()...)
		slices.Sort(names)
		names = slices.DeleteFunc(slices.Compact(names), func(name string) bool { return own[name] || asked[name] })
		if len(asked)+len(names) > mostEdges {
			names = names[:mostEdges-len(asked)]
		}
		if len(names) == 0 {
			break
		}
		answers := b.askAll(ctx, now, names)
		for i, name := range names {
			asked[name] = true
			b.answered(now, seen, name, answers[i])
		}
	}
	b.forget(seen, there)
}

// forget drops edges that do not answer and that nobody names any more: they left the topology.
func (b *board) forget(seen *overview.Seen, there []string) {
	if len(seen.Statuses) == 0 {
		return
	}
	failed := seen.Failed
	seen.Failed = map[string]string{}
	named := seen.Named()
	for name, why := range failed {
		if _, ok := named[name]; ok || slices.Contains(there, name) {
			seen.Failed[name] = why
		} else {
			delete(b.mem, name)
		}
	}
}

// answer is what became of asking an edge.
type answer struct {
	status *overview.Status
	err    error
}

func (b *board) askAll(ctx context.Context, now time.Time, names []string) []answer {
	answers := make([]answer, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		question := overview.Question{}
		if m := b.mem[name]; m != nil {
			question.EventsAfter = m.events
			question.History = m.step != historyStep(now)
		} else {
			question.History = true
		}
		all.Go(func() { answers[i].status, answers[i].err = b.ask(ctx, name, question) })
	}
	all.Wait()
	return answers
}

// historyStep counts the steps of histories that edges have completed by now, with some time for
// that.
func historyStep(now time.Time) int64 { return now.Add(-2500*time.Millisecond).Unix() / 10 }

func (b *board) ask(ctx context.Context, name string, q overview.Question) (*overview.Status, error) {
	payload, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("write a question: %w", err)
	}
	text, err := b.others.Ask(ctx, name, "status", payload)
	if err != nil {
		return nil, err
	}
	if len(text) > mostAnswer {
		return nil, errors.New("its answer is too long")
	}
	var s overview.Status
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("its answer: %w", err)
	}
	s.Edge = name // whatever it says
	return &s, nil
}

// answered notes an edge's answer, or why there is none. One that is late counts as it last was.
func (b *board) answered(now time.Time, seen *overview.Seen, name string, a answer) {
	m := b.mem[name]
	switch {
	case a.err == nil:
		b.remember(now, a.status)
		seen.Statuses = append(seen.Statuses, *a.status)
	case !errors.Is(a.err, ErrNobody) && m != nil && m.status != nil && m.silent.IsZero() && now.Sub(m.at) < patience:
		seen.Statuses = append(seen.Statuses, *m.status)
	case errors.Is(a.err, ErrNobody):
		seen.Failed[name] = a.err.Error()
	case errors.Is(a.err, context.DeadlineExceeded), errors.Is(a.err, context.Canceled):
		seen.Failed[name] = "no answer"
	default:
		seen.Failed[name] = a.err.Error()
	}
}

// remember keeps what an edge says, and takes its events.
func (b *board) remember(now time.Time, s *overview.Status) {
	m := b.mem[s.Edge]
	if m == nil {
		m = &memory{}
		b.mem[s.Edge] = m
	}
	if m.status != nil && m.status.Epoch != s.Epoch { // what its last run left open
		for i := range b.news {
			if e := &b.news[i]; e.Edge == s.Edge && e.Open {
				e.Open, e.Until = false, s.Started
			}
		}
	}
	if n := len(s.Events); n > 0 {
		b.news = overview.MergeEvents(b.news, s.Events)
		m.events = s.Events[n-1].ID
	}
	if s.History != nil {
		m.history, m.step = s.History, historyStep(now)
	}
	s.Events, s.History = nil, nil
	m.status, m.at = s, now
}

func (b *board) histories() (all []*overview.History) {
	for _, m := range b.mem {
		all = append(all, m.history)
	}
	return all
}

// noteSilence keeps since when edges do not answer, and makes events of it: an edge cannot tell of
// its own end.
func (b *board) noteSilence(now time.Time, seen *overview.Seen) {
	for _, e := range seen.Silent() {
		m := b.mem[e.Name]
		if m == nil || m.status == nil {
			continue // it was never there while somebody looked
		}
		if m.silent.IsZero() {
			m.silent = now
			b.news = overview.MergeEvents(b.news, []overview.Event{{ID: silenceID(e.Name, m), At: now.UTC(), Edge: e.Name,
				Level: "error", Event: "silent", Text: "silent: " + e.Why, Open: true}})
		}
		seen.Lost[e.Name] = m.silent.UTC()
	}
	for i := range seen.Statuses {
		name := seen.Statuses[i].Edge
		m := b.mem[name]
		if m == nil || m.silent.IsZero() {
			continue
		}
		for i := range b.news {
			if e := &b.news[i]; e.ID == silenceID(name, m) {
				e.Open, e.Until = false, now.UTC()
			}
		}
		m.silent = time.Time{}
		b.news = overview.MergeEvents(b.news, []overview.Event{{ID: fmt.Sprintf("%s/back/%d", name, now.UnixNano()), At: now.UTC(), Edge: name,
			Level: "info", Event: "answers again", Text: "answers again"}})
	}
}

func silenceID(name string, m *memory) string {
	return fmt.Sprintf("%s/silent/%d", name, m.silent.UnixNano())
}

// herd is the state of the herd for a request. Where its client has gone it is empty.
func (a *Admin) herd(ctx context.Context) overview.Herd {
	h, err := a.board.herd(ctx)
	if err != nil {
		return overview.Herd{Server: a.board.server}
	}
	return *h
}
