package load

import (
	"bufio"
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const places = "{\n\"html_attributions\":[],\n\"results\":[],\"status\":\"ZERO_RESULTS\"}\n\n"

// fake is an edge that keeps to the rules, as far as a client sees it. twist may
// change an answer; an answer of nil ends the connection.
type fake struct {
	name  string
	twist func(command, answer []byte) []byte

	mu    sync.Mutex
	known map[string][]byte // AT lines
	lines int
}

func newFake(name string) *fake { return &fake{name: name, known: make(map[string][]byte)} }

func (f *fake) answer(line []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lines++
	verb, rest := wire.Cut(line)
	switch string(verb) {
	case "IAMAT":
		if m, err := wire.ParseIAMAT(rest); err == nil {
			at := m.AppendAT(nil, f.name, time.Now().UnixNano())
			f.known[string(m.Client)] = at
			return at
		}
	case "WHATSAT":
		if m, err := wire.ParseWHATSAT(rest); err == nil && f.known[string(m.Client)] != nil {
			return append(f.known[string(m.Client)][:len(f.known[string(m.Client)]):len(f.known[string(m.Client)])], places...)
		}
	}
	return append([]byte("? "), line...)
}

func (f *fake) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReader(nc)
	out := bufio.NewWriter(nc)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		answer := f.answer(line)
		if f.twist != nil {
			if answer = f.twist(line, answer); answer == nil {
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

// pipe is a Dial that reaches fakes by their name, without sockets, so that it
// works in virtual time.
func pipe(fakes ...*fake) func(context.Context, string) (net.Conn, error) {
	return func(_ context.Context, addr string) (net.Conn, error) {
		for _, f := range fakes {
			if f.name == addr {
				near, far := net.Pipe()
				go f.serve(far)
				return near, nil
			}
		}
		return nil, io.ErrNoProgress
	}
}

// listen serves on a socket until the test ends, and returns the address.
func (f *fake) listen(t testing.TB, wrap func(net.Listener) net.Listener) string {
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
