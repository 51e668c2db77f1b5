package command

import (
	"herd/edge/position"
	"herd/edge/wire"
)

// iamat adds the operation of a valid IAMAT: to merge the AT line that answers it (C9, C10).
func (x *scratch) iamat(h *Handler, now int64, m *wire.IAMAT) int {
	start := len(x.lines) // where x.lines moves as it grows, the lines before stay as they were
	x.lines = m.AppendAT(x.lines, h.cfg.Edge, now)
	h.cfg.Table.PutOwnLine(x.op(), x.lines[start:], m, now)
	return len(x.ops) - 1
}

// answerIAMAT answers with the AT line, stored or not (C9, C11), unless there is
// no room for one more client (C18). With a journal to wait for, it waits (D3): also where
// it is old or repeated, since it promises that what is held is kept.
func (x *scratch) answerIAMAT(h *Handler, st *step, out Answers) Outcome {
	op := &x.ops[st.op]
	if h.cfg.Journal != nil && !op.Kept && op.Revision != 0 {
		x.held.add(op, st.line)
		return Pending
	}
	switch op.Outcome {
	case position.Full:
		x.refuse(st.line, out)
		return Full
	case position.Stored:
		x.held.append(op.Line, out)
		return OK
	case position.Expired:
		x.held.append(op.Line, out)
		return Expired
	default:
		x.held.append(op.Line, out)
		return Older
	}
}
