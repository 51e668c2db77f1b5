package places

import "math"

// EarthRadius is the mean radius of the Earth in kilometres (IUGG). The herd treats the Earth
// as a sphere of this radius: distances are within 0.6 % of those on the ellipsoid.
const EarthRadius = 6371.0088

// Direction is the direction of a point on Earth from its centre, as a unit vector. With
// vectors the poles and the antimeridian are not special, and comparing two needs no
// trigonometry.
type Direction struct{ X, Y, Z float64 }

// Toward returns the direction of a point given in degrees.
func Toward(lat, lon float64) Direction {
	sinLat, cosLat := math.Sincos(lat * (math.Pi / 180))
	sinLon, cosLon := math.Sincos(lon * (math.Pi / 180))
	return Direction{cosLat * cosLon, cosLat * sinLon, sinLat}
}

// Chord returns the square of the straight-line distance between two points, in Earth radii.
// It grows with their distance, is cheap to compute, and unlike the cosine of the angle is
// precise for points near each other.
func (d Direction) Chord(e Direction) float64 {
	x, y, z := d.X-e.X, d.Y-e.Y, d.Z-e.Z
	return x*x + y*y + z*z
}

// Distance returns the great-circle distance between two points in kilometres, accurate to
// about a micrometre everywhere, antipodes included.
func (d Direction) Distance(e Direction) float64 {
	// The angle is twice that between a side and the diagonal of the rhombus spanned by both
	// directions. asin of the chord alone is imprecise near the antipodes.
	across := d.Chord(Direction{-e.X, -e.Y, -e.Z})
	return 2 * EarthRadius * math.Atan2(math.Sqrt(d.Chord(e)), math.Sqrt(across))
}
