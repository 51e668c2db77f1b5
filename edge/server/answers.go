package server

import "context"

const (
	flushAt = 32 << 10 // bytes of ready answers that leave without waiting for more

	// maxOwed is how many bytes a connection may be owed before it is not read any more. Together
	// with one input buffer, and the last answer, which may go beyond it, this keeps unread,
	// unanswered and waiting bytes below 256 KiB. A single larger answer is let through (C18).
	maxOwed = 208 << 10
)

// Answers collects what a connection is owed, in the order in which it leaves. A
// Session uses it only while it is in Take or Overlong, and never waits in it.
type Answers struct {
	c     *conn
	ready []byte // with no answer that waits before them
	queue *queue // nil: no answer waits
	over  bool   // no more answers: the last was given, or the connection is lost
}

// Room is how many more bytes the connection may be owed for now: of answers, and of what
// those that wait hold meanwhile (C18). Where it is 0 or less, one answer may still be added
// to none.
func (a *Answers) Room() int {
	share := a.c.s.gate.Share()
	if a.queue != nil {
		return share - a.queue.owed()
	}
	return min(flushAt, share) - len(a.ready)
}

// Append adds an answer that is ready. p is copied.
func (a *Answers) Append(p []byte) {
	switch {
	case a.over:
	case a.queue != nil:
		a.queue.append(p)
	default:
		a.ready = append(a.ready, p...)
	}
}

// Later adds an answer that has to be waited for, and keeps its place. f is called
// in a goroutine of its own, at most 8 of a connection at once and in the order of
// their places (C16). client ends when the connection is lost, so that nobody is to be
// answered any more; stop ends then too, and when the server stops (C19). The connection
// is not over before f has returned. What f returns belongs to the server then. size is
// how many bytes f holds while it waits, its answer included.
func (a *Answers) Later(size int, f func(client, stop context.Context) []byte) {
	if a.over {
		return
	}
	if a.queue == nil {
		a.queue = newQueue(a.c, a.ready)
		a.ready = nil
	}
	a.queue.add(size, &run{f: f})
}

// InTurn adds an answer that takes effect when its turn comes: when all before it are ready, and
// no list is being told. f appends it, from the first in any goroutine, and one f of a
// connection at a time. size is how many bytes f holds until then.
func (a *Answers) InTurn(size int, f func(dst []byte) []byte) {
	switch {
	case a.over:
	case a.queue != nil:
		a.queue.add(size, &run{turn: func(dst []byte) ([]byte, bool) { return f(dst), false }})
	default:
		a.ready = f(a.ready)
	}
}

// Follow is InTurn for an answer after which lines may be told between answers; the session has
// to be a Teller. f appends the answer; or it returns true, and the answer is what Tell has to
// say until its list has ended. wake may be called from any goroutine whenever Tell has something to
// say, and waits for nothing.
func (a *Answers) Follow(size int, f func(dst []byte, wake func()) (answer []byte, listing bool)) {
	if a.over {
		return
	}
	if a.queue == nil {
		a.queue = newQueue(a.c, a.ready)
		a.ready = nil
	}
	q := a.queue
	if q.told == nil {
		q.newTelling()
	}
	q.add(size, &run{turn: func(dst []byte) ([]byte, bool) { return f(dst, q.wake) }})
}

// Close has the connection closed after the answers so far. What is added later is
// ignored, and so is the rest of the client's input (C17).
func (a *Answers) Close() { a.over = true }

// makeRoom waits until the connection may be owed more: until what is ready has left,
// and enough of what waits has come in and left (C18).
func (a *Answers) makeRoom() {
	switch {
	case a.queue != nil:
		if a.queue.makeRoom() {
			a.queue = nil
		}
	case a.Room() <= 0:
		a.send()
	}
}

// send writes what is ready.
func (a *Answers) send() {
	if len(a.ready) > 0 {
		size := cap(a.ready) + a.c.inputSize()
		a.c.s.gate.Owe(size)
		if !a.c.write(a.ready, nil) {
			a.over = true
		}
		a.c.s.gate.Owe(-size)
	}
	a.ready = a.ready[:0]
}

// flush sends what can leave now, and says whether nothing is owed any more.
func (a *Answers) flush() (settled bool) {
	if a.queue != nil {
		if !a.queue.settled() {
			return false
		}
		a.queue = nil
	}
	a.send()
	if a.over {
		return false // the connection's goroutine wants to see it
	}
	a.reset()
	return true
}

// finish sends all, and waits for what has to be waited for. stop says that the server stops.
func (a *Answers) finish(stop bool) {
	if a.queue != nil {
		a.queue.finish(stop)
		a.queue = nil
	}
	a.send()
}

// reset makes a fit for another connection.
func (a *Answers) reset() *Answers {
	ready := a.ready[:0]
	if cap(ready) > 2*flushAt {
		ready = nil
	}
	*a = Answers{ready: ready}
	return a
}
