package devices

import (
	"bytes"
	"strconv"
)

// milliseconds is the least number that means milliseconds where seconds and milliseconds are told
// apart by size (2^31-1).
const milliseconds = "2147483647"

// appendTime appends the text of a moment as an IAMAT's time (C8), exactly. It takes seconds since
// 1970; milliseconds, if big is set and the number is large; and ISO 8601, with an offset from
// UTC, with Z, or without either, which is UTC. It reports whether text is such a moment, not
// whether C8 allows it.
func appendTime(dst, text []byte, big bool) ([]byte, bool) {
	d, ok := parseDecimal(text)
	if !ok {
		return appendISO(dst, text)
	}
	if d.negative {
		return dst, false
	}
	if big && d.exponent == 0 && isBig(d.whole) {
		d.exponent = -3
	}
	return d.append(dst)
}

func isBig(whole []byte) bool {
	whole = bytes.TrimLeft(whole, "0")
	return len(whole) > len(milliseconds) || len(whole) == len(milliseconds) && string(whole) >= milliseconds
}

// appendNow appends the moment of receipt, in nanoseconds since 1970 and never negative.
func appendNow(dst []byte, now int64) []byte {
	dst = strconv.AppendInt(dst, now/1e9, 10)
	dst = append(dst, '.')
	for unit := int64(1e8); unit > 0; unit /= 10 {
		dst = append(dst, byte('0'+now/unit%10))
	}
	return dst
}

// appendISO is appendTime for ISO 8601: 2026-01-02T03:04:05.678-0700. Seconds, their fraction and
// the offset may be missing, and a space may stand for the T, or for a + that a query lost.
func appendISO(dst, text []byte) ([]byte, bool) {
	s := isoScan{text: text}
	year, month, day := s.number(4), s.then('-', '-').number(2), s.then('-', '-').number(2)
	hour, minute := s.then('T', ' ').number(2), s.then(':', ':').number(2)
	second := 0
	var frac []byte
	if s.at(':') {
		s.i++
		second = s.number(2)
		if s.at('.') || s.at(',') {
			if frac, s.i = digitsFrom(text, s.i+1); len(frac) == 0 {
				return dst, false
			}
		}
	}
	offset := s.offset()
	switch {
	case s.bad, s.i != len(text), month < 1, month > 12, day < 1, day > monthDays(year, month),
		hour > 23, minute > 59, second > 60: // a leap second
		return dst, false
	}
	unix := daysBefore(year, month, day)*86400 + int64(hour*3600+minute*60+second-offset)
	if unix < 0 {
		return dst, false
	}
	dst = strconv.AppendInt(dst, unix, 10)
	if len(frac) > 0 {
		dst = append(append(dst, '.'), frac...)
	}
	return dst, true
}

// isoScan reads a time from the left.
type isoScan struct {
	text []byte
	i    int
	bad  bool
}

func (s *isoScan) at(b byte) bool { return s.i < len(s.text) && s.text[s.i] == b }

// then skips one of two bytes, which has to come.
func (s *isoScan) then(a, b byte) *isoScan {
	if s.at(a) || s.at(b) {
		s.i++
	} else {
		s.bad = true
	}
	return s
}

// number reads exactly so many digits.
func (s *isoScan) number(digits int) (n int) {
	for range digits {
		if s.i == len(s.text) || s.text[s.i]-'0' > 9 {
			s.bad = true
			return 0
		}
		n = n*10 + int(s.text[s.i]-'0')
		s.i++
	}
	return n
}

// offset reads Z, ±hh, ±hhmm, ±hh:mm or nothing, and returns it in seconds east of UTC.
func (s *isoScan) offset() int {
	switch {
	case s.i == len(s.text):
		return 0
	case s.at('Z'), s.at('z'):
		s.i++
		return 0
	}
	west := s.at('-')
	if !west && !s.at('+') && !s.at(' ') {
		s.bad = true
		return 0
	}
	s.i++
	hours, minutes := s.number(2), 0
	if s.at(':') {
		s.i++
	}
	if s.i < len(s.text) {
		minutes = s.number(2)
	}
	if hours > 23 || minutes > 59 {
		s.bad = true
	}
	if seconds := hours*3600 + minutes*60; west {
		return -seconds
	} else {
		return seconds
	}
}

func monthDays(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// daysBefore returns the days from 1970-01-01 to a date of the Gregorian calendar.
func daysBefore(year, month, day int) int64 {
	if month <= 2 { // years begin with March, so that the leap day is the last
		year, month = year-1, month+12
	}
	return int64(365*year+floorDiv(year, 4)-floorDiv(year, 100)+floorDiv(year, 400)+(153*(month-3)+2)/5+day-1) - 719468
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}
