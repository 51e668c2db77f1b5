package link

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A network connects edges in memory and in virtual time. It can lose, repeat and delay messages,
// and cut links.
type network struct {
	t     *testing.T
	ctx   context.Context
	rand  *rand.Rand
	graph map[string][]string
	wait  sync.WaitGroup
	runs  int // how many were started so far; epochs are made from it

	stripTo bool // the variant without Herd-To (H4)
	gap     time.Duration

	clocks map[string]*atomic.Int64 // by name: how far the clock is off

	mu    sync.Mutex
	live  map[string][]*run // by name: its runs; several only while a name is contested (H10)
	pipes map[[2]string]chan delivery
	cut   map[[2]string]bool
	loss  float64
	twice float64
	delay time.Duration
	rate  int // bytes of lines per second that a direction carries; 0: all

	carried int // messages and acks delivered to runs
}

// A run is one run of an edge.
type run struct {
	name, epoch string
	table       *position.Table
	clock       *atomic.Int64
	links       map[string]*Link
	stop        context.CancelFunc
	done        sync.WaitGroup
}

type delivery struct {
	at      time.Time
	message *Message
	ack     *Ack
}

func newNetwork(t *testing.T, seed uint64, links [][2]string) *network {
	ctx, cancel := context.WithCancel(t.Context())
	n := &network{t: t, ctx: ctx, rand: rand.New(rand.NewPCG(seed, 1)), graph: map[string][]string{},
		clocks: map[string]*atomic.Int64{}, live: map[string][]*run{}, pipes: map[[2]string]chan delivery{}, cut: map[[2]string]bool{}}
	for _, l := range links {
		n.graph[l[0]] = append(n.graph[l[0]], l[1])
		n.graph[l[1]] = append(n.graph[l[1]], l[0])
		for _, name := range l {
			if n.clocks[name] == nil {
				n.clocks[name] = new(atomic.Int64)
			}
		}
		for _, d := range [][2]string{l, {l[1], l[0]}} {
			pipe := make(chan delivery, 1<<12)
			n.pipes[d] = pipe
			n.wait.Go(func() { n.carry(d, pipe) })
		}
	}
	t.Cleanup(func() {
		for name := range n.graph {
			n.kill(name)
		}
		cancel()
		n.wait.Wait()
	})
	return n
}

func (n *network) names() []string {
	var names []string
	for name := range n.graph {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// start starts an empty run of a name.
func (n *network) start(name string) *run {
	n.runs++
	r := &run{name: name, epoch: fmt.Sprintf("%016x-%08x", n.runs, n.runs), table: position.New(position.Config{}), clock: n.clocks[name], links: map[string]*Link{}}
	ctx, stop := context.WithCancel(n.ctx)
	r.stop = stop
	links := NewLinks(r.table)
	for i, neighbour := range n.graph[name] {
		r.links[neighbour] = links.Add(Config{Neighbour: neighbour, Epoch: r.epoch, Number: i + 1, Window: 3, Heartbeat: time.Second, Gap: n.gap,
			MaxBytes: func() int { return wire.MaxAT }, // few lines per message: more edge cases
			Wall:     func(t time.Time) int64 { return t.UnixNano() + r.clock.Load() },
			Out:      end{n, name, neighbour}, Log: slog.New(slog.DiscardHandler)})
	}
	n.mu.Lock()
	n.live[name] = append(n.live[name], r)
	n.mu.Unlock()
	r.done.Go(func() {
		if err := links.Run(ctx); err != nil {
			n.t.Errorf("run: %v", err)
		}
	})
	for _, l := range r.links {
		l.Reconnected(time.Now())
	}
	return r
}

// kill ends the oldest run of a name, if there is one.
func (n *network) kill(name string) {
	n.mu.Lock()
	runs := n.live[name]
	if len(runs) == 0 {
		n.mu.Unlock()
		return
	}
	n.live[name] = slices.Clone(runs[1:])
	n.mu.Unlock()
	runs[0].stop()
	runs[0].done.Wait()
}

func (n *network) of(name string) []*run {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.live[name]
}

// noise sets how messages are lost, repeated and delayed from now on.
func (n *network) noise(loss, twice float64, delay time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.loss, n.twice, n.delay = loss, twice, delay
}

// set cuts a link or heals it.
func (n *network) set(link [2]string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[link] = cut
}

func (n *network) isCut(link [2]string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.cut[link]
}

func pair(a, b string) [2]string { return [2]string{min(a, b), max(a, b)} }

// put queues a delivery, unless the link is cut or the delivery is lost.
func (n *network) put(from, to string, d delivery) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cut[pair(from, to)] || n.rand.Float64() < n.loss {
		return
	}
	times := 1
	if n.rand.Float64() < n.twice {
		times = 2
	}
	d.at = time.Now().Add(time.Duration(n.rand.Int64N(int64(n.delay) + 1)))
	for range times {
		select {
		case n.pipes[[2]string{from, to}] <- d:
		default: // a slow consumer: lost
		}
	}
}

// count returns how many messages and acks were delivered to runs so far.
func (n *network) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.carried
}

// carry delivers what is queued in one direction, in order.
func (n *network) carry(d [2]string, pipe chan delivery) {
	for {
		select {
		case <-n.ctx.Done():
			return
		case x := <-pipe:
			time.Sleep(time.Until(x.at)) // virtual: the network's delay
			n.mu.Lock()
			rate := n.rate
			n.carried += len(n.live[d[1]])
			n.mu.Unlock()
			if x.message != nil && rate > 0 {
				time.Sleep(time.Duration(len(x.message.Lines)) * time.Second / time.Duration(rate))
			}
			for _, r := range n.of(d[1]) {
				if x.message != nil {
					m := *x.message
					r.links[d[0]].Receive(time.Now(), &m)
				} else {
					r.links[d[0]].ReceiveAck(time.Now(), *x.ack)
				}
			}
		}
	}
}

// An end is a run's Transport to one neighbour.
type end struct {
	n        *network
	from, to string
}

func (e end) Send(m *Message) error {
	c := *m
	c.Lines = bytes.Clone(m.Lines)
	if e.n.stripTo {
		c.To = ""
	}
	e.n.put(e.from, e.to, delivery{message: &c})
	return nil
}

func (e end) Ack(a Ack) error {
	e.n.put(e.from, e.to, delivery{ack: &a})
	return nil
}

// tell merges a client's line at a run. The client's clock is right; the edge's may be off.
func (r *run) tell(client string, stamp int) {
	line := wire.AppendSkew(fmt.Appendf(nil, "AT %s ", r.name), r.clock.Load())
	line = fmt.Appendf(line, " %s +1+1 %d\n", client, stamp)
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		panic(err)
	}
	ops := make([]position.Op, 1)
	r.table.PreparePutOwn(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Point: a.Point, Stamp: a.Stamp}, a.Receipt)
	r.table.Apply(0, position.Source{}, ops)
}

// state returns all lines that a run holds, sorted.
func (r *run) state() []string {
	var all []byte
	for cursor := uint64(0); ; {
		var span position.Span
		all, span = r.table.Read(all, cursor, 1<<30, position.Source{}, 0, nil)
		if cursor = span.Through; cursor == span.Head {
			break
		}
	}
	var s []string
	for l := range bytes.Lines(all) {
		s = append(s, string(l))
	}
	slices.Sort(s)
	return s
}

// newer reports whether a is a newer line than b (S2).
func newer(a, b string) bool {
	x, errX := wire.ParseAT([]byte(a[:len(a)-1]))
	y, errY := wire.ParseAT([]byte(b[:len(b)-1]))
	if errX != nil || errY != nil {
		panic(fmt.Sprint(errX, errY))
	}
	return wire.Compare(&x, &y, []byte(a), []byte(b)) > 0
}

// lie passes a message or ack that no correct neighbour sends to a run of an edge (H9). It stands
// for an attacker who reads the traffic, a run whose memory went back, or a fault of another
// version.
func (n *network) lie(from, to string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	of, by := n.live[to], n.live[from]
	if len(of) == 0 || len(by) == 0 {
		return
	}
	true1, true2 := by[0].epoch, of[0].epoch // of the alleged sender, of the receiver
	other := fmt.Sprintf("%016x-%08x", n.rand.IntN(2*n.runs), 0)
	head := by[0].table.Head()
	few := n.rand.Uint64N(head + 2)
	var d delivery
	switch n.rand.IntN(12) {
	case 0:
		d.message = &Message{Epoch: true1, Through: 1<<64 - 1, Head: 1<<64 - 1}
	case 1:
		d.message = &Message{Epoch: true1, Through: head + 1000, Head: head + 1000}
	case 2:
		d.message = &Message{Epoch: true1, Through: head + 1000, Head: few}
	case 3:
		d.message = &Message{Epoch: true1, After: few, Through: few / 2, Head: head}
	case 4:
		d.message = &Message{Epoch: true1, After: few / 2, Through: few / 2, Head: few / 2, Interval: 24 * time.Hour}
	case 5:
		d.message = &Message{Epoch: true1, Head: head, Bye: true}
	case 6:
		d.message = &Message{Epoch: other, After: few, Through: few, Head: 1 << 60, Interval: []time.Duration{10 * time.Millisecond, 24 * time.Hour}[n.rand.IntN(2)]}
	case 7:
		d.ack = &Ack{Epoch: true1, Of: true2, Through: few, Rewind: true}
	case 8:
		d.ack = &Ack{Epoch: true1, Of: true2, Through: 1 << 63}
	case 9:
		d.ack = &Ack{Epoch: true1, Of: true2, Through: few}
	case 10:
		d.ack = &Ack{Epoch: true1, Of: other, Through: few, Rewind: true}
	case 11:
		d.ack = &Ack{Epoch: other, Of: true2, Through: few, Rewind: n.rand.IntN(2) == 0}
	}
	d.at = time.Now()
	select {
	case n.pipes[[2]string{from, to}] <- d:
	default:
	}
}

// reachable returns the names that uncut links between live edges connect to a name.
func (n *network) reachable(from string) map[string]bool {
	seen := map[string]bool{from: true}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range n.graph[queue[0]] {
			if !seen[next] && len(n.of(next)) > 0 && !n.isCut(pair(queue[0], next)) {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return seen
}
