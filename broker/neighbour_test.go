package broker_test

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
)

func TestEveryKindOfMessageArrivesAsItWasSent(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	messages, acks, configs := make(chan broker.Message, 1), make(chan broker.Ack, 1), make(chan string, 1)
	var answer broker.Join
	jaquez := j.Neighbour("herd", "Jaquez", "Clark")
	if err := jaquez.Listen(broker.Handlers{
		Message: func(m broker.Message) { messages <- m },
		Ack:     func(a broker.Ack) { acks <- a },
		Join:    func(config string) broker.Join { configs <- config; return answer },
		Bad:     func(err error) { t.Error(err) },
	}); err != nil {
		t.Fatal(err)
	}
	n := c.Neighbour("herd", "Clark", "Jaquez")
	for _, m := range []broker.Message{
		{Epoch: clarkEpoch, Lines: []byte{}},
		{Epoch: clarkEpoch, To: jaquezEpoch, After: 1, Through: 2, Head: math.MaxUint64, Lines: []byte("AT \x00 \xff\n")},
		{Epoch: clarkEpoch, Interval: time.Second, Clock: time.Now().UnixNano(), Lines: []byte{}},
		{Epoch: clarkEpoch, Bye: true, Lines: []byte{}},
	} {
		if err := n.Send(&m); err != nil {
			t.Fatal(err)
		}
		if got := take(t, messages, "message"); !reflect.DeepEqual(got, m) {
			t.Errorf("got  %+v\nwant %+v", got, m)
		}
	}
	for _, a := range []broker.Ack{{Epoch: clarkEpoch}, {Epoch: clarkEpoch, Of: jaquezEpoch, Through: 7, Rewind: true}} {
		if err := n.Ack(a); err != nil {
			t.Fatal(err)
		}
		if got := take(t, acks, "ack"); got != a {
			t.Errorf("got %+v, want %+v", got, a)
		}
	}
	for _, answer = range []broker.Join{{Epoch: jaquezEpoch, Config: "j"}, {Epoch: jaquezEpoch, Head: 9, Level: 2, Config: "j"}} {
		got, err := n.AskJoin(soon(t), "c")
		if err != nil || got != answer {
			t.Errorf("got %+v, %v, want %+v", got, err, answer)
		}
		if config := take(t, configs, "question"); config != "c" {
			t.Errorf("asked with the configuration %q", config)
		}
	}
}

func TestOnlyTheNeighbourIsHeard(t *testing.T) { // H1
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	n, got := link(t, c, j)
	for _, stranger := range []*broker.Neighbour{
		c.Neighbour("flock", "Clark", "Jaquez"), c.Neighbour("herd", "Bernard", "Jaquez"),
		c.Neighbour("herd", "Clark", "Bernard"), c.Neighbour("herd", "Jaquez", "Clark"),
	} {
		if err := stranger.Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte("stranger")}); err != nil {
			t.Fatal(err)
		}
	}
	say(t, n, got, "neighbour")
}

func TestMessagesWithBadHeadersAreDroppedAndTold(t *testing.T) { // H9
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	got, bad := make(chan broker.Message, 10), make(chan error, 10)
	if err := j.Neighbour("herd", "Jaquez", "Clark").Listen(broker.Handlers{
		Message: func(m broker.Message) { got <- m },
		Ack:     func(a broker.Ack) { t.Errorf("accepted %+v", a) },
		Join:    func(string) broker.Join { t.Error("a bad question is answered"); return broker.Join{} },
		Bad:     func(err error) { bad <- err },
	}); err != nil {
		t.Fatal(err)
	}
	nc := operator(t, s.URL())
	epoch := nats.Header{"Herd-Epoch": {clarkEpoch}}
	for _, test := range []struct {
		subject, reply string
		header         nats.Header
		want           string
	}{
		{"herd.at.Clark.Jaquez", "", nil, "herd.at.Clark.Jaquez: Herd-Epoch"},
		{"herd.at.Clark.Jaquez", "", epoch, "herd.at.Clark.Jaquez: Herd-After"},
		{"herd.ack.Clark.Jaquez", "", nil, "herd.ack.Clark.Jaquez: Herd-Epoch"},
		{"herd.ack.Clark.Jaquez", "", epoch, "herd.ack.Clark.Jaquez: Herd-Through"},
		{"herd.join.Clark.Jaquez", "answer", epoch, "herd.join.Clark.Jaquez: Herd-Config"},
		{"herd.join.Clark.Jaquez", "", nats.Header{"Herd-Config": {"c"}}, "without a reply"},
	} {
		if err := nc.PublishMsg(&nats.Msg{Subject: test.subject, Reply: test.reply, Header: test.header, Data: []byte("AT\n")}); err != nil {
			t.Fatal(err)
		}
		if err := take(t, bad, "report"); !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %v: told %v, want %s", test.subject, test.header, err, test.want)
		}
	}
	say(t, c.Neighbour("herd", "Clark", "Jaquez"), got, "harmed by nothing")
}

func TestOrderIsKept(t *testing.T) {
	t.Parallel()
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, err := s.Embedded().Dial("Jaquez", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(j.Close)
	if err := j.Wait(soon(t)); err != nil {
		t.Fatal(err)
	}
	const many = 20_000
	finished := make(chan bool)
	next := uint64(1)
	n := c.Neighbour("herd", "Clark", "Jaquez")
	acked := make(chan broker.Ack, 1)
	back := j.Neighbour("herd", "Jaquez", "Clark")
	if err := n.Listen(broker.Handlers{Ack: func(a broker.Ack) { acked <- a }}); err != nil {
		t.Fatal(err)
	}
	if err := back.Listen(broker.Handlers{
		Message: func(m broker.Message) {
			if m.Through != next {
				t.Errorf("message %d came when %d was next", m.Through, next)
			}
			next++
			if m.Through%100 == 0 { // at most half of the pending limit is under way
				if err := back.Ack(broker.Ack{Epoch: jaquezEpoch, Of: clarkEpoch, Through: m.Through}); err != nil {
					t.Error(err)
				}
			}
			if next > many {
				close(finished)
			}
		},
		Bad: func(err error) { t.Error(err) },
	}); err != nil {
		t.Fatal(err)
	}
	lines := []byte(strings.Repeat("x", 200))
	for i := range uint64(many) {
		if err := n.Send(&broker.Message{Epoch: clarkEpoch, After: i, Through: i + 1, Head: many, Lines: lines}); err != nil {
			t.Fatal(err)
		}
		if i > 1000 && i%100 == 0 {
			take(t, acked, "ack")
		}
	}
	go func() {
		for range acked {
		}
	}()
	take(t, finished, "end")
	n.Close()
	close(acked)
}

func TestANeighbourThatIsNotThereIsNobody(t *testing.T) { // H7
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	n := c.Neighbour("herd", "Clark", "Jaquez")
	// A caller that waits for an answer gets the context's error.
	if _, err := n.AskJoin(soon(t), "c"); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("got %v, want %v", err, broker.ErrNobody)
	}

	operatorsAreNot := operator(t, s.URL())
	if _, err := operatorsAreNot.Subscribe("herd.>", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := operatorsAreNot.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := n.AskJoin(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("with an onlooker: %v, want %v", err, context.DeadlineExceeded)
	}
}

func TestANonsensicalAnswerIsNoJoin(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	nc := operator(t, s.URL())
	if _, err := nc.Subscribe("herd.join.Clark.Jaquez", func(m *nats.Msg) { m.Respond([]byte(`{"stream":"X","seq":1}`)) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if j, err := c.Neighbour("herd", "Clark", "Jaquez").AskJoin(soon(t), "c"); err == nil {
		t.Errorf("got %+v", j)
	}
}

func TestAClosedNeighbourIsDeaf(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	deaf := j.Neighbour("herd", "Jaquez", "Clark")
	if err := deaf.Listen(broker.Handlers{Join: func(string) broker.Join { return broker.Join{Epoch: jaquezEpoch, Config: "c"} }}); err != nil {
		t.Fatal(err)
	}
	n := c.Neighbour("herd", "Clark", "Jaquez")
	if _, err := n.AskJoin(soon(t), "c"); err != nil {
		t.Fatal(err)
	}
	deaf.Close()
	deaf.Close()
	if err := j.Flush(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := n.AskJoin(soon(t), "c"); !errors.Is(err, broker.ErrNobody) {
		t.Errorf("got %v, want %v", err, broker.ErrNobody)
	}
}

func TestAMessageThatIsTooLargeIsRefusedHere(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	j, _ := connect(t, s.URL())
	n, got := link(t, c, j)
	most := c.MaxPayload() - broker.HeaderRoom
	if err := n.Send(&broker.Message{Epoch: clarkEpoch, Lines: make([]byte, c.MaxPayload())}); err == nil {
		t.Error("no error")
	}
	say(t, n, got, strings.Repeat("x", most))
}

func TestNamesAreAskedForAndClaimed(t *testing.T) { // H10
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	if epoch, answered, err := c.AskName(soon(t), "herd", "Clark"); err != nil || answered {
		t.Errorf("of nobody: %q %v %v", epoch, answered, err)
	}
	claims := make(chan string, 10)
	if err := c.AnswerName("herd", "Clark", clarkEpoch, func(other string) { claims <- other }); err != nil {
		t.Fatal(err)
	}
	if err := c.ClaimName("herd", "Clark", clarkEpoch); err != nil { // which Clark must not receive itself
		t.Fatal(err)
	}

	twin, _ := connect(t, s.URL())
	if epoch, answered, err := twin.AskName(soon(t), "herd", "Clark"); err != nil || !answered || epoch != clarkEpoch {
		t.Errorf("of one who holds it: %q %v %v, want %q", epoch, answered, err, clarkEpoch)
	}
	if epoch, answered, err := twin.AskName(soon(t), "herd", "Jaquez"); err != nil || answered {
		t.Errorf("of another name: %q %v %v", epoch, answered, err)
	}
	nc := operator(t, s.URL())
	for _, nonsense := range []nats.Header{nil, {"Herd-Epoch": {"x"}}, {"Herd-Epoch": {clarkEpoch}}} { // the last is Clark's own, sent by another connection
		if err := nc.PublishMsg(&nats.Msg{Subject: "herd.join.Clark.Clark", Header: nonsense}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := twin.ClaimName("herd", "Clark", jaquezEpoch); err != nil {
		t.Fatal(err)
	}
	if got := take(t, claims, "claim"); got != jaquezEpoch {
		t.Errorf("got the claim of %q, want only that of %q", got, jaquezEpoch)
	}
}

// A run that holds a name does not receive its own question (D5, H10).
func TestWhoHoldsANameAsksWhoElseDoes(t *testing.T) {
	s := brokertest.Start(t)
	ignore := func(string) {}
	c, _ := connect(t, s.URL())
	if err := c.AnswerName("herd", "Clark", clarkEpoch, ignore); err != nil {
		t.Fatal(err)
	}
	if epoch, answered, err := c.AskName(soon(t), "herd", "Clark"); err != nil || answered {
		t.Errorf("of itself: %q %v %v, want no answer", epoch, answered, err)
	}
	twin, _ := connect(t, s.URL())
	if err := twin.AnswerName("herd", "Clark", jaquezEpoch, ignore); err != nil {
		t.Fatal(err)
	}
	if epoch, answered, err := c.AskName(soon(t), "herd", "Clark"); err != nil || !answered || epoch != jaquezEpoch {
		t.Errorf("of another run: %q %v %v, want %q", epoch, answered, err, jaquezEpoch)
	}
}

// If the question may be lost with its connection, the lack of an answer does not mean that
// nobody is there (H10).
func TestANameIsNotFreeBecauseTheConnectionWasCut(t *testing.T) {
	s := brokertest.Start(t)
	network := brokertest.Proxy(t, s.Addr())
	c, w := connect(t, "nats://"+network.Addr())
	nc := operator(t, s.URL())
	asked := make(chan struct{}, 1)
	if _, err := nc.Subscribe("herd.join.Clark.Clark", func(*nats.Msg) { asked <- struct{}{} }); err != nil { // a holder that answers late
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		asking, done := context.WithTimeout(ctx, time.Second)
		defer done()
		_, answered, err := c.AskName(asking, "herd", "Clark")
		if answered {
			t.Error("answered by nobody")
		}
		ended <- err
	}()
	take(t, asked, "question")
	network.Cut()
	take(t, w.connected, "connection")
	if err := take(t, ended, "end of the question"); !errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("H10 %v, want %v", err, broker.ErrNotConnected)
	}
}

func TestASilentHolderOfANameDoesNotAnswer(t *testing.T) { // H10: a stopped run
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	nc := operator(t, s.URL())
	if _, err := nc.Subscribe("herd.join.Clark.Clark", func(*nats.Msg) {}); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if epoch, answered, err := c.AskName(ctx, "herd", "Clark"); err != nil || answered {
		t.Errorf("got %q %v %v", epoch, answered, err)
	}
	if _, err := nc.Subscribe("herd.join.Clark.Clark", func(m *nats.Msg) { m.Respond([]byte("me")) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	if epoch, answered, err := c.AskName(soon(t), "herd", "Clark"); err == nil {
		t.Errorf("of one without an epoch: %q %v, want an error", epoch, answered)
	}
}

func TestWatchersSeeWhatTheHerdSays(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	type said struct{ from, to, lines string }
	watch := func(edge string) (<-chan said, func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		saw, ended := make(chan said, 10), make(chan error, 1)
		w, _ := connect(t, s.URL())
		go func() {
			ended <- w.Watch(ctx, "herd", edge, func(from, to string, m broker.Message) { saw <- said{from, to, string(m.Lines)} })
		}()
		// The watcher is ready when it sees this message, which is sent until then.
		probe := c.Neighbour("herd", "Clark", "probe")
		for len(saw) == 0 {
			if err := probe.Send(&broker.Message{Epoch: clarkEpoch}); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(soon(t)); err != nil {
				t.Fatal(err)
			}
		}
		return saw, func() error { cancel(); return take(t, ended, "end") }
	}
	next := func(saw <-chan said) said {
		for {
			if s := take(t, saw, "message"); s.to != "probe" {
				return s
			}
		}
	}
	all, stopAll := watch("")
	clark, stopClark := watch("Clark")
	nc := operator(t, s.URL())
	for _, subject := range []string{"herd.at.Clark.Jaquez", "herd.at.Bernard.Jaquez.x", "herd.at.Bernard"} { // bad headers, or not a link
		if err := nc.Publish(subject, []byte("nonsense")); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []said{{"Bernard", "Jaquez", "1"}, {"Clark", "Bernard", "2"}} {
		if err := c.Neighbour("herd", m.from, m.to).Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte(m.lines)}); err != nil {
			t.Fatal(err)
		}
	}
	if first, second := next(all), next(all); first != (said{"Bernard", "Jaquez", "1"}) || second != (said{"Clark", "Bernard", "2"}) {
		t.Errorf("saw %v, %v", first, second)
	}
	if got := next(clark); got != (said{"Clark", "Bernard", "2"}) {
		t.Errorf("of Clark it saw %v", got)
	}
	for _, stop := range []func() error{stopAll, stopClark} {
		if err := stop(); err != nil {
			t.Error(err)
		}
	}
	if err := c.Watch(t.Context(), "herd", "*.>", nil); err == nil {
		t.Error("anything is taken for an edge")
	}
}

func BenchmarkLink(b *testing.B) {
	for _, test := range []struct {
		name         string
		size, window int
		inside       bool
	}{
		{"one line and its ack, inside", 128, 1, true},
		{"one line and its ack, TCP", 128, 1, false},
		{"full messages, inside", 64 << 10, 8, true},
		{"full messages, TCP", 64 << 10, 8, false},
	} {
		b.Run(test.name, func(b *testing.B) {
			s := brokertest.Start(b)
			open := func(name string) *broker.Conn {
				dial := s.Embedded().Dial
				if !test.inside {
					dial = func(name string, ev broker.Events, log *slog.Logger) (*broker.Conn, error) {
						return broker.Dial(options.Broker{URL: s.URL()}, name, ev, log)
					}
				}
				c, err := dial(name, broker.Events{}, slog.New(slog.DiscardHandler))
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(c.Close)
				if err := c.Wait(b.Context()); err != nil {
					b.Fatal(err)
				}
				return c
			}
			c, j := open("Clark"), open("Jaquez")
			n, back := c.Neighbour("herd", "Clark", "Jaquez"), j.Neighbour("herd", "Jaquez", "Clark")
			window := make(chan bool, test.window)
			if err := n.Listen(broker.Handlers{Ack: func(a broker.Ack) { <-window }}); err != nil {
				b.Fatal(err)
			}
			if err := back.Listen(broker.Handlers{Message: func(m broker.Message) {
				if err := back.Ack(broker.Ack{Epoch: jaquezEpoch, Of: m.Epoch, Through: m.Through}); err != nil {
					b.Error(err)
				}
			}}); err != nil {
				b.Fatal(err)
			}
			m := broker.Message{Epoch: clarkEpoch, To: jaquezEpoch, Through: 1e9, Head: 1e9, Lines: make([]byte, test.size)}
			b.ReportAllocs()
			b.SetBytes(int64(test.size))
			for b.Loop() {
				window <- true
				if err := n.Send(&m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
