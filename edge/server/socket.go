package server

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// longAgo is a deadline that has passed.
var longAgo = time.Unix(1, 0)

// socket is a connection below TLS. Its Write gives up after timeout without
// progress, however long it all takes (C18). One goroutine writes at a time.
type socket struct {
	net.Conn
	timeout time.Duration
	until   time.Time // the write deadline that is set
	last    bool      // until is the end of all writing
	now     *written  // nil until something is written that does not wait
	ended   bool      // the client closed its side of the transport; only Read notes it
}

// Read is how TLS reads. crypto/tls takes an end between two records for the client's
// good-bye, although anybody on the way can fake one: so it is noted where the end came from.
func (s *socket) Read(p []byte) (int, error) {
	n, err := s.Conn.Read(p)
	s.ended = s.ended || err == io.EOF
	return n, err
}

// SetWriteDeadline is how TLS limits its own good-bye: no progress extends that.
func (s *socket) SetWriteDeadline(t time.Time) error {
	s.last = true
	return s.Conn.SetWriteDeadline(t)
}

// Write writes all of p, or fails with os.ErrDeadlineExceeded once nothing has
// moved for timeout, or up to half as long again.
func (s *socket) Write(p []byte) (n int, err error) {
	moved := time.Now()
	for now := moved; ; now = time.Now() {
		if err := s.extend(now); err != nil {
			return n, err
		}
		m, err := s.Conn.Write(p[n:])
		n += m
		if s.last || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		now = time.Now()
		if m > 0 {
			moved = now
		} else if now.Sub(moved) >= s.timeout {
			return n, err
		}
	}
}

// extend sets a write deadline that has not passed. It costs about a tenth of a write, so one serves
// many.
func (s *socket) extend(now time.Time) error {
	if s.last || s.until.Sub(now) >= s.timeout/4 {
		return nil
	}
	s.until = now.Add(s.timeout / 2)
	return s.Conn.SetWriteDeadline(s.until)
}

// A written is a write that does not wait. It stays with a socket from its first one on.
type written struct {
	p   []byte
	n   int
	err error
	put func(fd uintptr) bool
}

// writeNow writes what the system takes of p at once. raw is the socket's own.
func (s *socket) writeNow(raw syscall.RawConn, p []byte) (n int, err error) {
	w := s.now
	if w == nil {
		w = new(written)
		w.put = func(fd uintptr) bool {
			for {
				if w.n, w.err = syscall.Write(int(fd), w.p); w.err != syscall.EINTR {
					return true
				}
			}
		}
		s.now = w
	}
	if err := s.extend(time.Now()); err != nil {
		return 0, err
	}
	w.p = p
	err = raw.Write(w.put)
	w.p = nil
	switch {
	case err != nil: // it is closed, or nothing may be written any more
		return 0, err
	case w.err == syscall.EAGAIN:
		return 0, nil
	case w.err != nil:
		return 0, &net.OpError{Op: "write", Net: "tcp", Addr: s.RemoteAddr(), Err: w.err}
	}
	return w.n, nil
}

// socketBuffer is what the system may hold of a connection's input that was not read, and of
// its answers that the client did not take, in bytes each; Linux takes it twice, for what it
// needs besides. Left to itself it goes up to many megabytes (C18). It allows a client that is
// 100 ms away a megabyte a second.
const socketBuffer = 128 << 10

// BoundBuffers bounds what the system may hold for each socket that ln accepts (C18), where it can.
func BoundBuffers(ln net.Listener) {
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		for _, buffer := range []int{syscall.SO_RCVBUF, syscall.SO_SNDBUF} {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, buffer, socketBuffer)
		}
	})
}

// closeWrite tells the client that no more answers come, where the transport can.
func (s *socket) closeWrite() bool {
	half, ok := s.Conn.(interface{ CloseWrite() error })
	return ok && half.CloseWrite() == nil
}

// raw returns a way to wait for input without a buffer; nil where there is none.
func (s *socket) raw() syscall.RawConn {
	tcp, ok := s.Conn.(*net.TCPConn)
	if !ok {
		return nil
	}
	_ = tcp.SetKeepAlive(true) // C18; a socket that cannot is served all the same
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// fromClient says that an error is the client's going away.
func fromClient(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, syscall.ETIMEDOUT) // its keep-alives went unanswered
}
