package command

import (
	"context"
	"time"

	"herd/edge/position"
)

// held are answers of a batch that must not leave before the journal holds what they
// promise (D3), and those behind them (C1). All of a batch wait together: so a pipeline
// shares the journal's round trips.
type held struct {
	lines    []position.Ref
	stored   int    // of them; the others were old or repeated
	answers  []byte // if all is kept in time
	refusals []byte // if not: the same with C4 for those that wait
}

// add holds the answer of an IAMAT back; line is the command.
func (w *held) add(op *position.Op, line []byte) {
	w.lines = append(w.lines, position.Ref{Slot: op.Slot, Revision: op.Revision})
	if op.Outcome == position.Stored {
		w.stored++
	}
	w.answers = append(w.answers, op.Line...)
	w.refusals = append(append(append(w.refusals, '?', ' '), line...), '\n')
}

// append adds an answer that is ready, behind those that wait if there are any.
func (w *held) append(answer []byte, out Answers) {
	if len(w.lines) == 0 {
		out.Append(answer)
		return
	}
	w.answers = append(w.answers, answer...)
	w.refusals = append(w.refusals, answer...)
}

// release lets what is held go as one answer that waits. Where the journal does not take
// it in time there is no promise, and the client is told so; the update may have taken
// effect, and may be repeated.
func (w *held) release(h *Handler, received time.Time, out Answers) {
	if len(w.lines) == 0 {
		return
	}
	now := *w
	*w = held{}
	// The limit counts from here, not from the answer's turn: those before it may take
	// their whole time, and a pipeline would add them up.
	limit := time.Now().Add(h.cfg.JournalTimeout)
	out.Later(func(ctx context.Context) []byte {
		// A stop does not end this wait: what was received is answered (C19).
		ctx, cancel := context.WithDeadline(context.WithoutCancel(ctx), limit)
		defer cancel()
		err := h.cfg.Journal.Await(ctx, now.lines)
		if h.cfg.Observe != nil {
			h.cfg.Observe(IAMAT, len(now.lines), time.Since(received))
		}
		if err != nil {
			h.count.n[IAMAT][Unkept].Add(uint64(len(now.lines)))
			return now.refusals
		}
		h.count.n[IAMAT][OK].Add(uint64(now.stored))
		h.count.n[IAMAT][Older].Add(uint64(len(now.lines) - now.stored))
		return now.answers
	})
}
