package admin

import (
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxConns is the maximum number of connections of the port (C18).
const maxConns = 64

// A crowd bounds the connections of a server. When there is one too many, it evicts the one
// that has been without a request for longest. If all are being answered, it closes the new
// one.
type crowd struct {
	next http.Handler
	log  *slog.Logger

	mu   sync.Mutex
	open map[net.Conn]time.Time // since when it has had no request; zero: being answered
	told time.Time              // when it was last logged that the port is full
	n    int                    // how many connections were closed since then
}

// enter adds a connection, and closes it or another one if there are too many.
func (c *crowd) enter(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open) >= maxConns && !c.giveWay() {
		_ = nc.Close()
		return
	}
	if c.open == nil {
		c.open = map[net.Conn]time.Time{}
	}
	c.open[nc] = time.Now()
}

// leave removes a connection that was closed.
func (c *crowd) leave(nc net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, nc)
}

// since records since when a connection has had no request.
func (c *crowd) since(nc net.Conn, when time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.open[nc]; ok { // otherwise it is being closed
		c.open[nc] = when
	}
}

// connection is the context key of a request's connection.
type connection struct{}

// ServeHTTP answers a request. The request's connection is not evicted meanwhile.
func (c *crowd) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	nc, _ := r.Context().Value(connection{}).(net.Conn)
	c.since(nc, time.Time{})
	defer func() { c.since(nc, time.Now()) }()
	c.next.ServeHTTP(w, r)
}

// giveWay closes the connection that has had no request for longest, and reports whether
// there was one. c.mu must be held.
func (c *crowd) giveWay() bool {
	var longest net.Conn
	for nc, since := range c.open {
		if !since.IsZero() && (longest == nil || since.Before(c.open[longest])) {
			longest = nc
		}
	}
	c.n++
	if now := time.Now(); now.Sub(c.told) >= 10*time.Second {
		c.log.Warn("admin port full", "limit", maxConns, "closed", c.n)
		c.told, c.n = now, 0
	}
	if longest == nil {
		return false
	}
	_ = longest.Close()
	delete(c.open, longest)
	return true
}
