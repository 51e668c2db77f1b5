package edge

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/places"
	"herd/places/nearby"
)

// slowNeighbour is an A that has joined, tells of a head far off, and sends B only the
// first n lines of it.
func slowNeighbour(t *testing.T, url string, n int) {
	t.Helper()
	const epoch = "00000000000000a1-00000001"
	var lines []byte
	for i := range n {
		lines = fmt.Appendf(lines, "AT A +0.000000000 c%d +1+1 1\n", i)
	}
	conn, err := broker.Dial(broker.Options{URL: url}, "A", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := conn.Neighbour("herd", "A", "B")
	err = a.Listen(broker.Handlers{
		Message: func(broker.Message) {},
		Join:    func(string) broker.Join { return broker.Join{Epoch: epoch, Head: 1 << 20, Config: "x"} },
		Ack: func(ack broker.Ack) {
			if ack.Of != epoch { // its first
				if err := a.Send(&broker.Message{Epoch: epoch, Through: uint64(n), Head: 1 << 20, Lines: lines}); err != nil {
					t.Errorf("send: %v", err)
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhoJoinsHandsOnToWhoJoinsBehindIt(t *testing.T) {
	nats := brokertest.Start(t)
	slowNeighbour(t, nats.URL(), 100)
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=20s")
	eventually(t, "B to hold what it was sent", func() bool { return b.edge.Status().Clients == 100 })
	c := run(t, "C", nats.URL()).ready()
	if clients := c.edge.Status().Clients; clients != 100 {
		t.Errorf("H7 opened its port with %d of 100 clients", clients)
	}
	if b.edge.isReady() {
		t.Error("H7 B is ready without all that A told it of")
	}
}

func TestAJoinThatBringsNothingMoreEnds(t *testing.T) {
	nats := brokertest.Start(t)
	slowNeighbour(t, nats.URL(), 100)
	start := time.Now()
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=200ms").ready()
	if took := time.Since(start); took < 200*time.Millisecond {
		t.Errorf("H7 ready after %v, before anything could be missed", took)
	}
	if clients := b.edge.Status().Clients; clients != 100 {
		t.Errorf("H7 %d clients, want what came", clients)
	}
}

func TestWhoJoinsSendsNothingToThoseWhoHaveIt(t *testing.T) {
	nats := brokertest.Start(t, brokertest.JetStream)
	before := run(t, "B", nats.URL(), "HERD_JOURNAL=on").ready()
	const n = 50
	var lines []byte
	for i := range n {
		lines = append(lines, before.say("IAMAT c%d +1+1 1", i)...)
	}
	if err := before.end(); err != nil { // its journal holds them
		t.Fatal(err)
	}

	// A has joined and holds them too. It takes its time to say so, but is there: all that B
	// would send it, it would get.
	const epoch = "00000000000000a1-00000001"
	var came, acked, asked atomic.Uint64
	var gone atomic.Bool
	conn, err := broker.Dial(broker.Options{URL: nats.URL()}, "A", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	a := conn.Neighbour("herd", "A", "B")
	send := func(m broker.Message) {
		m.Epoch, m.Head = epoch, n
		if err := a.Send(&m); err != nil {
			t.Errorf("send: %v", err)
		}
	}
	err = a.Listen(broker.Handlers{
		Message: func(m broker.Message) {
			if m.Bye { // the last, and not acknowledged
				gone.Store(true)
				return
			}
			came.Add(uint64(bytes.Count(m.Lines, []byte("\n"))))
			if err := a.Ack(broker.Ack{Epoch: epoch, Of: m.Epoch, Through: m.Through}); err != nil {
				t.Errorf("ack: %v", err)
			}
		},
		Join: func(string) broker.Join {
			asked.Add(1)
			<-time.After(300 * time.Millisecond) // A is slow
			send(broker.Message{Through: n, Lines: lines})
			return broker.Join{Epoch: epoch, Head: n, Config: "x"}
		},
		Ack: func(ack broker.Ack) {
			if acked.Store(ack.Through); ack.Of != epoch { // its first: a sign of life
				send(broker.Message{Interval: time.Second})
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	b := run(t, "B", nats.URL(), "HERD_JOURNAL=on").ready()
	if clients := b.edge.Status().Clients; clients != n {
		t.Errorf("H7 opened its port with %d of %d clients", clients, n)
	}
	if asked.Load() == 0 {
		t.Error("H7 A was not asked")
	}
	eventually(t, "A to hear that B holds all", func() bool { return acked.Load() == n })
	eventually(t, "A to lack nothing", func() bool { return b.edge.Status().Links[0].Lag == 0 })
	if got := came.Load(); got != 0 {
		t.Errorf("H4, H7 sent A %d lines that it holds", got)
	}
	b.say("IAMAT new +1+1 1")
	eventually(t, "A to hear what is new", func() bool { return came.Load() == 1 })
	if err := b.end(); err != nil {
		t.Error(err)
	}
	eventually(t, "A to hear B's good-bye", gone.Load) // and not to ack on a connection that is closed
}

func TestWhoWaitsForItsJournalHandsOn(t *testing.T) {
	nats := brokertest.Start(t) // without JetStream
	a, c := run(t, "A", nats.URL()).ready(), run(t, "C", nats.URL()).ready()
	b := run(t, "B", nats.URL(), "HERD_JOURNAL=on")
	line := a.say("IAMAT kiwi +1+1 1")
	eventually(t, "D4, H1 C to know what A was told", c.knows(line))
	if b.edge.isReady() {
		t.Error("D4 B is ready without its journal")
	}
}

// library is a provider that reads its places until it is told that it has them.
type library struct{ read chan struct{} }

func (l *library) Name() string { return "library" }
func (l *library) Known() int   { return 0 }

func (l *library) Nearby(context.Context, places.Query) (nearby.Answer, error) {
	return nearby.Answer{}, places.ErrUnknown
}

func (l *library) Load(ctx context.Context) error {
	select {
	case <-l.read:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// runWith runs an edge that has its places from l.
func runWith(t *testing.T, l *library, name, url string, more ...string) *running {
	t.Helper()
	f := places.NewFinder(brokertest.Log(t), l)
	t.Cleanup(f.Close)
	return runShared(t, Shared{Log: brokertest.Log(t), Finder: f}, name, url, more...)
}

func TestThePortWaitsForPlacesThatAreSoonRead(t *testing.T) {
	nats := brokertest.Start(t)
	l := &library{make(chan struct{})}
	a := runWith(t, l, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_JOIN_TIMEOUT=1m")
	eventually(t, "A to have its name", func() bool {
		select {
		case <-a.edge.named:
			return true
		default:
			return false
		}
	})
	if a.edge.isReady() {
		t.Error("ready before the places were read")
	}
	close(l.read)
	a.ready()
}

func TestThePortDoesNotWaitForPlacesForLong(t *testing.T) {
	nats := brokertest.Start(t)
	start := time.Now()
	a := runWith(t, &library{make(chan struct{})}, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_JOIN_TIMEOUT=300ms").ready()
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("ready after %v, the places were not read", took)
	}
	if got := a.say("IAMAT k +1+1 1"); !strings.HasPrefix(got, "AT A ") {
		t.Error(got)
	}
}
