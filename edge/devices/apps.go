package devices

import "bytes"

// An App is a form in which positions are sent, as metrics name it.
type App uint8

const (
	Unknown   App = iota // no parser knows it, or it was refused before it was read
	OsmAnd               // the OsmAnd form: Traccar Client up to 8 and from 10, OsmAnd, GPSLogger
	Traccar              // Traccar Client 9
	OwnTracks            //
	Overland             //
	Lines                // a WebSocket with the line protocol (V2)
	Page                 // the page for people
	apps
)

func (a App) String() string {
	return [apps]string{"unknown", "osmand", "traccar", "owntracks", "overland", "lines", "page"}[a]
}

// body is what the app has to be told, besides 200, to forget what it sent (V4).
func (a App) body() (text, contentType string) {
	switch a {
	case OwnTracks:
		return "[]", "application/json"
	case Overland:
		return `{"result":"ok"}`, "application/json"
	}
	return "", ""
}

// input is one request, as far as a parser wants to know it.
type input struct {
	get           bool // the method was GET
	query         []byte
	body          []byte
	user, device  []byte // headers X-Limit-U and X-Limit-D
	authenticated []byte // the name of the user; nil: nobody in particular
}

// A report is what a request says. Its positions are in buffers of its own.
type report struct {
	app       App
	encrypted bool // OwnTracks: nobody here has the key
	positions []span
	invalid   int // positions that never can be one (C7, C8)
	text      []byte
	device    []byte // the id of those that have none of their own: one text for many positions
}

// A span is where in report.text one position is: its id, location and time, one behind the other.
type span struct {
	id, location, time, end uint32
	named                   bool // it has an id of its own
}

// add adds a position; when is empty for the moment of receipt. big is appendTime's.
func (r *report) add(id []byte, named bool, lat, lon, when []byte, big bool, now int64) {
	start := len(r.text)
	s := span{id: uint32(start), named: named}
	r.text = append(r.text, id...)
	s.location = uint32(len(r.text))
	var ok bool
	if r.text, ok = appendLocation(r.text, lat, lon); ok {
		s.time = uint32(len(r.text))
		if when = bytes.TrimSpace(when); len(when) == 0 {
			r.text = appendNow(r.text, now)
		} else {
			r.text, ok = appendTime(r.text, when, big)
		}
	}
	if !ok {
		r.text = r.text[:start]
		r.invalid++
		return
	}
	s.end = uint32(len(r.text))
	r.positions = append(r.positions, s)
}

// parse makes out what a request says, whichever app sent it, at a moment in nanoseconds since
// 1970. It reports whether any parser knows it; r is to be empty.
func (r *report) parse(in *input, now int64) bool {
	body := bytes.TrimSpace(in.body)
	isJSON := len(body) > 0 && body[0] == '{'
	if isJSON && r.parseJSON(in, body, now) {
		return true
	}
	if isJSON {
		*r = report{text: r.text[:0], positions: r.positions[:0]}
		body = nil
	}
	if r.parseForm(in.query, body, now) {
		return true
	}
	// OwnTracks sends empty bodies. It is known by its name too, so what it sends is never 400, even what
	// cannot be read (V4): that never can be a position, and would come again as it is. An app that
	// is told 400 keeps it in front of all others for weeks (Android), or alerts its user (iOS).
	if !in.get && len(in.body) == 0 && len(in.query) == 0 || in.ownTracks() {
		r.app = OwnTracks
		if len(bytes.TrimSpace(in.body)) > 0 {
			r.invalid++ // so that it shows
		}
		return true
	}
	return false
}
