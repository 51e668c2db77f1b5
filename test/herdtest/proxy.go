package herdtest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Proxy is a TCP proxy between one edge and the broker. While it is silent, it accepts
// connections but moves no bytes in either direction, and neither side gets an error, as with a
// failed network device. A delay simulates distance.
type Proxy struct {
	ln     net.Listener
	target string
	delay  time.Duration // of each byte, in each direction

	mu    sync.Mutex
	moves *sync.Cond
	quiet bool
	over  bool
	rate  int // bytes per second, per connection and direction; 0: no limit
	open  map[net.Conn]bool
}

// StartProxy starts a proxy to a target, HOST:PORT. It runs until the test ends.
func StartProxy(t testing.TB, target string, delay time.Duration) *Proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for a proxy: %v", err)
	}
	p := &Proxy{ln: ln, target: target, delay: delay, open: map[net.Conn]bool{}}
	p.moves = sync.NewCond(&p.mu)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := ln.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(near) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		p.mu.Lock()
		p.over = true
		for conn := range p.open {
			conn.Close()
		}
		p.mu.Unlock()
		p.moves.Broadcast()
		running.Wait()
	})
	return p
}

// Addr returns the address on which the proxy listens.
func (p *Proxy) Addr() string { return p.ln.Addr().String() }

// Silent stops or resumes the traffic of all connections, old and new. Bytes that were read
// before the silence arrive after it.
func (p *Proxy) Silent(yes bool) {
	p.mu.Lock()
	p.quiet = yes
	p.mu.Unlock()
	p.moves.Broadcast()
}

// Limit limits all connections, old and new, to a rate in each direction.
func (p *Proxy) Limit(bytesPerSecond int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rate = bytesPerSecond
}

// takes returns how long n bytes take at the limit.
func (p *Proxy) takes(n int) time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rate == 0 {
		return 0
	}
	return time.Duration(n) * time.Second / time.Duration(p.rate)
}

// await blocks while the proxy is silent; it returns false when the test is over.
func (p *Proxy) await() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.quiet && !p.over {
		p.moves.Wait()
	}
	return !p.over
}

// keep makes conn close at the end of the test.
func (p *Proxy) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		conn.Close()
	}
	p.open[conn] = true
}

func (p *Proxy) drop(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *Proxy) serve(near net.Conn) {
	p.keep(near)
	defer p.drop(near)
	if !p.await() {
		return
	}
	far, err := net.Dial("tcp", p.target)
	if err != nil {
		return
	}
	p.keep(far)
	defer p.drop(far)
	var both sync.WaitGroup
	both.Go(func() { p.move(far, near) })
	both.Go(func() { p.move(near, far) })
	both.Wait()
}

func (p *Proxy) move(to, from net.Conn) {
	defer to.Close()
	if p.delay > 0 {
		p.moveLate(to, from)
		return
	}
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		time.Sleep(p.takes(n))
		if !p.await() {
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}

// moveLate is move with the delay: it writes bytes once the delay has passed since it read them,
// and reads more meanwhile.
func (p *Proxy) moveLate(to, from net.Conn) {
	type piece struct {
		due  time.Time
		data []byte
	}
	way := make(chan piece, 1<<10)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer close(way)
	writer.Go(func() {
		defer to.Close()
		broken := false
		for x := range way {
			time.Sleep(time.Until(x.due)) // the delay
			if broken || !p.await() {
				continue
			}
			if _, err := to.Write(x.data); err != nil {
				broken = true
				from.Close() // ends the reader
			}
		}
	})
	for {
		buf := make([]byte, 64<<10)
		n, err := from.Read(buf)
		if n > 0 {
			way <- piece{time.Now().Add(p.delay), buf[:n]}
		}
		if err != nil || !p.await() {
			return
		}
	}
}
