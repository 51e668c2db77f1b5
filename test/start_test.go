package test

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// H7, H8: an edge whose broker is not there starts and serves its clients, and hands on what
// they told it once the broker is there.
func TestAnEdgeStartsWithoutItsBroker(t *testing.T) {
	quiet(t)
	t.Run("no broker", func(t *testing.T) {
		quiet(t)
		h := newHerd(t, options{topology: "Clark-Jaquez", unready: []string{"Clark", "Jaquez"}})
		h.nats.kill()
		startsWithoutBroker(t, h, h.nats.start)
	})
	t.Run("a broker that accepts and says nothing", func(t *testing.T) {
		quiet(t)
		h := newHerd(t, options{topology: "Clark-Jaquez", unready: []string{"Clark", "Jaquez"}, proxies: true})
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
	eventually(t, promise(2*time.Second), "what was forgotten is counted", func() error {
		if n := clark.metric("herd_positions_forgotten_total"); n != 1 {
			return errors.New("not yet")
		}
		return nil
	})
}
