package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"herd/broker"
	"herd/edge"
	"herd/edge/admin"
	"herd/edge/config"
	"herd/edge/finder"
	"herd/edge/inquiry"
	"herd/places"
)

var upCommand = command{
	name:  "up",
	brief: "run a whole herd in this process",
	more: `
Runs a NATS server and every edge of the topology. Prints each edge's name and
client address, then "ready" once all are ready. SIGINT (Ctrl-C) or SIGTERM stops
it; a second SIGINT, or a SIGTERM over a second later, ends it at once. SIGHUP
reopens the transcripts and reads HERD_OSM_FILE again.
The HERD_* variables of an edge apply to all edges, except those that a flag sets;
NATS_* variables are ignored.
`,
	setup: func(fs *flag.FlagSet) action {
		u := &up{fs: fs}
		fs.UintVar(&u.basePort, "base-port", 12000, "client `PORT` of the first edge; the others follow in alphabetical order; 0 means any free ports")
		fs.StringVar(&u.host, "host", "127.0.0.1", "`HOST` of the client ports")
		fs.String("http", "127.0.0.1:12080", "`HOST:PORT` of the admin port for all edges; empty means none")
		fs.String("nats", "127.0.0.1:4222", "`HOST:PORT` of the NATS server; empty means none")
		fs.String("devices", "", "`HOST:PORT` of the first edge's port for devices' apps and browsers; the others follow in alphabetical order; port 0 means any free ports; empty means none")
		fs.String("data", "", "`DIR` for state and transcripts, created if missing (a temporary one, removed at the end)")
		fs.String("topology", "", "`LINKS` of the herd, such as A-B,B-C, or the name of a lone edge (the default herd)")
		return func(ctx context.Context, p *process, _ []string) error { return u.run(ctx, p) }
	},
}

// up is one run of a herd.
type up struct {
	fs       *flag.FlagSet
	basePort uint
	host     string

	p       *process
	ending  edge.Ending
	at      atomic.Pointer[string] // what is being stopped, other than the edges
	taken   atomic.Bool            // take has returned
	log     *slog.Logger
	admin   admin.Config
	server  *broker.Embedded
	edges   []*edge.Edge
	names   []string
	finder  *places.Finder
	adminLn net.Listener // nil: none
}

// adminStop is how long the stop waits for requests at the admin port.
const adminStop = 100 * time.Millisecond

// errAtOnce ends the process without waiting for anything.
var errAtOnce = errors.New("stopped at once, by a second signal")

func (u *up) run(ctx context.Context, p *process) error {
	u.p = p
	signals := make(chan os.Signal, 4)
	defer p.notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)()

	herd, warnings, err := u.configure(p.environ, "")
	if err != nil {
		return err
	}
	u.log = config.NewLog(p.stderr, &herd[0])
	version, commit := edge.Version()
	u.admin = admin.Config{Version: version, Commit: commit, Pprof: herd[0].Pprof, Hosts: herd[0].HTTPHosts, StopTimeout: adminStop, Log: u.log,
		Name: "herd up", Prefix: herd[0].SubjectPrefix, Map: edge.MapSwitch(&herd[0]), Verify: inquiry.Verify}
	u.ending = edge.Ending{Limit: herd[0].ShutdownTimeout, Hung: u.sayHung, Exit: func() { p.exit(exitFailed) }}
	defer u.ending.Stop()
	for _, w := range warnings {
		u.log.Warn("configuration", "warning", w)
	}
	data := herd[0].Data
	if data == "" {
		if data, err = os.MkdirTemp("", "herd-"); err != nil {
			return fmt.Errorf("directory for state and transcripts (choose one with --data): %w", err)
		}
		defer u.remove(data)
		p.say("state and transcripts are in %s, which is removed at the end", data)
		if herd, _, err = u.configure(p.environ, data); err != nil {
			return err
		}
	} else if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("directory for state and transcripts (--data): %w", err)
	}
	stopped, err := u.takeOrStop(herd, data, signals)
	if err == nil && !stopped {
		err = u.serve(ctx, signals)
	}
	if err != errAtOnce {
		u.giveBack()
	}
	return err
}

// takeOrStop runs take, which may hang, for example on a transcript that is a pipe, and
// handles signals meanwhile. stopped reports that one arrived.
func (u *up) takeOrStop(herd []config.Config, data string, signals <-chan os.Signal) (stopped bool, err error) {
	u.waitsFor("start")
	taken := make(chan error, 1)
	go func() { taken <- u.take(herd, data) }() // waited for below, unless the process ends at once
	for {
		select {
		case err := <-taken:
			u.taken.Store(true)
			u.waitsFor("")
			return stopped, err
		case s := <-signals:
			if s == syscall.SIGHUP {
				continue // no transcript is open yet
			}
			switch first, atOnce := u.ending.Signal(s); { // C19
			case first:
				u.p.say("stopping")
				stopped = true
			case atOnce:
				return true, errAtOnce
			}
		}
	}
}

// sayHung reports what hangs (C19): a part of an edge, or else what all edges share.
func (u *up) sayHung() {
	var hung []string
	if !u.taken.Load() {
		u.p.say("stopped at once, since the start hangs")
		return
	}
	for i, e := range u.edges {
		if at := e.Waits(); at != "" {
			hung = append(hung, fmt.Sprintf("edge %s, at %s", u.names[i], at))
		}
	}
	if at := u.at.Load(); *at != "" {
		hung = append(hung, *at)
	}
	u.p.say("stopped at once, since the stop hangs: %s", strings.Join(hung, "; "))
}

func (u *up) waitsFor(what string) { u.at.Store(&what) }

func (u *up) remove(data string) {
	u.waitsFor("removing " + data)
	if err := os.RemoveAll(data); err != nil {
		u.p.say("%v", err)
	}
}

// take opens every address, so that one that is in use is reported before anything runs.
func (u *up) take(herd []config.Config, data string) (err error) {
	first := &herd[0]
	u.server, err = broker.StartEmbedded(broker.EmbeddedConfig{
		Name: "herd", Listen: first.EmbeddedNATSListen, StoreDir: filepath.Join(data, "nats"),
		SyncInterval: first.EmbeddedNATSSync.Interval, SyncAlways: first.EmbeddedNATSSync.Always, Log: u.log,
	})
	if err != nil {
		return occupied(err, first.EmbeddedNATSListen, "--nats", " and --data")
	}
	if first.HTTP != "" {
		if u.adminLn, err = net.Listen("tcp", first.HTTP); err != nil {
			return occupied(err, first.HTTP, "--http", "")
		}
	}
	if u.finder, err = finder.New(first, u.log); err != nil {
		return err
	}
	for _, cfg := range herd {
		cfg.HTTP = "" // one admin port serves all edges
		e, err := edge.New(cfg, edge.Shared{Log: u.log, Embedded: u.server, Finder: u.finder})
		if err != nil {
			err = fmt.Errorf("edge %s: %w", cfg.Edge, err)
			if errors.Is(err, edge.ErrDevicesPort) {
				return occupied(err, cfg.Devices, "--devices", "")
			}
			return occupied(err, cfg.Listen, "--base-port", " and --host")
		}
		u.edges = append(u.edges, e)
		u.names = append(u.names, cfg.Edge)
	}
	return nil
}

// occupied adds to an error which flag changes an address that is in use. For any other
// reason it names the flags that may be wrong.
func occupied(err error, address, flag, also string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is in use; choose another with %s: %w", address, flag, err)
	}
	return fmt.Errorf("%w (see %s%s)", err, flag, also)
}

// giveBack releases what take opened, when no edge runs.
func (u *up) giveBack() {
	u.waitsFor("places")
	defer u.waitsFor("the rest")
	for _, e := range u.edges {
		e.Close() // does nothing after Run
	}
	if u.adminLn != nil {
		_ = u.adminLn.Close()
	}
	if u.finder != nil {
		u.finder.Close()
	}
	if u.server != nil {
		u.waitsFor("NATS server")
		u.server.Shutdown()
	}
}

// serve runs the edges until a signal, ctx or a failure ends it.
func (u *up) serve(ctx context.Context, signals <-chan os.Signal) error {
	for i, e := range u.edges {
		fmt.Fprintf(u.p.stdout, "%s %s\n", u.names[i], e.Addr())
	}
	if url := u.server.URL(); url != "" {
		u.p.say("NATS is at %s", url)
	}
	for i, e := range u.edges {
		if addr := e.DevicesAddr(); addr != nil {
			u.p.say("devices and browsers reach %s at %s", u.names[i], addr)
		}
	}
	if u.adminLn != nil {
		u.p.say("the status page is at http://%s/", u.adminLn.Addr())
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- u.live(ctx) }() // waited for below, unless the process ends at once
	ready := make(chan struct{})
	waiting.Go(func() {
		for _, e := range u.edges {
			select {
			case <-e.Ready():
			case <-ctx.Done():
				return
			}
		}
		close(ready)
	})
	reopen := make(chan struct{}, 1)
	waiting.Go(func() {
		for range reopen {
			for _, e := range u.edges {
				e.Reopen() // C20; file operations may be slow, and signals must not wait
			}
			u.finder.Reload()
		}
	})
	defer close(reopen)
	failed := make(chan struct{}, len(u.edges))
	for _, e := range u.edges {
		waiting.Go(func() {
			select {
			case <-e.Stopping():
				failed <- struct{}{}
			case <-ctx.Done():
			}
		})
	}
	for {
		select {
		case <-ready:
			fmt.Fprintln(u.p.stdout, "ready")
			ready = nil
		case err := <-done:
			return err
		case <-failed:
			u.ending.Begin() // its failure stops all edges, and that stop must not hang either
		case s := <-signals:
			if s == syscall.SIGHUP {
				select {
				case reopen <- struct{}{}:
				default: // one is pending already
				}
				continue
			}
			switch first, atOnce := u.ending.Signal(s); { // C19
			case first:
				u.p.say("stopping")
				stop()
			case atOnce:
				return errAtOnce
			}
		}
	}
}

// live runs the edges, and the admin port as long as one of them runs, so that it can be used
// while they stop. A failure ends all.
func (u *up) live(ctx context.Context) error {
	all, failed := errgroup.WithContext(ctx)
	looking, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	var sources []admin.Source
	var edges sync.WaitGroup
	for i, e := range u.edges {
		sources = append(sources, e.Source())
		edges.Add(1)
		all.Go(func() error {
			defer edges.Done()
			if err := e.Run(failed); err != nil {
				return fmt.Errorf("edge %s: %w", u.names[i], err)
			}
			return nil
		})
	}
	if u.adminLn != nil {
		a := admin.New(u.admin, sources...)
		all.Go(func() error { return a.Serve(looking, u.adminLn) })
	}
	edges.Wait()
	u.waitsFor("admin port")
	stopAdmin()
	return all.Wait()
}
