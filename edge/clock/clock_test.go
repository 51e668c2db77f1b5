package clock

import (
	"fmt"
	"testing"
	"time"
)

// A world is the true time, an edge in it, and clocks that are wrong at times. Positions come
// from live clients with the true time. The edge forgets them after 30 minutes; it looks at
// its clocks once per second and for what is past once per minute.
type world struct {
	t      *testing.T
	now    time.Duration   // true time since the start
	slept  time.Duration   // how long of this the machine was suspended
	zero   time.Time       // the moment of the start
	wall   step            // the edge's own clock
	others map[string]step // nil: not heard
	clocks *Clocks

	lines   map[int]int64 // the last line per client
	lost    int           // lines forgotten before they were past
	refused int           // current lines that were refused as past
	late    time.Duration // by how much the oldest line held was past
	state   State
}

const (
	retain  = int64(30 * time.Minute)
	clients = 20
	year    = int64(1_780_000_000) * int64(time.Second) // the world begins then
)

// A step is how far a clock is off at a given time.
type step func(now time.Duration) time.Duration

// right is a clock that is always right.
func right(time.Duration) time.Duration { return 0 }

// wrong is a clock that is off by this much between two times; forever means without end.
func wrong(by, from, to time.Duration) step {
	return func(now time.Duration) time.Duration {
		if now >= from && now < to {
			return by
		}
		return 0
	}
}

// drifts is a clock that drifts by this much per hour.
func drifts(by time.Duration) step {
	return func(now time.Duration) time.Duration {
		return time.Duration(float64(by) * now.Hours())
	}
}

const (
	always  = time.Duration(-1)
	forever = time.Duration(1 << 62)
	day     = 24 * time.Hour
	start   = 2 * time.Hour // when a fault begins in a herd that was well
)

func newWorld(t *testing.T, wall step, others map[string]step) *world {
	w := &world{t: t, zero: time.Now(), wall: wall, others: others, lines: map[int]int64{}}
	w.clocks = New(w.moment(), w.show(wall))
	return w
}

// moment returns what time.Now would return: its monotonic clock stands still while the
// machine is suspended.
func (w *world) moment() time.Time { return w.zero.Add(w.now - w.slept) }

func (w *world) show(s step) int64 { return year + int64(w.now) + int64(s(w.now)) }

func (w *world) past() int64 { return w.clocks.Retain(w.moment(), w.show(w.wall)) }

// run lets time pass until the given true time.
func (w *world) run(until time.Duration) *world {
	for ; w.now < until; w.now += time.Second {
		w.traffic()
		var heard []Reading
		for of, s := range w.others {
			if s != nil {
				heard = append(heard, Reading{of, w.show(s), w.moment()})
			}
		}
		w.state = w.clocks.Look(w.moment(), w.show(w.wall), heard, len(w.others))
	}
	return w
}

// traffic does what an edge does with positions that may be past, also before the edge has
// looked at its clocks.
func (w *world) traffic() {
	now, truth := w.past(), year+int64(w.now)
	for i := range clients {
		if int(w.now/time.Second)%60 != i || i >= clients/2 && w.now > 3*time.Hour { // half of them fall silent
			continue
		}
		if now-truth >= retain {
			w.refused++
		} else {
			w.lines[i] = truth
		}
	}
	if int(w.now/time.Second)%60 != 59 {
		return
	}
	for i, at := range w.lines {
		switch age := truth - at; {
		case now-at >= retain:
			if age < retain {
				w.lost++
			}
			delete(w.lines, i)
		case age > retain:
			w.late = max(w.late, time.Duration(age-retain))
		}
	}
}

// harmless fails the test if something was forgotten too early or refused, or was held more
// than late beyond its time.
func (w *world) harmless(late time.Duration) {
	w.t.Helper()
	if w.lost > 0 || w.refused > 0 {
		w.t.Errorf("S4 %d lines were forgotten too early, and %d of the moment were refused", w.lost, w.refused)
	}
	if most := late + 2*time.Minute; w.late > most {
		w.t.Errorf("S4 a line was held for %v beyond its time, want at most %v", w.late, most)
	}
}

func TestAStepOfTheClockForgetsNothingAndRefusesNothing(t *testing.T) {
	for _, s := range []struct {
		name string
		by   time.Duration
		span time.Duration
	}{
		{"a day ahead for 30 s", day, 30 * time.Second},
		{"a day ahead for 5 min", day, 5 * time.Minute},
		{"a day ahead for 70 min", day, 70 * time.Minute},
		{"a day behind for 70 min", -day, 70 * time.Minute},
		{"two hours ahead for ever", 2 * time.Hour, forever - start},
		{"20 min ahead for 10 min", 20 * time.Minute, 10 * time.Minute},
	} {
		own := wrong(s.by, start, start+s.span)
		for _, c := range []struct {
			name   string
			others map[string]step
			most   time.Duration // the longest that the clock may be wrong
			late   time.Duration
		}{
			{name: "neighbours are right", others: map[string]step{"A": right, "B": right}, most: forever},
			{name: "one neighbour is right", others: map[string]step{"A": right}, most: forever},
			{name: "one of two neighbours is right", others: map[string]step{"A": right, "B": wrong(-3*time.Hour, always, forever)}, most: forever},
			{name: "only the broker is heard", others: map[string]step{"broker": right}, most: forever},
			{name: "no other clock is heard", most: Trial},
			{name: "all clocks are one machine's", others: map[string]step{"A": own, "B": own, "broker": own}, most: Trial},
			{name: "the neighbour was wrong all the time", others: map[string]step{"A": wrong(5*time.Hour, always, forever)}, most: forever},
		} {
			if s.span > c.most {
				continue
			}
			t.Run(s.name+", "+c.name, func(t *testing.T) {
				w := newWorld(t, own, c.others).run(8 * time.Hour)
				late := c.late
				if s.by < 0 { // never later than the wall clock
					late = s.span
				}
				w.harmless(late)
				if !w.state.Known || w.past() > w.show(right)+int64(Limit) {
					t.Errorf("in the end the retention clock is %v from the time", time.Duration(w.past()-w.show(right)))
				}
			})
		}
	}
}

func TestNothingIsPastUntilAClockIsHeardOrAnHourIsOver(t *testing.T) {
	for _, c := range []struct {
		name   string
		own    step
		others map[string]step
		known  time.Duration // when a retention clock exists
	}{
		{"one that agrees", right, map[string]step{"A": right}, 0},
		{"one that agrees, of two", right, map[string]step{"A": right, "B": nil}, Settle},
		{"one of two agrees", right, map[string]step{"A": right, "B": wrong(day, always, forever)}, 0},
		{"one of two agrees, the other is behind", right, map[string]step{"A": right, "B": wrong(-day, always, forever)}, time.Hour},
		{"one of two agrees with a clock that is ahead", wrong(2*time.Hour, always, 30*time.Minute), map[string]step{"A": wrong(2*time.Hour, always, 40*time.Minute), "broker": right}, 30 * time.Minute},
		{"none", right, nil, time.Hour},
		{"one that does not agree", right, map[string]step{"A": wrong(day, always, forever)}, time.Hour},
		{"the edge's own is a day ahead", wrong(day, always, forever), map[string]step{"A": right}, time.Hour},
		{"it is ahead, and so is one of three", wrong(day, always, forever), map[string]step{"A": right, "B": right, "C": wrong(day, always, forever)}, time.Hour},
		{"its own is two hours behind until it is put right", wrong(-2*time.Hour, always, 10*time.Minute), map[string]step{"A": right}, 10 * time.Minute},
		{"alone, it makes a step just before the hour is over", wrong(day, 59*time.Minute, 61*time.Minute), nil, time.Hour},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, c.own, c.others)
			if w.past() != 0 {
				t.Errorf("at the start, %d is past", w.past())
			}
			w.run(c.known)
			if c.known > 0 && (w.state.Known || w.past() != 0) {
				t.Errorf("after %v there is a retention clock", c.known)
			}
			w.run(c.known + time.Second)
			if !w.state.Known {
				t.Errorf("after %v there is no retention clock", c.known)
			}
			if ahead := w.past() - w.show(right); ahead > int64(Limit) {
				t.Errorf("after %v the retention clock is %v ahead", c.known, time.Duration(ahead))
			}
			w.run(6 * time.Hour)
			w.harmless(time.Hour)
		})
	}
}

func TestAClockThatWasPutRightIsBelievedAtOnceWhereAnotherAgrees(t *testing.T) {
	w := newWorld(t, wrong(-2*time.Hour, always, 4*time.Hour), map[string]step{"A": right}).run(4*time.Hour + time.Second)
	if w.state.Behind != 0 || w.past() != w.show(right)-int64(time.Second) && w.past() != w.show(right) {
		t.Errorf("the retention clock is %v behind", w.state.Behind)
	}
	w.harmless(2 * time.Hour)
}

func TestASuspendedMachineForgetsLaterNotTooEarly(t *testing.T) {
	for of, others := range map[string]map[string]step{"with neighbours": {"A": right, "B": right}, "alone": nil} {
		t.Run(of, func(t *testing.T) {
			w := newWorld(t, right, others).run(2 * time.Hour)
			w.now, w.slept = w.now+8*time.Hour, 8*time.Hour
			// The others seem to have made the same step. It takes an hour to tell this from
			// a step of one clock that all share. Forgetting late meanwhile harms nothing.
			w.run(10*time.Hour + 62*time.Minute)
			w.late = 0
			w.run(13 * time.Hour)
			w.harmless(0)
			if w.state.Behind != 0 {
				t.Errorf("two hours later the retention clock is %v behind", w.state.Behind)
			}
		})
	}
}

func TestALoneClockIsBelievedWhileItPartsByLessThanAMinuteAnHour(t *testing.T) {
	for _, c := range []struct {
		drift time.Duration
		level bool
	}{{50 * time.Second, true}, {-50 * time.Second, true}, {2 * time.Minute, false}} {
		t.Run(c.drift.String(), func(t *testing.T) {
			w := newWorld(t, drifts(c.drift), nil).run(20 * time.Hour)
			if level := w.state.Behind == 0; level != c.level {
				t.Errorf("after 20 hours the retention clock is %v behind", w.state.Behind)
			}
		})
	}
}

// An edge whose clock all others refuted does not believe it once they are gone.
func TestAClockThatWasRefutedIsNotBelievedWhenItIsAlone(t *testing.T) {
	w := newWorld(t, wrong(day, start, start+20*time.Hour), map[string]step{"A": right, "B": right}).run(5 * time.Hour)
	w.others = nil
	w.run(20 * time.Hour)
	w.harmless(0)
	if !w.state.Parted {
		t.Errorf("the retention clock is %v behind a clock that is a day ahead", w.state.Behind)
	}
	w.run(24 * time.Hour) // it was corrected at 22
	w.harmless(0)
	if w.state.Behind != 0 || w.state.Parted {
		t.Errorf("the retention clock is %v behind", w.state.Behind)
	}
}

func TestAClockThatWasPutRightWhileAloneIsBelievedInAnHour(t *testing.T) {
	w := newWorld(t, wrong(-2*time.Hour, always, 5*time.Hour), map[string]step{"A": right}).run(3 * time.Hour)
	w.others = nil
	w.run(6*time.Hour - time.Minute)
	if w.state.Behind < time.Hour {
		t.Errorf("before the hour is over the retention clock is %v behind, want two hours", w.state.Behind)
	}
	w.run(6*time.Hour + time.Minute)
	if w.state.Behind != 0 {
		t.Errorf("after it the retention clock is %v behind", w.state.Behind)
	}
	w.harmless(2 * time.Hour)
}

func TestOneThatAgreesWithAClockInDoubtDoesNotVouchForIt(t *testing.T) {
	w := newWorld(t, wrong(-2*time.Hour, 5*time.Hour, 6*time.Hour), map[string]step{
		"A": wrong(-2*time.Hour, 3*time.Hour, forever), "B": right, "C": right}).run(7 * time.Hour)
	if w.state.Behind > Limit {
		t.Errorf("the retention clock is %v behind", w.state.Behind)
	}
	w.harmless(time.Hour)
}

func TestTheRetentionClockIsNeverLaterThanTheWallClock(t *testing.T) {
	w := newWorld(t, wrong(-day, start, start+time.Minute), map[string]step{"A": right}).run(start - time.Second)
	for ; w.now < start+2*time.Minute; w.run(w.now + time.Second) {
		if w.past() > w.show(w.wall) {
			t.Fatalf("at %v it is %v later", w.now, time.Duration(w.past()-w.show(w.wall)))
		}
	}
}

func TestTheRetentionClockPartsAndComesBackOnce(t *testing.T) {
	w := newWorld(t, wrong(day, start, start+time.Minute), map[string]step{"A": right}).run(start)
	if w.state.Parted || w.state.Parts != 0 {
		t.Errorf("before the step: %+v", w.state)
	}
	w.run(start + 2*time.Second)
	if !w.state.Parted || w.state.Parts != 1 || w.state.Behind != day {
		t.Errorf("after the step: %+v", w.state)
	}
	w.run(start + 2*time.Minute)
	if w.state.Parted || w.state.Parts != 1 || w.state.Behind != 0 {
		t.Errorf("when it is over: %+v", w.state)
	}
}

func TestAnEdgeIsInDoubtWhereMostClocksDiffer(t *testing.T) {
	off := wrong(-61*time.Second, always, forever)
	ahead := wrong(time.Hour, always, forever)
	near := wrong(60*time.Second, always, forever)
	for _, c := range []struct {
		others  map[string]step
		differ  int
		inDoubt bool
		of      string
		by      time.Duration
	}{
		{nil, 0, false, "", 0},
		{map[string]step{"A": right}, 0, false, "", 0},
		{map[string]step{"A": ahead}, 1, false, "A", time.Hour},
		{map[string]step{"A": near, "B": near}, 0, false, "", 0},
		{map[string]step{"A": right, "B": off}, 1, false, "B", -61 * time.Second},
		{map[string]step{"A": ahead, "B": off}, 2, true, "A", time.Hour},
		{map[string]step{"A": ahead, "B": off, "C": right}, 2, true, "A", time.Hour},
		{map[string]step{"A": ahead, "B": off, "C": right, "D": right}, 2, false, "A", time.Hour},
	} {
		t.Run(fmt.Sprintf("H8 %d of %d", c.differ, len(c.others)), func(t *testing.T) {
			s := newWorld(t, right, c.others).run(time.Second).state
			if s.Heard != len(c.others) || s.Differ != c.differ || s.InDoubt != c.inDoubt || s.Of != c.of || s.By != c.by {
				t.Errorf("found %+v, want %+v", s, c)
			}
		})
	}
}

// A reading ages: until it is compared, it moves on with the monotonic clock.
func TestAReadingGoesOnUntilItIsCompared(t *testing.T) {
	now := time.Now()
	c := New(now, year)
	later := now.Add(10 * time.Minute)
	s := c.Look(later, year+int64(10*time.Minute), []Reading{{"A", year, now}, {"B", year, now}}, 2)
	if s.Differ != 0 || s.InDoubt || !s.Known {
		t.Errorf("found %+v", s)
	}
}

func TestRetainAllocatesNothing(t *testing.T) {
	w := newWorld(t, right, map[string]step{"A": right}).run(time.Minute)
	now, wall := w.moment(), w.show(right)
	if n := testing.AllocsPerRun(100, func() { w.clocks.Retain(now, wall) }); n != 0 {
		t.Errorf("Retain allocates %v times", n)
	}
}

// Two edges that start with the same wrong clock must not believe each other before they hear
// the clocks that are right (S4): what they took for past would be forgotten for good.
func TestWhoIsWrongAlikeIsNotBelievedBeforeTheOthersAreHeard(t *testing.T) {
	start := time.Now()
	ahead := start.UnixNano() + int64(2*time.Hour)
	c := New(start, ahead)
	for s := range 3600 {
		now := start.Add(time.Duration(s) * time.Second / 10)
		heard := []Reading{{Of: "A", Wall: ahead + int64(now.Sub(start)), At: now}}
		if now.Sub(start) >= Settle/2 { // the broker, late
			heard = append(heard, Reading{Of: "broker", Wall: start.UnixNano() + int64(now.Sub(start)), At: now})
		}
		c.Look(now, ahead+int64(now.Sub(start)), heard, 2)
		if past := c.Retain(now, ahead+int64(now.Sub(start))); past != 0 {
			t.Fatalf("after %v what is past goes by a clock two hours ahead", now.Sub(start))
		}
	}
}
