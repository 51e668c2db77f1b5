package herdtest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/broker"
	"herd/edge"
	"herd/edge/client"
	"herd/edge/config"
)

// Options configures the herd of Start and Open. The zero value is the default herd.
type Options struct {
	Topology string // links A-B separated by commas, or one edge's name; "": the default herd

	// Env is additional configuration of every edge, as NAME=VALUE; docs/configuration.md lists
	// the variables. Of equal names the last one counts. The herd sets addresses and the broker
	// itself. Transcripts and journals are off unless Env turns them on.
	Env []string

	// JetStream enables JetStream at the broker, in a temporary folder, so that edges can have
	// journals (HERD_JOURNAL=on, HERD_DURABILITY=journal).
	JetStream bool

	Log io.Writer // for the logs of all edges and of the broker; see Start and Open for nil
}

// Herd is a herd in this process: a NATS server and edges, each with its own client port on
// 127.0.0.1. Its methods may be called from any goroutine, but calls that start or stop the same
// edge must not overlap.
type Herd struct {
	names  []string
	broker *broker.Embedded
	log    *slog.Logger
	data   string // folder of JetStream; "" without JetStream

	mu    sync.Mutex
	edges map[string]*member
}

// member is one edge of the herd.
type member struct {
	environ []string
	addr    string // of the client port; stays when the edge starts again
	stop    context.CancelFunc
	edge    *edge.Edge    // of the last run
	done    chan struct{} // closed when Run has returned; nil: not running
	err     error         // what Run returned; written before done is closed
}

// Start runs a herd until the test ends. It returns when all edges are ready and all their links
// are up. If Log is nil, the logs go to the test's output.
func Start(t testing.TB, o Options) *Herd {
	t.Helper()
	if o.Log == nil {
		o.Log = t.Output()
	}
	h, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Errorf("stop the herd: %v", err)
		}
	})
	return h
}

// startLimit bounds how long a herd may take to become ready, and its edges to stop.
const startLimit = time.Minute

// Open runs a herd until Close. It returns when all edges are ready and all their links are up.
// ctx applies only until Open returns; Open gives up after a minute in any case. If Log is nil,
// nothing is logged.
func Open(ctx context.Context, o Options) (h *Herd, err error) {
	o.Topology = cmp.Or(o.Topology, defaultTopology)
	h = &Herd{names: edgeNames(o.Topology), edges: map[string]*member{}, log: slog.New(slog.DiscardHandler)}
	if o.Log != nil {
		h.log = slog.New(slog.NewTextHandler(o.Log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, h.Close())
			h = nil
		}
	}()
	server := broker.EmbeddedConfig{Name: "herdtest", Log: h.log}
	if o.JetStream {
		if h.data, err = os.MkdirTemp("", "herdtest-"); err != nil {
			return h, fmt.Errorf("folder of JetStream: %w", err)
		}
		server.StoreDir = h.data
	}
	if h.broker, err = broker.StartEmbedded(server); err != nil {
		return h, err
	}
	for _, name := range h.names {
		h.edges[name] = &member{addr: "127.0.0.1:0", environ: slices.Concat(
			[]string{"HERD_JOURNAL=" + onOff(o.JetStream)}, o.Env,
			[]string{"HERD_EDGE=" + name, "HERD_TOPOLOGY=" + o.Topology, "HERD_HTTP="})}
	}
	for _, name := range h.names { // start all before waiting: they join together (H7)
		if err := h.launch(name); err != nil {
			return h, err
		}
	}
	return h, h.awaitAll(ctx, h.names)
}

func onOff(on bool) string {
	if on {
		return "auto"
	}
	return "off"
}

// edgeNames returns the edges of a topology in alphabetical order.
func edgeNames(topology string) []string {
	names := strings.FieldsFunc(topology, func(r rune) bool { return r == '-' || r == ',' || r == ' ' })
	slices.Sort(names)
	return slices.Compact(names)
}

// launch starts an edge on the address of its last run, if there was one.
func (h *Herd) launch(name string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.edges[name]
	switch {
	case m == nil:
		return fmt.Errorf("no edge %q in this herd", name)
	case m.done != nil:
		return fmt.Errorf("edge %s is already running", name)
	}
	cfg, _, err := config.FromEnvironment(append(slices.Clone(m.environ), "HERD_LISTEN="+m.addr))
	if err != nil {
		return err
	}
	e, err := edge.New(cfg, edge.Shared{Log: h.log, Embedded: h.broker})
	if err != nil {
		return fmt.Errorf("edge %s: %w", name, err)
	}
	m.addr = e.Addr().String()
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.edge, m.stop, m.done, m.err = e, stop, done, nil
	go func() {
		m.err = e.Run(ctx)
		close(done)
	}()
	return nil
}

// await waits until an edge is ready.
func (h *Herd) await(ctx context.Context, name string) error {
	e, done := h.present(name)
	select {
	case <-e.Ready():
		return nil
	case <-done:
		return fmt.Errorf("edge %s ended before it was ready", name)
	case <-ctx.Done():
		return fmt.Errorf("edge %s is not ready: %w", name, context.Cause(ctx))
	}
}

// awaitAll waits until edges are ready and their links up.
func (h *Herd) awaitAll(ctx context.Context, names []string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("not within %v", startLimit))
	defer cancel()
	for _, await := range []func(context.Context, string) error{h.await, h.awaitLinks} {
		for _, name := range names {
			if err := await(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitLinks waits until an edge's links to running edges are up.
func (h *Herd) awaitLinks(ctx context.Context, name string) error {
	e, _ := h.present(name)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		down := ""
		for _, l := range e.Status().Links {
			if _, running := h.present(l.Neighbour); !l.Up && running != nil {
				down = l.Neighbour
			}
		}
		if down == "" {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("link %s-%s is not up: %w", name, down, context.Cause(ctx))
		}
	}
}

// present returns an edge and a channel that is closed when its run ends; done is nil if it does
// not run.
func (h *Herd) present(name string) (e *edge.Edge, done <-chan struct{}) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.edges[name]
	return m.edge, m.done
}

// Names returns the names of the edges in alphabetical order.
func (h *Herd) Names() []string { return slices.Clone(h.names) }

// Addr returns the address of an edge's client port, HOST:PORT, or "" if the herd has no such
// edge.
func (h *Herd) Addr(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.edges[name]; m != nil {
		return m.addr
	}
	return ""
}

// Devices returns the address of an edge's port for devices, HOST:PORT, or "" if it has none.
func (h *Herd) Devices(name string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.edges[name]; m != nil && m.edge != nil {
		if addr := m.edge.DevicesAddr(); addr != nil {
			return addr.String()
		}
	}
	return ""
}

// Addrs returns the addresses of these edges' client ports; without names, those of all edges.
func (h *Herd) Addrs(names ...string) []string {
	if len(names) == 0 {
		names = h.names
	}
	addrs := make([]string, 0, len(names))
	for _, name := range names {
		addrs = append(addrs, h.Addr(name))
	}
	return addrs
}

// Client returns a client of these edges, in this order of preference; without names, of all
// edges. It is closed when the test ends.
func (h *Herd) Client(t testing.TB, names ...string) *client.Client {
	t.Helper()
	c, err := client.New(client.Config{Addrs: h.Addrs(names...)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// Ask asks all running edges for what they hold of tracks, for Judge.
func (h *Herd) Ask(tracks []Track) (all []Holding, err error) {
	for _, name := range h.names {
		if _, running := h.present(name); running == nil {
			continue
		}
		one, err := holding(name, h.Addr(name), tracks)
		if err != nil {
			return nil, err
		}
		all = append(all, one)
	}
	return all, nil
}

// Stop stops an edge as SIGTERM does (C19), and waits until it has ended. It returns the edge's
// error, for example if it could not hand over everything. It returns nil if the edge does not
// run.
func (h *Herd) Stop(name string) error {
	h.mu.Lock()
	m := h.edges[name]
	if m == nil || m.done == nil {
		h.mu.Unlock()
		return nil
	}
	done := m.done
	m.stop()
	h.mu.Unlock()
	select {
	case <-done:
	case <-time.After(startLimit):
		return fmt.Errorf("edge %s does not stop", name)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	m.done = nil
	if m.err != nil {
		return fmt.Errorf("edge %s: %w", name, m.err)
	}
	return nil
}

// Restart starts a stopped edge on its address. It returns when the edge is ready and its links
// to running edges are up.
func (h *Herd) Restart(ctx context.Context, name string) error {
	if err := h.launch(name); err != nil {
		return err
	}
	return h.awaitAll(ctx, []string{name})
}

// Close stops all edges and the broker, and removes their files.
func (h *Herd) Close() error {
	var stopping sync.WaitGroup
	errs := make([]error, len(h.names))
	for i, name := range h.names {
		stopping.Go(func() { errs[i] = h.Stop(name) })
	}
	stopping.Wait()
	if h.broker != nil {
		h.broker.Shutdown()
	}
	if h.data != "" {
		errs = append(errs, os.RemoveAll(h.data))
	}
	return errors.Join(errs...)
}
