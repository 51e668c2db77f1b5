package sim

import (
	"bytes"
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"herd/broker"
	"herd/edge"
)

// A conn is one run's connection to the model of the broker: an edge.Broker. It says what a
// client of NATS can see: order per connection and subject, at most once (but for Twice),
// no responders at once, what is on its way lost with the connection.
type conn struct {
	w      *world
	r      *run
	events broker.Events

	mu      sync.Mutex
	up      chan struct{} // closed while connected
	gone    chan struct{} // closed when the present connection is lost
	dialled bool
	closed  bool
	subs    map[string]func(*question) // by subject; kept over reconnects
	service *broker.ServiceConfig
	last    *broker.ServiceConfig // the service that there ever was
	running sync.WaitGroup        // answers of the service that wait for something
	deaf    map[string]time.Time  // subscriptions that are dead; until when there is no other either
	asked   map[uint64]uint64     // how often each caller asked whether there is a connection
}

// A question is what a subscriber hears. answer is nil where no answer is wanted.
type question struct {
	message *broker.Message
	ack     *broker.Ack
	text    string
	answer  func(any)
}

func (c *conn) connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.isUp()
}

func (c *conn) isUp() bool {
	select {
	case <-c.up:
		return !c.closed
	default:
		return false
	}
}

// dial is called by the run, which has begun then.
func (c *conn) dial(_ string, events broker.Events, _ *slog.Logger) (edge.Broker, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.events, c.dialled = events, true
	return c, nil
}

// connect and lose are the world's.
func (c *conn) connect() {
	c.mu.Lock()
	if !c.dialled || c.closed || c.isUp() {
		c.mu.Unlock()
		return
	}
	close(c.up)
	for subject, until := range c.deaf { // all are subscribed to anew
		if !time.Now().Before(until) {
			delete(c.deaf, subject)
		}
	}
	first := c.gone == nil
	gone := make(chan struct{})
	c.gone = gone
	c.mu.Unlock()
	c.w.after(5*time.Microsecond, func() { // as with Connected
		select {
		case <-gone:
		default:
			c.events.Connected(first)
		}
	})
}

func (c *conn) lose() {
	c.mu.Lock()
	if c.closed || !c.isUp() {
		c.mu.Unlock()
		return
	}
	c.up = make(chan struct{})
	close(c.gone)
	c.mu.Unlock()
	c.events.Disconnected(nil)
}

// Connected takes a moment. In virtual time nothing else does, so that what is decided by it
// and what follows from that would fall together for good, which it never does elsewhere: two
// timers that are due at one instant fire in no order that a seed could give. How long the moment
// is depends on who asks, and how often they have: not on who of several goroutines comes first.
func (c *conn) Connected() bool {
	asker := fnv.New64a()
	var calls [4]uintptr
	frames := runtime.CallersFrames(calls[:runtime.Callers(2, calls[:])])
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		_, _ = io.WriteString(asker, f.Function)
	}
	who := asker.Sum64()
	c.mu.Lock()
	if c.asked == nil {
		c.asked = map[uint64]uint64{}
	}
	c.asked[who]++
	moment := (who%1999 + c.asked[who]) % 1999
	c.mu.Unlock()
	time.Sleep(3*time.Microsecond + time.Duration(moment)*time.Nanosecond)
	return c.connected()
}

func (c *conn) Wait(ctx context.Context) error {
	c.mu.Lock()
	up, closed := c.up, c.closed
	c.mu.Unlock()
	if closed {
		return broker.ErrClosed
	}
	select {
	case <-up:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *conn) Server() string { return "the model" }

func (c *conn) MaxPayload() int {
	if !c.connected() {
		return 0
	}
	return int(c.w.payload.Load())
}

func (c *conn) Alive(ctx context.Context) error { return c.Flush(ctx) }

// RenewAnswers subscribes anew to questions of neighbours.
func (c *conn) RenewAnswers() { c.renew("join") }

func (c *conn) renew(kind string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject, until := range c.deaf {
		if f := strings.Split(subject, "."); f[1] == kind && f[2] != f[3] && !time.Now().Before(until) {
			delete(c.deaf, subject)
		}
	}
}

// deafen makes a subscription dead: a right to it was taken away, of which a client of NATS
// hears nothing. When the right is back, another subscription is needed (H8).
func (c *conn) deafen(subject string, until time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.deaf == nil {
		c.deaf = map[string]time.Time{}
	}
	c.deaf[subject] = until
}

func (c *conn) hear(subject string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.deaf, subject)
}

// hearAll grants all rights. What is dead stays so until it is subscribed to anew, but for the
// run's own name.
func (c *conn) hearAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for subject := range c.deaf {
		if c.deaf[subject] = time.Now(); subject == nameSubject(c.r.name) {
			delete(c.deaf, subject)
		}
	}
}

func nameSubject(name string) string { return "herd.join." + name + "." + name }

// Reconnect drops the connection; the world makes it anew.
func (c *conn) Reconnect() error {
	c.w.post(&item{from: c.r, subject: "reconnect", local: true, do: func() { c.w.drop(c.r, 300*time.Millisecond) }})
	return nil
}

func (c *conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return
	}
	c.closed = true
	if c.gone != nil {
		select {
		case <-c.gone:
		default:
			close(c.gone)
		}
	}
}

// ask posts a question and waits for the first answer.
func (c *conn) ask(ctx context.Context, x *item, answers chan any) (any, error) {
	c.mu.Lock()
	up, gone := c.isUp(), c.gone
	c.mu.Unlock()
	if !up {
		return nil, broker.ErrNotConnected
	}
	c.w.post(x)
	select {
	case a := <-answers:
		if err, ok := a.(error); ok {
			return nil, err
		}
		return a, nil
	case <-gone:
		return nil, broker.ErrNotConnected
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Flush waits for the broker's pong: it has all that was published and subscribed to before.
func (c *conn) Flush(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	pong := make(chan any, 1)
	ping := &item{from: c.r, subject: "ping", do: func() {
		c.w.answer(c.r, "pong "+c.r.name, pong, true)
	}}
	if _, err := c.ask(ctx, ping, pong); err != nil {
		return fmt.Errorf("flush: %w", err)
	}
	return nil
}

func (c *conn) subscribe(subject string, f func(*question)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.subs[subject] = f
}

func (c *conn) subscribed(subject string) func(*question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, deaf := c.deaf[subject]; deaf || !c.isUp() {
		return nil
	}
	return c.subs[subject]
}

func (c *conn) publish(subject string, links bool, q question) error {
	if !c.connected() {
		return broker.ErrNotConnected
	}
	c.w.post(&item{from: c.r, subject: subject, links: links, do: func() { c.w.deliver(c.r, subject, &q) }})
	return nil
}

func (c *conn) request(ctx context.Context, subject, text string) (any, error) {
	answers := make(chan any, 1)
	x := &item{from: c.r, subject: subject, do: func() {
		q := &question{text: text}
		q.answer = func(a any) { c.w.answer(c.r, "inbox "+c.r.name+" "+subject, answers, a) }
		if heard := c.w.deliver(c.r, subject, q); !heard {
			q.answer(broker.ErrNobody)
		}
	}}
	return c.ask(ctx, x, answers)
}

func (c *conn) AskName(ctx context.Context, prefix, self string) (epoch string, answered bool, err error) {
	a, err := c.request(ctx, prefix+".join."+self+"."+self, "")
	switch {
	case err == nil:
		return a.(string), true, nil
	case err == broker.ErrNobody, err == context.DeadlineExceeded:
		return "", false, nil
	}
	return "", false, fmt.Errorf("ask for the name %s: %w", self, err)
}

func (c *conn) ClaimName(prefix, self, epoch string) error {
	// As with Connected, for what begins when the name is held and with the first claim.
	time.Sleep(7 * time.Microsecond)
	c.w.post(&item{from: c.r, subject: "claims", local: true, do: func() { c.r.claims, c.r.claimed = time.Now(), time.Time{} }})
	return c.publish(prefix+".join."+self+"."+self, false, question{text: epoch})
}

func (c *conn) AnswerName(prefix, self, epoch string, claimed func(other string)) error {
	c.subscribe(prefix+".join."+self+"."+self, func(q *question) {
		switch {
		case q.answer != nil:
			q.answer(epoch)
		case q.text != epoch:
			claimed(q.text)
		}
	})
	c.confirm()
	return nil
}

// confirm waits for the broker, where there is one.
func (c *conn) confirm() {
	if c.connected() {
		_ = c.Flush(context.Background())
	}
}

func (c *conn) Serve(cfg broker.ServiceConfig) (edge.Service, error) {
	c.mu.Lock()
	c.service, c.last = &cfg, &cfg
	c.mu.Unlock()
	c.confirm()
	return service{c}, nil
}

// endpoints are what the run serves clients by; nil while it does not.
func (c *conn) endpoints() *broker.ServiceConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.service
}

// ever are the endpoints that the run serves clients by, or served.
func (c *conn) ever() *broker.ServiceConfig {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

type service struct{ c *conn }

// Stop ends the endpoints. It returns when all is answered that was asked before, however long
// that takes, as broker.Service does: so whoever answers late has less time for what comes next.
func (s service) Stop(limit context.Context) {
	s.c.mu.Lock()
	s.c.service = nil
	s.c.mu.Unlock()
	if s.c.connected() {
		_ = s.c.Flush(limit)
	}
	s.c.running.Wait()
}

// A neighbour is an edge.Neighbour.
type neighbour struct {
	c                   *conn
	prefix, self, other string
}

func (c *conn) Neighbour(prefix, self, other string) edge.Neighbour {
	return &neighbour{c, prefix, self, other}
}

func (n *neighbour) subject(kind string) string {
	return n.prefix + "." + kind + "." + n.self + "." + n.other
}

func (n *neighbour) Send(m *broker.Message) error {
	own := *m
	own.Lines = bytes.Clone(m.Lines)
	if len(own.Lines) > 0 && n.c.r.spoiling() {
		own.Lines = append([]byte("this is no line\n"), own.Lines...)
	}
	if err := n.c.publish(n.subject("at"), true, question{message: &own}); err != nil {
		return err
	}
	n.c.w.checkSend(n.c.r, n.other, m)
	return nil
}

func (n *neighbour) Ack(a broker.Ack) error {
	if err := n.c.publish(n.subject("ack"), true, question{ack: &a}); err != nil {
		return err
	}
	n.c.w.checkAckSent(n.c.r, n.other, &a)
	return nil
}

func (n *neighbour) AskJoin(ctx context.Context, config string) (broker.Join, error) {
	a, err := n.c.request(ctx, n.subject("join"), config)
	if err == broker.ErrNotConnected {
		err = fmt.Errorf("%w: %w", broker.ErrNobody, err)
	}
	if err != nil {
		return broker.Join{}, fmt.Errorf("ask %s to join: %w", n.other, err)
	}
	return a.(broker.Join), nil
}

func (n *neighbour) Listen(h broker.Handlers) error {
	from := func(kind string) string { return n.prefix + "." + kind + "." + n.other + "." + n.self }
	n.c.subscribe(from("at"), func(q *question) {
		m := *q.message
		m.Lines = bytes.Clone(m.Lines)
		h.Message(m)
	})
	n.c.subscribe(from("ack"), func(q *question) { h.Ack(*q.ack) })
	n.c.subscribe(from("join"), func(q *question) { q.answer(h.Join(q.text)) })
	n.c.confirm()
	return nil
}

// Renew subscribes anew to what the neighbour says, and to its acks.
func (n *neighbour) Renew(in, out bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	for _, half := range []struct {
		kind  string
		renew bool
	}{{"at", in}, {"ack", out}} {
		subject := n.prefix + "." + half.kind + "." + n.other + "." + n.self
		if until, deaf := n.c.deaf[subject]; half.renew && deaf && !time.Now().Before(until) {
			delete(n.c.deaf, subject)
		}
	}
}
