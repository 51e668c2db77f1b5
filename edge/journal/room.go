package journal

import (
	"fmt"
	"log/slog"
	"math"
	"time"
)

// A room estimates how full the store is (D6). From nearFull percent on, new clients are not
// taken until the use falls below roomAgain percent. The rest is for known clients: when a line
// is replaced, the store briefly holds both.
type room struct {
	max   uint64 // the limit in bytes; 0: none is known
	used  uint64 // bytes, at the last check
	since uint64 // bytes written since then

	refused bool          // the store answered that it is full
	until   time.Time     // … and no new client is tried before this
	wait    time.Duration // the next such wait
}

// In percent of the limit.
const (
	nearFull  = 90
	roomAgain = 85
)

// entryCost is roughly the bytes that an entry takes besides its key and value: the prefix of
// its subject, headers, and the store's own overhead. It is an upper estimate, and the next
// check of the store corrects it.
const entryCost = 200

// seeRoom records the store's size and copies as a check found them.
func (m *machine) seeRoom(s State) {
	m.room.max, m.room.used, m.room.since = s.MaxBytes, s.Bytes, 0
	full := 0.0
	if s.MaxBytes > 0 {
		full = float64(s.Bytes) / float64(s.MaxBytes)
	}
	m.used.Store(math.Float64bits(full))
	m.replicas.Store(int64(s.Replicas))
	m.copies.Store(int64(s.Copies))
}

func (r *room) wrote(e *Entry) { r.since += uint64(len(e.Key) + len(e.Value) + entryCost) }

func (r *room) above(percent uint64) bool {
	return r.max > 0 && r.used+r.since >= r.max/100*percent
}

// reckon decides whether new clients are taken. It returns true if the store must be checked
// first, because the estimate counts a replaced line and its replacement.
func (m *machine) reckon(now time.Time) (look bool) {
	r := &m.room
	switch {
	case !m.nearlyFull.Load():
		if r.above(nearFull) {
			if r.since > 0 {
				return true
			}
			m.tooFull()
		}
	case !r.above(roomAgain) && !(r.refused && now.Before(r.until)):
		r.refused = false
		m.nearlyFull.Store(false)
		m.cfg.Log.Info("the journal's store has room again", slog.Uint64("bytes", r.used), slog.Uint64("limit", r.max))
		m.back() // to the clients that were left out
	}
	return false
}

// tooFull stops taking new clients: the cursor passes them without writing them.
func (m *machine) tooFull() {
	m.nearlyFull.Store(true)
	own, held := m.cfg.Table.OwnClients()
	m.cfg.Log.Warn("the journal's store is nearly full: new clients are not taken",
		slog.Uint64("bytes", m.room.used+m.room.since), slog.Uint64("limit", m.room.max), slog.Int("left out", own-held))
	m.refuseNew()
}

// refuseNew fails the waits for clients that the store does not know. Later waits see
// nearlyFull.
func (m *machine) refuseNew() {
	m.awaits.failAll(errNearlyFull, func(slot uint32) bool {
		_, known := keeps(m.cfg.Table, slot)
		return !known
	})
}

// full handles a write for which the store had no room. The limit may be the account's and not
// the store's own. Known clients may still be written.
func (m *machine) full(now time.Time, err error) {
	r := &m.room
	m.look = true
	if r.refused && m.nearlyFull.Load() { // no room even for known clients
		m.failed(now, fmt.Errorf("write to the journal: %w", err))
		return
	}
	r.refused, r.until = true, now.Add(r.wait)
	r.wait = min(2*r.wait, 5*time.Minute)
	if !m.nearlyFull.Load() {
		m.tooFull()
	}
}
