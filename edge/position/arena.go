package position

import (
	"encoding/binary"
	"math/bits"

	"herd/edge/wire"
)

const (
	unit       = 8       // lines are kept in room of a multiple of this
	chunkBytes = 1 << 16 // about what is asked of the allocator at a time
	classes    = wire.MaxAT/unit + 1
)

// An arena keeps the bytes of lines by size class, in chunks without pointers,
// so that a million lines are a few thousand objects to the garbage collector.
// A place is a number within its class. What is freed is used again first, and a chunk
// in which nothing is left is given back: else what lines of one length took would be
// lost to those of another.
type arena struct {
	class [classes]class
	size  int // bytes of all chunks, as the allocator counts them
}

type class struct {
	chunks [][]byte // nil where it was given back
	rooms  []room   // one for each
	open   uint32   // first chunk with a free place + 1; they are a list
	gone   uint32   // first chunk that was given back + 1; they are one too
}

// room is what is free in a chunk.
type room struct {
	live uint16 // places in use
	used uint16 // places handed out so far, freed ones included
	free uint16 // first freed place + 1; each holds the number of the next

	next, prev uint32 // chunks of the list that it is in, + 1
}

// sizeClass is the class that keeps n bytes, 1 to wire.MaxAT.
func sizeClass(n int) int { return (n + unit - 1) / unit }

// shifts are the binary logarithms of the number of places in a chunk of each class.
var shifts = func() (s [classes]uint8) {
	for c := 1; c < classes; c++ {
		s[c] = uint8(bits.Len(uint(chunkBytes/(c*unit))) - 1)
	}
	return s
}()

// shift is that of class c.
func shift(c int) uint { return uint(shifts[c]) }

// chunkSize is what a chunk of class c takes: more than 32 KiB, so whole pages.
func chunkSize(c int) int { return allocated(c * unit << shift(c)) }

// allocated is what the allocator gives for n bytes, if that is more than 32 KiB; for less
// it is about n.
func allocated(n int) int {
	const page = 8 << 10
	if n <= 32<<10 {
		return n
	}
	return (n + page - 1) / page * page
}

// bytes returns the n bytes at a place of the class that n belongs to.
func (a *arena) bytes(place uint32, n int) []byte {
	c := sizeClass(n)
	s := shift(c)
	at := int(place&(1<<s-1)) * c * unit
	return a.class[c].chunks[place>>s][at : at+n : at+c*unit]
}

// growth is by how much size grows if a line of n bytes is stored next.
func (a *arena) growth(n int) int {
	if c := sizeClass(n); a.class[c].open == 0 {
		return chunkSize(c)
	}
	return 0
}

// store copies line to a place of its own and returns it.
func (a *arena) store(line []byte) uint32 {
	c := sizeClass(len(line))
	k := &a.class[c]
	if k.open == 0 {
		a.addChunk(c)
	}
	chunk := k.open - 1
	r := &k.rooms[chunk]
	place := chunk << shift(c)
	if r.free != 0 {
		place += uint32(r.free - 1)
		r.free = binary.LittleEndian.Uint16(a.bytes(place, c*unit))
	} else {
		place += uint32(r.used)
		r.used++
	}
	if r.live++; r.live == 1<<shift(c) {
		k.close(chunk)
	}
	copy(a.bytes(place, len(line)), line)
	return place
}

// addChunk makes room in class c.
func (a *arena) addChunk(c int) {
	k := &a.class[c]
	bytes := make([]byte, c*unit<<shift(c))
	a.size += chunkSize(c)
	if k.gone != 0 {
		chunk := k.gone - 1
		k.gone = k.rooms[chunk].next
		k.chunks[chunk], k.rooms[chunk] = bytes, room{}
		k.reopen(chunk)
		return
	}
	k.chunks, k.rooms = append(k.chunks, bytes), append(k.rooms, room{})
	k.reopen(uint32(len(k.chunks) - 1))
}

// release gives back the place of a line of n bytes.
func (a *arena) release(place uint32, n int) {
	c := sizeClass(n)
	k := &a.class[c]
	chunk := place >> shift(c)
	r := &k.rooms[chunk]
	if r.live == 1<<shift(c) {
		k.reopen(chunk)
	}
	binary.LittleEndian.PutUint16(a.bytes(place, c*unit), r.free)
	r.free = uint16(place&(1<<shift(c)-1)) + 1
	// The last one with room stays, or a line that comes and goes would cost a chunk each time.
	if r.live--; r.live == 0 && (r.next != 0 || r.prev != 0) {
		k.close(chunk)
		k.chunks[chunk], k.rooms[chunk] = nil, room{next: k.gone}
		k.gone = chunk + 1
		a.size -= chunkSize(c)
	}
}

// reopen enters a chunk among those with a free place.
func (k *class) reopen(chunk uint32) {
	k.rooms[chunk].prev, k.rooms[chunk].next = 0, k.open
	if k.open != 0 {
		k.rooms[k.open-1].prev = chunk + 1
	}
	k.open = chunk + 1
}

// close takes a chunk out of those with a free place.
func (k *class) close(chunk uint32) {
	r := &k.rooms[chunk]
	if r.next != 0 {
		k.rooms[r.next-1].prev = r.prev
	}
	if r.prev != 0 {
		k.rooms[r.prev-1].next = r.next
	} else {
		k.open = r.next
	}
	r.next, r.prev = 0, 0
}
