// Package command is what a line asks for: it reads the commands of one
// connection, has them take effect in the order in which they came, and words
// the answers (C3, C4, C9–C17).
//
// It knows the grammar, the table, and someone who finds places. It knows
// nothing of sockets, of where a line ends, of neighbours or of NATS.
package command

import (
	"bytes"
	"context"
	"sync"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
	"herd/places/nearby"
)

// Answers takes what goes back to the client, in the order of the commands (C1).
type Answers interface {
	Append(answer []byte)                          // one that is ready; it is copied
	Later(answer func(ctx context.Context) []byte) // one that waits; ctx ends when the edge stops (C19)
	Close()                                        // the connection ends behind the answers so far (C17)
}

// A Query asks what is near a point: degrees, kilometres, and how many at most.
type Query struct {
	Lat, Lon float64
	Radius   float64
	Max      int
}

// A Finder always has the JSON of a Nearby Search answer, and has it when ctx ends
// at the latest (C15, C16).
type Finder interface {
	Find(ctx context.Context, q Query) []byte
	// FindNow is Find where the answer takes microseconds and no waiting; ok is
	// false where it would take longer.
	FindNow(q Query) (answer []byte, ok bool)
}

// A Journal says when lines are kept (D3).
type Journal interface {
	// Await returns when each of these lines, or a newer one of its client, is kept; or
	// ctx's error.
	Await(ctx context.Context, lines []position.Ref) error
}

// Config is what a Handler is made with; Observe and Journal may be nil.
type Config struct {
	Edge          string
	Table         *position.Table
	Finder        Finder
	PlacesTimeout time.Duration // C16
	// Journal makes an IAMAT's answer wait until its line is kept, or JournalTimeout
	// is over; nil: it is answered at once (D3).
	Journal        Journal
	JournalTimeout time.Duration
	// Observe is told how long n commands of a kind took, each from its receipt
	// until its answer was ready.
	Observe func(v Verb, n int, took time.Duration)
}

// A Handler serves all the connections of an edge. Its methods may be called
// from any goroutine.
type Handler struct {
	cfg     Config
	count   counts
	scratch sync.Pool // *scratch
}

// New makes a Handler.
func New(cfg Config) *Handler {
	h := &Handler{cfg: cfg}
	h.scratch.New = func() any { return new(scratch) }
	return h
}

// A Session is one connection's commands. One goroutine at a time may use it.
type Session struct {
	h       *Handler
	bound   *[]string // the only clients that it may report; nil: all
	started bool      // its first line has come (C17)
}

// Open begins a Session that may report any client.
func (h *Handler) Open() *Session { return &Session{h: h} }

// OpenFor begins a Session that may report the clients with these ids alone, byte for
// byte; without one, none. It may ask for all. ids is kept.
func (h *Handler) OpenFor(ids []string) *Session { return &Session{h: h, bound: &ids} }

// may says whether the session may report the client.
func (s *Session) may(client []byte) bool {
	if s.bound == nil {
		return true
	}
	for _, id := range *s.bound {
		if id == string(client) {
			return true
		}
	}
	return false
}

// A step is one command of a batch, and where in the batch's operations it is.
type step struct {
	line   []byte // as received, without its line end
	verb   Verb
	op     int     // index of its operation; -1: it is refused
	why    Outcome // then
	radius float64
	max    int
}

// scratch is what a batch needs while it is served; between batches it belongs
// to nobody, so that an idle connection holds none of it.
type scratch struct {
	steps []step
	ops   []position.Op
	lines []byte // the AT lines of the batch's IAMATs
	held  held   // answers that wait for the journal
	words []byte // the answer being put together
}

// Take serves all complete lines of one read, received at the given moment, in
// three passes: parse without a lock, take effect under one, answer. It keeps
// nothing of lines. The last line may lack its LF (C1).
func (s *Session) Take(received time.Time, lines []byte, out Answers) {
	h := s.h
	x := h.scratch.Get().(*scratch)
	x.steps, x.ops, x.lines = x.steps[:0], x.ops[:0], x.lines[:0]

	closing := false
	now := received.UnixNano()
	for len(lines) > 0 && !closing {
		end := bytes.IndexByte(lines, '\n') + 1
		if end == 0 {
			end = len(lines)
		}
		line := wire.TrimEnd(lines[:end])
		lines = lines[end:]
		if !s.started {
			s.started = true
			closing = isHTTP(line)
		}
		x.parse(s, now, line, closing)
	}

	h.cfg.Table.Apply(now, position.Source{}, x.ops)

	var tally tally
	for i := range x.steps {
		st := &x.steps[i]
		outcome := x.answer(h, received, st, out)
		tally.note(st.verb, outcome)
	}
	x.held.release(h, received, out)
	if closing {
		out.Close()
	}
	h.count.add(&tally)
	if h.cfg.Observe != nil && tally.total > 0 {
		took := time.Since(received)
		for v := range Verbs {
			if n := tally.timed(v); n > 0 {
				h.cfg.Observe(v, n, took)
			}
		}
	}
	h.scratch.Put(x)
}

// parse adds a line's step to the batch, none for a blank line (C3).
func (x *scratch) parse(s *Session, now int64, line []byte, http bool) {
	verb, args := wire.Cut(line)
	if len(verb) == 0 {
		return
	}
	x.steps = append(x.steps, step{line: line, op: -1, why: Invalid})
	st := &x.steps[len(x.steps)-1]
	switch {
	case http:
		st.verb = Other
	case string(verb) == "IAMAT":
		st.verb = IAMAT
		switch m, err := wire.ParseIAMAT(args); {
		case err != nil:
		case s.may(m.Client):
			st.op = x.iamat(s.h, now, &m)
		default:
			st.why = Forbidden
		}
	case string(verb) == "WHATSAT":
		st.verb = WHATSAT
		if q, err := wire.ParseWHATSAT(args); err == nil {
			st.op, st.radius, st.max = x.whatsat(s.h, &q), q.Radius, q.Max
		}
	case string(verb) == "AT": // C17: nobody outside the herd says what it believes
		st.verb = AT
	default:
		st.verb = Other
	}
}

// op makes room for one more operation, with whatever room it had before.
func (x *scratch) op() *position.Op {
	if len(x.ops) < cap(x.ops) {
		x.ops = x.ops[:len(x.ops)+1]
	} else {
		x.ops = append(x.ops, position.Op{})
	}
	return &x.ops[len(x.ops)-1]
}

// answer words a step's answer and says how it went.
func (x *scratch) answer(h *Handler, received time.Time, st *step, out Answers) Outcome {
	if st.op < 0 {
		x.refuse(st.line, out)
		return st.why
	}
	if st.verb == IAMAT {
		return x.answerIAMAT(h, st, out)
	}
	return x.answerWHATSAT(h, received, st, out)
}

// refuse answers what is no valid command (C4).
func (x *scratch) refuse(line []byte, out Answers) {
	x.words = append(append(append(x.words[:0], '?', ' '), line...), '\n')
	x.held.append(x.words, out)
}

// Overlong answers a line too long to keep: head is its first 64 bytes, tail its
// last few (C5). It may be a web page's request line too (C17).
func (s *Session) Overlong(received time.Time, head, tail []byte, out Answers) {
	x := s.h.scratch.Get().(*scratch)
	x.refuse(head, out)
	s.h.scratch.Put(x)
	if !s.started && isHTTP(bytes.TrimSuffix(tail, []byte("\r"))) {
		out.Close()
	}
	s.started = true
	var tally tally
	tally.note(Other, Overlong)
	s.h.count.add(&tally)
}

// isHTTP says whether a connection's first line is a web client's (C17).
func isHTTP(line []byte) bool {
	return bytes.HasSuffix(line, []byte(" HTTP/1.1")) || bytes.HasSuffix(line, []byte(" HTTP/1.0"))
}

// noPlaces is the JSON for a WHATSAT that wants none (C12).
var noPlaces = func() []byte {
	b, err := nearby.Zero().Append(nil)
	if err != nil {
		panic(err) // it has no numbers that could fail
	}
	return b
}()
