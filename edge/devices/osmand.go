package devices

import "bytes"

// osmand has the fields of the OsmAnd form that say where a device is. What else is sent is ignored.
type osmand struct {
	id, lat, lon, location, time []byte
	known                        bool // one of the form's fields occurs
}

// field returns where to put the value of a field; nil where it does not matter.
func (o *osmand) field(name []byte) *[]byte {
	switch string(name) {
	case "id", "deviceid":
		return &o.id
	case "lat":
		return &o.lat
	case "lon":
		return &o.lon
	case "location":
		return &o.location
	case "timestamp":
		return &o.time
	}
	return nil
}

// parseForm parses the OsmAnd form: a query, or a body like a query. Of a field that occurs more
// than once the first counts.
func (r *report) parseForm(query, body []byte, now int64) bool {
	var o osmand
	o.pairs(query)
	o.pairs(body)
	if !o.known {
		return false
	}
	r.app = OsmAnd
	o.report(r, now)
	return true
}

// report adds the position, unless there is none: Traccar Client 10's heartbeats have none.
func (o *osmand) report(r *report, now int64) {
	lat, lon := o.lat, o.lon
	if len(lat) == 0 && len(lon) == 0 {
		if len(o.location) == 0 {
			return
		}
		lat, lon, _ = bytes.Cut(o.location, []byte(","))
	}
	r.add(o.id, true, bytes.TrimSpace(lat), bytes.TrimSpace(lon), o.time, true, now)
}

// pairs reads name=value&name=value.
func (o *osmand) pairs(text []byte) {
	for len(text) > 0 {
		var pair []byte
		if i := bytes.IndexByte(text, '&'); i >= 0 {
			pair, text = text[:i], text[i+1:]
		} else {
			pair, text = text, nil
		}
		name, value, _ := bytes.Cut(pair, []byte("="))
		if to := o.field(unescape(name)); to != nil {
			if o.known = true; *to == nil {
				*to = unescape(value)
			}
		}
	}
}

// unescape decodes %XX and + once. What is no escape stays as it is. The result aliases text
// where there is nothing to decode.
func unescape(text []byte) []byte {
	if bytes.IndexByte(text, '%') < 0 && bytes.IndexByte(text, '+') < 0 {
		return text
	}
	plain := make([]byte, 0, len(text))
	for i := 0; i < len(text); i++ {
		switch b := text[i]; {
		case b == '+':
			plain = append(plain, ' ')
		case b == '%' && i+2 < len(text) && hex(text[i+1]) >= 0 && hex(text[i+2]) >= 0:
			plain = append(plain, byte(hex(text[i+1])<<4|hex(text[i+2])))
			i += 2
		default:
			plain = append(plain, b)
		}
	}
	return plain
}

func hex(b byte) int {
	switch {
	case b-'0' <= 9:
		return int(b - '0')
	case b|0x20 >= 'a' && b|0x20 <= 'f':
		return int(b|0x20-'a') + 10
	}
	return -1
}
