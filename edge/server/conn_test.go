package server

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestPipelinedCommandsAreAnsweredInOrder(t *testing.T) { // C1
	r := serve(t, Config{}, newHerd())
	c := r.dial()
	var commands, answers strings.Builder
	for i := range 20_000 {
		fmt.Fprintf(&commands, "command %d\n", i)
		fmt.Fprintf(&answers, "= command %d\n", i)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, commands.String())
		sent <- errors.Join(err, c.Conn.(*net.TCPConn).CloseWrite())
	}()
	c.want(answers.String())
	c.wantEnd()
	if err := <-sent; err != nil {
		t.Error(err)
	}
	r.wantClosed("client", 1)
}

func TestHalfCloseIsAnsweredInFull(t *testing.T) { // C1
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("a\nwait b\nc\nd") // no last LF
	c.closeWrite()
	c.want("= a\n")
	close(h.gate("b"))
	c.want("waited b\n= c\n= d\n")
	c.wantEnd()
	r.wantClosed("client", 1)
}

func TestLinesOfOneReadAreOneTake(t *testing.T) { // C14: one write
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	before := time.Now()
	c.send("a\nb\nhalf")
	c.want("= a\n= b\n")
	between := time.Now()
	c.send(" of it\n")
	c.want("= half of it\n")
	h.mu.Lock()
	defer h.mu.Unlock()
	if want := []string{"a\nb\n", "half of it\n"}; !slices.Equal(h.takes, want) {
		t.Errorf("took %q, want %q", h.takes, want)
	}
	if h.received[0].Before(before) || h.received[0].After(between) || h.received[1].Before(between) {
		t.Errorf("C10: received at %v, want when the reads returned, after %v and %v", h.received, before, between)
	}
}

func TestAnUnfinishedLineIsNotAnswered(t *testing.T) {
	r := serve(t, Config{LineTimeout: 50 * time.Millisecond}, newHerd())
	c := r.dial()
	c.send("a\nb")
	c.want("= a\n")
	c.wantGone() // C18
	r.wantClosed("line", 1)
}

func TestASlowLineInTimeIsAnswered(t *testing.T) { // C18
	r := serve(t, Config{LineTimeout: 20 * time.Second}, newHerd())
	c := r.dial()
	line := strings.Repeat("0123456789", 100)
	for i := range line {
		c.send(line[i : i+1])
	}
	c.send("\nnext\n")
	c.want("= " + line + "\n= next\n")
}

func TestIdleConnectionsAreClosed(t *testing.T) { // C18
	r := serve(t, Config{IdleTimeout: time.Second}, newHerd())
	never, once := r.dial(), r.dial()
	once.send("a\n")
	once.want("= a\n")
	never.wantEnd()
	once.wantEnd()
	r.wantClosed("idle", 2)
}

func TestWhoDoesNotReadIsNotReadAndClosed(t *testing.T) { // C18
	h := newHerd()
	r := serve(t, Config{WriteTimeout: 200 * time.Millisecond}, h)
	c := r.dial()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	sent, err := 0, error(nil)
	block := []byte(strings.Repeat("big 60000\n", 100))
	for err == nil {
		var n int
		n, err = c.Write(block)
		sent += n
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || sent > 64<<20 {
		t.Errorf("sent %d bytes and then %v, want to be closed", sent, err)
	}
	r.wantClosed("write", 1)
	eventually(t, "session closed", func() bool { _, closed := h.count(); return closed == 1 })
}

func TestCloseAfterTheAnswer(t *testing.T) { // C17
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("a\nwait b\nbye\nignored\n")
	c.want("= a\n")
	close(h.gate("b"))
	c.want("waited b\nbye\n")
	c.wantEnd()
	_ = c.Close()
	r.wantClosed("http", 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.takes) != 1 {
		t.Errorf("took %q, want nothing after the close", h.takes)
	}
}

func TestInputAfterTheCloseLosesNoAnswer(t *testing.T) { // C17
	r := serve(t, Config{DrainTimeout: 20 * time.Second}, newHerd())
	c := r.dial()
	c.send("bye\n" + strings.Repeat("x", 1<<20))
	c.want("bye\n")
	c.wantEnd()
	_ = c.Close()
	r.wantClosed("http", 1)
}

func TestAResetIsTheClientsEnd(t *testing.T) {
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("a\n")
	c.want("= a\n")
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	r.wantClosed("client", 1)
}

func TestAResetWhileAnAnswerWaits(t *testing.T) {
	h := newHerd()
	h.asked = make(chan string, 1)
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("wait x\n")
	<-h.asked
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
	close(h.gate("x"))
	r.wantClosed("client", 1)
	if _, closed := h.count(); closed != 1 {
		t.Error("the session was not closed")
	}
}

func TestPassingAcceptErrors(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	r := serveOn(t, Config{}, newHerd(), &flaky{Listener: inner, errs: []error{emfile, emfile, syscall.ECONNABORTED}})
	c := r.dial()
	c.send("a\n")
	c.want("= a\n")
	r.stop()
	c.wantEnd()
	_ = c.Close()
	if err := r.stopped(); err != nil {
		t.Errorf("Serve: %v", err)
	}
}

func TestAListenerThatFailsStopsTheServer(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("broken for good")
	h := newHerd()
	h.asked = make(chan string, 1)
	l := &broken{Listener: inner, err: failure}
	r := serveOn(t, Config{}, h, l)
	c := r.dial()
	c.send("a\nwait b\n")
	<-h.asked
	_ = inner.Close()
	c.want("= a\nended b\n")
	c.wantEnd()
	_ = c.Close()
	if err := r.stopped(); !errors.Is(err, failure) {
		t.Errorf("Serve: %v, want %v", err, failure)
	}
}

// broken is a listener that fails with an error of its own.
type broken struct {
	net.Listener
	err error
}

func (l *broken) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		err = l.err
	}
	return nc, err
}

func TestOtherConnectionsThanTCP(t *testing.T) {
	path := t.TempDir() + "/s"
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	h := newHerd()
	r := serveOn(t, Config{}, h, ln)
	nc, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, nc)
	long := strings.Repeat("x", 3000)
	c.send("a\n" + long + "\nwait b\nhalf")
	c.want("= a\n= " + long + "\n")
	close(h.gate("b"))
	c.want("waited b\n")
	r.stop()
	c.wantEnd()
	_ = c.Close()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 1)
}
