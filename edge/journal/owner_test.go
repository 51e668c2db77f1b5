package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
)

// once gives one call of a method a fault.
func once(method string, fault storetest.Fault) func(string) storetest.Fault {
	done := false
	return func(m string) storetest.Fault {
		if m != method || done {
			return storetest.OK
		}
		done = true
		return fault
	}
}

func TestNothingNewerIsEverOverwritten(t *testing.T) {
	bubble(t, "D5 somebody else writes a key", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		r.own("d", 5)
		pass(time.Second)
		s.Put("c", line("c", 9)) // newer than what this run knows
		s.Put("d", line("d", 1)) // older
		r.own("c", 6)
		r.own("d", 6)
		pass(time.Second)
		holds(t, s, "D5", map[string]int{"c": 9, "d": 6})
		if s.Refused() == 0 {
			t.Error("D5 nothing was refused")
		}
		if got := r.held("c"); got != line("c", 9)+"\n" {
			t.Errorf("D5 the newer line was not merged: %q", got)
		}
	})
	bubble(t, "D5 whatever the batch, a few round trips", func(t *testing.T, s *storetest.Fake) {
		// One key of a full batch has a marker from before the load.
		for _, trip := range []time.Duration{time.Millisecond, 20 * time.Millisecond, 300 * time.Millisecond} {
			s.Destroy()
			s.Cost(trip, time.Microsecond)
			if err := s.Client().Open(t.Context()); err != nil {
				t.Fatal(err)
			}
			s.Put("c999", line("c999", 1))
			s.Remove("c999")
			r := start(t, s, with{})
			<-r.j.Loaded()
			r.client.Cut() // so that all are in one batch
			for i := range 1000 {
				r.own(fmt.Sprint("c", i), 2)
			}
			pass(time.Second)
			s.Put("c5", line("c5", 1)) // and one entry that this run has not read
			r.client.Mend()
			r.j.Reconnected()
			begun := time.Now()
			reads := s.Calls("Read")
			for r.j.Lag() > 0 && time.Since(begun) < time.Minute {
				time.Sleep(trip)
			}
			if took := time.Since(begun); took > 12*trip+200*time.Millisecond {
				t.Errorf("D5 %v away: written after %v, %d reads", trip, took, s.Calls("Read")-reads)
			}
			if got := len(s.Values()); got != 1000 {
				t.Errorf("D5 %v away: %d of 1000 entries", trip, got)
			}
			_ = r.stop()
		}
	})
	bubble(t, "D5 a marker that is known expires", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 1)
		pass(time.Second)
		s.Remove("c") // does not erase the client (S4): it is written again
		pass(20 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 1})
		s.Remove("c")
		r.client.Cut()
		pass(2 * time.Hour) // its marker is gone
		r.own("c", 2)
		r.client.Mend()
		r.j.Reconnected()
		pass(time.Minute)
		holds(t, s, "D5", map[string]int{"c": 2})
	})
	bubble(t, "D5 an operator writes what is no line, or of another", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		long := strings.Repeat("*", 200) // its key is a hash
		for _, client := range []string{"a", "b", long} {
			r.own(client, 1)
		}
		pass(time.Second)
		for range 2 {
			s.Put("a", "no line")
			s.Put("b", line("a", 7))
			s.Put(string(journal.AppendKey(nil, []byte(long))), "no line")
			pass(12 * time.Second)
			holds(t, s, "D5", map[string]int{"a": 1, "b": 1, long: 1})
			s.Remove(string(journal.AppendKey(nil, []byte(long))))
			pass(12 * time.Second)
			holds(t, s, "D5", map[string]int{"a": 1, "b": 1, long: 1})
		}
	})
	bubble(t, "D1 a client that moves while it is written", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		<-r.j.Loaded()
		s.Cost(800*time.Millisecond, 0)
		first := r.own("a", 1)
		pass(100 * time.Millisecond) // its write is under way
		second := r.own("a", 2)
		if err := r.await(t.Context(), first); err != nil {
			t.Error(err)
		}
		done := make(chan error, 1)
		go func() { done <- r.await(t.Context(), second) }()
		pass(10 * time.Millisecond)
		select {
		case err := <-done:
			t.Errorf("D3 promised what is not written: %v", err)
		default:
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
		holds(t, s, "D1", map[string]int{"a": 2})
	})
	bubble(t, "D5 JetStream away at the start, and back with more than the edge has", func(t *testing.T, s *storetest.Fake) {
		before := start(t, s, with{})
		before.own("c", 5)
		before.own("e", 1)
		pass(time.Second)
		_ = before.stop()
		s.None(true)
		r := start(t, s, with{})
		<-r.j.None()
		r.own("c", 4)
		r.own("e", 2)
		pass(20 * time.Second)
		s.None(false)
		r.j.Reconnected()
		<-r.j.Loaded()
		pass(time.Second)
		holds(t, s, "D5", map[string]int{"c": 5, "e": 2})
		if got := r.held("c"); got != line("c", 5)+"\n" {
			t.Errorf("D5 holds %q", got)
		}
	})
	for fault, name := range map[storetest.Fault]string{
		storetest.Before: "D5 a write that failed", storetest.After: "D5 a write took effect, and an error came",
		storetest.Hang: "D5 a write was lost", storetest.Lost: "D5 a write took effect, and its ack was lost", storetest.Late: "D5 a write takes effect after it was given up",
	} {
		bubble(t, name, func(t *testing.T, s *storetest.Fake) {
			r := start(t, s, with{})
			<-r.j.Loaded()
			r.client.Faults(once("Write", fault))
			begun := time.Now()
			if err := r.await(t.Context(), r.own("c", 5)); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took > 1500*time.Millisecond {
				t.Errorf("D3 kept after %v, which HERD_JOURNAL_TIMEOUT does not wait for", took)
			}
			r.own("c", 6)
			pass(10 * time.Second) // late calls have taken effect
			holds(t, s, "D5", map[string]int{"c": 6})
			if !r.j.Stats().Up {
				t.Errorf("not up: %v", r.j.Stats().Err)
			}
		})
	}
}

func TestAStoreThatGoesBackIsWrittenAnew(t *testing.T) {
	bubble(t, "D5 made anew under its name", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		r.own("d", 5)
		pass(time.Second)
		s.Destroy()
		pass(20 * time.Second) // nothing is written
		holds(t, s, "D5", map[string]int{"c": 5, "d": 5})
	})
	bubble(t, "D5 made anew, after much was read", func(t *testing.T, s *storetest.Fake) {
		before := start(t, s, with{})
		for i := range 300 {
			before.own(fmt.Sprint("c", i), 1)
		}
		pass(time.Second)
		_ = before.stop()
		r := start(t, s, with{})
		<-r.j.Loaded()
		owned := s.Calls("Own")
		s.Destroy()
		pass(20 * time.Second)
		holdsAll(t, s, 300, 1)
		if n := s.Calls("Own") - owned; n != 1 {
			t.Errorf("D5 the store was taken %d times, want once", n)
		}
	})
	bubble(t, "D5 an older bucket with as many keys, at rest", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		old := s.Snapshot()
		r.own("c", 6)
		pass(time.Second)
		s.Restore(old)
		pass(12 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 6})
	})
	bubble(t, "D5 an older bucket, at a reconnect", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		old := s.Snapshot()
		r.own("c", 6)
		r.own("d", 6)
		pass(time.Second)
		s.Restore(old)
		r.j.Reconnected()
		pass(time.Second)
		holds(t, s, "D5", map[string]int{"c": 6, "d": 6})
	})
	bubble(t, "D5 an older bucket, between two writes", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		old := s.Snapshot()
		for i := range 10 {
			r.own(fmt.Sprint("d", i), 5)
			pass(10 * time.Millisecond)
		}
		s.Restore(old)
		// Writes go on. They would bring the store past its old sequence before the next check.
		for i := range 30 {
			r.own(fmt.Sprint("e", i), 5)
			time.Sleep(100 * time.Microsecond)
		}
		pass(time.Second)
		if got := len(s.Values()); got != 41 {
			t.Errorf("D5 holds %d of 41 clients", got)
		}
	})
	bubble(t, "D5 a bucket from before this run", func(t *testing.T, s *storetest.Fake) {
		first := start(t, s, with{})
		first.own("c", 5)
		pass(time.Second)
		old := s.Snapshot()
		_ = first.stop()
		r := start(t, s, with{})
		r.own("d", 5)
		pass(time.Second)
		s.Restore(old)
		pass(20 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 5, "d": 5})
	})
	bubble(t, "D5 purged while nothing is written", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		s.Purge()
		pass(12 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 5})
	})
	bubble(t, "D5 one key purged, which leaves no trace but the count", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		r.own("d", 5)
		pass(time.Second)
		s.PurgeKey("c")
		pass(12 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 5, "d": 5})
		s.PurgeKey("c") // now of a key that is then written
		r.own("c", 6)
		pass(5 * time.Second)
		holds(t, s, "D5", map[string]int{"c": 6, "d": 5})
	})
	bubble(t, "D5 one key purged, which the count does not show, and then written", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		s.Put("another", "no line")
		s.PurgeKey("c")
		begun := time.Now()
		if err := r.await(t.Context(), r.own("c", 6)); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 2*time.Second {
			t.Errorf("D5 kept after %v", took)
		}
		if got := s.Values()["c"]; got != line("c", 6) {
			t.Errorf("D5 holds %q", got)
		}
	})
	bubble(t, "D5 purged while new clients are written", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		s.Purge()
		for i := range 3000 { // keys that are new to the store, without a pause
			r.own(fmt.Sprint("new", i), 5)
			pass(5 * time.Millisecond)
		}
		if got := s.Values()["c"]; got != line("c", 5) {
			t.Errorf("D5 holds %q", got)
		}
	})
	bubble(t, "C19 a stop is complete when it was looked at", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("c", 5)
		pass(time.Second)
		s.Purge()
		if err := r.j.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		holds(t, s, "D5", map[string]int{"c": 5})
		s.Purge()
		r.client.Cut()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.j.Flush(ctx); err == nil {
			t.Error("D5 a stop is said to be complete, and the store is empty")
		}
	})
}

func TestOnlyTheOwnerWrites(t *testing.T) {
	bubble(t, "D5 a run that was replaced promises nothing more", func(t *testing.T, s *storetest.Fake) {
		asked := make(chan struct{})
		gone := errors.New("the name is another run's")
		first := start(t, s, with{regain: func(ctx context.Context) error {
			close(asked)
			return gone
		}})
		for i := range 700 {
			first.own(fmt.Sprint("c", i), 1)
		}
		pass(time.Second)
		second := start(t, s, with{})
		<-second.j.Loaded()
		if clients, _, _ := second.table.Stats(); clients != 700 {
			t.Errorf("D2 loaded %d of 700", clients)
		}
		begun := time.Now()
		op := first.own("c1", 2)
		if err := first.await(t.Context(), op); err == nil {
			t.Error("D5 promised by a run that does not own the store")
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("D5 refused after %v, want at once", took)
		}
		if err := first.await(t.Context(), op); err == nil {
			t.Error("D5 promised")
		}
		<-asked
		if err := <-first.done; !errors.Is(err, gone) {
			t.Errorf("D5 ended with %v", err)
		}
		first.done <- nil // stop receives this
		if err := first.await(t.Context(), op); err == nil {
			t.Error("D5 promised after the end")
		}
		if err := first.j.Flush(t.Context()); err == nil {
			t.Error("C19 a stop is complete, and a line is nowhere")
		}
		pass(time.Second)
		holdsAll(t, s, 700, 1)
	})
	bubble(t, "D5 a run that has its name takes the store again, with what it holds", func(t *testing.T, s *storetest.Fake) {
		busy := make(chan struct{})
		first := start(t, s, with{regain: func(ctx context.Context) error {
			<-busy // until the other run has ended
			return nil
		}})
		first.own("a", 1)
		pass(time.Second)
		second := start(t, s, with{})
		second.own("b", 1)
		second.own("a", 2)
		pass(time.Second)
		first.own("c", 1)
		pass(time.Minute)
		if first.j.Stats().Up {
			t.Error("D5 up, and another run owns the store")
		}
		_ = second.stop()
		close(busy)
		pass(time.Minute)
		holds(t, s, "D5", map[string]int{"a": 2, "b": 1, "c": 1})
		if got := first.held("b"); got != line("b", 1)+"\n" {
			t.Errorf("D5 the other run's client was not read: %q", got)
		}
		if err := first.await(t.Context(), first.own("a", 3)); err != nil {
			t.Errorf("D5 no promise again: %v", err)
		}
	})
	bubble(t, "D5 another run takes it between the question and the answer", func(t *testing.T, s *storetest.Fake) {
		asked := 0
		r := prepare(t, s, with{regain: func(context.Context) error { asked++; return nil }})
		r.client.Faults(func(method string) storetest.Fault {
			if method == "Own" && asked == 0 {
				s.Usurp("another run's")
			}
			return storetest.OK
		})
		r.begin()
		<-r.j.Loaded()
		if asked != 1 {
			t.Errorf("D5 its name was asked for %d times, want once", asked)
		}
	})
	bubble(t, "D5 another run's store that has come as far", func(t *testing.T, s *storetest.Fake) {
		asked := make(chan struct{}, 10)
		first := start(t, s, with{regain: func(ctx context.Context) error {
			asked <- struct{}{}
			<-ctx.Done()
			return ctx.Err()
		}})
		<-first.j.Loaded()
		first.own("a", 1)
		pass(time.Second)
		first.client.Freeze()
		s.Destroy()
		second := start(t, s, with{})
		<-second.j.Loaded()
		second.own("b", 1) // the owner is at sequence 1, and b at 2, where a was
		pass(time.Second)
		first.own("a", 2)
		first.client.Thaw()
		pass(20 * time.Second)
		if len(asked) == 0 {
			t.Error("D5 it takes another store for its own")
		}
		holds(t, s, "D5", map[string]int{"b": 1})
	})
	bubble(t, "D5 a write of a dead run that was under way", func(t *testing.T, s *storetest.Fake) {
		first := start(t, s, with{})
		first.own("a", 1)
		pass(time.Second)
		first.client.Faults(func(method string) storetest.Fault {
			if method == "Write" {
				return storetest.Late
			}
			return storetest.OK
		})
		first.own("a", 2)
		pass(100 * time.Millisecond)
		_ = first.stop()
		second := start(t, s, with{})
		<-second.j.Loaded()
		if err := second.await(t.Context(), second.own("a", 3)); err != nil {
			t.Error(err)
		}
		pass(time.Minute)
		holds(t, s, "D5", map[string]int{"a": 3})
	})
	bubble(t, "D5 two take it at the same time", func(t *testing.T, s *storetest.Fake) {
		var runs [2]*run
		for i := range runs {
			runs[i] = start(t, s, with{regain: func(ctx context.Context) error {
				time.Sleep(time.Second + time.Duration(i)*700*time.Millisecond)
				return nil
			}})
		}
		var kept [2][]position.Op
		for i := range 200 {
			for k, r := range runs {
				op := r.own(fmt.Sprintf("r%d-c%d", k, i), 1)
				ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
				if r.await(ctx, op) == nil {
					kept[k] = append(kept[k], op)
				}
				cancel()
			}
		}
		have := s.Values()
		for k, ops := range kept {
			for _, op := range ops {
				client := string(position.ClientOf(op.Line))
				if have[client] == "" {
					t.Errorf("D5 run %d promised %s, which is not in the store", k, client)
				}
			}
		}
		if len(kept[0])+len(kept[1]) == 0 {
			t.Error("nothing was promised at all")
		}
	})
	for _, method := range []string{"Open", "Owner", "Own", "State", "Read"} {
		for _, fault := range []storetest.Fault{storetest.Before, storetest.After, storetest.Hang, storetest.Lost, storetest.Late} {
			bubble(t, fmt.Sprintf("D5 %s fails at the start as %d", method, fault), func(t *testing.T, s *storetest.Fake) {
				before := start(t, s, with{})
				before.own("a", 1)
				pass(time.Second)
				_ = before.stop()
				r := prepare(t, s, with{})
				r.client.Faults(once(method, fault))
				r.begin()
				r.own("b", 1)
				pass(30 * time.Second)
				holds(t, s, "D5", map[string]int{"a": 1, "b": 1})
				if got := r.held("a"); got != line("a", 1)+"\n" {
					t.Errorf("D2 holds %q", got)
				}
				if st := r.j.Stats(); !st.Up || st.Err != nil {
					t.Errorf("not up: %+v", st)
				}
			})
		}
	}
	bubble(t, "D5 a store that is unfit is none, and says why", func(t *testing.T, s *storetest.Fake) {
		limit := errors.New("max_msgs is 86")
		s.Unfit(limit)
		r := start(t, s, with{})
		r.own("a", 1)
		pass(time.Minute)
		if st := r.j.Stats(); st.Up || !errors.Is(st.Err, journal.ErrUnfit) || !errors.Is(st.Err, limit) {
			t.Errorf("D5 %+v", st)
		}
		s.Unfit(nil)
		pass(10 * time.Second)
		holds(t, s, "D5", map[string]int{"a": 1})
		if st := r.j.Stats(); !st.Up || st.Err != nil {
			t.Errorf("D5 %+v", st)
		}
		// The store may become unfit at any time, also while nothing is written.
		s.Unfit(limit)
		opened := s.Calls("Open")
		pass(time.Minute)
		if st := r.j.Stats(); st.Up || !errors.Is(st.Err, limit) || s.Calls("Open") == opened {
			t.Errorf("D5 changed under a journal that rests: %+v, opened %d times", st, s.Calls("Open")-opened)
		}
		if op := r.own("a", 1); op.Kept {
			t.Error("D5 what such a store held counts as held: a repeated line would be answered at once")
		}
		s.Unfit(nil)
		r.own("b", 1)
		pass(10 * time.Second)
		holds(t, s, "D5", map[string]int{"a": 1, "b": 1})
	})
}

// holdsAll checks that the store holds n clients c0, c1 … with one stamp.
func holdsAll(t *testing.T, s *storetest.Fake, n, stamp int) {
	t.Helper()
	have := s.Values()
	for i := range n {
		client := fmt.Sprint("c", i)
		if have[client] != line(client, stamp) {
			t.Errorf("the store holds %q, want %q", have[client], line(client, stamp))
			return
		}
	}
	if len(have) != n {
		t.Errorf("the store holds %d clients, want %d", len(have), n)
	}
}

func TestLoadingHasNoFixedEnd(t *testing.T) {
	bubble(t, "D6 a store that takes ten minutes to read", func(t *testing.T, s *storetest.Fake) {
		before := start(t, s, with{})
		for i := range 20_000 {
			before.own(fmt.Sprint("c", i), 1)
		}
		pass(time.Minute)
		_ = before.stop()
		s.Cost(7*time.Second, time.Millisecond) // 79 chunks
		r := prepare(t, s, with{})
		r.begin()
		begun := time.Now()
		<-r.j.Loaded()
		if clients, _, _ := r.table.Stats(); clients != 20_000 {
			t.Errorf("D6 loaded %d of 20,000", clients)
		}
		if took := time.Since(begun); took < 5*time.Minute {
			t.Errorf("loaded after %v: the test does not test what it should", took)
		}
	})
	bubble(t, "D6 a read that stops on its way goes on where it was", func(t *testing.T, s *storetest.Fake) {
		before := start(t, s, with{})
		for i := range 10_000 {
			before.own(fmt.Sprint("c", i), 1)
		}
		pass(time.Minute)
		_ = before.stop()
		reads := s.Calls("Read")
		r := prepare(t, s, with{})
		n := 0
		r.client.Faults(func(method string) storetest.Fault {
			if method != "Read" {
				return storetest.OK
			}
			if n++; n%10 == 0 {
				return storetest.Hang
			}
			return storetest.OK
		})
		r.begin()
		<-r.j.Loaded()
		holdsAll(t, s, 10_000, 1)
		if clients, _, _ := r.table.Stats(); clients != 10_000 {
			t.Errorf("D6 loaded %d of 10,000", clients)
		}
		if n := s.Calls("Read") - reads; n > 60 { // 40 chunks
			t.Errorf("D6 %d reads: what was read is read again", n)
		}
	})
	bubble(t, "D6 reads that lag", func(t *testing.T, s *storetest.Fake) {
		s.Lag(3 * time.Second)
		r := start(t, s, with{})
		r.own("a", 1)
		pass(time.Minute)
		_ = r.stop()
		again := start(t, s, with{})
		<-again.j.Loaded()
		if got := again.held("a"); got != line("a", 1)+"\n" {
			t.Errorf("D2 holds %q", got)
		}
	})
}

// A replica that lags tells a run that becomes the owner a line, and then what an operator put in its
// place before that: the store does not hold the line.
func TestWhatWasReplacedBeforeTheOwnerCameIsWrittenAnew(t *testing.T) { // D1, D3
	for what, do := range map[string]func(*storetest.Fake){
		"no line": func(s *storetest.Fake) { s.Put("a", "no line") },
		"nothing": func(s *storetest.Fake) { s.Remove("a") },
	} {
		bubble(t, "D1 "+what, func(t *testing.T, s *storetest.Fake) {
			r := start(t, s, with{})
			r.own("a", 1)
			pass(time.Minute)
			_ = r.stop()
			s.Lag(2 * time.Second)
			do(s)
			again := start(t, s, with{})
			<-again.j.Loaded()
			if got := again.held("a"); got != line("a", 1)+"\n" {
				t.Fatalf("the replica did not lag: the table holds %q", got)
			}
			pass(10 * time.Second)
			if got := s.Values()["a"]; got != line("a", 1) {
				t.Errorf("D1 the store holds %q", got)
			}
		})
	}
}

// forgetful is a store whose new leader lacks some of its contents during the first few checks.
type forgetful struct {
	*storetest.Client
	looks *int // how many more checks are wrong
}

func (f forgetful) State(ctx context.Context) (journal.State, error) {
	s, err := f.Client.State(ctx)
	if *f.looks > 0 {
		*f.looks--
		s.Last, s.Messages = s.Last-1, s.Messages-1
	}
	return s, err
}

func TestANewLeaderIsNotAStoreThatWentBack(t *testing.T) {
	for _, looks := range []int{1, 2, 3} {
		bubble(t, fmt.Sprint("D5 wrong looks: ", looks), func(t *testing.T, s *storetest.Fake) {
			wrong := 0
			r := prepare(t, s, with{})
			r.j = journal.New(journal.Config{Table: r.table, Store: forgetful{r.client, &wrong}, Log: slog.New(slog.DiscardHandler), Epoch: "e"})
			r.begin()
			for i := range 100 {
				r.own(fmt.Sprint("c", i), 1)
			}
			pass(time.Second)
			wrong = looks
			r.j.Reconnected()
			pass(5 * time.Second)
			if anew := s.Calls("Own") > 1; anew != (looks > 2) {
				t.Errorf("D5 after %d looks that are wrong it is read anew: %v", looks, anew)
			}
			if err := r.await(t.Context(), r.own("c1", 2)); err != nil {
				t.Error(err)
			}
		})
	}
}
