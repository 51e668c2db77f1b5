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

	"golang.org/x/time/rate"

	"herd/places/nearby"
)

// Finder answers queries from its providers. All methods may be called from any
// goroutine.
type Finder struct {
	log     *slog.Logger
	sources []*source

	mu      sync.RWMutex // guards closed against running.Go
	closed  bool
	running sync.WaitGroup // calls of providers, including those that nobody waits for

	life   context.Context // for work that no single caller waits for: loading, and shared questions
	end    context.CancelFunc
	loaded chan struct{} // closed when every provider has loaded its places once, or failed to
}

// source is a provider and the counts of the questions to it.
type source struct {
	Provider
	tally
	instant   bool
	reload    chan struct{}         // nil if nothing is loaded; holds one pending reload
	guard                           // not used for an instant provider
	complains rate.Sometimes        // limits the log of its failures
	failures  atomic.Uint64         // failures since the last log line
	last      atomic.Pointer[error] // the last failure
}

// complainEvery keeps a provider that fails under load from flooding the log. The counts
// include every failure.
const complainEvery = 10 * time.Second

// NewFinder returns a finder that asks providers in this order of preference. Without
// providers every search fails. Loading of providers that are Loaders begins at once. The
// caller closes the finder.
func NewFinder(log *slog.Logger, providers ...Provider) *Finder {
	f := &Finder{log: log, loaded: make(chan struct{})}
	f.life, f.end = context.WithCancel(context.Background()) // ends with Close
	var first sync.WaitGroup
	for _, p := range providers {
		var limits Limits
		if l, ok := p.(*limited); ok {
			p, limits = l.Provider, l.Limits
		}
		s := &source{Provider: p, complains: rate.Sometimes{Interval: complainEvery}}
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

// keepLoaded loads once per pending reload, until ctx ends. It calls first after the first
// load.
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

// Loaded returns a channel that is closed when every provider has loaded its places, or
// failed to.
func (f *Finder) Loaded() <-chan struct{} { return f.loaded }

// Reload makes Loaders read their places again (SIGHUP). They answer meanwhile. It does not
// wait.
func (f *Finder) Reload() {
	for _, s := range f.sources {
		if s.reload == nil {
			continue
		}
		select {
		case s.reload <- struct{}{}:
		default: // one is pending already
		}
	}
}

// Find returns the JSON of a Nearby Search answer to q, by C14–C16. It never fails: an
// internal failure becomes the answer's status. It returns when ctx ends, even if a provider
// does not. ctx's deadline is the time limit (HERD_PLACES_TIMEOUT); a cancelled ctx means
// that the edge stops (C19). The caller may keep the text.
func (f *Finder) Find(ctx context.Context, q Query) []byte {
	if !(q.Radius > 0 && q.Max > 0) { // C12: asks for the client's position only
		return write(nearby.Zero())
	}
	text, err := f.ask(ctx, q)
	if err != nil {
		return write(failure(err))
	}
	return text
}

// FindNow is like Find for the Instant providers at the front of the order: it returns the
// first answer among theirs, without waiting and without a goroutine or timer. ok is false if
// there are none or all failed; then use Find.
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

// Close stops loading and cancels calls of providers that Find did not wait for, and waits
// for them. It closes providers that are io.Closers. A later Find calls no provider and fails
// as stopped.
func (f *Finder) Close() {
	f.mu.Lock()
	f.closed = true
	f.mu.Unlock()
	f.end()
	f.running.Wait()
	for _, s := range f.sources {
		if c, ok := s.Provider.(io.Closer); ok {
			_ = c.Close() // it only releases connections
		}
	}
}

// call asks one provider and returns its answer as JSON.
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

// question sends q to the provider and counts the outcome.
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
		err = &Error{answer.Status, answer.ErrorMessage} // the next provider may do better
	case !s.instant: // an external provider's numbers may not be valid JSON
		_, err = answer.Append(nil)
	}
	if deadline, ok := ctx.Deadline(); ok && errors.Is(err, context.Canceled) && !time.Now().Before(deadline) {
		err = context.DeadlineExceeded // Close cancelled the call at the same moment
	}
	if err == nil {
		answer.Status, answer.ErrorMessage = nearby.Found(nil, answer.Results).Status, ""
	}
	outcome := outcomeOf(answer, err)
	s.count(outcome)
	s.observe(time.Since(start))
	if err != nil && outcome != stopped {
		last := err // a copy, so that success does not allocate
		s.last.Store(&last)
		f.complain(s, outcome, err)
	}
	return answer, err
}

// await calls ask on a goroutine of its own, for which Close waits, so that await returns
// when ctx ends whatever ask does.
func (f *Finder) await(ctx context.Context, ask func() (nearby.Answer, error)) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	type reply struct {
		answer nearby.Answer
		err    error
	}
	replies := make(chan reply, 1) // buffered, so that a late reply does not block
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
	case r := <-replies: // at the last moment, but in time
		return r.answer, r.err
	default:
		return nearby.Answer{}, ctx.Err()
	}
}

// run starts call on a goroutine, unless the finder is closed.
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
	s.complains.Do(func() {
		f.log.Warn("places provider failed", "provider", s.Name(), "outcome", o.String(), "error", err,
			"failures", s.failures.Swap(0))
	})
}

// failure turns an error into the answer for a client. It does not include the error's own
// text, which may hold more than clients should see (C16).
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

// write returns the JSON of an answer without numbers.
func write(a nearby.Answer) []byte {
	text, err := a.Append(nil)
	if err != nil {
		panic(err) // impossible without results
	}
	return text
}
