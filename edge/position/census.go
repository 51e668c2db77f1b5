package position

import "herd/edge/wire"

// censusMost is how many cells a Census has at the most. The whole Earth has 2,592 of five degrees.
const censusMost = 2700

// censusStep is how many records a Census looks at under one lock.
const censusStep = 8192

// CensusLines is how many bytes of lines a Census gathers at the most.
const CensusLines = 192 << 10

// censusSizes are the sizes of its cells in units of 1e-7 degrees, from 11 metres on. Each
// divides 180 degrees, so a cell has one number whatever the box is.
var censusSizes = [...]int32{
	1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
	1_000_000, 2_000_000, 5_000_000, degree, 2 * degree, 5 * degree,
}

// A Census counts the clients in a box, per cell of a size that depends on the box, and gathers
// the lines of the clients where they are few. It goes in steps, each under a short lock, so a
// client that moves meanwhile counts where it was when the step came by it, once at the most.
// What is past HERD_RETAIN and was not forgotten yet is counted too, but has no line.
// A Census is used once, by one goroutine.
type Census struct {
	// Size is how high and wide a cell is, in degrees.
	Size float64
	// Row and Column are those of the first cell, and Rows and Columns how many there are.
	// Rows are counted from the South Pole, columns from -180 degrees; behind the last column of
	// the Earth the first one follows.
	Row, Column, Rows, Columns int
	// Counts has the cells' clients, row by row.
	Counts []uint32
	// Clients is the sum of Counts.
	Clients int
	// Lines has the lines of the clients, each with its LF, if HasLines says so: they are no
	// more than was asked for, and take no more than CensusLines bytes.
	Lines    []byte
	HasLines bool

	t     *Table
	most  int
	size  int32
	turns int // how many columns the Earth has

	// Where its cells lie: from south and west on, so high and wide, less one.
	south, west int32
	high, wide  uint32
	next        uint32
	done        bool
}

// NewCensus begins to count the clients in all cells that a box touches, which has these two
// corners as Box has them. It gathers lines of at most most clients. ok is false where the table
// keeps no index (Config.Live).
func (t *Table) NewCensus(sw, ne wire.Point, most int) (c *Census, ok bool) {
	if t.grid == nil {
		return nil, false
	}
	c = &Census{t: t, most: most}
	box := Box(sw, ne)
	if box.south > box.north {
		c.HasLines, c.done, c.size = true, true, censusSizes[0]
		c.Size = float64(c.size) / degree
		return c, true
	}
	for _, size := range censusSizes {
		c.size, c.turns = size, int(turn/int64(size))
		c.Row = c.row(box.south)
		c.Rows = c.row(box.north) - c.Row + 1
		c.Column = c.column(box.west)
		c.Columns = min((int(box.west)+half)%int(size)+int(box.width), turn-1)/int(size) + 1
		if c.Rows*c.Columns <= censusMost {
			break
		}
	}
	c.south, c.high = int32(int64(c.Row)*int64(c.size)-right), uint32(c.Rows*int(c.size)-1)
	c.west, c.wide = int32(int64(c.Column)*int64(c.size)-half), uint32(min(c.Columns, c.turns)*int(c.size)-1)
	c.Size = float64(c.size) / degree
	c.Counts = make([]uint32, c.Rows*c.Columns)
	c.byDegrees(&box)
	return c, true
}

func (c *Census) row(lat int32) int {
	return min(int((int64(lat)+right)/int64(c.size)), int(2*right/int64(c.size))-1)
}

func (c *Census) column(lon int32) int { return int((int64(lon)+half)/int64(c.size)) % c.turns }

// byDegrees does what the counts per degree are enough for, which the table has at hand: all
// that is asked of a large box with many clients in it, or of one with none.
func (c *Census) byDegrees(box *Area) {
	if c.size < degree {
		sum := 0
		c.t.mu.Lock()
		for _, d := range box.AppendDegrees(nil) {
			sum += int(c.t.grid.degrees[d])
		}
		c.t.mu.Unlock()
		c.done = sum == 0
		c.HasLines = c.done
		return
	}
	wide := int(c.size / degree)
	c.t.mu.Lock()
	for row := range c.Rows {
		for column := range c.Columns {
			n := uint32(0)
			for lat := (c.Row + row) * wide; lat < (c.Row+row+1)*wide; lat++ {
				lon := (c.Column + column) % c.turns * wide
				for _, d := range c.t.grid.degrees[lat*360+lon : lat*360+lon+wide] {
					n += d
				}
			}
			c.Counts[row*c.Columns+column] = n
			c.Clients += int(n)
		}
	}
	c.t.mu.Unlock()
	c.HasLines = c.Clients == 0
	if c.done = c.HasLines || c.Clients > c.most; !c.done { // they are counted again with their lines
		clear(c.Counts)
		c.Clients = 0
	}
}

// Step goes on under one short lock, at the given Unix time in nanoseconds, and reports whether
// the census is complete.
func (c *Census) Step(now int64) (done bool) {
	if c.done {
		return true
	}
	t := c.t
	t.mu.Lock()
	defer t.mu.Unlock()
	g, end := t.grid, min(c.next+censusStep, t.records.used)
	end = min(end, uint32(len(g.places))*recordChunk)
	if c.next == 0 {
		c.HasLines = true
	}
	for ; c.next < end; c.next++ {
		pl := g.at(c.next)
		// The pole is in the northernmost row.
		up, along := uint32(min(pl.point.Lat, right-1)-c.south), uint32(pl.point.Lon-c.west)
		if pl.point.Lon < c.west { // also where the difference is more than an int32 holds
			along += turn
		}
		if along >= turn { // +180 is -180
			along -= turn
		}
		if up > c.high || along > c.wide || pl.prev == 0 {
			continue
		}
		c.Counts[int(up/uint32(c.size))*c.Columns+int(along/uint32(c.size))]++
		c.Clients++
		if c.HasLines {
			c.gather(t.records.at(c.next), now)
		}
	}
	c.done = end == min(t.records.used, uint32(len(g.places))*recordChunk)
	return c.done
}

// gather takes a client's line, unless there are too many.
func (c *Census) gather(r *record, now int64) {
	switch {
	case c.Clients > c.most || len(c.Lines)+int(r.size) > CensusLines:
		c.HasLines, c.Lines = false, nil
	case !c.t.expired(r.effective, now):
		c.Lines = append(c.Lines, c.t.line(r)...)
	}
}
