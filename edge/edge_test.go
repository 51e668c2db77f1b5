package edge

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running is an edge that runs in this process.
type running struct {
	t    *testing.T
	edge *Edge
	stop context.CancelFunc
	done chan error
}

// run starts an edge of the topology "A-B,B-C" that uses this broker.
func run(t *testing.T, name, url string, more ...string) *running {
	t.Helper()
	return runShared(t, Shared{Log: brokertest.Log(t)}, name, url, more...)
}

func runShared(t *testing.T, shared Shared, name, url string, more ...string) *running {
	t.Helper()
	environ := append([]string{"HERD_EDGE=" + name, "HERD_TOPOLOGY=A-B,B-C", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "NATS_URL=" + url,
		"HERD_HEARTBEAT=100ms"}, more...)
	cfg, _, err := config.FromEnvironment(environ)
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, shared)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	r := &running{t: t, edge: e, stop: stop, done: make(chan error, 1)}
	go func() { r.done <- e.Run(ctx) }()
	t.Cleanup(func() { r.end() })
	return r
}

// end stops the edge once, and returns what Run returned.
func (r *running) end() error {
	r.stop()
	select {
	case err := <-r.done:
		r.done <- err
		return err
	case <-time.After(time.Minute):
		r.t.Error("the edge does not stop")
		return errors.New("does not stop")
	}
}

func (r *running) ready() *running {
	r.t.Helper()
	select {
	case <-r.edge.Ready():
	case err := <-r.done:
		r.done <- err
		r.t.Fatalf("ended before it was ready: %v", err)
	case <-time.After(time.Minute):
		r.t.Fatal("not ready")
	}
	return r
}

// say sends a line and returns the first line of the answer.
func (r *running) say(format string, args ...any) string {
	r.t.Helper()
	c, err := net.Dial("tcp", r.edge.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if _, err := fmt.Fprintf(c, format+"\n", args...); err != nil {
		r.t.Fatal(err)
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		r.t.Fatal(err)
	}
	return answer
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(time.Minute); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func (r *running) knows(line string) func() bool {
	return func() bool { return r.say("WHATSAT %s 0 0", strings.Fields(line)[3]) == line }
}

func TestAnUpdateReachesAllEdgesAndARestartedOneKnowsItBeforeItsPortOpens(t *testing.T) {
	nats := brokertest.Start(t)
	a, b, c := run(t, "A", nats.URL()), run(t, "B", nats.URL()), run(t, "C", nats.URL())
	a.ready()
	b.ready()
	c.ready()
	line := a.say("IAMAT kiwi +34.068930-118.445127 1621464827.959498503")
	if !strings.HasPrefix(line, "AT A +") {
		t.Fatalf("C9 answered %q", line)
	}
	eventually(t, "C to know", c.knows(line))
	eventually(t, "all lags to end", func() bool {
		for _, r := range []*running{a, b, c} {
			for _, l := range r.edge.Status().Links {
				if !l.Up || l.Lag != 0 {
					return false
				}
			}
		}
		return true
	})
	if err := c.end(); err != nil {
		t.Errorf("C19 stopped with %v", err)
	}
	again := run(t, "C", nats.URL()).ready()
	if got := again.say("WHATSAT kiwi 0 0"); got != line {
		t.Errorf("H7 just started, answered %q, want %q", got, line)
	}
}

func TestAnEdgeServesWhileTheBrokerIsAway(t *testing.T) {
	nats := brokertest.Start(t)
	nats.Stop()
	a := run(t, "A", nats.URL(), "HERD_JOIN_TIMEOUT=200ms").ready()
	line := a.say("IAMAT kiwi +34.068930-118.445127 1621464827.959498503")
	if !strings.HasPrefix(line, "AT A ") {
		t.Fatalf("H8 answered %q", line)
	}
	nats.Restart()
	b := run(t, "B", nats.URL()).ready()
	eventually(t, "B to know what A heard while the broker was away", b.knows(line))
	if err := a.end(); err != nil {
		t.Errorf("C19 stopped with %v", err)
	}
}

func TestAStoppingEdgeHandsOverWhatItAnswered(t *testing.T) {
	nats := brokertest.Start(t)
	a, b := run(t, "A", nats.URL()).ready(), run(t, "B", nats.URL()).ready()
	eventually(t, "the link", func() bool { return a.edge.Status().Links[0].Up })
	c, err := net.Dial("tcp", a.edge.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 2000
	var lines bytes.Buffer
	for i := range n {
		fmt.Fprintf(&lines, "IAMAT c%d +1+1 1\n", i)
	}
	if _, err := c.Write(lines.Bytes()); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewScanner(c)
	answers.Scan() // it has begun
	ended := make(chan error, 1)
	go func() { ended <- a.end() }()
	answered := []string{answers.Text()}
	for answers.Scan() {
		answered = append(answered, answers.Text())
	}
	if err := answers.Err(); err != nil {
		t.Errorf("C19 after %d answers: %v", len(answered), err)
	}
	if err := <-ended; err != nil {
		t.Errorf("C19 stopped with %v", err)
	}
	for _, line := range answered {
		if got := b.say("WHATSAT %s 0 0", strings.Fields(line)[3]); got != line+"\n" {
			t.Fatalf("C19 answered %q, the neighbour holds %q", line, got)
		}
	}
	t.Logf("%d of %d answered", len(answered), n)
}

func TestThePortIsClosedUntilTheEdgeHasJoined(t *testing.T) {
	nats := brokertest.Start(t)
	first := run(t, "A", nats.URL()).ready()
	if c, err := net.Dial("tcp", first.edge.Addr().String()); err != nil {
		t.Errorf("H7 a ready edge refuses: %v", err)
	} else {
		c.Close()
	}
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=B", "HERD_TOPOLOGY=A-B,B-C", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP="})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Shared{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if c, err := net.Dial("tcp", e.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("H7 a client that comes before: %v, %v; want it refused", c, err)
	}
	cfg.Listen = first.edge.Addr().String()
	if _, err := New(cfg, Shared{}); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), "HERD_LISTEN") || !strings.Contains(err.Error(), cfg.Listen) {
		t.Errorf("an occupied port: %v", err)
	}
}

func TestOtherTopologiesAreShownAndRefuseNothing(t *testing.T) {
	nats := brokertest.Start(t)
	a := run(t, "A", nats.URL()).ready()
	b := run(t, "B", nats.URL(), "HERD_RETAIN=24h").ready()
	differs := func(r *running) func() bool {
		return func() bool { return r.edge.Status().Links[0].ConfigDiffers }
	}
	eventually(t, "H7 A to show it", differs(a))
	eventually(t, "H7 B to show it", differs(b))
	line := a.say("IAMAT kiwi +1+1 %d", time.Now().Unix())
	eventually(t, "B to know all the same", b.knows(line))
}

func TestTheEndpointsAnswerAsTheClientPort(t *testing.T) {
	nats := brokertest.Start(t)
	a := run(t, "A", nats.URL()).ready()
	e := a.edge
	endpoints := e.endpoints(t.Context())
	for _, c := range []struct {
		verb, payload, want string
		ok                  bool
	}{
		{"IAMAT ", "kiwi +1+1 1\n", "AT A ", true},
		{"WHATSAT ", "kiwi 0 0", "AT A ", true},
		{"WHATSAT ", "kiwi 10 1", "AT A ", true},
		{"WHATSAT ", "nobody 10 1", "? WHATSAT nobody 10 1\n", false},
		{"IAMAT ", "", "? IAMAT \n", false},
		{"IAMAT ", "a +1+1 1\nIAMAT b +1+1 1", "? IAMAT a +1+1 1", false},
		{"IAMAT ", strings.Repeat("x", 5000), "? IAMAT " + strings.Repeat("x", 58) + "\n", false},
	} {
		endpoint := map[string]func([]byte, time.Time) broker.Reply{"IAMAT ": endpoints.IAMAT, "WHATSAT ": endpoints.WHATSAT}[c.verb]
		reply := endpoint([]byte(c.payload), time.Now())
		if reply.Later != nil {
			reply = reply.Later()
		}
		if reply.Refused == c.ok || !strings.HasPrefix(string(reply.Answer), c.want) {
			t.Errorf("%s%.20q: %q, refused %v", c.verb, c.payload, reply.Answer, reply.Refused)
		}
	}
	if clients := e.Status().Clients; clients != 1 {
		t.Errorf("%d clients, want 1: one payload is one command", clients)
	}
}

func TestAFloorThatFailsEndsTheRunAndIsNamed(t *testing.T) {
	f := newFloors(t.Context(), func() {})
	var order []string
	f.onStop("lowest", func(context.Context) error { order = append(order, "lowest"); return nil })
	f.start("links", func(ctx context.Context) error { <-ctx.Done(); order = append(order, "links"); return nil })
	f.start("name", func(context.Context) error { return errNameTaken })
	<-f.ctx.Done()
	f.ended()
	err := f.stop(t.Context())
	if !errors.Is(err, errNameTaken) || !strings.HasPrefix(err.Error(), "name: ") {
		t.Errorf("stopped with %v", err)
	}
	if fmt.Sprint(order) != "[links lowest]" {
		t.Errorf("stopped in the order %v", order)
	}
}

func TestNoSecretInTheLog(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&out, &slog.HandlerOptions{Level: slog.LevelDebug}))
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "NATS_URL=nats://me:hunter2@127.0.0.1:1", "HERD_JOIN_TIMEOUT=500ms"})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Shared{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	<-e.Ready()
	status := fmt.Sprint(e.Status())
	stop()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if strings.Contains(out.String()+status, "hunter2") || !strings.Contains(out.String(), "ready") {
		t.Errorf("the log:\n%s", out.String())
	}
}

// A broker that accepts a connection and then sends nothing, as behind a broken network, is left
// even by an edge without links, which has no heartbeats to miss.
func TestALoneEdgeNoticesABrokerThatIsSilent(t *testing.T) {
	server := brokertest.Start(t)
	network := brokertest.Proxy(t, server.Addr())
	a := run(t, "A", "nats://"+network.Addr(), "HERD_TOPOLOGY=A").ready()
	network.Silence()
	eventually(t, "H8 the broker to be called away", func() bool { return !a.edge.Metrics().BrokerConnected })
	network.Heal()
	eventually(t, "H8 the broker to be back", func() bool { return a.edge.Metrics().BrokerConnected })
}
