package link

import (
	"sync/atomic"
	"time"
)

// counters are the counters of a link since the start; see Stats.
type counters struct {
	sentLines, receivedLines, duplicateLines, refusedLines, putOff, unsendable, rewinds, downs atomic.Uint64
	sentMessages, receivedMessages, sentBytes, receivedBytes                                   atomic.Uint64
}

// Stats is the state of a link at one moment.
type Stats struct {
	Neighbour string
	Up        bool          // in both directions (H8)
	In, Out   bool          // see Link.Directions
	Lag       uint64        // revisions that the neighbour has not acknowledged
	Epoch     string        // the neighbour's, from its acks; "": none has come
	Acked     uint64        // through this revision that epoch has acknowledged our stream
	RoundTrip time.Duration // from message to ack, smoothed; 0: none yet, or Out is false
	// Clock is the neighbour's clock minus ours. It is too low by the time that a heartbeat
	// takes. It is 0 while In is false.
	Clock     time.Duration
	DownSince time.Time // when the link went down; zero: it is up, or never was
	Since     time.Time // when In or Out last changed; zero: neither ever did
	InSince   time.Time // when In last changed; zero: never
	OutSince  time.Time // when Out last changed; zero: never
	Why       string    // why the link went down, in words; "": it is up, or never was
	// Since the start:
	SentLines, ReceivedLines, DuplicateLines, RefusedLines, Rewinds, Downs uint64

	SentMessages, ReceivedMessages uint64 // with heartbeats and good-byes, without acks
	SentBytes, ReceivedBytes       uint64 // of the lines in these messages

	PutOff     uint64 // received lines too far ahead of this edge's clock, repeats counted (H9)
	Unsendable uint64 // lines too long for a message, repeats counted (H5)
}

// Stats returns the present state of the link. It may be called from any goroutine.
func (l *Link) Stats() Stats {
	head := l.table.Head()
	l.mu.Lock()
	defer l.mu.Unlock()
	s := Stats{
		Neighbour:      l.cfg.Neighbour,
		Up:             l.health.both(),
		In:             l.health.in.up,
		Out:            l.health.out.up,
		Since:          l.health.since,
		InSince:        l.health.in.changed,
		OutSince:       l.health.out.changed,
		Epoch:          l.send.to,
		Acked:          l.send.acked,
		SentLines:      l.count.sentLines.Load(),
		ReceivedLines:  l.count.receivedLines.Load(),
		DuplicateLines: l.count.duplicateLines.Load(),
		RefusedLines:   l.count.refusedLines.Load(),
		Rewinds:        l.count.rewinds.Load(),
		Downs:          l.count.downs.Load(),
		PutOff:         l.count.putOff.Load(),
		Unsendable:     l.count.unsendable.Load(),

		SentMessages:     l.count.sentMessages.Load(),
		ReceivedMessages: l.count.receivedMessages.Load(),
		SentBytes:        l.count.sentBytes.Load(),
		ReceivedBytes:    l.count.receivedBytes.Load(),
	}
	// A value from before a direction went down says nothing about the present.
	if s.Out {
		s.RoundTrip = l.send.roundTrip
	}
	if s.In {
		s.Clock = l.health.clock
	}
	if !s.Up {
		s.DownSince, s.Why = l.health.downSince, l.health.why.String()
	}
	if head > l.send.acked {
		s.Lag = head - l.send.acked
	}
	return s
}

// Clock returns the neighbour's clock from its last heartbeat, in Unix nanoseconds, and when that
// heartbeat came. ok is false if the in direction is down, or no heartbeat with a clock has come
// for three heartbeats (H8). It may be called from any goroutine.
func (l *Link) Clock(now time.Time) (wall int64, at time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := &l.health
	return h.clockTold, h.clockAt, h.in.up && !h.clockAt.IsZero() && now.Sub(h.clockAt) < missed*h.interval
}
