package devices

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/coder/websocket"

	"herd/edge/command"
	"herd/edge/server"
)

// maxMessage is the longest message of a client's, in bytes (V2).
const maxMessage = 256 << 10

// sockets is the listener of the server of lines: it accepts WebSockets.
type sockets struct {
	come chan *socket
	over chan struct{}
	once sync.Once
}

func newSockets() *sockets { return &sockets{come: make(chan *socket), over: make(chan struct{})} }

// Accept returns the next WebSocket.
func (l *sockets) Accept() (net.Conn, error) {
	select {
	case k := <-l.come:
		return k, nil
	case <-l.over:
		return nil, net.ErrClosed
	}
}

// Close ends Accept.
func (l *sockets) Close() error {
	l.once.Do(func() { close(l.over) })
	return nil
}

// Addr is no address: nobody can connect to it.
func (l *sockets) Addr() net.Addr { return &net.TCPAddr{} }

// A socket is a WebSocket as the server of lines has it: a connection whose lines come in messages,
// and whose every Write is a number of whole answers, which it sends as a message each (V2).
type socket struct {
	net.Conn // what is read: the near end of a pipe
	far      net.Conn
	ws       *websocket.Conn
	c        *conn
	session  server.Session

	mu      sync.Mutex
	over    bool           // run waits for closing, to which nothing is added any more
	closing sync.WaitGroup // the good-bye
}

// follow begins to serve a WebSocket with lines, in a goroutine of its own: so the request, and a stack
// that has grown with it, are let go of.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, c *conn, who identity) {
	if !s.begin() {
		s.refuse(w, r, c, Lines, Later)
		return
	}
	followed := false
	var ws *websocket.Conn
	defer func() {
		if followed {
			return
		}
		s.following.Done()
		if ws != nil { // a panic: net/http closes no connection that it has handed over
			_ = ws.CloseNow()
			_ = c.Close()
		}
	}()
	caller := c.callerOf(who)
	var err error
	// Its rules on origins are V2's, which were looked at.
	ws, err = websocket.Accept(cutting{w}, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		s.note(r, c, Lines, Bad)
		return
	}
	s.note(r, c, Lines, OK)
	ws.SetReadLimit(maxMessage)
	k := &socket{ws: ws, c: c, session: s.cfg.Session(caller)}
	k.Conn, k.far = net.Pipe()
	followed = true
	go func() { // stop and Serve wait for it
		defer s.following.Done()
		k.run()
	}()
}

// run serves the WebSocket until it ends.
func (k *socket) run() {
	defer func() {
		k.far.Close()
		_ = k.ws.CloseNow()
		k.mu.Lock()
		k.over = true
		k.mu.Unlock()
		k.closing.Wait()
		_ = k.c.Close()
	}()
	k.c.s.cfg.Gate.Leave(&k.c.entry) // the session counts from now on
	select {
	case k.c.s.sockets.come <- k:
		k.receive()
	case <-k.c.s.sockets.over:
		_ = k.ws.Close(websocket.StatusGoingAway, "")
	}
}

// cutting hands a connection over to the WebSocket on which the client's end is an error. The
// library takes io.EOF within a message for the message's end.
type cutting struct{ http.ResponseWriter }

// Hijack hands the connection over.
func (c cutting) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	nc, buffers, err := http.NewResponseController(c.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	return endless{nc}, buffers, nil
}

// endless is a connection that ends with a WebSocket's good-bye, or unexpectedly.
type endless struct{ net.Conn }

func (e endless) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// begin notes that one more WebSocket is followed, unless the edge stops.
func (s *Server) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state.Load() != opened {
		return false
	}
	s.following.Add(1)
	return true
}

// receive passes on what the client sends.
func (k *socket) receive() {
	ctx := context.Background() // it ends with the connection
	buffer := make([]byte, 2<<10)
	for {
		kind, message, err := k.ws.Reader(ctx)
		if err != nil {
			return
		}
		if kind == websocket.MessageBinary {
			_ = k.ws.Close(websocket.StatusUnsupportedData, "lines are text")
			return
		}
		last := byte('\n')
		for {
			n, err := message.Read(buffer)
			if n > 0 {
				last = buffer[n-1]
				if _, err := k.far.Write(buffer[:n]); err != nil {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return
			}
		}
		if last != '\n' {
			if _, err := k.far.Write([]byte{'\n'}); err != nil {
				return
			}
		}
	}
}

// Open begins the session: see server.Opener.
func (k *socket) Open(string, netip.Addr) server.Session {
	k.c.handed.Store(true)
	return k.session
}

// Read reads lines. Each message ends with one, so what is cut off is none (V2).
func (k *socket) Read(p []byte) (int, error) {
	n, err := k.Conn.Read(p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// Write sends whole answers, each as a message.
func (k *socket) Write(p []byte) (n int, err error) {
	// The connection below gives up where the client takes nothing.
	ctx := context.Background()
	for n < len(p) {
		answer, size := cutAnswer(p[n:])
		kind := websocket.MessageText
		if !utf8.Valid(answer) {
			kind = websocket.MessageBinary
		}
		if err := k.ws.Write(ctx, kind, answer); err != nil {
			if k.c.slow.Load() {
				return n, os.ErrDeadlineExceeded
			}
			return n, syscall.EPIPE
		}
		n += size
	}
	return n, nil
}

// cutAnswer returns the first answer of some whole ones, without its last LF, and how long it was. An
// answer is a line; or an AT line with its JSON, up to an empty line (C14); or, marked, lines up to
// an empty one (L1).
func cutAnswer(p []byte) (answer []byte, size int) {
	if rest, ok := bytes.CutPrefix(p, []byte(command.Mark)); ok {
		end := bytes.Index(rest, []byte("\n\n"))
		if end < 0 {
			return rest, len(p)
		}
		return rest[:end+1], len(command.Mark) + end + 2
	}
	end := bytes.IndexByte(p, '\n')
	if end < 0 {
		return p, len(p)
	}
	if end+1 < len(p) && p[end+1] == '{' {
		if all := bytes.Index(p, []byte("\n\n")); all >= 0 {
			return p[:all+1], all + 2
		}
	}
	return p[:end], end + 1
}

// SetWriteDeadline sets none: the connection below has one of its own.
func (k *socket) SetWriteDeadline(time.Time) error { return nil }

// RemoteAddr is the client's.
func (k *socket) RemoteAddr() net.Addr { return k.c.RemoteAddr() }

// LocalAddr is the edge's.
func (k *socket) LocalAddr() net.Addr { return k.c.LocalAddr() }

// CloseWrite says good-bye, to which the client says the same.
func (k *socket) CloseWrite() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.over { // the client may have gone just now
		k.closing.Go(func() { _ = k.ws.Close(websocket.StatusGoingAway, "") })
	}
	return nil
}

// Close closes the connection at once.
func (k *socket) Close() error {
	_ = k.Conn.Close()
	return k.c.Close()
}

// lineRecorder writes down what WebSockets say. That they connected was written down before.
type lineRecorder struct{ server.Recorder }

// Opened writes nothing.
func (lineRecorder) Opened(time.Time, string) {}

// Out writes answers down, without their marks.
func (r lineRecorder) Out(at time.Time, remote string, answers []byte) {
	r.Recorder.Out(at, remote, withoutMarks(answers))
}

// withoutMarks is whole answers without the marks with which some begin. A line that ends in a form feed
// and its LF, as one that is refused may, is no mark: its LF has to stay.
func withoutMarks(answers []byte) []byte {
	mark, behind := []byte(command.Mark), []byte("\n"+command.Mark)
	answers = bytes.TrimPrefix(answers, mark)
	if !bytes.Contains(answers, behind) {
		return answers
	}
	return bytes.ReplaceAll(answers, behind, []byte("\n"))
}

// unreachable stands for the sessions of connections that bring none: all do.
type unreachable struct{}

// Open is not called.
func (unreachable) Open(string, netip.Addr, *tls.ConnectionState) server.Session { return nil }
