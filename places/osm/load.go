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
)

// visitor is who is handed what is in an extract. Its functions are called from several
// goroutines at once; what they are given is theirs for the call only. Those that are
// nil have no use for it, but for located.
type visitor struct {
	located func(ids []int64, at []point)                     // nodes
	tagged  func(id int64, at point, t *tags)                 // one node
	way     func(id int64, refs []int64, at []point, t *tags) // with the points that the file has at hand, often none
	enough  func() bool                                       // no more is wanted
}

// progressEvery is how often a load says how far it is.
const progressEvery = 5 * time.Second

// load reads an extract of size bytes, twice where it has ways: the second time for the
// nodes that they need, so that it keeps the points of those alone and not the hundreds
// of millions that a country has.
func load(ctx context.Context, f io.ReadSeeker, size int64, as format, log *slog.Logger) (*index, error) {
	scan := map[format]func(context.Context, io.Reader, visitor) error{pbf: scanPBF, xml: scanXML}[as]
	if scan == nil {
		return nil, errName
	}
	log.Info("loading extract", "bytes", size)
	c := &collector{}
	reader := &progress{ctx: ctx, r: f, size: size, log: log, pass: "1 of 2", next: time.Now().Add(progressEvery)}
	if err := scan(ctx, reader, c.first()); err != nil {
		return nil, err
	}
	if c.seen.Load() == 0 {
		return nil, errors.New("there are no nodes and no ways in it")
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
	if c.err != nil {
		return nil, c.err
	}
	c.settle()
	return newIndex(c.places, c.text.String(), c.kinds), nil
}

// progress is a reader that ends with its context and says in the log how far it is.
type progress struct {
	ctx        context.Context // of the load: no longer kept than that runs
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

// collector keeps what of an extract is a place.
type collector struct {
	seen atomic.Int64 // elements

	mu     sync.Mutex
	err    error
	places []place
	text   strings.Builder
	kinds  [][]string
	kindOf map[string]uint32 // a kind's number
	ways   []way
	refs   []int64 // of all ways

	ids    []int64 // of the nodes that ways need, in order, once each
	points []point // where they are
	open   int     // how many are not found yet
}

// way is one whose nodes' places are wanted.
type way struct {
	place    int // its number
	from, to int // its nodes among refs
}

// first is the first pass: places, and which nodes are wanted.
func (c *collector) first() visitor {
	return visitor{
		located: func(ids []int64, _ []point) { c.seen.Add(int64(len(ids))) },
		tagged: func(id int64, at point, t *tags) {
			if len(t[name]) == 0 || at == nowhere {
				return
			}
			if kind, ok := t.kind(); ok {
				c.mu.Lock()
				defer c.mu.Unlock()
				c.add(id<<1, at, kind, t)
			}
		},
		way: func(id int64, refs []int64, at []point, t *tags) {
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
			if !c.add(id<<1|1, where, kind, t) || where != nowhere {
				return
			}
			from := len(c.refs)
			c.refs = append(c.refs, refs...)
			c.ways = append(c.ways, way{len(c.places) - 1, from, len(c.refs)})
		},
	}
}

// add keeps a place.
func (c *collector) add(id int64, at point, kind string, t *tags) bool {
	from := c.text.Len()
	if from > math.MaxUint32-3*len(t)*longest {
		c.err = errors.New("more than 4 GiB of names")
		return false
	}
	c.text.Write(t[name])
	vicinity := t.appendVicinity(nil)
	c.text.Write(vicinity)
	c.places = append(c.places, place{
		id: id, at: at, text: uint32(from), name: uint16(len(t[name])), vicinity: uint16(len(vicinity)), kind: c.number(kind),
	})
	return true
}

// number returns a kind's number; its types are kept once for all places.
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

// gather makes the table of the nodes that are wanted.
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

// second is the second pass: where the wanted nodes are.
func (c *collector) second() visitor {
	return visitor{
		enough: func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.open == 0
		},
		located: func(ids []int64, at []point) {
			// Both are in order, but for odd files: one runs along the other.
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

// settle gives the ways the places that the second pass found.
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

// centre returns the middle of the box around the points that are somewhere, or
// nowhere. A way is no half of the Earth wide: one from 179° to -179° crosses the
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
