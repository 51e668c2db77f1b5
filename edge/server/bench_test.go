package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	benchLine   = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"
	benchAnswer = "AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"
)

// constant gives the same answer to every line.
type constant struct{}

func (constant) Open(string, netip.Addr, *tls.ConnectionState) Session { return constant{} }
func (constant) Take(_ time.Time, lines []byte, out *Answers) (taken int) {
	for out.Room() > 0 && taken < len(lines) {
		some := lines[taken:min(len(lines), taken+4<<10)]
		if taken+len(some) < len(lines) {
			some = some[:bytes.LastIndexByte(some, '\n')+1]
		}
		for range bytes.Count(some, []byte{'\n'}) {
			out.Append([]byte(benchAnswer))
		}
		taken += len(some)
	}
	return taken
}
func (constant) Overlong(time.Time, []byte, []byte, *Answers) {}
func (constant) Close()                                       {}

// BenchmarkCommands measures commands over 50 connections, with 32 in flight on each: by this
// server, and by the least that could serve them, a bufio.Scanner and a bufio.Writer per connection
// without any guarantee.
func BenchmarkCommands(b *testing.B) {
	b.Run("herd", func(b *testing.B) {
		ln := listen(b)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- New(Config{}, constant{}).Serve(ctx, ln) }()
		load(b, ln.Addr().String(), 50, 32)
		cancel()
		if err := <-done; err != nil {
			b.Error(err)
		}
	})
	b.Run("floor", func(b *testing.B) {
		ln := listen(b)
		var conns sync.WaitGroup
		conns.Go(func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				conns.Go(func() { bare(nc) })
			}
		})
		load(b, ln.Addr().String(), 50, 32)
		_ = ln.Close()
		conns.Wait()
	})
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return ln
}

func bare(nc net.Conn) {
	defer nc.Close()
	r, w := bufio.NewReaderSize(nc, 32<<10), bufio.NewWriterSize(nc, 64<<10)
	for {
		if _, err := r.ReadSlice('\n'); err != nil {
			return
		}
		_, _ = w.WriteString(benchAnswer)
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
	}
}

// load sends b.N commands.
func load(b *testing.B, addr string, conns, deep int) {
	b.Helper()
	commands := bytes.Repeat([]byte(benchLine), deep)
	var left atomic.Int64
	left.Store(int64(b.N))
	var clients sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	for range conns {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		clients.Go(func() {
			defer nc.Close()
			answers := make([]byte, deep*len(benchAnswer))
			for left.Add(-int64(deep)) > -int64(deep) {
				if _, err := nc.Write(commands); err != nil {
					b.Error(err)
					return
				}
				if _, err := io.ReadFull(nc, answers); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	clients.Wait()
	b.StopTimer()
}

// BenchmarkTake measures the server's own share of a read of 32 commands, without sockets.
func BenchmarkTake(b *testing.B) {
	s := New(Config{}, constant{})
	c := newConn(s, &nowhere{})
	c.nc, c.session = &c.socket, constant{}
	commands := bytes.Repeat([]byte(benchLine), 32)
	c.borrow(&s.buffers)
	b.ReportAllocs()
	for b.Loop() {
		copy(c.in.b, commands)
		c.receive(time.Now(), len(commands))
	}
}

type nowhere struct{ tape }

func (*nowhere) Write(p []byte) (int, error) { return len(p), nil }

// raceDetector: pools then drop objects at random, and stacks are larger.
var raceDetector bool

func TestCommandsAllocateNothing(t *testing.T) {
	r := serve(t, Config{}, constant{})
	c := r.dial()
	commands := bytes.Repeat([]byte(benchLine), 32)
	commands = append(commands, "IAMAT"...) // the rest comes with the next read
	answers := make([]byte, 32*len(benchAnswer))
	round := func() {
		if _, err := c.Write(commands); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.Conn, answers); err != nil {
			t.Fatal(err)
		}
	}
	for range 10 {
		round()
	}
	if got := testing.AllocsPerRun(500, round); got != 0 && !raceDetector {
		t.Errorf("%v allocations for 32 commands, want none", got)
	}
}

// TestAnIdleConnectionIsSmall measures the memory that Go uses per connection. The clients are raw
// sockets, for which Go keeps nothing.
func TestAnIdleConnectionIsSmall(t *testing.T) {
	n := 500
	if os.Getenv("HERD_TEST") == "full" {
		n = 5000
	}
	r := serve(t, Config{}, constant{})
	addr, err := net.ResolveTCPAddr("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	size := func() uint64 {
		runtime.GC()
		runtime.GC() // empties pools
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc + m.StackInuse
	}
	before := size()
	fds := make([]int, 0, n)
	defer func() {
		for _, fd := range fds {
			_ = syscall.Close(fd)
		}
	}()
	to := &syscall.SockaddrInet4{Port: addr.Port}
	copy(to.Addr[:], addr.IP.To4())
	for range n {
		fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
		if err != nil {
			t.Fatal(err)
		}
		fds = append(fds, fd)
		if err := syscall.Connect(fd, to); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are served", func() bool { return r.Stats().Connections == n })
	// A goroutine that does not wait yet has a larger stack, and the collector shrinks stacks one
	// by one. What counts is the size at the end.
	var silent uint64
	each := func() uint64 { return max(size(), before) - before }
	eventually(t, "a connection that said nothing takes at most 5 KiB", func() bool {
		silent = each() / uint64(n)
		return silent <= 5<<10 || raceDetector
	})
	for _, fd := range fds {
		if _, err := syscall.Write(fd, []byte(benchLine)); err != nil {
			t.Fatal(err)
		}
		if _, err := syscall.Read(fd, make([]byte, len(benchAnswer))); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes per connection that said nothing, %d after a command", silent, each()/uint64(n))
}
