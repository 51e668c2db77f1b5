package overview

import (
	"fmt"
	"strings"
	"time"
)

// Moment is how a time of day is shown to people.
const Moment = "2 Jan 15:04:05 UTC"

// Since says since when something is so. The zero time means that it never was otherwise.
func Since(t time.Time) string {
	if t.IsZero() {
		return "never up"
	}
	return "since " + t.UTC().Format(Moment)
}

// Count formats a whole number with its digits in groups of three.
func Count(n any) string { return grouped(n, "\u202f") } // a narrow no-break space

func grouped(n any, between string) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + between + digits[i:]
	}
	return digits
}

// List writes names as in a sentence.
func List(names []string) string {
	switch n := len(names); n {
	case 0:
		return "nobody"
	case 1:
		return names[0]
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// Counted is a number of things, such as "1 link" or "1,000 links".
func Counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return grouped(n, ",") + " " + what + "s"
}
