package journal

import (
	"bytes"
	"errors"
	"fmt"
	"time"

	"herd/edge/position"
)

// collects reports whether changes may wait for more before they are written. Each write has a
// fixed cost, and takes time from the machine that answers could have. A client that changes
// twice while changes collect is written once. Changes do not collect if no new ones came since
// the table was last read, or if the store is late.
func (m *machine) collects(now time.Time) bool {
	head := m.cfg.Table.Head()
	if m.cfg.Collect == 0 || m.flushed.Load() || head == m.seen || m.late(now, head) {
		m.resting = time.Time{}
		return false
	}
	if m.resting.IsZero() {
		m.resting = now.Add(m.cfg.Collect)
	}
	if now.Before(m.resting) {
		return true
	}
	m.resting = time.Time{}
	return false
}

// late reports whether the store lacks a change older than lateAfter to twice lateAfter.
func (m *machine) late(now time.Time, head uint64) bool {
	if now.Sub(m.turned) >= lateAfter {
		m.old, m.recent, m.turned = m.recent, head, now
	}
	return m.cursor.Load() < m.old
}

// readOwn makes a batch of the changes behind the cursor, and notes where the cursor goes next.
// The table is read a piece at a time, because most lines in a herd are not this edge's own.
func (m *machine) readOwn() {
	m.batch.reset(batchBytes)
	m.through = m.cursor.Load()
	m.first = m.first[:0]
	most := batchMost
	if m.cfg.Table.Head()-m.through > batchMost {
		m.first, most = m.awaits.first(m.first)
	}
	w := want{most: most, limit: batchBytes, now: m.cfg.RetainNow(), known: m.nearlyFull.Load(), first: m.first}
	for end := false; !end; end = m.batch.full || m.through == m.seen {
		m.cfg.Table.View(func(v position.View) {
			m.through, m.seen = m.batch.read(v, m.through, &w, &m.hand), v.Head()
		})
		if len(m.batch.items) == 0 { // a write that fails need not read it again
			m.cursor.Store(m.through)
		}
	}
	m.batch.items = m.awaits.skips(m.batch.items)
}

// address turns the batch into entries.
func (m *machine) address() {
	m.out, m.keys = m.out[:0], m.keys[:0]
	items := m.batch.items
	for i := range items {
		m.keys = AppendKey(m.keys, items[i].client())
		m.keys = append(m.keys, ' ') // occurs in no key
	}
	keys := string(m.keys) // one allocation for all keys
	for at, i := 0, 0; i < len(items); i++ {
		n := bytes.IndexByte(m.keys[at:], ' ')
		it := &items[i]
		m.out = append(m.out, Entry{Key: keys[at : at+n], Value: it.line[:len(it.line)-1], Expect: it.sequence})
		at += n + 1
	}
}

func (m *machine) tookWrite(now time.Time, e *event) {
	never, isNever := errors.AsType[*EntryError](e.err)
	switch {
	case e.err == nil:
		m.wrote(now, e.sequence)
	case errors.Is(e.err, ErrRefused):
		m.hand.Reset()
		m.phase = looking
		if m.refusals++; m.refusals > 1 { // the message that it lacks may not be readable yet
			m.pause(now, retryMost)
		}
	case errors.Is(e.err, ErrFull):
		m.full(now, e.err)
	case isNever && never.Index >= 0 && never.Index < len(m.batch.items):
		m.skip(now, never)
	default: // it may have taken effect
		m.hand.Reset()
		m.phase = looking
		m.failed(now, fmt.Errorf("write %d entries to the journal: %w", len(m.out), e.err))
	}
}

// wrote handles a batch that was stored.
func (m *machine) wrote(now time.Time, last uint64) {
	m.known, m.refusals = last, 0
	m.writes.Add(1)
	m.cfg.Wrote(now.Sub(m.begun))
	if !m.nearlyFull.Load() {
		m.room.wait = lookMost
	}
	items := m.batch.items
	for i := range items {
		items[i].sequence = m.out[i].Sequence
		m.room.wrote(&m.out[i])
	}
	markKept(m.cfg.Table, items, func(client []byte) {
		if !m.gone.add(client) { // forgotten while it was written (S4)
			m.rescanFrom(last - uint64(len(items)) + 1)
		}
	})
	m.cursor.Store(m.through)
	m.turn = true
	m.patience = min(max(patienceLeast, 4*now.Sub(m.begun)), patienceMost)
	m.works(now) // before the answers leave: who reads one finds the journal up
	m.awaits.kept(items)
}

// skip removes from the batch a line that the store will never take (D6).
func (m *machine) skip(now time.Time, e *EntryError) {
	it := &m.batch.items[e.Index]
	n := m.skipped.Add(1)
	m.awaits.skip(it.Ref)
	if now.Sub(m.skipsLogged) >= skipLogged {
		m.skipsLogged = now
		m.cfg.Log.Error("line skipped: the journal's store can never take it", "key", m.out[e.Index].Key, "error", e.Err, "skipped", n)
	}
	m.batch.items = append(m.batch.items[:e.Index], m.batch.items[e.Index+1:]...)
	m.pending = true
}
