package wire

// A Point is a place on Earth in units of 1e-7 degrees, about a centimetre, rounded half away
// from zero (L2). Latitude is within ±900,000,000, longitude within ±1,800,000,000; both ends
// of longitude occur, as they were written, and are the same meridian.
type Point struct{ Lat, Lon int32 }

// unitsPerDegree is how many of a Point's units a degree has.
const unitsPerDegree = 10_000_000

// ParsePoint parses a location (C7) to the Point nearest to it, exactly: no float is involved.
func ParsePoint(text []byte) (Point, error) {
	p, end, err := scanLocation(text, 0)
	if err == nil && end < len(text) {
		err = errLocationForm
	}
	if err != nil {
		return Point{}, err
	}
	return p, nil
}
