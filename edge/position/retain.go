package position

import "hash/maphash"

// Forget looks at the next n slots for records past HERD_RETAIN (S4) and drops
// them. It returns how many it dropped and whether it has come to the end of
// the table, from where the next call begins anew. Lookups and merges treat a
// record past its time as gone even before Forget has come by. dropped, unless nil, is told the
// line of each record of whose client the journal may hold something; it must be quick, and
// keeps nothing of the line. Where it says no, the record stays for a later call.
func (t *Table) Forget(now int64, n int, dropped func(line []byte) bool) (forgotten int, end bool) {
	if t.retain == 0 {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.head
	for ; n > 0 && t.sweep < t.records.used; n-- {
		r := t.records.at(t.sweep)
		switch {
		case r.revision == 0:
		case r.effective < 0:
			if !t.followed || r.revision <= t.since { // nobody will tell that all have heard
				t.drop(t.sweep)
			}
		case t.expired(r.effective, now):
			if r.sequence == 0 || dropped == nil || dropped(t.line(r)) {
				t.forget(t.sweep)
				forgotten++
			}
		}
		t.sweep++
	}
	if t.head != before {
		t.wake()
	}
	if t.sweep < t.records.used {
		return forgotten, false
	}
	t.sweep = 0
	return forgotten, true
}

// forget drops a record. Its entry in the order of changes dies with its
// revision; no reader is told, since every edge forgets by itself: but for the one who follows
// the clients (L4). For that reader it is a change, and the slot, the id and the line stay
// until Release.
func (t *Table) forget(slot uint32) {
	r := t.records.at(slot)
	t.setSequence(r, 0)
	if r.own {
		t.own--
	}
	t.forgot++
	if t.grid != nil {
		t.grid.remove(slot)
	}
	t.records.live--
	if !t.followed {
		t.drop(slot)
		return
	}
	t.records.gone++
	r.own, r.kept, r.effective = false, false, -1
	t.touch(slot, r)
}

// drop frees the slot of a record that was forgotten.
func (t *Table) drop(slot uint32) {
	r := t.records.at(slot)
	if r.effective < 0 {
		t.records.gone--
	}
	t.index.remove(maphash.Bytes(t.seed, t.client(r)), slot)
	t.lines.release(r.place, int(r.size))
	t.records.release(slot)
}
