package link

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"time"
)

func TestALateWordOfADeadRunCostsNothing(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Through: 1000000, Lines: r.line("a")})
		pass(time.Second)
		r.acked()
		for range 3 {
			r.hear(Message{Epoch: earlierTheirs, After: 7, Through: 7, Interval: 10 * time.Second})
			if a := r.acked(); len(a) != 1 || a[0] != (Ack{Epoch: us, Of: earlierTheirs, Rewind: true}) {
				t.Errorf("H6 the dead run is told %+v", a)
			}
		}
		r.hear(Message{After: 1000000, Through: 1000001, Lines: r.line("b")})
		pass(ackDelay)
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{Epoch: us, Of: them, Through: 1000001}) {
			t.Errorf("H6 the live run is told %+v, want that all is held", a)
		}
		if s := r.link.Standing(); s.Epoch == earlierTheirs {
			t.Errorf("H7 the dead run counts: %+v", s)
		}
		// Its heartbeat does not count as the live run's either.
		pass(3 * time.Second)
		if r.link.Stats().In {
			t.Error("H8 in is up after three heartbeats of the live run")
		}
	})
}

func TestTheLastTwoRunsAreRemembered(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		epoch := func(i int) string { return fmt.Sprintf("%016x-00000001", 0xb0+i) }
		for i := range 3 {
			r.hear(Message{Epoch: epoch(i), Through: uint64(10 + i)})
			pass(1100 * time.Millisecond)
		}
		r.acked()
		for i, want := range []Ack{{us, epoch(0), 0, true}, {us, epoch(1), 11, false}, {us, epoch(2), 12, false}} {
			if i == 0 {
				continue // checked last, because it replaces another
			}
			r.hear(Message{Epoch: epoch(i), After: uint64(10 + i), Through: uint64(10 + i), Interval: time.Second})
			if a := r.acked(); len(a) != 1 || a[0] != want {
				t.Errorf("H6 run %d is told %+v, want %+v", i, a, want)
			}
		}
		r.hear(Message{Epoch: epoch(0), After: 10, Through: 10})
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, epoch(0), 0, true}) {
			t.Errorf("H6 the run before them is told %+v, want that nothing is held", a)
		}
	})
}

// Each of two live runs is told what is held of its stream, though their messages alternate.
func TestTwoLiveRunsAreEachAcknowledged(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		for i := range uint64(20) {
			r.hear(Message{Epoch: them, After: i, Through: i + 1})
			r.hear(Message{Epoch: laterTheirs, After: i, Through: i + 1})
		}
		pass(ackDelay)
		last := map[string]uint64{}
		for _, a := range r.acked() {
			if last[a.Of] = a.Through; a.Rewind {
				t.Errorf("H6 asked again: %+v", a)
			}
		}
		if last[them] != 20 || last[laterTheirs] != 20 {
			t.Errorf("H6 told %v", last)
		}
	})
}

// Messages with ever new epochs replace the stream of a live run at most once per heartbeat.
func TestANewRunIsTakenUpOncePerHeartbeat(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		taken := 0
		for i := range 1000 { // ten seconds
			r.hear(Message{Epoch: fmt.Sprintf("%016x-00000001", 0xc0+i), Through: 5, Interval: time.Second})
			taken += len(r.acked())
			pass(10 * time.Millisecond)
		}
		if taken > 13 {
			t.Errorf("H6 %d runs were taken up in ten heartbeats", taken)
		}
		pass(time.Second)
		r.hear(Message{Through: 3}) // an earlier run, with valid messages
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 3, false}) {
			t.Errorf("H9 then a run that speaks well is told %+v", a)
		}
	})
}

func TestMessagesThatCannotBeAreDroppedWithoutAnAck(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Through: 10, Head: 20, Lines: r.line("a")})
		pass(ackDelay)
		r.acked()
		for i, lie := range []func(){
			func() { r.lie(10, 12, 11, r.line("x")...) }, // through beyond the head
			func() { r.lie(10, 9, 30, r.line("x")...) },  // through before after
			func() { r.lie(8, 11, 19, r.line("x")...) },  // a lower head than before
			func() {
				r.link.Receive(time.Now(), &Message{Epoch: laterTheirs, After: 1, Head: 30, Lines: r.line("x")})
			}, // of a new run
		} {
			lie()
			pass(ackDelay)
			if a := r.acked(); len(a) != 0 {
				t.Errorf("H9 lie %d is acknowledged: %+v", i, a)
			}
		}
		clients, _, _ := r.table.Stats()
		if s := r.link.Stats(); clients != 1 || s.RefusedLines != 4 || !s.In {
			t.Errorf("H9 %d clients, %+v", clients, s)
		}
		// The revisions of the message whose head was too low must not count as held.
		r.hear(Message{After: 10, Through: 12})
		pass(ackDelay)
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 8, true}) {
			t.Errorf("H9 after what was dropped: %+v", a)
		}
	})
}

// After a forged message, or if a run's memory went back, all messages of a stream are dropped.
// It heals after three heartbeats.
func TestAnEpochThatWentBackIsTakenAnew(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  func(r *rig)
	}{
		{"H9 a head that nothing reaches", func(r *rig) { r.lie(0, 1<<63, 1<<63) }},
		{"H9 a head a little ahead", func(r *rig) { r.lie(0, 15, 15) }},
		{"H9 a memory that went back", func(r *rig) { r.lie(10, 12, 100) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.hear(Message{Through: 10, Lines: r.line("a")})
				pass(time.Second)
				c.lie(r)
				pass(time.Second)
				r.acked()
				start := time.Now()
				for range 100 {
					r.lie(10, 10, 10)
					if a := r.acked(); len(a) > 0 {
						if took := time.Since(start); took < 3*time.Second || took > 3200*time.Millisecond || a[0] != (Ack{us, them, 0, true}) {
							t.Errorf("H9 after %v acked %+v", took, a)
						}
						break
					}
					pass(100 * time.Millisecond)
				}
				r.lie(0, 10, 10, r.line("b")...)
				pass(ackDelay)
				if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 10, false}) {
					t.Errorf("H9 after all came again: %+v", a)
				}
				if clients, _, _ := r.table.Stats(); clients != 2 {
					t.Errorf("H9 %d clients, want a and b", clients)
				}
			})
		})
	}
}

// The interval in a forged heartbeat must not keep the link from healing, nor keep its silence
// from being noticed.
func TestALongIntervalOfALieDoesNotLast(t *testing.T) {
	for _, c := range []struct {
		name string
		lie  Message
	}{
		{"H9 of the run that lives", Message{Epoch: them, Through: 1 << 62, Head: 1 << 62, Interval: 24 * time.Hour}},
		{"H9 of a later run", Message{Epoch: laterTheirs, Interval: 24 * time.Hour}},
		{"H9 of an earlier run", Message{Epoch: earlierTheirs, Interval: 24 * time.Hour}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.live(2*time.Second, 0)
				r.link.Receive(time.Now(), &c.lie)
				start := time.Now()
				r.live(10*time.Second, 0)
				for r.link.Stats().In && time.Since(start) < time.Minute {
					pass(100 * time.Millisecond)
					r.ack(0, false)
				}
				if took := time.Since(start); took > 13*time.Second {
					t.Errorf("in was down %v after ten seconds of true heartbeats", took)
				}
			})
		})
	}
}

func TestAGoodMessageEndsTheCountOfBadOnes(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Through: 10})
		r.acked()
		for range 20 {
			pass(500 * time.Millisecond)
			r.lie(0, 1, 9)
			pass(500 * time.Millisecond)
			r.lie(0, 10, 10)
			for _, a := range r.acked() {
				if a.Through != 10 || a.Rewind {
					t.Fatalf("H9 acked %+v", a)
				}
			}
		}
	})
}

func TestAnEpochIsTakenToHaveGoneBackOnceAMinuteAtMost(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		asked := 0
		for range 600 { // ten minutes
			r.lie(0, 10, 1<<40)
			pass(500 * time.Millisecond)
			r.lie(0, 10, 10)
			pass(500 * time.Millisecond)
			for _, a := range r.acked() {
				if a.Rewind && a.Through == 0 {
					t.Fatal("H9 asked for all though some are good")
				}
			}
			r.tap.drain()
		}
		for range 600 {
			r.lie(3, 2, 1)
			pass(time.Second)
			for _, a := range r.acked() {
				if a.Rewind {
					asked++
				}
			}
			r.tap.drain()
		}
		if asked < 9 || asked > 10 {
			t.Errorf("H9 all was asked for %d times in ten minutes", asked)
		}
	})
}

// ownClock makes a link read a clock that the test can set.
func ownClock(off *atomic.Int64) func(*Config) {
	return func(c *Config) {
		c.Wall = func(t time.Time) int64 { return t.UnixNano() + off.Load() }
	}
}

func TestALineOfLaterThanOurClockIsPutOffAndAskedForInTime(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		lines := slices.Concat(r.line("a"), r.lineAt("late", time.Hour+90*time.Second), r.line("b"))
		r.hear(Message{Through: 3, Lines: r.line("c")})
		r.hear(Message{After: 3, Through: 6, Lines: lines})
		r.hear(Message{After: 6, Through: 9, Lines: r.lineAt("later", 2*time.Hour)})
		pass(ackDelay)
		if a := r.acked(); len(a) == 0 || a[len(a)-1] != (Ack{us, them, 9, false}) {
			t.Errorf("H9 acked %+v, want as ever", a)
		}
		clients, _, _ := r.table.Stats()
		if s := r.link.Stats(); clients != 3 || s.PutOff != 2 || s.RefusedLines != 0 || s.ReceivedLines != 3 {
			t.Errorf("H9 %d clients, %+v", clients, s)
		}
		start := time.Now()
		var asked []Ack
		for len(asked) == 0 && time.Since(start) < 10*time.Minute {
			r.beat()
			for _, a := range r.acked() {
				if a.Rewind {
					asked = append(asked, a)
				}
			}
			pass(500 * time.Millisecond)
		}
		if took := time.Since(start); took < 90*time.Second || took > 92*time.Second || len(asked) == 0 || asked[0] != (Ack{us, them, 3, true}) {
			t.Errorf("H9 asked again after %v: %+v", took, asked)
		}
		r.hear(Message{After: 3, Through: 9, Lines: slices.Concat(lines, r.lineAt("later", 30*time.Minute))})
		pass(ackDelay)
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 9, false}) {
			t.Errorf("H9 acked %+v", a)
		}
		if clients, _, _ := r.table.Stats(); clients != 5 {
			t.Errorf("H9 %d clients, want all five", clients)
		}
	})
}

// The effective time counts and not the receipt: if an edge's clock is fast, its client's clock
// counts.
func TestLinesArePutOffByTheirEffectiveTime(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		now := time.Now().Unix()
		line := func(client string, stamp, receipt time.Duration) string {
			return fmt.Sprintf("AT A %+.9f %s +1+1 %d\n", (receipt - stamp).Seconds(), client, now+int64(stamp.Seconds()))
		}
		r.hear(Message{Through: 3, Lines: []byte(
			line("fast-edge", 0, 5*time.Hour) +
				line("fast-client", 5*time.Hour, 0) + // counts as a minute past its receipt
				line("at-the-border", time.Hour, time.Hour) +
				line("beyond", time.Hour+time.Second, time.Hour+time.Second))})
		clients, _, _ := r.table.Stats()
		if s := r.link.Stats(); clients != 3 || s.PutOff != 1 {
			t.Errorf("H9 %d clients, %+v", clients, s)
		}
	})
}

func TestAClockThatIsPutRightHasWhatWasPutOffAskedForAtOnce(t *testing.T) {
	var off atomic.Int64
	inBubble(t, ownClock(&off), func(r *rig) {
		off.Store(-int64(20 * 365 * 24 * time.Hour))
		r.hear(Message{Through: 1, Lines: r.line("a")})
		for range 20 {
			pass(500 * time.Millisecond)
			r.beat()
		}
		r.acked()
		off.Store(0)
		pass(time.Second)
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 0, true}) {
			t.Errorf("H9 acked %+v", a)
		}
	})
}

// The pause between two requests for lines again doubles, up to an hour.
func TestWhatIsPutOffIsAskedForEverMoreSeldom(t *testing.T) {
	var off atomic.Int64
	inBubble(t, ownClock(&off), func(r *rig) {
		begun := time.Now()
		var at []time.Duration
		asked := func(d time.Duration) {
			t.Helper()
			at = at[:0]
			for end := time.Now().Add(d); time.Now().Before(end); {
				r.hear(Message{Through: 1, Lines: r.lineAt("a", time.Hour+2*time.Second), Interval: time.Second})
				pass(time.Second)
				for _, a := range r.acked() {
					if a.Rewind {
						at = append(at, time.Since(begun).Round(time.Minute))
					}
				}
				r.tap.drain()
			}
		}
		asked(4 * time.Hour)
		want := []time.Duration{0, 1, 3, 7, 15, 31, 63, 123, 183}
		for i := range want {
			want[i] *= time.Minute
		}
		if !slices.Equal(at, want) {
			t.Errorf("H9 asked after %v, want %v", at, want)
		}
		// A step of the own clock resets the pause.
		off.Store(-int64(time.Minute))
		begun = time.Now()
		if asked(10 * time.Minute); len(at) < 3 {
			t.Errorf("H9 after a step asked after %v", at)
		}
	})
}

func TestANewEpochForgetsWhatWasPutOff(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Through: 1, Lines: r.lineAt("a", time.Hour+time.Minute)})
		r.hear(Message{Epoch: laterTheirs, Through: 5})
		for range 300 {
			pass(500 * time.Millisecond)
			r.hear(Message{Epoch: laterTheirs, After: 5, Through: 5, Interval: time.Second})
		}
		for _, a := range r.acked() {
			if a.Rewind {
				t.Fatalf("H9 asked %+v", a)
			}
		}
	})
}

// Lines of a dead run must not delay the request for lines of a live one, even if the link was cut
// before the death could be noticed.
func TestWhatADeadRunSaidDoesNotPutOffWhatALiveOneDid(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		late := time.Hour + 10*time.Second
		r.hear(Message{Epoch: earlierTheirs, Through: 1, Lines: r.lineAt("a", late)})
		r.hear(Message{Through: 1, Lines: r.lineAt("b", late)})
		pass(time.Second)
		// Its last message; then both are silent.
		r.hear(Message{Epoch: earlierTheirs, After: 1, Through: 1})
		pass(30 * time.Second)
		r.tap.drain()
		r.hear(Message{After: 1, Through: 1})
		if a := r.acked(); len(a) != 1 || a[0] != (Ack{us, them, 0, true}) {
			t.Errorf("H9 acked %+v, want b asked for", a)
		}
	})
}

// If through is lowered while a message is merged, the end of the merge must not raise it again.
func TestWhatIsTakenBackDuringAMergeStaysSo(t *testing.T) {
	var during atomic.Pointer[func()]
	change := func(c *Config) {
		c.Wall = func(t time.Time) int64 {
			if f := during.Swap(nil); f != nil {
				(*f)()
			}
			return t.UnixNano()
		}
	}
	inBubble(t, change, func(r *rig) {
		r.hear(Message{Through: 5, Lines: r.line("a")})
		r.hear(Message{After: 5, Through: 6, Lines: r.lineAt("b", time.Hour+time.Second)})
		pass(900 * time.Millisecond)
		r.acked()
		f := func() {
			time.Sleep(200 * time.Millisecond) // b may be merged now
			r.link.askAgain(time.Now())
		}
		during.Store(&f)
		r.hear(Message{After: 6, Through: 7, Lines: r.line("c")})
		pass(ackDelay)
		a := r.acked()
		if len(a) == 0 || a[len(a)-1] != (Ack{us, them, 5, true}) {
			t.Errorf("H9 acked %+v, want b asked for", a)
		}
	})
}

func TestAGate(t *testing.T) {
	var g gate
	now := time.Now()
	passed := ""
	for _, after := range []int{0, 0, 0, 0, 10, 10, 5, 5, 100, 0, 0, 0} {
		now = now.Add(time.Duration(after) * time.Second)
		passed += map[bool]string{true: "+", false: "-"}[g.pass(now, 10*time.Second, 3)]
	}
	if want := strings.ReplaceAll("+++- + + - + +++ -", " ", ""); passed != want {
		t.Errorf("passed %s, want %s", passed, want)
	}
}
