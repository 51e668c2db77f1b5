package edge

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"herd/broker"
	"herd/edge/config"
)

// away is a Broker that is never connected.
type away struct{ closed chan struct{} }

func (away) Connected() bool                                       { return false }
func (away) Wait(ctx context.Context) error                        { <-ctx.Done(); return ctx.Err() }
func (away) Server() string                                        { return "nowhere" }
func (away) MaxPayload() int                                       { return 0 }
func (away) Alive(context.Context) error                           { return broker.ErrNotConnected }
func (away) Reconnect() error                                      { return broker.ErrNotConnected }
func (away) RenewAnswers()                                         {}
func (away) ClaimName(string, string, string) error                { return broker.ErrNotConnected }
func (away) AnswerName(string, string, string, func(string)) error { return nil }
func (away) Neighbour(string, string, string) Neighbour            { return nowhere{} }
func (away) Bucket(broker.BucketConfig) Bucket                     { return nil }
func (away) Serve(broker.ServiceConfig) (Service, error)           { return nowhere{}, nil }
func (away) Flush(context.Context) error                           { return broker.ErrNotConnected }
func (a away) Close()                                              { close(a.closed) }
func (away) AskName(context.Context, string, string) (string, bool, error) {
	return "", false, broker.ErrNotConnected
}

// nowhere is a Neighbour and a Service of a Broker that is not connected.
type nowhere struct{}

func (nowhere) Send(*broker.Message) error   { return broker.ErrNotConnected }
func (nowhere) Ack(broker.Ack) error         { return broker.ErrNotConnected }
func (nowhere) Listen(broker.Handlers) error { return nil }
func (nowhere) Renew(in, out bool)           {}
func (nowhere) Stop(context.Context)         {}
func (nowhere) AskJoin(context.Context, string) (broker.Join, error) {
	return broker.Join{}, broker.ErrNotConnected
}

// An edge needs only what the interface Broker declares: with one that is not NATS and never
// connects, it still serves clients.
func TestAnEdgeServesOverABrokerThatIsNotThere(t *testing.T) {
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A-B", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "HERD_JOURNAL=off", "HERD_JOIN_TIMEOUT=100ms"})
	if err != nil {
		t.Fatal(err)
	}
	b := away{make(chan struct{})}
	e, err := New(cfg, Shared{Dial: func(name string, _ broker.Events, _ *slog.Logger) (Broker, error) {
		if name != "A" {
			t.Errorf("dialled as %q", name)
		}
		return b, nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case err := <-done:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("not ready")
	}
	if s := e.Status(); s.Broker != "away nowhere" {
		t.Errorf("the broker is %q", s.Broker)
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-b.closed
}
