package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/nats-io/nats.go"
)

// How many messages may wait for a handler. A neighbour sends at most
// HERD_LINK_WINDOW, 1024, before it waits for acks, and heartbeats; what is
// dropped beyond that is lost, and sent again (H6).
const (
	pendingMessages = 2048
	pendingAcks     = 2048
	pendingJoins    = 16
)

// Neighbour is one link as seen from one of its ends: the subjects between an
// edge and one neighbour (H1), and nothing that is said on them.
type Neighbour struct {
	c                         *Conn
	prefix, self, other, join string

	sending sync.Mutex // so that messages leave in the order of the calls
	message *messageEncoder
	acking  sync.Mutex
	ack     *ackEncoder

	mu   sync.Mutex
	subs []*subscription
}

// Handlers take what the neighbour sends; what has no handler is not subscribed
// to. Each is called from a goroutine of its own, for one message after the
// other in the order in which they came, also over reconnects. A handler must
// not close its Neighbour or Conn.
type Handlers struct {
	Message func(Message) // Lines is the handler's to keep
	Ack     func(Ack)
	// Join answers a neighbour that starts, whose configuration has this hash.
	Join func(config string) Join
	// Bad is told of each message that was dropped for its headers (H9). It is
	// called from the goroutines of all three others.
	Bad func(error)
}

// Neighbour returns the link between self and other, which must be edges'
// names; prefix is HERD_SUBJECT_PREFIX.
func (c *Conn) Neighbour(prefix, self, other string) *Neighbour {
	return &Neighbour{
		c: c, prefix: prefix, self: self, other: other,
		join:    prefix + ".join." + self + "." + other,
		message: newMessageEncoder(prefix + ".at." + self + "." + other),
		ack:     newAckEncoder(prefix + ".ack." + self + "." + other),
	}
}

// Send publishes m on <prefix>.at.<self>.<other>. An error means that it did
// not happen (H6); nil, that it is on its way, not that it arrives. m and its
// lines are not kept. It waits for a broker that does not read, for two
// seconds at most.
func (n *Neighbour) Send(m *Message) error {
	nc := n.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	n.sending.Lock()
	defer n.sending.Unlock()
	if err := nc.PublishMsg(n.message.encode(m)); err != nil {
		return fmt.Errorf("send to %s: %w", n.other, err)
	}
	return nil
}

// Ack publishes a on <prefix>.ack.<self>.<other>. Its error means what that of
// Send means.
func (n *Neighbour) Ack(a Ack) error {
	nc := n.c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	n.acking.Lock()
	defer n.acking.Unlock()
	if err := nc.PublishMsg(n.ack.encode(a)); err != nil {
		return fmt.Errorf("ack to %s: %w", n.other, err)
	}
	return nil
}

// AskJoin asks the neighbour what this edge, which starts with a configuration
// of this hash (not ""), has to wait for (H7). [ErrNobody] says that the neighbour or
// the broker is not there; a neighbour that does not answer costs all of ctx.
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

// request waits for the first answer to m. The error is ErrNobody where nobody
// is subscribed, ErrNotConnected where there is no broker to ask, or no more.
func (c *Conn) request(ctx context.Context, m *nats.Msg) (*nats.Msg, error) {
	nc := c.live.Load()
	if nc == nil {
		return nil, ErrNotConnected
	}
	answer, err := nc.RequestMsgWithContext(ctx, m)
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		return nil, ErrNobody
	case errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrConnectionClosed), errors.Is(err, nats.ErrReconnectBufExceeded):
		return nil, fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return answer, err
}

// Listen subscribes to what the neighbour sends, until Close. It may be called
// once. Where the broker is there, it knows the subscriptions when Listen
// returns; otherwise they are made before [Events].Connected.
func (n *Neighbour) Listen(h Handlers) error {
	bad := func(m *nats.Msg, err error) {
		if h.Bad != nil {
			h.Bad(fmt.Errorf("%s: %w", m.Subject, err))
		}
	}
	subscribe := func(kind string, pending int, wanted bool, handle func(*nats.Msg) error) error {
		if !wanted {
			return nil
		}
		subject := n.prefix + "." + kind + "." + n.other + "." + n.self
		sub, err := n.c.subscribe(subject, pending, func(m *nats.Msg) {
			if err := handle(m); err != nil {
				bad(m, err)
			}
		})
		if err != nil {
			return fmt.Errorf("subscribe to %s: %w", subject, err)
		}
		n.mu.Lock()
		defer n.mu.Unlock()
		n.subs = append(n.subs, sub)
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

// respond answers a question. An answer that is not sent is a question that is
// asked again.
func (c *Conn) respond(question *nats.Msg, h nats.Header) {
	if nc := c.live.Load(); nc != nil {
		_ = nc.PublishMsg(&nats.Msg{Subject: question.Reply, Header: h})
	}
}

// confirm waits until the broker has confirmed the subscriptions made so far,
// if there is a broker. Where it does not, another connection will.
func (c *Conn) confirm() {
	if nc := c.live.Load(); nc != nil {
		_ = nc.FlushTimeout(connectTimeout)
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
