package main

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"

	"herd/cmd/herd/load"
)

func TestBenchOfAHerd(t *testing.T) {
	t.Parallel()
	h := startHerd(t, nil)
	defer h.stop()

	o := newTool(t)
	o.want(exitOK, "bench", "--addr", h.addr["Clark"], "--observe", h.addr["Johnson"]+","+h.addr["Juzang"],
		"--rate", "1000", "--duration", "1200ms", "--whatsat", "0.2", "--connections", "4", "--clients", "100", "--probes", "50", "--json")
	var got report
	if err := json.Unmarshal([]byte(o.stdout.String()), &got); err != nil {
		t.Fatalf("%v in %s", err, o.stdout.String())
	}
	if got.Requests != 1200 || got.errors() != 0 || got.Seconds < 1.1 || got.PerSecond < 100 || got.Lateness == nil {
		t.Errorf("%+v, want 1200 requests in 1.2 s", got)
	}
	if len(got.Commands) != 2 || got.Commands[0].OK < 950 || got.Commands[1].Command != "WHATSAT" || got.Commands[1].OK < 230 {
		t.Errorf("%+v, want a fifth of WHATSAT", got.Commands)
	}
	if l := got.Commands[0].Latency; l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.P999 || l.P999 > l.Max || l.Count < 950 {
		t.Errorf("latencies %+v", l)
	}
	p := got.Propagation
	if p == nil || len(p.Edges) != 2 || p.Probes < 20 || p.Edges[0].Latency.Count != int64(p.Probes) || p.All.Count != int64(p.Probes) || p.All.P50 <= 0 {
		t.Errorf("propagation %+v, want all probes held by both", p)
	}
	if !regexp.MustCompile(` 1s +[0-9]+ requests/s  p50 .* 0 errors\n`).MatchString(o.stderr.String()) {
		t.Errorf("no line of progress in %q", o.stderr.String())
	}

	o = newTool(t)
	o.want(exitOK, "bench", "--addr", h.addr["Clark"]+","+h.addr["Johnson"], "--requests", "5000", "--pipeline", "16")
	for _, want := range []string{"5000 requests in ", " 0 errors\n", "IAMAT  5000        0      0       0 ", "PROPAGATION", "to " + h.addr["Johnson"], "to all"} {
		if !strings.Contains(o.stdout.String(), want) {
			t.Errorf("prints\n%s\nwithout %q", o.stdout.String(), want)
		}
	}
}

func TestBenchPrintsARun(t *testing.T) {
	var got strings.Builder
	cfg := load.Config{Addrs: []string{"127.0.0.1:12000"}, Conns: 50, Rate: 1000}
	result := &load.Result{Took: 10_000_000_000}
	result.Counts[load.IAMAT] = [4]uint64{9000, 2, 1, 3}
	result.Counts[load.WHATSAT][load.OK] = 994
	result.Latency[load.IAMAT] = load.Latency{Count: 9003, P50: 123_456, P90: 1_234_567, P99: 12_345_678, P999: 123_456_789, Maximum: 1_234_567_890}
	result.Latency[load.WHATSAT] = load.Latency{Count: 994, P50: 1000, P90: 999_000, P99: 1_000_000, P999: 59_999_000_000, Maximum: 3_600_000_000_000}
	newReport(&cfg, result, &load.Propagation{
		Probes: 100, AllLost: 2, Failed: 1, All: load.Latency{Count: 98, P50: 500_000},
		Edges: []load.EdgePropagation{{Addr: "127.0.0.1:12001", Lost: 2, Latency: load.Latency{Count: 98, P50: 400_000}}},
	}).print(&got)
	golden(t, "testdata/bench.golden", []byte(got.String()))
}

func TestBenchIsInterrupted(t *testing.T) {
	l := listen(t, "") // never answers
	o := newTool(t)
	done := make(chan int)
	go func() {
		done <- o.run("bench", "--addr", l.addr, "--duration", "1h", "--timeout", "1h", "--connections", "1")
	}()
	<-l.lines
	(<-o.signals) <- os.Interrupt
	if code := <-done; code != exitOK || !strings.Contains(o.stdout.String(), "0 requests in ") {
		t.Errorf("exit %d, prints %q, says %q", code, o.stdout.String(), o.stderr.String())
	}
}

func TestBenchFailsWhereAnswersDo(t *testing.T) {
	l := listen(t, "? no\n")
	o := newTool(t)
	o.want(exitFailed, "bench", "--addr", l.addr, "--requests", "10", "--connections", "1")
	if !strings.Contains(o.stdout.String(), "10 errors") || !strings.Contains(o.stderr.String(), "does not repeat the command") {
		t.Errorf("prints %q, says %q", o.stdout.String(), o.stderr.String())
	}
	o = newTool(t)
	away := closedAddr(t)
	o.want(exitFailed, "bench", "--addr", away)
	if !strings.Contains(o.stderr.String(), away) || o.stdout.String() != "" {
		t.Errorf("prints %q, says %q", o.stdout.String(), o.stderr.String())
	}
}

func TestProgressIsOneLineAtATerminal(t *testing.T) {
	var got strings.Builder
	l := &progressLine{w: &got, rewrite: true}
	l.end() // nothing to end
	l.show(load.Progress{Elapsed: 1e9, Rate: 10})
	l.show(load.Progress{Elapsed: 2e9, Rate: 20})
	l.end()
	if s := got.String(); strings.Count(s, "\n") != 1 || strings.Count(s, "\r\x1b[K") != 2 || !strings.HasSuffix(s, "\n") {
		t.Errorf("%q, want one line written twice", s)
	}
}
