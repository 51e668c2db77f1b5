package places

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errNoProvider = errors.New("no places provider is configured")

// ask sends q to the providers in order of preference and returns the JSON of the first that
// answers. Only an error moves on to the next provider: an empty answer is an answer. Each
// provider but the last gets half of ctx's remaining time, so that one that hangs leaves time
// for others. If all fail, the error is that of the first, which the operator prefers.
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
			return nil, errStopped // whatever failed before: nobody waits for the answer any more
		}
		if ctx.Err() != nil {
			break // the next provider would only time out
		}
	}
	return nil, first
}
