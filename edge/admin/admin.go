// Package admin shows one edge, or several edges of one process, over HTTP: whether they are
// alive and ready, a status page, and metrics for Prometheus. It is given functions that
// return these facts; it knows nothing of clients, links or brokers, and changes nothing.
// Only this package imports Prometheus.
package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"herd/edge/httplog"
	"herd/edge/overview"
)

// Source is one edge to show. All functions must be set. They are called once per request,
// from any goroutine, and must not block.
type Source struct {
	Name    string                 // the edge's name; unique among the sources
	Status  func() overview.Status // the current state
	Metrics func() Metrics         // counts since the start
	Ready   func() (ok bool, why string)
	Live    func() (ok bool, why string) // not ok only if a restart would help
	// History returns the edge's last ten minutes; nil: there is none.
	History func() *overview.History
	// Ask answers as the edge's own endpoints do (Others); nil: it does not.
	Ask func(ctx context.Context, endpoint string, payload []byte) ([]byte, error)
}

// Config is what all sources share.
type Config struct {
	Version, Commit string        // of this program
	Pprof           bool          // serve Go's profiles under /debug/pprof/
	Hosts           []string      // more host names to answer to, in lower case; see answersTo
	StopTimeout     time.Duration // how long a stop waits for requests under way; default 1s
	Log             *slog.Logger  // nil: no log

	Name   string          // who serves the page: an edge's name, or a command
	Prefix string          // HERD_SUBJECT_PREFIX
	Others Others          // the edges of other processes; nil: there are none
	Map    overview.Switch // whether positions may be shown
	// Verify compares what edges hold, and returns JSON; ask asks an edge at its endpoint digest.
	// nil: it cannot be asked for here.
	Verify func(ctx context.Context, edges []string, ask func(ctx context.Context, edge string, question []byte) ([]byte, error)) ([]byte, error)
}

// Admin serves the admin port for its sources. It may be used from any goroutine.
type Admin struct {
	cfg     Config
	sources []Source
	machine string // this machine's host name, in lower case
	handler http.Handler
	board   *board
	channel channel
	looks   looks
}

// lockWaits is how long goroutines waited for locks. If it grows with the number of cores,
// the order of changes is the bottleneck.
var lockWaits = regexp.MustCompile("^/sync/mutex/wait/total:seconds$")

// New returns an Admin that shows sources in the given order.
func New(cfg Config, sources ...Source) *Admin {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.StopTimeout == 0 {
		cfg.StopTimeout = time.Second
	}
	machine, _ := os.Hostname() // no request matches ""
	a := &Admin{cfg: cfg, sources: sources, machine: strings.ToLower(machine)}
	a.board = newBoard(sources, cfg.Others, overview.Server{
		Name: cfg.Name, Version: cfg.Version, Commit: cfg.Commit, Started: time.Now().UTC(), Map: cfg.Map}, cfg.Prefix)
	a.channel.board = a.board

	registry := prometheus.NewRegistry()
	registry.MustRegister(
		collectors.NewGoCollector(collectors.WithGoCollectorRuntimeMetrics(
			collectors.GoRuntimeMetricsRule{Matcher: lockWaits})),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{cfg.Version, cfg.Commit, sources},
	)

	// A GET pattern also matches HEAD; the mux answers other methods with 405.
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", a.page)
	mux.HandleFunc("GET /status.json", a.statusJSON)
	mux.HandleFunc("GET /events", a.events)
	mux.HandleFunc("GET /map.json", a.private(a.mapJSON))
	mux.HandleFunc("GET /client.json", a.private(a.clientJSON))
	mux.HandleFunc("GET /try.json", a.private(a.tryJSON))
	mux.HandleFunc("GET /verify.json", a.private(a.verifyJSON))
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
		if !a.answersTo(r.Host) {
			tell(w, http.StatusMisdirectedRequest, fmt.Sprintf("unknown host %.100q; if it is this one, add it to HERD_HTTP_HOSTS\n", r.Host))
			return
		}
		mux.ServeHTTP(w, r)
	})
	return a
}

// answersTo reports whether a request with this Host header may be for this port. Without the
// check, a web page could point its own host name at this machine and read the port (DNS
// rebinding). Such a name has a dot, and browsers always send a Host, so names without a dot
// and an empty Host are safe.
func (a *Admin) answersTo(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.ToLower(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"))
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.Contains(host, ".") || host == a.machine || slices.Contains(a.cfg.Hosts, host)
}

// Handler serves the page and what it asks for, /healthz, /readyz, /metrics and, with Pprof,
// /debug/pprof/.
// It accepts only GET and HEAD, forbids caching, and answers requests for an unknown host
// with 421.
func (a *Admin) Handler() http.Handler { return a.handler }

// Serve answers requests on ln until ctx ends, then waits up to StopTimeout for those under
// way. It closes ln and leaves no goroutine behind. It returns nil after ctx ended, otherwise
// the error that stopped it.
func (a *Admin) Serve(ctx context.Context, ln net.Listener) error {
	// A connection's goroutine ends just after StateClosed. srv.Serve itself reports
	// StateNew, so nothing is added after Serve has returned.
	var conns sync.WaitGroup
	// The pattern is ours; it is empty where none fits.
	doing := func(r *http.Request) string { return r.Pattern }
	crowd := &crowd{next: httplog.Panics(a.cfg.Log, doing, a.handler), log: a.cfg.Log}
	srv := &http.Server{
		Handler:           crowd,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          httplog.Rest(a.cfg.Log),
		BaseContext:       func(net.Listener) context.Context { return ctx }, // ends a running profile too
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, connection{}, c) },
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				conns.Add(1)
				crowd.enter(c)
			case http.StateClosed, http.StateHijacked:
				crowd.leave(c)
				conns.Done()
			}
		},
	}
	if a.cfg.Pprof {
		srv.WriteTimeout = 5 * time.Minute // a profile takes as long as the request says
	}

	stopped := make(chan struct{})
	serving := context.AfterFunc(ctx, func() {
		defer close(stopped)
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.cfg.StopTimeout)
		defer cancel()
		if srv.Shutdown(limit) != nil {
			srv.Close()
		}
	})
	err := srv.Serve(ln)
	if serving() { // it ended before ctx did
		srv.Close()
		conns.Wait()
		return fmt.Errorf("admin on %s: %w", ln.Addr(), err)
	}
	<-stopped
	conns.Wait()
	return nil
}

// statusJSON returns what the page shows.
func (a *Admin) statusJSON(w http.ResponseWriter, r *http.Request) {
	h, err := a.board.herd(r.Context())
	if err != nil {
		tell(w, http.StatusServiceUnavailable, "stopping\n")
		return
	}
	writeJSON(w, mustJSON(h))
}

func writeJSON(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(append(text, '\n'))
}

func (a *Admin) healthz(w http.ResponseWriter, _ *http.Request) {
	code, body := http.StatusOK, "ok\n"
	for _, s := range a.sources {
		if ok, why := s.Live(); !ok {
			if code == http.StatusOK {
				code, body = http.StatusServiceUnavailable, ""
			}
			body += s.Name + " is not alive: " + why + "\n"
		}
	}
	tell(w, code, body)
}

// readyz writes one line per edge, ready or not: what it waits for, its broker, which does
// not affect readiness (H8: an edge serves without a broker), and anything unusual about its
// clock.
func (a *Admin) readyz(w http.ResponseWriter, _ *http.Request) {
	code := http.StatusOK
	var body strings.Builder
	for _, s := range a.sources {
		ok, why := s.Ready()
		state := "ready"
		if !ok {
			code, state = http.StatusServiceUnavailable, "not ready: "+why
		}
		status := s.Status()
		fmt.Fprintf(&body, "%s %s; broker %s", s.Name, state, status.BrokerState())
		if text, _ := status.Certificate(time.Now()); text != "" {
			fmt.Fprintf(&body, "; certificate %s", text)
		}
		if status.Clock != "" {
			fmt.Fprintf(&body, "; clock: %s", status.Clock)
		}
		body.WriteByte('\n')
	}
	tell(w, code, body.String())
}

func tell(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(code)
	fmt.Fprint(w, text)
}
