package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"herd/test/herdtest"
)

// names are the edges of the default herd. Loads run on Clark. Its neighbours are Jaquez and
// Juzang; Bernard and Johnson are two links away.
var names = []string{"Clark", "Jaquez", "Juzang", "Bernard", "Johnson"}

// A herd is the default herd: five edges and a NATS server, each a process.
type herd struct {
	broker *herdtest.Process
	url    string
	edges  []*edge // in the order of names
}

func (s *session) herd(ctx context.Context, vars ...string) (*herd, error) {
	h := &herd{}
	var err error
	if h.broker, h.url, err = s.nats(ctx); err != nil {
		return nil, err
	}
	for _, name := range names {
		e, err := s.edge(ctx, name, append(lone(h.url), vars...)...)
		if err != nil {
			return nil, err
		}
		h.edges = append(h.edges, e)
	}
	return h, until(ctx, 10*time.Second, 20*time.Millisecond, "all links are up", func() (bool, error) {
		for _, e := range h.edges {
			m, err := e.metrics()
			if err != nil {
				return false, err
			}
			if m["herd_link_up"] < 2 {
				return false, fmt.Errorf("%s has %v links up", e.name, m["herd_link_up"])
			}
		}
		return true, nil
	})
}

func (h *herd) cpu() (time.Duration, error) {
	all := []*herdtest.Process{h.broker}
	for _, e := range h.edges {
		all = append(all, e.Process)
	}
	return cpuOf(all...)
}

// level waits until every edge has that many positions and every lag is 0.
func (h *herd) level(ctx context.Context, clients int) error {
	return until(ctx, time.Minute, 10*time.Millisecond, "every lag is 0", func() (bool, error) {
		for _, e := range h.edges {
			m, err := e.metrics()
			if err != nil {
				return false, err
			}
			if m["herd_positions"] < float64(clients) || m["herd_link_lag"] > 0 {
				return false, fmt.Errorf("%s has %v positions and a lag of %v", e.name, m["herd_positions"], m["herd_link_lag"])
			}
		}
		return true, nil
	})
}

// pass runs a load on Clark and waits until all edges hold its clients.
func (h *herd) pass(ctx context.Context, l load) (cpu time.Duration, took time.Duration, err error) {
	before, err := h.cpu()
	if err != nil {
		return 0, 0, err
	}
	start := time.Now()
	l.addr = h.edges[0].addr
	if _, err := l.run(ctx); err != nil {
		return 0, 0, err
	}
	if err := h.level(ctx, l.clients); err != nil {
		return 0, 0, err
	}
	took = time.Since(start)
	after, err := h.cpu()
	return after - before, took, err
}

// saturated measures updates of a million clients as fast as the herd takes them. It returns the
// CPU time per update in µs, and the updates per second.
func saturated(ctx context.Context, s *session) (cpu, rate float64, err error) {
	h, err := s.herd(ctx)
	if err != nil {
		return 0, 0, err
	}
	n := s.size(1_000_000, 50_000)
	l := load{ids: "c", clients: n, requests: n, conns: 50, pipeline: 32}
	if _, _, err := h.pass(ctx, l); err != nil { // the first pass is of new clients
		return 0, 0, err
	}
	var cpus, rates []float64
	for range s.times() {
		used, took, err := h.pass(ctx, l)
		if err != nil {
			return 0, 0, err
		}
		cpus = append(cpus, float64(used.Nanoseconds())/1000/float64(n))
		rates = append(rates, float64(n)/took.Seconds())
	}
	return median(cpus), median(rates), nil
}

func herdCPU(ctx context.Context, s *session) (outcome, error) {
	cpu, rate, err := saturated(ctx, s)
	return outcome{figure: cpu, met: cpu <= 5, note: fmt.Sprintf("at %s updates/s", number(rate))}, err
}

func herdRate(ctx context.Context, s *session) (outcome, error) {
	cpu, rate, err := saturated(ctx, s)
	return outcome{figure: rate, met: rate >= 150_000, note: fmt.Sprintf("for %s µs an update", number(cpu))}, err
}

// herdPaced measures the CPU time of the whole herd per update, at a rate of updates per second
// and with one update under way per connection. The floor is that of five asyncio servers without
// a broker. The note has the shares of the broker and the edges, and the least that could do it
// over a broker: an echo for the client, and a bare message to each other edge.
func herdPaced(rate int) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		h, err := s.herd(ctx)
		if err != nil {
			return o, err
		}
		floor, err := s.asyncioHerd(ctx)
		if err != nil {
			return o, err
		}
		l := load{ids: "c", clients: 1000, requests: rate * s.size(5, 1), conns: max(1, rate/2000), pipeline: 1, rate: float64(rate)}
		perUpdate := func(d time.Duration) float64 { return micros(d) / float64(l.requests) }
		var broker, told, others, lines []float64
		herd := func() (float64, error) {
			before, err := h.costs()
			if err != nil {
				return 0, err
			}
			if _, _, err := h.pass(ctx, l); err != nil {
				return 0, err
			}
			after, err := h.costs()
			broker = append(broker, perUpdate(after.broker-before.broker))
			told = append(told, perUpdate(after.told-before.told))
			others = append(others, perUpdate(after.others-before.others))
			lines = append(lines, (after.lines-before.lines)/float64(l.requests))
			return perUpdate(after.sum() - before.sum()), err
		}
		o, err = s.inTurn(herd, func() (float64, error) {
			used, err := floor.pass(ctx, l)
			return perUpdate(used), err
		})
		if err != nil {
			return o, err
		}
		o.met = o.ratio <= 0.8
		echo, message, err := s.slowFloors(ctx, h, l)
		o.note = fmt.Sprintf("the broker %s µs, the edge that is told %s, the other four together %s; %.1f lines over links an update. At this rate a bare echo takes %s, and a bare message from publisher to subscriber %s: an echo and one such message to each of the others %s",
			number(median(broker)), number(median(told)), number(median(others)), median(lines), number(echo), number(message), number(echo+message*float64(len(names)-1)))
		return o, err
	}
}

// costs are the CPU time of a herd's processes so far, and the lines that its links sent. told is
// the edge with the clients, others the other four.
type costs struct {
	broker, told, others time.Duration
	lines                float64
}

func (c costs) sum() time.Duration { return c.broker + c.told + c.others }

func (h *herd) costs() (c costs, err error) {
	for i, e := range h.edges {
		used, err := e.CPU()
		if err != nil {
			return c, err
		}
		if i == 0 {
			c.told = used
		} else {
			c.others += used
		}
		m, err := e.metrics()
		if err != nil {
			return c, err
		}
		c.lines += m["herd_link_sent_lines_total"]
	}
	c.broker, err = h.broker.CPU()
	return c, err
}

// slowFloors measures CPU times in µs while the herd is idle: per request of a load to a line
// echo, and per bare message at the same rate, of publisher, broker and subscriber together.
func (s *session) slowFloors(ctx context.Context, h *herd, l load) (echo, message float64, err error) {
	floor, addr, err := s.echoFloor(ctx)
	if err != nil {
		return 0, 0, err
	}
	l.addr = addr
	if echo, err = perRequest(ctx, floor, l); err != nil {
		return 0, 0, err
	}
	before, err := h.broker.CPU()
	if err != nil {
		return 0, 0, err
	}
	var ends []*herdtest.Process
	if _, err = s.oneWay(ctx, h.url, strconv.Itoa(int(l.rate)), l.requests, &ends); err != nil {
		return 0, 0, err
	}
	after, err := h.broker.CPU()
	used := after - before
	for _, c := range ends { // they have ended, so ProcessState has their CPU time
		state := c.Cmd.ProcessState
		used += state.UserTime() + state.SystemTime()
	}
	return echo, micros(used) / float64(l.requests), err
}

// oneWay returns the median time in µs of a message from a bare publisher to a bare subscriber. If
// ends is not nil, it is set to their processes, which have ended.
func (s *session) oneWay(ctx context.Context, url, rate string, count int, ends *[]*herdtest.Process) (float64, error) {
	out, in, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer out.Close()
	sub, err := s.launch(herdtest.Command{Label: "subscriber", Path: s.self, Args: []string{roleSubscribe, url, strconv.Itoa(count)}, Stdout: in})
	in.Close() // the subscriber has its own copy
	if err != nil {
		return 0, err
	}
	defer sub.Stop(stopLimit)
	words := bufio.NewScanner(out)
	if !words.Scan() || words.Text() != "ready" {
		return 0, fmt.Errorf("subscriber: %q %s", words.Text(), last(sub))
	}
	pub, err := s.start("publisher", nil, s.self, rolePublish, url, rate, strconv.Itoa(count))
	if err != nil {
		return 0, err
	}
	defer pub.Stop(stopLimit)
	if !words.Scan() {
		return 0, fmt.Errorf("subscriber: %s", last(sub))
	}
	ns, err := strconv.ParseFloat(words.Text(), 64)
	if ends != nil {
		<-pub.Exited
		<-sub.Exited
		*ends = append(*ends, pub, sub)
	}
	return ns / 1000, err
}

// propagation measures the time of an update from its receipt at Clark to its arrival at the
// neighbours, or at the last edge. The floor is the time of a bare message. The times come from
// the edges' transcripts; all edges have this machine's clock. The target is gaps, the least time
// between messages on busy links (H5), plus most times the bare message.
func propagation(text string, rate int, most float64, gaps time.Duration, toAll bool) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		var files []string
		h := &herd{}
		if h.broker, h.url, err = s.nats(ctx); err != nil {
			return o, err
		}
		for _, name := range names {
			file := s.path(name)
			files = append(files, file)
			e, err := s.edge(ctx, name, append(lone(h.url), "HERD_TRANSCRIPT="+file, "HERD_TRANSCRIPT_LINKS=true", "HERD_TRANSCRIPT_MAX=4GiB")...)
			if err != nil {
				return o, err
			}
			h.edges = append(h.edges, e)
		}
		count := rate * s.size(3, 1)
		l := load{addr: h.edges[0].addr, clients: 1000, conns: max(1, rate/1000), pipeline: 1, rate: float64(rate), requests: count}
		var floors, busy []float64
		for i := range s.times() {
			floor, err := s.oneWay(ctx, h.url, text, count, nil)
			if err != nil {
				return o, err
			}
			floors = append(floors, floor)
			l.ids = string(rune('a' + i)) // distinguishes the measurements
			before, err := h.cpu()
			if err != nil {
				return o, err
			}
			took, err := l.run(ctx)
			if err != nil {
				return o, err
			}
			after, err := h.cpu()
			if err != nil {
				return o, err
			}
			busy = append(busy, (after-before).Seconds()/took.Seconds())
			if err := h.level(ctx, 0); err != nil {
				return o, err
			}
		}
		for _, e := range h.edges {
			e.Stop(stopLimit) // writes the rest of its transcript
		}
		arrivals := make([]map[string]time.Duration, len(names))
		for i, file := range files[1:] {
			if arrivals[i+1], err = readArrivals(file); err != nil {
				return o, err
			}
		}
		var figures, ratios, beyond []float64
		for i, floor := range floors {
			turn := string(rune('a' + i))
			var times []float64
			for update, near := range arrivals[1] {
				if !strings.HasPrefix(update, turn) {
					continue
				}
				if !toAll {
					times = append(times, micros(near))
					if other, ok := arrivals[2][update]; ok {
						times = append(times, micros(other))
					}
					continue
				}
				last := near
				for _, other := range arrivals[2:] {
					d, ok := other[update]
					if !ok { // replaced on the way by a newer line of its client
						last = -1
						break
					}
					last = max(last, d)
				}
				if last >= 0 {
					times = append(times, micros(last))
				}
			}
			if len(times) < count/2 {
				return o, fmt.Errorf("only %d of %d updates are in the transcripts", len(times), count)
			}
			figures = append(figures, median(times))
			ratios = append(ratios, figures[i]/floor)
			beyond = append(beyond, (figures[i]-micros(gaps))/floor)
		}
		o.note = fmt.Sprintf("ratios %.2f to %.2f; the herd kept %.2f of %d cores busy, the load not counted, and the floor was taken while it rested",
			slices.Min(ratios), slices.Max(ratios), median(busy), runtime.NumCPU())
		o.figure, o.floor, o.ratio, o.moved = median(figures), median(floors), median(ratios), movement(floors)
		o.met = median(beyond) <= most
		return o, nil
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// readArrivals reads a transcript. It returns how long after its receipt by the first edge each
// update first came over a link. The keys are an update's client and time.
func readArrivals(file string) (map[string]time.Duration, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	found := make(map[string]time.Duration)
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// TIME EDGE link NEIGHBOUR > AT EDGE SKEW CLIENT LOCATION TIME
		w := strings.Fields(lines.Text())
		if len(w) != 11 || w[2] != "link" || w[4] != ">" || w[5] != "AT" {
			continue
		}
		at, err := time.Parse(time.RFC3339Nano, w[0])
		if err != nil {
			return nil, err
		}
		told, err := nanoseconds(w[10])
		skew, err2 := nanoseconds(w[7])
		if err := errors.Join(err, err2); err != nil {
			return nil, err
		}
		update := w[8] + " " + w[10]
		if _, ok := found[update]; !ok {
			found[update] = time.Duration(at.UnixNano() - told - skew)
		}
	}
	return found, lines.Err()
}

// full starts the edge Clark and loads it with a million clients. vars are for its neighbour Jaquez.
func (s *session) full(ctx context.Context) (e *edge, clients int, vars []string, err error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return nil, 0, nil, err
	}
	vars = append(lone(url), "HERD_TOPOLOGY=Clark-Jaquez")
	if e, err = s.edge(ctx, "Clark", vars...); err != nil {
		return nil, 0, nil, err
	}
	clients = s.size(1_000_000, 50_000)
	_, err = (load{addr: e.addr, ids: "c", clients: clients, requests: clients, conns: 50, pipeline: 32}).run(ctx)
	return e, clients, vars, err
}

// catchUp measures how fast an empty edge catches up with one that holds a million clients.
func catchUp(ctx context.Context, s *session) (o outcome, err error) {
	_, n, vars, err := s.full(ctx)
	if err != nil {
		return o, err
	}
	o.figure, err = s.often(func() (float64, error) {
		start := time.Now()
		empty, err := s.edge(ctx, "Jaquez", vars...)
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		defer empty.Stop(stopLimit)
		m, err := empty.metrics()
		if err != nil {
			return 0, err
		}
		if m["herd_positions"] != float64(n) {
			return 0, fmt.Errorf("port opened with %v clients of %d", m["herd_positions"], n)
		}
		return float64(n) / took.Seconds(), nil
	})
	o.met = o.figure >= 500_000
	return o, err
}
