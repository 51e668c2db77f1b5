package command

import (
	"context"
	"time"

	"herd/edge/position"
)

// waitCost is about what the journal keeps for a line that is waited for, in bytes.
const waitCost = 192

// promise is lines that the journal has to hold before they are answered (D3).
type promise struct {
	caller   *Caller
	received time.Time
	limit    time.Time
	lines    []position.Ref
	stored   int // of them; the others were old or repeated
}

func (p *promise) add(op *position.Op) {
	p.lines = append(p.lines, position.Ref{Slot: op.Slot, Revision: op.Revision})
	if op.Outcome == position.Stored {
		p.stored++
	}
}

// await waits for the journal and counts how that ended. client ends when there is nobody to
// be answered any more. A stop does not end this wait: what was received is answered (C19).
func (p *promise) await(client context.Context) error {
	h := p.caller.h
	ctx, cancel := context.WithDeadline(client, p.limit)
	defer cancel()
	err := h.cfg.Journal.Await(ctx, p.caller.who, p.lines)
	h.observe(IAMAT, len(p.lines), p.received)
	all := uint64(len(p.lines))
	switch {
	case err == nil:
		h.count.n[IAMAT][OK].Add(uint64(p.stored))
		h.count.n[IAMAT][Older].Add(all - uint64(p.stored))
	case client.Err() != nil: // nobody is refused
		h.count.n[IAMAT][Gone].Add(all)
	default:
		h.count.n[IAMAT][Unkept].Add(all)
	}
	return err
}

// waiting is the answers of a batch that must not leave before the journal holds what they
// promise (D3), and those behind them (C1). All of a batch wait together: so a pipeline
// shares the journal's round trips.
type waiting struct {
	promise
	answers  []byte // if all is kept in time
	refusals []byte // if not: the same with C4 for those that wait
}

// add adds the answer of an IAMAT, which waits; line is the command.
func (w *waiting) add(op *position.Op, line []byte) {
	w.promise.add(op)
	w.answers = append(w.answers, op.Line...)
	w.refusals = append(append(append(w.refusals, '?', ' '), line...), '\n')
}

// append adds an answer that is ready, behind those that wait if there are any.
func (w *waiting) append(answer []byte, out Answers) {
	if len(w.lines) == 0 {
		out.Append(answer)
		return
	}
	w.answers = append(w.answers, answer...)
	w.refusals = append(w.refusals, answer...)
}

// release lets all of it leave as one answer that waits. Where the journal does not take
// it in time there is no promise, and the client is told so; the update may have taken
// effect, and may be repeated.
func (w *waiting) release(c *Caller, received time.Time, out Answers) {
	if len(w.lines) == 0 {
		return
	}
	now := *w
	*w = waiting{}
	// The limit counts from here, not from the answer's turn: those before it may take
	// their whole time, and a pipeline would add them up.
	now.caller, now.received, now.limit = c, received, time.Now().Add(c.h.cfg.JournalTimeout)
	size := cap(now.answers) + cap(now.refusals) + waitCost*len(now.lines)
	out.Later(size, func(client, _ context.Context) []byte {
		switch err := now.await(client); {
		case err == nil:
			return now.answers
		case client.Err() != nil:
			return nil
		default:
			return now.refusals
		}
	})
}
