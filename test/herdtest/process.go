package herdtest

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Command is a program to run.
type Command struct {
	Label string // its name in errors
	Path  string
	Args  []string

	// Env is the whole environment, as NAME=VALUE, except for PATH, HOME and TMPDIR, so that no
	// HERD_* or NATS_* variable of the caller's shell gets into it. Of equal names the last one
	// counts.
	Env []string

	Stdout *os.File // nil: Process.Stdout
}

// Process is a program that was started. Its methods may be called from any goroutine.
type Process struct {
	Label  string
	Cmd    *exec.Cmd
	Stdout *Output
	Stderr *Output

	// Exited is closed when the process has ended and all its output was read. Then
	// Cmd.ProcessState is set.
	Exited <-chan struct{}
}

// Launch starts a program. The caller must end it. On Linux it also ends when the process that
// started it ends.
func Launch(c Command) (*Process, error) {
	exited := make(chan struct{})
	p := &Process{Label: c.Label, Stdout: new(Output), Stderr: new(Output), Exited: exited}
	p.Cmd = exec.Command(c.Path, c.Args...)
	for _, name := range []string{"PATH", "HOME", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			p.Cmd.Env = append(p.Cmd.Env, name+"="+value)
		}
	}
	p.Cmd.Env = append(p.Cmd.Env, c.Env...)
	p.Cmd.Stdout, p.Cmd.Stderr = p.Stdout, p.Stderr
	if c.Stdout != nil {
		p.Cmd.Stdout = c.Stdout
	}
	p.Cmd.SysProcAttr = attributes()
	if err := p.Cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Label, err)
	}
	go func() {
		p.Cmd.Wait() // the result is in ProcessState
		close(exited)
	}()
	return p, nil
}

// Signal sends a signal to this process. It does nothing once the process has ended.
func (p *Process) Signal(s syscall.Signal) { p.Cmd.Process.Signal(s) }

// Running reports whether Exited is still open.
func (p *Process) Running() bool {
	select {
	case <-p.Exited:
		return false
	default:
		return true
	}
}

// Stop sends SIGTERM, kills the process if it has not ended within limit, and waits until it has
// ended.
func (p *Process) Stop(limit time.Duration) {
	p.Signal(syscall.SIGTERM)
	select {
	case <-p.Exited:
	case <-time.After(limit):
		p.Signal(syscall.SIGKILL)
		<-p.Exited
	}
}

// ResidentMemory returns the resident set of the process in bytes.
func (p *Process) ResidentMemory() (int64, error) {
	n, err := residentMemory(p.Cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w\n%s", p.Label, err, p.Stderr.Tail())
	}
	return n, nil
}

// CPU returns the CPU time of all threads of the process, in user and kernel mode, in steps of
// 10 ms. It is available only on Linux.
func (p *Process) CPU() (time.Duration, error) {
	d, err := cpuTime(p.Cmd.Process.Pid)
	if err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w\n%s", p.Label, err, p.Stderr.Tail())
	}
	return d, nil
}

// Child is a process that ends with the test at the latest. If the test fails, the process's
// output is logged.
type Child struct {
	*Process
	t testing.TB
}

// StartChild starts a program with this environment, and PATH, HOME and TMPDIR.
func StartChild(t testing.TB, label, path string, env map[string]string, args ...string) *Child {
	t.Helper()
	c := Command{Label: label, Path: path, Args: args}
	for name, value := range env {
		c.Env = append(c.Env, name+"="+value)
	}
	process, err := Launch(c)
	if err != nil {
		t.Fatal(err)
	}
	p := &Child{process, t}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Exited
		if t.Failed() {
			t.Logf("---- %s (process %d, %v)\n%s%s", label, p.Cmd.Process.Pid, p.Cmd.ProcessState, p.Stdout.Tail(), p.Stderr.Tail())
		}
	})
	return p
}

// Wait waits for the process to end and returns the exit code, or -1 if a signal ended it. It
// fails the test after limit.
func (p *Child) Wait(limit time.Duration) int {
	p.t.Helper()
	select {
	case <-p.Exited:
		return p.Cmd.ProcessState.ExitCode()
	case <-time.After(limit):
		p.t.Fatalf("%s still runs after %v", p.Label, limit)
		return 0
	}
}

// Kill sends SIGKILL and waits until the process has ended.
func (p *Child) Kill() {
	p.t.Helper()
	p.Signal(syscall.SIGKILL)
	p.Wait(Promise(10 * time.Second))
}

// Memory is like ResidentMemory, and fails the test on an error.
func (p *Child) Memory() int64 {
	p.t.Helper()
	n, err := p.ResidentMemory()
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// Output keeps the beginning and the end of what a process writes.
type Output struct {
	mu   sync.Mutex
	head []byte
	rest []byte
}

const keptOutput = 1 << 20

func (o *Output) Write(p []byte) (int, error) {
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

func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return string(o.head) + string(o.rest)
}

// Tail returns the last lines, for the log of a failed test.
func (o *Output) Tail() string {
	lines := strings.SplitAfter(o.String(), "\n")
	if len(lines) > 40 {
		lines = append([]string{"...\n"}, lines[len(lines)-40:]...)
	}
	return strings.Join(lines, "")
}
