package broker_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
)

func TestReadBringsAllOfManyInOrder(t *testing.T) { // D2; for its speed see row load of test/bench
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
	last := uint64(0)
	for i := range n / broker.MaxBatch {
		var err error
		if last, err = b.Write(soon(t), last, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch)); err != nil {
			t.Fatal(err)
		}
	}
	count, before := 0, uint64(0)
	st, err := b.Read(soon(t), 0, func(e broker.BucketEntry) {
		count++
		if e.Sequence <= before || string(e.Value) != "the value of "+e.Key {
			t.Errorf("%q at %d, after %d", e.Value, e.Sequence, before)
		}
		before = e.Sequence
	})
	if err != nil || count != n || st.Last != uint64(n) {
		t.Errorf("read %d, %+v, %v", count, st, err)
	}

	stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if cfg := stream.CachedInfo().Config; cfg.Storage != jetstream.MemoryStorage || cfg.Replicas != 1 {
		t.Errorf("its storage is %v, its replicas %d", cfg.Storage, cfg.Replicas)
	}
}

// A large bucket is read through a consumer, which may be gone at any moment. Large entries
// end its pieces by their bytes.
func TestReadOfManyNeedsNoConsumer(t *testing.T) { // D2
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	const n = 13_000
	last := uint64(0)
	for i := range n / broker.MaxBatch {
		entries := fresh(fmt.Sprint("kiwi", i), broker.MaxBatch)
		for k := range entries {
			if i > 8 {
				entries[k].Value = bytes.Repeat([]byte{byte(k)}, broker.MaxValue)
			}
		}
		var err error
		if last, err = b.Write(soon(t), last, entries); err != nil {
			t.Fatal(err)
		}
	}
	js := jetStreamOf(t, s.URL())
	consumers := func() (names []string) {
		stream, err := js.Stream(soon(t), "KV_herd_Clark")
		if err != nil {
			t.Fatal(err)
		}
		for name := range stream.ConsumerNames(soon(t)).Name() {
			names = append(names, name)
		}
		return names
	}
	for _, gone := range []int{0, 1, 5000, 12_500} { // 0 means never
		next, direct := questions(t, s.URL(), "$JS.API.CONSUMER.MSG.NEXT.>"), questions(t, s.URL(), "$JS.API.DIRECT.GET.>")
		count := 0
		st, err := b.Read(soon(t), 0, func(e broker.BucketEntry) {
			if count++; e.Sequence != uint64(count) {
				t.Fatalf("entry %d is at %d", count, e.Sequence)
			}
			if count == gone {
				for _, name := range consumers() {
					if err := js.DeleteConsumer(soon(t), "KV_herd_Clark", name); err != nil {
						t.Error(err)
					}
				}
			}
		})
		if err != nil || count != n || st.Last != n {
			t.Errorf("gone after %d: read %d, %+v, %v", gone, count, st, err)
		}
		if next.Load() == 0 || (direct.Load() > 0) != (gone > 0) {
			t.Errorf("gone after %d: a consumer was asked %d times, replicas %d times", gone, next.Load(), direct.Load())
		}
		for end := time.Now().Add(patience); len(consumers()) > 0; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("consumers %v are left", consumers())
			}
		}
	}
}

// A network or a machine that stalls delivers late what was asked for. A reader that gave up the
// consumer then would read the rest in the way that costs the machine the most, just where it has
// the least to give, and would have sent twice what was on its way.
func TestAConsumerThatIsLateIsReadOn(t *testing.T) { // D2
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	direct, _ := connect(t, s.URL())
	b := journal(t, direct)
	const n = 30_000
	last := uint64(0)
	for i := range n / broker.MaxBatch {
		var err error
		if last, err = b.Write(soon(t), last, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch)); err != nil {
			t.Fatal(err)
		}
	}
	network := brokertest.Proxy(t, s.Addr())
	c, _ := connect(t, "nats://"+network.Addr())
	b = c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark"})
	made, gets := questions(t, s.URL(), "$JS.API.CONSUMER.CREATE.>"), questions(t, s.URL(), "$JS.API.DIRECT.GET.>")
	count := 0
	st, err := b.Read(soon(t), 0, func(e broker.BucketEntry) {
		if count++; e.Sequence != uint64(count) {
			t.Fatalf("entry %d is at %d", count, e.Sequence)
		}
		if count%4_000 == 0 { // in the midst of a piece, and at its end
			network.Silence()
			time.AfterFunc(700*time.Millisecond, network.Heal)
		}
	})
	if err != nil || count != n || st.Last != n {
		t.Errorf("read %d, %+v, %v", count, st, err)
	}
	if made.Load() != 1 || gets.Load() != 0 {
		t.Errorf("%d consumers were made, and replicas asked %d times", made.Load(), gets.Load())
	}
}

// questions counts all requests to JetStream at the broker, until the test ends.
func questions(t *testing.T, url, subject string) *atomic.Int64 {
	t.Helper()
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	asked := new(atomic.Int64)
	if _, err := nc.Subscribe(subject, func(*nats.Msg) { asked.Add(1) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	return asked
}

// D5: if another run wrote one key of a thousand, the reader does not search key by key.
func TestReadingOnTakesAFewRoundTripsWhateverTheBatch(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	if _, err := b.Own(soon(t), clarkEpoch, 0); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		write(t, b, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch))
	}
	last := state(t, b).Last
	kv, err := jetStreamOf(t, s.URL()).KeyValue(soon(t), "herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	for i, another := range []func() error{
		func() error { return nil },
		func() error { _, err := kv.PutString(soon(t), "kiwi2.500", "by hand"); return err },
		func() error { return kv.Delete(soon(t), "kiwi3.7") },
		func() error { _, err := b.Write(soon(t), last, fresh("lost", broker.MaxBatch)); return err },
	} {
		if err := another(); err != nil {
			t.Fatal(err)
		}
		asked := questions(t, s.URL(), "$JS.API.>")
		all, st := read(t, b, last)
		if n := asked.Load(); n > 4 {
			t.Errorf("%d questions for %d entries behind %d", n, len(all), last)
		}
		if want := []int{0, 1, 1, broker.MaxBatch}[i]; len(all) != want || st.Last != last+uint64(want) || st.Owner != 1 {
			t.Errorf("read %d entries, want %d; state %+v", len(all), want, st)
		}
		last = st.Last
	}
}

func TestReadEnds(t *testing.T) {
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
		st, err := b.Read(ctx, 0, func(broker.BucketEntry) {
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
		_, err := b.Read(context.Background(), 0, func(broker.BucketEntry) {
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
	t.Run("where nothing comes any more", func(t *testing.T) {
		network.Silence()
		defer network.Heal()
		start := time.Now()
		_, err := b.Read(context.Background(), 0, func(broker.BucketEntry) {})
		if err == nil || errors.Is(err, context.Canceled) || time.Since(start) < 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
	})
	t.Run("where the last entries are gone without a trace", func(t *testing.T) {
		stream, err := jetStreamOf(t, s.URL()).Stream(soon(t), "KV_herd_Clark")
		if err != nil {
			t.Fatal(err)
		}
		count := 0
		st, err := b.Read(soon(t), 0, func(broker.BucketEntry) {
			if count++; count == 1 { // while the bucket is read
				if err := stream.Purge(soon(t), jetstream.WithPurgeSubject("$KV.herd_Clark.kiwi2.>")); err != nil {
					t.Error(err)
				}
			}
		})
		if err != nil || count < 2000 || st.Last != 3000 {
			t.Errorf("read %d, %+v, %v", count, st, err)
		}
		if all, st := load(t, b); len(all) != 2000 || st.Last != 3000 || st.Messages != 2000 {
			t.Errorf("read %d, %+v", len(all), st)
		}
		if err := stream.Purge(soon(t)); err != nil {
			t.Fatal(err)
		}
		if all, st := load(t, b); len(all) != 0 || st.Last != 3000 || st.Messages != 0 {
			t.Errorf("read %d, %+v", len(all), st)
		}
	})
	t.Run("where it is made anew meanwhile", func(t *testing.T) {
		write(t, b, fresh("kiwi", broker.MaxBatch))
		js := jetStreamOf(t, s.URL())
		made := false
		_, err := b.Read(soon(t), 0, func(broker.BucketEntry) {
			if made {
				return
			}
			made = true
			if err := js.DeleteStream(soon(t), "KV_herd_Clark"); err != nil {
				t.Error(err)
			}
			again := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 1, Storage: "file"})
			opened := again.Open(soon(t))
			for end := time.Now().Add(patience); opened != nil && time.Now().Before(end); { // its files may not be gone yet
				time.Sleep(5 * time.Millisecond) // there is no event to wait for
				opened = again.Open(soon(t))
			}
			if opened != nil {
				t.Error(opened)
			}
		})
		if err == nil || !made {
			t.Errorf("%v, made anew %v", err, made)
		}
	})
}

func TestReadMissesNothingWhileOthersWrite(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	missesNothing(t, b)
}

// missesNothing reads an empty bucket repeatedly while it is written.
func missesNothing(t *testing.T, b *broker.Bucket) {
	t.Helper()
	entries := fresh("kiwi", 500)
	last := write(t, b, entries)
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
				last, err = b.Write(ctx, last, some)
			}
			over <- err
		}()
		if all, st := load(t, b); len(all) != 500 || st.Messages != 500 {
			t.Errorf("%d entries, %+v", len(all), st)
		}
		if err := take(t, over, "end of writing"); err != nil {
			t.Fatal(err)
		}
	}
	holds(t, b, entries)
}

// A replica is a program of the test that answers direct gets. The bucket's leader answers as
// usual.
type replica struct {
	holds func(sequence uint64) bool // whether the replica has this sequence
	loses func(sequence uint64) bool // whether this sequence is lost on the way
	deaf  bool
	most  int // maximum number of messages per answer

	mu    sync.Mutex
	asked int
}

func (r *replica) serve(t *testing.T, url string, entries []broker.BucketEntry) {
	t.Helper()
	js := jetStreamOf(t, url)
	stream, err := js.Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.AllowDirect = false // no other server answers direct gets
	if _, err := js.UpdateStream(soon(t), cfg); err != nil {
		t.Fatal(err)
	}
	nc := js.Conn()
	if _, err := nc.Subscribe("$JS.API.DIRECT.GET.KV_herd_Clark", func(m *nats.Msg) {
		r.mu.Lock()
		r.asked++
		deaf := r.deaf
		r.mu.Unlock()
		var question struct {
			Seq   uint64 `json:"seq"`
			Batch int    `json:"batch"`
		}
		if err := json.Unmarshal(m.Data, &question); err != nil {
			t.Error(err)
		}
		if deaf {
			return
		}
		before, sent := uint64(0), 0
		for _, e := range entries {
			if e.Sequence < question.Seq || !r.holds(e.Sequence) || sent == question.Batch || r.most > 0 && sent == r.most {
				continue
			}
			answer := &nats.Msg{Subject: m.Reply, Data: e.Value, Header: nats.Header{
				"Nats-Sequence": {strconv.FormatUint(e.Sequence, 10)}, "Nats-Last-Sequence": {strconv.FormatUint(before, 10)},
				"Nats-Subject": {"$KV.herd_Clark." + e.Key},
			}}
			before = e.Sequence
			if sent++; r.loses != nil && r.loses(e.Sequence) {
				continue
			}
			if err := nc.PublishMsg(answer); err != nil {
				t.Error(err)
			}
		}
		end := &nats.Msg{Subject: m.Reply, Header: nats.Header{"Status": {"204"}, "Description": {"EOB"}}}
		if sent == 0 {
			end.Header = nats.Header{"Status": {"404"}, "Description": {"Message Not Found"}}
		}
		if err := nc.PublishMsg(end); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

func TestReadIsCompleteWhateverTheReplicaThatServesIt(t *testing.T) { // D5
	t.Parallel()
	all := func(uint64) bool { return true }
	lost := make(map[uint64]bool)
	var mu sync.Mutex
	for name, r := range map[string]*replica{
		"that is current":          {holds: all},
		"that has an eighth":       {holds: func(n uint64) bool { return n <= 10 }},
		"that has nothing":         {holds: func(uint64) bool { return false }},
		"that gives little a time": {holds: all, most: 7},
		"that never answers":       {deaf: true},
		"some of whose answer is lost": {holds: all, loses: func(n uint64) bool {
			mu.Lock()
			defer mu.Unlock()
			again := lost[n]
			lost[n] = true
			return n%9 == 0 && !again
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := brokertest.Start(t, brokertest.JetStream)
			c, _ := connect(t, s.URL())
			b := journal(t, c)
			n := 80
			if r.deaf {
				n = 3
			}
			entries := fresh("kiwi", n)
			write(t, b, entries)
			r.serve(t, s.URL(), entries)
			got := make(map[string]bool)
			st, err := b.Read(soon(t), 0, func(e broker.BucketEntry) {
				if got[e.Key] || string(e.Value) != "the value of "+e.Key {
					t.Errorf("%+v, again: %v", e, got[e.Key])
				}
				got[e.Key] = true
			})
			if err != nil || len(got) != n || st.Last != uint64(n) {
				t.Errorf("read %d of %d, %+v, %v", len(got), n, st, err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			if r.asked == 0 {
				t.Error("the replica was not asked")
			}
		})
	}
	t.Run("or none", func(t *testing.T) {
		t.Parallel()
		s := brokertest.Start(t, brokertest.JetStream)
		c, _ := connect(t, s.URL())
		b := journal(t, c)
		entries := fresh("kiwi", 30)
		write(t, b, entries)
		js := jetStreamOf(t, s.URL())
		stream, err := js.Stream(soon(t), "KV_herd_Clark")
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		cfg.AllowDirect = false
		if _, err := js.UpdateStream(soon(t), cfg); err != nil {
			t.Fatal(err)
		}
		holds(t, b, entries)
	})
}

// Messages under other subjects, from before the bucket was repaired, are not entries.
func TestReadLeavesOutWhatIsNoEntry(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	js := jetStreamOf(t, s.URL())
	if _, err := js.CreateStream(soon(t), jetstream.StreamConfig{Name: "KV_herd_Clark", Subjects: []string{"mine.>", "$KV.herd_Clark.>"}}); err != nil {
		t.Fatal(err)
	}
	for _, subject := range []string{"mine.a", "$KV.herd_Clark.kiwi", "mine.b"} {
		m := nats.NewMsg(subject)
		m.Header.Set("Nats-Subject", "a lie")
		m.Header.Set("Status", "204")
		m.Data = []byte(strings.ToUpper(subject))
		if _, err := js.PublishMsg(soon(t), m); err != nil {
			t.Fatal(err)
		}
	}
	c, _ := connect(t, s.URL())
	b := journal(t, c)
	all, st := read(t, b, 0)
	if e := all["kiwi"]; len(all) != 1 || string(e.Value) != "$KV.HERD_CLARK.KIWI" || e.Sequence != 2 || st.Last != 3 || st.Messages != 3 {
		t.Errorf("read %+v, %+v", all, st)
	}
}
