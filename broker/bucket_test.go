package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
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

// jetStreamOf returns JetStream as seen by another client.
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

// fresh returns n entries whose keys begin with first.
func fresh(first string, n int) []broker.BucketEntry {
	entries := make([]broker.BucketEntry, n)
	for i := range entries {
		key := fmt.Sprintf("%s.%d", first, i)
		entries[i] = broker.BucketEntry{Key: key, Value: []byte("the value of " + key)}
	}
	return entries
}

// write writes the entries after everything that b holds.
func write(t *testing.T, b *broker.Bucket, entries []broker.BucketEntry) (last uint64) {
	t.Helper()
	last, err := b.Write(soon(t), state(t, b).Last, entries)
	if err != nil {
		t.Fatal(err)
	}
	return last
}

// read returns what follows after, the newest of each key.
func read(t *testing.T, b *broker.Bucket, after uint64) (map[string]broker.BucketEntry, broker.BucketState) {
	t.Helper()
	all := make(map[string]broker.BucketEntry)
	last := after
	state, err := b.Read(soon(t), after, func(e broker.BucketEntry) {
		if e.Sequence <= last {
			t.Errorf("%s at %d comes after %d", e.Key, e.Sequence, last)
		}
		last = e.Sequence
		e.Value = bytes.Clone(e.Value)
		all[e.Key] = e
	})
	if err != nil {
		t.Fatal(err)
	}
	return all, state
}

// load returns all of b by key, without markers.
func load(t *testing.T, b *broker.Bucket) (map[string]broker.BucketEntry, broker.BucketState) {
	t.Helper()
	all, state := read(t, b, 0)
	maps.DeleteFunc(all, func(_ string, e broker.BucketEntry) bool { return e.Marker })
	return all, state
}

func state(t *testing.T, b *broker.Bucket) broker.BucketState {
	t.Helper()
	s, err := b.State(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// holds fails the test unless b holds exactly want.
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

func TestABucketTellsTheBrokersClock(t *testing.T) { // H8
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	told := 0
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Clock: func(clock, at time.Time) {
		told++
		if off := clock.Sub(at).Abs(); off > patience || time.Since(at) > patience {
			t.Errorf("at %v the clock was %v", at, clock)
		}
	}})
	if state(t, b); told != 0 {
		t.Error("a bucket that is not there told a clock")
	}
	if err := b.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	opened := told
	state(t, b)
	if read := told; read != opened+1 {
		t.Errorf("the state told it %d times, want once", read-opened)
	}
	if load(t, b); told < opened+2 {
		t.Error("reading did not tell it")
	}
}

func TestABucketKeepsWhatIsWritten(t *testing.T) { // D1
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	before := state(t, b)
	if _, err := time.Parse(time.RFC3339Nano, before.ID); err != nil || before.Last != 0 || before.Messages != 0 {
		t.Errorf("the new bucket is %+v", before)
	}
	holds(t, b, nil)

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
	_, st := load(t, b)
	if want := (broker.BucketState{ID: before.ID, Last: 4, Messages: 3, Bytes: st.Bytes, Replicas: 1, Copies: 1}); st != want || st.Bytes < broker.MaxValue {
		t.Errorf("state %+v, want %+v", st, want)
	}
	if again := state(t, b); again != st {
		t.Errorf("state %+v while reading, %+v later", st, again)
	}

	// A second run finds it unchanged, and an operator can read it.
	holds(t, journal(t, c), entries)
	kv, err := jetStreamOf(t, s.URL()).KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if e, err := kv.Get(soon(t), entries[2].Key); err != nil || !bytes.Equal(e.Value(), entries[2].Value) || e.Revision() != 3 {
		t.Errorf("an operator gets %v, %v", e, err)
	}
}

func TestWhatTheWriterHasNotSeenRefusesAll(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	refusesAll(t, journal(t, c))
}

// refusesAll checks every expectation of writes and deletions against an empty bucket.
func refusesAll(t *testing.T, b *broker.Bucket) {
	t.Helper()
	old := fresh("old", 25)
	last := write(t, b, old)
	refused := func(what string, last uint64, batch []broker.BucketEntry) {
		t.Helper()
		for name, do := range map[string]func(context.Context, uint64, []broker.BucketEntry) (uint64, error){"write": b.Write, "delete": b.Delete} {
			newLast, err := do(soon(t), last, batch)
			if !errors.Is(err, broker.ErrRefused) || newLast != 0 {
				t.Errorf("%s, %s: %d, %v, want %v", name, what, newLast, err, broker.ErrRefused)
			}
			if batch[0].Sequence != 0 {
				t.Errorf("%s, %s: a sequence is set", name, what)
			}
		}
	}
	batch := slices.Concat(slices.Clone(old), fresh("new", 25))
	for i := range batch[:25] {
		batch[i].Expect, batch[i].Sequence, batch[i].Value = old[i].Sequence, 0, []byte("never")
	}
	for _, wrong := range []uint64{0, last - 1, last + 1, last + 1000} {
		refused(fmt.Sprint("last is ", wrong), wrong, batch)
		refused(fmt.Sprint("one entry, last is ", wrong), wrong, batch[:1])
		refused(fmt.Sprint("one that expects nothing, last is ", wrong), wrong, batch[25:26])
	}
	for _, stale := range []int{0, 17, 30, 49} {
		batch[stale].Expect += 1000
		refused(fmt.Sprintf("entry %d is stale", stale), last, batch)
		refused(fmt.Sprintf("entry %d alone is stale", stale), last, batch[stale:stale+1])
		batch[stale].Expect -= 1000
	}
	holds(t, b, old)
	if got := state(t, b).Last; got != last {
		t.Errorf("last is %d after refusals, want %d", got, last)
	}

	// An entry that expects nothing is written whatever its key holds.
	batch[3].Expect = 0
	newLast, err := b.Write(soon(t), last, batch)
	if err != nil || newLast != last+50 || batch[49].Sequence != newLast {
		t.Fatalf("wrote to %d, %v", newLast, err)
	}
	holds(t, b, batch)
	for i := range batch {
		batch[i].Expect = batch[i].Sequence
	}
	batch[3].Expect = 0
	if newLast, err = b.Delete(soon(t), newLast, batch); err != nil || newLast != last+100 {
		t.Fatalf("deleted to %d, %v", newLast, err)
	}
	holds(t, b, nil)
	late := fresh("new", 1)
	if _, err := b.Write(soon(t), newLast-1, late); !errors.Is(err, broker.ErrRefused) {
		t.Errorf("a late write: %v", err)
	}
	if newLast, err = b.Write(soon(t), newLast, late); err != nil || newLast != last+101 {
		t.Errorf("made anew: %d, %v", newLast, err)
	}
	holds(t, b, late)
}

func TestABucketHasOneOwner(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	ownedByOne(t, journal(t, c))
}

// ownedByOne checks who may own an empty bucket.
func ownedByOne(t *testing.T, b *broker.Bucket) {
	t.Helper()
	isOwned := func(epoch string, sequence uint64) {
		t.Helper()
		if e, n, err := b.Owner(soon(t)); e != epoch || n != sequence || err != nil {
			t.Errorf("it is owned by %q at %d, %v; want %q at %d", e, n, err, epoch, sequence)
		}
		if st := state(t, b); st.Owner != sequence {
			t.Errorf("the state says that its owner is at %d, want %d", st.Owner, sequence)
		}
		for _, after := range []uint64{0, sequence, state(t, b).Last} {
			all, st := read(t, b, after)
			if _, told := all["=owner"]; told || st.Owner != sequence {
				t.Errorf("read after %d: the owner is told (%v), at %d, want %d", after, told, st.Owner, sequence)
			}
		}
	}
	isOwned("", 0)
	if _, err := b.Own(soon(t), clarkEpoch, 1); !errors.Is(err, broker.ErrRefused) {
		t.Errorf("owned with the wrong sequence: %v", err)
	}
	first, err := b.Own(soon(t), clarkEpoch, 0)
	if err != nil || first != 1 {
		t.Fatalf("owned at %d, %v", first, err)
	}
	isOwned(clarkEpoch, 1)
	if _, err := b.Own(soon(t), jaquezEpoch, 0); !errors.Is(err, broker.ErrRefused) {
		t.Errorf("owned twice: %v", err)
	}
	entries := fresh("kiwi", 3)
	last, err := b.Write(soon(t), first, entries)
	if err != nil {
		t.Fatal(err)
	}
	isOwned(clarkEpoch, 1)
	second, err := b.Own(soon(t), jaquezEpoch, first)
	if err != nil || second != last+1 {
		t.Fatalf("owned at %d, %v", second, err)
	}
	isOwned(jaquezEpoch, second)
	// The first owner's next write is refused, whatever its keys.
	for _, n := range []int{1, 2} {
		if _, err := b.Write(soon(t), last, fresh("late", n)); !errors.Is(err, broker.ErrRefused) {
			t.Errorf("%d entries of the first owner: %v", n, err)
		}
	}
	holds(t, b, entries)
}

func TestAnOwnerThatIsDeletedIsNone(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	sequence, err := b.Own(soon(t), clarkEpoch, 0)
	if err != nil {
		t.Fatal(err)
	}
	kv, err := jetStreamOf(t, s.URL()).KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if err := kv.Delete(soon(t), "=owner"); err != nil {
		t.Fatal(err)
	}
	epoch, marker, err := b.Owner(soon(t))
	if epoch != "" || marker != sequence+1 || err != nil || state(t, b).Owner != marker {
		t.Errorf("owned by %q at %d, %v", epoch, marker, err)
	}
	if _, err := b.Own(soon(t), jaquezEpoch, marker); err != nil {
		t.Error(err)
	}
	stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(soon(t)); err != nil {
		t.Fatal(err)
	}
	if epoch, at, err := b.Owner(soon(t)); epoch != "" || at != 0 || err != nil || state(t, b).Owner != 0 {
		t.Errorf("after a purge owned by %q at %d, %v", epoch, at, err)
	}
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
	if _, err := b.Write(soon(t), 7+broker.MaxBatch, append(entries, fresh("one", 1)...)); err == nil {
		t.Error("a larger one is taken")
	}
	if _, err := b.Write(soon(t), 7+broker.MaxBatch, nil); err == nil {
		t.Error("an empty one is taken")
	}
}

// loaded returns the entries of b whose keys begin with first.
func loaded(t *testing.T, b *broker.Bucket, first string) (entries []broker.BucketEntry) {
	all, _ := load(t, b)
	for key, e := range all {
		if strings.HasPrefix(key, first) {
			entries = append(entries, e)
		}
	}
	return entries
}

func TestADeletionIsReadAndForgottenInTheEnd(t *testing.T) { // S4
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	entries := fresh("kiwi", 4)
	last := write(t, b, entries)
	for i := range entries {
		entries[i].Expect = entries[i].Sequence
	}
	if _, err := b.Delete(soon(t), last, entries[:2]); err != nil {
		t.Fatal(err)
	}
	// An operator's deletion is a deletion too.
	js := jetStreamOf(t, s.URL())
	kv, err := js.KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(kv.Delete(soon(t), entries[2].Key), kv.Purge(soon(t), entries[3].Key)); err != nil {
		t.Fatal(err)
	}
	holds(t, b, nil)
	all, st := read(t, b, last)
	for i, e := range entries {
		want := broker.BucketEntry{Key: e.Key, Marker: true, Sequence: last + uint64(i) + 1}
		if got := all[e.Key]; got.Key != want.Key || !got.Marker || got.Value != nil || got.Sequence != want.Sequence {
			t.Errorf("read %+v, want %+v", got, want)
		}
	}
	if len(all) != 4 || st.Messages != 4 || st.Last != last+4 {
		t.Errorf("%d markers, state %+v", len(all), st)
	}
	stream, err := js.Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries[:2] {
		m, err := stream.GetLastMsgForSubject(soon(t), "$KV.herd_Clark."+e.Key)
		if err != nil {
			t.Fatal(err)
		}
		if ttl, err := time.ParseDuration(m.Header.Get(jetstream.MsgTTLHeader)); err != nil || ttl != time.Hour {
			t.Errorf("the marker lives %v, %v", ttl, err)
		}
	}
	if _, err := kv.Get(soon(t), entries[0].Key); !errors.Is(err, jetstream.ErrKeyNotFound) {
		t.Errorf("an operator gets %v of a deleted key", err)
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
	write(t, b, more) // it still accepts atomic batches
	holds(t, b, append(entries, more...))
}

// everything performs every operation on a bucket.
func everything(t *testing.T, b *broker.Bucket) map[string]error {
	errs := make(map[string]error)
	errs["open"] = b.Open(soon(t))
	_, _, errs["owner"] = b.Owner(soon(t))
	_, errs["write own"] = b.Own(soon(t), clarkEpoch, 0)
	_, errs["write one"] = b.Write(soon(t), 0, fresh("kiwi", 1))
	_, errs["write two"] = b.Write(soon(t), 0, fresh("kiwi", 2))
	_, errs["write a deletion"] = b.Delete(soon(t), 0, fresh("kiwi", 1))
	_, errs["state"] = b.State(soon(t))
	_, errs["read"] = b.Read(soon(t), 0, func(broker.BucketEntry) {})
	return errs
}

func TestABrokerWithoutJetStreamSaysSo(t *testing.T) { // D4
	t.Parallel()
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	for what, err := range everything(t, c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 1})) {
		want := broker.ErrNoJetStream
		if strings.HasPrefix(what, "write") {
			want = broker.ErrNobody // here the bucket may be what is missing
		}
		if !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
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
	if _, err := b.Write(soon(t), 3, fresh("kiwi", 2)); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("write: %v, want %v", err, broker.ErrNobody)
	}
	if got, err := b.State(soon(t)); err != nil || got != (broker.BucketState{}) {
		t.Errorf("state %+v, %v; want the zero State", got, err)
	}
	if _, _, err := b.Owner(soon(t)); err == nil || errors.Is(err, broker.ErrNoJetStream) {
		t.Errorf("owner: %v", err)
	}
	if _, err := b.Read(soon(t), 0, func(broker.BucketEntry) {}); err == nil || errors.Is(err, broker.ErrNoJetStream) {
		t.Errorf("read: %v", err)
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
		"write one": func(ctx context.Context) error { _, err := b.Write(ctx, 2, fresh("one", 1)); return err },
		"write 500": func(ctx context.Context) error { _, err := b.Write(ctx, 2, fresh("many", 500)); return err },
		"owner":     func(ctx context.Context) error { _, _, err := b.Owner(ctx); return err },
		"read":      func(ctx context.Context) error { _, err := b.Read(ctx, 0, func(broker.BucketEntry) {}); return err },
	}
	for what, call := range calls {
		network.Silence()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		if err := call(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s, nothing comes: %v, want %v", what, err, context.DeadlineExceeded)
		}
		cancel()
		errs := make(chan error)
		go func() { errs <- call(context.Background()) }() // bounded only by the connection
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

func TestWritesGoOnOverReconnects(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	b := journal(t, c)
	entries := fresh("kiwi", 20)
	cuts, failures := 0, 0
	last := uint64(0)
	// readOn reads what a failed write may have stored.
	readOn := func() bool {
		seen := make(map[string]uint64)
		st, err := b.Read(soon(t), last, func(e broker.BucketEntry) { seen[e.Key] = e.Sequence })
		if errors.Is(err, broker.ErrNotConnected) {
			_ = c.Wait(soon(t))
			return false
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(seen) != 0 && len(seen) != 20 || st.Last != last+uint64(len(seen)) {
			t.Fatalf("%d entries are there of a batch of 20, last is %d after %d", len(seen), st.Last, last)
		}
		for k := range entries {
			if sequence, ok := seen[entries[k].Key]; ok {
				entries[k].Expect = sequence
			}
		}
		last = st.Last
		return true
	}
	var cutting sync.WaitGroup
	for i := 0; i < 60 || failures == 0 && i < 5000; i++ {
		if i%20 == 10 { // approximately in the middle of a write
			cuts++
			cutting.Go(network.Cut)
		}
		newLast, err := b.Write(soon(t), last, entries)
		if err != nil {
			if errors.Is(err, broker.ErrRefused) {
				t.Fatal(err) // the bucket was read to the end
			}
			failures++
			for !readOn() {
			}
			continue
		}
		last = newLast
		for k := range entries {
			entries[k].Expect = entries[k].Sequence
			if k > 0 && entries[k].Sequence != entries[k-1].Sequence+1 {
				t.Fatal("a batch is not one piece")
			}
		}
	}
	cutting.Wait()
	for !readOn() { // the last cut may be noticed only now
	}
	holds(t, b, entries)
	t.Logf("%d cuts, %d losses told, %d writes failed", cuts, len(w.disconnected), failures)
}

func TestWhatIsNoEntryIsNotSent(t *testing.T) { // D6
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, w := connect(t, s.URL())
	b := journal(t, c)
	never := func(what string, bad broker.BucketEntry) {
		t.Helper()
		entries := []broker.BucketEntry{{Key: "good"}, bad, {Key: "better"}}
		_, err := b.Write(soon(t), 0, entries)
		if e, ok := errors.AsType[*broker.EntryError](err); !ok || e.Index != 1 {
			t.Errorf("%.20q: %v, want one of the second entry", what, err)
		}
		_, err = b.Delete(soon(t), 0, entries)
		if e, ok := errors.AsType[*broker.EntryError](err); !ok || e.Index != 1 {
			t.Errorf("deleting %.20q: %v, want one of the second entry", what, err)
		}
	}
	for _, key := range []string{"", ".", "a.", ".a", "a..b", "a b", "a*", ">", "é", "a\r\nPING", strings.Repeat("x", 5000)} {
		never(key, broker.BucketEntry{Key: key, Expect: 1})
	}
	never("a value too long", broker.BucketEntry{Key: "long", Value: make([]byte, broker.MaxValue+1)})
	holds(t, b, nil)
	write(t, b, []broker.BucketEntry{{Key: "kiwi.cs.ucla.edu"}, {Key: "=h.A/b-c_d"}, {Key: strings.Repeat("x", 1024)}})
	if len(w.disconnected) > 0 {
		t.Error("the connection is lost")
	}
}

func BenchmarkBucketWrite(b *testing.B) {
	s := brokertest.Start(b, brokertest.JetStream)
	c, err := broker.Dial(options.Broker{URL: s.URL()}, "bench", broker.Events{}, brokertest.Log(b))
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
			state, err := bucket.State(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			for i := range entries {
				entries[i].Value = bytes.Repeat([]byte("x"), 120)
			}
			last := state.Last
			b.ReportAllocs()
			for b.Loop() {
				if last, err = bucket.Write(b.Context(), last, entries); err != nil {
					b.Fatal(err)
				}
				for i := range entries {
					entries[i].Expect = entries[i].Sequence
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/entry")
		})
	}
}
