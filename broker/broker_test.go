package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"herd/broker"
	"herd/broker/brokertest"
)

func TestMain(m *testing.M) {
	// A server that ends does not take along the goroutine that waits for the origin of a
	// mirror, which may be ten seconds.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*stream).setupMirrorConsumer.func3"))
}

const (
	patience    = 20 * time.Second // of a test on a loaded machine
	clarkEpoch  = "0123456789abcdef-01234567"
	jaquezEpoch = "fedcba9876543210-89abcdef"
)

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

func soon(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// dial connects to the broker of o until the test ends, and does not wait.
func dial(t *testing.T, o broker.Options) (*broker.Conn, *witness) {
	t.Helper()
	w := newWitness()
	c, err := broker.Dial(o, t.Name(), w.events(), brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, w
}

// connect dials url and waits until it is connected.
func connect(t *testing.T, url string) (*broker.Conn, *witness) {
	t.Helper()
	c, w := dial(t, broker.Options{URL: url})
	if first := take(t, w.connected, "connection"); !first {
		t.Error("the first connection is not called so")
	}
	return c, w
}

// link joins the edges Clark, on c, and Jaquez, on j, and returns Clark's end
// and what Jaquez hears.
func link(t *testing.T, c, j *broker.Conn) (*broker.Neighbour, <-chan broker.Message) {
	t.Helper()
	got := make(chan broker.Message, 100)
	if err := j.Neighbour("herd", "Jaquez", "Clark").Listen(broker.Handlers{Message: func(m broker.Message) { got <- m }}); err != nil {
		t.Fatal(err)
	}
	return c.Neighbour("herd", "Clark", "Jaquez"), got
}

// say sends one message that n says, and waits until it is heard.
func say(t *testing.T, n *broker.Neighbour, got <-chan broker.Message, text string) {
	t.Helper()
	if err := n.Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte(text)}); err != nil {
		t.Fatalf("send %q: %v", text, err)
	}
	if m := take(t, got, text); string(m.Lines) != text {
		t.Errorf("heard %q, want %q", m.Lines, text)
	}
}

func TestDialDoesNotWaitForABroker(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	s.Stop()
	c, w := dial(t, broker.Options{URL: s.URL()})
	if c.Connected() || c.MaxPayload() != 0 {
		t.Error("it is connected to nothing")
	}
	if got := c.Server(); got != s.URL() {
		t.Errorf("it is on its way to %q, want %q", got, s.URL())
	}
	n, got := link(t, c, c) // NoEcho: nobody will hear
	for what, err := range map[string]error{
		"send":  n.Send(&broker.Message{Epoch: clarkEpoch}),
		"ack":   n.Ack(broker.Ack{Epoch: clarkEpoch}),
		"alive": c.Alive(soon(t)),
		"claim": c.ClaimName("herd", "Clark", clarkEpoch),
	} {
		if !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("%s: %v, want %v", what, err, broker.ErrNotConnected)
		}
	}
	if _, err := n.AskJoin(soon(t), "c"); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("ask to join: %v, want %v", err, broker.ErrNobody)
	}
	if _, _, err := c.AskName(soon(t), "herd", "Clark"); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("ask for a name: %v, want %v", err, broker.ErrNotConnected)
	}

	s.Restart()
	if first := take(t, w.connected, "connection"); !first {
		t.Error("the first connection is not called so")
	}
	if err := c.Wait(soon(t)); err != nil {
		t.Error(err)
	}
	if !c.Connected() || c.MaxPayload() != 1<<20 {
		t.Errorf("connected: %v, largest message %d", c.Connected(), c.MaxPayload())
	}
	if err := c.Alive(soon(t)); err != nil {
		t.Error(err)
	}
	other, _ := connect(t, s.URL())
	say(t, other.Neighbour("herd", "Clark", "Jaquez"), got, "the subscription of before")
}

func TestWaitTellsWhyThereIsNoConnection(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	s.Stop()
	c, _ := dial(t, broker.Options{URL: s.URL()})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err := c.Wait(ctx)
	if err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v, want that the connection is refused", err)
	}
}

func TestBothFindEachOtherWhenTheBrokerIsBack(t *testing.T) { // H6
	t.Parallel()
	s := brokertest.Start(t)
	c, cw := connect(t, s.URL())
	j, jw := connect(t, s.URL())
	n, got := link(t, c, j)
	say(t, n, got, "before")

	s.Stop()
	take(t, cw.disconnected, "loss of the connection")
	take(t, jw.disconnected, "loss of the connection")
	if c.Connected() || c.MaxPayload() != 0 {
		t.Error("it is still connected")
	}
	if err := n.Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte("lost")}); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("send: %v, want %v", err, broker.ErrNotConnected)
	}

	s.Restart()
	// Jaquez is subscribed when it is said to be connected: nothing is sent twice here.
	for _, w := range []*witness{cw, jw} {
		if first := take(t, w.connected, "connection"); first {
			t.Error("the second connection is called the first")
		}
	}
	say(t, n, got, "after")
}

func TestAConnectionThatTheServerEndsForEverIsMadeAnew(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	c, w := connect(t, s.URL())
	j, jw := connect(t, s.URL())
	n, got := link(t, c, j)
	fromJaquez := make(chan broker.Message, 1)
	if err := n.Listen(broker.Handlers{Message: func(m broker.Message) { fromJaquez <- m }}); err != nil {
		t.Fatal(err)
	}
	serve(t, c, "Clark")

	// A control line over 4096 bytes is what nats.go does not reconnect after.
	deadly := c.Neighbour(strings.Repeat("x", 5000), "Clark", "Jaquez")
	if err := deadly.Send(&broker.Message{Epoch: clarkEpoch}); err != nil {
		t.Fatal(err)
	}
	if err := take(t, w.disconnected, "loss of the connection"); err == nil || !strings.Contains(err.Error(), "maximum control line") {
		t.Errorf("lost because %v, want the server's words", err)
	}
	if first := take(t, w.connected, "connection"); first {
		t.Error("the second connection is called the first")
	}
	say(t, n, got, "from the new connection")
	if err := j.Neighbour("herd", "Jaquez", "Clark").Send(&broker.Message{Epoch: jaquezEpoch, Lines: []byte("to it")}); err != nil {
		t.Fatal(err)
	}
	if m := take(t, fromJaquez, "message"); string(m.Lines) != "to it" {
		t.Errorf("heard %q", m.Lines)
	}
	if statuses, err := j.Statuses(soon(t), "herd"); err != nil || len(statuses) != 1 {
		t.Errorf("the service is %s, %v", statuses, err)
	}

	// And that one too is made anew by nats.go where it can.
	s.Restart()
	take(t, w.connected, "connection")
	take(t, jw.connected, "connection")
	say(t, n, got, "after a restart")
	if statuses, err := j.Statuses(soon(t), "herd"); err != nil || len(statuses) != 1 {
		t.Errorf("after a restart the service is %s, %v", statuses, err)
	}
}

func TestASilentBrokerIsNoticedAndLeft(t *testing.T) { // H8
	t.Parallel()
	s := brokertest.Start(t)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	j, _ := connect(t, s.URL())
	n, got := link(t, c, j)
	say(t, n, got, "before")

	network.Silence()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := c.Alive(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("alive: %v, want %v", err, context.DeadlineExceeded)
	}
	if err := c.Reconnect(); err != nil {
		t.Fatal(err)
	}
	take(t, w.disconnected, "loss of the connection")
	if err := n.Send(&broker.Message{Epoch: clarkEpoch}); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("send: %v, want %v", err, broker.ErrNotConnected)
	}

	network.Heal()
	take(t, w.connected, "connection")
	say(t, n, got, "after")
}

func TestSendDoesNotWaitLongForABrokerThatDoesNotRead(t *testing.T) {
	t.Parallel()
	if os.Getenv("HERD_TEST") != "full" {
		t.Skip("skipped: set HERD_TEST=full")
	}
	s := brokertest.Start(t)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	j, _ := connect(t, s.URL())
	n, got := link(t, c, j)
	network.Silence()
	m := broker.Message{Epoch: clarkEpoch, Lines: bytes.Repeat([]byte("x"), 64<<10)}
	for start := time.Now(); ; {
		before := time.Now()
		err := n.Send(&m)
		if waited := time.Since(before); waited > 4*time.Second {
			t.Fatalf("one Send took %v", waited)
		}
		if err != nil {
			break
		}
		if time.Since(start) > patience {
			t.Fatal("there is always room")
		}
	}
	take(t, w.disconnected, "loss of the connection")
	network.Heal()
	take(t, w.connected, "connection")
	for text := ""; text != "after"; {
		if err := n.Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte("after")}); err != nil {
			t.Fatal(err)
		}
		text = string(take(t, got, "message").Lines)
	}
}

func TestCloseLeavesNothingBehind(t *testing.T) { // goleak, in TestMain, sees the rest
	s := brokertest.Start(t)
	c, w := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	entered, leave := make(chan bool), make(chan bool)
	if err := j.Neighbour("herd", "Jaquez", "Clark").Listen(broker.Handlers{Message: func(broker.Message) {
		entered <- true
		<-leave
	}}); err != nil {
		t.Fatal(err)
	}
	n := c.Neighbour("herd", "Clark", "Jaquez")
	if err := n.Send(&broker.Message{Epoch: clarkEpoch}); err != nil {
		t.Fatal(err)
	}
	take(t, entered, "message")
	closed := make(chan bool)
	go func() {
		j.Close()
		close(closed)
	}()
	select {
	case <-closed:
		t.Error("closed while a handler runs")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	take(t, closed, "end of Close")

	c.Close()
	c.Close()
	if c.Connected() {
		t.Error("connected after Close")
	}
	if err := c.Reconnect(); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("reconnect: %v, want %v", err, broker.ErrClosed)
	}
	if err := n.Listen(broker.Handlers{Message: func(broker.Message) {}}); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("listen: %v, want %v", err, broker.ErrClosed)
	}
	if err := n.Send(&broker.Message{Epoch: clarkEpoch}); err == nil {
		t.Error("sent after Close")
	}
	if err := c.Wait(soon(t)); !errors.Is(err, broker.ErrClosed) {
		t.Errorf("wait: %v, want %v", err, broker.ErrClosed)
	}
	if len(w.disconnected) > 0 {
		t.Error("an event after Close")
	}
}

func TestAConnectionThatIsNotConfirmedIsNotTold(t *testing.T) { // H6
	s := brokertest.Start(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var accepting sync.WaitGroup
	defer accepting.Wait()
	defer ln.Close()
	accepting.Go(func() { // a broker that lets in, and is gone before it confirms anything
		for range 2 {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(conn, "INFO {\"max_payload\":1000,\"headers\":true}\r\n")
			lines := bufio.NewScanner(conn)
			for pings := 0; pings < 2 && lines.Scan(); {
				if lines.Text() == "PING" {
					if pings++; pings == 1 {
						fmt.Fprintf(conn, "PONG\r\n")
					}
				}
			}
			conn.Close()
		}
		ln.Close()
	})
	c, w := dial(t, broker.Options{URL: "nats://" + ln.Addr().String() + "," + s.URL()})
	if first := take(t, w.connected, "connection"); !first {
		t.Error("an earlier connection was told")
	}
	if c.Server() != s.URL() || len(w.disconnected) > 0 {
		t.Errorf("connected to %s, %d lost before", c.Server(), len(w.disconnected))
	}
}

// memory is a log that can be looked into.
type memory struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// guarded is a server of whom one must be Clark with this password.
type guarded struct{ server *server.Server }

func startGuarded(t *testing.T, password string) *guarded {
	t.Helper()
	g := &guarded{}
	s, err := server.NewServer(g.options(password, -1))
	if err != nil {
		t.Fatal(err)
	}
	g.server = s
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return g
}

func (g *guarded) options(password string, port int) *server.Options {
	return &server.Options{
		Host: "127.0.0.1", Port: port, NoSigs: true, NoLog: true,
		Users: []*server.User{{Username: "Clark", Password: password, Permissions: &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: []string{"herd.at.Clark.Jaquez"}},
			Subscribe: &server.SubjectPermission{Allow: []string{"herd.at.Jaquez.Clark"}},
		}}},
	}
}

// change gives Clark another password, and drops those who used the old one.
func (g *guarded) change(t *testing.T, password string) {
	t.Helper()
	if err := g.server.ReloadOptions(g.options(password, g.server.Addr().(*net.TCPAddr).Port)); err != nil {
		t.Fatal(err)
	}
}

func TestRightsThatComeBackAreEnough(t *testing.T) {
	t.Parallel()
	g := startGuarded(t, "open sesame")
	log, w := &memory{}, newWitness()
	url := strings.Replace(g.server.ClientURL(), "://", "://Clark:open%20sesame@", 1)
	c, err := broker.Dial(broker.Options{URL: url}, "Clark", w.events(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	take(t, w.connected, "connection")
	g.change(t, "close sesame")
	take(t, w.disconnected, "loss of the connection")
	for err := error(nil); err == nil || !strings.Contains(err.Error(), "authorization violation"); {
		err = take(t, w.complaints, "refusal")
	}
	// The second refusal would end a connection of nats.go for ever.
	attempts := func() uint64 {
		v, err := g.server.Varz(nil)
		if err != nil {
			t.Fatal(err)
		}
		return v.TotalConnections
	}
	for before, end := attempts(), time.Now().Add(patience); attempts() < before+3; {
		if time.Now().After(end) {
			t.Fatal("it has given up")
		}
	}
	g.change(t, "open sesame")
	take(t, w.connected, "connection")
	if text := log.String() + c.Server() + fmt.Sprint(c.Wait(soon(t))); strings.Contains(text, "sesame") {
		t.Errorf("the password is in the log:\n%s", text)
	}
}

func TestLackOfRightsIsToldInTheServersWords(t *testing.T) {
	g := startGuarded(t, "open sesame")
	log, w := &memory{}, newWitness()
	c, err := broker.Dial(broker.Options{URL: g.server.ClientURL(), User: "Clark", Password: broker.NewSecret("open sesame")}, "Clark",
		w.events(), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	take(t, w.connected, "connection")
	allowed, denied := c.Neighbour("herd", "Clark", "Jaquez"), c.Neighbour("herd", "Clark", "Bernard")
	if err := allowed.Send(&broker.Message{Epoch: clarkEpoch}); err != nil {
		t.Error(err)
	}
	for range 100 { // says the same each time
		if err := denied.Send(&broker.Message{Epoch: clarkEpoch}); err != nil {
			t.Error(err)
		}
	}
	want := `Permissions Violation for Publish to "herd.at.Clark.Bernard"`
	if err := take(t, w.complaints, "complaint"); !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	if err := c.Alive(soon(t)); err != nil {
		t.Errorf("the connection is gone: %v", err)
	}
	if err := denied.Listen(broker.Handlers{Message: func(broker.Message) {}}); err != nil {
		t.Error(err)
	}
	want = `Permissions Violation for Subscription to "herd.at.Bernard.Clark"`
	for err := error(nil); err == nil || !strings.Contains(err.Error(), want); {
		err = take(t, w.complaints, "complaint")
	}
	if n := strings.Count(log.String(), "herd.at.Clark.Bernard"); n == 0 || n > 20 {
		t.Errorf("the same complaint is logged %d times", n)
	}
}
