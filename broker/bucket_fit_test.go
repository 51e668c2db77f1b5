package broker_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
)

func TestABucketThatIsThereGetsWhatWritesNeed(t *testing.T) {
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
	if _, err := b.Write(soon(t), 1, fresh("a", 2)); err == nil || errors.Is(err, broker.ErrRefused) {
		t.Errorf("written without: %v", err)
	}
	journal(t, c)
	entries := fresh("a", 2)
	entries[0].Value = bytes.Repeat([]byte("x"), broker.MaxValue)
	write(t, b, entries)
	all, _ := load(t, b)
	if e := all["kiwi"]; string(e.Value) != "by hand" || e.Sequence != 1 || len(all) != 3 {
		t.Errorf("read %+v", all)
	}
	stream, err := js.Stream(soon(t), "KV_herd_Clark")
	if err != nil {
		t.Fatal(err)
	}
	if d := stream.CachedInfo().Config.Description; d != plain.Description {
		t.Errorf("the description became %q", d)
	}

	// nats.go's own way to create a bucket switches them off again, which State reports.
	plain.MaxValueSize, plain.LimitMarkerTTL = 0, time.Hour
	if _, err := js.CreateOrUpdateKeyValue(soon(t), plain); err != nil {
		t.Fatal(err)
	}
	if st, err := b.State(soon(t)); !errors.Is(err, broker.ErrUnfit) || st.Last != 3 {
		t.Errorf("a look at what was changed says %+v, %v", st, err)
	}
	if _, err := b.Write(soon(t), 3, fresh("b", 2)); err == nil || errors.Is(err, broker.ErrRefused) {
		t.Errorf("written without: %v", err)
	}
	journal(t, c)
	write(t, b, fresh("b", 2))
}

// Each of these buckets would lose, hide or refuse what it should keep. Settings of the
// stream are named as in the nats tool.
func TestABucketThatMayLoseSomethingIsPutRight(t *testing.T) { // D5
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	js := jetStreamOf(t, s.URL())
	if _, err := js.CreateStream(soon(t), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other.>"}}); err != nil {
		t.Fatal(err)
	}
	c, _ := connect(t, s.URL())
	kept := func(edge string) { // checks that all of a thousand and one entries are there
		t.Helper()
		b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: edge})
		if err := b.Open(soon(t)); err != nil {
			t.Errorf("%s: %v", edge, err)
			return
		}
		entries := fresh("kiwi", broker.MaxBatch)
		last := write(t, b, entries)
		for i := range entries {
			entries[i].Expect = entries[i].Sequence
		}
		last, err := b.Write(soon(t), last, entries)
		if err != nil {
			t.Errorf("%s: %v", edge, err)
		}
		more := fresh("more", 1)
		if _, err := b.Write(soon(t), last, more); err != nil {
			t.Errorf("%s: %v", edge, err)
		}
		holds(t, b, append(entries, more...))
		stream, err := js.Stream(soon(t), "KV_herd_"+edge)
		if err != nil {
			t.Fatal(err)
		}
		cfg := stream.CachedInfo().Config
		if len(cfg.Subjects) != 1 || cfg.Subjects[0] != "$KV.herd_"+edge+".>" || cfg.MaxAge != 0 || cfg.MaxMsgs != -1 ||
			cfg.MaxMsgsPerSubject != 1 || cfg.Discard != jetstream.DiscardNew || cfg.DiscardNewPerSubject || cfg.MaxMsgSize > 0 && cfg.MaxMsgSize < 1500 ||
			cfg.NoAck || cfg.Retention != jetstream.LimitsPolicy || cfg.Mirror != nil || cfg.Sources != nil || cfg.SubjectTransform != nil ||
			cfg.SubjectDeleteMarkerTTL != 0 {
			t.Errorf("%s: it became %+v", edge, cfg)
		}
	}
	for i, test := range []struct {
		limit  string // what is named if it cannot be repaired
		change func(*jetstream.StreamConfig)
	}{
		{"", func(cfg *jetstream.StreamConfig) {}},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxAge = time.Hour }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxMsgs = 500 }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxBytes, cfg.Discard = 1<<20, jetstream.DiscardOld }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.Discard = jetstream.DiscardOld }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.Subjects = []string{"mine.>"} }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.Subjects = append(cfg.Subjects, "mine.>") }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = 5 }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxMsgsPerSubject = -1 }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.DiscardNewPerSubject = true }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.MaxMsgSize = 100 }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.NoAck = true }},
		{"", func(cfg *jetstream.StreamConfig) { cfg.Retention = jetstream.InterestPolicy }},
		{"", func(cfg *jetstream.StreamConfig) {
			cfg.Mirror, cfg.Subjects = &jetstream.StreamSource{Name: "OTHER"}, nil
		}},
		{"", func(cfg *jetstream.StreamConfig) { cfg.Sources = []*jetstream.StreamSource{{Name: "OTHER"}} }},
		{"", func(cfg *jetstream.StreamConfig) {
			cfg.SubjectTransform = &jetstream.SubjectTransformConfig{Source: ">", Destination: "x.>"}
		}},
		{"", func(cfg *jetstream.StreamConfig) {
			cfg.AllowMsgTTL, cfg.AllowRollup, cfg.SubjectDeleteMarkerTTL = true, true, time.Second
		}},
		{"", func(cfg *jetstream.StreamConfig) { cfg.DenyPurge, cfg.DenyDelete = true, true }},
		{"retention workqueue", func(cfg *jetstream.StreamConfig) { cfg.Retention = jetstream.WorkQueuePolicy }},
		{"sealed", func(cfg *jetstream.StreamConfig) { cfg.Sealed = true }},
		{"allow_msg_counter", func(cfg *jetstream.StreamConfig) { cfg.AllowMsgCounter, cfg.Discard = true, jetstream.DiscardOld }},
		{"allow_msg_schedules", func(cfg *jetstream.StreamConfig) {
			cfg.AllowMsgSchedules, cfg.AllowRollup, cfg.Discard = true, true, jetstream.DiscardOld
		}},
		{"persist_mode async", func(cfg *jetstream.StreamConfig) { cfg.PersistMode = jetstream.AsyncPersistMode }},
	} {
		edge := fmt.Sprint("E", i)
		cfg := jetstream.StreamConfig{
			Name: "KV_herd_" + edge, Subjects: []string{"$KV.herd_" + edge + ".>"}, MaxMsgsPerSubject: 1, Discard: jetstream.DiscardNew,
		}
		test.change(&cfg)
		sealed := cfg.Sealed
		cfg.Sealed = false // a stream cannot be created sealed
		if _, err := js.CreateStream(soon(t), cfg); err != nil {
			t.Fatalf("%s: %v", edge, err)
		}
		if cfg.Sealed = sealed; sealed {
			if _, err := js.UpdateStream(soon(t), cfg); err != nil {
				t.Fatalf("%s: %v", edge, err)
			}
		}
		if test.limit == "" {
			kept(edge)
			continue
		}
		b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: edge})
		if err := b.Open(soon(t)); !errors.Is(err, broker.ErrUnfit) || !strings.Contains(err.Error(), test.limit) {
			t.Errorf("%s: %v, want an error that names %s", edge, err, test.limit)
		}
		if _, err := b.State(soon(t)); !errors.Is(err, broker.ErrUnfit) {
			t.Errorf("%s: %v", edge, err)
		}
	}
}

func TestABucketTakesItsLimitOfBytes(t *testing.T) { // D6
	t.Parallel()
	s := brokertest.Start(t, brokertest.JetStream)
	c, _ := connect(t, s.URL())
	limited := func(most int64) *broker.Bucket {
		t.Helper()
		b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", MaxBytes: most})
		if err := b.Open(soon(t)); err != nil {
			t.Fatal(err)
		}
		return b
	}
	b := limited(1 << 20)
	if st := state(t, b); st.MaxBytes != 1<<20 {
		t.Errorf("state %+v", st)
	}
	var kept []broker.BucketEntry
	last := uint64(0)
	for i := 0; ; i++ {
		some := fresh(fmt.Sprint("kiwi", i), 100)
		for k := range some {
			some[k].Value = bytes.Repeat([]byte("x"), 1000)
		}
		newLast, err := b.Write(soon(t), last, some)
		if errors.Is(err, broker.ErrFull) {
			break
		}
		if err != nil || i > 20 {
			t.Fatalf("%d batches, %v", i, err)
		}
		last, kept = newLast, append(kept, some...)
	}
	if _, err := b.Write(soon(t), last, fresh("more", 200)[:1]); err != nil && !errors.Is(err, broker.ErrFull) {
		t.Error(err)
	}
	if st := state(t, b); st.Bytes > st.MaxBytes || st.Bytes < st.MaxBytes/2 || st.Messages < 500 {
		t.Errorf("a full bucket says %+v", st)
	}
	last = state(t, b).Last
	for i := range kept[:100] {
		kept[i].Expect = kept[i].Sequence
	}
	if _, err := b.Delete(soon(t), last, kept[:100]); err != nil { // which needs room for a moment
		t.Logf("deleting from a full bucket: %v", err)
	}

	// Another limit is applied: a larger one, one below the current size, which loses
	// nothing, and none, which changes nothing.
	for _, most := range []int64{4 << 20, 1 << 18, 0} {
		before, _ := load(t, b)
		b = limited(most)
		want := uint64(most)
		if most == 0 {
			want = 1 << 18
		}
		if st := state(t, b); st.MaxBytes != want {
			t.Errorf("limit %d: state %+v", most, st)
		}
		if after, _ := load(t, b); len(after) != len(before) {
			t.Errorf("limit %d: %d entries, were %d", most, len(after), len(before))
		}
	}
}

// configured starts a server with these lines of configuration, with JetStream and an account
// for its anonymous user.
func configured(t *testing.T, server, account string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if account != "" {
		account = ", " + account
	}
	text := fmt.Sprintf("listen: 127.0.0.1:-1\njetstream { store_dir: %q }\n%s\naccounts { A { users: [{user: a}] %s } }\nno_auth_user: a\n", t.TempDir(), server, account)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return brokertest.StartConfigured(t, file)[0].URL()
}

func TestAnAccountWithoutJetStreamSaysSo(t *testing.T) { // D4
	t.Parallel()
	c, _ := connect(t, configured(t, "", ""))
	for what, err := range everything(t, c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark"})) {
		if !strings.HasPrefix(what, "write") && !errors.Is(err, broker.ErrNoJetStream) {
			t.Errorf("%s: %v, want %v", what, err, broker.ErrNoJetStream)
		}
	}
}

func TestAnAccountThatDemandsALimitIsNamed(t *testing.T) { // B5
	t.Parallel()
	url := configured(t, "", "jetstream: { max_file: 10M, max_bytes_required: true }")
	c, _ := connect(t, url)
	b := c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark"})
	if err := b.Open(soon(t)); !errors.Is(err, broker.ErrUnfit) || !strings.Contains(err.Error(), "HERD_JOURNAL_MAX_BYTES") {
		t.Errorf("opened without a limit: %v", err)
	}
	b = c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", MaxBytes: 11 << 20})
	if err := b.Open(soon(t)); !errors.Is(err, broker.ErrUnfit) || !strings.Contains(err.Error(), "insufficient storage") {
		t.Errorf("opened with more than the account may have: %v", err)
	}
	b = c.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", MaxBytes: 9 << 20})
	if err := b.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	write(t, b, fresh("kiwi", 10))
}

func TestAnAccountsLimitIsTheBucketsWhereItHasNone(t *testing.T) { // D6
	t.Parallel()
	url := configured(t, "", "jetstream: { max_file: 2M }")
	c, _ := connect(t, url)
	js := jetStreamOf(t, url)
	if _, err := js.CreateStream(soon(t), jetstream.StreamConfig{Name: "OTHER", Subjects: []string{"other"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(soon(t), "other", make([]byte, 500_000)); err != nil {
		t.Fatal(err)
	}
	b := journal(t, c)
	st := state(t, b)
	if st.MaxBytes < 1_400_000 || st.MaxBytes > 2<<20-500_000 {
		t.Errorf("state %+v with 500,000 bytes of 2 MiB used by others", st)
	}
	last := uint64(0)
	for i := 0; ; i++ { // one by one: see Write
		one := fresh(fmt.Sprint("kiwi", i), 1)
		one[0].Value = bytes.Repeat([]byte("x"), 1280)
		newLast, err := b.Write(soon(t), last, one)
		if errors.Is(err, broker.ErrFull) {
			break
		}
		if err != nil || i > 2000 {
			t.Fatalf("%d entries, %v", i, err)
		}
		last = newLast
	}
	st = state(t, b)
	if left := int64(st.MaxBytes) - int64(st.Bytes); left < 0 || left > 2000 {
		t.Errorf("a full account leaves %d bytes, state %+v", left, st)
	}
	// Room that becomes free is noticed.
	if err := js.DeleteStream(soon(t), "OTHER"); err != nil {
		t.Fatal(err)
	}
	if roomier := state(t, b); roomier.MaxBytes < st.MaxBytes+490_000 {
		t.Errorf("with the others gone %+v, before %+v", roomier, st)
	}
}

func TestWhatIsTooLargeForTheBrokerIsNotSent(t *testing.T) { // D6
	t.Parallel()
	url := configured(t, "max_payload: 600", "jetstream: enabled")
	c, w := connect(t, url)
	b := journal(t, c)
	entries := fresh("kiwi", 5)
	entries[3].Value = bytes.Repeat([]byte("x"), 600)
	for _, batch := range [][]broker.BucketEntry{entries, entries[3:4]} {
		_, err := b.Write(soon(t), 0, batch)
		if e, ok := errors.AsType[*broker.EntryError](err); !ok || batch[e.Index].Key != entries[3].Key {
			t.Errorf("%d entries: %v, want one of %s", len(batch), err, entries[3].Key)
		}
	}
	entries[3].Value = entries[3].Value[:350]
	write(t, b, entries)
	holds(t, b, entries)
	if len(w.disconnected) > 0 {
		t.Error("the connection is lost")
	}
}
