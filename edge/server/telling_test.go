package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// talk is the Teller of a session. Its commands are
//
//	list NAME N   a list of N lines "! NAME IN i", then "! NAME NOW N"; "? NAME" while there is one of that name
//	off NAME      answered "! NAME OFF", or "? NAME"
//	turn NAME     answered when its turn comes: "turn NAME" and how many turns were taken before
//
// and what say is given is told between answers.
type talk struct {
	inside  atomic.Int32 // calls under way
	strange atomic.Int32 // times when there were two, or one after the session was closed

	mu      sync.Mutex
	wake    func()
	names   map[string]bool
	said    []string // to be told
	list    []string // what is left of an answer that is told
	turns   int
	tells   int
	written int
	stopped bool
	closed  bool
	endless string // told again and again
	during  func() // called by the next Tell, before it returns
}

// enter notes that a method is called, and returns what ends that.
func (k *talk) enter() (leave func()) {
	if k.inside.Add(1) > 1 {
		k.strange.Add(1)
	}
	k.mu.Lock()
	if k.closed {
		k.strange.Add(1)
	}
	return func() {
		k.mu.Unlock()
		k.inside.Add(-1)
	}
}

func (k *talk) take(verb, args string, out *Answers) bool {
	name, number, _ := strings.Cut(args, " ")
	n, _ := strconv.Atoi(number)
	switch verb {
	case "list", "off":
		out.Follow(len(args), func(dst []byte, wake func()) ([]byte, bool) {
			defer k.enter()()
			k.wake = wake
			switch {
			case verb == "list" && !k.names[name]:
				if k.names == nil {
					k.names = make(map[string]bool)
				}
				k.names[name] = true
				for i := range n {
					k.list = append(k.list, fmt.Sprintf("! %s IN %d\n", name, i))
				}
				k.list = append(k.list, fmt.Sprintf("! %s NOW %d\n", name, n))
			case verb == "off" && k.names[name]:
				delete(k.names, name)
				k.list = append(k.list, "! "+name+" OFF\n")
			default:
				return append(dst, "? "+name+"\n"...), false
			}
			return dst, true
		})
	case "turn":
		out.InTurn(len(args), func(dst []byte) []byte {
			defer k.enter()()
			k.turns++
			return fmt.Appendf(dst, "turn %s %d\n", name, k.turns)
		})
	default:
		return false
	}
	return true
}

func (k *talk) Tell(dst []byte, most int) (told []byte, more, listing bool) {
	defer k.enter()()
	if f := k.during; f != nil {
		k.during = nil
		defer f()
	}
	k.tells++
	end := len(dst) + most
	if k.endless != "" && len(k.list) == 0 {
		dst = append(dst, k.endless...)
	}
	for _, lines := range []*[]string{&k.said, &k.list} {
		for len(*lines) > 0 && len(dst) < end {
			dst = append(dst, (*lines)[0]...)
			*lines = (*lines)[1:]
		}
	}
	return dst, len(k.said)+len(k.list) > 0 || k.endless != "", len(k.list) > 0
}

func (k *talk) Written() {
	defer k.enter()()
	k.written++
}

func (k *talk) Watches() int {
	defer k.enter()()
	return len(k.names)
}

func (k *talk) Still(dst []byte) []byte {
	defer k.enter()()
	return append(dst, "! STILL\n"...)
}

func (k *talk) StopTelling() {
	defer k.enter()()
	k.list, k.said = nil, nil
	for name := range k.names {
		k.list = append(k.list, "! "+name+" OFF stopping\n")
	}
	k.names, k.stopped = nil, true
}

func (k *talk) close() {
	defer k.enter()()
	k.closed = true
}

// say has lines told.
func (k *talk) say(lines ...string) {
	k.mu.Lock()
	wake := k.wake
	if !k.closed && !k.stopped {
		k.said = append(k.said, lines...)
	}
	k.mu.Unlock()
	wake()
}

// talk returns the Teller of the nth session.
func (h *herd) talk(n int) *talk {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.talks[n]
}

// wantOrder asserts that a session's Teller was called by one goroutine at a time.
func (k *talk) wantOrder(t *testing.T) {
	t.Helper()
	if n := k.strange.Load(); n > 0 {
		t.Errorf("the teller was called out of turn %d times", n)
	}
}

// listed is what "list NAME n" is answered.
func listed(name string, n int) string {
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "! %s IN %d\n", name, i)
	}
	fmt.Fprintf(&text, "! %s NOW %d\n", name, n)
	return text.String()
}

func TestAListIsToldInItsPlace(t *testing.T) { // L3
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("a\nlist w 20000\nb\nlist w 3\nlist v 0\nturn x\noff w\noff w\nc\n")
	c.want("= a\n" + listed("w", 20000) + "= b\n? w\n" + listed("v", 0) + "turn x 1\n! w OFF\n? w\n= c\n")
	k := h.talk(0)
	k.say("! v IN 7\n", "! v OUT 7\n")
	c.want("! v IN 7\n! v OUT 7\n")
	c.send("d\n")
	c.want("= d\n")
	k.wantOrder(t)
	eventually(t, "all that was told is known to be written", func() bool {
		k.mu.Lock()
		defer k.mu.Unlock()
		return k.written >= 3
	})
}

func TestATurnComesWhenAllBeforeItHaveAnswers(t *testing.T) { // L1, L3
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("turn early\n") // nothing waits
	c.want("turn early 1\n")
	c.send("wait 1\nturn a\nlist w 2\nwait 2\nturn b\nx\n")
	close(h.gate("2"))
	eventually(t, "the last command is taken", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.HasSuffix(strings.Join(h.takes, ""), "x\n") && h.running == 1
	})
	k := h.talk(0)
	k.mu.Lock()
	if k.turns != 1 || k.names["w"] {
		t.Errorf("%d turns taken, watches %v, before their turn", k.turns, k.names)
	}
	k.mu.Unlock()
	close(h.gate("1"))
	c.want("waited 1\nturn a 2\n" + listed("w", 2) + "waited 2\nturn b 3\n= x\n")
	k.wantOrder(t)
}

func TestLinesAreToldBetweenAnswersAndNeverWithinOne(t *testing.T) { // L3
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("list w 0\n")
	c.want(listed("w", 0))
	k := h.talk(0)
	const rounds, each = 300, 100
	var busy sync.WaitGroup
	for who := range 3 {
		busy.Go(func() {
			for i := range rounds {
				var lines []string
				for j := range each {
					lines = append(lines, fmt.Sprintf("! w%d AT %d\n", who, i*each+j))
				}
				k.say(lines...)
			}
		})
	}
	busy.Go(func() {
		for i := range rounds {
			name := fmt.Sprint("gate", i)
			if i%3 == 0 {
				close(h.gate(name))
			}
			if _, err := fmt.Fprintf(c, "big %d\nwait %s\nturn t\nlist v%d 5\nx\n", 100*i, name, i); err != nil {
				t.Error(err)
				return
			}
			if i%3 != 0 {
				close(h.gate(name))
			}
		}
	})
	next, answers := [3]int{}, 0
	for answers < 4*rounds || next != [3]int{rounds * each, rounds * each, rounds * each} {
		line, err := c.r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		var who, n int
		switch round := answers / 4; {
		case strings.HasPrefix(line, "! v"):
			if _, err := fmt.Sscanf(line, "! v%d ", &n); err != nil || n != round || answers%4 != 3 {
				t.Fatalf("%q behind %d answers", line, answers)
			}
		case strings.HasPrefix(line, "! w"):
			if _, err := fmt.Sscanf(line, "! w%d AT %d\n", &who, &n); err != nil || n != next[who] {
				t.Fatalf("told %.100q, want the one of %d", line, next[who])
			}
			next[who]++
		default:
			want := [...]string{strings.Repeat("x", 100*round) + "\n", fmt.Sprintf("waited gate%d\n", round), fmt.Sprintf("turn t %d\n", round+1), "= x\n"}[answers%4]
			if line != want {
				t.Fatalf("answer %d is %.100q, want %.100q", answers, line, want)
			}
			answers++
		}
	}
	busy.Wait()
	k.wantOrder(t)
	_ = c.Close()
	r.wantClosed("client", 1)
	k.wantOrder(t)
}

// What never ends to be told keeps no command from being read and answered.
func TestCommandsHaveTheirTurnWhileThereIsAlwaysMoreToTell(t *testing.T) { // L6
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("list w 0\n")
	c.want(listed("w", 0))
	k := h.talk(0)
	k.mu.Lock()
	k.endless = "! w AT 1\n"
	k.mu.Unlock()
	k.say("! w IN 1\n")
	answer := func(command, want string) {
		t.Helper()
		c.send(command)
		for {
			line, err := c.r.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if line == want {
				return
			}
			if line != "! w AT 1\n" && line != "! w IN 1\n" {
				t.Fatalf("got %q behind %q", line, command)
			}
		}
	}
	for i := range 20 {
		answer("x\n", "= x\n")
		answer("turn t\n", fmt.Sprintf("turn t %d\n", i+1))
	}
	k.mu.Lock()
	k.endless = ""
	k.mu.Unlock()
	answer("off w\n", "! w OFF\n")
	_ = c.Close()
	r.wantClosed("client", 1)
	k.wantOrder(t)
}

func TestAHalfCloseWaitsForTheListsAndEndsTheWatches(t *testing.T) { // L6
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("list u 1\n")
	c.want(listed("u", 1))
	c.send("wait 1\nlist w 50000\nlist v 1\na")
	c.closeWrite()
	eventually(t, "the last command is taken", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.takes[len(h.takes)-1] == "a"
	})
	close(h.gate("1"))
	c.want("waited 1\n" + listed("w", 50000) + listed("v", 1) + "= a\n")
	c.wantEnd()
	r.wantClosed("client", 1)
	h.talk(0).wantOrder(t)
}

func TestAStopHasTheLastWordsOfAWatch(t *testing.T) { // L5, C19
	t.Run("L5 idle", func(t *testing.T) {
		h := newHerd()
		r := serve(t, Config{}, h)
		c := r.dial()
		c.send("list w 1\n")
		c.want(listed("w", 1))
		r.stop()
		c.want("! w OFF stopping\n")
		c.wantEnd()
		_ = c.Close()
		if err := r.stopped(); err != nil {
			t.Error(err)
		}
		h.talk(0).wantOrder(t)
	})
	t.Run("L5 in the middle of a list, half-closed", func(t *testing.T) {
		h := newHerd()
		r := serve(t, Config{}, h)
		c := r.dial()
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		c.send("list w 1000000\nx\n") // more than sockets hold, and than is read before the stop comes
		c.closeWrite()
		c.want("! w IN 0\n")
		r.stop()
		rest, err := io.ReadAll(c.r)
		if err != nil || !bytes.HasSuffix(rest, []byte("\n! w OFF stopping\n= x\n")) {
			t.Errorf("%d bytes, the last %q, %v", len(rest), rest[max(0, len(rest)-100):], err)
		}
		_ = c.Close()
		if err := r.stopped(); err != nil {
			t.Error(err)
		}
		h.talk(0).wantOrder(t)
	})
	t.Run("C19 a client that takes nothing is cut off", func(t *testing.T) {
		h := newHerd()
		r := serve(t, Config{}, h)
		c := r.dial()
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(64 << 10)
		c.send("list w 1000000\n")
		c.want("! w IN 0\n")
		r.stop()
		r.Abort()
		if err := r.stopped(); !errors.Is(err, ErrAborted) {
			t.Errorf("stopped with %v", err)
		}
		h.talk(0).wantOrder(t)
	})
}

func TestAWatcherThatTakesNothingIsClosed(t *testing.T) { // L6, C18
	h := newHerd()
	r := serve(t, Config{WriteTimeout: 200 * time.Millisecond, MaxPending: 64 << 20}, h)
	c := r.dial()
	c.send("list w 1\n")
	c.want(listed("w", 1))
	k := h.talk(0)
	line := "! w AT " + strings.Repeat("x", 1000) + "\n"
	for range 20_000 {
		k.say(line)
	}
	r.wantClosed("write", 1)
	eventually(t, "nothing is owed", func() bool { return r.Stats().Pending == 0 })
	k.wantOrder(t)
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.closed {
		t.Error("the session was not closed")
	}
}

// One connection's told lines are bounded, however much there is to tell (L4, C18).
func TestWhatIsToldIsBounded(t *testing.T) {
	h := newHerd()
	r := serve(t, Config{WriteTimeout: time.Minute, MaxPending: 64 << 20}, h)
	line := "! w AT " + strings.Repeat("x", 1000) + "\n"
	const conns = 20
	for i := range conns {
		c := r.dial()
		c.send("list w 0\n")
		c.want(listed("w", 0))
		k := h.talk(i)
		for range 5000 {
			k.say(line)
		}
	}
	eventually(t, "all wait for their clients", func() bool { return r.Stats().Pending >= conns*flushAt*9/10 })
	for range 100 {
		if owed := r.Stats().Pending; owed > int64(conns*(2*flushAt+len(line))) {
			t.Fatalf("%d bytes owed by %d connections", owed, conns)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAConnectionThatWatchesIsNotIdle(t *testing.T) { // L6
	const idle = time.Minute
	inBubble(t, Config{IdleTimeout: idle}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		c := dial()
		exchange(t, c, "list w 1\n", listed("w", 1))
		for range 100 { // 50 minutes
			start := time.Now()
			exchange(t, c, "", "! STILL\n")
			if silent := time.Since(start); silent != 30*time.Second {
				t.Fatalf("STILL after %v, want 30s", silent)
			}
		}
		k := h.talk(0)
		for range 5 {
			time.Sleep(29 * time.Second)
			go k.say("! w AT 1\n")
			exchange(t, c, "", "! w AT 1\n") // told: no STILL
		}
		time.Sleep(20 * time.Second)
		exchange(t, c, "x\n", "= x\n") // an answer is nothing told
		start := time.Now()
		exchange(t, c, "", "! STILL\n")
		if silent := time.Since(start); silent != 10*time.Second {
			t.Errorf("STILL %v after an answer, want 10s", silent)
		}
		exchange(t, c, "off w\n", "! w OFF\n")
		if open := openFor(c, time.Hour, func() {}); open != idle {
			t.Errorf("open for %v without a watch, want %v", open, idle)
		}
		if got := s.Stats().Closed["idle"]; got != 1 {
			t.Errorf("closed: %v", s.Stats().Closed)
		}
		k.wantOrder(t)
	})
}

func TestAWatchThatTheEdgeEndsLeavesAnIdleConnection(t *testing.T) { // L5, L6
	inBubble(t, Config{IdleTimeout: time.Minute}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		c := dial()
		exchange(t, c, "list w 0\n", listed("w", 0))
		for range 5 {
			exchange(t, c, "", "! STILL\n")
		}
		k := h.talk(0)
		k.mu.Lock()
		k.names = nil
		k.mu.Unlock()
		go k.say("! w OFF full\n")
		exchange(t, c, "", "! w OFF full\n")
		if open := openFor(c, time.Hour, func() {}); open != time.Minute {
			t.Errorf("open for %v behind the last watch, want 1m", open)
		}
	})
}

// A client that takes nothing for a while is told no STILL on top of what waits.
func TestNoStillWhileTheClientTakesNothing(t *testing.T) {
	inBubble(t, Config{WriteTimeout: time.Hour}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		c := dial()
		exchange(t, c, "list w 0\n", listed("w", 0))
		k := h.talk(0)
		go k.say("! w AT 1\n")
		time.Sleep(10 * time.Minute)
		k.mu.Lock()
		tells := k.tells
		k.mu.Unlock()
		if tells > 5 {
			t.Errorf("asked %d times for what is to be told to a client that takes nothing", tells)
		}
		exchange(t, c, "", "! w AT 1\n")
		start := time.Now()
		exchange(t, c, "", "! STILL\n")
		if silent := time.Since(start); silent > 31*time.Second {
			t.Errorf("STILL after %v", silent)
		}
	})
}

func TestARestDoesNotEndAWatch(t *testing.T) {
	inBubble(t, Config{IdleTimeout: time.Hour}, func(t *testing.T, s *Server, h *herd, dial dialer) {
		c := dial()
		exchange(t, c, "a\nlist w 0\n", "= a\n"+listed("w", 0))
		for range 4 {
			exchange(t, c, "", "! STILL\n")
			exchange(t, c, "b\n", "= b\n")
		}
		k := h.talk(0)
		go k.say("! w IN 1\n")
		exchange(t, c, "", "! w IN 1\n")
		synctest.Wait()
		if n := s.Stats().Connections; n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

// Many connections that come, watch, are told and go at any moment.
// A wake may come while the teller is asked, and has nothing to say: it is not the last that is heeded.
func TestAWakeWhileTheTellerIsAskedIsHeeded(t *testing.T) { // L4
	h := newHerd()
	r := serve(t, Config{WriteTimeout: time.Minute}, h)
	c := r.dial()
	c.send("list w 0\n")
	c.want(listed("w", 0))
	k := h.talk(0)
	for i := range 10 {
		k.mu.Lock()
		asked := make(chan struct{})
		k.during = func() {
			k.wake()
			close(asked)
		}
		k.mu.Unlock()
		k.say() // nothing
		<-asked
		line := fmt.Sprintf("! w AT %d\n", i)
		k.say(line)
		c.want(line)
	}
	k.wantOrder(t)
}

func TestWatchersComeAndGo(t *testing.T) {
	h := newHerd()
	r := serve(t, Config{WriteTimeout: 5 * time.Second}, h)
	var busy sync.WaitGroup
	done := make(chan struct{})
	var talking sync.WaitGroup
	talking.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
			}
			h.mu.Lock()
			talks := h.talks[max(0, len(h.talks)-8):]
			h.mu.Unlock()
			for _, k := range talks {
				k.mu.Lock()
				ready := k.wake != nil
				k.mu.Unlock()
				if ready {
					k.say(fmt.Sprintf("! w AT %d\n", i))
				}
			}
		}
	})
	for who := range 4 {
		busy.Go(func() {
			for i := range 100 {
				nc, err := net.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(nc, "x\nlist w 100\nwait gate\noff w\nlist v 1\n")
				switch (who + i) % 4 {
				case 0: // without a word
				case 1:
					_, _ = io.CopyN(io.Discard, nc, 500)
				case 2:
					_ = nc.(*net.TCPConn).CloseWrite()
					_, _ = io.CopyN(io.Discard, nc, 500)
				case 3:
					_ = nc.(*net.TCPConn).SetLinger(0)
				}
				_ = nc.Close()
			}
		})
	}
	busy.Wait()
	close(h.gate("gate"))
	eventually(t, "all are gone", func() bool { return r.Stats().Connections == 0 })
	close(done)
	talking.Wait()
	if owed := r.Stats().Pending; owed != 0 {
		t.Errorf("%d bytes owed by nobody", owed)
	}
	for i := range 400 {
		h.talk(i).wantOrder(t)
	}
	if opened, closed := h.count(); opened != 400 || closed != 400 {
		t.Errorf("%d sessions opened, %d closed", opened, closed)
	}
}
