package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herd/broker"
	"herd/edge"
	"herd/edge/journal"
	"herd/edge/journal/storetest"
)

// A bucket is an edge.Bucket over the store that the journal's tests have, which passes the
// same suite as JetStream.
type bucket struct {
	*storetest.Client
	c     *conn
	clock func(clock, at time.Time)
}

func (c *conn) Bucket(cfg broker.BucketConfig) edge.Bucket {
	clock := cfg.Clock
	if clock == nil {
		clock = func(time.Time, time.Time) {}
	}
	return bucket{c.r.store, c, clock}
}

func (b bucket) tell() { now := time.Now(); b.clock(now, now) }

func (b bucket) Open(ctx context.Context) error { return theirs(b.Client.Open(ctx)) }

func (b bucket) Owner(ctx context.Context) (string, uint64, error) {
	epoch, sequence, err := b.Client.Owner(ctx)
	return epoch, sequence, theirs(err)
}

func (b bucket) Own(ctx context.Context, epoch string, expect uint64) (uint64, error) {
	if b.c.w != nil { // the suite of stores has no herd
		b.c.w.checkOwn(b.c.r)
	}
	sequence, err := b.Client.Own(ctx, epoch, expect)
	return sequence, theirs(err)
}

func (b bucket) Read(ctx context.Context, after uint64, f func(broker.BucketEntry)) (broker.BucketState, error) {
	s, err := b.Client.Read(ctx, after, func(e journal.Entry) { f(broker.BucketEntry(e)) })
	if err == nil {
		b.tell()
	}
	return state(s), theirs(err)
}

func (b bucket) Write(ctx context.Context, last uint64, entries []broker.BucketEntry) (uint64, error) {
	return change(ctx, b.Client.Write, last, entries)
}

func (b bucket) Delete(ctx context.Context, last uint64, entries []broker.BucketEntry) (uint64, error) {
	return change(ctx, b.Client.Delete, last, entries)
}

func (b bucket) State(ctx context.Context) (broker.BucketState, error) {
	s, err := b.Client.State(ctx)
	if err == nil {
		b.tell()
	}
	return state(s), theirs(err)
}

func change(ctx context.Context, do func(context.Context, uint64, []journal.Entry) (uint64, error), last uint64, entries []broker.BucketEntry) (uint64, error) {
	ours := make([]journal.Entry, len(entries))
	for i, e := range entries {
		ours[i] = journal.Entry(e)
	}
	newLast, err := do(ctx, last, ours)
	for i := range ours {
		entries[i].Sequence = ours[i].Sequence
	}
	return newLast, theirs(err)
}

func state(s journal.State) broker.BucketState {
	return broker.BucketState{ID: s.ID, Last: s.Last, Owner: s.Owner, Messages: s.Messages, Bytes: s.Bytes, MaxBytes: s.MaxBytes, Replicas: s.Replicas, Copies: s.Copies}
}

// theirs is a store's error as the broker says it.
func theirs(err error) error {
	if e, ok := errors.AsType[*journal.EntryError](err); ok {
		return &broker.EntryError{Index: e.Index, Err: e.Err}
	}
	for _, same := range []struct{ ours, theirs error }{
		{journal.ErrNone, broker.ErrNoJetStream}, {journal.ErrUnfit, broker.ErrUnfit},
		{journal.ErrRefused, broker.ErrRefused}, {journal.ErrFull, broker.ErrFull},
	} {
		if errors.Is(err, same.ours) {
			return fmt.Errorf("%w: %w", same.theirs, err)
		}
	}
	return err
}
