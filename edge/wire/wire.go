// Package wire parses and writes the herd's lines: fields, the grammar of IAMAT, WHATSAT, AT
// and of live questions, and the exact arithmetic of their times and locations (rules C2, C4, C6 to
// C12 and L1 to L3).
//
// It is pure functions on bytes. It knows nothing of connections, of what an edge stores or
// answers, and of the clock. It copies nothing: the slices that it returns alias its argument
// and are valid as long as that is. Every refusal is a fixed value that names the rule, so
// bad input allocates nothing. Every function may be called from any goroutine.
package wire

// MaxAT is the maximum length of an AT line in bytes, including its LF (H5). The limits of C6
// to C10 keep every line that this package accepts within it.
const MaxAT = 1280

const (
	maxClient = 1024 // bytes (C6)
	maxField  = 64   // bytes of a location or time (C7, C8) or a radius
	maxEdge   = 32   // bytes of an edge's name
)

// SyntaxError says which rule of docs/PROTOCOL.md a text breaks, and how. All errors of this
// package have this type and are fixed values: they hold nothing of the text and may be
// compared.
type SyntaxError struct {
	Rule   string // "C7"
	Reason string // "latitude beyond 90 degrees"
}

func (e *SyntaxError) Error() string { return e.Rule + ": " + e.Reason }

var (
	errNoClient   = &SyntaxError{"C6", "no client"}
	errClientLong = &SyntaxError{"C6", "client longer than 1024 bytes"}
	errTooMany    = &SyntaxError{"C4", "too many fields"}
	errEdgeEmpty  = &SyntaxError{"H9", "edge name empty"}
	errEdgeLong   = &SyntaxError{"H9", "edge name longer than 32 bytes"}
	errEdgeByte   = &SyntaxError{"H9", "edge name has bytes other than letters, digits and _"}
)

// IsSpace reports whether b is white space: space, tab, LF, VT, FF or CR, and
// nothing else (C2).
func IsSpace(b byte) bool { return b == ' ' || b-'\t' <= '\r'-'\t' }

// Cut returns the first field of line and what follows it, which begins with white space.
// White space before the field is skipped (C2). Both results alias line; both are empty if no
// field is left.
func Cut(line []byte) (field, rest []byte) {
	start := skipSpace(line, 0)
	end := fieldEnd(line, start)
	return line[start:end], line[end:]
}

// TrimEnd returns line without its line end, LF or CRLF (C4). A CR without an LF after it is
// not a line end.
func TrimEnd(line []byte) []byte {
	n := len(line)
	if n == 0 || line[n-1] != '\n' {
		return line
	}
	if n > 1 && line[n-2] == '\r' {
		return line[:n-2]
	}
	return line[:n-1]
}

// scanEdge scans the edge name that begins at i, 1 to 32 ASCII letters, digits and
// underscores, and returns where it ends.
func scanEdge(text []byte, i int) (end int, err error) {
	for end = i; end < len(text); end++ {
		b := text[end]
		if (b|0x20)-'a' > 'z'-'a' && !isDigit(b) && b != '_' {
			break
		}
	}
	if end-i > maxEdge {
		return 0, errEdgeLong
	}
	if end == i && end < len(text) {
		return 0, errEdgeByte
	}
	if end == i {
		return 0, errEdgeEmpty
	}
	return end, nil
}

func isDigit(b byte) bool { return b-'0' <= 9 }
