package journal

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"herd/edge/position"
)

func from(host byte, conn uint64) Peer {
	return Peer{netip.AddrFrom4([4]byte{192, 0, 2, host}), conn}
}

// refs returns lines in these slots.
func refs(slots ...uint32) (lines []position.Ref) {
	for _, slot := range slots {
		lines = append(lines, position.Ref{Slot: slot, Revision: uint64(slot)})
	}
	return lines
}

func slots(lines []position.Ref) (slots []uint32) {
	for _, x := range lines {
		slots = append(slots, x.Slot)
	}
	return slots
}

func wantTurns(t *testing.T, turns *turns, n int, want ...uint32) {
	t.Helper()
	if got := slots(turns.take(nil, n)); !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestATurnTakesOneLineOfEachAddress(t *testing.T) { // C18
	var turns turns
	wantTurns(t, &turns, 10)
	turns.enter(from(1, 1), refs(11, 12, 13))
	turns.enter(from(1, 2), refs(21))
	second := turns.enter(from(1, 1), refs(14))
	turns.enter(from(2, 3), refs(31, 32))
	wantTurns(t, &turns, 100, 11, 31, 21, 32, 12, 13, 14)

	greedy := make([]uint32, 1000)
	for i := range greedy {
		greedy[i] = uint32(1000 + i)
	}
	big := turns.enter(from(3, 4), refs(greedy...))
	turns.enter(from(3, 5), refs(51))
	got := slots(turns.take(nil, 12))
	for _, want := range []uint32{11, 21, 31, 32, 1000, 51} {
		if !slices.Contains(got, want) {
			t.Errorf("%d is not among the first: %v", want, got)
		}
	}
	turns.leave(big)
	turns.leave(second)
	if got := slots(turns.take(nil, 100)); len(got) != 7 {
		t.Errorf("having left, they are still there: %v", got)
	}
}

func TestWhatIsKeptNeedsNoTurn(t *testing.T) {
	var turns turns
	a := turns.enter(from(1, 1), refs(1, 2, 3, 4))
	a.keep(1)
	wantTurns(t, &turns, 10, 1, 3, 4)
	a.keep(0)
	a.keep(3)
	wantTurns(t, &turns, 10, 3)
	a.keep(2)
	wantTurns(t, &turns, 10)
	turns.leave(a)
	if len(turns.of) != 0 {
		t.Errorf("%d addresses are left", len(turns.of))
	}
}

// If there are more addresses, or connections of one address, than lines are taken, each still
// gets its turn.
func TestTurnsGoOnWhereTheyEnded(t *testing.T) {
	for name, peer := range map[string]func(i int) Peer{
		"addresses":   func(i int) Peer { return from(byte(i), 1) },
		"connections": func(i int) Peer { return from(1, uint64(i)) },
	} {
		t.Run(name, func(t *testing.T) {
			var turns turns
			for i := range 10 {
				turns.enter(peer(i), refs(uint32(i*10), uint32(i*10+1)))
			}
			seen := map[uint32]int{}
			for range 5 {
				for _, slot := range slots(turns.take(nil, 4)) {
					seen[slot/10]++
				}
			}
			for i := range uint32(10) {
				if seen[i] != 2 {
					t.Errorf("%d was given %d lines of 20, want 2", i, seen[i])
				}
			}
		})
	}
}

// TestTurnsAreFair checks that take returns each waiting line at most once, and equally many
// lines per address and per connection of an address. They may differ by one, and by more only
// if an address or connection has no more lines.
func TestTurnsAreFair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var turns turns
		type waiting struct {
			turn *turn
			who  Peer
			left map[uint32]int // its lines: slot to index
		}
		var all []*waiting
		slot := uint32(0)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				w := &waiting{who: from(byte(rapid.IntRange(1, 4).Draw(t, "address")), 0), left: map[uint32]int{}}
				w.who.Conn = uint64(w.who.Address.As4()[3])*10 + uint64(rapid.IntRange(0, 3).Draw(t, "conn"))
				var lines []position.Ref
				for i := range rapid.IntRange(1, 30).Draw(t, "lines") {
					slot++
					lines = append(lines, position.Ref{Slot: slot})
					w.left[slot] = i
				}
				w.turn = turns.enter(w.who, lines)
				all = append(all, w)
			case 2: // some are kept; a waiter with none left leaves, as in Await
				for _, w := range slices.Clone(all) {
					for slot, i := range w.left {
						if rapid.Bool().Draw(t, fmt.Sprint("kept ", slot)) {
							w.turn.keep(i)
							delete(w.left, slot)
						}
					}
					if len(w.left) == 0 {
						turns.leave(w.turn)
						all = slices.DeleteFunc(all, func(x *waiting) bool { return x == w })
					}
				}
			case 3: // one waiter gives up
				if len(all) > 0 {
					i := rapid.IntRange(0, len(all)-1).Draw(t, "gives up")
					turns.leave(all[i].turn)
					all = slices.Delete(all, i, i+1)
				}
			}
			n := rapid.IntRange(0, 100).Draw(t, "n")
			got := slots(turns.take(nil, n))
			waiters := map[Peer]bool{}
			for _, w := range all {
				waiters[w.who] = true
			}
			if turns.peers != len(waiters) {
				t.Fatalf("%d peers, want %d", turns.peers, len(waiters))
			}
			conns, addresses := map[Peer][2]int{}, map[netip.Addr][2]int{} // lines given and left
			waits := 0
			for _, w := range all {
				given := 0
				for slot := range w.left {
					if slices.Contains(got, slot) {
						given++
					}
				}
				waits += len(w.left)
				c, a := conns[w.who], addresses[w.who.Address]
				conns[w.who] = [2]int{c[0] + given, c[1] + len(w.left) - given}
				addresses[w.who.Address] = [2]int{a[0] + given, a[1] + len(w.left) - given}
			}
			if want := min(n, waits); len(got) != want {
				t.Fatalf("%d lines of %d, want %d", len(got), waits, want)
			}
			slices.Sort(got)
			if len(slices.Compact(got)) != min(n, waits) {
				t.Fatalf("a line twice: %v", got)
			}
			total := 0
			for who, c := range conns {
				total += c[0]
				for other, d := range conns {
					if who.Address == other.Address && c[1] > 0 && d[0] > c[0]+1 {
						t.Fatalf("%v was given %d and has %d left, %v was given %d", who, c[0], c[1], other, d[0])
					}
				}
			}
			for who, a := range addresses {
				for other, b := range addresses {
					if a[1] > 0 && b[0] > a[0]+1 {
						t.Fatalf("%v was given %d and has %d left, %v was given %d", who, a[0], a[1], other, b[0])
					}
				}
			}
			if total != len(got) {
				t.Fatalf("%d lines without a waiter", len(got)-total)
			}
		}
	})
}

// BenchmarkTurns measures taking a batch while a thousand connections wait for as many lines as
// they can.
func BenchmarkTurns(b *testing.B) {
	var turns turns
	for conn := range 1000 {
		lines := make([]uint32, 1000)
		for i := range lines {
			lines[i] = uint32(conn*1000 + i)
		}
		turns.enter(from(byte(conn%10), uint64(conn)), refs(lines...))
	}
	var dst []position.Ref
	b.ReportAllocs()
	for b.Loop() {
		if dst = turns.take(dst[:0], 500); len(dst) != 500 {
			b.Fatal(len(dst))
		}
	}
}
