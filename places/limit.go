package places

import (
	"context"
	"errors"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"herd/places/nearby"
)

// Limits bound what is asked of a provider that is somebody else's.
type Limits struct {
	Budget *Budget       // questions a day and a second; providers may share one; nil is no limit
	Keep   time.Duration // how long an answer is given again; 0 is never
}

// Limit returns p for a Finder, to be asked within limits.
func Limit(p Provider, l Limits) Provider { return &limited{p, l} }

type limited struct {
	Provider
	Limits
}

const (
	most = 20 // C12: every question is asked for so many, and its answer cut

	// A provider that fails so often in a row is not asked for a while; then one question
	// is, and its answer decides. What is lost meanwhile is little next to clients that
	// all wait for what hangs.
	tripAfter = 5
	tripFor   = 5 * time.Second

	keptAnswers = 1000 // some 10 MB of places
)

// A guard stands between the askers and a provider that is not Instant.
type guard struct {
	flights singleflight.Group
	breaker *gobreaker.CircuitBreaker[nearby.Answer]
	budget  *Budget // nil: no limit
	keep    time.Duration
	kept    *lru.Cache[Query, keptAnswer] // nil: nothing is kept
}

type keptAnswer struct {
	nearby.Answer
	until time.Time
}

// guard puts limits and a circuit breaker before s.
func (f *Finder) guard(s *source, l Limits) {
	s.guard.budget = l.Budget
	if l.Keep > 0 {
		s.keep = l.Keep
		s.kept, _ = lru.New[Query, keptAnswer](keptAnswers) // fails only for sizes below 1
	}
	s.breaker = gobreaker.NewCircuitBreaker[nearby.Answer](gobreaker.Settings{
		Name:        s.Name(),
		Timeout:     tripFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		// A question that is refused as such was answered.
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, ErrInvalid) },
		IsExcluded: func(err error) bool {
			return err == errSpent || err == errTooFast || outcomeOf(nearby.Answer{}, err) == stopped
		},
		OnStateChange: func(name string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed: // not again each time that it is tried in vain
				f.log.Warn("places provider not asked for a while, it failed too often", "provider", name, "while", tripFor)
			case to == gobreaker.StateClosed:
				f.log.Info("places provider answers again", "provider", name)
			}
		},
	})
}

// open says whether the provider is not asked for now.
func (g *guard) open() bool { return g.breaker != nil && g.breaker.State() == gobreaker.StateOpen }

// join returns the answer to q with as many places as can be: of a question like it that
// is on its way, else of a new one.
func (f *Finder) join(ctx context.Context, s *source, q Query) (nearby.Answer, error) {
	q.Max = most
	key := strconv.AppendFloat(nil, q.Lat, 'g', -1, 64)
	key = strconv.AppendFloat(append(key, ' '), q.Lon, 'g', -1, 64)
	key = strconv.AppendFloat(append(key, ' '), q.Radius, 'g', -1, 64)
	answer, err, _ := s.flights.Do(string(key), func() (any, error) { return f.fly(ctx, s, q) })
	return answer.(nearby.Answer), err
}

// fly asks q within the limits. It has the time of who asked first, but goes on when that
// one goes: others may have joined.
func (f *Finder) fly(ctx context.Context, s *source, q Query) (nearby.Answer, error) {
	if kept, ok := s.lookUp(q); ok {
		s.count(again)
		return kept, nil
	}
	flight, cancel := f.life, context.CancelFunc(func() {})
	if deadline, ok := ctx.Deadline(); ok {
		flight, cancel = context.WithDeadline(flight, deadline)
	}
	defer cancel()
	answer, err := s.breaker.Execute(func() (nearby.Answer, error) {
		if s.budget != nil {
			if err := s.budget.take(); err != nil {
				return nearby.Answer{}, err
			}
		}
		return f.question(flight, s, q)
	})
	switch {
	case err == errSpent: // which the budget has told, once a day
		s.count(overQuota)
	case err == errTooFast:
		s.count(overQuota)
		f.complain(s, overQuota, err)
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		s.count(broken)
		err = *s.last.Load() // what made it open, for the status of C16
	case err == nil && s.kept != nil:
		s.kept.Add(q, keptAnswer{answer, time.Now().Add(s.keep)})
	}
	return answer, err
}

func (g *guard) lookUp(q Query) (nearby.Answer, bool) {
	if g.kept == nil {
		return nearby.Answer{}, false
	}
	kept, ok := g.kept.Get(q)
	return kept.Answer, ok && time.Now().Before(kept.until)
}
