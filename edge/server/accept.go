package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// accept takes connections in until ctx ends, which gives nil, or ln fails for good.
func (s *Server) accept(ctx context.Context, ln net.Listener) error {
	visits, _ := ln.(interface{ SetDeadline(time.Time) error })
	if visits != nil {
		wake := func() { _ = visits.SetDeadline(longAgo) } // errs only when ln is closed
		s.wake.Store(&wake)
	}
	var failed seldom
	pause := time.Duration(0)
	for {
		nc, err := ln.Accept()
		switch {
		case err == nil:
			pause = 0
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			_ = visits.SetDeadline(time.Time{})
			if v := s.visitor.Swap(nil); v != nil {
				close(v.cameBy)
			}
			continue
		case !passes(err):
			return fmt.Errorf("accept: %w", err)
		default:
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			if n, ok := failed.now(); ok {
				s.log.Warn("accept failed, trying on", "error", err, "times", n)
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
			continue
		}

		if c := s.admit(nc); c != nil {
			s.conns.Go(c.begin)
		} else {
			_ = nc.Close()
		}
	}
}

// visitor waits for the accept loop.
type visitor struct{ cameBy chan struct{} }

// ComeBy returns nil when the accept loop has come by or has ended: it does not hang. Else
// it returns ctx's error. One call at a time, once Serve was called.
func (s *Server) ComeBy(ctx context.Context) error {
	wake := s.wake.Load()
	if wake == nil {
		return nil
	}
	v := &visitor{make(chan struct{})}
	s.visitor.Store(v)
	(*wake)()
	select {
	case <-v.cameBy:
	case <-s.over:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// admit makes nc a connection that counts; nil where there is no room (C18).
func (s *Server) admit(nc net.Conn) *conn {
	c := newConn(s, nc)
	if !s.gate.Enter(&c.entry, nc.RemoteAddr(), c) {
		return nil
	}
	return c
}

// passes says that a failure to accept is of the moment, not of the listener.
func passes(err error) bool {
	for _, passing := range []error{
		syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, // too much is open
		syscall.ECONNABORTED, syscall.ECONNRESET, syscall.EPROTO, syscall.EPERM, // this one connection
		syscall.EINTR, syscall.EAGAIN, syscall.ETIMEDOUT,
		syscall.ENETDOWN, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.EHOSTUNREACH,
	} {
		if errors.Is(err, passing) {
			return true
		}
	}
	return false
}

// handshakeFailed logs a TLS handshake that failed. Who only knocks, as load balancers
// do, is no trouble.
func (s *Server) handshakeFailed(remote string, err error) {
	if errors.Is(err, io.EOF) || fromClient(err) {
		return
	}
	s.handshakes.Lock()
	n, ok := s.handshakes.failed.now()
	s.handshakes.Unlock()
	if ok {
		s.log.Warn("TLS handshake failed", "remote", remote, "error", err, "times", n)
	}
}

// seldom keeps what may happen to thousands from being logged for each.
type seldom struct {
	next  time.Time
	times int
}

// now counts one more time, and says whether it is time to log that, and how many
// times it has been since the last.
func (s *seldom) now() (times int, ok bool) {
	s.times++
	now := time.Now()
	if now.Before(s.next) {
		return 0, false
	}
	times, s.times = s.times, 0
	s.next = now.Add(10 * time.Second)
	return times, true
}
