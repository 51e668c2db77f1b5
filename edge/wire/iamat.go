package wire

// IAMAT is one client's word on where it is. Its slices are good until the
// buffer they were parsed from is read into again: clone what is kept.
type IAMAT struct {
	Client, Location, Time []byte
	Stamp                  int64 // Time in nanoseconds since 1970
}

// ParseIAMAT reads the fields of an IAMAT (C6 to C8) from args, the line after
// its verb, with or without its line end.
func ParseIAMAT(args []byte) (IAMAT, error) {
	client, rest := Cut(args)
	if err := checkClient(client); err != nil {
		return IAMAT{}, err
	}
	place := skipSpace(rest, 0)
	_, placeEnd, err := scanLocation(rest, place)
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
	return IAMAT{Client: client, Location: rest[place:placeEnd], Time: rest[time:timeEnd], Stamp: stamp}, nil
}

// checkClient takes a field, which holds no white space, for a client's id (C6).
func checkClient(field []byte) error {
	if len(field) == 0 {
		return errNoClient
	}
	if len(field) > maxClient {
		return errClientLong
	}
	return nil
}

// AppendAT appends the line that answers m and tells the herd of it (C9), with
// its LF. edge is the name of the edge that got m, received is when, in
// nanoseconds since 1970 and not before.
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
