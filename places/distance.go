package places

import "math"

// EarthRadius is the mean radius of the Earth in kilometres (IUGG). The herd takes the
// Earth for a sphere of this size: distances are within 0.6 % of the ellipsoid's.
const EarthRadius = 6371.0088

// Direction is where a point on Earth lies as seen from its centre, a vector of length
// 1: no poles and no antimeridian, and no trigonometry to compare two of them.
type Direction struct{ X, Y, Z float64 }

// Toward returns the direction of a point given in degrees.
func Toward(lat, lon float64) Direction {
	sinLat, cosLat := math.Sincos(lat * (math.Pi / 180))
	sinLon, cosLon := math.Sincos(lon * (math.Pi / 180))
	return Direction{cosLat * cosLon, cosLat * sinLon, sinLat}
}

// Chord returns the square of the straight line between two points, in Earth radii: it
// grows with their distance, is quick to compute, and unlike the cosine of the angle it
// loses nothing for points that are near each other.
func (d Direction) Chord(e Direction) float64 {
	x, y, z := d.X-e.X, d.Y-e.Y, d.Z-e.Z
	return x*x + y*y + z*z
}

// Distance returns the great-circle distance of two points in kilometres, right to
// about a micrometre everywhere, antipodes included.
func (d Direction) Distance(e Direction) float64 {
	// The angle is twice that between a side and the diagonal of the rhombus that
	// both directions span; asin of the chord alone is coarse at the antipodes.
	across := d.Chord(Direction{-e.X, -e.Y, -e.Z})
	return 2 * EarthRadius * math.Atan2(math.Sqrt(d.Chord(e)), math.Sqrt(across))
}
