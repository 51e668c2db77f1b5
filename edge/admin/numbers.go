package admin

import (
	"strconv"
	"strings"
	"time"

	"herd/edge/overview"
)

// How the page writes numbers and times; page.js does the same.

// optional is how a number that may be unknown is written.
func optional[N any](n *N, how func(N) string) string {
	if n == nil {
		return "–"
	}
	return how(*n)
}

// count writes a whole number with its digits in groups of three, as the sentence on top does.
func count(n any) string { return strings.ReplaceAll(overview.Count(n), "\u202f", ",") }

// rate writes a number of things per second, a float64 or a pointer to one.
func rate(n any) string {
	switch n := n.(type) {
	case float64:
		if n > 0 && n < 9.95 {
			return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 1, 64), ".0")
		}
		return count(strconv.FormatFloat(n, 'f', 0, 64))
	case *float64:
		return optional(n, func(n float64) string { return rate(n) })
	}
	return "–"
}

// bytesRate writes a number of bytes per second that may be unknown.
func bytesRate(n *float64) string {
	switch {
	case n == nil:
		return "–"
	case *n < 1024:
		return count(int64(*n+0.5)) + " B"
	case *n < 1e6:
		return count(int64(*n/1024+0.5)) + " KiB"
	}
	return size(uint64(*n))
}

func percent(n float64) string {
	if n < 0.095 {
		return strconv.FormatFloat(100*n, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(100*n, 'f', 0, 64) + " %"
}

// size writes a number of bytes. 0 means unknown.
func size(n uint64) string {
	switch {
	case n == 0:
		return "–"
	case n < 1e9:
		return strconv.FormatFloat(float64(n)/(1<<20), 'f', 0, 64) + " MiB"
	}
	return strconv.FormatFloat(float64(n)/(1<<30), 'f', 1, 64) + " GiB"
}

// duration formats seconds, 0 or more, with up to three significant digits in a suitable
// unit. 0 means unknown.
func duration(seconds float64) string {
	switch {
	case seconds == 0:
		return "–"
	case seconds < 999.5e-6:
		return strconv.FormatFloat(seconds*1e6, 'f', 0, 64) + " µs"
	case seconds < 0.9995:
		return strconv.FormatFloat(seconds*1e3, 'g', 3, 64) + " ms"
	default:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	}
}

// clock writes a time of day (UTC), with the day where that is not the day of now.
func clock(t, now time.Time) string {
	t, now = t.UTC(), now.UTC()
	switch {
	case t.IsZero():
		return "–"
	case t.Truncate(24 * time.Hour).Equal(now.Truncate(24 * time.Hour)):
		return t.Format(time.TimeOnly)
	}
	return t.Format("2 Jan " + time.TimeOnly)
}

// age writes how long ago t was.
func age(t, now time.Time) string {
	if t.IsZero() {
		return ""
	}
	switch d := now.Sub(t); {
	case d < 90*time.Second:
		return strconv.Itoa(max(0, int(d.Seconds()+0.5))) + " s"
	case d < 90*time.Minute:
		return strconv.Itoa(int(d.Minutes()+0.5)) + " min"
	case d < 48*time.Hour:
		return strconv.FormatFloat(d.Hours(), 'f', 1, 64) + " h"
	default:
		return strconv.Itoa(int(d.Hours()/24+0.5)) + " days"
	}
}

func lag(n *uint64) string { return optional(n, func(n uint64) string { return count(n) }) }
