package command

import (
	"bytes"
	"context"
	"runtime"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// whatsat adds the operation of a valid WHATSAT: to see what is held for the
// client at this place in the order of commands (C16).
func (x *scratch) whatsat(h *Handler, q *wire.WHATSAT) int {
	h.cfg.Table.PrepareGet(x.op(), q.Client)
	return len(x.ops) - 1
}

// placesSize is about how many bytes the answer to a WHATSAT for so many places has: an AT
// line and JSON, some 400 bytes for each place.
func placesSize(max int) int { return 512 + 512*max }

// answerWHATSAT answers with the held AT line and the places near it (C14). Where
// finding places takes a while, the answer waits, and the commands behind it do not.
func (x *scratch) answerWHATSAT(s *Session, received time.Time, st *step, out Answers) Outcome {
	h, op := s.h, &x.ops[st.op]
	if op.Outcome != position.Held { // C13
		x.refuse(st.line, out)
		return Unknown
	}
	if st.radius == 0 || st.max == 0 { // C12
		x.words = append(append(append(x.words[:0], op.Line...), noPlaces...), "\n\n"...)
		x.waiting.append(x.words, out)
		return OK
	}
	q := near(op.Line, st.radius, st.max)
	if json, ok := h.cfg.Finder.FindNow(q); ok {
		x.words = append(append(append(x.words[:0], op.Line...), json...), "\n\n"...)
		x.waiting.append(x.words, out)
		// A pipeline of questions is much work for one read: others' turn comes between.
		runtime.Gosched()
		return OK
	}
	x.waiting.release(&s.Caller, received, out)
	line := bytes.Clone(op.Line)
	out.Later(len(line)+placesSize(st.max), func(_, stop context.Context) []byte {
		answer := append(append(line, h.find(stop, q)...), "\n\n"...)
		h.observe(WHATSAT, 1, received)
		return answer
	})
	return Waited
}
