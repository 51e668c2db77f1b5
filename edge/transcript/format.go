package transcript

import (
	"bytes"
	"encoding/binary"
	"strconv"
	"time"
)

const (
	maxText = 256                              // bytes written of a line, counted before escaping (C20)
	stamp   = "2006-01-02T15:04:05.000000000Z" // RFC 3339 in UTC
)

// before is the text in front of the client's address or the neighbour, and after is the text
// in front of the line's own text.
var (
	before = [...]string{in: " ", out: " ", opened: " ", closed: " ", certified: " ", older: " ", linkIn: " link ", linkOut: " link ", linkUp: " link ", linkDown: " link "}
	after  = [...]string{in: " > ", out: " < ", opened: " + connected", closed: " - closed: ", certified: " + certificate: ", older: " = older by ", linkIn: " > ", linkOut: " < ", linkUp: " + up", linkDown: " - down: "}
)

// appendPrefix appends everything in front of the text of a line.
func appendPrefix(dst []byte, edge string, e entry) []byte {
	dst = e.at.UTC().AppendFormat(dst, stamp)
	dst = append(dst, ' ')
	dst = append(dst, edge...)
	dst = append(dst, before[e.kind]...)
	dst = appendEscaped(dst, e.who)
	return append(dst, after[e.kind]...)
}

// appendText appends the text of one line, escaped and cut, with an LF.
func appendText(dst, text []byte) []byte {
	if len(text) <= maxText {
		return append(appendEscaped(dst, text), '\n')
	}
	dst = appendEscaped(dst, text[:maxText])
	dst = append(dst, ` \+`...) // not like any escape
	dst = strconv.AppendInt(dst, int64(len(text)-maxText), 10)
	return append(dst, '\n')
}

// appendEscaped appends text as printable ASCII, in such a way that the original can be
// restored.
func appendEscaped(dst, text []byte) []byte {
	const hex = "0123456789abcdef"
	plain := 0 // text[plain:i] is not copied yet
	for i, b := range text {
		if prints[b] {
			continue
		}
		dst = append(dst, text[plain:i]...)
		plain = i + 1
		if b == '\\' {
			dst = append(dst, `\\`...)
		} else {
			dst = append(dst, '\\', 'x', hex[b>>4], hex[b&15])
		}
	}
	return append(dst, text[plain:]...)
}

// prints says which bytes are written unescaped.
var prints = func() (p [256]bool) {
	for b := byte(' '); b <= '~'; b++ {
		p[b] = b != '\\'
	}
	return p
}()

// entry is one record, read back from the buffer.
type entry struct {
	kind  kind
	at    time.Time
	who   []byte
	lines []byte
}

// next returns the first record of chunk and the rest. chunk must not be empty.
func next(chunk []byte) (e entry, rest []byte) {
	e.at = time.Unix(0, int64(binary.LittleEndian.Uint64(chunk)))
	e.kind = kind(chunk[8])
	who := int(binary.LittleEndian.Uint16(chunk[9:]))
	lines := int(binary.LittleEndian.Uint32(chunk[11:]))
	chunk = chunk[headerSize:]
	e.who, e.lines = chunk[:who], chunk[who:who+lines]
	return e, chunk[who+lines:]
}

// nextLine returns the first line of text without its LF, and the rest. A text without an LF,
// even an empty one, is one line.
func nextLine(text []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(text, []byte{'\n'})
	return line, rest
}
