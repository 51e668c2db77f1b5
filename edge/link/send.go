package link

import (
	"time"

	"herd/edge/position"
)

// A sender is the sending half: a cursor into the table's order of changes, and the messages
// that are not acknowledged yet (H3–H6).
type sender struct {
	to      string   // the neighbour's epoch, from its acks (H4)
	known   bool     // that run has acknowledged this epoch of ours
	acked   uint64   // that run holds our stream through this revision
	cursor  uint64   // sent through this revision: the After of the next message
	read    uint64   // read through this one; ahead of cursor by what the neighbour held already
	sent    uint64   // the highest value that cursor ever had
	flights []flight // messages not yet acknowledged, oldest first

	lastBeat   time.Time // when the last heartbeat was sent (H8)
	beatNow    bool      // a heartbeat is due at once
	wentBack   time.Time // when an ack last moved the cursor back
	anew       bool      // the cursor went back: what the hand took may not have arrived
	lost       bool      // that run took back what it had acknowledged: it may hold nothing that it taught (H4)
	again      bool      // one message may be sent although acks are missing
	failed     bool      // a send failed; wait for the next heartbeat or reconnect
	roundTrip  time.Duration
	pinged     time.Time // when a heartbeat was sent with no message unacknowledged; zero: not
	skippedOne time.Time // since when read is ahead of cursor; zero: it is not

	long gate // for the log of lines that are too long
}

type flight struct {
	through uint64
	at      time.Time
}

// back moves the cursor back to the last ack, as if nothing had been sent since (H6). All changes
// up to now are then sent without gaps (H5).
func (s *sender) back() {
	s.cursor, s.read = s.acked, s.acked
	s.flights = s.flights[:0]
	s.skippedOne = time.Time{}
	s.anew = true
}

// backTo moves the cursor to a revision through which the neighbour holds our stream (H6).
func (s *sender) backTo(through uint64) {
	s.acked = through
	s.back()
}

// message returns an empty message at the cursor, without a head. The caller sets Head to the
// table's head when the message is sent, so that it never goes back (H9). l.mu is held.
func (l *Link) message() Message {
	s := &l.send
	return Message{Epoch: l.cfg.Epoch, To: s.to, After: s.cursor, Through: s.cursor}
}

// turn is how many messages a link may send before the other links have their turn.
const turn = 4

// sendLines sends what is behind the cursor, while the window has room and no gap is due (H5).
// It returns when to call it again. A gap that ends by along counts as over.
func (l *Link) sendLines(now, along time.Time) time.Time {
	l.due = time.Time{}
	for range turn {
		b, next := l.begin(now)
		if !b.ok {
			return next
		}
		if b.lost {
			l.table.Doubt(l.cfg.Number)
		}
		if l.due = l.gap(now, along, &b); !l.due.IsZero() {
			return l.due
		}
		span := l.read(now, &b)
		if span.Lines == 0 {
			due := l.skip(now, &b, span)
			if span.Through < span.Head {
				continue // the read was limited: go on
			}
			if due.After(now) || due.IsZero() {
				l.wait(span.Through)
				return due
			}
			// An empty message is due: it moves the neighbour past lines that it sent us.
		}
		if !l.sendOne(now, &b, span.Lines) || b.again {
			return now.Add(l.cfg.Heartbeat)
		}
	}
	return now // the other links have their turn
}

// A batch describes the lines of the next message, Link.out.
type batch struct {
	ok    bool          // a message may be sent
	again bool          // it may be sent although acks are missing (H6)
	lost  bool          // what the neighbour is known to hold is void (H4)
	read  uint64        // the lines begin after this revision
	head  uint64        // the table's head at begin
	most  int           // the most bytes of lines
	gap   time.Duration // the least time since the last message with lines
}

// mostShare bounds the gap that follows from the round trip, because a single ack may be very
// late.
const mostShare = time.Second

// begin checks whether lines may be sent, and sets Link.out to an empty message at the cursor. If
// none may, it returns when that may change by itself.
func (l *Link) begin(now time.Time) (b batch, next time.Time) {
	b.most, b.head = l.cfg.MaxBytes(), l.table.Head()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.send
	b.again, s.again = s.again, false
	if !l.health.out.up && !b.again || s.failed { // H8: heartbeats only
		l.checkDrained(false)
		return b, time.Time{}
	}
	if until := l.paused(now); !until.IsZero() {
		return b, until
	}
	if len(s.flights) >= l.cfg.Window {
		return b, time.Time{}
	}
	b.ok, b.read = true, s.read
	b.lost, s.lost = s.lost, false
	if s.anew {
		s.anew = false
		l.hand.Reset()
		l.catchUp = b.head
	}
	if l.cfg.Gap > 0 && !l.draining && !l.neighbourJoins() && b.read >= l.catchUp {
		b.gap = max(l.cfg.Gap, min(s.roundTrip/time.Duration(l.cfg.Window), mostShare))
	}
	l.out = l.message()
	return b, time.Time{}
}

// gap returns until when lines must collect because the last message was sent too recently (H5).
// The zero time means that a message may be sent at once, as it may if the lines about fill it.
// While lines collect, the table wakes the link when there are enough of them.
func (l *Link) gap(now, along time.Time, b *batch) time.Time {
	due := l.lastLines.Add(b.gap)
	full := uint64(max(1, b.most/l.lineSize))
	if behind := b.head - b.read; behind == 0 || behind >= full || !due.After(along) {
		return time.Time{}
	}
	l.wait(b.read + full - 1)
	return due
}

// read fills the message with the lines after b.read.
func (l *Link) read(now time.Time, b *batch) position.Span {
	m := &l.out
	var span position.Span
	l.lines, span = l.table.Read(l.lines[:0], b.read, b.most,
		position.Source{Neighbour: l.cfg.Number, Epoch: m.To}, l.cfg.Retain(now), &l.hand)
	m.Lines, m.Through, m.Head = l.lines, span.Through, span.Head
	if span.TooLong > 0 {
		l.pass(now, b.most, span.TooLong)
	}
	if span.Lines > 0 {
		l.lineSize = len(l.lines) / span.Lines
	}
	return span
}

// wait notes that there is nothing to send until there is a revision beyond this one.
func (l *Link) wait(revision uint64) { l.waiting, l.waitFor = true, revision }

// pass notes that lines were left out because they are longer than most, the bytes of a message
// (H5). The neighbour's acks cover them all the same, so the cursor cannot go back for them.
// When messages may carry more, position.Table.Again makes these lines new changes.
func (l *Link) pass(now time.Time, most, lines int) {
	l.count.unsendable.Add(uint64(lines))
	l.mu.Lock()
	tell := l.send.long.pass(now, time.Minute, 1)
	l.mu.Unlock()
	if tell {
		l.cfg.Log.Error("lines not sent: too long for the broker's max_payload", "lines", lines, "bytes", most)
	}
}

// skip notes that the neighbour already holds everything that was read for this batch. It returns
// when an empty message must say so, so that the lag goes to 0. That is a little later, because
// usually there is a line to send before; but at once if the neighbour is joining, because it
// waits for this (H7).
func (l *Link) skip(now time.Time, b *batch, span position.Span) (due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.send
	switch moved := s.to != l.out.To || s.read != b.read; {
	case moved: // by an ack: try again
		l.wake()
	case span.Through == s.cursor:
		s.read, s.skippedOne = span.Through, time.Time{}
	case l.neighbourJoins():
		s.read, due = span.Through, now
	default:
		if s.skippedOne.IsZero() {
			s.skippedOne = now
		}
		s.read, due = span.Through, s.skippedOne.Add(l.cfg.Heartbeat/10)
	}
	if span.Through == span.Head {
		l.checkDrained(s.read == span.Through)
	}
	return due
}

// sendOne sends Link.out, unless an ack moved the cursor meanwhile. It reports whether to go on.
func (l *Link) sendOne(now time.Time, b *batch, lines int) bool {
	// The cursor moves before the message is sent, because the ack may come at once.
	m := &l.out
	l.mu.Lock()
	s := &l.send
	if s.to != m.To || s.read != b.read || s.cursor != m.After {
		s.anew = true // what the hand took for this message is not sent
		l.mu.Unlock()
		return true // try again
	}
	s.cursor, s.read, s.sent = m.Through, m.Through, max(s.sent, m.Through)
	s.flights = append(s.flights, flight{m.Through, now})
	s.skippedOne = time.Time{}
	l.mu.Unlock()

	if err := l.give(m); err != nil { // nothing was sent (H6)
		l.mu.Lock()
		s.back()
		s.failed = true
		l.mu.Unlock()
		l.cfg.Log.Debug("send", "error", err)
		return false
	}
	if lines == 0 {
		return true
	}
	l.lastLines = now
	l.count.sentLines.Add(uint64(lines))
	if l.cfg.Recorder != nil {
		l.cfg.Recorder.LinkOut(now, l.cfg.Neighbour, m.Lines)
	}
	return true
}

// sendHeartbeat sends an empty message outside the window once per heartbeat, whether the link is
// up or down (H8), and returns when the next is due. Messages with lines do not replace it: only
// heartbeats carry the level (H7) and the clock, which may step on a busy link too.
func (l *Link) sendHeartbeat(now time.Time) time.Time {
	l.mu.Lock()
	s := &l.send
	if due := s.lastBeat.Add(l.cfg.Heartbeat); now.Before(due) && !s.beatNow {
		l.mu.Unlock()
		return due
	}
	s.lastBeat, s.beatNow = now, false
	failed := s.failed
	s.failed = false
	if s.pinged = (time.Time{}); len(s.flights) == 0 {
		s.pinged = now
	}
	m := &l.out
	*m = l.message()
	m.Level = l.level // before Head, which then covers all that the level stands for
	l.mu.Unlock()
	m.Head = l.table.Head()
	m.Interval, m.Clock = l.cfg.Heartbeat, l.cfg.Wall(now)
	if err := l.give(m); err != nil {
		l.cfg.Log.Debug("send heartbeat", "error", err)
	} else if failed {
		return now // the transport works again: send what failed before
	}
	return now.Add(l.cfg.Heartbeat)
}
