package server

import (
	"container/heap"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// idleAfter is how long a connection may be without a command before it has to give way
	// to a newcomer, wherever it comes from (C18).
	idleAfter = time.Minute

	// mostLooks bounds how many connections are looked at for one newcomer.
	mostLooks = 64
)

// GateConfig bounds what connections take.
type GateConfig struct {
	MaxConns   int          // connections at once; 0: no limit
	MaxPending int64        // bytes that they may have unread, unanswered or waiting; 0: no limit
	Log        *slog.Logger // nil: none
}

// A Gate counts and bounds the connections of one listener or several, and chooses which is
// evicted for a newcomer (C18). Its methods may be called from any goroutine. Make it with
// NewGate.
type Gate struct {
	cfg   GateConfig
	start time.Time // what times count from; a little early, so that none is 0

	pending  atomic.Int64
	accepted atomic.Uint64
	refused  atomic.Uint64

	mu                  sync.Mutex
	open                open
	full, idle, crowded seldom // when it was last logged
}

// NewGate returns a Gate with no connection.
func NewGate(cfg GateConfig) *Gate {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	return &Gate{cfg: cfg, start: time.Now().Add(-time.Second), open: newOpen()}
}

// An Entry is one connection that a Gate counts, from Enter until Leave. The connection has it
// as a field: there may be a hundred thousand.
type Entry struct {
	address     netip.Addr
	conn        Evictable
	lastCommand atomic.Int64 // as Gate.clock gives it
	waits       atomic.Int32 // how many of its answers wait for something else than the client
	all, own    spot         // in Gate.open, among all and those of its address; under its lock
}

// Evictable is a connection. Evict closes it at once; it must not wait, and may be called from
// any goroutine.
type Evictable interface{ Evict(why Eviction) }

// An Eviction is why a connection was closed for a newcomer (C18).
type Eviction int

const (
	Idle    Eviction = 1 + iota // it was the longest idle, for over a minute
	Crowded                     // it was one of an address that has more than the newcomer's
)

// Enter counts a connection from now on, if there is room or another is evicted for it. Of
// one for which it says false nothing is kept, and it is to be closed.
func (g *Gate) Enter(e *Entry, remote net.Addr, conn Evictable) bool {
	now := g.clock(time.Now())
	e.begin(addressOf(remote), now)
	e.conn = conn

	g.mu.Lock()
	victim, why, ok := g.admit(e, now)
	times, due := g.noteFull(why, ok)
	g.mu.Unlock()
	if victim != nil {
		victim.conn.Evict(why)
	}
	switch {
	case !due:
	case !ok:
		g.cfg.Log.Warn("connections full, newcomer refused", "limit", g.cfg.MaxConns, "remote", remote.String(), "times", times)
	case why == Idle:
		g.cfg.Log.Warn("connections full, the longest idle gave way", "limit", g.cfg.MaxConns, "times", times)
	default:
		g.cfg.Log.Warn("connections full, one of an address with many gave way", "limit", g.cfg.MaxConns, "address", victim.address.String(), "times", times)
	}
	return ok
}

// admit takes e in, in the place of a victim when full. g.mu is held.
func (g *Gate) admit(e *Entry, now int64) (victim *Entry, why Eviction, ok bool) {
	if g.cfg.MaxConns > 0 && g.open.all.Len() >= g.cfg.MaxConns {
		if victim, why = g.open.victim(e.address, now); victim == nil {
			g.refused.Add(1)
			return nil, 0, false
		}
		g.open.remove(victim)
	}
	g.accepted.Add(1)
	g.open.add(e)
	return victim, why, true
}

// noteFull says whether what happened to a newcomer is to be logged, and how often it has
// happened since that was last done. g.mu is held.
func (g *Gate) noteFull(why Eviction, ok bool) (times int, due bool) {
	switch {
	case !ok:
		return g.full.now()
	case why == Idle:
		return g.idle.now()
	case why == Crowded:
		return g.crowded.now()
	}
	return 0, false
}

// Touch notes that a connection has a command now.
func (g *Gate) Touch(e *Entry) { e.lastCommand.Store(g.clock(time.Now())) }

// Address tells where the connection comes from among others (C18).
func (e *Entry) Address() netip.Addr { return e.address }

// Waits notes that n more of the connection's answers wait for something else than the client;
// fewer where n is negative.
func (e *Entry) Waits(n int) { e.waits.Add(int32(n)) }

// Leave counts a connection no longer. It does nothing for one that was evicted.
func (g *Gate) Leave(e *Entry) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open.remove(e)
}

// each calls f for each that has entered and neither left nor was evicted. f must not wait.
func (g *Gate) each(f func(Evictable)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, e := range g.open.all.entries {
		f(e.conn)
	}
}

// Share is how many bytes a connection may be owed now (C18): its own bound or, where that
// is less, a 64th of what is left of MaxPending. So the more is owed, the less a
// connection may add; one that is owed more than that is not read, and one that is owed nothing always is.
func (g *Gate) Share() int {
	if g.cfg.MaxPending == 0 {
		return maxOwed
	}
	return int(min(maxOwed, max(0, g.cfg.MaxPending-g.pending.Load())/64))
}

// Owe notes that a connection has n more bytes unread, unanswered or waiting; fewer where n is
// negative.
func (g *Gate) Owe(n int) { g.pending.Add(int64(n)) }

// GateStats counts since the gate was made.
type GateStats struct {
	Connections int    // open now
	Pending     int64  // bytes of what they hold while they or their answers wait
	Accepted    uint64 // taken in
	Refused     uint64 // closed at once because there was no room
}

// Stats may be called from any goroutine.
func (g *Gate) Stats() GateStats {
	g.mu.Lock()
	open := g.open.all.Len()
	g.mu.Unlock()
	return GateStats{Connections: open, Pending: g.pending.Load(), Accepted: g.accepted.Load(), Refused: g.refused.Load()}
}

// clock is t as entries keep it: nanoseconds since the gate was made, by the monotonic clock.
func (g *Gate) clock(t time.Time) int64 { return int64(t.Sub(g.start)) }

// begin makes e one that has just come.
func (e *Entry) begin(address netip.Addr, now int64) {
	e.address = address
	e.all, e.own = spot{key: now}, spot{key: now}
	e.lastCommand.Store(now)
}

// open are the entries that count against MaxConns: all of them by when they last had a
// command, and those of each address too. It is under the gate's lock.
type open struct {
	all   idlest
	sites map[netip.Addr]*site
	most  sites // those with most connections first
}

// A site is the connections that come from one address.
type site struct {
	idlest
	place int // in open.most
}

func newOpen() open {
	return open{all: idlest{spot: func(e *Entry) *spot { return &e.all }}, sites: map[netip.Addr]*site{}}
}

func (o *open) add(e *Entry) {
	heap.Push(&o.all, e)
	s := o.sites[e.address]
	if s == nil {
		s = &site{idlest: idlest{spot: func(e *Entry) *spot { return &e.own }}}
		o.sites[e.address] = s
		heap.Push(&o.most, s)
	}
	heap.Push(&s.idlest, e)
	heap.Fix(&o.most, s.place)
}

// remove takes a connection out, if it is still there.
func (o *open) remove(e *Entry) {
	if e.all.place < 0 {
		return
	}
	heap.Remove(&o.all, int(e.all.place))
	s := o.sites[e.address]
	heap.Remove(&s.idlest, int(e.own.place))
	if s.Len() == 0 {
		heap.Remove(&o.most, s.place)
		delete(o.sites, e.address)
		return
	}
	heap.Fix(&o.most, s.place)
}

// victim returns the entry that is evicted for a newcomer from this address, and why (C18): the
// longest idle, if it is idle for over a minute; else one from an address that would still have more
// connections than the newcomer's, unless one of its answers waits. It returns nil if there is none.
func (o *open) victim(from netip.Addr, now int64) (*Entry, Eviction) {
	looks := mostLooks
	if e := o.all.longest(now, idleAfter, &looks, false); e != nil {
		return e, Idle
	}
	with := 1
	if s := o.sites[from]; s != nil {
		with += s.Len()
	}
	for _, s := range o.most {
		if looks <= 0 || s.Len() <= with && s.place == 0 {
			break
		}
		if s.Len() > with {
			if e := s.longest(now, 0, &looks, true); e != nil {
				return e, Crowded
			}
		}
		looks--
	}
	return nil, 0
}

// A spot is a connection's in an idlest.
type spot struct {
	key   int64
	place int32
}

// An idlest is a heap of connections, the longest idle first. Its order goes
// by key, which is when a connection was last *known* to have had a command. The
// real time is later or the same, so that the least key bounds all from below:
// while it is recent nobody needs to be looked at, and a key is brought up to
// date only when it comes up. So commands cost nothing here.
type idlest struct {
	entries []*Entry
	spot    func(*Entry) *spot // this heap's
}

func (o *idlest) Len() int           { return len(o.entries) }
func (o *idlest) Less(i, j int) bool { return o.spot(o.entries[i]).key < o.spot(o.entries[j]).key }
func (o *idlest) Swap(i, j int) {
	o.entries[i], o.entries[j] = o.entries[j], o.entries[i]
	o.spot(o.entries[i]).place, o.spot(o.entries[j]).place = int32(i), int32(j)
}
func (o *idlest) Push(x any) {
	e := x.(*Entry)
	o.spot(e).place = int32(len(o.entries))
	o.entries = append(o.entries, e)
}
func (o *idlest) Pop() any {
	last := len(o.entries) - 1
	e := o.entries[last]
	o.entries[last] = nil
	o.entries = o.entries[:last]
	o.spot(e).place = -1
	return e
}

// longest returns the connection that has been without a command for longest, if that is more
// than least; nil also if looks ran out first. With settled, a connection with a waiting answer
// counts as active now.
func (o *idlest) longest(now int64, least time.Duration, looks *int, settled bool) *Entry {
	for len(o.entries) > 0 && *looks > 0 {
		e := o.entries[0]
		own := o.spot(e)
		if now-own.key <= int64(least) {
			return nil
		}
		last := e.lastCommand.Load()
		if settled && e.waits.Load() > 0 {
			last = now
		}
		if last == own.key {
			return e
		}
		own.key = last
		heap.Fix(o, 0)
		*looks--
	}
	return nil
}

// sites is a heap of addresses, the one with most connections first.
type sites []*site

func (s sites) Len() int           { return len(s) }
func (s sites) Less(i, j int) bool { return s[i].Len() > s[j].Len() }
func (s sites) Swap(i, j int) {
	s[i], s[j] = s[j], s[i]
	s[i].place, s[j].place = i, j
}
func (s *sites) Push(x any) {
	x.(*site).place = len(*s)
	*s = append(*s, x.(*site))
}
func (s *sites) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	(*s)[last] = nil
	*s = (*s)[:last]
	return x
}

// addressOf tells where connections come from (C18): an IPv4 address, or the /48 of an
// IPv6 address, within which one site may choose; the zero Addr where there is neither.
func addressOf(remote net.Addr) netip.Addr {
	tcp, ok := remote.(*net.TCPAddr)
	if !ok {
		return netip.Addr{}
	}
	address, _ := netip.AddrFromSlice(tcp.IP)
	if address = address.Unmap(); address.Is6() {
		site, _ := address.Prefix(48)
		return site.Addr()
	}
	return address
}
