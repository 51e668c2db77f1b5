// Package ports gives tests TCP ports of this machine that stay theirs: for whoever must know an
// address before somebody listens on it, or while nobody does. It knows nothing of what
// listens there.
package ports

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Ports are below those that the kernel gives to outgoing connections (from 32768 on Linux, from
// 49152 on macOS), or one of these could take a port while its server is down. A process takes
// them in blocks, each of which it holds by a lock on a file until it ends: test processes run
// side by side.
const (
	first     = 16000
	blockSize = 100
	blocks    = 150
)

var owned struct {
	sync.Mutex
	locks []*os.File // one for each block that this process holds
	block int        // the next block to try
	next  int        // the next port of the last block
	end   int        // its end
}

// Free returns a port of 127.0.0.1 on which nobody listens, and that no other test gets.
func Free(t testing.TB) int { return FreeRow(t, 1) }

// FreeRow returns the first of n such ports in a row, n being at most 100.
func FreeRow(t testing.TB, n int) int {
	t.Helper()
	port, err := Take(n)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// Addr returns the address of such a port.
func Addr(t testing.TB) string {
	t.Helper()
	return Local(Free(t))
}

// Local returns the address of a port on 127.0.0.1.
func Local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// TakeAddr is Addr for programs that are no tests.
func TakeAddr() (string, error) {
	port, err := Take(1)
	return Local(port), err
}

// Take is FreeRow for programs that are no tests. Any goroutine may call it.
func Take(n int) (port int, err error) {
	owned.Lock()
	defer owned.Unlock()
	if n < 1 || n > blockSize {
		return 0, fmt.Errorf("%d ports in a row: there are 1 to %d", n, blockSize)
	}
	for {
		for owned.next+n <= owned.end {
			port := owned.next
			taken := busy(port, n)
			if taken == 0 {
				owned.next += n
				return port, nil
			}
			owned.next = taken + 1
		}
		if err := nextBlock(); err != nil {
			return 0, err
		}
	}
}

// busy returns the last of n ports on which somebody listens who did not ask here, or 0. It does
// not try to listen itself: a process that another goroutine starts at that moment would hold the
// listener's copy for a while after it was closed.
func busy(port, n int) int {
	for p := port + n - 1; p >= port; p-- {
		nc, err := net.DialTimeout("tcp", Local(p), time.Second)
		if err == nil {
			_ = nc.Close()
		}
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return p
		}
	}
	return 0
}

// nextBlock makes another block this process's own.
func nextBlock() error {
	if owned.block == 0 {
		owned.block = os.Getpid() // processes that start together seldom try the same
	}
	for range blocks {
		block := owned.block % blocks
		owned.block++
		lock, err := lockFile(block)
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, fs.ErrPermission) { // another process's, or another user's
			continue
		}
		if err != nil {
			return fmt.Errorf("take ports: %w", err)
		}
		owned.locks = append(owned.locks, lock)
		owned.next = first + block*blockSize
		owned.end = owned.next + blockSize
		return nil
	}
	return errors.New("take ports: all are in use")
}

// lockFile takes the lock of a block. The kernel lets it go when the process ends, however it
// ends; children do not inherit it.
func lockFile(block int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(os.TempDir(), fmt.Sprintf("herd-test-ports-%d", block)), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
