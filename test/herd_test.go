package test

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// defaultTopology is the herd of CONTRACT.md, written out so that the tests do not lean on
// the product's own default.
const defaultTopology = "Clark-Jaquez,Clark-Juzang,Bernard-Jaquez,Bernard-Juzang,Bernard-Johnson,Johnson-Juzang"

// options says which herd a test wants; the zero value is the default herd.
type options struct {
	topology string
	env      map[string]string // of every edge
	proxies  bool              // a proxy between each edge and the broker
	accounts bool              // at the broker, as `herd nats-config` writes them, and with JetStream
	each     func(*edge)       // what else an edge needs in its environment
	unready  []string          // edges that the test starts itself
	nats     []string          // more arguments of nats-server
}

// herd is a nats-server and edges, each a process.
type herd struct {
	t        *testing.T
	topology string
	names    []string // in alphabetical order
	nats     *natsServer
	keys     string // folder of the keys to the broker; "" without accounts
	edges    map[string]*edge
}

// edge is one place in the herd: its process may come and go, its addresses stay.
type edge struct {
	*process
	t     *testing.T
	name  string
	addr  string
	http  string
	env   map[string]string
	proxy *proxy
}

// newHerd starts a herd and waits until all its edges are ready.
func newHerd(t *testing.T, o options) *herd {
	t.Helper()
	h := &herd{t: t, topology: cmp.Or(o.topology, defaultTopology), edges: map[string]*edge{}}
	h.names = strings.FieldsFunc(h.topology, func(r rune) bool { return r == '-' || r == ',' })
	slices.Sort(h.names)
	h.names = slices.Compact(h.names)
	if o.accounts {
		h.keys = t.TempDir()
		o.nats = append(o.nats, "-c", h.configureNATS(h.topology))
	}
	h.nats = startNATS(t, o.nats...)
	for _, name := range h.names {
		e := &edge{t: t, name: name}
		broker := h.nats.url()
		if o.proxies {
			e.proxy = startProxy(t, h.nats.addr)
			broker = "nats://" + e.proxy.addr()
		}
		e.env = map[string]string{"HERD_EDGE": name, "HERD_TOPOLOGY": h.topology, "NATS_URL": broker}
		if o.accounts {
			e.env["NATS_NKEY"] = h.key(name)
		}
		maps.Copy(e.env, o.env)
		if o.each != nil {
			o.each(e)
		}
		e.choosePorts()
		h.edges[name] = e
		if !slices.Contains(o.unready, name) {
			e.start()
		}
	}
	for _, e := range h.all() {
		if e.process != nil {
			e.firstReady()
		}
	}
	for _, e := range h.all() {
		if e.process != nil && len(o.unready) == 0 {
			e.linksUp()
		}
	}
	return h
}

// newEdge starts one edge without neighbours.
func newEdge(t *testing.T, env map[string]string) (*herd, *edge) {
	t.Helper()
	h := newHerd(t, options{topology: "Clark", env: env})
	return h, h.edges["Clark"]
}

// all is the edges in alphabetical order.
func (h *herd) all() []*edge {
	var list []*edge
	for _, name := range h.names {
		list = append(list, h.edges[name])
	}
	return list
}

// others is all but the named ones.
func (h *herd) others(names ...string) []*edge {
	return slices.DeleteFunc(h.all(), func(e *edge) bool { return slices.Contains(names, e.name) })
}

// reached is the set of live edges that links between live edges join to one of them (H1).
func (h *herd) reached(from string, live []*edge) map[string]bool {
	isLive := map[string]bool{}
	for _, e := range live {
		isLive[e.name] = true
	}
	seen := map[string]bool{from: true}
	for grown := true; grown; {
		grown = false
		for _, link := range strings.Split(h.topology, ",") {
			a, b, _ := strings.Cut(link, "-")
			if isLive[a] && isLive[b] && seen[a] != seen[b] {
				seen[a], seen[b], grown = true, true, true
			}
		}
	}
	return seen
}

func (e *edge) choosePorts() {
	e.addr, e.http = local(freePort(e.t)), local(freePort(e.t))
	e.env["HERD_LISTEN"], e.env["HERD_HTTP"] = e.addr, e.http
}

// start runs the edge's process, on the addresses of its last one.
func (e *edge) start() {
	e.t.Helper()
	e.process = start(e.t, "edge "+e.name, binary(e.t, "edge"), e.env)
}

// firstReady is ready for an edge that has never run: where somebody took its port since it
// was found free, it gets another.
func (e *edge) firstReady() {
	e.t.Helper()
	for range 5 {
		select {
		case <-e.exited:
		case <-e.ready():
			return
		}
		if !strings.Contains(e.stderr.String(), "address already in use") {
			e.t.Fatalf("edge %s ended with exit code %d before it was ready", e.name, e.cmd.ProcessState.ExitCode())
		}
		e.choosePorts()
		e.start()
	}
	e.t.Fatalf("edge %s finds no free port", e.name)
}

// ready is closed when /readyz says so; the test fails if that never happens, unless the
// process ends.
func (e *edge) ready() <-chan struct{} {
	e.t.Helper()
	yes := make(chan struct{})
	eventually(e.t, promise(15*time.Second), "edge "+e.name+" ready", func() error {
		if !e.running() {
			return nil
		}
		if err := e.readyz(); err != nil {
			return err
		}
		close(yes)
		return nil
	})
	return yes
}

// awaitReady fails the test unless the edge becomes ready.
func (e *edge) awaitReady() time.Duration {
	e.t.Helper()
	return eventually(e.t, promise(15*time.Second), "edge "+e.name+" ready", func() error {
		if !e.running() {
			e.t.Fatalf("edge %s ended with exit code %d before it was ready", e.name, e.cmd.ProcessState.ExitCode())
		}
		return e.readyz()
	})
}

// linksUp waits until every link of this edge is up.
func (e *edge) linksUp() {
	e.t.Helper()
	eventually(e.t, promise(10*time.Second), "links of "+e.name+" up", func() error {
		m, err := e.metrics()
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

// pause is SIGSTOP, and waits until the process stands still.
func (e *edge) pause() {
	e.t.Helper()
	e.signal(syscall.SIGSTOP)
	eventually(e.t, 10*time.Second, "edge "+e.name+" stands still", func() error {
		if !stopped(e.cmd.Process.Pid) {
			return errors.New("it still runs")
		}
		return nil
	})
}

func (e *edge) resume() { e.signal(syscall.SIGCONT) }

// admin asks the edge's HTTP port. Each question has a connection of its own: an edge that
// was stopped or replaced meanwhile must not be remembered.
var admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func (e *edge) get(path string) (int, string, error) {
	resp, err := admin.Get("http://" + e.http + path)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func (e *edge) readyz() error {
	code, body, err := e.get("/readyz")
	if err == nil && code != http.StatusOK {
		err = fmt.Errorf("/readyz: %d %s", code, body)
	}
	return err
}
