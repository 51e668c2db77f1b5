package link

import (
	"bytes"
	"context"
	"log/slog"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A receiver is the receiving half: of which stream, and through which revision,
// we hold it, and what we still have to say of that (H5, H6).
type receiver struct {
	of      string // the epoch of the neighbour that we follow
	through uint64
	live    bool // caught up since the link went up: what comes now was sent as it happened

	ackNow  bool      // an ack is owed at once
	rewind  bool      // … that asks for what is missing
	unacked int       // messages since the last ack
	ackBy   time.Time // when the ack for them must go
	last    time.Time // when the last message came
	lastBad time.Time // when a refusal was last logged
}

// Receive takes a message of the neighbour: merges it if it follows (H6), and
// sees to it that it is acknowledged. It does not keep m.Lines.
func (l *Link) Receive(m *Message) {
	now := time.Now()
	if m.Bye {
		l.receiveBye(now, m)
		return
	}
	l.mu.Lock()
	up := l.alive(now, m.Epoch)
	if m.Interval > 0 {
		l.health.interval = m.Interval
	}
	clock := l.checkClock(now, m.Clock)
	r := &l.receive
	follows := m.To == "" || m.To == l.cfg.Epoch
	if follows && m.Epoch != r.of { // of a new epoch we hold nothing
		r.of, r.through, r.live = m.Epoch, 0, false
	}
	follows = follows && m.After <= r.through
	live := r.live
	l.mu.Unlock()
	if up {
		l.wentUp(now)
	}
	if clock != nil {
		l.cfg.Log.LogAttrs(context.Background(), slog.LevelWarn, "clock differs from neighbour's", *clock)
	}

	if follows && len(m.Lines) > 0 {
		l.merge(now, m, live)
	}

	look := false
	l.mu.Lock()
	if follows {
		r.through = max(r.through, m.Through)
		r.live = r.live || m.Through == m.Head
	} else {
		r.rewind, r.live = true, false
	}
	r.unacked++
	// A heartbeat, a refusal and a message after a silence are answered at once; of
	// others half a window may share an ack (H5). So a window does not stall on it, where
	// both ends have the same HERD_LINK_WINDOW; elsewhere for no longer than the ack waits.
	r.ackNow = r.ackNow || r.rewind || m.Interval > 0 || now.Sub(r.last) >= quiet || r.unacked >= (l.cfg.Window+1)/2
	r.last = now
	if wait := l.ackWait(m); r.ackBy.IsZero() || now.Add(wait).Before(r.ackBy) {
		r.ackBy = beat(now, wait)
		look = true
	}
	look = look || r.ackNow
	l.mu.Unlock()
	if look {
		l.wake()
	}
}

// ackWait is how long the ack of a message may wait for more to acknowledge: a little, or
// longer where links linger, since whoever has them do so wants few messages. Not where more
// is to come, for which the neighbour's window may have no room; and well within the
// heartbeats of both, for the neighbour goes back after three of its own (H6). l.mu is held.
func (l *Link) ackWait(m *Message) time.Duration {
	if m.Through != m.Head {
		return ackDelay
	}
	return max(ackDelay, min(ackLinger*l.cfg.Linger, l.cfg.Heartbeat/2, l.health.interval/2))
}

// receiveBye takes the link down at once where it is the run that we hear that
// goes (C19).
func (l *Link) receiveBye(now time.Time, m *Message) {
	l.mu.Lock()
	down := l.health.up && m.Epoch == l.health.epoch
	if down {
		l.health.gone = m.Epoch
		l.down()
	}
	l.mu.Unlock()
	if down {
		l.wentDown(now, goodBye)
	}
}

// checkClock notes the neighbour's clock; what it returns is to be logged (H8).
// l.mu is held.
func (l *Link) checkClock(now time.Time, clock int64) *slog.Attr {
	if clock == 0 {
		return nil
	}
	h := &l.health
	h.clock = time.Duration(clock - now.UnixNano())
	off := h.clock.Abs() > clockLimit
	was := h.clockOff
	h.clockOff = off
	if off && !was {
		return &slog.Attr{Key: "difference", Value: slog.DurationValue(h.clock)}
	}
	return nil
}

// merge parses the lines of a message in place and merges them as one batch.
func (l *Link) merge(now time.Time, m *Message, live bool) {
	if l.cfg.Recorder != nil {
		l.cfg.Recorder.LinkIn(now, l.cfg.Neighbour, m.Lines)
	}
	ops := l.ops[:0]
	latest := now.Add(futureLimit).UnixNano()
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
		if err == nil && at.Receipt > latest {
			err = errFuture
		}
		if err != nil { // H9: it harms nothing else
			l.refuse(now, line, err)
			continue
		}
		if len(ops) < cap(ops) {
			ops = ops[:len(ops)+1]
		} else {
			ops = append(ops, position.Op{})
		}
		l.table.PutLine(&ops[len(ops)-1], line, &at)
	}
	l.ops = ops
	l.table.Apply(now.UnixNano(), position.Source{Holder: l.cfg.Holder, Epoch: m.Epoch}, ops)

	var duplicates uint64
	for i := range ops {
		switch {
		case ops[i].Outcome == position.Expired:
		case ops[i].Outcome != position.Stored:
			duplicates++
		case live && l.cfg.Propagated != nil:
			l.cfg.Propagated(now.Sub(time.Unix(0, ops[i].Receipt())))
		}
	}
	l.count.receivedLines.Add(uint64(len(ops)))
	l.count.duplicateLines.Add(duplicates)
}

var (
	errNoLF   = &wire.SyntaxError{Rule: "H2", Reason: "line without its LF"}
	errFuture = &wire.SyntaxError{Rule: "H9", Reason: "received over an hour from now"}
)

// refuse counts a line that is no line of the herd's, and logs one a second (H9).
func (l *Link) refuse(now time.Time, line []byte, err error) {
	if l.refused(now) {
		l.cfg.Log.Warn("line refused", "error", err, "line", string(line[:min(len(line), 256)]))
	}
}

// BadMessage counts and logs a message, ack or question that the transport could not
// read, as one line; it is dropped without an ack (H9).
func (l *Link) BadMessage(err error) {
	if l.refused(time.Now()) {
		l.cfg.Log.Warn("message refused", "error", err)
	}
}

// refused counts a refusal, and says whether it may be logged: one a second.
func (l *Link) refused(now time.Time) bool {
	l.count.refusedLines.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.receive.lastBad) < time.Second {
		return false
	}
	l.receive.lastBad = now
	return true
}

// sendAck sends the ack that is owed, if it is due, and returns when it will be.
// One ack stands for all messages since the last (H5).
func (l *Link) sendAck(now time.Time) (due time.Time) {
	l.mu.Lock()
	r := &l.receive
	if !r.ackNow && (r.unacked == 0 || now.Before(r.ackBy)) {
		if r.unacked > 0 {
			due = r.ackBy
		}
		l.mu.Unlock()
		return due
	}
	a := Ack{Epoch: l.cfg.Epoch, Of: r.of, Through: r.through, Rewind: r.rewind}
	r.ackNow, r.rewind, r.unacked, r.ackBy = false, false, 0, time.Time{}
	l.mu.Unlock()
	if err := l.cfg.Out.Ack(a); err != nil {
		// As good as lost: the neighbour comes back for it (H6).
		l.cfg.Log.Debug("ack", "error", err)
	}
	return time.Time{}
}

// Held says which of the neighbour's epochs we follow and through which revision
// we hold it (H7).
func (l *Link) Held() (epoch string, through uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.receive.of, l.receive.through
}
