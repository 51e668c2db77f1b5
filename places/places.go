// Package places finds what is near a point on Earth. It asks its providers in order of
// preference and within a time limit, and always returns a Nearby Search answer, whatever
// they do (C15, C16).
//
// It knows nothing of lines, clients and edges, nor of where a provider gets its places:
// providers are packages below this one, which import it.
package places

import (
	"context"

	"herd/places/nearby"
)

// Query asks which places are near a point.
type Query struct {
	Lat, Lon float64 // degrees, within ±90 and ±180
	Radius   float64 // kilometres, 0 to 50
	Max      int     // maximum number of results, 0 to 20
}

// Provider is a source of places. Every provider passes placestest.Run. All methods may be
// called from any goroutine.
type Provider interface {
	// Name is a short constant word for metrics and logs, such as gazetteer.
	Name() string

	// Nearby returns at most q.Max places, with the status OK or ZERO_RESULTS. If the herd
	// selects the places (C15), they are within q.Radius and nearest first. It is called only
	// with a radius and a maximum above zero (C12). It returns early when ctx ends. The
	// caller does not change the answer, so providers may share strings and slices between
	// answers.
	//
	// An error says why there is no answer (C16). One that is, or wraps, an *Error gives the
	// status and the message for clients; any other is UNKNOWN_ERROR. The text of every error
	// is logged, so it must not contain a key.
	Nearby(ctx context.Context, q Query) (nearby.Answer, error)
}

// Instant is a Provider that holds all its places in memory and answers every question in
// microseconds. It is called on the caller's own goroutine.
type Instant interface {
	Provider
	// Instant does nothing; it marks the type.
	Instant()
}

// Loader is a Provider that must read its places first, from a source that may change.
type Loader interface {
	Provider
	// Load reads the places. The finder calls it once at the start and once per Reload, one
	// call at a time, on a goroutine of its own that ctx ends. Until all new places are read,
	// Nearby answers from the old ones; before the first load it returns an error, so that
	// the next provider is asked. The error, which is logged, says why the old places are
	// kept.
	Load(ctx context.Context) error

	// Known returns how many places are loaded.
	Known() int
}

// Error is a provider's failure as clients see it (C16).
type Error struct {
	Status  nearby.Status // a status that Failed
	Message string        // the answer's error_message, without keys, addresses and internals
}

func (e *Error) Error() string { return e.Message }

// Is makes errors with the same status equal, so that errors.Is(err, ErrOverQuota) compares
// the status and not the text.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Status == e.Status
}

// The failures that C16 names, in words that suit any provider.
var (
	ErrOverQuota = &Error{nearby.OverQueryLimit, "the places provider accepts no more questions for now"}
	ErrDenied    = &Error{nearby.RequestDenied, "the places provider refuses this service"}
	ErrInvalid   = &Error{nearby.InvalidRequest, "the places provider rejects the question"}
	ErrUnknown   = &Error{nearby.UnknownError, "the places provider failed"}
)

// Failures of the Finder itself, when the time is up.
var (
	errLate    = &Error{nearby.UnknownError, "no places were found in time"}
	errStopped = &Error{nearby.UnknownError, "the search for places was stopped"} // C19
)
