package command

import (
	"bytes"
	"net/netip"
	"runtime"
	"time"

	"herd/edge/wire"
)

// Live answers live questions (L). Its methods may be called from any goroutine.
type Live interface {
	// Near appends the AT line held for q's client and those of the nearest to it that sees allows
	// (L1), each with its LF. It appends nothing and returns false if the client is not known. The search
	// goes in steps, and yield is called between two.
	Near(dst []byte, q *wire.WHOSAT, sees Sees, yield func()) (lines []byte, known bool)
	// Open makes what one connection watches with: clients that sees allows. from tells addresses apart (L5). wake is called
	// from any goroutine when the Watcher's Tell has something to say; it waits for nothing.
	Open(from netip.Addr, sees Sees, wake func()) Watcher
}

// A Watcher is the watches of one connection. One goroutine at a time may call its methods.
type Watcher interface {
	// Watch enters a watch, whose list Tell begins to tell. It is OK, Full where the connection
	// has HERD_WATCHES, or Taken where it has one of that name. It keeps nothing of m.
	Watch(m *wire.WATCH) Outcome
	// Unwatch ends a watch, which Tell then says. It is OK or Unknown.
	Unwatch(name []byte) Outcome
	// Tell appends lines that are to be told now, about most bytes at most (L3). more says that
	// there are more of them now, listing that a list, or an answer to Unwatch, has not ended.
	Tell(dst []byte, most int) (told []byte, more, listing bool)
	Written()     // what Tell returned last has been written
	Watches() int // how many there are
	Stop()        // ends all: Tell says so, and then nothing any more (L5)
	Close()       // ends all at once; no method is called any more
}

// Near returns the AT line held for a client, and behind it those of the clients nearest to it
// (L1), each with its LF. It is OK; Unknown, or Invalid with HERD_LIVE=off, and lines is nil then.
func (c *Caller) Near(received time.Time, q *wire.WHOSAT) (lines []byte, outcome Outcome) {
	return c.near(nil, received, q)
}

// near is Near that appends to dst.
func (c *Caller) near(dst []byte, received time.Time, q *wire.WHOSAT) (lines []byte, outcome Outcome) {
	h := c.h
	outcome = Invalid
	if h.cfg.Live != nil {
		var known bool
		if c.hides(q.Client) {
			outcome = Unknown
		} else if dst, known = h.cfg.Live.Near(dst, q, c.sees(), runtime.Gosched); known {
			outcome = OK
		} else {
			outcome = Unknown
		}
	}
	h.count.n[WHOSAT][outcome].Add(1)
	h.observe(WHOSAT, 1, received)
	return dst, outcome
}

// Watching is what a caller watches, as values; Session reads WATCH and UNWATCH from lines. One
// goroutine at a time may call its methods.
type Watching struct {
	Watcher
	h *Handler
}

// Watching returns what a connection of the caller's watches with: see Live.Open. ok is false with
// HERD_LIVE=off. It is to be closed.
func (c *Caller) Watching(wake func()) (w *Watching, ok bool) {
	if c.h.cfg.Live == nil {
		return nil, false
	}
	return &Watching{c.h.cfg.Live.Open(c.who.Address, c.sees(), wake), c.h}, true
}

// Watch is Watcher.Watch, counted.
func (w *Watching) Watch(received time.Time, m *wire.WATCH) Outcome {
	return w.counted(WATCH, received, w.Watcher.Watch(m))
}

// Unwatch is Watcher.Unwatch, counted.
func (w *Watching) Unwatch(received time.Time, name []byte) Outcome {
	return w.counted(UNWATCH, received, w.Watcher.Unwatch(name))
}

func (w *Watching) counted(v Verb, received time.Time, outcome Outcome) Outcome {
	w.h.count.n[v][outcome].Add(1)
	w.h.observe(v, 1, received)
	return outcome
}

// parseLive makes the step one of a live question, if it is valid, and returns about how many
// bytes its answer needs.
func (x *scratch) parseLive(h *Handler, st *step, v Verb, args []byte) (size int) {
	st.verb = v
	if h.cfg.Live == nil {
		return 0
	}
	var err error
	switch v {
	case WHOSAT:
		var q wire.WHOSAT
		if q, err = wire.ParseWHOSAT(args); err == nil {
			size = placesSize(q.Max)
		}
	case WATCH:
		_, err = wire.ParseWATCH(args)
	case UNWATCH:
		_, err = wire.ParseUNWATCH(args)
	}
	st.live = err == nil
	return size
}

// answerLive answers a valid live question when its turn comes (L1, L3).
func (x *scratch) answerLive(s *Session, received time.Time, st *step, out Answers) {
	x.waiting.release(&s.Caller, received, out)
	line := bytes.Clone(st.line)
	_, args := wire.Cut(line)
	switch st.verb {
	case WHOSAT:
		out.InTurn(len(line), func(dst []byte) []byte { return s.whosat(dst, received, line, args) })
		runtime.Gosched() // a pipeline of questions is much work for one read: others' turn comes between
	case WATCH:
		out.Follow(len(line), func(dst []byte, wake func()) ([]byte, bool) { return s.watch(dst, received, line, args, wake) })
	case UNWATCH:
		out.Follow(len(line), func(dst []byte, _ func()) ([]byte, bool) { return s.unwatch(dst, received, line, args) })
	}
}

// whosat answers a WHOSAT whose turn has come (L1).
func (s *Session) whosat(dst []byte, received time.Time, line, args []byte) []byte {
	q, err := wire.ParseWHOSAT(args)
	if err == nil {
		before := len(dst)
		if s.Marked {
			dst = append(dst, Mark...)
		}
		var outcome Outcome
		if dst, outcome = s.near(dst, received, &q); outcome == OK {
			return append(dst, '\n')
		}
		dst = dst[:before]
	}
	return appendRefusal(dst, line)
}

// watch enters a watch whose turn has come; its list is the answer (L2, L3).
func (s *Session) watch(dst []byte, received time.Time, line, args []byte, wake func()) (answer []byte, listing bool) {
	m, err := wire.ParseWATCH(args)
	switch {
	case err != nil:
	case s.stopped: // L5
		s.h.count.n[WATCH][OK].Add(1)
		return wire.AppendOff(dst, m.Name, wire.Stopping), false
	default:
		if s.live == nil {
			s.live, _ = s.Watching(wake)
		}
		if s.live.Watch(received, &m) == OK {
			return dst, true
		}
	}
	return appendRefusal(dst, line), false
}

// unwatch ends a watch when its turn has come (L5).
func (s *Session) unwatch(dst []byte, received time.Time, line, args []byte) (answer []byte, listing bool) {
	name, err := wire.ParseUNWATCH(args)
	switch {
	case err != nil:
	case s.live == nil || s.stopped:
		s.h.count.n[UNWATCH][Unknown].Add(1)
	case s.live.Unwatch(received, name) == OK:
		return dst, true
	}
	return appendRefusal(dst, line), false
}

// The methods below are those of a session that may be told something between answers (L3).
// They are called by one goroutine at a time, as the functions that Answers.Follow gets are, and
// only after the first of those was given to it.

// Tell appends what is to be told now: see Watcher.
func (s *Session) Tell(dst []byte, most int) (told []byte, more, listing bool) {
	if s.live == nil {
		return dst, false, false
	}
	return s.live.Tell(dst, most)
}

// Written notes that what Tell returned last has been written.
func (s *Session) Written() {
	if s.live != nil {
		s.live.Written()
	}
}

// Watches is how many watches there are.
func (s *Session) Watches() int {
	if s.live == nil {
		return 0
	}
	return s.live.Watches()
}

// Still appends the line that says that the watches live (L6).
func (s *Session) Still(dst []byte) []byte { return append(dst, wire.Still...) }

// StopTelling ends all watches because the edge stops (L5).
func (s *Session) StopTelling() {
	s.stopped = true
	if s.live != nil {
		s.live.Stop()
	}
}

// Close ends the session: nothing of its watches outlives it (L5).
func (s *Session) Close() {
	if s.live != nil {
		s.live.Close()
	}
}
