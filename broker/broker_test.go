package broker_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/broker"
	"herd/broker/brokertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 20 * time.Second // of a test on a loaded machine

// witness notes the events of a connection.
type witness struct {
	connected    chan bool
	disconnected chan error
	complaints   chan error
}

func newWitness() *witness {
	return &witness{make(chan bool, 100), make(chan error, 100), make(chan error, 100)}
}

func (w *witness) events() broker.Events {
	return broker.Events{
		Connected:    func(first bool) { w.connected <- first },
		Disconnected: func(err error) { w.disconnected <- err },
		Error:        func(err error) { w.complaints <- err },
	}
}

// take returns the next value of ch, and fails the test when none comes.
func take[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("no %s within %v", what, patience)
		panic("not reached")
	}
}

// connect dials url and waits until it is connected.
func connect(t *testing.T, url string) (*broker.Conn, *witness) {
	t.Helper()
	w := newWitness()
	c, err := broker.Dial(broker.Options{URL: url}, t.Name(), w.events(), brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	if first := take(t, w.connected, "connection"); !first {
		t.Error("the first connection is not called so")
	}
	return c, w
}

func TestRoundTripOverAServer(t *testing.T) {
	s := brokertest.Start(t)
	a, _ := connect(t, s.URL())
	b, _ := connect(t, s.URL())
	ab, ba := a.Neighbour("herd", "A", "B"), b.Neighbour("herd", "B", "A")
	got := make(chan broker.Message, 1)
	if err := ba.Listen(broker.Handlers{Message: func(m broker.Message) { got <- m }}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := a.Alive(ctx); err != nil {
		t.Fatal(err)
	}
	if err := ab.Send(&broker.Message{Epoch: "0123456789abcdef-01234567", Through: 3, Head: 4, Lines: []byte("AT A\n")}); err != nil {
		t.Fatal(err)
	}
	if m := take(t, got, "message"); string(m.Lines) != "AT A\n" || m.Through != 3 {
		t.Errorf("got %+v", m)
	}
}
