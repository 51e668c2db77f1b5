package broker_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/nats-io/nats.go"

	"herd/broker"
	"herd/broker/brokertest"
)

// A replicated bucket may refuse a key because of the writer's own last write, which it has
// answered already but not taken off its list. Which of them does so, and when, cannot be chosen:
// here somebody answers in the servers' place.
func TestAWriterIsNotRefusedForItsOwnLastWrite(t *testing.T) { // D5
	t.Parallel()
	const busy = `{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"},"stream":"KV_herd_Clark","seq":0}`
	for name, c := range map[string]struct {
		entries, busy int // answers that say so, before the one that says stored
		want          error
	}{
		"one entry":            {1, 1, nil},
		"a batch":              {3, 2, nil},
		"somebody else writes": {1, 1 << 30, broker.ErrRefused},
		"and to a batch's key": {3, 1 << 30, broker.ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := brokertest.Start(t)
			nc, err := nats.Connect(server.URL())
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(nc.Close)
			asked := 0
			if _, err := nc.Subscribe("$KV.herd_Clark.>", func(m *nats.Msg) {
				if m.Reply == "" {
					return // of a batch, the last asks
				}
				answer := fmt.Sprintf(`{"stream":"KV_herd_Clark","seq":7,"batch":%q,"count":%d}`, m.Header.Get("Nats-Batch-Id"), c.entries)
				if asked++; asked <= c.busy {
					answer = busy
				}
				_ = m.Respond([]byte(answer))
			}); err != nil {
				t.Fatal(err)
			}
			if err := nc.Flush(); err != nil {
				t.Fatal(err)
			}
			b := brokertest.Dial(t, server.URL(), "edge").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: 3})
			entries := fresh("kiwi", c.entries)
			last, err := b.Write(soon(t), 4, entries)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if want := uint64(7); c.want == nil && (last != want || entries[c.entries-1].Sequence != want) {
				t.Errorf("stored at %d, the last entry at %d; want %d", last, entries[c.entries-1].Sequence, want)
			}
		})
	}
}
