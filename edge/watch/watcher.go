package watch

import (
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"herd/edge/fifo"
	"herd/edge/position"
	"herd/edge/wire"
)

// A Watcher is the watches of one connection. Its methods are for one goroutine at a time.
type Watcher struct {
	set     *Set
	wake    func()
	sees    func(client []byte) bool // which clients exist for it; nil: all
	address netip.Addr
	source  *source
	count   atomic.Int32 // of watches, so that who asks for that need not wait for the Set's lock
	waited  int64        // the caller's: since when waited what the last Tell told, until Written

	// Under the Set's lock.
	watches map[string]*watch
	members int
	queue   fifo.Queue[*watch] // of which something is to be told, or which have ended since
	listing *watch             // whose list is under way: nothing else is told meanwhile
	begun   bool               // a part of that list was told
	offs    []off              // watches that have ended
	answers int                // of these, how many answer an UNWATCH or end a list
	awake   bool               // wake was called, or need not be: somebody will come for what there is
	stopped bool
}

// An off is a watch that has ended, and was not told so.
type off struct {
	name   string
	reason string
	answer bool
}

// A watch is one WATCH that lives.
type watch struct {
	watcher *Watcher
	name    string
	at      int // in Set.watches
	set     members

	area   uint32 // its number among the areas, if it has one
	placed bool   // it has
	target *target
	radius float64 // km, around the target; 0: the target itself
	nth    int     // among the target's watches

	list    bool // its list was asked for and is not complete
	listed  int  // lines of it
	visit   position.Visit
	visits  bool  // there is more to visit
	next    int64 // when it may follow its target again
	behind  bool  // its target has moved; it is among Set.moving
	waiting bool  // it is in its watcher's queue
	since   int64 // when the first of what waits was marked; 0: nothing waits
	over    bool  // too many are inside; it is about to end
	ended   bool
}

// Open begins a connection without watches. wake is called, from any goroutine, when Tell has
// something to say after it had nothing; it must not block, and must not call the Watcher. It may
// come late: when Tell has said that already, or after Close.
func (s *Set) Open(address netip.Addr, wake func()) *Watcher { return s.OpenFor(address, nil, wake) }

// OpenFor is Open for somebody for whom only some clients exist (V5): those for which sees is true.
// It must be quick, and keeps nothing of the client's id.
func (s *Set) OpenFor(address netip.Addr, sees func(client []byte) bool, wake func()) *Watcher {
	s.mu.Lock()
	defer s.unlock()
	key := address.Unmap().WithZone("")
	if key.Is6() { // one customer has a /48, as for connections (C18)
		prefix, _ := key.Prefix(48)
		key = prefix.Addr()
	}
	from := s.sources[key]
	if from == nil {
		from = new(source)
		s.sources[key] = from
	}
	from.watchers++
	return &Watcher{set: s, wake: wake, sees: sees, address: key, source: from, watches: map[string]*watch{}}
}

// Watch begins a watch whose turn to be answered has come (L2, L3). Its list is what Tell tells
// next. It keeps nothing of m. The error is one of ErrInUse, ErrMany and ErrOff: then nothing has
// changed.
func (w *Watcher) Watch(m *wire.WATCH) error {
	s := w.set
	s.mu.Lock()
	defer s.unlock()
	s.now = s.cfg.Now()
	switch {
	case w.watches[string(m.Name)] != nil:
		return ErrInUse
	case len(w.watches) >= s.cfg.PerConn:
		return ErrMany
	}
	if !s.follows {
		var ok bool
		if s.cursor, ok = s.table.Follow(); !ok {
			return ErrOff
		}
		s.follows, s.checked = true, s.now
		s.kickRun()
	}
	w.awake = true // whoever calls Watch calls Tell
	v := &watch{watcher: w, name: string(m.Name), at: len(s.watches), list: true}
	w.watches[v.name] = v
	w.count.Add(1)
	s.watches = append(s.watches, v)
	w.listing, w.begun = v, false
	hidden := w.sees != nil && (m.Kind == wire.WatchClient || m.Kind == wire.WatchAround) && !w.sees(m.Client)
	if hidden { // a client that is not known, and never will be
		return nil
	}
	switch m.Kind {
	case wire.WatchCircle:
		s.place(v, position.Circle(m.Centre, m.Radius))
	case wire.WatchBox:
		s.place(v, position.Box(m.SW, m.NE))
	case wire.WatchAround:
		v.radius = m.Radius
		s.aim(v, m.Client)
		if l := s.aimed(v); l != nil {
			s.place(v, position.Circle(l.point, v.radius))
			v.next = s.now + moveEvery
		}
	case wire.WatchClient:
		v.radius = -1
		s.aim(v, m.Client)
		if l := s.aimed(v); l != nil {
			s.mark(v, l, v.target.slot, true)
		}
	}
	s.endFull()
	return nil
}

// place enters a watch's area and begins to visit it.
func (s *Set) place(v *watch, a position.Area) {
	v.area, v.placed = s.areas.add(v, a), true
	v.visit.Most = s.visit
	v.visit.Begin(s.table, a)
	v.visits = true
}

// kickRun wakes Run.
func (s *Set) kickRun() {
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// Unwatch ends a watch whose UNWATCH's turn has come. Tell tells the OFF that answers it. The
// error is ErrUnknown.
func (w *Watcher) Unwatch(name []byte) error {
	s := w.set
	s.mu.Lock()
	defer s.unlock()
	v := w.watches[string(name)]
	if v == nil {
		return ErrUnknown
	}
	w.awake = true
	s.end(v, EndUnwatch)
	return nil
}

// Watches is how many the connection has.
func (w *Watcher) Watches() int { return int(w.count.Load()) }

// Stop ends all watches because the edge stops: Tell tells that, then nothing more.
func (w *Watcher) Stop() {
	s := w.set
	s.mu.Lock()
	defer s.unlock()
	w.stopped = true
	for _, v := range w.byName() {
		s.end(v, EndStopping)
	}
}

// byName returns the watches in an order that is the same each time.
func (w *Watcher) byName() []*watch {
	all := make([]*watch, 0, len(w.watches))
	for _, v := range w.watches {
		all = append(all, v)
	}
	slices.SortFunc(all, func(a, b *watch) int { return a.at - b.at })
	return all
}

// Close ends all watches because the connection has ended. The Watcher is not used any more.
func (w *Watcher) Close() {
	s := w.set
	s.mu.Lock()
	defer s.unlock()
	for _, v := range w.byName() {
		s.end(v, EndClosed)
	}
	w.offs = nil
	if w.source == nil {
		return
	}
	if w.source.watchers--; w.source.watchers == 0 {
		delete(s.sources, w.address)
	}
	w.source = nil
}

// reasons are the words with which OFF tells why.
var reasons = [Ends]string{EndFull: wire.Full, EndSlow: wire.Slow, EndStopping: wire.Stopping}

// end ends a watch: its set is let go of, its name is free, and its watcher is told.
func (s *Set) end(v *watch, reason int) {
	if v.ended {
		return
	}
	v.ended = true
	w := v.watcher
	s.ended[reason]++
	delete(w.watches, v.name)
	w.count.Add(-1)
	last := s.watches[len(s.watches)-1]
	s.watches[v.at], last.at = last, v.at
	s.watches[len(s.watches)-1] = nil
	s.watches = s.watches[:len(s.watches)-1]
	if v.placed {
		s.areas.remove(v.area)
	}
	if v.target != nil {
		s.unaim(v)
	}
	if v.behind {
		s.moving = without(s.moving, v)
	}
	n := v.set.used
	s.members -= n
	w.members -= n
	w.source.members -= n
	v.set.dirty = nil
	if n > 0 {
		s.dying = append(s.dying, v)
		s.kickRun()
	}
	if len(s.watches) == 0 {
		s.rest()
	}
	if reason == EndClosed {
		return
	}
	o := off{v.name, reasons[reason], reason == EndUnwatch}
	if w.listing == v { // its list ends before anything else is told
		w.listing, o.answer = nil, true
		w.offs = slices.Insert(w.offs, 0, o)
	} else {
		w.offs = append(w.offs, o)
	}
	if o.answer {
		w.answers++
	}
	s.call(w)
}

func without(all []*watch, v *watch) []*watch {
	if i := slices.Index(all, v); i >= 0 {
		return slices.Delete(all, i, i+1)
	}
	return all
}

// rest forgets what was seen: nobody watches.
func (s *Set) rest() {
	s.table.Unfollow()
	s.follows = false
	s.pages, s.dying, s.moving = nil, nil, nil
	s.areas = areas{}
	s.lines, s.seen, s.found, s.slots, s.ids, s.spare = nil, nil, nil, nil, nil, nil
}

// letGoMost is how many places of the sets of ended watches are gone through at a time.
const letGoMost = 4096

// letGo lets go of some slots of watches that have ended, and reports whether there are more.
func (s *Set) letGo() (more bool) {
	for left := letGoMost; len(s.dying) > 0; {
		v := s.dying[len(s.dying)-1]
		places := v.set.places
		for ; left > 0 && len(places) > 0; left-- {
			if p := places[len(places)-1]; p != 0 {
				slot := p>>stateBits - 1
				s.unhold(slot, s.last(slot))
			}
			places = places[:len(places)-1]
		}
		if v.set.places = places; len(places) > 0 {
			return true
		}
		v.set = members{}
		s.dying[len(s.dying)-1] = nil
		s.dying = s.dying[:len(s.dying)-1]
	}
	return false
}

// endFull ends what was found to have too many inside (L5).
func (s *Set) endFull() {
	for _, v := range s.over {
		s.end(v, EndFull)
	}
	clear(s.over)
	s.over = s.over[:0]
	for s.members > s.cfg.Total {
		var most *watch
		for _, v := range s.watches {
			if most == nil || v.watcher.source.members > most.watcher.source.members ||
				v.watcher.source == most.watcher.source && v.set.used > most.set.used {
				most = v
			}
		}
		if most == nil {
			return
		}
		s.end(most, EndFull)
	}
}

// endSlow ends the watches of which an OUT has waited too long (L4).
func (s *Set) endSlow() {
	now := s.now / phase
	for i := len(s.watches) - 1; i >= 0; i-- {
		if v := s.watches[i]; v.set.outs > 0 && v.set.oldest(now) > slowAfter/phase {
			s.end(v, EndSlow)
		}
	}
}

// wants notes that there is something to tell of a watch.
func (s *Set) wants(v *watch) {
	w := v.watcher
	if !v.waiting && !v.list {
		v.waiting = true
		w.queue.Push(v)
	}
	if v.since == 0 {
		v.since = s.now
	}
	s.call(w)
}

// call wakes a watcher, unless it will come anyway.
func (s *Set) call(w *Watcher) {
	if !w.awake {
		w.awake = true
		s.woken = append(s.woken, w.wake)
	}
}

// Written says that what the last Tell told is on its way to the client.
func (w *Watcher) Written() {
	waited := w.waited
	w.waited = 0
	if s := w.set; waited != 0 && s.cfg.Observe != nil {
		s.cfg.Observe(time.Duration(s.cfg.Now() - waited))
	}
}
