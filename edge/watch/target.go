package watch

import (
	"time"

	"herd/edge/position"
)

// A target is a client that watches follow by its id: the client itself, or a circle around it.
type target struct {
	id      string
	slot    uint32
	bound   bool // the slot is the client's; else the client is unknown
	watches []*watch
}

// aim makes a watch one of those that follow a client.
func (s *Set) aim(v *watch, client []byte) {
	t := s.targets[string(client)]
	if t == nil {
		t = &target{id: string(client)}
		s.targets[t.id] = t
		s.unbound++
		if c, ok := s.table.Find(client); ok {
			s.see(&c) // may bind it
			if !t.bound && (s.last(c.Slot).is || s.last(c.Slot).gone) {
				s.bind(t, c.Slot, s.last(c.Slot))
			}
		}
	} else if t.bound {
		if c, ok := s.table.Find(client); ok && c.Slot == t.slot {
			s.see(&c)
		}
	}
	v.target, v.nth = t, len(t.watches)
	t.watches = append(t.watches, v)
}

// aimed returns what was last seen of the client that a watch follows; nil: it is not held, or past
// its time (S4).
func (s *Set) aimed(v *watch) *last {
	if t := v.target; t.bound {
		if l := s.last(t.slot); l.is && !s.past(t.slot) {
			return l
		}
	}
	return nil
}

// past reports whether the record of a slot is past HERD_RETAIN. It is forgotten soon, which is a change;
// that it is past is none.
func (s *Set) past(slot uint32) bool {
	s.slots = append(s.slots[:0], slot)
	s.lines, s.seen = s.table.Look(s.lines[:0], s.seen[:0], s.slots, s.cfg.Past())
	return s.seen[0].Past
}

// unaim takes a watch out of those that follow its client.
func (s *Set) unaim(v *watch) {
	t := v.target
	n := len(t.watches) - 1
	t.watches[v.nth] = t.watches[n]
	t.watches[v.nth].nth = v.nth
	t.watches[n] = nil
	t.watches = t.watches[:n]
	if n > 0 {
		return
	}
	delete(s.targets, t.id)
	if !t.bound {
		s.unbound--
		return
	}
	delete(s.bySlot, t.slot)
	s.last(t.slot).followed = false
}

// bind notes in which slot a target's client is.
func (s *Set) bind(t *target, slot uint32, l *last) {
	t.slot, t.bound = slot, true
	s.bySlot[slot] = t
	s.unbound--
	l.followed = true
}

// unbind notes that a target's client is unknown: its slot is released.
func (s *Set) unbind(t *target, l *last) {
	delete(s.bySlot, t.slot)
	t.bound = false
	s.unbound++
	l.followed = false
	for _, v := range t.watches {
		s.moves(v)
	}
}

// moves notes of a watch around a client that it has to follow it.
func (s *Set) moves(v *watch) {
	if v.radius >= 0 && !v.behind {
		v.behind = true
		s.moving = append(s.moving, v)
	}
}

// targetMoved tells the watches that follow a client that it has moved, come or gone.
func (s *Set) targetMoved(t *target, l *last) {
	for _, v := range t.watches {
		if v.radius < 0 {
			s.mark(v, l, t.slot, l.is)
		}
		s.moves(v)
	}
}

// follow moves the circles around clients that have moved, each at most once a second and none
// whose list or visit is under way (L2). It returns how long there is nothing to do.
func (s *Set) follow() (wait time.Duration) {
	wait = time.Hour
	kept := s.moving[:0]
	for _, v := range s.moving {
		switch {
		case v.list || v.visits: // Tell goes on with that, and wakes Run
			kept = append(kept, v)
		case s.now < v.next:
			kept = append(kept, v)
			wait = min(wait, time.Duration(v.next-s.now))
		default:
			v.behind = false
			s.recentre(v)
		}
	}
	clear(s.moving[len(kept):])
	s.moving = kept
	return wait
}

// recentre moves a circle to where its client is. Who is outside then has left; who is inside
// and was not is found by a visit, as for a list.
func (s *Set) recentre(v *watch) {
	v.next = s.now + moveEvery
	l := s.aimed(v)
	if l != nil && v.placed && s.areas.area[v.area] == position.Circle(l.point, v.radius) {
		return
	}
	if v.placed {
		s.areas.remove(v.area)
		v.placed = false
	}
	if l != nil {
		s.place(v, position.Circle(l.point, v.radius))
	}
	gone := s.slots[:0]
	for i, p := range v.set.places {
		if p == 0 {
			continue
		}
		slot := p>>stateBits - 1
		switch m := s.last(slot); {
		case !m.is || !v.holds(s, slot, m):
			gone = append(gone, slot)
		case state(p&stateMask) >= out: // it is inside again
			v.set.set(i, moved)
		}
	}
	for _, slot := range gone {
		s.mark(v, s.last(slot), slot, false)
	}
	s.slots = gone
	if v.visits {
		s.wants(v)
	}
}
