package wire

import "strconv"

var (
	errLocationMissing = &SyntaxError{"C7", "no location"}
	errLocationLong    = &SyntaxError{"C7", "location longer than 64 bytes"}
	errLocationForm    = &SyntaxError{"C7", "location is not latitude and longitude in signed decimal degrees"}
	errLatitude        = &SyntaxError{"C7", "latitude beyond 90 degrees"}
	errLongitude       = &SyntaxError{"C7", "longitude beyond 180 degrees"}
)

// CheckLocation returns nil if text is a location by C7. It goes by the digits,
// so +90.0000000000000000001 is beyond 90 degrees.
func CheckLocation(text []byte) error {
	_, _, err := splitLocation(text)
	return err
}

// ParseLocation reads a location (C7) as degrees: the float64 nearest to each
// number, so within ±90 and ±180.
func ParseLocation(text []byte) (lat, lon float64, err error) {
	latitude, longitude, err := splitLocation(text)
	if err != nil {
		return 0, 0, err
	}
	return toFloat(latitude), toFloat(longitude), nil
}

// splitLocation returns the two numbers of a location.
func splitLocation(text []byte) (latitude, longitude []byte, err error) {
	if len(text) > maxField {
		return nil, nil, errLocationLong
	}
	n, beyond := angle(text, 2, 90)
	if n == 0 {
		return nil, nil, errLocationForm
	}
	if beyond {
		return nil, nil, errLatitude
	}
	latitude, text = text[:n], text[n:]
	n, beyond = angle(text, 3, 180)
	if n == 0 {
		return nil, nil, errLocationForm
	}
	if rest := text[n:]; len(rest) > 1 || len(rest) == 1 && rest[0] != '/' {
		return nil, nil, errLocationForm
	}
	if beyond {
		return nil, nil, errLongitude
	}
	return latitude, text[:n], nil
}

// angle finds a sign, 1 to digits integer digits, and optionally a point and one
// or more digits, at the start of text. n is its length, 0 if there is none;
// beyond says that it is more than limit degrees.
func angle(text []byte, digits int, limit int) (n int, beyond bool) {
	if len(text) == 0 || text[0] != '+' && text[0] != '-' {
		return 0, false
	}
	n = 1
	whole := 0
	for n < len(text) && n <= digits && isDigit(text[n]) {
		whole = whole*10 + int(text[n]-'0')
		n++
	}
	if n == 1 {
		return 0, false
	}
	if n == len(text) || text[n] != '.' {
		return n, whole > limit
	}
	n++
	start, nonzero := n, byte(0)
	for n < len(text) && isDigit(text[n]) {
		nonzero |= text[n] - '0'
		n++
	}
	if n == start {
		return 0, false
	}
	return n, whole > limit || whole == limit && nonzero != 0
}

// toFloat converts a number whose syntax and size have been checked.
func toFloat(number []byte) float64 {
	f, _ := strconv.ParseFloat(string(number), 64)
	return f
}
