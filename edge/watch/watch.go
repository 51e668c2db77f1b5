// Package watch keeps live questions (L2 to L7): who is inside each watch's area, what its
// watcher was told of that, and what is yet to be told.
//
// It is state. It reads the order of changes of one position.Table, once for all watches, and
// gives out lines. It knows nothing of connections and of what WATCH looks like; it starts no
// goroutine and takes the time from whoever made it.
//
// One thing keeps L4. For each watch and each client either something is marked to be told, or
// the watcher was told that the client is inside exactly if it is where the Set last saw it. A
// Set sees clients in three ways: it reads the changes (Run), a list finds them, and a watcher
// that is about to be told of one looks where it is now (Tell). All three are the same step,
// from where the client was last seen to where it is, for all watches; so nothing falls between
// them, in whichever order they come.
package watch

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

var (
	// ErrInUse refuses a WATCH whose name the connection uses (L5).
	ErrInUse = errors.New("L5: name in use")
	// ErrMany refuses a WATCH beyond what a connection may have (L5).
	ErrMany = errors.New("L5: too many watches")
	// ErrOff refuses a WATCH where the table keeps no index of places (L5).
	ErrOff = errors.New("L5: no live questions")
	// ErrUnknown refuses an UNWATCH of a name that is not in use (L5).
	ErrUnknown = errors.New("L5: unknown name")
)

// Config is what a Set is made with.
type Config struct {
	Table   *position.Table
	PerConn int // watches that a Watcher may have (L5)
	Members int // clients inside all watches of a Watcher (L5)
	Total   int // clients inside all watches (L5)

	Now     func() int64        // Unix nanoseconds
	Past    func() int64        // the retention clock (S4), in the same; nil: Now
	Observe func(time.Duration) // how long what was told had waited; nil: nobody wants to know
}

// Reasons for which watches end, as Stats counts them.
const (
	EndFull     = iota // too many inside (L5)
	EndSlow            // an OUT has waited too long (L4)
	EndStopping        // the edge stops
	EndUnwatch         // UNWATCH
	EndClosed          // the connection has ended
	Ends               // how many reasons there are
)

// Stats are a Set's numbers.
type Stats struct {
	Watches int // there are
	Members int // clients inside them, and such as were and are not told out yet
	Told    [wire.EventStill + 1]uint64
	Marked  uint64 // changes of which a watcher was to be told; of those of one client fewer may be
	Ended   [Ends]uint64
}

// A Set is all watches of an edge. Its methods may be called from any goroutine.
type Set struct {
	table *position.Table
	cfg   Config
	kick  chan struct{} // wakes Run

	mu      sync.Mutex // taken before the table's; never held over I/O
	now     int64
	most    int    // changes read in a step
	visit   int    // see position.Visit
	cursor  uint64 // of the changes
	follows bool   // there are watches, so the changes are read
	pages   []*[pageLen]last
	areas   areas
	watches []*watch // all of them
	targets map[string]*target
	bySlot  map[uint32]*target
	unbound int // targets without a slot
	members int
	sources map[netip.Addr]*source
	moving  []*watch // around clients that have moved; in turn
	dying   []*watch // ended; their slots are let go of a part at a time
	over    []*watch // too many are inside: to be ended after the step
	woken   []func() // to be called when the lock is let go of
	spare   []func() // room for the next of those
	checked int64    // when slow watches were looked for

	told   [wire.EventStill + 1]uint64
	marked uint64
	ended  [Ends]uint64

	// Room that one step uses after another.
	changes []position.Change
	found   []position.Change
	seen    []position.Seen
	lines   []byte
	slots   []uint32
	ids     []uint32
	id      []byte
}

const pageLen = 1 << 10

// A last is where the Set last saw the client of a slot.
type last struct {
	point    wire.Point
	revision uint64 // of the record then; 0: never seen
	holds    uint32 // in so many watches' sets
	is       bool   // the client is held; else it was never seen, or is forgotten
	gone     bool   // it is forgotten, and the slot not released
	followed bool   // it is a target
}

// A source is the watchers of one address.
type source struct {
	watchers int
	members  int
}

// New makes a Set without watches.
func New(cfg Config) *Set {
	if cfg.Past == nil {
		cfg.Past = cfg.Now
	}
	return &Set{
		table: cfg.Table, cfg: cfg, kick: make(chan struct{}, 1), most: 256,
		targets: map[string]*target{}, bySlot: map[uint32]*target{}, sources: map[netip.Addr]*source{},
	}
}

// Stats returns the numbers as they are now.
func (s *Set) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{Watches: len(s.watches), Members: s.members, Told: s.told, Marked: s.marked, Ended: s.ended}
}

const (
	// moveEvery is how often a watch around a client follows it at most (L2).
	moveEvery = int64(time.Second)
	// slowAfter is how long an OUT may wait (L4); phase is the step of the clock with which
	// that is told.
	slowAfter = int64(60 * time.Second)
	phase     = int64(6 * time.Second)
)

// Run reads the changes for all watches until ctx ends, and returns nil. One Run at a time.
func (s *Set) Run(ctx context.Context) error {
	reader := position.NewReader()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for ctx.Err() == nil {
		more, wait := s.step()
		if more {
			continue
		}
		timer.Reset(wait)
		if cursor, follows := s.at(); follows {
			s.table.Wait(reader, cursor)
		}
		select {
		case <-ctx.Done():
		case <-reader.C:
		case <-s.kick:
		case <-timer.C:
		}
	}
	return nil
}

func (s *Set) at() (cursor uint64, follows bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cursor, s.follows
}

// step reads some changes, and does what is due. It reports whether there is more to do at
// once, and else how long there is nothing to do but for changes.
func (s *Set) step() (more bool, wait time.Duration) {
	s.mu.Lock()
	defer s.unlock()
	s.now = s.cfg.Now()
	if s.follows {
		var head uint64
		s.changes, s.cursor, head = s.table.Changes(s.changes[:0], s.cursor, s.most)
		more = s.cursor < head
		s.touch(s.changes)
		for i := range s.changes {
			s.see(&s.changes[i])
		}
	}
	s.endFull()
	more = s.letGo() || more
	wait = s.follow()
	if len(s.watches) > 0 {
		if s.now-s.checked >= phase {
			s.endSlow()
			s.checked = s.now
		}
		wait = min(wait, time.Duration(phase))
	}
	return more, wait
}

// unlock lets go of the lock, and wakes whoever has something to tell now. Ten thousand may follow one
// client: woken under the lock they would queue for it.
func (s *Set) unlock() {
	if len(s.woken) == 0 {
		s.mu.Unlock()
		return
	}
	woken := s.woken
	s.woken, s.spare = s.spare, nil
	s.mu.Unlock()
	for _, wake := range woken {
		wake()
	}
	clear(woken)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.follows && cap(woken) > cap(s.spare) {
		s.spare = woken[:0]
	}
}

// touch brings what is known of the slots of changes into the cache, all at a time.
func (s *Set) touch(changes []position.Change) {
	sum := uint64(0)
	for i := range changes {
		sum += s.last(changes[i].Slot).revision
	}
	s.slots = append(s.slots[:0], uint32(sum)) // or the compiler would see that nobody needs it
}

func (s *Set) last(slot uint32) *last {
	for int(slot/pageLen) >= len(s.pages) {
		s.pages = append(s.pages, nil)
	}
	p := s.pages[slot/pageLen]
	if p == nil {
		p = new([pageLen]last)
		s.pages[slot/pageLen] = p
	}
	return &p[slot%pageLen]
}

// see moves a client from where it was last seen to where it is, for all watches.
func (s *Set) see(c *position.Change) {
	l := s.last(c.Slot)
	if l.revision == c.Revision {
		return
	}
	was, had := l.point, l.is
	l.revision, l.is, l.gone = c.Revision, !c.Gone, c.Gone
	if l.is {
		l.point = c.Point
	}
	s.ids = s.ids[:0]
	switch {
	case had && l.is && was != c.Point:
		s.ids = s.areas.nearBoth(s.ids, was, c.Point)
	case l.is:
		s.ids = s.areas.near(s.ids, c.Point)
	case had:
		s.ids = s.areas.near(s.ids, was)
	}
	for _, id := range s.ids {
		area := &s.areas.area[id]
		in := l.is && area.Contains(c.Point)
		if !in && !(had && area.Contains(was)) {
			continue
		}
		if w := s.areas.watch[id]; w.target == nil || c.Slot != w.target.slot || !w.target.bound {
			s.mark(w, l, c.Slot, in)
		}
	}
	if !l.followed && !had && l.is && s.unbound > 0 {
		s.id = s.table.AppendClient(s.id[:0], c.Slot)
		if t := s.targets[string(s.id)]; t != nil && !t.bound {
			s.bind(t, c.Slot, l)
		}
	}
	if l.followed {
		s.targetMoved(s.bySlot[c.Slot], l)
	}
	if l.gone && l.holds == 0 {
		s.release(c.Slot, l)
	}
}

// mark notes of a client that is, or was, inside a watch what its watcher is to be told.
func (s *Set) mark(w *watch, l *last, slot uint32, in bool) {
	if w.over {
		return
	}
	s.marked++
	i := w.set.find(slot)
	if i < 0 {
		if in {
			s.enter(w, l, slot)
		}
		return
	}
	switch st := w.set.state(i); {
	case in && st == told, in && st >= out:
		w.set.set(i, moved)
	case in: // it is to be told as it is
		return
	case st == fresh: // who was not told that it came need not be told that it went
		s.drop(w, l, slot, i)
		return
	case st < out:
		w.set.set(i, out+state(s.now/phase%phases))
	default:
		return
	}
	s.wants(w)
}

// enter notes a client that is inside and was not.
func (s *Set) enter(w *watch, l *last, slot uint32) {
	if sees := w.watcher.sees; sees != nil {
		if s.id = s.table.AppendClient(s.id[:0], slot); !sees(s.id) {
			return
		}
	}
	if w.watcher.members >= s.cfg.Members || slot > maxSlot {
		w.over = true
		s.over = append(s.over, w)
		return
	}
	w.set.add(slot)
	l.holds++
	s.members++
	w.watcher.members++
	w.watcher.source.members++
	s.wants(w)
}

// drop takes a client out of a watch's set.
func (s *Set) drop(w *watch, l *last, slot uint32, i int) {
	w.set.remove(i)
	s.members--
	w.watcher.members--
	w.watcher.source.members--
	s.unhold(slot, l)
}

// unhold notes that one set less has a slot.
func (s *Set) unhold(slot uint32, l *last) {
	if l.holds--; l.holds == 0 && l.gone {
		s.release(slot, l)
	}
}

// release lets the table use the slot of a forgotten client again: all were told.
func (s *Set) release(slot uint32, l *last) {
	if l.followed {
		s.unbind(s.bySlot[slot], l)
	}
	s.table.Release(slot, l.revision)
	*l = last{}
}
