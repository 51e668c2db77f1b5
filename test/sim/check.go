package sim

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"herd/broker"
	"herd/test/herdtest"
)

// checkClaim notes that a run hears an earlier claim of its name, which it must answer (H10).
func (w *world) checkClaim(r *run, epoch string) {
	if r.claimed.IsZero() && epoch < r.epoch() {
		r.claimed = time.Now()
	}
}

// checkClaims sees that a run that has its name claims it when it is connected anew, where another
// run has it too: H10.
func (w *world) checkClaims(r *run) {
	at := time.Now()
	hears := func(r *run) bool {
		select {
		case <-r.edge.Stopping(): // another's claim ends it, or it was told to stop
			return false
		default:
		}
		return !r.dead && !r.stalled && !r.muted && r.conn.ever() != nil && r.conn.subscribed(nameSubject(r.name)) != nil
	}
	for _, other := range r.site.runs {
		if other == r || !hears(r) || !hears(other) {
			continue
		}
		w.after(w.plan.Delay+50*time.Millisecond, func() { // before what the bucket says of its owner ends it
			if hears(r) && hears(other) && r.site.disturbed.Equal(at) && r.claims.Before(at) {
				w.failf("H10 run %d of %s has not claimed its name when it was connected, and run %d has it too", r.number, r.name, other.number)
			}
		})
	}
}

// checkOwn sees that a run that takes its bucket has its name, and so offers its endpoints: H10.
func (w *world) checkOwn(r *run) {
	if r.conn.ever() == nil {
		w.failf("H10 run %d of %s takes the bucket and has not got its name", r.number, r.name)
	}
}

// look sees that no run's line of any client went back, or is gone before its time: S1 to S4.
func (w *world) look() {
	for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
		if client >= crowds { // they are many, and looked at in the end
			break
		}
		for _, name := range w.plan.Names {
			for _, r := range w.sites[name].runs {
				w.lookAt(r, client)
			}
		}
	}
	for _, name := range w.plan.Names {
		if n := w.sites[name].store.Poached(); n > 0 {
			w.failf("D5 the bucket of %s was written %d times by a run while another owned it", name, n)
		}
		for _, r := range w.sites[name].runs {
			if !r.conn.connected() || r.stalled || r.stops {
				r.claimed = time.Time{}
			}
			if !r.claimed.IsZero() && time.Since(r.claimed) > time.Second {
				w.failf("H10 run %d of %s has not answered an earlier claim", r.number, name)
			}
			w.lookAtRun(r)
		}
	}
}

func (w *world) lookAt(r *run, client int) {
	line, ok := w.holds(r, client)
	w.checkPast(r, line)
	last := r.seen[client]
	switch {
	case !ok || line == last:
		return
	case line == "":
		effective, err := herdtest.Effective(last)
		if err != nil {
			w.failf("%v", err)
		}
		// An edge's retention clock agrees with others within a minute.
		if w.plan.Retain == 0 || time.Since(effective) < w.plan.Retain-time.Minute-time.Second {
			w.failf("S4 run %d of %s has forgotten %q too early", r.number, r.name, last)
		}
		return // what comes next is newer than what was forgotten
	case last != "" && !w.past(last):
		newer, err := herdtest.Newer(line, last)
		if err != nil {
			w.failf("%v", err)
		}
		if !newer {
			w.failf("S2 run %d of %s held %q, and holds %q", r.number, r.name, last, line)
		}
	}
	r.seen[client] = line
}

// checkPast sees that nobody is told of what is past, swept or not: S4. Where no clock is wrong, clocks
// differ by less than pastSeen. A run that has not heard another clock yet takes nothing for past.
func (w *world) checkPast(r *run, line string) {
	const pastSeen = 300 * time.Millisecond
	if w.plan.Retain == 0 || line == "" || w.plan.has(Clock, Lie) || r.site.skew.Load() != 0 || time.Since(r.begun) < 10*time.Second {
		return
	}
	effective, err := herdtest.Effective(line)
	if err != nil || time.Since(effective) <= w.plan.Retain+pastSeen {
		return
	}
	for _, l := range r.edge.Status().Links {
		if l.Up {
			w.failf("S4 run %d of %s tells %q, which is past", r.number, r.name, line)
		}
	}
}

// whole says whether a site's only run holds all that the site promised, and kept whether its
// bucket does.
func (w *world) whole(s *site) bool {
	return w.all(s, func(client int) string { line, _ := w.holds(s.runs[0], client); return line })
}

func (w *world) kept(s *site) bool {
	values := s.store.Values()
	return w.all(s, func(client int) string { return values[keyOf(client)] })
}

func (w *world) all(s *site, holds func(client int) string) bool {
	for _, p := range w.promises {
		if p.run.site != s || !p.journal || w.lapsed(&p) {
			continue
		}
		if !w.tracks[p.client].Keeps(p.line, holds(p.client)) {
			return false
		}
	}
	return true
}

// lapsed says whether what a promise is about is past.
func (w *world) lapsed(p *promise) bool {
	effective, err := w.tracks[p.client].Effective(p.line)
	return err == nil && w.plan.Retain > 0 && time.Since(effective) >= w.plan.Retain
}

func (w *world) past(line string) bool {
	effective, err := herdtest.Effective(line)
	return err == nil && w.plan.Retain > 0 && time.Since(effective) >= w.plan.Retain
}

// owed are the promises that whoever is joined to the healed part has to keep: those of journals
// (D3), those of runs that live, and what such runs hold.
func (w *world) owed() []promise {
	in := w.reach(w.plan.Heal)
	var owed []promise
	for _, p := range w.promises {
		if in[p.run.name] && (p.journal || !p.run.dead) {
			owed = append(owed, p)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(in)) {
		for _, r := range w.sites[name].runs {
			for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
				if line, _ := w.holds(r, client); line != "" {
					owed = append(owed, promise{client: client, line: line, at: time.Now(), run: r})
				}
			}
		}
	}
	return owed
}

// lookAtRun sees that a run opens, is ready and ends in time.
func (w *world) lookAtRun(r *run) {
	s := r.site
	if r.stops && !r.stalled && time.Since(s.disturbed) > r.site.cfgs[0].ShutdownTimeout+time.Second {
		w.failf("C19 run %d of %s has not stopped in %v: %s", r.number, r.name, time.Since(r.stopped), r.edge.Waits())
	}
	if r.stops || r.stalled || len(s.runs) > 1 || !r.conn.connected() {
		return
	}
	// The name, where an earlier run had it, and HERD_JOIN_TIMEOUT; then 30 s.
	const limit = 2*10*time.Second + 5*time.Second + 30*time.Second
	if w.plan.Journal == "off" && time.Since(s.disturbed) > limit && !isReady(r) {
		w.failf("H7 run %d of %s serves nobody after %v: %s", r.number, r.name, time.Since(r.begun), r.edge.Status().Why)
	}
	if w.payload.Load() < leastPayload && w.sinceNarrowed() > time.Second && time.Since(s.disturbed) > time.Second && r.edge.Status().Ready {
		w.failf("H5 run %d of %s is ready with a max_payload of %d", r.number, r.name, w.payload.Load())
	}
	if w.plan.Journal == "on" && !s.unfit.IsZero() && time.Since(s.unfit) > unfitSeen && time.Since(s.disturbed) > unfitSeen && r.edge.Status().Ready {
		w.failf("D5 run %d of %s is ready, and its bucket may drop what it acknowledged", r.number, r.name)
	}
}

// leastPayload is what the longest line needs (H5).
const leastPayload = 1280 + broker.HeaderRoom

// unfitSeen is how long an edge may take to see that its bucket was changed: it looks every ten
// seconds, and may be waiting for an answer.
const unfitSeen = 16 * time.Second

// checkPromise sees that no bucket is trusted that may drop what it acknowledged: D5.
func (w *world) checkPromise(r *run, line string) {
	if s := r.site; !s.unfit.IsZero() && time.Since(s.unfit) > unfitSeen && time.Since(s.disturbed) > unfitSeen {
		receipt, err := herdtest.Receipt(line)
		if err != nil {
			w.failf("%v", err)
		}
		if receipt.Add(-time.Duration(s.skew.Load())).After(s.unfit.Add(unfitSeen)) && s.store.Values()[keyOf(clientOf(line))] != line {
			w.failf("D3 run %d of %s answers %q, which its bucket does not hold", r.number, r.name, line)
		}
	}
}

// atOnce says whether an answer that did not wait for the journal is its promise all the same, and
// sees that the bucket holds what is promised: D3. What is past is no promise. Of a bucket that lost
// anything its run may not know yet what it holds.
func (w *world) atOnce(r *run, client int, reply broker.Reply) bool {
	line := string(bytes.TrimSuffix(reply.Answer, []byte("\n")))
	tr := w.tracks[client]
	effective, err := tr.Effective(line)
	if !w.plan.Promise || reply.Refused || err != nil || !r.site.harmed.IsZero() ||
		w.plan.Retain > 0 && (w.plan.has(Clock) || time.Since(effective) > w.plan.Retain-5*time.Second) {
		return false
	}
	if value := r.site.store.Values()[keyOf(client)]; !tr.Keeps(line, value) {
		w.failf("D3 run %d of %s answers %q at once, and its bucket holds %q", r.number, r.name, line, value)
	}
	return true
}

// checkRefusal sees that where nothing is wrong a client that the bucket knows gets its promise,
// though the bucket is nearly full (D6), much is deleted from it (S4), or an operator has written
// there: then it is read again at once (D5).
func (w *world) checkRefusal(r *run, client int) {
	s, p := r.site, w.plan
	calm := p.Faults == 0 && p.StoreLag == 0 && p.StoreTrip < 100*time.Millisecond && p.StoreCost < 4*time.Millisecond &&
		time.Since(s.disturbed) > 20*time.Second && time.Since(s.lost) > 20*time.Second && s.unfit.IsZero() && !r.stops && !r.stalled
	value := s.store.Values()[keyOf(client)]
	if !calm || w.payload.Load() < int64(p.MaxPayload) || w.sinceNarrowed() < 20*time.Second || value == "" || client >= longNames {
		return
	}
	if room := s.store.Room(); !s.limited.IsZero() && (time.Since(s.limited) < 12*time.Second || room < 1000) {
		return
	}
	w.failf("D5, D6 run %d of %s refuses c%02d, of whom its bucket holds %q", r.number, r.name, client, value)
}

// checkStarves sees that whoever moves most is heard of by all neighbours now and then: H3. Where the
// window is one message, each that is lost is missed for three heartbeats: two in a row are allowed for.
func (w *world) checkStarves(by *run, begun time.Time) {
	limit := 10 * time.Second
	if w.plan.Window == 1 && w.plan.Loss > 0 {
		limit += 2 * 3 * w.plan.Heartbeat
	}
	for _, other := range by.links {
		s := w.sites[other]
		since := begun
		for _, t := range []time.Time{s.disturbed, by.site.disturbed, w.net.mended[pair(by.name, other)]} {
			if t.After(since) {
				since = t
			}
		}
		if len(s.runs) != 1 || len(by.site.runs) != 1 || !s.runs[0].has(by.name) || !isReady(s.runs[0]) || s.runs[0].stalled || w.net.isCut(by.name, other) ||
			w.plan.Loss > 0.05 || w.plan.has(Lie, Clock, Deaf, Narrow) || time.Since(since) < limit {
			continue
		}
		for _, client := range []int{crowds, crowds + 1} {
			line, ok := w.holds(s.runs[0], client)
			if !ok {
				continue
			}
			receipt, err := herdtest.Receipt(line)
			if line == "" || err != nil || time.Since(receipt) > limit {
				w.failf("H3 %s told of c%d all the time, and %s holds %q", by.name, client, other, line)
			}
		}
	}
}

// checkHandedOver sees that whoever was told to stop has handed neighbours that were there all the
// while what it held then, and what clients told it since, whatever becomes of its journal: C19. What
// links brought it after its good-bye it cannot hand over, and its neighbours have it from each other.
func (w *world) checkHandedOver(r *run, err error) {
	if !r.stops || w.plan.has(Lie, Clock, Narrow, Deaf, Double, Mute) || w.plan.Retain > 0 || w.plan.Loss > 0.05 {
		return
	}
	const before = 10 * time.Second
	for _, l := range r.edge.Status().Links {
		s := w.sites[l.Neighbour]
		if !l.Up || len(s.runs) != 1 || r.stopped.Sub(s.disturbed) < before || r.site.disturbed.After(r.stopped) || r.stopped.Sub(r.begun) < before ||
			s.runs[0].stalled || !isReady(s.runs[0]) || w.net.isCut(r.name, l.Neighbour) || r.stopped.Sub(w.net.mended[pair(r.name, l.Neighbour)]) < before {
			continue
		}
		if err != nil && strings.Contains(err.Error(), "drain the link to "+l.Neighbour) {
			w.failf("C19 run %d of %s has not handed %s what it lacks: %v", r.number, r.name, l.Neighbour, err)
			continue
		}
		for _, client := range slices.Sorted(maps.Keys(w.tracks)) {
			held := r.owing[client]
			if now, _ := w.held(r, client); strings.HasPrefix(now, "AT "+r.name+" ") {
				held = now
			}
			line, ok := w.holds(s.runs[0], client)
			if newer, err := herdtest.Newer(held, line); ok && held != "" && (line == "" || err != nil || newer) {
				w.failf("C19 run %d of %s has stopped and held %q, %s holds %q", r.number, r.name, held, l.Neighbour, line)
			}
		}
	}
}

// checkInTime sees that whoever was told to stop waits for its journal no longer than leaves it
// time to hand over what it holds: C19.
func (w *world) checkInTime(r *run, answered time.Time) {
	if limit := r.site.cfgs[0].ShutdownTimeout * 3 / 4; r.stops && answered.Sub(r.stopped) > limit {
		w.failf("C19 run %d of %s has answered %v after it was told to stop, want %v at most", r.number, r.name, answered.Sub(r.stopped), limit)
	}
}

// unlike says what is unlike what it has to be among those that are joined by links: all hold the
// same, nothing that is owed is lost, and links and journals are level: S2, H3, H7, H8, H10, D1,
// D3. "" is nothing.
func (w *world) unlike(in map[string]bool, owed []promise) string {
	names := slices.Sorted(maps.Keys(in))
	clients := slices.Sorted(maps.Keys(w.tracks))
	for _, name := range names { // first what costs little to see
		s := w.sites[name]
		if len(s.runs) != 1 {
			return fmt.Sprintf("H10 %s has %d runs", name, len(s.runs))
		}
		if why := w.unlikeAt(s.runs[0], in); why != "" {
			return why
		}
		if why := w.unlikeTold(s.runs[0]); why != "" {
			return why
		}
	}
	var tracks []herdtest.Track
	got := map[int][]herdtest.Reply{}
	for _, p := range owed {
		got[p.client] = append(got[p.client], herdtest.Reply{Line: p.line, At: p.at})
	}
	for _, client := range clients {
		tr := *w.tracks[client]
		tr.Got = got[client]
		tracks = append(tracks, tr)
	}
	var holdings []herdtest.Holding
	for _, name := range names {
		h := herdtest.Holding{Edge: name, Asked: time.Now()}
		for _, client := range clients {
			line, ok := w.holds(w.sites[name].runs[0], client)
			if !ok {
				return fmt.Sprintf("H10 %s has not got its name", name)
			}
			h.Lines = append(h.Lines, line)
		}
		holdings = append(holdings, h)
	}
	if faults := herdtest.Judge(tracks, holdings, w.plan.Retain).Faults(); len(faults) > 0 {
		return fmt.Sprintf("S2, D3 %q", faults)
	}
	if w.plan.Journal == "off" {
		return ""
	}
	for i, name := range names {
		values := w.sites[name].store.Values()
		for j, client := range clients {
			if why := w.unlikeInBucket(w.sites[name], holdings[i].Lines[j], values[keyOf(client)], client); why != "" {
				return why
			}
		}
	}
	buckets := map[string]map[string]string{}
	for _, p := range owed {
		if p.journal && !w.lapsed(&p) && in[p.run.name] {
			values := buckets[p.run.name]
			if values == nil {
				values = w.sites[p.run.name].store.Values()
				buckets[p.run.name] = values
			}
			line := values[keyOf(p.client)]
			if !w.tracks[p.client].Keeps(p.line, line) {
				return fmt.Sprintf("D3 %s answered %q, its bucket holds %q", p.run.name, p.line, line)
			}
		}
	}
	return ""
}

// unlikeAt is unlike for one run's state.
func (w *world) unlikeAt(r *run, in map[string]bool) string {
	st := r.edge.Status()
	if !st.Ready {
		return fmt.Sprintf("H7 %s is not ready: %s", r.name, st.Why)
	}
	for _, l := range st.Links {
		there := in[l.Neighbour] && !w.net.isCut(r.name, l.Neighbour) && w.linked(r.name, l.Neighbour)
		if there && (!l.Up || l.Lag > 0) {
			return fmt.Sprintf("H8 %s to %s is not level: up %v, lag %d", r.name, l.Neighbour, l.Up, l.Lag)
		}
		if !there && l.Up {
			return fmt.Sprintf("H8 %s to %s is up, and nobody is there", r.name, l.Neighbour)
		}
	}
	if w.plan.Journal != "off" && (!st.Journal.Up || st.Journal.Lag > 0) {
		return fmt.Sprintf("D1 the journal of %s is not level: %+v", r.name, st.Journal)
	}
	return ""
}

// unlikeInBucket says what is wrong with what a bucket holds of a client: of those that it holds,
// and those that the run of its site accepted, it is what the edge holds (D1), and nothing that
// is past (S4).
func (w *world) unlikeInBucket(s *site, held, value string, client int) string {
	switch {
	case value == "" && (held == "" || w.past(held) || !s.runs[0].owns(client, w.plan.Retain)):
		return ""
	case value == held:
	case value != "" && w.past(value):
	case !strings.HasPrefix(value, "AT ") && !s.runs[0].owns(client, w.plan.Retain): // an operator's
	default:
		return fmt.Sprintf("D1 %s holds %q, its bucket %q", s.name, held, value)
	}
	if value == "" || w.plan.Retain == 0 || w.plan.has(Clock) {
		return ""
	}
	if effective, err := herdtest.Effective(value); err == nil && time.Since(effective) > w.plan.Retain+45*time.Second {
		return fmt.Sprintf("S4 the bucket of %s holds %q still", s.name, value)
	}
	return ""
}

// nearlyPast says whether a line is forgotten before long.
func (w *world) nearlyPast(line string) bool {
	effective, err := herdtest.Effective(line)
	return err == nil && w.plan.Retain > 0 && time.Since(effective) >= w.plan.Retain-45*time.Second
}

// checkQuiet sees that all are ready, and that a herd to which nothing happens says no more
// than heartbeats and their acks: H7, H8.
func (w *world) checkQuiet() {
	in := w.reach(w.plan.Heal)
	for _, name := range slices.Sorted(maps.Keys(in)) {
		if st := w.sites[name].runs[0].edge.Status(); !st.Ready {
			w.failf("H7 %s is not ready: %s", name, st.Why)
		}
	}
	if w.wrong != "" {
		return
	}
	const beats = 5
	directed := 0
	for _, a := range w.plan.Names {
		for _, b := range w.joins[a] {
			if w.linked(a, b) && !w.net.isCut(a, b) {
				directed++
			}
		}
	}
	revisions := func() (sum uint64) {
		for _, name := range slices.Sorted(maps.Keys(in)) {
			sum += w.sites[name].runs[0].edge.Status().Revision
		}
		return sum
	}
	changed := revisions()
	if w.plan.Watch { // what is forgotten is a change where somebody watches (L4), and said within a heartbeat
		w.until(time.Now().Add(w.plan.Heartbeat))
	}
	before := w.carried
	w.until(time.Now().Add(beats * w.plan.Heartbeat))
	if w.plan.Watch && revisions() != changed {
		return
	}
	if got, most := w.carried-before, directed*2*(beats+3); got > most {
		w.failf("H8 %d messages and acks in %d heartbeats of rest on %d directions, want %d at most", got, beats, directed, most)
	}
}
