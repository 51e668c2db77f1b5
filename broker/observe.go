package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"herd/broker/topology"
)

// Watch calls f for every message that edge sends to a neighbour, or that any edge sends if
// edge is "", until ctx ends. Then it returns nil. f is called from one goroutine. Messages
// with bad headers are skipped.
func (c *Conn) Watch(ctx context.Context, prefix, edge string, f func(from, to string, m Message)) error {
	from := "*"
	if edge != "" {
		if err := topology.CheckName(edge); err != nil {
			return err
		}
		from = edge
	}
	sub, err := c.subscribe(prefix+".at."+from+".*", pendingMessages, func(m *nats.Msg) {
		names := strings.Split(m.Subject, ".")
		if message, err := decodeMessage(m.Header, m.Data); err == nil && len(names) == 4 {
			f(names[2], names[3], message)
		}
	})
	if err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	defer sub.quit()
	c.confirm()
	select {
	case <-ctx.Done():
		return nil
	case <-sub.over:
		return ErrClosed
	}
}

// quiet is how long to wait for another edge after the last one that answered.
const quiet = 300 * time.Millisecond

// Status asks an edge of the herd with this prefix for its status (JSON), with a question (JSON),
// or nil. The error is [ErrNobody] if the edge is not there.
func (c *Conn) Status(ctx context.Context, prefix, edge string, question []byte) (json.RawMessage, error) {
	if err := topology.CheckName(edge); err != nil { // the name becomes part of a subject
		return nil, err
	}
	text, err := c.ask(ctx, prefix, edge, "status", question)
	if err != nil {
		return nil, fmt.Errorf("ask %s for its status: %w", edge, err)
	}
	return text, nil
}

// A Look is what operators may ask an edge about the clients that it holds (docs/PROTOCOL.md,
// NATS endpoints).
type Look string

const (
	LookClient Look = "client" // the payload is a client's id
	LookCells  Look = "cells"  // two corners of a box, and the most clients
	LookDigest Look = "digest" // JSON
)

// Look asks an edge of the herd with this prefix about the clients that it holds, and returns its
// answer (JSON). The error is [ErrNobody] if the edge is not there, and an [*AnswerError] if it
// does not answer the question.
func (c *Conn) Look(ctx context.Context, prefix, edge string, about Look, payload []byte) (json.RawMessage, error) {
	if err := topology.CheckName(edge); err != nil {
		return nil, err
	}
	text, err := c.ask(ctx, prefix, edge, string(about), payload)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", edge, err)
	}
	return text, nil
}

// AnswerError is an error that an edge gave for an answer; Data is what came with it, such as the
// line of C4.
type AnswerError struct {
	Code, Text string
	Data       []byte
}

// Busy reports whether the edge has no time now and may be asked again.
func (e *AnswerError) Busy() bool { return e.Code == laterCode && e.Text == busy }

func (e *AnswerError) Error() string { return e.Text }

// Ask sends a request to an endpoint of an edge of the herd with this prefix, and returns the
// answer. The error is [ErrNobody] if the edge is not there, and an [*AnswerError] if it does not
// answer the question.
func (c *Conn) Ask(ctx context.Context, prefix, edge, endpoint string, payload []byte) ([]byte, error) {
	if err := topology.CheckName(edge); err != nil { // the name becomes part of a subject
		return nil, err
	}
	m, err := c.request(ctx, &nats.Msg{Subject: prefix + ".edge." + edge + "." + endpoint, Data: payload})
	if err != nil {
		return nil, err
	}
	if code := m.Header.Get(micro.ErrorCodeHeader); code != "" {
		return nil, &AnswerError{code, m.Header.Get(micro.ErrorHeader), m.Data}
	}
	return m.Data, nil
}

func (c *Conn) ask(ctx context.Context, prefix, edge, endpoint string, payload []byte) (json.RawMessage, error) {
	answer, err := c.Ask(ctx, prefix, edge, endpoint, payload)
	if err == nil && !json.Valid(answer) {
		err = errors.New("the answer is not JSON")
	}
	if err != nil {
		return nil, err
	}
	return answer, nil
}

// MayAsk reports whether this user may send requests to an endpoint of an edge, as far as the
// broker says: its permissions. What its account keeps from it shows only in that nobody answers.
// A broker that does not say counts as one that permits.
func (c *Conn) MayAsk(ctx context.Context, prefix, edge, endpoint string) (bool, error) {
	m, err := c.request(ctx, &nats.Msg{Subject: "$SYS.REQ.USER.INFO"})
	switch {
	case errors.Is(err, ErrNobody):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("ask the broker for this user's rights: %w", err)
	}
	var user struct {
		Data struct {
			Permissions struct {
				Publish struct{ Allow, Deny []string }
			}
		}
	}
	if err := json.Unmarshal(m.Data, &user); err != nil {
		return false, fmt.Errorf("this user's rights: %w", err)
	}
	may, subject := &user.Data.Permissions.Publish, prefix+".edge."+edge+"."+endpoint
	covers := func(pattern string) bool { return covered(pattern, subject) }
	return (may.Allow == nil || slices.ContainsFunc(may.Allow, covers)) && !slices.ContainsFunc(may.Deny, covers), nil
}

// covered reports whether a pattern of NATS, with its wildcards, is for a subject without any.
func covered(pattern, subject string) bool {
	for {
		p, restP, moreP := strings.Cut(pattern, ".")
		s, restS, moreS := strings.Cut(subject, ".")
		switch {
		case p == ">":
			return true
		case p != "*" && p != s || moreP != moreS:
			return false
		case !moreP:
			return true
		}
		pattern, subject = restP, restS
	}
}

// Edges returns the edges of the herd with this prefix that answer, and the prefixes of other herds
// of which an edge answered at the same broker. Both are sorted.
func (c *Conn) Edges(ctx context.Context, prefix string) (edges, others []string, err error) {
	edges, others, err = c.edges(ctx, prefix)
	if err != nil {
		return nil, nil, fmt.Errorf("find edges: %w", err)
	}
	return edges, others, nil
}

func (c *Conn) edges(ctx context.Context, prefix string) (edges, others []string, err error) {
	nc := c.live.Load()
	if nc == nil {
		return nil, nil, ErrNotConnected
	}
	answers := make(chan *nats.Msg, 256)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, nil, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(micro.APIPrefix+".INFO."+serviceName, inbox, nil); err != nil {
		return nil, nil, err
	}
	wait := time.NewTimer(quiet * 4) // the first answer may take longer
	defer wait.Stop()
	for {
		select {
		case m := <-answers:
			if m.Header.Get("Status") == "503" { // no responders
				return nil, nil, nil
			}
			wait.Reset(quiet)
			var info micro.Info
			if json.Unmarshal(m.Data, &info) != nil {
				continue
			}
			edge, of := info.Metadata["edge"], info.Metadata["prefix"]
			switch {
			case topology.CheckName(edge) != nil: // the name becomes part of a subject
			case of == prefix:
				edges = append(edges, edge)
			case of != "":
				others = append(others, of)
			}
		case <-wait.C:
			slices.Sort(edges)
			slices.Sort(others)
			return slices.Compact(edges), slices.Compact(others), nil
		case <-ctx.Done():
			return nil, nil, context.Cause(ctx)
		}
	}
}
