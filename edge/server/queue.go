package server

import (
	"context"
	"math"
	"runtime"
	"sync"
)

const (
	maxAhead = 8       // answers that wait and are asked for at once (C16)
	runCost  = 256     // bytes of an answer that waits, besides its own
	askCost  = 4 << 10 // and of one that is asked for: its goroutine has a stack

	// someWrites is how often a connection's own goroutine writes before it reads again, and a
	// teller before it goes on to another connection, where there may always be more to tell.
	someWrites = 4
)

// A queue holds the first answer that waits and everything behind it, in order. Whichever
// goroutine completes an answer writes all that has its turn then, so no goroutine is needed
// for order alone.
type queue struct {
	c     *conn
	await func(f func(client, stop context.Context) []byte) []byte
	over  func() // ends the contexts that await gives
	asked sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // something left, or the connection is lost
	runs    []*run    // in order
	size    int       // bytes in runs and out, and of what those that wait hold; all in Gate.pending too
	ahead   int       // how many of runs are asked for, or answered, and still here
	out     []byte    // has its turn; the writer's alone while writing
	writing bool
	lost    bool
	closed  bool     // nobody is asked or woken any more
	told    *telling // nil: nothing is told between answers
}

// run is one answer that waits, or any number of ready ones in a row.
type run struct {
	f     func(client, stop context.Context) []byte      // nil: ready, or being asked for
	turn  func(dst []byte) (answer []byte, listing bool) // waits for its turn alone
	asked bool
	ready bool
	size  int // while it waits
	text  []byte
}

// newQueue makes a queue behind answers that are ready.
func newQueue(c *conn, ready []byte) *queue {
	q := &queue{c: c, out: ready}
	q.await, q.over = c.s.awaiting()
	q.changed.L = &q.mu
	q.grow(len(ready))
	return q
}

// grow notes that n more bytes are owed. q.mu is held.
func (q *queue) grow(n int) {
	q.size += n
	q.c.s.gate.Owe(n)
}

// owed is how many bytes are.
func (q *queue) owed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.size
}

// append adds an answer that is ready behind those that wait.
func (q *queue) append(p []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost {
		return
	}
	q.grow(len(p))
	if last := len(q.runs) - 1; last >= 0 && q.runs[last].ready && !q.runs[last].asked {
		q.runs[last].text = append(q.runs[last].text, p...)
		return
	}
	q.runs = append(q.runs, &run{ready: true, text: append([]byte(nil), p...)})
}

// add adds an answer that waits, holding size bytes meanwhile: for its f to be asked, or for its turn.
func (q *queue) add(size int, r *run) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.lost {
		return
	}
	r.size = size + runCost
	q.grow(r.size)
	q.c.entry.waits.Add(1)
	q.runs = append(q.runs, r)
	q.ask()
}

// makeRoom waits until a quarter of the connection's share is free, or nothing is owed, and
// says whether the latter is so.
func (q *queue) makeRoom() (settled bool) {
	q.mu.Lock()
	if q.full() {
		input := q.c.inputSize()
		q.c.s.gate.Owe(input)
		for q.sendSome(someWrites, nil); q.full(); q.sendSome(someWrites, nil) {
			q.changed.Wait()
		}
		q.c.s.gate.Owe(-input)
	}
	q.mu.Unlock()
	return q.settled()
}

// full says that no more is to be added (C18). What others owe decides too, and nobody wakes
// this one when they owe less; but it owes something itself then, which does when it leaves.
// q.mu is held.
func (q *queue) full() bool {
	share := q.c.s.gate.Share()
	return !q.lost && q.size > 0 && q.size > share-share/4
}

// ask asks for as many as may be asked for, in order (C16). q.mu is held.
func (q *queue) ask() {
	for _, r := range q.runs {
		if q.ahead == maxAhead || q.lost {
			return
		}
		if r.f == nil {
			continue
		}
		f := r.f
		r.f, r.asked = nil, true
		q.ahead++
		r.size += askCost
		q.grow(askCost)
		q.asked.Go(func() {
			text := q.await(f)
			q.c.entry.waits.Add(-1)
			q.mu.Lock()
			defer q.mu.Unlock()
			r.text, r.ready = text, true
			if q.grow(-r.size); !q.lost {
				q.grow(len(text))
			}
			q.send()
			q.changed.Broadcast()
		})
	}
}

// lose drops what is owed: the connection is lost. What is asked for ends soon, and holds
// what it holds until then. q.mu is held.
func (q *queue) lose() {
	q.over()
	kept := 0
	for _, r := range q.runs {
		switch {
		case r.f != nil, r.turn != nil: // nobody will ask for it
			q.c.entry.waits.Add(-1)
		case !r.ready:
			kept += r.size
		}
	}
	q.grow(kept - q.size)
	q.lost, q.runs = true, nil
	if q.listing() {
		q.told.listing = false
		q.c.entry.waits.Add(-1)
	}
}

// send writes what has its turn, unless another goroutine does already, and says
// whether anything left. q.mu is held, but not while writing.
func (q *queue) send() (sent bool) { return q.sendSome(math.MaxInt, nil) }

// sendSome is send for who has more to do than to write: after so many writes the tellers go on.
// waits, unless nil, is called before a write that may have to wait for the client.
func (q *queue) sendSome(writes int, waits func()) (sent bool) {
	if q.writing || q.lost {
		return false
	}
	q.writing = true
	for !q.lost {
		if writes == 0 {
			q.tellLater()
			break
		}
		q.gather()
		more := q.tell()
		turn := len(q.out) < flushAt && q.takeTurn()
		if len(q.out) == 0 {
			if more {
				q.yield()
			} else if !turn {
				break
			}
			continue
		}
		var ok bool
		q.unlocked(func() {
			if ok = q.c.write(q.out, waits); ok && q.told != nil && q.told.fresh {
				q.told.teller.Written()
			}
			if more { // lists are much work: others' turn comes between
				runtime.Gosched()
			}
		})
		if q.told != nil {
			q.told.fresh = false
			writes--
		}
		q.grow(-len(q.out))
		q.out = q.out[:0]
		if !ok {
			q.lose()
		}
		sent = true
		q.changed.Broadcast()
	}
	q.writing = false
	q.changed.Broadcast() // the lock was not held all the time since something left
	q.giveBack()
	if len(q.runs) == 0 {
		q.runs, q.out = nil, nil // the client may say nothing for long
	}
	return sent
}

// gather moves what has its turn to out. q.mu is held.
func (q *queue) gather() {
	if q.listing() {
		return
	}
	n := 0
	for n < len(q.runs) && q.runs[n].ready && len(q.out) < flushAt {
		r := q.runs[n]
		q.out = append(q.out, r.text...)
		if r.asked {
			q.ahead--
		}
		n++
	}
	if n > 0 {
		clear(q.runs[:n])
		q.runs = q.runs[n:]
		q.ask()
	}
}

// settled sends what has its turn, and says whether that was all.
func (q *queue) settled() bool {
	q.mu.Lock()
	q.sendSome(someWrites, nil)
	all := len(q.runs) == 0 && !q.writing && q.told == nil
	q.mu.Unlock()
	if all {
		q.close()
	}
	return all
}

// finish waits until all is sent, or the connection lost. Of what is told, that is the lists
// that were asked for (L6) and, where the server stops, last words (L5).
func (q *queue) finish(stop bool) {
	q.mu.Lock()
	if t := q.told; t != nil {
		t.ending = true
		t.stop = t.stop || stop
	}
	for q.send(); q.owes(); q.send() {
		q.changed.Wait()
	}
	q.mu.Unlock()
	q.close()
}

// close ends a queue of which nothing is owed any more.
func (q *queue) close() {
	q.mu.Lock()
	q.closed = true
	told := q.told
	q.mu.Unlock()
	if told != nil && !told.unhook() {
		<-told.unhooked
	}
	q.asked.Wait() // on the last steps of whoever sent
	q.over()
}
