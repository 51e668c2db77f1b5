package devices

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// A scalar is the text of a JSON value as it was sent: a number is never made a float.
type scalar []byte

// UnmarshalJSON keeps a copy of the value's text.
func (s *scalar) UnmarshalJSON(text []byte) error {
	*s = append((*s)[:0], text...)
	return nil
}

// text is a number's text, or a string's content; nil for null and where there is no value.
func (s scalar) text() []byte {
	switch {
	case len(s) == 0, string(s) == "null":
		return nil
	case s[0] != '"':
		return s
	case bytes.IndexByte(s, '\\') < 0:
		return s[1 : len(s)-1]
	}
	var text string
	if json.Unmarshal(s, &text) != nil {
		return nil
	}
	return []byte(text)
}

// ignored is a value that does not matter.
type ignored struct{}

// UnmarshalJSON keeps nothing.
func (*ignored) UnmarshalJSON([]byte) error { return nil }

// feature is one of Overland's positions: a GeoJSON Feature.
type feature struct {
	Geometry struct {
		Coordinates [2]scalar `json:"coordinates"` // longitude, latitude
	} `json:"geometry"`
	Properties struct {
		Timestamp scalar `json:"timestamp"`
		DeviceID  scalar `json:"device_id"`
	} `json:"properties"`
}

// clear makes a feature ready for the next, which uses its room again.
func (f *feature) clear() {
	for _, s := range []*scalar{&f.Geometry.Coordinates[0], &f.Geometry.Coordinates[1], &f.Properties.Timestamp, &f.Properties.DeviceID} {
		*s = (*s)[:0]
	}
}

// fix is one of Traccar Client 9's positions.
type fix struct {
	Timestamp scalar `json:"timestamp"`
	Coords    struct {
		Latitude  scalar `json:"latitude"`
		Longitude scalar `json:"longitude"`
	} `json:"coords"`
}

// document is one JSON object of any app, as it is read.
type document struct {
	d   *json.Decoder
	in  *input
	r   *report
	now int64

	flat     osmand // the OsmAnd form as JSON
	kind     scalar // OwnTracks' _type
	tst      scalar
	topic    scalar
	deviceID scalar
	fixes    []fix
	fixed    bool // there is Traccar Client 9's location
	overland bool
	feature  feature
}

// parseJSON parses the body where that is a JSON object, which says by its fields which app sent
// it. Positions of Overland are taken one by one, so that what is kept is bounded by the body.
func (r *report) parseJSON(in *input, body []byte, now int64) bool {
	doc := document{d: json.NewDecoder(bytes.NewReader(body)), in: in, r: r, now: now}
	if doc.read() != nil {
		return false
	}
	switch {
	case doc.overland:
		r.app, r.device = Overland, firstOf(doc.deviceID.text(), in.authenticated)
	case doc.kind != nil:
		r.app = OwnTracks
		doc.ownTracks()
	case !doc.fixed && doc.flat.known:
		if r.app = OsmAnd; len(doc.flat.id) == 0 {
			doc.flat.id = doc.deviceID.text()
		}
		doc.flat.report(r, now)
	case doc.fixed || doc.deviceID != nil:
		r.app, r.device = Traccar, doc.deviceID.text()
		for i := range doc.fixes {
			if f := &doc.fixes[i]; len(f.Coords.Latitude.text())+len(f.Coords.Longitude.text()) > 0 {
				r.add(nil, false, f.Coords.Latitude.text(), f.Coords.Longitude.text(), f.Timestamp.text(), true, now)
			}
		}
	default:
		return false
	}
	return true
}

func (doc *document) ownTracks() {
	r := doc.r
	switch string(doc.kind.text()) {
	case "location":
		id := doc.in.ownTracksID(nil, doc.topic.text())
		r.add(id, true, doc.flat.lat, doc.flat.lon, doc.tst.text(), false, doc.now)
	case "encrypted":
		r.encrypted = true
	}
}

// read reads the object to its end.
func (doc *document) read() error {
	if _, err := doc.d.Token(); err != nil { // it is {
		return err
	}
	for doc.d.More() {
		name, err := doc.d.Token()
		if err != nil {
			return err
		}
		text, _ := name.(string)
		if err := doc.field(text); err != nil {
			return err
		}
	}
	if _, err := doc.d.Token(); err != nil {
		return err
	}
	if _, err := doc.d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one JSON value")
	}
	return nil
}

// field reads the value of a field.
func (doc *document) field(name string) error {
	switch name {
	case "_type":
		return doc.scalar(&doc.kind)
	case "tst":
		return doc.scalar(&doc.tst)
	case "topic":
		return doc.scalar(&doc.topic)
	case "device_id":
		return doc.scalar(&doc.deviceID)
	case "location":
		return doc.location()
	case "locations":
		return doc.locations()
	case "current":
		if err := doc.decode(&doc.feature); err != nil {
			return err
		}
		doc.take()
		return nil
	}
	to := doc.flat.field([]byte(name))
	if to == nil {
		return doc.decode(new(ignored))
	}
	var value scalar
	if err := doc.scalar(&value); err != nil {
		return err
	}
	doc.flat.known = true
	*to = value.text()
	return nil
}

// decode reads a value. One of another type than is expected leaves out what it cannot fill.
func (doc *document) decode(to any) error {
	err := doc.d.Decode(to)
	if other := new(json.UnmarshalTypeError); errors.As(err, &other) {
		return nil
	}
	return err
}

func (doc *document) scalar(to *scalar) error {
	if err := doc.decode(to); err != nil {
		return err
	}
	if *to == nil {
		*to = scalar{} // null was sent, which is something
	}
	return nil
}

// location reads Traccar Client 9's: one position, several, or none. As a text it is that of the
// OsmAnd form.
func (doc *document) location() error {
	var value scalar
	if err := doc.scalar(&value); err != nil {
		return err
	}
	switch {
	case len(value) > 0 && value[0] == '{':
		doc.fixed = true
		return doc.fix(json.NewDecoder(bytes.NewReader(value)))
	case len(value) > 0 && value[0] == '[':
		doc.fixed = true
		d := json.NewDecoder(bytes.NewReader(value))
		if _, err := d.Token(); err != nil {
			return err
		}
		for d.More() {
			if err := doc.fix(d); err != nil {
				return err
			}
		}
	case value.text() != nil:
		doc.flat.known, doc.flat.location = true, value.text()
	}
	return nil
}

// fix reads one of Traccar Client 9's positions. It is taken when the whole object was read, which
// has the device's id behind it. One without a latitude or longitude is none, and not kept.
func (doc *document) fix(d *json.Decoder) error {
	var f fix
	err := d.Decode(&f)
	if other := new(json.UnmarshalTypeError); err != nil && !errors.As(err, &other) {
		return err
	}
	if len(f.Coords.Latitude)+len(f.Coords.Longitude) > 0 {
		doc.fixes = append(doc.fixes, f)
	}
	return nil
}

// locations reads Overland's array, a position at a time.
func (doc *document) locations() error {
	begin, err := doc.d.Token()
	if err != nil {
		return err
	}
	switch begin {
	case json.Delim('['):
		doc.overland = true
		for doc.d.More() {
			if err := doc.decode(&doc.feature); err != nil {
				return err
			}
			doc.take()
		}
		_, err = doc.d.Token()
		return err
	case json.Delim('{'):
		return doc.skip()
	}
	return nil
}

// skip reads to the end of an object that has begun.
func (doc *document) skip() error {
	for depth := 1; depth > 0; {
		token, err := doc.d.Token()
		if err != nil {
			return err
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

// take adds the feature that was read, if it is a position.
func (doc *document) take() {
	f := &doc.feature
	defer f.clear()
	lon, lat := f.Geometry.Coordinates[0].text(), f.Geometry.Coordinates[1].text()
	if len(lon)+len(lat) == 0 {
		return
	}
	doc.overland = true
	id := f.Properties.DeviceID.text()
	doc.r.add(id, len(id) > 0, lat, lon, f.Properties.Timestamp.text(), false, doc.now)
}
