package server

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

func TestAnAcceptLoopThatHangsDoesNotComeBy(t *testing.T) {
	s := New(Config{}, newHerd())
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	say := func() {
		t.Helper()
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := io.WriteString(c, "hello\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, len("= hello\n"))); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // it serves as before
		say()
		if err := s.ComeBy(t.Context()); err != nil {
			t.Error(err)
		}
	}
	s.gate.mu.Lock() // a connection that is let in waits for it
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for end := time.Now().Add(20 * time.Second); ; { // until the loop has taken it
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		err := s.ComeBy(short)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) {
			break
		}
		if time.Now().After(end) {
			t.Error("it comes by though it hangs")
			break
		}
	}
	s.gate.mu.Unlock()
	if err := s.ComeBy(t.Context()); err != nil {
		t.Error(err)
	}
	say()
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := s.ComeBy(t.Context()); err != nil {
		t.Errorf("a loop that has ended: %v", err)
	}
}
