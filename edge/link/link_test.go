package link

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A wireTap is a Transport that records what is sent, and can refuse it.
type wireTap struct {
	messages chan Message
	acks     chan Ack
	refuses  chan bool // holds whether it refuses now
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

// drain drops what was recorded.
func (w *wireTap) drain() {
	for len(w.messages) > 0 {
		<-w.messages
	}
	for len(w.acks) > 0 {
		<-w.acks
	}
}

// A rig is a link in a bubble with its table, its transport and its neighbour's messages.
type rig struct {
	t     *testing.T
	tap   *wireTap
	table *position.Table
	link  *Link
	ends  chan error
	ups   chan bool         // the arguments of Config.Changed
	log   *logTap           // set by inBubble
	heads map[string]uint64 // by epoch: the highest head that hear has passed
}

const us, them = "00000000000000a1-00000001", "00000000000000b1-00000001"

func inBubble(t *testing.T, change func(*Config), f func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{}), ends: make(chan error, 1), ups: make(chan bool, 10000), log: &logTap{}}
		cfg := Config{Neighbour: "B", Epoch: us, Number: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
			Out: r.tap, Log: slog.New(r.log), Changed: func(up bool) { r.ups <- up }}
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

// begin opens the link and drops what it sends then.
func (r *rig) begin() {
	r.link.Reconnected(time.Now())
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

// lineAt returns a line whose client and first edge have a clock that is off.
func (r *rig) lineAt(client string, off time.Duration) []byte {
	return fmt.Appendf(nil, "AT A +0.000000000 %s +1+1 %d\n", client, time.Now().Add(off).Unix())
}

func (r *rig) put(from position.Source, line []byte) {
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		r.t.Fatal(err)
	}
	ops := make([]position.Op, 1)
	r.table.PreparePut(&ops[0], line, &a)
	r.table.Apply(time.Now().UnixNano(), from, ops)
}

// hear passes a message of the neighbour to the link. It raises the head so that it never goes
// back.
func (r *rig) hear(m Message) {
	if m.Epoch == "" {
		m.Epoch = them
	}
	if r.heads == nil {
		r.heads = map[string]uint64{}
	}
	m.Head = max(m.Head, m.Through, r.heads[m.Epoch])
	r.heads[m.Epoch] = m.Head
	r.link.Receive(time.Now(), &m)
	synctest.Wait()
}

// lie passes a message of the neighbour's present run to the link, with the head as given.
func (r *rig) lie(after, through, head uint64, lines ...byte) {
	r.link.Receive(time.Now(), &Message{Epoch: them, After: after, Through: through, Head: head, Lines: lines})
	synctest.Wait()
}

// beat passes a heartbeat of the neighbour's present run without news.
func (r *rig) beat() {
	r.hear(Message{After: r.heads[them], Through: r.heads[them], Interval: time.Second})
}

// live passes the neighbour's heartbeats and acks for a while, and returns the messages and acks
// that the link sent meanwhile.
func (r *rig) live(d time.Duration, through uint64) (sent []Message, acked []Ack) {
	for end := time.Now().Add(d); time.Now().Before(end); pass(500 * time.Millisecond) {
		r.beat()
		r.ack(through, false)
		sent, acked = append(sent, r.sent()...), append(acked, r.acked()...)
	}
	return sent, acked
}

func (r *rig) ack(through uint64, rewind bool) {
	r.link.ReceiveAck(time.Now(), Ack{Epoch: them, Of: us, Through: through, Rewind: rewind})
	synctest.Wait()
}

// sent returns the messages sent since the last call, without heartbeats.
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

// A logTap records what is logged.
type logTap struct {
	mu    sync.Mutex
	lines []string
}

func (l *logTap) Handle(_ context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		line += " " + a.String()
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

func (l *logTap) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logTap) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logTap) WithGroup(string) slog.Handler                    { return l }

// count returns how many log lines begin with a text.
func (l *logTap) count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range l.lines {
		if strings.HasPrefix(line, text) {
			n++
		}
	}
	return n
}

// pass lets virtual time pass.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
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

// Only heartbeats carry the clock (H8), and a clock may step while a link is never quiet.
func TestABusyLinkSendsHeartbeatsToo(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		for len(r.tap.messages) > 0 {
			<-r.tap.messages
		}
		for i := range 50 {
			r.tell(fmt.Sprint("c", i))
			pass(100 * time.Millisecond)
			r.ack(r.table.Head(), false)
		}
		lines, beats := 0, 0
		for len(r.tap.messages) > 0 {
			if m := <-r.tap.messages; m.Interval == 0 {
				lines++
			} else if beats++; m.Clock == 0 {
				t.Errorf("H8 heartbeat %+v", m)
			}
		}
		if lines < 50 || beats < 4 {
			t.Errorf("H8 in five seconds %d messages with lines and %d heartbeats, want one per second", lines, beats)
		}
	})
}

func TestANeighboursClockCountsWhileItIsHeard(t *testing.T) {
	told := make(chan struct{}, 100)
	inBubble(t, func(c *Config) { c.Told = func() { told <- struct{}{} } }, func(r *rig) {
		heard := func() bool {
			_, _, ok := r.link.Clock(time.Now())
			return ok
		}
		if heard() {
			t.Error("H8 a clock before the first heartbeat")
		}
		r.ack(0, false)
		if heard() {
			t.Error("H8 a clock by an ack")
		}
		at, clock := time.Now(), time.Now().Add(time.Hour).UnixNano()
		r.hear(Message{Interval: time.Second, Clock: clock})
		for range 5 { // the link stays up, and no clock comes
			pass(500 * time.Millisecond)
			if wall, when, ok := r.link.Clock(time.Now()); !ok || wall != clock || !when.Equal(at) {
				t.Errorf("H8 the clock is %d at %v, %v", wall, when, ok)
			}
			r.hear(Message{}) // no heartbeat
			r.ack(0, false)
		}
		pass(500 * time.Millisecond)
		if heard() || !r.link.Stats().Up {
			t.Error("H8 a clock that was told three heartbeats ago counts")
		}
		r.hear(Message{Interval: time.Second, Clock: clock})
		if !heard() {
			t.Error("H8 no clock by the next heartbeat")
		}
		r.hear(Message{Bye: true})
		if heard() {
			t.Error("H8 the clock of a neighbour that is gone counts")
		}
		if len(told) != 2 {
			t.Errorf("H8 the clock was told %d times, want 2", len(told))
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
		r.ack(3, false) // one ack for three messages
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
		r.link.Reconnected(time.Now())
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 1 {
			t.Errorf("H6 after the reconnect: %+v", m)
		}
		if a := r.acked(); len(a) != 1 || a[0].Epoch != us {
			t.Errorf("H6 unasked acks after the reconnect: %+v", a)
		}
	})
}

func TestWhatWasNotSentGoesWithTheNextHeartbeat(t *testing.T) {
	inBubble(t, nil, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		r.sent()
		r.ack(1, false)
		r.tap.refuse(true)
		r.tell("b")
		synctest.Wait()
		r.tell("c")
		synctest.Wait()
		r.tap.refuse(false)
		pass(time.Second)
		if m := r.sent(); len(m) != 1 || m[0].After != 1 || m[0].Through != 3 {
			t.Errorf("H6 sent %+v, want b and c", m)
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
		hear("H6 to another epoch of ours, from a new one", Message{Epoch: later, After: 0, Through: 8, To: them, Lines: r.line("gap")}, Ack{us, later, 0, true})
		hear("H6 a new epoch from its middle", Message{Epoch: later, After: 7, Through: 8, Lines: r.line("gap")}, Ack{us, later, 0, true})
		hear("H6 a new epoch", Message{Epoch: later, Through: 2, To: us, Lines: r.line("c")}, Ack{us, later, 2, false})
		hear("H6 what comes late of the one before", Message{After: 12, Through: 12, Interval: time.Second}, Ack{us, them, 7, true})
		hear("H6 the new epoch goes on", Message{Epoch: later, After: 2, Through: 3, Lines: r.line("d")}, Ack{us, later, 3, false})
		if clients, _, _ := r.table.Stats(); clients != 4 {
			t.Errorf("%d clients, want a, b, c and d", clients)
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
		lines := slices.Concat(r.line("a"),
			[]byte("AT A +0.000000000 bad +91+1 1\n"),
			[]byte("AT A-B +0.000000000 bad +1+1 1\n"),
			[]byte("AT A 0.0 bad +1+1 1\n"),
			[]byte("\n"),
			[]byte("IAMAT bad +1+1 1\n"),
			[]byte("\x00\xff\n"),
			r.line("b"),
			[]byte("AT A +0.000000000 nolf +1+1 1"))
		r.hear(Message{Through: 10, Lines: lines})
		clients, _, _ := r.table.Stats()
		if s := r.link.Stats(); clients != 2 || s.RefusedLines != 7 || s.ReceivedLines != 2 {
			t.Errorf("H9 %d clients, %+v", clients, s)
		}
		if a := r.acked(); len(a) != 1 || a[0].Through != 10 || a[0].Rewind {
			t.Errorf("H9 acked %+v, want it through 10", a)
		}
	})
}

func TestALinkSaysNothingBeforeTheNameIsItsEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{})}
		links := NewLinks(r.table)
		r.link = links.Add(Config{Neighbour: "B", Epoch: us, Number: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
			Out: r.tap, Log: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		r.tell("a")
		pass(10 * time.Second)
		if err := r.link.Drain(t.Context()); err != nil {
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

func TestWhoJoinsAcksAndKeepsItsLinesFromThoseWhoAreOpen(t *testing.T) {
	inBubble(t, func(c *Config) { c.Joins = true }, func(r *rig) {
		r.ack(0, false)
		r.tellLevel(LevelOpen, 2)
		r.acked()
		r.hear(Message{Through: 1, Lines: r.line("a")})
		r.tell("b")
		pass(time.Second)
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H7 sent %+v while it joins", m)
		}
		if a := r.acked(); len(a) != 1 || a[0].Through != 1 {
			t.Errorf("H7 acked %+v while it joins", a)
		}
		r.link.SetLevel(LevelOpen)
		if m := r.sent(); len(m) != 1 || m[0].After != 0 || m[0].Through != 2 || strings.Contains(string(m[0].Lines), " a ") {
			t.Errorf("H7 after the join sent %+v, want b", m)
		}
	})
}

func TestDrainWaitsForTheAckAndEndsWithAGoodBye(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		owed := newDraining(t)
		owed.link.ReceiveAck(time.Now(), Ack{Epoch: them, Of: us})
		owed.tell("a")
		done := make(chan error, 1)
		go func() { done <- owed.link.Drain(t.Context()) }()
		if m := owed.sent(); len(m) != 1 {
			t.Fatalf("C19 sent %+v", m)
		}
		select {
		case err := <-done:
			t.Fatalf("C19 drained before the ack: %v", err)
		default:
		}
		owed.ack(1, false)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		owed.stop()
		if m := owed.sent(); len(m) != 1 || !m[0].Bye || m[0].After != 1 || m[0].Through != 1 || m[0].Head != 1 {
			t.Errorf("C19 last words %+v", m)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		down := newDraining(t)
		down.tell("a")
		if err := down.link.Drain(t.Context()); err != nil {
			t.Errorf("C19 a link that is down is owed nothing: %v", err)
		}
		down.stop()
	})
}

type draining struct {
	*rig
	stop func()
}

func newDraining(t *testing.T) draining {
	r := &rig{t: t, tap: newWireTap(), table: position.New(position.Config{})}
	links := NewLinks(r.table)
	r.link = links.Add(Config{Neighbour: "B", Epoch: us, Number: 1, Window: 4, Heartbeat: time.Second, MaxBytes: func() int { return 64 << 10 },
		Out: r.tap, Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- links.Run(ctx) }()
	r.begin()
	return draining{r, func() {
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
		// Lines that come after a silence may be old.
		line = r.line("d")
		pass(3 * time.Second)
		r.hear(Message{After: 3, Through: 4, Head: 5, Lines: line})
		r.hear(Message{After: 4, Through: 5, Lines: r.line("e")})
		if len(told) != 0 {
			t.Errorf("told %d times after a silence", len(told))
		}
	})
}
