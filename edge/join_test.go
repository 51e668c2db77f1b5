package edge

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
	"herd/edge/config"
	"herd/places"
	"herd/places/nearby"
)

// A neighbour that joins with a different configuration each time does not fill the log.
func TestWhatIsLoggedOfConfigurationsIsBounded(t *testing.T) {
	var log bytes.Buffer
	n := &neighbour{log: slog.New(slog.NewTextHandler(&log, nil))}
	now := time.Now()
	for i := range 601 {
		n.compareConfig(now, "ours", []string{"theirs", "ours"}[i%2])
		if n.differs.Load() != (i%2 == 0) {
			t.Errorf("H7 question %d: differs is %v", i, n.differs.Load())
		}
		now = now.Add(100 * time.Millisecond)
	}
	if lines := bytes.Count(log.Bytes(), []byte("\n")); lines < 2 || lines > 7 {
		t.Errorf("H7 %d lines in a minute: %s", lines, &log)
	}
}

// A played neighbour is edge A, played by the test; its only neighbour is B. It sends heartbeats
// until the test ends or fallSilent is called.
type played struct {
	t     *testing.T
	epoch string
	path  *broker.Neighbour
	conn  *broker.Conn

	mu     sync.Mutex
	level  int
	head   uint64
	sent   int // revisions that it sends
	silent bool
	told   []broker.Message // heartbeats of B, the latest last
	lines  int              // that B sent
	acked  uint64           // of this run's stream
	asked  int
	bye    bool
}

// play begins a run of A that tells a level and a head.
func play(t *testing.T, url, epoch string, level int, head uint64) *played {
	t.Helper()
	conn, err := broker.Dial(options.Broker{URL: url}, "A", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := &played{t: t, epoch: epoch, conn: conn, path: conn.Neighbour("herd", "A", "B"), level: level, head: head}
	err = p.path.Listen(broker.Handlers{
		Message: p.message,
		Join: func(string) broker.Join {
			var j broker.Join
			p.do(func() { p.asked++; j = broker.Join{Epoch: p.epoch, Head: p.head, Level: p.level, Config: "x"} })
			return j
		},
		Ack: func(a broker.Ack) {
			after, sent := 0, 0
			p.do(func() {
				if a.Of == epoch {
					after = int(a.Through)
					p.acked = max(p.acked, a.Through)
				}
				sent = p.sent
			})
			if (a.Of != epoch || a.Rewind) && after < sent {
				p.say(after, sent)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	var beating sync.WaitGroup
	beating.Go(func() {
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			p.beat()
			select {
			case <-ctx.Done():
			case <-tick.C:
			}
		}
	})
	t.Cleanup(func() { stop(); beating.Wait(); conn.Close() })
	return p
}

// do calls f while holding the lock.
func (p *played) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

func (p *played) message(m broker.Message) {
	p.do(func() {
		p.lines += bytes.Count(m.Lines, []byte("\n"))
		p.bye = p.bye || m.Bye
		if m.Interval > 0 {
			p.told = append(p.told, m)
		}
	})
	if !m.Bye { // the last, and not acknowledged
		if err := p.path.Ack(broker.Ack{Epoch: p.epoch, Of: m.Epoch, Through: m.Through}); err != nil && !errors.Is(err, broker.ErrNotConnected) { // the test is over
			p.t.Errorf("ack: %v", err)
		}
	}
}

// tell raises the level and the head, and sends a heartbeat.
func (p *played) tell(level int, head uint64) {
	p.do(func() { p.level, p.head = level, head })
	p.beat()
}

// fallSilent ends the heartbeats.
func (p *played) fallSilent() { p.do(func() { p.silent = true }) }

func (p *played) beat() {
	var m broker.Message
	silent := false
	p.do(func() {
		silent = p.silent
		m = broker.Message{Epoch: p.epoch, Head: p.head, Level: p.level, Interval: 500 * time.Millisecond}
	})
	if silent {
		return
	}
	if err := p.path.Send(&m); err != nil && !errors.Is(err, broker.ErrNotConnected) { // the test is over
		p.t.Errorf("heartbeat: %v", err)
	}
}

// send sends its stream through a revision, one client per revision, and again from where B asks
// for a rewind (H6).
func (p *played) send(through int) {
	after := 0
	p.do(func() { after, p.sent = p.sent, through })
	p.say(after, through)
}

func (p *played) say(after, through int) {
	m := broker.Message{Epoch: p.epoch, After: uint64(after), Through: uint64(through)}
	p.do(func() { m.Head = max(p.head, m.Through) })
	for i := after; i < through; i++ {
		m.Lines = fmt.Appendf(m.Lines, "AT A +0.000000000 c%d +1+1 1\n", i)
	}
	if err := p.path.Send(&m); err != nil && !errors.Is(err, broker.ErrNotConnected) { // the test is over
		p.t.Errorf("send: %v", err)
	}
}

// levels returns the levels that B told, in order, without repetitions.
func (p *played) levels() (all []int) {
	p.do(func() {
		for _, m := range p.told {
			if len(all) == 0 || all[len(all)-1] != m.Level {
				all = append(all, m.Level)
			}
		}
	})
	return all
}

func (p *played) latestLevel() int {
	if all := p.levels(); len(all) > 0 {
		return all[len(all)-1]
	}
	return -1
}

// behindA configures a B whose only neighbour is A, and which waits long for it.
var behindA = []string{"HERD_TOPOLOGY=A-B,A-C", "HERD_JOIN_TIMEOUT=1m"}

const playedEpoch, playedLater = "00000000000000a1-00000001", "00000000000000a2-00000001"

func TestAJoiningEdgeWaitsForWhatANeighbourToldOf(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, broker.LevelSettled, 100)
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=1m")
	eventually(t, "B to be at level 1", func() bool { return a.latestLevel() == 1 })
	a.send(99)
	eventually(t, "B to hold what it was sent", func() bool { return b.edge.Status().Clients == 99 })
	if b.edge.isReady() {
		t.Error("H7 B is ready without all that A told of")
	}
	a.send(100)
	b.ready()
	if clients := b.edge.Status().Clients; clients != 100 {
		t.Errorf("H7 opened its port with %d of 100 clients", clients)
	}
	eventually(t, "A to be told that B is open", func() bool { return a.latestLevel() == broker.LevelOpen })
	a.do(func() {
		if a.asked == 0 {
			t.Error("H7 A was not asked")
		}
	})
}

func TestEdgesThatJoinWaitForEachOtherByLevels(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, 0, 0)
	b := run(t, "B", nats.URL(), behindA...)
	eventually(t, "B to be at level 1", func() bool { return a.latestLevel() == 1 })
	if ok, why := b.edge.Source().Ready(); ok || why != "joining: level 1 of 3, waits for A" {
		t.Errorf("H7 ready %v, %q", ok, why)
	}
	a.tell(1, 3) // A has loaded three, and sends them
	a.send(3)
	eventually(t, "B to be at level 2", func() bool { return a.latestLevel() == 2 })
	a.do(func() {
		if m := a.told[len(a.told)-1]; m.Head != 3 {
			t.Errorf("H7 level 2 with head %d, want A's three clients in it", m.Head)
		}
	})
	if b.edge.isReady() {
		t.Error("H7 ready before A knew what B knows")
	}
	a.tell(2, 3)
	b.ready()
	eventually(t, "A to be told that B is open", func() bool { return a.latestLevel() == broker.LevelOpen })
	if levels := fmt.Sprint(a.levels()); levels != fmt.Sprint([]int{1, 2, broker.LevelOpen}) &&
		levels != fmt.Sprint([]int{0, 1, 2, broker.LevelOpen}) && levels != fmt.Sprint([]int{1, 2, 3, broker.LevelOpen}) &&
		levels != fmt.Sprint([]int{0, 1, 2, 3, broker.LevelOpen}) {
		t.Errorf("H7 B told levels %v", levels)
	}
}

func TestAJoiningEdgeAnswersThatItJoins(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, 0, 0)
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=1m")
	eventually(t, "B to be at level 1", func() bool { return a.latestLevel() == 1 })
	j, err := a.path.AskJoin(t.Context(), "x")
	if err != nil || j.Level != 1 || j.Epoch != b.edge.epoch {
		t.Errorf("H7 answered %+v, %v; want level 1", j, err)
	}
	a.tell(broker.LevelOpen, 0)
	b.ready()
	eventually(t, "B to answer that it is open", func() bool {
		j, err := a.path.AskJoin(t.Context(), "x")
		return err == nil && j.Level == broker.LevelOpen
	})
}

// A run that told its head may end before it has sent everything: then the next run's head counts.
func TestAJoinDoesNotWaitForARunThatIsNoMore(t *testing.T) {
	nats := brokertest.Start(t)
	first := play(t, nats.URL(), playedEpoch, broker.LevelOpen, 1<<20)
	b := run(t, "B", nats.URL(), behindA...)
	first.send(100)
	eventually(t, "B to hold what it was sent", func() bool { return b.edge.Status().Clients == 100 })
	first.fallSilent() // killed
	second := play(t, nats.URL(), playedLater, broker.LevelOpen, 50)
	second.send(50)
	b.ready()
}

func TestAJoinDoesNotWaitForWhoHasSaidGoodBye(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, broker.LevelOpen, 1<<20)
	b := run(t, "B", nats.URL(), behindA...)
	a.send(100)
	eventually(t, "B to hold what it was sent", func() bool { return b.edge.Status().Clients == 100 })
	a.fallSilent()
	if err := a.path.Send(&broker.Message{Epoch: playedEpoch, After: 100, Through: 100, Head: 1 << 20, Bye: true}); err != nil {
		t.Fatal(err)
	}
	b.ready()
}

func TestWhoJoinsHandsOnToWhoJoinsBehindIt(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, broker.LevelSettled, 1<<20)
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=1m")
	c := run(t, "C", nats.URL(), "HERD_JOIN_TIMEOUT=1m")
	a.send(100)
	eventually(t, "H7 C to hold what A sent to B", func() bool { return c.edge.Status().Clients == 100 })
	if b.edge.isReady() || c.edge.isReady() {
		t.Error("H7 ready without all that A told of")
	}
	if ok, why := c.edge.Source().Ready(); ok || !strings.HasSuffix(why, "of 3, waits for B") {
		t.Errorf("H7 ready %v, %q", ok, why)
	}
}

func TestAJoinThatBringsNothingMoreEnds(t *testing.T) {
	nats := brokertest.Start(t)
	a := play(t, nats.URL(), playedEpoch, broker.LevelSettled, 1<<20)
	start := time.Now()
	b := run(t, "B", nats.URL(), "HERD_JOIN_TIMEOUT=2s")
	a.send(100)
	b.ready()
	if took := time.Since(start); took < 2*time.Second {
		t.Errorf("H7 ready after %v, before anything could be missed", took)
	}
	if clients := b.edge.Status().Clients; clients != 100 {
		t.Errorf("H7 %d clients, want what came", clients)
	}
}

func TestWhoJoinsSendsNothingToThoseWhoHaveIt(t *testing.T) {
	nats := brokertest.Start(t, brokertest.JetStream)
	before := run(t, "B", nats.URL(), "HERD_JOURNAL=on").ready()
	const n = 50
	var lines []byte
	for i := range n {
		lines = append(lines, before.say("IAMAT c%d +1+1 1", i)...)
	}
	if err := before.end(); err != nil { // its journal holds them
		t.Fatal(err)
	}

	// A has joined and holds them too, and sends them only later.
	a := play(t, nats.URL(), playedEpoch, broker.LevelSettled, n)
	b := run(t, "B", nats.URL(), "HERD_JOURNAL=on", "HERD_JOIN_TIMEOUT=1m")
	eventually(t, "B to have loaded its journal", func() bool { return a.latestLevel() == 1 })
	if err := a.path.Send(&broker.Message{Epoch: playedEpoch, Through: n, Head: n, Lines: lines}); err != nil {
		t.Fatal(err)
	}
	b.ready()
	if clients := b.edge.Status().Clients; clients != n {
		t.Errorf("H7 opened its port with %d of %d clients", clients, n)
	}
	eventually(t, "A to hear that B holds all", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.acked == n })
	eventually(t, "A to lack nothing", func() bool { return b.edge.Status().Links[0].Lag == 0 })
	got := 0
	if a.do(func() { got = a.lines }); got != 0 {
		t.Errorf("H4, H7 sent A %d lines that it holds", got)
	}
	b.say("IAMAT new +1+1 1")
	eventually(t, "A to hear what is new", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.lines == 1 })
	if err := b.end(); err != nil {
		t.Error(err)
	}
	eventually(t, "A to hear B's good-bye", func() bool { a.mu.Lock(); defer a.mu.Unlock(); return a.bye })
}

func TestWhoWaitsForItsJournalHandsOn(t *testing.T) {
	nats := brokertest.Start(t) // without JetStream
	a, c := run(t, "A", nats.URL()).ready(), run(t, "C", nats.URL()).ready()
	b := run(t, "B", nats.URL(), "HERD_JOURNAL=on")
	line := a.say("IAMAT kiwi +1+1 1")
	eventually(t, "D4, H1 C to know what A was told", c.knows(line))
	if b.edge.isReady() {
		t.Error("D4 B is ready without its journal")
	}
	if ok, why := b.edge.Source().Ready(); ok || !strings.HasSuffix(why, "joining: level 0 of 3, waits for the journal") {
		t.Errorf("H7 ready %v, %q", ok, why)
	}
}

// The whole herd starts at once, and each edge has a journal of its own: no edge opens its port
// without what the others loaded.
func TestAHerdThatStartsAtOnceForgetsNobody(t *testing.T) {
	nats := brokertest.Start(t, brokertest.JetStream)
	const n = 300
	names := []string{"A", "B", "C"}
	start := func() (all []*running) {
		for _, name := range names {
			all = append(all, run(t, name, nats.URL(), "HERD_JOURNAL=on"))
		}
		return all
	}
	want := map[string]string{}
	herd := start()
	for i, e := range herd {
		e.ready()
		for k := range n {
			line := e.say("IAMAT c%d-%d +1+1 1", i, k)
			want[strings.Fields(line)[3]] = line
		}
	}
	for _, e := range herd {
		if err := e.end(); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range start() {
		e.ready()
		if clients := e.edge.Status().Clients; clients != 3*n {
			t.Errorf("H7 %s opened its port with %d of %d clients", e.edge.cfg.Edge, clients, 3*n)
		}
	}
}

func TestAnEdgeCountsAsSettledHalfAMinuteAfterItOpened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &Edge{}
		e.setLevel(broker.LevelOpen)
		begun := time.Now()
		if err := e.settled(t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took != 30*time.Second || e.level.Load() != broker.LevelSettled {
			t.Errorf("H7 level %d after %v", e.level.Load(), took)
		}
	})
}

func TestConfigurationsThatHaveToAgreeAreCompared(t *testing.T) {
	hash := func(more ...string) string {
		cfg, _, err := config.FromEnvironment(append([]string{"HERD_EDGE=B", "HERD_TOPOLOGY=A-B,B-C", "HERD_HTTP="}, more...))
		if err != nil {
			t.Fatal(err)
		}
		return configHash(&cfg)
	}
	same := hash()
	for _, more := range []string{"HERD_TOPOLOGY=C-B, B-A", "HERD_EDGE=A", "HERD_LISTEN=127.0.0.1:1"} {
		if hash(more) != same {
			t.Errorf("H7 %s is another configuration", more)
		}
	}
	for _, more := range []string{"HERD_TOPOLOGY=A-B,B-C,A-C", "HERD_RETAIN=1h", "HERD_MAX_CLIENTS=1000", "HERD_MAX_TABLE=1GiB"} {
		if hash(more) == same {
			t.Errorf("H7 %s is the same configuration", more)
		}
	}
}

// library is a provider that goes on reading its places until the test tells it to finish.
type library struct{ read chan struct{} }

func (l *library) Name() string { return "library" }
func (l *library) Known() int   { return 0 }

func (l *library) Nearby(context.Context, places.Query) (nearby.Answer, error) {
	return nearby.Answer{}, places.ErrUnknown
}

func (l *library) Load(ctx context.Context) error {
	select {
	case <-l.read:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// runWith runs an edge whose places come from l.
func runWith(t *testing.T, l *library, name, url string, more ...string) *running {
	t.Helper()
	f := places.NewFinder(brokertest.Log(t), l)
	t.Cleanup(f.Close)
	return runShared(t, Shared{Log: brokertest.Log(t), Finder: f}, name, url, more...)
}

func TestThePortWaitsForPlacesThatAreSoonRead(t *testing.T) {
	nats := brokertest.Start(t)
	l := &library{make(chan struct{})}
	a := runWith(t, l, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_JOIN_TIMEOUT=1m")
	eventually(t, "A to have its name", func() bool {
		select {
		case <-a.edge.named:
			return true
		default:
			return false
		}
	})
	if a.edge.isReady() {
		t.Error("ready before the places were read")
	}
	close(l.read)
	a.ready()
}

func TestThePortDoesNotWaitForPlacesForLong(t *testing.T) {
	nats := brokertest.Start(t)
	start := time.Now()
	a := runWith(t, &library{make(chan struct{})}, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_JOIN_TIMEOUT=300ms").ready()
	if took := time.Since(start); took < 300*time.Millisecond {
		t.Errorf("ready after %v, the places were not read", took)
	}
	if got := a.say("IAMAT k +1+1 1"); !strings.HasPrefix(got, "AT A ") {
		t.Error(got)
	}
}
