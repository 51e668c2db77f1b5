package link

import "time"

// A level says how far an edge has joined (H7). It counts from 0 while the edge joins.
const (
	LevelOpen    = 1 << 30       // the client port is open
	LevelSettled = LevelOpen + 1 // it has been open for a while
)

// A told is what a run of the neighbour reported of how far it has joined (H7).
type told struct {
	epoch string // of the run; "": no report yet, or the run said good-bye
	level int    // the highest that it reported
	head  uint64 // the head of its stream when it first reported that level
	at    time.Time
}

// A Standing is how far the neighbour has joined, and how much of its stream is here (H7).
type Standing struct {
	Epoch   string    // of the run that reported; "": none has, or it said good-bye
	Level   int       // the highest that it reported
	Head    uint64    // the head of its stream when it first reported that level
	At      time.Time // when it last reported
	Through uint64    // this edge holds that run's stream through this revision
	Up      bool      // the neighbour is heard (H8)
}

// Standing returns the neighbour's standing.
func (l *Link) Standing() Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Standing{Epoch: l.told.epoch, Level: l.told.level, Head: l.told.head, At: l.told.at, Through: l.receive.through(l.told.epoch), Up: l.health.in.up}
}

// SetLevel sets how far this edge has joined. If the level rises, a heartbeat reports it to the
// neighbour at once (H7).
func (l *Link) SetLevel(level int) {
	l.mu.Lock()
	rose := level > l.level
	if rose {
		l.level, l.send.beatNow = level, true
	}
	l.mu.Unlock()
	if rose {
		l.wake()
	}
}

// Told handles the neighbour's answer to a join request. now and asked are what time.Now returned
// when the answer came and when the request was sent. The answer is ignored if a heartbeat of
// another run came since.
func (l *Link) Told(now, asked time.Time, epoch string, level int, head uint64) {
	l.mu.Lock()
	if l.told.epoch == epoch || l.told.at.Before(asked) {
		l.tell(now, epoch, level, head)
	}
	l.mu.Unlock()
	l.wake()
}

// tell notes a report of the neighbour. A level keeps the head that came with it first, because
// later changes of the stream are not part of it. l.mu is held.
func (l *Link) tell(now time.Time, epoch string, level int, head uint64) {
	t := &l.told
	if t.epoch != epoch || level > t.level {
		t.epoch, t.level, t.head = epoch, level, head
	}
	t.at = now
}

// neighbourJoins reports whether the neighbour is known to be joining. It then waits for our
// head, so lines do not wait to collect. l.mu is held.
func (l *Link) neighbourJoins() bool { return l.told.epoch != "" && l.told.level < LevelOpen }

// pauseLimit is how long a link may pause its lines. An edge may wait longer than that for its
// journal, and other edges would then wait for the lines that it has to pass on (D4).
const pauseLimit = 30 * time.Second

// paused returns until when the link pauses its lines, or the zero time if it does not.
// Heartbeats and acks are never paused. A joining edge holds mostly lines that the open edges
// have sent it or are about to send, and would send these back for nothing (H4, H7). Only when
// it holds what a neighbour held does it know what that neighbour lacks. Lines to a neighbour
// that is joining too are not paused. l.mu is held.
func (l *Link) paused(now time.Time) (until time.Time) {
	t := &l.told
	switch {
	case l.level >= LevelOpen || l.draining:
	case l.neighbourJoins():
	case t.epoch != "" && t.head <= l.receive.through(t.epoch):
	default:
		if until = l.opened.Add(pauseLimit); now.Before(until) {
			return until
		}
	}
	return time.Time{}
}
