package edge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/journal"
	"herd/edge/journal/storetest"
)

// B12: the fake store of the journal's tests behaves like the bucket in use.
func TestABucketIsAStore(t *testing.T) {
	t.Parallel()
	for _, storage := range []string{"file", "memory"} {
		t.Run(storage, func(t *testing.T) {
			t.Parallel()
			server := brokertest.Start(t, brokertest.JetStream)
			bucketIsAStore(t, server.URL(), broker.BucketConfig{Storage: storage})
		})
	}
	t.Run("three replicas", func(t *testing.T) {
		t.Parallel()
		bucketIsAStore(t, brokertest.URLs(brokertest.StartCluster(t, 3)), broker.BucketConfig{Replicas: 3})
	})
}

// known opens a store and waits until its client's server knows the bucket's subjects. In a cluster
// that is a moment after the bucket exists.
type known struct{ store }

func (k known) Open(ctx context.Context) error {
	if err := k.store.Open(ctx); err != nil {
		return err
	}
	for {
		// Refused, whatever the bucket holds, unless no server is there to refuse.
		if _, err := k.Write(ctx, 1<<60, []journal.Entry{{Key: "refused", Value: []byte("x")}}); !errors.Is(err, broker.ErrNobody) || ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

func bucketIsAStore(t *testing.T, url string, cfg broker.BucketConfig) {
	nc, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	made := 0
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		made++
		cfg := cfg
		cfg.Prefix, cfg.Edge = "herd", fmt.Sprint("E", made)
		name := cfg.Prefix + "_" + cfg.Edge
		way := func() journal.Store {
			return known{store{brokertest.Dial(t, url, t.Name()).Bucket(cfg), new(atomic.Uint64)}}
		}
		do := func(f func(jetstream.Stream) error) {
			t.Helper()
			s, err := js.Stream(t.Context(), "KV_"+name)
			if err == nil {
				err = f(s)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		keys := func() jetstream.KeyValue {
			t.Helper()
			kv, err := js.KeyValue(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			return kv
		}
		return storetest.Subject{
			Store: way(), Twin: way(),
			Put: func(key, value string) {
				if _, err := keys().PutString(t.Context(), key, value); err != nil {
					t.Error(err)
				}
			},
			Remove: func(key string) {
				if err := keys().Delete(t.Context(), key); err != nil {
					t.Error(err)
				}
			},
			Purge: func() {
				do(func(s jetstream.Stream) error { return s.Purge(t.Context()) })
			},
			Destroy: func() {
				if err := js.DeleteStream(t.Context(), "KV_"+name); err != nil {
					t.Error(err)
				}
			},
			Limit: func(bytes uint64) {
				do(func(s jetstream.Stream) error {
					limited := s.CachedInfo().Config
					limited.MaxBytes = int64(bytes)
					_, err := js.UpdateStream(t.Context(), limited)
					return err
				})
			},
			MaxValue: broker.MaxValue,
			Lags:     cfg.Replicas > 1,
		}
	})
}
