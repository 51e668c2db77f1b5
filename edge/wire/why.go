package wire

import (
	"bytes"
	"time"
)

// Why says in words by which part of S2 a is newer than b; "" if it is not. aLine and bLine are
// the lines that they were parsed from, as for Compare.
func Why(a, b *AT, aLine, bLine []byte) string {
	if Compare(a, b, aLine, bLine) <= 0 {
		return ""
	}
	by := func(d int64) string {
		if d < 0 { // more than an int64 holds
			return "long"
		}
		return time.Duration(d).String()
	}
	effective, than := Effective(a.Stamp, a.Receipt), Effective(b.Stamp, b.Receipt)
	switch {
	case effective != than:
		text := "its time is " + by(effective-than) + " later"
		switch {
		case effective != a.Stamp && than != b.Stamp:
			text += ", counting both no more than 60s past their receipt"
		case effective != a.Stamp:
			text += ", counting it no more than 60s past its receipt"
		case than != b.Stamp:
			text += ", as the other counts no more than 60s past its receipt"
		}
		return text
	case a.Stamp != b.Stamp:
		return "both count alike, and its client's time is " + by(a.Stamp-b.Stamp) + " later"
	case a.Receipt != b.Receipt:
		return "both have the same time, and it was received " + by(a.Receipt-b.Receipt) + " later"
	case !bytes.Equal(a.Location, b.Location):
		return "both have the same time and receipt, and the text of its location is greater"
	case !bytes.Equal(a.Edge, b.Edge):
		return "both have the same time, receipt and location, and the name of its edge is greater"
	default:
		return "both differ in spelling alone, and its bytes are greater"
	}
}
