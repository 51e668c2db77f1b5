// Command bench measures the herd beside floors, and prints a table of figures and targets:
// `go run ./test/bench`. It builds the binaries and runs them as they are deployed, and measures
// the CPU time of the processes as the operating system counts it. A figure is the median of five
// measurements, a ratio the median of five ratios. Edge and floor
// are measured in turn, so that a busy machine affects both.
//
// A floor is the least that the same work could cost. Most floors are a bare line echo in Go, or a
// bare publisher and subscriber of the same NATS server: this program, run in processes of its
// own. The floor of the CPU time per update of a whole herd is five asyncio servers without a
// broker (asyncio_herd.py), which need python3. A row whose floor moved by more than 20 % between
// its measurements says "not measured here" in place of whether its target was met.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// A row is one line of the table.
type row struct {
	name   string
	what   string
	unit   string
	target string
	run    func(context.Context, *session) (outcome, error)
}

// An outcome is the result of measuring a row.
type outcome struct {
	figure float64
	floor  float64 // 0: the row has none
	ratio  float64 // figure to floor: the median of the ratios, not the ratio of the medians
	met    bool
	moved  float64 // by how much the floor's largest measurement exceeds its least, as a share of the least
	note   string  // further results
}

// steady is how far the measurements of a floor may lie apart. Beyond it the machine did not do
// the same amount of work in the same time, and the row says neither that its target was met nor
// that it was missed.
const steady = 0.20

// movement returns by how much the largest of a floor's measurements exceeds the least, as a share
// of the least.
func movement(floors []float64) float64 {
	if len(floors) == 0 {
		return 0
	}
	return slices.Max(floors)/slices.Min(floors) - 1
}

// errCannot says why a row cannot be measured on this machine.
type errCannot struct{ reason string }

func (e errCannot) Error() string { return e.reason }

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], roleMark) {
		os.Exit(role(os.Args[1:]))
	}
	quick := flag.Bool("quick", false, "small sizes, measured once: shows that everything works, not what it costs")
	only := flag.String("run", "", "measure only the rows that match `REGEXP` (default all)")
	list := flag.Bool("list", false, "list the rows and their targets")
	asJSON := flag.Bool("json", false, "print JSON")
	flag.Parse()
	pattern, err := regexp.Compile(*only)
	if err != nil || flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "bench: wrong usage: %v %q\n", err, flag.Args())
		os.Exit(2)
	}
	var rows []row
	for _, r := range allRows() {
		if pattern.MatchString(r.name) {
			rows = append(rows, r)
		}
	}
	if *list {
		for _, r := range rows {
			fmt.Printf("%-18s %s: %s\n", r.name, r.what, r.target)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measure(ctx, rows, *quick, *asJSON); err != nil {
		stop()
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

// measure measures the rows and prints the results. A row that misses its target is no error. A
// row that fails is one, unless the machine cannot measure it.
func measure(ctx context.Context, rows []row, quick, asJSON bool) error {
	s, err := newSession(ctx, quick)
	if err != nil {
		return err
	}
	defer s.close()
	results := make([]result, 0, len(rows))
	var failed error
	for _, r := range rows {
		begun := time.Now()
		o, err := r.run(ctx, s)
		s.stopAll()
		took := time.Since(begun).Round(time.Second)
		if ctx.Err() != nil {
			failed = ctx.Err()
			break
		}
		if err != nil {
			s.say("%s: not measured: %v (%v)", r.name, err, took)
			if _, cannot := errors.AsType[errCannot](err); !cannot {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", r.name, err))
			}
			results = append(results, r.failed(err))
			continue
		}
		s.say("%s: %s (%v)", r.name, number(o.figure)+" "+r.unit, took)
		results = append(results, r.measured(o))
	}
	if asJSON {
		e := json.NewEncoder(os.Stdout)
		e.SetIndent("", "  ")
		return errors.Join(failed, e.Encode(results))
	}
	printTable(os.Stdout, results, quick)
	return failed
}

// result is a row as it is printed.
type result struct {
	Name     string  `json:"name"`
	What     string  `json:"what"`
	Unit     string  `json:"unit"`
	Measured bool    `json:"measured"`
	Figure   float64 `json:"figure"`
	Floor    float64 `json:"floor,omitempty"`
	Ratio    float64 `json:"ratio,omitempty"`
	Target   string  `json:"target"`
	Met      *bool   `json:"met,omitempty"` // absent: there is no figure, or its floor moved too far
	Moved    float64 `json:"floor_moved,omitempty"`
	Note     string  `json:"note,omitempty"`
}

// failed returns a row that could not be measured.
func (r row) failed(err error) result {
	return result{Name: r.name, What: r.what, Unit: r.unit, Target: r.target, Note: "not measured: " + err.Error()}
}

// measured returns a row with what was measured.
func (r row) measured(o outcome) result {
	shown := result{Name: r.name, What: r.what, Unit: r.unit, Target: r.target, Measured: true,
		Figure: o.figure, Floor: o.floor, Ratio: o.ratio, Moved: o.moved, Note: o.note}
	if o.moved <= steady {
		shown.Met = &o.met
		return shown
	}
	moved := fmt.Sprintf("the floor moved by %.0f %% between its measurements", 100*o.moved)
	if shown.Note != "" {
		moved += "; "
	}
	shown.Note = moved + shown.Note
	return shown
}

func printTable(w io.Writer, results []result, quick bool) {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| row\t| what\t| figure\t| floor\t| ratio\t| target\t| met\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range results {
		figure, floor, ratio, met := "–", "", "", "–"
		if r.Measured {
			figure, met = number(r.Figure)+" "+r.Unit, "not measured here"
		}
		if r.Met != nil {
			met = "no"
			if *r.Met {
				met = "yes"
			}
		}
		if r.Floor != 0 {
			floor = number(r.Floor)
		}
		if r.Ratio != 0 {
			ratio = fmt.Sprintf("%.2f", r.Ratio)
		}
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.name(), r.What, figure, floor, ratio, r.Target, met)
	}
	t.Flush()
	for _, r := range results {
		if r.Note != "" {
			fmt.Fprintf(w, "\n%s: %s", r.Name, r.Note)
		}
	}
	fmt.Fprintf(w, "\n\n%s, %d cores, %s/%s\n", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	if quick {
		fmt.Fprintln(w, "Quick: small sizes, measured once. Do not use these figures.")
	}
}

func (r result) name() string { return "`" + r.Name + "`" }

// number formats x with about three digits.
func number(x float64) string {
	switch a := math.Abs(x); {
	case a >= 1000:
		text := fmt.Sprintf("%.0f", x)
		for i := len(text) - 3; i > 0; i -= 3 {
			text = text[:i] + "," + text[i:]
		}
		return text
	case a >= 100:
		return fmt.Sprintf("%.0f", x)
	case a >= 10:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.2f", x)
	}
}
