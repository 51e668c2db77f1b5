package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// The time limits of C18 in full length, in virtual time. A pipe is used in place of a socket,
// because a bubble can wait for a pipe.

// pipes is a listener whose connections are pipes.
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

// A dialer connects to a server in a bubble, from the given address if there is one.
type dialer func(from ...string) net.Conn

// A pipe is a connection with a remote address.
type pipe struct {
	net.Conn
	from net.Addr
}

func (p pipe) RemoteAddr() net.Addr { return p.from }

// inBubble runs f in virtual time with a server; dial connects to it.
func inBubble(t *testing.T, cfg Config, f func(t *testing.T, s *Server, h *herd, dial dialer)) {
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
		f(t, s, h, func(from ...string) net.Conn {
			ours, its := net.Pipe()
			all = append(all, ours)
			for _, address := range from {
				its = pipe{its, net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 1))}
			}
			p.next <- its
			synctest.Wait()
			return ours
		})
	})
}

// exchange sends in and expects the answer out.
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

// openFor returns how long c stays open while every is called once per step.
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
			open := time.Since(begin)
			synctest.Wait() // the server counts a connection after it has closed it
			return open
		case <-time.After(step):
			every()
		}
	}
}

func TestAHandshakeMayTakeTenSeconds(t *testing.T) {
	serving, _ := certificates(t, "kiwi")
	inBubble(t, Config{TLS: serving}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		for _, dribble := range []string{"", "\x16"} { // the first byte of a record, and then nothing
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
		}, time.Minute + time.Second, "line"}, // the first second of it brought nothing
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
			_, _ = io.WriteString(c, "big 200\nunended") // takes over a minute, and over 15 minutes
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
			inBubble(t, Config{}, func(t *testing.T, s *Server, h *herd, dial dialer) {
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
	inBubble(t, Config{MaxConns: 3}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		closed := isClosed
		a, b, c := dial(), dial(), dial()
		time.Sleep(30 * time.Second)
		exchange(t, a, "x\n", "= x\n") // a came first, and sent last
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

// isClosed reports whether the server has closed c.
func isClosed(c net.Conn) bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Nanosecond))
	_, err := c.Read(make([]byte, 1))
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func TestWhenFullTheAddressWithMostGivesWay(t *testing.T) { // C18
	const greedy, other = "192.0.2.1", "192.0.2.2"
	// fill opens all four connections from the greedy address. The first of them sent last.
	fill := func(t *testing.T, dial dialer) (all []net.Conn) {
		for range 4 {
			all = append(all, dial(greedy))
			time.Sleep(time.Second)
		}
		exchange(t, all[0], "x\n", "= x\n")
		time.Sleep(time.Second)
		return all
	}
	run := func(name string, f func(t *testing.T, s *Server, h *herd, dial dialer)) {
		t.Run(name, func(t *testing.T) { inBubble(t, Config{MaxConns: 4}, f) })
	}
	want := func(t *testing.T, all []net.Conn, gone string) {
		t.Helper()
		got := ""
		for i, c := range all {
			if isClosed(c) {
				got += fmt.Sprint(i)
			}
		}
		if got != gone {
			t.Errorf("closed are %q, want %q", got, gone)
		}
	}
	run("its longest idle, until both hold as many", func(t *testing.T, s *Server, h *herd, dial dialer) {
		all := fill(t, dial)
		all = append(all, dial(other))
		want(t, all, "1")
		all = append(all, dial(other))
		want(t, all, "12")
		all = append(all, dial(other)) // would be three of the four
		want(t, all, "126")
		if st := s.Stats(); st.Refused != 1 || st.Closed["address"] != 2 || st.Connections != 4 {
			t.Errorf("%+v", st)
		}
	})
	t.Run("not where the newcomer's would hold as many then", func(t *testing.T) {
		inBubble(t, Config{MaxConns: 5}, func(t *testing.T, s *Server, h *herd, dial dialer) {
			all := []net.Conn{dial(greedy), dial(greedy), dial(greedy), dial(other), dial(other)}
			time.Sleep(time.Second)
			want(t, append(all, dial(other)), "5")
		})
	})
	run("not for one of its own", func(t *testing.T, s *Server, h *herd, dial dialer) {
		want(t, append(fill(t, dial), dial(greedy)), "4")
	})
	run("not one whose answer waits", func(t *testing.T, s *Server, h *herd, dial dialer) {
		all := fill(t, dial)
		for _, i := range []int{1, 2} {
			_, _ = io.WriteString(all[i], "wait x\n")
		}
		synctest.Wait()
		time.Sleep(time.Second)
		all = append(all, dial(other))
		want(t, all, "3")
		_, _ = io.WriteString(all[0], "wait x\n")
		synctest.Wait()
		all = append(all, dial(other))
		want(t, all, "35")
		close(h.gate("x"))
		for _, i := range []int{0, 1, 2} {
			exchange(t, all[i], "", "waited x\n")
		}
		time.Sleep(time.Second)
		all = append(all, dial("192.0.2.3"))
		if n := s.Stats().Closed["address"]; n != 2 || isClosed(all[6]) {
			t.Errorf("%d gave way when no answer waited any more", n)
		}
	})
	run("another, where all answers of the one with most wait", func(t *testing.T, s *Server, h *herd, dial dialer) {
		all := []net.Conn{dial(greedy), dial(greedy), dial("192.0.2.3"), dial("192.0.2.3")}
		for _, c := range all[:2] {
			_, _ = io.WriteString(c, "wait x\n")
		}
		synctest.Wait()
		time.Sleep(time.Second)
		want(t, append(all, dial(other)), "2")
		close(h.gate("x"))
	})
	run("an IPv6 address is one with its site", func(t *testing.T, s *Server, h *herd, dial dialer) {
		all := []net.Conn{dial("2001:db8:1::1"), dial("2001:db8:1:2::1"), dial("2001:db8:1:3::5"), dial("2001:db8:2::1")}
		time.Sleep(time.Second)
		all = append(all, dial("2001:db8:1:4::1"))
		want(t, all, "4")
		want(t, append(all, dial("2001:db8:2::7")), "04")
	})
}

// However many connections there are, a newcomer costs a bounded number of comparisons.
func TestANewcomerCostsABoundedNumberOfLooks(t *testing.T) { // C18
	const n = 5000
	g := NewGate(GateConfig{MaxConns: n})
	for i := range n {
		e := new(Entry)
		e.begin(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % 3)}), 0)
		e.waits.Store(1)
		g.open.add(e)
	}
	fresh := func() (fresh int) {
		for _, e := range g.open.all.entries {
			if e.own.key != 0 {
				fresh++
			}
		}
		return fresh
	}
	for looked := 0; looked < n; {
		if e, _ := g.open.victim(netip.Addr{}, int64(time.Second)); e != nil {
			t.Fatal("one whose answer waits gave way")
		}
		now := fresh()
		if now-looked > mostLooks {
			t.Fatalf("%d were looked at for one newcomer", now-looked)
		}
		if now == looked {
			t.Fatalf("nobody was looked at any more, of %d only %d were", n, looked)
		}
		looked = now
	}
}

// TestRefusingCostsTheSameHoweverManyAreOpen counts the connections that a newcomer is compared
// with: none is compared twice within a minute.
func TestRefusingCostsTheSameHoweverManyAreOpen(t *testing.T) { // C18
	const n = 1000
	g := NewGate(GateConfig{MaxConns: n})
	now, looks := int64(0), 0
	for range n {
		e := new(Entry)
		e.begin(netip.Addr{}, now)
		e.lastCommand.Store(now + int64(90*time.Second)) // has sent something since
		g.open.add(e)
	}
	now += int64(100 * time.Second) // all keys are old, no connection is idle
	for range 100_000 {
		before := g.open.all.entries[0].all.key
		if e, _ := g.open.victim(netip.Addr{}, now); e != nil {
			t.Fatal("nobody is idle")
		}
		if g.open.all.entries[0].all.key != before {
			looks++
		}
	}
	if looks != 1 || g.open.all.entries[0].all.key != int64(90*time.Second) {
		t.Errorf("%d of the questions changed something, want the first alone", looks)
	}
}

func TestARestingConnectionGoesOn(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, s *Server, h *herd, dial dialer) {
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
