package sim

import (
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/places"
	"herd/test/herdtest"
)

// A Result is what came of a plan.
type Result struct {
	Seed    uint64
	Wrong   string // "": nothing
	Hash    string // of all events, and of what edges hold at the end
	Events  int
	Virtual time.Duration
	Judged  int // promises that had to be kept
}

// Live has a herd live a plan. Every event goes to out, and what edges log to log, unless
// these are nil.
func Live(t *testing.T, p *Plan, finder *places.Finder, out, log io.Writer) (res Result) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, p, finder, out, log)
		w.live()
		for _, r := range w.runs {
			w.kill(r)
		}
		wrong := w.wrong
		for _, r := range w.runs {
			<-r.done
			if r.watcher != nil {
				<-r.watcher.done
			}
		}
		res = Result{Seed: p.Seed, Wrong: wrong, Hash: w.trace.sum(), Events: w.trace.events, Virtual: time.Since(w.begun), Judged: len(w.promises)}
	})
	return res
}

func (w *world) live() {
	for _, name := range w.plan.Names {
		w.start(w.sites[name])
		w.until(time.Now().Add(time.Duration(1+w.net.random("starts").IntN(20)) * time.Millisecond))
	}
	w.open()
	w.storm()
	if w.wrong == "" {
		w.lull()
	}
	if w.wrong == "" {
		w.heal()
	}
}

// open waits, without noise, until all edges serve clients; one day in four begins before that.
func (w *world) open() {
	w.net.calm = w.plan.Seed%4 != 0
	for end := time.Now().Add(15 * time.Second); w.net.calm && time.Now().Before(end) && w.wrong == ""; {
		if !slices.ContainsFunc(w.runs, func(r *run) bool { return !isReady(r) }) {
			break
		}
		w.until(time.Now().Add(100 * time.Millisecond))
	}
	w.net.calm = false
}

// storm is the first phase: anything may fail.
func (w *world) storm() {
	begun := time.Now()
	for i := range w.plan.Ops {
		o := &w.plan.Ops[i]
		w.until(begun.Add(o.At))
		if w.wrong != "" {
			return
		}
		w.do(o)
		w.look()
	}
}

// calm ends the noise: cuts and deaths stay.
func (w *world) calm() {
	w.trace.note("calm")
	w.net.calm, w.over = true, true
	w.payload.Store(int64(w.plan.MaxPayload))
	if w.away {
		w.comeBack()
	}
	for _, name := range w.plan.Names {
		s := w.sites[name]
		s.skew.Store(0)
		s.store.Limit(0)
		s.store.Unfit(nil)
		s.unfit = time.Time{}
		for _, r := range slices.Clone(s.runs) {
			clear(r.loses)
			r.conn.hearAll()
			if r.watcher != nil {
				r.watcher.calm.Store(true)
			}
			r.store.Faults(nil)
			w.resume(r)
			w.connect(r)
		}
	}
}

// lull ends the noise, has who is alive come level, and sees that a cut is a cut, and a link a
// link: H1.
func (w *world) lull() {
	w.calm()
	switch { // what nobody knows yet to be dead, or believes of a neighbour that lied
	case w.plan.has(Deaf, Mute):
		w.rest(25 * time.Second)
	case w.plan.has(Lie):
		w.rest(4*w.plan.Heartbeat + 2*time.Second)
	}
	w.settle(func() string {
		done := map[string]bool{}
		for _, name := range w.plan.Names {
			if len(w.sites[name].runs) == 0 || done[name] {
				continue
			}
			in := w.reach([]string{name})
			if why := w.unlike(in, nil); why != "" {
				return why
			}
			for other := range in {
				done[other] = true
			}
		}
		return ""
	})
	for _, name := range w.plan.Names {
		s := w.sites[name]
		if w.wrong != "" || w.serving(s) == nil {
			continue
		}
		const probe = 90
		w.tell(s, probe, time.Now(), 1)
		w.rest(3 * time.Second)
		reach := w.reach([]string{name})
		for _, other := range w.plan.Names {
			for _, r := range w.sites[other].runs {
				line, ok := w.holds(r, probe)
				if ok && (line != "") != reach[other] {
					w.failf("H1 told at %s: %s knows %q, links lead there: %v", name, other, line, reach[other])
				}
			}
		}
		return
	}
}

// settling is how long a herd without noise may take to come level: 15 s, and more where
//   - names are contested;
//   - subscriptions are dead until they are made anew (H8), after ten seconds;
//   - a bucket was full, where new clients are tried again later (D6);
//   - a lie or a clock made edges put off what they ask for again once a minute (H9).
func (w *world) settling() time.Duration {
	d := 15 * time.Second
	if slices.ContainsFunc(w.plan.Names, func(name string) bool { return len(w.sites[name].runs) > 1 }) || w.plan.has(Twin, Double) {
		d += 15 * time.Second
	}
	if w.plan.has(Deaf, Mute) {
		d += 15 * time.Second
	}
	if w.plan.has(Full, Unfit) {
		d += 30 * time.Second
	}
	if w.plan.has(Lie, Clock) {
		d += 150 * time.Second
	}
	return d
}

// settle lets time go by until nothing is unlike what it should be, as long as settling says.
func (w *world) settle(unlike func() string) {
	end := time.Now().Add(w.settling())
	for w.wrong == "" {
		w.rest(2 * time.Second)
		why := unlike()
		if why == "" {
			return
		}
		if !time.Now().Before(end) {
			w.failf("%s", why)
		}
	}
}

// rest lets time go by, and looks on.
func (w *world) rest(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end) && w.wrong == ""; {
		next := time.Now().Add(5 * time.Second)
		if next.After(end) {
			next = end
		}
		w.until(next)
		w.look()
	}
}

// linked says whether both ends have a link, by their topologies.
func (w *world) linked(a, b string) bool {
	has := func(name, other string) bool {
		s := w.sites[name]
		return len(s.runs) > 0 && s.runs[0].has(other)
	}
	return has(a, b) && has(b, a)
}

// reach is who is alive and joined by links to some names.
func (w *world) reach(from []string) map[string]bool {
	seen := map[string]bool{}
	queue := []string{}
	for _, name := range from {
		if len(w.sites[name].runs) > 0 {
			seen[name] = true
			queue = append(queue, name)
		}
	}
	for ; len(queue) > 0; queue = queue[1:] {
		for _, next := range w.joins[queue[0]] {
			if !seen[next] && w.linked(queue[0], next) && !w.net.isCut(queue[0], next) {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return seen
}

// heal is the second phase: a part is healed and must come level, whatever becomes of the rest.
func (w *world) heal() {
	w.trace.note("heal %s", strings.Join(w.plan.Heal, " "))
	in := map[string]bool{}
	for _, name := range w.plan.Heal {
		in[name] = true
	}
	for _, l := range w.plan.last() {
		if in[l[0]] && in[l[1]] {
			w.net.cut[l] = false
		}
	}
	// Who is killed before it has looked at a bucket that was harmed has nothing to write it from.
	if w.plan.Next != nil && slices.ContainsFunc(w.plan.Heal, func(name string) bool { return w.sites[name].fragile && w.sites[name].topology == 0 }) {
		w.rest(15 * time.Second)
	}
	for _, name := range w.plan.Heal {
		s := w.sites[name]
		if w.plan.Next != nil && s.topology == 0 {
			s.topology = 1
			for _, r := range slices.Clone(s.runs) {
				w.kill(r)
			}
		}
		if len(s.runs) == 0 {
			w.start(s)
		}
	}
	owed := w.owed()
	w.settle(func() string { return w.unlike(w.reach(w.plan.Heal), owed) })
	if w.wrong != "" {
		return
	}
	w.checkLevel(owed)
	w.rest(40 * time.Second)
	w.checkLevel(owed)
	w.checkQuiet()
	if w.plan.Probe {
		w.probeClock()
	}
	if w.plan.Blackout {
		w.blackout()
	}
}

// checkLevel says what is unlike.
func (w *world) checkLevel(owed []promise) {
	if w.wrong != "" {
		return
	}
	unlike := func() string { return w.unlike(w.reach(w.plan.Heal), owed) }
	if w.plan.Watch && w.plan.Retain > 0 { // what is forgotten is a change where somebody watches (L4): it takes a heartbeat to be acknowledged
		for range 10 {
			if unlike() == "" {
				return
			}
			w.until(time.Now().Add(w.plan.Heartbeat / 4))
		}
	}
	if why := unlike(); why != "" {
		w.failf("%s", why)
	}
}

// blackout kills all that are joined to the healed part at once and starts them at once. Whoever
// serves clients then knows all that the journals hold: H7.
func (w *world) blackout() {
	if w.plan.Journal != "on" || w.wrong != "" {
		return
	}
	in := slices.Sorted(maps.Keys(w.reach(w.plan.Heal)))
	w.trace.note("blackout of %s", strings.Join(in, " "))
	for _, name := range in {
		for _, r := range slices.Clone(w.sites[name].runs) {
			w.kill(r)
		}
	}
	for _, name := range in { // whoever holds nothing waits for nobody that it has not heard
		if len(w.sites[name].store.Values()) == 0 {
			return
		}
	}
	kept := map[string]string{} // the newest line of each client in any journal
	for _, name := range in {
		for key, line := range w.sites[name].store.Values() {
			if !strings.HasPrefix(line, "AT ") { // an operator's
				continue
			}
			if newer, err := herdtest.Newer(line, kept[key]); err == nil && newer || kept[key] == "" {
				kept[key] = line
			}
		}
	}
	for _, name := range in { // journals take unlike times to load
		w.sites[name].store.Cost(w.plan.StoreTrip+time.Duration(w.net.random("blackout").IntN(400))*time.Millisecond, w.plan.StoreCost)
		w.start(w.sites[name])
	}
	if r := w.net.random("jetstream"); r.IntN(2) == 0 { // JetStream is there later than the broker (D4)
		for _, name := range in {
			w.sites[name].store.None(true)
			w.after(time.Duration(300+r.IntN(1000))*time.Millisecond, func() { w.sites[name].store.None(false) })
		}
	}
	opened := map[string]bool{}
	for end := time.Now().Add(35 * time.Second); len(opened) < len(in) && w.wrong == ""; {
		w.until(time.Now().Add(20 * time.Millisecond))
		for _, name := range in {
			s := w.sites[name]
			if opened[name] || len(s.runs) != 1 || !isReady(s.runs[0]) {
				continue
			}
			opened[name] = true
			for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
				want := kept[keyOf(client)]
				if want == "" || w.nearlyPast(want) {
					continue
				}
				line, _ := w.holds(s.runs[0], client)
				if newer, err := herdtest.Newer(want, line); line == "" || err != nil || newer {
					w.failf("H7 %s serves clients and holds %q, a journal holds %q", name, line, want)
				}
			}
		}
		if time.Now().After(end) {
			w.failf("H7 %d of %d edges serve clients 35 s after a blackout", len(opened), len(in))
		}
	}
}

// probeClock has one clock be wrong for a while: H8.
func (w *world) probeClock() {
	if w.wrong != "" {
		return
	}
	in := w.reach(w.plan.Heal)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		heard := 0
		for _, l := range w.sites[name].runs[0].edge.Status().Links {
			if l.Up {
				heard++
			}
		}
		if heard < 2 {
			continue
		}
		s, wrong := w.sites[name], 20*time.Minute
		if w.plan.Seed%2 == 0 {
			wrong = -wrong
		}
		w.trace.note("probe the clock of %s", name)
		s.skew.Store(int64(wrong))
		w.rest(2*w.plan.Heartbeat + 2*time.Second)
		if st := s.runs[0].edge.Status(); st.Ready || !strings.Contains(st.Why, "clock") {
			w.failf("H8 the clock of %s is wrong by %v, and it is ready: %v %q", name, wrong, st.Ready, st.Why)
		}
		s.skew.Store(0)
		w.rest(2*w.plan.Heartbeat + 2*time.Second)
		if st := s.runs[0].edge.Status(); !st.Ready {
			w.failf("H8 the clock of %s is right again, and it is not ready: %q", name, st.Why)
		}
		return
	}
}
