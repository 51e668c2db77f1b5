package edge

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"herd/broker"
	"herd/edge/config"
)

// given is a listener that accepts nobody and counts how often it was closed.
type given struct{ closed chan struct{} }

func (g given) Accept() (net.Conn, error) { <-g.closed; return nil, net.ErrClosed }
func (g given) Addr() net.Addr            { return &net.UnixAddr{Name: "given"} }
func (g given) Close() error {
	select {
	case <-g.closed:
	default:
		close(g.closed)
	}
	return nil
}

func shared(ln net.Listener, random string) Shared {
	return Shared{Listener: ln, Random: strings.NewReader(random),
		Dial: func(string, broker.Events, *slog.Logger) (Broker, error) { return away{make(chan struct{})}, nil }}
}

// H3: whoever runs several edges in one process provides the client port and the random part of
// epochs.
func TestAnEdgeServesOnTheListenerThatItIsGiven(t *testing.T) {
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A-B", "HERD_HTTP=", "HERD_JOURNAL=off", "HERD_JOIN_TIMEOUT=100ms"})
	if err != nil {
		t.Fatal(err)
	}
	ln := given{make(chan struct{})}
	e, err := New(cfg, shared(ln, "\x01\x23\xab\xff"))
	if err != nil {
		t.Fatal(err)
	}
	if e.Addr().String() != "given" {
		t.Errorf("its address is %v", e.Addr())
	}
	if got := e.Status().Epoch; !strings.HasSuffix(got, "-0123abff") {
		t.Errorf("H3 the epoch is %s", got)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	select {
	case <-e.Ready():
	case <-time.After(time.Minute):
		t.Error("not ready")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	<-ln.closed

	unused := given{make(chan struct{})}
	if e, err = New(cfg, shared(unused, "\x01\x23\xab\xff")); err != nil {
		t.Fatal(err)
	}
	e.Close() // in place of Run
	<-unused.closed
	nameless := given{make(chan struct{})}
	if _, err := New(cfg, shared(nameless, "\x01")); err == nil {
		t.Error("H3 a run without an epoch")
	}
	<-nameless.closed
}
