package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// allRows are the table's, in its order.
func allRows() []row {
	return []row{
		{"pipelined", "one edge, IAMAT 32 deep on 50 connections, 100,000 clients: CPU a request", "µs", "≤ 2.0 × echo", pipelined},
		{"single", "the same, one at a time", "µs", "≤ 1.2 × echo", single},
		{"transcript", "the same 32 deep, what a transcript adds", "µs", "≤ 0.5, nothing dropped at 200,000/s", transcript},
		{"command", "parse, merge and answer, 100,000 clients in no order", "ns", "≤ 350, 0 allocations", goBenchmark("herd/edge/command", "BenchmarkTake", "100000", 350)},
		{"receive", "parse and merge a line of a full link message, 100,000 clients in no order", "ns", "≤ 250, 0 allocations", goBenchmark("herd/edge/link", "BenchmarkReceive", "100000", 250)},
		{"herd-cpu", "herd of five, 1,000,000 ids told to one: CPU of all an update stored at the last", "µs", "≤ 5", herdCPU},
		{"herd-rate", "the same: such updates a second, load tool included", "/s", "≥ 150,000", herdRate},
		{"herd-slow", "herd of five at 2,000 updates/s one at a time: CPU of all an update", "µs", "≤ 160", herdSlow("", 160)},
		{"herd-linger", "the same with HERD_LINK_LINGER=5ms", "µs", "≤ 60", herdSlow("5ms", 60)},
		{"near-quiet", "propagation to a neighbour, quiet herd, p50", "µs", "≤ 1.3 × NATS one way", propagation("100", 100, 1.3, false)},
		{"all-quiet", "propagation to all five, quiet herd, p50", "µs", "≤ 2.6 × NATS one way", propagation("100", 100, 2.6, true)},
		{"near-busy", "propagation to a neighbour at 10,000 updates/s, p50", "µs", "≤ 1.3 × NATS one way", propagation("10000", 10_000, 1.3, false)},
		{"all-busy", "propagation to all five at 10,000 updates/s, p50", "µs", "≤ 2.6 × NATS one way", propagation("10000", 10_000, 2.6, true)},
		{"catch-up", "an empty edge catches up with 1,000,000 clients, from its start to its port's opening", "clients/s", "≥ 500,000", catchUp},
		{"memory", "resident memory a client, 1,000,000 clients, after GC", "bytes", "≤ 160", memory},
		{"idle", "resident memory an idle connection, one request and half a minute ago", "KiB", "≤ 5, and an answer in under 5 ms", idle},
		{"gc", "p99.9 at half load, 1,000,000 clients", "ms", "≤ 10", pauses},
		{"lock", "waiting for locks at GOMAXPROCS=8, of CPU time", "%", "≤ 5", lock},
		{"journal", "updates/s with the journal on, of those without", "%", "≥ 60, lag ≤ 2 s of updates, 0 within 5 s", journal},
		{"journal-answers", "p50 of an answer at half load with the journal on, of that without", "×", "≤ 1.1", journalAnswers},
		{"durable", "answers/s with HERD_DURABILITY=journal, 256 in flight, stream in memory", "/s", "≥ 30,000", durable},
	}
}

// lone are the variables of an edge of the default herd whose neighbours are not up.
func lone(url string) []string { return []string{"NATS_URL=" + url, "HERD_JOURNAL=off"} }

// clark starts an edge without neighbours, and the broker that it needs for itself.
func (s *session) clark(ctx context.Context, more ...string) (*edge, error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return nil, err
	}
	return s.edge(ctx, "Clark", append(lone(url), more...)...)
}

// perRequest is the CPU time in µs that a process takes for each request of a load.
func perRequest(ctx context.Context, c *child, l load) (float64, error) {
	before, err := c.cpu()
	if err != nil {
		return 0, err
	}
	if _, err := l.run(ctx); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, c.last())
	}
	after, err := c.cpu()
	return float64((after - before).Nanoseconds()) / 1000 / float64(l.requests), err
}

// echoFloor starts the line echo.
func (s *session) echoFloor(ctx context.Context) (*child, string, error) {
	addr, err := freeAddr()
	if err != nil {
		return nil, "", err
	}
	c, err := s.start("echo", false, nil, s.self, roleEcho, addr)
	if err != nil {
		return nil, "", err
	}
	return c, addr, load{addr: addr}.await(ctx)
}

// againstEcho is a load's CPU time a request, of an edge and of the echo.
func againstEcho(ctx context.Context, s *session, l load, most float64) (o outcome, err error) {
	e, err := s.clark(ctx)
	if err != nil {
		return o, err
	}
	floor, floorAddr, err := s.echoFloor(ctx)
	if err != nil {
		return o, err
	}
	onEdge, onFloor := l, l
	onEdge.addr, onFloor.addr = e.addr, floorAddr
	first := onEdge // every client is known, and has moved
	first.pipeline, first.requests = 32, 2*l.clients
	if _, err := first.run(ctx); err != nil {
		return o, err
	}
	o, err = s.inTurn(
		func() (float64, error) { return perRequest(ctx, e.child, onEdge) },
		func() (float64, error) { return perRequest(ctx, floor, onFloor) })
	o.met = o.ratio <= most
	return o, err
}

func pipelined(ctx context.Context, s *session) (outcome, error) {
	return againstEcho(ctx, s, load{ids: "c", clients: 100_000, conns: 50, pipeline: 32, requests: s.size(1_600_000, 160_000)}, 2.0)
}

func single(ctx context.Context, s *session) (outcome, error) {
	return againstEcho(ctx, s, load{ids: "c", clients: 100_000, conns: 50, pipeline: 1, requests: s.size(200_000, 20_000)}, 1.2)
}

// transcript compares an edge that writes one with another that does not, and then looks
// whether it keeps up.
func transcript(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	off, err := s.edge(ctx, "Clark", lone(url)...)
	if err != nil {
		return o, err
	}
	on, err := s.edge(ctx, "Jaquez", append(lone(url), "HERD_TRANSCRIPT="+s.path("transcript"))...)
	if err != nil {
		return o, err
	}
	l := load{ids: "c", clients: 100_000, conns: 50, pipeline: 32, requests: s.size(800_000, 100_000)}
	var added []float64
	for range s.times() {
		l.addr = off.addr
		without, err := perRequest(ctx, off.child, l)
		if err != nil {
			return o, err
		}
		l.addr = on.addr
		with, err := perRequest(ctx, on.child, l)
		if err != nil {
			return o, err
		}
		added = append(added, with-without)
	}
	o.figure = median(added)
	const rate = 200_000
	l.rate, l.requests = rate, rate*s.size(5, 1)
	before, err := on.metrics()
	if err != nil {
		return o, err
	}
	took, err := l.run(ctx)
	if err != nil {
		return o, err
	}
	after, err := on.metrics()
	if err != nil {
		return o, err
	}
	dropped := after["herd_transcript_dropped_total"] - before["herd_transcript_dropped_total"]
	reached := float64(l.requests) / took.Seconds()
	o.met = o.figure <= 0.5 && dropped == 0 && reached >= 0.98*rate
	o.note = fmt.Sprintf("%s lines dropped at %s commands/s", number(dropped), number(reached))
	return o, nil
}

var benchmarkLine = regexp.MustCompile(`(?m)^(Benchmark\S+?)(?:-\d+)?\s+\d+\s+([0-9.]+) ns/op.*\s(\d+) allocs/op`)

// goBenchmark is the median of a package's benchmark at one of its sizes; the note has all.
func goBenchmark(pkg, name, size string, most float64) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^"+name+"$", "-count", strconv.Itoa(s.times()),
			"-benchtime", s.span(500*time.Millisecond, 20*time.Millisecond).String(), pkg)
		out, err := cmd.CombinedOutput()
		if err != nil {
			return o, fmt.Errorf("%w\n%s", err, out)
		}
		times := make(map[string][]float64)
		var sizes []string
		allocations := 0
		for _, m := range benchmarkLine.FindAllStringSubmatch(string(out), -1) {
			ns, _ := strconv.ParseFloat(m[2], 64)
			n, _ := strconv.Atoi(m[3])
			key := strings.TrimPrefix(m[1], name+"/")
			if times[key] == nil {
				sizes = append(sizes, key)
			}
			times[key], allocations = append(times[key], ns), max(allocations, n)
		}
		if len(times[size]) == 0 {
			return o, fmt.Errorf("no %s/%s in\n%s", name, size, out)
		}
		o.figure = median(times[size])
		o.met = o.figure <= most && allocations == 0
		var words []string
		for _, key := range sizes {
			words = append(words, fmt.Sprintf("%s ns with %s clients", number(median(times[key])), key))
		}
		o.note = fmt.Sprintf("%s; %d allocations", strings.Join(words, ", "), allocations)
		return o, nil
	}
}
