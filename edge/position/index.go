package position

// shards is how many small hash tables the index is made of. Each grows by
// itself, so growing never holds the table's lock for long.
const shards = 256

// An index finds the slot of a client's record by the hash of its id: open
// addressing with linear probing. An entry is the upper half of the hash and
// the slot + 1, so that neither growing nor most misses touch a record.
type index struct {
	shard [shards]shard
	size  int // bytes of all shards, as the allocator counts them
}

type shard struct {
	entries []uint64 // 0 is free
	used    int
}

func (x *index) of(hash uint64) *shard { return &x.shard[uint8(hash)] }

// home is where the entry of a hash belongs among n places: its upper half
// scaled to the range, so that n need not be a power of two and growing by a
// quarter wastes little.
func home(hash uint64, n int) int { return int((hash >> 32) * uint64(n) >> 32) }

// find returns the slot for which is says yes, among those whose hash agrees.
func (x *index) find(hash uint64, is func(slot uint32) bool) (uint32, bool) {
	s := x.of(hash)
	if len(s.entries) == 0 {
		return 0, false
	}
	for i := home(hash, len(s.entries)); ; {
		e := s.entries[i]
		if e == 0 {
			return 0, false
		}
		if e>>32 == hash>>32 && is(uint32(e)-1) {
			return uint32(e) - 1, true
		}
		if i++; i == len(s.entries) {
			i = 0
		}
	}
}

// touch looks at where a search for a hash begins. What it returns has no meaning.
func (x *index) touch(hash uint64) uint64 {
	s := x.of(hash)
	if len(s.entries) == 0 {
		return 0
	}
	return s.entries[home(hash, len(s.entries))]
}

// likely returns the slot + 1 of the first entry whose hash agrees, 0 if there is none.
func (x *index) likely(hash uint64) uint32 {
	s := x.of(hash)
	if len(s.entries) == 0 {
		return 0
	}
	for i := home(hash, len(s.entries)); ; {
		e := s.entries[i]
		if e == 0 || e>>32 == hash>>32 {
			return uint32(e)
		}
		if i++; i == len(s.entries) {
			i = 0
		}
	}
}

// add enters a slot that find did not find.
func (x *index) add(hash uint64, slot uint32) {
	s := x.of(hash)
	if s.used >= len(s.entries)*7/8 {
		x.size -= allocated(8 * len(s.entries))
		s.grow()
		x.size += allocated(8 * len(s.entries))
	}
	s.put(hash&^0xffffffff | uint64(slot+1))
	s.used++
}

func (s *shard) put(e uint64) {
	i := home(e, len(s.entries))
	for s.entries[i] != 0 {
		if i++; i == len(s.entries) {
			i = 0
		}
	}
	s.entries[i] = e
}

func (s *shard) grow() {
	old := s.entries
	s.entries = make([]uint64, len(old)*5/4+8)
	for _, e := range old {
		if e != 0 {
			s.put(e)
		}
	}
}

// remove takes the entry of a slot out and closes the gap, so that no marks of
// the deleted are left to slow later searches down.
func (x *index) remove(hash uint64, slot uint32) {
	s := x.of(hash)
	n := len(s.entries)
	gap := home(hash, n)
	for want := hash&^0xffffffff | uint64(slot+1); s.entries[gap] != want; {
		if gap++; gap == n {
			gap = 0
		}
	}
	for i := gap; ; {
		if i++; i == n {
			i = 0
		}
		e := s.entries[i]
		if e == 0 {
			break
		}
		// An entry may fill the gap unless its home lies behind the gap.
		if (i-home(e, n)+n)%n >= (i-gap+n)%n {
			s.entries[gap] = e
			gap = i
		}
	}
	s.entries[gap] = 0
	s.used--
}
