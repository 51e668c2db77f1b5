package journal

import (
	"context"
	"sync"

	"herd/edge/position"
)

// awaits are those who wait for a slot's line to be kept.
type awaits struct {
	mu    sync.Mutex
	of    map[uint32][]await
	flush []passing
}

// passing is who waits until the cursor has passed a revision.
type passing struct {
	revision uint64
	done     chan struct{}
}

type await struct {
	revision uint64
	of       *waiter
}

// A waiter is one call of Await.
type waiter struct {
	left int // waits not yet kept; under awaits.mu
	done chan struct{}
}

// Await returns when the journal holds each of these lines, or a newer one of its
// client (D3); or the context's error, when it ends before. What is held already is
// so even for a context that has ended.
func (j *Journal) Await(ctx context.Context, waits []position.Ref) error {
	w := &waiter{left: len(waits), done: make(chan struct{})}
	j.awaits.enter(waits, w)
	// What was kept before it was entered nobody will tell.
	for _, x := range waits {
		if j.cfg.Table.IsKept(x.Slot) {
			j.awaits.release(x, w)
		}
	}
	select {
	case <-w.done:
		return nil
	case <-ctx.Done():
	}
	select {
	case <-w.done: // both are true, and only one of them is a promise
		return nil
	default:
	}
	for _, x := range waits {
		j.awaits.release(x, w)
	}
	return ctx.Err()
}

func (a *awaits) enter(waits []position.Ref, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[uint32][]await{}
	}
	for _, x := range waits {
		a.of[x.Slot] = append(a.of[x.Slot], await{x.Revision, w})
	}
	if len(waits) == 0 {
		close(w.done)
	}
}

// kept lets those go whose line, or a newer one, is now kept.
func (a *awaits) kept(items []position.Item) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range items {
		a.remove(items[i].Slot, func(x await) bool { return x.revision <= items[i].Revision })
	}
}

// merged lets those go whose line, or a newer one, turned out to be in the store already.
func (a *awaits) merged(ops []position.Op) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range ops {
		if ops[i].Kept {
			a.remove(ops[i].Slot, func(x await) bool { return x.revision <= ops[i].Revision })
		}
	}
}

// release lets one wait go, if it still waits.
func (a *awaits) release(x position.Ref, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(x.Slot, func(y await) bool { return y.of == w && y.revision == x.Revision })
}

// remove takes the waits of a slot out for which which is true; a.mu is held.
func (a *awaits) remove(slot uint32, which func(await) bool) {
	all, ok := a.of[slot]
	if !ok {
		return
	}
	left := all[:0]
	for _, x := range all {
		if !which(x) {
			left = append(left, x)
			continue
		}
		if x.of.left--; x.of.left == 0 {
			close(x.of.done)
		}
	}
	if len(left) == 0 {
		delete(a.of, slot)
	} else {
		a.of[slot] = left
	}
}

// past returns what is closed when the cursor has next passed a revision.
func (a *awaits) past(revision uint64) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := passing{revision, make(chan struct{})}
	a.flush = append(a.flush, p)
	return p.done
}

// passed lets those go who wait for the cursor.
func (a *awaits) passed(cursor uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	left := a.flush[:0]
	for _, p := range a.flush {
		if p.revision <= cursor {
			close(p.done)
		} else {
			left = append(left, p)
		}
	}
	a.flush = left
}
