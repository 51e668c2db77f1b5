package wire

// IAMAT is a client's report of its position. Its slices alias the parsed line and are valid
// until that buffer is reused: clone what you keep.
type IAMAT struct {
	Client, Location, Time []byte
	Point                  Point // Location, rounded
	Stamp                  int64 // Time in nanoseconds since 1970
}

// ParseIAMAT parses the fields of an IAMAT (C6 to C8) from args: the line after the command
// word, with or without its line end.
func ParseIAMAT(args []byte) (IAMAT, error) {
	client, rest := Cut(args)
	if err := checkClient(client); err != nil {
		return IAMAT{}, err
	}
	place := skipSpace(rest, 0)
	point, placeEnd, err := scanLocation(rest, place)
	if err != nil {
		return IAMAT{}, err
	}
	time := skipSpace(rest, placeEnd)
	if time == placeEnd && time < len(rest) {
		return IAMAT{}, errLocationForm
	}
	stamp, timeEnd, err := scanTime(rest, time)
	if err != nil {
		return IAMAT{}, err
	}
	if end := skipSpace(rest, timeEnd); end < len(rest) {
		if end == timeEnd {
			return IAMAT{}, errTimeForm
		}
		return IAMAT{}, errTooMany
	}
	return IAMAT{Client: client, Location: rest[place:placeEnd], Time: rest[time:timeEnd], Point: point, Stamp: stamp}, nil
}

// checkClient checks a client id (C6). field holds no white space.
func checkClient(field []byte) error {
	if len(field) == 0 {
		return errNoClient
	}
	if len(field) > maxClient {
		return errClientLong
	}
	return nil
}

// AppendAT appends the AT line that answers m and goes to the other edges (C9), with its LF.
// edge is the name of the edge that received m, and received is when, in nanoseconds since
// 1970, never negative.
func (m *IAMAT) AppendAT(dst []byte, edge string, received int64) []byte {
	dst = append(dst, "AT "...)
	dst = append(dst, edge...)
	dst = append(dst, ' ')
	dst = AppendSkew(dst, received-m.Stamp)
	dst = append(dst, ' ')
	dst = append(dst, m.Client...)
	dst = append(dst, ' ')
	dst = append(dst, m.Location...)
	dst = append(dst, ' ')
	dst = append(dst, m.Time...)
	return append(dst, '\n')
}
