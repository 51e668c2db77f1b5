package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// linkGap is the default of HERD_LINK_GAP.
const linkGap = 5 * time.Millisecond

// allRows returns the rows of the table in their order.
func allRows() []row {
	return []row{
		{"pipelined", "one edge, IAMAT 32 deep on 50 connections, 100,000 clients: CPU per request", "µs", "≤ 2.0 × echo", pipelined},
		{"single", "the same, one at a time", "µs", "≤ 1.2 × echo", single},
		{"transcript", "the same 32 deep, what a transcript adds", "µs", "≤ 0.5, nothing dropped at 200,000/s", transcript},
		{"command", "parse, merge and answer, 100,000 clients in random order", "ns", "≤ 350, 0 allocations", goBenchmark("herd/edge/command", "BenchmarkTake", "100000", 350)},
		{"receive", "parse and merge a line of a full link message, 100,000 clients in random order", "ns", "≤ 250, 0 allocations", goBenchmark("herd/edge/link", "BenchmarkReceive", "100000", 250)},
		{"herd-cpu", "herd of five, 1,000,000 clients at one edge: CPU of all processes per update held by all", "µs", "≤ 5", herdCPU},
		{"herd-rate", "the same: updates per second, load tool included", "/s", "≥ 150,000", herdRate},
		{"herd-slow", "herd of five at 2,000 updates/s, one at a time: CPU of all processes per update", "µs", "≤ 0.8 × five asyncio servers without a broker", herdPaced(2000)},
		{"herd-busy", "the same at 8,000 updates/s, four at a time", "µs", "≤ 0.8 × five asyncio servers without a broker", herdPaced(8000)},
		{"near-quiet", "propagation to a neighbour, quiet herd, p50", "µs", "≤ 1.3 × NATS one way", propagation("100", 100, 1.3, 0, false)},
		{"all-quiet", "propagation to all five, quiet herd, p50", "µs", "≤ 2.6 × NATS one way", propagation("100", 100, 2.6, 0, true)},
		{"near-busy", "propagation to a neighbour at 10,000 updates/s, p50", "µs", "≤ the gap, 5 ms, and 1.3 × NATS one way", propagation("10000", 10_000, 1.3, linkGap, false)},
		{"all-busy", "propagation to all five at 10,000 updates/s, p50", "µs", "≤ two gaps, 10 ms, and 2.6 × NATS one way", propagation("10000", 10_000, 2.6, 2*linkGap, true)},
		{"catch-up", "an empty edge catches up with 1,000,000 clients, from its start to its port's opening", "clients/s", "≥ 500,000", catchUp},
		{"memory", "resident memory per client, 1,000,000 clients, after GC, HERD_LIVE=off", "bytes", "≤ 160", memory},
		{"idle", "resident memory per connection, half a minute after its only request", "KiB", "≤ 5, and an answer in under 5 ms", idle},
		{"gc", "p99.9 at half load, 1,000,000 clients", "ms", "≤ 10", pauses},
		{"lock", "share of CPU time spent waiting for locks, GOMAXPROCS=8", "%", "≤ 5", lock},
		{"journal", "updates/s with the journal on, relative to off", "%", "≥ 60, lag ≤ 2 s of updates, 0 within 5 s", journal},
		{"journal-answers", "p50 of an answer at half load with the journal on, relative to off", "×", "≤ 1.1", journalAnswers},
		{"load", "start of an edge with 300,000 entries in its journal, to its port's opening", "s", "≤ 3 × a bare reader of the stream", loading},
		{"durable", "answers/s with HERD_DURABILITY=journal, 256 in flight, stream in memory", "/s", "≥ 30,000", durable},
		{"places", "p99 of WHATSAT within 50 km among 1,000,000 places of an extract, one at a time", "µs", "≤ 1 ms above a refused line", places},
		{"hang", "p99 of IAMAT at 2,000/s while 50 requests to the places provider hang", "ms", "≤ 2 × without them, or 5 ms above", hang},
		{"hell", "p99 of IAMAT at 2,000/s while 130 other clients do not read, send nothing or send noise", "ms", "≤ 50 ms above without them", hell},
		{"greedy", "p99 of IAMAT that waits for the journal, while 20 connections send new ids as fast as they can", "ms", "≤ 2 × an echo beside as many connections, or 100 ms", greedy},
		{"catch-up-others", "slowest IAMAT at 2,000/s while a neighbour catches up with 1,000,000 clients", "ms", "≤ 100 ms above without it", catchUpOthers},
		{"outage", "slowest IAMAT at 2,000/s while the broker is paused", "ms", "≤ 100 ms above with it", outage},
		{"live-memory", "the same in the world, with the index by place; floor: HERD_LIVE=off", "bytes", "≤ 180, and ≤ 160 without", liveMemory},
		{"live-pipelined", "IAMAT 32 deep without watches, 1,000,000 clients: CPU per request, HERD_LIVE on against off", "µs", "≤ 1.10 × off", livePipelined},
		{"live-move", "one stored change of a client that moves by tens of metres: what the index adds", "ns", "≤ 60", liveStored(false)},
		{"live-jump", "the same of one that jumps anywhere in its town", "ns", "≤ 60", liveStored(true)},
		{"whosat-5", "WHOSAT of random clients, 5 km, 10 results: CPU of the edge each", "µs", "≤ 60", liveWhosat(5, 10, 60)},
		{"whosat-50", "WHOSAT of random clients, 50 km, 20 results: CPU of the edge each", "µs", "≤ 150", liveWhosat(50, 20, 150)},
		{"watch-move", "updates/s at saturation, 23,000 circles of 1 km watched, clients move by tens of metres, relative to none", "%", "≥ 70", watchMove},
		{"watch-jump", "the same, clients jump anywhere in their town: updates/s", "/s", "≥ 100,000", watchJump},
		{"watch-elsewhere", "a change read for watches, 100,000 of them elsewhere on Earth, against 1", "ns", "≤ 1.10 × 1", watchElsewhere},
		{"watch-one", "one client followed by 10,000 connections: from its update to the last", "ms", "≤ 1.3 × a bare server that writes to 10,000", watchOne},
		{"watch-told", "stored to written at half load, 23,000 circles: p50", "ms", "p50 ≤ 1, p99 ≤ 2 × an echo's, or 20", watchTold},
		{"watch-slow", "a watcher that reads 1 KB/s for 50 s at 20,000 updates/s in its area: growth of the edge per member", "bytes", "≤ 8, and level in 1 s", watchSlow},
		{"watch-list", "WATCH with 100,000 inside, to its NOW", "ms", "≤ 300, no other answer more than 5 ms later", watchList},
		{"devices-get", "OsmAnd's GET, keep-alive, one at a time: CPU of the edge per request", "µs", "≤ 1.3 × net/http that reads the same query", devicesGet},
		{"devices-batch", "a request of Overland's 1,000 positions, per position", "µs", "≤ 1.5 beyond decoding the JSON", devicesBatch},
		{"page", "share of a core that an open page costs an edge with 1,000,000 clients at rest, over a minute", "%", "≤ 1, and ten pages ≤ 2", pageCosts},
		{"stop", "from SIGTERM to the end of an edge with nothing left to send", "ms", "≤ 100 ms above a bare process", stopping},
		{"back", "from the end of an edge's 5 s pause at 2,000 updates/s until it holds everything", "s", "≤ 3", back},
	}
}

// lone returns the variables of an edge of the default herd without a journal.
func lone(url string) []string { return []string{"NATS_URL=" + url, "HERD_JOURNAL=off"} }

// clark starts an edge whose neighbours are not running, and a broker for it.
func (s *session) clark(ctx context.Context, more ...string) (*edge, error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return nil, err
	}
	return s.edge(ctx, "Clark", append(lone(url), more...)...)
}

// perRequest returns the CPU time in µs that a process takes per request of a load.
func perRequest(ctx context.Context, c *herdtest.Process, l load) (float64, error) {
	before, err := c.CPU()
	if err != nil {
		return 0, err
	}
	if _, err := l.run(ctx); err != nil {
		return 0, fmt.Errorf("%w\n%s", err, last(c))
	}
	after, err := c.CPU()
	return float64((after - before).Nanoseconds()) / 1000 / float64(l.requests), err
}

// echoFloor starts the line echo.
func (s *session) echoFloor(ctx context.Context) (*herdtest.Process, string, error) {
	addr, err := ports.TakeAddr()
	if err != nil {
		return nil, "", err
	}
	c, err := s.start("echo", nil, s.self, roleEcho, addr)
	if err != nil {
		return nil, "", err
	}
	return c, addr, load{addr: addr}.await(ctx)
}

// againstEcho measures the CPU time per request of a load, of an edge and of the echo.
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
	first := onEdge // after it, every client is known and has moved
	first.pipeline, first.requests = 32, 2*l.clients
	if _, err := first.run(ctx); err != nil {
		return o, err
	}
	o, err = s.inTurn(
		func() (float64, error) { return perRequest(ctx, e.Process, onEdge) },
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

// transcript compares an edge that writes a transcript with one that does not. Then it checks
// whether the transcript keeps up at a fixed rate.
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
		without, err := perRequest(ctx, off.Process, l)
		if err != nil {
			return o, err
		}
		l.addr = on.addr
		with, err := perRequest(ctx, on.Process, l)
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

// goBenchmark measures one size of a package's Go benchmark, by the median. The note has all
// sizes.
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
