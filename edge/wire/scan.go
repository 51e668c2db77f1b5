package wire

import (
	"encoding/binary"
	"math/bits"
)

// Parsing spends nearly all its time looking at bytes, so the functions here look at eight at
// once: a word holds the first byte of the text in its lowest bits. Each test marks the bytes
// that it finds by their highest bit. A borrow or carry can only mark a byte above one that
// is marked correctly, so the lowest mark is always correct, and only that one is used.

const (
	ones  = 0x0101010101010101
	highs = 0x80 * ones
)

// word returns the eight bytes of text from i on, with zeros after the end of text.
func word(text []byte, i int) uint64 {
	if i+8 <= len(text) {
		return binary.LittleEndian.Uint64(text[i:])
	}
	if len(text) >= 8 {
		return binary.LittleEndian.Uint64(text[len(text)-8:]) >> (8 * uint(i+8-len(text)))
	}
	var w uint64
	for at, b := range text[i:] {
		w |= uint64(b) << (8 * at)
	}
	return w
}

// fieldEnd returns where the field that begins at i ends: at the next white space or at the
// end of text.
func fieldEnd(text []byte, i int) int {
	for i+8 <= len(text) {
		w := binary.LittleEndian.Uint64(text[i:])
		low := (w - (' '+1)*ones) &^ w & highs // a space or a control character
		if low == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(low) / 8
		if IsSpace(text[i]) {
			return i
		}
		i++
	}
	for i < len(text) && !IsSpace(text[i]) {
		i++
	}
	return i
}

// skipSpace returns the end of the white space that begins at i.
func skipSpace(text []byte, i int) int {
	for i < len(text) && IsSpace(text[i]) {
		i++
	}
	return i
}

// digitRun returns how many of a word's first bytes are digits, and their values, one per
// byte. The bytes above them are not cleared.
func digitRun(w uint64) (n int, values uint64) {
	values = w ^ '0'*ones
	return bits.TrailingZeros64((values+(0x80-10)*ones|values)&highs) / 8, values
}

// skipDigits returns where the digits that begin at i end, and whether one of them is not
// zero.
func skipDigits(text []byte, i int) (end int, nonzero bool) {
	for {
		n, values := digitRun(word(text, i))
		nonzero = nonzero || values<<(64-8*n) != 0
		if i += n; n < 8 {
			return i, nonzero
		}
	}
}

// number parses the digits of text that begin at i, at most most of them (8 to 19). It
// returns their value and where they end.
func number(text []byte, i, most int) (value uint64, end int) {
	n, v := digitRun(word(text, i))
	// Shifted up, the digits become the last of eight, with zeros before them. Then
	// neighbours are combined: digits to pairs, pairs to fours, fours to eight.
	v <<= 64 - 8*n
	v = (v*10 + v>>8) & 0x00ff00ff00ff00ff
	v = (v*100 + v>>16) & 0x0000ffff0000ffff
	value = (v*10_000 + v>>32) & 0xffffffff
	end = i + n
	if n == 8 {
		for end < len(text) && end < i+most && isDigit(text[end]) {
			value = value*10 + uint64(text[end]-'0')
			end++
		}
	}
	return value, end
}

// digits is the reverse of number: it returns the eight digits of a value below 100,000,000
// as a word, the first digit in the lowest bits.
func digits(value uint64) uint64 {
	// Two fours, then four pairs, then eight digits. 10486/2^20 and 103/2^10 divide by 100
	// and by 10 exactly for all values that occur here.
	v := value/10_000 | value%10_000<<32
	upper := v * 10_486 >> 20 & 0x0000007f_0000007f
	v = upper | (v-100*upper)<<16
	upper = v * 103 >> 10 & 0x000f_000f_000f_000f
	return upper | (v-10*upper)<<8 | '0'*ones
}

var pow10 = [...]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9}
