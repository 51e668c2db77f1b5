package broker_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker"
	"herd/broker/brokertest"
)

// replicated opens Clark's bucket with three replicas, for which a cluster may need a moment.
func replicated(t *testing.T, c *broker.Conn) *broker.Bucket {
	t.Helper()
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 3, Storage: "file"})
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := b.Open(ctx)
		if err == nil { // the client's server may not know its subjects yet
			if _, err = b.Write(ctx, 1<<60, fresh("refused", 1)); errors.Is(err, broker.ErrRefused) {
				cancel()
				return b
			}
		}
		cancel()
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// TestABucketTellsHowManyServersHoldIt: without one of three servers everything works, and
// nobody would know that losing another one stops it.
func TestABucketTellsHowManyServersHoldIt(t *testing.T) {
	t.Parallel()
	servers := brokertest.StartCluster(t, 3)
	c, _ := connect(t, brokertest.URLs(servers))
	b := replicated(t, c)
	await := func(when string, copies int) {
		t.Helper()
		for end := time.Now().Add(patience); ; {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			s, err := b.State(ctx)
			cancel()
			if err == nil && s.Replicas == 3 && s.Copies == copies {
				return
			}
			if time.Now().After(end) {
				t.Fatalf("%s: %d of %d copies, %v; want %d", when, s.Copies, s.Replicas, err, copies)
			}
		}
	}
	await("all are there", 3)
	servers[2].Stop()
	await("one is away", 2)
}

// The server checks the expectations of a replicated stream in other code, which also
// considers writes under way.
func TestAReplicatedBucketKeepsToTheSameRules(t *testing.T) { // D5
	t.Parallel()
	servers := brokertest.StartCluster(t, 3)
	c, _ := connect(t, brokertest.URLs(servers))
	refusesAll(t, replicated(t, c))
	js := jetStreamOf(t, servers[0].URL())
	anew := func() *broker.Bucket {
		t.Helper()
		if err := js.DeleteStream(soon(t), "KV_herd_Clark"); err != nil {
			t.Fatal(err)
		}
		return replicated(t, c)
	}
	ownedByOne(t, anew())
	missesNothing(t, anew())

	// A single writer that knows what it wrote is never refused, however soon it writes
	// again.
	b := anew()
	last, entries := uint64(0), fresh("kiwi", 3)
	for i := range 300 {
		some := entries[:1+i%3]
		newLast, err := b.Write(soon(t), last, some)
		if err != nil {
			t.Fatalf("write %d: %v", i, err)
		}
		last = newLast
		for k := range some {
			some[k].Expect = some[k].Sequence
		}
	}
	// Of two writers that write at the same time after the same sequence, one is refused.
	other, _ := connect(t, servers[1].URL())
	second := other.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 3, Storage: "file"})
	for i := range 50 {
		errs := make(chan error, 2)
		for who, b := range []*broker.Bucket{b, second} {
			go func() {
				_, err := b.Write(soon(t), last, fresh(fmt.Sprint("w", who), 1+i%3))
				errs <- err
			}()
		}
		one, two := take(t, errs, "write"), take(t, errs, "write")
		if one != nil {
			one, two = two, one
		}
		if one != nil || !errors.Is(two, broker.ErrRefused) {
			t.Fatalf("%v and %v, want one %v", one, two, broker.ErrRefused)
		}
		last = state(t, b).Last
	}
}

// What was acknowledged can be read after the leader and the connection's server are gone,
// from any replica.
func TestAReplicatedBucketOutlivesAServer(t *testing.T) { // D2, B9
	t.Parallel()
	servers := brokertest.StartCluster(t, 3)
	c, _ := connect(t, brokertest.URLs(servers))
	b := replicated(t, c)
	last, err := b.Own(soon(t), clarkEpoch, 0)
	if err != nil {
		t.Fatal(err)
	}
	kept := make(map[string]uint64)
	writeOn := func(first string) {
		t.Helper()
		entries := fresh(first, 100)
		for end := time.Now().Add(patience); ; {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			newLast, err := b.Write(ctx, last, entries)
			cancel()
			if err == nil {
				last = newLast
				for _, e := range entries {
					kept[e.Key] = e.Sequence
				}
				return
			}
			if time.Now().After(end) {
				t.Fatal(err)
			}
			// It may have been stored: then the next write is refused, which shows it.
			if st, err := b.Read(soon(t), last, func(e broker.BucketEntry) { kept[e.Key] = e.Sequence }); err == nil {
				last = st.Last
			}
			if !c.Connected() {
				_ = c.Wait(soon(t))
			}
		}
	}
	rounds := 1
	if os.Getenv("HERD_TEST") == "full" {
		rounds = 5
	}
	for round := range rounds {
		writeOn(fmt.Sprint("before", round))
		leader := leaderOf(t, servers, "KV_herd_Clark")
		servers[leader].Stop()
		writeOn(fmt.Sprint("without", round))
		servers[leader].Start()
		writeOn(fmt.Sprint("after", round))
		got := make(map[string]uint64)
		st, err := b.Read(soon(t), 0, func(e broker.BucketEntry) { got[e.Key] = e.Sequence })
		if err != nil || len(got) != len(kept) || st.Last < last || st.Owner != 1 {
			t.Fatalf("read %d entries of %d, %+v, %v", len(got), len(kept), st, err)
		}
		for key, sequence := range kept {
			if got[key] < sequence {
				t.Fatalf("%s is at %d, was kept at %d", key, got[key], sequence)
			}
		}
		last = st.Last
	}
}

// leaderOf returns which of the servers leads the stream.
func leaderOf(t *testing.T, servers []*brokertest.Configured, stream string) int {
	t.Helper()
	nc, err := nats.Connect(brokertest.URLs(servers))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	for end := time.Now().Add(patience); time.Now().Before(end); {
		s, err := jetStreamOf(t, servers[0].URL()).Stream(soon(t), stream)
		if err != nil {
			t.Fatal(err)
		}
		if cluster := s.CachedInfo().Cluster; cluster != nil && cluster.Leader != "" {
			var n int
			if _, err := fmt.Sscanf(cluster.Leader, "node%d", &n); err == nil {
				return n
			}
		}
	}
	t.Fatal("no leader")
	return 0
}
