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
	"net/netip"
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
//	hold N NAME as wait NAME, and holds N bytes meanwhile
//	big N       N bytes and LF
//	bye         answered "bye", then the connection closes
//
// and those of talk, which has more to say than answers,
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
	talks    []*talk     // of the sessions, in the order in which they were opened
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

func (h *herd) Open(remote string, _ netip.Addr, state *tls.ConnectionState) Session {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.opened = append(h.opened, remote)
	h.states = append(h.states, state)
	s := &session{h: h}
	h.talks = append(h.talks, &s.talk)
	return s
}

func (h *herd) count() (opened, closed int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.opened), h.closed
}

type session struct {
	h      *herd
	closed bool
	talk
}

func (s *session) Take(received time.Time, lines []byte, out *Answers) (taken int) {
	all := lines
	defer func() {
		s.h.mu.Lock()
		defer s.h.mu.Unlock()
		s.h.takes = append(s.h.takes, string(all[:taken]))
		s.h.received = append(s.h.received, received)
		if s.closed {
			panic("Take after Close")
		}
	}()
	for room := out.Room(); len(lines) > 0 && (room > 0 || len(lines) == len(all)); room = out.Room() {
		line, rest, _ := bytes.Cut(lines, []byte{'\n'})
		lines = rest
		line = bytes.TrimSuffix(line, []byte{'\r'})
		verb, args, _ := strings.Cut(string(line), " ")
		switch verb {
		case "wait":
			out.Later(len(line), s.h.wait(args))
		case "promise": // ends only if the client leaves
			out.Later(len(line), s.h.waitUntil(args, func(client, _ context.Context) context.Context { return client }))
		case "keep": // nothing ends it
			out.Later(20_000, s.h.waitUntil(args, func(context.Context, context.Context) context.Context { return context.Background() }))
		case "hold":
			size, name, _ := strings.Cut(args, " ")
			n, _ := strconv.Atoi(size)
			out.Later(n, s.h.wait(name))
		case "big":
			n, _ := strconv.Atoi(args)
			out.Append(append(bytes.Repeat([]byte{'x'}, n), '\n'))
		case "bye":
			out.Append([]byte("bye\n"))
			out.Close()
		default:
			if !s.talk.take(verb, args, out) {
				out.Append([]byte("= " + string(line) + "\n"))
			}
		}
	}
	return len(all) - len(lines)
}

// wait returns an answer that waits for a gate, for the stop of the server, or for the loss of its
// client.
func (h *herd) wait(name string) func(client, stop context.Context) []byte {
	return h.waitUntil(name, func(_, stop context.Context) context.Context { return stop })
}

// waitUntil returns an answer that waits for a gate or for the end of a context.
func (h *herd) waitUntil(name string, of func(client, stop context.Context) context.Context) func(client, stop context.Context) []byte {
	gate := h.gate(name)
	return func(client, stop context.Context) []byte {
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
		case <-of(client, stop).Done():
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
	s.talk.close()
}

// running is a server on loopback.
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
	case <-time.After(time.Minute):
		r.t.Fatal("still not stopped after 20 s")
		return nil
	}
}

// client is a connection with a deadline, so that a lost answer fails a test instead of blocking
// it.
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
	if err := nc.SetDeadline(time.Now().Add(time.Minute)); err != nil {
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

// want reads as many bytes as text has, and compares them.
func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	n, err := io.ReadFull(c.r, got)
	if string(got[:n]) != text {
		c.t.Fatalf("got %.200q (%v), want %.200q", got[:n], err, text)
	}
}

// wantEnd checks that the server ended its side in an orderly way, and sent nothing more.
func (c *client) wantEnd() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("got %.200q, %v, want the end of the stream", rest, err)
	}
}

// wantGone checks that the connection is closed, in whatever way.
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

// eventually waits for something that another goroutine does.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.After(time.Minute); !is(); {
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
