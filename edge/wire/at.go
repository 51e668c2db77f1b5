package wire

import "math"

var (
	errATForm    = &SyntaxError{"C9", "not AT and five fields with single spaces"}
	errATReceipt = &SyntaxError{"C10", "receipt before 1970 or beyond what nanoseconds in 64 bits hold"}
)

// AT is one position as the herd hands it on (C9). Its slices are good until the
// buffer they were parsed from is read into again: clone what is kept.
type AT struct {
	Edge, Skew, Client, Location, Time []byte
	Stamp                              int64 // Time in nanoseconds since 1970
	Receipt                            int64 // when Edge got it: Stamp and Skew together, not negative
}

// ParseAT reads one AT line without its LF. It takes what AppendAT writes and
// nothing else, so that a position has one spelling: single spaces, no other
// white space (a CR is one), and a skew as AppendSkew writes it.
func ParseAT(line []byte) (AT, error) {
	const edge = len("AT ")
	if len(line) < edge || string(line[:edge]) != "AT " {
		return AT{}, errATForm
	}
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
	_, placeEnd, err := scanLocation(line, place)
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
	// The stamp is not negative, so neither side can wrap.
	if shift > math.MaxInt64-stamp || shift < -stamp {
		return AT{}, errATReceipt
	}
	return AT{
		Edge:     line[edge:edgeEnd],
		Skew:     line[skew:skewEnd],
		Client:   line[client:clientEnd],
		Location: line[place:placeEnd],
		Time:     line[time:timeEnd],
		Stamp:    stamp,
		Receipt:  stamp + shift,
	}, nil
}

func spaceAt(text []byte, i int) bool { return i < len(text) && text[i] == ' ' }
