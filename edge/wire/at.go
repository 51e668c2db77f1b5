package wire

import "math"

var (
	errATForm    = &SyntaxError{"C9", "not AT and five fields separated by single spaces"}
	errATReceipt = &SyntaxError{"C10", "receipt before 1970 or beyond what nanoseconds in 64 bits hold"}
)

// AT is one position as edges pass it on (C9). Its slices alias the parsed line and are valid
// until that buffer is reused: clone what you keep.
type AT struct {
	Edge, Skew, Client, Location, Time []byte
	Point                              Point // Location, rounded
	Stamp                              int64 // Time in nanoseconds since 1970
	Receipt                            int64 // when Edge received the position: Stamp plus Skew, never negative
}

// Line returns the line that holds a position's fields, without an LF.
func (m *AT) Line() string {
	line := make([]byte, 0, len("AT     ")+len(m.Edge)+len(m.Skew)+len(m.Client)+len(m.Location)+len(m.Time))
	line = append(line, "AT"...)
	for _, field := range [...][]byte{m.Edge, m.Skew, m.Client, m.Location, m.Time} {
		line = append(append(line, ' '), field...)
	}
	return string(line)
}

// ParseAT parses one AT line without its LF. It accepts exactly what AppendAT writes, so each
// position has one spelling: single spaces, no other white space (a CR counts as white
// space), and a skew as AppendSkew writes it.
func ParseAT(line []byte) (AT, error) {
	const edge = len("AT ")
	if len(line) < edge || string(line[:edge]) != "AT " {
		return AT{}, errATForm
	}
	return parseAT(line, edge)
}

// parseAT parses the fields of an AT line, the first of which begins at edge.
func parseAT(line []byte, edge int) (AT, error) {
	edgeEnd, err := scanEdge(line, edge)
	if err != nil {
		return AT{}, err
	}
	skew := edgeEnd + 1
	if !spaceAt(line, edgeEnd) {
		return AT{}, errEdgeByte
	}
	shift, skewEnd, err := scanSkew(line, skew)
	if err != nil {
		return AT{}, err
	}
	client := skewEnd + 1
	if !spaceAt(line, skewEnd) {
		return AT{}, errSkewForm
	}
	clientEnd := fieldEnd(line, client)
	if err := checkClient(line[client:clientEnd]); err != nil {
		return AT{}, err
	}
	place := clientEnd + 1
	if !spaceAt(line, clientEnd) {
		return AT{}, errATForm
	}
	point, placeEnd, err := scanLocation(line, place)
	if err != nil {
		return AT{}, err
	}
	time := placeEnd + 1
	if !spaceAt(line, placeEnd) {
		return AT{}, errLocationForm
	}
	stamp, timeEnd, err := scanTime(line, time)
	if err != nil {
		return AT{}, err
	}
	if timeEnd < len(line) {
		return AT{}, errTimeForm
	}
	// The stamp is not negative, so neither side can overflow.
	if shift > math.MaxInt64-stamp || shift < -stamp {
		return AT{}, errATReceipt
	}
	return AT{
		Edge:     line[edge:edgeEnd],
		Skew:     line[skew:skewEnd],
		Client:   line[client:clientEnd],
		Location: line[place:placeEnd],
		Time:     line[time:timeEnd],
		Point:    point,
		Stamp:    stamp,
		Receipt:  stamp + shift,
	}, nil
}

func spaceAt(text []byte, i int) bool { return i < len(text) && text[i] == ' ' }
