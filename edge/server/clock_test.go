package server

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The times of C18 to the full, in virtual time. A pipe is no socket, so that a
// bubble can wait for it.

// pipes is a listener of pipes.
type pipes struct {
	next   chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.next:
		return nc, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{} }

// inBubble runs f in virtual time with a server; dial connects to it.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, s *Server, h *herd, dial func() net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHerd()
		s := New(cfg, h)
		p := &pipes{make(chan net.Conn), make(chan struct{})}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- s.Serve(ctx, p) }()
		var all []net.Conn
		defer func() {
			cancel()
			for _, c := range all {
				_ = c.Close()
			}
			if err := <-done; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}()
		f(t, s, h, func() net.Conn {
			ours, its := net.Pipe()
			all = append(all, ours)
			p.next <- its
			synctest.Wait()
			return ours
		})
	})
}

// exchange sends in, and wants the answer out.
func exchange(t *testing.T, c net.Conn, in, out string) {
	t.Helper()
	if in != "" { // a pipe's empty write waits for a read
		if _, err := io.WriteString(c, in); err != nil {
			t.Fatal(err)
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	got := make([]byte, len(out))
	if n, err := io.ReadFull(c, got); string(got) != out {
		t.Fatalf("%q: got %q, %v, want %q", in, got[:n], err, out)
	}
}

// openFor returns how long c stays open while every does something with it every step.
func openFor(c net.Conn, step time.Duration, every func()) time.Duration {
	begin := time.Now()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = io.Copy(io.Discard, c)
	}()
	for {
		select {
		case <-gone:
			return time.Since(begin)
		case <-time.After(step):
			every()
		}
	}
}

func TestAHandshakeMayTakeTenSeconds(t *testing.T) {
	serving, _ := certificates(t, "kiwi")
	inBubble(t, Config{TLS: serving}, func(t *testing.T, s *Server, h *herd, dial func() net.Conn) {
		for _, dribble := range []string{"", "\x16"} { // a record's first byte, and then no more
			c := dial()
			open := openFor(c, 3*time.Second, func() {
				if dribble != "" {
					_, _ = io.WriteString(c, dribble)
					dribble = ""
				}
			})
			if open != 10*time.Second {
				t.Errorf("open for %v, want 10s", open)
			}
		}
		if got := s.Stats().Closed["tls"]; got != 2 {
			t.Errorf("closed: %v", s.Stats().Closed)
		}
	})
}

func TestTimes(t *testing.T) {
	nothing := func() {}
	for _, test := range []struct {
		name string
		do   func(t *testing.T, c net.Conn) (open time.Duration)
		want time.Duration
		by   string
	}{
		{"C18 no command for 15 minutes", func(t *testing.T, c net.Conn) time.Duration {
			return openFor(c, time.Hour, nothing)
		}, 15 * time.Minute, "idle"},
		{"C18 the time starts anew with a command", func(t *testing.T, c net.Conn) time.Duration {
			for range 10 {
				time.Sleep(14 * time.Minute)
				exchange(t, c, "a\n", "= a\n")
			}
			return openFor(c, time.Hour, nothing)
		}, 15 * time.Minute, "idle"},
		{"C18 blank lines are no commands", func(t *testing.T, c net.Conn) time.Duration {
			return openFor(c, time.Second, func() { _, _ = io.WriteString(c, " \t\v\f\r\n") })
		}, 15 * time.Minute, "idle"},
		{"C18 a line without its end", func(t *testing.T, c net.Conn) time.Duration {
			_, _ = io.WriteString(c, "a")
			return openFor(c, time.Hour, nothing)
		}, time.Minute, "line"},
		{"C18 a line without its end behind another", func(t *testing.T, c net.Conn) time.Duration {
			exchange(t, c, "a\n", "= a\n")
			time.Sleep(5 * time.Minute)
			_, _ = io.WriteString(c, " ")
			return openFor(c, time.Hour, nothing)
		}, time.Minute, "line"},
		{"C18 a line that dribbles", func(t *testing.T, c net.Conn) time.Duration {
			return openFor(c, time.Second, func() { _, _ = io.WriteString(c, "a") })
		}, time.Minute + time.Second, "line"}, // of which the first second brought nothing
		{"C18 an overlong line that dribbles", func(t *testing.T, c net.Conn) time.Duration {
			return openFor(c, time.Second, func() { _, _ = io.WriteString(c, strings.Repeat("a", 5000)) })
		}, time.Minute + time.Second, "line"},
		{"C18 lines that dribble, but end", func(t *testing.T, c net.Conn) time.Duration {
			for range 100 {
				_, _ = io.WriteString(c, "a")
				time.Sleep(59 * time.Second)
				exchange(t, c, "\n", "= a\n")
			}
			return 0
		}, 0, ""},
		{"C18 who does not read", func(t *testing.T, c net.Conn) time.Duration {
			begin := time.Now()
			for {
				if _, err := io.WriteString(c, "a\n"); err != nil {
					return time.Since(begin).Truncate(5 * time.Second)
				}
			}
		}, 10 * time.Second, "write"},
		{"C18 who reads a little does not lose the connection", func(t *testing.T, c net.Conn) time.Duration {
			_, _ = io.WriteString(c, "big 100\n")
			got := make([]byte, 1)
			for range 101 {
				time.Sleep(9 * time.Second)
				if _, err := c.Read(got); err != nil {
					t.Fatal(err)
				}
			}
			exchange(t, c, "a\n", "= a\n")
			return 0
		}, 0, ""},
		{"C18 reading slowly is no silence", func(t *testing.T, c net.Conn) time.Duration {
			_, _ = io.WriteString(c, "big 200\nunended") // takes over a minute, and over 15
			got := make([]byte, 1)
			for range 201 {
				time.Sleep(9 * time.Second)
				if _, err := c.Read(got); err != nil {
					t.Fatal(err)
				}
			}
			exchange(t, c, "\n", "= unended\n")
			return openFor(c, time.Hour, nothing)
		}, 15 * time.Minute, "idle"},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Config{}, func(t *testing.T, s *Server, h *herd, dial func() net.Conn) {
				c := dial()
				if open := test.do(t, c); open != test.want {
					t.Errorf("open for %v, want %v", open, test.want)
				}
				synctest.Wait()
				if got := s.Stats().Closed[test.by]; test.by != "" && got != 1 {
					t.Errorf("closed: %v, want %s", s.Stats().Closed, test.by)
				}
			})
		})
	}
}

func TestWhenFullTheLongestIdleGivesWay(t *testing.T) { // C18
	inBubble(t, Config{MaxConns: 3}, func(t *testing.T, s *Server, h *herd, dial func() net.Conn) {
		closed := func(c net.Conn) bool {
			_ = c.SetReadDeadline(time.Now().Add(time.Nanosecond))
			_, err := c.Read(make([]byte, 1))
			return !errors.Is(err, os.ErrDeadlineExceeded)
		}
		a, b, c := dial(), dial(), dial()
		time.Sleep(30 * time.Second)
		exchange(t, a, "x\n", "= x\n") // a came first, and spoke last
		time.Sleep(30 * time.Second)
		_, _ = io.WriteString(b, " \r\n") // no command

		if d := dial(); !closed(d) {
			t.Error("60 s are not over 60 s, yet the newcomer was taken")
		}
		if st := s.Stats(); st.Refused != 1 || st.Connections != 3 || st.Accepted != 3 {
			t.Errorf("%+v", st)
		}

		time.Sleep(time.Second)
		d, e := dial(), dial()
		if !closed(b) || !closed(c) || closed(a) || closed(d) || closed(e) {
			t.Error("b and c were to give way, and they alone")
		}
		if f := dial(); !closed(f) {
			t.Error("a spoke 31 s ago, yet the newcomer was taken")
		}
		st := s.Stats()
		if st.Refused != 2 || st.Closed["evicted"] != 2 || st.Connections != 3 || st.Accepted != 5 {
			t.Errorf("%+v", st)
		}

		time.Sleep(30 * time.Second)
		exchange(t, d, "x\n", "= x\n")
		g := dial() // in a's place
		if !closed(a) || closed(d) || closed(e) || closed(g) {
			t.Error("a was to give way, and it alone")
		}
		exchange(t, g, "y\n", "= y\n")
		for _, nc := range []net.Conn{a, b, c, d, e, g} {
			_ = nc.Close()
		}
		synctest.Wait()
		if opened, over := h.count(); opened != 6 || over != 6 {
			t.Errorf("%d sessions opened, %d closed", opened, over)
		}
	})
}

// TestRefusingCostsTheSameHoweverManyAreOpen looks at what a newcomer has to be
// compared with: nobody is looked at twice within a minute.
func TestRefusingCostsTheSameHoweverManyAreOpen(t *testing.T) { // C18
	const n = 1000
	s := New(Config{MaxConns: n}, newHerd())
	now, looks := int64(0), 0
	for range n {
		c := newConn(s, &tape{}, now)
		c.lastCommand.Store(now + int64(90*time.Second)) // has spoken since
		s.open.Push(c)
	}
	now += int64(100 * time.Second) // all keys are old, nobody is idle
	for range 100_000 {
		before := s.open[0].key
		if s.open.longestIdle(now, time.Minute) != nil {
			t.Fatal("nobody is idle")
		}
		if s.open[0].key != before {
			looks++
		}
	}
	if looks != 1 || s.open[0].key != int64(90*time.Second) {
		t.Errorf("%d of the questions changed something, want the first alone", looks)
	}
}

func TestARestingConnectionGoesOn(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, h *herd, dial func() net.Conn) {
		c := dial()
		exchange(t, c, "a\n", "= a\n")
		_, _ = io.WriteString(c, "half")
		time.Sleep(restAfter + time.Second)
		exchange(t, c, "\nwait x\n", "= half\n")
		time.Sleep(restAfter + time.Second)
		close(h.gate("x"))
		exchange(t, c, "", "waited x\n")
		exchange(t, c, "b\n", "= b\n")
	})
}
