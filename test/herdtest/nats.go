package herdtest

import (
	"bytes"
	"fmt"
	"net"
	"testing"
	"time"

	"herd/test/ports"
)

// NATS is a nats-server process that can be killed and started again on its port.
type NATS struct {
	*Child
	t    testing.TB
	Addr string
	args []string // other than those for the address
}

// StartNATS starts a server with these arguments and those for its address.
func StartNATS(t testing.TB, args ...string) *NATS {
	t.Helper()
	n := &NATS{t: t, Addr: ports.Addr(t), args: args}
	n.Start()
	return n
}

// Start starts the server and waits until it accepts connections.
func (n *NATS) Start() {
	n.t.Helper()
	n.Launch()
	n.AwaitHello()
}

// Launch starts the server and does not wait for it.
func (n *NATS) Launch() {
	n.t.Helper()
	host, port, _ := net.SplitHostPort(n.Addr)
	n.Child = StartChild(n.t, "nats-server", Binary(n.t, "nats-server"), nil, append([]string{"-a", host, "-p", port}, n.args...)...)
}

// AwaitHello waits until the server accepts connections.
func (n *NATS) AwaitHello() {
	n.t.Helper()
	Eventually(n.t, Promise(20*time.Second), "nats-server listens", func() error {
		conn, err := net.DialTimeout("tcp", n.Addr, time.Second)
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(time.Second))
		hello := make([]byte, 5)
		if _, err := conn.Read(hello); err != nil || !bytes.Equal(hello, []byte("INFO ")) {
			return fmt.Errorf("it says %q: %v", hello, err)
		}
		return nil
	})
}

// URL returns the URL of the server.
func (n *NATS) URL() string { return "nats://" + n.Addr }
