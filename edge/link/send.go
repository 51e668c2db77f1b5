package link

import (
	"time"

	"herd/edge/position"
)

// A sender is the sending half: a cursor into the order of changes and the
// messages on their way (H3–H6).
type sender struct {
	to      string   // the neighbour's epoch, as its acks tell it (H4)
	acked   uint64   // that run holds our stream through this revision
	cursor  uint64   // sent through this one: the next message's After
	read    uint64   // read through this one: ahead of cursor where the neighbour held what was read
	sent    uint64   // the furthest that the cursor ever was
	flights []flight // messages not yet acknowledged, oldest first

	lastAck    time.Time // when an ack came, or what stands for one: so long A waits for the next (H6)
	lastSend   time.Time // when a message went (H8)
	rewound    time.Time // when the cursor last went back at the neighbour's word,
	rewoundTo  uint64    // and where to
	failed     bool      // the transport refuses; look again at the next heartbeat or reconnect
	roundTrip  time.Duration
	pinged     time.Time // when a heartbeat went while no message was on its way: its ack comes at once
	asked      uint64    // a heartbeat went behind the messages through this one, for their ack; see askForAck
	skippedOne time.Time // since when the cursor might move without a line to send
}

type flight struct {
	through uint64
	at      time.Time
}

// back moves the cursor to the last ack: what was sent since did not happen (H6).
func (s *sender) back() {
	s.cursor, s.read = s.acked, s.acked
	s.flights = s.flights[:0]
	s.skippedOne = time.Time{}
}

// message is an empty message at the cursor; l.mu is held.
func (l *Link) message() Message {
	s := &l.send
	return Message{Epoch: l.cfg.Epoch, To: s.to, After: s.cursor, Through: s.cursor, Head: s.cursor}
}

// turn is how many messages a link may send before the others have their turn.
const turn = 4

// sendLines sends what is behind the cursor while the window has room (H5), and
// returns when to look again.
func (l *Link) sendLines(now time.Time) (next time.Time) {
	for range turn {
		l.mu.Lock()
		s := &l.send
		if s.cursor > s.acked && now.Sub(s.lastAck) >= missed*l.cfg.Heartbeat { // H6: no ack for three heartbeats
			l.count.rewinds.Add(1)
			s.back()
			s.lastAck = now
		}
		if s.cursor > s.acked {
			next = s.lastAck.Add(missed * l.cfg.Heartbeat)
		}
		if !l.health.up || s.failed {
			l.checkHandedOver(false)
			l.mu.Unlock()
			return next
		}
		room := len(s.flights) < l.cfg.Window && (!l.holding || l.handing)
		m, read := l.message(), s.read
		handing := l.handing
		l.mu.Unlock()
		if !room {
			return next
		}

		if l.cfg.Linger > 0 && !handing {
			if until := l.linger(now, read); until.After(now) {
				return earliest(next, until)
			}
		}
		var span position.Span
		l.lines, span = l.table.Read(l.lines[:0], read, l.cfg.MaxBytes(),
			position.Source{Holder: l.cfg.Holder, Epoch: m.To}, now.UnixNano())
		m.Lines, m.Through, m.Head = l.lines, span.Through, span.Head
		done := span.Through == span.Head
		if span.Lines > 0 {
			l.lineSize = len(l.lines) / span.Lines
		}

		if span.Lines == 0 && done {
			l.mu.Lock()
			due := l.skip(now, m.To, read, span.Through)
			l.checkHandedOver(s.read == span.Through)
			l.askForAck()
			l.mu.Unlock()
			if due.After(now) || due.IsZero() {
				l.wait(span.Through)
				return earliest(next, due)
			}
			// It is due: an empty message moves the neighbour past what it taught us.
		} else if span.Lines == 0 {
			l.mu.Lock()
			l.skip(now, m.To, read, span.Through)
			l.mu.Unlock()
			continue
		}
		if !l.sendOne(now, read, &m, span.Lines) {
			return earliest(next, now.Add(l.cfg.Heartbeat))
		}
	}
	return now // others have their turn
}

// wait notes that there is nothing to send before there is a revision beyond this one.
func (l *Link) wait(revision uint64) { l.waiting, l.waitFor = true, revision }

// linger returns until when what is behind read should wait for more to go with
// it (H5); a time that has passed where it should not. What about fills a message does
// not wait: the reader tells of it.
func (l *Link) linger(now time.Time, read uint64) time.Time {
	full := uint64(max(1, l.cfg.MaxBytes()/l.lineSize))
	behind := l.table.Head() - read
	switch {
	case behind == 0 || behind >= full || !l.lingering.IsZero() && !now.Before(l.lingering):
		l.lingering = time.Time{}
		return time.Time{}
	case l.lingering.IsZero():
		l.lingering = beat(now, l.cfg.Linger)
	}
	l.wait(read + full - 1)
	return l.lingering
}

// beat is the next of the moments that are every so far apart, and the same for all links
// of all edges by their clocks: so an edge wakes once for what many links send, and the
// broker once for what many edges do.
func beat(now time.Time, every time.Duration) time.Time {
	return now.Add(every - time.Duration(now.UnixNano()%int64(every)))
}

// skip notes that everything from read through the given revision is held by
// the neighbour already. It returns when an empty message must say so, that lag and
// joins come to an end: a little later, since a line to send usually comes first.
func (l *Link) skip(now time.Time, to string, read, through uint64) (due time.Time) {
	s := &l.send
	if s.to != to || s.read != read { // an ack moved the cursor meanwhile: look again
		l.wake()
		return time.Time{}
	}
	s.read = through
	if s.read == s.cursor {
		s.skippedOne = time.Time{}
		return time.Time{}
	}
	if s.skippedOne.IsZero() {
		s.skippedOne = now
	}
	return s.skippedOne.Add(l.cfg.Heartbeat / 10)
}

// sendOne sends a message that was read from read on, if no ack moved the cursor
// meanwhile. It reports whether to go on.
func (l *Link) sendOne(now time.Time, read uint64, m *Message, lines int) bool {
	// The cursor moves before the message goes, since its ack may come at once.
	l.mu.Lock()
	s := &l.send
	if s.to != m.To || s.read != read || s.cursor != m.After {
		l.mu.Unlock()
		return true // look again
	}
	cursor := s.cursor
	s.cursor, s.read, s.sent = m.Through, m.Through, max(s.sent, m.Through)
	if len(s.flights) == 0 {
		s.lastAck = now // H6: the wait for an ack begins here
	}
	s.flights = append(s.flights, flight{m.Through, now})
	s.lastSend = now
	s.skippedOne = time.Time{}
	l.mu.Unlock()

	if err := l.cfg.Out.Send(m); err != nil { // it did not happen (H6)
		l.mu.Lock()
		if s.cursor == m.Through && s.to == m.To {
			s.cursor, s.read = cursor, read
			if n := len(s.flights); n > 0 && s.flights[n-1].through == m.Through {
				s.flights = s.flights[:n-1]
			}
		}
		s.failed = true
		l.mu.Unlock()
		l.cfg.Log.Debug("send", "error", err)
		return false
	}
	l.count.sentLines.Add(uint64(lines))
	if l.cfg.Recorder != nil && lines > 0 {
		l.cfg.Recorder.LinkOut(now, l.cfg.Neighbour, m.Lines)
	}
	return true
}

// sendHeartbeat sends an empty message outside the window when nothing went for a
// heartbeat (H8), up or down, and returns when the next would be due.
func (l *Link) sendHeartbeat(now time.Time) time.Time {
	l.mu.Lock()
	s := &l.send
	if due := s.lastSend.Add(l.cfg.Heartbeat); now.Before(due) {
		l.mu.Unlock()
		return due
	}
	s.lastSend = now
	s.failed = false
	if s.pinged = (time.Time{}); len(s.flights) == 0 {
		s.pinged = now
	}
	m := l.message()
	l.mu.Unlock()
	m.Head = l.table.Head()
	m.Interval, m.Clock = l.cfg.Heartbeat, time.Now().UnixNano()
	if err := l.cfg.Out.Send(&m); err != nil {
		l.cfg.Log.Debug("send heartbeat", "error", err)
	}
	return now.Add(l.cfg.Heartbeat)
}

// askForAck has a heartbeat go at once behind the last messages of a link that hands over
// (C19): it is acknowledged at once, and they with it, whose ack might linger. l.mu is held.
func (l *Link) askForAck() {
	s := &l.send
	if l.handing && len(s.flights) > 0 && s.asked != s.cursor {
		s.asked = s.cursor
		s.lastSend = time.Time{}
	}
}

// ReceiveAck takes an ack of the neighbour (H5, H6).
func (l *Link) ReceiveAck(a Ack) {
	now := time.Now()
	l.mu.Lock()
	up := l.alive(now, a.Epoch)
	s := &l.send
	full := len(s.flights) >= l.cfg.Window
	if !s.pinged.IsZero() && len(s.flights) == 0 {
		s.took(now.Sub(s.pinged))
	}
	s.pinged = time.Time{}
	through, back := a.Through, a.Rewind
	if a.Of != l.cfg.Epoch || through > s.sent { // another epoch of ours, or more than was sent
		through, back = 0, true
	}
	switch {
	case a.Epoch != s.to: // another run: what it acks is all that it holds
		if s.cursor > through {
			l.count.rewinds.Add(1)
		}
		s.to, s.acked = a.Epoch, through
		s.back()
	case back:
		// One gap makes the neighbour refuse all that was on its way behind it;
		// the first refusal is enough to go back once.
		if through == s.rewoundTo && now.Sub(s.rewound) < l.cfg.Heartbeat/10 {
			break
		}
		if s.cursor > through {
			l.count.rewinds.Add(1)
			s.rewound, s.rewoundTo = now, through
		}
		s.acked = through
		s.back()
	case through >= s.acked:
		l.acknowledged(now, through)
	}
	s.lastAck = now
	look := full || s.read < s.sent || l.handing // there may be something to send
	l.mu.Unlock()
	if up {
		l.wentUp(now)
	} else if look {
		l.wake()
	}
}

// acknowledged lets go of the messages that an ack reaches; l.mu is held.
func (l *Link) acknowledged(now time.Time, through uint64) {
	s := &l.send
	s.acked = through
	if through > s.cursor { // it went back further than was needed
		s.cursor, s.read = through, max(s.read, through)
	}
	n := 0
	for n < len(s.flights) && s.flights[n].through <= through {
		n++
	}
	if n == 0 {
		return
	}
	// The newest message that the ack reaches is the one that it was sent for.
	s.took(now.Sub(s.flights[n-1].at))
	s.flights = append(s.flights[:0], s.flights[n:]...)
}

// took notes a round trip.
func (s *sender) took(trip time.Duration) {
	if s.roundTrip == 0 {
		s.roundTrip = trip
	}
	s.roundTrip += (trip - s.roundTrip) / 8
}
