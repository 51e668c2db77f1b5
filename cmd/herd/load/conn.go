package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"

	"herd/edge/client"
)

const (
	maxWrite  = 64 << 10 // bytes of commands in one write
	leastWait = 50 * time.Millisecond
	mostWait  = time.Second // between two attempts to connect, when no address answers
)

// slot is one command that is under way.
type slot struct {
	kind   Kind
	client int
	line   []byte        // as sent, with its LF
	stamp  int64         // for a WHATSAT, the oldest time that the answer may have, ns since 1970
	due    time.Duration // time in the run
	sent   time.Duration // time in the run when it was last sent
}

// conn is one connection, or several in turn. Its writer composes commands into slots, its
// reader takes them out; while there is no connection, run does both.
type conn struct {
	g    *Generator
	id   int
	nc   *client.Conn // nil: not connected
	addr string

	slots    []slot        // a ring: command number n is in slots[n % len]
	sent     atomic.Uint64 // commands composed; moved by the writer
	answered atomic.Uint64 // commands answered; moved by the reader
	room     chan struct{} // signals the writer that slots are free
	ended    atomic.Bool   // the writer has composed the last command
	endedAt  time.Duration // time in the run; written before ended is set

	// Used by the writer:
	walkers []walker
	told    uint64        // reports so far
	share   float64       // the accumulated share of the next WHATSAT
	number  uint64        // number of the next request that is due
	due     time.Duration // when that is due, if pending
	pending bool          // due is known
	since   uint64        // number of the first command composed for this connection
	lates   []time.Duration

	// Used by the reader:
	heard   time.Duration // time in the run of the last answer
	samples []sample

	// Used by Run, when all is over:
	gap time.Duration
	err error
}

func newConn(g *Generator, id int) *conn {
	clients := 1 // shared with other connections if there are more connections than ids
	if own := (g.cfg.Clients - id + g.cfg.Conns - 1) / g.cfg.Conns; own > 1 {
		clients = own
	}
	c := &conn{g: g, id: id, slots: make([]slot, g.cfg.Pipeline), walkers: make([]walker, clients), room: make(chan struct{}, 1)}
	for i := range c.walkers {
		c.walkers[i] = newWalker(c.client(i))
	}
	c.addr = g.cfg.Addrs[id%len(g.cfg.Addrs)]
	return c
}

// client returns the number of the connection's i-th client.
func (c *conn) client(i int) int { return (c.id + i*c.g.cfg.Conns) % c.g.cfg.Clients }

func (c *conn) slot(n uint64) *slot { return &c.slots[n%uint64(len(c.slots))] }

func (c *conn) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.g.cfg.Timeout)
	defer cancel()
	nc, err := c.g.cfg.Dial(ctx, c.addr)
	if err != nil {
		return err
	}
	c.nc = client.NewConn(nc, min(128*len(c.slots), 64<<10)) // room for all the answers to a full pipeline
	return nil
}

func (c *conn) hangUp() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}

// run makes the connection's requests, reconnecting as often as it takes.
func (c *conn) run(ctx context.Context) {
	wait := leastWait
	for try := c.id; ; {
		var err error
		if c.nc == nil {
			err = c.dial(ctx)
		}
		answered := c.answered.Load()
		if err == nil {
			if err = c.serve(ctx); err != nil && ctx.Err() == nil {
				c.g.record.died()
			}
			c.hangUp()
		}
		if ctx.Err() != nil || err == nil {
			c.over(false)
			return
		}
		err = fmt.Errorf("connection %d to %s: %w", c.id, c.addr, err)
		c.g.record.note("%v", err)
		if !c.g.cfg.Reconnect || c.late() {
			c.err = err
			c.over(true)
			return
		}
		if c.answered.Load() > answered {
			wait = leastWait
		}
		try++
		c.addr = c.g.cfg.Addrs[try%len(c.g.cfg.Addrs)]
		if (try-c.id)%len(c.g.cfg.Addrs) == 0 || wait > leastWait { // all addresses have been tried
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, mostWait)
		}
	}
}

// late reports whether the answers still owed at the end were waited for long enough.
func (c *conn) late() bool {
	now, timeout := c.g.now(), c.g.cfg.Timeout
	return c.ended.Load() && now-c.endedAt > timeout ||
		c.g.cfg.Duration > 0 && now-c.g.cfg.Duration > timeout
}

// over counts the requests that will have no answer.
func (c *conn) over(failed bool) {
	var batch []sample
	for n := c.answered.Load(); n < c.sent.Load(); n++ {
		c.hear(c.slot(n), c.g.now())
		batch = append(batch, sample{kind: c.slot(n).kind, outcome: Failed})
	}
	if failed {
		c.g.record.take(batch)
	}
}

// serve makes requests over the current connection until the last is answered, or the
// connection or ctx ends.
func (c *conn) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	nc := c.nc
	c.again()
	stop := context.AfterFunc(ctx, func() { nc.Close() }) // wakes writer and reader
	reading := make(chan error, 1)
	go func() {
		reading <- c.read()
		cancel()
	}()
	writing := c.write(ctx)
	if writing != nil {
		cancel()
	}
	err := <-reading
	cancel()
	stop()
	if err != nil && writing != nil && errors.Is(err, net.ErrClosed) {
		return writing // the reader only stopped because the writer did
	}
	return err
}

// again resends what the last connection left unanswered.
func (c *conn) again() {
	c.since = c.sent.Load()
	first := c.answered.Load()
	for n := first; n < c.since; n++ {
		s := c.slot(n)
		s.sent, s.stamp = c.g.now(), 0 // the new edge may not know yet what the old one knew
		c.send(s)
	}
	c.g.record.retried(c.since - first)
}

// send queues a slot's command, which is one line, for the next Flush.
func (c *conn) send(s *slot) {
	if err := c.nc.Send(s.line); err != nil {
		c.g.record.note("%.200q: %v", s.line, err)
	}
}

// write sends the commands already composed, then those that are due. It returns nil when ctx
// ends.
func (c *conn) write(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		full, next := c.compose() // after those already composed
		if c.nc.Unsent() > 0 {
			c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.Timeout))
			err := c.nc.Flush(context.Background()) // bounded by the write deadline
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			continue
		}
		var due <-chan time.Time
		switch {
		case full:
		case next < 0:
			if !c.ended.Load() {
				c.endedAt = c.g.now()
				c.ended.Store(true)
				c.nc.Interrupt() // wakes the reader, which may have nothing left to wait for
			}
		default:
			timer.Reset(next)
			due = timer.C
		}
		select {
		case <-ctx.Done():
			return nil
		case <-c.room:
		case <-due:
		}
	}
}

// compose writes commands that are due into slots and queues them, as long as slots are free.
// full reports whether it stopped for lack of slots; otherwise next is how long until the
// next command is due, negative if there is none.
func (c *conn) compose() (full bool, next time.Duration) {
	now := c.g.now()
	limit := c.answered.Load() + uint64(len(c.slots))
	n := c.sent.Load()
	c.lates = c.lates[:0]
	defer func() {
		if len(c.lates) > 0 {
			c.g.record.late(c.lates)
		}
	}()
	for c.nc.Unsent() < maxWrite {
		if n == limit {
			return true, 0
		}
		if !c.pending {
			var ok bool
			if c.due, ok = c.g.due(c.id, c.number, now); !ok {
				return false, -1
			}
			c.number++
			c.pending = true
		}
		if c.due > now {
			return false, c.due - now
		}
		c.pending = false
		s := c.slot(n)
		s.due, s.sent = c.due, now
		c.command(s, n)
		c.send(s)
		c.lates = append(c.lates, now-s.due)
		n++
		c.sent.Store(n) // stored before the command is written, so that the reader knows what an answer belongs to
	}
	return false, 0
}

// command composes request number n.
func (c *conn) command(s *slot, n uint64) {
	known := min(c.told, uint64(len(c.walkers)))
	c.share += c.g.cfg.WhatsatShare
	if c.share >= 1 && (known > 0 || c.g.cfg.WhatsatShare == 1) {
		c.share--
		if known == 0 {
			known = uint64(len(c.walkers))
		}
		i := int(mix(n) % known)
		w := &c.walkers[i]
		s.kind, s.client, s.stamp = WHATSAT, c.client(i), 0
		if w.request >= c.since {
			s.stamp = w.stamp
		}
		s.line = append(s.line[:0], "WHATSAT "...)
		s.line = appendClient(s.line, c.g.cfg.Prefix, s.client)
		s.line = append(append(s.line, ' '), c.g.cfg.Radius...)
		s.line = append(append(s.line, ' '), c.g.cfg.Max...)
		s.line = append(s.line, '\n')
		return
	}
	i := int(c.told % uint64(len(c.walkers)))
	c.told++
	w := &c.walkers[i]
	w.step(c.g.wall(s.sent))
	w.request = n
	s.kind, s.client = IAMAT, c.client(i)
	s.line = w.appendIAMAT(s.line[:0], c.g.cfg.Prefix, s.client)
}

// read reads answers until the last has arrived or the connection ends.
func (c *conn) read() error {
	for {
		n := c.answered.Load()
		limit := c.g.now() + c.g.cfg.Timeout
		if n < c.sent.Load() {
			limit = c.slot(n).sent + c.g.cfg.Timeout
		}
		// Set the deadline first, then look at what write signals by moving it.
		c.nc.SetReadDeadline(c.g.start.Add(limit))
		if c.ended.Load() && n == c.sent.Load() {
			return nil
		}
		err := c.nc.Fill()
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) {
				if n == c.sent.Load() || c.g.now()-c.slot(n).sent < c.g.cfg.Timeout {
					continue
				}
				return fmt.Errorf("no answer within %v", c.g.cfg.Timeout)
			}
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		if err := c.take(n); err != nil {
			return err
		}
	}
}

// take takes the answers out of the bytes that were read. The first belongs to command n.
func (c *conn) take(n uint64) error {
	now := c.g.now()
	c.samples = c.samples[:0]
	var err error
	for {
		var answer []byte
		if answer, err = c.nc.Next(); answer == nil {
			break
		}
		s := c.slot(n)
		c.hear(s, now)
		outcome, wrong := s.check(answer, c.g.wall(now), c.g.cfg.MaxSkew)
		if outcome == Wrong || outcome == Refused {
			c.remark(s, answer, outcome, wrong)
		}
		latency := now - s.due
		c.samples = append(c.samples, sample{s.kind, outcome, latency})
		if c.g.cfg.OnAnswer != nil {
			c.g.cfg.OnAnswer(Answer{
				Kind: s.kind, Outcome: outcome, Conn: c.id, Addr: c.addr, Client: s.client,
				Command: s.line, Text: answer, Latency: latency, Received: c.g.start.Add(now),
			})
		}
		n++
	}
	if len(c.samples) > 0 {
		c.g.record.take(c.samples)
		c.answered.Store(n) // now the writer may reuse the slots
		select {
		case c.room <- struct{}{}:
		default: // it is signalled already
		}
	}
	return err
}

// hear records the longest time without an answer, now that s is done. That time began when s
// was due, or at the last answer if that was later.
func (c *conn) hear(s *slot, now time.Duration) {
	c.gap = max(c.gap, now-max(s.due, c.heard))
	c.heard = now
}

func (c *conn) remark(s *slot, answer []byte, outcome Outcome, why error) {
	reason := outcome.String()
	if why != nil {
		reason += " (" + why.Error() + ")"
	}
	c.g.record.note("%s: %s: %.200q answers %.200q", c.addr, reason, answer, s.line)
}
