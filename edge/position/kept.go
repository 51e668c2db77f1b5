package position

import "bytes"

// An Item is a record on its way to the journal.
type Item struct {
	Slot     uint32
	Revision uint64
	Sequence uint64 // the last one of its key that is known; 0: none (D5)
	Line     []byte // with its LF; in the buffer that ReadOwn was given
}

// A Ref is a line as it was held after a step: where, and by which revision.
type Ref struct {
	Slot     uint32
	Revision uint64
}

// Client is the id in the item's line.
func (i *Item) Client() []byte {
	at := clientAt(i.Line)
	return i.Line[at : int(at)+bytes.IndexByte(i.Line[at:], ' ')]
}

// clientAt is where the client's id begins in an AT line: behind "AT", the edge
// and the skew, three spaces of at most 60 bytes in all.
func clientAt(line []byte) uint8 {
	at := 3
	at += bytes.IndexByte(line[at:], ' ') + 1
	at += bytes.IndexByte(line[at:], ' ') + 1
	return uint8(at)
}

// ReadOwn is Read for the journal (D1): it appends to items the records of this
// edge's own clients behind the cursor after that the journal does not hold yet, at
// most most of them, and their lines to room, at most limit bytes. It returns both,
// and the piece of the order that it looked at.
func (t *Table) ReadOwn(items []Item, room []byte, after uint64, most, limit int, now int64) ([]Item, []byte, Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	span := Span{Through: after, Head: t.head}
	if need := limit - (cap(room) - len(room)); need > 0 {
		room = append(make([]byte, 0, limit+len(room)), room...) // lines must not move
	}
	start := len(room)
	seg, at := t.changes.after(after)
	for scanned := 0; seg < len(t.changes.segments); seg, at = seg+1, 0 {
		s := t.changes.segments[seg]
		for ; at < s.n; at++ {
			if scanned++; scanned > readScan {
				return items, room, span
			}
			revision, slot := s.revision(at), s.slot[at]
			r := t.records.at(slot)
			if r.revision != revision || !r.own || r.kept || t.expired(r.effective, now) {
				span.Through = revision
				continue
			}
			if span.Lines == most || len(room)-start+int(r.size) > limit {
				return items, room, span
			}
			from := len(room)
			room = append(room, t.line(r)...)
			items = append(items, Item{slot, revision, r.sequence, room[from:]})
			span.Through = revision
			span.Lines++
		}
	}
	span.Through = max(after, t.head)
	return items, room, span
}

// Keep notes that the journal now holds the lines of items, at the Sequence that
// each has been given.
func (t *Table) Keep(items []Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range items {
		if r := t.itemRecord(&items[i]); r != nil {
			r.sequence = items[i].Sequence
			r.kept = r.revision == items[i].Revision
		}
	}
}

// itemRecord is the item's record, nil where the client was forgotten meanwhile.
func (t *Table) itemRecord(i *Item) *record {
	if i.Slot >= t.records.used {
		return nil
	}
	r := t.records.at(i.Slot)
	if r.revision == 0 || !bytes.Equal(t.client(r), i.Client()) {
		return nil
	}
	return r
}

// Expect notes the last sequence of an item's key in the journal, where it is
// another than was known (D5): 0 where there is no such key.
func (t *Table) Expect(item *Item) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r := t.itemRecord(item); r != nil {
		r.sequence, r.kept = item.Sequence, false
	}
}

// IsKept says whether the journal holds the line that the record in a slot has now.
func (t *Table) IsKept(slot uint32) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slot < t.records.used && t.records.at(slot).kept
}

// Unkeep forgets what is known of the journal, because the bucket is another, or has gone
// back (D5): nothing is kept, and no key has a sequence. Own clients stay own.
func (t *Table) Unkeep() {
	const step = 4096 // under one lock
	for from, end := uint32(0), false; !end; from += step {
		t.mu.Lock()
		for slot := from; slot < min(from+step, t.records.used); slot++ {
			r := t.records.at(slot)
			r.sequence, r.kept = 0, false
		}
		end = from+step >= t.records.used
		t.mu.Unlock()
	}
}
