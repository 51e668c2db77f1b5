package sim

import (
	"bufio"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herd/test/herdtest"
)

// A door is the net.Listener of a run: its watcher comes to it, over a pipe. Other clients ask over
// the broker.
type door struct {
	comes  chan net.Conn
	closed chan struct{}
	close  func()
}

func newDoor() *door {
	d := &door{comes: make(chan net.Conn), closed: make(chan struct{})}
	d.close = sync.OnceFunc(func() { close(d.closed) })
	return d
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case nc := <-d.comes:
		return nc, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Addr() net.Addr { return &net.TCPAddr{} }
func (d *door) Close() error   { d.close(); return nil }

// A watcher watches at one run, and keeps what it is told (L2 to L5). Where its connection ends, it
// comes again. Now and then it reads nothing for a while, as long as there is noise.
type watcher struct {
	w    *world
	r    *run
	rand *rand.Rand
	calm atomic.Bool
	done chan struct{}

	mu      sync.Mutex
	watches map[string]*watched  // of this connection, by name
	last    map[[2]string]string // the line that was told last, by watch and client; over connections
}

// A watched is one watch.
type watched struct {
	name   string
	what   string
	inside func(id, line string, held map[string]string) bool // as a plain scan has it
	listed bool                                               // its NOW has come
	has    map[string]string                                  // the line told last, by client
}

// watches returns what a watcher asks for: a box, a client, the circle around one, and all.
func watches() []*watched {
	place := func(line string) string { return strings.Fields(line)[4] }
	lat := func(line string) int { // clients are at whole degrees, from 1 to 2 east
		f := strings.Fields(line)
		north, _, _ := strings.Cut(f[4][1:], "+")
		n, _ := strconv.Atoi(north)
		return n
	}
	return []*watched{
		{name: "box", what: "+20-10 +60+10", inside: func(_, line string, _ map[string]string) bool { return lat(line) >= 20 && lat(line) <= 60 }},
		{name: "one", what: clientName(0), inside: func(id, _ string, _ map[string]string) bool { return id == clientName(0) }},
		{name: "around", what: clientName(1) + " 50", inside: func(id, line string, held map[string]string) bool {
			centre := held[clientName(1)]
			return id != clientName(1) && centre != "" && place(centre) == place(line)
		}},
		{name: "all", what: "-90-180 +90+180", inside: func(string, string, map[string]string) bool { return true }},
	}
}

// watch has a watcher come to a run, until the run ends.
func (w *world) watch(r *run) {
	x := &watcher{w: w, r: r, rand: rand.New(rand.NewPCG(w.plan.Seed, 1<<33+uint64(r.number))), done: make(chan struct{}), last: map[[2]string]string{}}
	r.watcher = x
	x.calm.Store(w.over)
	go func() {
		defer close(x.done)
		for {
			ours, its := net.Pipe()
			select {
			case r.door.comes <- its:
			case <-r.door.closed:
				return
			}
			x.converse(ours)
			ours.Close()
			x.begin(nil)
			time.Sleep(time.Second)
		}
	}()
}

func (x *watcher) begin(all []*watched) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.watches = map[string]*watched{}
	for _, v := range all {
		v.has = map[string]string{}
		x.watches[v.name] = v
	}
}

// converse watches, and reads until the connection ends.
func (x *watcher) converse(nc net.Conn) {
	all := watches()
	x.begin(all)
	asked := make(chan struct{})
	go func() { // nobody reads a pipe before this has written
		defer close(asked)
		for _, v := range all {
			if _, err := fmt.Fprintf(nc, "WATCH %s %s\n", v.name, v.what); err != nil {
				return
			}
		}
	}()
	defer func() { nc.Close(); <-asked }()
	lines := bufio.NewReaderSize(nc, 256) // that what the edge writes waits in the edge
	var paused time.Time
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return
		}
		if wrong := x.take(strings.TrimSuffix(line, "\n")); wrong != "" {
			x.w.failf("%s: run %d of %s tells %q", wrong, x.r.number, x.r.name, line)
			return
		}
		if f := strings.Fields(line); len(f) == 4 && f[2] == "OFF" && f[3] == "slow" { // it comes again
			if paused.IsZero() || time.Since(paused) > 2*time.Minute {
				x.w.failf("L4 run %d of %s tells %q to who is not slow", x.r.number, x.r.name, line)
			}
			return
		}
		if !x.calm.Load() && x.rand.IntN(20) == 0 { // HERD_WRITE_TIMEOUT may pass
			time.Sleep(time.Duration(x.rand.Int64N(int64(8 * time.Second))))
			paused = time.Now()
		}
	}
}

// take takes a line, and says what is wrong with it.
func (x *watcher) take(line string) (wrong string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if line == "! STILL" {
		return ""
	}
	f := strings.Fields(line)
	if len(f) < 3 || f[0] != "!" || x.watches[f[1]] == nil {
		return "L3 no line of a watch"
	}
	v := x.watches[f[1]]
	switch f[2] {
	case "NOW":
		if v.listed || f[3] != fmt.Sprint(len(v.has)) {
			return fmt.Sprintf("L3 its list has %d", len(v.has))
		}
		v.listed = true
		return ""
	case "OFF":
		delete(x.watches, v.name)
		return ""
	}
	if len(f) < 8 {
		return "L3 too short"
	}
	id, at := f[5], "AT "+strings.Join(f[3:8], " ")
	_, inside := v.has[id]
	switch {
	case f[2] == "IN" && inside:
		return "L4 in once more"
	case f[2] != "IN" && (!inside || !v.listed):
		return "L4 it was not told in"
	}
	key := [2]string{v.name, id}
	if before := x.last[key]; before != "" {
		if newer, err := herdtest.Newer(before, at); err != nil || newer {
			return fmt.Sprintf("L4 its line goes back from %q", before)
		}
	}
	x.last[key] = at
	switch f[2] {
	case "IN", "AT":
		v.has[id] = at
	case "OUT":
		delete(v.has, id)
		if f[8] == "forgotten" { // whatever comes after that is newer, by S4
			delete(x.last, key)
		}
	default:
		return "L3 no event"
	}
	return ""
}

// unlikeTold says what a run's watcher was told that is unlike what a plain scan of the run finds: L4.
func (w *world) unlikeTold(r *run) string {
	x := r.watcher
	if x == nil {
		return ""
	}
	held := map[string]string{}
	for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
		if line, _ := w.holds(r, client); line != "" {
			held[clientName(client)] = line
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.watches) != len(watches()) {
		return fmt.Sprintf("L5 of the watches at %s only %d live", r.name, len(x.watches))
	}
	for _, name := range slices.Sorted(maps.Keys(x.watches)) {
		v := x.watches[name]
		if !v.listed {
			return fmt.Sprintf("L3 the list of %s at %s has not ended", name, r.name)
		}
		ids := slices.Collect(maps.Keys(held))
		ids = append(ids, slices.Collect(maps.Keys(v.has))...)
		slices.Sort(ids)
		for _, id := range slices.Compact(ids) {
			want := held[id]
			if want != "" && !v.inside(id, want, held) {
				want = ""
			}
			if got := v.has[id]; got != want && !w.leaving(got) && !w.leaving(want) {
				return fmt.Sprintf("L4 watch %s at %s has %q, the edge holds %q", name, r.name, got, held[id])
			}
		}
	}
	return ""
}

// leaving says whether a line is about to be past HERD_RETAIN, or past and perhaps not forgotten yet.
func (w *world) leaving(line string) bool {
	if w.plan.Retain == 0 || line == "" {
		return false
	}
	effective, err := herdtest.Effective(line)
	age := time.Since(effective)
	return err == nil && age > w.plan.Retain-5*time.Second && (age < w.plan.Retain+45*time.Second || w.plan.has(Clock))
}
