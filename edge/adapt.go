package edge

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"path/filepath"
	"time"

	"herd/broker"
	"herd/edge/command"
	"herd/edge/link"
	"herd/edge/server"
	"herd/edge/transcript"
	"herd/edge/wire"
	"herd/places"
)

// This file is where the rooms' words meet: each says what it needs in its own.

// handler gives each connection of the server a command session.
type handler struct {
	*command.Handler
	identity string // HERD_TLS_IDENTITY
}

func (h handler) Open(_ string, state *tls.ConnectionState) server.Session {
	if h.identity == "" {
		return session{h.Handler.Open()}
	}
	var ids []string
	if state != nil && len(state.VerifiedChains) > 0 {
		ids = identities(h.identity, state.PeerCertificates[0])
	}
	return session{h.Handler.OpenFor(ids)}
}

type session struct{ *command.Session }

func (s session) Take(received time.Time, lines []byte, out *server.Answers) {
	s.Session.Take(received, lines, out)
}

func (s session) Overlong(received time.Time, head, tail []byte, out *server.Answers) {
	s.Session.Overlong(received, head, tail, out)
}

func (s session) Close() {}

// finder asks places in the words of commands.
type finder struct{ *places.Finder }

func (f finder) Find(ctx context.Context, q command.Query) []byte {
	return f.Finder.Find(ctx, places.Query(q))
}

func (f finder) FindNow(q command.Query) ([]byte, bool) {
	return f.Finder.FindNow(places.Query(q))
}

// path carries a link's messages over the broker.
type path struct{ *broker.Neighbour }

func (p path) Send(m *link.Message) error { return p.Neighbour.Send((*broker.Message)(m)) }
func (p path) Ack(a link.Ack) error       { return p.Neighbour.Ack(broker.Ack(a)) }

// makeLinks makes a link, and the path below it, for each neighbour (H1).
func (e *Edge) makeLinks() {
	const messageBytes = 64 << 10 // H5
	e.linked = link.NewLinks(e.table)
	for i, name := range e.cfg.Topology.Neighbours(e.cfg.Edge) {
		n := &neighbour{name: name, log: e.log.With("neighbour", name), path: e.conn.Neighbour(e.cfg.SubjectPrefix, e.cfg.Edge, name)}
		n.link = e.linked.Add(link.Config{
			Neighbour: name, Epoch: e.epoch, Holder: i + 1,
			Window: e.cfg.LinkWindow, Linger: e.cfg.LinkLinger, Heartbeat: e.cfg.Heartbeat,
			MaxBytes: func() int {
				most := messageBytes
				if payload := e.conn.MaxPayload(); payload > 0 {
					most = min(most, payload-broker.HeaderRoom)
				}
				return max(most, wire.MaxAT)
			},
			Out: path{n.path}, Log: n.log,
			Recorder:   e.linkRecorder(),
			Propagated: e.times.propagated,
			Changed: func(up bool) {
				if !up {
					signal(e.silent)
				}
			},
		})
		n.link.Hold(true) // until it is known what the neighbour has (catchUp)
		e.neighbours = append(e.neighbours, n)
	}
}

// clientRecorder is the transcript for the server; a nil interface where it is off.
func (e *Edge) clientRecorder() server.Recorder {
	if e.transcript == nil {
		return nil
	}
	return e.transcript
}

// linkRecorder is the transcript for links, without their lines unless asked for (C20).
func (e *Edge) linkRecorder() link.Recorder {
	switch {
	case e.transcript == nil:
		return nil
	case e.cfg.TranscriptLinks:
		return e.transcript
	default:
		return upsAndDowns{e.transcript}
	}
}

type upsAndDowns struct{ *transcript.Log }

func (upsAndDowns) LinkIn(time.Time, string, []byte)  {}
func (upsAndDowns) LinkOut(time.Time, string, []byte) {}

// endpoints are the edge's commands over NATS (CONTRACT: NATS endpoints).
func (e *Edge) endpoints(stopping context.Context) broker.ServiceConfig {
	version, _ := Version()
	ask := func(verb string) func([]byte, time.Time) ([]byte, bool) {
		return func(payload []byte, received time.Time) ([]byte, bool) {
			return e.answerOne(stopping, verb, payload, received)
		}
	}
	return broker.ServiceConfig{
		Prefix: e.cfg.SubjectPrefix, Edge: e.cfg.Edge, Version: version,
		IAMAT: ask("IAMAT "), WHATSAT: ask("WHATSAT "), Ready: e.isReady,
		Status: func() []byte {
			b, err := json.Marshal(e.Status())
			if err != nil {
				e.log.Error("write status", "error", err)
			}
			return b
		},
	}
}

// answerOne serves one command that came without its verb. A refusal is the line of
// C4 and not ok.
func (e *Edge) answerOne(stopping context.Context, verb string, payload []byte, received time.Time) (answer []byte, ok bool) {
	line := append([]byte(verb), wire.TrimEnd(payload)...)
	out := &oneAnswer{}
	switch s := e.handler.Open(); {
	case len(line) > e.cfg.MaxLine:
		s.Overlong(received, line[:64], line[len(line)-16:], out)
	case bytes.IndexByte(line, '\n') >= 0: // would be several commands
		return append(append([]byte("? "), line...), '\n'), false
	default:
		s.Take(received, append(line, '\n'), out)
	}
	if out.later != nil {
		out.answer = out.later(stopping)
	}
	return out.answer, !bytes.HasPrefix(out.answer, []byte("? "))
}

// oneAnswer collects the answer of one command.
type oneAnswer struct {
	answer []byte
	later  func(context.Context) []byte
}

func (a *oneAnswer) Append(p []byte)                          { a.answer = append(a.answer, p...) }
func (a *oneAnswer) Later(f func(ctx context.Context) []byte) { a.later = f }
func (a *oneAnswer) Close()                                   {}

// storeDir is where the embedded broker keeps its state; "" where nothing is kept.
func (e *Edge) storeDir() string {
	if e.cfg.Data == "" {
		return ""
	}
	return filepath.Join(e.cfg.Data, "nats")
}
