package journal

import (
	"context"
	"errors"
	"fmt"
)

// An Entry is one key of a store.
type Entry struct {
	Key      string
	Value    []byte
	Marker   bool   // Read only: the key was deleted; Value is nil
	Expect   uint64 // Write, Delete: the key's last sequence; 0: not checked
	Sequence uint64 // of the key's last message; set by Read, and by Write and Delete on success
}

// A State identifies a store and says how far it has come (D5).
type State struct {
	ID       string // of one life of the store: when it was created
	Last     uint64 // the last sequence; only grows within a life
	Owner    uint64 // the sequence of the owner's entry; 0: none
	Messages uint64 // held messages: entries, markers and the owner's entry
	Bytes    uint64 // size of these messages
	MaxBytes uint64 // 0: no limit
	Replicas int    // configured copies; 0: not known
	Copies   int    // copies that are up to date
}

// A Store keeps entries, and the epoch of the run that owns it (D5). Calls end with their
// context. A call that fails may still have taken effect.
//
// An Expect of 0 checks nothing about the key. Every write and deletion expects the store's
// last sequence, so it is refused anyway if there is a message that this run has not read. A
// key that the run has never seen therefore needs no read of its own.
type Store interface {
	// Open finds or creates the store, and corrects limits by which it might drop what it
	// acknowledged. It returns ErrNone if there can be no store here, and ErrUnfit (wrapped,
	// with the limit's name) if such a limit could not be corrected.
	Open(ctx context.Context) error
	// Owner returns the epoch that owns the store and the sequence that Own must expect. The
	// epoch is "" if the store has no owner or does not exist.
	Owner(ctx context.Context) (epoch string, sequence uint64, err error)
	// Own makes epoch the owner if the sequence of the owner's entry is still expect.
	// Otherwise it returns ErrRefused.
	Own(ctx context.Context, epoch string, expect uint64) (sequence uint64, err error)
	// Read calls f for each entry and marker with a sequence above after, in order, until the
	// leader has nothing newer. It leaves out the owner's entry. A key may come twice, the
	// newer last. An entry's Value is valid until f returns. Read returns the state at its
	// end; everything through State.Last was read. It has no time limit of its own: it goes
	// on while entries come.
	Read(ctx context.Context, after uint64, f func(Entry)) (State, error)
	// Write writes all entries or none. It writes them if the store's last sequence is last,
	// and the last sequence of each key whose Expect is not 0 is its Expect. It sets their
	// Sequence. Its errors are ErrRefused if one of these does not hold, ErrFull if the store
	// has no room, and *EntryError if the store will never take that entry.
	Write(ctx context.Context, last uint64, entries []Entry) (newLast uint64, err error)
	// Delete replaces all entries by markers or none, under the same conditions as Write.
	Delete(ctx context.Context, last uint64, entries []Entry) (newLast uint64, err error)
	// State returns the store's present state, or the zero State if there is no store. It
	// returns ErrUnfit if the store was changed since Open in a way that makes it unfit.
	State(ctx context.Context) (State, error)
}

var (
	// ErrNone is returned if there can be no store here.
	ErrNone = errors.New("no store for the journal here")
	// ErrUnfit is returned if the store may drop what it acknowledged (D5).
	ErrUnfit = errors.New("the store may drop what it acknowledged")
	// ErrRefused is returned if the store holds a message that the writer has not seen. Nothing
	// was stored.
	ErrRefused = errors.New("the journal has something newer")
	// ErrFull is returned if the store has no room. Nothing was stored.
	ErrFull = errors.New("the journal's store is full")
)

// An EntryError names the entry of a write or deletion that the store will never take. Nothing
// was stored.
type EntryError struct {
	Index int // in the entries of the call
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %d: %v", e.Index, e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }
