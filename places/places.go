// Package places says what is near a point on Earth: it asks its providers, in order of
// preference and within a time limit, and always has a Nearby Search answer to give,
// whatever they do (C15, C16).
//
// It knows nothing of lines, clients and edges, nor of where a provider has its places
// from: those are packages below this one's folder, which import it.
package places

import (
	"context"

	"herd/places/nearby"
)

// Query asks what is near a point.
type Query struct {
	Lat, Lon float64 // degrees, within ±90 and ±180
	Radius   float64 // kilometres, 0 to 50
	Max      int     // most results wanted, 0 to 20
}

// Provider knows places. Every one passes placestest.Run. All methods may be called
// from any goroutine.
type Provider interface {
	// Name is a short constant word for metrics and logs, such as gazetteer.
	Name() string

	// Nearby returns at most q.Max places, with the status OK or ZERO_RESULTS; where the
	// choice of places is ours (C15), no further than q.Radius and nearest first. It is asked only for a radius and a maximum
	// above zero (C12). It returns early when ctx ends. The caller does not change
	// the answer, so that providers may share strings and slices between answers.
	//
	// An error says why there is no answer (C16): one that is, or wraps, an *Error
	// chooses the status and what clients read; any other is UNKNOWN_ERROR. The text
	// of either is logged, so no error shows a key.
	Nearby(ctx context.Context, q Query) (nearby.Answer, error)
}

// Instant is a Provider that has all its places in memory and answers in microseconds,
// whatever is asked: it is called on the asker's own goroutine.
type Instant interface {
	Provider
	// Instant does nothing; it marks the type.
	Instant()
}

// Loader is a Provider that has its places from something that it must read first, and
// that may change.
type Loader interface {
	Provider
	// Load reads the places anew. Its finder calls it once from the start and once a
	// Reload, one call at a time, on a goroutine of its own, which ctx ends. It answers
	// from what it had until it has all that is new; before the first time Nearby is an
	// error, so that the next provider is asked. The error says why it keeps what it
	// had; it is logged.
	Load(ctx context.Context) error

	// Known returns how many places it answers from.
	Known() int
}

// Error is a provider's failure as clients see it (C16).
type Error struct {
	Status  nearby.Status // one that Failed
	Message string        // the answer's error_message: shows no key, no address, no internals
}

func (e *Error) Error() string { return e.Message }

// Is makes errors of one status equal to errors.Is, so that
// errors.Is(err, ErrOverQuota) asks for the status and not for the words.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Status == e.Status
}

// The failures that C16 names, in words that suit any provider.
var (
	ErrOverQuota = &Error{nearby.OverQueryLimit, "the places provider takes no more questions for now"}
	ErrDenied    = &Error{nearby.RequestDenied, "the places provider refuses this service"}
	ErrInvalid   = &Error{nearby.InvalidRequest, "the places provider does not take such a question"}
	ErrUnknown   = &Error{nearby.UnknownError, "the places provider failed"}
)

// Both are of no provider: they are what a Finder says when the time is up.
var (
	errLate    = &Error{nearby.UnknownError, "no places were found in time"}
	errStopped = &Error{nearby.UnknownError, "the search for places was stopped"} // C19
)
