package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
)

// What a run knows of its store is of one life of it, and of the time while the run owned it. These
// tests see that none of that goes on counting afterwards.

func TestWhatIsNoLongerThisRunsStoreHoldsNoPromise(t *testing.T) {
	// kept says whether a repeated line would be answered at once, as a promise.
	kept := func(t *testing.T, r *run) bool {
		return r.own("a", 1).Kept || r.await(canceled(t), r.own("a", 1)) == nil
	}
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	bubble(t, "D5 deleted, and the name is not regained", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{regain: waits})
		r.own("a", 1)
		pass(time.Second)
		if !kept(t, r) {
			t.Fatal("not kept: the test does not test what it should")
		}
		s.Destroy()
		pass(12 * time.Second)
		if kept(t, r) {
			t.Error("D5 a repeated line is promised, and there is no store")
		}
	})
	bubble(t, "D5 it has another owner", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{regain: waits})
		r.own("a", 1)
		pass(time.Second)
		s.Usurp("another run's")
		pass(12 * time.Second)
		if kept(t, r) {
			t.Error("D5 a run that does not own the store promises")
		}
	})
	for _, method := range []string{"Owner", "Own"} {
		bubble(t, "D5 gone back, and it cannot be taken again: "+method, func(t *testing.T, s *storetest.Fake) {
			r := start(t, s, with{})
			pass(time.Second)
			old := s.Snapshot()
			r.own("a", 1)
			pass(time.Second)
			r.client.Faults(func(m string) storetest.Fault {
				if m == method {
					return storetest.Hang
				}
				return storetest.OK
			})
			s.Restore(old)
			pass(time.Minute)
			if kept(t, r) {
				t.Error("D5 a repeated line is promised, and the store has lost it")
			}
			r.client.Faults(nil)
			pass(20 * time.Second)
			holds(t, s, "D5", map[string]int{"a": 1})
		})
	}
}

func canceled(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// A batch that lost a line which the store never takes is tried again without it. The cursor may have
// gone back meanwhile, and must not be put where that batch ends.
func TestABatchThatIsTriedAgainDoesNotMoveTheCursorPastOthers(t *testing.T) {
	long := strings.Repeat("x", 100)
	bubble(t, "D5, D6 the store is made anew meanwhile", func(t *testing.T, s *storetest.Fake) {
		for _, beside := range []int{0, 1} { // new clients in the same batch
			s.Destroy()
			s.Cost(time.Millisecond, 0)
			s.MaxValue(100)
			r := start(t, s, with{})
			r.own("a", 1)
			pass(time.Second)
			want := map[string]int{"a": 1}
			r.client.Cut() // so that the next ones are one batch
			r.own(long, 1)
			for i := range beside {
				r.own(fmt.Sprint("b", i), 1)
				want[fmt.Sprint("b", i)] = 1
			}
			s.Cost(100*time.Millisecond, 0)
			r.client.Mend()
			for writes := s.Calls("Write"); s.Calls("Write") == writes; {
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(70 * time.Millisecond) // the store has refused it, and the answer is on its way
			s.Destroy()
			r.j.Reconnected()
			pass(30 * time.Second)
			holds(t, s, "D5", want)
			_ = r.stop()
		}
	})
	bubble(t, "D5 somebody else writes a newer line meanwhile", func(t *testing.T, s *storetest.Fake) {
		s.MaxValue(100)
		r := start(t, s, with{})
		<-r.j.Loaded()
		r.client.Cut()
		r.own(long, 1)
		r.own("b", 1)
		s.Cost(100*time.Millisecond, 0)
		r.client.Mend()
		for writes := s.Calls("Write"); s.Calls("Write") == writes; {
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(70 * time.Millisecond)
		s.Put("b", line("b", 9))
		r.j.Reconnected()
		for range 3000 {
			time.Sleep(time.Millisecond)
			if got := s.Values()["b"]; got != line("b", 9) {
				t.Fatalf("D5 a newer line is overwritten by %q", got)
			}
		}
	})
	bubble(t, "D6 there is room again meanwhile", func(t *testing.T, s *storetest.Fake) {
		const limit = 1 << 17
		s.Limit(limit)
		r := start(t, s, with{})
		<-r.j.Loaded()
		for i := 0; r.await(t.Context(), r.own(fmt.Sprint("c", i), 1)) == nil; i++ {
		}
		r.own("another", 1) // left out
		pass(5 * time.Second)
		s.MaxValue(60)
		s.Cost(100*time.Millisecond, 0)
		r.put(position.PutOwn, fmt.Appendf(nil, "AT A +0.000000000 c0 +1.%s+1 2\n", strings.Repeat("0", 50)))
		time.Sleep(70 * time.Millisecond)
		s.Limit(2 * limit)
		r.j.Reconnected()
		pass(30 * time.Second)
		if st := r.j.Stats(); st.NearlyFull || st.Skipped != 1 {
			t.Fatalf("%+v: the test does not test what it should", st)
		}
		if got := s.Values()["another"]; got != line("another", 1) {
			t.Errorf("D6 who was left out is not written now that there is room: %q", got)
		}
	})
}

// What a store answered when it was full says nothing of another one under its name.
func TestANewStoreIsNotFullBecauseTheLastOneWas(t *testing.T) {
	bubble(t, "D6", func(t *testing.T, s *storetest.Fake) {
		const limit = 1 << 17
		s.Limit(limit)
		r := prepare(t, s, with{})
		r.j = journal.New(journal.Config{Table: r.table, Store: limitless{r.client}, Log: slog.New(slog.DiscardHandler), Epoch: "x"})
		r.begin()
		<-r.j.Loaded()
		n := 0
		for ; r.await(t.Context(), r.own(fmt.Sprint("c", n), 1)) == nil; n++ {
		}
		pass(12 * time.Minute) // it is tried again ever more seldom
		s.Limit(2 * limit)
		s.Destroy() // which is how an operator makes room
		pass(15 * time.Second)
		if got := len(s.Values()); got != n+1 {
			t.Errorf("D6 an empty store was given %d of %d clients", got, n+1)
		}
	})
	bubble(t, "D6 who waits meanwhile is not refused", func(t *testing.T, s *storetest.Fake) {
		const limit = 1 << 17
		s.Limit(limit)
		r := start(t, s, with{})
		<-r.j.Loaded()
		for n := 0; r.await(t.Context(), r.own(fmt.Sprint("c", n), 1)) == nil; n++ {
		}
		s.Destroy()
		s.Cost(100*time.Millisecond, 0)
		r.j.Reconnected()
		pass(1500 * time.Millisecond) // it takes the new one
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := r.await(ctx, r.own("c0", 2)); err != nil {
			t.Errorf("D6 a client is refused by an empty store: %v", err)
		}
	})
}

// A key that is a hash does not tell whose entry was lost, so all is read anew: also where the read
// that met it failed.
func TestALostEntryIsNotForgottenByAReadThatFails(t *testing.T) {
	bubble(t, "D5", func(t *testing.T, s *storetest.Fake) {
		long := strings.Repeat("*", 200) // its key is a hash
		r := start(t, s, with{})
		r.own(long, 1)
		pass(time.Second)
		s.Remove(string(journal.AppendKey(nil, []byte(long))))
		reads := 0
		r.client.Faults(func(method string) storetest.Fault {
			if method != "Read" {
				return storetest.OK
			}
			if reads++; reads == 2 { // after all entries came
				return storetest.Before
			}
			return storetest.OK
		})
		pass(30 * time.Second)
		if reads < 2 {
			t.Fatal("no read failed: the test does not test what it should")
		}
		holds(t, s, "D5", map[string]int{long: 1})
	})
}

// A run takes the store from another only where it has asked for its name since (D5).
func TestAnUnfitStoreIsNotTakenFromALaterRun(t *testing.T) {
	bubble(t, "D5", func(t *testing.T, s *storetest.Fake) {
		gone := errors.New("the name is another run's")
		first := start(t, s, with{regain: func(context.Context) error { return gone }})
		first.own("a", 1)
		pass(time.Second)
		first.client.Freeze()
		second := start(t, s, with{regain: func(context.Context) error {
			t.Error("D5 the store was taken from the later run")
			return nil
		}})
		second.own("b", 1)
		pass(time.Second)
		second.client.Freeze() // it does not look while the store is unfit
		s.Unfit(errors.New("max_msgs is 86"))
		first.client.Thaw()
		first.j.Reconnected()
		pass(time.Second)
		s.Unfit(nil)
		pass(20 * time.Second)
		second.client.Thaw()
		pass(20 * time.Second)
		select {
		case err := <-first.done:
			if !errors.Is(err, gone) {
				t.Errorf("D5 ended with %v", err)
			}
			first.done <- nil // stop receives this
		default:
			t.Error("D5 the earlier run goes on")
		}
		holds(t, s, "D5", map[string]int{"a": 1, "b": 1})
	})
}

// A deletion may come so late that its client has come back, was written, and is past its time again.
// Then the table still has the client, and what it says of the entry has to stay true: the retention
// clock may go back (S4), and the client may come back once more.
func TestADeletionThatComesLateLeavesWhatTheTableHas(t *testing.T) {
	bubble(t, "S4, D5", func(t *testing.T, s *storetest.Fake) {
		var behind time.Duration
		r := start(t, s, with{retain: time.Minute, retainNow: func() int64 { return time.Now().Add(-behind).UnixNano() }})
		r.own("first", int(time.Now().Unix())) // its deletion fails, and those behind it wait
		pass(time.Second)
		r.own("a", int(time.Now().Unix()))
		pass(60 * time.Second)
		r.client.Faults(func(method string) storetest.Fault {
			if method == "Delete" {
				return storetest.Before
			}
			return storetest.OK
		})
		r.forget()
		pass(5 * time.Second)
		r.forget()
		pass(time.Second)
		r.own("a", int(time.Now().Unix()))
		pass(61 * time.Second) // past its time again, and Forget has not come by
		r.client.Faults(nil)
		pass(2 * time.Minute)
		behind = 3 * time.Minute
		if s.Values()["a"] == "" && r.await(canceled(t), position.Op{Slot: r.slot("a"), Revision: math.MaxUint64}) == nil {
			t.Error("D3 a line counts as kept that was deleted")
		}
		behind = 0
		once := int(time.Now().Unix())
		r.own("a", once)
		pass(time.Second)
		holds(t, s, "D1", map[string]int{"a": once})
		if n := s.Refused(); n > 0 {
			t.Errorf("D5 %d refusals: the journal expects what is not so", n)
		}
		pass(61 * time.Second)
		r.forget()
		pass(2 * time.Minute)
		holds(t, s, "S4", nil)
	})
}

// slot returns where the table has a client.
func (r *run) slot(client string) (slot uint32) {
	r.table.View(func(v position.View) {
		if c, ok := v.Find([]byte(client)); ok {
			slot = c.Ref().Slot
		}
	})
	return slot
}
