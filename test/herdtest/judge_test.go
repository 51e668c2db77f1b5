package herdtest

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// posix formats a time as clients do.
func posix(ns int64) string { return fmt.Sprintf("%d.%09d", ns/1e9, ns%1e9) }

// S2, S4, D3: the judge finds each kind of fault in a history, and finds none in correct ones.
func TestTheJudgeSeesWhatIsWrong(t *testing.T) {
	const sec = int64(time.Second)
	begin := time.Unix(1_700_000_000, 0)
	at := func(s int64) time.Time { return begin.Add(time.Duration(s) * time.Second) }
	// text is the position that a client sends at second s; line is its AT line if received at
	// second r.
	text := func(s int64, place string) string {
		return "kiwi " + place + " " + posix(begin.UnixNano()+s*sec)
	}
	line := func(edge string, s, r int64, place string) string {
		sign := "+"
		skew := (r - s) * sec
		if skew < 0 {
			sign, skew = "-", -skew
		}
		return "AT " + edge + " " + sign + posix(skew) + " " + text(s, place)
	}
	one := func(updates []Update, replies ...Reply) []Track {
		return []Track{{"kiwi", updates, replies}}
	}
	here, there := "+1+1", "+2+2"
	two := []Update{{text(1, here), at(1)}, {text(5, there), at(5)}}
	for _, c := range []struct {
		name   string
		tracks []Track
		hold   []string // by edge
		asked  int64
		retain time.Duration
		want   string // lost, wrong, differ, overdue, judged
	}{
		{"all is well", one(two, Reply{line("A", 1, 1, here), at(1)}, Reply{line("B", 5, 5, there), at(5)}),
			[]string{line("B", 5, 5, there), line("B", 5, 5, there)}, 9, 0, "0 0 0 0 1"},
		{"nothing is held", one(two, Reply{line("A", 1, 1, here), at(1)}), []string{""}, 9, 0, "1 0 0 0 1"},
		{"one edge of two holds nothing", one(two, Reply{line("A", 1, 1, here), at(1)}),
			[]string{line("A", 1, 1, here), ""}, 9, 0, "1 0 1 0 1"},
		{"an older one is held", one(two, Reply{line("A", 1, 1, here), at(1)}, Reply{line("B", 5, 5, there), at(5)}),
			[]string{line("A", 1, 1, here), line("B", 5, 5, there)}, 9, 0, "1 0 1 0 1"},
		{"an older one is held, received later", one(two, Reply{line("B", 5, 5, there), at(5)}, Reply{line("A", 1, 8, here), at(8)}),
			[]string{line("A", 1, 8, here)}, 9, 0, "1 0 0 0 1"},
		{"nothing was promised", one(two), []string{""}, 9, 0, "0 0 0 0 0"},
		{"what was refused took effect", one(two, Reply{line("A", 1, 1, here), at(1)}),
			[]string{line("B", 5, 6, there)}, 9, 0, "0 0 0 0 1"},
		{"a repetition was answered later than the line that is held", one(two, Reply{line("A", 5, 5, there), at(5)}, Reply{line("B", 5, 7, there), at(7)}),
			[]string{line("A", 5, 5, there)}, 9, 0, "0 0 0 0 1"},
		{"a place that was not sent", one(two, Reply{line("A", 1, 1, here), at(1)}),
			[]string{line("A", 5, 5, here)}, 9, 0, "0 1 0 0 1"},
		{"a time that was not sent", one(two), []string{line("A", 7, 7, here)}, 9, 0, "0 1 0 0 0"},
		{"another client's line", []Track{{"kiwi", two, nil}, {"emu", nil, nil}}, nil, 9, 0, "0 1 0 0 0"},
		{"no AT line", one(two), []string{"AT A kiwi"}, 9, 0, "0 1 0 0 0"},
		{"an answer to what was not sent", one(two, Reply{line("A", 2, 2, here), at(2)}), []string{""}, 9, 0, "0 1 0 0 0"},
		{"an answer before the question", one(two, Reply{line("A", 5, 5, there), at(4)}), []string{""}, 9, 0, "0 1 0 0 0"},
		{"edges differ in a receipt", one(two, Reply{line("A", 5, 5, there), at(5)}),
			[]string{line("A", 5, 5, there), line("B", 5, 7, there)}, 9, 0, "0 0 1 0 1"},
		{"what is past is gone", one(two, Reply{line("A", 5, 5, there), at(5)}), []string{""}, 65, time.Minute, "0 0 0 0 0"},
		{"what is past is gone at one edge", one(two, Reply{line("A", 5, 5, there), at(5)}),
			[]string{"", line("A", 5, 5, there)}, 70, time.Minute, "0 0 0 1 0"},
		{"gone before its time", one(two, Reply{line("A", 5, 5, there), at(5)}), []string{""}, 64, time.Minute, "1 0 0 0 1"},
		{"a later one is gone before its time, an older one is past",
			one(two, Reply{line("A", 1, 1, here), at(1)}, Reply{line("A", 5, 5, there), at(5)}),
			[]string{line("A", 1, 1, here)}, 63, time.Minute, "1 0 0 1 1"},
		// S2: a time far ahead counts as a minute past its receipt.
		{"a clock that ran ahead does not freeze its client",
			one([]Update{{text(1000, here), at(1)}, {text(90, there), at(90)}}, Reply{line("A", 1000, 1, here), at(1)}, Reply{line("A", 90, 90, there), at(90)}),
			[]string{line("A", 90, 90, there)}, 99, 0, "0 0 0 0 1"},
		{"a clock that ran ahead freezes its client",
			one([]Update{{text(1000, here), at(1)}, {text(90, there), at(90)}}, Reply{line("A", 1000, 1, here), at(1)}, Reply{line("A", 90, 90, there), at(90)}),
			[]string{line("A", 1000, 1, here)}, 99, 0, "1 0 0 0 1"},
		{"a time ahead is past a minute and HERD_RETAIN after its receipt",
			one([]Update{{text(1000, here), at(1)}}, Reply{line("A", 1000, 1, here), at(1)}), []string{""}, 121, time.Minute, "0 0 0 0 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var holdings []Holding
			for i, l := range c.hold {
				holdings = append(holdings, Holding{string(rune('A' + i)), []string{l}, at(c.asked)})
			}
			if c.hold == nil { // kiwi's line where emu's should be
				holdings = []Holding{{"A", []string{"", line("A", 1, 1, here)}, at(c.asked)}}
			}
			v := Judge(c.tracks, holdings, c.retain)
			got := fmt.Sprint(len(v.Lost), len(v.Wrong), len(v.Differ), len(v.Overdue), v.Judged)
			if got != c.want {
				t.Errorf("lost, wrong, differ, overdue, judged: %s, want %s\n%q", got, c.want, slices.Concat(v.Lost, v.Wrong, v.Differ, v.Overdue))
			}
		})
	}
}

// S2, C11: what the simulator asks of two lines.
func TestLinesAreComparedByS2(t *testing.T) {
	const (
		older    = "AT A +0.000000000 kiwi +1+1 1700000001.000000000"
		newer    = "AT B +1.000000000 kiwi +2+2 1700000005.000000000"
		again    = "AT B +3.000000000 kiwi +2+2 1700000005.000000000"
		farAhead = "AT A -3600.000000000 kiwi +3+3 1700003600.000000000" // counts as a minute past its receipt
	)
	for _, c := range []struct {
		a, b         string
		newer, keeps bool
	}{
		{newer, older, true, false}, {older, newer, false, true}, {newer, newer, false, true},
		{again, newer, true, true}, {farAhead, newer, true, false}, {newer, farAhead, false, true},
	} {
		if got, err := Newer(c.a, c.b); got != c.newer || err != nil {
			t.Errorf("%q is newer than %q: %v, %v", c.a, c.b, got, err)
		}
		if got := (&Track{}).Keeps(c.a, c.b); got != c.keeps {
			t.Errorf("who was answered %q and holds %q: %v", c.a, c.b, got)
		}
	}
	// It was first sent, and held, 50 s before: what is held since is newer than that.
	const between = "AT B +0.000000000 kiwi +4+4 1700000040.000000000"
	early := &Track{Sent: []Update{{Text: "kiwi +3+3 1700003600.000000000", At: time.Unix(1_699_999_950, 0)}}}
	if (&Track{}).Keeps(farAhead, between) || !early.Keeps(farAhead, between) {
		t.Error("a repetition counts as received when it was answered")
	}
	if got, err := Effective(farAhead); err != nil || !got.Equal(time.Unix(1_700_000_060, 0)) {
		t.Errorf("it counts as %v, %v", got, err)
	}
	if _, err := Newer(newer, "no line"); err == nil {
		t.Error("no line was compared")
	}
	if _, err := Effective("AT A kiwi"); err == nil {
		t.Error("no line has a time")
	}
}
