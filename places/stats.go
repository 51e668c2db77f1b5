package places

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"herd/places/nearby"
)

// Stats counts the questions to one provider since its Finder was made.
type Stats struct {
	Provider string
	// By outcome: ok, zero_results, those of C16 in lower case, timeout and stopped; and for
	// questions that did not reach the provider, over_query_limit and breaker_open. Equal
	// questions at the same time count as one.
	Requests map[string]uint64
	Duration Histogram // of questions that reached the provider

	Guarded    bool // the provider has a breaker
	Open       bool // the provider failed too often and is not asked for now
	Budgeted   bool // the provider has a budget
	BudgetLeft int  // questions left today
	Loads      bool // the provider reads its places from a file (Loader)
	Known      int  // places loaded
}

// Histogram counts durations in seconds.
type Histogram struct {
	Buckets []float64 // upper bounds, inclusive, rising
	Counts  []uint64  // per bucket: of those above the bound before it
	Sum     float64
	Count   uint64 // of all, those above the last bound included
}

// outcome is the outcome of one question to a provider.
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
	outcomes int = iota
)

// String returns the outcome's name in metrics.
func (o outcome) String() string {
	return [outcomes]string{"ok", "zero_results", "invalid_request", "over_query_limit",
		"request_denied", "unknown_error", "timeout", "stopped", "breaker_open"}[o]
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

// bounds are the buckets' upper bounds: a search in memory takes microseconds, one over a
// network up to HERD_PLACES_TIMEOUT.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 30 * time.Microsecond, 100 * time.Microsecond, 300 * time.Microsecond,
	time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
	100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second,
}

// tally counts one provider's outcomes and durations. The zero value is ready to use. All
// methods may be called from any goroutine.
type tally struct {
	requests [outcomes]atomic.Uint64
	buckets  [len(bounds) + 1]atomic.Uint64 // the last is beyond all bounds
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

// Stats returns the counts per provider, in order of preference. A question that ends
// meanwhile may be in one count and not yet in another.
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
	h := Histogram{Sum: time.Duration(t.sum.Load()).Seconds()}
	for i := range t.buckets {
		n := t.buckets[i].Load()
		if i < len(bounds) {
			h.Buckets, h.Counts = append(h.Buckets, bounds[i].Seconds()), append(h.Counts, n)
		}
		h.Count += n
	}
	return h
}
