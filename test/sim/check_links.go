package sim

import (
	"fmt"
	"slices"
	"time"

	"herd/broker"
)

// This file is what is seen of links: what runs send and hear on them (H1, H3 to H6, H9).

// A sending is what a run sent to a neighbour, as its rules are seen (H3 to H5).
type sending struct {
	head    uint64
	through uint64   // of the last message that moved
	flying  []uint64 // Through of messages not acknowledged

	since time.Time // of the messages that are counted
	count int
	was   uint64 // what was acknowledged then
	acked uint64 // the most that ever was
	byes  [2]int // good-byes of the neighbour in this heartbeat and the one before
	brief bool   // it was once said to speak more often than any edge does: then each of its words may bring the link up
	epoch string // of who sent it
	peer  string // the latest epoch of who acknowledged it: a new one is sent all

	holds map[string]uint64 // what was acknowledged of the neighbour's runs, by epoch: the most
}

func (r *run) sendingTo(other string) *sending {
	s := r.sending[other]
	if s == nil {
		s = &sending{holds: map[string]uint64{}}
		r.sending[other] = s
	}
	return s
}

// sinceNarrowed is how long ago max_payload was last made less.
func (w *world) sinceNarrowed() time.Duration {
	return time.Duration(time.Now().UnixNano() - w.narrowed.Load())
}

// checkSend sees each message when it is sent: H1, H3, H4, H5.
func (w *world) checkSend(r *run, other string, m *broker.Message) {
	w.mu.Lock()
	s := r.sendingTo(other)
	wrong, most := "", int(w.payload.Load())
	if w.sinceNarrowed() < 100*time.Millisecond { // it was made before
		most = w.plan.MaxPayload
	}
	switch {
	case !r.has(other):
		wrong = "H1 no link leads there"
	case m.After > m.Through, m.Through > m.Head:
		wrong = "H4 revisions out of order"
	case m.Head < s.head:
		wrong = "H9 the head went back"
	case len(m.Lines) > most-broker.HeaderRoom && len(m.Lines) > 0:
		wrong = "H5 more than max_payload"
	}
	s.head, s.epoch = m.Head, m.Epoch
	// Whatever happens, a link says no more in a heartbeat than three windows, what changed, each
	// level of a join (H7), and a heartbeat at once where a neighbour is back that had said good-bye (H8).
	if s.count++; time.Since(s.since) >= w.plan.Heartbeat {
		s.since, s.count, s.was, s.byes = time.Now(), 1, s.acked, [2]int{0, s.byes[0]}
	}
	if most := 3*w.plan.Window + 8 + len(w.plan.Names) + s.backs() + int(m.Head-min(s.was, m.Head)); s.count > most {
		wrong = fmt.Sprintf("H6 %d messages in a heartbeat, want %d at most", s.count, most)
	}
	if m.Through > m.After || len(m.Lines) > 0 {
		if m.After < s.through {
			s.flying = s.flying[:0] // the cursor went back
		}
		s.through = m.Through
		if s.flying = append(s.flying, m.Through); len(s.flying) > w.plan.Window {
			wrong = fmt.Sprintf("H5 %d messages are unacknowledged, the window is %d", len(s.flying), w.plan.Window)
		}
	}
	w.mu.Unlock()
	if wrong != "" {
		w.failf("%s: run %d of %s to %s: %d..%d of %d", wrong, r.number, r.name, other, m.After, m.Through, m.Head)
	}
}

// checkAck notes an ack that a run hears.
func (w *world) checkAck(r *run, other string, a *broker.Ack) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := r.sendingTo(other)
	if a.Epoch > s.peer {
		s.peer, s.acked, s.was = a.Epoch, 0, 0
	}
	if a.Of == s.epoch && a.Through <= s.head {
		s.acked = max(s.acked, a.Through)
	}
	s.flying = slices.DeleteFunc(s.flying, func(through uint64) bool { return through <= a.Through })
}

// checkHeard notes whose message a run hears.
func (w *world) checkHeard(r *run, other string, m *broker.Message) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := r.sendingTo(other)
	s.holds[m.Epoch] = max(s.holds[m.Epoch], 0)
	s.brief = s.brief || m.Interval > 0 && m.Interval < w.plan.Heartbeat
	if m.Bye {
		s.byes[0]++
	}
}

// backs is how often a neighbour that had said good-bye may have been back in two heartbeats: one good-bye
// per heartbeat is heeded (H9).
func (s *sending) backs() int {
	if s.brief {
		return s.byes[0] + s.byes[1]
	}
	return min(2, s.byes[0]) + min(2, s.byes[1])
}

// checkAckSent sees each ack when it is sent: a run does not forget what it holds of a neighbour's last
// two runs, so that a late word of a dead one has nothing sent again (H6). Lies, and lines that are put
// off, have it ask again (H9).
func (w *world) checkAckSent(r *run, other string, a *broker.Ack) {
	if w.plan.has(Lie, Clock) || a.Of == "" {
		return
	}
	w.mu.Lock()
	s := r.sendingTo(other)
	most, runs := s.holds[a.Of], len(s.holds)
	s.holds[a.Of] = max(most, a.Through)
	w.mu.Unlock()
	if a.Through < most && runs <= 2 {
		w.failf("H6 run %d of %s held %d of run %s of %s, and acknowledges %d", r.number, r.name, most, a.Of, other, a.Through)
	}
}

// backSoon is how long a run takes at most, in a herd without noise, to tell its neighbours what they
// lack once it is connected anew: not as long as until its next heartbeat.
const backSoon = 100 * time.Millisecond

// checkBack sees that the neighbours of a run that is connected anew have heard what a client told it
// before: H6.
func (w *world) checkBack(r *run, client int) {
	told, ok := w.holds(r, client)
	if !ok || told == "" || r.dead || !r.conn.connected() {
		return
	}
	for _, l := range r.edge.Status().Links {
		s := w.sites[l.Neighbour]
		if !l.Up || len(s.runs) != 1 || !s.runs[0].has(r.name) || s.runs[0].stalled || s.runs[0].muted || time.Since(s.disturbed) < w.settling() || w.net.isCut(r.name, l.Neighbour) {
			continue
		}
		if line, ok := w.holds(s.runs[0], client); ok && line != told {
			w.failf("H6 run %d of %s is connected again and holds %q, %s holds %q", r.number, r.name, told, l.Neighbour, line)
		}
	}
}
