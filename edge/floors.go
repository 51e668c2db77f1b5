package edge

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Floors are what a run is built of, from the lowest up. Each runs until it is
// stopped, the topmost first: so what a floor does while it stops still finds the
// floors below it working. A floor that fails ends the run.
type floors struct {
	ctx  context.Context // ends when the run is to end: a bound on starting, not on what was started
	fail context.CancelCauseFunc
	over chan struct{} // closed then
	when time.Time     // when that was; to be read when over is closed
	down []floor
	at   atomic.Pointer[string] // what the run waits for, by name
}

// A floor is what has to be stopped, by its name.
type floor struct {
	name string
	stop func(limit context.Context) error // should keep to limit
}

// newFloors makes none yet. ending is called once, when the run is to end.
func newFloors(parent context.Context, ending func()) *floors {
	f := &floors{over: make(chan struct{})}
	f.waitsFor("start")
	f.ctx, f.fail = context.WithCancelCause(parent)
	context.AfterFunc(f.ctx, func() {
		f.when = time.Now()
		ending()
		close(f.over)
	})
	return f
}

// start puts a floor on top: run until its own context ends.
func (f *floors) start(what string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(f.ctx))
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := run(ctx); err != nil {
			f.fail(fmt.Errorf("%s: %w", what, err))
		}
	}()
	f.onStop(what, func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// onStop puts on top what has only an end, which should keep to limit.
func (f *floors) onStop(what string, stop func(limit context.Context) error) {
	f.down = append(f.down, floor{what, stop})
}

// waitsFor notes what the run waits for, for whoever asks what hangs (C19).
func (f *floors) waitsFor(what string) { f.at.Store(&what) }

// ended returns when the run was told to end; it is told now if it was not yet.
func (f *floors) ended() time.Time {
	f.fail(nil)
	<-f.over
	return f.when
}

// stop stops all floors from the top down. Its error joins theirs with what made
// the run fail, if that was what ended it.
func (f *floors) stop(limit context.Context) error {
	var errs []error
	if cause := context.Cause(f.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		errs = append(errs, cause)
	}
	for i := len(f.down) - 1; i >= 0; i-- {
		f.waitsFor(f.down[i].name)
		errs = append(errs, f.down[i].stop(limit))
	}
	f.waitsFor("")
	return errors.Join(errs...)
}
