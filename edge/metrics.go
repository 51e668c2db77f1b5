package edge

import (
	"sync/atomic"
	"time"

	"herd/edge/admin"
	"herd/edge/command"
)

// metrics are the durations that an edge keeps; counts are kept by the rooms.
type metrics struct {
	commands    [command.Verbs]histogram
	propagation histogram
}

// command takes n commands that took as long from receipt to answer.
func (m *metrics) command(v command.Verb, n int, took time.Duration) {
	m.commands[v].observe(uint64(n), took)
}

// propagated takes a line that was stored here so long after its receipt at its
// first edge. Clocks differ: what seems to come before it was sent counts as 0.
func (m *metrics) propagated(after time.Duration) {
	m.propagation.observe(1, max(0, after))
}

// bounds are the upper bounds of all histograms, inclusive: 10 µs to 10 s.
var bounds = [...]time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// A histogram counts durations in buckets. Many may observe at once.
type histogram struct {
	counts [len(bounds) + 1]atomic.Uint64 // not cumulative; the last is beyond all bounds
	sum    atomic.Int64                   // nanoseconds
}

func (h *histogram) observe(n uint64, d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(n)
	h.sum.Add(int64(n) * int64(d))
}

// snapshot is the histogram as the admin port writes it.
func (h *histogram) snapshot() admin.Histogram {
	s := admin.Histogram{Buckets: boundSeconds[:], Sum: time.Duration(h.sum.Load()).Seconds()}
	for i := range h.counts {
		n := h.counts[i].Load()
		if i < len(bounds) {
			s.Counts = append(s.Counts, n)
		}
		s.Count += n
	}
	return s
}

var boundSeconds = func() (s [len(bounds)]float64) {
	for i, b := range bounds {
		s[i] = b.Seconds()
	}
	return s
}()
