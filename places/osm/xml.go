package osm

import (
	"bufio"
	"bytes"
	"context"
	encoding "encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"

	"golang.org/x/text/encoding/ianaindex"
	"golang.org/x/text/encoding/unicode"
)

// An element is a node or a way in XML. Coordinates are pointers because a missing one is not
// 0.
type element struct {
	ID      int64  `xml:"id,attr"`
	Version uint32 `xml:"version,attr"`
	Visible string `xml:"visible,attr"`
	Action  string `xml:"action,attr"` // in an editor's file: what to do with the element
	where
	Center *where `xml:"center"` // Overpass: out center
	Nodes  []struct {
		Ref int64 `xml:"ref,attr"`
		where
	} `xml:"nd"`
	Tags []struct {
		Key   string `xml:"k,attr"`
		Value string `xml:"v,attr"`
	} `xml:"tag"`
}

type where struct {
	Lat *float64 `xml:"lat,attr"`
	Lon *float64 `xml:"lon,attr"`
}

// scanXML passes the elements of r to v, on the caller's goroutine. It checks ctx once per
// element.
func scanXML(ctx context.Context, r io.Reader, v visitor) error {
	return guard(func() error {
		d := encoding.NewDecoder(fromUTF16(bufio.NewReaderSize(r, 1<<16)))
		d.CharsetReader = fromCharset
		var t tags
		var refs []int64
		var points []point
		var last previous
		for v.enough == nil || !v.enough() {
			if err := ctx.Err(); err != nil {
				return err
			}
			token, err := d.Token()
			if err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
			start, ok := token.(encoding.StartElement)
			if !ok {
				continue
			}
			if start.Name.Local == "remark" {
				if err := checkRemark(d, &start); err != nil {
					return err
				}
			}
			if start.Name.Local != "node" && start.Name.Local != "way" {
				continue // its children are read, except a relation's
			}
			var e element
			if err := d.DecodeElement(&e, &start); err != nil {
				return err
			}
			if last.differs(start.Name.Local, e.ID, e.Version) {
				return errHistory
			}
			if e.Visible == "false" || e.Action == "delete" {
				continue
			}
			any := t.read(&e)
			if start.Name.Local == "node" {
				at := e.point()
				v.located([]int64{e.ID}, []point{at})
				if v.tagged != nil && any {
					v.tagged(e.ID, e.Version, at, &t)
				}
				continue
			}
			if v.way == nil {
				continue
			}
			refs, points = refs[:0], points[:0]
			for i := range e.Nodes {
				refs = append(refs, e.Nodes[i].Ref)
				if at := e.Nodes[i].point(); at != nowhere {
					points = append(points, at)
				}
			}
			if len(points) == 0 && e.Center != nil {
				points = append(points, e.Center.point())
			}
			v.way(e.ID, e.Version, refs, points, &t)
		}
		return nil
	})
}

// checkRemark refuses an incomplete result of Overpass.
func checkRemark(d *encoding.Decoder, start *encoding.StartElement) error {
	var text string
	if err := d.DecodeElement(&text, start); err != nil {
		return err
	}
	if text = strings.TrimSpace(text); strings.Contains(text, "error") {
		return fmt.Errorf("incomplete, according to its remark: %.200s", text)
	}
	return nil
}

// fromCharset decodes the character set that the extract's first line names. The text up to
// that name was read as XML already, so UTF-16 has been recognized before.
func fromCharset(charset string, r io.Reader) (io.Reader, error) {
	if strings.HasPrefix(strings.ToLower(charset), "utf-16") {
		return r, nil
	}
	e, err := ianaindex.IANA.Encoding(charset)
	if err != nil || e == nil {
		return nil, fmt.Errorf("unknown character set %q", charset)
	}
	return e.NewDecoder().Reader(r), nil
}

// fromUTF16 converts UTF-16 with a byte order mark to UTF-8.
func fromUTF16(r *bufio.Reader) io.Reader {
	begins, err := r.Peek(2)
	if err == nil && (bytes.Equal(begins, []byte{0xFE, 0xFF}) || bytes.Equal(begins, []byte{0xFF, 0xFE})) {
		return unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewDecoder().Reader(r)
	}
	return r
}

// read sets t from an element's tags, and reports whether any is of use.
func (t *tags) read(e *element) (any bool) {
	*t = tags{}
	for i := range e.Tags {
		if k, known := keyOf[e.Tags[i].Key]; known {
			t.set(k, []byte(e.Tags[i].Value))
			any = true
		}
	}
	return any
}

func (w *where) point() point {
	if w.Lat == nil || w.Lon == nil {
		return nowhere
	}
	return degrees(*w.Lat, *w.Lon)
}

// degrees returns the point of two numbers; coordinates beyond the poles or 180° give
// nowhere.
func degrees(lat, lon float64) point {
	if !(math.Abs(lat) <= 90 && math.Abs(lon) <= 180) { // also false for NaN
		return nowhere
	}
	return point{int32(math.Round(lat * 1e7)), int32(math.Round(lon * 1e7))}
}
