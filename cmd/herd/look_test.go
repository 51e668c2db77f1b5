package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/admin"
)

// dial connects to the server as an edge does.
func dial(t *testing.T, server *brokertest.Server) *broker.Conn {
	t.Helper()
	conn, err := broker.Dial(broker.Options{URL: server.URL()}, "test", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn
}

func TestWatchFollowsTheLinks(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := dial(t, server)
	o := newTool(t, "NATS_URL="+server.URL())
	done := make(chan int)
	go func() { done <- o.run("watch", "--edge", "Clark") }()
	interrupt := <-o.signals
	o.stderr.await(t, "watching")

	// Its subscription may come after the first messages.
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
	got = append(got, watchHeader+"\n"...)
	for _, line := range []string{
		"AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503",
		"AT Johnson -3600.000000000 ahead -33-0 1621468428",
		"AT a_rather_long_name_of_an_edge_32 +0.000000000 " + strings.Repeat("long", 9) + " +00.00000000000000000000+000.00000000000000000 0",
		"AT Clark +0.000000000 \x00\xff\\é\u202e\x7f +1+1 1621464828",
		"AT Clark 0 kiwi +1+1 1",
	} {
		got = appendRow(got, now, "Bernard", "Johnson", []byte(line))
	}
	golden(t, "testdata/watch.golden", got)
}

func TestStatusOfAHerd(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := dial(t, server)
	for _, name := range []string{"Jaquez", "Clark"} {
		text, err := json.Marshal(admin.Status{Edge: name, Ready: true, Clients: 3, Journal: admin.Journal{Mode: "auto"}, Broker: "connected"})
		if err != nil {
			t.Fatal(err)
		}
		service, err := conn.Serve(broker.ServiceConfig{Prefix: "herd", Edge: name, Version: "0.1.0", Status: func() []byte { return text }})
		if err != nil {
			t.Fatal(err)
		}
		defer service.Stop()
	}
	o := newTool(t)
	o.want(exitOK, "-s", server.URL(), "status", "--json")
	var edges []admin.Status
	if err := json.Unmarshal([]byte(o.stdout.String()), &edges); err != nil {
		t.Fatalf("%v in %s", err, o.stdout.String())
	}
	if len(edges) != 2 || edges[0].Edge != "Clark" || edges[1].Edge != "Jaquez" || edges[0].Clients != 3 {
		t.Errorf("%+v", edges)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitOK, "status")
	if got := o.stdout.String(); !strings.Contains(got, "\nClark ") || !strings.Contains(got, "\nJaquez ") {
		t.Errorf("prints %s", got)
	}
	o = newTool(t, "NATS_URL="+server.URL())
	o.want(exitFailed, "status", "--prefix", "other")
	if !strings.Contains(o.stderr.String(), `no edge of the herd "other"`) {
		t.Errorf("says %s", o.stderr.String())
	}
}

func TestStatusTable(t *testing.T) {
	var got strings.Builder
	printStatus(&got, []admin.Status{
		{
			Edge: "Bernard", Ready: true, Clients: 1_000_000, Connections: 12, Revision: 4_000_000, Broker: "connected nats://127.0.0.1:4222",
			Journal: admin.Journal{Mode: "auto"},
			Links: []admin.LinkStatus{
				{Neighbour: "Clark", Up: true, Lag: 17, RoundTripSeconds: 0.000213, ClockSeconds: -0.0004},
				{Neighbour: "a_rather_long_name_of_an_edge_32", ClockSeconds: 12.5, ConfigDiffers: true},
			},
			Places: []admin.PlacesStatus{
				{Provider: "google", BreakerOpen: true, BudgetLeft: new(12)}, {Provider: "google-legacy", BudgetLeft: new(0)}, {Provider: "gazetteer"},
			},
		},
		{Edge: "Clark", Broker: "away\x1b", Journal: admin.Journal{Mode: "on", Lag: 5}},
	})
	golden(t, "testdata/status.golden", []byte(got.String()))
}

func TestABrokerThatIsAway(t *testing.T) {
	addr := closedAddr(t)
	for _, args := range []string{"status", "status --json", "watch", "health --nats nats://" + addr} {
		o := newTool(t, "NATS_URL=nats://"+addr)
		o.want(exitFailed, append(strings.Fields(args), "--timeout", "50ms")...)
		if got := o.stderr.String(); !strings.Contains(got, addr) || strings.Count(got, "\n") != 1 || o.stdout.String() != "" {
			t.Errorf("herd %s prints %q and says %q; want one line that names %s", args, o.stdout.String(), got, addr)
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
		{"status --server " + server.URL(), []string{"NATS_URL=" + away}, exitFailed, "no edge"}, // but the broker
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
