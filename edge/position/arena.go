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
// A place is a number within its class. What is freed is used again first.
type arena struct {
	class [classes]struct {
		chunks [][]byte
		used   uint32 // places handed out so far, freed ones included
		free   uint32 // first freed place + 1; each holds the number of the next
	}
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

// bytes returns the n bytes at a place of the class that n belongs to.
func (a *arena) bytes(place uint32, n int) []byte {
	c := sizeClass(n)
	s := shift(c)
	at := int(place&(1<<s-1)) * c * unit
	return a.class[c].chunks[place>>s][at : at+n : at+c*unit]
}

// store copies line to a place of its own and returns it.
func (a *arena) store(line []byte) uint32 {
	c := sizeClass(len(line))
	k := &a.class[c]
	var place uint32
	if k.free != 0 {
		place = k.free - 1
		k.free = binary.LittleEndian.Uint32(a.bytes(place, c*unit))
	} else {
		place = k.used
		if s := shift(c); int(place>>s) == len(k.chunks) {
			k.chunks = append(k.chunks, make([]byte, c*unit<<s))
		}
		k.used++
	}
	copy(a.bytes(place, len(line)), line)
	return place
}

// release gives back the place of a line of n bytes.
func (a *arena) release(place uint32, n int) {
	c := sizeClass(n)
	binary.LittleEndian.PutUint32(a.bytes(place, c*unit), a.class[c].free)
	a.class[c].free = place + 1
}
