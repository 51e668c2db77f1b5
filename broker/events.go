package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// A letter is something that nats.go told.
type letter struct {
	kind kind
	nc   *nats.Conn
	err  error
}

type kind int

const (
	connected kind = iota
	disconnected
	attemptFailed
	closedForEver
	complaint
)

// A mailbox keeps letters in order. It never makes nats.go wait.
type mailbox struct {
	ready chan struct{} // holds one while there may be letters

	mu      sync.Mutex
	letters []letter
}

// maxLetters bounds what is kept for an Events function that does not return.
// Complaints and failed attempts beyond it are dropped; the other kinds are few.
const maxLetters = 1000

func (m *mailbox) put(l letter) {
	m.mu.Lock()
	dispensable := l.kind == complaint || l.kind == attemptFailed
	if !dispensable || len(m.letters) < maxLetters {
		m.letters = append(m.letters, l)
	}
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []letter {
	m.mu.Lock()
	defer m.mu.Unlock()
	letters := m.letters
	m.letters = nil
	return letters
}

// talk turns letters into log lines and Events. It is run's own.
type talk struct {
	c        *Conn
	again    bool // was connected before
	attempts repeats
	words    repeats
	looked   time.Time // when the key's file was looked at
}

func (t *talk) start(c *Conn) {
	t.c = c
	t.attempts.every = 30 * time.Second
	t.words.every = 30 * time.Second
}

// follow handles all that nc tells until it is closed, by Close or by itself.
func (t *talk) follow(ctx context.Context, nc *nats.Conn) {
	t.connected(ctx, nc)
	over := ctx.Done()
	for {
		select {
		case <-over:
			over = nil
			t.c.setLive(nil)
			nc.Close() // its last letter is closedForEver
		case <-t.c.mail.ready:
		}
		for _, l := range t.c.mail.take() {
			if l.kind == closedForEver {
				t.lost(ctx, nc, l.err)
				return
			}
			if ctx.Err() != nil {
				continue // no events while closing
			}
			switch l.kind {
			case connected:
				t.connected(ctx, nc)
			case disconnected:
				t.disconnected(nc, l.err)
			case attemptFailed:
				t.attemptFailed(l.err)
				t.renewKey(nc)
			case complaint:
				t.complaint(l.err)
				t.renewKey(nc)
			}
		}
	}
}

// connected makes the connection known once it is of use: the broker has
// confirmed every subscription. If it does not, another connection comes.
func (t *talk) connected(ctx context.Context, nc *nats.Conn) {
	if err := flush(ctx, nc, flushTimeout); err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) { // else it is lost already
			t.c.log.Warn("broker does not confirm subscriptions", "server", redact(nc.ConnectedUrl()), "error", err)
			_ = nc.ForceReconnect() // errs only when nc is closed, of which a letter tells
		}
		return
	}
	server := redact(nc.ConnectedUrl())
	if nc.Opts.InProcessServer != nil {
		server = "in-process " + nc.ConnectedServerName()
	}
	t.c.server.Store(&server)
	t.c.setLive(nc)
	t.attempts.forget()
	t.c.log.Info("broker connected", "server", server)
	first := !t.again
	t.again = true
	if f := t.c.ev.Connected; f != nil {
		f(first)
	}
}

func (t *talk) disconnected(nc *nats.Conn, err error) {
	if !t.c.Connected() {
		return // nobody was told of that connection
	}
	t.c.setLive(nil)
	if err == nil {
		err = nc.LastError() // where the server closed it for ever, the reason is only there
	}
	t.c.log.Warn("broker disconnected", "server", t.c.Server(), "error", err)
	if f := t.c.ev.Disconnected; f != nil {
		f(err)
	}
}

// lost ends the life of nc, which will not come back by itself.
func (t *talk) lost(ctx context.Context, nc *nats.Conn, err error) {
	t.c.mu.Lock()
	t.c.nc = nil
	t.c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	t.disconnected(nc, err)
	t.c.log.Warn("broker closed the connection, making another", "server", t.c.Server(), "error", err)
	t.c.pause(ctx) // the reason may still be there
}

func (t *talk) attemptFailed(err error) {
	t.c.failed.Store(&err)
	text := err.Error()
	if e, ok := errors.AsType[*net.OpError](err); ok {
		text = e.Op + " " + e.Err.Error() // without the port, which differs each time
	}
	if t.attempts.fresh(text) {
		t.c.log.Warn("broker not reached", "server", t.c.Server(), "error", err)
	}
}

func (t *talk) complaint(err error) {
	if !t.words.fresh(err.Error()) {
		return
	}
	t.c.log.Warn("broker complains", "server", t.c.Server(), "error", err)
	if f := t.c.ev.Error; f != nil {
		f(err)
	}
}

// renewKey ends a connection with which something is wrong where the file of the user's
// key now holds another key: nats.go would log in as the user of the first for ever.
// The next connection reads the file again.
func (t *talk) renewKey(nc *nats.Conn) {
	if now := time.Now(); t.c.keyFile == "" || now.Sub(t.looked) < time.Second {
		return
	} else {
		t.looked = now
	}
	if key, err := PublicKey(t.c.keyFile); err == nil && key != nc.Opts.Nkey {
		t.c.log.Info("key has changed, connecting anew", "server", t.c.Server())
		nc.Close()
	}
}

// setLive says which connection is of use; nil for none.
func (c *Conn) setLive(nc *nats.Conn) {
	was := c.live.Swap(nc)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case was == nil && nc != nil:
		close(c.up)
	case was != nil && nc == nil:
		c.up = make(chan struct{})
	}
}

// repeats tells what has been said lately.
type repeats struct {
	every time.Duration
	said  map[string]time.Time
}

// fresh tells whether text may be said again, and takes it as said.
func (r *repeats) fresh(text string) bool {
	now := time.Now()
	if last, ok := r.said[text]; ok && now.Sub(last) < r.every {
		return false
	}
	if r.said == nil || len(r.said) >= 100 {
		r.said = make(map[string]time.Time)
	}
	r.said[text] = now
	return true
}

func (r *repeats) forget() { r.said = nil }
