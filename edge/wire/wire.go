// Package wire knows how the herd's lines are written: what a field is, the
// grammar of IAMAT, WHATSAT and AT, and the exact arithmetic of their times and
// places (rules C2, C4 and C6 to C12).
//
// It is pure functions on bytes. It knows nothing of connections, of what an
// edge remembers or answers, and of the clock. What it parses is not copied:
// the slices it returns alias its argument and are good as long as that is.
// Whatever it refuses is refused with a fixed value that names the rule, so
// that bad input costs no memory. Every function may be called from any
// goroutine.
package wire

// MaxAT is the most bytes that an AT line may have, its LF included (H5). The
// limits of C6 to C10 keep every line that this package accepts below it.
const MaxAT = 1280

const (
	maxClient = 1024 // bytes (C6)
	maxField  = 64   // bytes of a location, a time (C7, C8) or a radius
	maxEdge   = 32   // bytes of an edge's name
)

// SyntaxError says which rule of PROTOCOL.md a text breaks, and how. The errors
// of this package are all of this type and are fixed values: they hold nothing
// of the text, and may be compared.
type SyntaxError struct {
	Rule   string // "C7"
	Reason string // "latitude beyond 90 degrees"
}

func (e *SyntaxError) Error() string { return e.Rule + ": " + e.Reason }

var (
	errNoClient   = &SyntaxError{"C6", "no client"}
	errClientLong = &SyntaxError{"C6", "client longer than 1024 bytes"}
	errTooMany    = &SyntaxError{"C4", "more fields than the command has"}
	errEdgeEmpty  = &SyntaxError{"H9", "edge name empty"}
	errEdgeLong   = &SyntaxError{"H9", "edge name longer than 32 bytes"}
	errEdgeByte   = &SyntaxError{"H9", "edge name of other than letters, digits and _"}
)

// IsSpace reports whether b is white space: space, tab, LF, VT, FF or CR, and
// nothing else (C2).
func IsSpace(b byte) bool { return b == ' ' || b-'\t' <= '\r'-'\t' }

// Cut returns the first field of line and what follows it, white space first.
// White space before the field is skipped (C2). Both are empty where no field is
// left; both alias line.
func Cut(line []byte) (field, rest []byte) {
	start := skipSpace(line, 0)
	end := fieldEnd(line, start)
	return line[start:end], line[end:]
}

// TrimEnd returns line without its line end, LF or CRLF (C4). A CR that no LF
// follows is none.
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

// EdgeName returns nil if name may name an edge: 1 to 32 ASCII letters, digits
// and underscores.
func EdgeName(name []byte) error {
	end, err := scanEdge(name, 0)
	if err == nil && end < len(name) {
		return errEdgeByte
	}
	return err
}

// scanEdge looks at the edge's name that begins at i, and says where it ends.
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
