package server

import (
	"sync"

	"herd/edge/fifo"
)

// tellers send what is told to connections whose own goroutines wait for their clients. There are as
// many of them as processors while anything is to be told, and none else. One that comes to a socket
// that takes no more stays with it, and another takes its place: so nobody waits for another's client.
// A goroutine for each connection would do the same; where ten thousand follow one client, to make
// them, and their stacks, takes a third of the time.
type tellers struct {
	mu      sync.Mutex
	waiting fifo.Queue[*queue]
	working int // tellers that take from waiting
	most    int // of these
}

// add has a teller send what can be sent of a queue, whose asked counts that.
func (t *tellers) add(q *queue) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.waiting.Push(q)
	t.begin(q.c.s)
}

// begin starts a teller if one is missing. t.mu is held, and something waits: so its connection, and the
// server, wait for the teller.
func (t *tellers) begin(s *Server) {
	if t.working < t.most {
		t.working++
		s.conns.Go(func() { t.work(s) })
	}
}

// work is a teller.
func (t *tellers) work(s *Server) {
	left := false
	leave := func() {
		if !left {
			left = true
			t.leave(s)
		}
	}
	for !left {
		q := t.take()
		if q == nil {
			return
		}
		q.mu.Lock()
		q.sendSome(someWrites, leave)
		q.mu.Unlock()
		q.asked.Done()
	}
}

// take returns the next queue; nil: there is none, and the teller has ended.
func (t *tellers) take() *queue {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.waiting.Len() == 0 {
		t.working--
		return nil
	}
	return t.waiting.Pop()
}

// leave has another teller go on, where there is something to tell.
func (t *tellers) leave(s *Server) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.working--
	if t.waiting.Len() > 0 {
		t.begin(s)
	}
}
