package places

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"herd/places/nearby"
)

// Finder answers queries from its providers. All methods may be called from any
// goroutine.
type Finder struct {
	log     *slog.Logger
	sources []*source

	mu      sync.RWMutex // guards closed against running.Go
	closed  bool
	running sync.WaitGroup // calls of providers, those that nobody waits for included

	life   context.Context // of what nobody waits for: loading, and questions that several ask
	end    context.CancelFunc
	loaded chan struct{} // closed when no provider reads its places for the first time any more
}

// source is a provider and what became of the questions to it.
type source struct {
	Provider
	tally
	instant    bool
	reload     chan struct{}         // nil where nothing is loaded; holds one that is due
	guard                            // not for one that is instant
	complained atomic.Int64          // when its failures were logged last, Unix ns
	failures   atomic.Uint64         // since then
	last       atomic.Pointer[error] // of its failures
}

// complainEvery keeps a provider that fails under load from flooding the log; the
// counts have every failure.
const complainEvery = 10 * time.Second

// NewFinder returns a finder that asks providers in this order of preference. Without
// any, every search fails. Where one is a Loader it is loaded from now on; who makes a
// finder closes it.
func NewFinder(log *slog.Logger, providers ...Provider) *Finder {
	f := &Finder{log: log, loaded: make(chan struct{})}
	f.life, f.end = context.WithCancel(context.Background()) // ends with Close
	var first sync.WaitGroup
	for _, p := range providers {
		var limits Limits
		if l, ok := p.(*limited); ok {
			p, limits = l.Provider, l.Limits
		}
		s := &source{Provider: p}
		if _, s.instant = p.(Instant); !s.instant {
			f.guard(s, limits)
		}
		if l, ok := p.(Loader); ok {
			s.reload = make(chan struct{}, 1)
			s.reload <- struct{}{}
			first.Add(1)
			f.run(func() { f.keepLoaded(f.life, l, s.reload, first.Done) })
		}
		f.sources = append(f.sources, s)
	}
	f.run(func() {
		first.Wait()
		close(f.loaded)
	})
	return f
}

// keepLoaded loads once for each that is due, until ctx ends; first is called after the
// first.
func (f *Finder) keepLoaded(ctx context.Context, l Loader, due <-chan struct{}, first func()) {
	first = sync.OnceFunc(first)
	defer first()
	for {
		select {
		case <-ctx.Done():
			return
		case <-due:
		}
		if err := l.Load(ctx); err != nil && ctx.Err() == nil {
			f.log.Error("places not loaded", "provider", l.Name(), "error", err)
		}
		first()
	}
}

// Loaded is closed when every provider has read its places, or failed to.
func (f *Finder) Loaded() <-chan struct{} { return f.loaded }

// Reload makes the providers that read their places read them again, without a gap in
// what they answer (SIGHUP). It does not wait.
func (f *Finder) Reload() {
	for _, s := range f.sources {
		if s.reload == nil {
			continue
		}
		select {
		case s.reload <- struct{}{}:
		default: // one is due already
		}
	}
}

// Find returns the JSON of a Nearby Search answer to q, which keeps C14–C16: it never
// fails, and what fails inside is the answer's status. It returns when ctx ends, even if
// a provider does not; the time limit (HERD_PLACES_TIMEOUT) is ctx's deadline, and a ctx
// that is cancelled says that the edge stops (C19). The text is the caller's to keep.
func (f *Finder) Find(ctx context.Context, q Query) []byte {
	if !(q.Radius > 0 && q.Max > 0) { // C12: asks only where the client is
		return write(nearby.Zero())
	}
	text, err := f.ask(ctx, q)
	if err != nil {
		return write(failure(err))
	}
	return text
}

// FindNow is Find where Instant providers are first in order: the JSON of the first
// answer among theirs, without a wait, a goroutine or a timer. ok is false where they are
// not first, or all failed: then Find has the answer.
func (f *Finder) FindNow(q Query) (text []byte, ok bool) {
	if !(q.Radius > 0 && q.Max > 0) {
		return nil, false
	}
	for _, s := range f.sources {
		if !s.instant {
			break
		}
		if text, err := f.call(context.Background(), s, q); err == nil {
			return text, true
		}
	}
	return nil, false
}

// Close ends what is loading and the calls of providers that Find did not wait for, and
// waits for them; a provider that is an io.Closer is closed. A Find after it
// calls no provider and fails as one that is stopped.
func (f *Finder) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.end()
	f.running.Wait()
	for _, s := range f.sources {
		if c, ok := s.Provider.(io.Closer); ok {
			_ = c.Close() // what is let go is connections
		}
	}
}

// call asks one provider and returns the JSON of its answer.
func (f *Finder) call(ctx context.Context, s *source, q Query) ([]byte, error) {
	var answer nearby.Answer
	var err error
	if s.instant {
		answer, err = f.question(ctx, s, q)
	} else {
		answer, err = f.await(ctx, func() (nearby.Answer, error) { return f.join(ctx, s, q) })
	}
	if err != nil {
		return nil, err
	}
	answer = answer.Trim(q.Max) // C15
	return answer.Append(make([]byte, 0, 512+384*len(answer.Results)))
}

// question puts q to the provider, and counts what becomes of it.
func (f *Finder) question(ctx context.Context, s *source, q Query) (nearby.Answer, error) {
	start := time.Now()
	var answer nearby.Answer
	var err error
	if s.instant {
		answer, err = s.Nearby(ctx, q)
	} else {
		answer, err = f.await(ctx, func() (nearby.Answer, error) { return s.Nearby(ctx, q) })
	}
	switch {
	case err != nil:
	case answer.Status.Failed():
		err = &Error{answer.Status, answer.ErrorMessage} // for the next to do better
	case !s.instant: // whose numbers are somebody else's
		_, err = answer.Append(nil)
	}
	if deadline, ok := ctx.Deadline(); ok && errors.Is(err, context.Canceled) && !time.Now().Before(deadline) {
		err = context.DeadlineExceeded // Close came in the same moment
	}
	if err == nil {
		answer.Status, answer.ErrorMessage = nearby.Found(nil, answer.Results).Status, ""
	}
	outcome := outcomeOf(answer, err)
	s.count(outcome)
	s.observe(time.Since(start))
	if err != nil && outcome != stopped {
		last := err // a copy, so that a success allocates nothing for it
		s.last.Store(&last)
		f.complain(s, outcome, err)
	}
	return answer, err
}

// await calls ask on a goroutine of its own, which Close waits for, so as to return when
// ctx ends whatever ask does.
func (f *Finder) await(ctx context.Context, ask func() (nearby.Answer, error)) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	type reply struct {
		answer nearby.Answer
		err    error
	}
	replies := make(chan reply, 1) // so that a late one is not stuck
	if !f.run(func() {
		answer, err := ask()
		replies <- reply{answer, err}
	}) {
		return nearby.Answer{}, errStopped
	}
	select {
	case r := <-replies:
		return r.answer, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-replies: // in the last moment, but in time
		return r.answer, r.err
	default:
		return nearby.Answer{}, ctx.Err()
	}
}

// run starts call, unless the finder is closed.
func (f *Finder) run(call func()) bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.closed {
		return false
	}
	f.running.Go(call)
	return true
}

func (f *Finder) complain(s *source, o outcome, err error) {
	s.failures.Add(1)
	now, last := time.Now().UnixNano(), s.complained.Load()
	if now-last < int64(complainEvery) || !s.complained.CompareAndSwap(last, now) {
		return
	}
	f.log.Warn("places provider failed", "provider", s.Name(), "outcome", o.String(), "error", err,
		"failures", s.failures.Swap(0))
}

// failure turns an error into what a client sees of it: never the error's own text,
// which may say more than is a client's business (C16).
func failure(err error) nearby.Answer {
	e := ErrUnknown
	switch {
	case errors.As(err, &e):
	case errors.Is(err, context.DeadlineExceeded):
		e = errLate
	case errors.Is(err, context.Canceled):
		e = errStopped
	}
	status := nearby.UnknownError
	switch e.Status {
	case nearby.InvalidRequest, nearby.OverQueryLimit, nearby.RequestDenied:
		status = e.Status
	}
	return nearby.Failure(status, cmp.Or(e.Message, ErrUnknown.Message))
}

// write returns the JSON of an answer that has no numbers in it.
func write(a nearby.Answer) []byte {
	text, err := a.Append(nil)
	if err != nil {
		panic(err) // not without results
	}
	return text
}
