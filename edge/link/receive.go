package link

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// Receive handles a message from the neighbour. It merges the message if no revisions before it
// are missing (H6), and notes that an ack is due. It does not retain m.Lines. now is what
// time.Now returned when the message came.
func (l *Link) Receive(now time.Time, m *Message) {
	l.count.receivedMessages.Add(1)
	l.count.receivedBytes.Add(uint64(len(m.Lines)))
	l.mu.Lock()
	up := !m.Bye && l.heard(now, &l.health.in)
	s, err := l.streamOf(now, m)
	if s == nil || m.Bye || err != nil {
		down := s != nil && err == nil && l.bye(now, s)
		look := up || down || s != nil && s.ackNow
		l.mu.Unlock()
		if err != nil {
			l.BadMessage(now, err)
		}
		if look {
			l.wake()
		}
		return
	}
	r := &l.receive
	last := s.heard
	s.heard, s.gone = now, false
	var clock *slog.Attr
	told := false
	if s == r.present(l.patience()) {
		if m.Interval > 0 {
			l.health.interval = m.Interval
			l.tell(now, m.Epoch, m.Level, m.Head)
		}
		clock = l.checkClock(now, m.Clock)
		told = m.Clock != 0
	}
	follows := (m.To == "" || m.To == l.cfg.Epoch) && m.After <= s.through
	live := s.live
	l.mu.Unlock()
	if told && l.cfg.Told != nil {
		l.cfg.Told()
	}
	if clock != nil {
		l.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "clock differs from neighbour's", *clock)
	}

	var late lateness
	if follows && len(m.Lines) > 0 {
		late = l.merge(now, m, live)
	}

	l.mu.Lock()
	if follows && m.After <= s.through { // s.through may have been lowered meanwhile (H9)
		s.through = max(s.through, m.Through)
		s.live = s.live || m.Through == m.Head
		if late.lines > 0 {
			s.later(m.After, late.due)
		}
	} else {
		s.rewind, s.live = true, false
	}
	s.unacked++
	// A heartbeat, a message that does not follow and a message after a silence are
	// acknowledged at once. Up to half a window of other messages share an ack (H5). So if both
	// ends have the same HERD_LINK_WINDOW, a full window never waits for ackBy; otherwise it
	// waits at most until then.
	s.ackNow = s.ackNow || s.rewind || m.Interval > 0 || now.Sub(last) >= quiet || s.unacked >= (l.cfg.Window+1)/2
	joining := l.level < LevelOpen // it may hold enough now to send lines
	look := up || s.ackNow || joining
	if wait := l.ackWait(); s.ackBy.IsZero() || now.Add(wait).Before(s.ackBy) {
		s.ackBy = beat(now, wait)
		look = true
	}
	l.mu.Unlock()
	if look {
		l.wake()
	}
	if joining && l.cfg.Came != nil {
		l.cfg.Came()
	}
}

// streamOf returns the stream that a message belongs to. It returns an error if the message must
// be dropped (H9). The stream is nil if the message is from a run that is not known, and is not
// to be followed yet. l.mu is held.
func (l *Link) streamOf(now time.Time, m *Message) (s *stream, err error) {
	r := &l.receive
	if err = orderly(m); err != nil || m.Bye {
		s = r.find(m.Epoch)
	} else {
		s = r.take(now, m.Epoch, l.cfg.Heartbeat)
	}
	if s != nil && err == nil {
		err = s.follow(m)
	}
	if s != nil && err != nil {
		r.drop(now, s, l.patience())
	}
	return s, err
}

// bye handles a good-bye (C19). If it is from the present run, the link goes down at once, and
// bye returns true. A later message of that run brings the link up again (H9). To bound the
// cost of a neighbour that alternates between the two, one good-bye counts per heartbeat. l.mu
// is held.
func (l *Link) bye(now time.Time, s *stream) (down bool) {
	h := &l.health
	if s != l.receive.present(l.patience()) || now.Sub(h.byeAt) < l.cfg.Heartbeat {
		return false
	}
	h.byeAt = now
	s.gone = true
	l.told = told{}
	l.lost(now, &h.in, outage{reason: goodBye})
	l.lost(now, &h.out, outage{reason: goodBye})
	return true
}

// ackWait returns how long an ack may wait for more messages. It is short compared with the
// heartbeats of both edges, because the neighbour sends again after three of its own heartbeats
// without an ack (H6). l.mu is held.
func (l *Link) ackWait() time.Duration {
	return min(ackDelay, l.cfg.Heartbeat/4, l.health.interval/4)
}

// beat returns the next time after now that is a multiple of every. These times are the same for
// all links of all edges, as far as their clocks agree. So an edge wakes once for the acks of
// many links, and the broker once for those of many edges.
func beat(now time.Time, every time.Duration) time.Time {
	return now.Add(every - time.Duration(now.UnixNano()%int64(every)))
}

// checkClock notes the neighbour's clock. If it returns an attribute, the caller logs it once
// l.mu is released (H8). l.mu is held.
func (l *Link) checkClock(now time.Time, clock int64) *slog.Attr {
	if clock == 0 {
		return nil
	}
	h := &l.health
	h.clockTold, h.clockAt = clock, now
	h.clock = time.Duration(clock - l.cfg.Wall(now))
	switch off := h.clock.Abs() > clockLimit; {
	case !off:
		h.clockOff = false
	case !h.clockOff && h.clockTells.pass(now, time.Minute, 1):
		h.clockOff = true
		return &slog.Attr{Key: "difference", Value: slog.DurationValue(h.clock)}
	}
	return nil
}

// lateness counts the lines of a message that are put off. due is when the first of them may be
// merged, by our clock in Unix nanoseconds (H9).
type lateness struct {
	lines int
	due   int64
}

// merge parses the lines of a message in place and merges them as one batch. Lines whose
// effective time is over an hour ahead of our clock are put off instead.
func (l *Link) merge(now time.Time, m *Message, live bool) (late lateness) {
	if l.cfg.Recorder != nil {
		l.cfg.Recorder.LinkIn(now, l.cfg.Neighbour, m.Lines)
	}
	ops := l.ops[:0]
	wall := l.cfg.Wall(now)
	for rest := m.Lines; len(rest) > 0; {
		n := bytes.IndexByte(rest, '\n') + 1
		line := rest
		if n > 0 {
			line = rest[:n]
		}
		rest = rest[len(line):]
		if n == 0 {
			l.refuse(now, line, errNoLF)
			continue
		}
		at, err := wire.ParseAT(line[:n-1])
		if err != nil { // H9: the other lines still count
			l.refuse(now, line, err)
			continue
		}
		if due := wire.Effective(at.Stamp, at.Receipt) - int64(futureLimit); due > wall {
			if late.lines == 0 || due < late.due {
				late.due = due
			}
			late.lines++
			continue
		}
		if len(ops) < cap(ops) {
			ops = ops[:len(ops)+1]
		} else {
			ops = append(ops, position.Op{})
		}
		l.table.PreparePut(&ops[len(ops)-1], line, &at)
	}
	l.ops = ops
	l.table.Apply(l.cfg.Retain(now), position.Source{Neighbour: l.cfg.Number, Epoch: m.Epoch}, ops)

	var duplicates uint64
	for i := range ops {
		switch {
		case ops[i].Outcome == position.Expired:
		case ops[i].Outcome != position.Stored:
			duplicates++
		case live && l.cfg.Propagated != nil:
			l.cfg.Propagated(time.Duration(wall - ops[i].Receipt()))
		}
	}
	l.count.receivedLines.Add(uint64(len(ops)))
	l.count.duplicateLines.Add(duplicates)
	if late.lines > 0 {
		l.count.putOff.Add(uint64(late.lines))
		l.tellLate(now, wall, late)
	}
	return late
}

// tellLate logs that lines were put off, at most once a minute.
func (l *Link) tellLate(now time.Time, wall int64, late lateness) {
	l.mu.Lock()
	tell := l.receive.late.pass(now, time.Minute, 1)
	l.mu.Unlock()
	if tell {
		l.cfg.Log.Warn("lines put off: their time is over an hour ahead of this edge's clock", "lines", late.lines, "wait", time.Duration(late.due-wall))
	}
}

var errNoLF = &wire.SyntaxError{Rule: "H2", Reason: "line without its LF"}

// refuse counts an invalid line, and logs at most one per second (H9).
func (l *Link) refuse(now time.Time, line []byte, err error) {
	if l.refused(now) {
		l.cfg.Log.Warn("line refused", "error", err, "line", string(line[:min(len(line), 256)]))
	}
}

// BadMessage counts and logs a message, ack or join request that could not be read or breaks H9.
// It counts as one refused line. The caller drops it without an ack.
func (l *Link) BadMessage(now time.Time, err error) {
	if l.refused(now) {
		l.cfg.Log.Warn("message refused", "error", err)
	}
}

// refused counts a refusal, and reports whether it may be logged: at most one per second.
func (l *Link) refused(now time.Time) bool {
	l.count.refusedLines.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.receive.refusals.pass(now, time.Second, 1)
}

// sendAcks sends the acks that are due by along, and returns when the next one is due. An ack
// covers all messages of a run since the last ack (H5).
func (l *Link) sendAcks(now, along time.Time) (next time.Time) {
	for i := range l.receive.streams {
		l.mu.Lock()
		s := &l.receive.streams[i]
		due := s.ackNow || s.unacked > 0 && !along.Before(s.ackBy)
		a := Ack{Epoch: l.cfg.Epoch, Of: s.epoch, Through: s.through, Rewind: s.rewind}
		if due {
			s.ackNow, s.rewind, s.unacked, s.ackBy = false, false, 0, time.Time{}
		} else if s.unacked > 0 {
			next = earliest(next, s.ackBy)
		}
		l.mu.Unlock()
		if !due {
			continue
		}
		if err := l.cfg.Out.Ack(a); err != nil {
			// Like a lost ack: the neighbour will send again (H6).
			l.cfg.Log.Debug("send ack", "error", err)
		}
	}
	return next
}
