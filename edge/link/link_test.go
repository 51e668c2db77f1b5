package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A wireTap is a Transport that keeps what is sent, and can refuse.
type wireTap struct {
	messages chan Message
	acks     chan Ack
	refuses  chan bool // holds the present answer
}

func newWireTap() *wireTap {
	w := &wireTap{messages: make(chan Message, 1000), acks: make(chan Ack, 1000), refuses: make(chan bool, 1)}
	w.refuses <- false
	return w
}

var errRefused = errors.New("refused")

func (w *wireTap) refused() bool {
	r := <-w.refuses
	w.refuses <- r
	return r
}

func (w *wireTap) refuse(r bool) {
	<-w.refuses
	w.refuses <- r
}

func (w *wireTap) Send(m *Message) error {
	if w.refused() {
		return errRefused
	}
	c := *m
	c.Lines = slices.Clone(m.Lines)
	w.messages <- c
	return nil
}

func (w *wireTap) Ack(a Ack) error {
	if w.refused() {
		return errRefused
	}
	w.acks <- a
	return nil
}

// A rig is a link in a bubble, its table and both its ends.
type rig struct {
	t     *testing.T
	tap   *wireTap
	table *position.Table
	link  *Link
	ends  chan error
	ups   chan bool
}

const us, them = "00000000000000a1-00000001", "00000000000000b1-00000001"

func inBubble(t *testing.T, change func(*Config), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{}), ends: make(chan error, 1), ups: make(chan bool, 100)}
		cfg := Config{Neighbour: "B", Epoch: us, Holder: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
			Out: r.tap, Log: slog.New(slog.DiscardHandler), Changed: func(up bool) { r.ups <- up }}
		if change != nil {
			change(&cfg)
		}
		links := NewLinks(r.table)
		r.link = links.Add(cfg)
		go func() { r.ends <- links.Run(t.Context()) }()
		t.Cleanup(func() {
			if err := <-r.ends; err != nil {
				t.Error(err)
			}
		})
		r.begin()
		f(r)
	})
}

// begin opens the link, and takes what it says then out of the way.
func (r *rig) begin() {
	r.link.Reconnected()
	if a := r.acked(); len(a) != 1 || a[0] != (Ack{Epoch: us, Rewind: true}) {
		r.t.Errorf("H6 unasked %+v", a)
	}
	r.sent()
}

// tell stores n lines of new clients in our table, received now.
func (r *rig) tell(clients ...string) {
	for _, c := range clients {
		r.put(position.Source{}, r.line(c))
	}
}

func (r *rig) line(client string) []byte {
	return fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d\n", client, time.Now().Unix())
}

func (r *rig) put(from position.Source, line []byte) {
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		r.t.Fatal(err)
	}
	ops := make([]position.Op, 1)
	r.table.PutLine(&ops[0], line, &a)
	r.table.Apply(time.Now().UnixNano(), from, ops)
}

// hear is a message of the neighbour's stream.
func (r *rig) hear(m Message) {
	if m.Epoch == "" {
		m.Epoch = them
	}
	m.Head = max(m.Head, m.Through)
	r.link.Receive(&m)
	synctest.Wait()
}

func (r *rig) ack(through uint64, rewind bool) {
	r.link.ReceiveAck(Ack{Epoch: them, Of: us, Through: through, Rewind: rewind})
	synctest.Wait()
}

// sent returns what was sent since the last call, without heartbeats.
func (r *rig) sent() (all []Message) {
	synctest.Wait()
	for {
		select {
		case m := <-r.tap.messages:
			if m.Interval == 0 {
				all = append(all, m)
			}
		default:
			return all
		}
	}
}

func (r *rig) acked() (all []Ack) {
	synctest.Wait()
	for {
		select {
		case a := <-r.tap.acks:
			all = append(all, a)
		default:
			return all
		}
	}
}

// pass lets virtual time go by.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestThreeSilentHeartbeatsAreADownLink(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Interval: 2 * time.Second}) // the sender's interval counts
		if up := <-r.ups; !up {
			t.Fatal("H8 not up after a sign of life")
		}
		start := time.Now()
		if up := <-r.ups; up || time.Since(start) != 6*time.Second {
			t.Errorf("H8 up %v after %v of silence, want down after 6s", up, time.Since(start))
		}
		r.tell("a")
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H8 a down link sent %+v", m)
		}
		r.ack(0, false)
		if m := r.sent(); len(m) != 1 || !strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("H8 up again, sent %+v, want what was missed", m)
		}
		if s := r.link.Stats(); !s.Up || s.Downs != 1 || s.Lag != 1 {
			t.Errorf("%+v", s)
		}
	})
}

func TestAQuietLinkSendsHeartbeatsOutsideTheWindow(t *testing.T) {
	inBubble(t, func(c *Config) { c.Window = 1 }, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		if m := r.sent(); len(m) != 1 { // the window is full now
			t.Fatalf("sent %d messages, want 1", len(m))
		}
		r.tell("b")
		pass(time.Second)
		select {
		case m := <-r.tap.messages:
			if m.After != 1 || m.Through != 1 || m.Head != 2 || m.Interval != time.Second || m.Clock != time.Now().UnixNano() || len(m.Lines) != 0 || m.Epoch != us || m.To != them {
				t.Errorf("H8 heartbeat %+v", m)
			}
		default:
			t.Error("H8 no heartbeat while the window is full")
		}
	})
}

func TestAQuietLinkMeasuresItsRoundTripByHeartbeats(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		for len(r.tap.messages) > 0 {
			<-r.tap.messages
		}
		for len(r.tap.messages) == 0 {
			pass(100 * time.Millisecond)
		}
		pass(3 * time.Millisecond)
		r.ack(0, false)
		if got := r.link.Stats().RoundTrip; got < 3*time.Millisecond || got > 103*time.Millisecond {
			t.Errorf("round trip %v, want that of the heartbeat", got)
		}
	})
}

func TestTheWindowFillsAndWhatPilesUpGoesInTheNextMessage(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		for i := range 4 {
			r.tell(fmt.Sprint("w", i))
			synctest.Wait()
		}
		for i := range 20 {
			r.tell("busy", fmt.Sprint("p", i))
			pass(time.Millisecond)
		}
		m := r.sent()
		if len(m) != 4 {
			t.Fatalf("H5 %d messages unacknowledged, want 4", len(m))
		}
		for i, m := range m {
			if m.After != uint64(i) || m.Through != uint64(i+1) || m.Epoch != us || m.To != them || m.Interval != 0 {
				t.Errorf("H4 message %d: %+v", i, m)
			}
		}
		r.ack(3, false) // one ack reaches three messages
		if s := r.link.Stats(); s.RoundTrip == 0 || s.Lag == 0 {
			t.Errorf("%+v", s)
		}
		m = r.sent()
		if len(m) != 1 || m[0].After != 4 || m[0].Through != r.table.Head() || strings.Count(string(m[0].Lines), "\n") != 21 || strings.Count(string(m[0].Lines), " busy ") != 1 {
			t.Fatalf("H3, H5 after the ack: %d messages, %+v; want one with each record once", len(m), m)
		}
		if n := strings.Count(string(m[0].Lines), "AT "); n != 21 {
			t.Errorf("%d lines", n)
		}
	})
}

func TestFullMessagesKeepToTheirSize(t *testing.T) {
	inBubble(t, func(c *Config) { c.MaxBytes = func() int { return wire.MaxAT }; c.Window = 1000 }, func(r *rig) {
		for i := range 100 {
			r.tell(fmt.Sprint("c", i))
		}
		r.ack(0, false)
		lines, after := 0, uint64(0)
		for _, m := range r.sent() {
			if len(m.Lines) > wire.MaxAT || m.After != after {
				t.Errorf("H5 %d bytes after %d", len(m.Lines), m.After)
			}
			after = m.Through
			lines += strings.Count(string(m.Lines), "\n")
		}
		if lines != 100 || after != 100 {
			t.Errorf("%d lines through %d, want 100", lines, after)
		}
	})
}

func TestTheCursorGoesBackWhereAnAckSaysSo(t *testing.T) {
	for _, c := range []struct {
		name  string
		ack   Ack
		after uint64
		to    string
	}{
		{"H6 a message did not follow", Ack{Epoch: them, Of: us, Through: 2, Rewind: true}, 2, them},
		{"H6 another epoch of the neighbour", Ack{Epoch: "00000000000000b2-00000001", Of: us, Through: 1}, 1, "00000000000000b2-00000001"},
		{"H6 another epoch of ours", Ack{Epoch: them, Of: "00000000000000a0-00000001", Through: 3}, 0, them},
		{"H6 more than was sent", Ack{Epoch: them, Of: us, Through: 99}, 0, them},
	} {
		t.Run(c.name, func(t *testing.T) {
			inBubble(t, nil, func(r *rig) {
				r.ack(0, false)
				r.tell("a", "b", "c")
				r.sent()
				pass(200 * time.Millisecond)
				r.link.ReceiveAck(c.ack)
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

func TestManyRefusalsOfOneGapAreOneRewind(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		for i := range 4 {
			r.tell(fmt.Sprint("c", i))
			synctest.Wait()
		}
		r.sent()
		for range 4 {
			r.ack(0, true)
		}
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 4 {
			t.Errorf("sent %+v, want the four lines once", m)
		}
	})
}

func TestWithoutAnAckForThreeHeartbeatsALinkBeginsAgainAtTheLast(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		pass(500 * time.Millisecond)
		r.tell("a")
		r.sent()
		start := time.Now()
		for range 12 { // the neighbour lives, but its acks are lost
			pass(250 * time.Millisecond)
			r.hear(Message{Interval: time.Second})
			if m := r.sent(); len(m) == 1 {
				if took := time.Since(start); took != 3*time.Second || m[0].After != 0 || m[0].Through != 1 {
					t.Errorf("H6 sent again after %v: %+v", took, m)
				}
				return
			}
		}
		t.Error("H6 nothing sent again")
	})
}

func TestAPublishThatErrsDidNotHappen(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.tap.refuse(true)
		r.tell("a")
		synctest.Wait()
		r.tap.refuse(false)
		if m := r.sent(); len(m) != 0 {
			t.Fatalf("sent %+v", m)
		}
		r.link.Reconnected()
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 1 {
			t.Errorf("H6 after the reconnect: %+v", m)
		}
		if a := r.acked(); len(a) != 1 || a[0].Epoch != us {
			t.Errorf("H6 unasked acks after the reconnect: %+v", a)
		}
	})
}

func TestWhatFollowsIsMergedAndWhatDoesNotIsRefused(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		hear := func(name string, m Message, want Ack) {
			t.Helper()
			r.hear(m)
			pass(ackDelay)
			if a := r.acked(); len(a) != 1 || a[0] != want {
				t.Errorf("%s: acks %+v, want %+v", name, a, want)
			}
		}
		hear("H6 a new epoch from its beginning", Message{After: 0, Through: 5, Lines: r.line("a")}, Ack{us, them, 5, false})
		hear("H6 overlap", Message{After: 3, Through: 7, Lines: r.line("b")}, Ack{us, them, 7, false})
		hear("H6 all of it known", Message{After: 3, Through: 6, To: us}, Ack{us, them, 7, false})
		hear("H6 a gap", Message{After: 9, Through: 12, Lines: r.line("gap")}, Ack{us, them, 7, true})
		hear("H6 to another epoch of ours", Message{After: 7, Through: 8, To: them, Lines: r.line("gap")}, Ack{us, them, 7, true})
		later := "00000000000000b2-00000001"
		hear("H6 to another epoch of ours, from a new one", Message{Epoch: later, After: 0, Through: 8, To: them, Lines: r.line("gap")}, Ack{us, them, 7, true})
		hear("H6 a new epoch from its middle", Message{Epoch: later, After: 7, Through: 8, Lines: r.line("gap")}, Ack{us, later, 0, true})
		hear("H6 a new epoch", Message{Epoch: later, Through: 2, To: us, Lines: r.line("c")}, Ack{us, later, 2, false})
		if clients, _, _ := r.table.Stats(); clients != 3 {
			t.Errorf("%d clients, want a, b and c", clients)
		}
	})
}

func TestOneAckStandsForSeveralMessagesAndNoneWaitsLong(t *testing.T) {
	inBubble(t, nil, func(r *rig) { // window 4: half is 2
		r.hear(Message{After: 0, Through: 0})
		if a := r.acked(); len(a) != 1 {
			t.Errorf("H5 after a silence: %+v", a)
		}
		r.hear(Message{After: 0, Through: 1})
		if a := r.acked(); len(a) != 0 {
			t.Errorf("H5 acked at once: %+v", a)
		}
		r.hear(Message{After: 1, Through: 2})
		if a := r.acked(); len(a) != 1 || a[0].Through != 2 {
			t.Errorf("H5 at half a window: %+v", a)
		}
		r.hear(Message{After: 2, Through: 3})
		pass(ackDelay - 1)
		early := r.acked()
		pass(1)
		if a := r.acked(); len(early) != 0 || len(a) != 1 || a[0].Through != 3 {
			t.Errorf("H5 a lone message: %+v, then %+v", early, a)
		}
		r.hear(Message{After: 3, Through: 3, Interval: time.Second})
		if a := r.acked(); len(a) != 1 {
			t.Errorf("H8 a heartbeat: %+v", a)
		}
	})
}

func TestLinesThatAreNoneHarmNothingElse(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		ahead := time.Now().Add(time.Hour + time.Second).Unix()
		lines := slices.Concat(r.line("a"),
			[]byte("AT A +0.000000000 bad +91+1 1\n"),
			[]byte("AT A-B +0.000000000 bad +1+1 1\n"),
			[]byte("AT A 0.0 bad +1+1 1\n"),
			[]byte("\n"),
			[]byte("IAMAT bad +1+1 1\n"),
			fmt.Appendf(nil, "AT A +0.000000000 ahead +1+1 %d\n", ahead),
			[]byte("\x00\xff\n"),
			r.line("b"),
			[]byte("AT A +0.000000000 nolf +1+1 1"))
		r.hear(Message{Through: 10, Lines: lines})
		clients, _, _ := r.table.Stats()
		if s := r.link.Stats(); clients != 2 || s.RefusedLines != 8 || s.ReceivedLines != 2 {
			t.Errorf("H9 %d clients, %+v", clients, s)
		}
		if _, through := r.link.Held(); through != 10 {
			t.Errorf("H9 through %d, want 10", through)
		}
	})
}

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

func TestAGoodByeTakesTheLinkDownAtOnceAndIsNotUndoneByWhatIsLate(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.hear(Message{Interval: time.Second})
		<-r.ups
		r.hear(Message{Epoch: "00000000000000a9-00000001", Bye: true}) // another run's
		if !r.link.Up() {
			t.Error("C19 down by a run that was not heard")
		}
		r.hear(Message{Bye: true})
		if r.link.Up() {
			t.Fatal("C19 up after a good-bye")
		}
		r.ack(0, false)
		if r.link.Up() {
			t.Error("C19 up again by what was late")
		}
		r.hear(Message{Epoch: "00000000000000b2-00000001"})
		if !r.link.Up() {
			t.Error("C19 down after the next run's first sign of life")
		}
	})
}

func TestALinkSaysNothingBeforeTheNameIsItsEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{})}
		links := NewLinks(r.table)
		r.link = links.Add(Config{Neighbour: "B", Epoch: us, Holder: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
			Out: r.tap, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		r.tell("a")
		pass(10 * time.Second)
		if err := r.link.HandOver(t.Context()); err != nil {
			t.Error(err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if len(r.tap.messages) != 0 || len(r.tap.acks) != 0 {
			t.Errorf("H10 said %d messages and %d acks in a name that is another run's", len(r.tap.messages), len(r.tap.acks))
		}
	})
}

func TestAHeldLinkAcksAndKeepsItsLinesBack(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.link.Hold(true)
		r.ack(0, false)
		r.hear(Message{Through: 1, Lines: r.line("a")})
		r.tell("b")
		pass(time.Second)
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H7 sent %+v while it joins", m)
		}
		if a := r.acked(); len(a) != 1 || a[0].Through != 1 {
			t.Errorf("H7 acked %+v while it joins", a)
		}
		r.link.Hold(false)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("H7 after the join sent %+v, want b", m)
		}
	})
}

func TestHandingOverWaitsForTheAckAndEndsWithAGoodBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inHand := newHandOver(t)
		inHand.link.ReceiveAck(Ack{Epoch: them, Of: us})
		inHand.tell("a")
		done := make(chan error, 1)
		go func() { done <- inHand.link.HandOver(t.Context()) }()
		if m := inHand.sent(); len(m) != 1 {
			t.Fatalf("C19 sent %+v", m)
		}
		select {
		case err := <-done:
			t.Fatalf("C19 handed over before the ack: %v", err)
		default:
		}
		inHand.ack(1, false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		inHand.stop()
		if m := inHand.sent(); len(m) != 1 || !m[0].Bye || m[0].After != 1 || m[0].Through != 1 {
			t.Errorf("C19 last words %+v", m)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		down := newHandOver(t)
		down.tell("a")
		if err := down.link.HandOver(t.Context()); err != nil {
			t.Errorf("C19 a link that is down is owed nothing: %v", err)
		}
		down.stop()
	})
}

type handOver struct {
	*rig
	stop func()
}

func newHandOver(t *testing.T) handOver {
	r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{})}
	links := NewLinks(r.table)
	r.link = links.Add(Config{Neighbour: "B", Epoch: us, Holder: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
		Out: r.tap, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- links.Run(ctx) }()
	r.begin()
	return handOver{r, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}}
}

func TestPropagationIsToldWhenTheLinkHasCaughtUp(t *testing.T) {
	told := make(chan time.Duration, 10)
	inBubble(t, func(c *Config) { c.Propagated = func(d time.Duration) { told <- d } }, func(r *rig) {
		r.hear(Message{Through: 1, Head: 2, Lines: r.line("a")})
		r.hear(Message{After: 1, Through: 2, Lines: r.line("b")})
		line := r.line("c")
		pass(300 * time.Millisecond)
		r.hear(Message{After: 2, Through: 3, Lines: line})
		synctest.Wait()
		if len(told) != 1 {
			t.Fatalf("told %d times, want once: not while catching up", len(told))
		}
		if d := <-told; d < 300*time.Millisecond || d > 2*time.Second {
			t.Errorf("told %v", d)
		}
	})
}
