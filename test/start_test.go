package test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"

	"github.com/nats-io/nats.go"
)

// H7, H8: an edge whose broker is away starts and serves its clients, and sends what it received
// from them once the broker is there.
func TestAnEdgeStartsWithoutItsBroker(t *testing.T) {
	quiet(t)
	env := map[string]string{"HERD_JOIN_TIMEOUT": "1s"}
	t.Run("no broker", func(t *testing.T) {
		quiet(t)
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: env, Unready: []string{"Clark", "Jaquez"}})
		h.NATS.Kill()
		startsWithoutBroker(t, h, h.NATS.Start)
	})
	t.Run("a broker that accepts and says nothing", func(t *testing.T) {
		quiet(t)
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: env, Unready: []string{"Clark", "Jaquez"}, Proxies: true})
		for _, e := range h.All() {
			e.Proxy.Silent(true)
		}
		startsWithoutBroker(t, h, func() {
			for _, e := range h.All() {
				e.Proxy.Silent(false)
			}
		})
	})
}

func startsWithoutBroker(t *testing.T, h *herdtest.Processes, back func()) {
	t.Helper()
	start := time.Now()
	for _, e := range h.All() {
		e.Start()
	}
	for _, e := range h.All() {
		e.FirstReady()
	}
	opened := time.Since(start)
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	told := time.Now().UnixNano()
	if got := talk(t, clark.Addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n"); !strings.HasPrefix(got, "AT Clark ") {
		t.Fatalf("answered %q", got)
	}
	if got := lookup(t, jaquez.Addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
		t.Fatalf("without a broker Jaquez knows %q", got)
	}
	back()
	learned := awaitHolds(t, time.Now(), herdtest.Promise(3*time.Second), h.All(), []string{"kiwi"}, []int64{told})
	t.Logf("both ready %v after their start; %v after the broker's return both know", opened.Round(time.Millisecond), learned.Round(time.Millisecond))
}

// H7: an edge whose broker is a little late waits for it, and does not answer `? ` for clients that
// the herd knows.
func TestAnEdgeWaitsForALateBroker(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{"HERD_JOIN_TIMEOUT": "1m"}, Proxies: true})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	told := time.Now().UnixNano()
	talk(t, jaquez.Addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	clark.Kill()
	clark.Proxy.Silent(true)
	clark.Start()
	herdtest.Throughout(t, 2*time.Second, "the port stays closed", func() error {
		if c, err := net.Dial("tcp", clark.Addr); err == nil {
			c.Close()
			return errors.New("it is open")
		}
		return nil
	})
	clark.Proxy.Silent(false)
	clark.AwaitReady()
	if err := holds(clark, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// H7: while an edge joins it accepts no commands, over NATS either, because it would have to answer
// `? `; and it joins for at most HERD_JOIN_TIMEOUT if nothing comes.
func TestAnEdgeThatJoinsTakesNoCommands(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{"HERD_JOIN_TIMEOUT": "5s"}, Unready: []string{"Clark", "Jaquez"}})
	clark, nc := h.Edges["Clark"], operator(h)
	// A neighbour that holds ten revisions and sends none of them.
	var asked atomic.Int32
	_, err := nc.Subscribe("herd.join.Clark.Jaquez", func(m *nats.Msg) {
		asked.Add(1)
		m.RespondMsg(&nats.Msg{Header: nats.Header{
			"Herd-Epoch": {"00000000000004d2-00000001"}, "Herd-Head": {"10"}, "Herd-Config": {"0123456789abcdef"},
		}})
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	clark.Start()
	herdtest.Eventually(t, herdtest.Promise(3*time.Second), "Clark asks its neighbour", func() error {
		if asked.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	herdtest.Throughout(t, time.Second, "the edge joins", func() error {
		if c, err := net.Dial("tcp", clark.Addr); err == nil {
			c.Close()
			return errors.New("its client port is open")
		}
		for _, endpoint := range []string{"iamat", "whatsat"} {
			reply, err := nc.Request("herd.edge.Clark."+endpoint, []byte("kiwi 0 0"), 100*time.Millisecond)
			if err == nil && strings.HasPrefix(string(reply.Data), "? ") {
				return fmt.Errorf("%s over NATS answers %q", endpoint, reply.Data)
			}
		}
		return nil
	})
	clark.AwaitReady()
	if got := lookup(t, clark.Addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
		t.Errorf("it answers %q", got)
	}
}

// An edge may run the broker in its own process, for itself and for others.
func TestAnEdgeCanHaveTheBrokerInside(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Unready: []string{"Clark", "Jaquez"}})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	inside := ports.Addr(t)
	delete(clark.Env, "NATS_URL")
	clark.Env["HERD_EMBEDDED_NATS"], clark.Env["HERD_EMBEDDED_NATS_LISTEN"] = "true", inside
	clark.Env["HERD_DATA"] = t.TempDir()
	jaquez.Env["NATS_URL"] = "nats://" + inside
	clark.Start()
	clark.FirstReady()
	jaquez.Start()
	jaquez.FirstReady()
	told := time.Now().UnixNano()
	talk(t, jaquez.Addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	awaitHolds(t, time.Now(), herdtest.Promise(3*time.Second), h.All(), []string{"kiwi"}, []int64{told})
}

// H1: herds with different prefixes share a broker and receive nothing from each other.
func TestTwoHerdsShareABroker(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Each: func(e *herdtest.EdgeProcess) {
		if e.Name == "Jaquez" {
			e.Env["HERD_SUBJECT_PREFIX"] = "other2"
		}
	}, Unready: []string{"Clark", "Jaquez"}})
	for _, e := range h.All() {
		e.Start()
		e.FirstReady()
	}
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	talk(t, clark.Addr, "IAMAT kiwi "+ucla+" 5\n")
	herdtest.Throughout(t, 300*time.Millisecond, "another herd", func() error {
		if got := lookup(t, jaquez.Addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
			t.Fatalf("it knows %q", got)
		}
		return nil
	})
	if up := clark.Metric("herd_link_up"); up != 0 {
		t.Errorf("herd_link_up is %v", up)
	}
}

// S4: a position is forgotten HERD_RETAIN after its time, and no edge stores it after that.
func TestPositionsAreForgottenWhenTheirTimeIsUp(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{"HERD_RETAIN": "1m"}})
	clark := h.Edges["Clark"]
	knowsWhatIsPast(t, h.All())
	now := time.Now()
	const left = 15 * time.Second // remaining time of the old position: long enough to reach both edges
	old, fresh := now.Add(left-time.Minute).UnixNano(), now.UnixNano()
	tell := func(client string, ns int64) {
		t.Helper()
		if got := talk(t, clark.Addr, "IAMAT "+client+" "+ucla+" "+posix(ns)+"\n"); !strings.HasPrefix(got, "AT Clark ") {
			t.Fatalf("answered %q", got)
		}
	}
	tell("fresh", fresh)
	tell("old", old)
	tell("past", now.Add(-61*time.Second).UnixNano())
	awaitHolds(t, now, left, h.All(), []string{"old", "fresh"}, []int64{old, fresh})
	if got := lookup(t, clark.Addr, "past"); got != "? WHATSAT past 0 0" {
		t.Errorf("what is past its time is stored: %q", got)
	}
	for _, e := range h.All() {
		herdtest.Eventually(t, left+herdtest.Promise(2*time.Second), e.Name+" forgets", func() error {
			if lines, err := herdtest.Held(e.Addr, []string{"old"}); err != nil || lines[0] != "" {
				return errors.New("not yet")
			}
			return nil
		})
		if since := time.Since(now); since < left {
			t.Errorf("%s forgot %v early", e.Name, left-since)
		}
		if err := holds(e, []string{"fresh"}, []int64{fresh}); err != nil {
			t.Error(err)
		}
	}
	tell("old", old)
	if got := lookup(t, clark.Addr, "old"); got != "? WHATSAT old 0 0" {
		t.Errorf("what was forgotten is stored again: %q", got)
	}
	herdtest.Eventually(t, herdtest.Promise(30*time.Second), "what was forgotten is counted", func() error {
		if n := clark.Metric("herd_positions_forgotten_total"); n != 1 {
			return errors.New("not yet")
		}
		return nil
	})
}
