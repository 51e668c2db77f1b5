package edge

import (
	"context"
	"fmt"
	"strings"
	"time"

	"herd/edge/admin"
	"herd/edge/clock"
	"herd/edge/config"
)

// A Clock is an edge's wall clock. Any goroutine may ask it.
type Clock interface {
	// Wall returns what the clock shows, or showed, in Unix nanoseconds, at a moment that
	// time.Now returned. Timers and elapsed times go by moments, so that no step of the wall
	// clock reaches them.
	Wall(moment time.Time) int64
}

// systemClock is the machine's.
type systemClock struct{}

func (systemClock) Wall(moment time.Time) int64 { return moment.UnixNano() }

// wall is what this edge's clock shows at a moment.
func (e *Edge) wall(moment time.Time) int64 { return e.shared.Clock.Wall(moment) }

// retention is what its retention clock shows at a moment: what is past, for all that reads,
// stores or deletes, is past by this one (S4).
func (e *Edge) retention(moment time.Time) int64 {
	return e.clocks.Retain(moment, e.shared.Clock.Wall(moment))
}

const (
	clockEvery = time.Second      // an edge looks at its clocks so often, and when it has heard one
	brokerTold = 30 * time.Second // so long counts what the broker's clock showed, asked for every ten seconds
)

// heardBroker notes what the broker's clock showed at a moment (H8).
func (e *Edge) heardBroker(wall, at time.Time) {
	e.brokerClock.Store(&clock.Reading{Of: "the broker", Wall: wall.UnixNano(), At: at})
	signal(e.clockNews)
}

// heardClocks are the clocks that are heard at a moment: the neighbours' and the broker's.
func (e *Edge) heardClocks(now time.Time) (heard []clock.Reading) {
	for _, n := range e.links() {
		if wall, at, ok := n.link.Clock(now); ok {
			heard = append(heard, clock.Reading{Of: n.name, Wall: wall, At: at})
		}
	}
	if b := e.brokerClock.Load(); b != nil && now.Sub(b.At) < brokerTold {
		heard = append(heard, *b)
	}
	return heard
}

// otherClocks is how many other clocks there are: the neighbours', and the broker's where the
// edge has a journal, or may have one.
func (e *Edge) otherClocks() int {
	n := len(e.cfg.Topology.Neighbours(e.cfg.Edge))
	if e.cfg.Journal == config.JournalOff || e.dialled() && isClosed(e.journal.None()) {
		return n
	}
	return n + 1
}

// watchClocks looks at the clocks until ctx ends, and logs what is wrong with them and what
// is right again.
func (e *Edge) watchClocks(ctx context.Context) error {
	tick := time.NewTicker(clockEvery)
	defer tick.Stop()
	for {
		before, now := e.clocks.State(), time.Now()
		e.tellClocks(before, e.clocks.Look(now, e.wall(now), e.heardClocks(now), e.otherClocks()))
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-e.clockNews:
		}
	}
}

func (e *Edge) tellClocks(was, is clock.State) {
	switch {
	case is.InDoubt && !was.InDoubt:
		e.log.Warn("clock in doubt: it differs from most others", "heard", is.Heard, "differ", is.Differ, "most", is.Of, "difference", is.By)
	case was.InDoubt && !is.InDoubt:
		e.log.Info("clock no longer in doubt", "heard", is.Heard, "differ", is.Differ)
	}
	if e.cfg.Retain == 0 {
		return
	}
	switch {
	case is.Known && !was.Known:
		e.log.Info("what is past can be told", "heard", is.Heard)
		signal(e.pastKnown) // a journal may have brought much that is
	case is.Parted && !was.Parted:
		e.log.Warn("the retention clock has parted from the wall clock", "behind", is.Behind, "heard", is.Heard, "differ", is.Differ)
	case was.Parted && !is.Parted:
		e.log.Info("the retention clock agrees with the wall clock again", "heard", is.Heard)
	}
}

// clockDoubt says why the edge is not ready where its clock is in doubt (H8); else "". The
// client port stays open and nothing is refused.
func (e *Edge) clockDoubt() (why string) {
	s := e.clocks.State()
	if !s.InDoubt {
		return ""
	}
	return fmt.Sprintf("the clock is in doubt: it differs by over a minute from %d of the %d clocks heard (%s)", s.Differ, s.Heard, whose(s))
}

// clockNote says what else is not as usual with the clocks, which makes no edge unready; "":
// nothing is.
func (e *Edge) clockNote() string {
	var notes []string
	s := e.clocks.State()
	switch {
	case s.InDoubt || s.Differ == 0:
	case s.Heard == 1:
		notes = append(notes, fmt.Sprintf("differs by over a minute from the only other one heard (%s)", whose(s)))
	default:
		notes = append(notes, fmt.Sprintf("differs by over a minute from %d of the %d others heard (%s)", s.Differ, s.Heard, whose(s)))
	}
	switch {
	case e.cfg.Retain == 0:
	case !s.Known:
		notes = append(notes, "nothing is past until another clock is heard, or for an hour")
	case s.Parted:
		notes = append(notes, fmt.Sprintf("what is past is told without it, %v behind it", s.Behind.Round(time.Second)))
	}
	return strings.Join(notes, "; ")
}

// clockMetrics puts the clocks into m.
func (e *Edge) clockMetrics(m *admin.Metrics) {
	s := e.clocks.State()
	m.ClockInDoubt = s.InDoubt
	if e.cfg.Retain == 0 {
		return
	}
	m.RetentionParts = &s.Parts
	if s.Known {
		seconds := -s.Behind.Seconds() + 0 // a sum, so that zero is +0
		m.RetentionClockSeconds = &seconds
	}
}

// whose words the clock that differs most, seen from this edge's.
func whose(s clock.State) string {
	by := s.By.Round(time.Second)
	if by < 0 {
		return fmt.Sprintf("%s's is %v behind", s.Of, -by)
	}
	return fmt.Sprintf("%s's is %v ahead", s.Of, by)
}
