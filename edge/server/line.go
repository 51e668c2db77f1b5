package server

import (
	"bytes"
	"runtime"
	"time"
)

const (
	headSize = 64 // bytes kept of the start of an overlong line (C5)
	tailSize = 16 // and of its end, where a handler may want to know it (C17)
)

// lines has the complete lines at the start of text answered, and returns the rest.
func (c *conn) lines(at time.Time, text []byte) (rest []byte) {
	for !c.out.over {
		if c.skip != nil {
			end := bytes.IndexByte(text, '\n')
			if end < 0 {
				c.skip.add(text)
				return nil
			}
			c.skip.add(text[:end])
			c.overlong(at, true)
			text = text[end+1:]
			continue
		}
		n, overlong := whole(text, c.s.cfg.MaxLine)
		if n > 0 {
			c.take(at, text[:n])
			text = text[n:]
		}
		if !overlong {
			return text
		}
		c.skip = new(skipped) // C5
	}
	return nil // C17
}

// take has complete lines answered, as many at a time as there is room for (C18).
func (c *conn) take(at time.Time, lines []byte) {
	c.lineSince = 0
	if !blank(lines) {
		c.entry.lastCommand.Store(c.s.clock(at))
	}
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.In(at, c.remote, lines)
	}
	for len(lines) > 0 && !c.out.over {
		lines = lines[c.session.Take(at, lines, c.out):]
		if len(lines) > 0 {
			c.out.makeRoom()
			runtime.Gosched() // a pipeline is much work: others' turn comes between
		}
	}
}

// overlong has the line that was skipped answered; lf says that a LF ended it.
func (c *conn) overlong(at time.Time, lf bool) {
	head, tail := c.skip.ends(lf)
	c.skip, c.lineSince = nil, 0
	c.entry.lastCommand.Store(c.s.clock(at))
	if c.s.cfg.Recorder != nil {
		c.s.cfg.Recorder.In(at, c.remote, head)
	}
	c.out.makeRoom()
	c.session.Overlong(at, head, tail, c.out)
}

// lastLine answers a last line that ended with the stream, without an LF (C1).
func (c *conn) lastLine(at time.Time) {
	if c.have == 0 && c.skip == nil {
		return
	}
	c.owe()
	c.borrow(&c.s.buffers)
	line := c.in.b[:c.have]
	if c.skip == nil && len(line) > c.s.cfg.MaxLine { // by a CR that is no line end
		c.skip = new(skipped)
		c.skip.add(line)
	}
	if c.skip != nil {
		c.overlong(at, false)
	} else {
		c.take(at, line)
	}
}

// whole returns how many bytes at the start of buf are complete lines, none longer
// than most without its line end, LF or CRLF (C5); and whether what follows them is
// already too long to be one.
func whole(buf []byte, most int) (n int, overlong bool) {
	for {
		rest := buf[n:]
		// All lines up to the last LF here are short enough. One look at most+1 bytes
		// stands for many lines.
		end := bytes.LastIndexByte(rest[:min(len(rest), most+1)], '\n')
		if end < 0 && len(rest) > most+1 && rest[most] == '\r' && rest[most+1] == '\n' {
			end = most + 1
		}
		if end < 0 {
			// A CR that came last may be half of a line end.
			return n, len(rest) > most+1 || len(rest) == most+1 && rest[most] != '\r'
		}
		n += end + 1
	}
}

// skipped is what is kept of an overlong line while the rest of it goes by (C5).
type skipped struct {
	head  [headSize]byte
	tail  [tailSize + 1]byte // with room for the CR of a line end
	nHead int
	nTail int
}

// add takes the next bytes of the line.
func (s *skipped) add(p []byte) {
	s.nHead += copy(s.head[s.nHead:headSize], p)
	const most = tailSize + 1
	if len(p) >= most {
		s.nTail = copy(s.tail[:], p[len(p)-most:])
		return
	}
	if over := s.nTail + len(p) - most; over > 0 {
		s.nTail = copy(s.tail[:], s.tail[over:s.nTail])
	}
	s.nTail += copy(s.tail[s.nTail:], p)
}

// ends returns the line's first and last bytes. lf says that a LF followed, so that
// a CR at the end is part of the line end.
func (s *skipped) ends(lf bool) (head, tail []byte) {
	tail = s.tail[:s.nTail]
	if lf && bytes.HasSuffix(tail, []byte{'\r'}) {
		tail = tail[:len(tail)-1]
	}
	return s.head[:s.nHead], tail[max(0, len(tail)-tailSize):]
}

// blank says that lines holds nothing but white space (C2), so no command (C3).
func blank(lines []byte) bool {
	for _, b := range lines {
		if b != ' ' && b-'\t' > '\r'-'\t' {
			return false
		}
	}
	return true
}
