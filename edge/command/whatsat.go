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
	h.cfg.Table.GetLine(x.op(), q.Client)
	return len(x.ops) - 1
}

// answerWHATSAT answers with the held AT line and the places near it (C14). Where
// finding places takes a while, the answer waits, and the commands behind it do not.
func (x *scratch) answerWHATSAT(h *Handler, received time.Time, st *step, out Answers) Outcome {
	op := &x.ops[st.op]
	if op.Outcome != position.Held { // C13
		x.refuse(st.line, out)
		return Unknown
	}
	if st.radius == 0 || st.max == 0 { // C12
		x.words = append(append(append(x.words[:0], op.Line...), noPlaces...), "\n\n"...)
		x.held.append(x.words, out)
		return OK
	}
	q := Query{Radius: st.radius, Max: st.max}
	if at, err := wire.ParseAT(op.Line[:len(op.Line)-1]); err == nil {
		// It was checked when it was stored.
		q.Lat, q.Lon, _ = wire.ParseLocation(at.Location)
	}
	if json, ok := h.cfg.Finder.FindNow(q); ok {
		x.words = append(append(append(x.words[:0], op.Line...), json...), "\n\n"...)
		x.held.append(x.words, out)
		// A pipeline of questions is much work for one read: others' turn comes between.
		runtime.Gosched()
		return OK
	}
	x.held.release(h, received, out)
	line := bytes.Clone(op.Line)
	out.Later(func(ctx context.Context) []byte {
		ctx, cancel := context.WithTimeout(ctx, h.cfg.PlacesTimeout)
		defer cancel()
		answer := append(append(line, h.cfg.Finder.Find(ctx, q)...), "\n\n"...)
		if h.cfg.Observe != nil {
			h.cfg.Observe(WHATSAT, 1, time.Since(received))
		}
		return answer
	})
	return Waited
}
