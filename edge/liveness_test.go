package edge

import (
	"context"
	"log/slog"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/admin"
	"herd/edge/config"
)

func TestWhatDoesNotComeByForLongHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		free := make(chan struct{})
		var begun atomic.Bool
		l := newLiveness(
			&pulse{name: "quick", visit: func(context.Context) error { return nil }},
			&pulse{name: "slow", visit: func(context.Context) error { time.Sleep((beatsMissed - 1) * beatEvery); return nil }},
			&pulse{name: "stuck", due: begun.Load, visit: func(ctx context.Context) error {
				select {
				case <-free:
				case <-ctx.Done():
				}
				return ctx.Err()
			}},
		)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- l.run(ctx) }()
		is := func(when string, want string) {
			t.Helper()
			synctest.Wait()
			if ok, why := l.live(); ok != (want == "") || why != want {
				t.Errorf("%s: alive %v, %q; want %q", when, ok, why, want)
			}
		}
		time.Sleep(time.Hour)
		is("before it has begun", "")
		begun.Store(true)
		time.Sleep(beatEvery * beatsMissed)
		is("after 30 s, the first of them to ask", "")
		time.Sleep(beatEvery)
		is("after 35 s", "stuck hangs")
		close(free)
		time.Sleep(beatEvery)
		is("when it has come by", "")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// A process that was paused for an hour has missed one beat.
func TestAPauseIsNoHang(t *testing.T) {
	l := newLiveness(&pulse{name: "paused"})
	p := l.pulses[0]
	l.beat() // asks, and nothing else runs any more
	for range beatsMissed - 1 {
		l.beat() // one per time that this one ran, however late
	}
	if ok, why := l.live(); !ok {
		t.Errorf("not alive: %s", why)
	}
	<-p.asked
	p.waiting.Store(false)
	l.beat()
	if ok, why := l.live(); !ok || p.missed != 0 {
		t.Errorf("not alive: %s, missed %d", why, p.missed)
	}
}

// stopped is a log handler that blocks.
type stopped struct {
	slog.Handler
	on      string
	entered chan struct{}
	leave   chan struct{}
}

func (s stopped) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == s.on {
		select {
		case s.entered <- struct{}{}:
		default:
		}
		<-s.leave
	}
	return s.Handler.Handle(ctx, r)
}
func (s stopped) WithAttrs(a []slog.Attr) slog.Handler { s.Handler = s.Handler.WithAttrs(a); return s }
func (s stopped) WithGroup(n string) slog.Handler      { s.Handler = s.Handler.WithGroup(n); return s }

func TestAnEdgeWhoseLinksHangIsNotAlive(t *testing.T) {
	server := brokertest.Start(t)
	handler := stopped{brokertest.Log(t).Handler(), "link down", make(chan struct{}, 1), make(chan struct{})}
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A-B", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "NATS_URL=" + server.URL(), "HERD_HEARTBEAT=20ms"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Shared{Log: slog.New(handler)})
	if err != nil {
		t.Fatal(err)
	}
	e.liveness.every = 10 * time.Millisecond
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	healthz := func() string {
		w := httptest.NewRecorder()
		admin.New(admin.Config{}, e.Source()).Handler().ServeHTTP(w, httptest.NewRequest("GET", "http://localhost/healthz", nil))
		return w.Body.String()
	}
	if got := healthz(); got != "ok\n" {
		t.Errorf("/healthz says %q", got)
	}
	b := brokertest.Dial(t, server.URL(), "B").Neighbour("herd", "B", "A")
	eventually(t, "the link", func() bool { // as B would send them, until it falls silent
		_ = b.Send(&broker.Message{Epoch: "0000000000000001-00000001", Interval: 20 * time.Millisecond, Clock: time.Now().UnixNano()})
		_ = b.Ack(broker.Ack{Epoch: "0000000000000001-00000001", Of: e.epoch})
		return e.Status().Links[0].Up
	})
	<-handler.entered
	eventually(t, "/healthz to say so", func() bool { return healthz() == "A is not alive: the links' loop hangs\n" })
	close(handler.leave)
	eventually(t, "/healthz to be well again", func() bool { return healthz() == "ok\n" })
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
