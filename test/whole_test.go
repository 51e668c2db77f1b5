package test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// whole is what a page shows of the whole herd, as far as these tests look.
type whole struct {
	Server struct {
		Name, Scope  string
		ScopeCommand string `json:"scope_command"`
		BrokerAway   bool   `json:"broker_away"`
		Map          struct{ On bool }
	}
	Summary struct {
		Level, Sentence, Short string
		Problems               []struct{ Text string }
	}
	Edges []wholeEdge
	Links []struct {
		A, B, State, Words string
		Since              time.Time
	}
	Events []struct {
		Edge, Event, Text string
		Open              bool
	}
}

type wholeEdge struct {
	Name, State, Level, Words string
	Since                     time.Time
	TopologyDiffers           bool `json:"topology_differs"`
	Parts                     bool `json:"parts_herd"`
	Status                    *struct {
		Started   time.Time
		Process   struct{ ID string }
		Rates     *struct{ Updates float64 }
		BrokerURL string `json:"broker_server"`
	}
}

func (w *whole) edge(name string) (state string) {
	for _, e := range w.Edges {
		if e.Name == name {
			return e.State
		}
	}
	return "missing"
}

func (w *whole) link(a, b string) (state string) {
	for _, l := range w.Links {
		if l.A == a && l.B == b {
			return l.State
		}
	}
	return "missing"
}

func (w *whole) happened(edge, event string) bool {
	for _, e := range w.Events {
		if e.Edge == edge && e.Event == event {
			return true
		}
	}
	return false
}

// page reads /status.json of an address.
func page(addr string) (w whole, err error) {
	resp, err := herdtest.AdminClient.Get("http://" + addr + "/status.json")
	if err != nil {
		return w, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, body)
	}
	if err == nil {
		err = json.Unmarshal(body, &w)
	}
	return w, err
}

// shows waits until the page at an address shows what is wanted. It says how long that took.
func shows(t testing.TB, addr, what string, want func(w *whole) bool) (w whole, took time.Duration) {
	t.Helper()
	took = herdtest.Eventually(t, herdtest.Promise(5*time.Second), what, func() (err error) {
		if w, err = page(addr); err == nil && !want(&w) {
			err = fmt.Errorf("it shows %q, %+v, %+v, %+v", w.Summary.Sentence, w.Server, w.Edges, w.Links)
		}
		return err
	})
	return w, took
}

// Five daemons, and the page of each shows all of them: what is broken is named, with since when, and
// is well again when it is.
func TestEveryEdgesPageShowsTheWholeHerd(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{NATS: []string{"-js", "-sd", t.TempDir()}})
	pages := h.Others("Juzang")
	for _, e := range h.All() {
		w, _ := shows(t, e.HTTP, "the page of "+e.Name+" shows a herd that is well", func(w *whole) bool {
			return w.Summary.Level == "ok" && strings.HasPrefix(w.Summary.Sentence, "5 of 5 edges ready, 6 of 6 links up, ") && strings.HasSuffix(w.Summary.Sentence, "nothing refused")
		})
		ids := map[string]bool{}
		for _, one := range w.Edges {
			if one.Status == nil || one.Status.Started.IsZero() {
				t.Fatalf("%s shows nothing of %s", e.Name, one.Name)
			}
			ids[one.Status.Process.ID] = true
		}
		if w.Server.Name != e.Name || w.Server.Scope != "herd" || !w.Server.Map.On || len(ids) != 5 {
			t.Errorf("%s shows %+v and %d processes", e.Name, w.Server, len(ids))
		}
	}

	killed := time.Now()
	h.Edges["Juzang"].Kill()
	for _, e := range pages {
		w, took := shows(t, e.HTTP, "the page of "+e.Name+" names the edge that was killed", func(w *whole) bool {
			return w.edge("Juzang") == "silent" && strings.HasPrefix(w.Summary.Sentence, "Juzang is silent since ") && w.link("Bernard", "Juzang") == "silent"
		})
		w, _ = shows(t, e.HTTP, "the page of "+e.Name+" tells what happened", func(w *whole) bool { return w.happened("Bernard", "link down") && w.happened("Clark", "link down") })
		t.Logf("%s names it after %v: %s", e.Name, took, w.Summary.Sentence)
		for _, one := range w.Edges {
			if one.Name == "Juzang" && (one.Since.Before(killed.Add(-time.Second)) || one.Since.After(time.Now())) {
				t.Errorf("%s is silent since %v, and was killed at %v", one.Name, one.Since, killed)
			}
			// Clark–Jaquez–Bernard–Johnson is what is left.
			if want := one.Name == "Jaquez" || one.Name == "Bernard"; one.Parts != want {
				t.Errorf("%s parts the herd: %v, want %v", one.Name, one.Parts, want)
			}
		}
	}
	h.Edges["Juzang"].Start()
	h.Edges["Juzang"].FirstReady()
	for _, e := range h.All() {
		shows(t, e.HTTP, "the page of "+e.Name+" shows that it is back", func(w *whole) bool { return w.Summary.Level == "ok" && w.edge("Juzang") == "ready" })
	}

	johnson := h.Edges["Johnson"]
	johnson.Signal(syscall.SIGTERM)
	johnson.Wait(herdtest.Promise(10 * time.Second))
	johnson.Env["HERD_TOPOLOGY"] = strings.Replace(h.Topology, "Clark-Juzang,", "", 1)
	johnson.Start()
	johnson.FirstReady()
	shows(t, h.Edges["Clark"].HTTP, "topologies that differ are named", func(w *whole) bool {
		differs := slices.ContainsFunc(w.Edges, func(e wholeEdge) bool { return e.Name == "Johnson" && e.TopologyDiffers })
		return differs && w.Summary.Level == "warning" && strings.HasPrefix(w.Summary.Sentence, "topologies differ")
	})

	h.NATS.Kill()
	w, _ := shows(t, h.Edges["Clark"].HTTP, "the broker that is away is named", func(w *whole) bool {
		return w.Server.BrokerAway && strings.HasPrefix(w.Summary.Sentence, "Clark has no broker since ") && w.edge("Bernard") == "hidden" && w.edge("Clark") == "ready"
	})
	if w.Summary.Level != "down" || len(w.Edges) != 5 || !w.happened("Clark", "broker disconnected") {
		t.Errorf("%+v", w)
	}
	h.NATS.Start()
	shows(t, h.Edges["Clark"].HTTP, "the broker is back", func(w *whole) bool { return w.edge("Bernard") == "ready" && w.Summary.Level == "warning" })
}

// toolsPage starts `herd page` with the operator's key, and returns where it listens.
func toolsPage(t *testing.T, h *herdtest.Processes) (tool *herdtest.Child, addr string) {
	t.Helper()
	tool = herdtest.StartChild(t, "herd page", herdtest.Binary(t, "herd"), map[string]string{"NATS_URL": h.NATS.URL()}, "page", "--listen", "127.0.0.1:0", "--nkey", h.Key("operator"))
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd page says where", func() error {
		line, _ := bufio.NewReader(strings.NewReader(tool.Stdout.String())).ReadString('\n')
		if addr = strings.Trim(strings.TrimPrefix(line, "http://"), "/\n"); addr == "" {
			return errors.New("it says nothing")
		}
		return nil
	})
	return tool, addr
}

// With accounts an edge's page shows that edge and asks nobody, and the tool's page shows all: also
// a link that is cut between two edges that both live.
func TestWithAccountsTheToolsPageShowsAll(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Accounts: true})
	w, _ := shows(t, h.Edges["Clark"].HTTP, "an edge's page shows what its account may know", func(w *whole) bool {
		return w.Server.Scope == "edge" && w.Server.ScopeCommand == "herd page --nkey operator.nk" && w.edge("Clark") == "ready" && w.edge("Bernard") == "hidden" && w.Summary.Level == "ok"
	})
	if w.link("Clark", "Jaquez") != "up" || w.link("Bernard", "Johnson") != "unknown" {
		t.Errorf("links %+v", w.Links)
	}

	tool, addr := toolsPage(t, h)
	w, _ = shows(t, addr, "herd page shows all", func(w *whole) bool {
		return w.Summary.Level == "ok" && w.Server.Scope == "herd" && strings.HasPrefix(w.Summary.Sentence, "5 of 5 edges ready, 6 of 6 links up")
	})
	sent := tells(h.Edges["Clark"], "kiwi")
	for _, e := range h.All() {
		learned(e, "kiwi", sent)
	}
	for path, want := range map[string]string{
		"/map.json?box=-90,-180,90,180":                  `"client":"kiwi"`,
		"/client.json?id=kiwi":                           `"from":"client"`,
		"/try.json?edge=Juzang&line=WHATSAT+kiwi+1+1":    `"answer":"AT Clark +`,
		"/try.json?edge=Bernard&line=WHATSAT+nobody+1+1": `"refused":"? WHATSAT nobody 1 1`,
	} {
		resp, err := herdtest.AdminClient.Get("http://" + addr + path)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != 200 || !strings.Contains(string(body), want) {
			t.Errorf("%s: %s %s, want %s", path, resp.Status, body, want)
		}
	}

	// The broker takes the link away: both ends live.
	h.ConfigureNATS(strings.Replace(h.Topology, "Bernard-Jaquez,", "", 1))
	h.ReloadNATS()
	w, _ = shows(t, addr, "the link that was cut is named", func(w *whole) bool {
		return w.link("Bernard", "Jaquez") == "down" && strings.HasPrefix(w.Summary.Sentence, "the link between Bernard and Jaquez is down since ")
	})
	if w.edge("Bernard") != "ready" || w.edge("Jaquez") != "ready" || len(w.Summary.Problems) == 0 {
		t.Errorf("%+v", w)
	}
	if w, err := page(h.Edges["Bernard"].HTTP); err != nil || w.link("Bernard", "Jaquez") != "down" || w.Summary.Level != "down" {
		t.Errorf("Bernard's own page: %v, %+v", err, w)
	}
	h.ConfigureNATS(h.Topology)
	h.ReloadNATS()
	shows(t, addr, "the link is up again", func(w *whole) bool { return w.link("Bernard", "Jaquez") == "up" })
	for _, e := range h.All() {
		if said := e.Stderr.String(); strings.Contains(said, ".edge.") || strings.Contains(said, "SRV") {
			t.Errorf("%s asked what its account may not: %s", e.Name, said)
		}
	}
	tool.Signal(syscall.SIGINT)
	if code := tool.Wait(herdtest.Promise(5 * time.Second)); code != 0 {
		t.Errorf("herd page: exit code %d", code)
	}
}
