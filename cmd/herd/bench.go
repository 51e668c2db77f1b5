package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"herd/cmd/herd/load"
)

var benchCommand = command{
	name:  "bench",
	brief: "load edges and measure rates, latencies and propagation",
	more: `
Sends made-up positions to one or more edges, checks every answer, and prints
requests per second, latencies and errors. Without --rate each connection sends as
fast as answers arrive. With it, requests are due at fixed times, whether or not
the edge keeps up, and latencies count from then.

Propagation is how long an update takes to reach the other edges. Probes are sent to
the edges of --addr; the other edges of --addr and those of --observe are asked until
they hold them. The times include one question's round trip.

The made-up clients stay in the herd like any others: do not load a herd whose
positions matter. Exits 1 if anything was refused, wrong or unanswered.
`,
	setup: func(fs *flag.FlagSet) action {
		b := &bench{secure: newTLSFlags(fs)}
		fs.StringVar(&b.addrs, "addr", "127.0.0.1:12000", "`HOST:PORT` of the client port to load, or several separated by commas")
		fs.StringVar(&b.observed, "observe", "", "`HOST:PORT` of another edge to ask for probes, or several separated by commas")
		fs.IntVar(&b.cfg.Conns, "connections", 50, "`NUMBER` of connections, spread over the edges")
		fs.IntVar(&b.cfg.Pipeline, "pipeline", 1, "maximum `NUMBER` of unanswered requests per connection")
		fs.IntVar(&b.cfg.Clients, "clients", 10_000, "`NUMBER` of clients; each uses one connection")
		fs.Float64Var(&b.cfg.Rate, "rate", 0, "total `NUMBER` of requests per second; 0 means as fast as possible")
		fs.DurationVar(&b.cfg.Duration, "duration", 10*time.Second, "`DURATION` of the load")
		fs.Uint64Var(&b.cfg.Requests, "requests", 0, "end after this `NUMBER` of requests; without --duration there is no time limit")
		fs.Float64Var(&b.cfg.WhatsatShare, "whatsat", 0, "`SHARE` of WHATSAT among the requests, 0 to 1")
		fs.StringVar(&b.cfg.Radius, "radius", "10", "radius of WHATSAT in `KM`, 0 to 50")
		fs.StringVar(&b.cfg.Max, "max", "5", "maximum `NUMBER` of places, 0 to 20")
		fs.StringVar(&b.cfg.Prefix, "ids", "bench-", "`TEXT` that the clients' ids begin with")
		fs.Float64Var(&b.probes, "probes", 10, "`NUMBER` of updates per second to follow to other edges; 0 means none")
		fs.DurationVar(&b.cfg.Timeout, "timeout", 10*time.Second, "longest `DURATION` of an answer or a probe")
		fs.BoolVar(&b.json, "json", false, "print the result as JSON, times in seconds")
		return func(ctx context.Context, p *process, _ []string) error {
			names := given(fs)
			if names["requests"] && !names["duration"] {
				b.cfg.Duration = 0
			}
			return b.run(ctx, p)
		}
	},
}

// bench is one run of the command.
type bench struct {
	cfg      load.Config
	addrs    string
	observed string
	probes   float64
	json     bool
	secure   *tlsFlags
}

func (b *bench) run(ctx context.Context, p *process) error {
	progress := &progressLine{w: p.stderr, rewrite: isTerminal(p.stderr)}
	b.cfg.Progress = progress.show
	secure, err := b.secure.config()
	if err != nil {
		return err
	}
	b.cfg.TLS = secure
	generator, prober, err := b.prepare()
	if err != nil {
		return usageError(err.Error())
	}
	ctx, stop := p.untilInterrupted(ctx)
	defer stop()
	probing, stopProbing := context.WithCancel(ctx)
	defer stopProbing()

	done := make(chan struct{})
	found := make(chan *load.Propagation, 1)
	go func() {
		if prober == nil {
			found <- nil
			return
		}
		found <- prober.Run(probing, done)
	}()
	result, err := generator.Run(ctx)
	progress.end()
	if err != nil {
		stopProbing()
	}
	close(done)
	propagation := <-found
	if result.Counts.Total() == 0 && err != nil {
		return err
	}

	r := newReport(&b.cfg, result, propagation)
	if b.json {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
		fmt.Fprintf(p.stdout, "%s\n", text)
	} else {
		r.print(p.stdout)
	}
	for _, sample := range r.Samples {
		p.say("bench: %s", sample) // the text of other processes is quoted in it
	}
	if err == nil && r.errors() > 0 {
		err = fmt.Errorf("%d requests and probes failed or got a wrong answer", r.errors())
	}
	return err
}

// prepare returns the load generator and, if there is another edge to ask, the prober.
func (b *bench) prepare() (*load.Generator, *load.Prober, error) {
	var err error
	if b.cfg.Addrs, err = addresses("--addr", b.addrs); err != nil {
		return nil, nil, err
	}
	asked := b.cfg.Addrs
	if b.observed != "" {
		more, err := addresses("--observe", b.observed)
		if err != nil {
			return nil, nil, err
		}
		asked = slices.Concat(asked, more)
	}
	if b.cfg.Conns < 1 || b.cfg.Pipeline < 1 || b.cfg.Clients < 1 || b.cfg.Timeout <= 0 {
		return nil, nil, fmt.Errorf("--connections, --pipeline, --clients and --timeout must be at least 1")
	}
	if b.cfg.Duration <= 0 && b.cfg.Requests == 0 {
		return nil, nil, fmt.Errorf("--duration or --requests is required")
	}
	generator, err := load.New(b.cfg)
	if err != nil {
		return nil, nil, err
	}
	asked = slices.Compact(slices.Sorted(slices.Values(asked)))
	if b.probes == 0 || len(asked) < 2 {
		return generator, nil, nil
	}
	prober, err := load.NewProber(load.ProbeConfig{
		Told: slices.Compact(slices.Sorted(slices.Values(b.cfg.Addrs))), Asked: asked, TLS: b.cfg.TLS,
		Rate: b.probes, Prefix: b.cfg.Prefix + "probe-", Timeout: b.cfg.Timeout,
	})
	return generator, prober, err
}

// addresses splits the value of a flag.
func addresses(name, list string) ([]string, error) {
	addrs := strings.Split(list, ",")
	for _, addr := range addrs {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return addrs, nil
}

// progressLine shows the progress of a run: a line that is overwritten on a terminal,
// otherwise a line per second.
type progressLine struct {
	w       io.Writer
	rewrite bool
	shown   bool
}

func (l *progressLine) show(g load.Progress) {
	wrong := g.Counts.Of(load.Refused) + g.Counts.Of(load.Wrong) + g.Counts.Of(load.Failed)
	before, after := "", "\n"
	if l.rewrite {
		before, after = "\r\x1b[K", ""
	}
	l.shown = true
	fmt.Fprintf(l.w, "%s%4.0fs  %.0f requests/s  p50 %v  p99 %v  max %v  %d in all, %d errors%s", before, g.Elapsed.Seconds(), g.Rate,
		short(g.Latency.P50), short(g.Latency.P99), short(g.Latency.Maximum), g.Counts.Total(), wrong, after)
}

func (l *progressLine) end() {
	if l.rewrite && l.shown {
		fmt.Fprintln(l.w)
	}
}

// report is the result of a run, as --json prints it.
type report struct {
	Addresses   []string           `json:"addresses"`
	Connections int                `json:"connections"`
	Pipeline    int                `json:"pipeline"`
	Clients     int                `json:"clients"`
	Rate        float64            `json:"rate"` // the rate requested; 0 means as fast as possible
	Seconds     float64            `json:"seconds"`
	Requests    uint64             `json:"requests"`
	PerSecond   float64            `json:"requests_per_second"`
	Commands    []commandReport    `json:"commands"`
	Lateness    *latencyReport     `json:"lateness_seconds,omitempty"`
	Propagation *propagationReport `json:"propagation,omitempty"`
	Samples     []string           `json:"samples,omitempty"`
}

type commandReport struct {
	Command string        `json:"command"`
	OK      uint64        `json:"ok"`
	Refused uint64        `json:"refused"`
	Wrong   uint64        `json:"wrong"`
	Failed  uint64        `json:"failed"`
	Latency latencyReport `json:"latency_seconds"`
}

type propagationReport struct {
	Probes uint64        `json:"probes"`
	Failed uint64        `json:"failed"`
	Edges  []edgeReport  `json:"edges"`
	All    latencyReport `json:"all_seconds"`
	// AllLost counts the probes that some edge did not hold in time.
	AllLost uint64 `json:"all_lost"`
}

type edgeReport struct {
	Address string        `json:"address"`
	Lost    uint64        `json:"lost"`
	Latency latencyReport `json:"latency_seconds"`
}

type latencyReport struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean"`
	P50   float64 `json:"p50"`
	P90   float64 `json:"p90"`
	P99   float64 `json:"p99"`
	P999  float64 `json:"p999"`
	Max   float64 `json:"max"`
}

func newReport(cfg *load.Config, result *load.Result, propagation *load.Propagation) *report {
	r := &report{
		Addresses: cfg.Addrs, Connections: cfg.Conns, Pipeline: cfg.Pipeline, Clients: cfg.Clients, Rate: cfg.Rate,
		Seconds: result.Took.Seconds(), Requests: result.Counts.Total(), Samples: result.Samples,
	}
	if r.Seconds > 0 {
		r.PerSecond = float64(r.Requests-result.Counts.Of(load.Failed)) / r.Seconds
	}
	for _, kind := range []load.Kind{load.IAMAT, load.WHATSAT} {
		counts := result.Counts[kind]
		c := commandReport{
			Command: kind.String(), Latency: seconds(result.Latency[kind]),
			OK: counts[load.OK], Refused: counts[load.Refused], Wrong: counts[load.Wrong], Failed: counts[load.Failed],
		}
		if c.OK+c.errors() > 0 {
			r.Commands = append(r.Commands, c)
		}
	}
	if cfg.Rate > 0 {
		late := seconds(result.Lateness)
		r.Lateness = &late
	}
	if propagation != nil {
		r.Propagation = &propagationReport{Probes: propagation.Probes, Failed: propagation.Failed, All: seconds(propagation.All), AllLost: propagation.AllLost}
		for _, e := range propagation.Edges {
			r.Propagation.Edges = append(r.Propagation.Edges, edgeReport{Address: e.Addr, Lost: e.Lost, Latency: seconds(e.Latency)})
		}
		r.Samples = append(r.Samples, propagation.Samples...)
	}
	return r
}

func seconds(l load.Latency) latencyReport {
	return latencyReport{
		Count: l.Count, Mean: l.Mean.Seconds(), P50: l.P50.Seconds(), P90: l.P90.Seconds(),
		P99: l.P99.Seconds(), P999: l.P999.Seconds(), Max: l.Maximum.Seconds(),
	}
}

func (c *commandReport) errors() uint64 { return c.Refused + c.Wrong + c.Failed }

// errors returns how many requests and probes did not get the answer they should.
func (r *report) errors() (n uint64) {
	for _, c := range r.Commands {
		n += c.errors()
	}
	if r.Propagation != nil {
		n += r.Propagation.Failed
		for _, e := range r.Propagation.Edges {
			n += e.Lost
		}
	}
	return n
}

func (r *report) print(w io.Writer) {
	fmt.Fprintf(w, "%d requests in %.2f s: %.0f requests/s, %d errors\n\n", r.Requests, r.Seconds, r.PerSecond, r.errors())
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	const percentiles = "P50\tP90\tP99\tP99.9\tMAX\t"
	row := func(name string, counts []uint64, l latencyReport) {
		fmt.Fprintf(t, "%s\t", name)
		for _, n := range counts {
			fmt.Fprintf(t, "%d\t", n)
		}
		for _, s := range []float64{l.P50, l.P90, l.P99, l.P999, l.Max} {
			fmt.Fprintf(t, "%v\t", short(duration(s)))
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintln(t, "LATENCY\tOK\tREFUSED\tWRONG\tFAILED\t"+percentiles)
	for _, c := range r.Commands {
		row(c.Command, []uint64{c.OK, c.Refused, c.Wrong, c.Failed}, c.Latency)
	}
	t.Flush()
	if r.Lateness != nil {
		fmt.Fprintf(w, "\nRequests were sent p50 %v, p99 %v, max %v after they were due.\n", short(duration(r.Lateness.P50)),
			short(duration(r.Lateness.P99)), short(duration(r.Lateness.Max)))
	}
	if r.Propagation == nil {
		return
	}
	fmt.Fprintln(w)
	fmt.Fprintln(t, "PROPAGATION\tHELD\tLOST\t"+percentiles)
	for _, e := range r.Propagation.Edges {
		row("to "+e.Address, []uint64{uint64(e.Latency.Count), e.Lost}, e.Latency)
	}
	row("to all", []uint64{uint64(r.Propagation.All.Count), r.Propagation.AllLost}, r.Propagation.All)
	t.Flush()
}

func duration(seconds float64) time.Duration { return time.Duration(seconds * float64(time.Second)) }

// short rounds a time to about three digits.
func short(d time.Duration) time.Duration {
	for unit := time.Microsecond; unit < time.Hour; unit *= 10 {
		if d < 1000*unit {
			return d.Round(unit)
		}
	}
	return d.Round(time.Second)
}
