// Package journal keeps what this edge's own clients told in a store that outlives the
// edge (D1–D5): one entry a client, the newest line that the edge holds.
//
// It is one more cursor into the table's order of changes: what the store
// lacks is what is behind the cursor. Writing conflates, is never in a client's way,
// and is retried until it is acknowledged. Every write expects the last sequence that it
// saw of its key, so that nothing newer is ever overwritten: not by a late write of a dead
// run, not after the store went back.
//
// It knows the table and a Store. It knows nothing of NATS, and of clients only
// that some wait for their line to be kept.
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"herd/edge/position"
)

// An Entry is one key of the store.
type Entry struct {
	Key      string
	Value    []byte
	Expect   uint64 // for a write: the last sequence seen of the key; 0: none
	Sequence uint64 // of the key's last write
}

// A State is what a store is, and how far it has come: a store that is another, or
// whose Last is less than what was acknowledged, has gone back (D5).
type State struct {
	ID   string
	Last uint64
}

// A Store keeps entries. Its calls end with their context; any may fail and may yet
// have taken effect.
type Store interface {
	// Open finds or makes the store. ErrNone: there can be none here.
	Open(ctx context.Context) error
	// Load calls f with every entry, whose Value is good until f returns, and returns
	// the state as of before.
	Load(ctx context.Context, f func(Entry)) (State, error)
	// Write writes all entries or none, each only if its key's last sequence is Expect,
	// and sets their Sequence. ErrRefused: an expectation did not hold.
	Write(ctx context.Context, entries []Entry) (last uint64, err error)
	// Get returns a key's newest entry. Where there is none, Sequence is what a write
	// must expect.
	Get(ctx context.Context, key string) (entry Entry, ok bool, err error)
	// Delete removes the keys whose last sequence is still Expect.
	Delete(ctx context.Context, entries []Entry) error
	// State returns the store's present state.
	State(ctx context.Context) (State, error)
}

var (
	ErrNone    = errors.New("no store for the journal here")
	ErrRefused = errors.New("the journal has something newer")

	errGoneBack = errors.New("the journal's store has gone back")
)

const (
	batchMost  = 1000      // entries of a write
	batchBytes = 512 << 10 // bytes of lines of a write
	callLimit  = 5 * time.Second
	loadLimit  = 2 * time.Minute
	retryFirst = 100 * time.Millisecond
	retryMost  = 5 * time.Second
	lateAfter  = 500 * time.Millisecond // see late
)

// Config is what a Journal is made with.
type Config struct {
	Table *position.Table
	Store Store
	Log   *slog.Logger

	// Collect is how long changes may collect before they are written, where no answer
	// waits for them; 0: not at all. They are written without such rests when the store
	// lacks what is older than a second or so, or nothing new comes.
	Collect time.Duration
}

// A Journal keeps one edge's clients. All methods but Run may be called from any
// goroutine.
type Journal struct {
	cfg    Config
	check  chan struct{} // the connection was made anew: has the store gone back?
	delete chan struct{} // there is something to take out
	hurry  chan struct{} // the edge stops: nothing rests any more
	loaded chan struct{} // closed when the store was merged for the first time
	none   chan struct{} // closed when it first turned out that there is no store
	awaits awaits
	gone   gone

	cursor  atomic.Uint64
	flushed atomic.Bool // Flush was called
	writing atomic.Bool // the last write was acknowledged, or nothing was to be written

	// Run's own:
	state   State
	seen    uint64    // the table's head when it was last read
	recent  uint64    // its head at turned
	old     uint64    // and before that, lateAfter earlier or more
	turned  time.Time // when recent and old were last moved on
	items   []position.Item
	entries []Entry
	room    []byte
	key     []byte
	ops     []position.Op
}

// New makes a Journal. It does nothing until Run.
func New(cfg Config) *Journal {
	return &Journal{cfg: cfg, check: make(chan struct{}, 1), delete: make(chan struct{}, 1), hurry: make(chan struct{}, 1),
		loaded: make(chan struct{}), none: make(chan struct{})}
}

// Loaded is closed when what the store held is in the table (D2).
func (j *Journal) Loaded() <-chan struct{} { return j.loaded }

// None is closed when there turned out to be no store, which may change.
func (j *Journal) None() <-chan struct{} { return j.none }

// Reconnected has the store looked at: it may have gone back (D5).
func (j *Journal) Reconnected() {
	signal(j.check)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Lag is how many revisions the store does not hold yet, at most; own and others'.
func (j *Journal) Lag() uint64 {
	head, cursor := j.cfg.Table.Head(), j.cursor.Load()
	return head - min(head, cursor)
}

// Working says whether the journal could last be written (readiness with D3).
func (j *Journal) Working() bool { return j.writing.Load() }

// Run loads the store and then writes to it until ctx ends. It always returns nil: a
// store that fails is tried again.
func (j *Journal) Run(ctx context.Context) error {
	opened := false
	failing := false
	reader := position.NewReader()
	retry := retryFirst
	for ctx.Err() == nil {
		var err error
		if !opened {
			if err = j.open(ctx); err == nil {
				opened = true
			}
		} else if j.asked() && j.wentBack(ctx) {
			opened = false
			continue
		} else {
			err = j.write(ctx)
		}
		if errors.Is(err, errGoneBack) {
			j.cfg.Log.Warn("the journal's store has gone back: what is known is written anew")
			opened = false
			continue
		}
		if err != nil {
			j.writing.Store(false)
			j.complain(ctx, err, failing)
			failing = true
			if j.sleep(ctx, retry) { // a reconnect: at once
				retry = retryFirst
			} else {
				retry = min(2*retry, retryMost)
			}
			if opened {
				opened = !j.wentBack(ctx)
			}
			continue
		}
		j.writing.Store(true)
		if failing {
			failing = false
			j.cfg.Log.Info("journal written again")
		}
		retry = retryFirst
		if j.cursor.Load() >= j.cfg.Table.Head() && !j.gone.any() {
			j.cfg.Table.Wait(reader, j.cursor.Load())
			select {
			case <-ctx.Done():
			case <-reader.C:
			case <-j.delete:
			case <-j.check:
				opened = !j.wentBack(ctx)
			}
		}
		if j.mayCollect() && j.sleep(ctx, j.cfg.Collect) {
			opened = !j.wentBack(ctx)
		}
	}
	return nil
}

// mayCollect says whether what is to be written may wait for more. A write has a price of
// its own, whatever is in it, and it takes from the machine what answers could have; a client
// that changes again meanwhile is written once. There is nothing to collect where nothing
// comes, and no time where the store is late.
func (j *Journal) mayCollect() bool {
	head := j.cfg.Table.Head()
	return j.cfg.Collect > 0 && !j.flushed.Load() && head != j.seen && !j.late(head)
}

// late says whether the store lacks what is older than once to twice lateAfter.
func (j *Journal) late(head uint64) bool {
	if now := time.Now(); now.Sub(j.turned) >= lateAfter {
		j.old, j.recent, j.turned = j.recent, head, now
	}
	return j.cursor.Load() < j.old
}

// asked says whether a reconnect wants the store looked at.
func (j *Journal) asked() bool {
	select {
	case <-j.check:
		return true
	default:
		return false
	}
}

// sleep waits before another try; a reconnect ends it early, which it reports, and so does
// a Flush.
func (j *Journal) sleep(ctx context.Context, d time.Duration) (reconnected bool) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-j.hurry:
	case <-j.check:
		return true
	}
	return false
}

// complain logs a failure: the first of an outage for people, the others for those who
// look closely.
func (j *Journal) complain(ctx context.Context, err error, again bool) {
	switch {
	case ctx.Err() != nil:
	case errors.Is(err, ErrNone):
		select {
		case <-j.none:
		default:
			close(j.none)
			j.cfg.Log.Warn("no journal: the broker has no JetStream")
		}
	case again:
		j.cfg.Log.Debug("journal", "error", err)
	default:
		j.cfg.Log.Warn("journal not written", "error", err)
	}
}

// wentBack says whether the store is another, or further back than what it has
// acknowledged (D5). Where it cannot be asked it has not: the next reconnect asks again.
func (j *Journal) wentBack(ctx context.Context) bool {
	asking, cancel := context.WithTimeout(ctx, callLimit)
	defer cancel()
	now, err := j.cfg.Store.State(asking)
	if err != nil {
		if !errors.Is(err, ErrNone) {
			return false
		}
		now = State{}
	}
	if now.ID == j.state.ID && now.Last >= j.state.Last {
		return false
	}
	j.cfg.Log.Warn("the journal's store has gone back: what is known is written anew", "was", j.state.ID, "is", now.ID, "acknowledged", j.state.Last, "holds", now.Last)
	return true
}

// open opens the store and merges all of it; nothing is written before (D5).
func (j *Journal) open(ctx context.Context) error {
	opening, cancel := context.WithTimeout(ctx, callLimit)
	err := j.cfg.Store.Open(opening)
	cancel()
	if err != nil {
		return fmt.Errorf("open the journal's store: %w", err)
	}
	return j.load(ctx)
}

// write writes one batch of what is behind the cursor, and takes out what was forgotten.
func (j *Journal) write(ctx context.Context) error {
	deleting, cancel := context.WithTimeout(ctx, callLimit)
	err := j.gone.delete(deleting, j.cfg.Store)
	cancel()
	if err != nil {
		return fmt.Errorf("delete what was forgotten: %w", err)
	}
	through := j.read()
	ctx, cancel = context.WithTimeout(ctx, callLimit)
	defer cancel()
	if len(j.items) > 0 {
		j.entries = j.entries[:0]
		for i := range j.items {
			it := &j.items[i]
			j.key = AppendKey(j.key[:0], it.Client())
			j.entries = append(j.entries, Entry{Key: string(j.key), Value: it.Line[:len(it.Line)-1], Expect: it.Sequence})
		}
		last, err := j.cfg.Store.Write(ctx, j.entries)
		if errors.Is(err, ErrRefused) {
			return j.mend(ctx)
		}
		if err != nil {
			return fmt.Errorf("write %d entries: %w", len(j.entries), err)
		}
		// A store that went back while it was written to takes the write, and shows it
		// by where the write begins.
		if last-uint64(len(j.entries)) < j.state.Last {
			return errGoneBack
		}
		j.state.Last = last
		for i := range j.items {
			j.items[i].Sequence = j.entries[i].Sequence
		}
		j.cfg.Table.Keep(j.items)
	}
	j.cursor.Store(through)
	j.awaits.kept(j.items)
	j.awaits.passed(through)
	return nil
}

// read makes a batch of what is behind the cursor, and returns the cursor's next place. The
// table gives a piece at a time: in a herd most lines are not this edge's own.
func (j *Journal) read() (through uint64) {
	j.items, j.room = j.items[:0], j.room[:0]
	through = j.cursor.Load()
	now := time.Now().UnixNano()
	for {
		var span position.Span
		j.items, j.room, span = j.cfg.Table.ReadOwn(j.items, j.room, through, batchMost-len(j.items), batchBytes-len(j.room), now)
		j.seen = span.Head
		full := span.Through == through
		if through = span.Through; len(j.items) == 0 { // a write that fails need not look at it again
			j.cursor.Store(through)
		}
		if full || through == span.Head {
			return through
		}
	}
}

// Flush returns when the store holds all that the table holds now of this edge's own
// (C19), at once where there never was a store; or ctx's error. From then on changes do not
// collect.
func (j *Journal) Flush(ctx context.Context) error {
	select {
	case <-j.loaded:
	default:
		return nil
	}
	j.flushed.Store(true)
	signal(j.hurry)
	head := j.cfg.Table.Head()
	done := j.awaits.past(head)
	if j.cursor.Load() >= head {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%d revisions are not in the journal: %w", j.Lag(), ctx.Err())
	}
}
