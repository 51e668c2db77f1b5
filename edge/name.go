package edge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"herd/broker"
)

// claimEvery is how often a run says that it has its name, and how long one that
// finds it taken waits before it asks again (H10).
const claimEvery = 10 * time.Second

// askLimit is how long an answer may take: to who has a name, and to a join (H7).
const askLimit = time.Second

// errNameTaken ends a run whose name another run has (H10).
var errNameTaken = errors.New("another run has this edge's name")

// names is what keeping a name needs of the broker.
type names interface {
	ask(ctx context.Context) (epoch string, answered bool, err error)
	claim() error
}

// keepName asks for the edge's name on the first connect, claims it, lets take
// settle in, and from then on claims it on every connect and every ten seconds, until
// ctx ends or another run has the better claim: a later one (H10). settled is
// called after each claim on a connect. It is one goroutine's work.
func keepName(ctx context.Context, epoch string, n names, log *slog.Logger, connected <-chan struct{}, claims <-chan string, take func() error, settled func()) error {
	tick := time.NewTicker(claimEvery)
	defer tick.Stop()
	taken := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case other := <-claims:
			if other > epoch {
				return fmt.Errorf("%w: epoch %s, later than our own %s", errNameTaken, other, epoch)
			}
			if other < epoch {
				_ = n.claim() // one that is lost is said again within ten seconds
			}
		case <-tick.C:
			if taken {
				_ = n.claim()
			}
		case <-connected:
			if !taken {
				free, err := askTwice(ctx, n, log)
				if err != nil {
					return err
				}
				if !free { // the broker went away meanwhile
					continue
				}
				if err := take(); err != nil {
					return err
				}
				taken = true
			}
			_ = n.claim()
			settled()
		}
	}
}

// askTwice asks whether another run has the name, and if one does, once more
// after ten seconds: it may just be stopping. free is false where nobody could
// be asked, because the broker is away. An answer that says no epoch is one too.
func askTwice(ctx context.Context, n names, log *slog.Logger) (free bool, err error) {
	for first := true; ; first = false {
		asking, cancel := context.WithTimeout(ctx, askLimit)
		epoch, answered, err := n.ask(asking)
		cancel()
		switch {
		case ctx.Err() != nil || errors.Is(err, broker.ErrNotConnected):
			return false, nil
		case err != nil:
			epoch = fmt.Sprintf("unknown (%v)", err)
		case !answered:
			return true, nil
		}
		if !first {
			return false, fmt.Errorf("%w: epoch %s", errNameTaken, epoch)
		}
		log.Warn("another run has this edge's name; asking once more", "epoch", epoch, "in", claimEvery)
		select {
		case <-ctx.Done():
			return false, nil
		case <-time.After(claimEvery):
		}
	}
}
