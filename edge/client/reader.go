package client

import (
	"bytes"
	"errors"
	"io"

	"herd/edge/wire"
)

const (
	minBuffer = 4 << 10
	maxAnswer = 4 << 20 // far above the longest answer of an edge: 20 places (C14)
)

var errLongAnswer = errors.New("answer longer than 4 MiB")

var (
	lineEnd = []byte("\n")
	atWord  = []byte("AT ")
	refusal = []byte("? ")
	blank   = []byte("\n\n")

	toldMark = []byte("! ")
)

// shape is how the end of a command's answer is found. A refusal is one line (C4),
// whatever was asked. What an edge tells of watches begins with a mark of its own
// (L3), so that it can be told apart from any answer.
type shape struct {
	kind shapeKind
	name string // of aList and anEnd: the watch's
}

type shapeKind uint8

const (
	oneLine    shapeKind = iota // C9
	withPlaces                  // C14: an AT line, a JSON text without two adjacent newlines, two LFs
	untilBlank                  // L1: AT lines, then an empty line
	aList                       // L3: told lines, through the first NOW, or the OFF of that name
	anEnd                       // L5: the OFF of that name without a reason
)

// end returns the length of the answer that p begins with, 0 if it is not all there.
func (s shape) end(p []byte) int {
	end := bytes.IndexByte(p, '\n') + 1
	if end == 0 || s.kind != withPlaces && s.kind != untilBlank || !bytes.HasPrefix(p, atWord) {
		return end
	}
	from := end
	if s.kind == untilBlank {
		from = end - 1
	}
	if i := bytes.Index(p[from:], blank); i >= 0 {
		return from + i + len(blank)
	}
	return 0
}

// ends says whether a told line is the answer, or the last line of it.
func (s shape) ends(line []byte) bool {
	if s.kind != aList && s.kind != anEnd {
		return false
	}
	told, err := wire.ParseTold(bytes.TrimSuffix(line, lineEnd))
	switch {
	case err != nil:
		return false
	case told.Event == wire.EventNow:
		return s.kind == aList
	case told.Event == wire.EventOff:
		return string(told.Name) == s.name && (s.kind == aList || told.Why == nil)
	}
	return false
}

// reader parts a stream into answers without copying them.
type reader struct {
	from       io.Reader
	buf        []byte
	start, end int // what was read and not yet taken
}

// told takes the next line out of what was read if it is told of a watch. pending says that it
// may be one and is not all there. It is good until the next fill.
func (r *reader) told() (line []byte, pending bool) {
	p := r.buf[r.start:r.end]
	if len(p) == 0 || !bytes.HasPrefix(p, toldMark[:min(len(p), len(toldMark))]) {
		return nil, false
	}
	n := bytes.IndexByte(p, '\n') + 1
	if n == 0 {
		return nil, true
	}
	r.start += n
	return p[:n], false
}

// next takes the next answer out of what was read, nil if it is not all there.
// It is good until the next fill.
func (r *reader) next(s shape) []byte {
	n := s.end(r.buf[r.start:r.end])
	if n == 0 {
		return nil
	}
	answer := r.buf[r.start : r.start+n]
	r.start += n
	return answer
}

// fill reads once.
func (r *reader) fill() error {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	if r.end == len(r.buf) {
		if r.end >= maxAnswer {
			return errLongAnswer
		}
		r.buf = append(r.buf, make([]byte, max(minBuffer, len(r.buf)))...)
	}
	n, err := r.from.Read(r.buf[r.end:])
	r.end += n
	if n > 0 {
		return nil // an error will come again
	}
	return err
}

// rest is how many bytes were read and not yet taken.
func (r *reader) rest() int { return r.end - r.start }
