package journal

import (
	"math"

	"herd/edge/position"
)

// An item is a line on its way to the store.
type item struct {
	position.Ref
	sequence uint64 // the last one of its key that is known; 0: none (D5)
	line     []byte // with its LF; part of batch.lines
}

// unknownSequence stands for the sequence of a key that the store holds, but nobody knows at
// which.
const unknownSequence = math.MaxUint64

func (it *item) client() []byte { return position.ClientOf(it.line) }

// A batch is what one write gives to the store. It is read from the table a piece of the order
// of changes at a time, and keeps its memory from one write to the next. A slot occurs in it once.
type batch struct {
	items []item
	full  bool // nothing more may be added

	lines []byte
	taken map[uint32]uint64 // revisions by slot, of the first noted items
	noted int
}

// A want says what a batch takes.
type want struct {
	most  int            // items
	limit int            // bytes of lines
	now   int64          // in Unix nanoseconds: lines past HERD_RETAIN then are left out
	known bool           // only clients that the store has an entry of: there is no room for others (D6)
	first []position.Ref // what answers wait for, in the order in which they are served (C18)
}

// reset empties the batch and makes memory for so many bytes of lines.
func (b *batch) reset(limit int) {
	b.items, b.lines, b.full, b.noted = b.items[:0], b.lines[:0], false, 0
	clear(b.taken)
	if cap(b.lines) < limit {
		b.lines = make([]byte, 0, limit)
	}
}

// read adds the records of this edge's own clients that changed after the cursor and that the
// store lacks (D1), and returns where the cursor goes: past what was left out, and past what is in
// the batch. A batch is read in pieces until it is full or the cursor is at the table's head.
//
// If more changed than the batch has room for, up to half of it goes to what answers wait for. If
// the store gets less than what changes, half of the batch is not the cursor's: it goes to what
// answers wait for and to what the hand finds (H3).
func (b *batch) read(v position.View, cursor uint64, w *want, hand *position.Hand) (through uint64) {
	before := len(b.items)
	if before > 0 {
		b.note()
	}
	if v.Head()-cursor > uint64(w.most-before) {
		b.takeFirst(v, cursor, w)
	}
	most, limit := w.most, w.limit
	if hand.On() { // the cursor has half, and goes on by one line at least
		most = min(most, max(most/2, len(b.items)+1))
		limit = min(limit, max(limit/2, len(b.lines)+position.MaxLine))
	}
	served := uint64(0)
	through, end := v.Scan(cursor, func(r position.Record) bool {
		if !w.lacks(r) {
			if !r.Kept() {
				served++
			}
			return true
		}
		if len(b.taken) > 0 {
			if was, ok := b.taken[r.Ref().Slot]; ok {
				b.full = was != r.Revision() // it has changed since it was read: the next batch has it
				return !b.full
			}
		}
		if b.full = !b.fits(r, most, limit); !b.full {
			b.add(r)
		}
		return !b.full
	})
	switch {
	case end:
		hand.Reset()
	case b.full:
		b.takeByHand(v, through, w, hand)
		hand.Filled(v.Head(), served+uint64(len(b.items)-before))
	}
	return through
}

// lacks reports whether the store is to be given a record.
func (w *want) lacks(r position.Record) bool {
	return r.Own() && !r.Kept() && !r.Expired(w.now) && (!w.known || r.Sequence() != 0)
}

// fits reports whether a batch of at most so many items and bytes has room for a record.
func (b *batch) fits(r position.Record, most, limit int) bool {
	return len(b.items) < most && len(b.lines)+r.Len() <= limit
}

// takeFirst gives up to half of the batch to what answers wait for.
func (b *batch) takeFirst(v position.View, cursor uint64, w *want) {
	for _, ref := range w.first {
		if b.has(ref.Slot) {
			continue
		}
		r, ok := v.At(ref.Slot)
		if !ok || r.Revision() <= cursor || !w.lacks(r) { // it is in the batch, or needs no writing
			continue
		}
		if !b.fits(r, w.most/2, w.limit/2) {
			return
		}
		b.addBeside(r)
	}
}

// takeByHand fills what the cursor has left of the batch.
func (b *batch) takeByHand(v position.View, cursor uint64, w *want, hand *position.Hand) {
	v.Round(hand, cursor, func(r position.Record) bool {
		if !w.lacks(r) || b.has(r.Ref().Slot) {
			return true
		}
		if !b.fits(r, w.most, w.limit) {
			return false
		}
		b.addBeside(r)
		return true
	})
}

func (b *batch) add(r position.Record) {
	sequence := r.Sequence()
	if sequence == unknownSequence {
		sequence = 0
	}
	from := len(b.lines)
	b.lines = append(b.lines, r.Line()...)
	b.items = append(b.items, item{r.Ref(), sequence, b.lines[from:]})
}

// addBeside adds a record that the cursor has not come to.
func (b *batch) addBeside(r position.Record) {
	b.add(r)
	b.note()
}

// note enters all items in taken, because they may be met again.
func (b *batch) note() {
	if b.taken == nil {
		b.taken = map[uint32]uint64{}
	}
	for ; b.noted < len(b.items); b.noted++ {
		it := &b.items[b.noted]
		b.taken[it.Slot] = it.Revision
	}
}

func (b *batch) has(slot uint32) bool {
	_, ok := b.taken[slot]
	return ok
}
