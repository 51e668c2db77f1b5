package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"herd/broker"
)

// catchUp returns when this edge holds what its journal and its neighbours hold (D2, H7),
// as far as those can be waited for. So a restart does not answer "?" for clients that the
// herd knows. It drives joining, which decides; neighbours are asked beside it.
func (e *Edge) catchUp(ctx context.Context) {
	start := time.Now()
	j := newJoining(&e.cfg)
	named := (<-chan struct{})(e.named)
	var loaded, none <-chan struct{}
	if e.journal != nil {
		loaded, none = e.journal.Loaded(), e.journal.None()
	}
	again := time.NewTimer(0)
	defer again.Stop()
	for ctx.Err() == nil {
		s := j.step(time.Now(), e.seen())
		e.waits.Store(&s.why)
		e.setLevel(s.level)
		switch {
		case s.short:
			e.log.Warn("joined without all that the neighbours hold", "level", s.level, "why", s.why, "took", time.Since(start))
		case s.open:
			e.log.Info("joined", "neighbours", len(e.neighbours), "took", time.Since(start))
		}
		if s.open {
			return
		}
		var due <-chan time.Time
		if !s.next.IsZero() {
			again.Reset(time.Until(s.next))
			due = again.C
		}
		select {
		case <-ctx.Done():
		case <-e.news:
		case <-due:
		case <-named:
			named = nil
		case <-loaded:
			loaded = nil
		case <-none:
			none = nil
		}
	}
}

// seen is what joining decides by.
func (e *Edge) seen() *joinSeen {
	clients, _, _ := e.table.Stats()
	s := &joinSeen{
		broker: e.conn.Connected(), named: isClosed(e.named), holds: clients > 0,
		journal: e.journalOver(), entries: e.loading.Load(),
		neighbours: make([]neighbourSeen, len(e.neighbours)),
	}
	for i, n := range e.neighbours {
		s.neighbours[i] = neighbourSeen{Standing: n.link.Standing(), nobody: n.nobody.Load()}
	}
	return s
}

// setLevel tells all neighbours how far this edge has joined (H7).
func (e *Edge) setLevel(level int) {
	e.level.Store(int64(level))
	for _, n := range e.neighbours {
		n.link.SetLevel(level)
	}
}

// settled tells them when the client port has been open for a while (H7).
func (e *Edge) settled(ctx context.Context) error {
	select {
	case <-time.After(settledAfter):
		e.setLevel(broker.LevelSettled)
	case <-ctx.Done():
	}
	return nil
}

// whyJoining says how far the edge has joined and what it waits for; "" once its client
// port is open. It is bounded.
func (e *Edge) whyJoining() string {
	if e.isReady() {
		return ""
	}
	why := fmt.Sprintf("joining: level %d of %d", e.level.Load(), len(e.cfg.Topology.Edges()))
	if waits := e.waits.Load(); waits != nil && *waits != "" {
		why += ", " + *waits
	}
	return why
}

// askNeighbours asks all neighbours at once how far they are and what they hold, when the
// name is this run's (H7). An edge that is open by then, having started without a broker,
// asks all the same: so it hears of another configuration.
func (e *Edge) askNeighbours(ctx context.Context) error {
	select {
	case <-e.named:
	case <-ctx.Done():
		return nil
	}
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, n := range e.neighbours {
		asking.Go(func() { e.askNeighbour(ctx, n) })
	}
	return nil
}

// askNeighbour asks until there is an answer, or nobody answers for it, or it was silent
// for long enough.
func (e *Edge) askNeighbour(ctx context.Context, n *neighbour) {
	for begun := time.Now(); ctx.Err() == nil; {
		asked := time.Now()
		asking, cancel := context.WithTimeout(ctx, askLimit)
		j, err := n.path.AskJoin(asking, e.configHash)
		cancel()
		switch {
		case err == nil:
			now := time.Now()
			n.compareConfig(now, e.configHash, j.Config)
			n.link.Told(now, asked, j.Epoch, j.Level, j.Head)
			signal(e.news)
			return
		case ctx.Err() != nil:
			return
		case errors.Is(err, broker.ErrNotConnected):
			if e.conn.Wait(ctx) != nil {
				return
			}
			begun = time.Now()
		case errors.Is(err, broker.ErrNobody):
			n.nobody.Store(true)
			signal(e.news)
			return
		default: // no answer is not nobody
			e.log.Info("no answer to join", "neighbour", n.name, "error", err)
			if time.Since(begun) >= askFor(e.cfg.Heartbeat) {
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Until(asked.Add(e.cfg.Heartbeat))):
			}
		}
	}
}

// answerJoin answers a neighbour that starts (H7).
func (e *Edge) answerJoin(n *neighbour, config string) broker.Join {
	n.compareConfig(time.Now(), e.configHash, config)
	level := int(e.level.Load()) // first: all that it stands for is in the head
	return broker.Join{Epoch: e.epoch, Level: level, Head: e.table.Head(), Config: e.configHash}
}

// tellConfigEvery is how often at most a neighbour's questions may have it logged that it is
// configured otherwise, or not any more.
const tellConfigEvery = 10 * time.Second

// compareConfig notes whether a neighbour is configured otherwise, which is
// normal while a change rolls through the herd (H7).
func (n *neighbour) compareConfig(now time.Time, ours, theirs string) {
	differs := ours != theirs
	n.differs.Store(differs)
	n.told.Lock()
	tell := differs != n.told.differs && now.Sub(n.told.at) >= tellConfigEvery
	if tell {
		n.told.differs, n.told.at = differs, now
	}
	n.told.Unlock()
	switch {
	case !tell:
	case differs:
		n.log.Warn("neighbour is configured otherwise: topology, HERD_RETAIN, HERD_MAX_CLIENTS or HERD_MAX_TABLE", slog.String("ours", ours), slog.String("theirs", theirs))
	default:
		n.log.Info("neighbour is configured as we are again")
	}
}

// awaitPlaces waits until the places are read, so that nobody is told of fewer than there
// are because the edge is young; but no longer than HERD_JOIN_TIMEOUT from the start.
// Positions do not wait for the map of a country: until it is read, the next provider
// answers (C16).
func (e *Edge) awaitPlaces(ctx context.Context) {
	limit := time.NewTimer(time.Until(e.start.Add(e.cfg.JoinTimeout)))
	defer limit.Stop()
	waits := "waits for places"
	e.waits.Store(&waits)
	select {
	case <-e.finder.Loaded():
	case <-ctx.Done():
	case <-limit.C:
		select {
		case <-e.finder.Loaded(): // joining took that long
		default:
			e.log.Warn("clients are served before the places are loaded", "waited", e.cfg.JoinTimeout)
		}
	}
}
