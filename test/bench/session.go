package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// A session is one run of the program: its folder with the binaries, and the processes of the row
// that is being measured.
type session struct {
	quick    bool
	dir      string
	self     string // this program
	mu       sync.Mutex
	children []*herdtest.Process
	files    int // number of paths made so far

	benched map[string]map[string]map[string][]float64 // see benchmarks
}

func newSession(ctx context.Context, quick bool) (*session, error) {
	if runtime.GOOS != "linux" {
		return nil, errors.New("the CPU time and memory of other processes can only be read on Linux, from /proc")
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	dir, err := os.MkdirTemp("", "herd-bench-")
	if err != nil {
		return nil, fmt.Errorf("folder for binaries and state: %w", err)
	}
	s := &session{quick: quick, dir: dir, self: self, benched: map[string]map[string]map[string][]float64{}}
	if err := herdtest.Build(ctx, dir, false, "herd/cmd/edge", herdtest.NATSServer); err != nil {
		s.close()
		return nil, fmt.Errorf("build the binaries: %w", err)
	}
	return s, nil
}

func (s *session) close() {
	s.stopAll()
	os.RemoveAll(s.dir)
}

func (s *session) say(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// times returns how often each measurement is made.
func (s *session) times() int { return s.size(5, 1) }

// size returns full, or quick with -quick.
func (s *session) size(full, quick int) int {
	if s.quick {
		return quick
	}
	return full
}

// span is size for durations.
func (s *session) span(full, quick time.Duration) time.Duration {
	if s.quick {
		return quick
	}
	return full
}

// path returns a new path in the session's folder.
func (s *session) path(name string) string {
	s.files++
	return filepath.Join(s.dir, fmt.Sprint(s.files, "-", name))
}

// start starts a program with this environment, and PATH, HOME and TMPDIR. It is stopped at the
// end of the row.
func (s *session) start(name string, env []string, program string, args ...string) (*herdtest.Process, error) {
	return s.launch(herdtest.Command{Label: name, Path: program, Args: args, Env: env})
}

func (s *session) launch(c herdtest.Command) (*herdtest.Process, error) {
	p, err := herdtest.Launch(c)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.children = append(s.children, p)
	s.mu.Unlock()
	return p, nil
}

// stopLimit is how long a process may take to end in order.
const stopLimit = 15 * time.Second

// stopAll stops all running processes, the last one first.
func (s *session) stopAll() {
	s.mu.Lock()
	children := s.children
	s.children = nil
	s.mu.Unlock()
	for _, c := range slices.Backward(children) {
		c.Stop(stopLimit)
	}
}

// cpuOf adds up the CPU time of processes.
func cpuOf(children ...*herdtest.Process) (sum time.Duration, err error) {
	for _, c := range children {
		d, err := c.CPU()
		if err != nil {
			return 0, err
		}
		sum += d
	}
	return sum, nil
}

// last returns the end of the error output of a process that has ended, or "" if it runs.
func last(c *herdtest.Process) string {
	if c.Running() {
		return ""
	}
	return c.Stderr.Tail()
}

// until polls ok until it returns true, and returns an error after limit.
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
	*herdtest.Process
	name, addr, web string
}

// edge starts an edge and waits until it is ready. vars are NAME=VALUE.
func (s *session) edge(ctx context.Context, name string, vars ...string) (*edge, error) {
	e := &edge{name: name}
	var err error
	if e.addr, err = ports.TakeAddr(); err != nil {
		return nil, err
	}
	if e.web, err = ports.TakeAddr(); err != nil {
		return nil, err
	}
	vars = append([]string{"HERD_EDGE=" + name, "HERD_LISTEN=" + e.addr, "HERD_HTTP=" + e.web, "HERD_LOG_LEVEL=warn", "HERD_PPROF=true", "HERD_TRANSCRIPT="}, vars...)
	if e.Process, err = s.start("edge "+name, vars, filepath.Join(s.dir, "edge")); err != nil {
		return nil, err
	}
	return e, until(ctx, time.Minute, 2*time.Millisecond, "edge "+name+" is ready", func() (bool, error) {
		if text := last(e.Process); text != "" {
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

// samples reads /metrics: each metric as it is written, with its labels.
func (e *edge) samples() (map[string]float64, error) {
	body, err := e.get("/metrics")
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", e.name, err)
	}
	samples, err := herdtest.ParseMetrics(string(body))
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", e.name, err)
	}
	return samples, nil
}

// metrics reads /metrics and returns, by name, the sum of a metric over its labels.
func (e *edge) metrics() (map[string]float64, error) {
	samples, err := e.samples()
	if err != nil {
		return nil, err
	}
	m := make(map[string]float64)
	for sample, x := range samples {
		name, _, _ := strings.Cut(sample, "{")
		m[name] += x
	}
	return m, nil
}

// nats starts a NATS server and returns its URL.
func (s *session) nats(ctx context.Context, args ...string) (*herdtest.Process, string, error) {
	addr, err := ports.TakeAddr()
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(addr)
	c, err := s.start("nats-server", nil, filepath.Join(s.dir, "nats-server"), append([]string{"-a", "127.0.0.1", "-p", port}, args...)...)
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

// median returns the median of x, which it sorts.
func median(x []float64) float64 {
	slices.Sort(x)
	n := len(x)
	if n == 0 {
		return 0
	}
	return (x[(n-1)/2] + x[n/2]) / 2
}

// inTurn measures a figure and its floor in turn, and returns the medians.
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
	return outcome{figure: median(figures), floor: median(floors), ratio: median(ratios), moved: movement(floors)}, nil
}

// often measures a figure several times and returns the median.
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
