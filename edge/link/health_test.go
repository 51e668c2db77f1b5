package link

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// linkIs checks which directions of the link are up.
func (r *rig) linkIs(when string, in, out bool) {
	r.t.Helper()
	s := r.link.Stats()
	isIn, isOut := r.link.Directions()
	if isIn != in || isOut != out || s.In != in || s.Out != out || s.Up != (in && out) {
		r.t.Errorf("H8 %s: in %v, out %v, up %v; want in %v, out %v", when, s.In, s.Out, s.Up, in, out)
	}
}

func TestThreeSilentHeartbeatsOfTheNeighbourTakeInDown(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.linkIs("before anything came", false, false)
		pass(1500 * time.Millisecond)
		r.tap.drain()
		r.hear(Message{Interval: 2 * time.Second}) // the sender's interval counts
		if len(r.tap.messages) != 1 {
			t.Error("H8 no sign of life in return at once")
		}
		r.linkIs("after a heartbeat", true, true)
		start := time.Now()
		for r.link.Stats().In && time.Since(start) < time.Minute {
			pass(500 * time.Millisecond)
			r.ack(0, false)
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("H8 in went down after %v of silence, want 6s", took)
		}
		r.linkIs("after the silence", false, true)
		r.tell("a") // the neighbour acknowledges, so a is sent to it
		if m := r.sent(); len(m) != 1 {
			t.Errorf("H8 sent %+v though acks come", m)
		}
		r.beat()
		r.linkIs("when the neighbour speaks again", true, true)
		if s := r.link.Stats(); s.Downs != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestALinkThatIsDownTellsSinceWhenAndNoOldFigures(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		if s := r.link.Stats(); !s.DownSince.IsZero() || !s.Since.IsZero() || !s.InSince.IsZero() || s.Why != "" {
			t.Errorf("a link that never was up: %+v", s)
		}
		first := time.Now()
		r.ack(0, false)
		r.hear(Message{Interval: time.Second, Clock: time.Now().Add(time.Hour).UnixNano()})
		pass(1500 * time.Millisecond) // a heartbeat is sent
		r.ack(0, false)
		if s := r.link.Stats(); s.RoundTrip == 0 || s.Clock != time.Hour || !s.DownSince.IsZero() {
			t.Fatalf("up: %+v", s)
		}
		for r.link.Stats().Up {
			pass(100 * time.Millisecond)
			r.ack(0, false)
		}
		down := time.Now()
		if s := r.link.Stats(); s.RoundTrip == 0 || s.Clock != 0 || !s.DownSince.Equal(down) {
			t.Errorf("out only: %+v", s)
		} else if !s.Since.Equal(down) || !s.InSince.Equal(down) || !s.OutSince.Equal(first) || s.Why != "nothing heard for 3s" {
			t.Errorf("out only: since %v, in %v, out %v, why %q", s.Since, s.InSince, s.OutSince, s.Why)
		}
		for r.link.Stats().Out {
			pass(100 * time.Millisecond)
		}
		if s := r.link.Stats(); s.RoundTrip != 0 || s.Clock != 0 || !s.DownSince.Equal(down) {
			t.Errorf("down: %+v, want since %v", s, down)
		}
		r.beat()
		if s := r.link.Stats(); !s.Up || !s.DownSince.IsZero() || s.Why != "" || !s.InSince.Equal(s.Since) {
			t.Errorf("up again: %+v", s)
		}
	})
}

func TestALinkCountsMessagesAndBytes(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Interval: time.Second})
		pass(100 * time.Millisecond)
		before := r.link.Stats()
		if before.SentMessages == 0 || before.ReceivedMessages != 1 || before.SentBytes != 0 || before.ReceivedBytes != 0 {
			t.Errorf("of heartbeats: %+v", before)
		}
		r.tell("a")
		bytes := 0
		for _, m := range r.sent() {
			bytes += len(m.Lines)
		}
		line := "AT X +0.000000000 b +1+1 1\n"
		r.hear(Message{Through: 1, Head: 1, Lines: []byte(line)})
		s := r.link.Stats()
		if s.SentMessages <= before.SentMessages || s.SentBytes != uint64(bytes) || bytes == 0 {
			t.Errorf("sent %d messages and %d bytes, want more than %d and %d", s.SentMessages, s.SentBytes, before.SentMessages, bytes)
		}
		if s.ReceivedMessages != 2 || s.ReceivedBytes != uint64(len(line)) {
			t.Errorf("received %d messages and %d bytes, want 2 and %d", s.ReceivedMessages, s.ReceivedBytes, len(line))
		}
	})
}

func TestWithoutAcksForThreeHeartbeatsALinkSendsHeartbeatsOnly(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.hear(Message{Interval: time.Second})
		pass(500 * time.Millisecond)
		r.ack(0, false)
		r.tell("a")
		if m := r.sent(); len(m) != 1 {
			t.Fatalf("sent %+v", m)
		}
		start := time.Now()
		for r.link.Stats().Out && time.Since(start) < time.Minute {
			pass(250 * time.Millisecond)
			r.beat() // the neighbour lives, but its acks are lost
		}
		if took := time.Since(start); took != 3*time.Second {
			t.Errorf("H8 out went down after %v without an ack, want 3s", took)
		}
		r.linkIs("without acks", true, false)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 1 {
			t.Errorf("H6 sent %+v, want what was not acknowledged once more", m)
		}
		r.tell("b")
		r.tap.drain()
		for range 6 {
			pass(500 * time.Millisecond)
			r.beat()
		}
		for len(r.tap.messages) > 0 {
			if m := <-r.tap.messages; m.Interval == 0 || m.Head != 2 {
				t.Errorf("H8 sent %+v, want heartbeats only", m)
			}
		}
		r.ack(0, true)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || strings.Count(string(m[0].Lines), "\n") != 2 {
			t.Errorf("H6 up again, sent %+v, want what was missed", m)
		}
		if s := r.link.Stats(); !s.Up || s.Downs != 1 || s.Lag != 2 || s.Rewinds != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// The first sign of life brings up both directions. Without signs of its own a direction does not
// stay up.
func TestADirectionHasThreeHeartbeatsToShowItself(t *testing.T) {
	for _, c := range []struct {
		name    string
		sign    func(r *rig)
		in, out bool
	}{
		{"messages only", func(r *rig) { r.beat() }, true, false},
		{"acks only", func(r *rig) { r.ack(0, false) }, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				for i := range 40 {
					c.sign(r)
					r.linkIs(fmt.Sprint("at ", i, "/2 s"), c.in || i < 6, c.out || i < 6)
					pass(500 * time.Millisecond)
				}
				if s := r.link.Stats(); s.Downs != 1 || len(r.ups) != 2 {
					t.Errorf("H8 %d changes, %+v", len(r.ups), s)
				}
			})
		})
	}
}

func TestWhatALinkTellsOfItself(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.live(time.Minute, 0)
		if n := r.log.count("link up"); n != 1 || r.log.count("link") != 1 {
			t.Errorf("H8 up, logged %q", r.log.lines)
		}
		for range 20 {
			pass(500 * time.Millisecond)
			r.beat()
		}
		if r.log.count("link down reason=silent direction=out silent=3s") != 1 || r.log.count("link") != 2 {
			t.Errorf("H8 no acks, logged %q", r.log.lines)
		}
		r.ack(0, false)
		if r.log.count("link up") != 2 || r.link.Stats().Downs != 1 {
			t.Errorf("H8 logged %q", r.log.lines)
		}
	})
}

// Config.Changed is called for each direction that goes down: it asks the broker for a sign of
// life.
func TestAChangeOfADirectionIsPassedOn(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.beat()
		pass(time.Second)
		r.ack(0, false)
		pass(10 * time.Second)
		for _, want := range []bool{true, false, false} { // both up, in down, out down
			if up := <-r.ups; up != want {
				t.Errorf("H8 Changed said up %v, want %v", up, want)
			}
		}
		r.linkIs("in the end", false, false)
		if len(r.ups) != 0 {
			t.Errorf("H8 %d more changes", len(r.ups))
		}
	})
}

func TestAGoodByeTakesTheLinkDownAtOnceAndIsNotUndoneByWhatIsLate(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.beat()
		r.ack(0, false)
		r.hear(Message{Epoch: "00000000000000a9-00000001", Bye: true}) // of another run
		r.linkIs("after a good-bye of a run that was not heard", true, true)
		r.hear(Message{Bye: true})
		r.linkIs("after a good-bye", false, false)
		r.ack(0, false)
		r.linkIs("after an ack that is late", false, false)
		if r.log.count("link down reason=good-bye") != 1 || r.link.Stats().Downs != 1 {
			t.Errorf("C19 logged %q", r.log.lines)
		}
		later := "00000000000000b2-00000001"
		r.hear(Message{Epoch: later})
		r.link.ReceiveAck(time.Now(), Ack{Epoch: later, Of: us})
		r.linkIs("after the next run's signs of life", true, true)
		pass(2 * time.Second)
		r.hear(Message{Interval: time.Second}) // of the first run, which is still alive
		r.hear(Message{Epoch: later, Interval: time.Second})
		r.hear(Message{Bye: true})
		r.linkIs("after a good-bye of the run before", true, true)
	})
}

// A good-bye of a run that lives on must not stop a link for good.
func TestARunThatIsHeardAfterItsGoodByeIsUpAgain(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.beat()
		r.ack(0, false)
		pass(time.Second)
		r.hear(Message{Bye: true})
		r.linkIs("after a good-bye", false, false)
		r.tell("a")
		r.beat()
		r.ack(0, false)
		r.linkIs("when the run is heard again", true, true)
		if m := r.sent(); len(m) != 1 {
			t.Errorf("H9 sent %+v", m)
		}
		downs := r.link.Stats().Downs
		for range 1000 { // alternating, as fast as possible
			r.hear(Message{Bye: true})
			r.beat()
			r.ack(0, false)
			pass(time.Millisecond)
			r.tap.drain()
		}
		if n := r.link.Stats().Downs - downs; n > 2 {
			t.Errorf("H9 a good-bye was heeded %d times in a second", n)
		}
	})
}

// Whatever a neighbour sends, it can make an edge log only a few lines per minute.
func TestANeighbourCannotFillTheLog(t *testing.T) {
	for _, c := range []struct {
		name string
		say  func(r *rig, i int)
	}{
		{"H8 the shortest heartbeat, seldom", func(r *rig, i int) {
			r.hear(Message{Interval: 10 * time.Millisecond})
			r.ack(0, false)
			pass(40 * time.Millisecond)
		}},
		{"H9 good-bye by turns", func(r *rig, i int) {
			r.hear(Message{Bye: i%2 == 0})
			r.ack(0, false)
		}},
		{"H8 a clock that is right and wrong by turns", func(r *rig, i int) {
			r.hear(Message{Interval: time.Second, Clock: time.Now().UnixNano() + int64(i%2)*int64(time.Hour)})
			r.ack(0, false)
		}},
		{"H9 lines that are none", func(r *rig, i int) { r.hear(Message{Lines: []byte("x\nx\nx\n")}) }},
		{"H9 messages out of order", func(r *rig, i int) { r.lie(3, 2, 1) }},
		{"H9 lines ahead of their time", func(r *rig, i int) {
			r.hear(Message{Lines: append(r.lineAt("a", 2*time.Hour), r.lineAt("b", 3*time.Hour)...)})
		}},
		{"H6 ever new runs", func(r *rig, i int) {
			epoch := strings.Replace(them, "b1", string("0123456789"[i/10%10])+string("0123456789"[i%10]), 1)
			r.hear(Message{Epoch: epoch, Interval: time.Second})
			r.link.ReceiveAck(time.Now(), Ack{Epoch: epoch, Of: us, Rewind: true})
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				start := time.Now()
				for i := 0; time.Since(start) < time.Minute; i++ {
					c.say(r, i)
					pass(10 * time.Millisecond)
					r.tap.drain()
				}
				if n := len(r.log.lines); n > 65 {
					t.Errorf("%d lines in a minute: %q …", n, r.log.lines[:5])
				}
			})
		})
	}
}
