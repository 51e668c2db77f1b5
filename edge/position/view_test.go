package position

import (
	"bytes"
	"testing"
	"time"
)

// TestAViewShowsWhatTheTableHolds: a record is found by its slot, by its client and in the order
// of changes, and nothing is found where there is none.
func TestAViewShowsWhatTheTableHolds(t *testing.T) {
	table := New(Config{Retain: 100})
	a, b := at("A", "a", "+1+1", 1, 0), at("A", "b", "+1+1", 2, 0)
	ops := apply(t, table, second, Source{}, PutOwn, a)
	apply(t, table, second, Source{}, Put, b)
	table.View(func(v View) {
		if v.Head() != 2 || v.Slots() != 2 {
			t.Errorf("head %d of %d slots, want 2 of 2", v.Head(), v.Slots())
		}
		r, ok := v.At(ops[0].Slot)
		if !ok || !bytes.Equal(r.Line(), a) || r.Len() != len(a) || string(r.Client()) != "a" || !r.Own() || r.Revision() != 1 {
			t.Errorf("slot %d holds %q", ops[0].Slot, r.Line())
		}
		if r.Expired(second+99) || !r.Expired(second+100) {
			t.Error("S4 not past HERD_RETAIN when it is, or before")
		}
		found, ok := v.Find([]byte("b"))
		if !ok || !bytes.Equal(found.Line(), b) || found.Own() {
			t.Errorf("b is found as %q, own %v", found.Line(), found.Own())
		}
		if again, ok := v.At(found.Ref().Slot); !ok || again != found {
			t.Error("b is not in its slot")
		}
		if _, ok := v.Find([]byte("c")); ok {
			t.Error("c is found")
		}
		if _, ok := v.At(v.Slots()); ok {
			t.Error("a slot beyond the last one holds a record")
		}
		var order []string
		through, end := v.Scan(0, func(r Record) bool {
			order = append(order, string(r.Client()))
			return len(order) < 2
		})
		if through != 1 || end || len(order) != 2 {
			t.Errorf("H3 a scan that is stopped at b is through %d, end %v, after %q", through, end, order)
		}
	})
	if n, _ := table.Forget(3*second, 10, nil); n != 2 {
		t.Fatalf("%d forgotten", n)
	}
	table.View(func(v View) {
		if _, ok := v.At(ops[0].Slot); ok {
			t.Error("S4 a free slot holds a record")
		}
		through, end := v.Scan(0, func(r Record) bool { t.Error("S4 what was forgotten is met"); return true })
		if through != 2 || !end {
			t.Errorf("through %d, end %v", through, end)
		}
	})
}

// TestAChangeInAViewWakesReaders: a record that was touched is met again by all readers.
func TestAChangeInAViewWakesReaders(t *testing.T) {
	table := New(Config{})
	apply(t, table, 0, Source{}, Put, at("A", "a", "+1+1", 1, 0))
	reader := NewReader()
	table.Wait(reader, table.Head())
	find := func(f func(Record)) {
		table.View(func(v View) {
			r, ok := v.Find([]byte("a"))
			if !ok {
				t.Fatal("a is not found")
			}
			f(r)
		})
	}
	find(func(Record) {})
	select {
	case <-reader.C:
		t.Error("woken by a view that changed nothing")
	default:
	}
	find(Record.Touch)
	select {
	case <-reader.C:
	default:
		t.Error("H3 not woken by a touched record")
	}
	if got, span := table.Read(nil, 1, 1000, Source{}, 0, nil); span.Lines != 1 || span.Through != 2 {
		t.Errorf("H3 read %q, %+v", got, span)
	}
}

// TestTheMarksOfARecordFollowItsLine: a newer line is not kept, and its key still has a sequence;
// a client that is forgotten has no marks.
func TestTheMarksOfARecordFollowItsLine(t *testing.T) {
	table := New(Config{Retain: 100 * time.Second, Journal: true})
	marks := func() (sequence uint64, kept bool) {
		table.View(func(v View) {
			if r, ok := v.Find([]byte("a")); ok {
				sequence, kept = r.Sequence(), r.Kept()
			}
		})
		return sequence, kept
	}
	apply(t, table, 0, Source{}, PutOwn, at("A", "a", "+1+1", 1, 0))
	table.View(func(v View) {
		r, _ := v.Find([]byte("a"))
		r.SetSequence(7)
		r.SetKept(true)
	})
	if sequence, kept := marks(); sequence != 7 || !kept {
		t.Errorf("sequence %d, kept %v, want what was set", sequence, kept)
	}
	if own, sequenced := table.OwnClients(); own != 1 || sequenced != 1 {
		t.Errorf("%d own clients, %d with a sequence", own, sequenced)
	}
	apply(t, table, 0, Source{}, Put, at("B", "a", "+1+1", 2, 0))
	if sequence, kept := marks(); sequence != 7 || kept {
		t.Errorf("D3 sequence %d, kept %v after a newer line", sequence, kept)
	}
	if n, _ := table.Forget(1000*second, 10, func([]byte) bool { return true }); n != 1 {
		t.Fatalf("%d forgotten", n)
	}
	apply(t, table, 0, Source{}, Put, at("B", "a", "+1+1", 2, 0))
	if sequence, kept := marks(); sequence != 0 || kept {
		t.Errorf("S4 sequence %d, kept %v of a client that came back", sequence, kept)
	}
	if own, sequenced := table.OwnClients(); own != 0 || sequenced != 0 {
		t.Errorf("%d own clients, %d with a sequence, want none", own, sequenced)
	}
}

func TestAViewAllocatesNothing(t *testing.T) {
	table := New(Config{})
	fill(table, 10_000)
	hand := Hand{on: true}
	size := 0
	if got := testing.AllocsPerRun(100, func() {
		table.View(func(v View) {
			take := func(r Record) bool { size += r.Len(); return true }
			v.Scan(0, take)
			v.Round(&hand, 0, take)
		})
	}); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if size == 0 {
		t.Error("nothing was shown")
	}
}
