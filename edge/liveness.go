package edge

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// An edge is not alive where something that serves all hangs, so that only a new start
// helps. Each such thing is asked to come by, every beatEvery; one that has not done so for
// beatsMissed of them hangs. Beats are counted, not time: on a host that was paused, or
// that is slow, who counts was paused as well.
const (
	beatEvery   = 5 * time.Second
	beatsMissed = 6
)

// A pulse is one thing that has to come by.
type pulse struct {
	name  string
	due   func() bool                     // whether it runs by now; nil: always
	visit func(ctx context.Context) error // returns when it has come by, or with ctx

	asked   chan struct{}
	waiting atomic.Bool // asked, and has not come by
	missed  int         // beats since it was asked
}

// A liveness watches over pulses.
type liveness struct {
	every  time.Duration
	pulses []*pulse
	hangs  atomic.Pointer[string] // what, in words; nil: nothing
}

func newLiveness(pulses ...*pulse) *liveness {
	for _, p := range pulses {
		p.asked = make(chan struct{}, 1)
	}
	return &liveness{every: beatEvery, pulses: pulses}
}

// live says whether nothing hangs, and else what does.
func (l *liveness) live() (ok bool, why string) {
	if hangs := l.hangs.Load(); hangs != nil {
		return false, *hangs
	}
	return true, ""
}

// run watches until ctx ends.
func (l *liveness) run(ctx context.Context) error {
	var visiting sync.WaitGroup
	defer visiting.Wait()
	for _, p := range l.pulses {
		visiting.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case <-p.asked:
				}
				if p.visit(ctx) == nil {
					p.waiting.Store(false)
				}
			}
		})
	}
	tick := time.NewTicker(l.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			l.beat()
		}
	}
}

// beat looks who has come by since the last beat, and asks anew.
func (l *liveness) beat() {
	var hang []string
	for _, p := range l.pulses {
		switch {
		case p.waiting.Load():
			p.missed++
		case p.due == nil || p.due():
			p.missed = 0
			p.waiting.Store(true)
			p.asked <- struct{}{} // it has taken the last
		default:
			p.missed = 0
		}
		if p.missed >= beatsMissed {
			hang = append(hang, p.name)
		}
	}
	if len(hang) == 0 {
		l.hangs.Store(nil)
		return
	}
	text := strings.Join(hang, ", ") + " hangs"
	l.hangs.Store(&text)
}

// pulses are what an edge cannot do without.
func (e *Edge) pulses() []*pulse {
	return []*pulse{
		{name: "the table", visit: func(context.Context) error { e.table.Stats(); return nil }},
		{name: "the links' loop", due: func() bool { return isClosed(e.made) && !isClosed(e.stopping) }, visit: func(ctx context.Context) error { return e.linked.ComeBy(ctx) }},
		{name: "the client port", due: func() bool { return e.isReady() && !isClosed(e.stopping) }, visit: e.server.ComeBy},
	}
}
