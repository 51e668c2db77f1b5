package broker_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"herd/broker"
	"herd/broker/brokertest"
)

// serve offers the endpoints of an edge on c: IAMAT answers what it was told,
// or refuses "bad"; WHATSAT likewise.
func serve(t *testing.T, c *broker.Conn, edge string) *broker.Service {
	t.Helper()
	echo := func(payload []byte, received time.Time) ([]byte, bool) {
		if string(payload) == "bad" {
			return []byte("? IAMAT bad\n"), false
		}
		if since := time.Since(received); since < 0 || since > patience {
			return fmt.Appendf(nil, "received %v ago", since), false
		}
		return append([]byte("AT "), payload...), true
	}
	s, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: edge, Version: "1.2.3", IAMAT: echo, WHATSAT: echo,
		Status: func() []byte { return fmt.Appendf(nil, `{"edge":%q}`, edge) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// operator is a connection such as the nats tool makes.
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
		{"status", "", `{"edge":"Clark"}`, ""},
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
	never := func([]byte, time.Time) ([]byte, bool) { t.Error("called before the edge was ready"); return nil, false }
	service, err := c.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Clark", Version: "1.0.0", IAMAT: never, WHATSAT: never,
		Status: func() []byte { return []byte("{}") }, Ready: func() bool { return false }})
	if err != nil {
		t.Fatal(err)
	}
	defer service.Stop()
	nc := operator(t, s.URL())
	for endpoint, code := range map[string]string{"iamat": "503", "whatsat": "503", "status": ""} {
		m, err := nc.Request("herd.edge.Clark."+endpoint, []byte("x"), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		if got := m.Header.Get("Nats-Service-Error-Code"); got != code {
			t.Errorf("H7 %s: code %q, want %q", endpoint, got, code)
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
	for i, want := range []string{"herd.edge.Clark.iamat", "herd.edge.Clark.whatsat", "herd.edge.Clark.status"} {
		if len(info.Endpoints) != 3 || info.Endpoints[i].Subject != want || info.Endpoints[i].QueueGroup != "" {
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
		IAMAT: func([]byte, time.Time) ([]byte, bool) { return []byte("AT"), true },
		WHATSAT: func(p []byte, _ time.Time) ([]byte, bool) {
			if string(p) == "slow" {
				entered <- true
				<-leave
			}
			return p, true
		},
		Status: func() []byte { return []byte("{}") },
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
	for _, endpoint := range []string{"iamat", "whatsat", "status"} {
		if _, err := nc.Request("herd.edge.Clark."+endpoint, []byte("quick"), patience); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	stopped := make(chan bool)
	go func() {
		service.Stop()
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
	if got, err := asker.Statuses(soon(t), "herd"); err != nil || len(got) != 0 {
		t.Errorf("of no herd: %s, %v", got, err)
	}
	for _, edge := range []string{"Jaquez", "Clark", "Bernard"} {
		c, _ := connect(t, s.URL())
		serve(t, c, edge)
	}
	other, _ := connect(t, s.URL())
	if _, err := other.Serve(broker.ServiceConfig{Prefix: "flock", Edge: "Anna", Status: func() []byte { return []byte("{}") }}); err != nil {
		t.Fatal(err)
	}
	got, err := asker.Statuses(soon(t), "herd")
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
	if _, err := c.Serve(broker.ServiceConfig{Prefix: "herd", Edge: "Bernard", Status: func() []byte { return []byte("{") }}); err != nil {
		t.Fatal(err)
	}
	got, err := asker.Statuses(soon(t), "herd")
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
		service.Stop()
		c.Close()
	}
}
