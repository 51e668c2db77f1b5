package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// herd is a Handler whose sessions answer "= " and the line, except for
//
//	wait NAME   answered "waited NAME" once the gate NAME is open, or "ended NAME" if its context ends before
//	big N       N bytes and LF
//	bye         answered "bye", then the connection closes
//
// and an overlong line, which is answered "~ HEAD TAIL".
type herd struct {
	mu       sync.Mutex
	gates    map[string]chan struct{}
	takes    []string
	received []time.Time
	running  int
	most     int // running at once
	opened   []string
	closed   int
	states   []*tls.ConnectionState
	asked    chan string // the names of those that wait, as they are asked for; nil: nobody looks
}

func newHerd() *herd { return &herd{gates: make(map[string]chan struct{})} }

func (h *herd) gate(name string) chan struct{} {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gates[name] == nil {
		h.gates[name] = make(chan struct{})
	}
	return h.gates[name]
}

func (h *herd) Open(remote string, state *tls.ConnectionState) Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, remote)
	h.states = append(h.states, state)
	return &session{h: h}
}

func (h *herd) count() (opened, closed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.opened), h.closed
}

type session struct {
	h      *herd
	closed bool
}

func (s *session) Take(received time.Time, lines []byte, out *Answers) {
	s.h.mu.Lock()
	s.h.takes = append(s.h.takes, string(lines))
	s.h.received = append(s.h.received, received)
	if s.closed {
		panic("Take after Close")
	}
	s.h.mu.Unlock()
	for len(lines) > 0 {
		line, rest, _ := bytes.Cut(lines, []byte{'\n'})
		lines = rest
		line = bytes.TrimSuffix(line, []byte{'\r'})
		verb, args, _ := strings.Cut(string(line), " ")
		switch verb {
		case "wait":
			out.Later(s.h.wait(args))
		case "big":
			n, _ := strconv.Atoi(args)
			out.Append(append(bytes.Repeat([]byte{'x'}, n), '\n'))
		case "bye":
			out.Append([]byte("bye\n"))
			out.Close()
		default:
			out.Append([]byte("= " + string(line) + "\n"))
		}
	}
}

func (h *herd) wait(name string) func(context.Context) []byte {
	gate := h.gate(name)
	return func(ctx context.Context) []byte {
		h.mu.Lock()
		h.running++
		h.most = max(h.most, h.running)
		h.mu.Unlock()
		if h.asked != nil {
			h.asked <- name
		}
		answer := "waited " + name + "\n"
		select {
		case <-gate:
		case <-ctx.Done():
			answer = "ended " + name + "\n"
		}
		h.mu.Lock()
		h.running--
		h.mu.Unlock()
		return []byte(answer)
	}
}

func (s *session) Overlong(_ time.Time, head, tail []byte, out *Answers) {
	out.Append([]byte("~ " + string(head) + " " + string(tail) + "\n"))
}

func (s *session) Close() {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	s.closed = true
	s.h.closed++
}

// running is a server that serves on loopback.
type running struct {
	*Server
	t    *testing.T
	addr string
	stop context.CancelFunc
	done chan error // what Serve returned
}

func serve(t *testing.T, cfg Config, h Handler) *running {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, cfg, h, ln)
}

func serveOn(t *testing.T, cfg Config, h Handler, ln net.Listener) *running {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &running{New(cfg, h), t, ln.Addr().String(), cancel, make(chan error, 1)}
	go func() { r.done <- r.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		r.Abort()
		if err, ok := <-r.done; ok && err != nil && !errors.Is(err, ErrAborted) {
			t.Errorf("Serve: %v", err)
		}
	})
	return r
}

// stopped waits for Serve to return, after stop.
func (r *running) stopped() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		close(r.done)
		return err
	case <-time.After(20 * time.Second):
		r.t.Fatal("still not stopped after 20 s")
		return nil
	}
}

// client is a connection with a deadline, so that a lost answer fails a test
// rather than hanging it.
type client struct {
	net.Conn
	t *testing.T
	r *bufio.Reader
}

func (r *running) dial() *client {
	r.t.Helper()
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	return wrap(r.t, nc)
}

func wrap(t *testing.T, nc net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { _ = nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &client{nc, t, bufio.NewReader(nc)}
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// want reads as many bytes as text has.
func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c.r, got)
	if string(got[:n]) != text {
		c.t.Fatalf("got %.200q (%v), want %.200q", got[:n], err, text)
	}
}

// wantEnd asserts that the server closed its side, in an orderly way, and nothing more came.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("got %.200q, %v, want the end of the stream", rest, err)
	}
}

// wantGone asserts that the connection is closed, in whatever way.
func (c *client) wantGone() {
	c.t.Helper()
	var timeout net.Error
	if _, err := io.Copy(io.Discard, c.r); errors.As(err, &timeout) && timeout.Timeout() {
		c.t.Fatal("the connection is still open")
	}
}

func (c *client) closeWrite() {
	c.t.Helper()
	if err := c.Conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		c.t.Fatal(err)
	}
}

// eventually waits for what another goroutine is about to do.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(20 * time.Second); !is(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("still not so: %s", what)
		}
	}
}

func (r *running) wantClosed(reason string, n uint64) {
	r.t.Helper()
	eventually(r.t, "closed by reason "+reason, func() bool { return r.Stats().Closed[reason] == n })
}

func TestAcceptedIsOpenAndClosed(t *testing.T) {
	h := newHerd()
	r := serve(t, Config{}, h)
	a, b := r.dial(), r.dial()
	for _, c := range []*client{a, b} {
		c.send("x\n")
		c.want("= x\n")
	}
	if st := r.Stats(); st.Connections != 2 || st.Accepted != 2 || st.Refused != 0 {
		t.Errorf("%+v", st)
	}
	_ = a.Close()
	r.wantClosed("client", 1)
	if st := r.Stats(); st.Connections != 1 || st.Accepted != 2 {
		t.Errorf("%+v", st)
	}
	if opened, closed := h.count(); opened != 2 || closed != 1 {
		t.Errorf("%d sessions opened, %d closed", opened, closed)
	}
}

// flaky is a listener whose first accepts fail.
type flaky struct {
	net.Listener
	mu   sync.Mutex
	errs []error
}

func (l *flaky) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.errs) > 0 {
		err := l.errs[0]
		l.errs = l.errs[1:]
		return nil, err
	}
	return l.Listener.Accept()
}
