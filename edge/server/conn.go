package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// smallSize is what a connection that cannot wait without a buffer waits with.
const smallSize = 512

// restAfter is how long a connection says nothing before it is served by a new
// goroutine, whose stack has not grown with what was said before.
const restAfter = 30 * time.Second

// conn is one connection. Its fields are its goroutine's, but for those that say
// otherwise. Times are as Server.clock gives them. There may be a hundred thousand
// of it, so what it needs only while something is going on is borrowed.
type conn struct {
	s       *Server
	socket  socket
	nc      net.Conn        // the socket, or TLS over it
	raw     syscall.RawConn // waits without a buffer; nil where that cannot be
	fill    func(fd uintptr) bool
	session Session
	remote  string

	in      *buffer  // borrowed
	have    int      // how much of an incomplete line is at the start of in, or in partial
	partial []byte   // that line while in is given back
	skip    *skipped // not nil in the middle of an overlong line
	out     *Answers // borrowed while something is owed
	n       int      // what fill read
	err     error
	full    bool // the last read without fill filled in

	lineSince   int64        // when the first byte of the incomplete line came; 0: there is none
	deadline    int64        // for reading, as it is set; 0: not
	lastCommand atomic.Int64 // written by the connection's goroutine alone
	why         atomic.Int32 // the reason why someone cut it

	key   int64 // for Server.open, and under its lock
	place int32
}

// buffer is room for input, and where it is borrowed from.
type buffer struct {
	b    []byte
	home *sync.Pool
}

func newConn(s *Server, nc net.Conn, now int64) *conn {
	c := &conn{s: s, socket: socket{Conn: nc, timeout: s.cfg.WriteTimeout}, key: now}
	c.lastCommand.Store(now)
	return c
}

// begin is the connection's goroutine.
func (c *conn) begin() {
	c.nc, c.raw, c.fill = &c.socket, c.socket.raw(), c.fillFrom
	c.remote = c.socket.RemoteAddr().String()
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.Opened(time.Now(), c.remote)
	}
	var state *tls.ConnectionState
	if c.s.cfg.TLS != nil {
		if state = c.handshake(); state == nil {
			why := byTLS
			if c.s.stopping.Load() {
				why = byStop
			}
			c.end(why)
			return
		}
	}
	c.session = c.s.handler.Open(c.remote, state)
	c.s.conns.Go(c.serve) // with a fresh stack
}

// handshake makes c a TLS connection; nil is failure.
func (c *conn) handshake() *tls.ConnectionState {
	over := tls.Server(&c.socket, c.s.cfg.TLS)
	c.nc = over
	_ = c.socket.SetReadDeadline(time.Now().Add(c.s.cfg.HandshakeTimeout))
	if c.s.stopping.Load() {
		return nil
	}
	if err := over.Handshake(); err != nil {
		if c.s.stopping.Load() {
			return nil
		}
		c.s.handshakeFailed(c.remote, err)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			c.part() // so that a reset does not overtake the alert that says why
		}
		return nil
	}
	state := over.ConnectionState()
	if c.s.cfg.Recorder != nil && len(state.PeerCertificates) > 0 {
		c.s.cfg.Recorder.Certified(time.Now(), c.remote, state.PeerCertificates[0].Subject.String())
	}
	return &state
}

// serve serves the connection to its end, or until it rests.
func (c *conn) serve() {
	why := c.converse()
	if why == undecided {
		c.s.conns.Go(c.serve)
		return
	}
	if c.out != nil {
		c.out.finish()
	}
	if why == byHandler || why == byStop {
		c.part()
	}
	c.session.Close()
	c.end(why)
}

// converse reads and answers until there is a reason to stop reading; undecided
// means that it is time to rest.
func (c *conn) converse() reason {
	worked := false
	lastRead := c.s.clock(time.Now())
	for {
		c.setDeadline(worked, lastRead)
		if c.s.stopping.Load() { // after the deadline, which may have undone stopReading's
			return byStop
		}
		n, err := c.read()
		received := time.Now() // C10
		if n > 0 {
			worked, lastRead = true, c.s.clock(received)
			if c.receive(received, n); c.out != nil && c.out.over {
				return byHandler
			}
		}
		switch {
		case err == nil:
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.deadline = 0
			if why, due := c.due(c.s.clock(received), worked, lastRead); due {
				return why
			}
		case errors.Is(err, io.EOF):
			if c.s.cfg.TLS != nil && c.socket.ended { // TLS without a good-bye: a line may have been cut off on its way
				return byClient
			}
			c.lastLine(received)
			return byClient
		case fromClient(err), errors.Is(err, io.ErrUnexpectedEOF): // the latter: TLS without a good-bye
			return byClient
		default:
			return byError
		}
	}
}

// setDeadline makes the next read end when it has to (C18). A deadline that comes
// too early is left as it is, because to set one costs more than to read a command:
// due then finds that nothing is.
func (c *conn) setDeadline(worked bool, lastRead int64) {
	until := c.lastCommand.Load() + int64(c.s.cfg.IdleTimeout)
	if c.lineSince != 0 {
		until = min(until, c.lineSince+int64(c.s.cfg.LineTimeout))
	}
	if worked {
		until = min(until, lastRead+int64(restAfter))
	}
	if c.deadline == 0 || until < c.deadline {
		c.deadline = until
		_ = c.socket.SetReadDeadline(c.s.start.Add(time.Duration(until)))
	}
}

// due says what the deadline that has passed was for, if it still holds.
func (c *conn) due(now int64, worked bool, lastRead int64) (why reason, due bool) {
	switch {
	case c.s.stopping.Load():
		return byStop, true
	case c.lineSince != 0 && now >= c.lineSince+int64(c.s.cfg.LineTimeout):
		return byLine, true
	case now >= c.lastCommand.Load()+int64(c.s.cfg.IdleTimeout):
		return byIdle, true
	case worked && now >= lastRead+int64(restAfter):
		return undecided, true
	}
	return undecided, false
}

// read reads what is there to the end of in, and waits for it without in where it
// can, and elsewhere with a small one unless much is coming.
func (c *conn) read() (int, error) {
	if c.raw == nil || c.s.cfg.TLS != nil {
		from := &c.s.small
		if c.full || c.have > smallSize/2 {
			from = &c.s.buffers
		}
		c.borrow(from)
		n, err := c.nc.Read(c.in.b[c.have:])
		c.full = c.have+n == len(c.in.b)
		return n, err
	}
	if err := c.raw.Read(c.fill); err != nil {
		return 0, err
	}
	if c.n == 0 && c.err == nil {
		return 0, io.EOF
	}
	return c.n, c.err
}

// fillFrom reads from a socket that is, or may be, readable. It says whether it was;
// if not, the runtime calls it again when it is.
func (c *conn) fillFrom(fd uintptr) bool {
	c.borrow(&c.s.buffers)
	for {
		n, err := syscall.Read(int(fd), c.in.b[c.have:])
		switch err {
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			c.giveBack()
			return false
		}
		c.n, c.err = max(n, 0), err
		return true
	}
}

// borrow makes in a buffer from the pool from, with the incomplete line in it.
func (c *conn) borrow(from *sync.Pool) {
	if c.in != nil && c.in.home == from {
		return
	}
	c.giveBack()
	c.in = from.Get().(*buffer)
	copy(c.in.b, c.partial[:c.have])
}

// giveBack keeps no more than the incomplete line.
func (c *conn) giveBack() {
	if c.in == nil {
		return
	}
	if c.have > 0 {
		c.partial = append(c.partial[:0], c.in.b[:c.have]...)
	} else {
		c.partial = nil
	}
	c.in.home.Put(c.in)
	c.in = nil
}

// receive deals with n more bytes in the buffer.
func (c *conn) receive(at time.Time, n int) {
	c.owe()
	c.have = copy(c.in.b, c.lines(at, c.in.b[:c.have+n]))
	if c.lineSince == 0 && (c.have > 0 || c.skip != nil) {
		c.lineSince = c.s.clock(at)
	}
	if c.out.flush() {
		c.s.answers.Put(c.out)
		c.out = nil
	}
	// While it waited for the client to read, it did not, and that is no silence of
	// the client's.
	if spent := time.Since(at); spent > time.Second {
		c.lastCommand.Add(int64(spent))
		if c.lineSince != 0 {
			c.lineSince += int64(spent)
		}
		c.deadline = 0
	}
}

func (c *conn) owe() {
	if c.out == nil {
		c.out = c.s.answers.Get().(*Answers)
		c.out.c = c
	}
}

// write sends p; false means that the connection is lost. It is recorded before,
// because the client's next command may be recorded by another goroutine.
func (c *conn) write(p []byte) bool {
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.Out(time.Now(), c.remote, p)
	}
	_, err := c.nc.Write(p)
	switch {
	case err == nil:
		return true
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.cut(byWrite)
	case fromClient(err):
		c.cut(byClient)
	default:
		c.cut(byError)
	}
	return false
}

// part closes this side and waits a little for the client to close its own, so that
// no answer is lost to a reset because something of the client's was not read (C19).
func (c *conn) part() {
	if over, ok := c.nc.(*tls.Conn); ok {
		_ = over.CloseWrite()
	}
	if !c.socket.closeWrite() {
		return
	}
	until := time.Now().Add(c.s.cfg.DrainTimeout)
	c.have, c.partial = 0, nil
	for time.Now().Before(until) {
		_ = c.socket.SetReadDeadline(until) // each time: stopReading may come in between
		err := c.discard()
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			return
		}
	}
}

func (c *conn) discard() error {
	if c.raw == nil {
		var ignored [512]byte
		_, err := c.socket.Read(ignored[:])
		return err
	}
	if err := c.raw.Read(c.fill); err != nil {
		return err
	}
	if c.n == 0 && c.err == nil {
		return io.EOF
	}
	return c.err
}

// cut closes the connection at once, for a reason of its own. Any goroutine may
// call it; the connection's goroutine sees its socket fail.
func (c *conn) cut(why reason) {
	c.why.CompareAndSwap(int32(undecided), int32(why))
	_ = c.socket.Close()
}

// end closes the connection and counts it, unless someone cut it for another reason.
func (c *conn) end(why reason) {
	c.why.CompareAndSwap(int32(undecided), int32(why))
	why = reason(c.why.Load())
	_ = c.nc.Close()
	c.have = 0
	c.giveBack()
	if c.out != nil {
		c.s.answers.Put(c.out.reset())
		c.out = nil
	}
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.Closed(time.Now(), c.remote, why.String())
	}
	c.s.leave(c, why)
}
