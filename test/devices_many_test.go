package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// A bareSocket is a WebSocket without a library: there may be ten thousand.
type bareSocket struct {
	net.Conn
	r *bufio.Reader
}

// bareSocket opens a WebSocket with lines and sends one message of less than 126 bytes.
func openBare(ctx context.Context, i int, addr, message string) (*bareSocket, error) {
	// An address has some 28,000 ports for outgoing connections, and is one of many to the edge (C18).
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(i>>6), byte(1+i&63))}}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	s := &bareSocket{nc, bufio.NewReaderSize(nc, 256)}
	fmt.Fprintf(nc, "GET /lines HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", addr)
	resp, err := http.ReadResponse(s.r, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusSwitchingProtocols {
		return nil, fmt.Errorf("answered %s", resp.Status)
	}
	frame := append([]byte{0x81, 0x80 | byte(len(message)), 0, 0, 0, 0}, message...) // masked with zeros
	_, err = nc.Write(frame)
	return s, err
}

// next reads one message of less than 126 bytes.
func (s *bareSocket) next() (string, error) {
	var head [2]byte
	if _, err := io.ReadFull(s.r, head[:]); err != nil {
		return "", err
	}
	if head[0] != 0x81 || head[1] > 125 {
		return "", fmt.Errorf("frame %x", head)
	}
	text := make([]byte, head[1])
	_, err := io.ReadFull(s.r, text)
	return string(text), err
}

// C18, L: many WebSockets that watch are told, hinder no good requests, and cost what is said in the log.
func TestManyWebSocketsWatch(t *testing.T) {
	n, span := size(500, 10_000), size(time.Second, 10*time.Second)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Each: withDevices})
	e := h.Edges["Clark"]
	addr := e.Env["HERD_DEVICES"]
	report(t, e.Addr, "centre +10+10 1")
	ctx, cancel := context.WithTimeout(t.Context(), herdtest.Promise(2*time.Minute))
	defer cancel()
	anybody := make([]phoneUser, 5)
	phones(cancelled, t, addr, anybody)
	alone, end := context.WithTimeout(t.Context(), span)
	defer end()
	without := phones(alone, t, addr, anybody)
	empty := e.Memory()
	sockets := make([]*bareSocket, n)
	for i := range sockets {
		s, err := openBare(ctx, i, addr, "WATCH w +10+10 5")
		if err != nil {
			t.Fatalf("WebSocket %d: %v", i, err)
		}
		defer s.Close()
		sockets[i] = s
		for _, want := range []string{"! w IN Clark ", "! w NOW 1"} {
			if text, err := s.next(); err != nil || !strings.HasPrefix(text, want) {
				t.Fatalf("WebSocket %d is told %q, %v; want %s", i, text, err, want)
			}
		}
	}
	t.Logf("%d WebSockets with a watch each: %.1f KiB of resident memory per connection", n, float64(e.Memory()-empty)/1024/float64(n))
	if m, err := e.Metrics(); err != nil || m[`herd_connections{edge="Clark"}`] != float64(n) {
		t.Errorf("%v connections, %v", m[`herd_connections{edge="Clark"}`], err)
	}
	silent, end := context.WithTimeout(t.Context(), span)
	defer end()
	t.Logf("beside WebSockets that are told nothing: %v", phones(silent, t, addr, anybody))
	during, over := context.WithCancel(t.Context())
	defer over()
	var good sync.WaitGroup
	var with times
	good.Go(func() { with = phones(during, t, addr, anybody) })
	const moves = 5 // of which each WebSocket is told
	for i := range moves {
		if status, _ := posted(t, addr, fmt.Sprintf("GET /?id=centre&lat=10&lon=10.00%d&timestamp=%d HTTP/1.1\r\nHost: HOST\r\n\r\n", i, i+2)); status != 200 {
			t.Fatal(status)
		}
		pass(t, span/moves)
	}
	last := fmt.Sprintf(" centre +10+10.00%d %d", moves-1, moves+1)
	for i, s := range sockets {
		s.SetReadDeadline(time.Now().Add(herdtest.Promise(30 * time.Second)))
		for {
			text, err := s.next()
			if err != nil {
				t.Fatalf("WebSocket %d: %v", i, err)
			}
			if strings.HasSuffix(text, last) {
				break
			}
		}
	}
	over()
	good.Wait()
	unhindered(t, without, with)
}
