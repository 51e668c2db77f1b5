package broker

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTheSameWordsComeOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := repeats{every: time.Second}
		said := 0
		for range 100 { // over ten seconds
			if r.fresh("no") {
				said++
			}
			time.Sleep(100 * time.Millisecond)
		}
		if said != 10 {
			t.Errorf("said %d times in ten seconds", said)
		}
		if !r.fresh("something else") {
			t.Error("other words are held back")
		}
		for i := range 1000 {
			r.fresh(fmt.Sprint(i))
		}
		if len(r.said) > 100 {
			t.Errorf("%d texts are remembered", len(r.said))
		}
	})
}

func TestAttemptsFromOtherPortsAreTheSameWords(t *testing.T) {
	var log strings.Builder
	var told []string
	c := &Conn{log: slog.New(slog.NewTextHandler(&log, nil)), ev: Events{Failed: func(err error) { told = append(told, Reason(err)) }}}
	server := "nats://broker"
	c.server.Store(&server)
	var talk talk
	talk.start(c)
	for port := range 10 {
		talk.attemptFailed(&net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: io.EOF})
	}
	talk.attemptFailed(errors.New("something else"))
	if want := []string{"read: EOF", "something else"}; !slices.Equal(slices.Compact(told), want) || len(told) != 11 {
		t.Errorf("told %q, want 11, of %q", told, want)
	}
	if n := strings.Count(log.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2:\n%s", n, &log)
	}
}

func TestComplaintsDoNotPileUp(t *testing.T) {
	m := mailbox{ready: make(chan struct{}, 1)}
	for range 10 * maxLetters {
		m.put(letter{kind: complaint})
	}
	m.put(letter{kind: disconnected})
	letters := m.take()
	if len(letters) != maxLetters+1 || letters[maxLetters].kind != disconnected {
		t.Errorf("%d letters, the last of kind %d", len(letters), letters[len(letters)-1].kind)
	}
	if len(m.take()) > 0 {
		t.Error("taken twice")
	}
}
