// Command edge runs one edge of the herd as a daemon. It is configured by environment
// variables only; docs/configuration.md lists them. SIGTERM or SIGINT stops it; a second
// SIGINT, or a SIGTERM more than a second after the first, ends it at once. On SIGHUP it
// reopens its transcript, looks for renewed certificates and reloads its places. Started by
// systemd with Type=notify, it reports when it is ready.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"herd/edge"
	"herd/edge/config"
)

// Exit codes.
const (
	exitOK     = 0 // a complete stop, or ready
	exitFailed = 1 // an error, an incomplete stop, or not ready
	exitUsage  = 2 // wrong arguments or variables; nothing was started
)

const usage = `usage: edge            run an edge, configured by HERD_* and NATS_* variables
       edge health     ask this edge's own /readyz (at HERD_HTTP); exit 0 or 1
       edge version    print version and commit
`

func main() { os.Exit(run(os.Args[1:], os.Environ(), os.Stdout, os.Stderr)) }

// run runs the command in args and returns the exit code.
func run(args, environ []string, stdout io.Writer, stderr *os.File) int {
	switch strings.Join(args, " ") {
	case "":
		return serve(environ, stderr)
	case "health":
		return health(environ, stdout, stderr)
	case "version":
		version, commit := edge.Version()
		fmt.Fprintf(stdout, "edge %s (%s)\n", version, commit)
		return exitOK
	}
	fmt.Fprint(stderr, usage)
	return exitUsage
}

// serve runs an edge until a signal ends it.
func serve(environ []string, stderr *os.File) int {
	cfg, warnings, err := config.FromEnvironment(environ, edge.Check)
	if err != nil {
		tellConfig(stderr, err, warnings)
		return exitUsage
	}
	log := config.NewLog(stderr, &cfg)
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	for _, w := range warnings {
		log.Warn("configuration", "warning", w)
	}

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	// New may hang too, for example on a transcript that is a pipe, so signals are handled
	// while it runs.
	var current atomic.Pointer[edge.Edge]
	made, ended := make(chan *edge.Edge, 1), make(chan error, 1)
	go func() {
		e, err := edge.New(cfg, edge.Shared{Log: log})
		if err != nil {
			ended <- fmt.Errorf("start: %w", err)
			return
		}
		current.Store(e)
		made <- e
		ended <- e.Run(ctx)
	}()
	waits := func() string {
		if e := current.Load(); e != nil {
			return e.Waits()
		}
		return "start"
	}
	ending := edge.Ending{Limit: cfg.ShutdownTimeout, Exit: func() { os.Exit(exitFailed) }, Hung: func() {
		log.Error("stopped at once, since the stop hangs", "at", waits())
	}}
	defer ending.Stop()
	reopen := make(chan struct{}, 1)
	var reopening sync.WaitGroup
	reopening.Go(func() {
		for range reopen {
			if e := current.Load(); e != nil {
				e.Reopen() // C20; in a goroutine: file operations may be slow, and signals must not wait
			}
		}
	})
	defer reopening.Wait()
	defer close(reopen)

	var e *edge.Edge
	var ready, stopping <-chan struct{}
	tick := time.NewTicker(statusEvery)
	defer tick.Stop()
	begin := func() {
		ending.Begin()
		ready, stopping = nil, nil
		tick.Stop()
		notify(log, systemd.SdNotifyStopping, "STATUS=stopping", moreTime(cfg.ShutdownTimeout)) // sent before the stop begins
	}
	for {
		select {
		case e = <-made:
			if ctx.Err() == nil {
				ready, stopping = e.Ready(), e.Stopping()
				notify(log, waiting(e))
			}
		case <-ready:
			ready = nil
			tick.Stop()
			notify(log, systemd.SdNotifyReady, serving(e))
		case <-tick.C:
			if e != nil {
				notify(log, waiting(e))
			}
		case <-stopping: // a failure stops the edge, and that stop must not hang either
			begin()
		case s := <-signals:
			if s == syscall.SIGHUP {
				select {
				case reopen <- struct{}{}:
				default: // one is pending already
				}
				continue
			}
			switch first, atOnce := ending.Signal(s); { // C19
			case first:
				log.Info("stopping", "signal", s.String())
				begin()
				stop()
			case atOnce:
				log.Error("stopped at once", "signal", s.String(), "at", waits())
				ending.Exit()
			}
		case err := <-ended:
			ending.Begin()
			if err != nil {
				log.Error("ended", "error", err)
				return exitFailed
			}
			log.Info("stopped")
			return exitOK
		}
	}
}

// tellConfig writes all configuration errors and warnings as one message.
func tellConfig(w io.Writer, err error, warnings []string) {
	fmt.Fprintf(w, "edge: the configuration is wrong\n  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	for _, warning := range warnings {
		fmt.Fprintf(w, "  warning: %s\n", warning)
	}
}
