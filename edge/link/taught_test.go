package link

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestWhatANeighbourTaughtIsNotSentBackAndLagEnds(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H4 sent back at once: %+v", m)
		}
		r.tell("b")
		m := r.sent()
		if len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("H4 %+v, want b alone, from behind 0", m)
		}
		r.ack(2, false)
		r.hear(Message{After: 1, Through: 2, Lines: r.line("c")})
		pass(100 * time.Millisecond)
		if m := r.sent(); len(m) != 1 || m[0].After != 2 || m[0].Through != 3 || len(m[0].Lines) != 0 {
			t.Errorf("H4 an empty message should move the neighbour past what it taught: %+v", m)
		}
		r.ack(3, false)
		if s := r.link.Stats(); s.Lag != 0 || s.DuplicateLines != 0 {
			t.Errorf("%+v", s)
		}
	})
}

// A run that takes back what it has acknowledged may have lost more than that, as a machine does that
// is set back to a snapshot: what it taught since is known here only.
func TestWhoTakesBackWhatItHeldIsSentWhatItTaught(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		r.tell("b")
		r.sent()
		r.ack(2, false)
		r.ack(0, true)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || bytes.Count(m[0].Lines, []byte("\n")) != 2 {
			t.Errorf("H4 %+v, want a and b, from behind 0", m)
		}
		r.ack(2, false)
		r.hear(Message{After: 1, Through: 2, Lines: r.line("c")}) // what it teaches from now on counts
		r.tell("d")
		pass(time.Second)
		if m := r.sent(); len(m) != 1 || bytes.Contains(m[0].Lines, []byte(" c ")) {
			t.Errorf("H4 %+v, want d alone", m)
		}
		// A message that was lost, and is asked for again, was never acknowledged.
		r.tell("e")
		r.sent()
		pass(time.Second)
		r.ack(2, true)
		if m := r.sent(); len(m) != 1 || bytes.Contains(m[0].Lines, []byte(" c ")) {
			t.Errorf("H4 %+v, want d and e", m)
		}
	})
}

// A run that counts again after a later one did may have been set back meanwhile: its acks are compared
// with those of the other.
func TestAnEarlierRunThatIsBackIsSentWhatItTaught(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		pass(time.Second)
		r.ack(1, false)
		pass(time.Second)
		r.heardAck(Ack{Epoch: laterTheirs, Of: us})
		r.heardAck(Ack{Epoch: laterTheirs, Of: us, Through: 1})
		r.sent()
		pass(4 * time.Second) // the later run is silent
		r.sent()
		r.ack(0, true)
		if m := r.sent(); len(m) != 1 || m[0].To != them || m[0].After != 0 || !bytes.Contains(m[0].Lines, []byte(" a ")) {
			t.Errorf("H4 %+v, want a, from behind 0", m)
		}
	})
}
