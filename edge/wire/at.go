package wire

import (
	"bytes"
	"math"
)

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
	if len(line) < 3 || line[0] != 'A' || line[1] != 'T' || line[2] != ' ' {
		return AT{}, errATForm
	}
	var m AT
	edge, rest, _ := cutSpace(line[3:])
	skew, rest, _ := cutSpace(rest)
	client, rest, _ := cutSpace(rest)
	location, time, ok := cutSpace(rest)
	if !ok {
		return AT{}, errATForm
	}
	if err := EdgeName(edge); err != nil {
		return AT{}, err
	}
	shift, err := ParseSkew(skew)
	if err != nil {
		return AT{}, err
	}
	if err := checkClient(client); err != nil {
		return AT{}, err
	}
	for _, b := range client {
		if IsSpace(b) {
			return AT{}, errATForm
		}
	}
	if err := CheckLocation(location); err != nil {
		return AT{}, err
	}
	if m.Stamp, err = ParseTime(time); err != nil {
		return AT{}, err
	}
	// The stamp is not negative, so that the sum can only be too great.
	if shift > math.MaxInt64-m.Stamp || shift < -m.Stamp {
		return AT{}, errATReceipt
	}
	m.Receipt = m.Stamp + shift
	m.Edge, m.Skew, m.Client, m.Location, m.Time = edge, skew, client, location, time
	return m, nil
}

func cutSpace(text []byte) (field, rest []byte, ok bool) {
	if i := bytes.IndexByte(text, ' '); i >= 0 {
		return text[:i], text[i+1:], true
	}
	return text, nil, false
}
