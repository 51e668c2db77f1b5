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
)

// names are the edges of the default herd. Clark is told; its neighbours are Jaquez and
// Juzang, and Bernard and Johnson are two links away.
var names = []string{"Clark", "Jaquez", "Juzang", "Bernard", "Johnson"}

// A herd is the default one: five edges and a NATS server, a process each.
type herd struct {
	broker *child
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
	all := []*child{h.broker}
	for _, e := range h.edges {
		all = append(all, e.child)
	}
	return cpuOf(all...)
}

// level waits until every edge has as many positions and every lag is 0.
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

// pass tells the herd of all clients once, as a load says, and waits until all hold them.
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

// saturated passes through the herd as often as is measured, and returns both figures.
func saturated(ctx context.Context, s *session) (cpu, rate float64, err error) {
	h, err := s.herd(ctx)
	if err != nil {
		return 0, 0, err
	}
	n := s.size(1_000_000, 50_000)
	l := load{ids: "c", clients: n, requests: n, conns: 50, pipeline: 32}
	if _, _, err := h.pass(ctx, l); err != nil { // the first tells of new clients
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

// herdSlow is the CPU time of all for an update, at 2,000/s from one connection. The note
// says whose it is, and what the least costs that could do it: an echo for the client, and
// bare messages as many as the links carry.
func herdSlow(linger string, most float64) func(context.Context, *session) (outcome, error) {
	return func(ctx context.Context, s *session) (o outcome, err error) {
		var vars []string
		if linger != "" {
			vars = append(vars, "HERD_LINK_LINGER="+linger)
		}
		h, err := s.herd(ctx, vars...)
		if err != nil {
			return o, err
		}
		const rate = 2000
		l := load{ids: "c", clients: 1000, requests: rate * s.size(5, 1), conns: 1, pipeline: 1, rate: rate}
		perUpdate := func(d time.Duration) float64 { return micros(d) / float64(l.requests) }
		var broker, told, others, lines []float64
		o.figure, err = s.often(func() (float64, error) {
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
		})
		if err != nil {
			return o, err
		}
		o.met = o.figure <= most
		echo, message, err := s.slowFloors(ctx, h, l)
		o.note = fmt.Sprintf("the broker %s µs, the edge that is told %s, the other four together %s; %.1f lines over links an update. At this rate a bare echo takes %s, and a bare message from publisher to subscriber %s: an echo and one such message to each of the others %s",
			number(median(broker)), number(median(told)), number(median(others)), median(lines), number(echo), number(message), number(echo+message*float64(len(names)-1)))
		return o, err
	}
}

// costs are the CPU time of a herd's processes so far, and how many lines its links sent.
type costs struct {
	broker, told, others time.Duration
	lines                float64
}

func (c costs) sum() time.Duration { return c.broker + c.told + c.others }

func (h *herd) costs() (c costs, err error) {
	for i, e := range h.edges {
		used, err := e.cpu()
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
	c.broker, err = h.broker.cpu()
	return c, err
}

// slowFloors are the CPU time in µs for a request of this load to a line echo, and for one
// bare message at its rate, of publisher, broker and subscriber together, while the herd
// has nothing to do.
func (s *session) slowFloors(ctx context.Context, h *herd, l load) (echo, message float64, err error) {
	floor, addr, err := s.echoFloor(ctx)
	if err != nil {
		return 0, 0, err
	}
	l.addr = addr
	if echo, err = perRequest(ctx, floor, l); err != nil {
		return 0, 0, err
	}
	before, err := h.broker.cpu()
	if err != nil {
		return 0, 0, err
	}
	var ends []*child
	if _, err = s.oneWay(ctx, h.url, strconv.Itoa(int(l.rate)), l.requests, &ends); err != nil {
		return 0, 0, err
	}
	after, err := h.broker.cpu()
	used := after - before
	for _, c := range ends { // they have ended: the system says what they took
		state := c.cmd.ProcessState
		used += state.UserTime() + state.SystemTime()
	}
	return echo, micros(used) / float64(l.requests), err
}

// oneWay is the median time in µs from a bare publisher to a bare subscriber. ends, if not
// nil, gets their processes, which have ended.
func (s *session) oneWay(ctx context.Context, url, rate string, count int, ends *[]*child) (float64, error) {
	sub, err := s.start("subscriber", true, nil, s.self, roleSubscribe, url, strconv.Itoa(count))
	if err != nil {
		return 0, err
	}
	defer sub.stop()
	words := bufio.NewScanner(sub.out)
	if !words.Scan() || words.Text() != "ready" {
		return 0, fmt.Errorf("subscriber: %q %s", words.Text(), sub.last())
	}
	pub, err := s.start("publisher", false, nil, s.self, rolePublish, url, rate, strconv.Itoa(count))
	if err != nil {
		return 0, err
	}
	defer pub.stop()
	if !words.Scan() {
		return 0, fmt.Errorf("subscriber: %s", sub.last())
	}
	ns, err := strconv.ParseFloat(words.Text(), 64)
	if ends != nil {
		<-pub.exited
		<-sub.exited
		*ends = append(*ends, pub, sub)
	}
	return ns / 1000, err
}

// propagation compares what an update takes, from its receipt at Clark to its arrival at
// its neighbours or at the last of all, with a bare message. When a line comes is read from
// the transcripts of the edges, whose clock is this machine's; nobody is asked.
func propagation(text string, rate int, most float64, toAll bool) func(context.Context, *session) (outcome, error) {
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
			l.ids = string(rune('a' + i)) // tells the turns apart
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
			e.stop() // writes all of its transcript
		}
		arrivals := make([]map[string]time.Duration, len(names))
		for i, file := range files[1:] {
			if arrivals[i+1], err = readArrivals(file); err != nil {
				return o, err
			}
		}
		var figures, ratios []float64
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
					if !ok { // overtaken on its way by a newer line of its client
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
		}
		o.note = fmt.Sprintf("ratios %.2f to %.2f; the herd kept %.2f of %d cores busy, the load not counted, and the floor was taken while it rested",
			slices.Min(ratios), slices.Max(ratios), median(busy), runtime.NumCPU())
		o.figure, o.floor, o.ratio = median(figures), median(floors), median(ratios)
		o.met = o.ratio <= most
		return o, nil
	}
}

func micros(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }

// readArrivals reads a transcript: how long after its receipt by its first edge each
// update, a client and its time, first came over a link.
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

// catchUp starts an edge, empty, beside one that holds a million clients.
func catchUp(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	vars := append(lone(url), "HERD_TOPOLOGY=Clark-Jaquez")
	full, err := s.edge(ctx, "Clark", vars...)
	if err != nil {
		return o, err
	}
	n := s.size(1_000_000, 50_000)
	if _, err := (load{addr: full.addr, ids: "c", clients: n, requests: n, conns: 50, pipeline: 32}).run(ctx); err != nil {
		return o, err
	}
	o.figure, err = s.often(func() (float64, error) {
		start := time.Now()
		empty, err := s.edge(ctx, "Jaquez", vars...)
		if err != nil {
			return 0, err
		}
		took := time.Since(start)
		defer empty.stop()
		m, err := empty.metrics()
		if err != nil {
			return 0, err
		}
		if m["herd_positions"] != float64(n) {
			return 0, fmt.Errorf("it opened its port with %v clients of %d", m["herd_positions"], n)
		}
		return float64(n) / took.Seconds(), nil
	})
	o.met = o.figure >= 500_000
	return o, err
}
