package osm

import (
	"bufio"
	"context"
	"io"
	"math"

	data "github.com/paulmach/osm"
	"github.com/paulmach/osm/osmxml"
)

// scanXML hands v all that is in r, on the caller's goroutine. It looks at ctx once an
// element.
func scanXML(ctx context.Context, r io.Reader, v visitor) error {
	return guard(func() error {
		s := osmxml.New(ctx, bufio.NewReaderSize(r, 1<<16))
		defer s.Close()
		var t tags
		var refs []int64
		for (v.enough == nil || !v.enough()) && s.Scan() {
			switch e := s.Object().(type) {
			case *data.Node:
				at := degrees(e.Lat, e.Lon)
				v.located([]int64{int64(e.ID)}, []point{at})
				if v.tagged != nil && t.read(e.Tags) {
					v.tagged(int64(e.ID), at, &t)
				}
			case *data.Way:
				if v.way == nil {
					continue
				}
				refs = refs[:0]
				for _, n := range e.Nodes {
					refs = append(refs, int64(n.ID))
				}
				t.read(e.Tags)
				v.way(int64(e.ID), refs, nil, &t)
			}
		}
		return s.Err()
	})
}

// read sets t to what list says, and reports whether that is anything.
func (t *tags) read(list data.Tags) (any bool) {
	*t = tags{}
	for _, tag := range list {
		if k, known := keyOf[tag.Key]; known {
			t.set(k, []byte(tag.Value))
			any = true
		}
	}
	return any
}

// degrees returns the point of two numbers; what is beyond the poles or 180° is nowhere.
func degrees(lat, lon float64) point {
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) { // NaN included
		return nowhere
	}
	return point{int32(math.Round(lat * 1e7)), int32(math.Round(lon * 1e7))}
}
