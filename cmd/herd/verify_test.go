package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/admin"
	"herd/edge/verify"
)

// serveLooks answers as an edge does that holds one line of each client in held, which all its
// neighbours have acknowledged.
func serveLooks(t *testing.T, conn *broker.Conn, name string, held map[string]string, neighbours ...string) {
	t.Helper()
	status, err := json.Marshal(wellEdge(name, neighbours...))
	if err != nil {
		t.Fatal(err)
	}
	state := verify.State{Edge: name, Epoch: name, Now: time.Now().UnixNano(), Links: []verify.Link{}}
	for _, n := range neighbours {
		state.Links = append(state.Links, verify.Link{Neighbour: n, Epoch: n, Acked: 9})
	}
	table := tableOf(t, held)
	reply := func(value any) broker.Reply {
		text, err := json.Marshal(value)
		if err != nil {
			t.Error(err)
		}
		return broker.Reply{Answer: text}
	}
	service, err := conn.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: name, Version: "0.1.0", Status: func([]byte) []byte { return status },
		Client: func(id []byte) broker.Reply {
			c := admin.Client{Edge: name, Links: []admin.ClientLink{}}
			if c.Line, c.Known = held[string(id)]; c.Known {
				c.From, c.Neighbour, c.Revision = "neighbour", neighbours[0], 1
				c.StoredAfter, c.StoredBefore = time.Unix(98, 500_000_000), time.Unix(99, 500_000_000)
				if strings.HasPrefix(c.Line, "AT "+name+" ") {
					c.From, c.Neighbour, c.Own, c.InJournal = "client", "", true, true
				}
			}
			return reply(c)
		},
		Digest: func(payload []byte) broker.Reply {
			var q verify.Question
			if err := json.Unmarshal(payload, &q); err != nil {
				t.Error(err)
			}
			r, err := verify.Answer(&q, table, state)
			if err != nil {
				return broker.Reply{Code: "400", Why: err.Error()}
			}
			return reply(r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Stop(t.Context()) })
}

// fits checks that all lines of an output fit the screen.
func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > screen {
			t.Errorf("%d characters in a line: %s", n, line)
		}
	}
}

func TestVerifyAndExplainOfAHerdThatIsTheSame(t *testing.T) {
	h := startHerd(t, nil, "--topology", "A-B,B-C")
	defer h.stop()
	ask(t, h.addr["A"], "IAMAT kiwi +34.1-118.4 5")
	await(t, h.addr["C"], "WHATSAT kiwi 0 0")
	o := newTool(t, "NATS_URL="+h.nats)
	o.want(exitOK, "verify")
	if got := o.stdout.String(); !strings.HasPrefix(got, "3 edges, 1 client, all the same (") || strings.Count(got, "\n") != 1 {
		t.Errorf("prints %s", got)
	}
	o = newTool(t, "NATS_URL="+h.nats)
	o.want(exitOK, "verify", "--json")
	var r verify.Result
	if err := json.Unmarshal([]byte(o.stdout.String()), &r); err != nil || !r.OK() || len(r.Edges) != 3 || r.Clients != 1 {
		t.Errorf("prints %s: %v", o.stdout.String(), err)
	}
	o = newTool(t, "NATS_URL="+h.nats)
	o.want(exitOK, "explain", "kiwi")
	got := o.stdout.String()
	fits(t, got)
	for _, want := range []string{"kiwi: 3 edges, all hold the same line\n  AT A +", " kiwi +34.1-118.4 5\n", "\nA     the line  the client  ", "\nC     the line  B           "} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	o = newTool(t, "NATS_URL="+h.nats)
	o.want(exitFailed, "explain", "emu")
	if !strings.Contains(o.stderr.String(), "no edge that answers knows emu") {
		t.Errorf("says %s", o.stderr.String())
	}
}

func TestVerifyNamesWhatDiffers(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	long := strings.Repeat("long", 30) + "\x1b"
	newest, older := "AT Clark +1.000000000 kiwi +34.1-118.4 7.5", "AT Clark +1.000000000 kiwi +34.1-118.4 5"
	far := "AT Clark +1.000000000 " + long + " +34.1-118.4 7"
	serveLooks(t, conn, "Clark", map[string]string{"kiwi": newest, long: far}, "Jaquez")
	serveLooks(t, conn, "Jaquez", map[string]string{"kiwi": older}, "Clark", "Juzang")
	// Juzang does not answer.
	o := newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "verify")
	got := o.stdout.String()
	fits(t, got)
	for _, want := range []string{
		"2 edges, 2 clients, 2 differ (",
		"\nJuzang does not answer: not connected to the broker, or older than this\n  command\n",
		"\nkiwi is older at Jaquez: lost, acknowledged to Clark\n  Jaquez holds " + older + "\n  Clark holds " + newest + "\n",
		"… is missing at Jaquez: lost, acknowledged to Clark\n  Clark holds AT Clark +1.0",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "verify", "--json")
	var r struct {
		Same        bool
		Silent      []verify.Silent
		Differences []map[string]string
	}
	if err := json.Unmarshal([]byte(o.stdout.String()), &r); err != nil || r.Same || len(r.Silent) != 1 || len(r.Differences) != 2 || r.Differences[0]["client"] != "kiwi" || r.Differences[0]["held"] != older {
		t.Errorf("%v: %s", err, o.stdout.String())
	}

	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "explain", "kiwi")
	got = o.stdout.String()
	fits(t, got)
	if want := `kiwi: 2 edges, not all hold the same
  1: ` + newest + `
     received by Clark at 1970-01-01 00:00:08.500 UTC
     newer than 2: its time is 2.5s later (S2)
  2: ` + older + `
     received by Clark at 1970-01-01 00:00:06.000 UTC

EDGE    HOLDS   FROM        STORED BEFORE (UTC)  JOURNAL
Clark   line 1  the client  1970-01-01 00:01:40  holds it
Jaquez  line 2  Clark       1970-01-01 00:01:40  not its own
Juzang does not answer: not connected to the broker, or older than this
  command
`; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "explain", "kiwi", "--json")
	var x struct {
		Client, Newest string
		Same           bool
		Edges          []struct {
			Holds, Why string
			Answer     admin.Client
		}
		Silent []verify.Silent
	}
	if err := json.Unmarshal([]byte(o.stdout.String()), &x); err != nil || x.Same || x.Newest != newest || len(x.Edges) != 2 || len(x.Silent) != 1 ||
		x.Edges[0].Holds != "newest" || x.Edges[1].Holds != "older" || x.Edges[1].Why != "its time is 2.5s later" || x.Edges[1].Answer.Line != older {
		t.Errorf("%v: %s", err, o.stdout.String())
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "explain", long)
	fits(t, o.stdout.String())
	if strings.Contains(o.stdout.String(), "\x1b") || !strings.Contains(o.stdout.String(), "\nJaquez  nothing   -") {
		t.Errorf("%q", o.stdout.String())
	}
}

func TestEdgesThatDoNotAnswerAreNotTheSame(t *testing.T) {
	t.Parallel()
	x := explained{client: "kiwi", silent: []unanswered{{name: "Clark", why: "no answer"}}}
	var text strings.Builder
	if err := x.writeJSON(&text); err != nil || !strings.Contains(text.String(), `"same": false`) {
		t.Errorf("%v: %s", err, text.String())
	}
}

func TestVerifyOfOneEdgeAndOfNone(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	o := newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "verify")
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "explain", "kiwi")
	conn := brokertest.Dial(t, server.URL(), "test")
	s := wellEdge("Clark")
	s.Topology = "Clark"
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	service, err := conn.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Clark", Version: "0.1.0", Status: func([]byte) []byte { return text },
		Digest: func([]byte) broker.Reply { return broker.Reply{Code: "503", Why: "joining: level 1 of 5"} }})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop(t.Context())
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "verify")
	if got := o.stdout.String(); !strings.HasPrefix(got, "0 edges, 0 clients, none answers (") || !strings.Contains(got, "\nClark does not answer: joining: level 1 of 5\n") {
		t.Error(got)
	}
}

func TestVeryManyDifferencesAreCounted(t *testing.T) {
	r := verify.Result{Edges: []string{"A", "B"}, Clients: 1234567, Unexamined: 5000, Seconds: 2, LeftOut: time.Unix(0, 0).UTC()}
	for i := range 30 {
		r.Differences = append(r.Differences, verify.Difference{Client: fmt.Appendf(nil, "c%02d", i), Edge: "B", Kind: verify.Late, At: "A", Newest: "AT"})
	}
	var w strings.Builder
	writeVerified(&w, &r)
	fits(t, w.String())
	if got := w.String(); !strings.HasPrefix(got, "2 edges, 1,234,567 clients, 30 differ, and about 5,000 more (2.0 s)\nPositions from before 1 Jan 00:00:00 UTC are left out: they are about to be\nforgotten.\nc00 is missing at B: late, not acknowledged yet\n  A holds AT\n") ||
		!strings.HasSuffix(got, "\n… and 10 more: --json prints them\n") {
		t.Error(got)
	}
	for kind, want := range map[string]string{verify.PutOff: "put off, too far ahead of its clock (H9)", verify.Lost: "lost on the way there"} {
		var w strings.Builder
		writeVerified(&w, &verify.Result{Differences: []verify.Difference{{Client: []byte("c"), Kind: kind}}})
		if !strings.Contains(w.String(), want) {
			t.Error(w.String())
		}
	}
}
