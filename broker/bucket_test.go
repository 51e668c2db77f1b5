package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
)

// journal opens Clark's bucket.
func journal(t *testing.T, c *broker.Conn) *broker.Bucket {
	t.Helper()
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 1, Storage: "file"})
	if err := b.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	return b
}

// jetStreamOf is the view of somebody else who looks into the broker.
func jetStreamOf(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// fresh is n entries with keys that no other first has.
func fresh(first string, n int) []broker.BucketEntry {
	entries := make([]broker.BucketEntry, n)
	for i := range entries {
		key := fmt.Sprintf("%s.%d", first, i)
		entries[i] = broker.BucketEntry{Key: key, Value: []byte("the value of " + key)}
	}
	return entries
}

func write(t *testing.T, b *broker.Bucket, entries []broker.BucketEntry) (last uint64) {
	t.Helper()
	last, err := b.Write(soon(t), entries)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// load returns all of b by key.
func load(t *testing.T, b *broker.Bucket) (map[string]broker.BucketEntry, broker.BucketState) {
	t.Helper()
	all := make(map[string]broker.BucketEntry)
	state, err := b.Load(soon(t), func(e broker.BucketEntry) {
		e.Value = bytes.Clone(e.Value)
		all[e.Key] = e
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, state
}

func get(t *testing.T, b *broker.Bucket, key string) (broker.BucketEntry, bool) {
	t.Helper()
	e, ok, err := b.Get(soon(t), key)
	if err != nil {
		t.Fatal(err)
	}
	return e, ok
}

func state(t *testing.T, b *broker.Bucket) broker.BucketState {
	t.Helper()
	s, err := b.State(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// holds fails the test where b does not hold exactly want.
func holds(t *testing.T, b *broker.Bucket, want []broker.BucketEntry) {
	t.Helper()
	got, _ := load(t, b)
	if len(got) != len(want) {
		t.Errorf("the bucket has %d entries, want %d", len(got), len(want))
	}
	for _, w := range want {
		if g := got[w.Key]; g.Sequence != w.Sequence || !bytes.Equal(g.Value, w.Value) {
			t.Errorf("%s is %q at %d, want %q at %d", w.Key, g.Value, g.Sequence, w.Value, w.Sequence)
			return
		}
	}
}

func TestABucketKeepsWhatIsWritten(t *testing.T) { // D1
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	before := state(t, b)
	if _, err := time.Parse(time.RFC3339Nano, before.ID); err != nil || before.Last != 0 {
		t.Errorf("the new bucket is %+v", before)
	}
	holds(t, b, nil)
	if e, ok := get(t, b, "kiwi.cs.ucla.edu"); ok || e.Sequence != 0 {
		t.Errorf("found %+v in an empty bucket", e)
	}

	entries := fresh("kiwi", 3)
	entries[1].Value = bytes.Repeat([]byte("x"), broker.MaxValue)
	if last := write(t, b, entries); last != 3 {
		t.Errorf("last is %d", last)
	}
	for i, e := range entries {
		if e.Sequence != uint64(i)+1 {
			t.Errorf("entry %d has sequence %d", i, e.Sequence)
		}
	}
	holds(t, b, entries)

	second := []broker.BucketEntry{{Key: entries[0].Key, Value: []byte("newer"), Expect: entries[0].Sequence}}
	if last := write(t, b, second); last != 4 || second[0].Sequence != 4 {
		t.Errorf("alone it has sequence %d, last is %d", second[0].Sequence, last)
	}
	entries[0] = second[0]
	holds(t, b, entries)
	if e, ok := get(t, b, entries[0].Key); !ok || string(e.Value) != "newer" || e.Sequence != 4 {
		t.Errorf("got %+v, %v", e, ok)
	}
	if _, st := load(t, b); st != (broker.BucketState{ID: before.ID, Last: 4}) || state(t, b) != st {
		t.Errorf("state %+v while loading, %+v later", st, state(t, b))
	}

	// A second run finds it as it is, and an operator can read it.
	holds(t, journal(t, c), entries)
	kv, err := jetStreamOf(t, s.URL()).KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(soon(t), entries[2].Key); err != nil || !bytes.Equal(e.Value(), entries[2].Value) || e.Revision() != 3 {
		t.Errorf("an operator gets %v, %v", e, err)
	}
}

func TestARefusedBatchLeavesNothing(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	old := fresh("old", 25)
	write(t, b, old)
	for _, stale := range []int{0, 17, 30, 49} {
		batch := slices.Concat(slices.Clone(old), fresh("new", 25))
		for i := range batch[:25] {
			batch[i].Expect, batch[i].Sequence, batch[i].Value = old[i].Sequence, 0, []byte("never")
		}
		batch[stale].Expect += 1000
		last, err := b.Write(soon(t), batch)
		if !errors.Is(err, broker.ErrRefused) || last != 0 {
			t.Errorf("entry %d is stale: %d, %v", stale, last, err)
		}
		if batch[1].Sequence != 0 {
			t.Error("a sequence is set")
		}
		holds(t, b, old)
		if last := state(t, b).Last; last != 25 {
			t.Errorf("last is %d after a refusal", last)
		}
	}
	for _, expect := range []uint64{0, 24, 26} { // alone
		_, err := b.Write(soon(t), []broker.BucketEntry{{Key: old[24].Key, Expect: expect}})
		if !errors.Is(err, broker.ErrRefused) {
			t.Errorf("expecting %d: %v", expect, err)
		}
	}
	holds(t, b, old)
}

func TestTheLargestBatchIsOnePiece(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	write(t, b, fresh("before", 7))
	entries := fresh("kiwi", broker.MaxBatch)
	for i := range entries {
		entries[i].Value = bytes.Repeat([]byte{byte(i), byte(i >> 8)}, broker.MaxValue/2)
	}
	if last := write(t, b, entries); last != 7+broker.MaxBatch || entries[0].Sequence != 8 || entries[broker.MaxBatch-1].Sequence != last {
		t.Errorf("last is %d, the first %d", last, entries[0].Sequence)
	}
	holds(t, b, append(loaded(t, b, "before"), entries...))
	if _, err := b.Write(soon(t), append(entries, fresh("one", 1)...)); err == nil {
		t.Error("a larger one is taken")
	}
	if _, err := b.Write(soon(t), nil); err == nil {
		t.Error("an empty one is taken")
	}
}

// loaded is the entries of b whose keys begin with first.
func loaded(t *testing.T, b *broker.Bucket, first string) (entries []broker.BucketEntry) {
	all, _ := load(t, b)
	for key, e := range all {
		if strings.HasPrefix(key, first) {
			entries = append(entries, e)
		}
	}
	return entries
}

func TestABucketThatIsThereGetsAtomicBatches(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	js := jetStreamOf(t, s.URL())
	plain := jetstream.KeyValueConfig{Bucket: "herd_Clark", MaxValueSize: 100, Description: "made by hand"}
	kv, err := js.CreateKeyValue(soon(t), plain)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.PutString(soon(t), "kiwi", "by hand"); err != nil {
		t.Fatal(err)
	}
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark"})
	if _, err := b.Write(soon(t), fresh("a", 2)); err == nil || errors.Is(err, broker.ErrRefused) {
		t.Errorf("written without: %v", err)
	}
	journal(t, c)
	entries := fresh("a", 2)
	entries[0].Value = bytes.Repeat([]byte("x"), broker.MaxValue)
	write(t, b, entries)
	holds(t, b, append(loaded(t, b, "kiwi"), entries...))
	if e, ok := get(t, b, "kiwi"); !ok || string(e.Value) != "by hand" {
		t.Errorf("got %+v, %v", e, ok)
	}
	info, err := js.Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if d := info.CachedInfo().Config.Description; d != plain.Description {
		t.Errorf("the description became %q", d)
	}

	// nats.go's own way to make a bucket switches them off again.
	plain.MaxValueSize, plain.LimitMarkerTTL = 0, time.Hour
	if _, err := js.CreateOrUpdateKeyValue(soon(t), plain); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(soon(t), fresh("b", 2)); err == nil || errors.Is(err, broker.ErrRefused) {
		t.Errorf("written without: %v", err)
	}
	journal(t, c)
	write(t, b, fresh("b", 2))
}

func TestWhatIsDeletedCanBeMadeAnew(t *testing.T) { // S4
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	entries := fresh("kiwi", 40)
	write(t, b, entries)
	for i := range entries {
		entries[i].Expect = entries[i].Sequence
	}
	newer := slices.Clone(entries[10:13])
	write(t, b, newer)

	if err := b.Delete(soon(t), append(entries[:30:30], broker.BucketEntry{Key: "unknown"})); err != nil {
		t.Fatal(err)
	}
	holds(t, b, append(newer, entries[30:]...))
	e, ok := get(t, b, entries[0].Key)
	if ok || e.Sequence <= 43 || len(e.Value) > 0 {
		t.Errorf("got %+v, %v of a deleted key", e, ok)
	}
	if e, ok := get(t, b, "unknown"); ok || e.Sequence != 0 {
		t.Errorf("got %+v, %v of a key that never was", e, ok)
	}

	late := entries[:1:1]
	for _, late[0].Expect = range []uint64{0, 1} { // a dead run's
		if _, err := b.Write(soon(t), late); !errors.Is(err, broker.ErrRefused) {
			t.Errorf("expecting %d: %v, want %v", late[0].Expect, err, broker.ErrRefused)
		}
	}
	late[0].Expect = e.Sequence
	anew := append(late, fresh("other", 1)...)
	write(t, b, anew)
	holds(t, b, slices.Concat(newer, entries[30:], anew))

	// What an operator deletes is deleted too.
	kv, err := jetStreamOf(t, s.URL()).KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kv.Delete(soon(t), newer[0].Key), kv.Purge(soon(t), newer[1].Key)); err != nil {
		t.Fatal(err)
	}
	holds(t, b, slices.Concat(newer[2:], entries[30:], anew))
	if e, ok := get(t, b, newer[0].Key); ok || e.Sequence != state(t, b).Last-1 {
		t.Errorf("got %+v, %v", e, ok)
	}
}

func TestADeletionIsForgottenInTheEnd(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	entries := fresh("kiwi", 2)
	write(t, b, entries)
	for i := range entries {
		entries[i].Expect = entries[i].Sequence
	}
	if err := b.Delete(soon(t), entries); err != nil {
		t.Fatal(err)
	}
	stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	m, err := stream.GetLastMsgForSubject(soon(t), "$KV.herd_Clark."+entries[1].Key)
	if err != nil {
		t.Fatal(err)
	}
	if ttl, err := time.ParseDuration(m.Header.Get(jetstream.MsgTTLHeader)); err != nil || ttl != time.Hour {
		t.Errorf("the marker lives %v, %v", ttl, err)
	}
	if n := stream.CachedInfo().State.Msgs; n != 2 {
		t.Errorf("%d messages are left, want the two markers", n)
	}
}

func TestABucketOutlivesTheServer(t *testing.T) { // D2
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, w := connect(t, s.URL())
	b := journal(t, c)
	entries := fresh("kiwi", 100)
	write(t, b, entries)
	before := state(t, b)

	s.Stop()
	take(t, w.disconnected, "loss of the connection")
	for what, err := range everything(t, b) {
		if !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("%s: %v, want %v", what, err, broker.ErrNotConnected)
		}
	}
	s.Restart()
	take(t, w.connected, "connection")
	if after := state(t, b); after != before {
		t.Errorf("state %+v, want %+v", after, before)
	}
	holds(t, b, entries)
	more := fresh("more", 100)
	write(t, b, more) // it still takes atomic batches
	holds(t, b, append(entries, more...))
}

// everything does all that can be done with a bucket.
func everything(t *testing.T, b *broker.Bucket) map[string]error {
	errs := make(map[string]error)
	errs["open"] = b.Open(soon(t))
	_, errs["write one"] = b.Write(soon(t), fresh("kiwi", 1))
	_, errs["write two"] = b.Write(soon(t), fresh("kiwi", 2))
	_, _, errs["get"] = b.Get(soon(t), "kiwi")
	errs["delete"] = b.Delete(soon(t), []broker.BucketEntry{{Key: "kiwi", Expect: 1}})
	_, errs["state"] = b.State(soon(t))
	_, errs["load"] = b.Load(soon(t), func(broker.BucketEntry) {})
	return errs
}

func TestABrokerWithoutJetStreamSaysSo(t *testing.T) { // D4
	t.Parallel()
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	start := time.Now()
	for what, err := range everything(t, c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 1})) {
		want := broker.ErrNoJetStream
		if strings.HasPrefix(what, "write") || what == "delete" {
			want = broker.ErrNobody // it may be the bucket that is missing
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("that took %v", took)
	}
}

func TestABucketThatIsGoneIsMadeAnew(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	write(t, b, fresh("kiwi", 3))
	before := state(t, b)
	if err := jetStreamOf(t, s.URL()).DeleteKeyValue(soon(t), "herd_Clark"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write(soon(t), fresh("kiwi", 2)); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("write: %v, want %v", err, broker.ErrNobody)
	}
	if got, err := b.State(soon(t)); err != nil || got != (broker.BucketState{}) {
		t.Errorf("state %+v, %v; want the zero State", got, err)
	}
	if _, _, err := b.Get(soon(t), "kiwi.0"); err == nil || errors.Is(err, broker.ErrNoJetStream) {
		t.Errorf("get: %v", err)
	}
	if _, err := b.Load(soon(t), func(broker.BucketEntry) {}); err == nil || errors.Is(err, broker.ErrNoJetStream) {
		t.Errorf("load: %v", err)
	}
	journal(t, c)
	if after := state(t, b); after.ID == before.ID || after.Last != 0 {
		t.Errorf("state %+v, before %+v", after, before)
	}
}

func TestALostConnectionEndsWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	b := journal(t, c)
	write(t, b, fresh("before", 2))
	calls := map[string]func(context.Context) error{
		"write one": func(ctx context.Context) error { _, err := b.Write(ctx, fresh("one", 1)); return err },
		"write 500": func(ctx context.Context) error { _, err := b.Write(ctx, fresh("many", 500)); return err },
		"get":       func(ctx context.Context) error { _, _, err := b.Get(ctx, "before.0"); return err },
		"load":      func(ctx context.Context) error { _, err := b.Load(ctx, func(broker.BucketEntry) {}); return err },
	}
	for what, call := range calls {
		network.Silence()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, nothing comes: %v, want %v", what, err, context.DeadlineExceeded)
		}
		cancel()
		errs := make(chan error)
		go func() { errs <- call(context.Background()) }() // bounded by the connection alone
		select {
		case err := <-errs:
			t.Errorf("%s: ended with %v before anything happened", what, err)
		case <-time.After(20 * time.Millisecond):
		}
		network.Cut()
		if err := take(t, errs, "end of "+what); !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("%s, cut: %v, want %v", what, err, broker.ErrNotConnected)
		}
		take(t, w.disconnected, "loss of the connection")
		network.Heal()
		take(t, w.connected, "connection")
	}
	if before := loaded(t, b, "before"); len(before) != 2 {
		t.Errorf("%d entries are left", len(before))
	}
}

func TestWritesGoOnOverReconnects(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	b := journal(t, c)
	entries := fresh("kiwi", 20)
	cuts, failures := 0, 0
	var cutting sync.WaitGroup
	for i := 0; i < 60 || failures == 0 && i < 5000; i++ {
		if i%20 == 10 { // in the middle of something, more or less
			cuts++
			cutting.Go(network.Cut)
		}
		if _, err := b.Write(soon(t), entries); err != nil {
			failures++
			if errors.Is(err, broker.ErrNotConnected) {
				_ = c.Wait(soon(t))
			}
			for k := range entries { // read, and write again
				e, _, err := b.Get(soon(t), entries[k].Key)
				if err != nil {
					if !errors.Is(err, broker.ErrNotConnected) {
						t.Fatal(err)
					}
					break
				}
				entries[k].Expect = e.Sequence
			}
			continue
		}
		for k := range entries {
			entries[k].Expect = entries[k].Sequence
			if k > 0 && entries[k].Sequence != entries[k-1].Sequence+1 {
				t.Fatal("a batch is not one piece")
			}
		}
	}
	cutting.Wait()
	// The last cut may show only now.
	for {
		pieces := make(map[uint64]bool)
		_, err := b.Load(soon(t), func(e broker.BucketEntry) { pieces[e.Sequence] = true })
		if errors.Is(err, broker.ErrNotConnected) {
			_ = c.Wait(soon(t))
			continue
		}
		if err != nil || len(pieces) != 20 {
			t.Errorf("%d entries, %v", len(pieces), err)
		}
		break
	}
	t.Logf("%d cuts, %d losses told, %d writes failed", cuts, len(w.disconnected), failures)
}

func TestLoadOfManyIsQuick(t *testing.T) { // D2
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Storage: "memory"})
	if err := b.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	n := 4000
	if os.Getenv("HERD_TEST") == "full" {
		n = 20_000
	}
	start := time.Now()
	for i := range n / broker.MaxBatch {
		write(t, b, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch))
	}
	written := time.Since(start)
	start = time.Now()
	count, last := 0, uint64(0)
	st, err := b.Load(soon(t), func(e broker.BucketEntry) {
		count++
		if e.Sequence <= last || string(e.Value) != "the value of "+e.Key {
			t.Errorf("%q at %d, after %d", e.Value, e.Sequence, last)
		}
		last = e.Sequence
	})
	took := time.Since(start)
	if err != nil || count != n || st.Last != uint64(n) {
		t.Errorf("loaded %d, %+v, %v", count, st, err)
	}
	if took > patience/2 {
		t.Errorf("that took %v", took)
	}
	t.Logf("wrote %d keys in %v, loaded them in %v", n, written, took)

	stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Storage != jetstream.MemoryStorage || cfg.Replicas != 1 {
		t.Errorf("its storage is %v, its replicas %d", cfg.Storage, cfg.Replicas)
	}
}

func TestLoadEnds(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	b := journal(t, c)
	for i := range 3 {
		write(t, b, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch))
	}
	t.Run("with its context", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		count := 0
		st, err := b.Load(ctx, func(broker.BucketEntry) {
			if count++; count == 100 {
				cancel()
			}
		})
		if !errors.Is(err, context.Canceled) || st != (broker.BucketState{}) {
			t.Errorf("%+v, %v, want %v", st, err, context.Canceled)
		}
	})
	t.Run("with the connection", func(t *testing.T) {
		count := 0
		_, err := b.Load(context.Background(), func(broker.BucketEntry) {
			if count++; count == 1 {
				network.Cut()
				take(t, w.disconnected, "loss of the connection")
			}
		})
		if !errors.Is(err, broker.ErrNotConnected) {
			t.Errorf("%v, want %v", err, broker.ErrNotConnected)
		}
		take(t, w.connected, "connection")
	})
	t.Run("where the last entries are gone without a trace", func(t *testing.T) {
		stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
		if err != nil {
			t.Fatal(err)
		}
		purge := func() {
			if err := stream.Purge(soon(t), jetstream.WithPurgeSubject("$KV.herd_Clark.kiwi2.>")); err != nil {
				t.Error(err)
			}
		}
		count := 0
		st, err := b.Load(soon(t), func(broker.BucketEntry) {
			if count++; count == 1 {
				purge() // while it is loaded
			}
		})
		if err != nil || count < 2000 || st.Last != 3000 {
			t.Errorf("loaded %d, %+v, %v", count, st, err)
		}
		if all, st := load(t, b); len(all) != 2000 || st.Last != 3000 {
			t.Errorf("loaded %d, %+v", len(all), st)
		}
		if err := stream.Purge(soon(t)); err != nil {
			t.Fatal(err)
		}
		if all, st := load(t, b); len(all) != 0 || st.Last != 3000 {
			t.Errorf("loaded %d, %+v", len(all), st)
		}
	})
}

func TestLoadMissesNothingWhileOthersWrite(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	entries := fresh("kiwi", 500)
	write(t, b, entries)
	ctx := soon(t)
	for range 5 {
		over := make(chan error, 1)
		go func() {
			var err error
			for i := 0; i < 500 && err == nil; i += 100 {
				some := entries[i : i+50]
				for k := range some {
					some[k].Expect = some[k].Sequence
				}
				_, err = b.Write(ctx, some)
			}
			over <- err
		}()
		if all, st := load(t, b); len(all) != 500 {
			t.Errorf("%d entries, %+v", len(all), st)
		}
		if err := take(t, over, "end of writing"); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, b, entries)
}

func TestWhatIsNoEntryIsNotSent(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, w := connect(t, s.URL())
	b := journal(t, c)
	for _, key := range []string{"", ".", "a.", ".a", "a..b", "a b", "a*", ">", "é", "a\r\nPING", strings.Repeat("x", 5000)} {
		bad := []broker.BucketEntry{{Key: "good"}, {Key: key, Expect: 1}}
		_, err := b.Write(soon(t), bad)
		_, _, getErr := b.Get(soon(t), key)
		if err == nil || getErr == nil || b.Delete(soon(t), bad) == nil {
			t.Errorf("%.20q is a key", key)
		}
	}
	if _, err := b.Write(soon(t), []broker.BucketEntry{{Key: "good"}, {Key: "long", Value: make([]byte, broker.MaxValue+1)}}); err == nil {
		t.Error("a value too long is taken")
	}
	holds(t, b, nil)
	write(t, b, []broker.BucketEntry{{Key: "kiwi.cs.ucla.edu"}, {Key: "=h.A/b-c_d"}, {Key: strings.Repeat("x", 1024)}})
	if len(w.disconnected) > 0 {
		t.Error("the connection is lost")
	}
}

func BenchmarkBucketWrite(b *testing.B) {
	s := brokertest.Start(b, brokertest.JetStream)
	c, err := broker.Dial(broker.Options{URL: s.URL()}, "bench", broker.Events{}, brokertest.Log(b))
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	if err := c.Wait(b.Context()); err != nil {
		b.Fatal(err)
	}
	bucket := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 1, Storage: "file"})
	if err := bucket.Open(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, n := range []int{1, 2, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			entries := fresh(fmt.Sprint("kiwi", n), n)
			for i := range entries {
				e, _, err := bucket.Get(b.Context(), entries[i].Key)
				if err != nil {
					b.Fatal(err)
				}
				entries[i].Value, entries[i].Sequence = bytes.Repeat([]byte("x"), 120), e.Sequence
			}
			b.ReportAllocs()
			for b.Loop() {
				for i := range entries {
					entries[i].Expect = entries[i].Sequence
				}
				if _, err := bucket.Write(b.Context(), entries); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
