package test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// C18: one client costs others nothing. A client that asks for too much waits; one that sends one
// line at a time is answered as if it were alone; and everything is back to normal when the greedy
// clients have gone.
func TestGreedyClientsCostOthersNothing(t *testing.T) {
	for _, form := range []struct {
		name string
		env  map[string]string
	}{
		{"memory", map[string]string{"HERD_JOURNAL": "off"}},
		{"journal", map[string]string{"HERD_DURABILITY": "journal"}},
	} {
		for _, greed := range []struct {
			name  string
			conns int
			be    func(g *greedy, c *net.TCPConn)
		}{
			{"new ids as fast as they go", 20, (*greedy).tellsNewIDs},
			{"new ids without reading", 50, (*greedy).tellsAndNeverReads},
			{"questions without reading", size(100, 1000), (*greedy).asksAndNeverReads},
			{"questions as fast as they go", 20, (*greedy).asks},
		} {
			t.Run(form.name+", "+greed.name, func(t *testing.T) {
				h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Env: form.env, NATS: []string{"-js", "-sd", t.TempDir()}})
				beside(t, h.Edges["Clark"], greed.conns, greed.be)
			})
		}
	}
}

// beside measures a good client, which sends one line at a time, while be runs on many greedy
// connections.
func beside(t *testing.T, e *herdtest.EdgeProcess, conns int, be func(g *greedy, c *net.TCPConn)) {
	echo := startEcho(t)
	talk(t, e.Addr, "IAMAT greedy "+ucla+" 5\n")
	good, bare := &gauge{}, &gauge{}
	goodOn, stopGood := context.WithCancel(t.Context())
	var measured sync.WaitGroup
	defer measured.Wait()
	defer stopGood()
	measured.Go(func() { good.converse(t, goodOn, e.Addr) })
	measured.Go(func() { bare.converse(t, goodOn, echo) })
	// New clients take memory, and up to half as much again while their table grows and until
	// garbage is collected.
	usual := func() int64 { return e.Memory() - int64(e.Metric("herd_positions_bytes")*3/2) }
	before, most := usual(), int64(0)
	connections := e.Metric("herd_connections")

	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	g := &greedy{ctx: ctx, addr: e.Addr}
	var bad sync.WaitGroup
	defer bad.Wait()
	defer stop()
	for range conns {
		bad.Go(func() { g.again(be) })
	}
	// A connection that died while it waited is counted until its next answer fails, in addition to
	// its successor.
	pending, allowed := 0.0, 0.0
	herdtest.Throughout(t, size(3*time.Second, 30*time.Second), "greed", func() error {
		most = max(most, usual())
		open := e.Metric("herd_connections")
		if n := e.Metric("herd_connections_pending_bytes"); n > pending {
			pending, allowed = n, max(open, e.Metric("herd_connections"))*(256<<10)
		}
		return nil
	})
	answered := good.count()
	stop()
	bad.Wait()
	if pending > allowed {
		t.Errorf("%.1f MiB were owed to connections that may be owed %.1f", pending/(1<<20), allowed/(1<<20))
	}
	// The garbage collector lets a heap grow to twice what is in use. Buffers and stacks of
	// connections come on top of what they are owed.
	if bound := int64(conns*768<<10 + 64<<20); most-before > bound && !herdtest.RaceDetector {
		t.Errorf("the edge grew by %.1f MiB beside its table, at most %.1f are expected", mib(most-before), mib(bound))
	}
	var first, last error // the reason that lasted longest for which it was not back to normal
	back := herdtest.Eventually(t, herdtest.Promise(2*time.Second), "all is level again", func() (err error) {
		defer func() { first, last = cmp.Or(first, err), cmp.Or(err, last) }()
		if n := e.Metric("herd_connections"); n > connections {
			return fmt.Errorf("%v connections, there were %v", n, connections)
		}
		if n := e.Metric("herd_connections_pending_bytes"); n > 8<<10 { // the good client's answer waits
			return fmt.Errorf("%v bytes are owed", n)
		}
		if n := e.Metric("herd_journal_lag"); n > 1000 { // NaN without one
			return fmt.Errorf("the journal lacks %v", n)
		}
		return nil
	})
	good.goesOn(t)
	stopGood()
	measured.Wait()
	if answered == 0 {
		t.Error("the good client was not answered at all")
	}
	t.Logf("%d good answers, p99 %v, slowest %v; a bare echo's %d, p99 %v, slowest %v; %d greedy connections, %.1f MiB said; %.1f MiB owed, grown by %.1f MiB, level after %v, because %v, then %v",
		answered, good.quantile(99), good.quantile(100), bare.count(), bare.quantile(99), bare.quantile(100),
		conns, mib(g.said()), pending/(1<<20), mib(most-before), back.Round(time.Millisecond), first, last)
}

// A gauge is a client that sends one line at a time and measures how long the answers take.
type gauge struct {
	mu    sync.Mutex
	times []time.Duration
}

func (g *gauge) converse(t *testing.T, ctx context.Context, addr string) {
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for i := 0; ctx.Err() == nil; i++ {
		line := fmt.Sprintf("IAMAT good %s %d.%09d\n", ucla, time.Now().Unix(), i)
		start := time.Now()
		c.SetDeadline(start.Add(herdtest.Promise(10 * time.Second)))
		if _, err := io.WriteString(c, line); err != nil {
			t.Errorf("answer %d: %v", i, err)
			return
		}
		answer, err := r.ReadString('\n')
		if err != nil || strings.HasPrefix(answer, "? ") {
			t.Errorf("answer %d of the good client after %v: %q, %v", i, time.Since(start), answer, err)
			return
		}
		g.mu.Lock()
		g.times = append(g.times, time.Since(start))
		g.mu.Unlock()
		select { // sends more now and then, but not as much as it can
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// goesOn waits until the client has another answer.
func (g *gauge) goesOn(t *testing.T) {
	t.Helper()
	before := g.count()
	herdtest.Eventually(t, herdtest.Promise(time.Second), "the good client goes on", func() error {
		if g.count() == before {
			return fmt.Errorf("still %d answers", before)
		}
		return nil
	})
}

func (g *gauge) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.times)
}

func (g *gauge) quantile(percent int) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.times) == 0 {
		return 0
	}
	times := slices.Sorted(slices.Values(g.times))
	return times[(len(times)-1)*percent/100].Round(10 * time.Microsecond)
}

// startEcho starts a server that echoes every line.
func startEcho(t *testing.T) (addr string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	return ln.Addr().String()
}

// greedy are clients that use as much as they can get.
type greedy struct {
	ctx  context.Context
	addr string
	mu   sync.Mutex
	ids  int
	all  int64
}

// again runs be with a new connection, again and again.
func (g *greedy) again(be func(*greedy, *net.TCPConn)) {
	for g.ctx.Err() == nil {
		if nc, err := net.Dial("tcp", g.addr); err == nil {
			cut := context.AfterFunc(g.ctx, func() { nc.Close() })
			be(g, nc.(*net.TCPConn))
			cut()
			nc.Close()
		}
		select {
		case <-g.ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (g *greedy) write(c net.Conn, p []byte) bool {
	n, err := c.Write(p)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.all += int64(n)
	return err == nil
}

func (g *greedy) said() int64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.all
}

// newIDs appends n IAMATs of new clients.
func (g *greedy) newIDs(dst []byte, n int, pad string) []byte {
	g.mu.Lock()
	first := g.ids
	g.ids += n
	g.mu.Unlock()
	for i := range n {
		dst = append(dst, "IAMAT greedy-"...)
		dst = append(strconv.AppendInt(dst, int64(first+i), 10), pad...)
		dst = append(dst, " "+ucla+" 5\n"...)
	}
	return dst
}

func (g *greedy) tellsNewIDs(c *net.TCPConn) {
	go io.Copy(io.Discard, c) // ends with the connection
	var lines []byte
	for lines = g.newIDs(lines[:0], 1000, ""); g.write(c, lines); lines = g.newIDs(lines[:0], 1000, "") {
	}
}

func (g *greedy) tellsAndNeverReads(c *net.TCPConn) {
	c.SetReadBuffer(4 << 10)
	var lines []byte
	for lines = g.newIDs(lines[:0], 1000, ""); g.write(c, lines); lines = g.newIDs(lines[:0], 1000, "") {
	}
}

func (g *greedy) asks(c *net.TCPConn) {
	go io.Copy(io.Discard, c) // ends with the connection
	questions := bytes.Repeat([]byte("WHATSAT greedy 50 20\n"), 1000)
	for g.write(c, questions) {
	}
}

func (g *greedy) asksAndNeverReads(c *net.TCPConn) {
	c.SetReadBuffer(4 << 10)
	questions := bytes.Repeat([]byte("WHATSAT greedy 50 20\n"), 1000)
	for g.write(c, questions) {
	}
}

// C18: an edge whose table has its maximum size accepts no new ids, however long they are; known
// clients go on.
func TestAFullMemoryRefusesNewClients(t *testing.T) {
	const most = 16 << 20
	_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_TABLE": "16MiB", "HERD_JOURNAL": "off"})
	talk(t, e.Addr, "IAMAT known "+ucla+" 5\n")
	before := e.Memory()
	g := &greedy{addr: e.Addr}
	pad := strings.Repeat("x", 1000)
	for range size(10, 200) {
		c := dial(t, e.Addr)
		var reading sync.WaitGroup
		reading.Go(func() { io.Copy(io.Discard, c) })
		c.send(string(g.newIDs(nil, 5000, pad)))
		c.CloseWrite()
		reading.Wait()
	}
	if n := e.Metric("herd_positions_bytes"); n > most || n < most*3/4 {
		t.Errorf("the table takes %v bytes, of %d that it may", n, most)
	}
	if grown := e.Memory() - before; grown > 4*most && !herdtest.RaceDetector {
		t.Errorf("the edge grew by %.1f MiB", mib(grown))
	}
	if n := e.Metric("herd_commands_total", `outcome="full"`); n < 30_000 {
		t.Errorf("%v commands are counted as refused", n)
	}
	converse(t, e.Addr, accepted("known "+ucla+" 6"), refused(strings.TrimSuffix(string(g.newIDs(nil, 1, pad)), "\n")))
}

// from dials from another address of this machine.
func from(t *testing.T, host, addr string) (*conn, error) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: herdtest.Promise(5 * time.Second)}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		return nil, err
	}
	c.SetDeadline(time.Now().Add(herdtest.Promise(10 * time.Second)))
	t.Cleanup(func() { c.Close() })
	return &conn{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}, nil
}

// C18: one address may hold all connections only until another needs some.
func TestOneAddressKeepsNobodyOut(t *testing.T) {
	quiet(t)
	const most = 20
	_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_CONNS": fmt.Sprint(most)})
	for range most {
		dial(t, e.Addr).send("hello\n")
	}
	herdtest.Eventually(t, herdtest.Promise(time.Second), "the edge is full", func() error {
		if n := e.Metric("herd_connections"); n != most {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	for i := range most / 2 {
		c, err := from(t, "127.0.0.2", e.Addr)
		if err != nil {
			t.Skipf("skipped: no second address: %v", err)
		}
		c.send("hello\n")
		c.expect("? hello\n")
		if n := e.Metric("herd_connections_closed_total", `reason="address"`); n != float64(i+1) {
			t.Errorf("%v connections gave way to %d", n, i+1)
		}
	}
	last, err := from(t, "127.0.0.2", e.Addr) // would then have more than the other address
	if err != nil {
		t.Fatal(err)
	}
	last.closed()
	third, err := from(t, "127.0.0.3", e.Addr)
	if err != nil {
		t.Fatal(err)
	}
	third.send("hello\n")
	third.expect("? hello\n")
	if n := e.Metric("herd_connections_refused_total"); n != 1 {
		t.Errorf("%v connections are counted as refused, want 1", n)
	}
}

// C18: the admin port has few connections, and answers no requests for other hosts.
func TestTheAdminPortBearsGreed(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_HTTP_HOSTS": "herd.example.org"})
	files := func() int {
		list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", e.Cmd.Process.Pid))
		if err != nil {
			t.Skipf("skipped: %v", err)
		}
		return len(list)
	}
	before := files()
	for i := range 500 {
		c := dial(t, e.HTTP)
		switch i % 3 {
		case 1:
			c.send("GET / HTTP/1.1\r\nHost: ")
		case 2:
			c.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
		}
	}
	for range 20 {
		if err := e.Readyz(); err != nil {
			t.Errorf("beside 500 connections: %v", err)
		}
	}
	if n := files(); n > before+64+8 {
		t.Errorf("%d more files are open", n-before)
	}
	for host, want := range map[string]int{"evil.example": 421, "herd.example.org": 200} {
		r, err := http.NewRequest("GET", "http://"+e.HTTP+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Host = host
		answer, err := herdtest.AdminClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != want {
			t.Errorf("for %s: %s, want %d", host, answer.Status, want)
		}
	}
}
