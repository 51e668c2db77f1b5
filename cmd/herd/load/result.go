package load

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Kind is the kind of a command.
type Kind uint8

const (
	IAMAT Kind = iota
	WHATSAT
	kinds
)

func (k Kind) String() string { return [...]string{"IAMAT", "WHATSAT"}[k] }

// Outcome is the outcome of a request.
type Outcome uint8

const (
	OK      Outcome = iota // the answer by C9 or C14
	Refused                // `? ` and the command echoed (C4)
	Wrong                  // an answer that breaks a rule
	Failed                 // no answer: the connection ended, and the request was not sent again
	outcomes
)

func (o Outcome) String() string { return [...]string{"ok", "refused", "wrong", "failed"}[o] }

// Counts counts requests by command and outcome.
type Counts [kinds][outcomes]uint64

// Of returns how many requests of all commands had this outcome.
func (c *Counts) Of(o Outcome) uint64 { return c[IAMAT][o] + c[WHATSAT][o] }

// Total returns how many requests have ended.
func (c *Counts) Total() uint64 {
	return c.Of(OK) + c.Of(Refused) + c.Of(Wrong) + c.Of(Failed)
}

// Latency is how long the answers to one command took, from when the request was due (so
// coordinated omission is counted) until the read that completed its answer. It is exact to a
// thousandth, or a microsecond.
type Latency struct {
	Count                              int64
	Mean, P50, P90, P99, P999, Maximum time.Duration
}

// Progress is the state of a run.
type Progress struct {
	Elapsed time.Duration
	Counts  Counts // since the start
	Deaths  uint64 // since the start
	Retries uint64 // since the start

	Rate    float64 // answers per second since the last Progress
	Latency Latency // of these answers
}

// Result is the result of a run.
type Result struct {
	Took    time.Duration
	Counts  Counts         // without requests cut off by ctx
	Latency [kinds]Latency // of all answers, whatever their outcome
	Deaths  uint64         // connections that ended early
	Retries uint64         // requests sent again after that

	// Lateness is how long after they were due requests were sent: the generator's own share
	// of the latencies, or the wait for room in the pipeline.
	Lateness Latency

	Gaps    []time.Duration // per connection, the longest time in which it waited for an answer and got none
	MaxGap  time.Duration   // the longest of these
	Samples []string        // some of the wrong answers, refusals and errors that ended connections
}

const (
	maxSamples = 8
	maxMicros  = 3_600_000_000 // latencies above an hour count as one
)

// sample is the end of one request, before it is counted.
type sample struct {
	kind    Kind
	outcome Outcome
	latency time.Duration
}

// recorder counts. Its methods may be called from any goroutine.
type recorder struct {
	gaps []time.Duration // set by Run, when all is over

	mu       sync.Mutex // guards everything below
	counts   Counts
	deaths   uint64
	retries  uint64
	recent   [kinds]*hdrhistogram.Histogram // since the last Progress
	total    [kinds]*hdrhistogram.Histogram // until the last Progress
	lateness *hdrhistogram.Histogram
	samples  []string
	last     struct { // state of the last Progress
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

// newHistogram returns a histogram of microseconds, which keeps it small.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, maxMicros, 3) }

func observe(h *hdrhistogram.Histogram, d time.Duration) {
	// The value is clamped to the range, so there can be no error.
	_ = h.RecordValue(min(max((d+time.Microsecond/2).Microseconds(), 0), maxMicros))
}

// take counts a batch of requests that have ended.
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

// late counts how late requests were sent.
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

// note keeps the first few messages for people to read.
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

// fold adds the recent histograms to the total. mu must be held.
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
