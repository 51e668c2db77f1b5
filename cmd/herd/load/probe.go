package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"herd/edge/client"
	"herd/edge/wire"
)

// ProbeConfig configures a Prober. The zero value of a field means its default, shown in
// parentheses.
type ProbeConfig struct {
	Told  []string // client ports of the edges to which probes are reported, in turn
	Asked []string // client ports of the edges that are asked for probes reported to others

	TLS  *tls.Config   // nil: plain TCP
	Dial client.Dialer // makes the connections (default: over TCP, with TLS if set)

	Rate    float64       // probes per second (10)
	Prefix  string        // ids are Prefix and a number up to a few thousand ("probe-")
	Timeout time.Duration // after this time a probe that an edge does not hold is lost there (10 s)
}

// A Prober samples how long an update takes to reach other edges: it reports a position to
// one edge and asks the others until they answer with it. Next to a Generator its probes are
// ordinary updates, on connections of their own.
//
// To keep the questions cheap, an edge is asked again after 200 µs, or after a tenth of the
// time that has passed if that is longer. A measured time is therefore an upper bound: it may
// exceed the real one by this pause and by a question's round trip.
type Prober struct {
	cfg     ProbeConfig
	ids     int // how many numbers ids have
	askers  []*asker
	telling sync.WaitGroup
	told    chan struct{} // closed when there will be no more probes

	mu      sync.Mutex // guards everything below
	probes  uint64
	failed  uint64
	all     *hdrhistogram.Histogram
	samples []string
	lost    uint64 // probes lost at some edge
}

// Propagation is the result of a Prober. Times count from when a probe was sent, or from when
// it was due if the edge was slow to answer the one before.
type Propagation struct {
	Probes  uint64            // accepted by an edge
	Failed  uint64            // not accepted
	Edges   []EdgePropagation // one per edge that was asked
	All     Latency           // until the last edge held a probe, without lost ones
	AllLost uint64            // probes that some edge did not hold in time
	Samples []string          // some of the refusals and of the errors that ended connections
}

// EdgePropagation is how fast one edge learned what was reported to others.
type EdgePropagation struct {
	Addr    string
	Lost    uint64 // probes that the edge did not hold in time
	Latency Latency
}

// probe is one update on its way. Prober.mu guards its fields from left on.
type probe struct {
	client int
	stamp  int64
	from   time.Time
	left   int // edges that do not hold it yet
	lost   bool
}

const (
	leastPause = 200 * time.Microsecond // between two questions for a probe
	pausePart  = 10                     // or this fraction of the time so far
	redialWait = 100 * time.Millisecond
)

// NewProber checks cfg and fills in its defaults. It does not connect.
func NewProber(cfg ProbeConfig) (*Prober, error) {
	cfg.Rate = or(cfg.Rate, 10)
	cfg.Prefix = or(cfg.Prefix, "probe-")
	cfg.Timeout = or(cfg.Timeout, 10*time.Second)
	if cfg.Dial == nil {
		cfg.Dial = client.NewDialer(cfg.TLS)
	}
	switch {
	case len(cfg.Told) == 0:
		return nil, errors.New("no address to send probes to")
	case !(cfg.Rate > 0 && cfg.Rate <= 1000):
		return nil, errors.New("rate of probes is over 1000 per second")
	case cfg.Timeout < 0:
		return nil, errors.New("timeout cannot be negative")
	}
	if err := checkPrefix(cfg.Prefix, 1e6); err != nil {
		return nil, err
	}
	// No two probes under way have the same id.
	p := &Prober{cfg: cfg, ids: max(1000, int(2*cfg.Rate*cfg.Timeout.Seconds())), told: make(chan struct{}), all: newHistogram()}
	for _, addr := range cfg.Asked {
		if !slices.ContainsFunc(cfg.Told, func(told string) bool { return told != addr }) {
			continue // there is no other edge whose probes it could be asked for
		}
		p.askers = append(p.askers, &asker{p: p, addr: addr, kick: make(chan struct{}, 1), times: newHistogram()})
	}
	return p, nil
}

// Run sends probes until done is closed, and asks for them until all have arrived or are
// lost, or ctx ends. The result is never nil. It can be called once.
func (p *Prober) Run(ctx context.Context, done <-chan struct{}) *Propagation {
	start := time.Now()
	every := time.Duration(float64(len(p.cfg.Told)) / p.cfg.Rate * float64(time.Second))
	var asking sync.WaitGroup
	for _, a := range p.askers {
		asking.Go(func() { a.run(ctx) })
	}
	for i, addr := range p.cfg.Told {
		t := teller{p: p, addr: addr, next: i, step: len(p.cfg.Told)}
		first := start.Add(every * time.Duration(i) / time.Duration(len(p.cfg.Told)))
		p.telling.Go(func() { t.run(ctx, done, first, every) })
	}
	p.telling.Wait()
	close(p.told)
	asking.Wait()

	p.mu.Lock()
	defer p.mu.Unlock()
	result := &Propagation{Probes: p.probes, Failed: p.failed, All: latency(p.all), AllLost: p.lost, Samples: p.samples}
	for _, a := range p.askers {
		result.Edges = append(result.Edges, EdgePropagation{Addr: a.addr, Lost: a.lost, Latency: latency(a.times)})
	}
	return result
}

func (p *Prober) note(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.samples) < maxSamples {
		p.samples = append(p.samples, fmt.Sprintf(format, args...))
	}
}

// dial connects to an address within Timeout.
func (p *Prober) dial(ctx context.Context, addr string) (*client.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	nc, err := p.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return client.NewConn(nc, 0), nil
}

// teller reports its share of the probes to one edge.
type teller struct {
	p          *Prober
	addr       string
	next, step int // number in the next probe's id, and the step to the one after it
	conn       *client.Conn
	line       []byte
}

func (t *teller) run(ctx context.Context, done <-chan struct{}, due time.Time, every time.Duration) {
	defer func() {
		if t.conn != nil {
			t.conn.Close()
		}
	}()
	for ; ; due = due.Add(every) {
		from := due
		if wait := time.Until(due); wait > 0 {
			select {
			case <-ctx.Done():
				return
			case <-done:
				return
			case <-time.After(wait):
			}
			from = time.Now() // a late timer must not count against the edge
		}
		select {
		case <-ctx.Done():
			return
		case <-done:
			return
		default:
		}
		if err := t.tell(ctx, from); err != nil && ctx.Err() == nil {
			t.p.mu.Lock()
			t.p.failed++
			t.p.mu.Unlock()
			t.p.note("tell %s: %v", t.addr, err)
		}
	}
}

// tell sends one probe and waits for its answer.
func (t *teller) tell(ctx context.Context, from time.Time) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, t.p.cfg.Timeout, fmt.Errorf("no answer within %v", t.p.cfg.Timeout))
	defer cancel()
	if t.conn == nil {
		if t.conn, err = t.p.dial(ctx, t.addr); err != nil {
			return err
		}
		from = time.Now()
	}
	pr := &probe{client: t.next % t.p.ids, from: from}
	t.next += t.step
	w := newWalker(pr.client)
	w.step(time.Now().UnixNano())
	pr.stamp = w.stamp
	t.line = w.appendIAMAT(t.line[:0], t.p.cfg.Prefix, pr.client)
	answer, err := t.exchange(ctx, pr)
	if err == nil && !bytes.HasPrefix(answer, atWord) {
		err = fmt.Errorf("refused: %.200q", answer)
	} else if err != nil {
		t.conn.Close()
		t.conn = nil
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err != nil {
		pr.lost = true // whichever edges it reached
		return err
	}
	t.p.probes++
	return nil
}

func (t *teller) exchange(ctx context.Context, pr *probe) ([]byte, error) {
	if err := t.conn.Send(t.line); err != nil {
		return nil, err
	}
	if err := t.conn.Flush(ctx); err != nil {
		return nil, err
	}
	// The other edges are asked while the answer is on its way.
	t.p.mu.Lock()
	var asked []*asker
	for _, a := range t.p.askers {
		if a.addr != t.addr {
			asked = append(asked, a)
		}
	}
	pr.left = len(asked)
	for _, a := range asked {
		a.pending = append(a.pending, question{probe: pr})
	}
	t.p.mu.Unlock()
	for _, a := range asked {
		a.wake()
	}
	return t.conn.Receive(ctx)
}

// question is a probe that an edge does not hold yet.
type question struct {
	*probe
	next time.Time // when to ask again
}

// asker asks one edge for the probes reported to all others.
type asker struct {
	p    *Prober
	addr string
	kick chan struct{}
	conn *client.Conn

	// Guarded by Prober.mu:
	pending []question
	times   *hdrhistogram.Histogram
	lost    uint64
}

func (a *asker) wake() {
	select {
	case a.kick <- struct{}{}:
	default:
	}
}

func (a *asker) run(ctx context.Context) {
	defer func() {
		if a.conn != nil {
			a.conn.Close()
		}
	}()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	told := a.p.told
	for {
		due, next := a.due(time.Now())
		if len(due) > 0 {
			if err := a.ask(ctx, due); err != nil && ctx.Err() == nil {
				a.p.note("ask %s: %v", a.addr, err)
				if a.conn != nil {
					a.conn.Close()
					a.conn = nil
				}
				a.later(due, redialWait)
			}
			if ctx.Err() == nil {
				continue
			}
		}
		var again <-chan time.Time
		if !next.IsZero() {
			timer.Reset(time.Until(next))
			again = timer.C
		} else if told == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-told:
			told = nil
		case <-a.kick:
		case <-again:
		}
	}
}

// due drops lost probes and returns which to ask for now, or else when to ask next.
func (a *asker) due(now time.Time) (due []question, next time.Time) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.pending = slices.DeleteFunc(a.pending, func(q question) bool {
		if !q.lost && now.Sub(q.from) >= a.p.cfg.Timeout {
			a.lost++
			if q.left > 0 {
				a.p.lost++
			}
			q.left = -1 // not all edges will hold it
			return true
		}
		return q.lost
	})
	for _, q := range a.pending {
		if !q.next.After(now) {
			due = append(due, q)
		} else if next.IsZero() || q.next.Before(next) {
			next = q.next
		}
	}
	return due, next
}

// later postpones questions.
func (a *asker) later(asked []question, least time.Duration) {
	now := time.Now()
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	for i := range a.pending {
		q := &a.pending[i]
		if slices.ContainsFunc(asked, func(other question) bool { return other.probe == q.probe }) {
			q.next = now.Add(max(least, now.Sub(q.from)/pausePart))
		}
	}
}

// ask asks for all due probes at once, and records which of them the edge holds.
func (a *asker) ask(ctx context.Context, due []question) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.p.cfg.Timeout, fmt.Errorf("no answer within %v", a.p.cfg.Timeout))
	defer cancel()
	if a.conn == nil {
		if a.conn, err = a.p.dial(ctx, a.addr); err != nil {
			return err
		}
	}
	for _, q := range due {
		line := appendClient([]byte("WHATSAT "), a.p.cfg.Prefix, q.client)
		if err := a.conn.Send(append(line, " 0 0"...)); err != nil { // C12: asks for the position only
			return err
		}
	}
	if err := a.conn.Flush(ctx); err != nil {
		return err
	}
	for _, q := range due {
		answer, err := a.conn.Receive(ctx)
		if err != nil {
			return err
		}
		at, err := wire.ParseAT(answer[:bytes.IndexByte(answer, '\n')])
		if err == nil && at.Stamp >= q.stamp {
			a.held(q.probe, time.Since(q.from))
		}
	}
	a.later(due, leastPause)
	return nil
}

// held records that the edge holds a probe.
func (a *asker) held(pr *probe, after time.Duration) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.pending = slices.DeleteFunc(a.pending, func(q question) bool { return q.probe == pr })
	observe(a.times, after)
	if pr.left < 0 {
		return // it is lost at another edge
	}
	if pr.left--; pr.left == 0 {
		observe(a.p.all, after) // the last edge is the slowest
	}
}
