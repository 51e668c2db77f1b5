package position

import "hash/maphash"

// Forget looks at the next n slots for records past HERD_RETAIN (S4) and drops
// them. It returns how many it dropped and whether it has come to the end of
// the table, from where the next call begins anew. Lookups and merges treat a
// record past its time as gone even before Forget has come by. dropped, unless nil, is told the
// line and the sequence of each record that the journal may hold; it must be
// quick, and keeps nothing of the line.
func (t *Table) Forget(now int64, n int, dropped func(line []byte, sequence uint64)) (forgotten int, end bool) {
	if t.retain == 0 {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; n > 0 && t.sweep < t.records.used; n-- {
		if r := t.records.at(t.sweep); r.revision != 0 && t.expired(r.effective, now) {
			if r.sequence != 0 && dropped != nil {
				dropped(t.line(r), r.sequence)
			}
			t.forget(t.sweep)
			forgotten++
		}
		t.sweep++
	}
	if t.sweep < t.records.used {
		return forgotten, false
	}
	t.sweep = 0
	return forgotten, true
}

// forget drops a record. Its entry in the order of changes dies with its
// revision; no reader is told, since every edge forgets by itself.
func (t *Table) forget(slot uint32) {
	r := t.records.at(slot)
	t.index.remove(maphash.Bytes(t.seed, t.client(r)), slot)
	t.lines.release(r.place, int(r.size))
	t.records.release(slot)
	t.forgot++
}
