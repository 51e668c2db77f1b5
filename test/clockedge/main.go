// Command clockedge is cmd/edge with a wall clock that a test can step from outside, while the
// monotonic clock goes on. Its argument is a file with the clock's error as a Go duration, such
// as -2h0m0s, which it reads a hundred times a second. It is configured by the environment, as
// cmd/edge is. It is only for tests.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"herd/edge"
	"herd/edge/config"
)

func main() { os.Exit(run()) }

func run() int {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: clockedge FILE")
		return 2
	}
	cfg, _, err := config.FromEnvironment(os.Environ(), edge.Check)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	log := config.NewLog(os.Stderr, &cfg)
	c := &wrong{file: os.Args[1], log: log}
	c.look()
	e, err := edge.New(cfg, edge.Shared{Log: log, Clock: c})
	if err != nil {
		log.Error("start", "error", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		c.watch(ctx)
	}()
	err = e.Run(ctx)
	stop()
	<-watching
	if err != nil {
		log.Error("ended", "error", err)
		return 1
	}
	return 0
}

// wrong is a clock whose error is read from a file.
type wrong struct {
	file string
	log  *slog.Logger
	by   atomic.Int64
}

// Wall implements edge.Clock.
func (w *wrong) Wall(moment time.Time) int64 { return moment.UnixNano() + w.by.Load() }

func (w *wrong) watch(ctx context.Context) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			w.look()
		}
	}
}

// look reads the file. If there is no file, or it has no duration, nothing changes.
func (w *wrong) look() {
	text, err := os.ReadFile(w.file)
	if err != nil {
		return
	}
	by, err := time.ParseDuration(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	if was := time.Duration(w.by.Swap(int64(by))); was != by {
		w.log.Info("the clock is stepped", "was_wrong_by", was, "is_wrong_by", by)
	}
}
