package edge

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Floors are what a run is built of, from the lowest up. Each runs until it is
// stopped, the topmost first: so what a floor does while it stops still finds the
// floors below it working. A floor that fails ends the run.
type floors struct {
	ctx  context.Context // ends when the run is to end: a bound on starting, not on what was started
	fail context.CancelCauseFunc
	end  chan time.Time // holds when that was
	down []func(limit context.Context) error
}

func newFloors(parent context.Context) *floors {
	f := &floors{end: make(chan time.Time, 1)}
	f.ctx, f.fail = context.WithCancelCause(parent)
	context.AfterFunc(f.ctx, func() { f.end <- time.Now() })
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
	f.onStop(func(context.Context) error {
		cancel()
		<-done
		return nil
	})
}

// onStop puts on top what has only an end, which should keep to limit.
func (f *floors) onStop(stop func(limit context.Context) error) {
	f.down = append(f.down, stop)
}

// ended returns when the run was told to end; it is told now if it was not yet.
func (f *floors) ended() time.Time {
	f.fail(nil)
	return <-f.end
}

// stop stops all floors from the top down. Its error joins theirs with what made
// the run fail, if that was what ended it.
func (f *floors) stop(limit context.Context) error {
	var errs []error
	if cause := context.Cause(f.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		errs = append(errs, cause)
	}
	for i := len(f.down) - 1; i >= 0; i-- {
		errs = append(errs, f.down[i](limit))
	}
	return errors.Join(errs...)
}
