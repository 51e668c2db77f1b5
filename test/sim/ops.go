package sim

import (
	"fmt"
	"slices"
	"time"

	"herd/edge/journal/storetest"
)

// liePause is the time between two lies of a burst.
const liePause = 5 * time.Millisecond

func (w *world) do(o *Op) {
	s := w.sites[o.Of]
	var r *run
	if len(s.runs) > 0 {
		r = s.runs[0]
	}
	if s.fragile && time.Since(s.harmed) > w.answerLimit() && w.kept(s) {
		s.fragile = false
	}
	switch o.Do {
	case Tell:
		w.tell(s, o.Client, time.Now().Add(o.For), o.Number)
	case Repeat:
		if tr, by := w.tracks[o.Client], w.serving(s); tr != nil && len(tr.Sent) > 0 && by != nil {
			text := tr.Sent[len(tr.Sent)-1].Text
			if w.net.random("corrections").IntN(3) == 0 {
				text = w.corrected(text)
			}
			w.send(by, o.Client, text)
		}
	case Kill:
		if r != nil && !s.fragile {
			w.kill(r)
		}
	case Stop:
		if r != nil && !s.fragile {
			w.trace.note("stop run %d", r.number)
			w.tellStop(r)
		}
	case Start:
		if r == nil {
			w.start(s)
		}
	case Twin:
		if r != nil && len(s.runs) < 2 && !s.fragile {
			w.start(s)
		}
	case Stall:
		if r != nil && !s.fragile {
			w.stall(r, o.For)
		}
	case Drop:
		if r != nil {
			w.drop(r, o.For)
		}
	case Cut, Mend:
		w.trace.note("%s %s %s", o.Do, o.Of, o.With)
		w.net.cut[pair(o.Of, o.With)], w.net.mended[pair(o.Of, o.With)] = o.Do == Cut, time.Now()
	case Away:
		w.goAway(o.For)
	case Restart, Roll:
		if r != nil && !s.fragile {
			w.kill(r)
		}
		if o.Do == Roll && w.plan.Next != nil && len(s.runs) == 0 {
			s.topology = 1 - s.topology
		}
		w.after(o.For, func() {
			if len(s.runs) == 0 {
				w.start(s)
			}
		})
	case Double:
		if r == nil || len(s.runs) > 1 || s.fragile || !isReady(r) {
			return
		}
		r.conn.deafen(nameSubject(s.name), time.Now().Add(o.For))
		w.after(o.For, func() { r.conn.hear(nameSubject(s.name)) }) // its subscriptions are made anew
		w.start(s)
		if o.Number > 0 {
			other := s.runs[len(s.runs)-1]
			w.after(time.Duration(o.Number)*time.Millisecond, func() { w.kill(other) })
		}
	case Deaf:
		kind := []string{"at", "ack", "join"}[o.Number%3]
		for _, r := range s.runs {
			w.trace.note("run %d is deaf to %s of %s", r.number, kind, o.With)
			r.conn.deafen("herd."+kind+"."+o.With+"."+o.Of, time.Now().Add(o.For))
		}
	case Mute:
		if r != nil && r.conn.connected() && !r.muted {
			w.mute(r)
		}
	case Narrow:
		w.narrow(o.Number, o.For)
	case Full, Unfit:
		w.limit(s, o)
	case Crowd:
		w.crowd(s, o)
	case Expire:
		w.expire(s, o)
	case Lose:
		for _, r := range s.runs {
			w.trace.note("messages of run %d are lost", r.number)
			r.lose("at", o.For)
		}
	case Spoil:
		for _, r := range s.runs {
			w.trace.note("messages of run %d begin with what is no line", r.number)
			r.spoils.Store(time.Now().Add(o.For).UnixNano())
		}
	case Leave:
		w.leave(s, o)
	case Tail:
		w.tail(s, o)
	case Late:
		w.late(s, w.sites[o.With], o)
	case Clock:
		w.step(s, o.For)
	case Purge, Destroy, GoBack, Foreign:
		w.harm(s, o)
	case Lie:
		w.lie(o)
		for d := liePause; d < o.For; d += liePause {
			again := *o
			if again.Number++; o.Number%2 == 1 { // the same lie again and again, or another each time
				again.Number = o.Number + int(d/liePause)
			} else if o.Number/2%lies == lieBye && d/liePause%2 == 1 { // good-byes by turns with other words
				again.Number += 2 * (lieBeat - lieBye)
			}
			w.after(d, func() { w.lie(&again) })
		}
	}
}

// goAway takes the broker away from all.
func (w *world) goAway(d time.Duration) {
	if w.away {
		return
	}
	w.away = true
	for _, name := range w.plan.Names {
		for _, r := range slices.Clone(w.sites[name].runs) {
			w.drop(r, d+time.Millisecond)
		}
	}
	w.after(d, w.comeBack)
}

func (w *world) comeBack() {
	w.away = false
	for _, name := range w.plan.Names {
		for _, r := range w.sites[name].runs {
			w.connect(r)
		}
	}
}

// answerLimit is longer than an acknowledged write waits to become an answer: one that the harm took
// may be promised for so long afterwards (HERD_JOURNAL_TIMEOUT, and the way back).
func (w *world) answerLimit() time.Duration { return w.plan.JournalTimeout + 3*time.Second }

// harm does something to a bucket whose run holds all that it promised, and will write it anew.
func (w *world) harm(s *site, o *Op) {
	able := func() bool {
		return len(s.runs) == 1 && !s.runs[0].stalled && !s.runs[0].stops && !s.fragile && isReady(s.runs[0]) && w.whole(s)
	}
	if !able() || w.plan.Journal == "off" {
		return
	}
	w.trace.note("%s %s", o.Do, s.name)
	switch key := keyOf(o.Client); o.Do {
	case Purge:
		s.store.Purge()
	case Destroy:
		s.store.Destroy()
	case Foreign:
		_, there := s.store.Values()[key]
		switch o.Number % 3 {
		case 0:
			s.store.Put(key, "no line")
			s.strange = s.strange || !there
		case 1:
			s.store.Remove(key)
			s.strange = s.strange || !there
		case 2:
			if !s.strange { // or what is purged is made up for, and nobody sees it (D5)
				s.store.PurgeKey(key)
			}
		}
	case GoBack:
		old, since := s.store.Snapshot(), s.runs[0]
		w.after(o.For, func() {
			if able() && s.runs[0] == since {
				w.trace.note("the bucket of %s goes back", s.name)
				s.store.Restore(old)
				s.fragile, s.harmed, s.lost = true, time.Now(), time.Now()
			}
		})
		return
	}
	s.fragile, s.harmed = true, time.Now()
	if o.Do != Foreign || o.Number%3 == 2 {
		s.lost = time.Now()
	}
}

func isReady(r *run) bool {
	select {
	case <-r.edge.Ready():
		return true
	default:
		return false
	}
}

// step has a clock be wrong. One is at a time: two that are wrong alike outvote the others. So
// the others are put right first, and heard to be; heartbeats that a stall holds back come late.
func (w *world) step(s *site, by time.Duration) {
	heard := 3*w.plan.Heartbeat + 2*time.Second
	wait := false
	if by.Abs() > time.Minute {
		wait = !w.resumed.IsZero() && time.Since(w.resumed) < heard
		for _, name := range w.plan.Names {
			other := w.sites[name]
			wait = wait || slices.ContainsFunc(other.runs, func(r *run) bool { return r.stalled })
			if other != s {
				wait = wait || time.Duration(other.skew.Load()).Abs() > time.Minute
				other.skew.Store(0)
			}
		}
	}
	if !wait {
		w.trace.note("clock of %s %v", s.name, by)
		s.skew.Store(int64(by))
		w.disturb(s)
		return
	}
	w.after(heard, func() {
		if !w.over {
			w.step(s, by)
		}
	})
}

// narrow has the broker take less in a message, for a while.
func (w *world) narrow(most int, d time.Duration) {
	w.trace.note("max_payload %d", most)
	w.payload.Store(int64(most))
	w.narrowed.Store(time.Now().UnixNano())
	w.after(d, func() {
		w.payload.Store(int64(w.plan.MaxPayload))
		w.trace.note("max_payload %d", w.plan.MaxPayload)
	})
}

// limit gives a bucket a limit for a while: of about what it holds, or one by which it may drop
// what it acknowledged.
func (w *world) limit(s *site, o *Op) {
	if w.plan.Journal == "off" || w.over {
		return
	}
	w.trace.note("%s %s", o.Do, s.name)
	s.limits++
	this := s.limits
	if o.Do == Unfit {
		s.unfit = time.Now()
		s.store.Unfit(fmt.Errorf("max_msgs"))
	} else {
		bytes := uint64(0)
		for key, value := range s.store.Values() {
			bytes += uint64(len(key) + len(value) + 100)
		}
		s.limited = time.Now()
		s.store.Limit(max(1000, bytes*100/uint64(60+o.Number%50)))
	}
	w.after(o.For, func() {
		if s.limits == this {
			w.trace.note("%s has no limit", s.name)
			s.unfit, s.limited = time.Time{}, time.Time{}
			s.store.Unfit(nil)
			s.store.Limit(0)
			w.disturb(s)
		}
	})
}

// crowd has many clients move at a site: each twice a second, and two of them always. No link
// carries all that, and yet each neighbour hears of the two now and then (H3).
func (w *world) crowd(s *site, o *Op) {
	by := w.serving(s)
	if by == nil {
		return
	}
	w.trace.note("crowd at %s", s.name)
	const tick = 20 * time.Millisecond
	begun, next := time.Now(), 0
	var step func()
	step = func() {
		since := time.Since(begun)
		if by.dead || w.wrong != "" {
			return
		}
		w.tell(s, crowds, time.Now(), next)
		w.tell(s, crowds+1, time.Now(), next)
		for range o.Number * int(tick) / int(500*time.Millisecond) {
			w.tell(s, crowds+2+next%o.Number, time.Now(), next)
			next++
		}
		if since%time.Second < tick {
			w.checkStarves(by, begun)
		}
		if since < o.For {
			w.after(tick, step)
		}
	}
	step()
	w.until(begun.Add(o.For))
}

// expire has many clients tell where they were a while ago, so that they are forgotten at one
// moment, and others tell where they are meanwhile.
func (w *world) expire(s *site, o *Op) {
	w.until(time.Now().Add(2 * w.settling() / 3)) // what was done before is over
	w.trace.note("clients at %s are soon forgotten", s.name)
	const known = 5
	begun := time.Now()
	for i := range known {
		w.tell(s, i, time.Now(), i)
	}
	for i := range o.Number {
		w.tell(s, crowds+i, begun.Add(4*time.Second-w.plan.Retain), i)
		if i%100 == 99 { // a write has not many
			w.until(time.Now().Add(100 * time.Millisecond))
		}
	}
	w.until(begun.Add(4 * time.Second))
	for i := range 150 { // these are forgotten while they are written
		w.tell(s, crowds+o.Number+i, time.Now().Add(time.Duration(i%30)*10*time.Millisecond-w.plan.Retain), i)
		w.until(time.Now().Add(10 * time.Millisecond))
		if i%30 == 0 {
			w.tell(s, i/30, time.Now(), i)
		}
		if i == 35 { // past by more than pastSeen, and swept by hardly anybody
			for _, r := range s.runs {
				for client := range o.Number {
					w.lookAt(r, crowds+client)
				}
			}
		}
	}
	w.until(time.Now().Add(o.For))
	if o.Number%2 == 0 { // some come back
		for i := range o.Number / 2 {
			w.tell(s, crowds+2*i, time.Now(), i)
		}
	}
}

// leave has a site be told to stop, in a herd without noise, at the moment that clients tell it
// where they are. What it sends its neighbours for a while is lost. Of every second its bucket hangs
// from then on, so that answers wait for it.
func (w *world) leave(s *site, o *Op) {
	w.net.calm = true
	defer func() { w.net.calm = false }()
	w.until(time.Now().Add(w.settling())) // what was done before is over
	r := w.serving(s)
	if r == nil || s.fragile || w.wrong != "" {
		return
	}
	w.trace.note("run %d leaves", r.number)
	if o.Number%2 == 1 {
		r.store.Faults(func(string) storetest.Fault { return storetest.Hang })
	}
	r.lose("at", o.For)
	for i := range o.Number {
		w.tell(s, crowds+i, time.Now(), i)
	}
	// In one moment with the stop, chance would say whether its watcher is told of them.
	w.until(time.Now().Add(10 * time.Microsecond))
	w.tellStop(r)
	w.until(r.stopped.Add(s.cfgs[0].ShutdownTimeout + 2*time.Second))
}

// tail has a site lose its connection, in a herd without noise, with what a client told it last. As
// soon as it is connected anew its neighbours hear of that (H6).
func (w *world) tail(s *site, o *Op) {
	w.net.calm = true
	defer func() { w.net.calm = false }()
	w.until(time.Now().Add(w.settling())) // what was done before is over
	r := w.serving(s)
	if r == nil || len(s.runs) > 1 || w.wrong != "" {
		return
	}
	r.lose("at", 20*time.Millisecond)
	w.tell(s, o.Client, time.Now(), 1)
	w.until(time.Now().Add(15 * time.Millisecond))
	w.drop(r, o.For)
	w.until(time.Now().Add(o.For + backSoon))
	w.checkBack(r, o.Client)
}

// late has another site restart. As soon as that has heard of a client from this one, what it sends
// comes late: to the next run of this one, whose first acks are lost (H4).
func (w *world) late(s, other *site, o *Op) {
	if len(s.runs) != 1 || len(other.runs) != 1 || s.fragile || other.fragile {
		return
	}
	w.kill(other.runs[0])
	w.start(other)
	r := other.runs[0]
	for end := time.Now().Add(10 * time.Second); ; {
		if line, _ := w.holds(r, o.Client); line != "" {
			break
		}
		if !time.Now().Before(end) || r.dead || w.wrong != "" {
			return
		}
		w.until(time.Now().Add(5 * time.Millisecond))
	}
	w.stall(r, o.For)
	for _, r := range slices.Clone(s.runs) {
		w.kill(r)
	}
	w.start(s)
	s.runs[0].lose("ack", o.For+2*w.plan.Delay+100*time.Millisecond)
	w.until(time.Now().Add(o.For + 5*time.Second))
}
