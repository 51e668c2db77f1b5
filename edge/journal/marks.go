package journal

import (
	"bytes"

	"herd/edge/position"
)

// The table's records have marks of what the store holds (position.Record): the sequence of the
// client's entry, and whether the entry is the very line. This file sets and reads them.

// markKept marks that the store now holds the lines of items, at their sequences. orphan is
// called with each client that was forgotten meanwhile, or was forgotten and came back from a
// neighbour: its entry has no client that the journal follows (S4). orphan must be quick and
// keeps nothing of the client.
func markKept(t *position.Table, items []item, orphan func(client []byte)) {
	t.View(func(v position.View) {
		for i := range items {
			it := &items[i]
			r, ok := v.At(it.Slot)
			if !ok || !r.Own() || !bytes.Equal(r.Client(), it.client()) {
				if r, ok = findOwn(v, it.client()); !ok {
					orphan(it.client())
					continue
				}
			}
			r.SetSequence(it.sequence)
			r.SetKept(r.Revision() == it.Revision)
		}
	})
}

// findOwn finds the record of a client if the client is this edge's own.
func findOwn(v position.View, client []byte) (position.Record, bool) {
	r, ok := v.Find(client)
	return r, ok && r.Own()
}

// markLost marks that the store no longer holds a client's line, because somebody else wrote or
// deleted its key; held says that there is something under the key all the same. A client of
// this edge's own is then a change for the journal.
func markLost(t *position.Table, client []byte, held bool) {
	t.View(func(v position.View) {
		if r, ok := findOwn(v, client); ok {
			lose(r, held)
		}
	})
}

// markReplaced is markLost where the store is known to have held a line of the client before this
// sequence.
func markReplaced(t *position.Table, client []byte, held bool, sequence uint64) {
	t.View(func(v position.View) {
		if r, ok := findOwn(v, client); ok && r.Sequence() != 0 && r.Sequence() < sequence {
			lose(r, held)
		}
	})
}

func lose(r position.Record, held bool) {
	r.SetSequence(0)
	if held {
		r.SetSequence(unknownSequence)
	}
	r.SetKept(false)
	r.Touch()
}

// returned reports whether a client whose entry is to be deleted is one of this edge's own again:
// then its new line replaces the entry, or is the entry. It marks that there is an entry, so that the
// entry is not overlooked when the client is forgotten anew. That is so too where the client is past its
// time again: the table has it until it is forgotten, and what it says of the entry has to be true.
func returned(t *position.Table, client []byte) (back bool) {
	t.View(func(v position.View) {
		r, ok := findOwn(v, client)
		if !ok {
			return
		}
		back = true
		if r.Sequence() == 0 {
			r.SetSequence(unknownSequence)
			r.Touch() // a journal that takes no new clients takes this one
		}
	})
	return back
}

// keeps reports whether the store holds the line in a slot, and whether it has any entry of the
// client.
func keeps(t *position.Table, slot uint32) (kept, known bool) {
	t.View(func(v position.View) {
		if r, ok := v.At(slot); ok {
			kept, known = r.Kept(), r.Sequence() != 0
		}
	})
	return kept, known
}

// unmark removes all marks, because the store is another one or has gone back (D5). Own clients
// stay own.
func unmark(t *position.Table) {
	const step = 4096 // under one lock
	for from, end := uint32(0), false; !end; from += step {
		t.View(func(v position.View) {
			for slot := from; slot < min(from+step, v.Slots()); slot++ {
				if r, ok := v.At(slot); ok {
					r.SetSequence(0)
					r.SetKept(false)
				}
			}
			end = from+step >= v.Slots()
		})
	}
}
