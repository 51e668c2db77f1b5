package edge

import (
	"context"
	"sync"
	"time"

	"herd/edge/admin"
	"herd/edge/command"
	"herd/edge/overview"
)

const (
	paceEvery   = 2 * time.Second  // between two samples
	pacePoint   = 10 * time.Second // that a point of the history stands for
	pacePoints  = 60
	paceSamples = 3 // rates are over the last two to four seconds
)

// A sample is what an edge had counted at a moment.
type sample struct {
	at      time.Time
	counts  overview.Counts
	answers admin.Histogram // how long they took
	cpu     time.Duration   // of the process; 0: not known
	links   []linkSample    // in the order of neighbours
	lag     uint64          // the largest of a link
}

type linkSample struct{ sentLines, sentBytes, receivedLines, receivedBytes uint64 }

// A pace is what an edge's rates are told by: its last samples, and the last ten minutes. Its
// methods may be called from any goroutine.
type pace struct {
	mu      sync.Mutex
	samples []sample // oldest first, at most paceSamples
	first   sample   // of the point that is collected
	points  []point  // oldest first, at most pacePoints
	ready   bool
	was     bool      // it was ready before
	turned  time.Time // when ready last changed; zero: not known yet
}

// A point is how one step of ten seconds went.
type point struct {
	slot  int64 // its end by the edge's clock, in steps since 1970
	rates overview.Rates
	lag   uint64
}

// keepPace takes samples until ctx ends. They are taken when the edge's clock shows even
// seconds, so that the points of several edges are of the same ten seconds.
func (e *Edge) keepPace(ctx context.Context) error {
	for {
		now := time.Now()
		wait := paceEvery - time.Duration(e.wall(now)%int64(paceEvery))
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		now = time.Now()
		e.pace.take(e.sample(now), time.Unix(0, e.wall(now)))
		e.noteReadiness(now)
	}
}

// noteReadiness keeps since when the edge is ready, or not, and logs where that changes.
func (e *Edge) noteReadiness(now time.Time) (ready bool, why string, since time.Time) {
	ready, why = e.readiness()
	changed, since := e.pace.note(ready, now)
	switch {
	case !changed || isClosed(e.stopping) || !e.isReady():
	case ready:
		e.log.Info("ready again")
	default:
		e.log.Warn("not ready any more", "why", why)
	}
	return ready, why, since
}

// note takes whether the edge is ready. It returns whether that changed, other than when it was
// first ready, and since when it is so.
func (p *pace) note(ready bool, now time.Time) (changed bool, since time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.turned.IsZero():
		p.ready, p.turned = ready, now
	case ready != p.ready:
		p.ready, p.turned, changed = ready, now, p.was
	}
	p.was = p.was || ready
	return changed, p.turned
}

// sample counts now.
func (e *Edge) sample(now time.Time) sample {
	s := sample{at: now, cpu: processCPU()}
	s.counts.Refusals = e.server.Stats().Refused
	for _, c := range e.handler.Stats() {
		switch c.Outcome {
		case command.OK, command.Older, command.Expired, command.Gone:
			switch c.Verb {
			case command.IAMAT:
				s.counts.Updates += c.N
			case command.WHATSAT, command.WHOSAT, command.WATCH:
				s.counts.Questions += c.N
			}
		default: // all others are answered with `? `
			s.counts.Refusals += c.N
		}
	}
	for _, v := range []command.Verb{command.IAMAT, command.WHATSAT, command.WHOSAT} {
		addTo(&s.answers, e.times.commands[v].snapshot())
	}
	s.counts.Answers = s.answers.Count
	for _, n := range e.links() {
		l := n.link.Stats()
		s.links = append(s.links, linkSample{l.SentLines, l.SentBytes, l.ReceivedLines, l.ReceivedBytes})
		s.lag = max(s.lag, l.Lag)
	}
	return s
}

// take keeps a sample. wall is what the edge's clock shows.
func (p *pace) take(s sample, wall time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) == paceSamples {
		p.samples = append(p.samples[:0], p.samples[1:]...)
	}
	p.samples = append(p.samples, s)

	slot := wall.UnixNano() / int64(pacePoint)
	if p.first.at.IsZero() {
		p.first = s
		return
	}
	for len(p.points) > 0 && p.points[len(p.points)-1].slot > slot { // the clock went back
		p.points = p.points[:len(p.points)-1]
	}
	if last := len(p.points) - 1; last >= 0 && p.points[last].slot == slot || s.at.Sub(p.first.at) < pacePoint/2 {
		return
	}
	if wall.UnixNano()%int64(pacePoint) >= int64(paceEvery) { // not just past the end of a step
		return
	}
	p.points = append(p.points, point{slot, s.since(&p.first), s.lag})
	if len(p.points) > pacePoints {
		p.points = append(p.points[:0], p.points[1:]...)
	}
	p.first = s
}

// since is what was done between an earlier sample and this one.
func (s *sample) since(earlier *sample) overview.Rates {
	over := s.at.Sub(earlier.at).Seconds()
	rate := func(now, then uint64) float64 { return perSecond(now, then, over) }
	return overview.Rates{
		Over:      over,
		Updates:   rate(s.counts.Updates, earlier.counts.Updates),
		Questions: rate(s.counts.Questions, earlier.counts.Questions),
		Refusals:  rate(s.counts.Refusals, earlier.counts.Refusals),
		P99:       quantile(0.99, &s.answers, &earlier.answers),
	}
}

// perSecond is a rate; a count that was read while it grew never goes back.
func perSecond(now, then uint64, over float64) float64 {
	if now <= then || over <= 0 {
		return 0
	}
	return float64(now-then) / over
}

// before returns the newest sample that is old enough to tell rates by; ok is false where there
// is none.
func (p *pace) before(now time.Time) (s sample, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.samples) - 1; i >= 0; i-- {
		if now.Sub(p.samples[i].at) >= paceEvery {
			return p.samples[i], true
		}
	}
	return sample{}, false
}

// history is the last ten minutes.
func (p *pace) history() *overview.History {
	p.mu.Lock()
	defer p.mu.Unlock()
	h := &overview.History{Every: int(pacePoint / time.Second)}
	if len(p.points) == 0 {
		return h
	}
	last := p.points[len(p.points)-1].slot
	h.Until = time.Unix(0, last*int64(pacePoint)).UTC()
	next := max(p.points[0].slot, last-pacePoints+1)
	for i := range p.points {
		at := &p.points[i]
		if at.slot < next {
			continue
		}
		for ; next < at.slot; next++ {
			h.Add(nil) // the edge slept
		}
		lag := float64(at.lag)
		h.Add(&overview.Point{Updates: &at.rates.Updates, Questions: &at.rates.Questions, Refusals: &at.rates.Refusals, P99: at.rates.P99, Lag: &lag})
		next++
	}
	return h
}

// addTo adds a histogram to one with the same buckets, or an empty one.
func addTo(sum *admin.Histogram, h admin.Histogram) {
	if sum.Counts == nil {
		*sum = h
		return
	}
	for i, n := range h.Counts {
		sum.Counts[i] += n
	}
	sum.Sum += h.Sum
	sum.Count += h.Count
}

// quantile estimates the quantile of what came to a histogram since earlier, within the bucket
// that it is in; nil where nothing did. What is beyond all bounds counts as the last of them.
func quantile(q float64, now, earlier *admin.Histogram) *float64 {
	came := func(i int) float64 { // counts are read one by one while they grow
		if i >= len(earlier.Counts) || now.Counts[i] < earlier.Counts[i] {
			return float64(now.Counts[i])
		}
		return float64(now.Counts[i] - earlier.Counts[i])
	}
	beyond := float64(now.Count) - float64(earlier.Count)
	for i := range now.Counts {
		beyond -= came(i)
	}
	beyond = max(0, beyond)
	total := beyond
	for i := range now.Counts {
		total += came(i)
	}
	if total == 0 {
		return nil
	}
	rank, below := q*total, 0.0
	for i, bound := range now.Buckets {
		n := came(i)
		if below+n >= rank && n > 0 {
			from := 0.0
			if i > 0 {
				from = now.Buckets[i-1]
			}
			at := from + (bound-from)*(rank-below)/n
			return &at
		}
		below += n
	}
	at := now.Buckets[len(now.Buckets)-1]
	return &at
}
