package position

import (
	"hash/maphash"

	"herd/edge/wire"
)

// A Change is what the one who follows clients by where they are (L4) is told of a record.
type Change struct {
	Slot     uint32 // where the record is, as long as the client is known and until Release
	Revision uint64
	Point    wire.Point
	Gone     bool // it was forgotten (S4); Point has no meaning
	Past     bool // it is past HERD_RETAIN and was not forgotten yet
}

// Follow begins to keep what is forgotten for the one who follows: from now on a record that is
// forgotten is a change like others, and its slot, id and line stay until Release. It returns
// the newest revision, and whether the table keeps the index at all (Config.Live).
//
// Without it a forgotten client's slot may be another client's before anybody has heard.
func (t *Table) Follow() (head uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grid == nil {
		return 0, false
	}
	t.followed, t.since = true, t.head
	return t.head, true
}

// Unfollow ends that. What is kept still, Forget drops.
func (t *Table) Unfollow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.followed = false
}

// Changes appends to dst the records that changed behind a cursor, oldest change first, at most
// most of them, and returns where the cursor goes and the newest revision. Only between Follow
// and Unfollow.
func (t *Table) Changes(dst []Change, after uint64, most int) (changes []Change, through, head uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := most
	through, _ = t.scan(after, func(r Record) bool {
		if left--; left < 0 {
			return false
		}
		dst = append(dst, t.change(r.slot, r.r))
		return true
	})
	return dst, through, t.head
}

func (t *Table) change(slot uint32, r *record) Change {
	return Change{Slot: slot, Revision: r.revision, Point: t.grid.at(slot).point, Gone: r.effective < 0}
}

// Release frees the slot of a record that was forgotten and has this revision: all who followed
// it have heard. A record that has changed since is left alone.
func (t *Table) Release(slot uint32, revision uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot >= t.records.used {
		return
	}
	if r := t.records.at(slot); r.effective < 0 && r.revision == revision {
		t.drop(slot)
	}
}

// Find looks a client up that may be watched: ok says that there is a slot whose record is held,
// or was forgotten since Follow and is not released.
func (t *Table) Find(client []byte) (c Change, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.grid == nil {
		return Change{}, false
	}
	op := Op{client: client, hash: maphash.Bytes(t.seed, client)}
	slot, ok := t.find(&op)
	if !ok {
		return Change{}, false
	}
	r := t.records.at(slot)
	if r.effective < 0 && (!t.followed || r.revision <= t.since) {
		return Change{}, false
	}
	return t.change(slot, r), true
}

// A Seen is a record as it is now, and its line.
type Seen struct {
	Change
	from, to int
}

// Line is the record's line in what Look has appended to.
func (s *Seen) Line(b []byte) []byte { return b[s.from:s.to] }

// Look appends the present lines of records to dst, and what they are to seen: of those whose
// slots are given, in their order. Slots that are free are Gone and have no line. now is the
// retention clock's Unix time in nanoseconds.
func (t *Table) Look(dst []byte, seen []Seen, slots []uint32, now int64) ([]byte, []Seen) {
	t.mu.Lock()
	defer t.mu.Unlock()
	sum := uint64(0)
	for _, slot := range slots { // all at once, as in fetch
		if slot < t.records.used {
			sum += t.records.at(slot).revision + uint64(t.grid.at(slot).next)
		}
	}
	t.fetched = sum
	for _, slot := range slots {
		if slot >= t.records.used {
			seen = append(seen, Seen{Change: Change{Slot: slot, Gone: true}})
			continue
		}
		r := t.records.at(slot)
		if r.revision == 0 {
			seen = append(seen, Seen{Change: Change{Slot: slot, Gone: true}})
			continue
		}
		from := len(dst)
		dst = append(dst, t.line(r)...)
		s := Seen{Change: t.change(slot, r), from: from, to: len(dst)}
		s.Past = t.expired(r.effective, now)
		seen = append(seen, s)
	}
	return dst, seen
}

// AppendClient appends the id of the record in a slot. Between Follow and Release that is the
// client is the same.
func (t *Table) AppendClient(dst []byte, slot uint32) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	if slot >= t.records.used {
		return dst
	}
	if r := t.records.at(slot); r.revision != 0 {
		dst = append(dst, t.client(r)...)
	}
	return dst
}

// A Visit goes through the clients in an area, in steps. What changes meanwhile it may pass or
// meet twice: it is for those who follow the changes as well. The zero Visit has nothing to do.
type Visit struct {
	Most int // cells and clients looked at in one step; 0: as many as a short lock allows

	area    Area
	row     uint32
	column  uint64 // of the row, from its first on
	bySlot  bool
	next    uint32
	pending bool
}

// Begin prepares a visit of an area.
func (v *Visit) Begin(t *Table, a Area) {
	*v = Visit{Most: v.Most, area: a, row: rowOf(gridLevel, a.south), pending: true}
	if v.Most == 0 {
		v.Most = stepMost
	}
	// Cells are worth it where they are fewer than clients by far.
	rows := uint64(rowOf(gridLevel, a.north)-v.row) + 1
	t.mu.Lock()
	defer t.mu.Unlock()
	wide := a.width
	_, cos := sincos(max(min(a.north, 0), a.south))
	cells := rows * (uint64(float64(wide)*cos)>>(cellShift+gridLevel) + 1)
	v.bySlot = cells > uint64(t.records.used)/4+64
}

// Visit appends to dst clients that are in the area and not past HERD_RETAIN at the given Unix
// time in nanoseconds, as many as it finds in one step, and reports whether that was the last.
// Only between Follow and Unfollow.
func (t *Table) Visit(v *Visit, dst []Change, now int64) (found []Change, done bool) {
	if !v.pending {
		return dst, true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !v.bySlot {
		dst = t.visitCells(v, dst, now)
	}
	if v.bySlot && v.pending {
		g, end := t.grid, min(v.next+2*uint32(v.Most), t.records.used)
		for ; v.next < end; v.next++ {
			dst = t.meet(v, dst, v.next, g.at(v.next), now)
		}
		v.pending = v.next < t.records.used
	}
	return dst, !v.pending
}

// visitCells is a step through the cells of the area. Where a list is too long for a step, it
// begins anew by slot.
func (t *Table) visitCells(v *Visit, dst []Change, now int64) []Change {
	work := v.Most
	for north := rowOf(gridLevel, v.area.north); v.row <= north; v.row, v.column = v.row+1, 0 {
		first, count, n := v.area.columns(gridLevel, v.row)
		for ; v.column < count; v.column++ {
			if work <= 0 {
				return dst
			}
			work--
			column := (first + v.column) % n
			c := cellOf(gridLevel, v.row, column)
			if *t.grid.block(c) == 0 { // on to the next block, or round the Earth
				v.column += min(7-column&7, n-1-column)
				continue
			}
			heads := [2]uint32{}
			heads[0], heads[1] = t.grid.sides(c)
			for _, head := range heads {
				n := 0
				for head != 0 {
					if n++; n > 2*v.Most {
						v.bySlot = true
						return dst
					}
					slot := head - 1
					pl := t.grid.at(slot)
					head = pl.next
					dst = t.meet(v, dst, slot, pl, now)
				}
				work -= n
			}
		}
	}
	v.pending = false
	return dst
}

// meet appends a client if it is in the area.
func (t *Table) meet(v *Visit, dst []Change, slot uint32, pl *place, now int64) []Change {
	if pl.prev == 0 || !v.area.Contains(pl.point) {
		return dst
	}
	if r := t.records.at(slot); !t.expired(r.effective, now) {
		dst = append(dst, t.change(slot, r))
	}
	return dst
}
