package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"herd/edge/client"
	"herd/edge/wire"
)

// Config configures a Generator. The zero value of a field means its default, shown in
// parentheses.
type Config struct {
	Addrs []string    // client ports of edges, HOST:PORT; connection i begins at Addrs[i % len(Addrs)]
	TLS   *tls.Config // nil: plain TCP

	// Dial makes the connections (default: over TCP, with TLS if set).
	Dial client.Dialer

	Conns    int // connections (1)
	Pipeline int // maximum unanswered commands per connection (64)

	// Rate is how many requests per second are due over all connections, in an open loop:
	// they are due whether or not earlier ones were answered. 0 means a closed loop: every
	// connection always has Pipeline commands under way.
	Rate float64

	Duration time.Duration // no more requests after this; 0: no limit
	Requests uint64        // maximum number of requests; 0: no limit

	Clients int    // number of ids (1000); each belongs to one connection if there are at least as many ids as connections
	Prefix  string // ids are Prefix and a number from 0 ("load-")

	// WhatsatShare is the fraction of requests, 0 to 1, that are WHATSAT for a client which
	// the same connection has reported before. With 1 there are no reports.
	WhatsatShare float64
	Radius, Max  string // operands of WHATSAT ("10", "5")

	// Timeout ends a connection that takes longer to send an answer or to accept commands (10
	// s).
	Timeout time.Duration

	// MaxSkew is how far an edge's clock may differ from this machine's (1 min).
	MaxSkew time.Duration

	// Reconnect: a connection that ends is replaced by one to the next of Addrs, and
	// unanswered requests are sent again there, in order. Without Reconnect they fail, and
	// the connection makes no more requests.
	Reconnect bool

	// OnAnswer is called with every answer on the goroutine of its connection, which waits
	// for it. Answers of one connection come in order.
	OnAnswer func(Answer)

	// Progress is called about every ProgressEvery (1 s) while Run runs, from one goroutine.
	Progress      func(Progress)
	ProgressEvery time.Duration
}

// Answer is one answer to one request. Its slices are valid until OnAnswer returns.
type Answer struct {
	Kind     Kind
	Outcome  Outcome
	Conn     int    // counted from 0
	Addr     string // where the answer came from
	Client   int    // the number in the id
	Command  []byte // as sent, with its LF
	Text     []byte // as received, with its line ends
	Latency  time.Duration
	Received time.Time
}

// Generator makes requests as its Config says. It can be used once.
type Generator struct {
	cfg    Config
	start  time.Time
	taken  atomic.Uint64 // requests started, in a closed loop
	record *recorder
}

// New checks cfg and fills in its defaults. It neither changes cfg nor connects.
func New(cfg Config) (*Generator, error) {
	cfg.Conns = or(cfg.Conns, 1)
	cfg.Pipeline = or(cfg.Pipeline, 64)
	cfg.Clients = or(cfg.Clients, 1000)
	cfg.Prefix = or(cfg.Prefix, "load-")
	cfg.Radius = or(cfg.Radius, "10")
	cfg.Max = or(cfg.Max, "5")
	cfg.Timeout = or(cfg.Timeout, 10*time.Second)
	cfg.MaxSkew = or(cfg.MaxSkew, time.Minute)
	cfg.ProgressEvery = or(cfg.ProgressEvery, time.Second)
	if cfg.Dial == nil {
		cfg.Dial = client.NewDialer(cfg.TLS)
	}
	switch {
	case len(cfg.Addrs) == 0:
		return nil, errors.New("no address to load")
	case cfg.Conns < 0 || cfg.Pipeline < 0 || cfg.Clients < 0:
		return nil, errors.New("connections, pipeline and clients cannot be negative")
	case !(cfg.Rate >= 0 && cfg.Rate <= 1e9):
		return nil, errors.New("rate is not between 0 and 1e9 requests per second")
	case cfg.Duration < 0 || cfg.Timeout < 0 || cfg.MaxSkew < 0 || cfg.ProgressEvery < 0:
		return nil, errors.New("durations cannot be negative")
	case !(cfg.WhatsatShare >= 0 && cfg.WhatsatShare <= 1):
		return nil, errors.New("share of WHATSAT is not between 0 and 1")
	}
	if _, err := wire.ParseWHATSAT([]byte(" x " + cfg.Radius + " " + cfg.Max)); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	if err := checkPrefix(cfg.Prefix, cfg.Clients); err != nil {
		return nil, err
	}
	return &Generator{cfg: cfg, record: newRecorder(cfg.Conns)}, nil
}

// checkPrefix checks that the prefix makes valid ids with numbers up to this one (C6).
func checkPrefix(prefix string, number int) error {
	longest := appendClient(nil, prefix, number)
	if len(longest) > 1024 || bytes.ContainsFunc(longest, func(r rune) bool { return r < 128 && wire.IsSpace(byte(r)) }) {
		return errors.New("prefix holds white space, or makes ids longer than 1024 bytes")
	}
	return nil
}

func or[T comparable](value, otherwise T) T {
	var zero T
	if value == zero {
		return otherwise
	}
	return value
}

// Run connects, then makes requests until ctx ends or all is done: every request is made, and
// answered or given up. Time counts from when all connections are made. The Result is never
// nil. The error is that of a connection that could not be made at the start or, without
// Reconnect, that ended early.
func (g *Generator) Run(ctx context.Context) (*Result, error) {
	conns, err := g.connect(ctx)
	g.start = time.Now()
	if err != nil {
		for _, c := range conns {
			c.hangUp()
		}
		return g.record.result(0), err
	}
	var wg sync.WaitGroup
	for _, c := range conns {
		wg.Go(func() { c.run(ctx) })
	}
	done := make(chan struct{})
	var progress sync.WaitGroup
	progress.Go(func() { g.progress(done) })
	wg.Wait()
	took := g.now()
	close(done)
	progress.Wait()

	var errs []error
	for i, c := range conns {
		g.record.gaps[i] = c.gap
		if c.err != nil && len(errs) < maxSamples {
			errs = append(errs, c.err)
		}
	}
	return g.record.result(took), errors.Join(errs...)
}

// connect makes all connections, a few at a time, so that handshakes do not count as latency.
// With Reconnect, one that fails is tried again later.
func (g *Generator) connect(ctx context.Context) ([]*conn, error) {
	conns := make([]*conn, g.cfg.Conns)
	next := make(chan *conn)
	failed := make(chan error, len(conns))
	var wg sync.WaitGroup
	for range min(64, len(conns)) {
		wg.Go(func() {
			for c := range next {
				if err := c.dial(ctx); err != nil && !g.cfg.Reconnect {
					failed <- err
				}
			}
		})
	}
	for i := range conns {
		conns[i] = newConn(g, i)
		if len(failed) == 0 {
			next <- conns[i]
		}
	}
	close(next)
	wg.Wait()
	select {
	case err := <-failed:
		return conns, err
	default:
		return conns, nil
	}
}

// now returns how long the run has lasted. All times of requests are relative to its start.
func (g *Generator) now() time.Duration { return time.Since(g.start) }

// wall returns the edges' clock at a time in the run, in ns since 1970.
func (g *Generator) wall(at time.Duration) int64 { return g.start.UnixNano() + int64(at) }

// due returns when request number i of a connection is due. ok is false if there is no such
// request.
func (g *Generator) due(conn int, i uint64, now time.Duration) (at time.Duration, ok bool) {
	at = now
	switch {
	case g.cfg.Rate > 0:
		k := i*uint64(g.cfg.Conns) + uint64(conn)
		at = time.Duration(float64(k) / g.cfg.Rate * 1e9)
		ok = g.cfg.Requests == 0 || k < g.cfg.Requests
	case g.cfg.Requests > 0:
		ok = g.taken.Load() < g.cfg.Requests && g.taken.Add(1) <= g.cfg.Requests
	default:
		ok = true
	}
	return at, ok && (g.cfg.Duration == 0 || at < g.cfg.Duration)
}

func (g *Generator) progress(done <-chan struct{}) {
	ticker := time.NewTicker(g.cfg.ProgressEvery)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			return
		case <-ticker.C:
			p := g.record.progress(g.now())
			if g.cfg.Progress != nil {
				g.cfg.Progress(p)
			}
		}
	}
}
