package places

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/sony/gobreaker/v2"
	"golang.org/x/sync/singleflight"

	"herd/places/nearby"
)

// Limits bound the questions to an external provider.
type Limits struct {
	Budget *Budget // questions per day and per second; providers may share one; nil means no limit
}

// Limit returns p with limits, for use in a Finder.
func Limit(p Provider, l Limits) Provider { return &limited{p, l} }

type limited struct {
	Provider
	Limits
}

const (
	most = 20 // C12: every question asks for this many, and its answer is cut

	// A provider that fails this often in a row is not asked for a while. Then it is asked
	// one question, whose answer decides. Little is lost compared with making every client
	// wait for a provider that hangs.
	tripAfter = 5
	tripFor   = 5 * time.Second
)

// A guard protects a provider that is not Instant from too many questions.
type guard struct {
	flights singleflight.Group
	breaker *gobreaker.CircuitBreaker[nearby.Answer]
	budget  *Budget // nil: no limit
}

// guard puts limits and a circuit breaker in front of s.
func (f *Finder) guard(s *source, l Limits) {
	s.guard.budget = l.Budget
	s.breaker = gobreaker.NewCircuitBreaker[nearby.Answer](gobreaker.Settings{
		Name:        s.Name(),
		Timeout:     tripFor,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= tripAfter },
		// A question refused as invalid was answered.
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, ErrInvalid) },
		IsExcluded: func(err error) bool {
			return err == errSpent || err == errTooFast || outcomeOf(nearby.Answer{}, err) == stopped
		},
		OnStateChange: func(name string, from, to gobreaker.State) {
			switch {
			case from == gobreaker.StateClosed: // not again each time that a trial fails
				f.log.Warn("places provider failed too often, not asked for a while", "provider", name, "while", tripFor)
			case to == gobreaker.StateClosed:
				f.log.Info("places provider answers again", "provider", name)
			}
		},
	})
}

// open reports whether the provider is not asked for now.
func (g *guard) open() bool { return g.breaker != nil && g.breaker.State() == gobreaker.StateOpen }

// join returns an answer to q with the maximum number of places: that of an equal question
// under way, or else of a new one.
func (f *Finder) join(ctx context.Context, s *source, q Query) (nearby.Answer, error) {
	q.Max = most
	key := strconv.AppendFloat(nil, q.Lat, 'g', -1, 64)
	key = strconv.AppendFloat(append(key, ' '), q.Lon, 'g', -1, 64)
	key = strconv.AppendFloat(append(key, ' '), q.Radius, 'g', -1, 64)
	answer, err, _ := s.flights.Do(string(key), func() (any, error) { return f.fly(ctx, s, q) })
	return answer.(nearby.Answer), err
}

// fly asks q within the limits. It has the deadline of the first caller, but goes on if that
// caller goes away: others may have joined.
func (f *Finder) fly(ctx context.Context, s *source, q Query) (nearby.Answer, error) {
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
	case err == errSpent: // the budget logs it, once per day
		s.count(overQuota)
	case err == errTooFast:
		s.count(overQuota)
		f.complain(s, overQuota, err)
	case errors.Is(err, gobreaker.ErrOpenState), errors.Is(err, gobreaker.ErrTooManyRequests):
		s.count(broken)
		err = *s.last.Load() // the failure that opened the breaker, for the status (C16)
	}
	return answer, err
}
