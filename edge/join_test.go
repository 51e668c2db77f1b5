package edge

import (
	"fmt"
	"testing"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
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
