package broker

import (
	"context"
	"fmt"
	"net"
	"syscall"
	"testing"

	"github.com/nats-io/nats.go"
)

func TestWhatComesOfALostConnectionIsKnown(t *testing.T) {
	for _, c := range []struct {
		err  error
		lost bool
	}{
		{nats.ErrDisconnected, true},
		{nats.ErrConnectionClosed, true},
		{nats.ErrReconnectBufExceeded, true},
		{&net.OpError{Op: "write", Net: "tcp", Err: syscall.ECONNRESET}, true},
		{fmt.Errorf("publish: %w", &net.OpError{Op: "write", Net: "tcp", Err: net.ErrClosed}), true},
		{nats.ErrNoResponders, false},
		{nats.ErrTimeout, false},
		{context.DeadlineExceeded, false},
		{nil, false},
	} {
		if got := isLost(c.err); got != c.lost {
			t.Errorf("%v: lost %v, want %v", c.err, got, c.lost)
		}
	}
}
