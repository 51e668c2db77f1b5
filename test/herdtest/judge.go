package herdtest

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// The judge checks a history against S1 to S4 and D3: what clients sent, what they were answered
// and when, and what edges hold at the end. It does no I/O and shares no code with the herd, so
// that a fault of the herd's code cannot hide itself here.

// Track is what one client sent and was answered.
type Track struct {
	ID   string
	Sent []Update
	Got  []Reply
}

// Update is a position that was sent, `<client> <location> <time>`, and when it was first sent.
type Update struct {
	Text string
	At   time.Time
}

// Reply is an AT line, and when it was read. An echo with `? `, or no answer, promises nothing
// and is no reply; the position may have taken effect all the same (D3).
type Reply struct {
	Line string
	At   time.Time
}

// Holding is what one edge holds: a line per track, in their order, or "" for nothing.
type Holding struct {
	Edge  string
	Lines []string
	Asked time.Time // when the edge answered
}

// Verdict is the result of Judge, with a text per fault.
type Verdict struct {
	Lost    []string // an edge holds an older line (S2) than one acknowledged and not expired
	Wrong   []string // an edge holds, or answered, a line that no client sent
	Differ  []string // two edges hold different lines, not both expired
	Overdue []string // an edge holds an expired line (S4)
	Judged  int      // tracks of which a line must be held
}

func (v Verdict) String() string {
	return fmt.Sprintf("of %d ids %d are lost, %d are wrong, %d differ, %d are overdue", v.Judged, len(v.Lost), len(v.Wrong), len(v.Differ), len(v.Overdue))
}

// Faults returns the first few texts of Lost, Wrong and Differ, which must be empty at the end of
// every test.
func (v Verdict) Faults() (few []string) {
	for _, list := range [][]string{v.Lost, v.Wrong, v.Differ} {
		few = append(few, list[:min(len(list), 3)]...)
	}
	return few
}

// Judge compares what clients were promised with what edges hold. The Lines of each holding are
// in the order of tracks. retain is HERD_RETAIN; 0 means for ever. No two tracks may have the
// same id. Judge assumes that the clocks of the edges and of the caller are right.
func Judge(tracks []Track, holdings []Holding, retain time.Duration) (v Verdict) {
	past := func(a atLine, at time.Time) bool {
		return retain > 0 && a.effective()+int64(retain) <= at.UnixNano()
	}
	for i, tr := range tracks {
		sent := map[string]time.Time{}
		for _, u := range tr.Sent {
			sent[u.Text] = u.At
		}
		// best is the newest acknowledged line by S2. A repeated position is acknowledged but
		// not stored (C11): its line has a later receipt than the held line, which is still
		// the right one. So each counts as received when its position was first sent.
		var best atLine
		for _, r := range tr.Got {
			a, err := parseLine(r.Line)
			if at, ok := sent[a.text()]; err != nil || !ok || at.After(r.At) {
				v.Wrong = append(v.Wrong, fmt.Sprintf("%s was answered %q, which it had not sent (%v)", tr.ID, r.Line, err))
				continue
			}
			if a = a.since(sent[a.text()]); best.whole == "" || compareLines(a, best) > 0 {
				best = a
			}
		}
		owed := false
		for n, h := range holdings {
			line := h.Lines[i]
			owes := best.whole != "" && !past(best, h.Asked)
			owed = owed || owes
			a, err := parseLine(line)
			switch _, ok := sent[a.text()]; {
			case line == "":
				if owes {
					v.Lost = append(v.Lost, fmt.Sprintf("%s was answered %q; %s holds nothing", tr.ID, best.whole, h.Edge))
				}
			case err != nil || !ok || a.client != tr.ID:
				v.Wrong = append(v.Wrong, fmt.Sprintf("%s holds %q of %s, which it had not sent (%v)", h.Edge, line, tr.ID, err))
			case past(a, h.Asked):
				v.Overdue = append(v.Overdue, fmt.Sprintf("%s holds %q, which is past", h.Edge, line))
				if owes {
					v.Lost = append(v.Lost, fmt.Sprintf("%s was answered %q; %s holds %q", tr.ID, best.whole, h.Edge, line))
				}
			case owes && !a.keeps(best):
				v.Lost = append(v.Lost, fmt.Sprintf("%s was answered %q; %s holds %q", tr.ID, best.whole, h.Edge, line))
			}
			if n == 0 {
				continue
			}
			// Each edge forgets expired lines at a time of its own.
			first, _ := parseLine(holdings[0].Lines[i])
			mayGo := func(b atLine) bool { return b.whole == "" || past(b, h.Asked) }
			if line != holdings[0].Lines[i] && !(mayGo(first) && mayGo(a)) {
				v.Differ = append(v.Differ, fmt.Sprintf("%s holds %q, %s holds %q", holdings[0].Edge, holdings[0].Lines[i], h.Edge, line))
			}
		}
		if owed {
			v.Judged++
		}
	}
	return v
}

// Keeps says whether whoever holds a line of the client has what the client was answered, or
// something newer (S2, C11).
func (tr *Track) Keeps(answered, held string) bool {
	a, errA := parseLine(answered)
	h, errH := parseLine(held)
	for _, u := range tr.Sent {
		if u.Text == a.text() {
			a = a.since(u.At)
		}
	}
	return errA == nil && errH == nil && h.keeps(a)
}

// Effective is the effective time of a line that the client was answered (S2): one of a position that
// was sent before counts as received then, since a repetition is not stored (C11).
func (tr *Track) Effective(answered string) (time.Time, error) {
	a, err := parseLine(answered)
	for _, u := range tr.Sent {
		if u.Text == a.text() {
			a = a.since(u.At)
		}
	}
	return time.Unix(0, a.effective()), err
}

// Newer says whether one AT line, without its LF, is newer than another by S2.
func Newer(a, b string) (bool, error) {
	x, errX := parseLine(a)
	y, errY := parseLine(b)
	return compareLines(x, y) > 0, errors.Join(errX, errY)
}

// Effective is the effective time of an AT line (S2).
func Effective(line string) (time.Time, error) {
	a, err := parseLine(line)
	return time.Unix(0, a.effective()), err
}

// Receipt is when the edge received an AT line, by its clock (C10).
func Receipt(line string) (time.Time, error) {
	a, err := parseLine(line)
	return time.Unix(0, a.receipt), err
}

// atLine is an AT line (C9). Its times are in nanoseconds.
type atLine struct {
	whole, edge, client, location, stamp string
	time, receipt                        int64
}

// text returns the position as the client sent it.
func (a atLine) text() string { return a.client + " " + a.location + " " + a.stamp }

// effective returns the effective time (S2): at most a minute after the receipt.
func (a atLine) effective() int64 { return min(a.time, a.receipt+int64(time.Minute)) }

// since returns the line as if it had been received no later than its position was first sent.
func (a atLine) since(first time.Time) atLine {
	a.receipt = min(a.receipt, first.UnixNano())
	return a
}

// keeps says whether a line is newer than an answered one, or the same position.
func (a atLine) keeps(answered atLine) bool {
	return compareLines(a, answered) >= 0 || a.time == answered.time && a.location == answered.location
}

// compareLines compares two lines by S2.
func compareLines(a, b atLine) int {
	return cmp.Or(
		cmp.Compare(a.effective(), b.effective()), cmp.Compare(a.time, b.time), cmp.Compare(a.receipt, b.receipt),
		strings.Compare(a.location, b.location), strings.Compare(a.edge, b.edge), strings.Compare(a.whole, b.whole))
}

// parseLine reads an AT line without its LF.
func parseLine(line string) (a atLine, err error) {
	f := strings.Split(line, " ")
	if len(f) != 6 || f[0] != "AT" || f[2] == "" {
		return a, fmt.Errorf("not an AT line")
	}
	a = atLine{whole: line, edge: f[1], client: f[3], location: f[4], stamp: f[5]}
	if a.time, err = nanos(f[5]); err != nil {
		return atLine{}, err
	}
	skew, err := nanos(f[2][1:])
	switch {
	case err != nil:
		return atLine{}, err
	case f[2][0] == '-':
		skew = -skew
	case f[2][0] != '+':
		return atLine{}, fmt.Errorf("skew without a sign")
	}
	a.receipt = a.time + skew
	return a, nil
}

// nanos parses seconds with up to nine decimals.
func nanos(text string) (int64, error) {
	whole, frac, _ := strings.Cut(text, ".")
	s, err := strconv.ParseUint(whole, 10, 33)
	if err != nil {
		return 0, err
	}
	ns, err := strconv.ParseUint((frac + "000000000")[:9], 10, 30)
	return int64(s)*1e9 + int64(ns), err
}
