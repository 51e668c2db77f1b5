package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// The rows about live questions (L) share a world: see newWorld.

// settle starts an edge with the world's clients, each of which has moved, and returns it with a
// load of them that moves by tens of metres.
func (s *session) settle(ctx context.Context, w *world, name string, more ...string) (*edge, load, error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return nil, load{}, err
	}
	e, err := s.edge(ctx, name, append(lone(url), more...)...)
	if err != nil {
		return nil, load{}, err
	}
	n := len(w.homes)
	l := load{addr: e.addr, ids: "client", in: w, clients: n, conns: 50, pipeline: 32, requests: 2 * n}
	_, err = l.run(ctx)
	return e, l, err
}

func (s *session) world() *world { return newWorld(s.size(1_000_000, 100_000)) }

// liveMemory measures the memory per client of an edge with the index; its floor is one without.
func liveMemory(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	perClient := func(name string, more ...string) (float64, error) {
		e, err := s.edge(ctx, name, append(lone(url), more...)...)
		if err != nil {
			return 0, err
		}
		l := load{addr: e.addr, ids: "client", in: w, clients: 1000, requests: 1000, conns: 50, pipeline: 32}
		if _, err := l.run(ctx); err != nil {
			return 0, err
		}
		empty, err := e.settled(ctx)
		if err != nil {
			return 0, err
		}
		l.clients, l.requests = len(w.homes), 2*len(w.homes) // each client has moved
		if _, err := l.run(ctx); err != nil {
			return 0, err
		}
		full, err := e.settled(ctx)
		e.Stop(stopLimit)
		return (full - empty) / float64(len(w.homes)), err
	}
	if o.floor, err = perClient("Clark", "HERD_LIVE=off"); err != nil {
		return o, err
	}
	if o.figure, err = perClient("Jaquez"); err != nil {
		return o, err
	}
	o.ratio = o.figure / o.floor
	o.met = o.figure <= 180 && o.floor <= 160
	return o, nil
}

// livePipelined compares the CPU time per request of an edge with the index and one without.
func livePipelined(ctx context.Context, s *session) (o outcome, err error) {
	w := s.world()
	off, l, err := s.settle(ctx, w, "Clark", "HERD_LIVE=off")
	if err != nil {
		return o, err
	}
	on, _, err := s.settle(ctx, w, "Clark")
	if err != nil {
		return o, err
	}
	l.requests = s.size(1_600_000, 160_000)
	with, without := l, l
	with.addr = on.addr
	o, err = s.inTurn(
		func() (float64, error) { return perRequest(ctx, on.Process, with) },
		func() (float64, error) { return perRequest(ctx, off.Process, without) })
	o.met = o.ratio <= 1.10
	return o, err
}

// benchmarks runs a package's Go benchmark and returns what it reports: by sub-benchmark and unit,
// a figure each time. options are more of go test's. It runs once, for all rows that want it.
func (s *session) benchmarks(ctx context.Context, pkg, name string, options ...string) (map[string]map[string][]float64, error) {
	if all := s.benched[name]; all != nil {
		return all, nil
	}
	args := append([]string{"test", "-run", "^$", "-bench", "^" + name + "$", "-count", strconv.Itoa(s.times())}, options...)
	out, err := exec.CommandContext(ctx, "go", append(args, pkg)...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	all := map[string]map[string][]float64{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(fields[0], name+"/") {
			continue
		}
		key := strings.TrimPrefix(fields[0], name+"/")
		if i := strings.LastIndexByte(key, '-'); i > 0 { // GOMAXPROCS
			key = key[:i]
		}
		if all[key] == nil {
			all[key] = map[string][]float64{}
		}
		for i := 2; i+1 < len(fields); i += 2 {
			x, err := strconv.ParseFloat(fields[i], 64)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			all[key][fields[i+1]] = append(all[key][fields[i+1]], x)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no %s in\n%s", name, out)
	}
	s.benched[name] = all
	return all, nil
}

// liveStored measures what the index adds to a stored change in the benchmark of Apply, of a
// million clients in no order. The clients move by tens of metres, or jump.
func liveStored(jump bool) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		all, err := s.benchmarks(ctx, "herd/edge/position", "BenchmarkStoreMove", "-benchtime", s.span(time.Second, 100*time.Millisecond).String())
		if err != nil {
			return o, err
		}
		const unit = "cpu-ns/op"
		with, without := all[fmt.Sprintf("index=true/jump=%v", jump)][unit], all[fmt.Sprintf("index=false/jump=%v", jump)][unit]
		if len(with) == 0 || len(without) == 0 {
			return o, fmt.Errorf("no %s in %v", unit, all)
		}
		o.moved = movement(without)
		high := median(with)
		o.floor = median(without)
		o.figure = high - o.floor
		o.met = o.figure <= 60
		o.note = fmt.Sprintf("parse, prepare and merge: %s ns with the index, and the floor without", number(high))
		return o, nil
	}
}

// A question is a load of WHOSATs of clients at random, each asked when the last was answered.
type questions struct {
	addr    string
	clients int
	radius  float64
	most    int
	conns   int
	count   int // of all connections
	bytes   int64
}

// run asks, and notes how many bytes the answers had.
func (q *questions) run(ctx context.Context) error {
	q.bytes = 0
	var got atomic.Int64
	errs := make([]error, q.conns)
	var wg sync.WaitGroup
	for i := range q.conns {
		wg.Go(func() {
			nc, err := net.Dial("tcp", q.addr)
			if err != nil {
				errs[i] = err
				return
			}
			defer nc.Close()
			defer context.AfterFunc(ctx, func() { nc.SetDeadline(time.Unix(1, 0)) })()
			r := rand.New(rand.NewPCG(uint64(i), 3))
			buf := make([]byte, 64<<10)
			for range q.count / q.conns {
				if _, err := fmt.Fprintf(nc, "WHOSAT %s %v %d\n", clientID("client", r.IntN(q.clients)), q.radius, q.most); err != nil {
					errs[i] = err
					return
				}
				n, err := readAnswer(nc, buf)
				if err != nil {
					errs[i] = err
					return
				}
				got.Add(int64(n))
			}
		})
	}
	wg.Wait()
	q.bytes = got.Load()
	return errors.Join(errs...)
}

// readAnswer reads lines up to and with an empty one, and returns how many bytes they have.
func readAnswer(nc net.Conn, buf []byte) (n int, err error) {
	for {
		k, err := nc.Read(buf[n:])
		if err != nil {
			return n, err
		}
		if n += k; buf[0] == '?' {
			return n, fmt.Errorf("refused: %.200q", buf[:n])
		}
		if bytes.HasSuffix(buf[:n], []byte("\n\n")) {
			return n, nil
		}
		if n == len(buf) {
			return n, errors.New("an answer is too long")
		}
	}
}

// liveWhosat measures an edge's CPU time per WHOSAT; the floor answers with as many bytes.
func liveWhosat(radius float64, most int, limit float64) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		w := s.world()
		e, _, err := s.settle(ctx, w, "Clark")
		if err != nil {
			return o, err
		}
		q := questions{addr: e.addr, clients: len(w.homes), radius: radius, most: most, conns: 10, count: s.size(50_000, 2000)}
		if err := q.run(ctx); err != nil {
			return o, err
		}
		each := int(q.bytes) / q.count
		addr, err := ports.TakeAddr()
		if err != nil {
			return o, err
		}
		floor, err := s.start("answer", nil, s.self, roleAnswer, addr, strconv.Itoa(each))
		if err != nil {
			return o, err
		}
		if err := (load{addr: addr}).await(ctx); err != nil {
			return o, err
		}
		bare := q
		bare.addr = addr
		per := func(p *herdtest.Process, q *questions) func() (float64, error) {
			return func() (float64, error) {
				before, err := p.CPU()
				if err != nil {
					return 0, err
				}
				if err := q.run(ctx); err != nil {
					return 0, fmt.Errorf("%w\n%s", err, last(p))
				}
				after, err := p.CPU()
				return float64((after - before).Nanoseconds()) / 1000 / float64(q.count), err
			}
		}
		o, err = s.inTurn(per(e.Process, &q), per(floor, &bare))
		o.met = o.figure <= limit
		o.note = fmt.Sprintf("an answer has %d bytes; the floor is a bare server that answers with as many", each)
		return o, err
	}
}
