// Package server is a TCP server for lines: it knows where a line ends, in what
// order answers leave, and when a connection has to go (rules C1, C5, C18
// and C19). A Handler says what a line means; the server knows nothing of commands,
// positions or the herd.
//
// A connection is one goroutine, and holds no buffer while it has nothing to
// say. Answers that wait, for a provider or a journal, get goroutines of their
// own while they do (Answers.Later), and so does what is told between answers
// (Answers.Follow).
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// Handler says what connections are answered.
type Handler interface {
	// Open is called once a connection, after the TLS handshake where there is
	// one, and from any goroutine. address stands for remote's host among others (C18).
	// tls is nil without TLS.
	Open(remote string, address netip.Addr, tls *tls.ConnectionState) Session
}

// An Opener is a connection that brings its session, because it was known before who it is.
// Handler.Open is not called for one that a listener returns.
type Opener interface {
	Open(remote string, address netip.Addr) Session
}

// Session answers one connection. Its methods are called by one goroutine at a
// time.
type Session interface {
	// Take gets all complete lines of one read, each with its LF; the last of a
	// connection may lack it (C1). received is when the read returned (C10). lines
	// and out are good until Take returns. It answers lines from the first on until
	// out has no room for another, one at least, and returns how many bytes those have:
	// the others come again when there is room (C18).
	Take(received time.Time, lines []byte, out *Answers) (taken int)
	// Overlong gets, of a line longer than MaxLine (C5), the first 64 and the last
	// (up to) 16 bytes before its line end. Nobody kept what was between them.
	Overlong(received time.Time, head, tail []byte, out *Answers)
	// Close is called once, when the connection is over and nothing is owed.
	Close()
}

// Recorder writes down what happens (C20). Its methods are called by many
// goroutines, must never block, and keep nothing of the slices that they get.
type Recorder interface {
	Opened(at time.Time, remote string)
	Closed(at time.Time, remote, reason string)
	Certified(at time.Time, remote, subject string)  // a TLS client showed a certificate that was verified
	In(at time.Time, remote string, lines []byte)    // complete lines as received; of an overlong one its head
	Out(at time.Time, remote string, answers []byte) // bytes that are being sent
}

// Config is how a Server serves. A duration or MaxLine of 0 stands for its default.
type Config struct {
	MaxLine          int           // bytes of a line without its end, 64 or more; default 4096 (C5)
	MaxConns         int           // connections at once; 0: no limit (C18)
	MaxPending       int64         // bytes that all connections may have unread, unanswered or waiting; 0: no limit (C18)
	IdleTimeout      time.Duration // without a command; default 15m (C18)
	LineTimeout      time.Duration // from a line's first byte to its end; default 60s (C18)
	WriteTimeout     time.Duration // without progress in writing; default 10s (C18)
	Still            time.Duration // after which a connection that watches is told that it does; default 30s (L6)
	DrainTimeout     time.Duration // for the client to close its side when ours is closed; default 1s (C19)
	TLS              *tls.Config   // nil: plain TCP
	HandshakeTimeout time.Duration // for a TLS handshake; default 10s
	Recorder         Recorder      // nil: none
	Gate             *Gate         // what connections are counted with, in place of MaxConns and MaxPending; nil: one of its own
	Log              *slog.Logger  // nil: none
}

// ErrAborted is what Serve returns after an Abort that cut connections off.
var ErrAborted = errors.New("connections were cut off before they were answered")

// Server serves the connections of one listener. Make it with New.
type Server struct {
	cfg     Config
	handler Handler
	log     *slog.Logger

	conns    sync.WaitGroup
	stopping atomic.Bool
	aborted  atomic.Bool
	// awaiting makes, for one connection, a function that runs an f of Answers.Later with its
	// contexts, and one that ends those contexts.
	awaiting func() (await func(f func(client, stop context.Context) []byte) []byte, over func())

	visitor atomic.Pointer[visitor] // waits for the accept loop to come by
	wake    atomic.Pointer[func()]  // makes the accept loop come by; nil: it has not begun, or cannot be woken
	over    chan struct{}           // closed when it has ended

	gate    *Gate
	tellers tellers

	closed     [reasons]atomic.Uint64
	handshakes struct {
		sync.Mutex
		failed seldom
	}

	buffers sync.Pool // of *buffer, with room for the longest line and more
	small   sync.Pool // of *buffer, of smallSize
	answers sync.Pool // of *Answers
	outs    sync.Pool // of *[]byte, for what is told
}

// New returns a server that has h answer its connections.
func New(cfg Config, h Handler) *Server {
	setDefault(&cfg.MaxLine, 4096)
	setDefault(&cfg.IdleTimeout, 15*time.Minute)
	setDefault(&cfg.LineTimeout, time.Minute)
	setDefault(&cfg.WriteTimeout, 10*time.Second)
	setDefault(&cfg.Still, 30*time.Second)
	setDefault(&cfg.DrainTimeout, time.Second)
	setDefault(&cfg.HandshakeTimeout, 10*time.Second)
	s := &Server{cfg: cfg, handler: h, log: cfg.Log, over: make(chan struct{}), gate: cfg.Gate}
	if s.gate == nil {
		s.gate = NewGate(GateConfig{MaxConns: cfg.MaxConns, MaxPending: cfg.MaxPending, Log: cfg.Log})
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	size := max(32<<10, 2*cfg.MaxLine)
	s.tellers.most = runtime.GOMAXPROCS(0)
	s.buffers.New = func() any { return &buffer{make([]byte, size), &s.buffers} }
	s.small.New = func() any { return &buffer{make([]byte, smallSize), &s.small} }
	s.answers.New = func() any { return new(Answers) }
	s.outs.New = func() any { return new([]byte) }
	return s
}

func setDefault[T int | time.Duration](v *T, otherwise T) {
	if *v == 0 {
		*v = otherwise
	}
}

// Serve accepts and serves until ctx ends; then it stops (C19): it closes ln and
// reads no more, ends the contexts of answers that wait, answers every line that it
// has read, closes its side of each connection, gives the clients DrainTimeout to
// close theirs, and returns nil when all is over. It returns an error if ln fails
// for good, after the same stop, or ErrAborted. A Server serves once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	BoundBuffers(ln)
	s.awaiting = awaitingUnder(ctx)

	closed := make(chan struct{})
	unclosed := context.AfterFunc(ctx, func() {
		_ = ln.Close() // the accept loop sees it
		close(closed)
	})
	err := s.accept(ctx, ln)
	close(s.over)
	if unclosed() {
		_ = ln.Close()
	} else {
		<-closed
	}

	cancel()
	s.stopReading()
	s.conns.Wait()
	if s.aborted.Load() {
		return errors.Join(err, ErrAborted)
	}
	return err
}

// awaitingUnder is Server.awaiting of a server that stops when ctx ends.
func awaitingUnder(ctx context.Context) func() (await func(f func(client, stop context.Context) []byte) []byte, over func()) {
	return func() (func(f func(client, stop context.Context) []byte) []byte, func()) {
		client, lose := context.WithCancel(context.WithoutCancel(ctx))
		stop, end := context.WithCancel(ctx)
		return func(f func(client, stop context.Context) []byte) []byte { return f(client, stop) }, func() { lose(); end() }
	}
}

// stopReading wakes every connection that waits for its client.
func (s *Server) stopReading() {
	s.stopping.Store(true) // whoever sets a deadline from now on sees it
	s.gate.each(func(entered Evictable) {
		if c, ok := entered.(*conn); ok && c.s == s {
			_ = c.socket.SetReadDeadline(longAgo)
		}
	})
}

// Abort closes every connection at once, whatever it is owed: for when a stop
// took too long. It is harmless when the stop is complete.
func (s *Server) Abort() {
	var open []*conn
	s.gate.each(func(entered Evictable) {
		if c, ok := entered.(*conn); ok && c.s == s {
			open = append(open, c)
		}
	})
	for _, c := range open {
		s.aborted.Store(true)
		c.cut(byStop)
	}
}

// Gate is what bounds the server's connections. Another listener may share it.
func (s *Server) Gate() *Gate { return s.gate }

// Stats counts since the server began. Accepted is Connections and all of Closed, where
// nobody else shares the gate.
type Stats struct {
	GateStats
	Closed map[string]uint64 // by reason: client, idle, line, write, evicted, address, http, stop, error, tls
}

// Stats may be called from any goroutine.
func (s *Server) Stats() Stats {
	st := Stats{GateStats: s.gate.Stats(), Closed: make(map[string]uint64, reasons)}
	for r := undecided + 1; r < reasons; r++ {
		st.Closed[r.String()] = s.closed[r].Load()
	}
	return st
}

// leave takes c out of what counts.
func (s *Server) leave(c *conn, why reason) {
	s.gate.Leave(&c.entry)
	s.closed[why].Add(1)
}

// clock is t as a connection keeps it: nanoseconds since about the server's beginning, by the
// monotonic clock. It is never 0.
func (s *Server) clock(t time.Time) int64 { return s.gate.clock(t) }

// now is the present moment as a connection keeps it.
func (s *Server) now() int64 { return s.clock(time.Now()) }

// reason says why a connection was closed.
type reason int32

const (
	undecided  reason = iota
	byClient          // it closed its side, or reset
	byIdle            // no command for IdleTimeout
	byLine            // a line not complete in LineTimeout
	byWrite           // no progress in writing for WriteTimeout
	byEviction        // gave way to a newcomer, as the longest idle
	byAddress         // gave way to a newcomer, as one of an address that has more
	byHandler         // Answers.Close
	byStop
	byError
	byTLS // the handshake failed
	reasons
)

func (r reason) String() string {
	return [reasons]string{"", "client", "idle", "line", "write", "evicted", "address", "http", "stop", "error", "tls"}[r]
}
