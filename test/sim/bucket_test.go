package sim

import (
	"context"
	"errors"
	"testing"
	"time"

	"herd/broker"
	"herd/edge/journal"
	"herd/edge/journal/storetest"
)

// back makes a journal.Store of a bucket of the model, as an edge does.
type back struct{ bucket }

var _ journal.Store = back{}

func ours(err error) error {
	if e, ok := errors.AsType[*broker.EntryError](err); ok {
		return &journal.EntryError{Index: e.Index, Err: e.Err}
	}
	for _, same := range []struct{ theirs, ours error }{
		{broker.ErrNoJetStream, journal.ErrNone}, {broker.ErrUnfit, journal.ErrUnfit},
		{broker.ErrRefused, journal.ErrRefused}, {broker.ErrFull, journal.ErrFull},
	} {
		if errors.Is(err, same.theirs) {
			return same.ours
		}
	}
	return err
}

func (b back) Open(ctx context.Context) error { return ours(b.bucket.Open(ctx)) }

func (b back) Owner(ctx context.Context) (string, uint64, error) {
	epoch, sequence, err := b.bucket.Owner(ctx)
	return epoch, sequence, ours(err)
}

func (b back) Own(ctx context.Context, epoch string, expect uint64) (uint64, error) {
	sequence, err := b.bucket.Own(ctx, epoch, expect)
	return sequence, ours(err)
}

func (b back) Read(ctx context.Context, after uint64, f func(journal.Entry)) (journal.State, error) {
	s, err := b.bucket.Read(ctx, after, func(e broker.BucketEntry) { f(journal.Entry(e)) })
	return backState(s), ours(err)
}

func (b back) State(ctx context.Context) (journal.State, error) {
	s, err := b.bucket.State(ctx)
	return backState(s), ours(err)
}

func backState(s broker.BucketState) journal.State {
	return journal.State{ID: s.ID, Last: s.Last, Owner: s.Owner, Messages: s.Messages, Bytes: s.Bytes, MaxBytes: s.MaxBytes, Replicas: s.Replicas, Copies: s.Copies}
}

func (b back) Write(ctx context.Context, last uint64, entries []journal.Entry) (uint64, error) {
	return backChange(ctx, b.bucket.Write, last, entries)
}

func (b back) Delete(ctx context.Context, last uint64, entries []journal.Entry) (uint64, error) {
	return backChange(ctx, b.bucket.Delete, last, entries)
}

func backChange(ctx context.Context, do func(context.Context, uint64, []broker.BucketEntry) (uint64, error), last uint64, entries []journal.Entry) (uint64, error) {
	theirs := make([]broker.BucketEntry, len(entries))
	for i, e := range entries {
		theirs[i] = broker.BucketEntry(e)
	}
	newLast, err := do(ctx, last, theirs)
	for i := range theirs {
		entries[i].Sequence = theirs[i].Sequence
	}
	return newLast, ours(err)
}

// D5, D6: the model's bucket is no more lenient than JetStream, which passes the same suite.
func TestTheModelsBucketIsAStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Subject {
		f := storetest.NewFake()
		f.Cost(20*time.Microsecond, 0)
		way := func() journal.Store {
			c := &conn{r: &run{store: f.Client()}}
			return back{c.Bucket(broker.BucketConfig{}).(bucket)}
		}
		f.MaxValue(1280)
		return storetest.Subject{Store: way(), Twin: way(), Put: f.Put, Remove: f.Remove, Purge: f.Purge, Destroy: f.Destroy, Limit: f.Limit, MaxValue: 1280}
	})
}
