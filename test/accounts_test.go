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

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// learned waits until the edge holds a position of this client with this time.
func learned(e *herdtest.EdgeProcess, id string, ns int64) {
	e.T.Helper()
	herdtest.Eventually(e.T, herdtest.Promise(5*time.Second), e.Name+" learns of "+id, func() error { return holds(e, []string{id}, []int64{ns}) })
}

// tells sends the edge a position of the client with the present time, which it returns.
func tells(e *herdtest.EdgeProcess, id string) (ns int64) {
	e.T.Helper()
	ns = time.Now().UnixNano()
	talk(e.T, e.Addr, "IAMAT "+id+" +34.068930-118.445127 "+posix(ns)+"\n")
	return ns
}

// H1, D1: the whole herd, with an account per edge, and an operator who observes it.
func TestAHerdWithAnAccountAnEdge(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Accounts: true, Env: map[string]string{"HERD_DURABILITY": "journal"}})
	spy := lookOn(t, h)
	clark := h.Edges["Clark"]
	told := tells(clark, "kiwi.cs.ucla.edu")
	for _, e := range h.All() {
		learned(e, "kiwi.cs.ucla.edu", told)
	}

	env := map[string]string{"NATS_URL": h.NATS.URL(), "NATS_NKEY": h.Key("operator")}
	tool := func(code int, args ...string) string {
		t.Helper()
		p := herdtest.StartChild(t, "herd "+strings.Join(args, " "), herdtest.Binary(t, "herd"), env, args...)
		if got := p.Wait(herdtest.Promise(10 * time.Second)); got != code {
			t.Errorf("herd %q: exit code %d, want %d: %s%s", args, got, code, p.Stdout, p.Stderr)
		}
		return p.Stdout.String()
	}
	tool(0, "health", "--nats", h.NATS.URL())
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd status --json shows five edges", func() error {
		var all []status
		err := json.Unmarshal([]byte(tool(0, "status", "--json")), &all)
		if err == nil && len(all) != 5 {
			err = fmt.Errorf("it shows %d", len(all))
		}
		return err
	})
	watch := herdtest.StartChild(t, "herd watch", herdtest.Binary(t, "herd"), env, "watch", "--links")
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd watch shows every link", func() error {
		tells(clark, "watched")
		for _, link := range strings.Split(h.Topology, ",") {
			a, b, _ := strings.Cut(link, "-")
			if out := watch.Stdout.String(); !strings.Contains(out, a+" → "+b) && !strings.Contains(out, b+" → "+a) {
				return fmt.Errorf("nothing of %s in %q", link, out)
			}
		}
		return nil
	})
	watch.Signal(syscall.SIGINT)
	if code := watch.Wait(herdtest.Promise(5 * time.Second)); code != 0 {
		t.Errorf("herd watch: exit code %d", code)
	}

	nc := operator(h)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the operator sees the statistics of all edges", func() error {
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
	if _, err := nc.Request("herd.edge.Clark.iamat", []byte("operator +1+1 1"), herdtest.Promise(time.Second)); err != nats.ErrNoResponders {
		t.Errorf("the operator's iamat: %v", err)
	}
	spy.check()

	// The journal survives the death of all edges at once.
	for _, e := range h.All() {
		e.Kill()
	}
	for _, e := range h.All() {
		e.Start()
	}
	for _, e := range h.All() {
		e.AwaitReady()
		learned(e, "kiwi.cs.ucla.edu", told)
	}
}

// statistics returns the edges that answer `nats micro stats`.
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
		m, err := inbox.NextMsg(2 * time.Second)
		if err != nil {
			return edges, err
		}
		var s micro.Stats
		if err := json.Unmarshal(m.Data, &s); err != nil {
			return nil, err
		}
		if len(s.Endpoints) == 7 {
			edges[s.Metadata["edge"]] = true
		}
	}
	return edges, nil
}

// An edge with wrong credentials says so, naming the subject or repeating the server's error. It
// keeps trying, and recovers without a restart when its key is corrected.
func TestAnEdgeWithAWrongKeySaysSoAndKeepsTrying(t *testing.T) {
	for _, test := range []struct{ name, says string }{
		{"another edge's", `Permissions Violation for Publish to \"herd.at.Clark.Jaquez\"`},
		{"nobody's", "uthorization Violation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			quiet(t)
			key := filepath.Join(t.TempDir(), "clark.nk")
			h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez,Clark-Juzang", Accounts: true, Unready: []string{"Clark"},
				Env: map[string]string{"HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json"},
				Each: func(e *herdtest.EdgeProcess) {
					if e.Name == "Clark" {
						e.Env["NATS_NKEY"] = key
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
				install(h.Key("Jaquez"))
			} else {
				elsewhere := &herdtest.Processes{T: t, Keys: t.TempDir()}
				elsewhere.ConfigureNATS("Clark")
				install(elsewhere.Key("Clark"))
			}
			clark := h.Edges["Clark"]
			clark.Start()
			herdtest.Eventually(t, herdtest.Promise(10*time.Second), "Clark says what is wrong", func() error {
				if log := clark.Stderr.String(); !strings.Contains(log, test.says) {
					return fmt.Errorf("it says %s", log)
				}
				return nil
			})
			if !clark.Running() || clark.Readyz() == nil {
				t.Error("Clark has ended, or is ready without its journal")
			}
			told := tells(h.Edges["Jaquez"], "kiwi")
			herdtest.Throughout(t, time.Second, "Clark waits", func() error {
				if !clark.Running() {
					return fmt.Errorf("exit code %d", clark.Cmd.ProcessState.ExitCode())
				}
				return nil
			})
			install(h.Key("Clark"))
			clark.AwaitReady()
			clark.LinksUp()
			for _, e := range h.All() {
				learned(e, "kiwi", told)
			}
		})
	}
}

// A new edge needs a new configuration and reloads; the other edges run on.
func TestTheTopologyChangesWhileTheHerdRuns(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Accounts: true, Env: map[string]string{"HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json"}})
	bernard, clark := h.Edges["Bernard"], h.Edges["Clark"]
	wider := h.Topology + ",Clark-Newman"
	h.ConfigureNATS(wider)
	h.ReloadNATS()
	h.ReloadNATS() // the second reload brings the services of a new account

	newman := &herdtest.EdgeProcess{T: t, Name: "Newman", Env: map[string]string{
		"HERD_EDGE": "Newman", "HERD_TOPOLOGY": wider, "NATS_URL": h.NATS.URL(), "NATS_NKEY": h.Key("Newman"), "HERD_JOURNAL": "on", "HERD_LOG_FORMAT": "json",
	}}
	clark.Signal(syscall.SIGTERM)
	if code := clark.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
		t.Errorf("Clark: exit code %d", code)
	}
	clark.Env["HERD_TOPOLOGY"] = wider
	clark.Start()
	clark.AwaitReady()
	newman.ChoosePorts()
	newman.Start()
	newman.FirstReady()
	// It is ready a moment before its log has been read.
	herdtest.Eventually(t, herdtest.Promise(2*time.Second), "Newman's question to join has reached Clark", func() error {
		if log := newman.Stderr.String(); !strings.Contains(log, `"msg":"joined","edge":"Newman","neighbours":1`) {
			return fmt.Errorf("it says %s", log)
		}
		return nil
	})
	clark.LinksUp()
	newman.LinksUp()
	learned(bernard, "new", tells(newman, "new"))
	learned(newman, "old", tells(bernard, "old"))
	for _, e := range h.Others("Clark") {
		if log := e.Stderr.String(); strings.Contains(log, "broker disconnected") || strings.Contains(log, "Violation") {
			t.Errorf("%s noticed: %s", e.Name, log)
		}
	}

	// An edge that is no longer in the topology is refused.
	h.ConfigureNATS(h.Topology)
	h.ReloadNATS()
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "Newman is shut out", func() error {
		if log := newman.Stderr.String(); !strings.Contains(log, "broker disconnected") || !strings.Contains(log, "uthorization") {
			return fmt.Errorf("it says %s", log)
		}
		return nil
	})
	learned(bernard, "still", tells(clark, "still"))

	// A key that may be known to others is replaced: its edge reads the new one.
	juzang := h.Edges["Juzang"]
	if err := os.Remove(h.Key("Juzang")); err != nil {
		t.Fatal(err)
	}
	h.ConfigureNATS(h.Topology)
	h.ReloadNATS()
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "Juzang has lost its connection", func() error {
		if !strings.Contains(juzang.Stderr.String(), "broker disconnected") {
			return fmt.Errorf("it says %s", juzang.Stderr.String())
		}
		return nil
	})
	juzang.LinksUp()
	learned(bernard, "renewed", tells(juzang, "renewed"))
}
