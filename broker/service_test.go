package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"herd/broker"
	"herd/broker/brokertest"
)

// serve offers the endpoints of an edge on c. IAMAT, WHATSAT and WHOSAT answer "AT " and their
// payload, or refuse "bad".
func serve(t *testing.T, c *broker.Conn, edge string) *broker.Service {
	t.Helper()
	echo := func(payload []byte, received time.Time) broker.Reply {
		if string(payload) == "bad" {
			return broker.Reply{Answer: []byte("? IAMAT bad\n"), Refused: true}
		}
		if since := time.Since(received); since < 0 || since > patience {
			return broker.Reply{Answer: fmt.Appendf(nil, "received %v ago", since), Refused: true}
		}
		return broker.Reply{Answer: append([]byte("AT "), payload...)}
	}
	look := func(payload []byte) broker.Reply {
		if string(payload) == "bad" {
			return broker.Reply{Code: "501", Why: "off", Answer: []byte("not sent")}
		}
		return broker.Reply{Answer: append([]byte("look "), payload...)}
	}
	s, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: edge, Version: "1.2.3", IAMAT: echo, WHATSAT: echo, WHOSAT: echo,
		Status: func([]byte) []byte { return fmt.Appendf(nil, `{"edge":%q}`, edge) },
		Client: look, Cells: look, Digest: look,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Stop(t.Context()) })
	return s
}

// operator returns a connection like that of the nats tool.
func operator(t *testing.T, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	return nc
}

func TestEndpointsAnswerAsTheContractSays(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	serve(t, c, "Clark")
	nc := operator(t, s.URL())
	for _, test := range []struct{ endpoint, payload, answer, code string }{
		{"iamat", "kiwi +34-118 1", "AT kiwi +34-118 1", ""},
		{"iamat", "bad", "? IAMAT bad\n", "400"},
		{"whatsat", "kiwi 10 5", "AT kiwi 10 5", ""},
		{"whatsat", "bad", "? IAMAT bad\n", "400"},
		{"whosat", "kiwi 10 5", "AT kiwi 10 5", ""},
		{"whosat", "bad", "? IAMAT bad\n", "400"},
		{"status", "", `{"edge":"Clark"}`, ""},
		{"client", "kiwi", "look kiwi", ""},
		{"client", "bad", "", "501"},
		{"cells", "+1+1 +2+2", "look +1+1 +2+2", ""},
		{"cells", "bad", "", "501"},
		{"digest", "{}", "look {}", ""},
		{"digest", "bad", "", "501"},
	} {
		m, err := nc.Request("herd.edge.Clark."+test.endpoint, []byte(test.payload), patience)
		if err != nil {
			t.Fatalf("%s: %v", test.endpoint, err)
		}
		if string(m.Data) != test.answer {
			t.Errorf("%s %q: got %q, want %q", test.endpoint, test.payload, m.Data, test.answer)
		}
		if got := m.Header.Get(micro.ErrorCodeHeader); got != test.code {
			t.Errorf("%s %q: error code %q, want %q", test.endpoint, test.payload, got, test.code)
		}
	}
}

func TestCommandsWaitForTheEdgeToBeReady(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	never := func([]byte, time.Time) broker.Reply {
		t.Error("called before the edge was ready")
		return broker.Reply{}
	}
	service, err := c.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Clark", Version: "1.0.0", IAMAT: never, WHATSAT: never, WHOSAT: never,
		Status: func([]byte) []byte { return []byte("{}") }, Joining: func() string { return "joining: level 2 of 5, waits for Jaquez" },
		Client: func([]byte) broker.Reply { return broker.Reply{} }, Cells: func([]byte) broker.Reply { return broker.Reply{} },
		Digest: func([]byte) broker.Reply { return never(nil, time.Time{}) }})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop(t.Context())
	nc := operator(t, s.URL())
	for endpoint, code := range map[string]string{"iamat": "503", "whatsat": "503", "whosat": "503", "status": "", "client": "", "cells": "", "digest": "503"} {
		m, err := nc.Request("herd.edge.Clark."+endpoint, []byte("x"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("Nats-Service-Error-Code"); got != code {
			t.Errorf("H7 %s: code %q, want %q", endpoint, got, code)
		}
		if why := m.Header.Get("Nats-Service-Error"); code != "" && why != "joining: level 2 of 5, waits for Jaquez" {
			t.Errorf("H7 %s: error %q, want what is waited for", endpoint, why)
		}
	}
}

func TestTheServiceTellsOfItself(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	serve(t, c, "Clark")
	nc := operator(t, s.URL())
	m, err := nc.Request("$SRV.INFO.herd-edge", nil, patience)
	if err != nil {
		t.Fatal(err)
	}
	var info micro.Info
	if err := json.Unmarshal(m.Data, &info); err != nil {
		t.Fatal(err)
	}
	if info.Name != "herd-edge" || info.Description != "Clark" || info.Version != "1.2.3" ||
		info.Metadata["edge"] != "Clark" || info.Metadata["prefix"] != "herd" {
		t.Errorf("got %+v", info)
	}
	for i, want := range []string{"herd.edge.Clark.iamat", "herd.edge.Clark.whatsat", "herd.edge.Clark.whosat", "herd.edge.Clark.status", "herd.edge.Clark.client", "herd.edge.Clark.cells", "herd.edge.Clark.digest"} {
		if len(info.Endpoints) != 7 || info.Endpoints[i].Subject != want || info.Endpoints[i].QueueGroup != "" {
			t.Errorf("endpoints %+v, want %s without a queue group", info.Endpoints, want)
		}
	}
}

func TestASlowWhatsatHoldsNobodyUp(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	entered, leave := make(chan bool, 10), make(chan bool)
	service, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: "Clark",
		IAMAT: func([]byte, time.Time) broker.Reply { return broker.Reply{Answer: []byte("AT")} },
		WHATSAT: func(p []byte, _ time.Time) broker.Reply {
			if string(p) == "slow" {
				entered <- true
				<-leave
			}
			return broker.Reply{Answer: p}
		},
		WHOSAT: func(p []byte, _ time.Time) broker.Reply { return broker.Reply{Answer: p} },
		Status: func([]byte) []byte { return []byte("{}") },
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := operator(t, s.URL())
	inbox, err := nc.SubscribeSync("slow.answer")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("herd.edge.Clark.whatsat", "slow.answer", []byte("slow")); err != nil {
		t.Fatal(err)
	}
	take(t, entered, "slow question")
	for _, endpoint := range []string{"iamat", "whatsat", "whosat", "status"} {
		if _, err := nc.Request("herd.edge.Clark."+endpoint, []byte("quick"), patience); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	stopped := make(chan bool)
	go func() {
		service.Stop(soon(t))
		close(stopped)
	}()
	select {
	case <-stopped:
		t.Error("stopped while a question waits")
	case <-time.After(20 * time.Millisecond):
	}
	close(leave)
	take(t, stopped, "end of Stop")
	if m, err := inbox.NextMsg(patience); err != nil || string(m.Data) != "slow" {
		t.Errorf("the slow answer is %v, %v", m, err)
	}
	if err := c.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := nc.Request("herd.edge.Clark.iamat", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop: %v, want %v", err, nats.ErrNoResponders)
	}
}

func TestStatusesAreThoseOfTheHerd(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	asker, _ := connect(t, s.URL())
	if got, err := statuses(t, asker); err != nil || len(got) != 0 {
		t.Errorf("of no herd: %s, %v", got, err)
	}
	for _, edge := range []string{"Jaquez", "Clark", "Bernard"} {
		c, _ := connect(t, s.URL())
		serve(t, c, edge)
	}
	other, _ := connect(t, s.URL())
	if _, err := other.Serve(broker.ServiceConfig{Prefix: "flock", Edge: "Anna", Status: func([]byte) []byte { return []byte("{}") }}); err != nil {
		t.Fatal(err)
	}
	got, err := statuses(t, asker)
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%s", got); text != `[{"edge":"Bernard"} {"edge":"Clark"} {"edge":"Jaquez"}]` {
		t.Errorf("got %s", text)
	}
}

func TestAnEdgeWithoutAStatusIsNamed(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	asker, _ := connect(t, s.URL())
	c, _ := connect(t, s.URL())
	serve(t, c, "Clark")
	if _, err := c.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Bernard", Status: func([]byte) []byte { return []byte("{") }}); err != nil {
		t.Fatal(err)
	}
	got, err := statuses(t, asker)
	if len(got) != 1 || err == nil || !strings.Contains(err.Error(), "Bernard") || strings.Contains(err.Error(), "Clark") {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestVersionsBecomeSemantic(t *testing.T) {
	s := brokertest.Start(t)
	nc := operator(t, s.URL())
	for version, want := range map[string]string{
		"1.2.3": "1.2.3", "v1.2.3-rc.1+abc": "1.2.3-rc.1+abc", "": "0.0.0", "(devel)": "0.0.0+devel",
		"v0.0.0-20260101000000-abcdef123456": "0.0.0-20260101000000-abcdef123456", "v1.2.3-01": "0.0.0+v1-2-3-01", "ü": "0.0.0",
		"v0.0.0-20260101000000-abcdef123456+dirty": "0.0.0-20260101000000-abcdef123456+dirty",
	} {
		c, _ := connect(t, s.URL())
		service, err := c.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Clark", Version: version})
		if err != nil {
			t.Fatal(err)
		}
		m, err := nc.Request("$SRV.PING.herd-edge", nil, patience)
		if err != nil {
			t.Fatalf("version %q: %v", version, err)
		}
		var ping micro.Ping
		if err := json.Unmarshal(m.Data, &ping); err != nil || ping.Version != want {
			t.Errorf("version %q is shown as %q, %v, want %q", version, ping.Version, err, want)
		}
		service.Stop(soon(t))
		c.Close()
	}
}

func TestAnAnswerThatIsTooLargeIsToldSo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("listen: 127.0.0.1:-1\nmax_payload: 1000\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	server := brokertest.StartConfigured(t, file)[0]
	c, _ := connect(t, server.URL())
	large := broker.Reply{Answer: make([]byte, 1001)}
	service, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: "Clark",
		IAMAT: func(payload []byte, _ time.Time) broker.Reply {
			if string(payload) == "later" {
				return broker.Reply{Later: func() broker.Reply { return large }}
			}
			return large
		},
		WHATSAT: func([]byte, time.Time) broker.Reply { return large },
		WHOSAT:  func([]byte, time.Time) broker.Reply { return large },
		Status:  func([]byte) []byte { return large.Answer },
	})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop(t.Context())
	nc := operator(t, server.URL())
	for _, ask := range []string{"iamat", "iamat later", "whatsat", "whosat", "status"} {
		endpoint, payload, _ := strings.Cut(ask, " ")
		m, err := nc.Request("herd.edge.Clark."+endpoint, []byte(payload), patience)
		if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "500" || !strings.Contains(m.Header.Get(micro.ErrorHeader), "max_payload") {
			t.Errorf("%s is answered %v, %v", ask, m, err)
		}
	}
}
