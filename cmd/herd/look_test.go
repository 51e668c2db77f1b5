package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/admin"
	"herd/edge/overview"
	"herd/edge/wire"
)

func TestWatchFollowsTheLinks(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	o := newTool(t, "NATS_URL="+server.URL())
	serveStatus(t, conn, overview.Status{Edge: "Clark"})
	done := make(chan int)
	go func() { done <- o.run("watch", "--edge", "Clark", "--links") }()
	interrupt := <-o.signals
	o.stderr.await(t, "watching")

	// Its subscription may be later than the first messages.
	stop := make(chan struct{})
	sending := make(chan struct{})
	go func() {
		defer close(sending)
		for i := uint64(0); ; i++ {
			for _, link := range [][2]string{{"Clark", "Jaquez"}, {"Jaquez", "Clark"}} {
				n := conn.Neighbour("herd", link[0], link[1])
				err := n.Send(&broker.Message{
					Epoch: "1234567890abcdef-12345678", After: i, Through: i + 1, Head: i + 1,
					Lines: []byte("AT Clark +0.263873386 " + kiwi + " +34.068930-118.445127 1621464827.959498503\nAT \x1b[31mred\n"),
				})
				if err != nil {
					t.Error(err)
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	o.stdout.await(t, "\n")
	got := o.stdout.await(t, "unreadable")
	close(stop)
	<-sending
	interrupt <- os.Interrupt
	if code := <-done; code != exitOK {
		t.Errorf("exit %d, want 0; says %s", code, o.stderr.String())
	}
	if want := " Clark → Jaquez       kiwi.cs.ucla.edu "; !strings.Contains(got, want) {
		t.Errorf("prints %q, want %q among it", got, want)
	}
	if strings.Contains(got, "Jaquez → Clark") {
		t.Errorf("prints what another edge says: %q", got)
	}
	if strings.Contains(got, "\x1b") || !strings.Contains(got, `unreadable: AT \x1b[31mred`) {
		t.Errorf("prints escape codes: %q", got)
	}
}

func TestWatchRows(t *testing.T) {
	now := time.Unix(1_621_464_828, 500_000_000).UTC()
	var got []byte
	for _, links := range []bool{true, false} {
		got = append(got, watchHeader(links)+"\n"...)
		for _, line := range []string{
			"AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503",
			"AT Johnson -3600.000000000 ahead -33-0 1621468428",
			"AT a_rather_long_name_of_an_edge_32 +0.000000000 " + strings.Repeat("long", 9) + " +00.00000000000000000000+000.00000000000000000 0",
			"AT Clark +0.000000000 \x00\xff\\é\u202e\x7f +1+1 1621464828",
			"AT Clark 0 kiwi +1+1 1",
		} {
			from := ""
			if links {
				from = "Bernard"
			}
			at, err := wire.ParseAT([]byte(line))
			got = appendRow(got, now, from, "Johnson", []byte(line), &at, err)
		}
	}
	golden(t, "testdata/watch.golden", got)
}

// An update that passes many links is printed once, and another client's not at all.
func TestWatchPrintsALinePerUpdate(t *testing.T) {
	lines := []string{
		"AT Clark +0.000000000 a +1+1 1000", "AT Clark +0.000000000 a +1+1 1000", "AT Clark +0.000000000 b +1+1 1000", "AT Clark +0.000000000 a +1+1 1001", "AT no",
	}
	count := func(w *watch) (got int) {
		for i, line := range lines {
			got += bytes.Count(w.appendLine(nil, time.Unix(1002, 0), "Clark", []string{"Jaquez", "Juzang"}[i%2], []byte(line)), []byte("\n"))
		}
		return got
	}
	for _, test := range []struct {
		name string
		w    watch
		want int
	}{
		{"each update once", watch{}, 4}, {"each passage", watch{links: true}, 5}, {"one client", watch{client: "a"}, 2}, {"one client's passages", watch{client: "a", links: true}, 3},
	} {
		if got := count(&test.w); got != test.want {
			t.Errorf("%s: %d lines, want %d", test.name, got, test.want)
		}
	}
	w := watch{asJSON: true}
	var x watched
	text := w.appendLine(nil, time.Unix(1002, 5).UTC(), "Clark", "Jaquez", []byte("AT Bernard -0.500000000 \xffid +1-1 1000.5"))
	if err := json.Unmarshal(text, &x); err != nil || x.Client != "\uFFFDid" || string(x.ClientBytes) != "\xffid" || x.Edge != "Bernard" || x.From != "Clark" ||
		x.To != "Jaquez" || x.Skew != "-0.500000000" || x.Location != "+1-1" || x.Time != "1000.5" || !x.Passed.Equal(time.Unix(1002, 5)) {
		t.Errorf("--json: %s, %v", text, err)
	}
}

func TestWatchRefusesAnEdgeThatNobodyKnows(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	o := newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "watch", "--edge", "Clark")
	if !strings.Contains(o.stderr.String(), `no edge of the herd "herd" answers`) {
		t.Errorf("says %s", o.stderr.String())
	}
	serveStatus(t, brokertest.Dial(t, server.URL(), "test"), overview.Status{Edge: "Clark", Topology: "Clark-Jaquez"})
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "watch", "--edge", "Clarke")
	if !strings.Contains(o.stderr.String(), `unknown edge "Clarke"; the herd has Clark and Jaquez`) {
		t.Errorf("says %s", o.stderr.String())
	}
}

// serveStatus answers status requests as an edge does.
func serveStatus(t *testing.T, conn *broker.Conn, s overview.Status) {
	t.Helper()
	serveStatusOf(t, conn, "herd", s)
}

// serveStatusOf is serveStatus for an edge of the herd with this prefix.
func serveStatusOf(t *testing.T, conn *broker.Conn, prefix string, s overview.Status) {
	t.Helper()
	text, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	service, err := conn.Serve(broker.ServiceConfig{Prefix: prefix, Edge: s.Edge, Version: "0.1.0", Status: func([]byte) []byte { return text }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { service.Stop(t.Context()) })
}

// wellEdge returns the status of an edge without problems, with links to these neighbours.
func wellEdge(name string, neighbours ...string) overview.Status {
	s := overview.Status{Edge: name, Version: "1.2.0", Ready: true, Clients: 3, Connections: 1, Broker: "connected nats://127.0.0.1:4222",
		Topology: "Clark-Jaquez", Journal: overview.Journal{Mode: "auto", Up: true}}
	for _, n := range neighbours {
		s.Links = append(s.Links, overview.LinkStatus{Neighbour: n, Up: true, RoundTripSeconds: 0.0002})
	}
	return s
}

func TestStatusOfAHerd(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	serveStatus(t, conn, wellEdge("Jaquez", "Clark"))
	serveStatus(t, conn, wellEdge("Clark", "Jaquez"))
	o := newTool(t)
	o.want(exitOK, "-s", server.URL(), "status", "--json")
	var edges []overview.Status
	if err := json.Unmarshal([]byte(o.stdout.String()), &edges); err != nil {
		t.Fatalf("%v in %s", err, o.stdout.String())
	}
	if len(edges) != 2 || edges[0].Edge != "Clark" || edges[1].Edge != "Jaquez" || edges[0].Clients != 3 {
		t.Errorf("%+v", edges)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitOK, "status")
	if got := o.stdout.String(); !strings.Contains(got, "\nClark ") || !strings.Contains(got, "\nJaquez ") || !strings.HasPrefix(got, "2 of 2 edges ready, 1 of 1 link up") {
		t.Errorf("prints %s", got)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitOK, "status", "--check")
	if got := o.stdout.String(); got != "" {
		t.Errorf("--check prints %q of a herd that is well", got)
	}
	for _, args := range [][]string{{"status", "--prefix", "other"}, {"status"}} {
		o = newTool(t, "NATS_URL="+server.URL(), "HERD_SUBJECT_PREFIX=other")
		o.want(exitFailed, args...)
		if !strings.Contains(o.stderr.String(), `no edge of the herd "other"`) {
			t.Errorf("says %s", o.stderr.String())
		}
	}
}

// Several herds may share a NATS server, and several NATS servers may run on one machine. So a status
// says which server was asked for which herd, and which other herds are there.
func TestStatusSaysWhichHerdWasAsked(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	serveStatus(t, conn, wellEdge("Jaquez", "Clark"))
	serveStatus(t, conn, wellEdge("Clark", "Jaquez"))
	head := func(o *tool) string {
		text, _, _ := strings.Cut(o.stdout.String(), "\n\n")
		return strings.Join(strings.Fields(text), " ") // undoes the wrapping
	}
	o := newTool(t, "NATS_URL="+server.URL())
	o.want(exitOK, "status")
	if got, want := head(o), "asked "+server.URL()+` for the herd "herd"`; !strings.HasSuffix(got, want) {
		t.Errorf("prints %q, want %q at its end", got, want)
	}
	serveStatusOf(t, conn, "north", wellEdge("Clark", "Jaquez"))
	serveStatusOf(t, conn, "south", wellEdge("Clark", "Jaquez"))
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitOK, "status")
	if got, want := head(o), `2 of 2 edges ready`; !strings.HasPrefix(got, want) {
		t.Errorf("prints %q, want %q first", got, want)
	}
	if got, want := head(o), `for the herd "herd"; edges of "north" and "south" are there too`; !strings.HasSuffix(got, want) {
		t.Errorf("prints %q, want %q at its end", got, want)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "status", "--prefix", "east")
	want := `no edge of the herd "east" answers at ` + server.URL() + `, which has edges of "herd", "north" and "south" (--prefix)` + "\n"
	if got := o.stderr.String(); !strings.HasSuffix(got, want) {
		t.Errorf("says %q, want %q", got, want)
	}
	// Whoever named no server is told so: at the default address may be another herd's.
	for _, c := range []struct {
		args    []string
		environ []string
		want    bool
	}{
		{nil, nil, true},
		{[]string{"--prefix", "east"}, []string{"NATS_NKEY=x", "NATS_URL="}, true},
		{nil, []string{"NATS_URL=nats://127.0.0.1:4222"}, false},
		{nil, []string{"NATS_CONTEXT=here"}, false},
		{[]string{"--server", "nats://127.0.0.1:4222"}, nil, false},
		{[]string{"-s", "nats://127.0.0.1:4222"}, nil, false},
		{[]string{"--context", "here"}, nil, false},
	} {
		fs := flag.NewFlagSet("status", flag.ContinueOnError)
		flags := newNATSFlags(fs)
		if err := fs.Parse(c.args); err != nil {
			t.Fatal(err)
		}
		if got := flags.byDefault(c.environ); got != c.want {
			t.Errorf("%q with %q: by default is %v, want %v", c.args, c.environ, got, c.want)
		}
		said := flags.nobody(c.environ, "nats://127.0.0.1:4222", nil).Error()
		if got := strings.Contains(said, "this is the default address"); got != c.want {
			t.Errorf("%q with %q says %q", c.args, c.environ, said)
		}
		if got := strings.Contains(said, "operator.nk may ask them"); got != slices.Contains(c.environ, "NATS_NKEY=x") {
			t.Errorf("%q with %q says %q of the login", c.args, c.environ, said)
		}
	}
}

// A dead edge is listed if anything names it: a neighbour or the topology.
func TestASilentEdgeIsListed(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	clark := wellEdge("Clark", "Jaquez")
	clark.Topology, clark.Links[0].Up = "Bernard-Jaquez,Clark-Jaquez", false
	serveStatus(t, conn, clark)
	for _, args := range []string{"status", "status --check"} {
		o := newTool(t, "NATS_URL="+server.URL())
		o.want(exitFailed, strings.Fields(args)...)
		got := o.stdout.String()
		if !strings.Contains(got, "Jaquez is silent") || !strings.Contains(got, "neighbour of Clark") || !strings.Contains(got, "Bernard is silent") {
			t.Errorf("herd %s prints %s", args, got)
		}
		if strings.Contains(got, "link from Clark") {
			t.Errorf("herd %s names a link to a silent edge as another fault: %s", args, got)
		}
	}
	o := newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "status", "--json")
	var edges []struct {
		Edge          string
		Silent, Ready bool
	}
	if err := json.Unmarshal([]byte(o.stdout.String()), &edges); err != nil || len(edges) != 3 {
		t.Fatalf("%v in %s", err, o.stdout.String())
	}
	if !edges[0].Silent || edges[1].Silent || !edges[1].Ready || !edges[2].Silent || edges[2].Ready {
		t.Errorf("%+v", edges)
	}
}

func TestStatusOfAdminPorts(t *testing.T) {
	t.Parallel()
	// An account of its own keeps each port from asking other edges.
	walled := admin.Config{Others: others{reach: admin.Reach{Restricted: "accounts"}}}
	serveAs := func(cfg admin.Config, all ...overview.Status) string {
		var sources []admin.Source
		for _, s := range all {
			sources = append(sources, admin.Source{Name: s.Edge, Status: func() overview.Status { return s }, Metrics: func() admin.Metrics { return admin.Metrics{} },
				Ready: func() (bool, string) { return s.Ready, s.Why }, Live: func() (bool, string) { return true, "" }})
		}
		web := httptest.NewServer(admin.New(cfg, sources...).Handler())
		t.Cleanup(web.Close)
		return web.URL
	}
	serve := func(all ...overview.Status) string { return serveAs(walled, all...) }
	both := serve(wellEdge("Clark", "Jaquez"), wellEdge("Jaquez", "Clark"))
	away := "NATS_URL=nats://" + closedAddr(t)
	newTool(t, away).want(exitOK, "status", "--http", both)
	o := newTool(t, away)
	o.want(exitFailed, "status", "--http", serve(wellEdge("Clark", "Jaquez"))+","+closedAddr(t))
	if got := o.stdout.String(); !strings.Contains(got, "Jaquez is silent") {
		t.Errorf("prints %s", got)
	}
	// Who was not asked is not silent.
	o = newTool(t, away)
	o.want(exitOK, "status", "--http", serve(wellEdge("Clark", "Jaquez")))
	if got := o.stdout.String(); strings.Contains(got, "silent") || !strings.Contains(got, "Jaquez not asked") {
		t.Errorf("prints %s", got)
	}
	// Who was asked by a port, and did not answer it, is silent: no port of its own would answer.
	web := serveAs(admin.Config{Others: others{there: wellEdge("Juzang", "Clark")}}, wellEdge("Clark", "Jaquez", "Juzang"))
	for _, args := range []string{"status --http ", "status --check --http "} {
		o = newTool(t, away)
		o.want(exitFailed, strings.Fields(args+web)...)
		if got := o.stdout.String(); !strings.Contains(got, "Jaquez is silent") || !strings.Contains(got, "not connected") || strings.Contains(got, "not asked") {
			t.Errorf("herd %s prints %s", args, got)
		}
	}
	// … unless it answered another port.
	newTool(t, away).want(exitOK, "status", "--http", web+","+both)
	o = newTool(t, away)
	o.want(exitFailed, "status", "--http", closedAddr(t))
	o = newTool(t, away)
	o.want(exitFailed, "status", "--timeout", "50ms")
	if !strings.Contains(o.stderr.String(), "--http") {
		t.Errorf("says %s, and nothing of --http", o.stderr.String())
	}
}

// others is what a page may ask of other edges: one is there, the rest is not connected to the broker.
type others struct {
	reach admin.Reach
	there overview.Status
}

func (o others) Reach(context.Context) admin.Reach { return o.reach }

func (o others) Ask(_ context.Context, edge, _ string, _ []byte) ([]byte, error) {
	if edge != o.there.Edge {
		return nil, admin.ErrNobody
	}
	return json.Marshal(o.there)
}

func TestStatusTable(t *testing.T) {
	v := view{from: "nats://127.0.0.1:4222", herd: "herd", seen: overview.Seen{Prefix: "herd", Statuses: []overview.Status{
		{
			Edge: "Bernard", Ready: true, Clients: 1_000_000, Connections: 12, Revision: 4_000_000, Broker: "connected nats://127.0.0.1:4222",
			Version: "1.2.0", Journal: overview.Journal{Mode: "auto", Up: true},
			Links: []overview.LinkStatus{
				{Neighbour: "Clark", Up: true, Downs: 3, Lag: 17, RoundTripSeconds: 0.000213, ClockSeconds: -0.0004},
				{Neighbour: "a_rather_long_name_of_an_edge_32", ClockSeconds: 12.5, ConfigDiffers: true},
			},
			Places: []overview.PlacesStatus{
				{Provider: "google", BreakerOpen: true, BudgetLeft: new(12)}, {Provider: "google-legacy", BudgetLeft: new(0)}, {Provider: "gazetteer"},
			},
		},
		{Edge: "Clark", Version: "1.2.0", Why: "joining", Broker: "away\x1b", Journal: overview.Journal{Mode: "on", Lag: 5, Error: "no JetStream at the broker"}},
		{Edge: "a_rather_long_name_of_an_edge_32", Ready: true, Version: "0.0.0-20260101000000-abcdef123456", Broker: "connected nats://127.0.0.1:4222", Journal: overview.Journal{Mode: "on", Up: true, Lag: 7},
			Links: []overview.LinkStatus{{Neighbour: "another_rather_long_name_of_edge", Lag: 1 << 60}}},
	}}}
	if err := v.settle(); err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	writeStatus(&got, v, v.wrong(), colours{})
	for line := range strings.Lines(got.String()) {
		if n := utf8.RuneCountInString(line) - 1; n > screen {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	golden(t, "testdata/status.golden", []byte(got.String()))
	var coloured strings.Builder
	writeStatus(&coloured, v, v.wrong(), colours{true})
	plain := regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(coloured.String(), "")
	if plain != got.String() || plain == coloured.String() {
		t.Errorf("in colour it is not the same:\n%s", coloured.String())
	}
}

func TestStatusThatCannotBePrintedFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("skipped: no /dev/full")
	}
	defer full.Close()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	serveStatus(t, conn, wellEdge("Clark", "Jaquez"))
	serveStatus(t, conn, wellEdge("Jaquez", "Clark"))
	for _, args := range [][]string{{"status"}, {"status", "--json"}, {"version"}, {"help"}, {"health", "--nats", server.URL()}} {
		var said text
		code := run(t.Context(), args, &process{stdout: full, stderr: &said, environ: []string{"NATS_URL=" + server.URL()},
			notify: func(chan<- os.Signal, ...os.Signal) func() { return func() {} }})
		if want := args[0] == "health"; (code == exitOK) != want { // health prints nothing
			t.Errorf("herd %v > /dev/full exits %d and says %s", args, code, said.String())
		}
	}
}

func TestContextsOfTheNATSTool(t *testing.T) {
	server := brokertest.Start(t)
	config := t.TempDir()
	if err := os.MkdirAll(filepath.Join(config, "nats", "context"), 0o700); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(config, "nats", "context", name+".json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("here", `{"description":"x","url":"`+server.URL()+`"}`)
	write("away", `{"url":"nats://`+closedAddr(t)+`"}`)
	write("bad", `{`)
	for _, test := range []struct {
		args, environ string
		code          int
		says          string
	}{
		{"status --context here", "", exitFailed, "no edge"}, // but the broker answers
		{"status", "NATS_CONTEXT=here", exitFailed, "no edge"},
		{"status --context here", "NATS_CONTEXT=away", exitFailed, "no edge"},
		{"status --timeout 50ms", "NATS_CONTEXT=away", exitFailed, "no NATS server"},
		{"status", "NATS_CONTEXT=none", exitUsage, `no context "none"`},
		{"status", "NATS_CONTEXT=bad", exitUsage, "bad.json"},
		{"status --context ../here", "", exitUsage, "not a valid context name"},
	} {
		o := newTool(t, "XDG_CONFIG_HOME="+config, test.environ)
		o.want(test.code, strings.Fields(test.args)...)
		if got := o.stderr.String(); !strings.Contains(got, test.says) {
			t.Errorf("herd %s with %s says %q, want %s", test.args, test.environ, got, test.says)
		}
	}
}

func TestABrokerThatIsAway(t *testing.T) {
	addr := closedAddr(t)
	for _, args := range []string{"status", "status --json", "watch", "health --nats nats://" + addr} {
		o := newTool(t, "NATS_URL=nats://"+addr)
		o.want(exitFailed, append(strings.Fields(args), "--timeout", "50ms")...)
		if got := o.stderr.String(); !strings.Contains(got, addr) || strings.Count(got, "\n") > 2 || o.stdout.String() != "" {
			t.Errorf("herd %s prints %q and says %q; want a line or two that name %s", args, o.stdout.String(), got, addr)
		}
	}
}

// A server that refuses the login is not away: what helps is a key.
func TestABrokerThatRefusesTheLogin(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			fmt.Fprint(c, "INFO {\"auth_required\":true,\"headers\":true,\"proto\":1,\"max_payload\":1048576}\r\n")
			_, _ = bufio.NewReader(c).ReadString('\n') // CONNECT
			fmt.Fprint(c, "-ERR 'Authorization Violation'\r\n")
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-served })
	for _, args := range []string{"status", "watch", "health --nats nats://" + ln.Addr().String()} {
		o := newTool(t, "NATS_URL=nats://"+ln.Addr().String())
		o.want(exitFailed, append(strings.Fields(args), "--timeout", "500ms")...)
		if got := o.stderr.String(); !strings.Contains(got, "NATS_NKEY") || strings.Contains(got, "--http") || strings.Contains(got, "no NATS server") {
			t.Errorf("herd %s says %q", args, got)
		}
	}
}

func TestWatchEndsWhileTheBrokerIsAway(t *testing.T) {
	o := newTool(t, "NATS_URL=nats://"+closedAddr(t))
	done := make(chan int)
	go func() { done <- o.run("watch", "--timeout", "1h") }()
	(<-o.signals) <- syscall.SIGTERM
	if code := <-done; code != exitOK {
		t.Errorf("exit %d, want 0", code)
	}
}

func TestNATSFlagsAndVariables(t *testing.T) {
	server := brokertest.Start(t)
	away := "nats://" + closedAddr(t)
	for _, test := range []struct {
		args    string
		environ []string
		code    int
		says    string
	}{
		{"status --server " + server.URL(), []string{"NATS_URL=" + away}, exitFailed, "no edge"}, // but the broker answers
		{"status -s " + server.URL(), []string{"NATS_URL=" + away}, exitFailed, "no edge"},
		{"status", []string{"NATS_URL=://"}, exitUsage, "NATS_URL"},
		{"status", []string{"NATS_CREDS=/nowhere", "NATS_CERT=/nowhere"}, exitUsage, "NATS_CERT"},
		{"status --creds /nowhere", nil, exitUsage, "NATS_CREDS"},
		{"status --user me --password secret -s " + server.URL(), []string{"NATS_TOKEN=t", "NATS_CREDS=/nowhere"}, exitFailed, "no edge"},
		{"status --password secret", nil, exitUsage, "NATS_USER"},
	} {
		o := newTool(t, test.environ...)
		o.want(test.code, strings.Fields(test.args)...)
		if got := o.stderr.String(); !strings.Contains(got, test.says) || strings.Contains(got, "secret") {
			t.Errorf("herd %s with %v says %q, want %s", test.args, test.environ, got, test.says)
		}
	}
}

func TestHealth(t *testing.T) {
	status := http.StatusOK
	path := ""
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path = r.URL.Path
		w.WriteHeader(status)
		w.Write([]byte("Clark is well\n"))
	}))
	defer web.Close()
	for _, url := range []string{web.URL, web.URL + "/", strings.TrimPrefix(web.URL, "http://")} {
		o := newTool(t)
		o.want(exitOK, "health", "--http", url)
		if path != "/readyz" || o.stdout.String() != "Clark is well\n" {
			t.Errorf("%s asks %s and prints %q", url, path, o.stdout.String())
		}
	}
	newTool(t).want(exitOK, "health", "--http", web.URL+"/healthz")
	if path != "/healthz" {
		t.Errorf("asks %s", path)
	}
	newTool(t).want(exitOK, "health", "--nats", web.URL)
	if path != "/healthz" {
		t.Errorf("asks a NATS server's monitoring port for %s", path)
	}
	status = http.StatusServiceUnavailable
	newTool(t).want(exitFailed, "health", "--http", web.URL)
	newTool(t).want(exitFailed, "health", "--nats", web.URL)
	newTool(t).want(exitFailed, "health", "--http", closedAddr(t))
	newTool(t).want(exitUsage, "health", "--http", "http://")

	server := brokertest.Start(t)
	newTool(t, "NATS_URL=nats://"+closedAddr(t)).want(exitOK, "health", "--nats", server.URL())
}
