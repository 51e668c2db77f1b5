package link

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A network joins edges in memory, in virtual time: it can lose, repeat, delay and cut.
type network struct {
	t     *testing.T
	ctx   context.Context
	rand  *rand.Rand
	graph map[string][]string
	wait  sync.WaitGroup
	runs  int // how many were ever started: makes epochs

	stripTo bool // the variant without Herd-To (H4)
	linger  time.Duration

	mu    sync.Mutex
	live  map[string][]*run // the runs of a name: one, but for twins (H10)
	pipes map[[2]string]chan delivery
	cut   map[[2]string]bool
	loss  float64
	twice float64
	delay time.Duration
}

// A run is one run of an edge.
type run struct {
	name, epoch string
	table       *position.Table
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
		live: map[string][]*run{}, pipes: map[[2]string]chan delivery{}, cut: map[[2]string]bool{}}
	for _, l := range links {
		n.graph[l[0]] = append(n.graph[l[0]], l[1])
		n.graph[l[1]] = append(n.graph[l[1]], l[0])
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

// start begins a run of a name, empty.
func (n *network) start(name string) *run {
	n.runs++
	r := &run{name: name, epoch: fmt.Sprintf("%016x-%08x", n.runs, n.runs), table: position.New(position.Config{}), links: map[string]*Link{}}
	ctx, stop := context.WithCancel(n.ctx)
	r.stop = stop
	links := NewLinks(r.table)
	for i, neighbour := range n.graph[name] {
		r.links[neighbour] = links.Add(Config{Neighbour: neighbour, Epoch: r.epoch, Holder: i + 1, Window: 3, Heartbeat: time.Second, Linger: n.linger,
			MaxBytes: func() int { return wire.MaxAT }, // a batch is a few lines: corners are met often
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
		l.Reconnected()
	}
	return r
}

// kill ends the oldest run of a name, if it has one.
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

// put queues a delivery unless it is cut or lost.
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

// carry hands over one direction's deliveries, in order.
func (n *network) carry(d [2]string, pipe chan delivery) {
	for {
		select {
		case <-n.ctx.Done():
			return
		case x := <-pipe:
			time.Sleep(time.Until(x.at)) // virtual: the network's delay
			for _, r := range n.of(d[1]) {
				if x.message != nil {
					m := *x.message
					r.links[d[0]].Receive(&m)
				} else {
					r.links[d[0]].ReceiveAck(*x.ack)
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

// tell merges a client's line at a run.
func (r *run) tell(client string, stamp int) {
	line := fmt.Appendf(nil, "AT %s +0.000000000 %s +1+1 %d\n", r.name, client, stamp)
	a, err := wire.ParseAT(line[:len(line)-1])
	if err != nil {
		panic(err)
	}
	ops := make([]position.Op, 1)
	r.table.PutOwnLine(&ops[0], line, &wire.IAMAT{Client: a.Client, Location: a.Location, Time: a.Time, Stamp: a.Stamp}, a.Receipt)
	r.table.Apply(0, position.Source{}, ops)
}

// state is all that a run holds, sorted.
func (r *run) state() []string {
	var all []byte
	for cursor := uint64(0); ; {
		var span position.Span
		all, span = r.table.Read(all, cursor, 1<<30, position.Source{}, 0)
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

// reachable is who a live path of uncut links joins to a name.
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
