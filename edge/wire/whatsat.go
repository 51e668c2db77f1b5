package wire

var (
	errRadiusMissing = &SyntaxError{"C12", "no radius"}
	errRadiusForm    = &SyntaxError{"C12", "radius is not digits with an optional fraction"}
	errRadiusFar     = &SyntaxError{"C12", "radius over 50 km"}
	errRadiusLong    = &SyntaxError{"C12", "radius longer than 64 bytes"}
	errMaxMissing    = &SyntaxError{"C12", "no maximum"}
	errMaxForm       = &SyntaxError{"C12", "maximum is not one or two digits"}
	errMaxMany       = &SyntaxError{"C12", "maximum over 20"}
)

// WHATSAT asks which places are near a client. Client aliases the parsed line.
type WHATSAT struct {
	Client []byte
	Radius float64 // km, 0 to 50
	Max    int     // places, 0 to 20
}

// ParseWHATSAT parses the fields of a WHATSAT (C6, C12) from args: the line after the command
// word, with or without its line end. A radius longer than 64 bytes is refused, which bounds
// the work; nobody needs such precision.
func ParseWHATSAT(args []byte) (WHATSAT, error) {
	client, rest := Cut(args)
	radius, rest := Cut(rest)
	places, rest := Cut(rest)
	if err := checkClient(client); err != nil {
		return WHATSAT{}, err
	}
	if err := checkRadius(radius, 50, errRadiusFar); err != nil {
		return WHATSAT{}, err
	}
	most, err := parseMax(places)
	if err != nil {
		return WHATSAT{}, err
	}
	if more, _ := Cut(rest); len(more) > 0 {
		return WHATSAT{}, errTooMany
	}
	return WHATSAT{Client: client, Radius: toFloat(radius), Max: most}, nil
}

// checkRadius checks that a radius is at most limit kilometres, or else returns far. It compares
// the digits and does not round, so 50.00000000000000000001 is over 50.
func checkRadius(text []byte, limit int, far error) error {
	if len(text) == 0 {
		return errRadiusMissing
	}
	if len(text) > maxField {
		return errRadiusLong
	}
	whole, point := 0, 0
	for point < len(text) && isDigit(text[point]) {
		whole = min(whole*10+int(text[point]-'0'), limit+1)
		point++
	}
	if point == 0 {
		return errRadiusForm
	}
	nonzero := byte(0)
	if point < len(text) {
		fraction := text[point+1:]
		if text[point] != '.' || len(fraction) == 0 {
			return errRadiusForm
		}
		for _, b := range fraction {
			if !isDigit(b) {
				return errRadiusForm
			}
			nonzero |= b - '0'
		}
	}
	if whole > limit || whole == limit && nonzero != 0 {
		return far
	}
	return nil
}

func parseMax(text []byte) (int, error) {
	if len(text) == 0 {
		return 0, errMaxMissing
	}
	if len(text) > 2 {
		return 0, errMaxForm
	}
	n := 0
	for _, b := range text {
		if !isDigit(b) {
			return 0, errMaxForm
		}
		n = n*10 + int(b-'0')
	}
	if n > 20 {
		return 0, errMaxMany
	}
	return n, nil
}
