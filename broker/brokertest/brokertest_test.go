package brokertest_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/broker/brokertest"
	"herd/test/ports"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

// echo listens, and sends back everything that it receives.
func echo(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan bool)
	go func() {
		defer close(ended)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-ended })
	return ln.Addr().String()
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// hears reports whether text arrives within d.
func hears(t *testing.T, c net.Conn, text string, d time.Duration) bool {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(d))
	buf := make([]byte, len(text))
	if _, err := io.ReadFull(c, buf); err != nil {
		return false
	}
	if string(buf) != text {
		t.Errorf("heard %q, want %q", buf, text)
	}
	return true
}

func say(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := c.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
}

func TestASilentNetworkKeepsEverythingBack(t *testing.T) {
	network := brokertest.Proxy(t, echo(t))
	old := dial(t, network.Addr())
	say(t, old, "before")
	if !hears(t, old, "before", patience) {
		t.Fatal("nothing comes through")
	}
	network.Silence()
	fresh := dial(t, network.Addr()) // it is accepted
	say(t, old, "held")
	say(t, fresh, "also")
	if hears(t, old, "held", 30*time.Millisecond) || hears(t, fresh, "also", 30*time.Millisecond) {
		t.Error("it is not silent")
	}
	network.Heal()
	if !hears(t, old, "held", patience) || !hears(t, fresh, "also", patience) {
		t.Error("it is not healed")
	}
	network.Cut()
	if _, err := old.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the cut connection says %v", err)
	}
}

func TestASilentNetworkCanEnd(t *testing.T) { // goleak checks the rest
	t.Run("test", func(t *testing.T) {
		network := brokertest.Proxy(t, echo(t))
		network.Silence()
		say(t, dial(t, network.Addr()), "x")
	})
}

func TestANetworkToNobodyRefuses(t *testing.T) {
	c := dial(t, brokertest.Proxy(t, ports.Addr(t)).Addr())
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("it says %v", err)
	}
}

func TestAServerStopsAndComesBack(t *testing.T) {
	s := brokertest.Start(t)
	url := s.URL()
	c := dial(t, s.Addr())
	c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	s.Stop()
	if s.Embedded() != nil {
		t.Error("it is still there")
	}
	if c, err := net.Dial("tcp", s.Addr()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
	s.Restart()
	s.Restart()
	if s.URL() != url || s.Embedded() == nil {
		t.Errorf("it is back at %s, was at %s", s.URL(), url)
	}
	dial(t, s.Addr())
}
