package broker

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker/options"
)

// A letter is one event that nats.go reported.
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

// A mailbox queues letters in order. It never blocks nats.go.
type mailbox struct {
	ready chan struct{} // signals that there may be letters

	mu      sync.Mutex
	letters []letter
}

// maxLetters bounds the queue for an Events function that does not return. Complaints and
// failed attempts beyond it are dropped; the other kinds are few.
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

// talk turns letters into log lines and Events. Only run uses it.
type talk struct {
	c        *Conn
	again    bool // there was a connection before
	attempts repeats
	words    repeats
	looked   time.Time   // when the key file was last checked
	denied   *time.Timer // fires when to try again what was refused
}

func (t *talk) start(c *Conn) {
	t.c = c
	t.attempts.every = 30 * time.Second
	t.words.every = 30 * time.Second
	t.denied = time.NewTimer(time.Hour)
}

// follow handles the events of nc until it is closed, by Close or by itself.
func (t *talk) follow(ctx context.Context, nc *nats.Conn) {
	t.connected(ctx, nc)
	over := ctx.Done()
	for {
		select {
		case <-over:
			over = nil
			t.c.setLive(nil)
			nc.Close() // its last event is closedForEver
		case <-t.denied.C:
			t.tryAgain(t.c.tryDenied(nc, time.Now()))
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
				t.tryAgain(t.c.noteDenied(l.err, time.Now()))
				t.renewKey(nc)
			}
		}
	}
}

// connected announces the connection once it is usable: the broker has confirmed every
// subscription. If it does not, another connection is made.
func (t *talk) connected(ctx context.Context, nc *nats.Conn) {
	if err := flush(ctx, nc, flushTimeout); err != nil {
		if ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) { // otherwise it is lost already
			t.c.log.Warn("broker does not confirm subscriptions", "server", options.Redact(nc.ConnectedUrl()), "error", err)
			_ = nc.ForceReconnect() // fails only if nc is closed, which another event reports
		}
		return
	}
	server := options.Redact(nc.ConnectedUrl())
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
		return // that connection was never announced
	}
	t.c.setLive(nil)
	if err == nil {
		err = nc.LastError() // if the server closed it for good, the reason is only here
	}
	if err == nil { // this side dropped it, and has said why
		t.c.log.Warn("broker disconnected", "server", t.c.Server())
	} else {
		t.c.log.Warn("broker disconnected", "server", t.c.Server(), "error", err)
	}
	if f := t.c.ev.Disconnected; f != nil {
		f(err)
	}
}

// lost ends the use of nc, which will not reconnect by itself.
func (t *talk) lost(ctx context.Context, nc *nats.Conn, err error) {
	t.c.mu.Lock()
	t.c.nc = nil
	t.c.mu.Unlock()
	if ctx.Err() != nil {
		return
	}
	t.disconnected(nc, err)
	t.c.log.Warn("broker closed the connection, reconnecting", "server", t.c.Server(), "error", err)
	t.c.pause(ctx) // the reason may persist
}

func (t *talk) attemptFailed(err error) {
	t.c.failed.Store(&err)
	if t.attempts.fresh(Reason(err)) {
		t.c.log.Warn("broker not reached", "server", t.c.Server(), "error", err)
	}
	if f := t.c.ev.Failed; f != nil {
		f(err)
	}
}

// Refuses tells whether an error of [Conn.Wait] is the broker's refusal of the login.
func Refuses(err error) bool {
	return errors.Is(err, nats.ErrAuthorization) || errors.Is(err, nats.ErrAuthExpired) || errors.Is(err, nats.ErrAuthRevoked)
}

// Reason is why the broker is away, in words that stay the same while the reason does:
// without this side's port, which differs with each attempt.
func Reason(err error) string {
	if e, ok := errors.AsType[*net.OpError](err); ok {
		return e.Op + ": " + e.Err.Error()
	}
	return err.Error()
}

func (t *talk) complaint(err error) {
	if !t.words.fresh(err.Error()) {
		return
	}
	t.c.log.Warn("broker reports an error", "server", t.c.Server(), "error", err)
	if f := t.c.ev.Error; f != nil {
		f(err)
	}
}

// tryAgain makes follow try again at this time what was refused. The zero time means that
// there is nothing to try.
func (t *talk) tryAgain(due time.Time) {
	if !due.IsZero() {
		t.denied.Reset(time.Until(due))
	}
}

// renewKey closes a connection that has problems if the file of the user's key holds another
// key now: nats.go would log in with the old key for good. The next connection reads the file
// again.
func (t *talk) renewKey(nc *nats.Conn) {
	if now := time.Now(); t.c.keyFile == "" || now.Sub(t.looked) < time.Second {
		return
	} else {
		t.looked = now
	}
	if key, err := PublicKey(t.c.keyFile); err == nil && key != nc.Opts.Nkey {
		t.c.log.Info("key has changed, reconnecting", "server", t.c.Server())
		nc.Close()
	}
}

// setLive sets which connection is usable; nil means none.
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

// repeats remembers what was reported lately.
type repeats struct {
	every time.Duration
	said  map[string]time.Time
}

// fresh reports whether text may be reported again, and if so records it.
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
