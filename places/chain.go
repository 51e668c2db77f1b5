package places

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errNoProvider = errors.New("no places provider is configured")

// ask puts q to the providers in their order of preference and returns the JSON of the
// one that answered. Only an error passes to the next: an empty answer is an answer.
// Each but the last has half of what is left of ctx's time, so that one that hangs
// leaves time for another. If all fail, the error is that of the first, which is the one
// that the operator prefers.
func (f *Finder) ask(ctx context.Context, q Query) ([]byte, error) {
	first := errNoProvider
	for i, s := range f.sources {
		share, cancel := ctx, context.CancelFunc(func() {})
		if deadline, ok := ctx.Deadline(); ok && i < len(f.sources)-1 {
			share, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		}
		text, err := f.call(share, s, q)
		cancel()
		if err == nil {
			return text, nil
		}
		if i == 0 {
			first = fmt.Errorf("ask %s: %w", s.Name(), err)
		}
		if ctx.Err() == context.Canceled {
			return nil, errStopped // whoever failed before: nobody waits for places now
		}
		if ctx.Err() != nil {
			break // the next would only be counted as late
		}
	}
	return nil, first
}
