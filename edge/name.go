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

// naming decides which run of a name lives (H10). It does nothing by itself: step is told
// what happened and what time it is.
type naming struct {
	epoch   string
	ours    bool      // the name is this run's
	found   bool      // another run answered the first question
	askAt   time.Time // when to ask once more; zero: not
	claimAt time.Time // when to claim next; zero: not before it is ours
}

// A nameEvent is what happened: one of its fields is set, or none where only time went by.
type nameEvent struct {
	connected bool      // to the broker, anew
	answer    *nameSaid // to the question that the last step asked
	claim     string    // another run claims the name: its epoch
}

// nameSaid is what became of the question who has the name.
type nameSaid struct {
	away  bool   // nobody could be asked
	taken bool   // another run has it
	epoch string // that run's
	err   error  // why its epoch is not known
}

func (s *nameSaid) String() string {
	if s.err != nil {
		return fmt.Sprintf("unknown (%v)", s.err)
	}
	return s.epoch
}

// A nameStep is what to do now, in this order, and when to step again at the latest.
type nameStep struct {
	err     error // the run ends
	take    bool  // the name: answer those who ask for it, and listen to neighbours
	claim   bool
	settled bool   // the edge may speak, or speak again
	ask     bool   // who has the name
	found   string // who has it: it is asked once more
	next    time.Time
}

// step takes one event.
func (n *naming) step(now time.Time, ev nameEvent) (do nameStep) {
	switch {
	case ev.claim > n.epoch:
		do.err = fmt.Errorf("%w: epoch %s, later than our own %s", errNameTaken, ev.claim, n.epoch)
		return do
	case ev.claim != "":
		do.claim = n.ours && ev.claim < n.epoch // the earlier run ends when it reads ours
	case ev.connected && n.ours:
		do.claim, do.settled = true, true
	case ev.connected && n.askAt.IsZero():
		do.ask = true
	case ev.answer != nil:
		do = n.answered(now, ev.answer)
	}
	if !n.askAt.IsZero() && !now.Before(n.askAt) {
		n.askAt, do.ask = time.Time{}, true
	}
	if n.ours && !now.Before(n.claimAt) {
		do.claim = true // one that is lost is said again ten seconds later
	}
	if do.claim {
		n.claimAt = now.Add(claimEvery)
	}
	do.next = n.claimAt
	if !n.ours {
		do.next = n.askAt
	}
	return do
}

// answered is step for the answer to a question.
func (n *naming) answered(now time.Time, said *nameSaid) (do nameStep) {
	switch {
	case said.away: // the next connect asks anew
		n.found = false
	case !said.taken:
		n.ours = true
		do.take, do.claim, do.settled = true, true, true
	case n.found:
		do.err = fmt.Errorf("%w: epoch %s", errNameTaken, said)
	default: // it may just be stopping
		n.found, n.askAt = true, now.Add(claimEvery)
		do.found = said.String()
	}
	return do
}

// names is what keeping a name needs of the broker.
type names interface {
	// ask asks who else has the name.
	ask(ctx context.Context) (epoch string, answered bool, err error)
	claim() error
}

// keepName asks for the edge's name on the first connect, claims it, lets take
// settle in, and from then on claims it on every connect and every ten seconds, until
// ctx ends or another run has the better claim: a later one (H10). settled is
// called after each claim on a connect. It is one goroutine's work.
func keepName(ctx context.Context, epoch string, n names, log *slog.Logger, connected <-chan struct{}, claims <-chan string, take func() error, settled func()) error {
	state := naming{epoch: epoch}
	again := time.NewTimer(0)
	defer again.Stop()
	for ev := (nameEvent{}); ; {
		do := state.step(time.Now(), ev)
		ev = nameEvent{}
		if do.err != nil {
			return do.err
		}
		if do.found != "" {
			log.Warn("another run has this edge's name; asking once more", "epoch", do.found, "in", claimEvery)
		}
		if do.take {
			if err := take(); err != nil {
				return err
			}
		}
		if do.claim {
			_ = n.claim() // see naming: it is said again
		}
		if do.settled {
			settled()
		}
		if do.ask {
			ev.answer = askName(ctx, n)
			continue
		}
		var due <-chan time.Time
		if !do.next.IsZero() {
			again.Reset(time.Until(do.next))
			due = again.C
		}
		select {
		case <-ctx.Done():
			return nil
		case ev.claim = <-claims:
		case <-connected:
			ev.connected = true
		case <-due:
		}
	}
}

// askName asks who else has the name. An answer that says no epoch is one too.
func askName(ctx context.Context, n names) *nameSaid {
	asking, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	epoch, answered, err := n.ask(asking)
	switch {
	case ctx.Err() != nil || errors.Is(err, broker.ErrNotConnected):
		return &nameSaid{away: true}
	case err != nil:
		return &nameSaid{taken: true, err: err}
	}
	return &nameSaid{taken: answered, epoch: epoch}
}

// regainName is for a run whose journal has another owner (D5): it returns nil when this
// run has the name, and errNameTaken where a later one does. One that is earlier ends
// when it reads this run's claim, and is waited for. A broker that is away is waited for too.
func (e *Edge) regainName(ctx context.Context) error {
	return regainName(ctx, e.epoch, e, e.log)
}

func regainName(ctx context.Context, epoch string, n names, log *slog.Logger) error {
	for {
		said := askName(ctx, n)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("regain the name: %w", ctx.Err())
		case said.away:
		case !said.taken:
			return nil
		case said.epoch > epoch:
			return fmt.Errorf("%w: epoch %s, later than our own %s", errNameTaken, said.epoch, epoch)
		default:
			log.Warn("another run has this edge's name; it is told to end", "epoch", said.String())
			_ = n.claim() // it is said again
		}
		select {
		case <-ctx.Done():
		case <-time.After(askLimit):
		}
	}
}
