package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// process is a child that ends with the test at the latest. What it writes is kept and
// shown if the test fails.
type process struct {
	t      *testing.T
	label  string
	cmd    *exec.Cmd
	stdout *output
	stderr *output
	exited chan struct{} // closed when it has ended and all output is read
}

// start runs a binary with exactly this environment (and PATH, HOME and TMPDIR), so that
// no HERD_* or NATS_* of the caller's shell has a part in the test.
func start(t *testing.T, label, path string, env map[string]string, args ...string) *process {
	t.Helper()
	p := &process{t: t, label: label, stdout: new(output), stderr: new(output), exited: make(chan struct{})}
	p.cmd = exec.Command(path, args...)
	p.cmd.Env = environment(env)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	p.cmd.SysProcAttr = attributes()
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", label, err)
	}
	go func() {
		p.cmd.Wait() // the result is in ProcessState
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.signal(syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("---- %s (process %d, %v)\n%s%s", label, p.cmd.Process.Pid, p.cmd.ProcessState, p.stdout.tail(), p.stderr.tail())
		}
	})
	return p
}

func environment(env map[string]string) []string {
	var list []string
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			list = append(list, name+"="+value)
		}
	}
	for name, value := range env {
		list = append(list, name+"="+value) // of equal names the last one counts
	}
	return list
}

// signal sends a signal to this process and no other; it does nothing once it has ended.
func (p *process) signal(s syscall.Signal) { p.cmd.Process.Signal(s) }

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// wait returns the exit code, -1 for a process that a signal ended.
func (p *process) wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v", p.label, limit)
		return 0
	}
}

// kill is kill -9, and waits until the process is gone.
func (p *process) kill() {
	p.t.Helper()
	p.signal(syscall.SIGKILL)
	p.wait(10 * time.Second)
}

// memory is the resident set in bytes.
func (p *process) memory() int64 {
	p.t.Helper()
	n, err := residentMemory(p.cmd.Process.Pid)
	if err != nil {
		p.t.Fatalf("memory of %s: %v", p.label, err)
	}
	return n
}

// output keeps the first and the last of what a process writes.
type output struct {
	mu   sync.Mutex
	head []byte
	rest []byte
}

const keptOutput = 1 << 20

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := len(p)
	if room := keptOutput - len(o.head); room > 0 {
		room = min(room, len(p))
		o.head, p = append(o.head, p[:room]...), p[room:]
	}
	if o.rest = append(o.rest, p...); len(o.rest) > 2*keptOutput {
		o.rest = append([]byte("\n...\n"), o.rest[len(o.rest)-keptOutput:]...)
	}
	return n, nil
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.head) + string(o.rest)
}

// tail is the last of it, for the log of a failed test.
func (o *output) tail() string {
	lines := strings.SplitAfter(o.String(), "\n")
	if len(lines) > 40 {
		lines = append([]string{"...\n"}, lines[len(lines)-40:]...)
	}
	return strings.Join(lines, "")
}

// Ports are taken from below those that the kernel gives to outgoing connections, so that
// a port which is free while its edge is down stays free until the edge is back.
var nextPort atomic.Int32

func init() { nextPort.Store(int32(os.Getpid()) * 37 % 15000) }

// freePort is a port of 127.0.0.1 that nobody listens on just now.
func freePort(t *testing.T) int { return freePorts(t, 1) }

// freePorts is the first of n such ports in a row.
func freePorts(t *testing.T, n int) int {
	t.Helper()
search:
	for range 1000 {
		first := 16000 + int(nextPort.Add(int32(n))-int32(n))%15000
		for port := first; port < first+n; port++ {
			ln, err := net.Listen("tcp", local(port))
			if err != nil {
				continue search
			}
			ln.Close()
		}
		return first
	}
	t.Fatal("no free port")
	return 0
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// natsServer is a nats-server process that may be killed and started again on its port.
type natsServer struct {
	*process
	t    *testing.T
	addr string
	args []string // besides those for the address
}

func startNATS(t *testing.T, args ...string) *natsServer {
	t.Helper()
	n := &natsServer{t: t, addr: local(freePort(t)), args: args}
	n.start()
	return n
}

// start runs the server and waits until it takes connections.
func (n *natsServer) start() {
	n.t.Helper()
	n.launch()
	n.awaitHello()
}

// launch runs the server.
func (n *natsServer) launch() {
	n.t.Helper()
	host, port, _ := net.SplitHostPort(n.addr)
	n.process = start(n.t, "nats-server", binary(n.t, "nats-server"), nil, append([]string{"-a", host, "-p", port}, n.args...)...)
}

// awaitHello waits until the server takes connections.
func (n *natsServer) awaitHello() {
	n.t.Helper()
	eventually(n.t, 20*time.Second, "nats-server listens", func() error {
		conn, err := net.DialTimeout("tcp", n.addr, time.Second)
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

func (n *natsServer) url() string { return "nats://" + n.addr }
