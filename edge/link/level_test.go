package link

import (
	"strings"
	"testing"
	"time"
)

// tellLevel passes a heartbeat of the neighbour with a level to the link.
func (r *rig) tellLevel(level int, head uint64) {
	r.hear(Message{Interval: time.Second, Level: level, Head: head})
}

// beats returns the heartbeats sent since the last call of beats or sent.
func (r *rig) beats() (all []Message) {
	pass(0)
	for {
		select {
		case m := <-r.tap.messages:
			if m.Interval > 0 {
				all = append(all, m)
			}
		default:
			return all
		}
	}
}

func TestAHeartbeatTellsTheLevelAtOnceWhenItRises(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		r.ack(0, false)
		r.beats()
		r.tell("a", "b")
		r.link.SetLevel(2)
		if m := r.beats(); len(m) != 1 || m[0].Level != 2 || m[0].Head != 2 {
			t.Errorf("H7 heartbeats %+v, want one with level 2 and the head", m)
		}
		r.link.SetLevel(2)
		r.link.SetLevel(1)
		if m := r.beats(); len(m) != 0 {
			t.Errorf("H7 %+v, where no level rose", m)
		}
		pass(time.Second)
		if m := r.beats(); len(m) != 1 || m[0].Level != 2 {
			t.Errorf("H7 heartbeats %+v, want every one to tell the level", m)
		}
	})
}

func TestTheLevelIsToldOnABusyLinkToo(t *testing.T) {
	for _, c := range []struct {
		name string
		we   bool
		they int
	}{
		{"H7 we join", true, 3},
		{"H7 they join", false, 3},
		{"H8 nobody joins", false, LevelOpen},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(cfg *Config) { cfg.Joins = c.we }, func(r *rig) {
				r.tellLevel(c.they, 0)
				r.ack(0, false)
				r.beats()
				told := 0
				for i := range 95 {
					r.tell("busy")
					pass(100 * time.Millisecond)
					for _, m := range r.beats() {
						if m.Level == r.link.level {
							told++
						}
					}
					r.ack(uint64(i+1), false)
					if i%10 == 0 {
						r.tellLevel(c.they, 0)
					}
				}
				if told < 9 {
					t.Errorf("the level was told %d times in 9.5s, want 9", told)
				}
			})
		})
	}
}

func TestALevelStandsForTheHeadThatItCameWithFirst(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		const later = "00000000000000b2-00000001"
		standing := func(epoch string, level int, head, held uint64) {
			t.Helper()
			if s := r.link.Standing(); s.Epoch != epoch || s.Level != level || s.Head != head || s.Through != held {
				t.Errorf("H7 %+v, want level %d of %q at %d, %d held", s, level, epoch, head, held)
			}
		}
		standing("", 0, 0, 0)
		r.hear(Message{Through: 2, Head: 5, Lines: append(r.line("a"), r.line("b")...)})
		standing("", 0, 0, 0) // a message without a level reports none
		r.tellLevel(1, 5)
		standing(them, 1, 5, 2)
		r.tellLevel(1, 9)
		standing(them, 1, 5, 2)
		r.tellLevel(3, 11)
		standing(them, 3, 11, 2)
		r.tellLevel(2, 12)
		standing(them, 3, 11, 2)
		r.link.Told(time.Now(), time.Now(), them, LevelOpen, 20)
		standing(them, LevelOpen, 20, 2)
		// Another run begins anew: nothing of its stream is held.
		r.hear(Message{Epoch: later, Interval: time.Second, Level: 1, Head: 7})
		standing(later, 1, 7, 0)
		r.hear(Message{Epoch: later, Bye: true})
		standing("", 0, 0, 0)
	})
}

func TestALateAnswerOfADeadRunDoesNotStandForTheLiveOne(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		const later = "00000000000000b2-00000001"
		asked := time.Now()
		pass(time.Millisecond)
		r.hear(Message{Epoch: later, Interval: time.Second, Level: 1, Head: 7})
		r.link.Told(time.Now(), asked, them, LevelSettled, 100)
		if s := r.link.Standing(); s.Epoch != later || s.Level != 1 {
			t.Errorf("H7 %+v, want what the live run told", s)
		}
		pass(time.Millisecond)
		r.link.Told(time.Now(), time.Now(), them, 2, 100) // asked after that heartbeat
		if s := r.link.Standing(); s.Epoch != them || s.Level != 2 || s.Head != 100 {
			t.Errorf("H7 %+v, want the answer", s)
		}
	})
}

func TestWhoJoinsSendsWhatItHasToThoseWhoJoin(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		r.tell("a")
		r.ack(0, false)
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H7 sent %+v to who may be open", m)
		}
		r.tellLevel(0, 5)
		if m := r.sent(); len(m) != 1 || !strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("H7 sent %+v to who joins, want a", m)
		}
		r.tellLevel(LevelOpen, 5)
		r.tell("b")
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H7 sent %+v to who is open", m)
		}
	})
}

// An edge that waits for its journal may be the only path between others for long (D4).
func TestWhoJoinsSendsToThoseWhoAreOpenWhatTheyLack(t *testing.T) {
	t.Run("H7 when it holds what they held", func(t *testing.T) {
		inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
			r.ack(0, false)
			r.tellLevel(LevelOpen, 2)
			r.tell("ours", "b")
			if m := r.sent(); len(m) != 0 {
				t.Errorf("sent %+v", m)
			}
			r.hear(Message{Through: 2, Lines: append(r.line("a"), r.line("b")...)})
			if m := r.sent(); len(m) != 1 || strings.Count(string(m[0].Lines), "AT ") != 1 || !strings.Contains(string(m[0].Lines), " ours ") {
				t.Errorf("sent %+v, want what they lack", m)
			}
		})
	})
	t.Run("H7 after half a minute in any case", func(t *testing.T) {
		inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
			r.tell("ours")
			for range 30 {
				r.ack(0, false)
				r.tellLevel(LevelOpen, 2)
				if m := r.sent(); len(m) != 0 {
					t.Fatalf("sent %+v", m)
				}
				pass(time.Second)
			}
			if m := r.sent(); len(m) != 1 {
				t.Errorf("sent %+v, want ours", m)
			}
		})
	})
}

func TestWhatWhoJoinsHoldsAlreadyIsSaidAtOnce(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.tellLevel(1, 2)
		r.hear(Message{Through: 2, Lines: append(r.line("a"), r.line("b")...)})
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || len(m[0].Lines) != 0 {
			t.Errorf("H7 said %+v, want at once that it has what we have", m)
		}
	})
}

func TestWhoJoinsIsToldOfWhatCame(t *testing.T) {
	came := make(chan struct{}, 100)
	inBubble(t, func(c *Config) { c.Joins, c.Came = true, func() { came <- struct{}{} } }, func(r *rig) {
		r.tellLevel(1, 2)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		if len(came) != 2 {
			t.Errorf("H7 told %d times of 2 messages", len(came))
		}
		r.link.SetLevel(LevelOpen)
		r.hear(Message{After: 1, Through: 2, Lines: r.line("b")})
		if len(came) != 2 {
			t.Errorf("told of a message after the join")
		}
	})
}

func TestWhoJoinsHandsOverWhatItHoldsBack(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		r.ack(0, false)
		r.tellLevel(LevelOpen, 5)
		r.tell("a")
		if m := r.sent(); len(m) != 0 {
			t.Fatalf("H7 sent %+v to who is open", m)
		}
		done := make(chan error, 1)
		go func() { done <- r.link.Drain(r.t.Context()) }()
		if m := r.sent(); len(m) != 1 || !strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("C19 handed over %+v, want a", m)
		}
		r.ack(1, false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
