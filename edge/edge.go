package edge

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"

	"herd/broker"
	"herd/broker/certs"
	"herd/edge/admin"
	"herd/edge/clock"
	"herd/edge/command"
	"herd/edge/config"
	"herd/edge/devices"
	"herd/edge/events"
	"herd/edge/finder"
	"herd/edge/journal"
	"herd/edge/link"
	"herd/edge/position"
	"herd/edge/server"
	"herd/edge/transcript"
	"herd/edge/watch"
	"herd/edge/wire"
	"herd/places"
)

// Shared is what several edges of one process have in common. The zero value is
// an edge by itself.
type Shared struct {
	Log *slog.Logger // nil discards
	// Clock is the wall clock; nil: the machine's.
	Clock Clock
	// Embedded is the broker to use in place of the configured one.
	Embedded *broker.Embedded
	// Dial connects to the broker; nil: broker.Dial to the embedded or configured one.
	Dial Dial
	// Finder finds places; nil makes one by the configuration. Who makes it closes it.
	Finder *places.Finder
	// Listener is the client port in place of HERD_LISTEN, which nobody is let in by before
	// the edge accepts; nil: a TCP port. The edge closes it.
	Listener net.Listener
	// Random is what the random part of epochs comes from (H3), at least 4 bytes of it;
	// nil: crypto/rand.
	Random io.Reader
}

// An Edge is one server of the herd. Its methods may be called from any goroutine.
type Edge struct {
	cfg        config.Config
	shared     Shared
	log        *slog.Logger
	start      time.Time
	epoch      string // of this run (H3)
	configHash string // what Herd-Config says (H7)

	port       *port        // for clients, until it opens
	adminLn    net.Listener // nil: no admin port
	devicesLn  net.Listener // nil: no port for devices
	clocks     *clock.Clocks
	table      *position.Table
	handler    *command.Handler
	server     *server.Server
	devices    *devices.Server // nil: no port for devices
	finder     *places.Finder
	certs      *certs.Keeper   // of the client port; nil: plain TCP
	transcript *transcript.Log // nil: off
	conn       Broker
	journal    *journal.Journal // nil: off
	linked     *link.Links
	watches    *watch.Set // nil: HERD_LIVE is off
	neighbours []*neighbour

	made        chan struct{} // closed when conn and neighbours are there
	connected   chan struct{} // the broker is there, anew
	claims      chan string   // what others say of our name (H10)
	named       chan struct{} // closed when the name is ours
	silent      chan struct{} // a link went down
	ready       chan struct{} // closed when the client port is open
	stopping    chan struct{} // closed when the run is to end (C19)
	connections atomic.Uint64 // to the broker so far, with the name
	reconnects  atomic.Uint64 // of the broker's, with the name or without
	absence     absence       // the broker's
	floors      atomic.Pointer[floors]
	service     atomic.Pointer[Service]

	news    chan struct{}          // something that joining decides by has changed (H7)
	level   atomic.Int64           // how far the edge has joined (H7)
	loading atomic.Uint64          // entries that came of the journal
	waits   atomic.Pointer[string] // what the join waits for

	// endPromises ends all waiting for the journal, and afterPromises calls f then (C19).
	endPromises   context.CancelFunc
	afterPromises func(f func()) (stop func() bool)

	shortest     shortest
	liveness     *liveness
	proxyWarning rate.Sometimes

	brokerClock atomic.Pointer[clock.Reading] // what it last showed; nil: nothing yet
	clockNews   chan struct{}                 // another clock was heard
	pastKnown   chan struct{}                 // what is past can be told (S4)

	times   *metrics
	events  *events.Ring
	pace    pace
	moments moments
}

// A neighbour is one link with both its ends: what says things and what carries them.
type neighbour struct {
	name    string
	path    Neighbour
	link    *link.Link
	log     *slog.Logger
	nobody  atomic.Bool // the broker said that nobody answers for it (H7)
	differs atomic.Bool // is configured otherwise (H7)
	told    struct {    // of that, in the log
		sync.Mutex
		differs bool
		at      time.Time
	}
}

// Check reports what speaks against the files that an edge with this configuration
// opens, by the names of their variables: an extract of places, a file of users, and what it logs in to the
// broker with. It is one of those that [config.FromEnvironment] calls.
func Check(cfg *config.Config) error {
	err := finder.Check(cfg)
	if cfg.DevicesUsers != "" {
		if wrong := devices.CheckUsers(cfg.DevicesUsers); wrong != nil {
			err = errors.Join(err, fmt.Errorf("HERD_DEVICES_USERS: %w", wrong))
		}
	}
	if !cfg.EmbeddedNATS {
		err = errors.Join(broker.CheckFiles(cfg.Broker), err)
	}
	return err
}

// New makes an edge of a configuration that config.FromEnvironment returned. It takes the
// client and admin addresses and opens the transcript, so that what is occupied
// shows at once; who does not Run it must Close it.
func New(cfg config.Config, shared Shared) (*Edge, error) {
	log := shared.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if shared.Clock == nil {
		shared.Clock = systemClock{}
	}
	if shared.Random == nil {
		shared.Random = rand.Reader
	}
	now := time.Now()
	wall := shared.Clock.Wall(now)
	e := &Edge{
		cfg: cfg, shared: shared, start: now,
		configHash:   configHash(&cfg),
		clocks:       clock.New(now, wall),
		table:        position.New(position.Config{Retain: cfg.Retain, MaxClients: cfg.MaxClients, MaxBytes: int(cfg.MaxTable), Journal: cfg.Journal != config.JournalOff, Live: cfg.Live == config.LiveOn}),
		finder:       shared.Finder,
		made:         make(chan struct{}),
		connected:    make(chan struct{}, 1),
		claims:       make(chan string, 16),
		named:        make(chan struct{}),
		silent:       make(chan struct{}, 1),
		ready:        make(chan struct{}),
		stopping:     make(chan struct{}),
		proxyWarning: rate.Sometimes{Interval: time.Minute},
		times:        newMetrics(),
		news:         make(chan struct{}, 1),
		clockNews:    make(chan struct{}, 1),
		pastKnown:    make(chan struct{}, 1),
	}
	var err error
	if e.epoch, err = newEpoch(wall, shared.Random); err != nil {
		if shared.Listener != nil {
			_ = shared.Listener.Close()
		}
		return nil, err
	}
	e.events = events.New(cfg.Edge, e.epoch, e.utc)
	e.log = slog.New(e.events.Handler(log.Handler())).With("edge", cfg.Edge)
	promising, end := context.WithCancel(context.Background())
	e.endPromises = end
	e.afterPromises = func(f func()) (stop func() bool) { return context.AfterFunc(promising, f) }
	if err := e.take(); err != nil {
		e.Close()
		return nil, err
	}
	if e.finder == nil {
		f, err := finder.New(&e.cfg, e.log)
		if err != nil {
			e.Close()
			return nil, err
		}
		e.finder = f
	}
	e.makeWatches()
	e.handler = command.New(command.Config{
		Edge: cfg.Edge, Table: e.table, Finder: commandFinder{e.finder},
		PlacesTimeout: cfg.PlacesTimeout, Observe: e.times.command, Older: e.older, Proxied: e.proxied,
		Wall: e.wall, Retain: e.retention,
		Journal: e.promises(), JournalTimeout: cfg.JournalTimeout,
		Live: e.questions(),
	})
	clients := server.Config{
		MaxLine: cfg.MaxLine, MaxConns: cfg.MaxConns, MaxPending: int64(cfg.MaxPending),
		IdleTimeout: cfg.IdleTimeout, WriteTimeout: cfg.WriteTimeout, DrainTimeout: e.stopTime().drainTime(),
		TLS: e.clientTLS(), Recorder: e.clientRecorder(), Log: e.log,
	}
	e.server = server.New(clients, handler{e.handler, cfg.TLSIdentity})
	if err := e.makeDevices(clients); err != nil {
		e.Close()
		return nil, err
	}
	e.liveness = newLiveness(e.pulses()...)
	e.shortest.Store(wire.MaxAT)
	return e, nil
}

// clientTLS is nil for plain TCP.
func (e *Edge) clientTLS() *tls.Config {
	if e.certs == nil {
		return nil
	}
	return forClients(e.certs)
}

// take takes what another process may have: addresses, files.
func (e *Edge) take() (err error) {
	if e.shared.Listener != nil {
		e.port = givenPort(e.shared.Listener)
	} else if e.port, err = reservePort(e.cfg.Listen); err != nil {
		return fmt.Errorf("client port (HERD_LISTEN): %w", err)
	}
	if e.cfg.HTTP != "" {
		if e.adminLn, err = net.Listen("tcp", e.cfg.HTTP); err != nil {
			return fmt.Errorf("admin port (HERD_HTTP): %w", err)
		}
	}
	if err = e.takeDevices(); err != nil {
		return err
	}
	if e.cfg.TLSCert != "" {
		if e.certs, err = certs.Keep(e.cfg.ClientFiles(), e.log); err != nil {
			return fmt.Errorf("certificates (HERD_TLS_CERT, HERD_TLS_KEY, HERD_TLS_CLIENT_CA): %w", err)
		}
	}
	if e.cfg.Data != "" {
		if err := os.MkdirAll(e.cfg.Data, 0o700); err != nil {
			return fmt.Errorf("folder for state (HERD_DATA): %w", err)
		}
	}
	if e.cfg.Transcript != "" {
		e.transcript, err = transcript.Open(transcript.Config{Path: e.cfg.Transcript, Max: int64(e.cfg.TranscriptMax), Edge: e.cfg.Edge, Log: e.log, Wall: e.wall})
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
	for _, ln := range []net.Listener{e.adminLn, e.devicesLn} {
		if ln != nil {
			_ = ln.Close()
		}
	}
	if e.finder != nil && e.shared.Finder == nil {
		e.finder.Close()
	}
}

// Addr is the address for clients, open or not.
func (e *Edge) Addr() net.Addr { return e.port.addr }

// Ready is closed when the client port is open.
func (e *Edge) Ready() <-chan struct{} { return e.ready }

// Stopping is closed when Run is to end, because its context has ended or because
// something failed.
func (e *Edge) Stopping() <-chan struct{} { return e.stopping }

func (e *Edge) isReady() bool { return isClosed(e.ready) }

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Reopen opens the transcript's file anew (C20), looks for renewed certificate files and users,
// which would otherwise be seen by the next client, and has the places that are read
// from a file read again, unless its finder is shared: it is for SIGHUP.
func (e *Edge) Reopen() {
	if e.certs != nil {
		e.certs.Look()
	}
	if e.devices != nil {
		e.devices.LookAtUsers()
	}
	if e.transcript != nil {
		e.transcript.Reopen()
	}
	if e.shared.Finder == nil {
		e.finder.Reload()
	}
}

// stopTime is HERD_SHUTDOWN_TIMEOUT. Its methods say how it is shared out (C19), each counted
// from when the run is to end: what waits for something leaves time for what comes after it.
type stopTime time.Duration

func (e *Edge) stopTime() stopTime { return stopTime(e.cfg.ShutdownTimeout) }

func (t stopTime) promisesEnd() time.Duration { return time.Duration(t) / 2 }     // answers wait no longer for the journal
func (t stopTime) clientsEnd() time.Duration  { return time.Duration(t) * 3 / 4 } // who does not read is cut off
func (t stopTime) drainEnd() time.Duration    { return time.Duration(t) * 7 / 8 } // journal and links have all by then, or never

// drainTime is for how long a client may take to close its side: it has time for that
// after an answer that was waited for to the end.
func (t stopTime) drainTime() time.Duration {
	return min(time.Second, (t.clientsEnd()-t.promisesEnd())/2)
}

// adminEnd is for how long a stop waits for who asks the admin port.
func (t stopTime) adminEnd() time.Duration { return min(time.Second, time.Duration(t)/16) }

// Run serves until ctx ends, and then stops as C19 wants it. It starts upwards: broker,
// links, clients; and stops downwards, so that answers given while stopping still
// reach the neighbours. It returns nil after a complete stop; the error says what
// was incomplete, or what ended the run. Call it once.
func (e *Edge) Run(ctx context.Context) error {
	defer e.Close()
	f := newFloors(ctx, func() {
		close(e.stopping)
		time.AfterFunc(e.stopTime().promisesEnd(), e.endPromises)
		time.AfterFunc(e.stopTime().clientsEnd(), e.server.Abort) // harmless after a stop
	})
	e.floors.Store(f)
	err := e.run(f)
	limit, cancel := context.WithDeadline(context.WithoutCancel(ctx), f.ended().Add(e.cfg.ShutdownTimeout))
	defer cancel()
	return errors.Join(err, f.stop(limit))
}

// Waits names what Run waits for, such as "links", while it starts or stops; "" where it
// does not run, or any more. It is for whoever ends a process that does not stop (C19).
func (e *Edge) Waits() string {
	f := e.floors.Load()
	if f == nil {
		return ""
	}
	return *f.at.Load()
}

// run starts one floor upon the other and returns when the clients are served,
// because the run is to end or because it failed; what it started still runs.
func (e *Edge) run(f *floors) (err error) {
	f.start("liveness", e.liveness.run)
	if e.transcript != nil {
		f.start("transcript", e.transcript.Run)
	}
	if e.shared.Finder == nil {
		f.onStop("places", func(context.Context) error { e.finder.Close(); return nil })
	}
	if err := e.dial(f); err != nil {
		return err
	}
	if e.adminLn != nil {
		a := admin.New(e.adminConfig(), e.Source())
		f.start("admin", func(ctx context.Context) error { return a.Serve(ctx, e.adminLn) })
	}
	f.start("clocks", e.watchClocks)
	f.start("rates", e.keepPace)
	f.start("moments", e.noteMoments)
	if e.certs != nil || e.brokerFiles().Cert != "" {
		f.start("certificate", e.watchCertificates)
	}
	f.start("links", e.linked.Run)
	if e.journal != nil {
		f.start("journal", e.keepJournal)
	}
	f.onStop("draining", func(limit context.Context) error {
		limit, cancel := context.WithDeadline(limit, f.ended().Add(e.stopTime().drainEnd()))
		defer cancel()
		return e.drain(limit)
	})
	f.start("retention", e.forget)
	f.start("silence", func(ctx context.Context) error {
		return watchSilence(ctx, e.conn, e.log, e.cfg.Heartbeat, len(e.neighbours) == 0, e.anyLinkHeard, e.silent)
	})
	f.start("broker's changes", e.followBroker)
	f.onStop("endpoints", func(limit context.Context) error { e.stopService(limit); return nil })
	f.start("name", func(ctx context.Context) error {
		return keepName(ctx, e.epoch, e, e.log, e.connected, e.claims, func() error { return e.settle(f.ctx) }, e.reconnected)
	})
	f.start("questions to neighbours", e.askNeighbours)

	waitForDevices := e.serveDevices(f)
	defer func() { err = errors.Join(err, waitForDevices()) }()
	e.catchUp(f.ctx)
	e.awaitPlaces(f.ctx)
	if f.ctx.Err() != nil {
		return nil
	}
	ln, err := e.port.open()
	if err != nil {
		return fmt.Errorf("client port (HERD_LISTEN): %w", err)
	}
	if e.watches != nil {
		f.start("watches", e.watches.Run)
	}
	close(e.ready)
	if e.devices != nil {
		e.devices.Open()
	}
	e.setLevel(broker.LevelOpen)
	f.start("settled", e.settled)
	e.log.Info("ready", "address", ln.Addr().String(), "epoch", e.epoch, "broker", e.brokerState())
	f.waitsFor("clients")
	// Who asks over NATS stops being read when the others do (C19).
	endpointsStopped := make(chan struct{})
	stopEndpoints := context.AfterFunc(f.ctx, func() {
		defer close(endpointsStopped)
		limit, cancel := context.WithTimeout(context.WithoutCancel(f.ctx), e.stopTime().clientsEnd())
		defer cancel()
		e.stopService(limit)
	})
	err = e.server.Serve(f.ctx, ln)
	if !stopEndpoints() {
		<-endpointsStopped
	}
	if err != nil {
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
		f.onStop("NATS server", func(context.Context) error { embedded.Shutdown(); return nil })
	}
	e.absence.begin(time.Now(), nil)
	events := broker.Events{
		Connected: func(first bool) {
			e.absence.end(time.Now())
			if !first {
				e.reconnects.Add(1)
			}
			signal(e.connected)
			signal(e.news)
		},
		Disconnected: func(err error) {
			e.absence.begin(time.Now(), err)
			signal(e.news)
		},
		Failed: e.absence.failed,
		Error:  func(err error) { e.absence.complaint(time.Now(), err) },
	}
	if e.conn, err = e.connect(embedded, events); err != nil {
		return fmt.Errorf("connect to the broker: %w", err)
	}
	f.onStop("broker", func(limit context.Context) error {
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
	err := e.conn.AnswerName(e.cfg.SubjectPrefix, e.cfg.Edge, e.epoch, func(other string) {
		select {
		case e.claims <- other:
		default: // they repeat it
		}
	})
	if err != nil {
		return fmt.Errorf("answer for the name: %w", err)
	}
	for _, n := range e.neighbours {
		if stopping.Err() != nil {
			return nil // each waits for the broker
		}
		err := n.path.Listen(broker.Handlers{
			Message: func(m broker.Message) { n.link.Receive(time.Now(), (*link.Message)(&m)) },
			Ack:     func(a broker.Ack) { n.link.ReceiveAck(time.Now(), link.Ack(a)) },
			Join:    func(config string) broker.Join { return e.answerJoin(n, config) },
			Bad:     func(err error) { n.link.BadMessage(time.Now(), err) },
		})
		if err != nil {
			return fmt.Errorf("listen to %s: %w", n.name, err)
		}
	}
	service, err := e.conn.Serve(e.endpoints(stopping))
	if err != nil {
		return fmt.Errorf("offer endpoints: %w", err)
	}
	e.service.Store(&service)
	close(e.named)
	return nil
}

// reconnected lets all links ask for, and send again, what may be lost (H6).
func (e *Edge) reconnected() {
	e.connections.Add(1)
	if why := e.whyPayload(); why != "" {
		e.log.Error("not ready", "why", why)
	}
	now := time.Now()
	for _, n := range e.neighbours {
		n.link.Reconnected(now)
	}
	if e.journal != nil {
		e.journal.Reconnected()
	}
}

// ask and claim are what keeping a name needs of the broker.
func (e *Edge) ask(ctx context.Context) (epoch string, answered bool, err error) {
	return e.conn.AskName(ctx, e.cfg.SubjectPrefix, e.cfg.Edge)
}

func (e *Edge) claim() error {
	return e.conn.ClaimName(e.cfg.SubjectPrefix, e.cfg.Edge, e.epoch)
}

// stopService ends the endpoints; harmless when they have ended.
func (e *Edge) stopService(limit context.Context) {
	if s := e.service.Load(); s != nil {
		(*s).Stop(limit)
	}
}

// drain writes the journal and gives the links that are up what they lack, all at
// the same time, so that none that fails costs another its time (C19).
func (e *Edge) drain(limit context.Context) error {
	var all []func() error
	if e.journal != nil {
		all = append(all, func() error { return e.journal.Flush(limit) })
	}
	for _, n := range e.neighbours {
		all = append(all, func() error {
			if err := n.link.Drain(limit); err != nil {
				return fmt.Errorf("drain the link to %s: %w", n.name, err)
			}
			return nil
		})
	}
	return together(all)
}

// together calls all functions at the same time, waits for them, and joins their errors.
func together(all []func() error) error {
	errs := make([]error, len(all))
	var calls sync.WaitGroup
	for i, f := range all {
		calls.Go(func() { errs[i] = f() })
	}
	calls.Wait()
	return errors.Join(errs...)
}

// forget drops what is past HERD_RETAIN, a little at a time (S4).
func (e *Edge) forget(ctx context.Context) error {
	if e.cfg.Retain == 0 {
		return nil
	}
	const step = 4096 // slots looked at under one lock
	var dropped func([]byte) bool
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
		case <-e.pastKnown:
		}
		for end := false; !end && ctx.Err() == nil; {
			_, end = e.table.Forget(e.retention(time.Now()), step, dropped)
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
