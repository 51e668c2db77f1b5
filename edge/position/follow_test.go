package position

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"herd/edge/wire"
)

// forgetAll forgets what is past.
func forgetAll(table *Table, now int64) (n int) {
	for end := false; !end; {
		var some int
		some, end = table.Forget(now, 7, nil)
		n += some
	}
	return n
}

func TestWhatIsForgottenWhileFollowedIsAChangeAndKeepsItsSlot(t *testing.T) { // L4, S4
	table := New(Config{Retain: time.Minute, Live: true, Journal: true})
	apply(t, table, 100*second, Source{}, PutOwn, at("A", "a", "+1+1", 100, 0), at("A", "b", "+2+2", 150, 0))
	cursor, ok := table.Follow()
	if !ok {
		t.Fatal("no index")
	}
	a, ok := table.Find([]byte("a"))
	if !ok || a.Gone {
		t.Fatalf("%+v, %v", a, ok)
	}
	now := 170 * second
	if n := forgetAll(table, now); n != 1 {
		t.Fatalf("%d were forgotten", n)
	}
	changes, through, head := table.Changes(nil, cursor, 10)
	if len(changes) != 1 || !changes[0].Gone || changes[0].Slot != a.Slot || through != head {
		t.Fatalf("the changes are %+v, through %d of %d", changes, through, head)
	}
	// Nobody else sees it.
	if got := held(table, now, "a"); got != "" {
		t.Errorf("held %q", got)
	}
	if _, span := table.Read(nil, 0, 1<<16, Source{}, now, nil); span.Lines != 1 {
		t.Errorf("a link reads %d lines, want 1", span.Lines)
	}
	table.View(func(v View) {
		if _, ok := v.At(a.Slot); ok {
			t.Error("a View has it")
		}
		if _, ok := v.Find([]byte("a")); ok {
			t.Error("a View finds it")
		}
		v.Scan(0, func(r Record) bool {
			if r.Ref().Slot == a.Slot {
				t.Error("a View comes by it")
			}
			return true
		})
	})
	if clients, _, forgotten := table.Stats(); clients != 1 || forgotten != 1 {
		t.Errorf("%d clients, %d forgotten", clients, forgotten)
	}
	if own, _ := table.OwnClients(); own != 1 {
		t.Errorf("%d clients of its own, want 1", own)
	}
	if n := forgetAll(table, now); n != 0 {
		t.Errorf("%d were forgotten again", n)
	}
	// Its line is there for who has to tell it, and its slot is not another's.
	b, seen := table.Look(nil, nil, []uint32{a.Slot}, now)
	if !seen[0].Gone || string(seen[0].Line(b)) != string(at("A", "a", "+1+1", 100, 0)) {
		t.Errorf("%+v %q", seen[0], b)
	}
	apply(t, table, now, Source{}, PutOwn, at("A", "c", "+3+3", 170, 0))
	if c, _ := table.Find([]byte("c")); c.Slot == a.Slot {
		t.Error("the slot is another client's")
	}
	// Coming back, it takes its slot again, and what was to be released is not.
	apply(t, table, now, Source{}, PutOwn, at("A", "a", "+4+4", 171, 0))
	table.Release(a.Slot, changes[0].Revision)
	back, ok := table.Find([]byte("a"))
	if !ok || back.Slot != a.Slot || back.Gone || back.Point != (wire.Point{Lat: 4 * degree, Lon: 4 * degree}) {
		t.Errorf("it came back as %+v, %v", back, ok)
	}
	if clients, _, _ := table.Stats(); clients != 3 {
		t.Errorf("%d clients, want 3", clients)
	}
	// Released, the slot is free.
	now = 300 * second
	forgetAll(table, now)
	changes, _, _ = table.Changes(nil, through, 10)
	for _, c := range changes {
		table.Release(c.Slot, c.Revision)
	}
	if table.records.gone != 0 || table.records.live != 0 {
		t.Errorf("%d gone, %d live", table.records.gone, table.records.live)
	}
	if _, ok := table.Find([]byte("a")); ok {
		t.Error("a released client is found")
	}
}

// Whoever follows may end before all was released, and another begin.
func TestWhatNobodyFollowsAnyMoreIsDropped(t *testing.T) {
	table := New(Config{Retain: time.Minute, Live: true})
	table.Follow()
	apply(t, table, 100*second, Source{}, Put, at("A", "a", "+1+1", 100, 0), at("A", "b", "+1+1", 100, 0))
	forgetAll(table, 200*second)
	if table.records.gone != 2 {
		t.Fatalf("%d gone", table.records.gone)
	}
	table.Unfollow()
	cursor, _ := table.Follow()
	if _, ok := table.Find([]byte("a")); ok {
		t.Error("who follows now finds what was forgotten before")
	}
	if changes, _, _ := table.Changes(nil, cursor, 10); len(changes) != 0 {
		t.Errorf("who follows now hears of %+v", changes)
	}
	apply(t, table, 200*second, Source{}, Put, at("A", "a", "+1+1", 200, 0)) // it comes back all the same
	forgetAll(table, 200*second)
	if table.records.gone != 0 || table.records.live != 1 {
		t.Errorf("%d gone, %d live; want 0, 1", table.records.gone, table.records.live)
	}
}

// A client whose line is past when the next one comes is forgotten by that, and has only moved.
func TestAClientThatComesBackByItselfHasOnlyMoved(t *testing.T) {
	table := New(Config{Retain: time.Minute, Live: true})
	cursor, _ := table.Follow()
	apply(t, table, 100*second, Source{}, Put, at("A", "a", "+1+1", 100, 0))
	before, _ := table.Find([]byte("a"))
	apply(t, table, 500*second, Source{}, Put, at("A", "a", "+2+2", 500, 0))
	changes, _, _ := table.Changes(nil, cursor, 10)
	if len(changes) != 1 || changes[0].Gone || changes[0].Slot != before.Slot {
		t.Errorf("the changes are %+v", changes)
	}
	if clients, _, forgotten := table.Stats(); clients != 1 || forgotten != 1 || table.records.gone != 0 {
		t.Errorf("%d clients, %d forgotten, %d gone", clients, forgotten, table.records.gone)
	}
}

func TestALimitOfClientsCountsWhoIsHeld(t *testing.T) { // C18
	table := New(Config{Retain: time.Minute, Live: true, MaxClients: 2})
	table.Follow()
	apply(t, table, 100*second, Source{}, PutOwn, at("A", "a", "+1+1", 100, 0), at("A", "b", "+1+1", 100, 0))
	forgetAll(table, 200*second)
	ops := apply(t, table, 200*second, Source{}, PutOwn, at("A", "c", "+1+1", 200, 0), at("A", "d", "+1+1", 200, 0), at("A", "a", "+1+1", 200, 0))
	if got := []Outcome{ops[0].Outcome, ops[1].Outcome, ops[2].Outcome}; !slices.Equal(got, []Outcome{Stored, Stored, Full}) {
		t.Errorf("C18 outcomes %v: a client that was forgotten is a new one", got)
	}
}

// The order of changes is cleaned up, too, where most of it was forgotten and is kept.
func TestKeptSlotsDoNotGrowTheOrderForEver(t *testing.T) {
	table := New(Config{Retain: time.Minute, Live: true})
	cursor, _ := table.Follow()
	ops := make([]Op, 1)
	for round := range 20 {
		now := int64(1000+round*100) * second
		for i := range 3000 {
			line := at("A", fmt.Sprint("c", round, "-", i), "+1+1", float64(now/second), 0)
			a := parse(t, line)
			table.PreparePut(&ops[0], line, &a)
			table.Apply(now, Source{}, ops)
		}
		forgetAll(table, now+61*second)
		for {
			var changes []Change
			var head uint64
			changes, cursor, head = table.Changes(nil, cursor, 100)
			for _, c := range changes {
				if c.Gone {
					table.Release(c.Slot, c.Revision)
				}
			}
			if cursor == head {
				break
			}
		}
	}
	if n := len(table.changes.segments); n > 20 || table.records.used > 3100 {
		t.Errorf("%d segments, %d slots used", n, table.records.used)
	}
}
