package command

import "herd/edge/wire"

// iamat adds the operation of a valid IAMAT: to merge the AT line that answers it (C9, C10).
func (x *scratch) iamat(h *Handler, now int64, m *wire.IAMAT) int {
	start := len(x.lines) // where x.lines moves as it grows, the lines before stay as they were
	x.lines = m.AppendAT(x.lines, h.cfg.Edge, now)
	h.cfg.Table.PreparePutOwn(x.op(), x.lines[start:], m, now)
	return len(x.ops) - 1
}

// answerIAMAT answers with the AT line, stored or not (C9, C11), unless there is
// no room for one more client (C18). With a journal to wait for, it waits (D3).
func (x *scratch) answerIAMAT(s *Session, st *step, out Answers) Outcome {
	op := &x.ops[st.op]
	outcome, waits := s.effect(op)
	switch {
	case waits:
		x.waiting.add(op, st.line)
		return Pending
	case outcome == Full:
		x.refuse(st.line, out)
	default:
		x.waiting.append(op.Line, out)
	}
	return outcome
}
