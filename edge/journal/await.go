package journal

import (
	"context"
	"sync"

	"herd/edge/position"
)

// neverMost bounds how many lines are remembered that the store will never take. Beyond it all
// are forgotten, and found again when they are next written.
const neverMost = 4096

// awaits holds the waiters of each slot: they wait until the slot's line is kept.
type awaits struct {
	mu     sync.Mutex
	of     map[uint32][]await
	turns  turns             // which lines go first
	never  map[uint32]uint64 // by slot: the revision that the store will never take
	closed error             // why nothing is promised now (D5); nil: it is
	flush  []passing
}

// passing is a waiter for the cursor to pass a revision.
type passing struct {
	revision uint64
	done     chan struct{}
}

type await struct {
	revision uint64
	of       *waiter
	line     int // index in the waiter's lines
}

// A waiter is one call of Await. Its fields are written under awaits.mu, before done is closed.
type waiter struct {
	left int   // lines not yet kept
	err  error // why nothing is promised
	turn *turn // nil: it no longer waits
	done chan struct{}
}

// Await returns nil once the journal holds each of these lines, or a newer line of the same
// client (D3). It returns the context's error if ctx ends first, and an error at once if one of
// the lines will not be kept. If all are held already it returns nil, even if ctx has ended.
// The caller must not change waits until Await returns. When more lines wait than fit in a
// batch, peers are served in turn (C18).
func (j *Journal) Await(ctx context.Context, who Peer, waits []position.Ref) error {
	w := &waiter{left: len(waits), done: make(chan struct{})}
	j.awaits.enter(who, waits, w)
	// A line that was kept or refused before enter is not reported again, so look once here.
	full := j.nearlyFull.Load()
	for _, x := range waits {
		switch kept, known := keeps(j.cfg.Table, x.Slot); {
		case kept:
			j.awaits.release(x, w)
		case full && !known:
			j.awaits.fail(w, errNearlyFull)
		}
	}
	j.awaits.admit(waits, w)
	select {
	case <-w.done:
	case <-ctx.Done():
		select {
		case <-w.done: // both are ready; done decides
		default:
			j.awaits.fail(w, ctx.Err())
		}
	}
	if w.err != nil {
		for _, x := range waits {
			j.awaits.release(x, w)
		}
	}
	return w.err
}

func (a *awaits) enter(who Peer, waits []position.Ref, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.of == nil {
		a.of = map[uint32][]await{}
	}
	if len(waits) == 0 {
		close(w.done)
		return
	}
	w.turn = a.turns.enter(who, waits)
	for i, x := range waits {
		a.of[x.Slot] = append(a.of[x.Slot], await{x.Revision, w, i})
	}
}

// admit fails a waiter that waits for a line that will not be kept.
func (a *awaits) admit(waits []position.Ref, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed != nil {
		a.end(w, a.closed)
		return
	}
	if len(a.never) == 0 {
		return
	}
	for _, x := range waits {
		if revision, ok := a.never[x.Slot]; ok && revision == x.Revision {
			a.end(w, ErrNever)
		}
	}
}

// first appends lines that are waited for, taken from the peers in turn (C18). It returns most,
// the size of the batch in entries; the appended lines are at most half of it. If several peers
// wait, batches are smaller, so that the next peer does not wait longer than one turn.
func (a *awaits) first(dst []position.Ref) (first []position.Ref, most int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if most = batchMost; a.turns.peers > 1 {
		most = min(most, max(batchTurn, 2*a.turns.peers))
	}
	return a.turns.take(dst, most/2), most
}

// end releases a waiter if it still waits; if err is not nil, without a promise. a.mu is held.
func (a *awaits) end(w *waiter, err error) {
	if w.turn == nil {
		return
	}
	a.turns.leave(w.turn)
	w.turn, w.err = nil, err
	close(w.done)
}

func (a *awaits) fail(w *waiter, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.end(w, err)
}

// failAll fails the waiters of each slot for which which returns true.
func (a *awaits) failAll(err error, which func(slot uint32) bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for slot, all := range a.of {
		if which(slot) {
			for _, x := range all {
				a.end(x.of, err)
			}
		}
	}
}

// close fails all waiters, and all that come until open is called.
func (a *awaits) close(err error) {
	a.mu.Lock()
	a.closed = err
	a.mu.Unlock()
	a.failAll(err, func(uint32) bool { return true })
}

func (a *awaits) open() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = nil
}

// skip records that the store will never take a line, and fails its waiters.
func (a *awaits) skip(x position.Ref) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.never) >= neverMost {
		clear(a.never)
	}
	if a.never == nil {
		a.never = map[uint32]uint64{}
	}
	a.never[x.Slot] = x.Revision
	for _, y := range a.of[x.Slot] {
		if y.revision <= x.Revision {
			a.end(y.of, ErrNever)
		}
	}
}

// skips returns items without those that the store will never take.
func (a *awaits) skips(items []item) []item {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.never) == 0 {
		return items
	}
	left := items[:0]
	for _, it := range items {
		if revision, ok := a.never[it.Slot]; !ok || revision != it.Revision {
			left = append(left, it)
		}
	}
	return left
}

// retry forgets which lines the store will never take: it may be another store now.
func (a *awaits) retry() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.never)
}

// kept releases the waits for lines that are now kept, or of which a newer one is.
func (a *awaits) kept(items []item) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range items {
		a.remove(items[i].Slot, func(x await) bool { return x.revision <= items[i].Revision })
	}
}

// merged releases the waits for lines that a read found in the store, or of which it found a
// newer one.
func (a *awaits) merged(ops []position.Op) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range ops {
		if ops[i].Kept {
			a.remove(ops[i].Slot, func(x await) bool { return x.revision <= ops[i].Revision })
		}
	}
}

// release ends one wait of w as kept.
func (a *awaits) release(x position.Ref, w *waiter) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.remove(x.Slot, func(y await) bool { return y.of == w && y.revision == x.Revision })
}

// remove ends the waits of a slot for which which returns true; a.mu is held.
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
		if x.of.turn == nil { // it was released without a promise
			continue
		}
		x.of.turn.keep(x.line)
		if x.of.left--; x.of.left == 0 {
			a.end(x.of, nil)
		}
	}
	if len(left) == 0 {
		delete(a.of, slot)
	} else {
		a.of[slot] = left
	}
}

// past returns a channel that is closed once the cursor has passed a revision and the store's
// state was checked after that.
func (a *awaits) past(revision uint64) <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	p := passing{revision, make(chan struct{})}
	a.flush = append(a.flush, p)
	return p.done
}

// passes reports whether a waiter waits for a revision that the cursor has passed.
func (a *awaits) passes(cursor uint64) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.flush {
		if p.revision <= cursor {
			return true
		}
	}
	return false
}

// passed releases the waiters for revisions through cursor.
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
