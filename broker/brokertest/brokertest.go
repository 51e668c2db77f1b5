// Package brokertest gives tests a real NATS server in their process, and a proxy to it that
// can simulate a silent network. It knows nothing of the messages.
package brokertest

import (
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"

	"herd/broker"
	"herd/broker/options"
	"herd/test/ports"
)

// Server is a NATS server on a port of its own that runs until the test ends.
type Server struct {
	t      testing.TB
	cfg    broker.EmbeddedConfig
	server *broker.Embedded // nil while stopped
	url    string
}

// Option changes a server before it starts.
type Option func(testing.TB, *broker.EmbeddedConfig)

// JetStream enables JetStream, in a temporary directory that outlives Restart.
func JetStream(t testing.TB, cfg *broker.EmbeddedConfig) { cfg.StoreDir = t.TempDir() }

// Dial connects to a server under a name and waits until it is connected. The connection is closed
// when the test ends.
func Dial(t testing.TB, url, name string) *broker.Conn {
	t.Helper()
	conn, err := broker.Dial(options.Broker{URL: url}, name, broker.Events{}, Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

// Start starts a server. When the test ends, it is stopped and waited for.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, cfg: broker.EmbeddedConfig{Name: "brokertest", Listen: ports.Addr(t), Log: Log(t)}}
	for _, o := range options {
		o(t, &s.cfg)
	}
	s.start()
	t.Cleanup(s.Stop)
	return s
}

func (s *Server) start() {
	s.t.Helper()
	server, err := broker.StartEmbedded(s.cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	s.server, s.url = server, server.URL()
}

// URL returns the server's URL. It stays the same after Restart.
func (s *Server) URL() string { return s.url }

// Addr returns host and port of URL.
func (s *Server) Addr() string {
	u, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host
}

// Embedded returns the server itself, or nil while it is stopped.
func (s *Server) Embedded() *broker.Embedded { return s.server }

// Stop stops the server if it runs, and returns when it has ended.
func (s *Server) Stop() {
	if s.server != nil {
		s.server.Shutdown()
		s.server = nil
	}
}

// Restart stops the server if it runs, and starts it again on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.cfg.Listen = s.Addr()
	s.start()
}

// Log returns a logger that writes to the test's output until the test ends.
func Log(t testing.TB) *slog.Logger {
	w := &output{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// output drops what is written after the test's end, when the testing package would panic.
type output struct {
	mu sync.Mutex
	t  testing.TB
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.t == nil {
		return len(p), nil
	}
	return o.t.Output().Write(p)
}

func (o *output) end() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.t = nil
}

// Network is a TCP proxy that can fall silent: then it still accepts and keeps all
// connections, but forwards nothing, like a network that drops packets.
type Network struct {
	target string
	ln     net.Listener

	mu     sync.Mutex
	healed *sync.Cond
	silent bool
	closed bool
	conns  map[net.Conn]struct{}
	wg     sync.WaitGroup
}

// Proxy starts a proxy to target, "host:port", that runs until the test ends.
func Proxy(t testing.TB, target string) *Network {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &Network{target: target, ln: ln, conns: make(map[net.Conn]struct{})}
	n.healed = sync.NewCond(&n.mu)
	n.wg.Go(n.accept)
	t.Cleanup(n.close)
	return n
}

// Addr returns the proxy's own "host:port".
func (n *Network) Addr() string { return n.ln.Addr().String() }

// Silence stops all forwarding, on old and new connections.
func (n *Network) Silence() { n.set(true) }

// Heal forwards again, including what was held back meanwhile.
func (n *Network) Heal() { n.set(false) }

func (n *Network) set(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
	n.healed.Broadcast()
}

// Cut closes all current connections.
func (n *Network) Cut() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for c := range n.conns {
		c.Close()
	}
}

func (n *Network) accept() {
	for {
		in, err := n.ln.Accept()
		if err != nil {
			return
		}
		if !n.add(in) {
			return
		}
		n.wg.Go(func() { n.forward(in) })
	}
}

// add records a connection, to be closed at the end, and closes it at once if the end has
// come.
func (n *Network) add(c net.Conn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		c.Close()
		return false
	}
	n.conns[c] = struct{}{}
	return true
}

func (n *Network) remove(c net.Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.conns, c)
	c.Close()
}

func (n *Network) forward(in net.Conn) {
	defer n.remove(in)
	if !n.wait() {
		return
	}
	out, err := net.Dial("tcp", n.target)
	if err != nil || !n.add(out) {
		return
	}
	defer n.remove(out)
	var back sync.WaitGroup
	back.Go(func() { n.copy(in, out) })
	n.copy(out, in)
	back.Wait()
}

// copy forwards until either side is closed, then closes both.
func (n *Network) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 32<<10)
	for {
		k, err := from.Read(buf)
		if k > 0 {
			if !n.wait() {
				return
			}
			if _, err := to.Write(buf[:k]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// wait returns true when the network is not silent, or false at the end.
func (n *Network) wait() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for n.silent && !n.closed {
		n.healed.Wait()
	}
	return !n.closed
}

func (n *Network) close() {
	n.ln.Close()
	n.mu.Lock()
	n.closed = true
	for c := range n.conns {
		c.Close()
	}
	n.healed.Broadcast()
	n.mu.Unlock()
	n.wg.Wait()
}
