package server

import (
	"context"
	"runtime"
)

// A Teller is a Session that has more to say than answers: lines between them (L3), from the
// first Answers.Follow on. Its methods, and what Follow calls, are called by one goroutine at a
// time, but not by the one that calls Take, and at the same time as that.
type Teller interface {
	// Tell appends whole lines that are to be told now, about most bytes at most. more says
	// that there are more of them now; else the wake that Follow's function was given is called
	// when there are. listing says that the answer that Follow began has not ended.
	Tell(dst []byte, most int) (told []byte, more, listing bool)
	// Written is called when the socket has taken what Tell returned last.
	Written()
	// Watches is how many reasons there are to tell anything. While there are some, the
	// connection is not idle (L6).
	Watches() int
	// Still appends a line that says that they live, for a connection that was told nothing
	// for a while (L6).
	Still(dst []byte) []byte
	// StopTelling ends them all: Tell has the last words (L5), and nothing after them.
	StopTelling()
}

// telling is what a queue needs to tell between answers. It stays with a connection from its
// first Answers.Follow on. Its fields are under queue.mu; the teller is the writer's alone.
type telling struct {
	teller  Teller
	wanted  bool  // there may be something to tell
	listing bool  // an answer that Follow began has not ended: what is behind it waits
	ending  bool  // nothing but lists is told any more
	stop    bool  // StopTelling is to be called
	stopped bool  // it was
	still   bool  // Teller.Still is to be told, unless something else was
	watches int   // as the teller last said
	last    int64 // when something was last told, or could have been, as Server.clock gives it
	ended   int64 // when the last watch ended
	fresh   bool  // out has something of Tell's
	buffer  *[]byte

	unhook   func() bool   // the server's stop does not reach the queue any more
	unhooked chan struct{} // closed when it has
}

// newTelling makes the queue one that tells. The connection's goroutine calls it.
func (q *queue) newTelling() {
	t := &telling{teller: q.c.session.(Teller), unhooked: make(chan struct{}), last: q.c.s.now()}
	q.mu.Lock()
	q.told = t
	q.mu.Unlock()
	q.await(func(_, stop context.Context) []byte {
		t.unhook = context.AfterFunc(stop, func() {
			defer close(t.unhooked)
			q.stop()
		})
		return nil
	})
}

// wake notes that there is something to tell. It waits for nothing but a short lock.
func (q *queue) wake() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.told.wanted || q.lost || q.closed {
		return
	}
	q.told.wanted = true
	if !q.writing { // who writes looks again
		q.tellLater()
	}
}

// tellLater has a teller send what can be sent. q.mu is held.
func (q *queue) tellLater() {
	q.asked.Add(1)
	q.c.s.tellers.add(q)
}

// stop ends what is told, with its last words (L5).
func (q *queue) stop() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told.stop = true
	q.send()
}

// tell appends what is to be told to out, and says whether there is, or may be, more of it: somebody may
// have called wake while the teller was asked. q.mu is held, but not then.
func (q *queue) tell() (more bool) {
	t := q.told
	if t == nil {
		return false
	}
	if t.stop && !t.stopped {
		t.stopped, t.wanted = true, true
		q.unlocked(t.teller.StopTelling)
	}
	if t.ending && !t.listing && !t.stopped {
		return false
	}
	now := q.c.s.now()
	if !t.wanted {
		if t.still && t.watches > 0 && !t.listing && now >= t.last+int64(q.c.s.cfg.Still) {
			q.borrow()
			q.extend(t.teller.Still(q.out))
			t.last = now
		}
		t.still = false
		return false
	}
	t.wanted = false
	q.borrow()
	before, most := len(q.out), min(flushAt, max(q.c.s.gate.Share(), smallSize))
	var told []byte
	var listing bool
	var watches int
	q.unlocked(func() {
		told, more, listing = t.teller.Tell(q.out, most)
		watches = t.teller.Watches()
	})
	t.watches = watches
	q.extend(told)
	if len(told) > before {
		t.fresh, t.last = true, now
	}
	if t.watches == 0 {
		t.ended = now
	}
	if t.listing && !listing {
		t.listing = false
		q.c.entry.waits.Add(-1)
	}
	t.wanted = t.wanted || more
	return t.wanted
}

// unlocked calls f without q.mu, which is held. It is for who writes.
func (q *queue) unlocked(f func()) {
	q.mu.Unlock()
	f()
	q.mu.Lock()
}

// extend takes out with something appended to it. q.mu is held, and the caller writes.
func (q *queue) extend(out []byte) {
	q.grow(len(out) - len(q.out))
	q.out = out
}

// borrow makes out fit for what is told, which is much if it is anything.
func (q *queue) borrow() {
	if t := q.told; cap(q.out) == 0 {
		if t.buffer == nil {
			t.buffer = q.c.s.outs.Get().(*[]byte)
		}
		q.out = (*t.buffer)[:0]
	}
}

// giveBack returns what borrow borrowed, grown or not, when out is empty. q.mu is held.
func (q *queue) giveBack() {
	if t := q.told; t != nil && t.buffer != nil {
		if cap(q.out) <= 4*flushAt {
			*t.buffer = q.out[:0]
		}
		q.c.s.outs.Put(t.buffer)
		t.buffer, q.out = nil, nil
	}
}

// takeTurn has the first answer take effect, where it waited for just that, and says whether
// there was one. q.mu is held, but not while it takes effect.
func (q *queue) takeTurn() bool {
	if len(q.runs) == 0 || q.runs[0].turn == nil || q.listing() {
		return false
	}
	r := q.runs[0]
	q.runs[0] = nil
	q.runs = q.runs[1:]
	var out []byte
	var listing bool
	var watches int
	t := q.told
	q.unlocked(func() {
		if out, listing = r.turn(q.out); t != nil {
			watches = t.teller.Watches()
		}
	})
	if t != nil {
		t.watches = watches
	}
	q.grow(-r.size)
	q.extend(out)
	if listing {
		q.told.listing, q.told.wanted = true, true
	} else {
		q.c.entry.waits.Add(-1)
	}
	return true
}

// listing says whether an answer is being told. q.mu is held.
func (q *queue) listing() bool { return q.told != nil && q.told.listing }

// owes says whether something is still to be sent before the connection ends. q.mu is held.
func (q *queue) owes() bool {
	if len(q.runs) > 0 || q.writing {
		return true
	}
	t := q.told
	return t != nil && !q.lost && (t.listing || t.stop && (!t.stopped || t.wanted))
}

// A connection that tells has its goroutine come by, because it waits for its client anyway:
// so nothing else is needed to know when it is silent.

// comeBy is when the connection's goroutine is to come by, for stillAlive.
func (q *queue) comeBy(now int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	t, still := q.told, int64(q.c.s.cfg.Still)
	if t.watches == 0 || t.listing || q.writing { // the client is told something, or takes nothing
		return now + still
	}
	return max(now, t.last+still)
}

// stillAlive tells the client that its watches live, if it was told nothing for a while.
func (q *queue) stillAlive() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.told.still = true
	q.send()
}

// active is when the connection last counted as active because it watches (L6).
func (q *queue) active(now int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.told.watches > 0 {
		return now
	}
	return q.told.ended
}

// yield lets others come first.
func (q *queue) yield() { q.unlocked(runtime.Gosched) }
