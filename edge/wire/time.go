package wire

import "math"

// maxSeconds is the latest client time, exactly (C8). In nanoseconds it fits an
// int64, and leaves room for the minute that S2 adds.
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

// ParseTime reads a client's time (C8) as nanoseconds since 1970, from 0 to
// 9200000000 s. It is exact; fraction digits past the ninth are left out of the
// result, though a time after 9200000000 by those alone is refused too.
func ParseTime(text []byte) (ns int64, err error) {
	if len(text) > maxField {
		return 0, errTimeLong
	}
	point := 0 // where the integer digits end
	for point < len(text) && isDigit(text[point]) {
		ns = ns*10 + int64(text[point]-'0') // may wrap beyond 10 digits, which are refused
		point++
	}
	if point == 0 || point > 10 {
		return 0, errTimeForm
	}
	if ns > maxSeconds {
		return 0, errTimeLate
	}
	last := ns == maxSeconds
	if point == len(text) {
		return ns * second, nil
	}
	fraction := text[point+1:]
	if text[point] != '.' || len(fraction) == 0 {
		return 0, errTimeForm
	}
	nonzero := byte(0)
	for i, b := range fraction {
		if !isDigit(b) {
			return 0, errTimeForm
		}
		nonzero |= b - '0'
		if i < 9 {
			ns = ns*10 + int64(b-'0')
		}
	}
	if last && nonzero != 0 {
		return 0, errTimeLate
	}
	for i := len(fraction); i < 9; i++ {
		ns *= 10
	}
	return ns, nil
}

// AppendSkew appends ns as C10 writes a skew: always a sign, then seconds with
// nine decimals. Any int64 can be written.
func AppendSkew(dst []byte, ns int64) []byte {
	sign, u := byte('+'), uint64(ns)
	if ns < 0 {
		sign, u = '-', -u
	}
	seconds, fraction := u/second, u%second
	var text [21]byte // sign, 10 digits, point, 9 digits; written from its end
	at := len(text)
	for range 9 {
		at--
		text[at] = byte('0' + fraction%10)
		fraction /= 10
	}
	at--
	text[at] = '.'
	for {
		at--
		text[at] = byte('0' + seconds%10)
		if seconds /= 10; seconds == 0 {
			break
		}
	}
	at--
	text[at] = sign
	return append(dst, text[at:]...)
}

// ParseSkew reads what AppendSkew writes, and nothing else (C10): no superfluous
// zeros before the seconds, exactly nine decimals, and a zero skew is positive.
func ParseSkew(text []byte) (ns int64, err error) {
	// Shortest "+0.000000000", longest with 10 integer digits.
	point := len(text) - 10
	if point < 2 || point > 11 || text[point] != '.' || text[0] != '+' && text[0] != '-' {
		return 0, errSkewForm
	}
	if text[1] == '0' && point > 2 {
		return 0, errSkewForm
	}
	var u uint64 // at most 9999999999.999999999, which fits
	for i := 1; i < len(text); i++ {
		if i == point {
			continue
		}
		if !isDigit(text[i]) {
			return 0, errSkewForm
		}
		u = u*10 + uint64(text[i]-'0')
	}
	if text[0] == '+' {
		if u > math.MaxInt64 {
			return 0, errSkewRange
		}
		return int64(u), nil
	}
	if u == 0 {
		return 0, errSkewForm
	}
	if u > -math.MinInt64 {
		return 0, errSkewRange
	}
	return -int64(u), nil
}
