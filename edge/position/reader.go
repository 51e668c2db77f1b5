package position

// readScan bounds how many entries one Read looks at, and so how long it holds
// the lock.
const readScan = 2048

// A Span is a piece of the order of changes: what Read found behind a cursor.
type Span struct {
	Through uint64 // the piece ends with this revision: the cursor's next place
	Head    uint64 // the newest revision
	Lines   int    // how many lines were appended
}

// Read appends to dst the lines behind the cursor after, oldest change first
// (H2, H3), until limit bytes are full, the end is reached or it has looked at
// a few thousand entries. A record that has changed again is met only at its
// newest place. Left out is what the neighbour numbered to.Holder is known to
// hold if to.Epoch is its present epoch (H4), and what is past HERD_RETAIN at now.
//
// Through moves past what was left out, so it can be beyond after where Lines is 0.
func (t *Table) Read(dst []byte, after uint64, limit int, to Source, now int64) ([]byte, Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	span := Span{Through: after, Head: t.head}
	bit, floor := t.holds(to)
	start := len(dst)
	seg, at := t.changes.after(after)
	for scanned := 0; seg < len(t.changes.segments); seg, at = seg+1, 0 {
		s := t.changes.segments[seg]
		for ; at < s.n; at++ {
			if scanned++; scanned > readScan {
				return dst, span
			}
			revision := s.revision(at)
			r := t.records.at(s.slot[at])
			if r.revision != revision ||
				r.holders&bit != 0 && revision > floor ||
				t.expired(r.effective, now) {
				span.Through = revision
				continue
			}
			if len(dst)-start+int(r.size) > limit {
				return dst, span
			}
			dst = append(dst, t.line(r)...)
			span.Through = revision
			span.Lines++
		}
	}
	span.Through = max(after, t.head) // also past what was cleaned up at the end
	return dst, span
}

// holds returns the bit and floor of what a neighbour's epoch is known to hold.
func (t *Table) holds(to Source) (bit uint32, floor uint64) {
	if to.Holder < 1 || to.Holder > MaxHolders || to.Epoch == "" {
		return 0, 0
	}
	h := &t.holders[to.Holder]
	if h.epoch != to.Epoch {
		return 0, 0
	}
	return 1 << (to.Holder - 1), h.floor
}

// A Reader waits for changes. It costs nothing while it does not wait; while it
// does, a batch of changes costs a comparison.
type Reader struct {
	// C gets a value when there is something beyond the revision last given to
	// Wait. It may get one too many.
	C <-chan struct{}

	c       chan struct{}
	waiting bool   // in table.waiting; under its lock
	after   uint64 // it waits for a revision beyond this; under the table's lock
}

// NewReader makes a Reader that does not wait yet.
func NewReader() *Reader {
	c := make(chan struct{}, 1)
	return &Reader{C: c, c: c}
}

// Wait lets r.C get a value as soon as there is a revision beyond after, which may
// be yet to come: at once where there is one already. One Wait is good for one value;
// another before it replaces it.
func (t *Table) Wait(r *Reader, after uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.head > after:
		r.signal() // if it is among the waiting, that is one value too many
	case !r.waiting:
		r.waiting = true
		t.waiting = append(t.waiting, r)
		fallthrough
	default:
		r.after = after
	}
}

// wake signals those for whom there is something and lets them go.
func (t *Table) wake() {
	n := 0
	for _, r := range t.waiting {
		if t.head > r.after {
			r.waiting = false
			r.signal()
			continue
		}
		t.waiting[n] = r
		n++
	}
	clear(t.waiting[n:])
	t.waiting = t.waiting[:n]
}

func (r *Reader) signal() {
	select {
	case r.c <- struct{}{}:
	default:
	}
}
