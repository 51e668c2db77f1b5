package edge

import (
	"context"
	"log/slog"
	"time"
)

// lifeline is what watching over silence needs of the broker.
type lifeline interface {
	Connected() bool
	Alive(context.Context) error
	Reconnect() error
}

// watchSilence asks the broker for a sign of life where no neighbour is heard, whenever one has
// fallen silent and every three heartbeats, and reconnects without one (H8). A lone edge,
// whose journal is at the broker, has no link that tells, and asks all the time; with
// more patience, since nothing is amiss.
func watchSilence(ctx context.Context, conn lifeline, log *slog.Logger, heartbeat time.Duration, lone bool, anyHeard func() bool, silent <-chan struct{}) error {
	limit := askLimit
	if lone {
		limit = 3 * askLimit
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-silent:
		case <-time.After(silentAfter * heartbeat):
		}
		if !conn.Connected() || anyHeard() {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, limit)
		err := conn.Alive(asking)
		cancel()
		if err != nil && ctx.Err() == nil {
			log.Warn("no neighbour heard, and no sign of life from the broker", "error", err)
			if err := conn.Reconnect(); err != nil {
				log.Warn("reconnect to the broker", "error", err)
			}
		}
	}
}

// anyLinkHeard says whether the broker brings anything of any neighbour: a link that works in
// one direction is not up, and no sign of a broker that is away.
func (e *Edge) anyLinkHeard() bool {
	for _, n := range e.neighbours {
		if in, out := n.link.Directions(); in || out {
			return true
		}
	}
	return false
}
