package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"herd/edge/wire"
)

// Config says what a Generator does. The zero value of a field means its default.
type Config struct {
	Addrs []string    // client ports of edges, HOST:PORT; connection i begins at Addrs[i % len(Addrs)]
	TLS   *tls.Config // nil: plain TCP

	// Dial makes the connections (as TLS says, over TCP).
	Dial func(ctx context.Context, addr string) (net.Conn, error)

	Conns    int // connections (1)
	Pipeline int // most commands of a connection without an answer (64)

	// Rate is how many requests a second are due, over all connections: an open
	// loop, whose requests are due whether or not earlier ones were answered. 0 is
	// a closed loop: every connection always has Pipeline commands under way.
	Rate float64

	Duration time.Duration // no more requests after this; 0: no such end
	Requests uint64        // no more requests than this; 0: no such end

	Clients int    // ids (1000). Each belongs to one connection while there are as many ids as connections
	Prefix  string // ids are Prefix and a number from 0 ("load-")

	// WhatsatShare is the part of requests, 0 to 1, that ask for a client that the
	// same connection told of before. With 1 nothing is told.
	WhatsatShare float64
	Radius, Max  string // what WHATSAT asks ("10", "5")

	// Timeout ends a connection that takes longer for an answer, or for accepting
	// commands (10 s).
	Timeout time.Duration

	// MaxSkew is how far an edge's clock may be from this one's (1 min).
	MaxSkew time.Duration

	// Reconnect: a connection that ends is made anew at the next of Addrs, and what
	// had no answer is sent again there, in order. Else its requests without an answer
	// have failed, and it makes no more.
	Reconnect bool

	// OnAnswer gets every answer on the goroutine of its connection, which waits
	// for it; those of one connection in order.
	OnAnswer func(Answer)

	// Progress is called about every ProgressEvery (1 s) while Run runs, from one
	// goroutine.
	Progress      func(Progress)
	ProgressEvery time.Duration
}

// Answer is one answer to one request. Its slices are good until OnAnswer returns.
type Answer struct {
	Kind     Kind
	Outcome  Outcome
	Conn     int    // from 0
	Addr     string // where the answer came from
	Client   int    // the number in the id
	Command  []byte // as sent, with its LF
	Text     []byte // as received, with its line ends
	Latency  time.Duration
	Received time.Time
}

// Generator makes requests as its Config says. It is used once.
type Generator struct {
	cfg    Config
	start  time.Time
	taken  atomic.Uint64 // requests begun, in a closed loop
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
		secure := cfg.TLS
		cfg.Dial = func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr, secure) }
	}
	switch {
	case len(cfg.Addrs) == 0:
		return nil, errors.New("no address to load")
	case cfg.Conns < 0 || cfg.Pipeline < 0 || cfg.Clients < 0:
		return nil, errors.New("connections, pipeline and clients cannot be negative")
	case !(cfg.Rate >= 0 && cfg.Rate <= 1e9):
		return nil, errors.New("rate is not 0 to 1e9 requests a second")
	case cfg.Duration < 0 || cfg.Timeout < 0 || cfg.MaxSkew < 0 || cfg.ProgressEvery < 0:
		return nil, errors.New("durations cannot be negative")
	case !(cfg.WhatsatShare >= 0 && cfg.WhatsatShare <= 1):
		return nil, errors.New("share of WHATSAT is not 0 to 1")
	}
	if _, err := wire.ParseWHATSAT([]byte(" x " + cfg.Radius + " " + cfg.Max)); err != nil {
		return nil, fmt.Errorf("question: %w", err)
	}
	if err := checkPrefix(cfg.Prefix, cfg.Clients); err != nil {
		return nil, err
	}
	return &Generator{cfg: cfg, record: newRecorder(cfg.Conns)}, nil
}

// checkPrefix says whether the prefix makes ids of numbers up to this one (C6).
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

// Run connects, then makes requests until ctx ends or all is done: every request
// made, and answered or given up. Time counts from when the connections stand.
// The Result is never nil. An error is of a connection that could not be made at
// the start or, without Reconnect, that ended early.
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

// connect makes all connections, a few at a time, so that the handshakes do not
// count as latency. With Reconnect one that fails is tried again later.
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

// now is how long the run has lasted. All times of requests are counted so.
func (g *Generator) now() time.Duration { return time.Since(g.start) }

// wall is the clock of the edges at a time of the run, in ns since 1970.
func (g *Generator) wall(at time.Duration) int64 { return g.start.UnixNano() + int64(at) }

// due says when request number i of a connection is due. ok is false if there is
// no such request.
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
