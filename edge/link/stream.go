package link

import (
	"errors"
	"time"
)

// A receiver is the receiving half: what we hold of the neighbour's streams, and the acks that
// are due for it (H5, H6).
type receiver struct {
	// The streams of the last two runs of the neighbour. With two, neither a late message of a
	// dead run nor two live runs make us ask for everything again (H6). The zero stream is none.
	streams [2]stream
	taken   time.Time // when a stream last replaced another

	forgot   time.Time // when a run was last assumed to have gone back (H9)
	refusals gate

	// H9: lines too far ahead of our clock are asked for again, but not too often.
	asked  time.Time     // when lines were last asked for again
	every  time.Duration // the least time from asked until the next time
	wall   int64         // what our clock showed at looked, Unix nanoseconds
	looked time.Time     // when askAgain was last called
	late   gate          // for the log of lines put off
}

// A stream is what we hold of one run of the neighbour.
type stream struct {
	epoch   string
	through uint64    // we hold the stream through this revision
	head    uint64    // the highest Head of its messages
	heard   time.Time // when its last message came
	gone    bool      // the run said good-bye and was not heard since
	live    bool      // it has caught up since a silence: its lines are new
	bad     time.Time // since when all its messages were dropped (H9); zero: the last one was not

	// Lines that are put off (H9).
	putOff   bool
	putAfter uint64 // the lowest After of a message with such a line
	due      int64  // when the first of them may be merged, by our clock in Unix nanoseconds

	ackNow  bool      // an ack is due at once
	rewind  bool      // … which asks for what is missing
	unacked int       // messages since the last ack
	ackBy   time.Time // when the ack for them is due
}

// find returns the stream of a run, or nil if it is not one of the last two.
func (r *receiver) find(epoch string) *stream {
	for i := range r.streams {
		if r.streams[i].epoch == epoch {
			return &r.streams[i]
		}
	}
	return nil
}

// through returns the revision through which we hold the stream of a run.
func (r *receiver) through(epoch string) uint64 {
	if s := r.find(epoch); s != nil {
		return s.through
	}
	return 0
}

// take returns the stream of a run. A new run replaces the one that has been silent for longer,
// at most once per heartbeat. If it may not yet, take returns nil.
func (r *receiver) take(now time.Time, epoch string, heartbeat time.Duration) *stream {
	if s := r.find(epoch); s != nil {
		return s
	}
	s := &r.streams[0]
	if r.streams[1].heard.Before(s.heard) {
		s = &r.streams[1]
	}
	if s.epoch != "" {
		if now.Sub(r.taken) < heartbeat {
			return nil
		}
		r.taken = now
	}
	*s = stream{epoch: epoch}
	return s
}

// patience returns how long a run of the neighbour that is silent or sends only bad messages is
// preferred to another run. It is three of our heartbeats, because what the run says of its own
// heartbeat may be wrong too.
func (l *Link) patience() time.Duration { return missed * l.cfg.Heartbeat }

// present returns the stream of the run that counts if two are heard. That is the later run,
// unless it has said good-bye, or had been silent for patience when the earlier one was last
// heard (H6).
func (r *receiver) present(patience time.Duration) *stream {
	later, earlier := &r.streams[0], &r.streams[1]
	if later.epoch < earlier.epoch {
		later, earlier = earlier, later
	}
	if earlier.epoch != "" && earlier.heard.After(later.heard) && (later.gone || earlier.heard.Sub(later.heard) >= patience) {
		return earlier
	}
	return later
}

// catchUp notes that the neighbour was silent, so the lines that come now may be old.
func (r *receiver) catchUp() {
	for i := range r.streams {
		r.streams[i].live = false
	}
}

var (
	errOrder    = errors.New("revisions out of order")
	errHeadBack = errors.New("head went back")
)

// orderly checks the order of the revisions of a message (H9).
func orderly(m *Message) error {
	if m.After > m.Through || m.Through > m.Head {
		return errOrder
	}
	return nil
}

// follow checks a message's head against earlier heads (H9). If the message must be dropped, its
// revisions no longer count as held: if it was genuine, they are missing.
func (s *stream) follow(m *Message) error {
	if m.Head < s.head {
		s.through = min(s.through, m.After)
		return errHeadBack
	}
	s.head, s.bad = m.Head, time.Time{}
	return nil
}

// drop notes that a message of the stream had to be dropped. If all messages of three heartbeats
// had to be, the run is assumed to have gone back: we hold nothing of its stream and ask for all
// of it. That happens at most once a minute (H9).
func (r *receiver) drop(now time.Time, s *stream, patience time.Duration) {
	if s.bad.IsZero() {
		s.bad = now
	}
	if now.Sub(s.bad) < patience || now.Sub(r.forgot) < leastEvery {
		return
	}
	r.forgot = now
	*s = stream{epoch: s.epoch, heard: s.heard, ackNow: true, rewind: true}
}

// later notes that lines of a message after a revision are put off. due is when the first of them
// may be merged, by our clock.
func (s *stream) later(after uint64, due int64) {
	if s.putOff {
		after, due = min(after, s.putAfter), min(due, s.due)
	}
	s.putOff, s.putAfter, s.due = true, after, due
}

const (
	leastEvery = time.Minute // the least time between two requests for lines again (H9)
	mostEvery  = time.Hour   // it doubles with each request in a row, up to this
	inARow     = 4           // a row ends after this many times that time without a request
)

// askAgain asks again for lines that were put off, once one of them may be merged: its time has
// come, or our clock was corrected (H9). It lowers through to before these lines, so that the
// neighbour sends them again. If two runs are heard, it does so for both. A run that is silent
// while another is heard is not asked.
func (l *Link) askAgain(now time.Time) {
	wall := l.cfg.Wall(now)
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &l.receive
	if stepped := time.Duration(wall-r.wall) - now.Sub(r.looked); stepped.Abs() > clockLimit && r.every > 0 {
		r.every = leastEvery
	}
	r.wall, r.looked = wall, now
	if now.Sub(r.asked) < r.every {
		return
	}
	due, present := false, r.present(l.patience())
	for i := range r.streams {
		s := &r.streams[i]
		if !s.putOff || wall < s.due || s != present && now.Sub(s.heard) >= l.patience() {
			continue
		}
		due = true
		s.through = min(s.through, s.putAfter)
		s.putOff, s.live = false, false
		s.ackNow, s.rewind = true, true
	}
	switch {
	case !due:
		return
	case now.Sub(r.asked) < inARow*r.every:
		r.every = min(2*r.every, mostEvery)
	default:
		r.every = leastEvery
	}
	r.asked = now
}
