package edge

import (
	"bytes"
	"context"
	"encoding/json"
	"net/netip"
	"time"

	"herd/broker"
	"herd/edge/command"
	"herd/edge/overview"
	"herd/edge/wire"
)

// endpoints are the edge's commands over NATS (docs/PROTOCOL.md, NATS endpoints).
func (e *Edge) endpoints(stopping context.Context) broker.ServiceConfig {
	version, _ := Version()
	return broker.ServiceConfig{
		Prefix: e.cfg.SubjectPrefix, Edge: e.cfg.Edge, Version: version, Joining: e.whyJoining,
		IAMAT: func(payload []byte, received time.Time) broker.Reply {
			return e.reportOne(context.WithoutCancel(stopping), payload, received)
		},
		WHATSAT: func(payload []byte, received time.Time) broker.Reply {
			return e.whereOne(stopping, payload, received)
		},
		WHOSAT: e.whoOne, Client: e.clientOne, Cells: e.cellsOne, Digest: e.digestOne,
		Status: func(question []byte) []byte {
			var q overview.Question
			if len(question) > 0 && json.Unmarshal(question, &q) != nil {
				q = overview.Question{} // whatever else tools send is no question
			}
			s := e.StatusFor(q)
			b, err := json.Marshal(s)
			if most := e.conn.MaxPayload(); err == nil && most > 0 && len(b) > most {
				s.Events, s.History = nil, nil // better that than no answer
				b, err = json.Marshal(s)
			}
			if err != nil {
				e.log.Error("write status", "error", err)
			}
			return b
		},
	}
}

// reportOne serves an IAMAT that came without its verb. It has taken effect when reportOne
// returns; Later waits for the journal (D3), until answered ends.
func (e *Edge) reportOne(answered context.Context, payload []byte, received time.Time) broker.Reply {
	c := e.handler.Caller(netip.Addr{})
	m, bad := parse(e, c, command.IAMAT, payload, wire.ParseIAMAT)
	if bad != nil {
		return *bad
	}
	reports := c.Report(received, m)
	line := reports.Each[0].Line
	switch {
	case line == nil:
		return refusal(command.IAMAT, payload)
	case !reports.Waits():
		return broker.Reply{Answer: line}
	}
	return broker.Reply{Later: func() broker.Reply {
		if reports.Await(answered) != nil {
			return refusal(command.IAMAT, payload)
		}
		return broker.Reply{Answer: line}
	}}
}

// whereOne serves a WHATSAT that came without its verb, until stopping ends (C19).
func (e *Edge) whereOne(stopping context.Context, payload []byte, received time.Time) broker.Reply {
	c := e.handler.Caller(netip.Addr{})
	q, bad := parse(e, c, command.WHATSAT, payload, wire.ParseWHATSAT)
	if bad != nil {
		return *bad
	}
	line, places, _ := c.Where(stopping, received, &q)
	if line == nil {
		return refusal(command.WHATSAT, payload)
	}
	return broker.Reply{Answer: append(append(line, places...), "\n\n"...)}
}

// whoOne serves a WHOSAT that came without its verb (L1).
func (e *Edge) whoOne(payload []byte, received time.Time) broker.Reply {
	c := e.handler.Caller(netip.Addr{})
	q, bad := parse(e, c, command.WHOSAT, payload, wire.ParseWHOSAT)
	if bad != nil {
		return *bad
	}
	lines, outcome := c.Near(received, &q)
	if outcome != command.OK {
		return refusal(command.WHOSAT, payload)
	}
	return broker.Reply{Answer: append(lines, '\n')}
}

// parse reads a command that came without its verb. What is invalid (C4), too long for a line (C5), or
// several lines is counted and refused: bad is the reply then, and nil otherwise.
func parse[T any](e *Edge, c *command.Caller, v command.Verb, payload []byte, fields func([]byte) (T, error)) (parsed T, bad *broker.Reply) {
	reply := refusal(v, payload)
	if len(reply.Answer)-len("? \n") > e.cfg.MaxLine {
		c.Refused(command.Other, command.Overlong)
		reply.Answer = append(reply.Answer[:len("? ")+64], '\n')
		return parsed, &reply
	}
	parsed, err := fields(payload)
	if err != nil || bytes.IndexByte(wire.TrimEnd(payload), '\n') >= 0 {
		c.Refused(v, command.Invalid)
		return parsed, &reply
	}
	return parsed, nil
}

// refusal is C4 for a command that came without its verb.
func refusal(v command.Verb, payload []byte) broker.Reply {
	return broker.Reply{Refused: true, Answer: command.Refusal(v, wire.TrimEnd(payload))}
}
