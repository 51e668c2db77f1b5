// Package command is what clients ask for. A Caller has the commands as values,
// Report, Where, Near and Watching: who may report which client (HERD_TLS_IDENTITY), what an answer
// promises (D3), and the counts of all outcomes are there. A Session reads them from
// the lines of one connection, has them take effect in the order in which they came,
// and writes the answers (C3, C4, C9–C17, L1–L6).
//
// It knows the grammar, the table, a journal that says when a line is kept, a
// finder of places, and who answers live questions. It knows nothing of sockets, neighbours or NATS.
package command

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
	"herd/places/nearby"
)

// Answers takes what goes back to the client, in the order of the commands (C1).
type Answers interface {
	// Room is how many more bytes may be owed: of answers, and of what waiting answers
	// hold (C18). At 0 or less, one more answer may be added, but only if none has been added yet.
	Room() int
	Append(answer []byte) // one that is ready; it is copied
	// Later adds an answer that has to be waited for. size is how many bytes it holds until
	// then, its own included. client ends when nobody is left to answer; stop ends then
	// too, and when the edge stops (C19).
	Later(size int, answer func(client, stop context.Context) []byte)
	// InTurn adds an answer that takes effect when its turn comes: when all before it are ready.
	// answer appends it, at once or in another goroutine. size is how many bytes it holds until then.
	InTurn(size int, answer func(dst []byte) []byte)
	// Follow is InTurn for an answer after which lines may be told between answers (L3). begin
	// appends the answer; or it returns true, and what the session's Tell has to say is the answer until its
	// list has ended. wake says that Tell has something to say: it waits for nothing, and any goroutine may call it.
	Follow(size int, begin func(dst []byte, wake func()) (answer []byte, listing bool))
	Close() // the connection ends behind the answers so far (C17)
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
	// ctx's error; or ErrNever where one of them will never be kept (D6). It keeps lines until then. Who waits is served by turns of peers (C18).
	Await(ctx context.Context, who Peer, lines []position.Ref) error
}

// ErrNever is a Journal's word for a line that it will never keep (D6).
var ErrNever = errors.New("the journal will never take this line")

// Config is what a Handler is made with; Observe, Older, Journal, Live, Wall and Retain may be nil.
type Config struct {
	Edge          string
	Table         *position.Table
	Finder        Finder
	PlacesTimeout time.Duration // C16
	// Journal makes an IAMAT's answer wait until its line is kept, or JournalTimeout
	// is over; nil: it is answered at once (D3).
	Journal        Journal
	JournalTimeout time.Duration
	// Live answers live questions; nil: HERD_LIVE=off (L).
	Live Live
	// Wall is what this edge's clock shows at a moment that time.Now returned, and Retain what
	// its retention clock does (S4), in Unix nanoseconds; nil: the moment's own.
	Wall, Retain func(time.Time) int64
	// Observe is told how long n commands of a kind took, each from its receipt
	// until its answer was ready.
	Observe func(v Verb, n int, took time.Duration)
	// Older is told of an IAMAT that changed nothing because a newer line of its client is
	// held: the session's Remote, the client, which is good until it returns, and by how
	// much the line was older (S2). It must be quick.
	Older func(remote string, client []byte, by time.Duration)
	// Proxied is told of a connection, by the session's Remote, that began with a PROXY
	// protocol header: whatever is in front of the port is set up for another (C17).
	Proxied func(remote string)
}

// A Handler serves all the connections of an edge. Its methods may be called
// from any goroutine.
type Handler struct {
	cfg     Config
	count   counts
	opened  atomic.Uint64 // sessions so far
	scratch sync.Pool     // *scratch
}

// New makes a Handler.
func New(cfg Config) *Handler {
	if cfg.Wall == nil {
		cfg.Wall = time.Time.UnixNano
	}
	if cfg.Retain == nil {
		cfg.Retain = time.Time.UnixNano
	}
	h := &Handler{cfg: cfg}
	h.scratch.New = func() any { return new(scratch) }
	return h
}

// A Session is one connection's commands, as lines. One goroutine at a time may use it.
type Session struct {
	Caller
	// Marked has each answer to a WHOSAT begin with Mark, for whoever has to tell answers apart by
	// what is written, and no first line mean anything else than a command (V2).
	Marked bool

	started bool      // its first line has come (C17)
	live    *Watching // what it watches; nil: nothing yet
	stopped bool      // the edge stops: nothing is watched any more
}

// Mark begins an answer to a WHOSAT of a Marked session. No other line is it: ids have no white space.
const Mark = "\f\n"

// Session begins a connection of a caller's.
func (c *Caller) Session() *Session { return &Session{Caller: *c} }

// A step is one command of a batch, and where in the batch's operations it is.
type step struct {
	line   []byte // as received, without its line end
	verb   Verb
	op     int     // index of its operation; -1: it is refused
	why    Outcome // then
	radius float64
	max    int
	live   bool // a valid live question, which takes effect when its turn comes
}

// scratch is what a batch needs while it is served; between batches it belongs
// to nobody, so that an idle connection holds none of it.
type scratch struct {
	steps   []step
	ops     []position.Op
	lines   []byte  // the AT lines of the batch's IAMATs
	waiting waiting // answers that wait for the journal
	words   []byte  // the answer being put together
}

// takeMost bounds the commands of one Take, and so what a scratch grows to.
const takeMost = 256

// Take serves complete lines of one read, received at the given moment, in
// three passes: parse without a lock, take effect under one, answer. It keeps
// nothing of lines. The last line may lack its LF (C1). It takes only lines whose answers
// out has room for, but at least one, and returns how many bytes they have. The caller passes
// the rest again (C18).
func (s *Session) Take(received time.Time, lines []byte, out Answers) (taken int) {
	h := s.h
	s.started = s.started || s.Marked
	if !s.started && isProxy(lines) {
		return s.proxied(lines, out)
	}
	x := h.scratch.Get().(*scratch)
	x.steps, x.ops, x.lines = x.steps[:0], x.ops[:0], x.lines[:0]

	closing := false
	now := h.cfg.Wall(received)
	whole := len(lines)
	for room := out.Room(); len(lines) > 0 && !closing && len(x.steps) < takeMost && (room > 0 || len(x.steps) == 0); {
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
		room -= x.parse(s, now, line, closing)
	}

	h.cfg.Table.Apply(h.cfg.Retain(received), position.Source{}, x.ops)

	var tally tally
	for i := range x.steps {
		st := &x.steps[i]
		outcome := x.answer(s, received, st, out)
		tally.note(st.verb, outcome)
	}
	x.waiting.release(&s.Caller, received, out)
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
	return whole - len(lines)
}

// isProxy says whether a connection begins with a PROXY protocol header, of version 1 or 2.
func isProxy(begins []byte) bool {
	rest, v1 := bytes.CutPrefix(begins, []byte("PROXY "))
	v1 = v1 && (bytes.HasPrefix(rest, []byte("TCP4 ")) || bytes.HasPrefix(rest, []byte("TCP6 ")) || bytes.HasPrefix(rest, []byte("UNKNOWN")))
	return v1 || bytes.HasPrefix(begins, []byte("\r\n\r\n\x00\r\nQUIT\n"))
}

// proxied closes the connection without an answer: what is behind the header would be taken
// for a client's words, and each address for the proxy's (C17).
func (s *Session) proxied(lines []byte, out Answers) (taken int) {
	s.started = true
	var tally tally
	tally.note(Other, Proxied)
	s.h.count.add(&tally)
	if s.h.cfg.Proxied != nil {
		s.h.cfg.Proxied(s.Remote)
	}
	out.Close()
	return len(lines)
}

// parse adds a step for the line, none if it is blank (C3). It estimates how many bytes the
// answer needs, including what it holds while it waits.
func (x *scratch) parse(s *Session, now int64, line []byte, http bool) (size int) {
	verb, args := wire.Cut(line)
	if len(verb) == 0 {
		return 0
	}
	size = len(line) + 3 // C4
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
			before := len(x.lines)
			st.op = x.iamat(s.h, now, &m)
			if s.h.cfg.Journal == nil {
				size = 0 // it is that or the AT line
			} else {
				size += waitCost
			}
			size += len(x.lines) - before
		default:
			st.why = Forbidden
		}
	case string(verb) == "WHATSAT":
		st.verb = WHATSAT
		switch q, err := wire.ParseWHATSAT(args); {
		case err != nil:
		case s.hides(q.Client):
			st.why = Unknown
		default:
			st.op, st.radius, st.max = x.whatsat(s.h, &q), q.Radius, q.Max
			size = len(line) + placesSize(st.max)
			if s.h.cfg.Journal != nil {
				size *= 2 // it may be held back
			}
		}
	case string(verb) == "AT": // C17: nobody outside the herd says what it believes
		st.verb = AT
	case string(verb) == "WHOSAT":
		size += x.parseLive(s.h, st, WHOSAT, args)
	case string(verb) == "WATCH":
		size += x.parseLive(s.h, st, WATCH, args)
	case string(verb) == "UNWATCH":
		size += x.parseLive(s.h, st, UNWATCH, args)
	default:
		st.verb = Other
	}
	return size
}

// op adds an operation, reusing the buffers of an earlier one.
func (x *scratch) op() *position.Op {
	if len(x.ops) < cap(x.ops) {
		x.ops = x.ops[:len(x.ops)+1]
	} else {
		x.ops = append(x.ops, position.Op{})
	}
	return &x.ops[len(x.ops)-1]
}

// answer words a step's answer and says how it went.
func (x *scratch) answer(s *Session, received time.Time, st *step, out Answers) Outcome {
	if st.live {
		x.answerLive(s, received, st, out)
		return Pending
	}
	if st.op < 0 {
		x.refuse(st.line, out)
		return st.why
	}
	if st.verb == IAMAT {
		return x.answerIAMAT(s, st, out)
	}
	return x.answerWHATSAT(s, received, st, out)
}

// refuse answers what is no valid command (C4).
func (x *scratch) refuse(line []byte, out Answers) {
	x.words = appendRefusal(x.words[:0], line)
	x.waiting.append(x.words, out)
}

// appendRefusal appends the answer of C4 to a line without its line end.
func appendRefusal(dst, line []byte) []byte {
	return append(append(append(dst, '?', ' '), line...), '\n')
}

// Overlong answers a line too long to keep: head is its first 64 bytes, tail its
// last few (C5). It may be a web page's request line too (C17).
func (s *Session) Overlong(received time.Time, head, tail []byte, out Answers) {
	x := s.h.scratch.Get().(*scratch)
	x.refuse(head, out)
	s.h.scratch.Put(x)
	if !s.started && !s.Marked && isHTTP(bytes.TrimSuffix(tail, []byte("\r"))) {
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
