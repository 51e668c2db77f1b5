package osm

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// visitor receives the elements of an extract. Its functions are called from several
// goroutines at once and may use their arguments only during the call. All but located may be
// nil.
type visitor struct {
	located func(ids []int64, at []point)                                     // nodes
	tagged  func(id int64, version uint32, at point, t *tags)                 // one node
	way     func(id int64, version uint32, refs []int64, at []point, t *tags) // with points if the file has them, often none
	enough  func() bool                                                       // no more elements are needed
}

// errHistory refuses a file with several versions of an element. It has the words of the
// error for a history that says so in its header.
var errHistory = errors.New(`needs a reader with "HistoricalInformation": it has several versions of one element`)

// previous is the previous element. In a history the versions of an element follow each
// other.
type previous struct {
	kind    string
	id      int64
	version uint32
}

// differs records an element and reports whether it is another version of the previous one.
// Version 0 means none, and the same version twice is a mere duplicate.
func (p *previous) differs(kind string, id int64, version uint32) bool {
	was := *p
	*p = previous{kind, id, version}
	return was.kind == kind && was.id == id && was.version != version && was.version != 0 && version != 0
}

// progressEvery is how often a load logs its progress.
const progressEvery = 5 * time.Second

// load reads an extract of size bytes. If it has ways, it reads the extract twice: the second
// time for the nodes of the ways. So it stores only the points of these nodes, and not of the
// hundreds of millions in a country.
func load(ctx context.Context, f io.ReadSeeker, size int64, as format, log *slog.Logger) (*index, error) {
	scan := map[format]func(context.Context, io.Reader, visitor) error{pbf: scanPBF, xml: scanXML}[as]
	if scan == nil {
		return nil, errName
	}
	if err := checkBegins(f, as); err != nil {
		return nil, err
	}
	log.Info("loading extract", "bytes", size)
	c := &collector{size: size}
	reader := &progress{ctx: ctx, r: f, size: size, log: log, pass: "1 of 2", next: time.Now().Add(progressEvery)}
	if err := scan(ctx, reader, c.first()); err != nil {
		return nil, err
	}
	if c.err != nil {
		return nil, c.err
	}
	if c.seen.Load() == 0 {
		return nil, errors.New("the file has no nodes and no ways")
	}
	if c.gather(); len(c.ids) > 0 {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, err
		}
		reader.read, reader.pass = 0, "2 of 2"
		if err := scan(ctx, reader, c.second()); err != nil {
			return nil, err
		}
	}
	c.settle()
	return newIndex(c.places, c.text.String(), c.kinds)
}

// progress is a reader that ends with its context and logs how much was read.
type progress struct {
	ctx        context.Context // of the load; dropped with it
	r          io.Reader
	read, size int64
	pass       string
	next       time.Time
	log        *slog.Logger
}

func (p *progress) Read(b []byte) (int, error) {
	if err := p.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := p.r.Read(b)
	p.read += int64(n)
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(progressEvery)
		p.log.Info("loading extract", "pass", p.pass, "percent", p.read*100/max(p.size, 1))
	}
	return n, err
}

// The limits of what is kept are relative to the extract's size. An extract that exceeds them
// was made to fill the memory.
const (
	keptLeast = 16 << 20
	keptTimes = 64
)

var errKept = errors.New("more places than an extract of its size can have")

// collector keeps the places of an extract.
type collector struct {
	size int64        // size of the extract in bytes
	seen atomic.Int64 // elements

	mu     sync.Mutex
	err    error // set when nothing more is kept
	places []place
	text   strings.Builder
	kinds  [][]string
	kindOf map[string]uint32 // number by kind
	ways   []way
	refs   []int64 // node ids of all ways

	ids    []int64 // ids of the nodes that ways need, sorted, without duplicates
	points []point // their points
	open   int     // how many were not found yet
}

// way is a way whose nodes' points are needed.
type way struct {
	place    int // number of its place
	from, to int // range of its nodes in refs
}

// first returns the visitor of the first pass, which collects places and the nodes that are
// needed.
func (c *collector) first() visitor {
	return visitor{
		enough: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.err != nil
		},
		located: func(ids []int64, _ []point) { c.seen.Add(int64(len(ids))) },
		tagged: func(id int64, version uint32, at point, t *tags) {
			if len(t[name]) == 0 || at == nowhere {
				return
			}
			if kind, ok := t.kind(); ok {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.add(id<<1, version, at, kind, t)
			}
		},
		way: func(id int64, version uint32, refs []int64, at []point, t *tags) {
			c.seen.Add(1)
			if len(t[name]) == 0 {
				return
			}
			kind, ok := t.kind()
			if !ok {
				return
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			where := centre(at)
			if !c.add(id<<1|1, version, where, kind, t) || where != nowhere || !c.room(len(refs)) {
				return
			}
			from := len(c.refs)
			c.refs = append(c.refs, refs...)
			c.ways = append(c.ways, way{len(c.places) - 1, from, len(c.refs)})
		},
	}
}

// add keeps a place.
func (c *collector) add(id int64, version uint32, at point, kind string, t *tags) bool {
	if !c.room(0) {
		return false
	}
	from := c.text.Len()
	if from > math.MaxUint32-3*len(t)*longest {
		c.err = errors.New("more than 4 GiB of names")
		return false
	}
	c.text.Write(t[name])
	vicinity := t.appendVicinity(nil)
	c.text.Write(vicinity)
	c.places = append(c.places, place{
		id: id, at: at, text: uint32(from), name: uint16(len(t[name])), vicinity: uint16(len(vicinity)), kind: c.number(kind), version: version,
	})
	return true
}

// room reports whether one more place, with this many references, may be kept.
func (c *collector) room(refs int) bool {
	const place, way = int(unsafe.Sizeof(place{})), int(unsafe.Sizeof(way{}))
	kept := len(c.places)*place + len(c.ways)*way + 8*(len(c.refs)+refs) + c.text.Len()
	if c.err == nil && int64(kept) > keptLeast+keptTimes*c.size {
		c.err = errKept
	}
	return c.err == nil
}

// number returns the number of a kind. Its types are stored once for all places.
func (c *collector) number(kind string) uint32 {
	n, known := c.kindOf[kind]
	if !known {
		if c.kindOf == nil {
			c.kindOf = make(map[string]uint32)
		}
		n = uint32(len(c.kinds))
		c.kindOf[kind] = n
		c.kinds = append(c.kinds, strings.Fields(kind+" "+every))
	}
	return n
}

// gather builds the sorted table of the nodes that are needed.
func (c *collector) gather() {
	c.ids = slices.Clone(c.refs)
	slices.Sort(c.ids)
	c.ids = slices.Clip(slices.Compact(c.ids))
	c.points = make([]point, len(c.ids))
	for i := range c.points {
		c.points[i] = nowhere
	}
	c.open = len(c.ids)
}

// second returns the visitor of the second pass, which finds the points of these nodes.
func (c *collector) second() visitor {
	return visitor{
		enough: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.open == 0
		},
		located: func(ids []int64, at []point) {
			// Both are sorted, except in unusual files, so one runs along the other.
			i, last := 0, int64(math.MinInt64)
			for j, id := range ids {
				if id < last {
					i, _ = slices.BinarySearch(c.ids, id)
				} else if i < len(c.ids) && c.ids[i] < id {
					if i++; i < len(c.ids) && c.ids[i] < id {
						more, _ := slices.BinarySearch(c.ids[i:], id)
						i += more
					}
				}
				last = id
				if i < len(c.ids) && c.ids[i] == id {
					c.mu.Lock()
					if c.points[i] == nowhere && at[j] != nowhere {
						c.points[i] = at[j]
						c.open--
					}
					c.mu.Unlock()
				}
			}
		},
	}
}

// settle sets the positions of ways from the points of the second pass.
func (c *collector) settle() {
	var corners []point
	for _, w := range c.ways {
		corners = corners[:0]
		for _, ref := range c.refs[w.from:w.to] {
			if i, ok := slices.BinarySearch(c.ids, ref); ok {
				corners = append(corners, c.points[i])
			}
		}
		c.places[w.place].at = centre(corners)
	}
}

// centre returns the middle of the bounding box of the points that have a position, or
// nowhere if none has. No way spans half of the Earth: one from 179° to -179° crosses the
// antimeridian.
func centre(all []point) point {
	const turn = 360e7
	first := true
	var south, north, west, east, origin int64
	for _, p := range all {
		if p == nowhere {
			continue
		}
		lat, lon := int64(p.lat), int64(p.lon)
		if first {
			first = false
			south, north, west, east, origin = lat, lat, lon, lon, lon
			continue
		}
		switch {
		case lon-origin > turn/2:
			lon -= turn
		case lon-origin < -turn/2:
			lon += turn
		}
		south, north, west, east = min(south, lat), max(north, lat), min(west, lon), max(east, lon)
	}
	if first {
		return nowhere
	}
	lat, lon := (south+north)/2, (west+east)/2
	switch {
	case lon > turn/2:
		lon -= turn
	case lon < -turn/2:
		lon += turn
	}
	return point{int32(lat), int32(lon)}
}

func (p point) degreesLat() float64 { return float64(p.lat) / 1e7 }
func (p point) degreesLon() float64 { return float64(p.lon) / 1e7 }
