package edge

import (
	"strings"
	"testing"
	"time"

	"herd/edge/link"
)

// A joinRig steps the joining of edge A, whose neighbours are B and C, of five edges.
type joinRig struct {
	t    *testing.T
	j    *joining
	now  time.Time
	seen joinSeen
	b, c *neighbourSeen
}

// newJoinRig returns an edge that has its name and a loaded journal with entries.
func newJoinRig(t *testing.T) *joinRig {
	r := &joinRig{t: t, now: time.Unix(1e9, 0), seen: joinSeen{
		broker: true, named: true, journal: true, holds: true, neighbours: make([]neighbourSeen, 2),
	}}
	r.j = &joining{edges: 5, timeout: 5 * time.Second, heartbeat: time.Second, neighbours: []joiningNeighbour{{name: "B"}, {name: "C"}}}
	r.b, r.c = &r.seen.neighbours[0], &r.seen.neighbours[1]
	return r
}

// told records what a neighbour told in a heartbeat, and how much of its stream this edge holds.
func (r *joinRig) told(n *neighbourSeen, epoch string, level int, head, held uint64) {
	n.Standing = link.Standing{Epoch: epoch, Level: level, Head: head, At: r.now, Through: held, Up: true}
}

func (r *joinRig) step() joinStep {
	r.t.Helper()
	return r.j.step(r.now, &r.seen)
}

// is makes a step and compares its result.
func (r *joinRig) is(what string, level int, open bool) joinStep {
	r.t.Helper()
	s := r.step()
	if s.level != level || s.open != open {
		r.t.Errorf("H7 %s: level %d, open %v (%s); want level %d, open %v", what, s.level, s.open, s.why, level, open)
	}
	return s
}

// opensAfter lets time pass as the steps request, and compares how long it took to open.
func (r *joinRig) opensAfter(what string, want time.Duration) joinStep {
	r.t.Helper()
	start := r.now
	for range 100 {
		s := r.step()
		if s.open {
			if took := r.now.Sub(start); took != want {
				r.t.Errorf("H7 %s: open after %v, want %v", what, took, want)
			}
			return s
		}
		if !s.next.After(r.now) {
			r.t.Fatalf("H7 %s: at %v (level %d, %s) asks to be stepped at %v", what, r.now.Sub(start), s.level, s.why, s.next)
		}
		r.now = s.next
	}
	r.t.Fatalf("H7 %s: never opens", what)
	return joinStep{}
}

func TestALevelIsOneMoreThanTheLeastThatNeighboursCountFor(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.b, "b1", 0, 0, 0)
	r.told(r.c, "c1", 3, 10, 9)
	r.is("C's head is not held, B has loaded nothing", 1, false)
	r.told(r.b, "b1", 2, 4, 4)
	r.is("C's head is not held", 1, false)
	r.told(r.c, "c1", 3, 10, 10)
	if s := r.is("both are held", 3, false); s.why != "waits for B" {
		t.Errorf("%q", s.why)
	}
	r.told(r.b, "b1", 4, 20, 19)
	r.is("what B told since is not held", 3, false)
	r.told(r.b, "b1", 4, 20, 25)
	if s := r.is("all is held", 4, false); s.why != "waits for C" {
		t.Errorf("%q", s.why)
	}
	r.told(r.c, "c1", link.LevelOpen, 10, 10)
	if s := r.is("as many levels as edges", 5, true); s.short || s.why != "" {
		t.Errorf("%+v", s)
	}
}

func TestALevelNeverFalls(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.b, "b1", 3, 0, 0)
	r.told(r.c, "c1", 3, 0, 0)
	r.is("both are held", 4, false)
	r.told(r.b, "b2", 0, 0, 0) // all that the run before it knew is here
	r.is("B begins anew", 4, false)
}

func TestOpenNeighboursCountForAnyLevelOnceTheirHeadIsHeld(t *testing.T) {
	for name, level := range map[string]int{"open": link.LevelOpen, "settled": link.LevelSettled} {
		r := newJoinRig(t)
		r.told(r.b, "b1", level, 10, 9)
		r.told(r.c, "c1", level, 0, 0)
		r.is(name+" and not held", 1, false)
		r.told(r.b, "b1", level, 10, 10)
		r.is(name+" and held", 5, true)
	}
}

func TestWhoJoinsIsWaitedForUnlessSomebodyHasSettled(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.c, "c1", 0, 0, 0)
	r.told(r.b, "b1", link.LevelOpen, 0, 0)
	r.is("B opened just now, C may know more", 1, false)
	r.told(r.b, "b2", link.LevelSettled, 7, 6)
	r.is("B has settled, and is not held", 1, false)
	r.told(r.b, "b2", link.LevelSettled, 7, 7)
	r.is("B has settled: C knows no more than it", 5, true)
}

func TestOneThatSettledAndIsGoneDoesNotStandForOthers(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.b, "b1", link.LevelSettled, 7, 6)
	r.told(r.c, "c1", 0, 0, 0)
	r.is("B owes, C joins", 1, false)
	r.now = r.now.Add(4 * time.Second)
	r.b.Up = false
	r.is("B is silent, C joins", 1, false)
}

func TestARunThatIsNoMoreIsNotWaitedFor(t *testing.T) {
	r := newJoinRig(t)
	r.c.nobody = true
	r.told(r.b, "b1", link.LevelOpen, 1<<20, 100)
	r.is("B's head is far off", 0, false) // and C may be about to start
	// B restarts: nothing more of its first run will come, and its second run has less.
	r.told(r.b, "b2", link.LevelOpen, 50, 50)
	r.now = r.now.Add(5 * time.Second)
	r.told(r.b, "b2", link.LevelOpen, 50, 50)
	r.is("B's second run is held", 5, true)
}

func TestWhatARunToldBeforeItsEndDoesNotCountForTheNext(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.b, "b1", 4, 0, 0)
	r.told(r.c, "c1", 0, 0, 0)
	r.is("C has loaded nothing", 1, false)
	r.told(r.b, "b2", 1, 0, 0)
	r.told(r.c, "c1", 4, 0, 0)
	r.is("B begins anew", 2, false)
}

func TestWhoSaysGoodByeOrFallsSilentIsNotWaitedFor(t *testing.T) {
	t.Run("good-bye", func(t *testing.T) {
		r := newJoinRig(t)
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
		r.told(r.b, "b1", link.LevelOpen, 10, 9)
		r.is("B owes", 1, false)
		r.b.Standing = link.Standing{}
		r.is("B said good-bye", 5, true)
	})
	t.Run("silence", func(t *testing.T) {
		r := newJoinRig(t)
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
		r.told(r.b, "b1", link.LevelOpen, 10, 9)
		r.is("B owes", 1, false)
		r.now = r.now.Add(4 * time.Second)
		r.b.Up = false // its link is down
		r.is("B is silent", 5, true)
	})
	t.Run("an answer, and nothing more", func(t *testing.T) {
		r := newJoinRig(t)
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
		r.is("B may yet answer", 0, false)
		r.now = r.now.Add(2 * time.Second)
		r.told(r.b, "b1", link.LevelOpen, 10, 0)
		r.b.Up = false
		r.opensAfter("B answered and is not heard", 3*time.Second)
	})
}

func TestABrokerThatGoesIsNoSilence(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.c, "c1", link.LevelOpen, 0, 0)
	r.told(r.b, "b1", link.LevelOpen, 10, 9)
	r.is("B owes", 1, false)
	r.seen.broker, r.b.Up, r.c.Up = false, false, false
	r.is("nobody is heard while the broker is away", 1, false)
	r.now = r.now.Add(4 * time.Second)
	r.is("the broker is still away", 1, false)
	r.seen.broker = true
	r.is("the broker is back", 1, false)
	r.now = r.now.Add(2 * time.Second)
	r.is("and neighbours have time to speak", 1, false)
	r.opensAfter("they do not", time.Second)
}

func TestABrokerThatStaysAwayIsNotWaitedForForLong(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.c, "c1", 0, 0, 0)
	r.told(r.b, "b1", link.LevelOpen, 10, 9)
	r.is("B owes", 1, false)
	r.seen.broker, r.b.Up, r.c.Up = false, false, false
	r.opensAfter("the broker is away", 5*time.Second)
}

func TestAHeadOfWhichNothingComesIsNotWaitedFor(t *testing.T) {
	r := newJoinRig(t)
	r.told(r.c, "c1", link.LevelOpen, 0, 0)
	r.told(r.b, "b1", link.LevelOpen, 10, 3)
	r.is("B owes", 1, false)
	r.now = r.now.Add(4 * time.Second)
	r.told(r.b, "b1", link.LevelOpen, 10, 4)
	r.opensAfter("nothing of B comes", 5*time.Second)

	t.Run("a head that is told later has its time", func(t *testing.T) {
		r := newJoinRig(t)
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
		r.told(r.b, "b1", 1, 3, 3)
		r.is("B is at level 1", 2, false)
		r.now = r.now.Add(20 * time.Second)
		r.told(r.b, "b1", 4, 10, 3)
		r.is("B has just told a head", 2, false)
		r.opensAfter("nothing of it comes", 5*time.Second)
	})
	t.Run("only from when the journal is loaded", func(t *testing.T) {
		r := newJoinRig(t)
		r.seen.journal, r.seen.entries = false, 1
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
		r.told(r.b, "b1", link.LevelOpen, 10, 3)
		for range 10 { // which takes a while
			r.is("the journal comes", 0, false)
			r.now, r.seen.entries = r.now.Add(4*time.Second), r.seen.entries+1
		}
		r.seen.journal = true
		r.is("the journal is there", 1, false)
		r.opensAfter("nothing of B comes", 5*time.Second)
	})
}

func TestWhoWasNeverHeardIsWaitedForByWhoHoldsSomething(t *testing.T) {
	t.Run("nobody answers", func(t *testing.T) {
		r := newJoinRig(t)
		r.b.nobody, r.c.nobody = true, true
		s := r.step()
		if s.why != "waits for B, C" {
			t.Errorf("%q", s.why)
		}
		r.opensAfter("nobody comes", 5*time.Second)
	})
	t.Run("they may come", func(t *testing.T) {
		r := newJoinRig(t)
		r.b.nobody, r.c.nobody = true, true
		r.is("nobody is there", 0, false)
		r.now = r.now.Add(4 * time.Second)
		r.told(r.b, "b1", 0, 0, 0)
		r.is("B is there", 0, false)
		r.now = r.now.Add(time.Second)
		r.is("C did not come, B loads", 1, false)
	})
	t.Run("the first edge of a new herd", func(t *testing.T) {
		r := newJoinRig(t)
		r.seen.holds = false
		r.b.nobody, r.c.nobody = true, true
		r.is("nobody is there, and nothing is known", 5, true)
	})
	t.Run("not where somebody has settled", func(t *testing.T) {
		r := newJoinRig(t)
		r.c.nobody = true
		r.told(r.b, "b1", link.LevelSettled, 1, 1)
		r.is("B has settled", 5, true)
	})
}

func TestNoAnswerIsNotNobody(t *testing.T) {
	r := newJoinRig(t)
	r.seen.holds = false // otherwise it would be waited for anyway
	r.c.nobody = true
	if s := r.is("B may yet answer", 0, false); s.why != "waits for B" {
		t.Errorf("%q", s.why)
	}
	r.opensAfter("B does not answer for three heartbeats", 3*time.Second)

	r = newJoinRig(t)
	r.told(r.b, "b1", link.LevelSettled, 0, 0)
	r.is("C may be open as well", 0, false)
	r.opensAfter("C does not answer for three heartbeats", 3*time.Second)

	r = newJoinRig(t)
	r.seen.holds, r.j.heartbeat = false, 10*time.Millisecond
	r.opensAfter("a whole question", time.Second)
}

func TestTheJournalIsWaitedForWhileItComes(t *testing.T) {
	open := func(r *joinRig) {
		r.told(r.b, "b1", link.LevelOpen, 0, 0)
		r.told(r.c, "c1", link.LevelOpen, 0, 0)
	}
	t.Run("auto", func(t *testing.T) {
		r := newJoinRig(t)
		r.seen.journal = false
		open(r)
		for range 100 { // loading has no fixed end
			if s := r.is("the journal comes", 0, false); s.why != "waits for the journal" {
				t.Errorf("%q", s.why)
			}
			r.now, r.seen.entries = r.now.Add(4*time.Second), r.seen.entries+1
		}
		r.opensAfter("nothing comes any more", 5*time.Second)
	})
	t.Run("on", func(t *testing.T) {
		r := newJoinRig(t)
		r.seen.journal, r.j.mustJournal = false, true
		open(r)
		r.is("the journal is awaited", 0, false)
		r.now = r.now.Add(time.Hour)
		open(r)
		r.is("the journal has to be there", 0, false)
		r.seen.journal = true
		r.is("it is", 5, true)
	})
}

func TestAnEdgeOpensHalfAMinuteAfterItsJournalIsLoaded(t *testing.T) {
	r := newJoinRig(t)
	r.seen.journal = false
	r.told(r.b, "b1", 0, 0, 0)
	r.told(r.c, "c1", 0, 0, 0)
	r.is("the journal comes", 0, false)
	r.now, r.seen.entries = r.now.Add(3*time.Second), 1
	r.is("the journal comes", 0, false)
	r.seen.journal = true
	if s := r.opensAfter("B and C load for ever", 30*time.Second); !s.short || s.level != 1 || s.why != "waits for B, C" {
		t.Errorf("H7 %+v", s)
	}
}

func TestTheNameIsWaitedForWhereThereIsABroker(t *testing.T) {
	r := newJoinRig(t)
	r.seen.named = false
	r.b.nobody, r.c.nobody = true, true
	if s := r.is("the name is asked for", 0, false); s.why != "waits for its name" || !s.next.IsZero() {
		t.Errorf("%+v", s)
	}
	r.now = r.now.Add(time.Minute)
	r.is("the name is still asked for", 0, false)
	r.seen.named = true
	r.opensAfter("now neighbours have their time", 5*time.Second)

	t.Run("no broker", func(t *testing.T) {
		r := newJoinRig(t)
		r.seen.named, r.seen.broker, r.seen.journal = false, false, false
		if s := r.is("the broker is away", 0, false); s.why != "waits for the broker" {
			t.Errorf("%q", s.why)
		}
		r.opensAfter("it does not come", 5*time.Second)
	})
	t.Run("no broker, and a journal that must be", func(t *testing.T) {
		r := newJoinRig(t)
		r.j.mustJournal = true
		r.seen.named, r.seen.broker, r.seen.journal = false, false, false
		r.is("the broker is away", 0, false)
		r.now = r.now.Add(time.Hour)
		if s := r.is("D4 the broker is away", 0, false); s.why != "waits for the journal" {
			t.Errorf("%q", s.why)
		}
	})
}

func TestALoneEdgeOpensAtOnce(t *testing.T) {
	r := newJoinRig(t)
	r.j.edges, r.j.neighbours, r.seen.neighbours = 1, nil, nil
	r.is("nobody else", 1, true)
}

func TestWhatIsWaitedForIsBounded(t *testing.T) {
	r := newJoinRig(t)
	r.j.neighbours, r.seen.neighbours = nil, make([]neighbourSeen, 30)
	for range 30 {
		r.j.neighbours = append(r.j.neighbours, joiningNeighbour{name: strings.Repeat("N", 32)})
	}
	if s := r.step(); len(s.why) > 200 || !strings.HasSuffix(s.why, " and 27 more") {
		t.Errorf("%d bytes: %q", len(s.why), s.why)
	}
}
