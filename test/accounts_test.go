package test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// configureNATS runs `herd nats-config` and returns the file that it wrote.
func (h *herd) configureNATS(topology string) string {
	h.t.Helper()
	p := start(h.t, "herd nats-config", binary(h.t, "herd"), nil, "nats-config", "--out", h.keys, "--topology", topology, "--monitor", "")
	if code := p.wait(promise(10 * time.Second)); code != 0 {
		h.t.Fatalf("herd nats-config: exit code %d: %s", code, p.stderr)
	}
	return strings.TrimSpace(p.stdout.String())
}

// reloadNATS has the server read its configuration again.
func (h *herd) reloadNATS() {
	h.t.Helper()
	reloads := func() int { return strings.Count(h.nats.stderr.String(), "Reloaded server configuration") }
	before := reloads()
	h.nats.signal(syscall.SIGHUP)
	eventually(h.t, promise(5*time.Second), "nats-server has taken the change", func() error {
		if reloads() == before {
			return fmt.Errorf("it says %s", h.nats.stderr.tail())
		}
		return nil
	})
}

// key is the file of a user's key.
func (h *herd) key(name string) string { return filepath.Join(h.keys, name+".nk") }

// learned waits until the edge's answer for a client is what another answered.
func (e *edge) learned(id string, ns int64) {
	e.t.Helper()
	eventually(e.t, promise(5*time.Second), e.name+" learns of "+id, func() error { return holds(e, []string{id}, []int64{ns}) })
}

// tells has a client tell the edge where it is, now.
func (e *edge) tells(id string) (ns int64) {
	e.t.Helper()
	ns = time.Now().UnixNano()
	talk(e.t, e.addr, "IAMAT "+id+" +34.068930-118.445127 "+posix(ns)+"\n")
	return ns
}

// H1, D1: the whole herd, each edge in its own account, and the operator who looks on.
func TestAHerdWithAnAccountAnEdge(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{accounts: true, env: map[string]string{"HERD_DURABILITY": "journal"}})
	spy := lookOn(t, h)
	clark := h.edges["Clark"]
	told := clark.tells("kiwi.cs.ucla.edu")
	for _, e := range h.all() {
		e.learned("kiwi.cs.ucla.edu", told)
	}

	env := map[string]string{"NATS_URL": h.nats.url(), "NATS_NKEY": h.key("operator")}
	tool := func(code int, args ...string) string {
		t.Helper()
		p := start(t, "herd "+strings.Join(args, " "), binary(t, "herd"), env, args...)
		if got := p.wait(promise(10 * time.Second)); got != code {
			t.Errorf("herd %q: exit code %d, want %d: %s%s", args, got, code, p.stdout, p.stderr)
		}
		return p.stdout.String()
	}
	tool(0, "health", "--nats", h.nats.url())
	eventually(t, promise(5*time.Second), "herd status --json shows five edges", func() error {
		var all []status
		err := json.Unmarshal([]byte(tool(0, "status", "--json")), &all)
		if err == nil && len(all) != 5 {
			err = fmt.Errorf("it shows %d", len(all))
		}
		return err
	})
	watch := start(t, "herd watch", binary(t, "herd"), env, "watch")
	eventually(t, promise(5*time.Second), "herd watch shows every link", func() error {
		clark.tells("watched")
		for _, link := range strings.Split(h.topology, ",") {
			a, b, _ := strings.Cut(link, "-")
			if out := watch.stdout.String(); !strings.Contains(out, a+" → "+b) && !strings.Contains(out, b+" → "+a) {
				return fmt.Errorf("nothing of %s in %q", link, out)
			}
		}
		return nil
	})
	watch.signal(syscall.SIGINT)
	if code := watch.wait(promise(5 * time.Second)); code != 0 {
		t.Errorf("herd watch: exit code %d", code)
	}

	nc := h.operator()
	eventually(t, promise(5*time.Second), "the operator sees the statistics of all edges", func() error {
		edges, err := statistics(nc)
		if err == nil && len(edges) != 5 {
			err = fmt.Errorf("of %v", edges)
		}
		return err
	})
	js, err := jetstream.NewWithAPIPrefix(nc, "JS.Clark.API")
	if err != nil {
		t.Fatal(err)
	}
	kv, err := js.KeyValue(t.Context(), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if v, err := kv.Get(t.Context(), "kiwi.cs.ucla.edu"); err != nil || !strings.HasPrefix(string(v.Value()), "AT Clark ") {
		t.Errorf("the journal holds %v, %v", v, err)
	}
	if _, err := nc.Request("herd.edge.Clark.iamat", []byte("operator +1+1 1"), promise(time.Second)); err != nats.ErrNoResponders {
		t.Errorf("the operator's iamat: %v", err)
	}
	spy.check()

	// The journal outlives all edges at once.
	for _, e := range h.all() {
		e.kill()
	}
	for _, e := range h.all() {
		e.start()
	}
	for _, e := range h.all() {
		e.awaitReady()
		e.learned("kiwi.cs.ucla.edu", told)
	}
}

// statistics are the edges that answer `nats micro stats`.
func statistics(nc *nats.Conn) (edges map[string]bool, err error) {
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err != nil {
		return nil, err
	}
	defer inbox.Unsubscribe()
	if err := nc.PublishRequest("$SRV.STATS.herd-edge", inbox.Subject, nil); err != nil {
		return nil, err
	}
	edges = map[string]bool{}
	for len(edges) < 5 {
		m, err := inbox.NextMsg(promise(time.Second) / 2)
		if err != nil {
			return edges, err
		}
		var s micro.Stats
		if err := json.Unmarshal(m.Data, &s); err != nil {
			return nil, err
		}
		if len(s.Endpoints) == 3 {
			edges[s.Metadata["edge"]] = true
		}
	}
	return edges, nil
}

// An edge that holds wrong credentials says so, with the subject or in the server's words, keeps
// trying, and is well again when its key is: nobody has to restart it.
func TestAnEdgeWithAWrongKeySaysSoAndKeepsTrying(t *testing.T) {
	for _, test := range []struct{ name, says string }{
		{"another edge's", `Permissions Violation for Publish to \"herd.at.Clark.Jaquez\"`},
		{"nobody's", "uthorization Violation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			quiet(t)
			key := filepath.Join(t.TempDir(), "clark.nk")
			h := newHerd(t, options{topology: "Clark-Jaquez,Clark-Juzang", accounts: true, unready: []string{"Clark"},
				env: map[string]string{"HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json"},
				each: func(e *edge) {
					if e.name == "Clark" {
						e.env["NATS_NKEY"] = key
					}
				}})
			install := func(from string) {
				t.Helper()
				text, err := os.ReadFile(from)
				if err == nil {
					err = os.WriteFile(key+".new", text, 0o600)
				}
				if err == nil {
					err = os.Rename(key+".new", key)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if test.name == "another edge's" {
				install(h.key("Jaquez"))
			} else {
				elsewhere := &herd{t: t, keys: t.TempDir()}
				elsewhere.configureNATS("Clark")
				install(elsewhere.key("Clark"))
			}
			clark := h.edges["Clark"]
			clark.start()
			eventually(t, promise(10*time.Second), "Clark says what is wrong", func() error {
				if log := clark.stderr.String(); !strings.Contains(log, test.says) {
					return fmt.Errorf("it says %s", log)
				}
				return nil
			})
			if !clark.running() || clark.readyz() == nil {
				t.Error("Clark has ended, or is ready without its journal")
			}
			told := h.edges["Jaquez"].tells("kiwi")
			throughout(t, time.Second, "Clark waits", func() error {
				if !clark.running() {
					return fmt.Errorf("exit code %d", clark.cmd.ProcessState.ExitCode())
				}
				return nil
			})
			install(h.key("Clark"))
			clark.awaitReady()
			clark.linksUp()
			for _, e := range h.all() {
				e.learned("kiwi", told)
			}
		})
	}
}

// A new edge needs a new configuration and a reload; the others run on.
func TestTheTopologyChangesWhileTheHerdRuns(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{accounts: true, env: map[string]string{"HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json"}})
	bernard, clark := h.edges["Bernard"], h.edges["Clark"]
	wider := h.topology + ",Clark-Newman"
	h.configureNATS(wider)
	h.reloadNATS()
	h.reloadNATS() // the services of a new account come with the second

	newman := &edge{t: t, name: "Newman", env: map[string]string{
		"HERD_EDGE": "Newman", "HERD_TOPOLOGY": wider, "NATS_URL": h.nats.url(), "NATS_NKEY": h.key("Newman"), "HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json",
	}}
	clark.signal(syscall.SIGTERM)
	if code := clark.wait(promise(10 * time.Second)); code != 0 {
		t.Errorf("Clark: exit code %d", code)
	}
	clark.env["HERD_TOPOLOGY"] = wider
	clark.start()
	clark.awaitReady()
	newman.choosePorts()
	newman.start()
	newman.firstReady()
	if log := newman.stderr.String(); !strings.Contains(log, `"msg":"joined","edge":"Newman","neighbours":1`) {
		t.Errorf("Newman's question to join reached nobody: %s", log)
	}
	clark.linksUp()
	newman.linksUp()
	bernard.learned("new", newman.tells("new"))
	newman.learned("old", bernard.tells("old"))
	for _, e := range h.others("Clark") {
		if log := e.stderr.String(); strings.Contains(log, "broker disconnected") || strings.Contains(log, "Violation") {
			t.Errorf("%s noticed: %s", e.name, log)
		}
	}

	// What has no place any more is shut out.
	h.configureNATS(h.topology)
	h.reloadNATS()
	eventually(t, promise(10*time.Second), "Newman is shut out", func() error {
		if log := newman.stderr.String(); !strings.Contains(log, "broker disconnected") || !strings.Contains(log, "uthorization") {
			return fmt.Errorf("it says %s", log)
		}
		return nil
	})
	bernard.learned("still", clark.tells("still"))

	// A key that may be known to others is replaced: its edge reads the new one.
	juzang := h.edges["Juzang"]
	if err := os.Remove(h.key("Juzang")); err != nil {
		t.Fatal(err)
	}
	h.configureNATS(h.topology)
	h.reloadNATS()
	eventually(t, promise(10*time.Second), "Juzang has lost its connection", func() error {
		if !strings.Contains(juzang.stderr.String(), "broker disconnected") {
			return fmt.Errorf("it says %s", juzang.stderr.String())
		}
		return nil
	})
	juzang.linksUp()
	bernard.learned("renewed", juzang.tells("renewed"))
}
