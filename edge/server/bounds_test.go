package server

import (
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// taken returns the number of commands taken.
func (h *herd) taken() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, lines := range h.takes {
		n += strings.Count(lines, "\n")
	}
	return n
}

func TestWhatAnswersThatWaitHoldIsBoundedInBytes(t *testing.T) { // C18
	for _, test := range []struct {
		name, command string
		most          int // commands that are taken
	}{
		{"much each", "hold 15000 0\n", 12},
		{"more than all may each: one at a time", "hold 1000000 0\n", 1},
		{"nothing but themselves", "hold 0 0\n", maxOwed / runCost},
		{"ready ones behind one that waits", "wait 0\nbig 9000\n", 40},
	} {
		t.Run(test.name, func(t *testing.T) {
			inBubble(t, Config{MaxPending: 64 << 20}, func(t *testing.T, s *Server, h *herd, dial dialer) {
				c := dial()
				var sending sync.WaitGroup
				const commands = 1000
				sending.Go(func() {
					_, _ = c.Write([]byte(strings.Repeat(test.command, commands)))
				})
				synctest.Wait()
				pending, taken := s.Stats().Pending, h.taken()
				if taken == 0 || taken > test.most {
					t.Errorf("%d commands were taken, want 1 to %d", taken, test.most)
				}
				if most := int64(256 << 10); taken > 1 && pending > most || pending == 0 {
					t.Errorf("%d bytes are owed, want 1 to %d", pending, most)
				}
				answers := strings.Repeat("waited 0\n", strings.Count(test.command, "0\n"))
				if strings.Contains(test.command, "big") {
					answers = "waited 0\n" + strings.Repeat("x", 9000) + "\n"
				}
				close(h.gate("0")) // then everything is read and answered, in order
				exchange(t, c, "", strings.Repeat(answers, commands))
				sending.Wait()
				synctest.Wait()
				if pending := s.Stats().Pending; pending != 0 {
					t.Errorf("%d bytes are owed when all is answered", pending)
				}
			})
		})
	}
}

// Many connections that read nothing are together owed at most MaxPending, apart from one answer
// each, and another connection is answered as usual.
func TestWhatAllConnectionsAreOwedIsBoundedInBytes(t *testing.T) { // C18
	const most, conns, answer = 2 << 20, 500, 2000
	inBubble(t, Config{MaxPending: most}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		for name, command := range map[string]string{"big": "big 2000\n", "hold": "hold 2000 hold\n"} {
			for range conns {
				c := dial()
				go func() { _, _ = c.Write([]byte(strings.Repeat(command, 1000))) }()
				synctest.Wait()
			}
			bound := int64(most + conns*(answer+answer/4+runCost+askCost+smallSize))
			if pending := s.Stats().Pending; pending > bound || pending < most*3/4 {
				t.Errorf("%q: %d bytes are owed to %d connections, want %d to %d", command, pending, conns, most*3/4, bound)
			}
			good := dial()
			exchange(t, good, "a\nb\n", "= a\n= b\n")
			exchange(t, good, "big 5000\n", strings.Repeat("x", 5000)+"\n")
			_ = good.Close()
			close(h.gate(name))
			time.Sleep(time.Minute) // nobody reads
			if st := s.Stats(); st.Connections != 0 || st.Pending != 0 {
				t.Errorf("%q: afterwards there are %d connections, and %d bytes owed", command, st.Connections, st.Pending)
			}
		}
	})
}

// Where much is owed, input is read in small pieces, except for a longer line.
func TestWhereMuchIsOwedInputComesInSmallPieces(t *testing.T) { // C18
	const most = 64 << 20
	s := New(Config{MaxPending: most}, newHerd())
	c := newConn(s, &tape{})
	for _, test := range []struct {
		owed int64
		have int
		much bool
		want *sync.Pool
	}{
		{0, 0, true, &s.buffers},
		{0, 0, false, &s.small},
		{most / 2, 0, true, &s.buffers},
		{most - 1<<20, 0, true, &s.small},
		{2 * most, 0, true, &s.small},
		{2 * most, smallSize - 1, false, &s.buffers},
	} {
		s.gate.pending.Store(test.owed)
		c.have = test.have
		if got := c.pool(test.much); got != test.want {
			t.Errorf("%+v: another pool", test)
		}
	}
}

// loseOne has a client request an answer that waits, and twenty more behind it, and closes its
// connection. Then the first answer is ready, and nobody is left to receive it.
func loseOne(h *herd, dial dialer, behind string) {
	c := dial()
	_, _ = c.Write([]byte("wait 0\n" + strings.Repeat(behind+"\n", 20)))
	synctest.Wait()
	_ = c.Close()
	close(h.gate("0"))
	synctest.Wait()
}

// If a client leaves, what its waiting answers hold is still counted.
func TestWhatALostConnectionHoldsCounts(t *testing.T) { // C18
	inBubble(t, Config{MaxPending: 64 << 20}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		loseOne(h, dial, "keep 1")
		if pending := s.Stats().Pending; pending < 7*20_000 || pending > 8*(20_000+runCost+askCost) {
			t.Errorf("%d bytes are owed while the answers that were asked for wait", pending)
		}
		close(h.gate("1"))
		synctest.Wait()
		if st := s.Stats(); st.Pending != 0 || st.Connections != 0 {
			t.Errorf("%d bytes are owed to %d connections afterwards", st.Pending, st.Connections)
		}
	})
}

// An answer that waits for a lost client ends, because nobody is left to receive it.
func TestWhatALostConnectionWaitsForEnds(t *testing.T) { // C18
	inBubble(t, Config{MaxPending: 64 << 20}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		loseOne(h, dial, "promise 1")
		if st := s.Stats(); st.Pending != 0 || st.Connections != 0 || h.running != 0 {
			t.Errorf("%d bytes are owed to %d connections, and %d answers wait", st.Pending, st.Connections, h.running)
		}
	})
}

// The system's buffers of a connection that does not read, or is not read, are bounded too.
func TestSocketsHoldLittle(t *testing.T) { // C18
	h := newHerd()
	r := serve(t, Config{WriteTimeout: time.Minute}, h)
	for _, test := range []struct{ name, first, then string }{
		{"its input", "hold 1000000 0\n", "x\n"},
		{"its answers", "", "big 2000\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := r.dial()
			_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
			_ = c.Conn.(*net.TCPConn).SetWriteBuffer(4 << 10)
			c.send(test.first)
			before := h.taken()
			sent, block := 0, []byte(strings.Repeat(test.then, 1000))
			for {
				_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
				n, err := c.Write(block)
				sent += n
				if os.IsTimeout(err) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			taken := h.taken() - before
			if most := 2 << 20; sent > most || taken*2000 > most {
				t.Errorf("%d bytes were sent, %d commands taken", sent, taken)
			}
			_ = c.Close()
		})
	}
	close(h.gate("0"))
}

func TestAddressesAreToldApartBySite(t *testing.T) { // C18
	for _, test := range []struct{ remote, want string }{
		{"192.0.2.1:1", "192.0.2.1"},
		{"[::ffff:192.0.2.1]:1", "192.0.2.1"},
		{"[2001:db8:1:2:3:4:5:6]:1", "2001:db8:1::"},
		{"[fe80::1%eth0]:1", "fe80::"},
		{"[::1]:1", "::"},
	} {
		remote := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(test.remote))
		if got := addressOf(remote).String(); got != test.want {
			t.Errorf("%s: %s, want %s", test.remote, got, test.want)
		}
	}
	if got := addressOf(&net.UnixAddr{}); got.IsValid() {
		t.Errorf("of no address: %s", got)
	}
}

// other is a connection of another listener that shares the gate.
type other struct {
	Entry
	evicted []Eviction
}

func (o *other) Evict(why Eviction) { o.evicted = append(o.evicted, why) }

// Listeners that share a gate share its limits: connections of either are evicted for the other,
// and stopping one server leaves the other's connections alone.
func TestListenersThatShareAGateShareItsBounds(t *testing.T) { // C18
	inBubble(t, Config{MaxConns: 2, MaxPending: 64 << 20}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		g := s.Gate()
		o := new(other)
		if !g.Enter(&o.Entry, &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}, o) {
			t.Fatal("refused where there is room")
		}
		dial()
		synctest.Wait()
		if dial(); len(o.evicted) != 0 || g.Stats().Refused != 1 {
			t.Errorf("evicted %v, refused %d; want the newcomer refused", o.evicted, g.Stats().Refused)
		}
		time.Sleep(idleAfter + time.Second)
		c := dial()
		synctest.Wait()
		if len(o.evicted) != 1 || o.evicted[0] != Idle {
			t.Errorf("evicted %v, want the other listener's once, as idle", o.evicted)
		}
		g.Leave(&o.Entry) // as the listener does when it has closed it
		if n := g.Stats().Connections; n != 2 {
			t.Errorf("%d connections, want 2", n)
		}
		g.Owe(64 << 20)
		if room := g.Share(); room != 0 {
			t.Errorf("%d bytes may be owed where the other listener owes all", room)
		}
		g.Owe(-64 << 20)
		exchange(t, c, "a\n", "= a\n")
	})
}
