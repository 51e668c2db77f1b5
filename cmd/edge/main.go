// Command edge is one edge of the herd as a daemon. Its environment tells it
// everything; see the README for the variables. It stops on SIGTERM and SIGINT,
// at once on the second; on SIGHUP it opens its transcript anew, looks for renewed
// certificates and reads its places again. Where systemd has started it, it says when it
// is ready.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"herd/edge"
)

// What the process says by its exit code.
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

// run does what args ask for and returns the exit code.
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
	cfg, warnings, err := edge.FromEnvironment(environ)
	if err != nil {
		tellConfig(stderr, err, warnings)
		return exitUsage
	}
	log := edge.NewLog(stderr, &cfg)
	for _, w := range warnings {
		log.Warn("configuration", "warning", w)
	}

	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)

	e, err := edge.New(cfg, edge.Shared{Log: log})
	if err != nil {
		log.Error("start", "error", err)
		return exitFailed
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	ready, tick := e.Ready(), time.NewTicker(statusEvery)
	defer tick.Stop()
	notify(log, waiting(e))
	for {
		select {
		case <-ready:
			ready = nil
			tick.Stop()
			notify(log, systemd.SdNotifyReady, serving(e))
		case <-tick.C:
			notify(log, waiting(e))
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				e.Reopen() // C20
			case ctx.Err() == nil:
				log.Info("stopping", "signal", s.String())
				ready = nil
				tick.Stop()
				notify(log, systemd.SdNotifyStopping, "STATUS=stopping", moreTime(cfg.ShutdownTimeout)) // before the stop begins
				stop()                                                                                  // C19
			default:
				log.Error("stopped at once", "signal", s.String())
				return exitFailed
			}
		case err := <-ended:
			if err != nil {
				log.Error("ended", "error", err)
				return exitFailed
			}
			log.Info("stopped")
			return exitOK
		}
	}
}

// tellConfig writes one message with everything that is wrong.
func tellConfig(w io.Writer, err error, warnings []string) {
	fmt.Fprintf(w, "edge: the configuration is wrong\n  %s\n", strings.ReplaceAll(err.Error(), "\n", "\n  "))
	for _, warning := range warnings {
		fmt.Fprintf(w, "  warning: %s\n", warning)
	}
}
