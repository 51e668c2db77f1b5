// Package clock judges the clocks that an edge hears: whether the edge's own clock is in
// doubt (H8), and what is past (S4).
//
// It is pure state. It knows nothing of links, brokers or tables, starts no goroutine and
// reads no clock: the caller passes the time in, in two forms. A moment is a time.Time that
// time.Now returned; only its monotonic reading counts here, which no clock step changes.
// What the edge's wall clock shows at that moment is given in Unix nanoseconds, and may step.
package clock

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// Limit is how far two clocks may differ and still agree (S4, H8).
	Limit = time.Minute
	// Trial is how long a clock must have run evenly, or how long no other clock must have
	// been heard, before the edge's own clock is believed again (S4).
	Trial = time.Hour
	// Settle is how long an edge listens for all other clocks after its start before it
	// believes one that agrees with its own: two clocks with the same error must not outvote
	// the others.
	Settle = 5 * time.Second
)

// A Reading is what another clock showed at one moment.
type Reading struct {
	Of   string    // whose clock; names are unique
	Wall int64     // Unix nanoseconds
	At   time.Time // the moment when this edge heard it
}

// A State is the result of a Look.
type State struct {
	Heard   int  // other clocks heard
	Differ  int  // how many of them differ from this edge's by more than Limit
	InDoubt bool // H8
	// Of is the clock that differs most, and By is that clock less this edge's. Of is "" if
	// none differs by more than Limit.
	Of string
	By time.Duration

	Known  bool          // there is a retention clock, so the edge can tell what is past (S4)
	Behind time.Duration // the wall clock less the retention clock; 0 or more, and 0 unless Known
	Parted bool          // Behind is more than Limit
	Parts  uint64        // how often Parted became true since the start
}

// Clocks holds an edge's own clock and those that it hears. Retain and State may be called
// from any goroutine, Look from one at a time.
type Clocks struct {
	start  anchor                 // what the edge's own clock showed at the start
	anchor atomic.Pointer[anchor] // nil: not Known

	mu    sync.Mutex // held only to assign or copy state
	state State

	// Only Look uses the fields below.
	own     course
	others  map[string]*other
	heard   time.Time // when another clock was last heard; at first, the start
	refuted bool      // all clocks heard then differed, and the edge's own has not stepped since
}

// An anchor is what the retention clock showed at a moment. From there it follows the
// monotonic clock.
type anchor struct {
	wall int64
	at   time.Time
}

func (a *anchor) show(now time.Time) int64 { return a.wall + int64(now.Sub(a.at)) }

// other is a clock that is heard or was heard before.
type other struct {
	course
	last anchor // what it showed when last heard
}

// New returns the Clocks of an edge that started at this moment, when its own clock showed
// wall.
func New(start time.Time, wall int64) *Clocks {
	return &Clocks{start: anchor{wall, start}, own: newCourse(start, wall), heard: start, others: map[string]*other{}}
}

// elapsed returns the monotonic time since the start in nanoseconds.
func (c *Clocks) elapsed(now time.Time) int64 { return int64(now.Sub(c.start.at)) }

// Retain returns the retention clock, in Unix nanoseconds, at a moment when the wall clock
// shows wall. It follows the monotonic clock from what the last Look found, and is never
// later than the wall clock (S4): a step of the wall clock, forwards or backwards, makes
// nothing past, even before the next Look. It is 0 while nothing is past.
func (c *Clocks) Retain(now time.Time, wall int64) int64 {
	a := c.anchor.Load()
	if a == nil {
		return 0
	}
	return max(0, min(wall, a.show(now)))
}

// State returns what the last Look found.
func (c *Clocks) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state
}

// Look takes what the clocks show at a moment: this edge's own, and those that were heard
// lately. others is how many there are, heard or not. Call it about once per second. It
// returns what it found.
func (c *Clocks) Look(now time.Time, wall int64, heard []Reading, others int) State {
	if c.own.see(now, wall-c.elapsed(now)) {
		c.refuted = false // it may have been corrected
	}
	s, vouched := c.compare(now, wall, heard)
	if len(heard) > 0 {
		c.heard, c.refuted = now, s.Differ == s.Heard
	}
	settled := c.anchor.Load() != nil || len(heard) >= others || now.Sub(c.start.at) >= Settle
	c.anchorAt(now, wall, vouched && !s.InDoubt && settled)

	c.mu.Lock()
	defer c.mu.Unlock()
	s.Parts = c.state.Parts
	if s.Known = c.anchor.Load() != nil; s.Known {
		s.Behind = time.Duration(wall - c.Retain(now, wall))
		if s.Parted = s.Behind > Limit; s.Parted && !c.state.Parted {
			s.Parts++
		}
	}
	c.state = s
	return s
}

// compare compares the edge's clock with the others (H8). It also reports whether one of them
// vouches for it and none is behind it: what an edge with a fast clock forgets is lost, and
// forgetting too late harms nothing. A clock that vouches must itself have run evenly: edges
// and a broker on one machine share one clock under several names, which steps for all of
// them at once.
func (c *Clocks) compare(now time.Time, wall int64, heard []Reading) (s State, vouched bool) {
	s.Heard = len(heard)
	behind := false
	for _, r := range heard {
		ahead := r.Wall - c.elapsed(r.At)
		o := c.others[r.Of]
		if o == nil {
			o = &other{course: newCourse(now, ahead)}
			c.others[r.Of] = o
		}
		o.see(now, ahead)
		o.last = anchor{r.Wall, r.At}
		by := time.Duration(o.last.show(now) - wall)
		if by.Abs() <= Limit {
			vouched = vouched || o.even(now)
			continue
		}
		s.Differ++
		behind = behind || by < 0
		if by.Abs() > s.By.Abs() {
			s.Of, s.By = r.Of, by
		}
	}
	s.InDoubt = s.Heard >= 2 && 2*s.Differ > s.Heard
	return s, vouched && !behind
}

// anchorAt decides from where the retention clock goes on (S4).
//
// It takes the wall clock while another clock vouches for it and most do not differ from it
// (H8). An edge that hears no other clock takes its own once it has run evenly for an hour,
// unless all clocks heard last differed from it. In all other cases the retention clock
// follows the monotonic one.
//
// In the first hour there is no retention clock, and nothing is past, until a clock vouches
// after the others had time to be heard too. After that hour the retention clock begins at
// the latest time that more than half of all clocks have reached, the edge's own counted as
// it was at the start. So a lone edge forgets, and so does an edge with one neighbour whose
// clock is wrong; of two clocks the earlier counts.
func (c *Clocks) anchorAt(now time.Time, wall int64, vouched bool) {
	alone := now.Sub(c.heard) >= Trial
	switch {
	case vouched, alone && !c.refuted && c.own.even(now):
		c.anchor.Store(&anchor{wall, now})
	case c.anchor.Load() == nil && now.Sub(c.start.at) >= Trial:
		shown := []int64{min(wall, c.start.show(now))}
		for _, o := range c.others {
			shown = append(shown, o.last.show(now))
		}
		slices.Sort(shown)
		c.anchor.Store(&anchor{shown[(len(shown)-1)/2], now})
	}
}

// A course is how a clock runs compared with the monotonic clock.
type course struct {
	base    int64     // how far it was ahead of the monotonic clock
	since   time.Time // at this moment
	stepped time.Time // when it last moved from there by more than Limit; zero: never
}

func newCourse(now time.Time, ahead int64) course { return course{base: ahead, since: now} }

// see records how far the clock is ahead of the monotonic one now, and reports whether it
// stepped.
func (c *course) see(now time.Time, ahead int64) (stepped bool) {
	switch {
	case time.Duration(ahead-c.base).Abs() > Limit:
		c.base, c.since, c.stepped = ahead, now, now
		return true
	case now.Sub(c.since) >= Trial: // a drift of less than a minute per hour is not a step
		c.base, c.since = ahead, now
	}
	return false
}

// even reports whether the clock has not stepped for the length of a Trial, or never did.
func (c *course) even(now time.Time) bool {
	return c.stepped.IsZero() || now.Sub(c.stepped) >= Trial
}
