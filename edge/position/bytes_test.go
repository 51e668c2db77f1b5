package position

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"herd/edge/wire"
)

// put puts a client's line and returns the outcome.
func put(t *testing.T, table *Table, kind Kind, client string, stamp int64) Outcome {
	t.Helper()
	return apply(t, table, stamp*second, Source{}, kind, at("A", client, "+1+1", float64(stamp), 0))[0].Outcome
}

// C18: the size that the table reports is what the allocator gave it.
func TestTheTableKnowsWhatItTakes(t *testing.T) {
	for i, id := range []int{10, 100, 1000, 10} {
		t.Run(fmt.Sprintf("ids of %d bytes", id), func(t *testing.T) {
			live := i == 3
			heap := func() int {
				runtime.GC()
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return int(m.HeapAlloc)
			}
			before := heap()
			table := New(Config{Retain: time.Minute, Live: live})
			ops := make([]Op, 1)
			put := func(i int, stamp int64) {
				line := at("A", fmt.Sprintf("%0*d", id, i), "+1+1", float64(stamp), 0)
				a, err := wire.ParseAT(line[:len(line)-1])
				if err != nil {
					t.Fatal(err)
				}
				table.PreparePut(&ops[0], line, &a)
				table.Apply(stamp*second, Source{}, ops)
			}
			for i := range 3_000_000 / (100 + id) {
				put(i, 1)
				if i%3 == 0 {
					put(i, 2)
				}
			}
			if takes, says := heap()-before, table.Bytes(); says < takes*96/100-64<<10 || says > takes*104/100+64<<10 {
				t.Errorf("it says %d bytes, and takes %d", says, takes)
			}
			for end := false; !end; { // one in three is left
				_, end = table.Forget(61*second+second/2, 1000, nil)
			}
			if takes, says := heap()-before, table.Bytes(); says < takes*96/100-64<<10 || says > takes*104/100+64<<10 {
				t.Errorf("having forgotten, it says %d bytes, and takes %d", says, takes)
			}
			runtime.KeepAlive(table)
		})
	}
}

func TestATableThatIsFullOfBytesTakesNoNewClients(t *testing.T) { // C18
	const most = 4 << 20
	table := New(Config{MaxBytes: most, Retain: time.Minute})
	long := func(i int) string { return fmt.Sprintf("%0900d", i) }
	n := 0
	for put(t, table, PutOwn, long(n), 1) == Stored {
		n++
	}
	if got := table.Bytes(); got > most || got < most*9/10 {
		t.Errorf("it took %d bytes, at most %d were allowed", got, most)
	}
	if out := put(t, table, PutOwn, long(n), 1); out != Full {
		t.Errorf("a new client: %v, want Full", out)
	}
	for i := range n {
		if out := put(t, table, PutOwn, long(i), 2); out != Stored {
			t.Fatalf("client %d, who is known: %v", i, out)
		}
	}
	for k := range 500 { // otherwise edges would differ
		if out := put(t, table, Put, long(n+k), 1); out != Stored {
			t.Fatalf("a new client from a neighbour: %v", out)
		}
		op, line := make([]Op, 1), at("A", long(n+1000+k), "+1+1", 1, 0)
		if _, err := table.PreparePutKept(&op[0], line, 1); err != nil {
			t.Fatal(err)
		}
		if table.Apply(second, Source{}, op); op[0].Outcome != Stored {
			t.Fatalf("a new client from the journal: %v", op[0].Outcome)
		}
	}
	if out := put(t, table, PutOwn, "new", 3); out != Full {
		t.Errorf("a new client beyond what neighbours brought: %v, want Full", out)
	}
	for end := false; !end; {
		_, end = table.Forget(100*second, 1000, nil)
	}
	// The space of lines of one length is reused for lines of another.
	short := 0
	for put(t, table, PutOwn, fmt.Sprint(short), 100) == Stored {
		short++
	}
	if got := table.Bytes(); got > most || short < 4*n {
		t.Errorf("afterwards %d short lines were taken in %d bytes, where %d long ones were", short, got, n)
	}
}

// A line that grows and shrinks does not take a new chunk each time.
func TestALineThatComesAndGoesAllocatesNothing(t *testing.T) {
	var a arena
	short, long := bytes.Repeat([]byte("s"), 80), bytes.Repeat([]byte("l"), 700)
	others := make([]uint32, 1<<shift(sizeClass(len(long))))
	for i := range others {
		others[i] = a.store(long)
	}
	if got := testing.AllocsPerRun(100, func() {
		a.release(a.store(long), len(long))
		a.release(a.store(short), len(short))
		a.release(others[0], len(long))
		others[0] = a.store(long)
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

func TestAnArenaKeepsEachLineApart(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var a arena
	type kept struct {
		place uint32
		text  []byte
	}
	var all []kept
	for round := range 40 {
		many := 20_000
		if round%2 == 1 {
			many = len(all) * 9 / 10
		}
		for range many {
			if round%2 == 1 {
				i := random.IntN(len(all))
				if got := a.bytes(all[i].place, len(all[i].text)); !bytes.Equal(got, all[i].text) {
					t.Fatalf("round %d: %q, want %q", round, got, all[i].text)
				}
				a.release(all[i].place, len(all[i].text))
				all[i] = all[len(all)-1]
				all = all[:len(all)-1]
				continue
			}
			text := bytes.Repeat([]byte{byte(random.IntN(256))}, 1+random.IntN(wire.MaxAT)>>random.IntN(5))
			all = append(all, kept{a.store(text), text})
		}
		size := 0
		for c := range a.class {
			k := &a.class[c]
			open := 0
			for i, chunk := range k.chunks {
				if chunk == nil {
					continue
				}
				size += chunkSize(c)
				if k.rooms[i].live < 1<<shift(c) {
					open++
				}
			}
			listed := 0
			for i := k.open; i != 0; i = k.rooms[i-1].next {
				listed++
			}
			if listed != open {
				t.Fatalf("round %d, class %d: %d chunks have room, %d are listed", round, c, open, listed)
			}
		}
		if size != a.size {
			t.Fatalf("round %d: it says %d bytes, there are %d", round, a.size, size)
		}
	}
}
