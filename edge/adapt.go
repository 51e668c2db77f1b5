package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"net/netip"
	"path/filepath"
	"time"

	"herd/broker"
	"herd/edge/command"
	"herd/edge/config"
	"herd/edge/journal"
	"herd/edge/link"
	"herd/edge/position"
	"herd/edge/server"
	"herd/edge/transcript"
	"herd/places"
)

// This file is where the rooms' words meet: each says what it needs in its own.

// handler gives each connection of the server a command session.
type handler struct {
	*command.Handler
	identity string // HERD_TLS_IDENTITY
}

func (h handler) Open(remote string, address netip.Addr, state *tls.ConnectionState) server.Session {
	s := session{h.open(address, state)}
	s.Remote = remote
	return s
}

func (h handler) open(address netip.Addr, state *tls.ConnectionState) *command.Session {
	if h.identity == "" {
		return h.Caller(address).Session()
	}
	var ids []string
	if state != nil && len(state.VerifiedChains) > 0 {
		ids = identities(h.identity, state.PeerCertificates[0])
	}
	return h.CallerFor(address, ids).Session()
}

type session struct{ *command.Session }

func (s session) Take(received time.Time, lines []byte, out *server.Answers) (taken int) {
	return s.Session.Take(received, lines, out)
}

func (s session) Overlong(received time.Time, head, tail []byte, out *server.Answers) {
	s.Session.Overlong(received, head, tail, out)
}

// A session may have more to say than answers (L3).
var _ server.Teller = session{}

// commandFinder asks places in the words of commands.
type commandFinder struct{ *places.Finder }

func (f commandFinder) Find(ctx context.Context, q command.Query) []byte {
	return f.Finder.Find(ctx, places.Query(q))
}

func (f commandFinder) FindNow(q command.Query) ([]byte, bool) {
	return f.Finder.FindNow(places.Query(q))
}

// path carries a link's messages over the broker.
type path struct{ Neighbour }

func (p path) Send(m *link.Message) error { return p.Neighbour.Send((*broker.Message)(m)) }
func (p path) Ack(a link.Ack) error       { return p.Neighbour.Ack(broker.Ack(a)) }

// makeLinks makes a link, and the path below it, for each neighbour (H1).
func (e *Edge) makeLinks() {
	e.linked = link.NewLinks(e.table)
	for i, name := range e.cfg.Topology.Neighbours(e.cfg.Edge) {
		n := &neighbour{name: name, log: e.log.With("neighbour", name), path: e.conn.Neighbour(e.cfg.SubjectPrefix, e.cfg.Edge, name)}
		n.link = e.linked.Add(link.Config{
			Neighbour: name, Epoch: e.epoch, Number: i + 1,
			Window: e.cfg.LinkWindow, Gap: e.cfg.LinkGap, Heartbeat: e.cfg.Heartbeat,
			MaxBytes: e.messageBytes,
			Out:      path{n.path}, Log: n.log,
			Wall: e.wall, Retain: e.retention,
			Recorder:   e.linkRecorder(),
			Propagated: e.times.propagated,
			Changed: func(up bool) {
				if !up {
					signal(e.silent)
				}
				signal(e.news)
			},
			Joins: true, Came: func() { signal(e.news) },
			Told: func() { signal(e.clockNews) },
		})
		e.neighbours = append(e.neighbours, n)
	}
}

// journalCollect is for how long changes collect before they are written to the journal
// where no answer waits for it: a write costs as much as some hundred entries more.
const journalCollect = 250 * time.Millisecond

// makeJournal makes the journal over the broker's bucket, unless it is off (D1, D4).
func (e *Edge) makeJournal() {
	if e.cfg.Journal == config.JournalOff {
		return
	}
	bucket := e.conn.Bucket(broker.BucketConfig{
		Prefix: e.cfg.SubjectPrefix, Edge: e.cfg.Edge,
		Replicas: e.cfg.JournalReplicas, Storage: e.cfg.JournalStorage,
		MaxBytes: int64(e.cfg.JournalMaxBytes), Clock: e.heardBroker,
	})
	cfg := journal.Config{Table: e.table, Store: store{bucket, &e.loading}, Log: e.log, Epoch: e.epoch, Regain: e.regainName,
		RetainNow: func() int64 { return e.retention(time.Now()) }, Wrote: e.times.journalled}
	if e.cfg.Durability != config.DurabilityJournal {
		cfg.Collect = journalCollect
	}
	e.journal = journal.New(cfg)
}

// keepJournal runs the journal from when the name is this run's: one run writes it (D5, H10).
func (e *Edge) keepJournal(ctx context.Context) error {
	select {
	case <-e.named:
		return e.journal.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// journalOver says whether all that the journal held is in the table (D2), or there is none
// and none is waited for (D4).
func (e *Edge) journalOver() bool {
	return e.journal == nil || isClosed(e.journal.Loaded()) || e.cfg.Journal != config.JournalOn && isClosed(e.journal.None())
}

// promises is the journal for commands, where an answer promises that it holds the
// line (D3); a nil interface where not.
func (e *Edge) promises() command.Journal {
	if e.cfg.Durability != config.DurabilityJournal {
		return nil
	}
	return promise{e}
}

// A promise finds the journal when it is needed: it is made before the first client comes.
type promise struct{ e *Edge }

// Await gives up where the edge stops and drains (C19).
func (p promise) Await(ctx context.Context, who command.Peer, lines []position.Ref) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer p.e.afterPromises(cancel)()
	err := p.e.journal.Await(ctx, journal.Peer(who), lines)
	if errors.Is(err, journal.ErrNever) {
		return command.ErrNever
	}
	return err
}

// older takes an IAMAT that changed nothing because what is held is newer: a device whose
// clock is far in the past shows only here (C11). What came over NATS has no address to be
// written down with (C20).
func (e *Edge) older(remote string, client []byte, by time.Duration) {
	e.times.older.observe(1, by)
	if e.transcript != nil && remote != "" {
		e.transcript.Older(time.Now(), remote, client, by)
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

// Levels are the same numbers on both sides.
var _ = [1]struct{}{}[broker.LevelOpen-link.LevelOpen+broker.LevelSettled-link.LevelSettled]

type upsAndDowns struct{ *transcript.Log }

func (upsAndDowns) LinkIn(time.Time, string, []byte)  {}
func (upsAndDowns) LinkOut(time.Time, string, []byte) {}

// storeDir is where the embedded broker keeps its state; "" where nothing is kept.
func (e *Edge) storeDir() string {
	if e.cfg.Data == "" {
		return ""
	}
	return filepath.Join(e.cfg.Data, "nats")
}

// proxied warns of a load balancer that says who its clients are in a way that edges do not
// take (C17), once a minute.
func (e *Edge) proxied(remote string) {
	e.proxyWarning.Do(func() {
		e.log.Warn("connection closed: it begins with a PROXY protocol header; switch that off where connections come from",
			"remote", remote, "setting", "HAProxy: send-proxy; nginx: proxy_protocol; AWS: proxy_protocol_v2")
	})
}
