package edge

import (
	"sync/atomic"
	"time"

	"herd/edge/admin"
	"herd/edge/command"
)

// metrics are the durations that an edge keeps; counts are kept by the rooms.
type metrics struct {
	commands    [command.Verbs]*histogram
	propagation *histogram
	journal     *histogram
	older       *histogram
	watch       *histogram
}

func newMetrics() *metrics {
	m := &metrics{propagation: newHistogram(times, time.Nanosecond), journal: newHistogram(times, time.Nanosecond), watch: newHistogram(times, time.Nanosecond), older: newHistogram(ages, time.Millisecond)}
	for v := range m.commands {
		m.commands[v] = newHistogram(times, time.Nanosecond)
	}
	return m
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

// journalled takes a write that the journal acknowledged after so long.
func (m *metrics) journalled(took time.Duration) { m.journal.observe(1, max(0, took)) }

// told takes lines of a watch that were written so long after the oldest of the changes that they
// tell was stored.
func (m *metrics) told(after time.Duration) { m.watch.observe(1, max(0, after)) }

// times are upper bounds, inclusive, of what takes 10 µs to 10 s.
var times = []time.Duration{
	10 * time.Microsecond, 25 * time.Microsecond, 50 * time.Microsecond,
	100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
	time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond,
	10 * time.Millisecond, 25 * time.Millisecond, 50 * time.Millisecond,
	100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second,
}

// ages are upper bounds, inclusive, of what is a second to twenty years old. The week number
// of GPS begins anew every 1,024 weeks, which is 619,315,200 s.
var ages = []time.Duration{
	time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, time.Hour, 6 * time.Hour,
	day, 7 * day, 30 * day, 365 * day, 10 * 365 * day, 20 * 365 * day,
}

const day = 24 * time.Hour

// A histogram counts durations in buckets. Many may observe at once.
type histogram struct {
	bounds []time.Duration
	counts []atomic.Uint64 // not cumulative; the last is beyond all bounds
	unit   time.Duration   // of sum, which holds 2^63 of them: 292 years of nanoseconds
	sum    atomic.Int64
}

func newHistogram(bounds []time.Duration, unit time.Duration) *histogram {
	return &histogram{bounds: bounds, counts: make([]atomic.Uint64, len(bounds)+1), unit: unit}
}

// observe counts n durations that are the same.
func (h *histogram) observe(n uint64, d time.Duration) {
	i := 0
	for i < len(h.bounds) && d > h.bounds[i] {
		i++
	}
	h.counts[i].Add(n)
	h.sum.Add(int64(n) * int64(d/h.unit))
}

// snapshot is the histogram as the admin port writes it.
func (h *histogram) snapshot() admin.Histogram {
	s := admin.Histogram{Sum: float64(h.sum.Load()) / float64(time.Second/h.unit)}
	for i := range h.counts {
		n := h.counts[i].Load()
		if i < len(h.bounds) {
			s.Buckets, s.Counts = append(s.Buckets, h.bounds[i].Seconds()), append(s.Counts, n)
		}
		s.Count += n
	}
	return s
}
