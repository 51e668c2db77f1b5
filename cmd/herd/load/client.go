package load

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

var (
	errManyLines = errors.New("a command is one line")
	errBlank     = errors.New("a blank line gets no answer") // C3
	errNotOwed   = errors.New("no answer is owed")
	errOwed      = errors.New("answers to earlier commands are still to be received")
)

// Client is one connection to an edge. One goroutine may send while another
// receives; otherwise it is for one goroutine at a time. After an error that came
// from the connection or its context only Close is of use.
type Client struct {
	nc  net.Conn
	out []byte
	in  answers

	mu   sync.Mutex
	owed []bool // a command each whose answer was not received: is it a WHATSAT?
}

// Dial connects to the client port of an edge, HOST:PORT; with TLS if secure is
// not nil, which is then cloned and gets addr's host as its ServerName if it has
// none.
func Dial(ctx context.Context, addr string, secure *tls.Config) (*Client, error) {
	nc, err := dial(ctx, addr, secure)
	if err != nil {
		return nil, err // names the address
	}
	return &Client{nc: nc, in: answers{from: nc}}, nil
}

func dial(ctx context.Context, addr string, secure *tls.Config) (net.Conn, error) {
	if secure == nil {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", addr)
	}
	d := tls.Dialer{Config: secure}
	return d.DialContext(ctx, "tcp", addr)
}

// Do sends one command and returns its answer, line ends included: an AT line, or
// an AT line with a JSON text behind it, or `? ` and what was refused. The line
// may end in LF. The answer is the caller's.
func (c *Client) Do(ctx context.Context, line []byte) (answer []byte, err error) {
	c.mu.Lock()
	owed := len(c.owed)
	c.mu.Unlock()
	if owed > 0 {
		return nil, errOwed
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
func (c *Client) Send(line []byte) error {
	line = bytes.TrimSuffix(line, []byte{'\n'})
	if bytes.IndexByte(line, '\n') >= 0 {
		return errManyLines
	}
	verb, _ := wire.Cut(line)
	if len(verb) == 0 {
		return errBlank
	}
	c.out = append(append(c.out, line...), '\n')
	c.mu.Lock()
	c.owed = append(c.owed, string(verb) == "WHATSAT")
	c.mu.Unlock()
	return nil
}

// Flush writes what Send gathered, until ctx ends.
func (c *Client) Flush(ctx context.Context) error {
	defer deadline(ctx, c.nc.SetWriteDeadline)()
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	if err != nil {
		return fmt.Errorf("send to %s: %w", c.nc.RemoteAddr(), orCause(ctx, err))
	}
	return nil
}

// Receive returns the next answer, in the order of the commands (C1), waiting
// for it until ctx ends. The answer is good until the next Receive. An edge that
// closes the connection instead is io.ErrUnexpectedEOF.
func (c *Client) Receive(ctx context.Context) ([]byte, error) {
	c.mu.Lock()
	if len(c.owed) == 0 {
		c.mu.Unlock()
		return nil, errNotOwed
	}
	whatsat := c.owed[0]
	c.mu.Unlock()
	defer deadline(ctx, c.nc.SetReadDeadline)()
	for {
		if answer := c.in.next(whatsat); answer != nil {
			c.mu.Lock()
			c.owed = c.owed[1:]
			c.mu.Unlock()
			return answer, nil
		}
		if err := c.in.fill(); err != nil {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return nil, fmt.Errorf("receive from %s: %w", c.nc.RemoteAddr(), orCause(ctx, err))
		}
	}
}

// Close closes the connection, whatever is still owed.
func (c *Client) Close() error { return c.nc.Close() }

// deadline makes set's half of a connection fail when ctx ends; the function
// that it returns undoes that.
func deadline(ctx context.Context, set func(time.Time) error) (release func()) {
	if ctx.Done() == nil {
		return func() {}
	}
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
