package verify

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"time"

	"herd/edge/position"
)

// Config says how a herd is compared.
type Config struct {
	// Ask asks an edge a Question in JSON and returns its Reply. It is called from several
	// goroutines, for an edge from one at a time. After ErrBusy it is asked again.
	Ask func(ctx context.Context, edge string, question []byte) (reply []byte, err error)

	// Wait is how long an edge may lack what another one holds, and has not been acknowledged by
	// it, before it counts as late; 0: 10 s.
	Wait time.Duration
	// Patience is how long an edge may take for an answer; 0: 10 s.
	Patience time.Duration
}

// ErrBusy is what Config.Ask returns where an edge has no time for a question now.
var ErrBusy = errors.New("busy")

// busyPause is how long an edge that was busy is left alone.
const busyPause = 100 * time.Millisecond

const (
	perShard = 16 // clients per shard, about

	// batchMost is about how many entries of an edge are compared at once, and chunkMost how many clients are
	// looked into at once.
	batchMost = 250_000
	chunkMost = 4_000

	// differencesMost ends a comparison: so many differences say enough.
	differencesMost = 1_000
)

// Result says what a comparison found.
type Result struct {
	Edges       []string      `json:"edges"`             // that were compared, sorted
	Silent      []Silent      `json:"silent"`            // that did not answer, sorted
	Clients     int           `json:"clients"`           // that were compared
	LeftOut     time.Time     `json:"left_out,omitzero"` // positions from before this were left out: they are about to be forgotten (S4)
	Same        bool          `json:"same"`              // edges answered, and no difference was found among them
	Differences []Difference  `json:"differences"`       // sorted by client and edge
	Unexamined  int           `json:"unexamined"`        // clients that seemed to differ and were not looked into, because there are so many
	Took        time.Duration `json:"-"`
	Seconds     float64       `json:"seconds"`
}

// OK reports whether all edges answered and hold the same.
func (r *Result) OK() bool { return r.Same && len(r.Silent) == 0 }

// Silent is an edge that was not compared.
type Silent struct {
	Edge string `json:"edge"`
	Why  string `json:"why"`
}

// The kinds of differences.
const (
	Lost   = "lost"    // the edge said that it holds the line, and does not: it does not heal by itself
	PutOff = "put off" // the line is too far ahead of the edge's clock (H9)
	Late   = "late"    // the edge has not said that it holds the line, for long
)

// Difference is an edge that lacks a client's newest line.
type Difference struct {
	Client []byte `json:"-"`
	Edge   string `json:"edge"`
	Kind   string `json:"kind"`
	Held   string `json:"held,omitempty"` // the older line that it holds; left out where it holds none
	Newest string `json:"newest"`         // the line that it lacks
	At     string `json:"at"`             // an edge that holds it
	// By is the neighbour to which the edge acknowledged the line, where it did so itself.
	By string `json:"by,omitempty"`
}

// MarshalJSON adds the client's id, as text and where that is not UTF-8 in base64 too.
func (d Difference) MarshalJSON() ([]byte, error) {
	type plain Difference // without this method
	x := struct {
		Client string `json:"client"`
		Bytes  []byte `json:"client_base64,omitempty"`
		plain
	}{plain: plain(d)}
	x.Client, x.Bytes = text(d.Client)
	x.Held, _ = text([]byte(d.Held))
	x.Newest, _ = text([]byte(d.Newest))
	return json.Marshal(x)
}

// Run compares the tables of these edges, with a key of its own, until it knows whether they are
// the same or ctx ends. While an edge does not answer, or restarts, the others are compared.
func Run(ctx context.Context, cfg Config, edges []string) (Result, error) {
	cfg.Wait, cfg.Patience = cmp.Or(cfg.Wait, 10*time.Second), cmp.Or(cfg.Patience, 10*time.Second)
	r := &run{cfg: cfg, silent: map[string]string{}, key: make([]byte, position.DigestKey)}
	if _, err := rand.Read(r.key); err != nil {
		return Result{}, fmt.Errorf("make a key: %w", err)
	}
	begun := time.Now()
	for _, name := range slices.Sorted(slices.Values(edges)) {
		r.members = append(r.members, &member{name: name})
	}
	err := r.compare(ctx)
	if ctx.Err() != nil {
		return Result{}, context.Cause(ctx)
	}
	if err != nil {
		return Result{}, err
	}
	return r.result(time.Since(begun)), nil
}

// A run is one comparison under way.
type run struct {
	cfg     Config
	key     []byte
	bits    int
	oldest  int64
	members []*member // that answer
	clients int       // the most that one holds

	mu     sync.Mutex
	silent map[string]string // why, by edge

	differences []Difference
	unexamined  int
}

// A member is an edge that is compared.
type member struct {
	name   string
	state  State
	sums   []uint64
	listed []position.Entry
}

func (r *run) compare(ctx context.Context) error {
	r.each(ctx, func(ctx context.Context, m *member) error {
		_, err := r.ask(ctx, m, &Question{Ask: AskState})
		return err
	})
	if len(r.members) == 0 {
		return nil
	}
	r.choose()
	r.each(ctx, r.sum)
	shards := r.differing()
	for len(shards) > 0 && len(r.members) > 1 && len(r.differences) < differencesMost {
		n := min(len(shards), max(1, batchMost/(r.clients>>r.bits+1)))
		suspects, err := r.list(ctx, shards[:n])
		if err != nil {
			return err
		}
		shards = shards[n:]
		for len(suspects) > 0 {
			some := suspects[:min(len(suspects), chunkMost)]
			suspects = suspects[len(some):]
			if err := r.examine(ctx, some); err != nil {
				return err
			}
			if len(r.differences) >= differencesMost {
				r.unexamined += len(suspects)
				break
			}
		}
	}
	return nil
}

// each calls f for all members side by side. One for which it fails is left out from then on.
func (r *run) each(ctx context.Context, f func(context.Context, *member) error) {
	var all sync.WaitGroup
	for _, m := range r.members {
		all.Go(func() {
			if err := f(ctx, m); err != nil {
				r.mu.Lock()
				r.silent[m.name] = err.Error()
				r.mu.Unlock()
			}
		})
	}
	all.Wait()
	r.members = slices.DeleteFunc(r.members, func(m *member) bool {
		_, silent := r.silent[m.name]
		return silent
	})
}

var (
	errRestarted = errors.New("it restarted meanwhile")
	errReply     = errors.New("its answer makes no sense")
)

// ask asks a member and notes its state. An edge that restarted is another one.
func (r *run) ask(ctx context.Context, m *member, q *Question) (*Reply, error) {
	question, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("write a question: %w", err)
	}
	asking, cancel := context.WithTimeout(ctx, r.cfg.Patience)
	defer cancel()
	text, err := r.cfg.Ask(asking, m.name, question)
	for errors.Is(err, ErrBusy) && asking.Err() == nil {
		select {
		case <-time.After(busyPause):
		case <-asking.Done():
		}
		text, err = r.cfg.Ask(asking, m.name, question)
	}
	switch {
	case err != nil && asking.Err() != nil && ctx.Err() == nil:
		return nil, fmt.Errorf("no answer within %v", r.cfg.Patience)
	case err != nil:
		return nil, err
	}
	var reply Reply
	if err := json.Unmarshal(text, &reply); err != nil {
		return nil, fmt.Errorf("%w: %w", errReply, err)
	}
	switch {
	case reply.Edge != m.name:
		return nil, fmt.Errorf("%w: it says that it is %q", errReply, reply.Edge)
	case m.state.Epoch != "" && m.state.Epoch != reply.Epoch:
		return nil, errRestarted
	}
	m.state = reply.State
	return &reply, nil
}

// choose decides how many shards there are, and what is too old to be compared.
func (r *run) choose() {
	largest := 1 << 20
	newest, retain := int64(0), int64(0)
	for _, m := range r.members {
		r.clients = max(r.clients, m.state.Clients)
		if m.state.Largest > 0 {
			largest = min(largest, max(m.state.Largest, smallest))
		}
		if m.state.Retain > 0 {
			newest = max(newest, m.state.Now-m.state.Retain)
			if retain == 0 || m.state.Retain < retain {
				retain = m.state.Retain
			}
		}
	}
	// What is about to be forgotten is so at one edge before another (S4).
	if retain > 0 {
		r.oldest = newest + min(retain/2, int64(2*time.Minute))
	}
	room := largest*3/4 - 2048
	r.bits = min(bits.Len(uint(r.clients/perShard)), MaxBits, bits.Len(uint(room/8))-1)
}

// sum asks a member for the sums of all shards.
func (r *run) sum(ctx context.Context, m *member) error {
	m.sums = make([]uint64, 1<<r.bits)
	records, from := 0, uint32(0)
	for {
		reply, err := r.ask(ctx, m, &Question{Ask: AskSums, Key: r.key, Bits: r.bits, Oldest: r.oldest, From: from})
		if err != nil {
			return err
		}
		if len(reply.Sums) != 8*len(m.sums) || reply.Next != 0 && reply.Next <= from {
			return errReply
		}
		for i := range m.sums {
			m.sums[i] += binary.LittleEndian.Uint64(reply.Sums[8*i:])
		}
		records += reply.Records
		if from = reply.Next; from == 0 {
			m.state.Clients = records
			return nil
		}
	}
}

// differing returns the shards whose sums are not the same at all members.
func (r *run) differing() (shards []int) {
	r.clients = 0
	for _, m := range r.members {
		r.clients = max(r.clients, m.state.Clients)
	}
	for i := range 1 << r.bits {
		for _, m := range r.members[min(1, len(r.members)):] {
			if m.sums[i] != r.members[0].sums[i] {
				shards = append(shards, i)
				break
			}
		}
	}
	return shards
}

// list has all members list the clients of some shards, and returns those that differ.
func (r *run) list(ctx context.Context, shards []int) ([]*suspect, error) {
	wanted := make([]byte, (1<<r.bits+7)/8)
	for _, i := range shards {
		wanted[i/8] |= 1 << (i % 8)
	}
	r.each(ctx, func(ctx context.Context, m *member) error {
		m.listed = m.listed[:0]
		for from := uint32(0); ; {
			reply, err := r.ask(ctx, m, &Question{Ask: AskList, Key: r.key, Bits: r.bits, Oldest: r.oldest, From: from, Shards: wanted})
			if err != nil {
				return err
			}
			if len(reply.Entries)%position.EntrySize != 0 || reply.Next != 0 && reply.Next <= from {
				return errReply
			}
			for e := range slices.Chunk(reply.Entries, position.EntrySize) {
				m.listed = append(m.listed, position.Entry{
					ID: binary.LittleEndian.Uint64(e), Line: binary.LittleEndian.Uint64(e[8:]), Slot: binary.LittleEndian.Uint32(e[16:]),
				})
			}
			if from = reply.Next; from == 0 {
				return nil
			}
		}
	})
	// Who is listed by all with the same line is no suspect.
	type seen struct {
		line    uint64
		at      *member
		slot    uint32
		by      int
		differs bool
	}
	all := map[uint64]seen{}
	for _, m := range r.members {
		for _, e := range m.listed {
			s, known := all[e.ID]
			if !known {
				s = seen{line: e.Line, at: m, slot: e.Slot}
			}
			s.by++
			s.differs = s.differs || s.line != e.Line
			all[e.ID] = s
		}
	}
	slots := map[*member][]uint32{}
	for _, s := range all {
		if s.differs || s.by != len(r.members) {
			slots[s.at] = append(slots[s.at], s.slot)
		}
	}
	return r.name(ctx, slots)
}

// name asks for the ids of those in some slots of members.
func (r *run) name(ctx context.Context, slots map[*member][]uint32) (suspects []*suspect, err error) {
	var mu sync.Mutex
	r.each(ctx, func(ctx context.Context, m *member) error {
		slices.Sort(slots[m])
		for rest := slots[m]; len(rest) > 0; {
			reply, err := r.ask(ctx, m, &Question{Ask: AskSlots, Slots: rest[:min(len(rest), MaxRecords)]})
			if err != nil {
				return err
			}
			if len(reply.Held) == 0 || len(reply.Held) > len(rest) {
				return errReply
			}
			mu.Lock()
			for _, h := range reply.Held {
				if len(h.Client) > 0 { // or it was forgotten meanwhile
					suspects = append(suspects, &suspect{client: h.Client})
				}
			}
			mu.Unlock()
			rest = rest[len(reply.Held):]
		}
		return nil
	})
	return suspects, ctx.Err()
}

func (r *run) result(took time.Duration) Result {
	res := Result{
		Edges: []string{}, Silent: []Silent{}, Clients: r.clients, Same: len(r.members) > 0 && len(r.differences) == 0 && r.unexamined == 0,
		Differences: r.differences, Unexamined: r.unexamined, Took: took, Seconds: took.Seconds(),
	}
	if r.oldest > 0 {
		res.LeftOut = time.Unix(0, r.oldest).UTC()
	}
	for _, m := range r.members {
		res.Edges = append(res.Edges, m.name)
	}
	for name, why := range r.silent {
		res.Silent = append(res.Silent, Silent{name, why})
	}
	slices.SortFunc(res.Silent, func(a, b Silent) int { return cmp.Compare(a.Edge, b.Edge) })
	slices.SortFunc(res.Differences, func(a, b Difference) int {
		return cmp.Or(slices.Compare(a.Client, b.Client), cmp.Compare(a.Edge, b.Edge))
	})
	if res.Differences == nil {
		res.Differences = []Difference{}
	}
	return res
}
