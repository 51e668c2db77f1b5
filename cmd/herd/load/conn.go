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
)

const (
	maxWrite  = 64 << 10 // bytes of commands in one write
	leastWait = 50 * time.Millisecond
	mostWait  = time.Second // between two tries to connect, when no address answers
)

// slot is one command that is under way.
type slot struct {
	kind   Kind
	client int
	line   []byte        // as sent, with its LF
	stamp  int64         // a WHATSAT: the answer may not be older, ns since 1970
	due    time.Duration // of the run
	sent   time.Duration // of the run; the last time
}

// conn is one connection, or one after the other. Its writer composes commands
// into slots, its reader takes them out; while there is no connection run does both.
type conn struct {
	g    *Generator
	id   int
	nc   net.Conn // nil: none
	addr string

	slots    []slot        // a ring: command number n is in slots[n % len]
	sent     atomic.Uint64 // commands composed; moved by the writer
	answered atomic.Uint64 // commands answered; moved by the reader
	room     chan struct{} // tells a writer that it may go on
	ended    atomic.Bool   // the writer has composed the last command
	endedAt  time.Duration // of the run; written before ended is set

	// Of the writer.
	walkers []walker
	told    uint64        // reports so far
	share   float64       // how much of the next WHATSAT has come together
	number  uint64        // of the next request that is due
	due     time.Duration // of that, if pending
	pending bool          // due is known
	since   uint64        // number of the first command composed for this connection
	out     []byte
	lates   []time.Duration

	// Of the reader.
	in      answers
	heard   time.Duration // of the run: the last answer
	samples []sample

	// Of Run, when all is over.
	gap time.Duration
	err error
}

func newConn(g *Generator, id int) *conn {
	clients := 1 // shared with other connections, if there are more of them than ids
	if own := (g.cfg.Clients - id + g.cfg.Conns - 1) / g.cfg.Conns; own > 1 {
		clients = own
	}
	c := &conn{g: g, id: id, slots: make([]slot, g.cfg.Pipeline), walkers: make([]walker, clients), room: make(chan struct{}, 1)}
	c.in.buf = make([]byte, min(max(4<<10, 128*len(c.slots)), 64<<10)) // room for all the answers to a full pipeline
	for i := range c.walkers {
		c.walkers[i] = newWalker(c.client(i))
	}
	c.addr = g.cfg.Addrs[id%len(g.cfg.Addrs)]
	return c
}

// client is the number of the connection's i-th client.
func (c *conn) client(i int) int { return (c.id + i*c.g.cfg.Conns) % c.g.cfg.Clients }

func (c *conn) slot(n uint64) *slot { return &c.slots[n%uint64(len(c.slots))] }

func (c *conn) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, c.g.cfg.Timeout)
	defer cancel()
	nc, err := c.g.cfg.Dial(ctx, c.addr)
	if err != nil {
		return err
	}
	c.nc, c.in = nc, answers{from: nc, buf: c.in.buf}
	return nil
}

func (c *conn) hangUp() {
	if c.nc != nil {
		c.nc.Close()
		c.nc = nil
	}
}

// run makes the connection's requests, over as many connections as that takes.
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
		if (try-c.id)%len(c.g.cfg.Addrs) == 0 || wait > leastWait { // all have been tried
			select {
			case <-ctx.Done():
			case <-time.After(wait):
			}
			wait = min(2*wait, mostWait)
		}
	}
}

// late says that what is still owed at the end was waited for long enough.
func (c *conn) late() bool {
	now, timeout := c.g.now(), c.g.cfg.Timeout
	return c.ended.Load() && now-c.endedAt > timeout ||
		c.g.cfg.Duration > 0 && now-c.g.cfg.Duration > timeout
}

// over counts what will have no answer.
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

// serve makes requests over the present connection until the last is answered,
// the connection ends or ctx does.
func (c *conn) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	nc := c.nc
	c.again()
	stop := context.AfterFunc(ctx, func() { nc.Close() }) // wakes both
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
		return writing // the reader was only woken
	}
	return err
}

// again puts out what the last connection left without an answer.
func (c *conn) again() {
	c.out = c.out[:0]
	c.since = c.sent.Load()
	first := c.answered.Load()
	for n := first; n < c.since; n++ {
		s := c.slot(n)
		s.sent, s.stamp = c.g.now(), 0 // the new edge may not know yet what the old one did
		c.out = append(c.out, s.line...)
	}
	c.g.record.retried(c.since - first)
}

// write sends what is out already, then what is due. It returns nil when ctx ends.
func (c *conn) write(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		full, next := c.compose() // behind what is out
		if len(c.out) > 0 {
			c.nc.SetWriteDeadline(time.Now().Add(c.g.cfg.Timeout))
			_, err := c.nc.Write(c.out)
			c.out = c.out[:0]
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
				c.nc.SetReadDeadline(longAgo) // wakes the reader, which may wait for nothing
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

// compose writes commands that are due into slots and to out, as long as there is
// room for them. It says whether slots were what lacked; if not, how long until the
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
	for len(c.out) < maxWrite {
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
		c.out = append(c.out, s.line...)
		c.lates = append(c.lates, now-s.due)
		n++
		c.sent.Store(n) // before it is written, so that the reader knows what is answered
	}
	return false, 0
}

// command makes the request number n.
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

// read takes answers until the last is there or the connection ends.
func (c *conn) read() error {
	for {
		n := c.answered.Load()
		limit := c.g.now() + c.g.cfg.Timeout
		if n < c.sent.Load() {
			limit = c.slot(n).sent + c.g.cfg.Timeout
		}
		// The deadline first, then what write tells by moving it.
		c.nc.SetReadDeadline(c.g.start.Add(limit))
		if c.ended.Load() && n == c.sent.Load() {
			return nil
		}
		err := c.in.fill()
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

// take takes the answers out of what was read, of which the first is that to
// command n.
func (c *conn) take(n uint64) error {
	now := c.g.now()
	sent := c.sent.Load()
	c.samples = c.samples[:0]
	var err error
	for {
		s := c.slot(n)
		answer := c.in.next(n < sent && s.kind == WHATSAT)
		if answer == nil {
			if n == sent && c.in.rest() > 0 {
				err = errUnasked
			}
			break
		}
		if n == sent {
			err = errUnasked
			break
		}
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
		c.answered.Store(n) // now the writer may have the slots
		select {
		case c.room <- struct{}{}:
		default: // it has been told
		}
	}
	return err
}

// hear keeps the longest time without an answer, now that s is at its end. The
// time began when s was due, or later: with the last answer.
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
