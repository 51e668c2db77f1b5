package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/position"
	"herd/edge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// herd is tables that are linked, without a network: what is put into one is carried to its
// neighbours by deliver, or is lost on the way though it is acknowledged.
type herd struct {
	t     testing.TB
	mu    sync.Mutex
	edges map[string]*fake
	asked map[string]int // questions by kind

	// before is called before each answer; an error is the answer then.
	before func(edge string, q *Question) error
	// mangle changes an answer.
	mangle func(edge string, r *Reply)
	slow   time.Duration // that an answer takes
}

type fake struct {
	name   string
	epoch  string
	table  *position.Table
	retain time.Duration
	most   int
	links  map[string]*fakeLink
	now    func() int64
}

// fakeLink is what is said on a link: the neighbour acknowledged through acked, and has read through it.
type fakeLink struct {
	to     *fake
	acked  uint64
	number int // of the sender at the receiver
	lose   func(line []byte) bool
}

func newHerd(t testing.TB, links string, retain time.Duration) *herd {
	h := &herd{t: t, edges: map[string]*fake{}, asked: map[string]int{}}
	edge := func(name string) *fake {
		if h.edges[name] == nil {
			h.edges[name] = &fake{name: name, epoch: name + "1", table: position.New(position.Config{Retain: retain}), retain: retain, most: 1 << 20, links: map[string]*fakeLink{},
				now: func() int64 { return time.Now().UnixNano() }}
		}
		return h.edges[name]
	}
	for link := range strings.SplitSeq(links, ",") {
		a, b, _ := strings.Cut(link, "-")
		edge(a).links[b] = &fakeLink{to: edge(b), number: len(edge(b).links) + 1}
		edge(b).links[a] = &fakeLink{to: edge(a), number: len(edge(a).links)}
	}
	return h
}

func (h *herd) names() (names []string) {
	for name := range h.edges {
		names = append(names, name)
	}
	return names
}

// line is an AT line of a moment, received then.
func line(edge, client, location string, at time.Time) []byte {
	return fmt.Appendf(nil, "AT %s +0.000000000 %s %s %d.%09d\n", edge, client, location, at.Unix(), at.Nanosecond())
}

func (f *fake) put(source position.Source, lines ...[]byte) {
	ops := make([]position.Op, len(lines))
	for i, l := range lines {
		at, err := wire.ParseAT(l[:len(l)-1])
		if err != nil {
			panic(err)
		}
		f.table.PreparePut(&ops[i], l, &at)
	}
	f.table.Apply(f.now(), source, ops)
}

// deliver carries all that an edge's neighbours lack to them, and acknowledges it.
func (h *herd) deliver(f *fake) {
	for _, l := range f.links {
		h.mu.Lock()
		after := l.acked
		h.mu.Unlock()
		for {
			b, span := f.table.Read(nil, after, 64<<10, position.Source{Neighbour: 1, Epoch: ""}, f.now(), nil)
			var kept [][]byte
			for one := range strings.Lines(string(b)) {
				if l.lose == nil || !l.lose([]byte(one)) {
					kept = append(kept, []byte(one))
				}
			}
			l.to.put(position.Source{Neighbour: l.number, Epoch: f.epoch}, kept...)
			if span.Through == after {
				break
			}
			after = span.Through
			h.mu.Lock()
			l.acked = max(l.acked, after)
			h.mu.Unlock()
		}
	}
}

// settle delivers until nobody lacks anything.
func (h *herd) settle() {
	for range len(h.edges) + 1 {
		for _, f := range h.edges {
			h.deliver(f)
		}
	}
}

var errDead = errors.New("not connected to the broker")

func (h *herd) ask(ctx context.Context, edge string, question []byte) ([]byte, error) {
	if h.slow > 0 {
		time.Sleep(h.slow + time.Duration(rand.IntN(int(h.slow))))
	}
	f := h.edges[edge]
	if f == nil {
		return nil, errDead
	}
	var q Question
	if err := json.Unmarshal(question, &q); err != nil {
		h.t.Error(err)
	}
	if f.most > 0 && len(question) > f.most {
		h.t.Errorf("a question of %d bytes", len(question))
	}
	h.mu.Lock()
	h.asked[q.Ask]++
	state := State{Edge: f.name, Epoch: f.epoch, Now: f.now(), Retain: int64(f.retain), Largest: f.most}
	state.Clients, _, _ = f.table.Stats()
	for name, l := range f.links {
		state.Links = append(state.Links, Link{Neighbour: name, Epoch: l.to.epoch, Acked: l.acked, Up: true})
	}
	before := h.before
	h.mu.Unlock()
	if before != nil {
		if err := before(edge, &q); err != nil {
			return nil, err
		}
	}
	r, err := Answer(&q, f.table, state)
	if err != nil {
		return nil, err
	}
	if h.mangle != nil {
		h.mangle(edge, r)
	}
	text, err := json.Marshal(r)
	if err != nil {
		h.t.Error(err)
	}
	if f.most > 0 && len(text) > f.most && len(r.Held) != 1 {
		h.t.Errorf("%s: an answer of %d bytes, of at most %d", q.Ask, len(text), f.most)
	}
	return text, nil
}

func (h *herd) run(t testing.TB) Result {
	t.Helper()
	r, err := Run(t.Context(), Config{Ask: h.ask}, h.names())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill gives all edges the same clients.
func (h *herd) fill(n int, at time.Time) {
	for i := range n {
		l := line("A", fmt.Sprint("client-", i), "+1+1", at)
		for _, f := range h.edges {
			f.put(position.Source{}, l)
		}
	}
	for _, f := range h.edges {
		for _, l := range f.links {
			l.acked = f.table.Head()
		}
	}
}
