package edge

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"herd/edge/admin"
	"herd/edge/command"
	"herd/edge/config"
	"herd/edge/position"
	"herd/edge/watch"
	"herd/edge/wire"
)

// makeWatches makes what live questions are followed with, unless HERD_LIVE is off (L).
func (e *Edge) makeWatches() {
	if e.cfg.Live != config.LiveOn {
		return
	}
	e.watches = watch.New(watch.Config{
		Table: e.table, PerConn: e.cfg.Watches, Members: e.cfg.WatchMembers, Total: e.cfg.WatchTotal,
		// A clock that steps must not end watches as slow.
		Now:     func() int64 { return int64(time.Since(e.start)) + e.start.UnixNano() },
		Past:    func() int64 { return e.retention(time.Now()) },
		Observe: e.times.told,
	})
}

// questions is who answers live questions for commands; a nil interface where HERD_LIVE is off.
func (e *Edge) questions() command.Live {
	if e.watches == nil {
		return nil
	}
	return &live{e: e, searches: sync.Pool{New: func() any { return new(position.Search) }}}
}

// live answers live questions in the words of commands.
type live struct {
	e        *Edge
	searches sync.Pool // of *position.Search
}

func (l *live) Near(dst []byte, q *wire.WHOSAT, sees command.Sees, yield func()) (lines []byte, known bool) {
	s := l.searches.Get().(*position.Search)
	defer l.searches.Put(s)
	s.Sees = sees
	now := func() int64 { return l.e.retention(time.Now()) }
	if !s.Begin(l.e.table, q.Client, q.Radius, q.Max, now()) {
		return dst, false
	}
	for !s.Step(now()) {
		yield()
	}
	return s.Append(dst), true
}

func (l *live) Open(from netip.Addr, sees command.Sees, wake func()) command.Watcher {
	return watcher{l.e.watches.OpenFor(from, sees, wake)}
}

// watcher is a connection's watches in the words of commands.
type watcher struct{ *watch.Watcher }

func (w watcher) Watch(m *wire.WATCH) command.Outcome {
	switch err := w.Watcher.Watch(m); {
	case err == nil:
		return command.OK
	case errors.Is(err, watch.ErrMany):
		return command.Full
	case errors.Is(err, watch.ErrInUse):
		return command.Taken
	default:
		return command.Invalid
	}
}

func (w watcher) Unwatch(name []byte) command.Outcome {
	if w.Watcher.Unwatch(name) != nil {
		return command.Unknown
	}
	return command.OK
}

// liveMetrics is what watches have counted; nil where HERD_LIVE is off.
func (e *Edge) liveMetrics() *admin.LiveMetrics {
	if e.watches == nil {
		return nil
	}
	s := e.watches.Stats()
	m := &admin.LiveMetrics{Watches: s.Watches, Members: s.Members, Marked: s.Marked, Told: map[string]uint64{}, Ended: map[string]uint64{}, Seconds: e.times.watch.snapshot()}
	for event, name := range map[wire.Event]string{wire.EventIn: "in", wire.EventAt: "at", wire.EventOut: "out", wire.EventNow: "now", wire.EventOff: "off"} {
		m.Told[name] = s.Told[event]
	}
	for reason, name := range map[int]string{watch.EndFull: "full", watch.EndSlow: "slow", watch.EndStopping: "stopping", watch.EndUnwatch: "unwatch", watch.EndClosed: "closed"} {
		m.Ended[name] = s.Ended[reason]
	}
	return m
}
