package test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// H7, H8: an edge whose broker is not there starts and serves its clients, and hands on what
// they told it once the broker is there.
func TestAnEdgeStartsWithoutItsBroker(t *testing.T) {
	quiet(t)
	env := map[string]string{"HERD_JOIN_TIMEOUT": "1s"}
	t.Run("no broker", func(t *testing.T) {
		quiet(t)
		h := newHerd(t, options{topology: "Clark-Jaquez", env: env, unready: []string{"Clark", "Jaquez"}})
		h.nats.kill()
		startsWithoutBroker(t, h, h.nats.start)
	})
	t.Run("a broker that accepts and says nothing", func(t *testing.T) {
		quiet(t)
		h := newHerd(t, options{topology: "Clark-Jaquez", env: env, unready: []string{"Clark", "Jaquez"}, proxies: true})
		for _, e := range h.all() {
			e.proxy.silent(true)
		}
		startsWithoutBroker(t, h, func() {
			for _, e := range h.all() {
				e.proxy.silent(false)
			}
		})
	})
}

func startsWithoutBroker(t *testing.T, h *herd, back func()) {
	t.Helper()
	start := time.Now()
	for _, e := range h.all() {
		e.start()
	}
	for _, e := range h.all() {
		e.firstReady()
	}
	opened := time.Since(start)
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	told := time.Now().UnixNano()
	if got := talk(t, clark.addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n"); !strings.HasPrefix(got, "AT Clark ") {
		t.Fatalf("answered %q", got)
	}
	if got := lookup(t, jaquez.addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
		t.Fatalf("without a broker Jaquez knows %q", got)
	}
	back()
	learned := awaitHolds(t, time.Now(), promise(3*time.Second), h.all(), []string{"kiwi"}, []int64{told})
	t.Logf("both ready %v after their start; %v after the broker's return both know", opened.Round(time.Millisecond), learned.Round(time.Millisecond))
}

// H7: an edge whose broker is a little late waits for it, and does not answer `?` for clients
// that the herd knows.
func TestAnEdgeWaitsForALateBroker(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", proxies: true})
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	told := time.Now().UnixNano()
	talk(t, jaquez.addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	clark.kill()
	clark.proxy.silent(true)
	clark.start()
	throughout(t, 2*time.Second, "the port stays closed", func() error {
		if c, err := net.Dial("tcp", clark.addr); err == nil {
			c.Close()
			return errors.New("it is open")
		}
		return nil
	})
	clark.proxy.silent(false)
	clark.awaitReady()
	if err := holds(clark, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// H7: while an edge joins it takes no commands, over NATS neither, for which it would have
// to answer `?`; and it joins for HERD_JOIN_TIMEOUT at most when nothing comes.
func TestAnEdgeThatJoinsTakesNoCommands(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", env: map[string]string{"HERD_JOIN_TIMEOUT": "2s"}, unready: []string{"Clark", "Jaquez"}})
	clark, nc := h.edges["Clark"], h.operator()
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
	clark.start()
	eventually(t, promise(3*time.Second), "Clark asks its neighbour", func() error {
		if asked.Load() == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	start := time.Now()
	throughout(t, time.Second, "the edge joins", func() error {
		if c, err := net.Dial("tcp", clark.addr); err == nil {
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
	clark.awaitReady()
	if took := time.Since(start); took > promise(3*time.Second) {
		t.Errorf("it joined for %v, HERD_JOIN_TIMEOUT is 2s", took)
	}
	if got := lookup(t, clark.addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
		t.Errorf("it answers %q", got)
	}
}

// CONTRACT.md: an edge may have the broker inside, for itself and for others.
func TestAnEdgeCanHaveTheBrokerInside(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", unready: []string{"Clark", "Jaquez"}})
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	inside := local(freePort(t))
	delete(clark.env, "NATS_URL")
	clark.env["HERD_EMBEDDED_NATS"], clark.env["HERD_EMBEDDED_NATS_LISTEN"] = "true", inside
	clark.env["HERD_DATA"] = t.TempDir()
	jaquez.env["NATS_URL"] = "nats://" + inside
	clark.start()
	clark.firstReady()
	jaquez.start()
	jaquez.firstReady()
	told := time.Now().UnixNano()
	talk(t, jaquez.addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	awaitHolds(t, time.Now(), promise(3*time.Second), h.all(), []string{"kiwi"}, []int64{told})
}

// H1: herds with different prefixes share a broker and hear nothing of each other.
func TestTwoHerdsShareABroker(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", each: func(e *edge) {
		if e.name == "Jaquez" {
			e.env["HERD_SUBJECT_PREFIX"] = "other2"
		}
	}, unready: []string{"Clark", "Jaquez"}})
	for _, e := range h.all() {
		e.start()
		e.firstReady()
	}
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	talk(t, clark.addr, "IAMAT kiwi "+ucla+" 5\n")
	throughout(t, 300*time.Millisecond, "another herd", func() error {
		if got := lookup(t, jaquez.addr, "kiwi"); got != "? WHATSAT kiwi 0 0" {
			t.Fatalf("it knows %q", got)
		}
		return nil
	})
	if up := clark.metric("herd_link_up"); up != 0 {
		t.Errorf("herd_link_up is %v", up)
	}
}

// S4: a position is forgotten HERD_RETAIN after its time, and stored from nobody after that.
func TestPositionsAreForgottenWhenTheirTimeIsUp(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", env: map[string]string{"HERD_RETAIN": "1m"}})
	clark := h.edges["Clark"]
	now := time.Now()
	old, fresh := now.Add(-57*time.Second).UnixNano(), now.UnixNano()
	tell := func(client string, ns int64) {
		t.Helper()
		if got := talk(t, clark.addr, "IAMAT "+client+" "+ucla+" "+posix(ns)+"\n"); !strings.HasPrefix(got, "AT Clark ") {
			t.Fatalf("answered %q", got)
		}
	}
	tell("fresh", fresh)
	tell("old", old)
	tell("past", now.Add(-61*time.Second).UnixNano())
	awaitHolds(t, now, 3*time.Second, h.all(), []string{"old", "fresh"}, []int64{old, fresh})
	if got := lookup(t, clark.addr, "past"); got != "? WHATSAT past 0 0" {
		t.Errorf("what is past its time is stored: %q", got)
	}
	for _, e := range h.all() {
		eventually(t, time.Until(now.Add(3*time.Second+promise(2*time.Second))), e.name+" forgets", func() error {
			if lines, err := held(e.addr, []string{"old"}); err != nil || lines[0] != "" {
				return errors.New("not yet")
			}
			return nil
		})
		if since := time.Since(now); since < 3*time.Second {
			t.Errorf("%s forgot %v early", e.name, 3*time.Second-since)
		}
		if err := holds(e, []string{"fresh"}, []int64{fresh}); err != nil {
			t.Error(err)
		}
	}
	tell("old", old)
	if got := lookup(t, clark.addr, "old"); got != "? WHATSAT old 0 0" {
		t.Errorf("what was forgotten is stored again: %q", got)
	}
	eventually(t, 30*time.Second, "what was forgotten is counted", func() error {
		if n := clark.metric("herd_positions_forgotten_total"); n != 1 {
			return errors.New("not yet")
		}
		return nil
	})
}
