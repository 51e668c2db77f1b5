package server

import (
	"context"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A lateDeadline is a connection on which a stop happens just before a deadline is set. That
// deadline replaces the one of the stop, which is meant to wake the reader.
type lateDeadline struct {
	net.Conn
	once sync.Once
	stop func()
	past chan struct{} // closed when the stop has set its deadline
}

func (l *lateDeadline) SetReadDeadline(at time.Time) error {
	if !at.After(time.Now()) {
		err := l.Conn.SetReadDeadline(at)
		close(l.past)
		return err
	}
	l.once.Do(func() {
		l.stop()
		<-l.past
	})
	return l.Conn.SetReadDeadline(at)
}

// C19: the deadline is set first and the stop checked second. In the other order a stop in between
// would wait for the client.
func TestAStopThatComesWhileADeadlineIsSetIsSeen(t *testing.T) {
	serving, _ := certificates(t, "kiwi")
	for name, cfg := range map[string]Config{"waiting for a command": {}, "waiting for a handshake": {TLS: serving}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := New(cfg, newHerd())
				p := &pipes{make(chan net.Conn), make(chan struct{})}
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan error, 1)
				go func() { done <- s.Serve(ctx, p) }()
				ours, its := net.Pipe()
				defer ours.Close()
				begun := time.Now()
				p.next <- &lateDeadline{Conn: its, stop: cancel, past: make(chan struct{})}
				if err := <-done; err != nil {
					t.Errorf("Serve: %v", err)
				}
				if took := time.Since(begun); took > time.Second {
					t.Errorf("C19 the stop took %v", took)
				}
			})
		})
	}
}
