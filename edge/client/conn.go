package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"herd/edge/wire"
)

var longAgo = time.Unix(1, 0)

// Errors of a Conn that did not come from its connection.
var (
	ErrManyLines = errors.New("a command is one line")
	ErrBlank     = errors.New("a blank line gets no answer") // C3
	ErrNotOwed   = errors.New("no answer is owed")
	ErrOwed      = errors.New("answers to earlier commands are still to be received")
	ErrUnasked   = errors.New("an answer to no command") // C1
)

// Conn is one connection to an edge. One goroutine may send (Send, Unsent, Flush)
// while another receives (Receive, Fill, Next); Do is both. Close and the deadlines
// may be called from any goroutine. After an error from the connection or a context
// only Close is of use.
type Conn struct {
	nc net.Conn

	// Of who sends.
	out   []byte
	begun []shape // of the commands in out

	mu   sync.Mutex
	sent []shape // of the commands flushed since the receiver last looked

	// Of who receives.
	owed []shape // taken from sent
	next int     // the first of owed without its answer
	in   reader
	told func(line []byte)
}

// Dial connects to the client port of an edge, HOST:PORT; with TLS if secure is not
// nil, which is cloned and gets addr's host as its ServerName if it has none. Errors
// name the address. Only ctx bounds how long it takes.
func Dial(ctx context.Context, addr string, secure *tls.Config) (*Conn, error) {
	nc, err := dial(ctx, addr, secure)
	if err != nil {
		return nil, err
	}
	return NewConn(nc, 0), nil
}

// Dialer makes a connection to an edge as Dial does.
type Dialer func(ctx context.Context, addr string) (net.Conn, error)

// NewDialer returns what Dial connects with.
func NewDialer(secure *tls.Config) Dialer {
	return func(ctx context.Context, addr string) (net.Conn, error) { return dial(ctx, addr, secure) }
}

func dial(ctx context.Context, addr string, secure *tls.Config) (net.Conn, error) {
	if secure == nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	d := tls.Dialer{Config: secure}
	return d.DialContext(ctx, "tcp", addr)
}

// NewConn is a Conn over nc, which it owns from then on. The buffer for answers
// begins with so many bytes (4096 if that is less) and grows to what the longest
// answer takes.
func NewConn(nc net.Conn, size int) *Conn {
	return &Conn{nc: nc, in: reader{from: nc, buf: make([]byte, max(size, minBuffer))}}
}

// OnTold has f called with each line that is told of a watch (L3), with its LF, in its place
// among the answers, by whoever receives; the line is good until f returns. Without f such lines are dropped. It is
// to be set before the first WATCH is sent.
//
// The answer to a WATCH or UNWATCH is its last line, NOW or OFF, or a refusal; f does not get that line.
func (c *Conn) OnTold(f func(line []byte)) { c.told = f }

// Do sends one command and returns its answer, line ends included: an AT line, or
// an AT line with a JSON text or more AT lines and an empty line behind it, or the last
// line of a list (see OnTold), or `? ` and what was refused. The line may
// end in LF. The answer is the caller's.
func (c *Conn) Do(ctx context.Context, line []byte) (answer []byte, err error) {
	if c.take(); c.next < len(c.owed) || len(c.begun) > 0 {
		return nil, ErrOwed
	}
	if err := c.Send(line); err != nil {
		return nil, err
	}
	if err := c.Flush(ctx); err != nil {
		return nil, err
	}
	answer, err = c.Receive(ctx)
	return bytes.Clone(answer), err
}

// Send adds one command to what the next Flush sends. It copies the line, which
// may end in LF and holds no other.
func (c *Conn) Send(line []byte) error {
	line = bytes.TrimSuffix(line, lineEnd)
	if bytes.IndexByte(line, '\n') >= 0 {
		return ErrManyLines
	}
	s, ok := shapeOf(line)
	if !ok {
		return ErrBlank
	}
	c.send(line, s)
	return nil
}

// send is Send of a line without its LF that has been looked at.
func (c *Conn) send(line []byte, s shape) {
	c.out = append(append(c.out, line...), '\n')
	c.begun = append(c.begun, s)
}

// Unsent is how many bytes the next Flush sends.
func (c *Conn) Unsent() int { return len(c.out) }

// Flush writes what Send gathered, until ctx ends or the write deadline has passed.
func (c *Conn) Flush(ctx context.Context) error {
	c.mu.Lock()
	c.sent = append(c.sent, c.begun...) // before they are written, so that no answer is one to no command
	c.mu.Unlock()
	c.begun = c.begun[:0]
	if ctx.Done() != nil {
		defer deadline(ctx, c.nc.SetWriteDeadline)()
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.nc.RemoteAddr(), orCause(ctx, err))
	}
	return nil
}

// Receive returns the next answer, in the order of the commands (C1), waiting for it
// until ctx ends or the read deadline has passed. The answer is good until the next
// Receive or Fill. An edge that closes the connection instead is io.ErrUnexpectedEOF.
func (c *Conn) Receive(ctx context.Context) ([]byte, error) {
	if c.take(); c.next == len(c.owed) {
		return nil, ErrNotOwed
	}
	if ctx.Done() != nil {
		defer deadline(ctx, c.nc.SetReadDeadline)()
	}
	for {
		if answer, err := c.Next(); answer != nil || err != nil {
			return answer, err
		}
		if err := c.Fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("receive from %s: %w", c.nc.RemoteAddr(), orCause(ctx, err))
		}
	}
}

// Fill reads once, for Next, until the read deadline has passed. It is for those who
// take all answers of one read at once; its errors are the connection's own, io.EOF
// at the end.
func (c *Conn) Fill() error { return c.in.fill() }

// Next returns the next answer of what was read, nil if it is not complete yet. The
// answer is good until the next Fill. Bytes that answer no command, and are not told of a
// watch, are ErrUnasked.
func (c *Conn) Next() ([]byte, error) {
	c.take()
	for line, pending := c.in.told(); ; line, pending = c.in.told() {
		switch {
		case pending:
			return nil, nil
		case line == nil:
			return c.answer()
		case c.next < len(c.owed) && c.owed[c.next].ends(line):
			c.next++
			return line, nil
		case c.told != nil:
			c.told(line)
		}
	}
}

// answer is Next where what comes next is not told of a watch.
func (c *Conn) answer() ([]byte, error) {
	if c.next == len(c.owed) {
		if c.in.rest() > 0 {
			return nil, ErrUnasked
		}
		return nil, nil
	}
	answer := c.in.next(c.owed[c.next])
	if answer != nil {
		c.next++
	}
	return answer, nil
}

// take takes over what was sent if no older command is owed an answer: the lock is
// taken per batch, not per answer.
func (c *Conn) take() {
	if c.next < len(c.owed) {
		return
	}
	c.mu.Lock()
	c.owed, c.sent = c.sent, c.owed[:0]
	c.mu.Unlock()
	c.next = 0
}

// SetReadDeadline is that of the connection, for Fill and for a Receive whose context
// cannot end.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.nc.SetReadDeadline(t) }

// Interrupt ends the Fill under way, or the next, with os.ErrDeadlineExceeded, until
// SetReadDeadline.
func (c *Conn) Interrupt() { c.nc.SetReadDeadline(longAgo) }

// SetWriteDeadline is that of the connection, for a Flush whose context cannot end.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.nc.SetWriteDeadline(t) }

// Close closes the connection, whatever is still owed.
func (c *Conn) Close() error { return c.nc.Close() }

// deadline makes set's half of a connection fail when ctx ends; the function
// that it returns undoes that.
func deadline(ctx context.Context, set func(time.Time) error) (release func()) {
	undone := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		set(longAgo)
		close(undone)
	})
	return func() {
		if !stop() {
			<-undone
			set(time.Time{})
		}
	}
}

// orCause returns why ctx ended if that is what err came from.
func orCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// shapeOf is the shape of a command's answer; ok is false for a line of white space,
// which gets none (C3).
func shapeOf(line []byte) (s shape, ok bool) {
	verb, args := wire.Cut(line)
	switch string(verb) {
	case "WHATSAT":
		s.kind = withPlaces
	case "WHOSAT":
		s.kind = untilBlank
	case "WATCH", "UNWATCH":
		s.kind = aList
		if string(verb) == "UNWATCH" {
			s.kind = anEnd
		}
		name, _ := wire.Cut(args)
		s.name = string(name)
	}
	return s, len(verb) > 0
}
