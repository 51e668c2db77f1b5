package watch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/position"
	"herd/edge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A follower is a connection that follows what it watches, in a goroutine of its own.
type follower struct {
	w     *Watcher
	wake  chan struct{}
	texts []string
	in    map[string]map[string]bool // clients by watch
	known map[string]bool            // watches whose list is complete
	mu    sync.Mutex                 // of the two above
}

// run asks for its watches, one after the other, and follows until ctx ends.
func (f *follower) run(ctx context.Context, t *testing.T) {
	defer f.w.Close()
	listing := false
	for {
		if !listing && len(f.texts) > 0 {
			m, err := wire.ParseWATCH([]byte(f.texts[0]))
			if err == nil {
				err = f.w.Watch(&m)
			}
			if err != nil {
				t.Errorf("%s: %v", f.texts[0], err)
				return
			}
			f.texts = f.texts[1:]
		}
		var told []byte
		var more bool
		told, more, listing = f.w.Tell(nil, 1<<12)
		f.w.Written()
		f.mu.Lock()
		for line := range strings.Lines(string(told)) {
			m, err := wire.ParseTold([]byte(line[:len(line)-1]))
			if err != nil {
				t.Errorf("%q: %v", line, err)
			}
			name, client := string(m.Name), string(m.AT.Client)
			if f.in[name] == nil {
				f.in[name] = map[string]bool{}
			}
			switch in := f.in[name][client]; {
			case m.Event == wire.EventNow:
				f.known[name] = true
			case m.Event == wire.EventOff || in != (m.Event != wire.EventIn):
				t.Errorf("L4 %q, and it was told in: %v", line, in)
			case m.Event == wire.EventOut:
				delete(f.in[name], client)
			default:
				f.in[name][client] = true
			}
		}
		f.mu.Unlock()
		if more || !listing && len(f.texts) > 0 {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case <-f.wake:
		}
	}
}

// has says whether the follower was told of exactly those clients.
func (f *follower) has(name string, want map[string]bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[name] && fmt.Sprint(f.in[name]) == fmt.Sprint(want)
}

// L4 with everything at once: clients that move, connections that follow, come and go, the
// reader, the forgetting. Once it is quiet all have what a plain scan finds.
func TestFollowersBesideMovingClients(t *testing.T) {
	table := position.New(position.Config{Live: true, Retain: time.Hour})
	var clock struct {
		sync.Mutex
		now int64
	}
	now := func(add int64) int64 {
		clock.Lock()
		defer clock.Unlock()
		clock.now += add
		return clock.now
	}
	now(10_000 * second)
	set := New(Config{Table: table, PerConn: 10, Members: 1 << 20, Total: 1 << 20, Now: func() int64 { return now(0) }, Observe: func(time.Duration) {}})
	ctx, cancel := context.WithCancel(t.Context())
	var all, moving sync.WaitGroup
	defer all.Wait()
	defer cancel()
	all.Go(func() {
		if err := set.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	what := []string{"+10+10 3", "+10+10 +10.02+10.02", "-90-180 +90+180", "c7"}
	var followers []*follower
	for i := range 6 {
		f := &follower{wake: make(chan struct{}, 1), in: map[string]map[string]bool{}, known: map[string]bool{}}
		f.w = set.Open(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), func() {
			select {
			case f.wake <- struct{}{}:
			default:
			}
		})
		for k, text := range what {
			f.texts = append(f.texts, fmt.Sprintf("w%d %s", k, text))
		}
		followers = append(followers, f)
		all.Go(func() { f.run(ctx, t) })
	}
	const clients = 300
	where := make([]wire.Point, clients)
	rounds := 150
	if full() {
		rounds = 3000
	}
	for g := range 3 {
		moving.Go(func() {
			r := rand.New(rand.NewPCG(uint64(g), 1))
			ops := make([]position.Op, 1)
			for range rounds {
				for c := g; c < clients; c += 3 {
					p := wire.Point{Lat: 100000000 + int32(r.IntN(700000)), Lon: 100000000 + int32(r.IntN(700000))}
					stamp := now(1000)
					line := fmt.Appendf(nil, "AT A +0.000000000 c%d %s %d.%09d\n", c, location(p), stamp/second, stamp%second)
					at, err := wire.ParseAT(line[:len(line)-1])
					if err != nil {
						t.Error(err)
						return
					}
					table.PreparePut(&ops[0], line, &at)
					if table.Apply(stamp, position.Source{}, ops); ops[0].Outcome == position.Stored {
						where[c] = p
					}
				}
			}
		})
	}
	moving.Go(func() { // connections that come and go, and are told nothing to the end
		r := rand.New(rand.NewPCG(99, 1))
		for range rounds {
			w := set.Open(netip.MustParseAddr("10.9.9.9"), func() {})
			m, err := wire.ParseWATCH([]byte("x " + what[r.IntN(len(what))]))
			if err == nil {
				err = w.Watch(&m)
			}
			if err != nil {
				t.Error(err)
			}
			for range r.IntN(5) {
				w.Tell(nil, 100)
			}
			set.Stats()
			w.Close()
		}
	})
	moving.Go(func() { // everybody is forgotten now and then
		for range rounds / 50 {
			at := now(0) + int64(2*time.Hour)
			for end := false; !end; {
				_, end = table.Forget(at, 64, nil)
			}
		}
	})
	moving.Wait()
	areas := []position.Area{
		position.Circle(wire.Point{Lat: 100000000, Lon: 100000000}, 3),
		position.Box(wire.Point{Lat: 100000000, Lon: 100000000}, wire.Point{Lat: 100200000, Lon: 100200000}),
		position.Box(wire.Point{Lat: -900000000, Lon: -1800000000}, wire.Point{Lat: 900000000, Lon: 1800000000}),
	}
	want := make([]map[string]bool, len(what))
	ops := make([]position.Op, 1)
	for i := range want {
		want[i] = map[string]bool{}
		for c := range clients {
			id := fmt.Sprint("c", c)
			table.PrepareGet(&ops[0], []byte(id))
			if table.Apply(now(0), position.Source{}, ops); ops[0].Outcome != position.Held {
				continue
			}
			if i < len(areas) && areas[i].Contains(where[c]) || i == len(areas) && c == 7 {
				want[i][id] = true
			}
		}
	}
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		missing := ""
		for n, f := range followers {
			for i := range what {
				if !f.has(fmt.Sprint("w", i), want[i]) {
					missing = fmt.Sprintf("follower %d, watch %s", n, what[i])
				}
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("L4 quiet for a minute, and %s has not what a plain scan finds", missing)
		}
	}
	cancel()
	all.Wait()
	if s := set.Stats(); s.Watches != 0 || s.Members != 0 {
		t.Errorf("all connections are closed, and there are %+v", s)
	}
}
