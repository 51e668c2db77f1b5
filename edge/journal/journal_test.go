package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
	"herd/edge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A run is what a journal needs of one run of an edge.
type run struct {
	t      *testing.T
	table  *position.Table
	client *storetest.Client
	j      *journal.Journal
	stop   func() error
	done   chan error
}

// with holds the settings in which runs differ.
type with struct {
	retain, collect time.Duration
	epoch           string
	regain          func(context.Context) error
	retainNow       func() int64
	log             *slog.Logger
}

func start(t *testing.T, f *storetest.Fake, w with) *run {
	t.Helper()
	r := prepare(t, f, w)
	r.begin()
	return r
}

// prepare makes a run whose journal does not run yet.
func prepare(t *testing.T, f *storetest.Fake, w with) *run {
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	if w.epoch == "" {
		epochs++
		w.epoch = fmt.Sprintf("%016x-00000001", epochs)
	}
	r := &run{t: t, client: f.Client(), table: position.New(position.Config{Journal: true, Retain: w.retain})}
	r.j = journal.New(journal.Config{
		Table: r.table, Store: r.client, Log: w.log, Collect: w.collect,
		Epoch: w.epoch, Regain: w.regain, RetainNow: w.retainNow,
	})
	return r
}

var epochs int // tests run one after the other

func (r *run) begin() {
	ctx, cancel := context.WithCancel(r.t.Context())
	r.done = make(chan error, 1)
	go func() { r.done <- r.j.Run(ctx) }()
	r.stop = sync.OnceValue(func() error {
		cancel()
		return <-r.done
	})
	r.t.Cleanup(func() { _ = r.stop() })
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
		r.table.PreparePutOwn(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
	} else {
		r.table.PreparePut(&ops[0], line, &a)
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
	r.table.PrepareGet(&ops[0], []byte(client))
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

func bubble(t *testing.T, name string, f func(t *testing.T, s *storetest.Fake)) {
	t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { f(t, storetest.NewFake()) }) })
}

// holds checks that the store holds these clients with these stamps, and nothing else.
func holds(t *testing.T, s *storetest.Fake, rule string, want map[string]int) {
	t.Helper()
	lines := map[string]string{}
	for client, stamp := range want {
		lines[string(journal.AppendKey(nil, []byte(client)))] = line(client, stamp)
	}
	if got := s.Values(); !maps.Equal(got, lines) {
		t.Errorf("%s the store holds %v, want %v", rule, got, lines)
	}
}

func (r *run) await(ctx context.Context, ops ...position.Op) error {
	refs := make([]position.Ref, len(ops))
	for i := range ops {
		refs[i] = position.Ref{Slot: ops[i].Slot, Revision: ops[i].Revision}
	}
	return r.j.Await(ctx, journal.Peer{}, refs)
}

func TestOwnClientsAreKeptAndComeBack(t *testing.T) {
	bubble(t, "D1, D2", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.own("kiwi.cs.ucla.edu", 1)
		r.own("a*b", 1)
		r.neighbours("other", 1)
		r.neighbours("kiwi.cs.ucla.edu", 2) // whichever edge received it
		pass(time.Second)
		want := map[string]string{"kiwi.cs.ucla.edu": line("kiwi.cs.ucla.edu", 2), "a=2Ab": line("a*b", 1)}
		if got := s.Values(); !maps.Equal(got, want) {
			t.Errorf("D1 holds %v, want %v", got, want)
		}
		if r.j.Lag() != 0 || !r.j.Stats().Up {
			t.Errorf("lag %d, up %v", r.j.Lag(), r.j.Stats().Up)
		}
		_ = r.stop()
		again := start(t, s, with{})
		<-again.j.Loaded()
		if got := again.held("kiwi.cs.ucla.edu"); got != line("kiwi.cs.ucla.edu", 2)+"\n" {
			t.Errorf("D2 came back as %q", got)
		}
		writes := s.Calls("Write")
		pass(time.Second)
		if s.Calls("Write") != writes {
			t.Errorf("D2 what the store holds was written again")
		}
		again.neighbours("a*b", 2)
		pass(time.Second)
		if got := s.Values()["a=2Ab"]; got != line("a*b", 2) {
			t.Errorf("D1 after a restart a loaded client is no longer this edge's: %q", got)
		}
	})
}

func TestAClientThatBecomesThisEdgesIsKept(t *testing.T) {
	bubble(t, "D1", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		r.neighbours("c", 5)
		pass(time.Second)
		if len(s.Values()) != 0 {
			t.Fatalf("D1 keeps a client of which it accepted no IAMAT: %v", s.Values())
		}
		op := r.own("c", 4) // older, so it is not stored; but the client is now our own
		if op.Outcome != position.Older || op.Kept {
			t.Fatalf("%+v", op)
		}
		if err := r.await(t.Context(), op); err != nil {
			t.Fatal(err)
		}
		if got := s.Values()["c"]; got != line("c", 5) {
			t.Errorf("D3 holds %q, want the newer line that came over a link", got)
		}
		if op := r.own("c", 4); !op.Kept {
			t.Error("D3 an old IAMAT of a kept line must not wait")
		}
	})
}

func TestAnAnswerWaitsUntilItsLineOrANewerOneIsKept(t *testing.T) {
	bubble(t, "D3", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		<-r.j.Loaded()
		r.client.Cut()
		op := r.own("c", 1)
		done := make(chan error, 1)
		go func() { done <- r.await(t.Context(), op) }()
		pass(10 * time.Second)
		select {
		case err := <-done:
			t.Fatalf("D3 answered while nothing can be written: %v", err)
		default:
		}
		st := r.j.Stats()
		if st.Up {
			t.Error("working while nothing can be written")
		}
		if down := time.Since(st.DownSince); down > 10*time.Second || down < 5*time.Second {
			t.Errorf("down since %v, %v after it was cut", st.DownSince, down)
		}
		for stamp := range 5 {
			r.own("c", 2+stamp) // conflated
		}
		r.client.Mend()
		if err := <-done; err != nil {
			t.Errorf("D3 %v", err)
		}
		if st := r.j.Stats(); !st.Up || !st.DownSince.IsZero() {
			t.Errorf("written, and %+v", st)
		}
		if got := s.Values()["c"]; got != line("c", 6) || s.Calls("Write") != 1 {
			t.Errorf("D1 holds %q after %d writes, want the newest after one", got, s.Calls("Write"))
		}
		r.client.Cut()
		op = r.own("d", 1)
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := r.await(ctx, op); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("D3 %v, want the time limit", err)
		}
		if r.j.Waiting() != 0 {
			t.Errorf("%d waits left behind", r.j.Waiting())
		}
	})
}

func TestWhatIsKeptIsSoForThoseWhoComeLate(t *testing.T) {
	bubble(t, "D3 a limit that has passed, a line that is kept", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		op := r.own("a", 1)
		pass(time.Minute)
		late, cancel := context.WithCancel(t.Context())
		cancel()
		for range 100 { // both channels are ready: the choice must not be random
			if err := r.await(late, op); err != nil {
				t.Fatalf("no promise of what is kept: %v", err)
			}
		}
	})
}

func TestFlushWaitsForAllThatIsOwnedNow(t *testing.T) {
	bubble(t, "C19", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
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
		if got := len(s.Values()); got != 2500 {
			t.Errorf("C19 flushed %d of 2500", got)
		}
		r.client.Cut()
		r.own("late", 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.j.Flush(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("C19 %v, want the time limit", err)
		}
	})
}

func TestManyWritesShareRoundTrips(t *testing.T) {
	bubble(t, "D3", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{})
		<-r.j.Loaded()
		var all sync.WaitGroup
		for i := range 500 {
			op := r.own(fmt.Sprint("c", i), 1)
			all.Go(func() {
				if err := r.await(t.Context(), op); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if s.Calls("Write") > 5 {
			t.Errorf("D3 500 answers took %d round trips", s.Calls("Write"))
		}
	})
}

func TestChangesCollectWhereNoAnswerWaits(t *testing.T) {
	const collect = 250 * time.Millisecond
	bubble(t, "D1 changes of one client are one entry, and few writes", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{collect: collect})
		<-r.j.Loaded()
		for i := range 1000 {
			r.own("c", i+1)
			pass(10 * time.Millisecond)
		}
		if n := s.Calls("Write"); n > 45 {
			t.Errorf("D1 %d writes in 10 s, want four a second", n)
		}
		pass(2 * collect)
		if got := s.Values()["c"]; got != line("c", 1000) || r.j.Lag() != 0 {
			t.Errorf("D1 holds %q with a lag of %d", got, r.j.Lag())
		}
	})
	bubble(t, "D1 what is late is written without rests", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{collect: collect})
		<-r.j.Loaded()
		const each = 500 // new clients per 10 ms: twelve times what is written with rests
		for i := range 500 {
			for n := range each {
				r.own(fmt.Sprintf("c%d", i*each+n), 1)
			}
			pass(10 * time.Millisecond)
			if lag := r.j.Lag(); lag > 150*each {
				t.Fatalf("D1 the journal lacks what came in the last %v", time.Duration(lag/each)*10*time.Millisecond)
			}
		}
	})
	bubble(t, "D1 few own ones among many", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{collect: collect})
		<-r.j.Loaded()
		for i := range 50_000 {
			put := r.neighbours
			if i%100 == 0 {
				put = r.own
			}
			put(fmt.Sprint("c", i), 1)
		}
		pass(2 * collect)
		if entries, writes := len(s.Values()), s.Calls("Write"); writes > 2 || entries != 500 {
			t.Errorf("D1 %d of 500 entries in %d writes, want all in one or two", entries, writes)
		}
	})
	bubble(t, "D1 where nothing comes there is nothing to collect", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{collect: collect})
		<-r.j.Loaded()
		for i := range 20_000 {
			r.own(fmt.Sprint("c", i), 1)
		}
		pass(collect + 100*time.Millisecond)
		if r.j.Lag() != 0 {
			t.Errorf("D1 %d of 20,000 are not written", r.j.Lag())
		}
	})
	bubble(t, "C19 nor does a stop wait for it", func(t *testing.T, s *storetest.Fake) {
		r := start(t, s, with{collect: collect})
		<-r.j.Loaded()
		for i := range 3500 {
			r.own(fmt.Sprint("c", i), 1)
		}
		pass(20 * time.Millisecond) // changes collect now
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
