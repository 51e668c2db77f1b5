package watch

import "math/bits"

// members are the slots of the clients that a watch has to do with, 4 bytes each, with what is
// to be told of them: who is inside, and who was told inside and is not. It is a hash table
// with linear probing. The marked ones, of whom something is to be told, are found by a bit for
// each few places and told by going round the table, so nobody is passed over for ever, and a
// watcher that is slow costs no memory for what it was not told.
type members struct {
	places []uint32 // (slot + 1) << 4 | state; 0 is free
	dirty  []uint64 // a bit for each block: one of its places may be marked
	used   int
	marked int
	fresh  int // of these, how many were not told yet
	outs   int // … and how many were told inside and are not
	hand   int // the next block to look at
}

// A state is what a watcher was told of a client, and what is to be told.
type state uint32

const (
	fresh state = iota // inside, not told yet
	told               // inside, and told so; nothing is to be told
	moved              // told inside, and has moved there
	out                // told inside, and is not; from here on the state says since when
)

// phases is how many states there are from out on: the time of an OUT is known to a step of the
// clock that counts modulo phases.
const phases = 13

const (
	stateBits = 4
	stateMask = 1<<stateBits - 1
	blockLen  = 16

	// maxSlot is the last slot that a set can hold. A table so large would take 40 GB.
	maxSlot = 1<<(32-stateBits) - 2
)

func (m *members) state(i int) state { return state(m.places[i] & stateMask) }

func home(slot uint32, n int) int {
	return int(uint64(slot*0x9e3779b1) * uint64(n) >> 32)
}

// find returns the place of a slot, -1 if there is none.
func (m *members) find(slot uint32) int {
	n := len(m.places)
	if n == 0 {
		return -1
	}
	for i := home(slot, n); ; {
		p := m.places[i]
		if p == 0 {
			return -1
		}
		if p>>stateBits == slot+1 {
			return i
		}
		if i++; i == n {
			i = 0
		}
	}
}

// add enters a slot that find did not find as fresh.
func (m *members) add(slot uint32) {
	if m.used >= len(m.places)*7/8 {
		m.resize(len(m.places)*5/4 + 8)
	}
	m.put((slot + 1) << stateBits)
	m.used++
	m.marked++
	m.fresh++
}

func (m *members) put(p uint32) {
	n := len(m.places)
	i := home(p>>stateBits-1, n)
	for m.places[i] != 0 {
		if i++; i == n {
			i = 0
		}
	}
	m.places[i] = p
	if state(p&stateMask) != told {
		m.dirty[i/blockLen/64] |= 1 << (i / blockLen % 64)
	}
}

func (m *members) resize(n int) {
	old := m.places
	m.places = make([]uint32, n)
	m.dirty = make([]uint64, (n+64*blockLen-1)/(64*blockLen))
	m.hand = 0
	for _, p := range old {
		if p != 0 {
			m.put(p)
		}
	}
}

// set changes the state of the slot at a place.
func (m *members) set(i int, to state) {
	m.count(m.state(i), -1)
	m.count(to, 1)
	m.places[i] = m.places[i]&^stateMask | uint32(to)
	if to != told {
		m.dirty[i/blockLen/64] |= 1 << (i / blockLen % 64)
	}
}

func (m *members) count(s state, n int) {
	if s != told {
		m.marked += n
	}
	switch {
	case s == fresh:
		m.fresh += n
	case s >= out:
		m.outs += n
	}
}

// remove takes out the slot at a place, and closes the gap.
func (m *members) remove(gap int) {
	m.count(m.state(gap), -1)
	n := len(m.places)
	for i := gap; ; {
		if i++; i == n {
			i = 0
		}
		p := m.places[i]
		if p == 0 {
			break
		}
		// What stands there may fill the gap unless its home lies behind the gap.
		if (i-home(p>>stateBits-1, n)+n)%n >= (i-gap+n)%n {
			m.places[gap] = p
			if state(p&stateMask) != told {
				m.dirty[gap/blockLen/64] |= 1 << (gap / blockLen % 64)
			}
			gap = i
		}
	}
	m.places[gap] = 0
	if m.used--; m.used < len(m.places)/4 && len(m.places) > 64 {
		m.resize(len(m.places) / 2)
	}
}

// next appends about most slots of whom something is to be told, going round from where it
// stopped, each once; with only, such as are fresh alone.
func (m *members) next(dst []uint32, most int, only bool) []uint32 {
	blocks := (len(m.places) + blockLen - 1) / blockLen
	from := len(dst)
	for n := 0; n < blocks && len(dst)-from < most; {
		if m.hand >= blocks {
			m.hand = 0
		}
		// Blocks with nothing are passed a word at a time.
		word := m.dirty[m.hand/64] >> (m.hand % 64)
		if word == 0 {
			skip := min(64-m.hand%64, blocks-m.hand)
			m.hand += skip
			n += skip
			continue
		}
		skip := bits.TrailingZeros64(word)
		m.hand += skip
		n += skip + 1
		marked := false
		for i := m.hand * blockLen; i < min((m.hand+1)*blockLen, len(m.places)); i++ {
			p := m.places[i]
			if p == 0 || state(p&stateMask) == told {
				continue
			}
			marked = true
			if !only || state(p&stateMask) == fresh {
				dst = append(dst, p>>stateBits-1)
			}
		}
		if !marked {
			m.dirty[m.hand/64] &^= 1 << (m.hand % 64)
		}
		m.hand++
	}
	return dst
}

// oldest returns how many phases ago the oldest of those was marked that were told inside and
// are not, phase being the present one.
func (m *members) oldest(phase int64) (ago int64) {
	for _, p := range m.places {
		if s := state(p & stateMask); p != 0 && s >= out {
			ago = max(ago, (phase%phases-int64(s-out)+phases)%phases)
		}
	}
	return ago
}
