package wire

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
)

// maxSeconds is the latest time that a client may send (C8). In nanoseconds it fits an int64
// and leaves room for the minute that S2 adds.
const maxSeconds = 9_200_000_000

const second = 1_000_000_000 // ns

var (
	errTimeMissing = &SyntaxError{"C8", "no time"}
	errTimeForm    = &SyntaxError{"C8", "time is not 1 to 10 digits with an optional fraction"}
	errTimeLate    = &SyntaxError{"C8", "time after 9200000000"}
	errTimeLong    = &SyntaxError{"C8", "time longer than 64 bytes"}

	errSkewForm  = &SyntaxError{"C10", "skew is not a sign, seconds and nine decimals"}
	errSkewRange = &SyntaxError{"C10", "skew beyond what nanoseconds in 64 bits hold"}
)

// scanTime parses the client's time (C8) that begins at i to nanoseconds since 1970, from 0 to
// 9200000000 s, and returns where it ends. The result is exact, without fraction digits past
// the ninth. These are still checked: a time after 9200000000 only by them is refused too.
func scanTime(text []byte, i int) (ns int64, end int, err error) {
	if i == len(text) {
		return 0, 0, errTimeMissing
	}
	seconds, end := number(text, i, 10)
	if end == i {
		return 0, 0, errTimeForm
	}
	var fraction uint64
	if end < len(text) && text[end] == '.' {
		point := end
		fraction, end = number(text, point+1, 9)
		if end == point+1 {
			return 0, 0, errTimeForm
		}
		fraction *= pow10[point+1+9-end]
		if end < len(text) && isDigit(text[end]) {
			more, nonzero := skipDigits(text, end)
			if end = more; nonzero && seconds == maxSeconds {
				return 0, 0, errTimeLate
			}
		}
	}
	if end-i > maxField {
		return 0, 0, errTimeLong
	}
	if seconds > maxSeconds || seconds == maxSeconds && fraction > 0 {
		return 0, 0, errTimeLate
	}
	return int64(seconds*second + fraction), end, nil
}

// AppendSkew appends ns as a skew (C10): always a sign, then seconds with nine decimals.
// Every int64 can be written.
func AppendSkew(dst []byte, ns int64) []byte {
	sign, u := byte('+'), uint64(ns)
	if ns < 0 {
		sign, u = '-', -u
	}
	seconds, fraction := u/second, u%second
	dst = append(dst, sign)
	if seconds < 10 { // nearly always
		dst = append(dst, byte('0'+seconds))
	} else {
		if upper := seconds / 100_000_000; upper > 0 {
			dst = strconv.AppendUint(dst, upper, 10)
			dst = binary.LittleEndian.AppendUint64(dst, digits(seconds%100_000_000))
		} else {
			text := digits(seconds)
			zeros := bits.TrailingZeros64(text^'0'*ones) / 8
			dst = binary.LittleEndian.AppendUint64(dst, text>>(8*zeros))
			dst = dst[:len(dst)-zeros]
		}
	}
	dst = append(dst, '.')
	dst = binary.LittleEndian.AppendUint64(dst, digits(fraction/10))
	return append(dst, byte('0'+fraction%10))
}

// scanSkew parses from i on what AppendSkew writes, and nothing else (C10): no superfluous
// zeros before the seconds, exactly nine decimals, and a zero skew is positive. It returns
// where the skew ends.
func scanSkew(text []byte, i int) (ns int64, end int, err error) {
	if i == len(text) || text[i] != '+' && text[i] != '-' {
		return 0, 0, errSkewForm
	}
	seconds, point := number(text, i+1, 10)
	if point == i+1 || point == len(text) || text[point] != '.' || text[i+1] == '0' && point > i+2 {
		return 0, 0, errSkewForm
	}
	fraction, end := number(text, point+1, 9)
	if end != point+10 {
		return 0, 0, errSkewForm
	}
	u := seconds*second + fraction // at most 9999999999.999999999, which fits
	if text[i] == '+' {
		if u > math.MaxInt64 {
			return 0, 0, errSkewRange
		}
		return int64(u), end, nil
	}
	if u == 0 {
		return 0, 0, errSkewForm
	}
	if u > -math.MinInt64 {
		return 0, 0, errSkewRange
	}
	return -int64(u), end, nil
}
