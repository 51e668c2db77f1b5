// Package journal writes the positions of this edge's own clients to a store that outlives
// the edge (D1–D6): one entry per client, with the newest line that the edge holds.
//
// The journal is one more cursor into the table's order of changes: the store lacks what is
// behind the cursor. Writes are conflated, do not block clients, and are retried until the
// store acknowledges them.
//
// The store is owned by one run of an edge (D5). A run first becomes the owner, then reads the
// whole store, and only then writes. Each write expects the last sequence of the store that
// this run knows. So a run never overwrites what it has not read, and the writes of a run that
// was replaced are refused. A machine keeps these rules; Run makes the calls it asks for.
//
// The package knows the table and a Store. It knows nothing of NATS. Of clients it knows only
// that some wait until their line is kept.
//
// A refused IAMAT may still take effect: its line is in the table and spreads over the links.
// It may be stored later, or may have been stored already if only the store's answer was lost.
// Nothing is promised about it either way (D3).
package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"herd/edge/position"
)

// Config configures a Journal.
type Config struct {
	Table *position.Table
	Store Store
	Log   *slog.Logger

	// Epoch is the epoch of this run (H3), under which it owns the store.
	Epoch string
	// Regain claims the run's name again after the store turned out to have another owner or
	// none (D5). If it returns nil, this run has the name and takes the store as at a start.
	// If it returns an error, Run ends with it. It may take long, and ends with its context.
	// If Regain is nil, the run always has the name.
	Regain func(context.Context) error
	// RetainNow returns the time, in Unix nanoseconds, by which HERD_RETAIN is judged (S4).
	// If it is nil, the wall clock is used.
	RetainNow func() int64

	// Collect is how long changes collect before they are written; 0 means not at all. They
	// are written without this rest if the store lacks changes older than about a second, or
	// if nothing new comes.
	Collect time.Duration

	// Wrote is called with the duration of each acknowledged write. It must not block. It may
	// be nil.
	Wrote func(took time.Duration)
}

// A Journal keeps the clients of one edge. All methods except Run may be called from any
// goroutine.
type Journal struct {
	machine
	check  chan struct{} // the broker connection was re-established
	delete chan struct{} // there is something to delete
	hurry  chan struct{} // the edge stops: changes no longer collect
	ended  chan struct{} // closed when Run has returned
}

// New returns a Journal that does nothing until Run is called.
func New(cfg Config) *Journal {
	if cfg.RetainNow == nil {
		cfg.RetainNow = func() int64 { return time.Now().UnixNano() }
	}
	if cfg.Regain == nil {
		cfg.Regain = func(context.Context) error { return nil }
	}
	if cfg.Wrote == nil {
		cfg.Wrote = func(time.Duration) {}
	}
	j := &Journal{check: make(chan struct{}, 1), delete: make(chan struct{}, 1), hurry: make(chan struct{}, 1), ended: make(chan struct{})}
	j.machine.init(cfg)
	return j
}

// Loaded returns a channel that is closed once the store's contents are in the table (D2).
func (j *Journal) Loaded() <-chan struct{} { return j.loaded }

// None returns a channel that is closed once there turned out to be no store. A store may
// still appear later.
func (j *Journal) None() <-chan struct{} { return j.none }

// Reconnected makes Run check the store's state, which may have gone back (D5).
func (j *Journal) Reconnected() { signal(j.check) }

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Lag returns the number of revisions behind the cursor. Not all of them are this edge's own,
// so the store lacks at most that many.
func (j *Journal) Lag() uint64 {
	head, cursor := j.cfg.Table.Head(), j.cursor.Load()
	return head - min(head, cursor)
}

// Stats is the state of a journal at one moment.
type Stats struct {
	Up  bool  // the last write was acknowledged, or there was nothing to write
	Err error // why the journal is not up, or is nearly full; nil if neither
	// DownSince is when it was last up, or first tried in vain; zero if it is up or was not
	// tried yet.
	DownSince time.Time
	UpSince   time.Time // since when it is up; zero if it is not
	// NearlyFull says that new clients are not taken (D6). LeftOut is how many are left out.
	NearlyFull bool
	LeftOut    int
	Full       float64 // used share of the store's limit at the last check, 0 to 1; 0: no limit
	Replicas   int     // configured copies of the store; 0: not known yet
	Copies     int     // copies that were up to date at the last check
	Skipped    uint64  // lines that the store will never take (D6)
	Lag        uint64  // see Journal.Lag; 0 before the first load
	// Since the start:
	Writes uint64 // acknowledged writes, of one line or more each
	Errors uint64 // failed calls of the store
}

// Stats returns the present state of the journal.
func (j *Journal) Stats() Stats {
	s := Stats{Up: j.up.Load(), NearlyFull: j.nearlyFull.Load(), Skipped: j.skipped.Load(), Full: math.Float64frombits(j.used.Load()),
		Replicas: int(j.replicas.Load()), Copies: int(j.copies.Load()),
		Writes: j.writes.Load(), Errors: j.errors.Load()}
	if since := j.downSince.Load(); since != nil {
		s.DownSince = *since
	}
	if since := j.upSince.Load(); s.Up && since != nil {
		s.UpSince = *since
	}
	select {
	case <-j.loaded:
		s.Lag = j.Lag()
	default:
	}
	switch why := j.why.Load(); {
	case why != nil:
		s.Err = *why
	case s.NearlyFull:
		s.Err = errNearlyFull
	}
	if s.NearlyFull {
		own, held := j.cfg.Table.OwnClients()
		s.LeftOut = own - held
	}
	return s
}

// Run becomes the owner of the store, reads it, and then writes to it until ctx ends. It
// returns an error only if the run has lost its name. Calls of the store that fail are retried.
func (j *Journal) Run(ctx context.Context) error {
	defer close(j.ended)
	defer j.awaits.close(errEnded)
	reader := position.NewReader()
	var e event
	for ctx.Err() == nil {
		select {
		case <-j.check:
			e.reconnected = true
		default:
		}
		t := j.step(time.Now(), e)
		e = event{call: t.call}
		switch t.call {
		case end:
			return fmt.Errorf("the journal's store: %w", j.lost)
		case rest:
			e.reconnected = j.wait(ctx, t, reader)
		default:
			j.do(ctx, t, &e)
		}
	}
	return nil
}

// wait rests until t.until, or until something happens that t waits for.
func (j *Journal) wait(ctx context.Context, t task, reader *position.Reader) (reconnected bool) {
	timer := time.NewTimer(time.Until(t.until))
	defer timer.Stop()
	var changes <-chan struct{}
	if t.changes {
		j.cfg.Table.Wait(reader, j.cursor.Load())
		changes = reader.C
	}
	var forgotten <-chan struct{}
	if t.forgotten {
		forgotten = j.delete
	}
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-changes:
	case <-forgotten:
	case <-j.hurry:
	case <-j.check:
		return true
	}
	return false
}

// do makes one call and records its result in e.
func (j *Journal) do(ctx context.Context, t task, e *event) {
	s := j.cfg.Store
	switch t.call {
	case callRegain:
		e.err = j.cfg.Regain(ctx)
		return
	case callRead, callScan:
		j.read(ctx, t, e)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, t.limit)
	defer cancel()
	switch t.call {
	case callOpen:
		e.err = s.Open(ctx)
	case callOwner:
		e.epoch, e.sequence, e.err = s.Owner(ctx)
	case callOwn:
		e.sequence, e.err = s.Own(ctx, j.cfg.Epoch, t.sequence)
	case callState:
		e.state, e.err = s.State(ctx)
	case callWrite:
		e.sequence, e.err = s.Write(ctx, t.sequence, t.entries)
	case callDelete:
		e.sequence, e.err = s.Delete(ctx, t.sequence, t.entries)
	}
}

// errQuiet is the cause with which a read is cancelled when no entries come.
var errQuiet = errors.New("nothing came")

// read reads the store for as long as entries come (D6) and the machine wants more.
func (j *Journal) read(ctx context.Context, t task, e *event) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(t.limit, func() { cancel(errQuiet) })
	defer quiet.Stop()
	e.state, e.err = j.cfg.Store.Read(ctx, t.sequence, func(entry Entry) {
		quiet.Reset(t.limit)
		if e.enough {
			return
		}
		if more := j.entry(&entry); !more && t.call == callScan {
			e.enough = true
			cancel(nil)
		}
	})
	if e.err != nil && errors.Is(context.Cause(ctx), errQuiet) {
		e.err = fmt.Errorf("%w for %v: %w", errQuiet, t.limit, e.err)
	}
}

// Flush waits until the store holds every line of this edge's own clients that is in the table
// now, and the store's state was checked after that (C19, D5). If the journal was never loaded,
// it returns nil at once. Its errors say what the store lacks. Once Flush is called, changes no
// longer collect.
func (j *Journal) Flush(ctx context.Context) error {
	select {
	case <-j.loaded:
	default:
		return nil
	}
	j.flushed.Store(true)
	done := j.awaits.past(j.cfg.Table.Head())
	signal(j.hurry)
	select {
	case <-done:
	case <-j.ended:
		return errEnded
	case <-ctx.Done():
		if why := j.why.Load(); why != nil {
			return fmt.Errorf("the journal was not completed, %d revisions behind: %w: %w", j.Lag(), *why, ctx.Err())
		}
		return fmt.Errorf("the journal was not completed, %d revisions behind: %w", j.Lag(), ctx.Err())
	}
	if s := j.Stats(); s.LeftOut > 0 {
		return fmt.Errorf("%d clients are not in the journal: %w", s.LeftOut, errNearlyFull)
	}
	return nil
}
