package certs

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is the shortest time between two checks of the files by Now.
const lookEvery = time.Second

// A Keeper holds the last valid content of its files. Invalid files, as when only one of two
// is written yet, change nothing and are logged, once per such state. Its methods may be
// called from any goroutine. It has no goroutine of its own, and checks the files only when
// called.
type Keeper struct {
	files Files
	log   *slog.Logger
	held  atomic.Pointer[Held]
	next  atomic.Int64 // when Now checks again, in time since since
	born  time.Time

	looking sync.Mutex
	trouble string // what was wrong at the last check, and was logged
}

// Keep reads the files for the first time. Its errors are those of [Read].
func Keep(f Files, log *slog.Logger) (*Keeper, error) {
	held, err := Read(f)
	if err != nil {
		return nil, err
	}
	k := &Keeper{files: f, log: log, born: time.Now()}
	k.held.Store(held)
	k.next.Store(int64(lookEvery))
	return k, nil
}

// Now returns the current content. It first checks the files, at most once per second;
// concurrent callers do not wait for the check.
func (k *Keeper) Now() *Held {
	now := int64(time.Since(k.born))
	if next := k.next.Load(); now >= next && k.next.CompareAndSwap(next, now+int64(lookEvery)) {
		if k.looking.TryLock() { // otherwise another caller still waits for the disk
			k.look()
			k.looking.Unlock()
		}
	}
	return k.held.Load()
}

// Look checks the files at once, and takes over what is new in them.
func (k *Keeper) Look() {
	k.looking.Lock()
	defer k.looking.Unlock()
	k.look()
}

// look implements Look. k.looking must be held.
func (k *Keeper) look() {
	before := k.held.Load()
	text, err := k.files.read()
	if err == nil && text == before.text {
		k.calm()
		return
	}
	var held *Held
	if err == nil {
		held, err = text.parse(k.files)
	}
	if err != nil {
		if k.trouble != err.Error() {
			k.trouble = err.Error()
			k.log.Error("renewed certificate files are of no use, keeping the old ones", "error", err)
		}
		return
	}
	k.calm()
	k.held.Store(held)
	var facts []any
	if held.Pair != nil {
		leaf := held.Pair.Leaf
		facts = append(facts, "certificate", k.files.Cert, "serial", leaf.SerialNumber.Text(16), "expires", leaf.NotAfter.UTC())
		if why := Expiry(leaf, time.Now()); why != "" {
			k.log.Warn("certificate not valid now", "certificate", k.files.Cert, "warning", why)
		}
	}
	if held.CA != nil {
		facts = append(facts, "authorities", k.files.CA)
	}
	k.log.Info("certificate files renewed", facts...)
}

// calm ends a logged problem.
func (k *Keeper) calm() {
	if k.trouble != "" {
		k.trouble = ""
		k.log.Info("certificate files are valid again")
	}
}
