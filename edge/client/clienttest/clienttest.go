// Package clienttest has a fake edge for tests of what speaks to edges, in memory or
// over sockets. It keeps to the rules as far as a client sees it, unless it is told
// otherwise, and knows of no herd.
package clienttest

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"herd/edge/wire"
)

const places = "{\n\"html_attributions\":[],\n\"results\":[],\"status\":\"ZERO_RESULTS\"}\n\n"

// Fake is an edge that keeps to the rules, as far as a client sees it.
type Fake struct {
	Name string

	// Twist, if not nil, may change an answer to a command, both with their line ends; an
	// answer of nil ends the connection. It is called on the goroutine of the connection.
	Twist func(command, answer []byte) []byte

	Mu    sync.Mutex
	Known map[string][]byte // AT lines by client; guarded by Mu
	Lines int               // commands so far; guarded by Mu
}

// New makes a fake edge of that name, which knows no client.
func New(name string) *Fake { return &Fake{Name: name, Known: make(map[string][]byte)} }

func (f *Fake) answer(line []byte) []byte {
	f.Mu.Lock()
	defer f.Mu.Unlock()
	f.Lines++
	verb, rest := wire.Cut(line)
	switch string(verb) {
	case "IAMAT":
		if m, err := wire.ParseIAMAT(rest); err == nil {
			at := m.AppendAT(nil, f.Name, time.Now().UnixNano())
			f.Known[string(m.Client)] = at
			return at
		}
	case "WHATSAT":
		if m, err := wire.ParseWHATSAT(rest); err == nil && f.Known[string(m.Client)] != nil {
			return append(f.Known[string(m.Client)][:len(f.Known[string(m.Client)]):len(f.Known[string(m.Client)])], places...)
		}
	}
	return append(append([]byte("? "), wire.TrimEnd(line)...), '\n') // C4
}

func (f *Fake) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	out := bufio.NewWriter(nc)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		answer := f.answer(line)
		if f.Twist != nil {
			if answer = f.Twist(line, answer); answer == nil {
				out.Flush()
				return
			}
		}
		out.Write(answer)
		if in.Buffered() == 0 && out.Flush() != nil {
			return
		}
	}
}

// Pipe is a dialer that reaches fakes by their names, without sockets, so that it
// works in virtual time.
func Pipe(fakes ...*Fake) func(context.Context, string) (net.Conn, error) {
	return func(_ context.Context, addr string) (net.Conn, error) {
		for _, f := range fakes {
			if f.Name == addr {
				near, far := net.Pipe()
				go f.serve(far)
				return near, nil
			}
		}
		return nil, io.ErrNoProgress
	}
}

// Listen serves on a socket until the test ends, and returns the address.
func (f *Fake) Listen(t testing.TB, wrap func(net.Listener) net.Listener) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if wrap != nil {
		ln = wrap(ln)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { f.serve(nc) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return addr
}
