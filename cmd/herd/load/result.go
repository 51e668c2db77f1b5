package load

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Kind is a command.
type Kind uint8

const (
	IAMAT Kind = iota
	WHATSAT
	kinds
)

func (k Kind) String() string { return [...]string{"IAMAT", "WHATSAT"}[k] }

// Outcome is what became of a request.
type Outcome uint8

const (
	OK      Outcome = iota // the answer of C9 or C14
	Refused                // `? ` and the command (C4)
	Wrong                  // an answer that breaks a rule
	Failed                 // no answer: its connection ended, and it was not sent again
	outcomes
)

func (o Outcome) String() string { return [...]string{"ok", "refused", "wrong", "failed"}[o] }

// Counts are requests by command and outcome.
type Counts [kinds][outcomes]uint64

// Of returns how many requests of either command had this outcome.
func (c *Counts) Of(o Outcome) uint64 { return c[IAMAT][o] + c[WHATSAT][o] }

// Total returns how many requests came to an end.
func (c *Counts) Total() uint64 {
	return c.Of(OK) + c.Of(Refused) + c.Of(Wrong) + c.Of(Failed)
}

// Latency is how long answers of one command took, from when the request was due
// (coordinated omission is counted) until the read that completed its answer.
// It is exact to a thousandth, or a microsecond.
type Latency struct {
	Count                              int64
	Mean, P50, P90, P99, P999, Maximum time.Duration
}

// Progress is how a run goes.
type Progress struct {
	Elapsed time.Duration
	Counts  Counts // since the start
	Deaths  uint64 // since the start
	Retries uint64 // since the start

	Rate    float64 // answers a second since the last Progress
	Latency Latency // of those
}

// Result is what a run came to.
type Result struct {
	Took    time.Duration
	Counts  Counts         // what ctx cut off is in none of them
	Latency [kinds]Latency // of what was answered, however
	Deaths  uint64         // connections that ended before their time
	Retries uint64         // requests that were sent again after that

	// Lateness is how long after they were due requests were sent: the
	// generator's own part of the latencies, or the wait for a full pipeline.
	Lateness Latency

	Gaps    []time.Duration // the longest time in which each connection was owed an answer and got none
	MaxGap  time.Duration   // the longest of these
	Samples []string        // a few of the wrong answers, refusals and ends of connections, in words
}

const (
	maxSamples = 8
	maxMicros  = 3_600_000_000 // latencies above an hour count as one
)

// sample is one request's end, before it is counted.
type sample struct {
	kind    Kind
	outcome Outcome
	latency time.Duration
}

// recorder counts. Its methods may be called from any goroutine.
type recorder struct {
	gaps []time.Duration // of Run, when all is over

	mu       sync.Mutex // of all below
	counts   Counts
	deaths   uint64
	retries  uint64
	recent   [kinds]*hdrhistogram.Histogram // since the last Progress
	total    [kinds]*hdrhistogram.Histogram // until the last Progress
	lateness *hdrhistogram.Histogram
	samples  []string
	last     struct { // Progress
		at      time.Duration
		answers uint64
	}
}

func newRecorder(conns int) *recorder {
	r := &recorder{gaps: make([]time.Duration, conns), lateness: newHistogram()}
	for k := range r.total {
		r.recent[k], r.total[k] = newHistogram(), newHistogram()
	}
	return r
}

// newHistogram holds microseconds, so that it is small.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxMicros, 3) }

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// An error is a value out of range, which it cannot be.
	_ = h.RecordValue(min(max((d+time.Microsecond/2).Microseconds(), 0), maxMicros))
}

// take counts a batch of requests that came to an end.
func (r *recorder) take(batch []sample) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range batch {
		r.counts[s.kind][s.outcome]++
		if s.outcome != Failed {
			observe(r.recent[s.kind], s.latency)
		}
	}
}

// late counts requests that were sent so long after they were due.
func (r *recorder) late(batch []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range batch {
		observe(r.lateness, d)
	}
}

func (r *recorder) died() {
	r.mu.Lock()
	r.deaths++
	r.mu.Unlock()
}

func (r *recorder) retried(requests uint64) {
	r.mu.Lock()
	r.retries += requests
	r.mu.Unlock()
}

// note keeps the first few of what a person should read.
func (r *recorder) note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.samples) < maxSamples {
		r.samples = append(r.samples, fmt.Sprintf(format, args...))
	}
}

func (r *recorder) progress(elapsed time.Duration) Progress {
	r.mu.Lock()
	defer r.mu.Unlock()
	both := newHistogram()
	for _, h := range r.recent {
		both.Merge(h)
	}
	r.fold()
	p := Progress{Elapsed: elapsed, Counts: r.counts, Deaths: r.deaths, Retries: r.retries, Latency: latency(both)}
	answers := r.counts.Total() - r.counts.Of(Failed)
	if since := elapsed - r.last.at; since > 0 {
		p.Rate = float64(answers-r.last.answers) / since.Seconds()
	}
	r.last.at, r.last.answers = elapsed, answers
	return p
}

func (r *recorder) result(took time.Duration) *Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fold()
	result := &Result{
		Took: took, Counts: r.counts, Deaths: r.deaths, Retries: r.retries,
		Lateness: latency(r.lateness), Gaps: r.gaps, MaxGap: slices.Max(r.gaps), Samples: r.samples,
	}
	for k, h := range r.total {
		result.Latency[k] = latency(h)
	}
	return result
}

// fold adds what is recent to the total. mu is held.
func (r *recorder) fold() {
	for k, h := range r.recent {
		r.total[k].Merge(h)
		h.Reset()
	}
}

func latency(h *hdrhistogram.Histogram) Latency {
	at := func(percent float64) time.Duration {
		return time.Duration(h.ValueAtPercentile(percent)) * time.Microsecond
	}
	return Latency{
		Count: h.TotalCount(),
		Mean:  time.Duration(h.Mean() * float64(time.Microsecond)),
		P50:   at(50), P90: at(90), P99: at(99), P999: at(99.9),
		Maximum: time.Duration(h.Max()) * time.Microsecond,
	}
}
