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

func TestAStoreThatIsNearlyFullTakesNoNewClients(t *testing.T) {
	const limit = 1 << 20
	// fill writes new clients until the store takes no more, and returns how many it has.
	fill := func(t *testing.T, r *run) int {
		for i := 0; ; i++ {
			err := r.await(t.Context(), r.own(fmt.Sprint("c", i), 1))
			if err != nil {
				if i < 1000 {
					t.Fatalf("D6 client %d is refused: %v", i, err)
				}
				return i
			}
			if i > limit/100 {
				t.Fatal("D6 all are taken")
			}
		}
	}
	bubble(t, "D6", func(t *testing.T, s *storetest.Fake) {
		s.Limit(limit)
		r := start(t, s, with{})
		<-r.j.Loaded()
		n := fill(t, r)
		state, _ := s.Client().State(t.Context())
		if state.Bytes < limit*88/100 || state.Bytes > limit*92/100 {
			t.Errorf("D6 no new clients at %d of %d bytes", state.Bytes, limit)
		}
		begun := time.Now()
		if err := r.await(t.Context(), r.own("another", 1)); err == nil {
			t.Error("D6 a new client is promised")
		}
		if took := time.Since(begun); took > 50*time.Millisecond {
			t.Errorf("D6 refused after %v, want at once", took)
		}
		for stamp := range 50 { // known clients are still written
			for i := range 10 {
				if err := r.await(t.Context(), r.own(fmt.Sprint("c", i), 2+stamp)); err != nil {
					t.Fatalf("D6 a known client: %v", err)
				}
			}
			pass(100 * time.Millisecond)
		}
		st := r.j.Stats()
		if !st.Up || !st.NearlyFull || st.LeftOut != 2 || st.Err == nil || st.Lag != 0 || st.Full < 0.88 || st.Full > 0.92 {
			t.Errorf("D6 %+v, want nearly full and 2 left out", st)
		}
		if err := r.j.Flush(t.Context()); err == nil {
			t.Error("C19 a stop is complete without those who were left out")
		}
		s.Limit(2 * limit)
		pass(15 * time.Second)
		if st := r.j.Stats(); st.NearlyFull || st.LeftOut != 0 || st.Err != nil {
			t.Errorf("D6 there is room again: %+v", st)
		}
		if got := s.Values(); got["another"] != line("another", 1) || len(got) != n+2 {
			t.Errorf("D6 holds %d clients of %d, %q", len(got), n+2, got["another"])
		}
		if err := r.j.Flush(t.Context()); err != nil {
			t.Errorf("C19 %v", err)
		}
	})
	bubble(t, "D6 who waits when it becomes so is refused at once", func(t *testing.T, s *storetest.Fake) {
		s.Limit(limit)
		r := start(t, s, with{})
		<-r.j.Loaded()
		n := fill(t, r)
		s.Limit(2 * limit)
		pass(15 * time.Second)
		s.Cost(100*time.Millisecond, time.Millisecond)
		refused := make(chan time.Duration, 5000)
		for i := range 5000 {
			op := r.own(fmt.Sprint("d", i), 1)
			go func() {
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if r.await(ctx, op) != nil {
					refused <- time.Since(begun)
				}
			}()
		}
		s.Limit(limit)
		pass(time.Minute)
		if len(refused) < 4000 {
			t.Fatalf("D6 %d of 5000 are refused beyond %d", len(refused), n)
		}
		for len(refused) > 0 {
			if took := <-refused; took > 20*time.Second {
				t.Fatalf("D6 refused after %v", took)
			}
		}
	})
	bubble(t, "D6 what replaces a line does not make it full", func(t *testing.T, s *storetest.Fake) {
		s.Limit(limit)
		r := start(t, s, with{})
		<-r.j.Loaded()
		for i := range 3000 {
			r.own(fmt.Sprint("c", i), 1)
		}
		pass(time.Second)
		for stamp := range 100 {
			for i := range 3000 {
				r.own(fmt.Sprint("c", i), 2+stamp)
			}
			pass(100 * time.Millisecond)
			if err := r.await(t.Context(), r.own(fmt.Sprint("new", stamp), 1)); err != nil {
				state, _ := s.Client().State(t.Context())
				t.Fatalf("D6 with %d of %d bytes: %v", state.Bytes, limit, err)
			}
		}
	})
	bubble(t, "D6 a limit that is not the store's own", func(t *testing.T, s *storetest.Fake) {
		s.Limit(limit)
		var lines strings.Builder
		r := prepare(t, s, with{log: slog.New(slog.NewTextHandler(&lines, nil))})
		// The limit is the account's, which the store's state does not show.
		r.j = journal.New(journal.Config{Table: r.table, Store: limitless{r.client}, Log: slog.New(slog.NewTextHandler(&lines, nil)), Epoch: "x"})
		r.begin()
		<-r.j.Loaded()
		n := fill(t, r)
		begun := time.Now()
		if err := r.await(t.Context(), r.own("another", 1)); err == nil || time.Since(begun) > 50*time.Millisecond {
			t.Errorf("D6 %v after %v, want to be refused at once", err, time.Since(begun))
		}
		s.Limit(2 * limit)
		pass(5 * time.Minute)
		if got := s.Values(); len(got) != n+2 {
			t.Errorf("D6 holds %d of %d clients", len(got), n+2)
		}
		if st := r.j.Stats(); !st.Up || st.NearlyFull {
			t.Errorf("D6 %+v", st)
		}
	})
}

// limitless is a store whose state does not show its limit.
type limitless struct{ *storetest.Client }

func (l limitless) State(ctx context.Context) (journal.State, error) {
	s, err := l.Client.State(ctx)
	s.MaxBytes = 0
	return s, err
}

func (l limitless) Read(ctx context.Context, after uint64, f func(journal.Entry)) (journal.State, error) {
	s, err := l.Client.Read(ctx, after, f)
	s.MaxBytes = 0
	return s, err
}

func TestWhatTheStoreNeverTakesIsSkipped(t *testing.T) {
	long := func(i int) string { return strings.Repeat("x", 100) + fmt.Sprint(i) }
	bubble(t, "D6", func(t *testing.T, s *storetest.Fake) {
		s.MaxValue(100)
		r := start(t, s, with{})
		<-r.j.Loaded()
		s.Cost(100*time.Millisecond, 0)
		r.own("first", 1)
		pass(10 * time.Millisecond) // its write is under way, so the next lines are one batch
		var ops []position.Op
		for i := range 10 {
			ops = append(ops, r.own(fmt.Sprint("c", i), 1), r.own(long(i), 1))
		}
		begun := time.Now()
		for i := range 10 {
			if err := r.await(t.Context(), ops[2*i]); err != nil {
				t.Errorf("D6 a client beside one that is skipped: %v", err)
			}
			if err := r.await(t.Context(), ops[2*i+1]); err == nil {
				t.Error("D6 what the store never takes is promised")
			}
		}
		if took := time.Since(begun); took > 1500*time.Millisecond {
			t.Errorf("D6 answered after %v", took)
		}
		// A second Await for the same line fails at once.
		s.Cost(time.Millisecond, 0)
		begun = time.Now()
		if err := r.await(t.Context(), ops[1]); err == nil || time.Since(begun) > 10*time.Millisecond {
			t.Errorf("D6 %v after %v", err, time.Since(begun))
		}
		if st := r.j.Stats(); !st.Up || st.Skipped != 10 || st.Lag != 0 {
			t.Errorf("D6 %+v, want 10 skipped and no lag", st)
		}
		if got := len(s.Values()); got != 11 {
			t.Errorf("D6 %d entries, want 11", got)
		}
		if err := r.j.Flush(t.Context()); err != nil {
			t.Errorf("C19 %v", err)
		}
		// A shorter line, or the same line in another store, may be taken.
		s.MaxValue(1280)
		s.Destroy()
		pass(15 * time.Second)
		if got := len(s.Values()); got != 21 {
			t.Errorf("D6 %d entries, want 21", got)
		}
	})
	bubble(t, "D6 more than are remembered", func(t *testing.T, s *storetest.Fake) {
		s.Cost(time.Millisecond, 0)
		s.MaxValue(100)
		r := start(t, s, with{})
		<-r.j.Loaded()
		for i := range 5000 {
			r.own(long(i), 1)
			if i%100 == 0 {
				r.own(fmt.Sprint("c", i), 1)
			}
		}
		pass(time.Minute)
		if got, st := len(s.Values()), r.j.Stats(); got != 50 || st.Lag != 0 || st.Skipped != 5000 {
			t.Errorf("D6 %d entries, %+v", got, st)
		}
	})
}

func TestWhatAnAnswerWaitsForGoesFirst(t *testing.T) {
	bubble(t, "C18, D1", func(t *testing.T, s *storetest.Fake) {
		s.Cost(20*time.Millisecond, 20*time.Microsecond)
		r := start(t, s, with{})
		<-r.j.Loaded()
		for i := range 200_000 { // eight seconds of writing
			r.own(fmt.Sprint("c", i), 1)
		}
		for range 20 {
			begun := time.Now()
			if err := r.await(t.Context(), r.own("kiwi", int(begun.UnixMilli()%1e9))); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(begun); took > 200*time.Millisecond { // a batch takes 40 ms
				t.Errorf("C18 an answer waited %v behind what nobody waits for", took)
			}
		}
		pass(time.Minute)
		if got := len(s.Values()); got != 200_001 {
			t.Errorf("D1 holds %d clients", got)
		}
	})
}

func TestNobodyStarvesInTheJournal(t *testing.T) {
	bubble(t, "H3", func(t *testing.T, s *storetest.Fake) {
		// 10,000 clients write every 20 s and 1,000 every second: 1,500 lines per second. The
		// store takes 1,000 per second.
		s.Cost(0, time.Millisecond)
		r := start(t, s, with{})
		<-r.j.Loaded()
		told := map[string]int{}
		last := map[string]string{}
		for tick := range 3000 { // of 100 ms
			for i := tick % 200; i < 10_000; i += 200 {
				r.own(fmt.Sprint("slow", i), 1000+tick)
			}
			for i := tick % 10; i < 1000; i += 10 {
				r.own(fmt.Sprint("hot", i), 1000+tick)
			}
			pass(100 * time.Millisecond)
			if tick%10 == 0 {
				for key, value := range s.Values() {
					if last[key] != value {
						last[key] = value
						told[key]++
					}
				}
			}
		}
		slow, hot := 0, 0
		for i := range 10_000 {
			if told[fmt.Sprint("slow", i)] == 0 {
				slow++
			}
		}
		for i := range 1000 {
			if told[fmt.Sprint("hot", i)] < 5 {
				hot++
			}
		}
		if slow+hot > 0 {
			t.Errorf("H3 %d of 10,000 slow and %d of 1,000 hot clients starve", slow, hot)
		}
		pass(time.Minute)
		if lag := r.j.Lag(); lag > 0 {
			t.Errorf("D1 lag %d when nothing comes any more", lag)
		}
	})
}

func TestWhyIsTold(t *testing.T) {
	bubble(t, "D5", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		if st := r.j.Stats(); st.Up || st.Err == nil || st.Lag != 0 {
			t.Errorf("before it is loaded: %+v", st)
		}
		<-r.j.Loaded()
		pass(time.Second)
		if st := r.j.Stats(); !st.Up || st.Err != nil {
			t.Errorf("loaded: %+v", st)
		}
		r.client.Cut()
		r.own("a", 1)
		pass(time.Second)
		if st := r.j.Stats(); st.Up || st.Err == nil || st.Lag != 1 {
			t.Errorf("cut off: %+v", st)
		}
		r.client.Mend()
		r.j.Reconnected()
		pass(time.Second)
		if st := r.j.Stats(); !st.Up || st.Err != nil || st.Lag != 0 {
			t.Errorf("back: %+v", st)
		}
		// Also at rest: a store that does not answer cannot be written.
		r.client.Cut()
		pass(15 * time.Second)
		if st := r.j.Stats(); st.Up || st.Err == nil {
			t.Errorf("cut off at rest: %+v", st)
		}
		r.client.Mend()
		pass(5 * time.Second)
		if st := r.j.Stats(); !st.Up || st.Err != nil {
			t.Errorf("back at rest: %+v", st)
		}
		if err := errors.Join(r.stop()); err != nil {
			t.Error(err)
		}
	})
}
