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

// CheckLocation returns nil if text is a location by C7. It compares the digits and does not
// round, so +90.0000000000000000001 is beyond 90 degrees.
func CheckLocation(text []byte) error {
	_, err := ParsePoint(text)
	return err
}

// ParseLocation parses a location (C7) to degrees, within ±90 and ±180. Each is the float64
// nearest to the number.
func ParseLocation(text []byte) (lat, lon float64, err error) {
	if err := CheckLocation(text); err != nil {
		return 0, 0, err
	}
	_, split, _ := angle(text, 0, 2, 90)
	return toFloat(text[:split]), toFloat(bytes.TrimSuffix(text[split:], []byte{'/'})), nil
}

// scanLocation scans the location that begins at i, and returns the Point nearest to it and where
// it ends, a closing / included. Scanning it for its point as well costs far less than to look at
// its digits again.
func scanLocation(text []byte, i int) (p Point, end int, err error) {
	if i == len(text) {
		return Point{}, 0, errLocationMissing
	}
	lat, split, beyondLatitude := angle(text, i, 2, 90)
	lon, end, beyondLongitude := angle(text, split, 3, 180)
	if split == i || end == split {
		return Point{}, 0, errLocationForm
	}
	if end < len(text) && text[end] == '/' {
		end++
	}
	if end-i > maxField {
		return Point{}, 0, errLocationLong
	}
	if beyondLatitude {
		return Point{}, 0, errLatitude
	}
	if beyondLongitude {
		return Point{}, 0, errLongitude
	}
	return Point{Lat: int32(lat), Lon: int32(lon)}, end, nil
}

// angle scans a sign, 1 to most integer digits, and an optional point with one or more
// digits, beginning at i. It returns the number in units of a Point, exactly rounded half away from
// zero, where it ends, or i if the syntax is wrong, and whether it is more than limit degrees.
func angle(text []byte, i, most, limit int) (units, end int, beyond bool) {
	if i == len(text) || text[i] != '+' && text[i] != '-' {
		return 0, i, false
	}
	sign := ',' - int(text[i]) // 1 or -1: the comma is between them, and signs cannot be guessed
	whole, point := 0, i+1
	for point < len(text) && point <= i+most && isDigit(text[point]) {
		whole = whole*10 + int(text[point]-'0')
		point++
	}
	if point == i+1 {
		return 0, i, false
	}
	units = whole * unitsPerDegree
	if point == len(text) || text[point] != '.' {
		return sign * units, point, whole > limit
	}
	// Eight digits decide: the eighth is 5 or more exactly where the rest is half or more.
	fraction, end := number(text, point+1, 8)
	nonzero := fraction != 0
	switch n := end - (point + 1); n {
	case 0:
		return 0, i, false
	case 8:
		units += int(fraction+5) / 10
		var more bool
		end, more = skipDigits(text, end)
		nonzero = nonzero || more
	default:
		units += int(fraction * pow10[7-n])
	}
	return sign * units, end, whole > limit || whole == limit && nonzero
}

// toFloat converts a number whose syntax and range have been checked.
func toFloat(number []byte) float64 {
	f, _ := strconv.ParseFloat(string(number), 64)
	return f
}
