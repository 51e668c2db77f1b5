package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// asHerd makes the test binary run the herd command, for tests that need a process.
const asHerd = "TEST_BINARY_IS_HERD"

func TestMain(m *testing.M) {
	if os.Getenv(asHerd) != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// limit bounds everything that a test waits for.
const limit = time.Minute

// tool runs the herd command in this process as a user would.
type tool struct {
	t              *testing.T
	environ        []string
	stdin          string
	stdout, stderr text
	signals        chan chan<- os.Signal // channels that the running command wants signals on
}

func newTool(t *testing.T, environ ...string) *tool {
	return &tool{t: t, environ: environ, signals: make(chan chan<- os.Signal, 1)}
}

// run runs the command to its end and returns its exit code.
func (o *tool) run(args ...string) int {
	o.t.Helper()
	ctx, cancel := context.WithTimeout(o.t.Context(), limit)
	defer cancel()
	return run(ctx, args, &process{
		stdin: strings.NewReader(o.stdin), stdout: &o.stdout, stderr: &o.stderr, environ: o.environ,
		notify: func(c chan<- os.Signal, _ ...os.Signal) func() {
			o.signals <- c
			return func() {}
		},
		exit: func(code int) { panic(fmt.Sprintf("herd %q hangs, and ends with exit %d", args, code)) },
	})
}

// want runs the command and checks its exit code, and that a failure prints a message.
func (o *tool) want(code int, args ...string) {
	o.t.Helper()
	if got := o.run(args...); got != code {
		o.t.Fatalf("herd %q exits %d, want %d\nstdout: %s\nstderr: %s", args, got, code, o.stdout.String(), o.stderr.String())
	}
	if code != exitOK && o.stderr.String() == "" {
		o.t.Errorf("herd %q exits %d without a word", args, code)
	}
}

// text is a buffer that one goroutine may write while another waits for its content.
type text struct {
	mu      sync.Mutex
	b       bytes.Buffer
	changed chan struct{} // closed by the next Write
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.changed != nil {
		close(x.changed)
		x.changed = nil
	}
	return x.b.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.b.String()
}

// await waits until the text contains part, and returns all of it.
func (x *text) await(t *testing.T, part string) string {
	t.Helper()
	timeout := time.After(limit)
	for {
		x.mu.Lock()
		all := x.b.String()
		if x.changed == nil {
			x.changed = make(chan struct{})
		}
		changed := x.changed
		x.mu.Unlock()
		if strings.Contains(all, part) {
			return all
		}
		select {
		case <-changed:
		case <-timeout:
			t.Fatalf("no %q within %v in:\n%s", part, limit, all)
		}
	}
}

// listener is an edge that only listens, and gives the same answer to everything.
type listener struct {
	addr  string
	lines chan string // the lines received
}

func listen(t *testing.T, answer string) *listener { return listenTLS(t, answer, nil) }

// listenTLS is like listen, over TLS if secure is not nil.
func listenTLS(t *testing.T, answer string, secure *tls.Config) *listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if secure != nil {
		ln = tls.NewListener(ln, secure)
	}
	l := &listener{addr: ln.Addr().String(), lines: make(chan string, 16)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			nc, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer nc.Close()
				in := bufio.NewReader(nc)
				for {
					line, err := in.ReadString('\n')
					if err != nil {
						return
					}
					l.lines <- line
					if _, err := nc.Write([]byte(answer)); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		ln.Close()
		wg.Wait()
	})
	return l
}

// closedAddr returns an address where nobody listens and that nobody else can use before the
// test ends.
func closedAddr(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("127.0.0.1:%d", name.(*unix.SockaddrInet4).Port)
}
