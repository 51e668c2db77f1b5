package edge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"herd/broker"
	"herd/edge/journal"
)

// store is the broker's bucket in the journal's words.
type store struct {
	bucket Bucket
	came   *atomic.Uint64 // entries that were read
}

var _ journal.Store = store{}

func (s store) Open(ctx context.Context) error { return inJournalsWords(s.bucket.Open(ctx)) }

func (s store) Owner(ctx context.Context) (epoch string, sequence uint64, err error) {
	epoch, sequence, err = s.bucket.Owner(ctx)
	return epoch, sequence, inJournalsWords(err)
}

func (s store) Own(ctx context.Context, epoch string, expect uint64) (sequence uint64, err error) {
	sequence, err = s.bucket.Own(ctx, epoch, expect)
	return sequence, inJournalsWords(err)
}

func (s store) Read(ctx context.Context, after uint64, f func(journal.Entry)) (journal.State, error) {
	state, err := s.bucket.Read(ctx, after, func(e broker.BucketEntry) {
		s.came.Add(1)
		f(journal.Entry(e))
	})
	return journalState(state), inJournalsWords(err)
}

func (s store) Write(ctx context.Context, last uint64, entries []journal.Entry) (newLast uint64, err error) {
	return change(ctx, s.bucket.Write, last, entries)
}

func (s store) Delete(ctx context.Context, last uint64, entries []journal.Entry) (newLast uint64, err error) {
	return change(ctx, s.bucket.Delete, last, entries)
}

func (s store) State(ctx context.Context) (journal.State, error) {
	state, err := s.bucket.State(ctx)
	return journalState(state), inJournalsWords(err)
}

// change has the bucket write or delete the entries, and takes over their sequences.
func change(ctx context.Context, do func(context.Context, uint64, []broker.BucketEntry) (uint64, error), last uint64, entries []journal.Entry) (newLast uint64, err error) {
	theirs := make([]broker.BucketEntry, len(entries))
	for i, e := range entries {
		theirs[i] = broker.BucketEntry(e)
	}
	if newLast, err = do(ctx, last, theirs); err != nil {
		return 0, inJournalsWords(err)
	}
	for i := range theirs {
		entries[i].Sequence = theirs[i].Sequence
	}
	return newLast, nil
}

func journalState(b broker.BucketState) journal.State {
	return journal.State{ID: b.ID, Last: b.Last, Owner: b.Owner, Messages: b.Messages, Bytes: b.Bytes, MaxBytes: b.MaxBytes, Replicas: b.Replicas, Copies: b.Copies}
}

// inJournalsWords lets the journal decide by its own errors.
func inJournalsWords(err error) error {
	if e, ok := errors.AsType[*broker.EntryError](err); ok {
		return &journal.EntryError{Index: e.Index, Err: e.Err}
	}
	for _, same := range []struct{ theirs, ours error }{
		{broker.ErrNoJetStream, journal.ErrNone},
		{broker.ErrUnfit, journal.ErrUnfit},
		{broker.ErrRefused, journal.ErrRefused},
		{broker.ErrFull, journal.ErrFull},
	} {
		if errors.Is(err, same.theirs) {
			return fmt.Errorf("%w: %w", same.ours, err)
		}
	}
	return err
}
