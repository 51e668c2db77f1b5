package watch

import (
	"math/bits"
	"slices"

	"herd/edge/position"
	"herd/edge/wire"
)

// areas find the watches whose area a point may be in. An area is entered in the few cells that
// it touches of the level whose cells are about its size; those that are too large for that are
// in a list. A bit for each degree of latitude and longitude tells where there is no area at
// all, so a client there costs the same whether one or many thousands are elsewhere.
type areas struct {
	area  []position.Area // by number
	watch []*watch        // the same; nil: the number is free
	free  []uint32

	cells  map[position.Cell]uint32 // first node + 1
	nodes  []node
	unused uint32 // first free node + 1

	level  [position.Levels]int // areas by level
	levels uint32               // a bit for each level in use
	large  []uint32

	touch  [(position.Degrees + 63) / 64]uint64 // a bit for each degree that an area touches
	counts []uint32                             // areas that touch it

	buf     []position.Cell
	degrees []uint32
}

// A node is one of the areas of a cell.
type node struct{ area, next uint32 }

// add enters an area, and returns its number.
func (a *areas) add(w *watch, area position.Area) uint32 {
	var id uint32
	if n := len(a.free); n > 0 {
		id, a.free = a.free[n-1], a.free[:n-1]
	} else {
		id = uint32(len(a.area))
		a.area, a.watch = append(a.area, position.Area{}), append(a.watch, nil)
	}
	a.area[id], a.watch[id] = area, w
	level := area.Level()
	if level == position.Levels {
		a.large = append(a.large, id)
		return id
	}
	if a.cells == nil {
		a.cells, a.counts = map[position.Cell]uint32{}, make([]uint32, position.Degrees)
	}
	if a.level[level]++; a.level[level] == 1 {
		a.levels |= 1 << level
	}
	a.buf = area.AppendCells(a.buf[:0], level)
	for _, c := range a.buf {
		a.enter(c, id)
	}
	a.degrees = area.AppendDegrees(a.degrees[:0])
	for _, d := range a.degrees {
		if a.counts[d]++; a.counts[d] == 1 {
			a.touch[d/64] |= 1 << (d % 64)
		}
	}
	return id
}

func (a *areas) enter(c position.Cell, id uint32) {
	i := a.unused
	if i == 0 {
		a.nodes = append(a.nodes, node{})
		i = uint32(len(a.nodes))
	} else {
		a.unused = a.nodes[i-1].next
	}
	a.nodes[i-1] = node{area: id, next: a.cells[c]}
	a.cells[c] = i
}

// remove takes an area out.
func (a *areas) remove(id uint32) {
	area := &a.area[id]
	a.watch[id] = nil
	a.free = append(a.free, id)
	level := area.Level()
	if level == position.Levels {
		i := slices.Index(a.large, id)
		a.large = slices.Delete(a.large, i, i+1)
		return
	}
	if a.level[level]--; a.level[level] == 0 {
		a.levels &^= 1 << level
	}
	a.buf = area.AppendCells(a.buf[:0], level)
	for _, c := range a.buf {
		a.leave(c, id)
	}
	a.degrees = area.AppendDegrees(a.degrees[:0])
	for _, d := range a.degrees {
		if a.counts[d]--; a.counts[d] == 0 {
			a.touch[d/64] &^= 1 << (d % 64)
		}
	}
}

func (a *areas) leave(c position.Cell, id uint32) {
	i := a.cells[c]
	if n := &a.nodes[i-1]; n.area == id {
		if n.next == 0 {
			delete(a.cells, c)
		} else {
			a.cells[c] = n.next
		}
	} else {
		for prev := n; ; prev = n {
			i = prev.next
			if n = &a.nodes[i-1]; n.area == id {
				prev.next = n.next
				break
			}
		}
	}
	a.nodes[i-1] = node{next: a.unused}
	a.unused = i
}

// none says that no area but the large ones can have a point in it.
func (a *areas) none(p wire.Point) bool {
	d := position.DegreeOf(p)
	return a.touch[d/64]&(1<<(d%64)) == 0
}

// near appends the numbers of the areas that may have a point in them.
func (a *areas) near(dst []uint32, p wire.Point) []uint32 {
	dst = append(dst, a.large...)
	if a.none(p) {
		return dst
	}
	for left := a.levels; left != 0; left &= left - 1 {
		for i := a.cells[position.CellAt(bits.TrailingZeros32(left), p)]; i != 0; {
			n := a.nodes[i-1]
			dst = append(dst, n.area)
			i = n.next
		}
	}
	return dst
}

// nearBoth is near of two points, which are in the same cells as a rule. A number may stand
// there twice.
func (a *areas) nearBoth(dst []uint32, p, q wire.Point) []uint32 {
	dst = append(dst, a.large...)
	if a.none(p) && a.none(q) {
		return dst
	}
	for left := a.levels; left != 0; left &= left - 1 {
		level := bits.TrailingZeros32(left)
		c, d := position.CellAt(level, p), position.CellAt(level, q)
		for {
			for i := a.cells[c]; i != 0; {
				n := a.nodes[i-1]
				dst = append(dst, n.area)
				i = n.next
			}
			if c == d {
				break
			}
			c = d
		}
	}
	return dst
}
