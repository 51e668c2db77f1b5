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
)

// C5, C18: whatever some clients do, the others get right answers soon, and what the bad
// ones cost is given back.
func TestClientsFromHellHarmNobodyElse(t *testing.T) {
	h := newHerd(t, options{env: map[string]string{"HERD_WRITE_TIMEOUT": "2s"}})
	e := h.edges["Clark"]
	good := begin(t, load.Config{
		Addrs: []string{e.addr}, Prefix: "good-", Rate: size(250.0, 1000), Conns: 50, Clients: 500,
		WhatsatShare: 0.2, Radius: "10", Max: "5",
	})
	pass(t, size(time.Second, 10*time.Second)) // what the good ones cost alone
	memory, connections := e.memory(), e.metric("herd_connections")

	ctx, cancel := context.WithTimeout(t.Context(), size(4*time.Second, time.Minute))
	defer cancel()
	hell := &hell{addr: e.addr}
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
	bad.Go(func() { long = hell.longLine(ctx, size[int64](64<<20, 1<<30)) })
	bad.Go(func() { drops = hell.openAndDrop(ctx, size(1000, 10_000)) })
	peak := memory
	throughout(t, time.Until(deadline(ctx)), "hell", func() error {
		peak = max(peak, e.memory())
		return nil
	})
	bad.Wait()
	if long != nil {
		t.Errorf("the longest line: %v", long)
	}
	if drops != nil {
		t.Errorf("open and drop: %v", drops)
	}

	var after int64
	back := eventually(t, size(20*time.Second, 2*time.Minute), "memory and connections are given back", func() error {
		after = e.memory()
		if now := e.metric("herd_connections"); now > connections {
			return fmt.Errorf("%v connections, there were %v", now, connections)
		}
		// The race detector keeps its own notes on memory, and does not give those back.
		if grown := after - memory; grown > 32<<20 && !raceDetector {
			return fmt.Errorf("memory is %.1f MiB, it was %.1f", mib(after), mib(memory))
		}
		return nil
	})
	good.stop()
	t.Logf("hell: %d connections, %d MiB sent; memory %.1f MiB before, at most %.1f, %.1f again %v after",
		hell.conns.Load(), hell.bytes.Load()>>20, mib(memory), mib(peak), mib(after), back.Round(time.Millisecond))
	if p99 := good.quantile(99); p99 > delay(50*time.Millisecond) && !raceDetector {
		t.Errorf("the good clients' p99 is %v, want at most %v", p99, delay(50*time.Millisecond))
	}
	for reason, n := range closedFor(t, e) {
		t.Logf("closed for %s: %v", reason, n)
	}
}

func deadline(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// closedFor is how many connections were closed, by reason.
func closedFor(t *testing.T, e *edge) map[string]float64 {
	t.Helper()
	samples, err := e.metrics()
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

// hell is clients as nobody wants them.
type hell struct {
	addr  string
	conns atomic.Int64
	bytes atomic.Int64
}

// again connects, lets be do what it does until that ends, and so on.
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

// drip says one byte a second.
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

// sayNothing holds a connection.
func (h *hell) sayNothing(ctx context.Context, c *net.TCPConn) { <-ctx.Done() }

// sayHalf leaves a command half said and the connection half open.
func (h *hell) sayHalf(ctx context.Context, c *net.TCPConn) {
	h.write(c, []byte("IAMAT half.exam"))
	c.CloseWrite()
	io.Copy(io.Discard, c)
}

// neverRead asks for much and reads none of it.
func (h *hell) neverRead(ctx context.Context, c *net.TCPConn) {
	c.SetReadBuffer(4 << 10) // or the kernel reads for it
	c.SetWriteBuffer(4 << 10)
	questions := bytes.Repeat([]byte("WHATSAT good-0 50 20\n"), 100)
	for h.write(c, questions) == nil {
	}
}

// noise says random bytes, ten times a second, and reads the answers.
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

// longLine says one line of n bytes and wants the one answer to it (C5).
func (h *hell) longLine(ctx context.Context, n int64) (err error) {
	part := bytes.Repeat([]byte("x"), 1<<20)
	err = fmt.Errorf("%w: no time", context.DeadlineExceeded)
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

// openAndDrop opens n connections and drops them, each third one with a reset.
func (h *hell) openAndDrop(ctx context.Context, n int) error {
	start, span := time.Now(), time.Until(deadline(ctx))*3/4
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
