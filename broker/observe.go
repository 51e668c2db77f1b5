package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"herd/broker/topology"
)

// Watch calls f for every message that edge sends to a neighbour, or that any
// edge sends where edge is "", until ctx ends; then it returns nil. f is
// called from one goroutine. Messages with bad headers are left out.
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

// quiet is how long after the last edge that told of itself no further one is
// waited for.
const quiet = 300 * time.Millisecond

// Statuses asks every edge of the herd with this prefix for its status, and
// returns what they answered before ctx ended, sorted by edge. The error names
// the edges that are there but did not answer.
func (c *Conn) Statuses(ctx context.Context, prefix string) ([]json.RawMessage, error) {
	edges, err := c.edges(ctx, prefix)
	if err != nil {
		return nil, fmt.Errorf("find edges: %w", err)
	}
	answers := make([]json.RawMessage, len(edges))
	problems := make([]error, len(edges))
	var asked sync.WaitGroup
	for i, edge := range edges {
		asked.Go(func() {
			m, err := c.request(ctx, &nats.Msg{Subject: prefix + ".edge." + edge + ".status"})
			switch {
			case err != nil:
				problems[i] = fmt.Errorf("status of %s: %w", edge, err)
			case !json.Valid(m.Data):
				problems[i] = fmt.Errorf("status of %s: not JSON", edge)
			default:
				answers[i] = m.Data
			}
		})
	}
	asked.Wait()
	answers = slices.DeleteFunc(answers, func(a json.RawMessage) bool { return a == nil })
	return answers, errors.Join(problems...)
}

// edges finds the edges that are there, sorted by name.
func (c *Conn) edges(ctx context.Context, prefix string) ([]string, error) {
	nc := c.live.Load()
	if nc == nil {
		return nil, ErrNotConnected
	}
	answers := make(chan *nats.Msg, 256)
	inbox := nc.NewInbox()
	sub, err := nc.ChanSubscribe(inbox, answers)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	if err := nc.PublishRequest(micro.APIPrefix+".INFO."+serviceName, inbox, nil); err != nil {
		return nil, err
	}
	var edges []string
	wait := time.NewTimer(quiet * 4) // the first may be far away
	defer wait.Stop()
	for {
		select {
		case m := <-answers:
			if m.Header.Get("Status") == "503" { // no responders
				return nil, nil
			}
			var info micro.Info
			edge := ""
			if json.Unmarshal(m.Data, &info) == nil && info.Metadata["prefix"] == prefix {
				edge = info.Metadata["edge"]
			}
			if topology.CheckName(edge) == nil { // it becomes part of a subject
				edges = append(edges, edge)
			}
			wait.Reset(quiet)
		case <-wait.C:
			slices.Sort(edges)
			return slices.Compact(edges), nil
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}
