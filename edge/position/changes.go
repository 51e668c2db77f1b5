package position

import (
	"sort"
	"unsafe"
)

// segmentLen makes a segment just fit an allocation of 8 KiB.
const segmentLen = 1020

// A segment is a run of the order of changes: which slot got which revision,
// rising. An entry is live while its record still has that revision; the
// others were overtaken by a later change of the same record.
type segment struct {
	base uint64 // revision of the first entry when it was begun
	n    int
	slot [segmentLen]uint32
	off  [segmentLen]uint32 // revision - base
}

func (s *segment) revision(i int) uint64 { return s.base + uint64(s.off[i]) }

// changes is the one order of changes (H3). It is written at its end and read
// from anywhere: a reader is nothing but a revision, found again by bisection,
// so any number of readers cost a writer nothing. What was overtaken is cleaned
// up a little with every segment filled; there is never a long pause for it.
type changes struct {
	segments []*segment
	spare    *segment
	hand     int // the next segment to clean
}

// add enters a change at the end. records are those whose slots are entered; they serve
// to clean up.
func (c *changes) add(slot uint32, revision uint64, records *records) {
	last := len(c.segments) - 1
	if last < 0 || c.segments[last].n == segmentLen || revision-c.segments[last].base > 1<<32-1 {
		s := c.spare
		if c.spare = nil; s == nil {
			s = new(segment)
		}
		s.base, s.n = revision, 0
		c.segments = append(c.segments, s)
		// Two segments cleaned for one filled: entries stay below about 1.7 a record.
		count := records.live + records.gone
		for i := 0; i < 2 && len(c.segments)*segmentLen > count+count/4+2*segmentLen; i++ {
			c.clean(records)
		}
		last = len(c.segments) - 1
	}
	s := c.segments[last]
	s.slot[s.n], s.off[s.n] = slot, uint32(revision-s.base)
	s.n++
}

// bytes is what the order takes.
func (c *changes) bytes() int {
	n := len(c.segments)
	if c.spare != nil {
		n++
	}
	return n * int(unsafe.Sizeof(segment{}))
}

// clean drops the overtaken entries of the segment under the hand and joins it
// to the one before where both fit in one. The last segment is left alone.
func (c *changes) clean(records *records) {
	if c.hand >= len(c.segments)-1 {
		c.hand = 0
	}
	s := c.segments[c.hand]
	kept := 0
	for i := range s.n {
		// Records are seldom in the cache. No branch depends on what is in one, so the
		// processor guesses nothing and has many of them under way.
		slot, off := s.slot[i], s.off[i]
		s.slot[kept], s.off[kept] = slot, off
		overtaken := records.at(slot).revision - s.base - uint64(off) // 0: live
		kept += 1 - int((overtaken|-overtaken)>>63)
	}
	s.n = kept
	if kept > 0 && c.hand > 0 {
		p := c.segments[c.hand-1]
		if p.n+kept > segmentLen || s.revision(kept-1)-p.base > 1<<32-1 {
			c.hand++
			return
		}
		for i := range kept {
			p.slot[p.n], p.off[p.n] = s.slot[i], uint32(s.revision(i)-p.base)
			p.n++
		}
	} else if kept > 0 {
		c.hand++
		return
	}
	c.segments = append(c.segments[:c.hand], c.segments[c.hand+1:]...)
	c.spare = s
}

// scanMost bounds how many entries one scan looks at, and so how long it holds the lock.
const scanMost = 2048

// scan shows take the records that changed behind a cursor, oldest change first, and returns
// where the cursor goes. It stops before a record for which take returns false, and after
// scanMost entries; end reports whether it came to the end of the order. A record that has
// changed again is met only at its newest place. The caller holds the lock.
//
// All readers of the order use it (H3): the links, the journal, and whatever else follows the
// changes. Only take decides what a reader wants of a record.
func (t *Table) scan(after uint64, take func(Record) bool) (through uint64, end bool) {
	through = after
	seg, at := t.changes.after(after)
	for left := scanMost; seg < len(t.changes.segments); seg, at = seg+1, 0 {
		s := t.changes.segments[seg]
		for ; at < s.n; at++ {
			if left--; left < 0 {
				return through, false
			}
			revision, slot := s.revision(at), s.slot[at]
			if r := t.records.at(slot); r.revision == revision && !take(Record{t, r, slot}) { // or it was overtaken
				return through, false
			}
			through = revision
		}
	}
	return max(through, t.head), true // also past what was cleaned up at the end
}

// after finds the first entry with a revision beyond the given one: its segment
// and its place there. The segment is len(c.segments) where there is none.
func (c *changes) after(revision uint64) (seg, at int) {
	seg = sort.Search(len(c.segments), func(i int) bool {
		s := c.segments[i]
		return s.n > 0 && s.revision(s.n-1) > revision
	})
	if seg < len(c.segments) {
		s := c.segments[seg]
		at = sort.Search(s.n, func(i int) bool { return s.revision(i) > revision })
	}
	return seg, at
}
