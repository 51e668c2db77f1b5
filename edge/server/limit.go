package server

import (
	"container/heap"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// evictAfter is how long a connection may be without a command before it has to
// give way to a newcomer (C18).
const evictAfter = time.Minute

// open is a heap of the connections that count against MaxConns. Its order goes
// by key, which is when a connection was last *known* to have had a command. The
// real time is later or the same, so that the least key bounds all from below:
// while it is recent nobody needs to be looked at, and a key is brought up to
// date only when it comes up for eviction, at most once a minute a connection.
// So commands cost nothing here and refusing a newcomer costs O(1).
type open []*conn

func (o open) Len() int           { return len(o) }
func (o open) Less(i, j int) bool { return o[i].key < o[j].key }
func (o open) Swap(i, j int) {
	o[i], o[j] = o[j], o[i]
	o[i].place, o[j].place = int32(i), int32(j)
}
func (o *open) Push(x any) {
	c := x.(*conn)
	c.place = int32(len(*o))
	*o = append(*o, c)
}
func (o *open) Pop() any {
	last := len(*o) - 1
	c := (*o)[last]
	(*o)[last] = nil
	*o = (*o)[:last]
	c.place = -1
	return c
}

// longestIdle returns the connection that is longest without a command, if that
// is more than least. It is the heap's first then.
func (o *open) longestIdle(now int64, least time.Duration) *conn {
	for len(*o) > 0 {
		c := (*o)[0]
		if now-c.key <= int64(least) {
			return nil
		}
		last := c.lastCommand.Load()
		if last == c.key {
			return c
		}
		c.key = last
		heap.Fix(o, 0)
	}
	return nil
}

// admit makes nc a connection that counts, if there is room (C18). When full, the
// one longest without a command is the victim whose place it gets.
func (s *Server) admit(nc net.Conn) (c, victim *conn, room bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock(time.Now())
	if s.cfg.MaxConns > 0 && len(s.open) >= s.cfg.MaxConns {
		if victim = s.open.longestIdle(now, evictAfter); victim == nil {
			s.refused.Add(1)
			return nil, nil, false
		}
		heap.Pop(&s.open)
	}
	s.accepted.Add(1)
	c = newConn(s, nc, now)
	heap.Push(&s.open, c)
	return c, victim, true
}

// leave takes c out of what counts.
func (s *Server) leave(c *conn, why reason) {
	s.mu.Lock()
	if c.place >= 0 {
		heap.Remove(&s.open, int(c.place))
	}
	s.mu.Unlock()
	s.closed[why].Add(1)
}

// clock is t as a connection keeps it: nanoseconds since the server began, by the
// monotonic clock.
func (s *Server) clock(t time.Time) int64 { return int64(t.Sub(s.start)) }

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
