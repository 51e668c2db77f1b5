package position

// A Span is a piece of the order of changes: what Read found behind a cursor.
type Span struct {
	Through uint64 // the piece ends with this revision: the cursor's next place
	Head    uint64 // the newest revision
	Lines   int    // how many lines were appended
	TooLong int    // how many lines were passed because none of them fits in limit
}

// Read appends to dst the lines behind the cursor after, oldest change first
// (H2, H3), until limit bytes are full, the end is reached or it has looked at
// a few thousand entries. A record that has changed again is met only at its
// newest place. Left out is what the neighbour numbered to.Neighbour is known to
// hold if to.Epoch is its present epoch (H4), what is past HERD_RETAIN at now, and a line
// that is longer than limit.
//
// Through moves past what was left out, so it can be beyond after where Lines is 0.
//
// hand, unless nil, is the reader's own. Where the reader gets less than what changes, the
// hand fills up to half of limit with lines from beyond the cursor, in no order (H3).
func (t *Table) Read(dst []byte, after uint64, limit int, to Source, now int64, hand *Hand) ([]byte, Span) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := reading{t: t, dst: dst, start: len(dst), limit: limit, now: now, span: Span{Through: after, Head: t.head}}
	r.bit, r.floor = t.holds(to)
	turns := hand != nil && hand.on
	most := limit
	if turns {
		most = limit / 2
	}
	end := r.inOrder(most)
	if !end && turns {
		r.byHand(hand)
		end = r.inOrder(limit) // what the hand did not fill
	}
	switch {
	case hand == nil:
	case end:
		hand.Reset()
	default:
		hand.Filled(t.head, r.served+uint64(r.span.Lines))
	}
	return r.dst, r.span
}

// A reading is one Read under way.
type reading struct {
	t      *Table
	dst    []byte
	start  int // where in dst it began
	limit  int
	now    int64
	bit    uint32 // of the neighbour, where its knowledge counts,
	floor  uint64 // in records changed after this
	span   Span
	served uint64 // changes that needed no line
}

// inOrder takes lines in the order of changes until most bytes are full, with at least one
// line, and says whether the end was reached.
func (r *reading) inOrder(most int) (end bool) {
	r.span.Through, end = r.t.scan(r.span.Through, func(shown Record) bool {
		rec := shown.r
		switch size := int(rec.size); {
		case r.leavesOut(rec):
			r.served++
		case size > r.limit:
			r.served++
			r.span.TooLong++
		default:
			if n := len(r.dst) - r.start + size; n > r.limit || n > most && r.span.Lines > 0 {
				return false
			}
			r.dst = append(r.dst, r.t.line(rec)...)
			r.span.Lines++
		}
		return true
	})
	return end
}

// byHand takes lines of a step of the hand's round, as long as there is room. One that
// needs more than all of that room is left to the order of changes.
func (r *reading) byHand(hand *Hand) {
	took := false
	r.t.goRound(hand, r.span.Through, func(shown Record) bool {
		rec := shown.r
		switch {
		case r.leavesOut(rec):
		case len(r.dst)-r.start+int(rec.size) <= r.limit:
			r.dst = append(r.dst, r.t.line(rec)...)
			r.span.Lines++
			took = true
		case took:
			return false
		}
		return true
	})
}

// leavesOut says whether a record needs no line: the neighbour holds it, or it is past
// HERD_RETAIN.
func (r *reading) leavesOut(rec *record) bool {
	return rec.holders&r.bit != 0 && rec.revision > r.floor || r.t.expired(rec.effective, r.now)
}

// holds returns the bit and floor of what a neighbour's epoch is known to hold.
func (t *Table) holds(to Source) (bit uint32, floor uint64) {
	if to.Neighbour < 1 || to.Neighbour > MaxNeighbours || to.Epoch == "" {
		return 0, 0
	}
	h := &t.holders[to.Neighbour]
	if h.epoch != to.Epoch {
		return 0, 0
	}
	return 1 << (to.Neighbour - 1), h.floor
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
