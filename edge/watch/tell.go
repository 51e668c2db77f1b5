package watch

import (
	"herd/edge/position"
	"herd/edge/wire"
)

const (
	tellBatch = 64   // clients looked at under one lock of the table
	tellMost  = 1024 // clients looked at in one Tell
	visitMost = 4    // steps of a visit in one Tell
)

// Tell appends the lines that are to be told, at most about most bytes of them. more says that
// there are more, or that it is worth while to ask again at once. listing says that the answer
// to a WATCH or UNWATCH is not complete, so that answers behind it have to wait. wake is called
// when there is something to tell after a Tell that said neither.
func (w *Watcher) Tell(dst []byte, most int) (lines []byte, more, listing bool) {
	s := w.set
	s.mu.Lock()
	defer s.unlock()
	s.now = s.cfg.Now()
	t := telling{set: s, dst: dst, limit: len(dst) + most, left: tellMost, visits: visitMost}
	w.awake = true
	if !w.begun || w.listing == nil {
		t.tellOffs(w)
	}
	if w.listing != nil && t.room() {
		t.tellList(w, w.listing)
	}
	if w.listing == nil {
		t.tellOffs(w) // the list's, where it has ended
	}
	if len(w.offs) == 0 {
		for w.queue.Len() > 0 && w.listing == nil && t.room() {
			v := w.queue.Pop()
			v.waiting = false
			if v.ended {
				continue
			}
			since, before := v.since, len(t.dst)
			t.tell(v)
			// Who came and went in between is told of by nothing, and waited for nothing.
			if len(t.dst) > before && since != 0 && (w.waited == 0 || since < w.waited) {
				w.waited = since
			}
			if v.set.marked > 0 || v.visits {
				if !v.ended && !v.waiting {
					v.waiting = true
					w.queue.Push(v)
				}
			} else {
				v.since = 0
			}
		}
	}
	s.endFull()
	listing = w.listing != nil || w.answers > 0
	more = listing || len(w.offs) > 0 || w.queue.Len() > 0
	w.awake = more
	return t.dst, more, listing
}

// A telling is one Tell under way.
type telling struct {
	set    *Set
	dst    []byte
	limit  int
	left   int // clients that may be looked at yet
	visits int // steps of visits that may be taken yet
}

func (t *telling) room() bool { return len(t.dst) < t.limit && t.left > 0 && t.visits > 0 }

// tellOffs tells of watches that have ended.
func (t *telling) tellOffs(w *Watcher) {
	n := 0
	for n < len(w.offs) && len(t.dst) < t.limit {
		o := w.offs[n]
		t.dst = wire.AppendOff(t.dst, []byte(o.name), o.reason)
		t.set.told[wire.EventOff]++
		if o.answer {
			w.answers--
		}
		n++
	}
	w.offs = append(w.offs[:0], w.offs[n:]...)
}

// tellList goes on with a list: who was found is told, then more is looked for, and in the end
// how many there were.
func (t *telling) tellList(w *Watcher, v *watch) {
	s := t.set
	w.begun = true
	for t.room() && !v.ended {
		switch {
		case v.set.fresh > 0:
			t.tellSome(v, true)
		case v.visits:
			t.visit(v)
		default:
			t.dst = wire.AppendNow(t.dst, []byte(v.name), v.listed)
			s.told[wire.EventNow]++
			v.list, w.listing, v.since = false, nil, 0
			if v.set.marked > 0 {
				s.wants(v)
			}
			if v.behind {
				s.kickRun()
			}
			return
		}
	}
}

// tell tells what is marked of a watch, and goes on with its visit.
func (t *telling) tell(v *watch) {
	for t.room() && !v.ended {
		if v.set.marked > 0 {
			t.tellSome(v, false)
			return // others have their turn
		}
		if !v.visits {
			return
		}
		if t.visit(v); !v.visits && v.behind {
			t.set.kickRun()
		}
	}
}

// visit takes a step through a watch's area.
func (t *telling) visit(v *watch) {
	s := t.set
	var done bool
	s.found, done = s.table.Visit(&v.visit, s.found[:0], s.cfg.Past())
	t.visits--
	for i := range s.found {
		c := &s.found[i]
		s.see(c)
		if v.ended || v.over {
			break
		}
		l := s.last(c.Slot)
		if l.is && v.holds(s, c.Slot, l) && v.set.find(c.Slot) < 0 {
			s.enter(v, l, c.Slot)
		}
	}
	s.endFull()
	if done {
		v.visits = false
	}
}

// holds says whether a client that is held is inside a watch, as it was last seen.
func (v *watch) holds(s *Set, slot uint32, l *last) bool {
	if v.radius < 0 {
		return true
	}
	return v.placed && s.areas.area[v.area].Contains(l.point) &&
		(v.target == nil || !v.target.bound || v.target.slot != slot)
}

// tellSome tells of some clients that are marked; with only, such as are fresh.
func (t *telling) tellSome(v *watch, only bool) {
	s := t.set
	n := max(min(tellBatch, t.left, (t.limit-len(t.dst))/64), 1)
	s.slots = v.set.next(s.slots[:0], n, only)
	s.lines, s.seen = s.table.Look(s.lines[:0], s.seen[:0], s.slots, s.cfg.Past())
	for i := range s.seen {
		t.left--
		t.tellOne(v, &s.seen[i])
		if v.ended || v.over || len(t.dst) >= t.limit {
			return
		}
	}
}

// tellOne tells what is to be told of a client: how it is now, and how its watcher thinks it
// is, decide (L4).
func (t *telling) tellOne(v *watch, seen *position.Seen) {
	s := t.set
	s.see(&seen.Change)
	i := v.set.find(seen.Slot)
	if i < 0 { // it went before it was told in
		return
	}
	l := s.last(seen.Slot)
	line := seen.Line(s.lines)
	in := l.is && v.holds(s, seen.Slot, l)
	switch st := v.set.state(i); {
	case st == told:
	case len(line) == 0: // no slot in a set is free
		s.drop(v, l, seen.Slot, i)
	case st == fresh && in && !seen.Past:
		t.event(v, wire.EventIn, line, "")
		v.set.set(i, told)
		if v.list {
			v.listed++
		}
	case st == fresh:
		s.drop(v, l, seen.Slot, i)
	case v.list: // after the list
	case in:
		t.event(v, wire.EventAt, line, "")
		v.set.set(i, told)
	default:
		why := wire.Left
		if l.gone {
			why = wire.Forgotten
		}
		t.event(v, wire.EventOut, line, why)
		s.drop(v, l, seen.Slot, i)
	}
}

func (t *telling) event(v *watch, e wire.Event, line []byte, why string) {
	t.dst = wire.AppendTold(t.dst, []byte(v.name), e, line, why)
	t.set.told[e]++
}
