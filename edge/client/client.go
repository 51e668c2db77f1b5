package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"herd/edge/wire"
)

const (
	leastWait = 50 * time.Millisecond // between two tries to connect, when no address answers
	mostWait  = time.Second
)

var (
	// ErrClosed is of calls that Close ended, or that came after it.
	ErrClosed = errors.New("client closed")

	// ErrBroken is of a command whose connection broke before the answer came, with
	// Config.NoRepeat. It may have taken effect.
	ErrBroken = errors.New("connection broken before the answer")

	// ErrWatch is of a WATCH or UNWATCH given to Do: see Watch, or Conn.
	ErrWatch = errors.New("a watch needs a connection of its own")

	errOutOfStep = errors.New("an answer to another command") // C1
)

// Config says whom a Client talks to. The zero value of a field means its default.
type Config struct {
	// Addrs are client ports of edges, HOST:PORT, in order of preference. The next is
	// tried when one cannot be reached or its connection breaks, the first again after
	// the last.
	Addrs []string

	// TLS is how to speak TLS; nil is plain TCP. Without a ServerName that of each
	// address is expected.
	TLS *tls.Config

	// Dial makes the connections (as TLS says, over TCP).
	Dial Dialer

	// Timeout is how long an address may take to connect or to accept commands, and
	// how long it may owe answers without giving any, before the next is tried (30 s).
	// It is no limit of a call: that is its context.
	Timeout time.Duration

	// Pipeline is how many commands may be under way (1024). Further calls wait.
	Pipeline int

	// NoRepeat makes commands that are under way when a connection breaks fail with
	// ErrBroken. Otherwise they are sent again at the next address, which is safe (S2).
	NoRepeat bool
}

// Client sends commands to one of several edges. Its methods may be called from any
// goroutine; what several of them ask at a time is pipelined over one connection, and
// takes effect in the order of the calls if one was made after another returned. It
// connects when the first command comes, and again when one comes after the edge has
// closed an idle connection (C18).
//
// Each call ends with its context at the latest: a context without an end waits for an
// edge as long as that takes. A call that was given up may still take effect.
type Client struct {
	cfg   Config
	stop  context.CancelFunc
	ended chan struct{} // closed when run has returned
	room  chan struct{} // holds one value per command under way
	kick  chan struct{} // tells run, or the present connection's writer, of a command

	mu      sync.Mutex // of all below
	waiting []*call    // not sent over the present connection, oldest first
	flight  []*call    // sent over it and not answered, oldest first
	closed  bool
	last    error // why the last connection, or the last try to make one, ended
}

// call is one command. Its fields below done are written before that is closed, those
// below gone guarded by Client.mu.
type call struct {
	line   []byte // without its LF
	shape  shape
	done   chan struct{}
	answer []byte
	err    error
	gone   bool // nobody waits for the answer any more
}

// New checks cfg. It does not connect. Close ends what it starts.
func New(cfg Config) (*Client, error) {
	if len(cfg.Addrs) == 0 {
		return nil, errors.New("no address of an edge")
	}
	for _, addr := range cfg.Addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("address of an edge: %w", err)
		}
	}
	if cfg.Timeout < 0 || cfg.Pipeline < 0 {
		return nil, errors.New("timeout and pipeline cannot be negative")
	}
	cfg.Addrs = slices.Clone(cfg.Addrs)
	if cfg.Timeout == 0 {
		cfg.Timeout = 30 * time.Second
	}
	if cfg.Pipeline == 0 {
		cfg.Pipeline = 1024
	}
	if cfg.Dial == nil {
		cfg.Dial = NewDialer(cfg.TLS)
	}
	ctx, stop := context.WithCancel(context.Background()) // Close's
	c := &Client{cfg: cfg, stop: stop, ended: make(chan struct{}), room: make(chan struct{}, cfg.Pipeline), kick: make(chan struct{}, 1)}
	go c.run(ctx)
	return c, nil
}

// Close closes the connection and returns when all goroutines of the Client are gone.
// Calls under way fail with ErrClosed; they may have taken effect. It returns nil, and
// may be called again.
func (c *Client) Close() error {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.stop()
	<-c.ended
	return nil
}

// Do sends one command, which may end in LF and holds no other, and returns its answer
// as it came, line ends included, `? ` answers too (C4). The answer is the caller's, and
// so is the line when Do has returned.
func (c *Client) Do(ctx context.Context, line []byte) ([]byte, error) {
	line = bytes.TrimSuffix(line, lineEnd)
	if bytes.IndexByte(line, '\n') >= 0 {
		return nil, ErrManyLines
	}
	s, ok := shapeOf(line)
	if !ok {
		return nil, ErrBlank
	}
	if s.kind == aList || s.kind == anEnd {
		return nil, ErrWatch
	}
	select {
	case c.room <- struct{}{}:
	case <-c.ended:
		return nil, ErrClosed
	case <-ctx.Done():
		return nil, c.given(ctx)
	}
	one := &call{line: bytes.Clone(line), shape: s, done: make(chan struct{})}
	c.mu.Lock()
	if c.closed || ctx.Err() != nil {
		closed := c.closed
		c.mu.Unlock()
		<-c.room
		if closed {
			return nil, ErrClosed
		}
		return nil, c.given(ctx)
	}
	c.waiting = append(c.waiting, one)
	c.mu.Unlock()
	c.wake()
	select {
	case <-one.done:
		return one.answer, one.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	one.gone = true
	if i := slices.Index(c.waiting, one); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		<-c.room
	} // else its answer, or the end of its connection, makes room
	c.mu.Unlock()
	select {
	case <-one.done: // just in time
		return one.answer, one.err
	default:
		return nil, c.given(ctx)
	}
}

// given is why a call was given up: its context, and what the last connection ended
// with if there is none.
func (c *Client) given(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil {
		return fmt.Errorf("%w (%w)", context.Cause(ctx), c.last)
	}
	return context.Cause(ctx)
}

func (c *Client) wake() {
	select {
	case c.kick <- struct{}{}:
	default: // it has been told
	}
}

// run makes connections while there are commands, until ctx ends.
func (c *Client) run(ctx context.Context) {
	defer close(c.ended)
	defer c.over()
	wait, failed := leastWait, 0
	for at := 0; c.await(ctx); {
		answered, err := c.connect(ctx, c.cfg.Addrs[at%len(c.cfg.Addrs)])
		if c.broke(err); err == nil { // idle; this edge is as good as before
			wait, failed = leastWait, 0
			continue
		}
		at++
		if answered {
			wait, failed = leastWait, 0
		}
		if failed++; failed%len(c.cfg.Addrs) != 0 {
			continue
		}
		select { // all have been tried
		case <-ctx.Done():
		case <-time.After(wait):
		}
		wait = min(2*wait, mostWait)
	}
}

// await returns when there is a command to send; false when ctx ends.
func (c *Client) await(ctx context.Context) bool {
	for ctx.Err() == nil {
		c.mu.Lock()
		n := len(c.waiting)
		c.mu.Unlock()
		if n > 0 {
			return true
		}
		select {
		case <-c.kick:
		case <-ctx.Done():
		}
	}
	return false
}

// connect serves commands over one connection. A connection that the edge closed while
// it owed nothing is no error if it has answered anything.
func (c *Client) connect(ctx context.Context, addr string) (answered bool, err error) {
	dialing, cancel := context.WithTimeoutCause(ctx, c.cfg.Timeout, fmt.Errorf("not connected within %v", c.cfg.Timeout))
	nc, err := c.cfg.Dial(dialing, addr)
	cancel()
	if err != nil {
		return false, fmt.Errorf("connect to %s: %w", addr, err)
	}
	conn := NewConn(nc, 0)
	serving, end := context.WithCancelCause(ctx)
	closed := make(chan struct{})
	context.AfterFunc(serving, func() { // wakes both
		conn.Close()
		close(closed)
	})
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		var err error
		answered, err = c.read(conn)
		end(err)
	}()
	end(c.write(serving, conn))
	<-reading
	<-closed
	if err = context.Cause(serving); answered && errors.Is(err, errIdle) {
		return true, nil
	} // one that was closed at once, before a command was sent, has served nobody
	return answered, fmt.Errorf("%s: %w", addr, err)
}

// errIdle is the end of a connection that owed nothing.
var errIdle = errors.New("closed while idle")

// write sends commands as they come, until ctx or the connection ends.
func (c *Client) write(ctx context.Context, conn *Conn) error {
	for {
		c.mu.Lock()
		if len(c.waiting) > 0 && len(c.flight) == 0 {
			conn.SetReadDeadline(time.Now().Add(c.cfg.Timeout)) // the reader had none
		}
		for _, one := range c.waiting {
			conn.send(one.line, one.shape)
		}
		c.flight = append(c.flight, c.waiting...)
		clear(c.waiting)
		c.waiting = c.waiting[:0]
		c.mu.Unlock()
		if conn.Unsent() > 0 {
			conn.SetWriteDeadline(time.Now().Add(c.cfg.Timeout))
			if err := conn.Flush(context.Background()); err != nil { // the deadline is its end
				return err
			}
		}
		select {
		case <-c.kick:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read hands answers to their calls until the connection ends.
func (c *Client) read(conn *Conn) (answered bool, err error) {
	for {
		if err := conn.Fill(); err != nil {
			c.mu.Lock()
			owed := len(c.flight)
			c.mu.Unlock()
			switch {
			case owed == 0 && errors.Is(err, io.EOF):
				err = errIdle
			case errors.Is(err, io.EOF):
				err = io.ErrUnexpectedEOF
			case errors.Is(err, os.ErrDeadlineExceeded):
				err = fmt.Errorf("no answer within %v", c.cfg.Timeout)
			}
			return answered, err
		}
		for {
			answer, err := conn.Next()
			if err != nil {
				return answered, err
			}
			if answer == nil {
				break
			}
			if err := c.deliver(answer); err != nil {
				return answered, err
			}
			answered = true
		}
		c.mu.Lock()
		if len(c.flight) > 0 {
			conn.SetReadDeadline(time.Now().Add(c.cfg.Timeout))
		} else {
			conn.SetReadDeadline(time.Time{})
		}
		c.mu.Unlock()
	}
}

// deliver hands an answer to the oldest call.
func (c *Client) deliver(answer []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	one := c.flight[0]
	if !answers(answer, one.line) {
		return errOutOfStep
	}
	c.flight[0] = nil
	c.flight = c.flight[1:]
	c.last = nil
	one.answer = bytes.Clone(answer)
	c.finish(one)
	return nil
}

// finish ends a call. The caller has the lock.
func (c *Client) finish(one *call) {
	close(one.done)
	<-c.room
}

// broke takes back what the connection left without an answer.
func (c *Client) broke(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = err
	var again []*call
	for _, one := range c.flight {
		switch {
		case one.gone:
			c.finish(one)
		case c.cfg.NoRepeat:
			one.err = fmt.Errorf("%w: %w", ErrBroken, orIdle(err))
			c.finish(one)
		default:
			again = append(again, one)
		}
	}
	c.flight = nil
	c.waiting = append(again, c.waiting...)
}

// over fails what is left, at the end.
func (c *Client) over() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, one := range slices.Concat(c.flight, c.waiting) {
		one.err = ErrClosed
		c.finish(one)
	}
	c.flight, c.waiting = nil, nil
}

// answers says whether an answer fits its command, so that a stream that is out of step
// is noticed: a refusal repeats the line (C4), or its first 64 bytes (C5); the answer to
// an IAMAT ends as it does (C9), those to a WHATSAT and a WHOSAT are about its client (C14, L1).
func answers(answer, line []byte) bool {
	verb, args := wire.Cut(line)
	if echo, refused := Refused(answer); refused {
		sent := bytes.TrimSuffix(line, []byte{'\r'}) // with the LF a CR before it is left out
		return bytes.Equal(echo, sent) || len(echo) == 64 && bytes.HasPrefix(line, echo)
	}
	first, _, _ := bytes.Cut(answer, lineEnd)
	at, err := wire.ParseAT(first)
	if err != nil {
		return false
	}
	client, _ := wire.Cut(args)
	return (string(verb) == "IAMAT" || string(verb) == "WHATSAT" || string(verb) == "WHOSAT") && bytes.Equal(at.Client, client)
}

// orIdle is why a connection ended.
func orIdle(err error) error {
	if err == nil {
		return errIdle
	}
	return err
}
