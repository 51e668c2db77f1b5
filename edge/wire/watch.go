package wire

const (
	maxName   = 64   // bytes of a watch's name (L2)
	maxCircle = 1000 // km (L2)
	maxAround = 50   // km (L2, C12)

	toldMark = "! " // begins what is told between answers (L3)
)

var (
	errNameMissing = &SyntaxError{"L2", "no name"}
	errNameLong    = &SyntaxError{"L2", "name longer than 64 bytes"}
	errWhatMissing = &SyntaxError{"L2", "nothing to watch"}
	errCircleFar   = &SyntaxError{"L2", "radius over 1000 km"}
	errBoxTurned   = &SyntaxError{"L2", "box whose south is north of its north"}
)

// WHOSAT asks who is near a client (L1). Client aliases the parsed line.
type WHOSAT struct {
	Client []byte
	Radius float64 // km, 0 to 50
	Max    int     // clients, 0 to 20
}

// ParseWHOSAT parses the fields of a WHOSAT from args: the line after the command word, with
// or without its line end. They are those of a WHATSAT (L1, C12).
func ParseWHOSAT(args []byte) (WHOSAT, error) {
	q, err := ParseWHATSAT(args)
	return WHOSAT(q), err
}

// A WatchKind says what a WATCH follows (L2).
type WatchKind uint8

const (
	WatchClient WatchKind = 1 + iota // one client
	WatchCircle                      // who is within Radius of Centre
	WatchBox                         // who is in the box from SW to NE
	WatchAround                      // who is within Radius of Client as it moves
)

// WATCH asks to follow clients (L2). Its slices alias the parsed line. Which of its fields
// have a meaning depends on its Kind.
type WATCH struct {
	Name   []byte // the caller's own, 1 to 64 bytes
	Kind   WatchKind
	Client []byte  // WatchClient, WatchAround
	Centre Point   // WatchCircle
	Radius float64 // km: WatchCircle to 1000, WatchAround to 50
	// WatchBox: SW.Lat is at most NE.Lat. Where SW.Lon is more than NE.Lon, the box crosses the
	// antimeridian.
	SW, NE Point
}

// ParseWATCH parses the fields of a WATCH from args: the line after the command word, with or
// without its line end.
//
// A single field after the name is a client's id, whatever it looks like. Of two, the first is
// a location if it begins with a sign and has a second one, so the id of a client that is
// followed with a radius may be a telephone number.
func ParseWATCH(args []byte) (WATCH, error) {
	name, rest := Cut(args)
	first, rest := Cut(rest)
	second, rest := Cut(rest)
	if err := checkName(name); err != nil {
		return WATCH{}, err
	}
	if len(first) == 0 {
		return WATCH{}, errWhatMissing
	}
	if more, _ := Cut(rest); len(more) > 0 {
		return WATCH{}, errTooMany
	}
	m := WATCH{Name: name}
	var err error
	switch {
	case len(second) == 0:
		m.Kind, m.Client, err = WatchClient, first, checkClient(first)
	case !hasTwoSigns(first):
		m.Kind, m.Client = WatchAround, first
		if err = checkClient(first); err == nil {
			err = checkRadius(second, maxAround, errRadiusFar)
		}
	case isSign(second[0]):
		m.Kind = WatchBox
		if m.SW, err = ParsePoint(first); err == nil {
			m.NE, err = ParsePoint(second)
		}
		if err == nil && m.SW.Lat > m.NE.Lat {
			err = errBoxTurned
		}
	default:
		m.Kind = WatchCircle
		if m.Centre, err = ParsePoint(first); err == nil {
			err = checkRadius(second, maxCircle, errCircleFar)
		}
	}
	if err != nil {
		return WATCH{}, err
	}
	if m.Kind == WatchAround || m.Kind == WatchCircle {
		m.Radius = toFloat(second)
	}
	return m, nil
}

// ParseUNWATCH parses the one field of an UNWATCH (L5) from args: the line after the command
// word, with or without its line end. name aliases args.
func ParseUNWATCH(args []byte) (name []byte, err error) {
	name, rest := Cut(args)
	if err := checkName(name); err != nil {
		return nil, err
	}
	if more, _ := Cut(rest); len(more) > 0 {
		return nil, errTooMany
	}
	return name, nil
}

// checkName checks the name of a watch (L2). field holds no white space.
func checkName(field []byte) error {
	if len(field) == 0 {
		return errNameMissing
	}
	if len(field) > maxName {
		return errNameLong
	}
	return nil
}

func isSign(b byte) bool { return b == '+' || b == '-' }

// hasTwoSigns reports whether a field begins with a sign and has another.
func hasTwoSigns(field []byte) bool {
	if !isSign(field[0]) {
		return false
	}
	for _, b := range field[1:] {
		if isSign(b) {
			return true
		}
	}
	return false
}
