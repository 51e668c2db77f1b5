package watch

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

var seedFlag = flag.Uint64("watch.seed", 0, "the only seed of the random days; 0: some from 1 on")

// full says whether the tests take the sizes that the issues name.
func full() bool { return os.Getenv("HERD_TEST") == "full" }

// A listener is one connection of a random day: it checks each line that it is told (L3, L4).
type listener struct {
	w        *Watcher
	woken    bool
	more     bool
	stopped  bool
	watches  map[string]*heard
	ending   map[string]bool // its UNWATCH was taken
	listing  string          // whose list is under way
	lastTold int64
}

// A heard is what a watcher was told of one watch.
type heard struct {
	m      wire.WATCH
	in     map[string]string // lines, by client
	newest map[string]string // the same, of those that went too
	now    bool
	ins    int
}

// A day is a random run.
type day struct {
	*bench
	r       *rand.Rand
	clients []string
	line    map[string]string // of clients that are held
	all     map[string]bool   // every line there ever was
	places  []wire.Point
	open    []*listener
	names   int
	ends    map[string]int
	log     []string
}

func (d *day) note(format string, args ...any) {
	if d.log = append(d.log, fmt.Sprintf(format, args...)); len(d.log) > 60 {
		d.log = d.log[1:]
	}
}

func (d *day) fail(format string, args ...any) {
	d.Helper()
	d.Fatalf("%s\nlast:\n%s", fmt.Sprintf(format, args...), strings.Join(d.log, "\n"))
}

func location(p wire.Point) string {
	angle := func(v int32) string {
		sign := '+'
		if v < 0 {
			sign, v = '-', -v
		}
		return fmt.Sprintf("%c%d.%07d", sign, v/1e7, v%1e7)
	}
	return angle(p.Lat) + angle(p.Lon)
}

// move lets a client report.
func (d *day) move() {
	client := d.clients[d.r.IntN(len(d.clients))]
	p := d.places[d.r.IntN(len(d.places))]
	d.now += 1 + d.r.Int64N(50_000_000)
	line := fmt.Sprintf("AT A +0.000000000 %s %s %d.%09d\n", client, location(p), d.now/second, d.now%second)
	at, err := wire.ParseAT([]byte(line[:len(line)-1]))
	if err != nil {
		d.Fatal(err)
	}
	ops := make([]position.Op, 1)
	d.table.PreparePut(&ops[0], []byte(line), &at)
	d.table.Apply(d.now, position.Source{}, ops)
	if ops[0].Outcome != position.Stored {
		d.fail("%q: outcome %d", line, ops[0].Outcome)
	}
	d.line[client], d.all[line] = line, true
	d.note("put %s", line[:len(line)-1])
}

// what draws what to watch.
func (d *day) what() string {
	p := d.places[d.r.IntN(len(d.places))]
	switch d.r.IntN(6) {
	case 0:
		return d.clients[d.r.IntN(len(d.clients))]
	case 1:
		return fmt.Sprintf("%s %.3f", d.clients[d.r.IntN(len(d.clients))], []float64{0.001, 3, 50}[d.r.IntN(3)])
	case 2:
		q := d.places[d.r.IntN(len(d.places))]
		if p.Lat > q.Lat {
			p, q = q, p
		}
		return location(p) + " " + location(q)
	case 3:
		return "-90-180 +90+180"
	}
	return fmt.Sprintf("%s %.3f", location(p), []float64{0, 2, 20, 300, 1000}[d.r.IntN(5)])
}

func (d *day) watch(l *listener) {
	if l.listing != "" || l.more || l.stopped {
		return // its turn has not come
	}
	d.names++
	text := fmt.Sprintf("w%d %s", d.names, d.what())
	m, err := wire.ParseWATCH([]byte(text))
	if err != nil {
		d.Fatal(err)
	}
	d.note("watch %s", text)
	if err := l.w.Watch(&m); err != nil {
		if err == ErrMany && len(l.watches)-len(l.ending) >= d.set.cfg.PerConn {
			return
		}
		d.fail("%s: %v", text, err)
	}
	m.Name, m.Client = bytes.Clone(m.Name), bytes.Clone(m.Client)
	l.watches[string(m.Name)] = &heard{m: m, in: map[string]string{}, newest: map[string]string{}}
	l.listing, l.more = string(m.Name), true
}

func (d *day) unwatch(l *listener) {
	if l.listing != "" || l.more || l.stopped {
		return
	}
	for name := range l.watches {
		if !l.ending[name] {
			d.note("unwatch %s", name)
			if err := l.w.Unwatch([]byte(name)); err == nil {
				l.ending[name], l.more = true, true
			}
			return
		}
	}
}

// tell takes some lines.
func (d *day) tell(l *listener) {
	l.woken = false
	dst := []byte("kept")
	most := 1 + d.r.IntN(1<<d.r.IntN(13))
	told, more, listing := l.w.Tell(dst, most)
	l.w.Written()
	l.more = more
	l.lastTold = d.now
	if !bytes.HasPrefix(told, dst) {
		d.fail("what was there is gone: %q", told)
	}
	if n := len(told) - len(dst); n > most+300 {
		d.fail("told %d bytes at once, at most %d were wanted", n, most)
	}
	for line := range bytes.Lines(told[len(dst):]) {
		d.note("  told %q", line)
		d.hear(l, line)
	}
	if listing != (l.listing != "" || len(l.ending) > 0) {
		d.fail("L3 listing is %v, and %q is under way, %v end", listing, l.listing, l.ending)
	}
	if listing && !more {
		d.fail("an answer is not complete, and nothing more comes")
	}
}

func (d *day) hear(l *listener, line []byte) {
	m, err := wire.ParseTold(line[:len(line)-1])
	if err != nil {
		d.fail("%q: %v", line, err)
	}
	name := string(m.Name)
	h := l.watches[name]
	if h == nil {
		d.fail("told of a watch that there is not: %q", line)
	}
	if l.listing != "" && l.listing != name && !(m.Event == wire.EventOff && l.watches[l.listing].ins == 0) {
		d.fail("L3 within the list of %s: %q", l.listing, line)
	}
	switch m.Event {
	case wire.EventNow:
		if h.now || m.Listed != h.ins {
			d.fail("L3 %q after %d lines", line, h.ins)
		}
		h.now, l.listing = true, ""
		return
	case wire.EventOff:
		d.ends[string(m.Why)]++
		if len(m.Why) == 0 != l.ending[name] {
			d.fail("L5 %q, UNWATCH was taken: %v", line, l.ending[name])
		}
		if l.listing == name {
			l.listing = ""
		}
		delete(l.watches, name)
		delete(l.ending, name)
		return
	}
	client := string(m.AT.Client)
	fields := strings.Fields(string(line))
	at := "AT " + strings.Join(fields[3:8], " ") + "\n"
	if !d.all[at] {
		d.fail("nobody reported %q", line)
	}
	_, in := h.in[client]
	switch {
	case m.Event == wire.EventIn && in:
		d.fail("L4 IN twice: %q", line)
	case m.Event != wire.EventIn && !in:
		d.fail("L4 %v without IN: %q", m.Event, line)
	case m.Event != wire.EventIn && !h.now:
		d.fail("L3 %v within its list: %q", m.Event, line)
	}
	if before := h.newest[client]; before != "" {
		b, err := wire.ParseAT([]byte(before[:len(before)-1]))
		if err != nil {
			d.Fatal(err)
		}
		if c := wire.Compare(&m.AT, &b, []byte(at), []byte(before)); c < 0 || c == 0 && m.Event == wire.EventAt && h.m.Kind != wire.WatchAround {
			d.fail("L4 goes back, or says the same again: %q after %q", line, before)
		}
	}
	h.newest[client] = at
	if p := m.AT.Point; h.m.Kind == wire.WatchCircle || h.m.Kind == wire.WatchBox {
		if inside := inside(&h.m, p); inside != (m.Event != wire.EventOut) && string(m.Why) != wire.Forgotten {
			d.fail("L3 %q, and inside is %v", line, inside)
		}
	}
	if m.Event == wire.EventOut {
		delete(h.in, client)
		return
	}
	h.in[client] = at
	if m.Event == wire.EventIn && !h.now {
		h.ins++
	}
}

func inside(m *wire.WATCH, p wire.Point) bool {
	a := position.Box(m.SW, m.NE)
	if m.Kind == wire.WatchCircle {
		a = position.Circle(m.Centre, m.Radius)
	}
	return a.Contains(p)
}

// wants is what a watch holds, by a plain scan.
func (d *day) wants(m *wire.WATCH) map[string]string {
	all := map[string]string{}
	point := func(line string) wire.Point {
		at, err := wire.ParseAT([]byte(line[:len(line)-1]))
		if err != nil {
			d.Fatal(err)
		}
		return at.Point
	}
	for client, line := range d.line {
		switch m.Kind {
		case wire.WatchClient:
			if client == string(m.Client) {
				all[client] = line
			}
		case wire.WatchAround:
			centre, known := d.line[string(m.Client)]
			if !known || client == string(m.Client) {
				continue
			}
			if a := position.Circle(point(centre), m.Radius); a.Contains(point(line)) {
				all[client] = line
			}
		default:
			if inside(m, point(line)) {
				all[client] = line
			}
		}
	}
	return all
}

// forget lets time pass, and what is past be forgotten.
func (d *day) pass(by, retain int64) {
	d.now += by
	for end := false; !end; {
		_, end = d.table.Forget(d.now, 1+d.r.IntN(50), nil)
	}
	for client, line := range d.line {
		at, _ := wire.ParseAT([]byte(line[:len(line)-1]))
		if d.now-at.Stamp >= retain {
			delete(d.line, client)
			d.note("forgotten %s", client)
		}
	}
}

// check compares what the Set keeps with what follows from it.
func (d *day) check(quiet bool) {
	s := d.set
	s.mu.Lock()
	defer s.mu.Unlock()
	holds := map[uint32]uint32{}
	members := 0
	of := map[*Watcher]int{}
	for i, v := range s.watches {
		if v.at != i {
			d.fail("a watch is not where it is")
		}
		var used, marked, new, outs int
		for i, p := range v.set.places {
			if p == 0 {
				continue
			}
			slot, st := p>>stateBits-1, state(p&stateMask)
			if v.set.find(slot) != i {
				d.fail("a slot is not found")
			}
			used++
			holds[slot]++
			switch {
			case st == fresh:
				new++
			case st >= out:
				outs++
			}
			if st != told {
				marked++
				if v.set.dirty[i/blockLen/64]&(1<<(i/blockLen%64)) == 0 {
					d.fail("a mark is not found")
				}
			} else if l := s.last(slot); !l.is || !v.holds(s, slot, l) {
				d.fail("L4 nothing is marked, and who was told in is not inside")
			}
		}
		if used != v.set.used || marked != v.set.marked || new != v.set.fresh || outs != v.set.outs {
			d.fail("a set counts wrong: %+v", v.set)
		}
		if marked > 0 && !v.list && !v.waiting {
			d.fail("nobody comes for what is marked")
		}
		members += used
		of[v.watcher] += used
		if quiet && !v.over && !v.visits && !v.behind {
			for page := range s.pages {
				for i := range s.pages[page] {
					if slot := uint32(page*pageLen + i); s.pages[page] != nil && s.pages[page][i].is && v.set.find(slot) < 0 && v.radius >= 0 && v.holds(s, slot, &s.pages[page][i]) {
						d.fail("L4 a client that is inside is not in the set")
					}
				}
			}
		}
	}
	for _, v := range s.dying {
		for _, p := range v.set.places {
			if p != 0 {
				holds[p>>stateBits-1]++
			}
		}
	}
	if members != s.members || members > s.cfg.Total {
		d.fail("L5 %d are inside all, it says %d", members, s.members)
	}
	for w, n := range of {
		if w.members != n || n > s.cfg.Members {
			d.fail("L5 %d are inside a watcher's, it says %d", n, w.members)
		}
	}
	for page := range s.pages {
		for i := range s.pages[page] {
			l := &s.pages[page][i]
			if l.holds != holds[uint32(page*pageLen+i)] {
				d.fail("a slot is held %d times, it says %d", holds[uint32(page*pageLen+i)], l.holds)
			}
			if l.gone && l.holds == 0 {
				d.fail("L4 a slot that nobody holds is not released")
			}
		}
	}
}

// live runs one random day.
func live(t *testing.T, seed uint64, ends map[string]int) {
	r := rand.New(rand.NewPCG(seed, 4))
	const retain = 40 * second
	cfg := Config{PerConn: 1 + r.IntN(5), Members: 1000, Total: 1000}
	if r.IntN(3) == 0 {
		cfg.Members = 1 + r.IntN(12)
	}
	if r.IntN(3) == 0 {
		cfg.Total = 1 + r.IntN(20)
	}
	d := &day{bench: newBench(t, cfg, time.Duration(retain)), r: r, line: map[string]string{}, all: map[string]bool{}, ends: ends}
	d.set.most, d.set.visit = 1+r.IntN(4), 1+r.IntN(20)
	for i := range 1 + r.IntN(20) {
		d.clients = append(d.clients, fmt.Sprint("c", i))
	}
	base := []wire.Point{{Lat: 340000000, Lon: -1180000000}, {Lat: 900000000, Lon: 10}, {Lat: -100000000, Lon: 1799999999}, {Lat: 0, Lon: 0}}[r.IntN(4)]
	for range 2 + r.IntN(10) {
		spread := int64(1) << r.IntN(27)
		p := wire.Point{Lat: int32(min(int64(base.Lat)+r.Int64N(spread), 900000000)), Lon: base.Lon}
		lon := int64(base.Lon) + r.Int64N(spread)
		if lon > 1800000000 {
			lon -= 3600000000
		}
		p.Lon = int32(lon)
		d.places = append(d.places, p)
	}
	for range 100 + r.IntN(400) {
		if len(d.open) < 1+r.IntN(4) {
			l := &listener{watches: map[string]*heard{}, ending: map[string]bool{}}
			l.w = d.set.Open(netip.AddrFrom4([4]byte{10, 0, 0, byte(r.IntN(3))}), func() {
				if l.woken || l.more {
					d.fail("woken twice, or while it was to come anyway")
				}
				l.woken = true
			})
			d.open = append(d.open, l)
		}
		l := d.open[r.IntN(len(d.open))]
		switch n := r.IntN(100); {
		case n < 40:
			for range 1 + r.IntN(5) {
				d.move()
			}
		case n < 60:
			d.set.step()
			d.note("step")
		case n < 80:
			if l.more || l.woken {
				d.tell(l)
			}
		case n < 88:
			d.watch(l)
		case n < 91:
			d.unwatch(l)
		case n < 96:
			d.pass(r.Int64N(20*second), retain)
		case n < 97:
			d.pass(r.Int64N(100*second), retain)
		case n < 98 && !l.stopped && r.IntN(3) == 0:
			d.note("stop")
			l.w.Stop()
			l.stopped, l.more = true, true
		default:
			if r.IntN(2) == 0 {
				d.note("close")
				l.w.Close()
				i := slices.Index(d.open, l)
				d.open = slices.Delete(d.open, i, i+1)
			}
		}
		d.check(false)
	}
	// Quiet: who was told to come, comes; circles follow, as long as somebody is forgotten.
	for same, before := 0, 0; same < 3; same++ {
		d.now += 2 * second
		if d.pass(0, retain); len(d.line) != before {
			same, before = 0, len(d.line)
		}
		for range 3 {
			d.settle()
			for _, l := range d.open {
				for l.more || l.woken {
					d.tell(l)
				}
			}
		}
		d.settle()
	}
	d.check(true)
	for _, l := range d.open {
		for name, h := range l.watches {
			if want := d.wants(&h.m); !h.now || fmt.Sprint(want) != fmt.Sprint(h.in) {
				for _, v := range d.set.watches {
					d.note("%s placed %v behind %v visits %v list %v next %d now %d target %+v", v.name, v.placed, v.behind, v.visits, v.list, v.next, d.now, v.target)
				}
				d.fail("L4 quiet, %s %+v has %q, want %q", name, h.m, h.in, want)
			}
		}
		if l.stopped && len(l.watches) > 0 {
			d.fail("L5 stopped, and %v live", l.watches)
		}
	}
	for _, l := range d.open {
		l.w.Close()
	}
	d.settle()
	if s := d.set; s.follows || s.members != 0 || s.pages != nil || len(s.targets) != 0 || len(s.bySlot) != 0 || s.unbound != 0 || len(s.sources) != 0 || len(s.moving) != 0 || len(s.watches) != 0 {
		d.fail("something is left: %+v", s)
	}
	before := d.table.Bytes()
	d.pass(2*retain, retain)
	for i := range 50 { // slots are used again
		d.clients = append(d.clients[:0], fmt.Sprint("later", i))
		d.move()
		d.pass(2*retain, retain)
	}
	if clients, _, _ := d.table.Stats(); clients != 0 || d.table.Bytes() > before+64<<10 {
		d.fail("%d clients, %d bytes; before %d", clients, d.table.Bytes(), before)
	}
}

// L4: no exit is missed, nothing is told twice or goes back, and once it is quiet each watch has
// what a plain scan finds; whatever happens in which order.
func TestRandomDays(t *testing.T) {
	seeds := uint64(200)
	if full() {
		seeds = 40_000
	}
	from := uint64(1)
	if *seedFlag != 0 {
		from, seeds = *seedFlag, 1
	}
	ends := map[string]int{}
	for seed := from; seed < from+seeds; seed++ {
		if !t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) { live(t, seed, ends) }) {
			t.Fatalf("again with: go test ./edge/watch -run TestRandomDays -watch.seed %d", seed)
		}
	}
	t.Logf("watches ended: %v", ends)
	if seeds > 100 {
		for _, why := range []string{"", wire.Full, wire.Slow, wire.Stopping} {
			if ends[why] == 0 {
				t.Errorf("no watch ended with %q: the days tell nothing of it", why)
			}
		}
	}
}
