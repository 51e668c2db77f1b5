package certs

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// lookEvery is how often Now looks at the files at the most.
const lookEvery = time.Second

// A Keeper holds what its files held when they last made sense. Files that do not, as
// when only one of two is written yet, change nothing but the log, where each such
// state is told once. Its methods may be called from any goroutine; it has none of its
// own, and looks at the files only when it is asked.
type Keeper struct {
	files Files
	log   *slog.Logger
	held  atomic.Pointer[Held]
	next  atomic.Int64 // when Now looks again, by since
	born  time.Time

	looking sync.Mutex
	trouble string // what was wrong at the last look, and was logged
}

// Keep reads the files for the first time; its errors are those of [Read].
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

// Now returns what is held. At most once a second it looks at the files before; who
// asks meanwhile does not wait.
func (k *Keeper) Now() *Held {
	now := int64(time.Since(k.born))
	if next := k.next.Load(); now >= next && k.next.CompareAndSwap(next, now+int64(lookEvery)) {
		if k.looking.TryLock() { // else someone still waits for the disk
			k.look()
			k.looking.Unlock()
		}
	}
	return k.held.Load()
}

// Look reads the files at once, and holds what is new in them.
func (k *Keeper) Look() {
	k.looking.Lock()
	defer k.looking.Unlock()
	k.look()
}

// look is Look; k.looking is held.
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
			k.log.Error("renewed certificate files are of no use, the old ones stay", "error", err)
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
			k.log.Warn("a certificate that is not good now", "certificate", k.files.Cert, "warning", why)
		}
	}
	if held.CA != nil {
		facts = append(facts, "authorities", k.files.CA)
	}
	k.log.Info("certificate files renewed", facts...)
}

// calm ends a trouble that was logged.
func (k *Keeper) calm() {
	if k.trouble != "" {
		k.trouble = ""
		k.log.Info("certificate files are in order again")
	}
}
