// Package brokertest gives tests a real NATS server inside their process, and
// a network between it and them that can fall silent. It knows nothing of what
// is said over it.
package brokertest

import (
	"log/slog"
	"net"
	"net/url"
	"sync"
	"testing"

	"herd/broker"
)

// Server is a NATS server on a port of its own, until the test ends.
type Server struct {
	t      testing.TB
	cfg    broker.EmbeddedConfig
	server *broker.Embedded // nil while stopped
	url    string
}

// Option changes a server before it starts.
type Option func(testing.TB, *broker.EmbeddedConfig)

// JetStream gives the server JetStream, in a temporary folder that outlives
// Restart.
func JetStream(t testing.TB, cfg *broker.EmbeddedConfig) { cfg.StoreDir = t.TempDir() }

// Start starts a server. It is stopped, and waited for, when the test ends.
func Start(t testing.TB, options ...Option) *Server {
	t.Helper()
	s := &Server{t: t, cfg: broker.EmbeddedConfig{Name: "brokertest", Listen: "127.0.0.1:0", Log: Log(t)}}
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

// URL is where the server listens. It stays the same after Restart.
func (s *Server) URL() string { return s.url }

// Addr is host and port of URL.
func (s *Server) Addr() string {
	u, err := url.Parse(s.url)
	if err != nil {
		s.t.Fatal(err)
	}
	return u.Host
}

// Embedded is the server itself, nil while it is stopped.
func (s *Server) Embedded() *broker.Embedded { return s.server }

// Stop stops the server, if it runs, and returns when it is gone.
func (s *Server) Stop() {
	if s.server != nil {
		s.server.Shutdown()
		s.server = nil
	}
}

// Restart stops the server, if it runs, and starts it again on the same port.
func (s *Server) Restart() {
	s.t.Helper()
	s.Stop()
	s.cfg.Listen = s.Addr()
	s.start()
}

// Log writes to the test's output, as long as the test runs.
func Log(t testing.TB) *slog.Logger {
	w := &output{t: t}
	t.Cleanup(w.end)
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// output drops what comes after the test's end: the testing package would
// panic.
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

// Network is a TCP proxy that can fall silent: then it still accepts and keeps
// every connection, and forwards nothing, as a network does that lost its way.
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

// Proxy starts a proxy to target, "host:port", until the test ends.
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

// Addr is the proxy's own "host:port".
func (n *Network) Addr() string { return n.ln.Addr().String() }

// Silence stops all forwarding, on old connections and new.
func (n *Network) Silence() { n.set(true) }

// Heal lets everything through again, also what was held back meanwhile.
func (n *Network) Heal() { n.set(false) }

func (n *Network) set(silent bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.silent = silent
	n.healed.Broadcast()
}

// Cut closes every connection that there is.
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

// add remembers a connection, to close it at the end. It closes it at once
// where that has come.
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

// wait returns when the network is not silent; false at the end.
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

// FreeAddr is an address of this machine where nobody listens just now: the routes of a
// cluster need theirs before any server runs.
func FreeAddr(t testing.TB) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
}
