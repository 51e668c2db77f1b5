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
	// The broker goes away: nothing can be promised, and readiness says so.
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

// TestAnEdgeTellsThatThereIsNoJournal: where the broker has no JetStream, the edge once looked like
// one that needs none.
func TestAnEdgeTellsThatThereIsNoJournal(t *testing.T) {
	server := brokertest.Start(t) // without JetStream
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_JOURNAL=auto").ready()
	eventually(t, "the status to say so", func() bool {
		j := a.edge.Status().Journal
		return j.Mode == "auto" && !j.Up && strings.Contains(j.Error, "no store for the journal here")
	})
	if j := a.edge.Metrics().Journal; j == nil || j.Up || j.Errors == 0 || j.Writes != 0 {
		t.Errorf("metrics %+v", j)
	}
	if ok, why := a.edge.Source().Ready(); !ok {
		t.Errorf("D4 not ready: %s", why)
	}
	off := run(t, "B", server.URL(), "HERD_TOPOLOGY=B", "HERD_JOURNAL=off").ready()
	if j := off.edge.Metrics().Journal; j != nil {
		t.Errorf("a journal that is off: %+v", j)
	}
}

// TestAnEdgeCountsWhatItsJournalAndItsBrokerDo: writes and their duration, failures, and
// reconnects.
func TestAnEdgeCountsWhatItsJournalAndItsBrokerDo(t *testing.T) {
	server := brokertest.Start(t, brokertest.JetStream)
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=5s").ready()
	a.say("IAMAT kiwi +1+1 1")
	m := a.edge.Metrics()
	if j := m.Journal; j == nil || !j.Up || j.Writes == 0 || j.Seconds.Count != j.Writes || j.Seconds.Sum <= 0 {
		t.Errorf("after a write: %+v", j)
	}
	if m.BrokerReconnects != 0 {
		t.Errorf("%d reconnects at the start", m.BrokerReconnects)
	}
	server.Stop()
	eventually(t, "the broker to be away", func() bool { return !a.edge.Metrics().BrokerConnected })
	// At once, although the journal itself notices only at its next check.
	if j := a.edge.Status().Journal; j.Up || j.Error != "the broker is away" || a.edge.Metrics().Journal.Up {
		t.Errorf("D5 with the broker away: %+v", j)
	}
	server.Restart()
	eventually(t, "the broker to be back", func() bool { return a.edge.Metrics().BrokerReconnects == 1 })
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
	// The next promise finds that the bucket is gone. What the edge still knows is written again
	// (D5).
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
	case <-time.After(500 * time.Millisecond): // ten times as long as a join would wait
	}
	if c, err := net.Dial("tcp", a.edge.Addr().String()); err == nil {
		c.Close()
		t.Error("D4 the port is open without JetStream")
	}
}

// D5: a bucket whose settings somebody changes while it is written is repaired at the next check,
// and what it dropped meanwhile is written again.
func TestABucketChangedUnderARunningEdgeIsPutRight(t *testing.T) {
	server := brokertest.Start(t, brokertest.JetStream)
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=5s").ready()
	want := map[string]string{}
	for i := range 10 {
		client := fmt.Sprint("c", i)
		want[client] = strings.TrimSuffix(a.say("IAMAT %s +1+1 1", client), "\n")
	}
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(t.Context(), "KV_herd_A")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxMsgs, cfg.Discard = 3, jetstream.DiscardOld
	if _, err := js.UpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
	server.Restart() // a reconnect triggers a check
	eventually(t, "the bucket to hold all again", func() bool {
		kv, err := js.KeyValue(t.Context(), "herd_A")
		if err != nil {
			return false
		}
		for client, line := range want {
			if e, err := kv.Get(t.Context(), client); err != nil || string(e.Value()) != line {
				return false
			}
		}
		stream, err := js.Stream(t.Context(), "KV_herd_A")
		return err == nil && stream.CachedInfo().Config.MaxMsgs == -1 && stream.CachedInfo().Config.Discard == jetstream.DiscardNew
	})
}
