package link

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
)

const gap = 5 * time.Millisecond

// inGap runs f with a link that has a gap, is up, and has been quiet for long.
func inGap(t *testing.T, change func(*Config), f func(r *rig)) {
	t.Helper()
	inBubble(t, func(c *Config) {
		c.Gap = gap
		if change != nil {
			change(c)
		}
	}, func(r *rig) {
		r.ack(0, false)
		pass(100 * time.Millisecond)
		r.tap.drain()
		f(r)
	})
}

// goes checks that one message was sent, through a revision and with a number of lines.
func (r *rig) goes(through uint64, lines int) {
	r.t.Helper()
	m := r.sent()
	if len(m) != 1 || m[0].Through != through || countLines(m[0].Lines) != lines {
		r.t.Errorf("H5 sent %+v, want one message through %d with %d lines", m, through, lines)
	}
}

// waits checks that nothing was sent.
func (r *rig) waits() {
	r.t.Helper()
	if m := r.sent(); len(m) != 0 {
		r.t.Errorf("H5 sent %+v, want nothing yet", m)
	}
}

func countLines(b []byte) (n int) {
	for _, c := range b {
		if c == '\n' {
			n++
		}
	}
	return n
}

func TestALineGoesAtOnceWhereTheLinkWasQuietForTheGap(t *testing.T) {
	inGap(t, nil, func(r *rig) {
		for i := range 4 {
			r.tell(fmt.Sprint("c", i))
			r.goes(uint64(i+1), 1)
			r.ack(uint64(i+1), false)
			pass(gap)
			r.waits()
		}
	})
}

func TestABusyLinkSendsWhatCollectedAfterTheGap(t *testing.T) {
	inGap(t, nil, func(r *rig) {
		r.tell("a")
		r.goes(1, 1)
		pass(time.Millisecond)
		r.tell("b")
		pass(2 * time.Millisecond)
		r.tell("c")
		pass(2*time.Millisecond - 1)
		r.tellLevel(LevelOpen, 0) // wakes the link and changes nothing else
		r.waits()
		pass(1)
		r.goes(3, 2)
		// The gap counts from the message, not from the line.
		pass(gap - 1)
		r.tell("d")
		r.waits()
		pass(1)
		r.goes(4, 1)
	})
}

func TestWithoutAGapEachLineGoesAtOnce(t *testing.T) {
	inGap(t, func(c *Config) { c.Gap = 0 }, func(r *rig) {
		for i := range 3 {
			r.tell(fmt.Sprint("c", i))
			r.goes(uint64(2*i+1), 1)
			r.tell(fmt.Sprint("d", i))
			r.goes(uint64(2*i+2), 1)
			pass(100 * time.Millisecond) // however long the round trip is
			r.ack(uint64(2*i+2), false)
		}
	})
}

// Lines that fill a message do not wait for the gap; the rest does.
func TestAFullMessageWaitsForNoGap(t *testing.T) {
	inGap(t, func(c *Config) { c.Gap, c.MaxBytes = time.Second, func() int { return 400 } }, func(r *rig) {
		r.tell("a")
		r.goes(1, 1) // the link learns how long lines are
		r.ack(1, false)
		full := 400 / len(r.line("a"))
		for i := range full - 1 {
			r.tell(string(rune('b' + i)))
		}
		pass(500 * time.Millisecond)
		r.waits()
		r.tell("z")
		r.goes(uint64(full+1), full)
		r.tell("y")
		pass(time.Second - 1)
		r.waits()
		pass(1)
		r.goes(uint64(full+2), 1)
	})
}

func TestCatchingUpWaitsForNoGap(t *testing.T) {
	small := func(c *Config) { c.Gap, c.MaxBytes, c.Window = time.Second, func() int { return 200 }, 100 }
	// through checks that all lines through a revision were sent, in several messages. The last
	// of them is not full.
	through := func(r *rig, want uint64) {
		r.t.Helper()
		m := r.sent()
		if len(m) < 2 || m[len(m)-1].Through != want {
			r.t.Errorf("H5 sent %+v, want all through %d", m, want)
		}
	}
	tell := func(r *rig, n int) {
		for i := range n {
			r.tell(fmt.Sprint("c", i))
		}
	}
	t.Run("H5 a new neighbour", func(t *testing.T) {
		inBubble(t, small, func(r *rig) {
			tell(r, 11)
			r.ack(0, false)
			through(r, 11)
			// Catching up ends with the changes that there were when it began.
			r.tell("a")
			r.waits()
		})
	})
	t.Run("H6 what it lacks after all", func(t *testing.T) {
		inGap(t, small, func(r *rig) {
			tell(r, 11)
			pass(2 * time.Second)
			r.sent()
			r.ack(0, true)
			through(r, 11)
			r.tell("a")
			r.waits()
		})
	})
	t.Run("H6 what is told between the loss and the word of it", func(t *testing.T) {
		inGap(t, small, func(r *rig) {
			r.tell("a")
			r.goes(1, 1)
			r.tell("b")
			r.waits()
			r.ack(0, true)
			r.goes(2, 2)
		})
	})
	t.Run("H6 what could not be sent", func(t *testing.T) {
		inGap(t, small, func(r *rig) {
			r.tell("a")
			r.goes(1, 1)
			pass(time.Second)
			r.tap.refuse(true)
			r.tell("b")
			r.waits()
			r.tap.refuse(false)
			r.tell("c")
			r.tellLevel(LevelOpen, 0) // wakes the link
			r.waits()
			r.link.Reconnected(time.Now())
			r.goes(3, 3) // with a, which was not acknowledged
		})
	})
	t.Run("H7 who joins", func(t *testing.T) {
		inGap(t, small, func(r *rig) {
			r.tellLevel(1, 0)
			r.tell("a")
			r.goes(1, 1)
			r.tell("b")
			r.goes(2, 1)
			r.tellLevel(LevelOpen, 0)
			r.tell("c")
			r.waits()
		})
	})
}

func TestDrainingWaitsForNoGap(t *testing.T) { // C19
	inGap(t, func(c *Config) { c.Gap = time.Second }, func(r *rig) {
		r.tell("a")
		r.goes(1, 1)
		r.tell("b")
		r.waits()
		done := make(chan error, 1)
		go func() { done <- r.link.Drain(r.t.Context()) }()
		r.goes(2, 1)
		r.tell("c")
		r.goes(3, 1)
		r.ack(3, false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// The gap is between messages with lines: other messages do not begin one.
func TestOnlyLinesBeginAGap(t *testing.T) {
	inGap(t, nil, func(r *rig) {
		t.Run("H8 a heartbeat", func(t *testing.T) {
			r.beats()
			for len(r.beats()) == 0 {
				pass(time.Millisecond)
			}
			r.tell("a")
			r.goes(1, 1)
			r.ack(1, false)
			pass(gap)
		})
		t.Run("H5 an ack", func(t *testing.T) {
			r.acked()
			r.hear(Message{Interval: time.Second, Level: LevelOpen})
			if a := r.acked(); len(a) != 1 {
				t.Fatalf("acked %+v", a)
			}
			r.tell("b")
			r.goes(2, 1)
			r.ack(2, false)
			pass(gap)
		})
		t.Run("H4 what is held there", func(t *testing.T) {
			r.hear(Message{Through: 1, Lines: r.line("theirs")})
			pass(100 * time.Millisecond) // an empty message follows after a tenth of a heartbeat
			r.goes(3, 0)
			r.tell("c")
			r.goes(4, 1)
		})
	})
}

// With a long round trip, messages are spaced so that the window lasts for the whole round trip.
func TestTheGapIsAWindowsShareOfTheRoundTripWhereThatIsLonger(t *testing.T) {
	inGap(t, func(c *Config) { c.Window, c.Heartbeat = 4, time.Hour }, func(r *rig) {
		r.tell("a")
		r.goes(1, 1)
		pass(200 * time.Millisecond)
		r.ack(1, false)
		r.tell("b")
		r.goes(2, 1)
		r.tell("c")
		pass(50*time.Millisecond - 1)
		r.waits()
		pass(1)
		r.goes(3, 1)
		// A single very late ack does not stop the link.
		pass(time.Minute)
		r.hear(Message{Interval: time.Second, Level: LevelOpen})
		r.ack(3, false)
		r.tell("d")
		r.goes(4, 1)
		r.tell("e")
		pass(time.Second)
		r.goes(5, 1)
	})
}

// The network read that wakes the links may bring more changes: they are sent together, also on a
// quiet link.
func TestWhatTheSameReadBringsGoesAlong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{})}
		links := NewLinks(r.table)
		more := make(chan string, 1)
		links.yield = func() {
			select {
			case client := <-more: // the goroutine that runs meanwhile adds a line
				r.tell(client)
			default:
			}
		}
		r.link = links.Add(Config{Neighbour: "B", Epoch: us, Number: 1, Window: 4, Gap: time.Second, Heartbeat: time.Second,
			MaxBytes: func() int { return 64 << 10 }, Out: r.tap, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		r.begin()
		r.ack(0, false)
		pass(time.Millisecond)
		more <- "b"
		r.tell("a")
		r.goes(2, 2)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestGapsThatEndCloseToEachOtherEndTogether(t *testing.T) {
	for _, test := range []struct {
		name  string
		apart time.Duration
		first string // the neighbours that are sent lines when the gap of B ends
	}{
		{"H5 close", gap / 4, "BC"},
		{"H5 not close", gap/4 + 1, "B"},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := position.New(position.Config{})
				links := NewLinks(table)
				order := make(chan string, 100)
				for i, name := range []string{"B", "C"} {
					l := links.Add(Config{Neighbour: name, Epoch: us, Number: i + 1, Window: 100, Gap: gap, Heartbeat: time.Second,
						MaxBytes: func() int { return 64 << 10 }, Out: named{name, order}, Log: slog.New(slog.DiscardHandler)})
					l.Reconnected(time.Now())
					l.ReceiveAck(time.Now(), Ack{Epoch: them, Of: us})
				}
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan error, 1)
				go func() { ended <- links.Run(ctx) }()
				r := &rig{t: t, table: table}
				went := func() (all string) {
					synctest.Wait()
					for len(order) > 0 {
						all += <-order
					}
					return all
				}
				pass(time.Millisecond)
				r.put(position.Source{Neighbour: 2, Epoch: them}, r.line("C's"))
				if got := went(); got != "B" {
					t.Fatalf("went to %q, want B", got)
				}
				pass(test.apart)
				r.tell("ours") // the line for B waits
				if got := went(); got != "C" {
					t.Fatalf("went to %q, want C", got)
				}
				r.tell("more") // the lines for both wait
				pass(gap - test.apart - 1)
				if got := went(); got != "" {
					t.Errorf("H5 went to %q before its time", got)
				}
				pass(1)
				if got := went(); got != test.first {
					t.Errorf("H5 when the first gap ended, went to %q, want %q", got, test.first)
				}
				pass(test.apart)
				if got := test.first + went(); got != "BC" {
					t.Errorf("H5 went to %q, want BC in the end", got)
				}
				cancel()
				if err := <-ended; err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// An ack that would wake the edge a moment later is sent together with the lines.
func TestAnAckThatIsDueSoonGoesWithTheLines(t *testing.T) {
	inGap(t, func(c *Config) { c.Window = 100 }, func(r *rig) {
		for time.Now().UnixNano()%int64(ackDelay) != 0 { // acks are due at multiples of it
			pass(time.Duration(int64(ackDelay) - time.Now().UnixNano()%int64(ackDelay)))
		}
		r.hear(Message{}) // after a silence: acknowledged at once
		pass(4 * time.Millisecond)
		r.tell("a")
		r.goes(1, 1)
		r.tell("b") // waits until the ninth millisecond
		r.acked()
		r.hear(Message{Through: 1, Lines: r.line("theirs")})
		pass(gap - 1)
		if a := r.acked(); len(a) != 0 {
			t.Errorf("H5 acked %+v before its time", a)
		}
		pass(1)
		if a := r.acked(); len(a) != 1 || a[0].Through != 1 {
			t.Errorf("H5 acked %+v when lines went, want what is due a millisecond later", a)
		}
	})
}
