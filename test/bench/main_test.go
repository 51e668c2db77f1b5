package main

import (
	"errors"
	"math"
	"strings"
	"testing"
)

// turns measures a row with these figures and floors, one pair per turn.
func turns(t *testing.T, figures, floors []float64) outcome {
	t.Helper()
	next := func(x []float64) func() (float64, error) {
		i := -1
		return func() (float64, error) {
			i++
			return x[i], nil
		}
	}
	s := &session{}
	if len(figures) != s.times() || len(floors) != s.times() {
		t.Fatalf("%d figures and %d floors, want %d", len(figures), len(floors), s.times())
	}
	o, err := s.inTurn(next(figures), next(floors))
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// lastCell returns the last cell of the row of a printed table, and the lines below the table.
func lastCell(t *testing.T, r result) (cell, notes string) {
	t.Helper()
	var text strings.Builder
	printTable(&text, []result{r}, false)
	lines := strings.SplitN(text.String(), "\n", 4)
	if len(lines) != 4 {
		t.Fatalf("printed %q", text.String())
	}
	cells := strings.Split(lines[2], "|")
	if len(cells) != 9 {
		t.Fatalf("the row has %d cells: %q", len(cells)-2, lines[2])
	}
	return strings.TrimSpace(cells[7]), lines[3]
}

func TestARowWhoseFloorMovedIsNotJudged(t *testing.T) {
	r := row{name: "row", what: "what", unit: "µs", target: "≤ 2.0 × echo"}
	figures := []float64{12, 12, 12, 12, 12}
	for _, c := range []struct {
		name   string
		floors []float64
		met    bool
		want   string
	}{
		{"steady and met", []float64{10, 11, 10, 11, 10}, true, "yes"},
		{"steady and missed", []float64{10, 11, 10, 11, 10}, false, "no"},
		{"at the limit", []float64{10, 12, 11, 10, 10}, true, "yes"},
		{"up once", []float64{10, 10, 12.1, 10, 10}, true, "not measured here"},
		{"down once", []float64{12.1, 12, 12, 10, 12}, false, "not measured here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := turns(t, figures, c.floors)
			o.met, o.note = c.met, "as before"
			shown := r.measured(o)
			cell, notes := lastCell(t, shown)
			if cell != c.want {
				t.Errorf("printed %q, want %q", cell, c.want)
			}
			if got := strings.Contains(notes, "the floor moved by 21 %"); got != (c.want == "not measured here") {
				t.Errorf("notes %q", notes)
			}
			if !strings.Contains(notes, "as before") {
				t.Errorf("the row's own note is missing: %q", notes)
			}
			if shown.Figure != 12 || shown.Floor == 0 || (shown.Met == nil) != (c.want == "not measured here") {
				t.Errorf("result %+v", shown)
			}
		})
	}
	t.Run("without a floor", func(t *testing.T) {
		if cell, _ := lastCell(t, r.measured(outcome{figure: 1, met: true})); cell != "yes" {
			t.Errorf("printed %q, want yes", cell)
		}
	})
	t.Run("without a figure", func(t *testing.T) {
		if cell, notes := lastCell(t, r.failed(errors.New("no python3"))); cell != "–" || !strings.Contains(notes, "not measured: no python3") {
			t.Errorf("printed %q, notes %q", cell, notes)
		}
	})
}

func TestMovementIsBetweenTheLeastAndTheLargest(t *testing.T) {
	for _, c := range []struct {
		floors []float64
		want   float64
	}{{nil, 0}, {[]float64{7}, 0}, {[]float64{5, 4, 8, 6}, 1}, {[]float64{10, 12}, 0.2}} {
		if got := movement(c.floors); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v moved by %v, want %v", c.floors, got, c.want)
		}
	}
}
