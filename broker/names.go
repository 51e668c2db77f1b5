package broker

import (
	"context"
	"errors"
	"fmt"

	"github.com/nats-io/nats.go"
)

// A name has one live run (H10). Its runs meet on <prefix>.join.<name>.<name>: a message
// there with an epoch is a claim, one without is a question.

func nameSubject(prefix, self string) string { return prefix + ".join." + self + "." + self }

// AskName asks whether another run uses the name self, and for its epoch. The run that has
// the name may ask too, since it does not receive its own messages. If nobody answers before
// ctx ends, that is no error; a lost or missing connection is [ErrNotConnected].
func (c *Conn) AskName(ctx context.Context, prefix, self string) (epoch string, answered bool, err error) {
	m, err := c.request(ctx, &nats.Msg{Subject: nameSubject(prefix, self)})
	switch {
	case err == nil:
	case !errors.Is(err, ErrNotConnected) && (errors.Is(err, ErrNobody) || errors.Is(err, context.DeadlineExceeded)):
		return "", false, nil // a suspended run will read the claim when it continues
	default:
		return "", false, fmt.Errorf("ask for the name %s: %w", self, err)
	}
	d := decoder{h: m.Header}
	if epoch = d.epoch(headerEpoch, true); d.err != nil {
		return "", false, fmt.Errorf("ask for the name %s: %w", self, d.err)
	}
	return epoch, true, nil
}

// ClaimName tells all other runs with the name self that epoch has it.
func (c *Conn) ClaimName(prefix, self, epoch string) error {
	nc := c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	m := &nats.Msg{Subject: nameSubject(prefix, self), Header: nats.Header{headerEpoch: {epoch}}}
	if err := nc.PublishMsg(m); err != nil {
		return fmt.Errorf("claim the name %s: %w", self, err)
	}
	return nil
}

// AnswerName answers questions for the name self with epoch until the connection is closed. It
// passes the epoch of other runs' claims to claimed, which must not close the connection.
func (c *Conn) AnswerName(prefix, self, epoch string, claimed func(other string)) error {
	_, err := c.answer(nameSubject(prefix, self), pendingJoins, func(m *nats.Msg) {
		d := decoder{h: m.Header}
		switch other := d.epoch(headerEpoch, false); {
		case d.err != nil:
			c.log.Warn("bad claim of this edge's name", "edge", self, "error", d.err)
		case other == "" && m.Reply != "":
			c.respond(m, nats.Header{headerEpoch: {epoch}})
		case other != "" && other != epoch:
			claimed(other)
		}
	})
	if err != nil {
		return fmt.Errorf("answer for the name %s: %w", self, err)
	}
	c.confirm()
	return nil
}
