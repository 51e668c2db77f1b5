package server

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
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
//
// Its life: Server.accept enters it at the gate and runs begin, which opens its session; serve
// converses, anew after each rest, until there is a reason to stop reading, sends what is owed,
// parts from the client where more of it may come, and ends it. Anybody may cut it meanwhile:
// then reading and writing fail, and it takes the same way, with the reason of who cut it.
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
	full    bool // the last read filled in

	lineSince int64        // when the first byte of the incomplete line came; 0: there is none
	deadline  int64        // for reading, as it is set; 0: not
	entry     Entry        // its lastCommand is written by the connection's goroutine alone
	why       atomic.Int32 // the reason why someone cut it
}

// buffer is room for input, and where it is borrowed from.
type buffer struct {
	b    []byte
	home *sync.Pool
}

func newConn(s *Server, nc net.Conn) *conn {
	return &conn{s: s, socket: socket{Conn: nc, timeout: s.cfg.WriteTimeout}}
}

// Evict closes the connection for a newcomer (C18).
func (c *conn) Evict(why Eviction) {
	if why == Crowded {
		c.cut(byAddress)
	} else {
		c.cut(byEviction)
	}
}

// begin is the connection's first goroutine.
func (c *conn) begin() {
	if why := c.open(); why != undecided {
		c.end(why)
		return
	}
	c.s.conns.Go(c.serve) // with a fresh stack
}

// open makes the session, after a TLS handshake where there is to be one; a reason is failure.
func (c *conn) open() reason {
	c.nc, c.raw, c.fill = &c.socket, c.socket.raw(), c.fillFrom
	c.remote = c.socket.RemoteAddr().String()
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.Opened(time.Now(), c.remote)
	}
	var state *tls.ConnectionState
	if c.s.cfg.TLS != nil {
		if state = c.handshake(); state == nil && c.s.stopping.Load() {
			return byStop
		} else if state == nil {
			return byTLS
		}
	}
	if own, ok := c.socket.Conn.(Opener); ok {
		c.session = own.Open(c.remote, c.entry.address)
	} else {
		c.session = c.s.handler.Open(c.remote, c.entry.address, state)
	}
	return undecided
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
		c.out.finish(why == byStop)
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
		c.makeRoom()
		if c.full { // more is waiting; without this others would, for as long as 10 ms each
			runtime.Gosched()
		}
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
			if q := c.telling(); q != nil {
				q.stillAlive()
			}
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

// makeRoom waits with reading until the connection may be owed more (C18). That is no silence
// of the client's.
func (c *conn) makeRoom() {
	if c.out == nil || c.out.Room() > 0 {
		return
	}
	start := time.Now()
	c.giveBack()
	c.out.makeRoom()
	c.excuse(start)
}

// excuse takes the time since start, when the client was not read, out of all that it is
// given time for.
func (c *conn) excuse(start time.Time) {
	if spent := time.Since(start); spent > time.Second {
		c.entry.lastCommand.Add(int64(spent))
		if c.lineSince != 0 {
			c.lineSince += int64(spent)
		}
		c.deadline = 0
	}
}

// setDeadline makes the next read end when it has to (C18). A deadline that comes
// too early is left as it is, because to set one costs more than to read a command:
// due then finds that nothing is.
func (c *conn) setDeadline(worked bool, lastRead int64) {
	until := c.entry.lastCommand.Load() + int64(c.s.cfg.IdleTimeout)
	if q := c.telling(); q != nil {
		now := c.s.now()
		until = min(max(until, q.active(now)+int64(c.s.cfg.IdleTimeout)), q.comeBy(now))
	}
	if c.lineSince != 0 {
		until = min(until, c.lineSince+int64(c.s.cfg.LineTimeout))
	}
	if worked {
		until = min(until, lastRead+int64(restAfter))
	}
	if c.deadline == 0 || until < c.deadline {
		c.deadline = until
		_ = c.socket.SetReadDeadline(c.s.gate.start.Add(time.Duration(until)))
	}
}

// due says what the deadline that has passed was for, if it still holds.
func (c *conn) due(now int64, worked bool, lastRead int64) (why reason, due bool) {
	switch {
	case c.s.stopping.Load():
		return byStop, true
	case c.lineSince != 0 && now >= c.lineSince+int64(c.s.cfg.LineTimeout):
		return byLine, true
	case now >= c.lastActive(now)+int64(c.s.cfg.IdleTimeout):
		return byIdle, true
	case worked && now >= lastRead+int64(restAfter):
		return undecided, true
	}
	return undecided, false
}

// telling is the queue of a connection that may be told something between answers; else nil.
func (c *conn) telling() *queue {
	if c.out == nil || c.out.queue == nil || c.out.queue.told == nil {
		return nil
	}
	return c.out.queue
}

// lastActive is when the connection last had a command, or counted as one that had (L6).
func (c *conn) lastActive(now int64) int64 {
	last := c.entry.lastCommand.Load()
	if q := c.telling(); q != nil {
		last = max(last, q.active(now))
	}
	return last
}

// read reads into in, behind the incomplete line. Plain TCP waits without a buffer. TLS waits with
// one: a small one, unless more is coming.
func (c *conn) read() (int, error) {
	if c.raw == nil || c.s.cfg.TLS != nil {
		c.borrow(c.pool(c.full))
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
	c.borrow(c.pool(true))
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
		c.full = c.have+c.n == len(c.in.b)
		return true
	}
}

// pool is where to borrow a buffer from: a large one where much may be coming, unless all
// connections together owe so much that this one should take little (C18).
func (c *conn) pool(much bool) *sync.Pool {
	if c.have > smallSize/2 || much && c.s.gate.Share() >= maxOwed/4 {
		return &c.s.buffers
	}
	return &c.s.small
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
	c.excuse(at)
}

// inputSize is how many bytes of input the connection holds.
func (c *conn) inputSize() int {
	if c.in == nil {
		return 0
	}
	return len(c.in.b)
}

func (c *conn) owe() {
	if c.out == nil {
		c.out = c.s.answers.Get().(*Answers)
		c.out.c = c
	}
}

// write sends p; false means that the connection is lost. It is recorded before,
// because the client's next command may be recorded by another goroutine. waits, unless nil,
// is called where it may have to wait for the client.
func (c *conn) write(p []byte, waits func()) bool {
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.Out(time.Now(), c.remote, p)
	}
	var n int
	var err error
	if waits != nil {
		if c.raw != nil && c.s.cfg.TLS == nil {
			n, err = c.socket.writeNow(c.raw, p)
		}
		if err == nil && n < len(p) {
			waits()
		}
	}
	if err == nil && n < len(p) {
		_, err = c.nc.Write(p[n:])
	}
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
