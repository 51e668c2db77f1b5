package edge

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"herd/broker"
)

// joinLimit is how long an edge waits for its neighbours in all (H7).
const joinLimit = 30 * time.Second

// awaitName waits until the run has its name, or until there was no broker to ask for
// HERD_JOIN_TIMEOUT (H7): one that starts beside the edge may take a while. With
// HERD_JOURNAL=on it waits for the broker (D4).
func (e *Edge) awaitName(ctx context.Context) (named bool) {
	away := time.NewTimer(e.cfg.JoinTimeout)
	defer away.Stop()
	for {
		select {
		case <-ctx.Done():
			return false
		case <-e.named:
			return true
		case <-away.C:
			if !e.conn.Connected() && e.cfg.Journal != journalOn {
				return false
			}
			// The name is being asked for; that ends by itself, unless the broker goes.
			away.Reset(e.cfg.JoinTimeout)
		}
	}
}

// catchUp returns when this edge holds what its journal and its neighbours hold (D2, H7),
// as far as those can be waited for. So a restart does not answer "?" for clients that the
// herd knows.
//
// The links are held when it begins and not when it returns. First those to neighbours that
// have not joined are let go, and then, when this edge has what the others have, theirs;
// the journal is loaded beside that: it may take as long as JetStream is away (D4), and
// the links have to hand on meanwhile what others say.
func (e *Edge) catchUp(ctx context.Context) {
	defer e.release(nil)
	if !e.awaitName(ctx) {
		return
	}
	loaded := make(chan struct{})
	go func() {
		defer close(loaded)
		e.awaitJournal(ctx)
	}()
	heads, settled := e.askHeads(ctx)
	if settled {
		e.release(heads)
		e.join(ctx, heads)
	}
	e.release(nil)
	late := false // the journal
	select {
	case <-loaded:
	default:
		late = e.journal != nil
		<-loaded
	}
	if settled && !late || ctx.Err() != nil {
		return
	}
	// While a journal was waited for much may have happened; and who starts beside this
	// edge has had nothing to tell of before its own was loaded.
	if e.journal != nil {
		heads, _ = e.askHeads(ctx)
	}
	e.join(ctx, heads)
}

// join waits until this edge holds what its neighbours held when it asked them,
// or until nothing has come for HERD_JOIN_TIMEOUT, or for half a minute (H7).
func (e *Edge) join(ctx context.Context, heads map[*neighbour]broker.Join) {
	start := time.Now()
	if len(heads) == 0 {
		e.log.Info("joined", "neighbours", 0)
		return
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	moved, last := start, uint64(0)
	for {
		missing, through := 0, uint64(0)
		for n, j := range heads {
			epoch, held := n.link.Held()
			switch epoch {
			case j.Epoch:
			case "":
				held = 0 // nothing came yet
			default:
				delete(heads, n) // the run that told of this head is no more
				continue
			}
			through += held
			if held < j.Head {
				missing++
			}
		}
		now := time.Now()
		if through > last {
			moved, last = now, through
		}
		switch {
		case missing == 0:
			e.log.Info("joined", "neighbours", len(heads), "took", now.Sub(start))
			return
		case now.Sub(moved) >= e.cfg.JoinTimeout, now.Sub(start) >= joinLimit:
			e.log.Warn("joined without all that the neighbours hold", "neighbours", len(heads), "missing", missing, "took", now.Sub(start))
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// askHeads asks all neighbours at once. Those that are themselves still joining
// count only if there is no other (H7).
func (e *Edge) askHeads(ctx context.Context) (heads map[*neighbour]broker.Join, settled bool) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	answers := make([]*broker.Join, len(e.neighbours))
	var asking errgroup.Group
	for i, n := range e.neighbours {
		asking.Go(func() error {
			j, err := n.path.AskJoin(ctx, e.configHash)
			if err == nil {
				n.compareConfig(e.configHash, j.Config)
				answers[i] = &j
			} else if !errors.Is(err, broker.ErrNobody) {
				e.log.Info("no answer to join", "neighbour", n.name, "error", err)
			}
			return nil
		})
	}
	_ = asking.Wait()
	heads, joining := map[*neighbour]broker.Join{}, map[*neighbour]broker.Join{}
	for i, j := range answers {
		switch {
		case j == nil:
		case j.Joining:
			joining[e.neighbours[i]] = *j
		default:
			heads[e.neighbours[i]] = *j
		}
	}
	if len(heads) == 0 {
		return joining, false
	}
	return heads, true
}

// release lets the links say what they have (link.Hold), but for those to these.
func (e *Edge) release(but map[*neighbour]broker.Join) {
	for _, n := range e.neighbours {
		if _, held := but[n]; !held {
			n.link.Hold(false)
		}
	}
}

// answerJoin answers a neighbour that starts (H7).
func (e *Edge) answerJoin(n *neighbour, config string) broker.Join {
	n.compareConfig(e.configHash, config)
	return broker.Join{Epoch: e.epoch, Head: e.table.Head(), Joining: !e.isReady(), Config: e.configHash}
}

// compareConfig notes whether a neighbour is configured otherwise, which is
// normal while a change rolls through the herd (H7).
func (n *neighbour) compareConfig(ours, theirs string) {
	if differs := ours != theirs; n.differs.Swap(differs) != differs {
		if differs {
			n.log.Warn("neighbour has another topology or retention", slog.String("ours", ours), slog.String("theirs", theirs))
		} else {
			n.log.Info("neighbour has our topology and retention again")
		}
	}
}

// awaitPlaces waits until the places are read, so that nobody is told of fewer than there
// are because the edge is young; but no longer than HERD_JOIN_TIMEOUT from the start.
// Positions do not wait for the map of a country: until it is read, the next provider
// answers (C16).
func (e *Edge) awaitPlaces(ctx context.Context) {
	limit := time.NewTimer(time.Until(e.start.Add(e.cfg.JoinTimeout)))
	defer limit.Stop()
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
