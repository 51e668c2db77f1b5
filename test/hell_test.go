package test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// C5, C18: whatever some clients do, the others get correct answers (for latencies see row hell of
// test/bench), and the resources that the bad ones used are freed.
func TestClientsFromHellHarmNobodyElse(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Env: map[string]string{"HERD_WRITE_TIMEOUT": "2s"}})
	e := h.Edges["Clark"]
	good := begin(t, load.Config{
		Addrs: []string{e.Addr}, Prefix: "good-", Rate: size(250.0, 1000), Conns: 50, Clients: 500,
		WhatsatShare: 0.2, Radius: "10", Max: "5",
	})
	pass(t, size(time.Second, 10*time.Second)) // to measure what the good clients cost alone
	memory, connections := e.Memory(), e.Metric("herd_connections")

	span := size(4*time.Second, time.Minute)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	hell := &hell{addr: e.Addr}
	var bad sync.WaitGroup
	for range 50 {
		bad.Go(func() { hell.again(ctx, hell.drip) })
		bad.Go(func() { hell.again(ctx, hell.sayNothing) })
		bad.Go(func() { hell.again(ctx, hell.sayHalf) })
	}
	for range 20 {
		bad.Go(func() { hell.again(ctx, hell.neverRead) })
	}
	for range 10 {
		bad.Go(func() { hell.again(ctx, hell.noise) })
	}
	var long, drops error
	// These two take as long as they need, while the others go on.
	var busy sync.WaitGroup
	busy.Go(func() { long = hell.longLine(t.Context(), size[int64](64<<20, 1<<30)) })
	busy.Go(func() { drops = hell.openAndDrop(t.Context(), size(1000, 10_000), span*3/4) })
	peak := memory
	herdtest.Throughout(t, span, "hell", func() error {
		peak = max(peak, e.Memory())
		return nil
	})
	busy.Wait()
	cancel()
	bad.Wait()
	if long != nil {
		t.Errorf("the longest line: %v", long)
	}
	if drops != nil {
		t.Errorf("open and drop: %v", drops)
	}

	after, back := givenBack(t, e, memory, connections, 32<<20)
	good.stop()
	t.Logf("hell: %d connections, %d MiB sent; memory %.1f MiB before, at most %.1f, %.1f again %v after",
		hell.conns.Load(), hell.bytes.Load()>>20, mib(memory), mib(peak), mib(after), back.Round(time.Millisecond))
	for reason, n := range closedFor(t, e) {
		t.Logf("closed for %s: %v", reason, n)
	}
}

// closedFor returns how many connections were closed, by reason.
func closedFor(t *testing.T, e *herdtest.EdgeProcess) map[string]float64 {
	t.Helper()
	samples, err := e.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	reasons := map[string]float64{}
	for sample, value := range samples {
		if rest, ok := strings.CutPrefix(sample, "herd_connections_closed_total{"); ok && value > 0 {
			reasons[strings.TrimSuffix(rest, "}")] = value
		}
	}
	return reasons
}

// hell are clients that misbehave in various ways.
type hell struct {
	addr  string
	conns atomic.Int64
	bytes atomic.Int64
}

// again runs be with a new connection, again and again until ctx ends.
func (h *hell) again(ctx context.Context, be func(context.Context, *net.TCPConn)) {
	for ctx.Err() == nil {
		h.once(ctx, be)
		select { // a refused connection must not become a loop
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (h *hell) once(ctx context.Context, be func(context.Context, *net.TCPConn)) error {
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		return err
	}
	defer c.Close()
	h.conns.Add(1)
	defer context.AfterFunc(ctx, func() { c.Close() })()
	be(ctx, c.(*net.TCPConn))
	return nil
}

func (h *hell) write(c net.Conn, p []byte) error {
	n, err := c.Write(p)
	h.bytes.Add(int64(n))
	return err
}

// drip sends one byte per second.
func (h *hell) drip(ctx context.Context, c *net.TCPConn) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for _, b := range []byte("IAMAT dripping.example +34.068930-118.445127 1621464827.959498503\n") {
		if h.write(c, []byte{b}) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// sayNothing keeps a connection open and sends nothing.
func (h *hell) sayNothing(ctx context.Context, c *net.TCPConn) { <-ctx.Done() }

// sayHalf ends in the middle of a command and leaves the connection half open.
func (h *hell) sayHalf(ctx context.Context, c *net.TCPConn) {
	h.write(c, []byte("IAMAT half.exam"))
	c.CloseWrite()
	io.Copy(io.Discard, c)
}

// neverRead requests much and reads no answers.
func (h *hell) neverRead(ctx context.Context, c *net.TCPConn) {
	c.SetReadBuffer(4 << 10) // or the kernel reads for it
	c.SetWriteBuffer(4 << 10)
	questions := bytes.Repeat([]byte("WHATSAT good-0 50 20\n"), 100)
	for h.write(c, questions) == nil {
	}
}

// noise sends random bytes ten times a second, and reads the answers.
func (h *hell) noise(ctx context.Context, c *net.TCPConn) {
	go io.Copy(io.Discard, c) // ends with the connection
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		p := make([]byte, 16<<10)
		rand.Read(p)
		if h.write(c, p) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// longLine sends one line of n bytes and expects one answer to it (C5).
func (h *hell) longLine(ctx context.Context, n int64) (err error) {
	part := bytes.Repeat([]byte("x"), 1<<20)
	cerr := h.once(ctx, func(ctx context.Context, c *net.TCPConn) {
		for sent := int64(0); sent < n; sent += int64(len(part)) {
			if err = h.write(c, part); err != nil {
				err = fmt.Errorf("after %d bytes: %w", sent, err)
				return
			}
		}
		h.write(c, []byte("\nhello\n"))
		want := "? " + strings.Repeat("x", 64) + "\n? hello\n"
		got := make([]byte, len(want))
		if _, err = io.ReadFull(c, got); err == nil && string(got) != want {
			err = fmt.Errorf("answered %q, want %q", got, want)
		}
	})
	if cerr != nil {
		return cerr
	}
	return err
}

// openAndDrop opens and closes n connections, every third one with a reset, within span if the
// machine is fast enough.
func (h *hell) openAndDrop(ctx context.Context, n int, span time.Duration) error {
	start := time.Now()
	for i := range n {
		err := h.once(ctx, func(ctx context.Context, c *net.TCPConn) {
			switch i % 3 {
			case 1:
				h.write(c, []byte("IAMAT dropped.exam"))
			case 2:
				h.write(c, []byte("WHATSAT good-0 10 5\n"))
				c.SetLinger(0)
			}
		})
		if err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("only %d connections of %d", i, n)
		case <-time.After(time.Until(start.Add(span * time.Duration(i) / time.Duration(n)))):
		}
	}
	return nil
}

// givenBack waits until what hostile clients took of an edge is given back: their connections, and
// their memory but for most bytes. It returns the memory then, and how long that took.
func givenBack(t *testing.T, e *herdtest.EdgeProcess, memory int64, connections float64, most int64) (after int64, took time.Duration) {
	t.Helper()
	took = herdtest.Eventually(t, herdtest.Promise(20*time.Second), "memory and connections are given back", func() error {
		after = e.Memory()
		if now := e.Metric("herd_connections"); now > connections {
			return fmt.Errorf("%v connections, there were %v", now, connections)
		}
		// The race detector needs memory of its own and does not free it.
		if grown := after - memory; grown > most && !herdtest.RaceDetector {
			return fmt.Errorf("memory is %.1f MiB, it was %.1f", mib(after), mib(memory))
		}
		return nil
	})
	return after, took
}
