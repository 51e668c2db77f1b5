package places

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"herd/places/nearby"
)

// Stats is what became of the questions to one provider since its Finder was made.
type Stats struct {
	Provider string
	// By outcome, all of them: ok, zero_results, C16's in lower case, timeout, stopped; and
	// of those that did not reach the provider: over_query_limit too, breaker_open,
	// cached. Equal questions at one time are one.
	Requests map[string]uint64
	Duration Histogram // of those that reached the provider

	Guarded    bool // it has a breaker
	Open       bool // it is not asked for now, because it failed too often
	Budgeted   bool // it has a budget
	BudgetLeft int  // questions that may still go to it today
	Loads      bool // it has its places from a file (Loader)
	Known      int  // how many it has loaded
}

// Histogram counts durations in seconds.
type Histogram struct {
	Count   uint64
	Sum     float64
	Buckets map[float64]uint64 // cumulative, by inclusive upper bound
}

// outcome is how one question to a provider ended.
type outcome uint8

const (
	found outcome = iota
	nothing
	invalid
	overQuota
	denied
	failed
	late
	stopped
	broken
	again
	outcomes int = iota
)

// String returns the outcome as metrics show it.
func (o outcome) String() string {
	return [outcomes]string{"ok", "zero_results", "invalid_request", "over_query_limit",
		"request_denied", "unknown_error", "timeout", "stopped", "breaker_open", "cached"}[o]
}

func outcomeOf(answer nearby.Answer, err error) outcome {
	switch {
	case err == nil && len(answer.Results) > 0:
		return found
	case err == nil:
		return nothing
	case errors.Is(err, ErrInvalid):
		return invalid
	case errors.Is(err, ErrOverQuota):
		return overQuota
	case errors.Is(err, ErrDenied):
		return denied
	case errors.Is(err, context.DeadlineExceeded):
		return late
	case errors.Is(err, context.Canceled), err == errStopped:
		return stopped
	default:
		return failed
	}
}

// bounds are the buckets' upper bounds: a search in memory takes microseconds, one over
// a network up to HERD_PLACES_TIMEOUT.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 30 * time.Microsecond, 100 * time.Microsecond, 300 * time.Microsecond,
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
	100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second,
}

// tally counts one provider's outcomes and durations. The zero value is ready; all
// methods may be called from any goroutine.
type tally struct {
	requests [outcomes]atomic.Uint64
	buckets  [len(bounds) + 1]atomic.Uint64 // the last: beyond all bounds
	sum      atomic.Int64                   // ns
}

func (t *tally) count(o outcome) { t.requests[o].Add(1) }

func (t *tally) observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	t.buckets[i].Add(1)
	t.sum.Add(int64(d))
}

// Stats returns the counts of each provider, in order of preference. Questions that
// end meanwhile may be in one count and not yet in another.
func (f *Finder) Stats() []Stats {
	all := make([]Stats, 0, len(f.sources))
	for _, s := range f.sources {
		stats := Stats{Provider: s.Name(), Requests: make(map[string]uint64, outcomes)}
		for o := range s.requests {
			stats.Requests[outcome(o).String()] = s.requests[o].Load()
		}
		stats.Duration = s.histogram()
		stats.Guarded, stats.Open = s.breaker != nil, s.open()
		if s.budget != nil {
			stats.BudgetLeft, stats.Budgeted = s.budget.Left()
		}
		if l, ok := s.Provider.(Loader); ok {
			stats.Loads, stats.Known = true, l.Known()
		}
		all = append(all, stats)
	}
	return all
}

func (t *tally) histogram() Histogram {
	h := Histogram{Sum: time.Duration(t.sum.Load()).Seconds(), Buckets: make(map[float64]uint64, len(bounds))}
	for i := range t.buckets {
		h.Count += t.buckets[i].Load()
		if i < len(bounds) {
			h.Buckets[bounds[i].Seconds()] = h.Count
		}
	}
	return h
}
