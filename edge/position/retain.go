package position

import "hash/maphash"

// Forget looks at the next n slots for records past HERD_RETAIN (S4) and drops
// them. It returns how many it dropped and whether it has come to the end of
// the table, from where the next call begins anew. Lookups and merges treat a
// record past its time as gone even before Forget has come by.
func (t *Table) Forget(now int64, n int) (forgotten int, end bool) {
	if t.retain == 0 {
		return 0, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; n > 0 && t.sweep < t.records.used; n-- {
		if r := t.records.at(t.sweep); r.revision != 0 && t.expired(r.effective, now) {
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
