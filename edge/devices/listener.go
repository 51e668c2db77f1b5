package devices

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"herd/edge/command"
	"herd/edge/server"
)

// A conn is one connection below TLS. It counts at the gate until it is closed, or until a
// WebSocket's session counts in its place.
type conn struct {
	net.Conn
	s      *Server
	entry  server.Entry
	remote string

	busy    atomic.Bool // a request is being answered
	reading atomic.Bool // its body is not read to the end
	handed  atomic.Bool // it is a WebSocket, which is recorded elsewhere
	slow    atomic.Bool // it took nothing for the timeout
	why     atomic.Pointer[string]
	closed  sync.Once
	gone    bool        // it was closed; under Server.mu
	shown   atomic.Bool // its certificate was written down

	mu     sync.Mutex
	user   string          // who last logged in; "": nobody
	caller *command.Caller // nil: none yet
	of     string          // whose caller it is
}

// listener has what it accepts counted (C18).
type listener struct {
	net.Listener
	s *Server
}

// Accept returns the next connection that there is room for.
func (l listener) Accept() (net.Conn, error) {
	for {
		nc, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		c := &conn{Conn: nc, s: l.s, remote: nc.RemoteAddr().String()}
		if !l.s.cfg.Gate.Enter(&c.entry, nc.RemoteAddr(), c) {
			_ = nc.Close()
			continue
		}
		if rec := l.s.cfg.Lines.Recorder; rec != nil {
			rec.Opened(time.Now(), c.remote)
		}
		l.s.enter(c)
		return c, nil
	}
}

// Evict closes the connection for a newcomer (C18).
func (c *conn) Evict(why server.Eviction) {
	reason := "evicted"
	if why == server.Crowded {
		reason = "address"
	}
	c.end(reason)
}

// end closes the connection at once, for a reason that is written down.
func (c *conn) end(why string) {
	c.why.CompareAndSwap(nil, &why)
	_ = c.Close()
}

// Close closes the connection and counts it no longer.
func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() {
		c.s.cfg.Gate.Leave(&c.entry)
		c.s.leave(c)
		if rec := c.s.cfg.Lines.Recorder; rec != nil && !c.handed.Load() {
			why := "client"
			if said := c.why.Load(); said != nil {
				why = *said
			}
			rec.Closed(time.Now(), c.remote, why)
		}
	})
	return err
}

// Write gives up where nothing moves for the timeout (C18).
func (c *conn) Write(p []byte) (n int, err error) {
	for n < len(p) && err == nil {
		var m int
		_ = c.Conn.SetWriteDeadline(time.Now().Add(c.s.cfg.Lines.WriteTimeout))
		m, err = c.Conn.Write(p[n:min(len(p), n+writeStep)])
		n += m
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.slow.Store(true)
	}
	return n, err
}

// writeStep is how many bytes have to move within the timeout.
const writeStep = 64 << 10

// callerOf returns the caller for who asks now, the same one while that is the same.
func (c *conn) callerOf(who identity) *command.Caller {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.caller == nil || c.of != who.user {
		c.of = who.user
		c.caller = c.s.cfg.Caller(c.entry.Address(), Who{User: who.user, IDs: who.ids, Bound: who.bound})
		c.caller.Remote = c.remote
	}
	return c.caller
}

// loggedIn notes who asks now.
func (c *conn) loggedIn(who identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.user = who.user
}

// isOf says whether the connection's last request was one of these users'.
func (c *conn) isOf(names map[string]bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.user != "" && names[c.user]
}

// enter and leave keep the connections that are open.
func (s *Server) enter(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.gone { // it may have given way already
		s.open[c] = struct{}{}
	}
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c.gone = true
	delete(s.open, c)
}

// connections returns those that are open.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.open))
	for c := range s.open {
		all = append(all, c)
	}
	return all
}

// CloseWrite closes this side, where the transport can.
func (c *conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}
