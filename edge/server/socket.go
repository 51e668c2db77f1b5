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
		// A deadline costs about a tenth of a write, so one serves many.
		if !s.last && s.until.Sub(now) < s.timeout/4 {
			s.until = now.Add(s.timeout / 2)
			if err := s.Conn.SetWriteDeadline(s.until); err != nil {
				return n, err
			}
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
