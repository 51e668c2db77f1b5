package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// How many messages may wait for a handler. A neighbour sends at most HERD_LINK_WINDOW
// messages, up to 1024, before it waits for acks, and heartbeats. Messages beyond that are
// dropped and sent again (H6).
const (
	pendingMessages = 2048
	pendingAcks     = 2048
	pendingJoins    = 16
)

// Neighbour is one end of a link: the subjects between an edge and one neighbour (H1). It
// knows nothing of the messages' meaning.
type Neighbour struct {
	c                   *Conn
	prefix, self, other string
	at, ack, join       string // the subjects on which it publishes

	mu   sync.Mutex
	subs map[string]*subscription // by kind of subject
}

// Handlers receive what the neighbour sends. A kind of message without a handler is not
// subscribed to. Each handler is called from a goroutine of its own, for one message at a
// time in the order of arrival, also across reconnects. A handler must not close its
// Neighbour or Conn.
type Handlers struct {
	Message func(Message) // the handler may keep Lines
	Ack     func(Ack)
	// Join answers a neighbour that starts, whose configuration has this hash.
	Join func(config string) Join
	// Bad is called for each message that was dropped for its headers (H9), from the
	// goroutines of all three other handlers.
	Bad func(error)
}

// Neighbour returns the link between self and other, which must be names of edges. prefix is
// HERD_SUBJECT_PREFIX.
func (c *Conn) Neighbour(prefix, self, other string) *Neighbour {
	return &Neighbour{
		c: c, prefix: prefix, self: self, other: other,
		at: prefix + ".at." + self + "." + other, ack: prefix + ".ack." + self + "." + other, join: prefix + ".join." + self + "." + other,
	}
}

// Send publishes m on <prefix>.at.<self>.<other>. An error means that it was not sent (H6);
// nil means that it is under way, not that it arrives. Send does not keep m or its lines. If
// the broker does not read, Send waits for at most two seconds.
func (n *Neighbour) Send(m *Message) error {
	nc := n.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: n.at, Header: encodeMessage(m), Data: m.Lines}); err != nil {
		return fmt.Errorf("send to %s: %w", n.other, err)
	}
	return nil
}

// Ack publishes a on <prefix>.ack.<self>.<other>. Its error means the same as that of Send.
func (n *Neighbour) Ack(a Ack) error {
	nc := n.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	if err := nc.PublishMsg(&nats.Msg{Subject: n.ack, Header: encodeAck(a)}); err != nil {
		return fmt.Errorf("ack to %s: %w", n.other, err)
	}
	return nil
}

// AskJoin asks the neighbour what this edge, which starts with a configuration with this hash
// (not ""), must wait for (H7). [ErrNobody] means that the neighbour or the broker is not
// there. If the neighbour does not answer, AskJoin waits until ctx ends.
func (n *Neighbour) AskJoin(ctx context.Context, config string) (Join, error) {
	m, err := n.c.request(ctx, &nats.Msg{Subject: n.join, Header: nats.Header{headerConfig: {config}}})
	if errors.Is(err, ErrNotConnected) {
		err = fmt.Errorf("%w: %w", ErrNobody, err)
	}
	if err != nil {
		return Join{}, fmt.Errorf("ask %s to join: %w", n.other, err)
	}
	j, err := decodeJoin(m.Header)
	if err != nil {
		return Join{}, fmt.Errorf("answer of %s: %w", n.other, err)
	}
	return j, nil
}

// request waits for the first answer to m. The error is ErrNobody if nobody is subscribed,
// and ErrNotConnected if the connection is missing or was lost meanwhile.
func (c *Conn) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	nc := c.live.Load()
	if nc == nil {
		return nil, ErrNotConnected
	}
	connections := nc.Stats().Reconnects
	answer, err := nc.RequestMsgWithContext(ctx, m)
	if err != nil && (c.live.Load() != nc || nc.Stats().Reconnects != connections) {
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err) // the question may be lost with the connection
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNobody
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded):
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return answer, err
}

// Listen subscribes to what the neighbour sends, until Close. It may be called once. If the
// broker is connected, it knows the subscriptions when Listen returns; otherwise they are
// made before [Events].Connected is called.
func (n *Neighbour) Listen(h Handlers) error {
	bad := func(m *nats.Msg, err error) {
		if h.Bad != nil {
			h.Bad(fmt.Errorf("%s: %w", m.Subject, err))
		}
	}
	subscribe := func(kind string, pending int, wanted bool, handle func(*nats.Msg) error) error {
		subscribe := n.c.subscribe
		if kind == "join" {
			subscribe = n.c.answer
		}
		if !wanted {
			return nil
		}
		subject := n.prefix + "." + kind + "." + n.other + "." + n.self
		sub, err := subscribe(subject, pending, func(m *nats.Msg) {
			if err := handle(m); err != nil {
				bad(m, err)
			}
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.subs == nil {
			n.subs = make(map[string]*subscription)
		}
		n.subs[kind] = sub
		return nil
	}
	err := errors.Join(
		subscribe("at", pendingMessages, h.Message != nil, func(m *nats.Msg) error {
			message, err := decodeMessage(m.Header, m.Data)
			if err != nil {
				return err
			}
			h.Message(message)
			return nil
		}),
		subscribe("ack", pendingAcks, h.Ack != nil, func(m *nats.Msg) error {
			ack, err := decodeAck(m.Header)
			if err != nil {
				return err
			}
			h.Ack(ack)
			return nil
		}),
		subscribe("join", pendingJoins, h.Join != nil, func(m *nats.Msg) error {
			d := decoder{h: m.Header}
			config := d.value(headerConfig, true)
			if d.err != nil {
				return d.err
			}
			if m.Reply == "" {
				return errors.New("a question without a reply subject")
			}
			n.c.respond(m, encodeJoin(h.Join(config)))
			return nil
		}),
	)
	if err != nil {
		n.Close()
		return err
	}
	n.c.confirm()
	return nil
}

// respond answers a question. If the answer cannot be sent, the question is asked again.
func (c *Conn) respond(question *nats.Msg, h nats.Header) {
	if nc := c.live.Load(); nc != nil {
		_ = nc.PublishMsg(&nats.Msg{Subject: question.Reply, Header: h})
	}
}

// confirm waits until the broker has confirmed the subscriptions made so far, if it is
// connected. If it does not confirm, another connection will be made.
func (c *Conn) confirm() {
	if nc := c.live.Load(); nc != nil {
		_ = nc.FlushTimeout(connectTimeout)
	}
}

// Renew subscribes again to what the neighbour sends (H8), for use when nothing arrives
// although the broker is connected: rights or an account may have been granted after the
// subscriptions, which the broker does not report. in means messages and joins, out means
// acks of what is sent. Messages under way meanwhile may be lost.
func (n *Neighbour) Renew(in, out bool) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	for kind, sub := range n.subs {
		if acks := kind == "ack"; acks && out || !acks && in {
			sub.renew()
		}
	}
}

// Close ends what Listen began. It returns when no handler runs any more.
func (n *Neighbour) Close() {
	n.mu.Lock()
	subs := n.subs
	n.subs = nil
	n.mu.Unlock()
	for _, s := range subs {
		s.quit()
	}
}
