package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"herd/edge/position"
	"herd/edge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A shelf is a Store in memory, with a delay, failures, and a past to go back to.
type shelf struct {
	mu      sync.Mutex
	id      string
	last    uint64
	entries map[string]Entry // a deletion marker has no Value
	none    bool             // no JetStream
	fails   bool             // each call fails
	forgets bool             // writes take effect, and fail
	writes  int              // that were committed
	refused int
}

func newShelf() *shelf { return &shelf{id: "first", entries: map[string]Entry{}} }

var errFails = errors.New("fails")

func (s *shelf) enter() error {
	time.Sleep(time.Millisecond) // virtual: the way to the broker
	s.mu.Lock()
	switch {
	case s.none:
		s.mu.Unlock()
		return ErrNone
	case s.fails:
		s.mu.Unlock()
		return errFails
	}
	return nil
}

func (s *shelf) do(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *shelf) Open(context.Context) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	return nil
}

func (s *shelf) Load(_ context.Context, f func(Entry)) (State, error) {
	if err := s.enter(); err != nil {
		return State{}, err
	}
	defer s.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(s.entries)) {
		if e := s.entries[key]; e.Value != nil {
			f(e)
		}
	}
	return State{s.id, s.last}, nil
}

func (s *shelf) Write(_ context.Context, entries []Entry) (uint64, error) {
	if err := s.enter(); err != nil {
		return 0, err
	}
	defer s.mu.Unlock()
	for _, e := range entries {
		if s.entries[e.Key].Sequence != e.Expect {
			s.refused++
			return 0, fmt.Errorf("%s: %w", e.Key, ErrRefused)
		}
	}
	for i := range entries {
		s.last++
		entries[i].Sequence = s.last
		s.entries[entries[i].Key] = Entry{Key: entries[i].Key, Value: bytes.Clone(entries[i].Value), Sequence: s.last}
	}
	s.writes++
	if s.forgets {
		for i := range entries {
			entries[i].Sequence = 0
		}
		return 0, errFails
	}
	return s.last, nil
}

func (s *shelf) Get(_ context.Context, key string) (Entry, bool, error) {
	if err := s.enter(); err != nil {
		return Entry{}, false, err
	}
	defer s.mu.Unlock()
	e := s.entries[key]
	return e, e.Value != nil, nil
}

func (s *shelf) Delete(_ context.Context, entries []Entry) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	for _, e := range entries {
		if s.entries[e.Key].Sequence == e.Expect {
			s.last++
			s.entries[e.Key] = Entry{Key: e.Key, Sequence: s.last}
		}
	}
	return nil
}

func (s *shelf) State(context.Context) (State, error) {
	if err := s.enter(); err != nil {
		return State{}, err
	}
	defer s.mu.Unlock()
	return State{s.id, s.last}, nil
}

// values are what the shelf holds, by key.
func (s *shelf) values() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]string{}
	for key, e := range s.entries {
		if e.Value != nil {
			all[key] = string(e.Value)
		}
	}
	return all
}

// A run is an edge's run as its journal sees it.
type run struct {
	t     *testing.T
	table *position.Table
	j     *Journal
	stop  func()
}

func start(t *testing.T, s *shelf, retain time.Duration) *run {
	return startCollecting(t, s, retain, 0)
}

func startCollecting(t *testing.T, s *shelf, retain, collect time.Duration) *run {
	r := &run{t: t, table: position.New(position.Config{Journal: true, Retain: retain})}
	r.j = New(Config{Table: r.table, Store: s, Log: slog.New(slog.DiscardHandler), Collect: collect})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.j.Run(ctx) }()
	r.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(r.stop)
	return r
}

func at(client string, stamp int) []byte {
	return fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d\n", client, stamp)
}

// put merges a line as the client's own or a neighbour's.
func (r *run) put(kind position.Kind, line []byte) position.Op {
	r.t.Helper()
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		r.t.Fatal(err)
	}
	ops := make([]position.Op, 1)
	if kind == position.PutOwn {
		r.table.PutOwnLine(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Stamp: a.Stamp}, a.Receipt)
	} else {
		r.table.PutLine(&ops[0], line, &a)
	}
	r.table.Apply(time.Now().UnixNano(), position.Source{}, ops)
	return ops[0]
}

func (r *run) own(client string, stamp int) position.Op {
	return r.put(position.PutOwn, at(client, stamp))
}

func (r *run) neighbours(client string, stamp int) position.Op {
	return r.put(position.Put, at(client, stamp))
}

func (r *run) held(client string) string {
	ops := make([]position.Op, 1)
	r.table.GetLine(&ops[0], []byte(client))
	r.table.Apply(time.Now().UnixNano(), position.Source{}, ops)
	return string(ops[0].Line)
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func line(client string, stamp int) string {
	return strings.TrimSuffix(string(at(client, stamp)), "\n")
}

func bubble(t *testing.T, name string, f func(t *testing.T, s *shelf)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, newShelf()) }) })
}

func TestOwnClientsAreKeptAndComeBack(t *testing.T) {
	bubble(t, "D1, D2", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.own("kiwi.cs.ucla.edu", 1)
		r.own("a*b", 1)
		r.neighbours("other", 1)
		r.neighbours("kiwi.cs.ucla.edu", 2) // whoever wrote it
		pass(time.Second)
		want := map[string]string{"kiwi.cs.ucla.edu": line("kiwi.cs.ucla.edu", 2), "a=2Ab": line("a*b", 1)}
		if got := s.values(); !maps.Equal(got, want) {
			t.Errorf("D1 holds %v, want %v", got, want)
		}
		if r.j.Lag() != 0 || !r.j.Working() {
			t.Errorf("lag %d, working %v", r.j.Lag(), r.j.Working())
		}
		r.stop()
		again := start(t, s, 0)
		<-again.j.Loaded()
		if got := again.held("kiwi.cs.ucla.edu"); got != line("kiwi.cs.ucla.edu", 2)+"\n" {
			t.Errorf("D2 came back as %q", got)
		}
		writes := s.writes
		pass(time.Second)
		if s.writes != writes {
			t.Errorf("D2 what the store holds was written again")
		}
		again.neighbours("a*b", 2)
		pass(time.Second)
		if got := s.values()["a=2Ab"]; got != line("a*b", 2) {
			t.Errorf("D1 after a restart a loaded client is no longer this edge's: %q", got)
		}
	})
}

func TestAClientThatBecomesThisEdgesIsKept(t *testing.T) {
	bubble(t, "D1", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.neighbours("c", 5)
		pass(time.Second)
		if len(s.values()) != 0 {
			t.Fatalf("D1 keeps a client of which it accepted no IAMAT: %v", s.values())
		}
		op := r.own("c", 4) // older: stores nothing, and yet the client is now ours
		if op.Outcome != position.Older || op.Kept {
			t.Fatalf("%+v", op)
		}
		if err := r.j.Await(t.Context(), []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); err != nil {
			t.Fatal(err)
		}
		if got := s.values()["c"]; got != line("c", 5) {
			t.Errorf("D3 holds %q, want the newer line that came over a link", got)
		}
		if op := r.own("c", 4); !op.Kept {
			t.Error("D3 an old IAMAT of a kept line must not wait")
		}
	})
}

func TestAnAnswerWaitsUntilItsLineOrANewerOneIsKept(t *testing.T) {
	bubble(t, "D3", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		<-r.j.Loaded()
		s.do(func() { s.fails = true })
		op := r.own("c", 1)
		done := make(chan error, 1)
		go func() { done <- r.j.Await(t.Context(), []position.Ref{{Slot: op.Slot, Revision: op.Revision}}) }()
		pass(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("D3 answered while nothing can be written: %v", err)
		default:
		}
		if r.j.Working() {
			t.Error("working while nothing can be written")
		}
		for stamp := range 5 {
			r.own("c", 2+stamp) // conflated
		}
		s.do(func() { s.fails = false })
		if err := <-done; err != nil {
			t.Errorf("D3 %v", err)
		}
		if got := s.values()["c"]; got != line("c", 6) || s.writes != 1 {
			t.Errorf("D1 holds %q after %d writes, want the newest after one", got, s.writes)
		}
		s.do(func() { s.fails = true })
		op = r.own("d", 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := r.j.Await(ctx, []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("D3 %v, want the time limit", err)
		}
		if len(r.j.awaits.of) != 0 {
			t.Errorf("%d waits left behind", len(r.j.awaits.of))
		}
	})
}

func TestWhatIsKeptIsSoForThoseWhoComeLate(t *testing.T) {
	bubble(t, "D3 a limit that has passed, a line that is kept", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		op := r.own("a", 1)
		pass(time.Minute)
		late, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 { // it must not be a matter of luck
			if err := r.j.Await(late, []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); err != nil {
				t.Fatalf("no promise of what is kept: %v", err)
			}
		}
	})
}

func TestFlushWaitsForAllThatIsOwnedNow(t *testing.T) {
	bubble(t, "C19", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		if err := r.j.Flush(t.Context()); err != nil {
			t.Errorf("C19 before the store was there: %v", err)
		}
		<-r.j.Loaded()
		for i := range 2500 {
			r.own(fmt.Sprint("c", i), 1)
		}
		if err := r.j.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if got := len(s.values()); got != 2500 {
			t.Errorf("C19 flushed %d of 2500", got)
		}
		s.do(func() { s.fails = true })
		r.own("late", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.j.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("C19 %v, want the time limit", err)
		}
	})
}

func TestManyWritesShareRoundTrips(t *testing.T) {
	bubble(t, "D3", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		<-r.j.Loaded()
		var all sync.WaitGroup
		for i := range 500 {
			op := r.own(fmt.Sprint("c", i), 1)
			all.Go(func() {
				if err := r.j.Await(t.Context(), []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s.writes > 5 {
			t.Errorf("D3 500 answers took %d round trips", s.writes)
		}
	})
}

func TestChangesCollectWhereNoAnswerWaits(t *testing.T) {
	const collect = 250 * time.Millisecond
	bubble(t, "D1 changes of one client are one entry, and few writes", func(t *testing.T, s *shelf) {
		r := startCollecting(t, s, 0, collect)
		<-r.j.Loaded()
		for i := range 1000 {
			r.own("c", i+1)
			pass(10 * time.Millisecond)
		}
		s.do(func() {
			if s.writes > 45 {
				t.Errorf("D1 %d writes in 10 s, want four a second", s.writes)
			}
		})
		pass(2 * collect)
		if got := s.values()["c"]; got != line("c", 1000) || r.j.Lag() != 0 {
			t.Errorf("D1 holds %q with a lag of %d", got, r.j.Lag())
		}
	})
	bubble(t, "D1 what is late is written without rests", func(t *testing.T, s *shelf) {
		r := startCollecting(t, s, 0, collect)
		<-r.j.Loaded()
		const each = 500 // new clients in 10 ms: twelve times what is written with rests
		for i := range 500 {
			for n := range each {
				r.own(fmt.Sprintf("c%d", i*each+n), 1)
			}
			pass(10 * time.Millisecond)
			if lag := r.j.Lag(); lag > 125*each {
				t.Fatalf("D1 the journal lacks what came in the last %v", time.Duration(lag/each)*10*time.Millisecond)
			}
		}
	})
	bubble(t, "D1 few own ones among many", func(t *testing.T, s *shelf) {
		r := startCollecting(t, s, 0, collect)
		<-r.j.Loaded()
		for i := range 50_000 {
			put := r.neighbours
			if i%100 == 0 {
				put = r.own
			}
			put(fmt.Sprint("c", i), 1)
		}
		pass(2 * collect)
		s.do(func() {
			if s.writes > 2 || len(s.entries) != 500 {
				t.Errorf("D1 %d of 500 entries in %d writes, want all in one or two", len(s.entries), s.writes)
			}
		})
	})
	bubble(t, "D1 where nothing comes there is nothing to collect", func(t *testing.T, s *shelf) {
		r := startCollecting(t, s, 0, collect)
		<-r.j.Loaded()
		for i := range 20_000 {
			r.own(fmt.Sprint("c", i), 1)
		}
		pass(collect + 50*time.Millisecond)
		if r.j.Lag() != 0 {
			t.Errorf("D1 %d of 20,000 are not written", r.j.Lag())
		}
	})
	bubble(t, "C19 nor does a stop wait for it", func(t *testing.T, s *shelf) {
		r := startCollecting(t, s, 0, collect)
		<-r.j.Loaded()
		for i := range 3500 {
			r.own(fmt.Sprint("c", i), 1)
		}
		pass(20 * time.Millisecond) // it rests
		begun := time.Now()
		if err := r.j.Flush(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > collect/10 {
			t.Errorf("C19 flushed after %v", took)
		}
		r.neighbours("d", 1)
		if err := r.j.Flush(t.Context()); err != nil || time.Since(begun) > collect/10 {
			t.Errorf("C19 where nothing is owed: %v after %v", err, time.Since(begun))
		}
	})
}

func TestNothingNewerIsEverOverwritten(t *testing.T) {
	bubble(t, "D5 a late write of a dead run", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.own("c", 5)
		r.own("d", 5)
		pass(time.Second)
		// The dead run's write arrives now: c is newer than what this run knows, d older.
		_, err := s.Write(t.Context(), []Entry{
			{Key: "c", Value: []byte(line("c", 9)), Expect: s.entries["c"].Sequence},
			{Key: "d", Value: []byte(line("d", 1)), Expect: s.entries["d"].Sequence},
		})
		if err != nil {
			t.Fatal(err)
		}
		r.own("c", 6)
		r.own("d", 6)
		pass(time.Second)
		want := map[string]string{"c": line("c", 9), "d": line("d", 6)}
		if got := s.values(); !maps.Equal(got, want) || s.refused == 0 {
			t.Errorf("D5 holds %v after %d refusals, want %v", got, s.refused, want)
		}
		if got := r.held("c"); got != line("c", 9)+"\n" {
			t.Errorf("D5 the newer line was not merged: %q", got)
		}
	})
	bubble(t, "D5 a bucket made anew under a running edge", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.own("c", 5)
		r.own("d", 5)
		pass(time.Second)
		s.do(func() { s.id, s.last, s.entries = "second", 0, map[string]Entry{} })
		r.j.Reconnected()
		pass(time.Second)
		want := map[string]string{"c": line("c", 5), "d": line("d", 5)}
		if got := s.values(); !maps.Equal(got, want) {
			t.Errorf("D5 holds %v, want what the edge still knows: %v", got, want)
		}
	})
	bubble(t, "D5 JetStream comes back with an older bucket", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.own("c", 5)
		pass(time.Second)
		var id string
		var last uint64
		var old map[string]Entry
		s.do(func() { id, last, old = s.id, s.last, maps.Clone(s.entries) })
		r.own("c", 6)
		r.own("d", 6)
		pass(time.Second)
		s.do(func() { s.id, s.last, s.entries = id, last, old })
		r.j.Reconnected()
		pass(time.Second)
		want := map[string]string{"c": line("c", 6), "d": line("d", 6)}
		if got := s.values(); !maps.Equal(got, want) {
			t.Errorf("D5 holds %v, want %v", got, want)
		}
	})
	bubble(t, "D5 an older bucket comes back while the edge writes", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		r.own("c", 5)
		pass(time.Second)
		var last uint64
		var old map[string]Entry
		s.do(func() { last, old = s.last, maps.Clone(s.entries) })
		for i := range 10 {
			r.own(fmt.Sprint("d", i), 5)
			pass(10 * time.Millisecond)
		}
		s.do(func() { s.last, s.entries = last, old })
		// Writes go on, and lift the store past where it was, before anybody looks.
		for i := range 30 {
			r.own(fmt.Sprint("e", i), 5)
			if i == 29 {
				r.j.Reconnected()
			}
			time.Sleep(100 * time.Microsecond)
		}
		pass(time.Second)
		if got := s.values(); len(got) != 41 {
			t.Errorf("D5 holds %d of 41 clients", len(got))
		}
	})
	bubble(t, "D5 JetStream away at the start, and back with more than the edge has", func(t *testing.T, s *shelf) {
		before := start(t, s, 0)
		before.own("c", 5)
		before.own("e", 1)
		pass(time.Second)
		before.stop()
		s.do(func() { s.none = true })
		r := start(t, s, 0)
		<-r.j.None()
		r.own("c", 4)
		r.own("e", 2)
		pass(20 * time.Second)
		s.do(func() { s.none = false })
		r.j.Reconnected()
		<-r.j.Loaded()
		pass(time.Second)
		want := map[string]string{"c": line("c", 5), "e": line("e", 2)}
		if got := s.values(); !maps.Equal(got, want) {
			t.Errorf("D5 holds %v, want %v", got, want)
		}
		if got := r.held("c"); got != line("c", 5)+"\n" {
			t.Errorf("D5 holds %q", got)
		}
	})
	bubble(t, "D5 a write took effect, and its ack was lost", func(t *testing.T, s *shelf) {
		r := start(t, s, 0)
		<-r.j.Loaded()
		s.do(func() { s.forgets = true })
		op := r.own("c", 5)
		pass(50 * time.Millisecond)
		s.do(func() { s.forgets = false })
		if err := r.j.Await(t.Context(), []position.Ref{{Slot: op.Slot, Revision: op.Revision}}); err != nil {
			t.Error(err)
		}
		if got := s.values()["c"]; got != line("c", 5) {
			t.Errorf("D5 holds %q", got)
		}
	})
}

func TestForgettingClearsTheJournalToo(t *testing.T) {
	bubble(t, "S4", func(t *testing.T, s *shelf) {
		now := int(time.Now().Unix())
		r := start(t, s, time.Minute)
		r.own("old", now-30)
		r.own("young", now)
		pass(time.Second)
		pass(40 * time.Second)
		r.table.Forget(time.Now().UnixNano(), 100, r.j.Forgotten)
		pass(time.Second)
		if got := s.values(); len(got) != 1 || got["young"] == "" {
			t.Errorf("S4 holds %v, want young alone", got)
		}
		r.own("old", int(time.Now().Unix())) // its key has a deletion marker
		pass(time.Second)
		if got := s.values(); len(got) != 2 {
			t.Errorf("S4 holds %v, want both", got)
		}
		r.stop()
		pass(2 * time.Minute)
		again := start(t, s, time.Minute)
		<-again.j.Loaded()
		pass(time.Second)
		if got := s.values(); len(got) != 0 {
			t.Errorf("S4 what was past its time at the start is still there: %v", got)
		}
	})
}

func TestEntriesOfOthersAreLeftAlone(t *testing.T) {
	bubble(t, "D2", func(t *testing.T, s *shelf) {
		_, err := s.Write(t.Context(), []Entry{
			{Key: "x", Value: []byte("no line")}, {Key: "y", Value: []byte(line("z", 1))}, {Key: "c", Value: []byte(line("c", 1))},
		})
		if err != nil {
			t.Fatal(err)
		}
		r := start(t, s, 0)
		<-r.j.Loaded()
		if clients, _, _ := r.table.Stats(); clients != 1 {
			t.Errorf("D2 %d clients, want c alone", clients)
		}
		r.own("x", 3) // its key has a value that is no line: overwritten
		pass(time.Second)
		if got := s.values()["x"]; got != line("x", 3) {
			t.Errorf("D1 holds %q", got)
		}
	})
}

func TestKeysAreLegalReadableAndOneToOne(t *testing.T) {
	for _, c := range []struct{ client, want string }{
		{"kiwi.cs.ucla.edu", "kiwi.cs.ucla.edu"},
		{"a/b-c_d", "a/b-c_d"},
		{"a*b>", "a=2Ab=3E"},
		{"é", "=C3=A9"},
		{"=", "=3D"},
		{".a..b.", "=2Ea.=2Eb=2E"},
		{"\x00", "=00"},
	} {
		if got := string(AppendKey(nil, []byte(c.client))); got != c.want {
			t.Errorf("D1 key of %q is %q, want %q", c.client, got, c.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		id := rapid.OneOf(rapid.SliceOfN(rapid.Byte(), 1, 40), rapid.SliceOfN(rapid.SampledFrom([]byte(".=a*h")), 1, 400))
		a, b := id.Draw(t, "a"), id.Draw(t, "b")
		ka, kb := AppendKey(nil, a), AppendKey(nil, b)
		if bytes.Equal(a, b) != bytes.Equal(ka, kb) {
			t.Fatalf("D1 %q and %q have the keys %q and %q", a, b, ka, kb)
		}
		if len(ka) > keyMax+1 || ka[0] == '.' || ka[len(ka)-1] == '.' || bytes.Contains(ka, []byte("..")) {
			t.Fatalf("D1 %q is no legal key", ka)
		}
		for _, c := range ka {
			if !strings.ContainsRune("-/_=.abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", rune(c)) {
				t.Fatalf("D1 %q is no legal key", ka)
			}
		}
	})
}
