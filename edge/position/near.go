package position

import (
	"bytes"
	"hash/maphash"
	"math"
	"slices"

	"herd/edge/wire"
)

// stepMost is how much is done under one lock: cells and clients looked at together. A list with more
// clients is read in several steps: see stand.
const stepMost = 2048

// A Search answers who is near a client (L1): of the clients within a radius those that are
// nearest. It goes in steps, each under a short lock; what it tells of was held, and within the
// radius, at some moment of the search. It is used again without allocating, by one goroutine
// at a time. The zero Search is ready for Begin.
type Search struct {
	// Sees says which clients exist for whoever asks; nil: all. It is called under a lock.
	Sees func(client []byte) bool

	t      *Table
	client []byte
	slot   uint32 // the client's, in this step
	held   []byte // the client's line, with its LF
	max    int
	chord  float64 // square; what is longer is of no interest
	reach  int64   // by how much latitudes of interest differ at most
	side   int64   // … and longitudes
	hits   []hit   // nearest first, at most max
	spare  [][]byte
	fresh  bool // a hit has no line yet
	work   int  // what may be done yet in this step

	around Area // what is being looked through
	whole  Area // what is to be looked through
	south  uint32
	seen   []reach // columns that were looked at, by row, from south on
	row    uint32  // the next to gather cells of
	from   int     // and in it the next column, relative to the centre's
	begun  bool    // in the middle of a row: from counts
	done   bool

	cells  [cellsMost]Cell // that were gathered and are to be looked at: from at to n
	at, n  int
	list   uint32 // the list that is being read, + 1; 0: the next cell's was not begun
	other  bool   // it is the second one of the cell
	stands stand  // where in it

	met     [metMost]meeting // clients that may be hits: metN of them, none between two steps
	metN    int
	fetched uint64 // of no meaning; see settle
}

// Nearly all that a search looks at is in memory only, and a list is a chain of which each client
// has to come before it is known who is next. So the lists of several cells are fetched side by side,
// and several clients' records: the processor waits for all of them at once.
const (
	cellsMost = 16
	metMost   = 32
	listMost  = 64 // clients of a list that are fetched ahead: more would push the first out of the cache
)

// A meeting is a client within the distance that was of interest when it was looked at.
type meeting struct {
	chord float64
	slot  uint32
}

// A hit is a client that was found. line is empty until the step ends.
type hit struct {
	chord     float64
	slot      uint32
	clientAt  uint8 // in the line
	clientLen uint16
	line      []byte
}

func (h *hit) client() []byte { return h.line[h.clientAt : int(h.clientAt)+int(h.clientLen)] }

// A reach is a run of columns of a row, relative to the column of the search's centre.
type reach struct{ from, to int }

// Begin prepares a search for at most most clients within radius kilometres of a client, at the
// given Unix time in nanoseconds. It copies the client's id. It reports whether the client is
// known, to a table that keeps the index (Config.Live).
func (s *Search) Begin(t *Table, client []byte, radius float64, most int, now int64) bool {
	for i := range s.hits {
		s.spare = append(s.spare, s.hits[i].line[:0])
	}
	if s.stands != 0 { // that one was not completed
		s.t.mu.Lock()
		s.t.grid.leave(s.stands)
		s.t.mu.Unlock()
	}
	s.t, s.hits, s.fresh = t, s.hits[:0], false
	s.at, s.n, s.list, s.other, s.stands = 0, 0, 0, false, 0
	s.client = append(s.client[:0], client...)
	s.max, s.done = most, true
	if t.grid == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	slot, r := t.known(client, now)
	if r == nil {
		return false
	}
	s.held = append(s.held[:0], t.line(r)...)
	if radius <= 0 || most <= 0 {
		return true
	}
	s.whole = Circle(t.grid.at(slot).point, radius)
	s.bound(s.whole.chord)
	s.south = rowOf(gridLevel, s.whole.south)
	s.seen = slices.Grow(s.seen[:0], int(rowOf(gridLevel, s.whole.north)-s.south)+1)[:rowOf(gridLevel, s.whole.north)-s.south+1]
	for i := range s.seen {
		s.seen[i] = reach{1, 0}
	}
	s.done = false
	s.widen(min(radius, firstRadius))
	return true
}

// A search looks at first at the cell in which the client is, mostly, then so far, in kilometres. Where
// it has found enough before, it looks no farther than the last of these is away.
const (
	firstRadius = 0.1
	nextRadius  = 0.75
)

// known finds the record of a client that is held and not past HERD_RETAIN; nil where there is
// none. Whoever calls holds the lock.
func (t *Table) known(client []byte, now int64) (slot uint32, r *record) {
	op := Op{client: client, hash: maphash.Bytes(t.seed, client)}
	slot, ok := t.find(&op)
	if !ok {
		return 0, nil
	}
	if r = t.records.at(slot); t.expired(r.effective, now) {
		return 0, nil
	}
	return slot, r
}

// widen begins to look through a circle of so many kilometres.
func (s *Search) widen(radius float64) {
	s.around = s.whole
	if whole := s.whole.angle * EarthRadius; radius < whole {
		s.around = Circle(s.whole.centre, radius)
	}
	s.row, s.begun = rowOf(gridLevel, s.around.south), false
}

// Step goes on with the search under one short lock, at the given Unix time in nanoseconds,
// and reports whether it is over.
func (s *Search) Step(now int64) (done bool) {
	if s.done {
		return true
	}
	s.t.mu.Lock()
	defer s.t.mu.Unlock()
	s.work = stepMost
	s.slot = s.own()
	for !s.done && s.work > 0 {
		s.look(now)
	}
	s.fill()
	return s.done
}

// own returns the slot in which the client is now, or one that nobody has.
func (s *Search) own() uint32 {
	op := Op{client: s.client, hash: maphash.Bytes(s.t.seed, s.client)}
	if slot, ok := s.t.find(&op); ok {
		return slot
	}
	return math.MaxUint32
}

// look goes on with the circle that is under way until it has been looked through, or the step's work
// is done.
func (s *Search) look(now int64) {
	north := rowOf(gridLevel, s.around.north)
	for s.at < s.n || s.row <= north {
		if s.at == s.n {
			s.at, s.n = 0, 0
			for s.row <= north && s.gatherRow() {
				s.row++
			}
			s.fetchLists()
		}
		for ; s.at < s.n; s.at++ {
			if !s.lookCell(s.cells[s.at], now) {
				s.settle(now)
				return
			}
		}
		s.settle(now)
		if s.work <= 0 {
			return
		}
	}
	enough := len(s.hits) == s.max && s.hits[s.max-1].chord <= s.around.chord
	if enough || s.around.angle >= s.whole.angle {
		s.done = true
		return
	}
	radius := max(nextRadius, s.around.angle*EarthRadius*2)
	if len(s.hits) == s.max {
		radius = min(radius, 1.001*EarthRadius*angleOf(s.hits[s.max-1].chord))
	}
	s.widen(radius)
}

// fetchLists brings the lists of the cells that were gathered into the cache, one client of each at a time.
func (s *Search) fetchLists() {
	g := s.t.grid
	var next [cellsMost]uint32
	for i, c := range s.cells[:s.n] {
		next[i] = g.first(c)
	}
	for range listMost {
		left := uint32(0)
		for i, n := range next[:s.n] {
			if n != 0 {
				n = g.at(n - 1).next
				next[i] = n
				left |= n
			}
		}
		if left == 0 {
			return
		}
	}
}

// angleOf is the angle at the Earth's centre that belongs to the square of a chord.
func angleOf(chord float64) float64 { return 2 * math.Asin(min(1, math.Sqrt(chord)/2)) }

// gatherRow gathers the cells of a row that were not looked at before and where somebody may be. It
// reports whether it came to the row's end before there was no room for more, or the step's work was done.
func (s *Search) gatherRow() bool {
	first, count, n := s.around.columns(gridLevel, s.row)
	centre := columnOf(s.whole.centre.Lon, n)
	west := int((centre + n - first) % n) // columns to the west of the centre's
	span := reach{-west, int(count) - 1 - west}
	was := &s.seen[s.row-s.south]
	if !s.begun {
		s.from, s.begun = span.from, true
	}
	for ; s.from <= span.to; s.from++ {
		if s.from >= was.from && s.from <= was.to {
			s.from = was.to
			continue
		}
		if s.n == len(s.cells) || s.work <= 0 {
			return false
		}
		s.work--
		column := (int(centre) + s.from) % int(n)
		if column < 0 {
			column += int(n)
		}
		c := cellOf(gridLevel, s.row, uint64(column))
		if *s.t.grid.block(c) == 0 { // on to the next block, or round the Earth
			s.from += min(7-column&7, int(n)-1-column)
			continue
		}
		s.cells[s.n] = c
		s.n++
	}
	if was.from > was.to {
		*was = span
	} else {
		*was = reach{min(was.from, span.from), max(was.to, span.to)}
	}
	s.begun = false
	return true
}

// lookCell looks at the clients in the lists of a cell, and reports whether it came to the end of them
// within the step. Else the next step goes on where this one has stopped. A list that is split meanwhile
// has some of its clients in another one, later: that is read after it.
func (s *Search) lookCell(c Cell, now int64) bool {
	g := s.t.grid
	for {
		var head uint32
		switch {
		case s.stands != 0:
			head, s.stands = g.leave(s.stands), 0
		case s.list == 0:
			s.list = g.list(g.hash(c)) + 1
			head = *g.head(s.list - 1)
		case !s.other:
			s.other = true
			head = g.second(c, s.list-1)
		}
		for head != 0 {
			if s.work <= 0 {
				if s.stands = g.stay(head); s.stands == 0 { // others stand everywhere: once more then
					s.list, s.other = 0, false
				}
				return false
			}
			s.work--
			slot := head - 1
			pl := g.at(slot)
			head = pl.next
			s.meet(slot, pl.point, now)
		}
		if s.other {
			s.list, s.other = 0, false
			return true
		}
	}
}

// meet notes a client that may be one of the nearest so far.
func (s *Search) meet(slot uint32, p wire.Point, now int64) {
	a := &s.whole
	if d := int64(p.Lat) - int64(a.centre.Lat); d > s.reach || -d > s.reach {
		return
	}
	d := int64(p.Lon) - int64(a.centre.Lon)
	if d = max(d, -d); min(d, turn-d) > s.side {
		return
	}
	chord := a.chordTo(p)
	if chord > s.chord || slot == s.slot {
		return
	}
	if s.metN == len(s.met) {
		s.settle(now)
	}
	s.met[s.metN] = meeting{chord, slot}
	s.metN++
}

// settle enters those who were met among the hits.
func (s *Search) settle(now int64) {
	met := s.met[:s.metN]
	s.metN = 0
	sum := uint64(0)
	for _, m := range met {
		r := s.t.records.at(m.slot)
		sum += r.revision + uint64(r.clientAt) // its first and its last bytes
	}
	s.fetched = sum // or the compiler would see that nobody needs it
	for _, m := range met {
		s.enter(m.chord, m.slot, now)
	}
}

// enter makes a client a hit if it is one of the nearest so far.
func (s *Search) enter(chord float64, slot uint32, now int64) {
	at := len(s.hits)
	for at > 0 && s.before(chord, slot, &s.hits[at-1]) {
		at--
	}
	if at == s.max {
		return
	}
	// Its line is looked at only where it has to be.
	r := s.t.records.at(slot)
	if s.t.expired(r.effective, now) || s.Sees != nil && !s.Sees(s.t.client(r)) {
		return
	}
	// It may be among the hits from where it was before, and after a step in another slot: the newer one
	// counts.
	for i := range s.hits {
		h := &s.hits[i]
		same := h.slot == slot
		if len(h.line) > 0 {
			same = h.clientLen == r.clientLen && bytes.Equal(h.client(), s.t.client(r))
		}
		if same {
			s.drop(i)
			if i < at {
				at--
			}
			break
		}
	}
	if len(s.hits) == s.max {
		s.drop(s.max - 1)
	}
	var line []byte
	if n := len(s.spare); n > 0 {
		line, s.spare = s.spare[n-1], s.spare[:n-1]
	}
	s.hits = slices.Insert(s.hits, at, hit{chord, slot, r.clientAt, r.clientLen, line})
	s.fresh = true
	if len(s.hits) == s.max {
		s.bound(s.hits[s.max-1].chord)
	}
}

// bound notes which chords are of interest yet.
func (s *Search) bound(chord float64) {
	s.chord = chord
	s.reach, s.side = half, half
	if c := math.Sqrt(chord); c < 1 { // an arc is less than 1.05 times its chord then
		s.reach = int64(c*1.05*(half/math.Pi)) + 2
		lat := int64(s.whole.centre.Lat)
		if lat = max(lat, -lat) + s.reach; lat < 89*degree { // sin of side = sin of reach / cos of the centre's latitude
			_, cos := sincos(int32(lat))
			s.side = min(int64(float64(s.reach)/cos)+2, half)
		}
	}
}

func (s *Search) drop(i int) {
	s.spare = append(s.spare, s.hits[i].line[:0])
	s.hits = slices.Delete(s.hits, i, i+1)
	if len(s.hits) < s.max {
		s.bound(s.whole.chord)
	}
}

// before says whether a client at a chord comes before a hit: at equal distances by its id.
func (s *Search) before(chord float64, slot uint32, h *hit) bool {
	if chord != h.chord {
		return chord < h.chord
	}
	client := s.t.client(s.t.records.at(slot))
	if len(h.line) > 0 {
		return bytes.Compare(client, h.client()) < 0
	}
	return bytes.Compare(client, s.t.client(s.t.records.at(h.slot))) < 0
}

// fill copies the lines of the hits that have none yet.
func (s *Search) fill() {
	if !s.fresh {
		return
	}
	for i := range s.hits {
		if h := &s.hits[i]; len(h.line) == 0 {
			h.line = append(h.line, s.t.line(s.t.records.at(h.slot))...)
		}
	}
	s.fresh = false
}

// Append appends what the search found: the line held for the client, then those of the clients
// near it, nearest first, each with its LF (L1).
func (s *Search) Append(dst []byte) []byte {
	dst = append(dst, s.held...)
	for i := range s.hits {
		dst = append(dst, s.hits[i].line...)
	}
	return dst
}

// AppendCounts appends how many clients are in each cell of one degree of latitude and
// longitude, by its number (DegreeOf); nothing where the table keeps no index. What is past
// HERD_RETAIN and was not forgotten yet is counted.
func (t *Table) AppendCounts(dst []uint32) []uint32 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grid == nil {
		return dst
	}
	return append(dst, t.grid.degrees...)
}
