package journal

import (
	"fmt"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// putOwn merges a line of one of this edge's own clients.
func putOwn(t testing.TB, table *position.Table, client string, stamp int) position.Op {
	t.Helper()
	line, a := atLine(t, client, stamp)
	ops := make([]position.Op, 1)
	table.PreparePutOwn(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
	table.Apply(0, position.Source{}, ops)
	return ops[0]
}

// putOther merges a line as if it came from a neighbour.
func putOther(t testing.TB, table *position.Table, client string, stamp int) {
	t.Helper()
	line, a := atLine(t, client, stamp)
	ops := make([]position.Op, 1)
	table.PreparePut(&ops[0], line, &a)
	table.Apply(0, position.Source{}, ops)
}

func atLine(t testing.TB, client string, stamp int) ([]byte, wire.AT) {
	t.Helper()
	line := fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d\n", client, stamp)
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		t.Fatal(err)
	}
	return line, a
}

// readBatch reads one piece of a batch, with a hand of its own.
func readBatch(table *position.Table, b *batch, cursor uint64, w want) (through, head uint64) {
	var hand position.Hand
	table.View(func(v position.View) { through, head = b.read(v, cursor, &w, &hand), v.Head() })
	return through, head
}

// A scribe is a journal that writes in one step.
type scribe struct {
	table  *position.Table
	cursor uint64
	hand   position.Hand
	batch  batch
	first  []position.Ref
	held   map[string]string
	last   uint64
}

// write writes one batch; between is called between the pieces of reading it.
func (s *scribe) write(t testing.TB, most int, between func()) (written int) {
	t.Helper()
	w := want{most: most, limit: most * 64, first: s.first}
	s.batch.reset(w.limit)
	through := s.cursor
	for {
		var next, head uint64
		s.table.View(func(v position.View) { next, head = s.batch.read(v, through, &w, &s.hand), v.Head() })
		if next < through {
			t.Fatalf("the cursor went back from %d to %d", through, next)
		}
		if through = next; s.batch.full || through == head {
			break
		}
		if between != nil {
			between()
		}
	}
	if n := len(s.batch.items); n > most {
		t.Fatalf("%d items in a batch of %d", n, most)
	}
	slots := map[uint32]bool{}
	for i := range s.batch.items {
		it := &s.batch.items[i]
		if slots[it.Slot] {
			t.Fatalf("D5 %s stands twice in a batch", it.client())
		}
		slots[it.Slot] = true
		s.held[string(it.client())] = string(it.line)
		s.last++
		it.sequence = s.last
	}
	markKept(s.table, s.batch.items, func(client []byte) { t.Fatalf("%s is an orphan", client) })
	s.cursor = through
	return len(s.batch.items)
}

// Clients change between the pieces in which a batch is read, with and without a hand, waiters and
// neighbours' lines: in the end all own lines are written, and a key stands once in a batch.
func TestABatchThatIsReadInPiecesLosesNothing(t *testing.T) {
	table := position.New(position.Config{Journal: true})
	s := &scribe{table: table, held: map[string]string{}}
	stamp := 1
	const own = 300
	for round := range 200 {
		for i := range own / 3 {
			putOwn(t, table, fmt.Sprint("c", (round*7+i)%own), stamp)
		}
		if round%3 == 0 { // a piece is some 2,000 entries
			for i := range 5000 {
				putOther(t, table, fmt.Sprint("n", i), 1000+round)
			}
		}
		if op := putOwn(t, table, "waits", stamp); round%2 == 0 {
			s.first = []position.Ref{{Slot: op.Slot, Revision: op.Revision}, {Slot: 0, Revision: 1}}
		} else {
			s.first = nil
		}
		stamp++
		s.write(t, 60, func() {
			for i := range 10 {
				putOwn(t, table, fmt.Sprint("c", i*5), stamp)
			}
			putOwn(t, table, "waits", stamp)
			stamp++
		})
	}
	s.first = nil
	for s.write(t, 60, nil) > 0 {
	}
	ops := make([]position.Op, 1)
	for client, line := range s.held {
		table.PrepareGet(&ops[0], []byte(client))
		table.Apply(0, position.Source{}, ops)
		if string(ops[0].Line) != line {
			t.Errorf("D1 the journal holds %q, the table %q", line, ops[0].Line)
		}
	}
	if len(s.held) != own+1 {
		t.Errorf("D1 the journal holds %d clients of %d", len(s.held), own+1)
	}
	if own, held := table.OwnClients(); own != held || own != len(s.held) {
		t.Errorf("%d own clients, %d of them held", own, held)
	}
}

// A line that changed after it was read for a batch is not kept by that batch.
func TestOnlyTheRevisionThatWasWrittenIsKept(t *testing.T) {
	table := position.New(position.Config{Journal: true})
	putOwn(t, table, "a", 1)
	var b batch
	readBatch(table, &b, 0, want{most: 10, limit: 1000})
	op := putOwn(t, table, "a", 2)
	b.items[0].sequence = 7
	markKept(table, b.items, func([]byte) { t.Error("an orphan") })
	if kept, known := keeps(table, op.Slot); kept || !known {
		t.Errorf("D1 kept %v, known %v, want it known and not kept", kept, known)
	}
	b.reset(1000)
	readBatch(table, &b, 0, want{most: 10, limit: 1000})
	if len(b.items) != 1 || b.items[0].sequence != 7 {
		t.Errorf("D5 %+v, want a with the sequence that its key has", b.items)
	}
}

// If a client comes back before its old entry is deleted, the existence of that entry is not lost:
// not when the client is forgotten again before its new line was written, and not if the journal
// accepts no new clients.
func TestAClientThatReturnsHasAnEntry(t *testing.T) {
	table := position.New(position.Config{Journal: true, Retain: time.Minute})
	const second = int64(time.Second)
	op := putOwn(t, table, "a", 1)
	if _, known := keeps(table, op.Slot); known {
		t.Fatal("known before anything was written")
	}
	read := func(cursor uint64) int {
		var b batch
		readBatch(table, &b, cursor, want{most: 10, limit: 1000, known: true, now: second})
		return len(b.items)
	}
	if n := read(0); n != 0 {
		t.Errorf("D6 %d new clients are read", n)
	}
	cursor := table.Head()
	if returned(table, []byte("b")) || !returned(table, []byte("a")) {
		t.Error("S4 a alone has come back")
	}
	if n := read(cursor); n != 1 {
		t.Errorf("D6 %d clients that are known are read, want a", n)
	}
	told := 0
	if n, _ := table.Forget(100*second, 10, func([]byte) bool { told++; return false }); n != 0 || told != 1 {
		t.Errorf("S4 forgotten %d, told of %d, want a to be told of, and to stay", n, told)
	}
	if n, _ := table.Forget(100*second, 10, func([]byte) bool { told++; return true }); n != 1 || told != 2 {
		t.Errorf("S4 forgotten %d, told of %d", n, told)
	}
	if own, held := table.OwnClients(); own != 0 || held != 0 {
		t.Errorf("%d own clients, %d of them held, when all are forgotten", own, held)
	}
}

// The journal's entry of a client is past; the line held in memory is not.
func TestAnEntryThatIsPastIsReplaced(t *testing.T) {
	table := position.New(position.Config{Journal: true, Retain: time.Minute})
	op := putOwn(t, table, "a", 50)
	var b batch
	readBatch(table, &b, 0, want{most: 10, limit: 1000})
	b.items[0].sequence = 7
	markKept(table, b.items, func([]byte) {})
	ops := make([]position.Op, 1) // an operator overwrote it with an old line, at 9
	if _, err := table.PreparePutKept(&ops[0], []byte("AT A +0.000000000 a +1+1 1\n"), 9); err != nil {
		t.Fatal(err)
	}
	table.Apply(70*int64(time.Second), position.Source{}, ops)
	if ops[0].Outcome != position.Expired {
		t.Fatalf("outcome %d", ops[0].Outcome)
	}
	if kept, known := keeps(table, op.Slot); kept || !known {
		t.Errorf("D5 kept %v, known %v: the journal does not hold it any more", kept, known)
	}
	b.reset(1000)
	readBatch(table, &b, op.Revision, want{most: 10, limit: 1000})
	if len(b.items) != 1 || b.items[0].sequence != 9 {
		t.Errorf("D5 %+v is written, want a over what is at 9", b.items)
	}
}
