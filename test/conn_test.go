package test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// conn is a client connection that sends exactly what a test wants and expects exact answers.
type conn struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func dial(t testing.TB, addr string) *conn {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, herdtest.Promise(5*time.Second))
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	c.SetDeadline(time.Now().Add(herdtest.Promise(10 * time.Second)))
	t.Cleanup(func() { c.Close() })
	return &conn{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReaderSize(c, 1<<20)}
}

func (c *conn) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send %.80q: %v", text, err)
	}
}

// line reads one line, without its LF.
func (c *conn) line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.t.Fatalf("read a line: %q, %v", line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// expect reads exactly these bytes.
func (c *conn) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.r, got)
	if string(got[:n]) != want {
		c.t.Fatalf("got %.300q (%v)\nwant %.300q", got[:n], err, want)
	}
}

// whatsat sends a WHATSAT and returns the AT line and the JSON text as received.
func (c *conn) whatsat(args string) (at, text string) {
	c.t.Helper()
	c.send("WHATSAT " + args + "\n")
	at = c.line()
	if strings.HasPrefix(at, "? ") {
		return at, ""
	}
	for !strings.HasSuffix(text, "\n\n") {
		part, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Fatalf("read the JSON text: %q, %v", text+part, err)
		}
		text += part
	}
	return at, strings.TrimSuffix(text, "\n\n")
}

// end expects the edge to end its side of the connection without sending anything more.
func (c *conn) end() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("got %q, %v, want the end of the stream", rest, err)
	}
}

// closed is like end for a connection that the edge closes while the client still sends, which may
// reset it. It returns how long that took.
func (c *conn) closed() time.Duration {
	c.t.Helper()
	start := time.Now()
	_, err := io.Copy(io.Discard, c.r)
	if err != nil && !errors.Is(err, syscall.ECONNRESET) {
		c.t.Fatalf("the edge has not closed the connection: %v", err)
	}
	return time.Since(start)
}

// talk opens a connection, sends text, half-closes, and returns everything that it receives.
func talk(t testing.TB, addr, text string) string {
	t.Helper()
	c := dial(t, addr)
	c.send(text)
	if err := c.CloseWrite(); err != nil {
		t.Fatalf("half-close: %v", err)
	}
	all, err := io.ReadAll(c.r)
	if err != nil {
		t.Fatalf("read all answers: %q, %v", all, err)
	}
	return string(all)
}
