package position

// Again makes each record whose line takes more than size bytes the newest change, its line
// as it is: every reader of the order of changes comes by it once more. It is for lines that
// readers had to pass because they could not carry them: what they acknowledged since says
// nothing of those. It looks at n slots from the given one on, and returns where to go on
// and whether it has come to the end of the table.
func (t *Table) Again(size int, from uint32, n int) (next uint32, end bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for ; n > 0 && from < t.records.used; n-- {
		if r := t.records.at(from); r.revision != 0 && r.effective >= 0 && int(r.size) > size {
			t.touch(from, r)
		}
		from++
	}
	t.wake()
	return from, from >= t.records.used
}
