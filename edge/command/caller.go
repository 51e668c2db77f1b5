package command

import (
	"context"
	"net/netip"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A Peer is a connection as one among others (C18): which one, and the address that it
// comes from, as the server tells addresses apart.
type Peer struct {
	Address netip.Addr
	Conn    uint64
}

// A Caller is who sends commands: its identity, and its place among those who wait for the
// journal. Report, Where, Near and Watching are the commands as values, for whoever has no lines
// to send; Session reads them from lines. They may be called from any goroutine.
type Caller struct {
	Remote string // what Older is told; set before the first command

	h     *Handler
	who   Peer
	bound *bound // nil: it may report and see all clients
}

// bound is which clients a caller may report, and see.
type bound struct {
	ids  []string // these,
	user string   // and this one and those below it, user/...; "": none
	sees bool     // it sees all
}

// has says whether a client is among those.
func (b *bound) has(client []byte) bool {
	for _, id := range b.ids {
		if id == string(client) {
			return true
		}
	}
	return b.owns(client)
}

// owns says whether a client is the user, or below it: byte for byte, so no other's is ever reached.
func (b *bound) owns(client []byte) bool {
	n := len(b.user)
	return n > 0 && len(client) >= n && string(client[:n]) == b.user && (len(client) == n || client[n] == '/')
}

// Caller returns a Caller at this address that may report any client.
func (h *Handler) Caller(from netip.Addr) *Caller {
	return &Caller{h: h, who: Peer{from, h.opened.Add(1)}}
}

// CallerFor returns a Caller that may report the clients with these ids only, byte for
// byte; without one, none. It may ask about all. ids is kept.
func (h *Handler) CallerFor(from netip.Addr, ids []string) *Caller {
	c := h.Caller(from)
	c.bound = &bound{ids: ids, sees: true}
	return c
}

// CallerOf returns a Caller of a user, who may report the client with the user's name and those
// whose ids begin with that and a slash. With seesAll it may ask about all, else about these only: others
// are unknown to it (V5).
func (h *Handler) CallerOf(from netip.Addr, user string, seesAll bool) *Caller {
	c := h.Caller(from)
	c.bound = &bound{user: user, sees: seesAll}
	return c
}

// Sees says which clients exist for somebody; nil: all.
type Sees func(client []byte) bool

// sees is for whom the caller's questions are answered.
func (c *Caller) sees() Sees {
	if c.bound == nil || c.bound.sees {
		return nil
	}
	return c.bound.owns
}

// hides says whether a client does not exist for the caller.
func (c *Caller) hides(client []byte) bool {
	return c.bound != nil && !c.bound.sees && !c.bound.owns(client)
}

// may says whether the caller may report the client.
func (c *Caller) may(client []byte) bool {
	return c.bound == nil || c.bound.has(client)
}

// Refused counts a command that the caller could not make out of what it was sent: Invalid or
// Overlong.
func (c *Caller) Refused(v Verb, why Outcome) { c.h.count.n[v][why].Add(1) }

// Refusal is the answer of C4, the command prefixed with `? `, to an IAMAT, WHATSAT or WHOSAT of
// which only the fields were sent, as to an endpoint over NATS.
func Refusal(v Verb, fields []byte) []byte {
	verb := [...]string{IAMAT: "IAMAT ", WHATSAT: "WHATSAT ", WHOSAT: "WHOSAT "}[v]
	return append(append(append([]byte("? "), verb...), fields...), '\n')
}

// Reported is what became of one position.
type Reported struct {
	// Outcome is OK, Older, Expired, Full or Forbidden. What is Full or Forbidden has changed
	// nothing, and is to be refused.
	Outcome Outcome
	Line    []byte // the AT line that answers it (C9), with its LF; nil where it is to be refused
}

// Reports is what became of the positions of one Report.
type Reports struct {
	Each []Reported // in the order of the positions

	promise promise
}

// Report stores positions that were received at one moment, in their order (C9–C11). They have
// taken effect when it returns; with HERD_DURABILITY=journal they are promised only once Await
// has returned nil. What positions are made of must stay as it is meanwhile, and is not kept.
func (c *Caller) Report(received time.Time, positions ...wire.IAMAT) *Reports {
	h := c.h
	r := &Reports{Each: make([]Reported, len(positions)), promise: promise{caller: c, received: received}}
	now := h.cfg.Wall(received)
	ops, of := make([]position.Op, 0, min(len(positions), takeMost)), make([]int, 0, min(len(positions), takeMost))
	size := 0
	for i := range positions {
		m := &positions[i]
		size += len("AT +1234567890.123456789    \n") + len(h.cfg.Edge) + len(m.Client) + len(m.Location) + len(m.Time)
	}
	lines := make([]byte, 0, size)
	var tally tally
	take := func() {
		h.cfg.Table.Apply(h.cfg.Retain(received), position.Source{}, ops)
		for i := range ops {
			op, to := &ops[i], &r.Each[of[i]]
			outcome, waits := c.effect(op)
			to.Outcome = outcome
			if outcome != Full {
				to.Line = op.Line
			}
			if waits {
				r.promise.add(op)
			} else {
				tally.note(IAMAT, outcome)
			}
		}
		ops, of = ops[:0], of[:0]
	}
	for i := range positions {
		m := &positions[i]
		if !c.may(m.Client) {
			r.Each[i].Outcome = Forbidden
			tally.note(IAMAT, Forbidden)
			continue
		}
		if len(ops) == takeMost { // so that nobody else waits long for the table
			take()
		}
		ops, of = append(ops, position.Op{}), append(of, i)
		start := len(lines)
		lines = m.AppendAT(lines, h.cfg.Edge, now)
		h.cfg.Table.PreparePutOwn(&ops[len(ops)-1], lines[start:len(lines):len(lines)], m, now)
	}
	take()
	h.count.add(&tally)
	h.observe(IAMAT, int(tally.total), received)
	r.promise.limit = time.Now().Add(h.cfg.JournalTimeout)
	return r
}

// Waits says whether Await has to wait for the journal.
func (r *Reports) Waits() bool { return len(r.promise.lines) > 0 }

// Await returns nil when all that was answered with a line is promised (D3), at once where
// nothing is to be waited for. It is to be called once, and returns an error where the journal
// did not take all of it within HERD_JOURNAL_TIMEOUT of Report, or ctx, which ends when there
// is nobody to be answered, ended before: then nothing is promised, and everything that waited
// is to be refused, though it may have taken effect. It is ErrNever where the journal will never
// take one of them.
func (r *Reports) Await(ctx context.Context) error {
	if !r.Waits() {
		return nil
	}
	return r.promise.await(ctx)
}

// Where returns the AT line held for a client, with its LF, and the JSON of what is near it
// (C14–C16). It is OK or Unknown (C13); then both are nil. It waits for HERD_PLACES_TIMEOUT
// at most, and answers at once when ctx ends.
func (c *Caller) Where(ctx context.Context, received time.Time, q *wire.WHATSAT) (line, places []byte, outcome Outcome) {
	h := c.h
	op := make([]position.Op, 1)
	h.cfg.Table.PrepareGet(&op[0], q.Client)
	h.cfg.Table.Apply(h.cfg.Retain(received), position.Source{}, op)
	if outcome = Unknown; op[0].Outcome == position.Held && !c.hides(q.Client) {
		line, outcome = op[0].Line, OK
		if q.Radius == 0 || q.Max == 0 { // C12
			places = noPlaces
		} else {
			places = h.find(ctx, near(line, q.Radius, q.Max))
		}
	}
	h.count.n[WHATSAT][outcome].Add(1)
	h.observe(WHATSAT, 1, received)
	return line, places, outcome
}

// effect says how an IAMAT went, once its operation was applied, and whether the answer has to
// wait for the journal: also where the position is old or repeated, since the answer promises
// that what is held is kept (D3).
func (c *Caller) effect(op *position.Op) (outcome Outcome, waits bool) {
	h := c.h
	if h.cfg.Older != nil && (op.Outcome == position.Older || op.Behind > 0) {
		h.cfg.Older(c.Remote, op.Client(), time.Duration(op.Behind))
	}
	switch op.Outcome {
	case position.Stored:
		outcome = OK
	case position.Expired:
		outcome = Expired
	case position.Full:
		outcome = Full
	default:
		outcome = Older
	}
	return outcome, h.cfg.Journal != nil && !op.Kept && op.Revision != 0
}

// near is what a WHATSAT asks about the client whose line is held.
func near(line []byte, radius float64, max int) Query {
	q := Query{Radius: radius, Max: max}
	if at, err := wire.ParseAT(line[:len(line)-1]); err == nil {
		// It was checked when it was stored.
		q.Lat, q.Lon, _ = wire.ParseLocation(at.Location)
	}
	return q
}

// find asks for places, for as long as HERD_PLACES_TIMEOUT allows (C16).
func (h *Handler) find(ctx context.Context, q Query) []byte {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.PlacesTimeout)
	defer cancel()
	return h.cfg.Finder.Find(ctx, q)
}

// observe tells how long n commands took.
func (h *Handler) observe(v Verb, n int, received time.Time) {
	if h.cfg.Observe != nil && n > 0 {
		h.cfg.Observe(v, n, time.Since(received))
	}
}
