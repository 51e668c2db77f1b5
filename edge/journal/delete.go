package journal

import (
	"errors"
	"slices"
	"time"
)

// deletion returns the task of deleting the entries of some forgotten clients. It returns false
// if there are none, or if deletions rest after an error. A deletion is a bounded step between
// writes, and its failure is not the failure of a write (D6).
func (m *machine) deletion(now time.Time) (task, bool) {
	m.turn = false
	if now.Before(m.deleteAt) {
		return task{}, false
	}
	for {
		if len(m.dying) == 0 {
			m.dying = m.gone.take(m.dying, deleteMost)
		}
		if len(m.dying) == 0 {
			return m.scan()
		}
		if m.bury(); len(m.dead) > 0 {
			return task{call: callDelete, limit: m.patience, sequence: m.known, entries: m.dead}, true
		}
		m.dying = m.dying[:0]
	}
}

// bury makes entries of the clients to delete, except those that have come back. A client that
// was forgotten twice is in dying twice, and in the batch once.
func (m *machine) bury() {
	m.dead = m.dead[:0]
	clear(m.buried)
	for at := 0; at < len(m.dying); {
		var id []byte
		if id, at = nextID(m.dying, at); returned(m.cfg.Table, id) {
			continue
		}
		m.keys = AppendKey(m.keys[:0], id)
		if m.buried[string(m.keys)] {
			continue
		}
		key := string(m.keys)
		m.buried[key] = true
		m.dead = append(m.dead, Entry{Key: key})
	}
}

func (m *machine) tookDelete(now time.Time, e *event) {
	never, isNever := errors.AsType[*EntryError](e.err)
	switch {
	case e.err == nil:
		m.known, m.backoff = e.sequence, patienceLeast
		for i := range m.dead {
			m.room.wrote(&m.dead[i])
		}
		m.dying = m.dying[:0]
		return
	case isNever && never.Index >= 0 && never.Index < len(m.dead):
		m.forgo(m.dead[never.Index].Key)
		return
	case errors.Is(e.err, ErrFull):
	default: // refused, or it may have taken effect
		m.phase = looking
	}
	m.cfg.Log.Debug("forgotten clients not deleted from the journal yet", "error", e.err)
	m.postpone(now)
}

// postpone delays deletions, longer with each failure in a row.
func (m *machine) postpone(now time.Time) {
	m.deleteAt = now.Add(m.backoff)
	m.backoff = min(2*m.backoff, deleteRetry)
}

// forgo gives up the one deletion that the store will never take.
func (m *machine) forgo(key string) {
	for at := 0; at < len(m.dying); {
		id, next := nextID(m.dying, at)
		if belongs(key, id) {
			m.dying = slices.Delete(m.dying, at, next)
			return
		}
		at = next
	}
}

// rescanFrom notes that, from a sequence on, the store has entries to delete whose ids had no
// room in gone.
func (m *machine) rescanFrom(sequence uint64) {
	if m.rescan == 0 || sequence < m.rescan {
		m.rescan = sequence
	}
}

// scan returns the task of reading again for entries to delete whose ids had no room in gone.
func (m *machine) scan() (task, bool) {
	if m.rescan == 0 {
		return task{}, false
	}
	m.scanned = 0
	from := m.rescan
	m.rescan, m.read = 0, from-1
	return task{call: callScan, limit: 2 * m.patience, sequence: from - 1}, true
}

func (m *machine) tookScan(now time.Time, e *event) {
	m.merge()
	m.look = m.look || m.stray
	if e.enough || e.err != nil {
		m.rescanFrom(m.read + 1)
	}
	if e.err != nil && !e.enough {
		m.cfg.Log.Debug("journal not searched for forgotten clients", "error", e.err)
		m.postpone(now)
	}
}
