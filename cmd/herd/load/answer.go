package load

import (
	"bytes"
	"errors"
	"io"
)

// maxAnswer is far above the longest answer of an edge: 20 places (C14).
const maxAnswer = 4 << 20

var errLongAnswer = errors.New("answer longer than 4 MiB")

var (
	atWord  = []byte("AT ")
	refusal = []byte("? ")
	blank   = []byte("\n\n")
)

// answerEnd returns the length of the answer that p begins with, 0 if it is not
// all there. A refusal (C4) and the answer to IAMAT (C9) are one line; the answer
// to WHATSAT (C14) goes on with a JSON text, which holds no two adjacent newlines,
// and two LFs.
func answerEnd(p []byte, whatsat bool) int {
	end := bytes.IndexByte(p, '\n') + 1
	if end == 0 || !whatsat || !bytes.HasPrefix(p, atWord) {
		return end
	}
	if i := bytes.Index(p[end:], blank); i >= 0 {
		return end + i + len(blank)
	}
	return 0
}

// answers parts a stream into answers without copying them.
type answers struct {
	from       io.Reader
	buf        []byte
	start, end int // what was read and not yet taken
}

// next takes the next answer out of what was read, nil if it is not all there.
// It is good until the next fill.
func (a *answers) next(whatsat bool) []byte {
	n := answerEnd(a.buf[a.start:a.end], whatsat)
	if n == 0 {
		return nil
	}
	answer := a.buf[a.start : a.start+n]
	a.start += n
	return answer
}

// fill reads once.
func (a *answers) fill() error {
	if a.start > 0 {
		a.end = copy(a.buf, a.buf[a.start:a.end])
		a.start = 0
	}
	if a.end == len(a.buf) {
		if a.end >= maxAnswer {
			return errLongAnswer
		}
		a.buf = append(a.buf, make([]byte, max(4096, len(a.buf)))...)
	}
	n, err := a.from.Read(a.buf[a.end:])
	a.end += n
	if n > 0 {
		return nil // an error will come again
	}
	return err
}

// rest is how many bytes of an answer came that is not all there.
func (a *answers) rest() int { return a.end - a.start }
