package herdtest

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/ports"
)

// defaultTopology is the default herd. It is repeated here so that the tests do not depend on the
// product's own default.
const defaultTopology = "Clark-Jaquez,Clark-Juzang,Bernard-Jaquez,Bernard-Juzang,Bernard-Johnson,Johnson-Juzang"

// ProcessOptions configures StartProcesses. The zero value is the default herd.
type ProcessOptions struct {
	Topology string
	Env      map[string]string  // additional environment of every edge
	Proxies  bool               // put a proxy between each edge and the broker
	Delay    time.Duration      // of each proxy, per direction
	Accounts bool               // give the broker accounts, by `herd nats-config`, and JetStream
	Clocks   bool               // make it possible to step each edge's clock
	Each     func(*EdgeProcess) // called per edge before its start, to change its environment
	Unready  []string           // edges that the test starts itself
	NATS     []string           // additional arguments of nats-server
}

// Processes is a herd whose broker and edges are processes.
type Processes struct {
	T        testing.TB // the test at whose end the herd ends
	Topology string
	Names    []string // in alphabetical order
	NATS     *NATS
	Keys     string // folder of the users' keys for the broker; "" without accounts
	Edges    map[string]*EdgeProcess
}

// EdgeProcess is one edge of the herd. Its process may end and start again; its addresses stay.
// If a test makes one by hand, it sets T, Name and Env and calls ChoosePorts and Start.
type EdgeProcess struct {
	*Child // nil: never started
	T      testing.TB
	Name   string
	Addr   string            // client port
	HTTP   string            // admin port
	Env    map[string]string // for the next Start
	Proxy  *Proxy            // to the broker; nil: none
	clock  string            // file that steps its clock (test/clockedge); "": the machine's clock
}

// StartProcesses starts a herd and waits until all its edges are ready.
func StartProcesses(t testing.TB, o ProcessOptions) *Processes {
	t.Helper()
	h := &Processes{T: t, Topology: cmp.Or(o.Topology, defaultTopology), Edges: map[string]*EdgeProcess{}}
	h.Names = strings.FieldsFunc(h.Topology, func(r rune) bool { return r == '-' || r == ',' })
	slices.Sort(h.Names)
	h.Names = slices.Compact(h.Names)
	if o.Accounts {
		h.Keys = t.TempDir()
		o.NATS = append(o.NATS, "-c", h.ConfigureNATS(h.Topology))
	}
	h.NATS = StartNATS(t, o.NATS...)
	for _, name := range h.Names {
		e := &EdgeProcess{T: t, Name: name}
		broker := h.NATS.URL()
		if o.Proxies {
			e.Proxy = StartProxy(t, h.NATS.Addr, o.Delay)
			broker = "nats://" + e.Proxy.Addr()
		}
		e.Env = map[string]string{"HERD_EDGE": name, "HERD_TOPOLOGY": h.Topology, "NATS_URL": broker}
		if o.Accounts {
			e.Env["NATS_NKEY"] = h.Key(name)
		}
		maps.Copy(e.Env, o.Env)
		if o.Clocks {
			e.clock = filepath.Join(t.TempDir(), name)
		}
		if o.Each != nil {
			o.Each(e)
		}
		e.ChoosePorts()
		h.Edges[name] = e
		if !slices.Contains(o.Unready, name) {
			e.Start()
		}
	}
	for _, e := range h.All() {
		if e.Child != nil {
			e.FirstReady()
		}
	}
	for _, e := range h.All() {
		if e.Child != nil && len(o.Unready) == 0 {
			e.LinksUp()
		}
	}
	return h
}

// StartLone starts one edge without neighbours.
func StartLone(t testing.TB, env map[string]string) (*Processes, *EdgeProcess) {
	t.Helper()
	h := StartProcesses(t, ProcessOptions{Topology: "Clark", Env: env})
	return h, h.Edges["Clark"]
}

// All returns the edges in alphabetical order.
func (h *Processes) All() []*EdgeProcess {
	var list []*EdgeProcess
	for _, name := range h.Names {
		list = append(list, h.Edges[name])
	}
	return list
}

// Others returns all edges but the named ones.
func (h *Processes) Others(names ...string) []*EdgeProcess {
	return slices.DeleteFunc(h.All(), func(e *EdgeProcess) bool { return slices.Contains(names, e.Name) })
}

// Reached returns the names of the live edges that are connected to from by links between live
// edges (H1).
func (h *Processes) Reached(from string, live []*EdgeProcess) map[string]bool {
	isLive := map[string]bool{}
	for _, e := range live {
		isLive[e.Name] = true
	}
	seen := map[string]bool{from: true}
	for grown := true; grown; {
		grown = false
		for _, link := range strings.Split(h.Topology, ",") {
			a, b, _ := strings.Cut(link, "-")
			if isLive[a] && isLive[b] && seen[a] != seen[b] {
				seen[a], seen[b], grown = true, true, true
			}
		}
	}
	return seen
}

// ChoosePorts gives the edge free ports for the next Start.
func (e *EdgeProcess) ChoosePorts() {
	e.Addr, e.HTTP = ports.Addr(e.T), ports.Addr(e.T)
	e.Env["HERD_LISTEN"], e.Env["HERD_HTTP"] = e.Addr, e.HTTP
}

// Start starts the edge's process on its addresses.
func (e *EdgeProcess) Start() {
	e.T.Helper()
	if e.clock == "" {
		e.Child = StartChild(e.T, "edge "+e.Name, Binary(e.T, "edge"), e.Env)
		return
	}
	e.Child = StartChild(e.T, "edge "+e.Name, Binary(e.T, "clockedge"), e.Env, e.clock)
}

// FirstReady waits until an edge that runs for the first time is ready. If another process has
// taken its port since it was found free, the edge gets other ports and starts again.
func (e *EdgeProcess) FirstReady() {
	e.T.Helper()
	for range 5 {
		select {
		case <-e.Exited:
		case <-e.ready():
			return
		}
		if !strings.Contains(e.Stderr.String(), "address already in use") {
			e.T.Fatalf("edge %s ended with exit code %d before it was ready", e.Name, e.Cmd.ProcessState.ExitCode())
		}
		e.ChoosePorts()
		e.Start()
	}
	e.T.Fatalf("edge %s: no free port", e.Name)
}

// ready waits until /readyz says that the edge is ready, and returns a closed channel. If the
// process ends before, the channel is open. If neither happens, the test fails.
func (e *EdgeProcess) ready() <-chan struct{} {
	e.T.Helper()
	yes := make(chan struct{})
	Eventually(e.T, Promise(15*time.Second), "edge "+e.Name+" ready", func() error {
		if !e.Running() {
			return nil
		}
		if err := e.Readyz(); err != nil {
			return err
		}
		close(yes)
		return nil
	})
	return yes
}

// AwaitReady waits until the edge is ready. It fails the test if the process ends before.
func (e *EdgeProcess) AwaitReady() time.Duration {
	e.T.Helper()
	return Eventually(e.T, Promise(15*time.Second), "edge "+e.Name+" ready", func() error {
		if !e.Running() {
			e.T.Fatalf("edge %s ended with exit code %d before it was ready", e.Name, e.Cmd.ProcessState.ExitCode())
		}
		return e.Readyz()
	})
}

// LinksUp waits until all links of this edge are up.
func (e *EdgeProcess) LinksUp() {
	e.T.Helper()
	Eventually(e.T, Promise(10*time.Second), "links of "+e.Name+" up", func() error {
		m, err := e.Metrics()
		if err != nil {
			return err
		}
		for name, value := range m {
			if strings.HasPrefix(name, "herd_link_up{") && value != 1 {
				return fmt.Errorf("%s is %v", name, value)
			}
		}
		return nil
	})
}

// Pause sends SIGSTOP and waits until the process has stopped.
func (e *EdgeProcess) Pause() {
	e.T.Helper()
	e.Signal(syscall.SIGSTOP)
	Eventually(e.T, Promise(10*time.Second), "edge "+e.Name+" stands still", func() error {
		if !stopped(e.Cmd.Process.Pid) {
			return errors.New("still running")
		}
		return nil
	})
}

// Resume sends SIGCONT.
func (e *EdgeProcess) Resume() { e.Signal(syscall.SIGCONT) }

// AdminClient is the client for the admin ports of edges. It opens a connection per request,
// because the edge may have been stopped or replaced since the last one.
var AdminClient = &http.Client{Timeout: Promise(5 * time.Second), Transport: &http.Transport{DisableKeepAlives: true}}

// Get requests a path from the admin port.
func (e *EdgeProcess) Get(path string) (int, string, error) {
	resp, err := AdminClient.Get("http://" + e.HTTP + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// Readyz returns nil if /readyz says that the edge is ready, and otherwise an error that says why
// not.
func (e *EdgeProcess) Readyz() error {
	code, body, err := e.Get("/readyz")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz: %d %s", code, body)
	}
	return err
}
