package nearby

import (
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

var errNumber = errors.New("write nearby search answer: a number that JSON cannot write")

// Append appends the answer's JSON to dst, one place per line so that people can read it over
// nc, and keeps C14: no two adjacent newlines and none at the end. Nil slices are written as
// empty ones; invalid UTF-8 becomes U+FFFD. The error is for numbers that JSON cannot write
// (NaN, infinities); dst is then returned unchanged.
//
// It is hand-written because every WHATSAT waits for it: it takes half the time of
// encoding/json, allocates nothing, and can put each place on a line of its own.
func (a Answer) Append(dst []byte) ([]byte, error) {
	b := append(dst, `{"html_attributions":`...)
	b = appendStrings(b, a.HTMLAttributions)
	b = append(b, ",\n\"results\":["...)
	for i := range a.Results {
		if a.Results[i].Raw == nil && !a.Results[i].finite() {
			return dst, errNumber
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '\n')
		b = a.Results[i].append(b)
	}
	b = append(b, "],\n\"status\":"...)
	b = appendString(b, string(a.Status))
	if len(a.Others) > 0 {
		b = append(append(b, ",\n"...), a.Others...)
	}
	if a.ErrorMessage != "" {
		b = append(b, ",\n\"error_message\":"...)
		b = appendString(b, a.ErrorMessage)
	}
	return append(b, '}'), nil
}

// append appends the fields sorted by name, the order of Google's own answers.
func (p *Place) append(b []byte) []byte {
	if p.Raw != nil {
		return append(b, p.Raw...)
	}
	b = append(b, '{')
	if p.BusinessStatus != "" {
		b = append(b, `"business_status":`...)
		b = appendString(b, p.BusinessStatus)
		b = append(b, ',')
	}
	b = append(b, `"geometry":{"location":`...)
	b = p.Geometry.Location.append(b)
	if view := p.Geometry.Viewport; view != nil {
		b = append(b, `,"viewport":{"northeast":`...)
		b = view.Northeast.append(b)
		b = append(b, `,"southwest":`...)
		b = view.Southwest.append(b)
		b = append(b, '}')
	}
	b = append(b, `},"name":`...)
	b = appendString(b, p.Name)
	b = append(b, `,"place_id":`...)
	b = appendString(b, p.PlaceID)
	if code := p.PlusCode; code != nil {
		b = append(b, `,"plus_code":{`...)
		if code.CompoundCode != "" {
			b = append(b, `"compound_code":`...)
			b = appendString(b, code.CompoundCode)
			b = append(b, ',')
		}
		b = append(b, `"global_code":`...)
		b = appendString(b, code.GlobalCode)
		b = append(b, '}')
	}
	if p.Rating != 0 {
		b = append(b, `,"rating":`...)
		b = appendNumber(b, p.Rating)
	}
	if len(p.Types) > 0 {
		b = append(b, `,"types":`...)
		b = appendStrings(b, p.Types)
	}
	if p.UserRatingsTotal != 0 {
		b = append(b, `,"user_ratings_total":`...)
		b = strconv.AppendInt(b, int64(p.UserRatingsTotal), 10)
	}
	if p.Vicinity != "" {
		b = append(b, `,"vicinity":`...)
		b = appendString(b, p.Vicinity)
	}
	return append(b, '}')
}

func (l Location) append(b []byte) []byte {
	b = append(b, `{"lat":`...)
	b = appendNumber(b, l.Lat)
	b = append(b, `,"lng":`...)
	b = appendNumber(b, l.Lng)
	return append(b, '}')
}

// finite reports whether JSON can write every number of the place.
func (p *Place) finite() bool {
	// A number that is not finite makes this sum NaN: Inf * 0 is NaN.
	sum := p.Rating*0 + p.Geometry.Location.zero()
	if view := p.Geometry.Viewport; view != nil {
		sum += view.Northeast.zero() + view.Southwest.zero()
	}
	return !math.IsNaN(sum)
}

func (l Location) zero() float64 { return l.Lat*0 + l.Lng*0 }

// appendNumber appends f, which is finite, with the fewest digits that parse to f again.
func appendNumber(b []byte, f float64) []byte {
	return strconv.AppendFloat(b, f, 'f', -1, 64)
}

func appendStrings(b []byte, list []string) []byte {
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendString appends s as a JSON string. It escapes only what JSON requires: attributions
// are HTML and stay readable.
func appendString(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	b = append(b, '"')
	from := 0 // s[from:i] needs no escape
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			if r, size := utf8.DecodeRuneInString(s[i:]); r != utf8.RuneError || size > 1 {
				i += size
				continue
			}
		} else if c >= ' ' && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[from:i]...)
		switch {
		case c >= utf8.RuneSelf:
			b = utf8.AppendRune(b, utf8.RuneError)
		case c == '\n': // never unescaped: C14
			b = append(b, `\n`...)
		case c < ' ':
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		default:
			b = append(b, '\\', c)
		}
		i++
		from = i
	}
	b = append(b, s[from:]...)
	return append(b, '"')
}
