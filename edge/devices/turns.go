package devices

import (
	"context"
	"errors"
	"net/netip"
	"sync"
)

// errFull is what turns says where too many wait.
var errFull = errors.New("too many wait")

// turns shares a few places among many who want one, by turns of their addresses, so that whoever
// asks for all it can makes nobody else wait for long (C18). Its methods may be called from any
// goroutine.
type turns struct {
	places int // how many there are
	each   int // how many of them one address may have
	most   int // how many may wait; 0: no limit

	mu      sync.Mutex
	taken   int
	has     map[netip.Addr]int
	waits   map[netip.Addr][]*waiter
	order   []netip.Addr // those that wait; the next first
	waiting int
}

// A waiter is somebody who waits for a place. got is closed when that is over: with full, because
// it gave way to one of another address.
type waiter struct {
	got  chan struct{}
	full bool
}

// enter waits for a place, which leave gives back. The error is errFull or ctx's, and there is
// no place then.
func (t *turns) enter(ctx context.Context, from netip.Addr) error {
	t.mu.Lock()
	if t.has == nil {
		t.has, t.waits = map[netip.Addr]int{}, map[netip.Addr][]*waiter{}
	}
	if t.taken < t.places && t.has[from] < t.each && len(t.waits[from]) == 0 {
		t.take(from)
		t.mu.Unlock()
		return nil
	}
	if t.most > 0 && t.waiting >= t.most && !t.displace(from) {
		t.mu.Unlock()
		return errFull
	}
	w := &waiter{got: make(chan struct{})}
	if len(t.waits[from]) == 0 {
		t.order = append(t.order, from)
	}
	t.waits[from] = append(t.waits[from], w)
	t.waiting++
	t.mu.Unlock()

	select {
	case <-w.got:
	case <-ctx.Done():
		t.mu.Lock()
		defer t.mu.Unlock()
		select {
		case <-w.got:
			if !w.full {
				t.put(from)
			}
		default:
			t.remove(from, w)
		}
		return ctx.Err()
	}
	if w.full {
		return errFull
	}
	return nil
}

// leave gives a place back.
func (t *turns) leave(from netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.put(from)
}

func (t *turns) take(from netip.Addr) {
	t.taken++
	t.has[from]++
}

// put frees a place and gives it to whose turn it is.
func (t *turns) put(from netip.Addr) {
	t.taken--
	if t.has[from]--; t.has[from] == 0 {
		delete(t.has, from)
	}
	for i := 0; i < len(t.order) && t.taken < t.places; {
		next := t.order[i]
		if t.has[next] >= t.each {
			i++
			continue
		}
		w := t.waits[next][0]
		t.order = append(t.order[:i], t.order[i+1:]...)
		if t.waits[next] = t.waits[next][1:]; len(t.waits[next]) > 0 {
			t.order = append(t.order, next)
		} else {
			delete(t.waits, next)
		}
		t.waiting--
		t.take(next)
		close(w.got)
	}
}

// remove takes a waiter out.
func (t *turns) remove(from netip.Addr, w *waiter) {
	all := t.waits[from]
	for i := range all {
		if all[i] == w {
			t.waits[from] = append(all[:i:i], all[i+1:]...)
			t.waiting--
			break
		}
	}
	if len(t.waits[from]) > 0 {
		return
	}
	delete(t.waits, from)
	for i := range t.order {
		if t.order[i] == from {
			t.order = append(t.order[:i], t.order[i+1:]...)
			return
		}
	}
}

// displace makes room for one who would wait: the last to come of the address with most who wait
// gives way, if that still has more than the newcomer's. It reports whether one did.
func (t *turns) displace(from netip.Addr) bool {
	var most netip.Addr
	for _, address := range t.order {
		if len(t.waits[address]) > len(t.waits[most]) {
			most = address
		}
	}
	all := t.waits[most]
	if len(all) <= len(t.waits[from])+1 {
		return false
	}
	w := all[len(all)-1]
	w.full = true
	t.remove(most, w)
	close(w.got)
	return true
}
