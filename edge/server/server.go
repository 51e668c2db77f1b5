// Package server is a TCP server for lines: it knows where a line ends, in what
// order answers leave, and when a connection has to go (rules C1, C5, C16 to C19
// and the times of C18). What a line means it leaves to a Handler; it knows
// nothing of commands, positions or the herd.
//
// A connection is one goroutine, and holds no buffer while it has nothing to
// say. Answers that wait, for a provider or a journal, get goroutines of their
// own while they do (Answers.Later).
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Handler says what connections are answered.
type Handler interface {
	// Open is called once a connection, after the TLS handshake where there is
	// one, and from any goroutine. tls is nil without TLS.
	Open(remote string, tls *tls.ConnectionState) Session
}

// Session answers one connection. Its methods are called by one goroutine at a
// time.
type Session interface {
	// Take gets all complete lines of one read, each with its LF; the last of a
	// connection may lack it (C1). received is when the read returned (C10). lines
	// and out are good until Take returns. out may make Take wait for a client
	// that does not read its answers (C18), so no lock is to be held.
	Take(received time.Time, lines []byte, out *Answers)
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
	IdleTimeout      time.Duration // without a command; default 15m (C18)
	LineTimeout      time.Duration // from a line's first byte to its end; default 60s (C18)
	WriteTimeout     time.Duration // without progress in writing; default 10s (C18)
	DrainTimeout     time.Duration // for the client to close its side when ours is closed; default 1s (C19)
	TLS              *tls.Config   // nil: plain TCP
	HandshakeTimeout time.Duration // for a TLS handshake; default 10s
	Recorder         Recorder      // nil: none
	Log              *slog.Logger  // nil: none
}

// ErrAborted is what Serve returns after an Abort that cut connections off.
var ErrAborted = errors.New("connections were cut off before they were answered")

// Server serves the connections of one listener. Make it with New.
type Server struct {
	cfg     Config
	handler Handler
	log     *slog.Logger
	start   time.Time // what the times of connections count from; a little early, so that none is 0

	conns    sync.WaitGroup
	stopping atomic.Bool
	aborted  atomic.Bool
	await    func(f func(context.Context) []byte) []byte // calls f with a context that ends when the server stops

	mu   sync.Mutex
	open open // every connection that counts, by when it last had a command

	accepted, refused atomic.Uint64
	closed            [reasons]atomic.Uint64
	handshakes        struct {
		sync.Mutex
		failed seldom
	}

	buffers sync.Pool // of *buffer, with room for the longest line and more
	small   sync.Pool // of *buffer, of smallSize
	answers sync.Pool // of *Answers
}

// New returns a server that has h answer its connections.
func New(cfg Config, h Handler) *Server {
	setDefault(&cfg.MaxLine, 4096)
	setDefault(&cfg.IdleTimeout, 15*time.Minute)
	setDefault(&cfg.LineTimeout, time.Minute)
	setDefault(&cfg.WriteTimeout, 10*time.Second)
	setDefault(&cfg.DrainTimeout, time.Second)
	setDefault(&cfg.HandshakeTimeout, 10*time.Second)
	s := &Server{cfg: cfg, handler: h, log: cfg.Log, start: time.Now().Add(-time.Second)}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	size := max(32<<10, 2*cfg.MaxLine)
	s.buffers.New = func() any { return &buffer{make([]byte, size), &s.buffers} }
	s.small.New = func() any { return &buffer{make([]byte, smallSize), &s.small} }
	s.answers.New = func() any { return new(Answers) }
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
	s.await = func(f func(context.Context) []byte) []byte { return f(ctx) }

	closed := make(chan struct{})
	unclosed := context.AfterFunc(ctx, func() {
		_ = ln.Close() // the accept loop sees it
		close(closed)
	})
	err := s.accept(ctx, ln)
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

// accept takes connections in until ctx ends, which gives nil, or ln fails for good.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	var failed, full, evicted seldom
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil:
			return nil
		case !passes(err):
			return fmt.Errorf("accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if n, ok := failed.now(); ok {
				s.log.Warn("accept failed, trying on", "error", err, "times", n)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}

		c, victim, room := s.admit(nc)
		if victim != nil {
			victim.cut(byEviction)
			if n, ok := evicted.now(); ok {
				s.log.Warn("connections full, the longest idle gave way", "limit", s.cfg.MaxConns, "times", n)
			}
		}
		if !room {
			_ = nc.Close()
			if n, ok := full.now(); ok {
				s.log.Warn("connections full, newcomer refused", "limit", s.cfg.MaxConns, "times", n)
			}
			continue
		}
		s.conns.Go(c.begin)
	}
}

// stopReading wakes every connection that waits for its client.
func (s *Server) stopReading() {
	s.stopping.Store(true) // whoever sets a deadline from now on sees it
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.open {
		_ = c.socket.SetReadDeadline(longAgo)
	}
}

// Abort closes every connection at once, whatever it is owed: for when a stop
// took too long. It is harmless when the stop is complete.
func (s *Server) Abort() {
	s.mu.Lock()
	open := append([]*conn(nil), s.open...)
	s.mu.Unlock()
	for _, c := range open {
		s.aborted.Store(true)
		c.cut(byStop)
	}
}

// Stats counts since the server began. Accepted is Connections and all of Closed.
type Stats struct {
	Connections int               // open now
	Accepted    uint64            // taken in
	Refused     uint64            // closed at once because the server was full (C18)
	Closed      map[string]uint64 // by reason: client, idle, line, write, evicted, http, stop, error, tls
}

// Stats may be called from any goroutine.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	open := len(s.open)
	s.mu.Unlock()
	st := Stats{Connections: open, Accepted: s.accepted.Load(), Refused: s.refused.Load(), Closed: make(map[string]uint64, reasons)}
	for r := undecided + 1; r < reasons; r++ {
		st.Closed[r.String()] = s.closed[r].Load()
	}
	return st
}

// reason says why a connection was closed.
type reason int32

const (
	undecided  reason = iota
	byClient          // it closed its side, or reset
	byIdle            // no command for IdleTimeout
	byLine            // a line not complete in LineTimeout
	byWrite           // no progress in writing for WriteTimeout
	byEviction        // gave way to a newcomer
	byHandler         // Answers.Close
	byStop
	byError
	byTLS // the handshake failed
	reasons
)

func (r reason) String() string {
	return [reasons]string{"", "client", "idle", "line", "write", "evicted", "http", "stop", "error", "tls"}[r]
}
