package journal_test

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
)

// forget drops expired lines from the table, as the edge does.
func (r *run) forget() {
	for end := false; !end; {
		_, end = r.table.Forget(time.Now().UnixNano(), 1000, r.j.Forgotten)
	}
}

// isOwn reports whether the table holds a client as this edge's own.
func (r *run) isOwn(client string) bool {
	return journal.Returned(r.table, []byte(client))
}

func TestForgettingClearsTheJournalToo(t *testing.T) {
	bubble(t, "S4", func(t *testing.T, s *storetest.Fake) {
		now := int(time.Now().Unix())
		r := start(t, s, with{retain: time.Minute})
		r.own("old", now-30)
		r.own("young", now)
		pass(41 * time.Second)
		r.forget()
		pass(time.Second)
		holds(t, s, "S4", map[string]int{"young": now})
		later := int(time.Now().Unix())
		r.own("old", later) // its key has a deletion marker
		pass(time.Second)
		holds(t, s, "S4", map[string]int{"young": now, "old": later})
		_ = r.stop()
		pass(2 * time.Minute)
		again := start(t, s, with{retain: time.Minute})
		<-again.j.Loaded()
		pass(time.Second)
		holds(t, s, "S4 what was past its time at the start", nil)
	})
	bubble(t, "S4 by the retention clock, for reading and writing alike", func(t *testing.T, s *storetest.Fake) {
		real := time.Now()
		stands := func() int64 { return real.UnixNano() }
		r := start(t, s, with{retain: time.Minute, retainNow: stands})
		r.own("a", int(real.Unix()))
		pass(time.Second)
		_ = r.stop()
		pass(time.Hour)
		again := start(t, s, with{retain: time.Minute, retainNow: stands})
		<-again.j.Loaded()
		pass(time.Minute)
		holds(t, s, "S4", map[string]int{"a": int(real.Unix())})
		if clients, _, _ := again.table.Stats(); clients != 1 {
			t.Error("S4 not read, though the retention clock stands")
		}
	})
	bubble(t, "S4 a client that is forgotten while its first write is under way", func(t *testing.T, s *storetest.Fake) {
		for _, back := range []func(r *run, client string, stamp int) position.Op{nil, (*run).own, (*run).neighbours} {
			r := start(t, s, with{retain: time.Minute})
			<-r.j.Loaded()
			s.Cost(800*time.Millisecond, 0)
			pass(time.Until(time.Now().Truncate(time.Second).Add(1600 * time.Millisecond)))
			r.own("a", int(time.Now().Unix())-59)
			pass(500 * time.Millisecond) // the write takes 800 ms; the line expired after 400
			r.forget()
			if clients, _, _ := r.table.Stats(); clients != 0 || len(s.Values()) != 1 {
				t.Fatalf("%d clients, %d entries: the test does not test what it should", clients, len(s.Values()))
			}
			want := map[string]int{}
			if back != nil {
				r.own("takes-its-slot", int(time.Now().Unix()))
				want["takes-its-slot"] = int(time.Now().Unix())
				back(r, "a", int(time.Now().Unix()))
				if r.isOwn("a") {
					want["a"] = int(time.Now().Unix())
				}
			}
			s.Cost(time.Millisecond, 0)
			pass(5 * time.Second)
			holds(t, s, "S4", want)
			pass(2 * time.Minute)
			r.forget()
			pass(5 * time.Second)
			holds(t, s, "S4", nil)
			if s.Refused() > 0 {
				t.Errorf("S4 %d refusals", s.Refused())
			}
			_ = r.stop()
		}
	})
	bubble(t, "S4 a client that is forgotten while it is written", func(t *testing.T, s *storetest.Fake) {
		for _, fault := range []storetest.Fault{storetest.OK, storetest.After, storetest.Lost, storetest.Late} {
			r := start(t, s, with{retain: time.Minute})
			<-r.j.Loaded()
			s.Cost(3*time.Second, 0)
			r.client.Faults(once("Write", fault))
			r.own("a", int(time.Now().Unix())-58)
			pass(2500 * time.Millisecond) // its write is under way
			r.forget()
			if clients, _, _ := r.table.Stats(); clients != 0 {
				t.Fatal("not forgotten: the test does not test what it should")
			}
			s.Cost(time.Millisecond, 0)
			pass(time.Minute)
			holds(t, s, "S4", nil)
			_ = r.stop()
		}
	})
	bubble(t, "S4 … and comes back before the answer, by a neighbour or itself", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{retain: time.Minute})
		<-r.j.Loaded()
		s.Cost(3*time.Second, 0)
		stamp := int(time.Now().Unix())
		r.own("a", stamp-58)
		r.own("b", stamp-58)
		pass(2500 * time.Millisecond)
		r.forget()
		r.neighbours("a", stamp) // no longer this edge's own
		r.own("b", stamp)
		pass(30 * time.Second)
		holds(t, s, "S4", map[string]int{"b": stamp})
	})
	bubble(t, "S4 a client that comes back before its deletion keeps its new line", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{retain: time.Minute})
		stamp := int(time.Now().Unix())
		for i := range 600 { // more than one step of deletions
			r.own(fmt.Sprint("c", i), stamp)
		}
		pass(61 * time.Second)
		r.client.Cut()
		pass(time.Second)
		r.forget()
		again := int(time.Now().Unix())
		want := map[string]int{}
		for i := 0; i < 600; i += 2 {
			r.own(fmt.Sprint("c", i), again)
			want[fmt.Sprint("c", i)] = again
		}
		pass(10 * time.Second)
		r.client.Mend()
		r.j.Reconnected()
		pass(time.Minute - 15*time.Second)
		holds(t, s, "S4", want)
		// If it is forgotten again before it was written, the first entry is deleted too.
		pass(20 * time.Second)
		r.forget()
		pass(time.Minute)
		holds(t, s, "S4", nil)
	})
	bubble(t, "S4 forgotten twice, written between", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{retain: time.Minute})
		<-r.j.Loaded()
		for range 5 {
			r.own("a", int(time.Now().Unix()))
			pass(61 * time.Second)
			r.client.Faults(once("Delete", storetest.Lost))
			r.forget()
			r.own("b", int(time.Now().Unix()))
			pass(5 * time.Second)
		}
		pass(time.Minute)
		r.forget()
		pass(time.Minute)
		holds(t, s, "S4", nil)
		if n := s.Refused(); n > 0 {
			t.Errorf("S4 %d refusals: the journal expects what is not so", n)
		}
	})
	bubble(t, "S4 forgotten twice before it could be deleted", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{retain: time.Minute})
		<-r.j.Loaded()
		r.client.Faults(func(method string) storetest.Fault {
			if method == "Delete" {
				return storetest.Before
			}
			return storetest.OK
		})
		r.own("first", int(time.Now().Unix())) // its deletion fails, and those behind it wait
		pass(61 * time.Second)
		r.forget()
		pass(time.Second)
		for range 3 {
			r.own("a", int(time.Now().Unix()))
			pass(61 * time.Second)
			r.forget()
		}
		r.client.Faults(nil)
		pass(2 * time.Minute)
		holds(t, s, "S4", nil)
		r.own("b", int(time.Now().Unix())) // later deletions are not blocked
		pass(61 * time.Second)
		r.forget()
		pass(2 * time.Minute)
		holds(t, s, "S4", nil)
	})
	bubble(t, "S4 a line replaced without Forget coming by", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{retain: time.Minute})
		r.own("a", int(time.Now().Unix()))
		pass(61 * time.Second)
		stamp := int(time.Now().Unix())
		r.neighbours("a", stamp) // the old line has expired, and Forget was not called
		pass(10 * time.Second)
		holds(t, s, "S4, D1", map[string]int{"a": stamp})
		pass(time.Minute)
		r.forget()
		pass(time.Minute)
		holds(t, s, "S4", nil)
	})
}

func TestManyThatExpireKeepNothingBack(t *testing.T) {
	const many = 60_000
	expired := func(t *testing.T, s *storetest.Fake, id string) {
		if err := s.Client().Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		old := int(time.Now().Add(-2 * time.Hour).Unix())
		for i := range many {
			key := fmt.Sprintf("%s%d", id, i)
			s.Put(key, line(key, old))
		}
	}
	bubble(t, "D6 at a start, with a slow store", func(t *testing.T, s *storetest.Fake) {
		s.Cost(0, 0)
		expired(t, s, "c")
		s.Cost(20*time.Millisecond, 15*time.Microsecond)
		r := start(t, s, with{retain: time.Hour})
		<-r.j.Loaded()
		for range 20 {
			begun := time.Now()
			if err := r.await(t.Context(), r.own("new", int(begun.Unix()))); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 100*time.Millisecond {
				t.Errorf("D6 an answer waited %v for deletions", took)
			}
			pass(time.Second)
		}
		pass(5 * time.Minute)
		if got := len(s.Values()); got != 1 {
			t.Errorf("S4 %d entries are left", got-1)
		}
	})
	for fault, name := range map[storetest.Fault]string{
		storetest.Before: "fail", storetest.After: "fail after the effect", storetest.Hang: "hang", storetest.Late: "are late",
	} {
		bubble(t, "D6 deletions that "+name+" are no failure of a write", func(t *testing.T, s *storetest.Fake) {
			s.Cost(0, 0)
			expired(t, s, "c")
			s.Cost(time.Millisecond, time.Microsecond)
			var lines strings.Builder
			r := prepare(t, s, with{retain: time.Hour, log: slog.New(slog.NewTextHandler(&lines, nil))})
			r.client.Faults(func(method string) storetest.Fault {
				if method == "Delete" {
					return fault
				}
				return storetest.OK
			})
			r.begin()
			<-r.j.Loaded()
			for range 60 {
				begun := time.Now()
				if err := r.await(t.Context(), r.own("new", int(begun.Unix()))); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took > 1500*time.Millisecond {
					t.Errorf("D6 an answer waited %v for deletions", took)
				}
				if st := r.j.Stats(); !st.Up {
					t.Fatalf("D6 not up: %v", st.Err)
				}
				pass(time.Second)
			}
			if strings.Contains(lines.String(), "not written") {
				t.Errorf("D6 the log says: %s", lines.String())
			}
			r.client.Faults(nil)
			pass(5 * time.Minute)
			if got := len(s.Values()); got != 1 {
				t.Errorf("S4 %d entries are left", got-1)
			}
		})
	}
	bubble(t, "D6 what waits to be deleted is bounded, and nothing of it is overlooked", func(t *testing.T, s *storetest.Fake) {
		s.Cost(0, 0)
		expired(t, s, strings.Repeat("long", 60)) // 15 MB of ids
		r := start(t, s, with{retain: time.Hour})
		<-r.j.Loaded()
		if n := r.j.Dying(); n < 6<<20 || n > 12<<20 {
			t.Errorf("D6 the deletions that wait take %d bytes, want 8 MiB and what append keeps beside", n)
		}
		pass(10 * time.Minute)
		if got := len(s.Values()); got != 0 {
			t.Errorf("S4 %d entries are left", got)
		}
	})
	bubble(t, "D6 … also of those who were known", func(t *testing.T, s *storetest.Fake) {
		s.Cost(0, 0)
		r := start(t, s, with{retain: time.Hour})
		stamp := int(time.Now().Unix())
		id := strings.Repeat("long", 60)
		for i := range many {
			r.own(fmt.Sprint(id, i), stamp)
		}
		pass(time.Hour)
		r.client.Cut()
		r.forget()
		if clients, _, _ := r.table.Stats(); clients == 0 || clients == many {
			t.Errorf("%d of %d clients are held: the test does not test what it should", clients, many)
		}
		r.client.Mend()
		r.j.Reconnected()
		for range 5 {
			pass(time.Minute)
			r.forget()
		}
		pass(time.Minute)
		if got := len(s.Values()); got != 0 {
			t.Errorf("S4 %d entries are left", got)
		}
	})
}

func TestEntriesOfOthersAreLeftAlone(t *testing.T) {
	bubble(t, "D2", func(t *testing.T, s *storetest.Fake) {
		if err := s.Client().Open(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.Put("x", "no line")
		s.Put("y", line("z", 1))
		s.Put("c", line("c", 1))
		r := start(t, s, with{retain: 0})
		<-r.j.Loaded()
		if clients, _, _ := r.table.Stats(); clients != 1 {
			t.Errorf("D2 %d clients, want c alone", clients)
		}
		r.own("x", 3) // its key has a value that is no line: overwritten
		pass(time.Second)
		if got := s.Values(); got["x"] != line("x", 3) || got["y"] != line("z", 1) {
			t.Errorf("D1 holds %q", got)
		}
	})
}
