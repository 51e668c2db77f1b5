package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"herd/edge/wire"
)

// ProbeConfig says what a Prober does. The zero value of a field means its default.
type ProbeConfig struct {
	Told  []string // client ports of edges that are told of probes, in turn
	Asked []string // client ports of edges that are asked for what others were told

	TLS  *tls.Config                                              // nil: plain TCP
	Dial func(ctx context.Context, addr string) (net.Conn, error) // makes the connections (as TLS says, over TCP)

	Rate    float64       // probes a second (10)
	Prefix  string        // ids are Prefix and a number below some thousand ("probe-")
	Timeout time.Duration // an edge that does not hold a probe after this has lost it (10 s)
}

// A Prober samples how long an update takes to the other edges: it tells one edge a
// position and asks the others until they answer with it. Beside a Generator its probes
// are updates like all others, on connections of their own.
//
// An edge is asked again after a fifth of a millisecond, or a tenth of the time that has
// passed if that is longer, so that the questions cost little. A time is therefore what the
// update took at the most: by a question's way there and back, and that pause.
type Prober struct {
	cfg     ProbeConfig
	ids     int // numbers in ids
	askers  []*asker
	telling sync.WaitGroup
	told    chan struct{} // closed when no probe comes any more

	mu      sync.Mutex // of all below
	probes  uint64
	failed  uint64
	all     *hdrhistogram.Histogram
	samples []string
}

// Propagation is what a Prober found. Times count from when a probe was sent, or was due
// if the edge was slow to answer the one before.
type Propagation struct {
	Probes  uint64            // that an edge took
	Failed  uint64            // that none did
	Edges   []EdgePropagation // one for each that was to be asked for what another was told
	All     Latency           // until the last edge held a probe; without those that one lost
	Samples []string          // a few of the refusals and ends of connections, in words
}

// EdgePropagation is how an edge got to know what others were told.
type EdgePropagation struct {
	Addr    string
	Lost    uint64 // probes that it did not hold in time
	Latency Latency
}

// probe is one update on its way. Its fields below left are guarded by Prober.mu.
type probe struct {
	client int
	stamp  int64
	from   time.Time
	left   int // edges that do not hold it yet
	lost   bool
}

const (
	leastPause = 200 * time.Microsecond // between two questions for a probe
	pausePart  = 10                     // … or this part of the time that it has taken
	redialWait = 100 * time.Millisecond
)

// NewProber checks cfg and fills in its defaults. It does not connect.
func NewProber(cfg ProbeConfig) (*Prober, error) {
	cfg.Rate = or(cfg.Rate, 10)
	cfg.Prefix = or(cfg.Prefix, "probe-")
	cfg.Timeout = or(cfg.Timeout, 10*time.Second)
	if cfg.Dial == nil {
		secure := cfg.TLS
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr, secure) }
	}
	switch {
	case len(cfg.Told) == 0:
		return nil, errors.New("no address to tell of probes")
	case !(cfg.Rate > 0 && cfg.Rate <= 1000):
		return nil, errors.New("rate of probes is not up to 1000 a second")
	case cfg.Timeout < 0:
		return nil, errors.New("timeout cannot be negative")
	}
	if err := checkPrefix(cfg.Prefix, 1e6); err != nil {
		return nil, err
	}
	// No two probes on their way have the same id.
	p := &Prober{cfg: cfg, ids: max(1000, int(2*cfg.Rate*cfg.Timeout.Seconds())), told: make(chan struct{}), all: newHistogram()}
	for _, addr := range cfg.Asked {
		if !slices.ContainsFunc(cfg.Told, func(told string) bool { return told != addr }) {
			continue // there is no other whose probes it could be asked for
		}
		p.askers = append(p.askers, &asker{p: p, addr: addr, kick: make(chan struct{}, 1), times: newHistogram()})
	}
	return p, nil
}

// Run tells of probes until done is closed, and asks for them until all have come or are
// lost, or ctx ends. The result is never nil. It is used once.
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
	result := &Propagation{Probes: p.probes, Failed: p.failed, All: latency(p.all), Samples: p.samples}
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

// client dials an address, in Timeout at the most.
func (p *Prober) client(ctx context.Context, addr string) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, p.cfg.Timeout)
	defer cancel()
	nc, err := p.cfg.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	return &Client{nc: nc, in: answers{from: nc}}, nil
}

// teller tells one edge of its share of the probes.
type teller struct {
	p          *Prober
	addr       string
	next, step int // number of the next probe's id, and how far to the one after it
	client     *Client
	line       []byte
}

func (t *teller) run(ctx context.Context, done <-chan struct{}, due time.Time, every time.Duration) {
	defer func() {
		if t.client != nil {
			t.client.Close()
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
			from = time.Now() // a timer that is late is no edge's fault
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
	if t.client == nil {
		if t.client, err = t.p.client(ctx, t.addr); err != nil {
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
		t.client.Close()
		t.client = nil
	}
	t.p.mu.Lock()
	defer t.p.mu.Unlock()
	if err != nil {
		pr.lost = true // wherever it got to
		return err
	}
	t.p.probes++
	return nil
}

func (t *teller) exchange(ctx context.Context, pr *probe) ([]byte, error) {
	if err := t.client.Send(t.line); err != nil {
		return nil, err
	}
	if err := t.client.Flush(ctx); err != nil {
		return nil, err
	}
	// The others are asked while the answer is on its way.
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
	return t.client.Receive(ctx)
}

// question is a probe that an edge does not hold yet.
type question struct {
	*probe
	next time.Time // when to ask again
}

// asker asks one edge for the probes of all others.
type asker struct {
	p      *Prober
	addr   string
	kick   chan struct{}
	client *Client

	// Guarded by Prober.mu.
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
		if a.client != nil {
			a.client.Close()
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
				if a.client != nil {
					a.client.Close()
					a.client = nil
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

// due drops what is lost and returns what to ask for now, or when to.
func (a *asker) due(now time.Time) (due []question, next time.Time) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.pending = slices.DeleteFunc(a.pending, func(q question) bool {
		if !q.lost && now.Sub(q.from) >= a.p.cfg.Timeout {
			a.lost++
			q.left = -1 // it will not be held by all
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

// later puts questions off.
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

// ask asks for probes at once, and notes which the edge holds.
func (a *asker) ask(ctx context.Context, due []question) (err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, a.p.cfg.Timeout, fmt.Errorf("no answer within %v", a.p.cfg.Timeout))
	defer cancel()
	if a.client == nil {
		if a.client, err = a.p.client(ctx, a.addr); err != nil {
			return err
		}
	}
	for _, q := range due {
		line := appendClient([]byte("WHATSAT "), a.p.cfg.Prefix, q.client)
		if err := a.client.Send(append(line, " 0 0"...)); err != nil { // C12: only where it is
			return err
		}
	}
	if err := a.client.Flush(ctx); err != nil {
		return err
	}
	for _, q := range due {
		answer, err := a.client.Receive(ctx)
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

// held notes that the edge holds a probe.
func (a *asker) held(pr *probe, after time.Duration) {
	a.p.mu.Lock()
	defer a.p.mu.Unlock()
	a.pending = slices.DeleteFunc(a.pending, func(q question) bool { return q.probe == pr })
	observe(a.times, after)
	if pr.left--; pr.left == 0 {
		observe(a.p.all, after) // the last is the slowest
	}
}
