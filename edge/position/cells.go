package position

import (
	"math"

	"herd/edge/wire"
)

// Levels is how many sizes of cells there are. A level's cells are twice as high as those of
// the level below. Level 0 has cells of 8192 units, 91 metres.
const Levels = 16

// A Cell is one cell of a level: its number is unlike that of any other cell of any level.
type Cell uint64

const (
	cellShift = 13 // the binary logarithm of the height of level 0's cells

	// A Cell's number is its level, row and column.
	levelShift = 58
	rowShift   = 29
)

// A row's cells are as wide as they are high at the least, anywhere in the row; so what is no
// wider and no higher than a cell lies in at most two rows and two columns, as long as no pole
// is near. columnShare is what is left of the equator's columns at a whole degree of latitude,
// in 65536ths.
var columnShare = func() (share [91]uint64) {
	for d := range share {
		_, cos := sincos(int32(d) * degree)
		share[d] = uint64(math.Floor(cos * 65536))
	}
	return share
}()

// rowOf returns the row of a latitude.
func rowOf(level int, lat int32) uint32 {
	return uint32(int64(lat)+right) >> (cellShift + level)
}

// rowEdges returns the latitudes between which a row lies.
func rowEdges(level int, row uint32) (south, north int32) {
	s := int64(row)<<(cellShift+level) - right
	return int32(s), int32(min(s+1<<(cellShift+level)-1, right))
}

// columnsOf returns how many cells a row has. All latitudes of a whole degree have the share of
// their end toward the pole.
func columnsOf(level int, row uint32) uint64 {
	s := int64(row)<<(cellShift+level) - right
	n := s + 1<<(cellShift+level)
	d := min(uint64(max(-s, n)+degree-1)/degree, 90)
	return max(turn>>(cellShift+level)*columnShare[d]>>16, 1)
}

// columnOf returns the column of a longitude among n.
func columnOf(lon int32, n uint64) uint64 {
	x := uint64(int64(lon) + half)
	if x >= turn { // +180 is -180
		x -= turn
	}
	return x * n / turn
}

func cellOf(level int, row uint32, column uint64) Cell {
	return Cell(uint64(level)<<levelShift | uint64(row)<<rowShift | column)
}

// CellAt returns the cell of a level that a point is in.
func CellAt(level int, p wire.Point) Cell {
	row := rowOf(level, p.Lat)
	return cellOf(level, row, columnOf(p.Lon, columnsOf(level, row)))
}

// columns returns which cells of a row an area touches: count of them from first on to the
// east, across the antimeridian where need be.
func (a *Area) columns(level int, row uint32) (first, count, n uint64) {
	n = columnsOf(level, row)
	west, width := a.west, a.width
	if a.circle && width < turn {
		south, north := rowEdges(level, row)
		wide := a.halfWidth(south, north)
		west, width = span(int64(a.centre.Lon)-wide, 2*wide)
	}
	first = columnOf(west, n)
	if uint64(width)*n/turn+2 > n {
		return first, n, n
	}
	to := int64(west) + int64(width)
	if to > half {
		to -= turn
	}
	last := columnOf(int32(to), n)
	return first, (last+n-first)%n + 1, n
}

// Level returns the level whose cells an area covers few of, some six at the most; Levels
// where it is too large for that.
func (a *Area) Level() int {
	high := uint64(int64(a.north) - int64(a.south))
	// Its width, where it is widest.
	lat := max(min(a.north, 0), a.south) // the one nearest to the equator
	_, cos := sincos(lat)
	wide := uint64(float64(a.width) * cos)
	level := 0
	for level < Levels && max(high, wide) > 1<<(cellShift+level) {
		level++
	}
	return level
}

// AppendCells appends the cells of a level that an area touches. There are few of them for the
// level that Level returns.
func (a *Area) AppendCells(dst []Cell, level int) []Cell {
	for row := rowOf(level, a.south); row <= rowOf(level, a.north); row++ {
		first, count, n := a.columns(level, row)
		for i := range count {
			dst = append(dst, cellOf(level, row, (first+i)%n))
		}
	}
	return dst
}

// Degrees is how many whole degrees of latitude and longitude there are: see DegreeOf.
const Degrees = 180 * 360

// DegreeOf returns which cell of one degree of latitude and longitude a point is in, from the
// south-west corner of the map to the east, then to the north. The pole is in the northernmost.
func DegreeOf(p wire.Point) int {
	lat, lon := (uint32(p.Lat)+right)/degree, (uint32(p.Lon)+half)/degree
	if lat == 180 {
		lat--
	}
	if lon == 360 {
		lon = 0
	}
	return int(lat*360 + lon)
}

// AppendDegrees appends the numbers of the cells of one degree that an area touches.
func (a *Area) AppendDegrees(dst []uint32) []uint32 {
	lat, north := (int(a.south)+right)/degree, min((int(a.north)+right)/degree, 179)
	first, count := (int(a.west)+half)/degree%360, 360
	if w := (int(a.west)+half)%degree + int(a.width); w < turn-degree {
		count = w/degree + 1
	}
	for lat = min(lat, 179); lat <= north; lat++ {
		for i := range count {
			dst = append(dst, uint32(lat*360+(first+i)%360))
		}
	}
	return dst
}
