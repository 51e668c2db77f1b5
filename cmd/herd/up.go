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
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"

	"herd/broker"
	"herd/edge"
	"herd/edge/admin"
	"herd/places"
)

var upCommand = command{
	name:  "up",
	brief: "run a whole herd in this process",
	more: `
Runs a NATS server and every edge of the topology. Prints each edge's name and
client address, then "ready" once all of them are. SIGINT (Ctrl-C) or SIGTERM
stops it, a second one at once; SIGHUP opens the transcripts and
reads HERD_OSM_FILE anew.
The HERD_* variables of an edge hold for all of them, but for those that a flag
sets; NATS_* are ignored.
`,
	setup: func(fs *flag.FlagSet) action {
		u := &up{fs: fs}
		fs.UintVar(&u.basePort, "base-port", 12000, "client `PORT` of the first edge; the others follow in alphabetical order; 0 is any free ports")
		fs.StringVar(&u.host, "host", "127.0.0.1", "`HOST` on which clients are served")
		fs.String("http", "127.0.0.1:12080", "`HOST:PORT` of the admin port of all edges; empty is none")
		fs.String("nats", "127.0.0.1:4222", "`HOST:PORT` of the NATS server; empty is none")
		fs.String("data", "", "`DIR` for state and transcripts, made if missing (a temporary one, removed at the end)")
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
	log     *slog.Logger
	pprof   bool // HERD_PPROF
	server  *broker.Embedded
	edges   []*edge.Edge
	names   []string
	finder  *places.Finder
	adminLn net.Listener // nil: none
}

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
	u.log, u.pprof = edge.NewLog(p.stderr, &herd[0]), herd[0].Pprof
	for _, w := range warnings {
		u.log.Warn("configuration", "warning", w)
	}
	data := herd[0].Data
	if data == "" {
		if data, err = os.MkdirTemp("", "herd-"); err != nil {
			return fmt.Errorf("folder for state and transcripts (choose one with --data): %w", err)
		}
		defer u.remove(data)
		p.say("state and transcripts are in %s, which is removed at the end", data)
		if herd, _, err = u.configure(p.environ, data); err != nil {
			return err
		}
	} else if err := os.MkdirAll(data, 0o700); err != nil {
		return fmt.Errorf("folder for state and transcripts (--data): %w", err)
	}
	if err = u.take(herd, data); err == nil {
		err = u.serve(ctx, signals)
	}
	if err != errAtOnce {
		u.giveBack()
	}
	return err
}

func (u *up) remove(data string) {
	if err := os.RemoveAll(data); err != nil {
		u.p.say("%v", err)
	}
}

// take gets hold of every address, so that what is occupied shows before anything
// runs.
func (u *up) take(herd []edge.Config, data string) (err error) {
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
	if u.finder, err = edge.NewFinder(first, u.log); err != nil {
		return err
	}
	for _, cfg := range herd {
		cfg.HTTP = "" // theirs is one for all
		e, err := edge.New(cfg, edge.Shared{Log: u.log, Embedded: u.server, Finder: u.finder})
		if err != nil {
			return occupied(fmt.Errorf("edge %s: %w", cfg.Edge, err), cfg.Listen, "--base-port", " and --host")
		}
		u.edges = append(u.edges, e)
		u.names = append(u.names, cfg.Edge)
	}
	return nil
}

// occupied says of an address that cannot be had which flag changes it; where the
// reason is another than that someone has it, which flags the reason may lie in.
func occupied(err error, address, flag, also string) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is occupied; choose another with %s: %w", address, flag, err)
	}
	return fmt.Errorf("%w (see %s%s)", err, flag, also)
}

// giveBack gives back what take took, when no edge runs.
func (u *up) giveBack() {
	for _, e := range u.edges {
		e.Close() // harmless after Run
	}
	if u.adminLn != nil {
		_ = u.adminLn.Close()
	}
	if u.finder != nil {
		u.finder.Close()
	}
	if u.server != nil {
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
	if u.adminLn != nil {
		u.p.say("the status page is at http://%s/", u.adminLn.Addr())
	}
	var waiting sync.WaitGroup
	defer waiting.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- u.live(ctx) }() // waited for below, unless all is to end at once
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
	for stopping := false; ; {
		select {
		case <-ready:
			fmt.Fprintln(u.p.stdout, "ready")
			ready = nil
		case err := <-done:
			return err
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				for _, e := range u.edges {
					e.Reopen() // C20
				}
				u.finder.Reload()
			case stopping:
				return errAtOnce // C19
			default:
				stopping = true
				u.p.say("stopping")
				stop()
			}
		}
	}
}

// live runs the edges, and the admin port for as long as one of them runs, so that
// one can look on while they stop. What fails ends all.
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
		version, commit := edge.Version()
		a := admin.New(admin.Config{Version: version, Commit: commit, Pprof: u.pprof, Log: u.log}, sources...)
		all.Go(func() error { return a.Serve(looking, u.adminLn) })
	}
	edges.Wait()
	stopAdmin()
	return all.Wait()
}
