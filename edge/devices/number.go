package devices

// maxNumber bounds the digits that an exponent may move a point by. What goes further is beyond
// any degree, or longer than a location may be (C7).
const maxNumber = 64

// A decimal is a number's text, taken apart. Nothing is rounded: the digits are those that were
// sent. Its slices alias the text.
type decimal struct {
	negative    bool
	whole, frac []byte // digits before and behind the point
	exponent    int
}

// parseDecimal parses a number as apps and JSON write it: a sign, digits, a point, an exponent;
// a digit at least. It reports whether text is one.
func parseDecimal(text []byte) (d decimal, ok bool) {
	i := 0
	if i < len(text) && (text[i] == '+' || text[i] == '-') {
		d.negative = text[i] == '-'
		i++
	}
	d.whole, i = digitsFrom(text, i)
	if i < len(text) && text[i] == '.' {
		d.frac, i = digitsFrom(text, i+1)
	}
	if len(d.whole)+len(d.frac) == 0 {
		return decimal{}, false
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		negative := false
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			negative = text[i] == '-'
			i++
		}
		power, end := digitsFrom(text, i)
		if len(power) == 0 {
			return decimal{}, false
		}
		for _, b := range power {
			d.exponent = min(d.exponent*10+int(b-'0'), maxNumber+1)
		}
		if negative {
			d.exponent = -d.exponent
		}
		i = end
	}
	return d, i == len(text)
}

// digitsFrom returns the digits of text from i on, and where they end.
func digitsFrom(text []byte, i int) (digits []byte, end int) {
	for end = i; end < len(text) && text[end]-'0' <= 9; end++ {
	}
	return text[i:end], end
}

// append appends the number without sign, exponent and superfluous zeros before it. It reports
// whether the number could be written in the length that any field of a command may have.
func (d *decimal) append(dst []byte) ([]byte, bool) {
	whole, frac := d.whole, d.frac
	if d.exponent != 0 {
		if len(whole)+len(frac) > maxNumber || d.exponent > maxNumber || d.exponent < -maxNumber {
			return dst, false
		}
		// The digits with zeros around them, so that the point may be anywhere.
		var room [4 * maxNumber]byte
		digits := room[:0]
		for range maxNumber {
			digits = append(digits, '0')
		}
		digits = append(append(digits, whole...), frac...)
		point := maxNumber + len(whole) + d.exponent
		end := len(digits)
		for len(digits) < point {
			digits = append(digits, '0')
		}
		whole, frac = digits[:point], digits[point:max(point, end)]
	}
	for len(whole) > 1 && whole[0] == '0' {
		whole = whole[1:]
	}
	if len(whole) == 0 {
		dst = append(dst, '0')
	}
	dst = append(dst, whole...)
	if len(frac) > 0 {
		dst = append(append(dst, '.'), frac...)
	}
	return dst, true
}

// appendLocation appends a latitude and a longitude, each the text of a number in degrees, as a
// location (C7), digit by digit. Whether they are within their ranges is not looked at.
func appendLocation(dst, lat, lon []byte) ([]byte, bool) {
	for _, text := range [2][]byte{lat, lon} {
		d, ok := parseDecimal(text)
		if !ok {
			return dst, false
		}
		sign := byte('+')
		if d.negative {
			sign = '-'
		}
		if dst, ok = d.append(append(dst, sign)); !ok {
			return dst, false
		}
	}
	return dst, true
}
