// Command bench measures the herd against its floors, and prints a table of what it is to
// reach and what it reaches: `go run ./test/bench`. It builds and runs the binaries as they
// are deployed, measures the CPU time of their processes as the operating system accounts
// for it, and takes the median of five, edge and floor in turn, so that a busy machine
// weighs on both.
//
// The floors are what no server of this kind can do without: a bare line echo in Go, and a
// bare publisher and subscriber of the same NATS server. They are this program again, in
// processes of their own.
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
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

// A row is one line of the table.
type row struct {
	name  string
	what  string
	unit  string
	reach string
	run   func(context.Context, *session) (outcome, error)
}

// An outcome is what a row came to.
type outcome struct {
	figure float64
	floor  float64 // 0: the row has none
	ratio  float64 // of figure and floor: the median of the ratios, which is not the ratio of the medians
	met    bool
	note   string // what else was seen
}

// errCannot is why this machine cannot do what a row asks for.
type errCannot struct{ reason string }

func (e errCannot) Error() string { return e.reason }

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], roleMark) {
		os.Exit(role(os.Args[1:]))
	}
	quick := flag.Bool("quick", false, "small sizes, each measured once: shows that all of it works, not what it costs")
	only := flag.String("run", "", "`REGEXP` of the rows to measure (all)")
	list := flag.Bool("list", false, "list the rows and what they are to reach")
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
			fmt.Printf("%-18s %s: %s\n", r.name, r.what, r.reach)
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

// measure goes through the rows. A row that misses its reach is no error; one that cannot
// be measured is.
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
			results = append(results, result{Name: r.name, What: r.what, Unit: r.unit, Reach: r.reach, Note: "not measured: " + err.Error()})
			continue
		}
		s.say("%s: %s (%v)", r.name, number(o.figure)+" "+r.unit, took)
		results = append(results, result{Name: r.name, What: r.what, Unit: r.unit, Reach: r.reach,
			Figure: o.figure, Floor: o.floor, Ratio: o.ratio, Met: &o.met, Note: o.note})
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
	Name   string  `json:"name"`
	What   string  `json:"what"`
	Unit   string  `json:"unit"`
	Figure float64 `json:"figure"`
	Floor  float64 `json:"floor,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"`
	Reach  string  `json:"reach"`
	Met    *bool   `json:"met,omitempty"` // absent: not measured
	Note   string  `json:"note,omitempty"`
}

func printTable(w io.Writer, results []result, quick bool) {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| row\t| what\t| figure\t| floor\t| ratio\t| reach\t| met\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for _, r := range results {
		figure, floor, ratio, met := "–", "", "", "–"
		if r.Met != nil {
			figure, met = number(r.Figure)+" "+r.Unit, "no"
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
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.name(), r.What, figure, floor, ratio, r.Reach, met)
	}
	t.Flush()
	for _, r := range results {
		if r.Note != "" {
			fmt.Fprintf(w, "\n%s: %s", r.Name, r.Note)
		}
	}
	fmt.Fprintf(w, "\n\n%s, %d cores, %s/%s\n", runtime.Version(), runtime.NumCPU(), runtime.GOOS, runtime.GOARCH)
	if quick {
		fmt.Fprintln(w, "Quick: small sizes, measured once. These are no figures.")
	}
}

func (r result) name() string { return "`" + r.Name + "`" }

// number writes three digits or so.
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
