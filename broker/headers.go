package broker

import (
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// A decoder reads headers strictly (H9) and keeps the first error. Headers that it does not
// read are ignored.
type decoder struct {
	h   nats.Header
	err error
}

func (d *decoder) bad(key, value, why string) {
	if d.err == nil {
		d.err = fmt.Errorf("%s %.40q: %s", key, value, why)
	}
}

// value returns "" only if the header is absent and not needed.
func (d *decoder) value(key string, needed bool) string {
	values, ok := d.h[key]
	switch {
	case !ok && !needed:
	case !ok:
		d.bad(key, "", "missing")
	case len(values) != 1:
		d.bad(key, "", "not given exactly once")
	case values[0] == "":
		d.bad(key, "", "empty")
	default:
		return values[0]
	}
	return ""
}

func (d *decoder) flag(key string) bool {
	v := d.value(key, false)
	if v != "" && v != "1" {
		d.bad(key, v, "not 1")
	}
	return v == "1"
}

func (d *decoder) epoch(key string, needed bool) string {
	v := d.value(key, needed)
	if v != "" && !isEpoch(v) {
		d.bad(key, v, "not an epoch")
	}
	return v
}

func (d *decoder) number(key string) uint64 {
	v := d.value(key, true)
	if v == "" {
		return 0
	}
	n, ok := parseNumber(v)
	if !ok {
		d.bad(key, v, "not a number")
	}
	return n
}

// The range of a neighbour's heartbeat (H8), which is that of HERD_HEARTBEAT. After a shorter
// one the neighbour would count as silent in an instant; a longer one would never be missed.
const (
	minInterval = 10 * time.Millisecond
	maxInterval = 24 * time.Hour
)

func (d *decoder) interval(key string) time.Duration {
	v := d.value(key, false)
	if v == "" {
		return 0
	}
	i, err := time.ParseDuration(v)
	if err != nil || i < minInterval || i > maxInterval {
		d.bad(key, v, "not a duration of 10ms to 24h")
	}
	return i
}

func (d *decoder) level(key string) int {
	switch v := d.value(key, false); v {
	case "":
		return 0
	case levelOpen:
		return LevelOpen
	case levelSettled:
		return LevelSettled
	default:
		n, ok := parseNumber(v)
		if !ok || n >= LevelOpen {
			d.bad(key, v, "not a number, open or settled")
			return 0
		}
		return int(n)
	}
}

func (d *decoder) clock(key string) int64 {
	v := d.value(key, false)
	if v == "" {
		return 0
	}
	ns, ok := parseClock(v)
	if !ok {
		d.bad(key, v, "not seconds with nine decimals")
	}
	return ns
}

// isEpoch reports whether text has the form of an epoch (H3): 16 hex digits, '-', 8 hex
// digits. Only lower case is valid, so that byte order is order of age.
func isEpoch(text string) bool {
	if len(text) != 25 {
		return false
	}
	for i := range len(text) {
		c := text[i]
		switch {
		case i == 16:
			if c != '-' {
				return false
			}
		case '0' <= c && c <= '9', 'a' <= c && c <= 'f':
		default:
			return false
		}
	}
	return true
}

// parseNumber parses a decimal number in the form of strconv.FormatUint, and in no other.
func parseNumber(text string) (uint64, bool) {
	if text == "" || len(text) > 20 || text[0] == '0' && len(text) > 1 {
		return 0, false
	}
	var n uint64
	for i := range len(text) {
		c := uint64(text[i] - '0')
		if c > 9 || n > (math.MaxUint64-c)/10 {
			return 0, false
		}
		n = n*10 + c
	}
	return n, true
}

// appendClock appends Unix nanoseconds as seconds with nine decimals. ns must not be
// negative.
func appendClock(dst []byte, ns int64) []byte {
	dst = strconv.AppendInt(dst, ns/1e9, 10)
	dst = append(dst, '.')
	for unit := int64(1e8); unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+ns/unit%10))
	}
	return dst
}

// parseClock parses what appendClock writes.
func parseClock(text string) (int64, bool) {
	point := len(text) - 10
	if point < 1 || text[point] != '.' {
		return 0, false
	}
	seconds, ok := parseNumber(text[:point])
	if !ok || seconds >= math.MaxInt64/1_000_000_000 {
		return 0, false
	}
	var ns int64
	for _, c := range []byte(text[point+1:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		ns = ns*10 + int64(c-'0')
	}
	return int64(seconds)*1e9 + ns, true
}
