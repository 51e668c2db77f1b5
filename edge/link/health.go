package link

import (
	"context"
	"log/slog"
	"time"
)

// A direction is one of the two directions of a link (H8). The in direction carries the
// neighbour's messages and heartbeats. The out direction carries ours; the neighbour's acks
// show that it works. The neighbour's first sign of life in either direction brings up both.
// The other direction then has three heartbeats to show a sign of its own.
type direction struct {
	up      bool
	since   time.Time // when it went up
	heard   time.Time // the last sign of life
	changed time.Time // when up last changed; zero: never
}

// rise brings it up.
func (d *direction) rise(now time.Time) { d.up, d.since, d.changed = true, now, now }

// quiet returns for how long a direction that is up has shown no sign of life.
func (d *direction) quiet(now time.Time) time.Duration {
	return min(now.Sub(d.since), now.Sub(d.heard))
}

// health is what this edge knows of whether the neighbour is reachable (H8).
type health struct {
	in, out  direction
	interval time.Duration // the neighbour's heartbeat
	byeAt    time.Time     // when a good-bye was last heeded

	clock      time.Duration // the neighbour's clock minus ours
	clockTold  int64         // what its last heartbeat gave as its clock, Unix nanoseconds
	clockAt    time.Time     // when that heartbeat came; zero: never
	clockOff   bool          // it was logged that the clock differs
	clockTells gate          // for that log

	// Changes to report. They are noted where they happen, and step reports them.
	since     time.Time // when a direction last changed
	downSince time.Time // when the link last went down
	changed   bool      // a direction has changed since Config.Changed was last called
	why       outage    // why the link last went down
	told      bool      // whether the link was up when last logged
	tells     gate      // for that log
}

// An outage is why a link went down.
type outage struct {
	reason    string
	direction string        // the direction that fell silent
	silent    time.Duration // for how long it was silent
}

// String is the outage in words, from this edge's side; "" of none.
func (o outage) String() string {
	silent := o.silent.Round(time.Millisecond)
	switch {
	case o.reason == silence && o.direction == "in":
		return "nothing heard for " + silent.String()
	case o.reason == silence:
		return "nothing acknowledged for " + silent.String()
	case o.reason == goodBye:
		return "the neighbour shut down"
	}
	return o.reason
}

const (
	silence = "silent"
	goodBye = "good-bye" // the neighbour shut down in order (C19)
)

// A gate limits how often a neighbour can make us log: a burst, then once per interval.
type gate struct{ free time.Time }

func (g *gate) pass(now time.Time, every time.Duration, burst int) bool {
	if g.free.Before(now) {
		g.free = now
	}
	if g.free.Sub(now) > time.Duration(burst-1)*every {
		return false
	}
	g.free = g.free.Add(every)
	return true
}

// A link logs ten changes between up and down in a row, then one per ten seconds. It logs its
// state at that time, so the last log line is right in the end.
const (
	tellEvery = 10 * time.Second
	tellBurst = 10
)

// both reports whether the link is up, that is, in both directions.
func (h *health) both() bool { return h.in.up && h.out.up }

// heard notes a sign of life in a direction and reports whether that brought the direction up.
// l.mu is held.
func (l *Link) heard(now time.Time, d *direction) (up bool) {
	h := &l.health
	d.heard = now
	if d.up {
		return false
	}
	if !h.in.up {
		l.receive.catchUp()
	}
	if !h.in.up && !h.out.up {
		h.in.rise(now)
		h.out.rise(now)
	}
	d.rise(now)
	h.since, h.changed = now, true
	l.send.beatNow = true // return a sign of life at once
	return true
}

// lost takes a direction down; l.mu is held. If out goes down, the unacknowledged messages are
// assumed lost. If the neighbour is still heard, one message is sent again (H6), and from then
// on only heartbeats (H8).
func (l *Link) lost(now time.Time, d *direction, why outage) {
	h := &l.health
	if !d.up {
		return
	}
	if h.both() {
		l.count.downs.Add(1)
		h.why, h.downSince = why, now
	}
	d.up, d.changed = false, now
	h.since, h.changed = now, true
	if d == &h.out {
		if l.send.cursor > l.send.acked { // H6: no ack for three heartbeats
			l.count.rewinds.Add(1)
			l.send.again = h.in.up && why.reason == silence
		}
		l.send.back()
	}
}

// checkSilence takes a direction down after three missed heartbeats: three of the neighbour's
// that did not come, or three of ours that it did not acknowledge (H6, H8). It returns when it
// must be called next.
func (l *Link) checkSilence(now time.Time) (next time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.health
	for _, d := range []struct {
		*direction
		name string
		most time.Duration
	}{
		{&h.in, "in", missed * h.interval},
		{&h.out, "out", missed * l.cfg.Heartbeat},
	} {
		if !d.up {
			continue
		}
		silent := d.quiet(now)
		if silent >= d.most {
			l.lost(now, d.direction, outage{silence, d.name, silent})
			continue
		}
		next = earliest(next, now.Add(d.most-silent))
	}
	return next
}

// tellHealth logs, records and passes on what has changed since its last call.
func (l *Link) tellHealth(now time.Time) {
	l.mu.Lock()
	h := &l.health
	up, since, changed, why := h.both(), h.since, h.changed, h.why
	h.changed = false
	tell := up != h.told && h.tells.pass(now, tellEvery, tellBurst)
	if tell {
		h.told = up
	}
	l.mu.Unlock()

	if tell && up {
		l.cfg.Log.Info("link up")
		if l.cfg.Recorder != nil {
			l.cfg.Recorder.LinkUp(since, l.cfg.Neighbour)
		}
	}
	if tell && !up {
		level, attrs := slog.LevelInfo, []slog.Attr{slog.String("reason", why.reason)}
		if why.reason == silence {
			level = slog.LevelWarn
			attrs = append(attrs, slog.String("direction", why.direction), slog.Duration("silent", why.silent))
		}
		l.cfg.Log.LogAttrs(context.Background(), level, "link down", attrs...)
		if l.cfg.Recorder != nil {
			l.cfg.Recorder.LinkDown(since, l.cfg.Neighbour, why.reason)
		}
	}
	if changed && l.cfg.Changed != nil {
		l.cfg.Changed(up)
	}
}

// Directions reports whether the neighbour's messages arrive here, and whether ours arrive there
// according to its acks. If either is true, the broker carries messages to this edge (H8).
func (l *Link) Directions() (in, out bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.in.up, l.health.out.up
}
