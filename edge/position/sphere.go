package position

import (
	"math"

	"herd/edge/wire"
)

// EarthRadius is that of the sphere that stands for the Earth, in kilometres (L2).
const EarthRadius = 6371.0088

// Angles in units of 1e-7 degrees, those of a wire.Point.
const (
	degree = 10_000_000
	right  = 90 * degree
	half   = 180 * degree
	turn   = 360 * degree
)

// chordBetween returns the square of the straight line between two points, in Earth radii, from the
// differences of their latitudes and longitudes: both as good as exact, whichever of the two is north or
// east. So points at the same distance on either side of a meridian, of the equator, about a pole or
// across the antimeridian have the same chord to the last bit, and can be put in order by their ids (L1).
// cosP and cosQ are the cosines of the latitudes. It computes alike on all machines:
// every product is rounded by a conversion, so that none is fused with a sum. Multiples of 90 degrees are
// exact, so a pole is one point whatever its longitude.
func chordBetween(p wire.Point, cosP float64, q wire.Point, cosQ float64) float64 {
	lat, lon := int64(p.Lat)-int64(q.Lat), int64(p.Lon)-int64(q.Lon)
	lat, lon = max(lat, -lat), max(lon, -lon)
	if lon > half {
		lon = turn - lon
	}
	u, v := sinHalf(lat), sinHalf(lon)
	return 4 * (float64(u*u) + float64(float64(cosP*cosQ)*float64(v*v)))
}

// sinHalf returns the sine of half of an angle of 0 to 180 degrees.
func sinHalf(angle int64) float64 {
	if angle <= right {
		return sine(float64(angle) * (math.Pi / turn))
	}
	return cosine(float64(half-angle) * (math.Pi / turn))
}

// sincos returns sine and cosine of an angle in units of 1e-7 degrees, within ±180 degrees.
func sincos(angle int32) (sin, cos float64) {
	quarter := (int64(angle) + half + right/2) / right // 0 to 4: from -180 degrees on
	x := float64(int64(angle)+half-quarter*right) * (math.Pi / half)
	sin, cos = sine(x), cosine(x)
	switch quarter & 3 {
	case 0: // about -180 degrees, and 180
		return -sin, -cos
	case 1: // about -90
		return -cos, sin
	case 3: // about 90
		return cos, -sin
	}
	return sin, cos
}

// sine is the Taylor series, whose first term left out is below 1e-19 for the angles up to 45
// degrees for which it is used.
func sine(x float64) float64 {
	z := float64(x * x)
	s := 1 / 355687428096000.0
	s = float64(s*z) - 1/1307674368000.0
	s = float64(s*z) + 1/6227020800.0
	s = float64(s*z) - 1/39916800.0
	s = float64(s*z) + 1/362880.0
	s = float64(s*z) - 1/5040.0
	s = float64(s*z) + 1/120.0
	s = float64(s*z) - 1/6.0
	return x + float64(float64(x*z)*s)
}

// cosine is the same for the cosine.
func cosine(x float64) float64 {
	z := float64(x * x)
	s := 1 / 20922789888000.0
	s = float64(s*z) - 1/87178291200.0
	s = float64(s*z) + 1/479001600.0
	s = float64(s*z) - 1/3628800.0
	s = float64(s*z) + 1/40320.0
	s = float64(s*z) - 1/720.0
	s = float64(s*z) + 1/24.0
	s = float64(s*z) - 1/2.0
	return 1 + float64(z*s)
}

// border is by how much a chord may be longer than a circle's and still end on its border:
// about what rounding makes of a point that lies exactly there. It is 6 nanometres.
const border = 1e-15

// chordOf returns the square of the chord of a circle whose radius is given as an angle in
// radians.
func chordOf(angle float64) float64 {
	if angle >= math.Pi {
		return math.Inf(1)
	}
	c := 2*math.Sin(angle/2) + border
	return float64(c * c)
}

// An Area is a part of the Earth, a circle or a box (L2). What lies on its border is inside.
// Make one with Circle or Box.
type Area struct {
	south, north int32 // latitudes, of a circle rounded outward
	west         int32
	width        uint32 // longitudes to the east of west, of a circle rounded outward

	circle bool
	centre wire.Point
	cos    float64 // of the centre's latitude
	angle  float64 // the radius in radians
	chord  float64 // the square of its chord
}

// Circle returns the circle of a radius in kilometres around a point.
func Circle(centre wire.Point, radius float64) Area {
	_, cos := sincos(centre.Lat)
	a := Area{circle: true, centre: centre, cos: cos, angle: radius / EarthRadius}
	a.chord = chordOf(a.angle)
	reach := int64(math.Ceil(min(a.angle, math.Pi)*(half/math.Pi))) + 1
	a.south = int32(max(int64(centre.Lat)-reach, -right))
	a.north = int32(min(int64(centre.Lat)+reach, right))
	wide := a.halfWidth(a.south, a.north)
	a.west, a.width = span(int64(centre.Lon)-wide, 2*wide)
	return a
}

// Box returns the box between two corners. Where sw.Lon is east of ne.Lon it crosses the
// antimeridian, from -180 to +180 degrees it is all longitudes. One whose south is north of its
// north holds nothing.
func Box(sw, ne wire.Point) Area {
	a := Area{south: sw.Lat, north: ne.Lat, west: sw.Lon}
	switch {
	case sw.Lon == -half && ne.Lon == half:
		a.width = turn
	default:
		a.width = east(sw.Lon, ne.Lon)
	}
	return a
}

// span returns an interval of longitudes with its west within ±180 degrees.
func span(west, width int64) (int32, uint32) {
	if width >= turn {
		return -half, turn
	}
	if west < -half {
		west += turn
	}
	return int32(west), uint32(width)
}

// east returns how far one longitude is to the east of another, less than a turn.
func east(from, to int32) uint32 {
	d := int64(to) - int64(from)
	if d < 0 {
		d += turn
	}
	if d >= turn {
		d -= turn
	}
	return uint32(d)
}

// Contains reports whether a point is inside.
func (a *Area) Contains(p wire.Point) bool {
	if p.Lat < a.south || p.Lat > a.north || a.width < turn && east(a.west, p.Lon) > a.width {
		// A pole has all longitudes, for a circle.
		if !a.circle || p.Lat != right && p.Lat != -right {
			return false
		}
	}
	return !a.circle || a.chordTo(p) <= a.chord
}

// chordTo returns the square of the chord between a circle's centre and a point. It grows with their
// distance.
func (a *Area) chordTo(p wire.Point) float64 {
	_, cos := sincos(p.Lat)
	return chordBetween(a.centre, a.cos, p, cos)
}

// halfWidth returns by how much the longitudes of a circle differ from its centre's at most,
// between two latitudes of which at least one part is within it: rounded outward, and half a
// turn at the most.
func (a *Area) halfWidth(south, north int32) int64 {
	sin0, cos0 := sincos(a.centre.Lat)
	// A circle is widest where it touches a meridian, unless a pole is inside.
	widest := int32(right)
	if s := sin0 / math.Cos(a.angle); a.angle >= math.Pi/2 {
		return half
	} else if s <= -1 {
		widest = -right
	} else if s < 1 {
		widest = int32(math.Round(math.Asin(s) * (half / math.Pi)))
	}
	sin, cos := sincos(min(max(widest, south), north))
	if cos*cos0 < 1e-9 {
		return half
	}
	c := (math.Cos(a.angle) - sin*sin0) / (cos * cos0)
	if c <= -1 {
		return half
	}
	wide := 0.0
	if c < 1 {
		wide = math.Acos(c)
	}
	wide += 1e-7 / cos // what rounding may hide, well below a metre
	return min(int64(math.Ceil(wide*(half/math.Pi)))+1, half)
}
