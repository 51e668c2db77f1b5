package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A session is one run of the program: the binaries, a folder, and the processes of the row
// that is being measured.
type session struct {
	quick    bool
	dir      string
	self     string // this program
	mu       sync.Mutex
	children []*child
	files    int // names of files so far
}

func newSession(ctx context.Context, quick bool) (*session, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("CPU time and memory of other processes are read from /proc, which only Linux has")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "herd-bench-")
	if err != nil {
		return nil, fmt.Errorf("folder for binaries and state: %w", err)
	}
	s := &session{quick: quick, dir: dir, self: self}
	// nats-server is a dependency of the module, its main package included.
	build := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), "herd/cmd/edge", "github.com/nats-io/nats-server/v2")
	if out, err := build.CombinedOutput(); err != nil {
		s.close()
		return nil, fmt.Errorf("build the binaries: %w\n%s", err, out)
	}
	return s, nil
}

func (s *session) close() {
	s.stopAll()
	os.RemoveAll(s.dir)
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// times is how often a measurement is made.
func (s *session) times() int { return s.size(5, 1) }

// size is the first value, or with -quick the second.
func (s *session) size(full, quick int) int {
	if s.quick {
		return quick
	}
	return full
}

// span is the same for durations.
func (s *session) span(full, quick time.Duration) time.Duration {
	if s.quick {
		return quick
	}
	return full
}

// path is a new one in the session's folder.
func (s *session) path(name string) string {
	s.files++
	return filepath.Join(s.dir, fmt.Sprint(s.files, "-", name))
}

// A child is a process that ends with the row.
type child struct {
	name   string
	cmd    *exec.Cmd
	out    io.ReadCloser // its standard output, if asked for
	stderr bytes.Buffer  // of its Wait until exited is closed
	exited chan struct{}
}

// start runs a program with exactly this environment (and PATH, HOME, TMPDIR).
func (s *session) start(name string, piped bool, env []string, program string, args ...string) (*child, error) {
	c := &child{name: name, cmd: exec.Command(program, args...), exited: make(chan struct{})}
	for _, v := range []string{"PATH", "HOME", "TMPDIR"} {
		c.cmd.Env = append(c.cmd.Env, v+"="+os.Getenv(v))
	}
	c.cmd.Env = append(c.cmd.Env, env...)
	c.cmd.Stderr = &c.stderr
	if piped {
		r, w, err := os.Pipe()
		if err != nil {
			return nil, fmt.Errorf("start %s: %w", name, err)
		}
		c.cmd.Stdout, c.out = w, r
		defer w.Close()
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		c.cmd.Wait() // the result is in ProcessState
		close(c.exited)
	}()
	s.mu.Lock()
	s.children = append(s.children, c)
	s.mu.Unlock()
	return c, nil
}

// stop ends a process in order, or after some seconds at once.
func (c *child) stop() {
	c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(15 * time.Second):
		c.cmd.Process.Kill()
		<-c.exited
	}
	if c.out != nil {
		c.out.Close()
	}
}

// stopAll ends all processes that run, the youngest first.
func (s *session) stopAll() {
	s.mu.Lock()
	children := s.children
	s.children = nil
	s.mu.Unlock()
	for _, c := range slices.Backward(children) {
		c.stop()
	}
}

// tick is the unit of CPU times in /proc: Linux shows them in hundredths of a second
// everywhere, whatever its own clock is.
const tick = 10 * time.Millisecond

// cpu is how long all threads of the process have run, in user and kernel mode.
func (c *child) cpu() (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("CPU time of %s: %w\n%s", c.name, err, c.last())
	}
	// The name, in parentheses, may hold anything; utime and stime are the 12th and 13th
	// fields behind it.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	var sum time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(string(f))
		if err != nil {
			return 0, fmt.Errorf("CPU time of %s: %w", c.name, err)
		}
		sum += time.Duration(n) * tick
	}
	return sum, nil
}

// cpuOf adds up the CPU time of processes.
func cpuOf(children ...*child) (sum time.Duration, err error) {
	for _, c := range children {
		d, err := c.cpu()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// memory is the resident set in bytes.
func (c *child) memory() (float64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, fmt.Errorf("memory of %s: %w", c.name, err)
	}
	_, rest, ok := bytes.Cut(status, []byte("\nVmRSS:"))
	if !ok {
		return 0, fmt.Errorf("memory of %s: no VmRSS", c.name)
	}
	kib, err := strconv.ParseInt(string(bytes.Fields(rest)[0]), 10, 64)
	return float64(kib << 10), err
}

// last is the end of what a process that has ended said.
func (c *child) last() string {
	select {
	case <-c.exited:
		text := c.stderr.String()
		return text[max(0, len(text)-2000):]
	default:
		return ""
	}
}

// freeAddr is an address where nobody listens.
func freeAddr() (string, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().String(), nil
}

// until polls ok until it says so.
func until(ctx context.Context, limit, every time.Duration, what string, ok func() (bool, error)) error {
	timeout := time.Now().Add(limit)
	for {
		done, err := ok()
		if done {
			return nil
		}
		if time.Now().After(timeout) {
			return errors.Join(fmt.Errorf("%s: not within %v", what, limit), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(every):
		}
	}
}

// An edge is a process of cmd/edge.
type edge struct {
	*child
	name, addr, web string
}

// edge starts one and waits until it is ready. vars are NAME=VALUE.
func (s *session) edge(ctx context.Context, name string, vars ...string) (*edge, error) {
	e := &edge{name: name}
	var err error
	if e.addr, err = freeAddr(); err != nil {
		return nil, err
	}
	if e.web, err = freeAddr(); err != nil {
		return nil, err
	}
	vars = append([]string{"HERD_EDGE=" + name, "HERD_LISTEN=" + e.addr, "HERD_HTTP=" + e.web, "HERD_LOG_LEVEL=warn", "HERD_PPROF=true", "HERD_TRANSCRIPT="}, vars...)
	if e.child, err = s.start("edge "+name, false, vars, filepath.Join(s.dir, "edge")); err != nil {
		return nil, err
	}
	return e, until(ctx, time.Minute, 2*time.Millisecond, "edge "+name+" is ready", func() (bool, error) {
		if text := e.last(); text != "" {
			return false, errors.New(text)
		}
		_, err := e.get("/readyz")
		return err == nil, err
	})
}

func (e *edge) get(path string) ([]byte, error) {
	response, err := http.Get("http://" + e.web + path)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", path, response.Status)
	}
	return body, err
}

// metrics reads /metrics: each name with the sum over its labels.
func (e *edge) metrics() (map[string]float64, error) {
	body, err := e.get("/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", e.name, err)
	}
	m := make(map[string]float64)
	for line := range strings.Lines(string(body)) {
		name, value, ok := cutLast(strings.TrimSpace(line), " ")
		if !ok || line[0] == '#' {
			continue
		}
		name, _, _ = strings.Cut(name, "{")
		x, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("metrics of %s: %w", e.name, err)
		}
		m[name] += x
	}
	return m, nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// nats starts a NATS server and returns its URL.
func (s *session) nats(ctx context.Context, args ...string) (*child, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	c, err := s.start("nats-server", false, nil, filepath.Join(s.dir, "nats-server"), append([]string{"-a", "127.0.0.1", "-p", port}, args...)...)
	if err != nil {
		return nil, "", err
	}
	return c, "nats://" + addr, until(ctx, 10*time.Second, 5*time.Millisecond, "the NATS server is ready", func() (bool, error) {
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return false, err
		}
		defer nc.Close()
		_, err = nc.Read(make([]byte, 1)) // its INFO
		return err == nil, err
	})
}

// median of some values, which it sorts.
func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	if n == 0 {
		return 0
	}
	return (x[(n-1)/2] + x[n/2]) / 2
}

// inTurn measures a figure and its floor in turn, and takes the medians.
func (s *session) inTurn(figure, floor func() (float64, error)) (o outcome, err error) {
	var figures, floors, ratios []float64
	for range s.times() {
		low, err := floor()
		if err != nil {
			return o, err
		}
		high, err := figure()
		if err != nil {
			return o, err
		}
		figures, floors, ratios = append(figures, high), append(floors, low), append(ratios, high/low)
	}
	return outcome{figure: median(figures), floor: median(floors), ratio: median(ratios)}, nil
}

// often measures a figure some times and takes the median.
func (s *session) often(figure func() (float64, error)) (float64, error) {
	var figures []float64
	for range s.times() {
		x, err := figure()
		if err != nil {
			return 0, err
		}
		figures = append(figures, x)
	}
	return median(figures), nil
}
