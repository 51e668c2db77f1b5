package wire

import (
	"bytes"
	"cmp"
	"math"
	"time"
)

// futureLimit is how far past its receipt a client's time still counts (S2).
const futureLimit = int64(60 * time.Second)

// Effective is the time by which lines are ordered first (S2): the client's
// time, but no more than 60 s past its receipt. Both are Unix nanoseconds. So a
// client whose clock once ran years ahead is frozen for a minute, not for years.
func Effective(stamp, receipt int64) int64 {
	if receipt > math.MaxInt64-futureLimit {
		return stamp
	}
	return min(stamp, receipt+futureLimit)
}

// Compare is the total order of S2: negative where a is older than b, zero only
// where the lines are the same bytes. It needs nothing but the two lines, so
// every edge computes it alike. aLine and bLine are the lines that a and b were
// parsed from, both with or both without their LF.
func Compare(a, b *AT, aLine, bLine []byte) int {
	if c := cmp.Compare(Effective(a.Stamp, a.Receipt), Effective(b.Stamp, b.Receipt)); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Stamp, b.Stamp); c != 0 {
		return c
	}
	if c := cmp.Compare(a.Receipt, b.Receipt); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Location, b.Location); c != 0 {
		return c
	}
	if c := bytes.Compare(a.Edge, b.Edge); c != 0 {
		return c
	}
	return bytes.Compare(aLine, bLine)
}
