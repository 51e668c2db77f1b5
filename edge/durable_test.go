package edge

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker/brokertest"
)

func TestALoneEdgeComesBackWithItsClients(t *testing.T) {
	server := brokertest.Start(t, brokertest.JetStream)
	lone := []string{"HERD_TOPOLOGY=A", "HERD_JOURNAL=on"}
	a := run(t, "A", server.URL(), lone...).ready()
	line := a.say("IAMAT kiwi +34.068930-118.445127 1621464827.959498503")
	if err := a.end(); err != nil {
		t.Fatalf("C19 stopped with %v", err)
	}
	again := run(t, "A", server.URL(), lone...).ready()
	if got := again.say("WHATSAT kiwi 0 0"); got != line {
		t.Errorf("D2 answered %q, want %q", got, line)
	}
	eventually(t, "the journal's lag to end", func() bool { return again.edge.Status().Journal.Lag == 0 })
	if mode := again.edge.Status().Journal.Mode; mode != "on" {
		t.Errorf("mode %q", mode)
	}
}

func TestAPromisedAnswerSurvivesTheEdgeAndTheBroker(t *testing.T) {
	server := brokertest.Start(t, brokertest.JetStream)
	environ := []string{"HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=500ms"}
	a := run(t, "A", server.URL(), environ...).ready()
	lines := map[string]string{}
	for i := range 20 {
		answer := a.say("IAMAT c%d +1+1 1", i)
		if !strings.HasPrefix(answer, "AT ") {
			t.Fatalf("D3 answered %q", answer)
		}
		lines[fmt.Sprint("c", i)] = answer
	}
	// The broker goes: no promise can be made, and readiness says so.
	server.Stop()
	if got := a.say("IAMAT late +1+1 1"); got != "? IAMAT late +1+1 1\n" {
		t.Errorf("D3 answered %q without a journal", got)
	}
	eventually(t, "readiness to say so", func() bool { ok, why := a.edge.Source().Ready(); return !ok && strings.Contains(why, "journal") })
	server.Restart()
	eventually(t, "promises to be made again", func() bool {
		return strings.HasPrefix(a.say("IAMAT late +1+1 1"), "AT ")
	})
	if err := a.end(); err != nil {
		t.Errorf("C19 stopped with %v", err)
	}
	again := run(t, "A", server.URL(), environ...).ready()
	for client, line := range lines {
		if got := again.say("WHATSAT %s 0 0", client); got != line {
			t.Errorf("D3 promised %q, holds %q", line, got)
		}
	}
}

func TestABucketDeletedUnderARunningEdgeIsMadeAnew(t *testing.T) {
	server := brokertest.Start(t, brokertest.JetStream)
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=5s").ready()
	before := a.say("IAMAT before +1+1 1")
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if err := js.DeleteKeyValue(t.Context(), "herd_A"); err != nil {
		t.Fatal(err)
	}
	// The next promise finds the bucket gone; what the edge still knows is written anew (D5).
	eventually(t, "promises to be made again", func() bool { return strings.HasPrefix(a.say("IAMAT after +1+1 1"), "AT ") })
	kv, err := js.KeyValue(t.Context(), "herd_A")
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "D5 the bucket to hold both", func() bool {
		entry, err := kv.Get(t.Context(), "before")
		_, err2 := kv.Get(t.Context(), "after")
		return err == nil && err2 == nil && string(entry.Value())+"\n" == before
	})
}

func TestWithAJournalThatMustBeThePortWaitsForJetStream(t *testing.T) {
	server := brokertest.Start(t) // without JetStream
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_JOURNAL=on", "HERD_JOIN_TIMEOUT=50ms")
	auto := run(t, "B", server.URL(), "HERD_TOPOLOGY=B", "HERD_JOURNAL=auto").ready()
	if !strings.HasPrefix(auto.say("IAMAT kiwi +1+1 1"), "AT ") || auto.edge.Status().Journal.Lag != 0 {
		t.Error("H7, D4 auto does not do without")
	}
	select {
	case <-a.edge.Ready():
		t.Error("D4 ready without JetStream")
	case <-time.After(500 * time.Millisecond): // ten times what a join would wait
	}
	if c, err := net.Dial("tcp", a.edge.Addr().String()); err == nil {
		c.Close()
		t.Error("D4 the port is open without JetStream")
	}
}
