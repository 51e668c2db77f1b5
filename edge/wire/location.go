package wire

import (
	"bytes"
	"strconv"
)

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
	_, end, err := scanLocation(text, 0)
	if err == nil && end < len(text) {
		return errLocationForm
	}
	return err
}

// ParseLocation reads a location (C7) as degrees: the float64 nearest to each
// number, so within ±90 and ±180.
func ParseLocation(text []byte) (lat, lon float64, err error) {
	if err := CheckLocation(text); err != nil {
		return 0, 0, err
	}
	split, _, _ := scanLocation(text, 0)
	return toFloat(text[:split]), toFloat(bytes.TrimSuffix(text[split:], []byte{'/'})), nil
}

// scanLocation looks at the location that begins at i: its longitude begins at
// split, and it ends, a closing / and all, at end.
func scanLocation(text []byte, i int) (split, end int, err error) {
	if i == len(text) {
		return 0, 0, errLocationMissing
	}
	split, beyondLatitude := angle(text, i, 2, 90)
	end, beyondLongitude := angle(text, split, 3, 180)
	if split == i || end == split {
		return 0, 0, errLocationForm
	}
	if end < len(text) && text[end] == '/' {
		end++
	}
	if end-i > maxField {
		return 0, 0, errLocationLong
	}
	if beyondLatitude {
		return 0, 0, errLatitude
	}
	if beyondLongitude {
		return 0, 0, errLongitude
	}
	return split, end, nil
}

// angle looks at the sign, the 1 to most integer digits, and the optional point
// with one or more digits, that begin at i. It says where they end, which is i
// if they are not so, and whether they are more than limit degrees.
func angle(text []byte, i, most, limit int) (end int, beyond bool) {
	if i == len(text) || text[i] != '+' && text[i] != '-' {
		return i, false
	}
	whole, point := 0, i+1
	for point < len(text) && point <= i+most && isDigit(text[point]) {
		whole = whole*10 + int(text[point]-'0')
		point++
	}
	if point == i+1 {
		return i, false
	}
	if point == len(text) || text[point] != '.' {
		return point, whole > limit
	}
	end, nonzero := skipDigits(text, point+1)
	if end == point+1 {
		return i, false
	}
	return end, whole > limit || whole == limit && nonzero
}

// toFloat converts a number whose syntax and size have been checked.
func toFloat(number []byte) float64 {
	f, _ := strconv.ParseFloat(string(number), 64)
	return f
}
