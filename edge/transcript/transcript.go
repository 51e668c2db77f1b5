// Package transcript writes down what goes in and out of an edge (C20): every line
// of a client, every client that comes and goes, every link that goes up and down,
// with time, direction and remote address or neighbour.
//
// It is never in anybody's way: to record is to copy bytes into a bounded
// buffer, and one goroutine formats and writes them. What a disk cannot take in time is
// dropped, counted, and written down as "dropped N". It knows nothing of what it
// writes down.
package transcript

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

const (
	bufferSize = 8 << 20               // bytes recorded and not yet taken by the writer
	gatherFor  = 20 * time.Millisecond // what comes within it is written at once
)

// Config says where a transcript goes.
type Config struct {
	Path string // of the file; "-" is standard error
	Max  int64  // bytes at which the file is rotated; Path.1 to Path.3 are kept
	Edge string // the edge's name, on every line
}

// A Log is an edge's transcript. All methods but Run may be called from any
// goroutine, and none of them waits for a disk.
type Log struct {
	edge string
	file file // Run's

	wake    chan struct{}
	dropped atomic.Uint64
	reopen  atomic.Bool

	mu     sync.Mutex // held for a copy into memory
	filled []byte     // records, as put writes them
	lost   uint64     // lines dropped since filled was last taken
}

// Open opens the file. Nothing is written until Run.
func Open(cfg Config) (*Log, error) {
	l := &Log{edge: cfg.Edge, file: file{path: cfg.Path, max: cfg.Max}, wake: make(chan struct{}, 1)}
	if err := l.file.open(); err != nil {
		return nil, fmt.Errorf("open transcript: %w", err)
	}
	return l, nil
}

// A kind is what a record says.
type kind uint8

const (
	in kind = iota
	out
	opened
	closed
	linkUp
	linkDown
	linkIn
	linkOut
)

// Opened records a client that came.
func (l *Log) Opened(at time.Time, remote string) { l.put(opened, at, remote, nil) }

// Closed records a client that went, and why.
func (l *Log) Closed(at time.Time, remote, reason string) { l.put(closed, at, remote, []byte(reason)) }

// In records lines that a client sent; they are copied.
func (l *Log) In(at time.Time, remote string, lines []byte) { l.put(in, at, remote, lines) }

// Out records what was sent to a client; it is copied.
func (l *Log) Out(at time.Time, remote string, answers []byte) { l.put(out, at, remote, answers) }

// LinkUp records a link that went up.
func (l *Log) LinkUp(at time.Time, neighbour string) { l.put(linkUp, at, neighbour, nil) }

// LinkDown records a link that went down, and why.
func (l *Log) LinkDown(at time.Time, neighbour, reason string) {
	l.put(linkDown, at, neighbour, []byte(reason))
}

// LinkIn records lines that a neighbour sent; they are copied.
func (l *Log) LinkIn(at time.Time, neighbour string, lines []byte) {
	l.put(linkIn, at, neighbour, lines)
}

// LinkOut records lines that were sent to a neighbour; they are copied.
func (l *Log) LinkOut(at time.Time, neighbour string, lines []byte) {
	l.put(linkOut, at, neighbour, lines)
}

// Dropped is how many lines were dropped since the start.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Reopen has the file opened anew, after someone moved it away (SIGHUP).
func (l *Log) Reopen() {
	l.reopen.Store(true)
	l.signal()
}

const headerSize = 1 + 8 + 2 + 4

// put copies a record into the buffer, or drops it if there is no room.
func (l *Log) put(k kind, at time.Time, who string, text []byte) {
	l.mu.Lock()
	if len(l.filled)+headerSize+len(who)+len(text) > bufferSize {
		n := uint64(lineCount(text))
		l.lost += n
		l.mu.Unlock()
		l.dropped.Add(n)
		return
	}
	first := len(l.filled) == 0
	b := append(l.filled, byte(k))
	b = binary.LittleEndian.AppendUint64(b, uint64(at.UnixNano()))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(who)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, who...)
	l.filled = append(b, text...)
	l.mu.Unlock()
	if first {
		l.signal()
	}
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// lineCount is how many lines a record makes in the transcript.
func lineCount(text []byte) int {
	n := bytes.Count(text, []byte{'\n'})
	if n == 0 || text[len(text)-1] != '\n' {
		n++
	}
	return n
}

// take exchanges the filled buffer for an empty one.
func (l *Log) take(empty []byte) (records []byte, lost uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	records, lost = l.filled, l.lost
	l.filled, l.lost = empty[:0], 0
	return records, lost
}

// Run writes what is recorded until ctx ends, and then what is left. Call it once.
// It always returns nil: a disk that fails costs lines, never the edge.
func (l *Log) Run(ctx context.Context) error {
	defer l.file.close()
	var spare, text []byte
	for ended := false; !ended; {
		select {
		case <-ctx.Done():
			ended = true
		case <-l.wake:
			select {
			case <-ctx.Done():
				ended = true
			case <-time.After(gatherFor):
			}
		}
		if l.reopen.Swap(false) {
			l.file.close()
		}
		var records []byte
		var lost uint64
		records, lost = l.take(spare)
		text = l.write(records, text)
		if lost > 0 {
			text = fmt.Appendf(text[:0], "%s %s dropped %d\n", stamp(time.Now()), l.edge, lost)
			if !l.file.write(text) {
				l.mu.Lock()
				l.lost += lost // written down when the disk is back; counted once
				l.mu.Unlock()
			}
		}
		spare = records
		if cap(spare) > bufferSize/8 && len(spare) < cap(spare)/8 {
			spare = nil // a burst is over
		}
	}
	return nil
}

// write formats records and writes them a piece at a time; text is room to do so.
func (l *Log) write(records, text []byte) []byte {
	const piece = 64 << 10
	var room [len(stampLayout)]byte
	text = text[:0]
	n := 0
	flush := func() {
		if n > 0 && !l.file.write(text) {
			l.dropped.Add(uint64(n))
			l.mu.Lock()
			l.lost += uint64(n)
			l.mu.Unlock()
		}
		text, n = text[:0], 0
	}
	for len(records) > 0 {
		var r record
		r, records = next(records, room[:0])
		for lines := r.text; ; {
			line := lines
			end := bytes.IndexByte(lines, '\n')
			if end >= 0 {
				line, lines = lines[:end], lines[end+1:]
			}
			text = r.append(text, l.edge, line)
			n++
			if len(text) >= piece {
				flush()
			}
			if end < 0 || len(lines) == 0 {
				break
			}
		}
	}
	flush()
	return text
}

// A record is one call's worth. Its slices alias the buffer, and the room for its time.
type record struct {
	kind kind
	time []byte // formatted
	who  []byte
	text []byte
}

// next cuts the first record off; room is for its time.
func next(b, room []byte) (r record, rest []byte) {
	r.kind = kind(b[0])
	at := time.Unix(0, int64(binary.LittleEndian.Uint64(b[1:]))).UTC()
	r.time = at.AppendFormat(room, stampLayout)
	who := int(binary.LittleEndian.Uint16(b[9:]))
	size := int(binary.LittleEndian.Uint32(b[11:]))
	b = b[headerSize:]
	r.who, r.text = b[:who], b[who:who+size]
	return r, b[who+size:]
}

const stampLayout = "2006-01-02T15:04:05.000000000Z"

func stamp(at time.Time) string { return at.UTC().Format(stampLayout) }

// append writes one line of the transcript:
//
//	2026-11-25T22:36:01.123456789Z Clark 127.0.0.1:4242 > IAMAT …
//
// ">" came in, "<" went out, "+" and "-" are someone coming and going.
func (r *record) append(dst []byte, edge string, line []byte) []byte {
	dst = append(append(append(dst, r.time...), ' '), edge...)
	if r.kind >= linkUp {
		dst = append(dst, " link"...)
	}
	dst = append(append(dst, ' '), r.who...)
	dst = append(dst, [...]string{" > ", " < ", " + connected", " - closed: ", " + up", " - down: ", " > ", " < "}[r.kind]...)
	return append(appendEscaped(dst, line), '\n')
}

// lineMax is how many bytes of a line are written (C20).
const lineMax = 256

// appendEscaped writes a line's bytes as ASCII that prints: a byte that does not is
// \xNN, a backslash is two. Behind the cut stands how many bytes are missing.
func appendEscaped(dst, line []byte) []byte {
	const hex = "0123456789abcdef"
	cut := len(line) - lineMax
	if cut > 0 {
		line = line[:lineMax]
	}
	for _, b := range line {
		switch {
		case b == '\\':
			dst = append(dst, '\\', '\\')
		case b >= ' ' && b <= '~':
			dst = append(dst, b)
		default:
			dst = append(dst, '\\', 'x', hex[b>>4], hex[b&15])
		}
	}
	if cut > 0 {
		dst = fmt.Appendf(dst, " \\+%d", cut)
	}
	return dst
}
