package journal

import (
	"herd/edge/position"
)

// mergeMost is how many entries are merged at a time.
const mergeMost = 512

// entry takes one entry of the store; the caller calls merge after the last one. It reports
// whether a scan goes on.
func (m *machine) entry(e *Entry) (more bool) {
	m.read = e.Sequence
	m.scanned++
	m.take(e)
	return m.scanned < scanMost && m.rescan == 0
}

func (m *machine) take(e *Entry) {
	if e.Marker {
		m.changed(e, false)
		return
	}
	start := len(m.lines)
	m.lines = append(append(m.lines, e.Value...), '\n') // earlier lines stay valid if it moves
	op := m.op()
	client, err := m.cfg.Table.PreparePutKept(op, m.lines[start:], e.Sequence)
	if err != nil || !belongs(e.Key, client) {
		m.strange++
		m.lines, m.ops = m.lines[:start], m.ops[:len(m.ops)-1]
		m.changed(e, true)
		return
	}
	m.entries++
	if len(m.ops) == mergeMost {
		m.merge()
	}
}

// changed handles a key that somebody else has deleted or, if held, has overwritten with
// something that is no line of its client. What this run found when it became the owner is no
// change, unless a replica that lagged has told the line that it replaced.
func (m *machine) changed(e *Entry, held bool) {
	m.merge() // earlier entries of the key come first
	client, ok := clientOf(e.Key)
	switch {
	case ok && e.Sequence <= m.owner:
		markReplaced(m.cfg.Table, client, held, e.Sequence)
	case ok:
		markLost(m.cfg.Table, client, held)
	case isHash(e.Key) && e.Sequence > m.owner:
		m.stray = true // the whole store is read anew, and what it lacks is written
	}
}

// merge merges the entries read so far into the table.
func (m *machine) merge() {
	m.cfg.Table.Apply(m.cfg.RetainNow(), position.Source{}, m.ops)
	for i := range m.ops {
		op := &m.ops[i]
		// S4 clears the journal too.
		if op.Outcome == position.Expired && !m.gone.add(position.ClientOf(op.Line)) {
			m.rescanFrom(op.Sequence())
		}
	}
	m.awaits.merged(m.ops)
	m.lines, m.ops = m.lines[:0], m.ops[:0]
	m.known = max(m.known, m.read)
	m.pending = false // of a line in it the store may hold a newer one
}

// op appends one operation to ops and returns it.
func (m *machine) op() *position.Op {
	if len(m.ops) < cap(m.ops) {
		m.ops = m.ops[:len(m.ops)+1]
	} else {
		m.ops = append(m.ops, position.Op{})
	}
	return &m.ops[len(m.ops)-1]
}
