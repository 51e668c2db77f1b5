package test

import (
	"net"
	"sync"
	"testing"
)

// proxy stands between one edge and the broker. Silent, it goes on accepting connections
// and moves no byte in either direction, as a failed network device does: nobody is told.
type proxy struct {
	ln     net.Listener
	target string

	mu    sync.Mutex
	moves *sync.Cond
	quiet bool
	over  bool
	open  map[net.Conn]bool
}

func startProxy(t *testing.T, target string) *proxy {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen for a proxy: %v", err)
	}
	p := &proxy{ln: ln, target: target, open: map[net.Conn]bool{}}
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

func (p *proxy) addr() string { return p.ln.Addr().String() }

// silent stops or resumes the traffic of all connections, old and new. What was read
// before the silence arrives after it.
func (p *proxy) silent(yes bool) {
	p.mu.Lock()
	p.quiet = yes
	p.mu.Unlock()
	p.moves.Broadcast()
}

// await blocks while the proxy is silent; it returns false when the test is over.
func (p *proxy) await() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.quiet && !p.over {
		p.moves.Wait()
	}
	return !p.over
}

// keep has conn closed at the end of the test.
func (p *proxy) keep(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		conn.Close()
	}
	p.open[conn] = true
}

func (p *proxy) drop(conn net.Conn) {
	conn.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.open, conn)
}

func (p *proxy) serve(near net.Conn) {
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

func (p *proxy) move(to, from net.Conn) {
	defer to.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if !p.await() {
			return
		}
		if _, werr := to.Write(buf[:n]); werr != nil || err != nil {
			return
		}
	}
}
