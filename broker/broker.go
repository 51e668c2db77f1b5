// Package broker is the only part of the herd that knows NATS: a connection that never gives
// up, the subjects and headers of a link (H1–H8), names (H10), the micro service of an edge,
// and an embedded server. It carries bytes and names. It knows nothing of positions, of
// cursors, or of what an edge does with what it receives.
package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker/options"
)

const (
	connectTimeout = time.Second            // for one attempt, including TLS and login
	writeTimeout   = 2 * time.Second        // a broker that reads nothing for this long is lost
	retryWait      = 250 * time.Millisecond // between attempts, plus up to retryJitter
	retryJitter    = 100 * time.Millisecond
	flushTimeout   = 5 * time.Second // from the connection until it is usable
)

var (
	// ErrNotConnected is the error of every call except closing and subscribing while there
	// is no broker. Nothing was sent (H6).
	ErrNotConnected = errors.New("not connected to the broker")
	// ErrClosed is returned after [Conn.Close].
	ErrClosed = errors.New("connection to the broker is closed")
	// ErrNobody means that nobody can answer: no neighbour, or no broker.
	ErrNobody = errors.New("no responder")
)

// Events are called one after the other from one goroutine, in the order in which things
// happened, and never after [Conn.Close] has returned. Nil functions are not called. Events
// may publish and subscribe; they must not close the connection.
type Events struct {
	// Connected reports that the broker is connected and knows all subscriptions made so far
	// (H6). first is true only for the first connection since Dial.
	Connected func(first bool)
	// Disconnected follows every Connected when the connection is lost. err is the reason and
	// may be nil.
	Disconnected func(err error)
	// Failed follows every attempt to connect that failed. [Reason] is the reason in words.
	Failed func(err error)
	// Error reports an error that the broker sent, in the broker's words: a lack of rights,
	// dropped messages. It has been logged already. The same text is reported at most once in
	// half a minute.
	Error func(err error)
}

// Conn is a connection to a broker that reconnects for as long as it takes. Its methods may
// be called from any goroutine.
type Conn struct {
	name     string
	settings nats.Options
	keyFile  string
	log      *slog.Logger
	ev       Events
	mail     mailbox // reports of nats.go, for run

	live    atomic.Pointer[nats.Conn] // nil while disconnected
	server  atomic.Pointer[string]    // the server's URL, for people
	refused atomic.Pointer[error]     // why the last attempt was refused
	failed  atomic.Pointer[error]     // why the last attempt failed

	stop context.CancelFunc
	kick chan struct{} // cuts the wait between two attempts short
	done chan struct{} // run has returned

	mu       sync.Mutex
	nc       *nats.Conn // nil before the first connection, and while a new one is being made
	subs     map[*subscription]struct{}
	services map[*Service]struct{}
	inbox    inbox
	up       chan struct{} // closed while connected
	closed   bool
}

// Dial makes a connection named name, which operators see, and returns at once. It then tries
// to reach the broker until Close, and again whenever the connection is lost. A nil log
// discards. The error is that of [options.Broker.Validate], joined with that of [CheckFiles].
func Dial(o options.Broker, name string, ev Events, log *slog.Logger) (*Conn, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s := settings()
	if err := errors.Join(o.Validate(), login(&s, o, log)); err != nil {
		return nil, err
	}
	return dial(s, o.NKey, o.Server(), name, ev, log), nil
}

// dial makes a Conn from these nats.go settings. keyFile is the file with the user's key, or
// "" for none; each nats.go connection reads it again.
func dial(s nats.Options, keyFile, server, name string, ev Events, log *slog.Logger) *Conn {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, stop := context.WithCancel(context.Background()) // the life of the connection, which Close ends
	c := &Conn{
		name: name, settings: s, keyFile: keyFile, log: log, ev: ev,
		mail: mailbox{ready: make(chan struct{}, 1)},
		stop: stop, kick: make(chan struct{}, 1), done: make(chan struct{}),
		subs: make(map[*subscription]struct{}), services: make(map[*Service]struct{}),
		up: make(chan struct{}),
	}
	c.server.Store(&server)
	go c.run(ctx)
	return c
}

// connect makes a nats.go connection that reports its events to c.
func (c *Conn) connect(ctx context.Context) (*nats.Conn, error) {
	s := c.settings
	if c.keyFile != "" {
		key, err := nats.NkeyOptionFromSeed(c.keyFile)
		if err == nil {
			err = key(&s)
		}
		if err != nil {
			return nil, fmt.Errorf("NATS_NKEY: %w", err)
		}
	}
	s.Name = c.name
	s.CustomDialer = dialer(func(network, address string) (net.Conn, error) {
		d := net.Dialer{Timeout: connectTimeout}
		conn, err := d.DialContext(ctx, network, address)
		if err != nil {
			c.refused.Store(&err)
		}
		return conn, err
	})
	s.ReconnectedCB = func(nc *nats.Conn) { c.mail.put(letter{kind: connected, nc: nc}) }
	s.DisconnectedErrCB = func(nc *nats.Conn, err error) { c.mail.put(letter{kind: disconnected, nc: nc, err: err}) }
	s.ReconnectErrCB = func(nc *nats.Conn, err error) { c.mail.put(letter{kind: attemptFailed, nc: nc, err: err}) }
	s.ClosedCB = func(nc *nats.Conn) { c.mail.put(letter{kind: closedForEver, nc: nc, err: nc.LastError()}) }
	s.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		if sub != nil && errors.Is(err, nats.ErrSlowConsumer) {
			err = fmt.Errorf("messages on %s dropped: %w", sub.Subject, err)
		}
		c.mail.put(letter{kind: complaint, nc: nc, err: err})
	}
	nc, err := s.Connect()
	if why := c.refused.Load(); errors.Is(err, nats.ErrNoServers) && why != nil {
		err = *why // nats.go itself says only that there are no servers
	}
	return nc, err
}

type dialer func(network, address string) (net.Conn, error)

func (d dialer) Dial(network, address string) (net.Conn, error) { return d(network, address) }

// run keeps one nats.go connection at a time. nats.go reconnects by itself, but some errors
// of the server close its connection for good: then the next connection takes over the
// subscriptions.
func (c *Conn) run(ctx context.Context) {
	defer close(c.done)
	var talk talk
	talk.start(c)
	for ctx.Err() == nil {
		nc, err := c.connect(ctx)
		if err != nil {
			talk.attemptFailed(err)
			c.pause(ctx)
			continue
		}
		c.adopt(nc)
		talk.follow(ctx, nc)
	}
}

// pause waits before the next attempt. [Conn.Reconnect] and Close cut it short.
func (c *Conn) pause(ctx context.Context) {
	t := time.NewTimer(retryWait + rand.N(retryJitter))
	defer t.Stop()
	select {
	case <-t.C:
	case <-c.kick:
	case <-ctx.Done():
	}
}

// adopt makes nc the current connection, with all subscriptions and services.
func (c *Conn) adopt(nc *nats.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nc = nc
	for sub := range c.subs {
		sub.attach(nc)
	}
	for s := range c.services {
		s.attach(nc)
	}
}

// Close ends the connection. It writes out what was published before, but does not wait for
// the broker to receive it: use [Conn.Flush]. It returns when no event function and no
// handler runs any more, and must not be called from one of them.
func (c *Conn) Close() {
	c.mu.Lock()
	c.closed = true
	subs, services := c.subs, c.services
	c.subs, c.services = nil, nil
	c.mu.Unlock()

	limit, cancel := context.WithTimeout(context.Background(), connectTimeout) // nobody waits for these messages any more
	defer cancel()
	for s := range services {
		s.Stop(limit)
	}
	c.stop()
	<-c.done
	for s := range subs {
		s.quit()
	}
}

// Connected reports whether the broker is connected, as far as is known.
func (c *Conn) Connected() bool { return c.live.Load() != nil }

// Wait returns when the broker is connected. If ctx ends first, the error is that of the last
// attempt, if there was one.
func (c *Conn) Wait(ctx context.Context) error {
	c.mu.Lock()
	up := c.up
	c.mu.Unlock()
	select {
	case <-up:
		return nil
	case <-c.done:
		return ErrClosed
	case <-ctx.Done():
		if why := c.failed.Load(); why != nil {
			return fmt.Errorf("connect to %s: %w", c.Server(), *why)
		}
		return fmt.Errorf("connect to %s: %w", c.Server(), context.Cause(ctx))
	}
}

// Server returns the broker's URL, without user info, for people to read: the one connected
// to last, or those that are tried.
func (c *Conn) Server() string { return *c.server.Load() }

// MaxPayload returns the size in bytes of the largest message that the broker accepts,
// headers included ([HeaderRoom]), or 0 when not connected.
func (c *Conn) MaxPayload() int {
	nc := c.live.Load()
	if nc == nil {
		return 0
	}
	return int(nc.MaxPayload())
}

// Alive asks the broker for a reply (H8) and returns nil if one came. If the broker reads
// nothing, it may overrun ctx by two seconds.
func (c *Conn) Alive(ctx context.Context) error { return c.Flush(ctx) }

// Flush returns nil when the broker has received everything published and subscribed before.
func (c *Conn) Flush(ctx context.Context) error {
	nc := c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	return flush(ctx, nc, flushTimeout)
}

func flush(ctx context.Context, nc *nats.Conn, atMost time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, atMost) // nats.go requires a deadline
	defer cancel()
	if err := nc.FlushWithContext(ctx); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

// Reconnect drops the connection, if there is one, and reconnects at once. Without a
// connection it only hurries the next attempt.
func (c *Conn) Reconnect() error {
	c.mu.Lock()
	nc, closed := c.nc, c.closed
	c.mu.Unlock()
	switch {
	case closed:
		return ErrClosed
	case nc == nil: // run makes another connection
		select {
		case c.kick <- struct{}{}:
		default:
		}
	case c.Connected() || nc.IsReconnecting():
		_ = nc.ForceReconnect() // fails only if nc is closed, and then run makes another connection
	}
	return nil
}
