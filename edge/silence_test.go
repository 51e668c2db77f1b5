package edge

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/broker/brokertest"
)

// A fakeLine is a broker connection that may be silent: then asking for a sign of life takes all
// the time allowed.
type fakeLine struct {
	away, silent, heard atomic.Bool
	asked, reconnected  atomic.Int64
}

func (f *fakeLine) Connected() bool { return !f.away.Load() }

func (f *fakeLine) Alive(ctx context.Context) error {
	f.asked.Add(1)
	if f.silent.Load() {
		<-ctx.Done()
	}
	return ctx.Err()
}

func (f *fakeLine) Reconnect() error {
	f.reconnected.Add(1)
	return nil
}

// watched runs watchSilence on f in a bubble, with heartbeats of one second, and calls change.
func watched(t *testing.T, lone bool, change func(f *fakeLine, wentDown func())) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		f := &fakeLine{}
		silent := make(chan struct{}, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			ended <- watchSilence(ctx, f, slog.New(slog.DiscardHandler), time.Second, lone, f.heard.Load, silent)
		}()
		change(f, func() { signal(silent); synctest.Wait() })
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// counts compares how often the broker was asked for a sign of life and how often its connection
// was dropped.
func (f *fakeLine) counts(t *testing.T, what string, asked, reconnected int64) {
	t.Helper()
	synctest.Wait()
	if a, r := f.asked.Load(), f.reconnected.Load(); a != asked || r != reconnected {
		t.Errorf("H8 %s: asked %d times and left %d times, want %d and %d", what, a, r, asked, reconnected)
	}
}

func TestABrokerIsLeftWhereItGivesNoSignOfLife(t *testing.T) {
	watched(t, false, func(f *fakeLine, wentDown func()) {
		f.silent.Store(true)
		wentDown()
		f.counts(t, "a link went down", 1, 0)
		time.Sleep(time.Second)
		f.counts(t, "no sign of life for a second", 1, 1)
		time.Sleep(4 * time.Second)
		f.counts(t, "still none three heartbeats later", 2, 2)
		f.silent.Store(false)
		time.Sleep(30 * time.Second)
		f.counts(t, "the broker speaks", 12, 2)
	})
}

func TestABrokerIsNotAskedWhereNeighboursAreHeardOrItIsAway(t *testing.T) {
	for name, set := range map[string]func(*fakeLine){
		"a neighbour is heard": func(f *fakeLine) { f.heard.Store(true) },
		"the broker is away":   func(f *fakeLine) { f.away.Store(true) },
	} {
		watched(t, false, func(f *fakeLine, wentDown func()) {
			f.silent.Store(true)
			set(f)
			wentDown()
			time.Sleep(time.Hour)
			f.counts(t, name, 0, 0)
		})
	}
}

func TestALoneEdgeAsksWithPatience(t *testing.T) {
	watched(t, true, func(f *fakeLine, _ func()) {
		f.silent.Store(true)
		time.Sleep(5 * time.Second)
		f.counts(t, "two seconds without a sign of life", 1, 0)
		time.Sleep(2 * time.Second)
		f.counts(t, "four seconds", 1, 1)
	})
}

// NATS's own pings would notice this after twenty seconds at the earliest.
func TestAnEdgeLeavesABrokerThatIsSilent(t *testing.T) {
	server := brokertest.Start(t)
	network := brokertest.Proxy(t, server.Addr())
	b := run(t, "B", server.URL()).ready()
	a := run(t, "A", "nats://"+network.Addr()).ready()
	eventually(t, "the link", func() bool { return a.edge.anyLinkHeard() })
	network.Silence()
	eventually(t, "H8 the broker to be called away", func() bool { return !a.edge.Metrics().BrokerConnected })
	line := a.say("IAMAT kiwi +1+1 1")
	network.Heal()
	eventually(t, "B to know what A was told meanwhile", b.knows(line))
}
