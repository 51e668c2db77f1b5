package main

import (
	"fmt"
	"io"
	"strings"

	"rsc.io/qr"
)

// quiet is the width of the white border of a QR code, in modules.
const quiet = 4

// writeQR prints text as a QR code, two modules per character, one above the other. With colours it
// is black on white on any terminal; without, it is right on a dark one, and scanners
// take most that are inverted.
func writeQR(w io.Writer, text string, colours bool) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return fmt.Errorf("make a QR code: %w", err)
	}
	begin, end := "", "\n"
	upper, lower, both, none := "▄", "▀", " ", "█" // drawn is what is white
	if colours {
		begin, end = "\x1b[30;107m", "\x1b[0m\n"
		upper, lower, both, none = "▀", "▄", "█", " " // drawn is what is black
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString(begin)
		for x := -quiet; x < code.Size+quiet; x++ {
			switch above, below := code.Black(x, y), code.Black(x, y+1); {
			case above && below:
				b.WriteString(both)
			case above:
				b.WriteString(upper)
			case below:
				b.WriteString(lower)
			default:
				b.WriteString(none)
			}
		}
		b.WriteString(end)
	}
	_, err = io.WriteString(w, b.String())
	return err
}
