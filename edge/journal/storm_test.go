package journal_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/journal"
	"herd/edge/journal/storetest"
	"herd/edge/position"
	"herd/edge/wire"
)

// A storm is the life of one edge under random faults. Runs are killed, frozen and thawed, and
// several may live at once. The store's answers are lost, and it is cut off, goes back and is
// purged. Clients send positions all the while. At the end no acknowledged line may be missing.
type storm struct {
	t      *testing.T
	store  *storetest.Fake
	retain time.Duration
	faults bool
	made   int
	calm   bool // the store lost lines that only the present run holds: let it write them again

	mu      sync.Mutex
	rand    *rand.Rand
	runs    []*stormRun          // alive
	stored  map[string]time.Time // by client: the newest acknowledged stamp
	answers int
}

type stormRun struct {
	*run
	epoch  string
	frozen bool          // guarded by storm.mu
	end    chan struct{} // closed when the run has ended
}

// n returns a random number below limit.
func (s *storm) n(limit int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rand.IntN(limit)
}

func (s *storm) freeze(r *stormRun, frozen bool) {
	s.mu.Lock()
	r.frozen = frozen
	s.mu.Unlock()
	if frozen {
		r.client.Freeze()
	} else {
		r.client.Thaw()
	}
}

// kill ends a run, frozen or not.
func (s *storm) kill(r *stormRun) {
	go r.stop()
	r.client.Thaw()
}

var errReplaced = errors.New("a later run has the name")

func (s *storm) alive(r *stormRun) bool {
	select {
	case <-r.end:
		return false
	default:
		return true
	}
}

// others returns the runs, except one, that answer for the name.
func (s *storm) others(but *stormRun) (all []*stormRun) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.runs {
		if r != but && !r.frozen && s.alive(r) {
			all = append(all, r)
		}
	}
	return all
}

// start starts a run.
func (s *storm) start() {
	s.made++
	r := &stormRun{epoch: fmt.Sprintf("%016x-00000001", s.made), end: make(chan struct{})}
	r.run = &run{t: s.t, client: s.store.Client(), table: position.New(position.Config{Journal: true, Retain: s.retain})}
	r.j = journal.New(journal.Config{
		Table: r.table, Store: r.client, Log: slog.New(slog.DiscardHandler), Epoch: r.epoch, Regain: func(ctx context.Context) error { return s.regain(ctx, r) },
	})
	if s.faults {
		r.client.Faults(s.fault)
	}
	r.begin()
	go func() {
		err := <-r.done
		r.done <- err
		close(r.end)
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.runs = append(s.runs, r)
}

// regain is a small H10: the latest run has the name, and earlier runs are refused.
func (s *storm) regain(ctx context.Context, r *stormRun) error {
	for {
		r.client.Melt()
		earlier := false
		for _, o := range s.others(r) {
			if o.epoch > r.epoch {
				return errReplaced
			}
			earlier = true
			s.kill(o) // it hears the claim and ends
		}
		if !earlier {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

func (s *storm) fault(string) storetest.Fault {
	if s.n(100) < 90 {
		return storetest.OK
	}
	return storetest.Fault(s.n(6))
}

// tell sends one position of a client, and notes whether it was acknowledged.
func (s *storm) tell(r *stormRun) {
	client := fmt.Sprint("c", s.n(12))
	now := time.Now()
	at := fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d.%09d\n", client, now.Unix(), now.Nanosecond())
	a, err := wire.ParseAT(at[:len(at)-1])
	if err != nil {
		s.t.Fatal(err)
	}
	ops := make([]position.Op, 1)
	r.table.PreparePutOwn(&ops[0], at, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
	r.table.Apply(now.UnixNano(), position.Source{}, ops)
	go func() {
		ctx, cancel := context.WithTimeout(s.t.Context(), 2*time.Second)
		defer cancel()
		err := r.await(ctx, ops[0])
		r.client.Melt() // a frozen run answers once it is thawed
		if err == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.answers++
			if now.After(s.stored[client]) {
				s.stored[client] = now
			}
		}
	}()
}

// play runs one storm.
func play(t *testing.T, seed uint64) {
	s := &storm{
		t: t, rand: rand.New(rand.NewPCG(seed, 1)), store: storetest.NewFake(), faults: seed%4 != 0,
		stored: map[string]time.Time{},
	}
	if seed%3 == 0 {
		s.retain = time.Minute
	}
	s.store.Cost(time.Duration(1+s.n(60))*time.Millisecond, time.Duration(s.n(100))*time.Microsecond)
	if s.n(3) == 0 {
		s.store.Lag(time.Duration(s.n(2000)) * time.Millisecond)
	}
	s.start()
	for range 400 {
		time.Sleep(time.Duration(1 + s.n(100)*s.n(20)*int(time.Millisecond/10)))
		synctest.Wait()
		s.weather()
	}
	for _, r := range s.runs { // end all faults
		s.freeze(r, false)
		r.client.Faults(nil)
		r.client.Mend()
		r.j.Reconnected()
	}
	synctest.Wait()
	if len(s.others(nil)) == 0 {
		s.start()
	}
	time.Sleep(time.Minute)
	synctest.Wait()
	s.check(seed)
	for _, r := range s.runs {
		_ = r.stop()
	}
}

// weather causes one random event of the storm.
func (s *storm) weather() {
	live := s.others(nil)
	var some *stormRun
	if len(live) > 0 {
		some = live[s.n(len(live))]
	}
	s.calm = s.calm && !s.level()
	calm := s.calm
	switch x := s.n(1000); {
	case some == nil || x < 10 && !calm && len(s.runs) < 4: // no run answers, or start another
		s.start()
	case x < 30 && !calm:
		s.kill(some)
	case x < 60 && !calm:
		s.freeze(some, true)
	case x < 130:
		for _, r := range s.runs {
			if r.frozen {
				s.freeze(r, false)
				break
			}
		}
	case x < 160:
		some.client.Cut()
	case x < 240:
		some.client.Mend()
		some.j.Reconnected()
	case x < 285 && !calm && len(s.runs) == 1 && s.whole(some):
		// The store loses what it acknowledged. The edge writes again what it holds.
		client := fmt.Sprint("c", s.n(12))
		switch s.n(6) {
		case 0:
			s.store.Purge()
		case 1:
			s.store.Destroy()
		case 2:
			s.store.PurgeKey(client)
		case 3:
			s.store.Put(client, "no line")
		case 4:
			s.store.Remove(client)
		case 5:
			old := s.store.Snapshot()
			defer func() {
				time.Sleep(time.Duration(s.n(2000)) * time.Millisecond)
				if s.whole(some) {
					s.store.Restore(old)
				}
			}()
		}
		s.calm = true
	case x < 286:
		time.Sleep(70 * time.Minute) // markers expire
	case x < 400 && s.retain > 0:
		for _, r := range live {
			r.forget()
		}
	default:
		s.tell(some)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	left := s.runs[:0]
	for _, r := range s.runs {
		if s.alive(r) {
			left = append(left, r)
		}
	}
	s.runs = left
}

// whole reports whether a run holds every acknowledged line. A line that only the store holds
// would be lost with it.
func (s *storm) whole(r *stormRun) bool {
	s.mu.Lock()
	stored := maps.Clone(s.stored)
	s.mu.Unlock()
	for client, at := range stored {
		if !s.past(at) && s.held(r, client).Before(at) {
			return false
		}
	}
	return true
}

// level reports whether the store holds every acknowledged line.
func (s *storm) level() bool {
	values := s.store.Values()
	s.mu.Lock()
	defer s.mu.Unlock()
	for client, at := range s.stored {
		if !s.past(at) && stampOf(s.t, values[client]).Before(at) {
			return false
		}
	}
	return true
}

func (s *storm) past(at time.Time) bool { return s.retain > 0 && time.Since(at) >= s.retain }

// held returns the stamp of the line that a run holds of a client.
func (s *storm) held(r *stormRun, client string) time.Time {
	line := r.run.held(client)
	return stampOf(s.t, line)
}

func stampOf(t *testing.T, line string) time.Time {
	if line == "" || line == "no line" {
		return time.Time{}
	}
	if line[len(line)-1] == '\n' {
		line = line[:len(line)-1]
	}
	a, err := wire.ParseAT([]byte(line))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return time.Unix(0, a.Stamp)
}

func (s *storm) check(seed uint64) {
	live := s.others(nil)
	if len(live) != 1 {
		s.t.Errorf("seed %d: %d runs are left, want one", seed, len(live))
		return
	}
	r := live[0]
	if st := r.j.Stats(); !st.Up || st.Lag != 0 {
		s.t.Errorf("seed %d: the last run is not level: %+v", seed, st)
	}
	values := s.store.Values()
	for client, at := range s.stored {
		if s.past(at) {
			continue
		}
		if got := s.held(r, client); got.Before(at) {
			s.t.Errorf("seed %d: D3 %s was answered at %v, the last run holds %v", seed, client, at, got)
		}
		if got := stampOf(s.t, values[client]); got.Before(at) {
			s.t.Errorf("seed %d: D3 %s was answered at %v, the store holds %v", seed, client, at, got)
		}
	}
	if s.retain > 0 {
		time.Sleep(2 * s.retain)
		r.forget()
		time.Sleep(3 * time.Minute)
		for client, value := range s.store.Values() {
			if value != "no line" {
				s.t.Errorf("seed %d: S4 %s is still in the store: %q", seed, client, value)
			}
		}
	}
}

func TestNothingPromisedIsMissingAfterAnyStorm(t *testing.T) {
	seeds := 40
	if os.Getenv("HERD_TEST") == "full" {
		seeds = 1000
	}
	if testing.Short() {
		seeds = 15
	}
	for seed := range uint64(seeds) {
		t.Run(fmt.Sprint("D3, D5 seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { play(t, seed) })
		})
	}
}
