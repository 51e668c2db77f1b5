package edge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/journal"
	"herd/edge/position"
	"herd/edge/wire"
)

// A keeper is a run's journal over a real bucket, without the rest of an edge.
type keeper struct {
	t     *testing.T
	table *position.Table
	j     *journal.Journal
	done  chan error
}

// keep runs a journal for an edge named Clark until the test ends.
func keep(t *testing.T, bucket *broker.Bucket, epoch string, retain time.Duration, regain func(context.Context) error) *keeper {
	k := &keeper{t: t, table: position.New(position.Config{Journal: true, Retain: retain}), done: make(chan error, 1)}
	k.j = journal.New(journal.Config{Table: k.table, Store: store{bucket, new(atomic.Uint64)}, Log: brokertest.Log(t), Epoch: epoch, Regain: regain})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		k.done <- k.j.Run(ctx)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return k
}

// tell sends the client's present position and returns the result of Await.
func (k *keeper) tell(client string) error {
	k.t.Helper()
	now := time.Now()
	m, err := wire.ParseIAMAT(fmt.Appendf(nil, "%s +1+1 %d", client, now.Unix()))
	if err != nil {
		k.t.Fatal(err)
	}
	ops := make([]position.Op, 1)
	k.table.PreparePutOwn(&ops[0], m.AppendAT(nil, "Clark", now.UnixNano()), &m, now.UnixNano())
	k.table.Apply(now.UnixNano(), position.Source{}, ops)
	limit, cancel := context.WithTimeout(k.t.Context(), time.Minute)
	defer cancel()
	return k.j.Await(limit, journal.Peer{}, []position.Ref{{Slot: ops[0].Slot, Revision: ops[0].Revision}})
}

func TestManyThatExpireInABucketKeepNothingBack(t *testing.T) {
	t.Parallel()
	n := 10_000
	if os.Getenv("HERD_TEST") == "full" {
		n = 300_000
	}
	server := brokertest.Start(t, brokertest.JetStream)
	bucket := brokertest.Dial(t, server.URL(), t.Name()).Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Storage: "file"})
	if err := bucket.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	old, last := time.Now().Add(-2*time.Hour).Unix(), uint64(0)
	for from := 0; from < n; from += 1000 {
		entries := make([]broker.BucketEntry, 1000)
		for i := range entries {
			key := fmt.Sprint("c", from+i)
			entries[i] = broker.BucketEntry{Key: key, Value: fmt.Appendf(nil, "AT Clark +0.000000000 %s +1+1 %d", key, old)}
		}
		var err error
		if last, err = bucket.Write(t.Context(), last, entries); err != nil {
			t.Fatal(err)
		}
	}
	k := keep(t, bucket, "1", time.Hour, nil)
	<-k.j.Loaded()
	for i := range 20 {
		if err := k.tell(fmt.Sprint("new", i)); err != nil {
			t.Fatalf("D6 a new client beside %d that expire: %v", n, err)
		}
	}
	// How long deleting takes depends on the machine. It must make progress.
	values, least, since := 0, n+21, time.Now()
	for values != 20 {
		values = 0
		_, err := bucket.Read(t.Context(), 0, func(e broker.BucketEntry) {
			if !e.Marker {
				values++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if values < least {
			least, since = values, time.Now()
		}
		if time.Since(since) > time.Minute {
			t.Fatalf("S4 the bucket holds %d entries, and no less for a minute; 20 are not expired", values)
		}
		time.Sleep(100 * time.Millisecond) // reading the bucket is work for the server too
	}
	if st := k.j.Stats(); !st.Up {
		t.Errorf("D6 not up: %v", st.Err)
	}
}

func TestOnlyOneRunWritesABucket(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.JetStream)
	cfg := broker.BucketConfig{Prefix: "herd", Edge: "Clark", Storage: "memory"}
	gone := errors.New("the name is another run's")
	first := keep(t, brokertest.Dial(t, server.URL(), t.Name()).Bucket(cfg), "1", 0, func(context.Context) error { return gone })
	for i := range 20 {
		if err := first.tell(fmt.Sprint("c", i)); err != nil {
			t.Fatal(err)
		}
	}
	second := keep(t, brokertest.Dial(t, server.URL(), t.Name()).Bucket(cfg), "2", 0, nil)
	<-second.j.Loaded()
	if clients, _, _ := second.table.Stats(); clients != 20 {
		t.Errorf("D2 the second run has read %d of 20 clients", clients)
	}
	if err := first.tell("late"); err == nil {
		t.Error("D5 the first run promises what the second does not know")
	}
	if err := <-first.done; !errors.Is(err, gone) {
		t.Errorf("D5 the first run ended with %v", err)
	}
	if err := second.tell("c1"); err != nil {
		t.Error(err)
	}
}

func TestAStopIsCompleteOnlyWithTheBucket(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.JetStream)
	lone := []string{"HERD_TOPOLOGY=A", "HERD_JOURNAL=on"}
	a := run(t, "A", server.URL(), lone...).ready()
	line := a.say("IAMAT kiwi +1+1 1")
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	holds := func() string {
		kv, err := js.KeyValue(t.Context(), "herd_A")
		if err != nil {
			return err.Error()
		}
		e, err := kv.Get(t.Context(), "kiwi")
		if err != nil {
			return err.Error()
		}
		return string(e.Value()) + "\n"
	}
	eventually(t, "D1 the bucket to hold it", func() bool { return holds() == line })
	s, err := js.Stream(t.Context(), "KV_herd_A")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Purge(t.Context()); err != nil { // and nothing is written after
		t.Fatal(err)
	}
	// Giving up would be correct too, but not within a minute of a broker that answers.
	if err := a.end(); err != nil {
		t.Errorf("C19 %v", err)
	}
	if got := holds(); got != line {
		t.Errorf("D5 the stop is said to be complete, the bucket holds %q", got)
	}
}
