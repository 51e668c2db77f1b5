package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"herd/broker/brokertest"
	"herd/edge/overview"
)

// herd page serves the whole herd until it is interrupted, also while a page is open.
func TestPageOfAHerd(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	conn := brokertest.Dial(t, server.URL(), "test")
	serveStatus(t, conn, wellEdge("Jaquez", "Clark"))
	serveStatus(t, conn, wellEdge("Clark", "Jaquez"))
	o := newTool(t)
	done := make(chan int)
	go func() { done <- o.run("-s", server.URL(), "page", "--listen", "127.0.0.1:0") }()
	interrupt := <-o.signals
	url := strings.TrimSpace(o.stdout.await(t, "\n"))
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	get := func(path string) string {
		t.Helper()
		answer, err := client.Get(url + path)
		if err != nil {
			t.Fatal(err)
		}
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != http.StatusOK {
			t.Fatalf("%s: %s, %v", path, answer.Status, err)
		}
		return string(body)
	}
	var h overview.Herd
	if err := json.Unmarshal([]byte(get("status.json")), &h); err != nil {
		t.Fatal(err)
	}
	if h.Server.Name != "herd page" || h.Server.Scope != overview.ScopeHerd || !h.Server.Map.On || !strings.HasPrefix(h.Summary.Sentence, "2 of 2 edges ready, 1 of 1 link up") {
		t.Errorf("%+v", h)
	}
	if body := get(""); !strings.Contains(body, "2 of 2 edges ready") {
		t.Errorf("the page: %s", body)
	}
	stream, err := client.Get(url + "events")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	if _, err := io.ReadAtLeast(stream.Body, make([]byte, 100), 100); err != nil {
		t.Fatal(err)
	}
	interrupt <- os.Interrupt
	if code := <-done; code != exitOK {
		t.Errorf("exit %d, want 0; says %s", code, o.stderr.String())
	}
}

func TestPageRefusesWhatItCannotServe(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t)
	o := newTool(t)
	o.want(exitFailed, "-s", "nats://"+closedAddr(t), "page", "--timeout", "50ms", "--listen", "127.0.0.1:0")
	o = newTool(t, "HERD_MAP=maybe")
	o.want(exitUsage, "-s", server.URL(), "page")
	if got := o.stderr.String(); !strings.Contains(got, `HERD_MAP: "maybe", want auto, on or off`) {
		t.Errorf("says %s", got)
	}
	o = newTool(t)
	o.want(exitFailed, "-s", server.URL(), "page", "--listen", "no address")
	for _, c := range []struct {
		listen, environ string
		on              bool
	}{{"127.0.0.1:0", "", true}, {"0.0.0.0:1", "", false}, {"0.0.0.0:1", "on", true}, {"127.0.0.1:0", "off", false}, {"[::1]:1", "auto", true}} {
		got, err := (&pageCall{listen: c.listen}).mapSwitch([]string{"HERD_MAP=" + c.environ})
		if err != nil || got.On != c.on || got.On == (got.Why != "") {
			t.Errorf("%+v: %+v, %v", c, got, err)
		}
	}
}
