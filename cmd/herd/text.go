package main

import (
	"strconv"
	"unicode/utf8"
)

// appendPrintable appends text in a form that is safe for a terminal: what does not print,
// and the backslash, is escaped as in Go; invalid UTF-8 is escaped byte by byte.
func appendPrintable(dst, text []byte) []byte {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		switch {
		case r == utf8.RuneError && n == 1:
			dst = append(dst, `\x`...)
			dst = append(dst, "0123456789abcdef"[text[0]>>4], "0123456789abcdef"[text[0]&15])
		case r == '\\':
			dst = append(dst, `\\`...)
		case strconv.IsPrint(r):
			dst = append(dst, text[:n]...)
		default:
			quoted := strconv.AppendQuoteRune(nil, r)
			dst = append(dst, quoted[1:len(quoted)-1]...)
		}
		text = text[n:]
	}
	return dst
}

func printable(text string) string { return string(appendPrintable(nil, []byte(text))) }
