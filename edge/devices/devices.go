// Package devices is the port for clients that do not speak lines over TCP (V): apps that post
// positions over HTTP, and browsers with a WebSocket. A parser per format turns what is sent into
// positions, as pure functions on bytes;
// edge/command stores them and says what was promised; the answer tells an app whether
// to keep them. A WebSocket's lines are served by a server of edge/server, as those over TCP are.
//
// It knows HTTP, users and passwords, and what apps send. It knows nothing of the table, of neighbours,
// of NATS, or of what the page for people shows.
package devices

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"herd/edge/command"
	"herd/edge/httplog"
	"herd/edge/server"
)

const (
	headerTimeout = 10 * time.Second // V4
	bodyTimeout   = 60 * time.Second // V4
	idleTimeout   = 2 * time.Minute  // between two requests of a connection
	maxHeader     = 16 << 10         // bytes
	lookEvery     = time.Second      // for a changed file of users
	retryAfter    = "5"              // seconds, with 503
)

// A Who is on whose behalf a connection asks.
type Who struct {
	User  string   // who may report this id and those below it (V5); "": nobody in particular
	Bound bool     // a certificate names the only ids that may be reported:
	IDs   []string // these
}

// Config is how a Server serves. Gate, Caller, Session and Wall must be set.
type Config struct {
	// Lines is how WebSockets are served (V2): its limits hold for them, its Recorder and its
	// WriteTimeout for all.
	Lines server.Config
	Gate  *server.Gate // what the client port counts its connections with (V1)
	TLS   *tls.Config  // nil: plain HTTP
	// Identities are the ids that a verified certificate binds a caller to; nil: to none.
	Identities func(*tls.ConnectionState) []string
	// Caller makes who asks, from an address.
	Caller func(from netip.Addr, who Who) *command.Caller
	// Session is a caller's commands as lines.
	Session func(*command.Caller) server.Session
	Users   string   // the file of users; "": anybody may (V5)
	Origins []string // HOST, HOST:PORT or SCHEME://HOST:PORT (V2)
	// Page answers for people: GET / without a query, and paths below /page/ (V3). nil: a page
	// that says what the port is for. Its requests have no credentials in their path.
	Page http.Handler
	// Wall is what this edge's clock shows at a moment, in Unix nanoseconds.
	Wall        func(time.Time) int64
	StopTimeout time.Duration // how long a stop waits for who is owed an answer; default 1s
	Log         *slog.Logger  // nil: none
}

// Server is the listener for devices. Make it with New.
type Server struct {
	cfg     Config
	log     *slog.Logger
	origins []site
	users   *users // nil: anybody may
	checks  turns  // of passwords
	bodies  *bodies
	lines   *server.Server
	sockets *sockets
	reports sync.Pool // of *report
	count   counts

	state     atomic.Int32   // joining, opened, stopping
	following sync.WaitGroup // added to under mu, while opened

	mu       sync.Mutex
	open     map[*conn]struct{}
	nameless map[string]struct{} // users of which an id that can be none was logged

	wrong rate.Sometimes // when wrong passwords are logged
}

// States of a Server.
const (
	joining int32 = iota // everybody is to come again (V4)
	opened
	stopping
)

// New makes a Server, which lets nobody in before Open. It reads the file of users.
func New(cfg Config) (*Server, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = time.Second
	}
	if cfg.Page == nil {
		cfg.Page = http.HandlerFunc(noPage)
	}
	if cfg.Lines.WriteTimeout == 0 {
		cfg.Lines.WriteTimeout = 10 * time.Second
	}
	s := &Server{
		cfg: cfg, log: cfg.Log, bodies: newBodies(), sockets: newSockets(),
		checks: turns{places: 1, each: 1, most: 10}, // V5
		open:   map[*conn]struct{}{}, nameless: map[string]struct{}{},
		wrong: rate.Sometimes{Interval: 10 * time.Second},
	}
	s.reports.New = func() any { return new(report) }
	for _, text := range cfg.Origins {
		o, ok := parseSite(text)
		if !ok {
			return nil, fmt.Errorf("origin %q is no host", text)
		}
		s.origins = append(s.origins, o)
	}
	if cfg.Users != "" {
		var err error
		if s.users, err = openUsers(cfg.Users, cfg.Log); err != nil {
			return nil, fmt.Errorf("file of users: %w", err)
		}
	}
	lines := cfg.Lines
	lines.Gate, lines.TLS, lines.Log = cfg.Gate, nil, cfg.Log
	if lines.Recorder != nil {
		lines.Recorder = lineRecorder{lines.Recorder}
	}
	s.lines = server.New(lines, unreachable{})
	return s, nil
}

// Open lets devices in, which are told to come again until then (V4).
func (s *Server) Open() { s.state.CompareAndSwap(joining, opened) }

// Serve serves until ctx ends. Then it stops (C19): it accepts and reads no more, tells who asks
// on to come again, answers what it received, and returns nil when all is over, after StopTimeout
// at the latest. It closes ln, and returns an error where ln fails. A Server serves once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	server.BoundBuffers(ln)
	var below sync.WaitGroup
	below.Go(func() { s.watchUsers(ctx) })
	linesErr := make(chan error, 1)
	below.Go(func() { linesErr <- s.lines.Serve(ctx, s.sockets) })

	var conns sync.WaitGroup // as of net/http: added only while Serve runs
	srv := s.http(ctx, &conns)
	stopped := make(chan struct{})
	unstopped := context.AfterFunc(ctx, func() {
		defer close(stopped)
		s.stop(ctx, srv)
	})
	var err error
	if s.cfg.TLS != nil {
		err = srv.ServeTLS(listener{ln, s}, "", "")
	} else {
		err = srv.Serve(listener{ln, s})
	}
	if unstopped() { // it ended before ctx did
		err = fmt.Errorf("devices on %s: %w", ln.Addr(), err)
		cancel()
		s.stop(ctx, srv)
	} else {
		<-stopped
		err = nil
	}
	conns.Wait()
	s.following.Wait()
	below.Wait()
	return errors.Join(err, <-linesErr)
}

// http is the server of requests.
func (s *Server) http(ctx context.Context, conns *sync.WaitGroup) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true) // one request of a connection at a time: what it may hold is bounded
	srv := &http.Server{
		Handler: httplog.Panics(s.log, methodOf, s), Protocols: protocols, TLSConfig: s.cfg.TLS,
		ReadHeaderTimeout: headerTimeout,
		ReadTimeout:       headerTimeout + bodyTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          httplog.Rest(s.log),
		// Answers that wait outlive the stop (C19).
		BaseContext: func(net.Listener) context.Context { return context.WithoutCancel(ctx) },
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, connOf(nc))
		},
		ConnState: func(nc net.Conn, state http.ConnState) {
			switch c := connOf(nc); state {
			case http.StateNew:
				conns.Add(1)
			case http.StateActive:
				c.busy.Store(true)
			case http.StateIdle:
				c.busy.Store(false)
				c.reading.Store(false)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
	}
	return srv
}

// connKey is the context key of a request's connection.
type connKey struct{}

func connOf(nc net.Conn) *conn {
	if over, ok := nc.(*tls.Conn); ok {
		nc = over.NetConn()
	}
	return nc.(*conn)
}

// stop ends what is served. It returns when that is over, or was cut off.
func (s *Server) stop(ctx context.Context, srv *http.Server) {
	s.mu.Lock() // none is followed from now on
	s.state.Store(stopping)
	s.mu.Unlock()
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.StopTimeout)
	defer cancel()
	cut := context.AfterFunc(limit, func() {
		s.lines.Abort()
		_ = srv.Close()
	})
	defer cut()
	for _, c := range s.connections() {
		switch {
		case c.reading.Load():
			_ = c.SetReadDeadline(longAgo)
		case !c.busy.Load() && !c.handed.Load():
			c.end("stop")
		}
	}
	if srv.Shutdown(limit) != nil {
		_ = srv.Close()
	}
	s.following.Wait() // lines.Serve ends them, or Abort does
}

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// watchUsers closes the connections of users who were taken out (V5).
func (s *Server) watchUsers(ctx context.Context) {
	if s.users == nil {
		return
	}
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			s.LookAtUsers()
		case <-ctx.Done():
			return
		}
	}
}

// LookAtUsers reads the file of users again if it has changed, which happens once a second by
// itself.
func (s *Server) LookAtUsers() {
	if s.users == nil {
		return
	}
	gone := s.users.look()
	if len(gone) == 0 {
		return
	}
	names := make(map[string]bool, len(gone))
	for _, name := range gone {
		names[name] = true
	}
	for _, c := range s.connections() {
		if c.isOf(names) {
			c.end("user")
		}
	}
}
