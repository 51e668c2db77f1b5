package edge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"herd/broker"
	"herd/broker/certs"
	"herd/edge/admin"
	"herd/edge/command"
	"herd/edge/journal"
	"herd/edge/link"
	"herd/edge/position"
	"herd/edge/server"
	"herd/edge/transcript"
	"herd/edge/wire"
	"herd/places"
)

// Shared is what several edges of one process have in common. The zero value is
// an edge by itself.
type Shared struct {
	Log *slog.Logger // nil discards
	// Embedded is the broker to use in place of the configured one.
	Embedded *broker.Embedded
	// Finder finds places; nil makes one by the configuration. Who makes it closes it.
	Finder *places.Finder
}

// An Edge is one server of the herd. Its methods may be called from any goroutine.
type Edge struct {
	cfg        Config
	shared     Shared
	log        *slog.Logger
	start      time.Time
	epoch      string // of this run (H3)
	configHash string // what Herd-Config says (H7)

	port       *port        // for clients, until it opens
	adminLn    net.Listener // nil: no admin port
	table      *position.Table
	handler    *command.Handler
	server     *server.Server
	finder     *places.Finder
	certs      *certs.Keeper   // of the client port; nil: plain TCP
	transcript *transcript.Log // nil: off
	conn       *broker.Conn
	journal    *journal.Journal // nil: off
	linked     *link.Links
	neighbours []*neighbour

	made      chan struct{} // closed when conn and neighbours are there
	connected chan struct{} // the broker is there, anew
	claims    chan string   // what others say of our name (H10)
	named     chan struct{} // closed when the name is ours
	silent    chan struct{} // a link went down
	ready     chan struct{} // closed when the client port is open
	service   atomic.Pointer[broker.Service]

	times metrics
}

// A neighbour is one link with both its ends: what says things and what carries them.
type neighbour struct {
	name    string
	path    *broker.Neighbour
	link    *link.Link
	log     *slog.Logger
	differs atomic.Bool // is configured otherwise (H7)
}

// New makes an edge of a configuration that FromEnvironment returned. It takes the
// client and admin addresses and opens the transcript, so that what is occupied
// shows at once; who does not Run it must Close it.
func New(cfg Config, shared Shared) (*Edge, error) {
	log := shared.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	now := time.Now()
	e := &Edge{
		cfg: cfg, shared: shared, start: now,
		log:        log.With("edge", cfg.Edge),
		epoch:      newEpoch(now),
		configHash: configHash(&cfg),
		table:      position.New(position.Config{Retain: cfg.Retain, MaxClients: cfg.MaxClients, Journal: cfg.Journal != journalOff}),
		finder:     shared.Finder,
		made:       make(chan struct{}),
		connected:  make(chan struct{}, 1),
		claims:     make(chan string, 16),
		named:      make(chan struct{}),
		silent:     make(chan struct{}, 1),
		ready:      make(chan struct{}),
	}
	if err := e.take(); err != nil {
		e.Close()
		return nil, err
	}
	if e.finder == nil {
		f, err := NewFinder(&e.cfg, e.log)
		if err != nil {
			e.Close()
			return nil, err
		}
		e.finder = f
	}
	e.handler = command.New(command.Config{
		Edge: cfg.Edge, Table: e.table, Finder: finder{e.finder},
		PlacesTimeout: cfg.PlacesTimeout, Observe: e.times.command,
		Journal: e.promises(), JournalTimeout: cfg.JournalTimeout,
	})
	e.server = server.New(server.Config{
		MaxLine: cfg.MaxLine, MaxConns: cfg.MaxConns,
		IdleTimeout: cfg.IdleTimeout, WriteTimeout: cfg.WriteTimeout,
		TLS: e.clientTLS(), Recorder: e.clientRecorder(), Log: e.log,
	}, handler{e.handler, cfg.TLSIdentity})
	return e, nil
}

// clientTLS is nil for plain TCP.
func (e *Edge) clientTLS() *tls.Config {
	if e.certs == nil {
		return nil
	}
	return forClients(e.certs)
}

// take gets hold of what another process may have.
func (e *Edge) take() (err error) {
	if e.port, err = reservePort(e.cfg.Listen); err != nil {
		return fmt.Errorf("client port (HERD_LISTEN): %w", err)
	}
	if e.cfg.HTTP != "" {
		if e.adminLn, err = net.Listen("tcp", e.cfg.HTTP); err != nil {
			return fmt.Errorf("admin port (HERD_HTTP): %w", err)
		}
	}
	if e.cfg.TLSCert != "" {
		if e.certs, err = certs.Keep(e.cfg.clientFiles(), e.log); err != nil {
			return fmt.Errorf("certificates (HERD_TLS_CERT, HERD_TLS_KEY, HERD_TLS_CLIENT_CA): %w", err)
		}
	}
	if e.cfg.Data != "" {
		if err := os.MkdirAll(e.cfg.Data, 0o700); err != nil {
			return fmt.Errorf("folder for state (HERD_DATA): %w", err)
		}
	}
	if e.cfg.Transcript != "" {
		e.transcript, err = transcript.Open(transcript.Config{Path: e.cfg.Transcript, Max: int64(e.cfg.TranscriptMax), Edge: e.cfg.Edge, Log: e.log})
		if err != nil {
			return fmt.Errorf("transcript (HERD_TRANSCRIPT): %w", err)
		}
	}
	return nil
}

// Close gives back what New took, where Run was not called.
func (e *Edge) Close() {
	if e.port != nil {
		e.port.close()
	}
	if e.adminLn != nil {
		_ = e.adminLn.Close()
	}
	if e.finder != nil && e.shared.Finder == nil {
		e.finder.Close()
	}
}

// Addr is the address for clients, open or not.
func (e *Edge) Addr() net.Addr { return e.port.addr }

// Ready is closed when the client port is open.
func (e *Edge) Ready() <-chan struct{} { return e.ready }

func (e *Edge) isReady() bool {
	select {
	case <-e.ready:
		return true
	default:
		return false
	}
}

// Reopen opens the transcript's file anew (C20), looks for renewed certificate files,
// which would otherwise be seen by the next client, and has the places that are read
// from a file read again, unless its finder is shared: it is for SIGHUP.
func (e *Edge) Reopen() {
	if e.certs != nil {
		e.certs.Look()
	}
	if e.transcript != nil {
		e.transcript.Reopen()
	}
	if e.shared.Finder == nil {
		e.finder.Reload()
	}
}

// Run serves until ctx ends, and then stops as C19 wants it. It starts upwards: broker,
// links, clients; and stops downwards, so that answers given while stopping still
// reach the neighbours. It returns nil after a complete stop; the error says what
// was incomplete, or what ended the run. Call it once.
func (e *Edge) Run(ctx context.Context) error {
	defer e.Close()
	f := newFloors(ctx)
	err := e.run(f)
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.cfg.ShutdownTimeout-time.Since(f.ended()))
	defer cancel()
	return errors.Join(err, f.stop(limit))
}

// run starts one floor upon the other and returns when the clients are served,
// because the run is to end or because it failed; what it started still runs.
func (e *Edge) run(f *floors) error {
	if e.transcript != nil {
		f.start("transcript", e.transcript.Run)
	}
	if e.shared.Finder == nil {
		f.onStop(func(context.Context) error { e.finder.Close(); return nil })
	}
	if err := e.dial(f); err != nil {
		return err
	}
	if e.adminLn != nil {
		version, commit := Version()
		a := admin.New(admin.Config{Version: version, Commit: commit, Pprof: e.cfg.Pprof, Log: e.log}, e.Source())
		f.start("admin", func(ctx context.Context) error { return a.Serve(ctx, e.adminLn) })
	}
	f.start("links", e.linked.Run)
	if e.journal != nil {
		f.start("journal", e.keepJournal)
	}
	f.onStop(e.handOver)
	f.start("retention", e.forget)
	f.start("silence", e.watchSilence)
	f.onStop(e.stopService)
	f.start("name", func(ctx context.Context) error {
		return keepName(ctx, e.epoch, e, e.log, e.connected, e.claims, func() error { return e.settle(f.ctx) }, e.reconnected)
	})

	e.catchUp(f.ctx)
	e.awaitPlaces(f.ctx)
	if f.ctx.Err() != nil {
		return nil
	}
	ln, err := e.port.open()
	if err != nil {
		return fmt.Errorf("client port (HERD_LISTEN): %w", err)
	}
	close(e.ready)
	e.log.Info("ready", "address", ln.Addr().String(), "epoch", e.epoch, "broker", e.brokerState())
	abort := context.AfterFunc(f.ctx, func() {
		// Clients that do not read must not take the time of what comes after them.
		time.AfterFunc(e.cfg.ShutdownTimeout*3/4, e.server.Abort) // harmless after a stop
	})
	defer abort()
	if err := e.server.Serve(f.ctx, ln); err != nil {
		return fmt.Errorf("serve clients: %w", err)
	}
	return nil
}

// dial connects to the broker, in the background, and makes the links over it.
func (e *Edge) dial(f *floors) (err error) {
	embedded := e.shared.Embedded
	if e.cfg.EmbeddedNATS && embedded == nil {
		embedded, err = broker.StartEmbedded(broker.EmbeddedConfig{
			Name: e.cfg.Edge, Listen: e.cfg.EmbeddedNATSListen, StoreDir: e.storeDir(),
			SyncInterval: e.cfg.EmbeddedNATSSync.Interval, SyncAlways: e.cfg.EmbeddedNATSSync.Always, Log: e.log,
		})
		if err != nil {
			return fmt.Errorf("embedded NATS server (HERD_EMBEDDED_NATS_LISTEN, HERD_DATA): %w", err)
		}
		f.onStop(func(context.Context) error { embedded.Shutdown(); return nil })
	}
	events := broker.Events{
		Connected: func(bool) { signal(e.connected) },
	}
	if embedded != nil {
		e.conn, err = embedded.Dial(e.cfg.Edge, events, e.log)
	} else {
		e.conn, err = broker.Dial(e.cfg.Options, e.cfg.Edge, events, e.log)
	}
	if err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	f.onStop(func(limit context.Context) error {
		flushing, cancel := context.WithTimeout(limit, time.Second)
		defer cancel()
		if e.conn.Connected() {
			if err := e.conn.Flush(flushing); err != nil {
				e.log.Warn("flush the last words to the broker", "error", err)
			}
		}
		e.conn.Close()
		return nil
	})
	e.makeLinks()
	e.makeJournal()
	close(e.made)
	return nil
}

// settle is what a run does once its name is its own: it answers for the name,
// listens to its neighbours and offers its endpoints. stopping ends when the run is to.
func (e *Edge) settle(stopping context.Context) error {
	err := e.conn.HoldName(e.cfg.SubjectPrefix, e.cfg.Edge, e.epoch, func(other string) {
		select {
		case e.claims <- other:
		default: // they repeat it
		}
	})
	if err != nil {
		return fmt.Errorf("hold the name: %w", err)
	}
	for _, n := range e.neighbours {
		err := n.path.Listen(broker.Handlers{
			Message: func(m broker.Message) { n.link.Receive((*link.Message)(&m)) },
			Ack:     func(a broker.Ack) { n.link.ReceiveAck(link.Ack(a)) },
			Join:    func(config string) broker.Join { return e.answerJoin(n, config) },
			Bad:     n.link.BadMessage,
		})
		if err != nil {
			return fmt.Errorf("listen to %s: %w", n.name, err)
		}
	}
	service, err := e.conn.Serve(e.endpoints(stopping))
	if err != nil {
		return fmt.Errorf("offer endpoints: %w", err)
	}
	e.service.Store(service)
	close(e.named)
	return nil
}

// reconnected lets all links ask for, and send again, what may be lost (H6).
func (e *Edge) reconnected() {
	if most := e.conn.MaxPayload(); most > 0 && most < wire.MaxAT+broker.HeaderRoom {
		e.log.Error("the broker's max_payload is too small for a line", "max_payload", most)
	}
	for _, n := range e.neighbours {
		n.link.Reconnected()
	}
	if e.journal != nil {
		e.journal.Reconnected()
	}
}

// ask and claim are keepName's view of the broker.
func (e *Edge) ask(ctx context.Context) (epoch string, answered bool, err error) {
	return e.conn.AskName(ctx, e.cfg.SubjectPrefix, e.cfg.Edge)
}

func (e *Edge) claim() error {
	return e.conn.ClaimName(e.cfg.SubjectPrefix, e.cfg.Edge, e.epoch)
}

func (e *Edge) stopService(context.Context) error {
	if s := e.service.Load(); s != nil {
		s.Stop()
	}
	return nil
}

// handOver writes the journal and gives the links that are up what they lack, all at
// the same time, so that none that fails costs another its time (C19).
func (e *Edge) handOver(limit context.Context) error {
	var all errgroup.Group
	if e.journal != nil {
		all.Go(func() error { return e.journal.Flush(limit) })
	}
	for _, n := range e.neighbours {
		all.Go(func() error {
			if err := n.link.HandOver(limit); err != nil {
				return fmt.Errorf("hand over to %s: %w", n.name, err)
			}
			return nil
		})
	}
	return all.Wait()
}

// forget drops what is past HERD_RETAIN, a little at a time (S4).
func (e *Edge) forget(ctx context.Context) error {
	if e.cfg.Retain == 0 {
		return nil
	}
	const step = 4096 // slots looked at under one lock
	var dropped func([]byte, uint64)
	if e.journal != nil {
		dropped = e.journal.Forgotten
	}
	every := min(e.cfg.Retain/60, time.Minute)
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		for end := false; !end && ctx.Err() == nil; {
			_, end = e.table.Forget(time.Now().UnixNano(), step, dropped)
		}
	}
}

// watchSilence asks the broker for a sign of life when all links have fallen
// silent, and reconnects without one (H8).
func (e *Edge) watchSilence(ctx context.Context) error {
	if len(e.neighbours) == 0 {
		return nil
	}
	again := 3 * e.cfg.Heartbeat
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-e.silent:
		case <-time.After(again):
		}
		if !e.conn.Connected() || e.anyLinkUp() {
			continue
		}
		asking, cancel := context.WithTimeout(ctx, askLimit)
		err := e.conn.Alive(asking)
		cancel()
		if err != nil && ctx.Err() == nil {
			e.log.Warn("all links silent, and no sign of life from the broker", "error", err)
			if err := e.conn.Reconnect(); err != nil {
				e.log.Warn("reconnect to the broker", "error", err)
			}
		}
	}
}

func (e *Edge) anyLinkUp() bool {
	for _, n := range e.neighbours {
		if n.link.Up() {
			return true
		}
	}
	return false
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
