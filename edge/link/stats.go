package link

import (
	"sync/atomic"
	"time"
)

// counters are what the link counts as it goes.
type counters struct {
	sentLines, receivedLines, duplicateLines, refusedLines, rewinds, downs atomic.Uint64
}

// Stats is a link at a glance.
type Stats struct {
	Neighbour string
	Up        bool
	Lag       uint64        // revisions that the neighbour has not acknowledged
	RoundTrip time.Duration // from message to ack, smoothed; 0 before the first
	Clock     time.Duration // the neighbour's clock less ours; off by the way of a heartbeat
	// Since the start:
	SentLines, ReceivedLines, DuplicateLines, RefusedLines, Rewinds, Downs uint64
}

// Stats may be called from any goroutine.
func (l *Link) Stats() Stats {
	head := l.table.Head()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Neighbour: l.cfg.Neighbour,
		Up:        l.health.up,
		RoundTrip: l.send.roundTrip,
		Clock:     l.health.clock,

		SentLines:      l.count.sentLines.Load(),
		ReceivedLines:  l.count.receivedLines.Load(),
		DuplicateLines: l.count.duplicateLines.Load(),
		RefusedLines:   l.count.refusedLines.Load(),
		Rewinds:        l.count.rewinds.Load(),
		Downs:          l.count.downs.Load(),
	}
	if head > l.send.acked {
		s.Lag = head - l.send.acked
	}
	return s
}

// Up says whether the link is up (H8).
func (l *Link) Up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.health.up
}
