package position

import (
	"math"
	"unsafe"

	"herd/edge/wire"
)

// gridLevel is that of the cells by which clients are found: 1.5 km.
const gridLevel = 4

// A grid finds clients by where they are (L1). Beside each record it keeps the client's point
// and the links of a list: of the clients in cells whose hash is the same. There are about two
// lists for three clients. They grow one at a time (linear hashing), a step with each client
// that comes, so growing never holds the table's lock for long.
//
// A list holds clients of other cells too. Whoever reads one looks at points, not at cells.
type grid struct {
	places []*[recordChunk]place
	heads  []*[headChunk]uint32 // slots + 1
	lists  uint32               // in use
	mask   uint32               // lists of the round: a power of two, less one
	count  int
	factor uint64 // of the hash, odd

	// The list that is being split has a part of its clients in the list after the last one.
	splitting uint32 // slot + 1 of the next client to look at; 0: none is being split

	// Where the readers of long lists stand between two steps: the next client of each, slot + 1;
	// 0 is the end of its list, standFree nobody. Only the first standing are in use.
	stands   [standMost]uint32
	standing int

	degrees []uint32 // clients per cell of one degree

	// How many clients are in blocks of eight by eight cells, by hash: up to full, where it
	// stays. So a search passes land where nobody is without a look at lists.
	blocks []uint8
}

// A place is where a client is.
type place struct {
	point wire.Point
	next  uint32 // slot + 1; 0 is the end
	prev  uint32 // the same; listFirst for the first, 0 where the client is in no list
}

const (
	listFirst = math.MaxUint32
	headChunk = 1 << 12
	listsMin  = headChunk
	nowhere   = math.MinInt32 // no client's latitude
	blockBits = 19
	full      = math.MaxUint8
	splitMost = 32 // clients looked at for each that comes
	standMost = 64
	standFree = math.MaxUint32

	placeChunkBytes = recordChunk * int(unsafe.Sizeof(place{}))
)

func newGrid(factor uint64) *grid {
	return &grid{
		heads: []*[headChunk]uint32{new([headChunk]uint32)}, lists: listsMin, mask: listsMin - 1,
		factor: factor | 1, degrees: make([]uint32, Degrees),
		blocks: make([]uint8, 1<<blockBits),
	}
}

func (g *grid) at(slot uint32) *place { return &g.places[slot/recordChunk][slot%recordChunk] }

func (g *grid) head(list uint32) *uint32 { return &g.heads[list/headChunk][list%headChunk] }

// bytes is what the grid takes, as the allocator counts it.
func (g *grid) bytes() int {
	return len(g.places)*placeChunkBytes + len(g.heads)*headChunk*4 + allocated(4*Degrees) + len(g.blocks)
}

// hash keeps eight cells side by side in lists side by side: they are often wanted together.
func (g *grid) hash(c Cell) uint32 {
	return uint32((uint64(c)>>3)*g.factor>>35)<<3 | uint32(c)&7
}

// block returns the count of the block that a cell of the grid is in.
func (g *grid) block(c Cell) *uint8 {
	row, column := uint64(c)>>(rowShift+3)&(1<<levelShift-1), uint64(c)>>3&(1<<(rowShift-3)-1)
	return &g.blocks[(row<<rowShift|column)*g.factor>>(64-blockBits)]
}

// list returns the list of a hash.
func (g *grid) list(hash uint32) uint32 {
	if l := hash & (g.mask<<1 | 1); l < g.lists {
		return l
	}
	return hash & g.mask
}

// sides returns the heads of the lists in which the clients of a cell are: a second one only
// where the first is being split.
func (g *grid) sides(c Cell) (first, second uint32) {
	h := g.hash(c)
	first = *g.head(g.list(h))
	if g.splitting != 0 && h&(g.mask<<1|1) == g.lists {
		second = *g.head(g.lists)
	}
	return first, second
}

// second returns the head of another list than the given one, where that was the cell's before it
// was split, or is being split; 0 where there is none.
func (g *grid) second(c Cell, first uint32) uint32 {
	h := g.hash(c)
	if l := g.list(h); l != first {
		return *g.head(l)
	}
	if g.splitting != 0 && h&(g.mask<<1|1) == g.lists {
		return *g.head(g.lists)
	}
	return 0
}

// A stand is where a reader has stopped in a list, + 1; 0 is none. Who leaves the list takes no reader
// along: it stands at the next one then. So a list that is too long for one step is read on under the
// next lock, whatever has changed meanwhile.
type stand int

// stay notes that a reader stops before a client, slot + 1. It returns 0 where there is no room.
func (g *grid) stay(at uint32) stand {
	for i := range g.stands {
		if i == g.standing {
			g.standing++
			g.stands[i] = standFree
		}
		if g.stands[i] == standFree {
			g.stands[i] = at
			return stand(i + 1)
		}
	}
	return 0
}

// leave gives a reader's place up and returns where it stands: slot + 1, or 0 for the end of the list.
func (g *grid) leave(s stand) (at uint32) {
	at, g.stands[s-1] = g.stands[s-1], standFree
	for g.standing > 0 && g.stands[g.standing-1] == standFree {
		g.standing--
	}
	return at
}

func more(n *uint8) {
	if *n < full {
		*n++
	}
}

func less(n *uint8) {
	if *n < full {
		*n--
	}
}

// move notes that the client of a slot is at p, which is in the cell to, whether it was in the
// grid or not. from is the cell in which it was at was, if that is where it is.
func (g *grid) move(slot uint32, p wire.Point, to Cell, was wire.Point, from Cell) {
	for int(slot/recordChunk) >= len(g.places) {
		g.places = append(g.places, new([recordChunk]place))
	}
	pl := g.at(slot)
	if pl.prev == 0 {
		g.link(slot, pl, p, to)
		return
	}
	if pl.point == p {
		return
	}
	if pl.point != was {
		from = CellAt(gridLevel, pl.point)
	}
	if from != to {
		g.cut(slot, pl, from)
		g.enter(slot, pl, to)
		if a, b := g.block(from), g.block(to); a != b {
			less(a)
			more(b)
		}
	}
	if a, b := DegreeOf(pl.point), DegreeOf(p); a != b {
		g.degrees[a]--
		g.degrees[b]++
	}
	pl.point = p
}

// remove takes the client of a slot out.
func (g *grid) remove(slot uint32) {
	pl := g.at(slot)
	if pl.prev == 0 {
		return
	}
	c := CellAt(gridLevel, pl.point)
	g.cut(slot, pl, c)
	less(g.block(c))
	g.degrees[DegreeOf(pl.point)]--
	pl.next, pl.prev = 0, 0
	g.count--
}

func (g *grid) link(slot uint32, pl *place, p wire.Point, c Cell) {
	pl.point = p
	g.enter(slot, pl, c)
	more(g.block(c))
	g.degrees[DegreeOf(p)]++
	g.count++
	g.grow()
}

// first returns who is at the head of a cell's list, slot + 1; 0 is nobody.
func (g *grid) first(c Cell) uint32 { return *g.head(g.list(g.hash(c))) }

// touch looks at what move will look at, but for the client that first returns. What it returns has
// no meaning.
func (g *grid) touch(pl *place, from, to Cell) uint64 {
	sum := uint64(*g.block(from)) + uint64(*g.block(to))
	if pl.next != 0 {
		sum += uint64(g.at(pl.next - 1).prev)
	}
	if pl.prev != listFirst {
		sum += uint64(g.at(pl.prev - 1).next)
	} else {
		sum += uint64(g.first(from))
	}
	return sum
}

// enter puts a client at the head of its list.
func (g *grid) enter(slot uint32, pl *place, c Cell) {
	h := g.hash(c)
	l := g.list(h)
	if g.splitting != 0 && h&(g.mask<<1|1) == g.lists {
		l = g.lists
	}
	g.push(slot, pl, g.head(l))
}

func (g *grid) push(slot uint32, pl *place, head *uint32) {
	pl.next, pl.prev = *head, listFirst
	if *head != 0 {
		g.at(*head - 1).prev = slot + 1
	}
	*head = slot + 1
}

// cut takes a client out of its list.
func (g *grid) cut(slot uint32, pl *place, c Cell) {
	if g.splitting == slot+1 {
		g.splitting = pl.next
		defer g.ended()
	}
	for i := range g.stands[:g.standing] {
		if g.stands[i] == slot+1 {
			g.stands[i] = pl.next
		}
	}
	if pl.next != 0 {
		g.at(pl.next - 1).prev = pl.prev
	}
	if pl.prev != listFirst {
		g.at(pl.prev - 1).next = pl.next
		return
	}
	head := g.head(g.list(g.hash(c)))
	if *head != slot+1 { // it has gone over to the other part of a list that is being split
		head = g.head(g.lists)
	}
	*head = pl.next
}

// grow goes on splitting a list, or begins with another where there are few for the clients.
func (g *grid) grow() {
	if g.splitting == 0 {
		if g.count <= int(g.lists)+int(g.lists)/2 {
			return
		}
		if int(g.lists/headChunk) == len(g.heads) {
			g.heads = append(g.heads, new([headChunk]uint32))
		}
		g.splitting = *g.head(g.lists & g.mask)
		if g.splitting == 0 {
			g.split()
			return
		}
	}
	for n := splitMost; n > 0 && g.splitting != 0; n-- {
		slot := g.splitting - 1
		pl := g.at(slot)
		next := pl.next
		if c := CellAt(gridLevel, pl.point); g.hash(c)&(g.mask<<1|1) == g.lists {
			g.splitting = 0 // or cut would go on
			g.cut(slot, pl, c)
			g.push(slot, pl, g.head(g.lists))
		}
		g.splitting = next
	}
	g.ended()
}

// ended completes the splitting of a list if that has come to its end.
func (g *grid) ended() {
	if g.splitting == 0 {
		g.split()
	}
}

func (g *grid) split() {
	if g.lists++; g.lists == (g.mask+1)*2 {
		g.mask = g.mask<<1 | 1
	}
}
