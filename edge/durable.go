package edge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"herd/broker"
	"herd/edge/command"
	"herd/edge/journal"
	"herd/edge/position"
)

// What HERD_JOURNAL and HERD_DURABILITY say.
const (
	journalOff     = "off"
	journalOn      = "on"
	promiseJournal = "journal"
)

// journalCollect is for how long changes collect before they are written to the journal
// where no answer waits for it: a write costs as much as some hundred entries more.
const journalCollect = 250 * time.Millisecond

// makeJournal makes the journal over the broker's bucket, unless it is off (D1, D4).
func (e *Edge) makeJournal() {
	if e.cfg.Journal == journalOff {
		return
	}
	bucket := e.conn.Bucket(broker.BucketConfig{
		Prefix: e.cfg.SubjectPrefix, Edge: e.cfg.Edge,
		Replicas: e.cfg.JournalReplicas, Storage: e.cfg.JournalStorage,
	})
	cfg := journal.Config{Table: e.table, Store: store{bucket}, Log: e.log}
	if e.cfg.Durability != promiseJournal {
		cfg.Collect = journalCollect
	}
	e.journal = journal.New(cfg)
}

// keepJournal runs the journal from when the name is this run's: one run writes it (D5, H10).
func (e *Edge) keepJournal(ctx context.Context) error {
	select {
	case <-e.named:
		return e.journal.Run(ctx)
	case <-ctx.Done():
		return nil
	}
}

// awaitJournal waits until the journal is loaded (D2). With HERD_JOURNAL=auto it waits
// only where there is one, and no longer than a join may take (H7).
func (e *Edge) awaitJournal(ctx context.Context) {
	if e.journal == nil {
		return
	}
	var none <-chan struct{}
	var limit <-chan time.Time
	tick := time.NewTicker(e.cfg.JoinTimeout)
	defer tick.Stop()
	var quiet <-chan time.Time
	if e.cfg.Journal != journalOn {
		none, quiet = e.journal.None(), tick.C
		timer := time.NewTimer(joinLimit)
		defer timer.Stop()
		limit = timer.C
	}
	for head := e.table.Head(); ; head = e.table.Head() {
		select {
		case <-e.journal.Loaded():
			return
		case <-none:
			return
		case <-ctx.Done():
			return
		case <-quiet:
			if e.table.Head() != head {
				continue // it is coming
			}
		case <-limit:
		}
		e.log.Warn("goes on without the journal's clients: it does not answer")
		return
	}
}

// promises is the journal for commands, where an answer promises that it holds the
// line (D3); a nil interface where not.
func (e *Edge) promises() command.Journal {
	if e.cfg.Durability != promiseJournal {
		return nil
	}
	return promise{e}
}

// A promise finds the journal when it is needed: it is made before the first client comes.
type promise struct{ e *Edge }

func (p promise) Await(ctx context.Context, lines []position.Ref) error {
	return p.e.journal.Await(ctx, lines)
}

// store is the broker's bucket in the journal's words.
type store struct{ bucket *broker.Bucket }

func (s store) Open(ctx context.Context) error { return inJournalsWords(s.bucket.Open(ctx)) }

func (s store) Load(ctx context.Context, f func(journal.Entry)) (journal.State, error) {
	state, err := s.bucket.Load(ctx, func(e broker.BucketEntry) { f(journal.Entry(e)) })
	return journal.State(state), inJournalsWords(err)
}

func (s store) Write(ctx context.Context, entries []journal.Entry) (last uint64, err error) {
	theirs := bucketEntries(entries)
	last, err = s.bucket.Write(ctx, theirs)
	for i := range theirs {
		entries[i].Sequence = theirs[i].Sequence
	}
	return last, inJournalsWords(err)
}

func (s store) Get(ctx context.Context, key string) (journal.Entry, bool, error) {
	e, ok, err := s.bucket.Get(ctx, key)
	return journal.Entry(e), ok, inJournalsWords(err)
}

func (s store) Delete(ctx context.Context, entries []journal.Entry) error {
	return inJournalsWords(s.bucket.Delete(ctx, bucketEntries(entries)))
}

func (s store) State(ctx context.Context) (journal.State, error) {
	state, err := s.bucket.State(ctx)
	return journal.State(state), inJournalsWords(err)
}

func bucketEntries(entries []journal.Entry) []broker.BucketEntry {
	theirs := make([]broker.BucketEntry, len(entries))
	for i, e := range entries {
		theirs[i] = broker.BucketEntry(e)
	}
	return theirs
}

// inJournalsWords lets the journal decide by its own errors.
func inJournalsWords(err error) error {
	switch {
	case errors.Is(err, broker.ErrNoJetStream):
		return fmt.Errorf("%w: %w", journal.ErrNone, err)
	case errors.Is(err, broker.ErrRefused):
		return fmt.Errorf("%w: %w", journal.ErrRefused, err)
	}
	return err
}
