package server

import (
	"context"
	"sync"
)

const (
	flushAt = 64 << 10 // bytes of ready answers that leave without waiting for more

	maxAhead  = 8         // answers that wait and are asked for at once (C16)
	maxLate   = 256       // answers that wait or stand behind one, in runs; and
	maxBehind = 256 << 10 // bytes of those that are ready: beyond either, reading stops (C18)
)

// Answers collects what a connection is owed, in the order in which it leaves. A
// Session uses it only while it is in Take or Overlong.
type Answers struct {
	c     *conn
	ready []byte // with no answer that waits before them
	late  *late  // nil: no answer waits
	over  bool   // no more answers: the last was given, or the connection is lost
}

// Append adds an answer that is ready. p is copied.
func (a *Answers) Append(p []byte) {
	if a.over {
		return
	}
	if a.late != nil {
		a.late.append(p)
		return
	}
	a.ready = append(a.ready, p...)
	if len(a.ready) >= flushAt {
		a.send()
	}
}

// Later adds an answer that has to be waited for, and keeps its place. f is called
// in a goroutine of its own, at most 8 of a connection at once and in the order of
// their places (C16). Its context ends when the server stops (C19); the connection
// is not over before f has returned. What f returns belongs to the server then.
func (a *Answers) Later(f func(ctx context.Context) []byte) {
	if a.over {
		return
	}
	if a.late == nil {
		a.late = &late{c: a.c, out: a.ready}
		a.late.changed.L = &a.late.mu
		a.ready = nil
	}
	a.late.add(f)
}

// Close has the connection closed after the answers so far. What is added later is
// ignored, and so is the rest of the client's input (C17).
func (a *Answers) Close() { a.over = true }

// send writes what is ready.
func (a *Answers) send() {
	if len(a.ready) > 0 && !a.c.write(a.ready) {
		a.over = true
	}
	a.ready = a.ready[:0]
}

// flush sends what can leave now, and says whether nothing is owed any more.
func (a *Answers) flush() (settled bool) {
	if a.late != nil {
		if !a.late.settled() {
			return false
		}
		a.late = nil
	}
	a.send()
	if a.over {
		return false // the connection's goroutine wants to see it
	}
	a.reset()
	return true
}

// finish sends all, and waits for what has to be waited for.
func (a *Answers) finish() {
	if a.late != nil {
		a.late.finish()
		a.late = nil
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

// late is the answers from the first that waits on. The goroutine of the one that
// comes in sends what can leave then, so there are as many goroutines as answers
// are asked for, and none for order alone.
type late struct {
	c     *conn
	asked sync.WaitGroup

	mu      sync.Mutex
	changed sync.Cond // something left, or the connection is lost
	runs    []*run    // in order
	size    int       // bytes in runs
	ahead   int       // how many of runs are asked for, or answered, and still here
	out     []byte    // has its turn; the writer's alone while writing
	writing bool
	lost    bool
}

// run is one answer that waits, or any number of ready ones in a row.
type run struct {
	f     func(context.Context) []byte // nil: ready, or being asked for
	asked bool
	ready bool
	text  []byte
}

// append adds an answer that is ready behind those that wait.
func (l *late) append(p []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.room() {
		return
	}
	l.size += len(p)
	if last := len(l.runs) - 1; last >= 0 && l.runs[last].ready && !l.runs[last].asked {
		l.runs[last].text = append(l.runs[last].text, p...)
		return
	}
	l.runs = append(l.runs, &run{ready: true, text: append([]byte(nil), p...)})
}

// add adds an answer that waits.
func (l *late) add(f func(context.Context) []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.room() {
		return
	}
	l.runs = append(l.runs, &run{f: f})
	l.ask()
}

// room waits for it (C18); false means that the connection is lost. l.mu is held.
func (l *late) room() bool {
	for !l.lost && (len(l.runs) >= maxLate || l.size >= maxBehind) {
		if !l.send() {
			l.changed.Wait()
		}
	}
	return !l.lost
}

// ask asks for as many as may be asked for, in order (C16). l.mu is held.
func (l *late) ask() {
	for _, r := range l.runs {
		if l.ahead == maxAhead || l.lost {
			return
		}
		if r.f == nil {
			continue
		}
		f := r.f
		r.f, r.asked = nil, true
		l.ahead++
		l.asked.Go(func() {
			text := l.c.s.await(f)
			l.mu.Lock()
			defer l.mu.Unlock()
			r.text, r.ready = text, true
			l.size += len(text)
			l.send()
			l.changed.Broadcast()
		})
	}
}

// send writes what has its turn, unless another goroutine does already, and says
// whether anything left. l.mu is held, but not while writing.
func (l *late) send() (sent bool) {
	if l.writing || l.lost {
		return false
	}
	l.writing = true
	for {
		l.gather()
		if len(l.out) == 0 {
			break
		}
		l.mu.Unlock()
		ok := l.c.write(l.out)
		l.mu.Lock()
		l.out = l.out[:0]
		if !ok {
			l.lost, l.runs, l.size = true, nil, 0
		}
		sent = true
		l.changed.Broadcast()
	}
	l.writing = false
	if len(l.runs) == 0 {
		l.runs, l.out = nil, nil // the client may say nothing for long
	}
	return sent
}

// gather moves what has its turn to out. l.mu is held.
func (l *late) gather() {
	n := 0
	for n < len(l.runs) && l.runs[n].ready && len(l.out) < flushAt {
		r := l.runs[n]
		l.out = append(l.out, r.text...)
		l.size -= len(r.text)
		if r.asked {
			l.ahead--
		}
		n++
	}
	if n > 0 {
		clear(l.runs[:n])
		l.runs = l.runs[n:]
		l.ask()
	}
}

// settled sends what has its turn, and says whether that was all.
func (l *late) settled() bool {
	l.mu.Lock()
	l.send()
	all := len(l.runs) == 0 && !l.writing
	l.mu.Unlock()
	if all {
		l.asked.Wait() // on the last steps of whoever sent
	}
	return all
}

// finish waits until all is sent, or the connection lost.
func (l *late) finish() {
	l.mu.Lock()
	for l.send(); len(l.runs) > 0 || l.writing; l.send() {
		l.changed.Wait()
	}
	l.mu.Unlock()
	l.asked.Wait()
}
