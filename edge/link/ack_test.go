package link

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const (
	earlierOurs   = "00000000000000a0-00000001"
	earlierTheirs = "00000000000000b0-00000001"
	laterTheirs   = "00000000000000b2-00000001"
)

// heardAck passes an ack of the neighbour to the link.
func (r *rig) heardAck(a Ack) {
	r.link.ReceiveAck(time.Now(), a)
	synctest.Wait()
}

func TestTheCursorGoesBackWhereAnAckSaysSo(t *testing.T) {
	for _, c := range []struct {
		name  string
		ack   Ack
		after uint64
		to    string
	}{
		{"H6 a message did not follow", Ack{Epoch: them, Of: us, Through: 2, Rewind: true}, 2, them},
		{"H6 a later epoch of the neighbour", Ack{Epoch: laterTheirs, Of: us, Through: 1}, 1, laterTheirs},
		{"H6 a later epoch of the neighbour, of another of ours", Ack{Epoch: laterTheirs, Of: earlierOurs, Through: 3}, 0, laterTheirs},
		{"H6 a later epoch of the neighbour, of none of ours", Ack{Epoch: laterTheirs}, 0, laterTheirs},
		{"H6 a later epoch of the neighbour, more than was sent", Ack{Epoch: laterTheirs, Of: us, Through: 99}, 0, laterTheirs},
		{"H6 more than was sent", Ack{Epoch: them, Of: us, Through: 99}, 0, them},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.ack(0, false)
				r.tell("a", "b", "c")
				r.sent()
				r.heardAck(c.ack)
				m := r.sent()
				if len(m) != 1 || m[0].After != c.after || m[0].Through != 3 || m[0].To != c.to {
					t.Errorf("sent %+v, want all behind %d to %s", m, c.after, c.to)
				}
				if r.link.Stats().Rewinds != 1 {
					t.Errorf("counted %d rewinds", r.link.Stats().Rewinds)
				}
			})
		})
	}
}

func TestAnAckFromAnEarlierEpochCountsOnlyWhenTheLaterIsSilent(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.tell("a", "b", "c")
		r.sent()
		earlier := Ack{Epoch: earlierTheirs, Of: us, Through: 1, Rewind: true}
		start := time.Now()
		for range 29 {
			pass(100 * time.Millisecond)
			r.heardAck(earlier)
			if m := r.sent(); len(m) != 0 {
				t.Fatalf("H6 after %v sent %+v", time.Since(start), m)
			}
		}
		pass(100 * time.Millisecond) // the later one has been silent for three heartbeats
		r.heardAck(earlier)
		if m := r.sent(); len(m) != 1 || m[0].To != earlierTheirs || m[0].After != 1 {
			t.Errorf("H6 the later run is silent, sent %+v", m)
		}
		pass(time.Second)
		r.heardAck(Ack{Epoch: them, Of: us, Through: 3})
		r.tell("d")
		if m := r.sent(); len(m) != 1 || m[0].To != them || m[0].After != 3 {
			t.Errorf("H6 the later run again: sent %+v", m)
		}
	})
}

// A run whose clock has gone back has the earlier epoch. Where it has taken the name from one before,
// which stopped and said so, nothing needs to be waited for.
func TestAnAckFromAnEarlierEpochCountsWhenTheLaterHasSaidGoodBye(t *testing.T) { // H6
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{})
		r.tell("a", "b", "c")
		r.sent()
		earlier := Ack{Epoch: earlierTheirs, Of: us, Through: 1, Rewind: true}
		pass(100 * time.Millisecond)
		r.heardAck(earlier)
		if m := r.sent(); len(m) != 0 {
			t.Fatalf("before the good-bye, sent %+v", m)
		}
		r.hear(Message{Bye: true})
		r.heardAck(earlier)
		if m := r.sent(); len(m) != 1 || m[0].To != earlierTheirs || m[0].After != 1 || m[0].Through != 3 {
			t.Errorf("sent %+v, want all behind 1 to the run that is left", m)
		}
	})
}

func TestTheCursorGoesToAnotherRunAtMostOncePerHeartbeat(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		r.sent()
		to := map[string]bool{}
		sent := 0
		start := time.Now()
		for i := 0; time.Since(start) < 10*time.Second; i++ {
			r.heardAck(Ack{Epoch: fmt.Sprintf("%016x-00000001", 0xb2+i), Of: earlierOurs})
			for _, m := range r.sent() {
				to[m.To] = true
				sent++
			}
			pass(time.Millisecond)
		}
		if sent != len(to) || sent > 11 || sent < 8 {
			t.Errorf("H6 %d messages in ten heartbeats, to %d runs", sent, len(to))
		}
	})
}

func TestAnAckOfAnotherEpochOfOursIsHeededOnlyBeforeOneOfThis(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		other := Ack{Epoch: them, Of: earlierOurs, Through: 7}
		r.heardAck(other) // the sender has not heard of this epoch of ours
		r.tell("a")
		if m := r.sent(); len(m) != 1 || m[0].After != 0 {
			t.Fatalf("sent %+v", m)
		}
		r.heardAck(other)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 {
			t.Errorf("H6 before an ack of this epoch: sent %+v", m)
		}
		r.ack(1, false)
		pass(time.Minute)
		r.ack(1, false)
		r.tell("b")
		r.sent()
		r.heardAck(other)
		other.Rewind = true
		r.heardAck(other)
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H6 after an ack of this epoch: sent %+v", m)
		}
		if lag := r.link.Stats().Lag; lag != 1 {
			t.Errorf("H6 lag %d, want 1", lag)
		}
		// Nor does it show that the neighbour hears us.
		for range 10 {
			pass(500 * time.Millisecond)
			r.heardAck(other)
		}
		r.linkIs("after acks of another epoch only", false, false)
	})
}

// Whatever acks say, they cause at most a window of messages per heartbeat.
func TestAcksBringAWindowPerHeartbeatAtMost(t *testing.T) {
	for _, c := range []struct {
		name string
		ack  func(i int) Ack
	}{
		{"H9 back to the beginning", func(int) Ack { return Ack{Epoch: them, Of: us, Rewind: true} }},
		{"H9 back to one place after the other", func(i int) Ack { return Ack{Epoch: them, Of: us, Through: uint64(i % 5), Rewind: true} }},
		{"H9 more than was sent", func(i int) Ack { return Ack{Epoch: them, Of: us, Through: 1 << 40} }},
		{"H9 ever new runs", func(i int) Ack {
			return Ack{Epoch: fmt.Sprintf("%016x-00000001", 0xb2+i), Of: us, Through: uint64(i % 900), Rewind: true}
		}},
		{"H9 two runs by turns", func(i int) Ack {
			return Ack{Epoch: []string{them, laterTheirs}[i%2], Of: []string{us, earlierOurs}[i/2%2], Rewind: i%3 == 0}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.MaxBytes = func() int { return 400 } }, func(r *rig) {
				for i := range 1000 {
					r.tell(fmt.Sprint("c", i))
				}
				r.ack(0, false)
				pass(2 * time.Second)
				r.tap.drain()
				start, sent := time.Now(), 0
				for i := 0; time.Since(start) < 10*time.Second; i++ {
					r.heardAck(c.ack(i))
					sent += len(r.sent())
					pass(5 * time.Millisecond)
				}
				if sent > 11*4 {
					t.Errorf("%d messages in ten heartbeats", sent)
				}
				// It heals once the neighbour sends valid acks.
				pass(4 * time.Second)
				last := fmt.Sprintf("%016x-00000001", 1<<20)
				r.heardAck(Ack{Epoch: last, Of: us})
				for range 1000 {
					through := uint64(0)
					for _, m := range r.sent() {
						through = max(through, m.Through)
					}
					if through > 0 {
						r.heardAck(Ack{Epoch: last, Of: us, Through: through})
					}
					pass(10 * time.Millisecond)
				}
				if lag := r.link.Stats().Lag; lag != 0 {
					t.Errorf("H9 the neighbour speaks well, and lag is %d", lag)
				}
			})
		})
	}
}

func TestTheWindowIsKept(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxBytes = func() int { return 100 } }, func(r *rig) {
		for i := range 100 {
			r.tell(fmt.Sprint("c", i))
		}
		r.ack(0, false)
		unacked := len(r.sent())
		for i := uint64(1); i < 45; i++ {
			if unacked != 4 {
				t.Fatalf("H5 %d messages are unacknowledged, want 4", unacked)
			}
			r.ack(i*2, false) // messages of two lines each
			unacked += len(r.sent()) - 1
			r.ack(i*2, false) // a repeated ack changes nothing
			r.ack(i*2-1, false)
			if m := r.sent(); len(m) != 0 {
				t.Fatalf("H5 an ack that reaches no message brought %+v", m)
			}
		}
	})
}

// Only the run of the neighbour that sent a line is known to hold it (H4).
func TestWhatARunTaughtIsSentToTheNext(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		r.tell("b")
		if m := r.sent(); len(m) != 1 || strings.Contains(string(m[0].Lines), " a ") {
			t.Fatalf("H4 sent %+v", m)
		}
		r.ack(2, false)
		r.heardAck(Ack{Epoch: laterTheirs})
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || strings.Count(string(m[0].Lines), "\n") != 2 {
			t.Errorf("H4 to the next run %+v, want a and b", m)
		}
		// A late message of the earlier run, then one of the next run.
		r.hear(Message{After: 1, Through: 2, Lines: r.line("c")})
		r.hear(Message{Epoch: laterTheirs, Through: 1, Lines: r.line("d")})
		r.tell("e")
		var lines []byte
		for range 3 {
			for _, m := range r.sent() {
				lines = append(lines, m.Lines...)
			}
			pass(100 * time.Millisecond)
		}
		for client, want := range map[string]int{" c ": 1, " d ": 0, " e ": 1} {
			if n := strings.Count(string(lines), client); n != want {
				t.Errorf("H4 sent %q %d times, want %d", client, n, want)
			}
		}
	})
}
