// Package admin shows one edge, or several of one process, over HTTP: whether
// they are alive and ready, a status page, and metrics for Prometheus. It is
// given functions that tell; it knows nothing of clients, links or brokers, and
// changes nothing. It is the herd's only import of Prometheus.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Source is one edge as it is shown. All functions must be set; they are called
// once a request, from any goroutine, and must not block.
type Source struct {
	Name    string         // the edge's; each source has another
	Status  func() Status  // what is so now
	Metrics func() Metrics // what was counted since the start
	Ready   func() (ok bool, why string)
	Live    func() bool // false only where a new start would help
}

// Config is what all sources have in common.
type Config struct {
	Version, Commit string       // of the program
	Pprof           bool         // serve Go's profiles under /debug/pprof/
	Log             *slog.Logger // nil: nothing is logged
}

// Admin answers over HTTP for its sources. Any goroutine may use it.
type Admin struct {
	cfg     Config
	sources []Source
	handler http.Handler
}

// lockWaits is for how long goroutines waited for locks: where it grows with the cores,
// the order of changes is the bottleneck.
var lockWaits = regexp.MustCompile("^/sync/mutex/wait/total:seconds$")

// New makes an Admin that shows sources in the order given.
func New(cfg Config, sources ...Source) *Admin {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	a := &Admin{cfg: cfg, sources: sources}

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: lockWaits})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{cfg.Version, cfg.Commit, sources},
	)

	// A GET pattern takes HEAD too; other methods get 405 from the mux.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /healthz", a.healthz)
	mux.HandleFunc("GET /readyz", a.readyz)
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      slog.NewLogLogger(cfg.Log.Handler(), slog.LevelWarn),
	}))
	if cfg.Pprof {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	a.handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		mux.ServeHTTP(w, r)
	})
	return a
}

// Handler serves /, /healthz, /readyz, /metrics and, where asked for,
// /debug/pprof/: GET and HEAD alone, nothing that may be cached.
func (a *Admin) Handler() http.Handler { return a.handler }

// stopTime is how long a stop waits for answers that are on their way.
const stopTime = time.Second

// Serve answers requests on ln until ctx ends, then lets those under way finish
// for a second. It closes ln, and has no goroutine left when it returns:
// nil after ctx ended, else why it could not go on.
func (a *Admin) Serve(ctx context.Context, ln net.Listener) error {
	// A connection's goroutine ends just after StateClosed. StateNew comes from
	// srv.Serve itself, so nothing is added once that has returned.
	var conns sync.WaitGroup
	srv := &http.Server{
		Handler:           a.handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(a.cfg.Log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends a profile too
		ConnState: func(_ net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
			case http.StateClosed, http.StateHijacked:
				conns.Done()
			}
		},
	}
	if a.cfg.Pprof {
		srv.WriteTimeout = 5 * time.Minute // a profile takes as long as it was asked to
	}

	stopped := make(chan struct{})
	serving := context.AfterFunc(ctx, func() {
		defer close(stopped)
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	if serving() { // ctx has not ended it
		srv.Close()
		conns.Wait()
		return fmt.Errorf("admin on %s: %w", ln.Addr(), err)
	}
	<-stopped
	conns.Wait()
	return nil
}

func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	for _, s := range a.sources {
		if !s.Live() {
			tell(w, http.StatusServiceUnavailable, s.Name+" is not alive\n")
			return
		}
	}
	tell(w, http.StatusOK, "ok\n")
}

// readyz has a line for each edge, whatever the answer: what it waits for, and
// how its broker is, which decides nothing here (H8: an edge serves without).
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	code := http.StatusOK
	var body strings.Builder
	for _, s := range a.sources {
		ok, why := s.Ready()
		state := "ready"
		if !ok {
			code, state = http.StatusServiceUnavailable, "not ready: "+why
		}
		fmt.Fprintf(&body, "%s %s; broker %s\n", s.Name, state, s.Status().Broker)
	}
	tell(w, code, body.String())
}

func tell(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}
