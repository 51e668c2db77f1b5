package main

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herd/test/ports"
)

// fenceVariables let one connection have all circles.
var fenceVariables = []string{"HERD_WATCHES=23000", "HERD_WATCH_MEMBERS=2000000"}

// fenced returns an edge of the world whose towns are watched in so many circles of 1 km, and the
// watcher, which reads all that it is told.
func (s *session) fenced(ctx context.Context, w *world, name string) (*edge, load, *watcher, error) {
	e, l, err := s.settle(ctx, w, name, fenceVariables...)
	if err != nil {
		return nil, l, nil, err
	}
	circles := w.circles(s.size(23_000, 2300))
	fences, err := watch(ctx, e.addr, len(circles), func(b *bufio.Writer) {
		for i, p := range circles {
			fmt.Fprintf(b, "WATCH w%d %v 1\n", i, p)
		}
	})
	return e, l, fences, err
}

// watchCosts measures the rate at saturation with watched circles; the floor is that without.
func watchCosts(ctx context.Context, s *session, jump bool) (o outcome, err error) {
	w := s.world()
	none, l, err := s.settle(ctx, w, "Jaquez")
	if err != nil {
		return o, err
	}
	e, _, fences, err := s.fenced(ctx, w, "Clark")
	if err != nil {
		return o, err
	}
	defer fences.close()
	l.jump, l.requests = jump, s.size(2_000_000, 100_000)
	rate := func(addr string) (float64, error) {
		l := l
		l.addr = addr
		took, err := l.run(ctx)
		return float64(l.requests) / took.Seconds(), err
	}
	before, err := e.samples()
	if err != nil {
		return o, err
	}
	o, err = s.inTurn(func() (float64, error) { return rate(e.addr) }, func() (float64, error) { return rate(none.addr) })
	if err != nil {
		return o, err
	}
	after, err := e.samples()
	if err != nil {
		return o, err
	}
	told := 0.0
	for _, event := range []string{"in", "at", "out"} {
		name := `herd_watch_told_total{edge="Clark",event="` + event + `"}`
		told += after[name] - before[name]
	}
	const marked = `herd_watch_marked_total{edge="Clark"}`
	updates := float64(l.requests * s.times())
	o.note = fmt.Sprintf("%s members; per update %.2f events marked and %.2f told, told/marked %.2f",
		number(after[`herd_watch_members{edge="Clark"}`]), (after[marked]-before[marked])/updates, told/updates, told/(after[marked]-before[marked]))
	return o, nil
}

// watchMove relates the rate with watched circles to that without.
func watchMove(ctx context.Context, s *session) (outcome, error) {
	o, err := watchCosts(ctx, s, false)
	o.note = fmt.Sprintf("%s updates/s with watches, %s without; %s", number(o.figure), number(o.floor), o.note)
	o.figure, o.floor = 100*o.ratio, 0
	o.met = o.figure >= 70
	return o, err
}

func watchJump(ctx context.Context, s *session) (outcome, error) {
	o, err := watchCosts(ctx, s, true)
	o.met = o.figure >= 100_000
	return o, err
}

// watchElsewhere measures what a change costs the reader of the changes.
func watchElsewhere(ctx context.Context, s *session) (o outcome, err error) {
	all, err := s.benchmarks(ctx, "herd/edge/watch", "BenchmarkWatchesElsewhere", "-benchtime", s.span(2*time.Second, 100*time.Millisecond).String())
	if err != nil {
		return o, err
	}
	const unit = "ns-read/change"
	one, many := all["1"][unit], all["100000"][unit]
	if len(one) == 0 || len(one) != len(many) {
		return o, fmt.Errorf("no %s in %v", unit, all)
	}
	o.moved = movement(one)
	o.figure, o.floor = median(many), median(one)
	o.ratio = o.figure / o.floor
	o.met = o.ratio <= 1.10
	return o, nil
}

// A crowd is connections that wait for lines. How long the last of them waited is what counts.
type crowd struct {
	conns []net.Conn
	due   atomic.Int64  // lines that are still to come, of all
	all   chan struct{} // all have come
	wg    sync.WaitGroup
}

// gather opens connections, has each say hello, if that is not empty, and waits until each has got so
// many lines for it.
func gather(ctx context.Context, addr string, n, turn int, hello string, lines int) (*crowd, error) {
	c := &crowd{all: make(chan struct{}, 1)}
	c.due.Store(int64(n * lines))
	for i := range n {
		// An address has some 28,000 ports for outgoing connections, and a closed one keeps its for a minute.
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, byte(1+turn), 1)}}
		nc, err := d.DialContext(ctx, "tcp", addr)
		if err != nil {
			c.close()
			return nil, fmt.Errorf("connection %d: %w", i, err)
		}
		c.conns = append(c.conns, nc)
		c.wg.Go(func() { c.read(nc) })
		if hello != "" {
			if _, err := nc.Write([]byte(hello)); err != nil {
				c.close()
				return nil, err
			}
		}
	}
	if lines == 0 {
		return c, nil
	}
	return c, c.wait(ctx)
}

// read counts lines. It is as cheap as it can be, since there are as many as the server writes.
func (c *crowd) read(nc net.Conn) {
	buf := make([]byte, 512)
	for {
		n, err := nc.Read(buf)
		if err != nil {
			return
		}
		for _, b := range buf[:n] {
			if b == '\n' && c.due.Add(-1) == 0 {
				c.all <- struct{}{}
			}
		}
	}
}

func (c *crowd) wait(ctx context.Context) error {
	select {
	case <-c.all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Minute):
		return fmt.Errorf("%d lines are missing", c.due.Load())
	}
}

// times tells the crowd something several times, and returns the median of the milliseconds until the
// last has it.
func (c *crowd) times(ctx context.Context, n int, tell func() error) (float64, error) {
	var took []float64
	for range n {
		c.due.Store(int64(len(c.conns)))
		begun := time.Now()
		if err := tell(); err != nil {
			return 0, err
		}
		if err := c.wait(ctx); err != nil {
			return 0, err
		}
		took = append(took, time.Since(begun).Seconds()*1000)
	}
	return median(took), nil
}

func (c *crowd) close() {
	for _, nc := range c.conns {
		nc.Close()
	}
	c.wg.Wait()
}

// watchOne measures until an update has reached the last of the connections that follow its client.
func watchOne(ctx context.Context, s *session) (o outcome, err error) {
	e, err := s.clark(ctx)
	if err != nil {
		return o, err
	}
	addr, err := ports.TakeAddr()
	if err != nil {
		return o, err
	}
	if _, err := s.start("fan-out", nil, s.self, roleFanOut, addr); err != nil {
		return o, err
	}
	if err := (load{addr: addr}).await(ctx); err != nil {
		return o, err
	}
	n, updates, turn := s.size(10_000, 500), s.size(20, 5), 0
	// reach has a crowd gather, and tells the line to one more connection. answered says that the
	// server answers that, in a line.
	reach := func(addr, hello string, lines int, line func() string, answered bool) (float64, error) {
		turn++
		crowd, err := gather(ctx, addr, n, turn, hello, lines)
		if err != nil {
			return 0, err
		}
		defer crowd.close()
		nc, err := net.Dial("tcp", addr)
		if err != nil {
			return 0, err
		}
		defer nc.Close()
		buf, first := make([]byte, 4096), true
		return crowd.times(ctx, updates+1, func() error {
			if answered && !first {
				if err := drain(nc, buf, 1); err != nil {
					return err
				}
			}
			first = false
			_, err := nc.Write([]byte(line()))
			return err
		})
	}
	now := func() string {
		return fmt.Sprintf("IAMAT kiwi +34.068930-118.445127 %d.%09d\n", time.Now().Unix(), time.Now().Nanosecond())
	}
	at := "! w AT Clark +0.000313214 " + strings.TrimPrefix(now(), "IAMAT ")
	o, err = s.inTurn(
		func() (float64, error) {
			if _, err := (load{addr: e.addr, ids: "c", clients: 1, requests: 1, conns: 1, pipeline: 1}).run(ctx); err != nil {
				return 0, err
			}
			return reach(e.addr, "WATCH w kiwi\n", 1, now, true)
		},
		func() (float64, error) { return reach(addr, "", 0, func() string { return at }, false) })
	o.met = o.ratio <= 1.3
	return o, err
}

// watchTold measures how long a change waits until it is written to its watcher, as the edge counts it.
func watchTold(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	e, l, fences, err := s.fenced(ctx, w, "Clark")
	if err != nil {
		return o, err
	}
	defer fences.close()
	l, err = l.half(ctx, s.span(10*time.Second, time.Second))
	if err != nil {
		return o, err
	}
	_, echo, err := s.echoFloor(ctx)
	if err != nil {
		return o, err
	}
	var slowest []float64
	o, err = s.inTurn(
		func() (float64, error) {
			l.addr = e.addr
			before, err := e.samples()
			if err != nil {
				return 0, err
			}
			if _, err := l.run(ctx); err != nil {
				return 0, err
			}
			after, err := e.samples()
			if err != nil {
				return 0, err
			}
			slowest = append(slowest, 1000*quantile("herd_watch_seconds", before, after, 0.99))
			return 1000 * quantile("herd_watch_seconds", before, after, 0.5), nil
		},
		func() (float64, error) {
			l.addr = echo
			_, err := l.run(ctx)
			return l.milliseconds(0.99), err
		})
	if err != nil {
		return o, err
	}
	p99 := median(slowest)
	o.ratio = p99 / o.floor
	o.met = o.figure <= 1 && p99 <= max(2*o.floor, 20)
	o.note = fmt.Sprintf("at %s updates/s in batches of 32; p99 %s ms; the floor is a line echo's p99 under the same load, and the ratio p99's", number(l.rate), number(p99))
	return o, nil
}

// quantile returns a quantile of what a histogram has counted between two readings, evenly spread within
// its buckets; 0 where it has counted nothing.
func quantile(name string, before, after map[string]float64, part float64) float64 {
	type bucket struct{ bound, count float64 }
	var buckets []bucket
	for sample, x := range after {
		_, text, ok := strings.Cut(sample, `le="`)
		if !ok || !strings.HasPrefix(sample, name+"_bucket{") {
			continue
		}
		text, _, _ = strings.Cut(text, `"`)
		bound, err := strconv.ParseFloat(text, 64) // +Inf too
		if err != nil {
			continue
		}
		buckets = append(buckets, bucket{bound, x - before[sample]})
	}
	slices.SortFunc(buckets, func(a, b bucket) int {
		if a.bound < b.bound {
			return -1
		}
		return 1
	})
	if len(buckets) == 0 || buckets[len(buckets)-1].count == 0 {
		return 0
	}
	want, last := part*buckets[len(buckets)-1].count, bucket{}
	for _, b := range buckets {
		if b.count >= want {
			if math.IsInf(b.bound, 1) {
				return b.bound
			}
			return last.bound + (b.bound-last.bound)*(want-last.count)/(b.count-last.count)
		}
		last = b
	}
	return math.Inf(1)
}

// heap is an edge's heap in bytes after a garbage collection: what it holds, without what it has kept to
// use again.
func (e *edge) heap() (float64, error) {
	for range 2 { // what pools hold goes with the second
		if _, err := e.get("/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
	}
	m, err := e.metrics()
	return m["go_memstats_heap_alloc_bytes"], err
}
