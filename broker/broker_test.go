package broker_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"go.uber.org/goleak"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
	"herd/test/ports"
)

func TestMain(m *testing.M) {
	// A server that ends leaves the goroutine that waits for the origin of a mirror, for up
	// to ten seconds.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/nats-io/nats-server/v2/server.(*stream).setupMirrorConsumer.func3"))
}

const (
	patience    = time.Minute // limit on every wait of a test, on a machine of any speed and load
	clarkEpoch  = "0123456789abcdef-01234567"
	jaquezEpoch = "fedcba9876543210-89abcdef"
)

// witness records the events of a connection.
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

// take returns the next value of ch, and fails the test if none arrives.
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

// dial connects to the broker of o until the test ends, and does not wait for the connection.
func dial(t *testing.T, o options.Broker) (*broker.Conn, *witness) {
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
	c, w := dial(t, options.Broker{URL: url})
	if first := take(t, w.connected, "connection"); !first {
		t.Error("the first connection is not called so")
	}
	return c, w
}

// link links the edges Clark, on c, and Jaquez, on j. It returns Clark's end and what Jaquez
// receives.
func link(t *testing.T, c, j *broker.Conn) (*broker.Neighbour, <-chan broker.Message) {
	t.Helper()
	got := make(chan broker.Message, 100)
	if err := j.Neighbour("herd", "Jaquez", "Clark").Listen(broker.Handlers{Message: func(m broker.Message) { got <- m }}); err != nil {
		t.Fatal(err)
	}
	return c.Neighbour("herd", "Clark", "Jaquez"), got
}

// say sends one message from n and waits until it is received.
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
	c, w := dial(t, options.Broker{URL: s.URL()})
	if c.Connected() || c.MaxPayload() != 0 {
		t.Error("it is connected to nothing")
	}
	if got := c.Server(); got != s.URL() {
		t.Errorf("it is on its way to %q, want %q", got, s.URL())
	}
	n, got := link(t, c, c) // NoEcho: nobody will receive it
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
	c, _ := dial(t, options.Broker{URL: s.URL()})
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
	// Jaquez is subscribed when it is reported connected: nothing is sent twice here.
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

	// nats.go does not reconnect after a control line over 4096 bytes.
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
	if statuses, err := statuses(t, j); err != nil || len(statuses) != 1 {
		t.Errorf("the service is %s, %v", statuses, err)
	}

	// nats.go reconnects this connection too if it can.
	s.Restart()
	take(t, w.connected, "connection")
	take(t, jw.connected, "connection")
	say(t, n, got, "after a restart")
	if statuses, err := statuses(t, j); err != nil || len(statuses) != 1 {
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
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for n.Send(&m) == nil {
		}
	}()
	take(t, ended, "error of a Send, which waits or has room for ever")
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

func TestCloseLeavesNothingBehind(t *testing.T) { // goleak, in TestMain, checks the rest
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
	accepting.Go(func() { // a broker that accepts connections and closes them before it confirms anything
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
	c, w := dial(t, options.Broker{URL: "nats://" + ln.Addr().String() + "," + s.URL()})
	if first := take(t, w.connected, "connection"); !first {
		t.Error("an earlier connection was told")
	}
	if c.Server() != s.URL() || len(w.disconnected) > 0 {
		t.Errorf("connected to %s, %d lost before", c.Server(), len(w.disconnected))
	}
}

// memory is a log whose content can be read.
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

// guarded is a server with one user, Clark, and this password.
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

// change changes Clark's password, and disconnects clients that used the old one.
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
	c, err := broker.Dial(options.Broker{URL: url}, "Clark", w.events(), slog.New(slog.NewTextHandler(log, nil)))
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
	// The second refusal would close a connection of nats.go for good.
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
	c, err := broker.Dial(options.Broker{URL: g.server.ClientURL(), User: "Clark", Password: options.NewSecret("open sesame")}, "Clark",
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
	for range 100 { // the same error each time
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

// statuses asks all edges that answer for their status.
func statuses(t *testing.T, c *broker.Conn) (all []json.RawMessage, err error) {
	t.Helper()
	edges, _, err := c.Edges(soon(t), "herd")
	if err != nil {
		return nil, err
	}
	var problems []error
	for _, edge := range edges {
		answer, err := c.Status(soon(t), "herd", edge, nil)
		if err == nil {
			all = append(all, answer)
		}
		problems = append(problems, err)
	}
	return all, errors.Join(problems...)
}

// awaitCluster waits until a server reports this many servers to its clients, including
// itself.
func awaitCluster(t *testing.T, url string, servers int) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) { // there is no event to wait for
		nc, err := net.Dial("tcp", strings.TrimPrefix(url, "nats://"))
		if err != nil {
			t.Fatal(err)
		}
		hello, err := bufio.NewReader(nc).ReadString('\n')
		nc.Close()
		var info struct {
			URLs []string `json:"connect_urls"`
		}
		if err == nil {
			err = json.Unmarshal([]byte(strings.TrimPrefix(hello, "INFO ")), &info)
		}
		if err != nil {
			t.Fatalf("%q: %v", hello, err)
		}
		if len(info.URLs) == servers {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s tells of %q, want %d servers", url, info.URLs, servers)
		}
	}
}

// A client that knows one server of a cluster goes to another as soon as the first is gone,
// even if it stays gone.
func TestAnotherServerOfTheClusterTakesOver(t *testing.T) {
	dir := t.TempDir()
	var files, routes []string
	for range 3 {
		routes = append(routes, ports.Addr(t))
	}
	for i, route := range routes {
		files = append(files, filepath.Join(dir, fmt.Sprint(i, ".conf")))
		text := fmt.Sprintf("server_name: node%d\nlisten: 127.0.0.1:-1\ncluster { name: c, listen: %q, routes: [\"nats://%s\"] }\n",
			i, route, strings.Join(routes, `", "nats://`))
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	servers := brokertest.StartConfigured(t, files...)
	c, w := connect(t, servers[0].URL())
	heard := make(chan string, 1)
	n := c.Neighbour("herd", "A", "B")
	if err := n.Listen(broker.Handlers{Message: func(m broker.Message) { heard <- string(m.Lines) }}); err != nil {
		t.Fatal(err)
	}
	for left := len(servers); left > 1; left-- {
		at := slices.IndexFunc(servers, func(s *brokertest.Configured) bool { return s != nil && s.URL() == c.Server() })
		if at < 0 {
			t.Fatalf("connected to %s", c.Server())
		}
		awaitCluster(t, c.Server(), left)
		if err := c.Flush(soon(t)); err != nil { // now it has read of the other servers too
			t.Fatal(err)
		}
		start := time.Now()
		servers[at].Stop()
		servers[at] = nil
		take(t, w.disconnected, "loss of the connection")
		take(t, w.connected, "connection")
		t.Logf("usable again %v after its server began to stop", time.Since(start))
		other, _ := connect(t, c.Server())
		if err := other.Neighbour("herd", "B", "A").Send(&broker.Message{Epoch: jaquezEpoch, Lines: []byte("still here")}); err != nil {
			t.Fatal(err)
		}
		if got := take(t, heard, "message"); got != "still here" {
			t.Errorf("heard %q", got)
		}
	}
}
