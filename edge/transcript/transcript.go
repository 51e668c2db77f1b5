// Package transcript writes down what goes in and out of an edge (C20): every line
// of a client, every client that comes and goes, links likewise. It knows nothing
// of what the lines mean.
//
// It is never in a client's way. To record is to copy bytes into a buffer of
// bounded size under a short lock; Run, one goroutine, makes them legible and
// writes them. What the buffer or the disk cannot take is dropped, counted, and
// written down as "dropped N" once that is possible.
//
//	2026-11-25T22:36:01.123456789Z Clark 127.0.0.1:4242 + connected
//	2026-11-25T22:36:01.123456789Z Clark 127.0.0.1:4242 + certificate: CN=kiwi,O=herd
//	2026-11-25T22:36:01.123456790Z Clark 127.0.0.1:4242 > IAMAT kiwi +34.0-118.4 1621464827.9
//	2026-11-25T22:36:01.123456791Z Clark 127.0.0.1:4242 < AT Clark +0.200000000 kiwi +34.0-118.4 1621464827.9
//	2026-11-25T22:36:01.123456792Z Clark 127.0.0.1:4242 - closed: client
//	2026-11-25T22:36:01.123456793Z Clark link Jaquez + up
//
// Each line has the time, the edge, the client's address or the neighbour, a
// direction (> in, < out, + comes, - goes), and a text. Bytes that do not print are
// written \x00 and a backslash \\; where a line was cut stands how many bytes are
// missing, as in \+44.
package transcript

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	defaultBuffer = 8 << 20
	chunkSize     = 64 << 10
	keepFree      = 16 // chunks
	linger        = 20 * time.Millisecond
)

// Config is where and how much to write.
type Config struct {
	Path   string       // a file, which is appended to; "-" is standard error
	Max    int64        // bytes at which the file is rotated; Path.1 to Path.3 are kept; 0: never
	Edge   string       // the name that each line carries
	Buffer int          // bytes that may wait to be written; default 8 MiB
	Log    *slog.Logger // told when the disk fails and when it is back; nil: nobody
}

// Log is a transcript. Its methods may be called from any goroutine, keep nothing
// of their arguments and never wait for the disk.
type Log struct {
	cfg     Config
	file    file          // Run's
	due     *time.Timer   // something has waited for linger
	hurry   chan struct{} // much waits, or the file is to be reopened
	reopen  atomic.Bool
	dropped atomic.Uint64 // lines, ever

	mu       sync.Mutex
	current  []byte   // records, the newest last; nil: nothing was recorded since it was taken
	full     [][]byte // full chunks of records, before current
	free     [][]byte // chunks for reuse
	size     int      // bytes in current and full
	overflow uint64   // lines dropped behind current
	over     bool     // Run is
}

// Open opens the file, so that a path that cannot be written is an error at once.
// Nothing is written before Run.
func Open(cfg Config) (*Log, error) {
	if cfg.Buffer == 0 {
		cfg.Buffer = defaultBuffer
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	l := newLog(cfg)
	l.file = file{path: cfg.Path, max: cfg.Max}
	if err := l.file.open(); err != nil {
		return nil, fmt.Errorf("open transcript: %w", err)
	}
	return l, nil
}

func newLog(cfg Config) *Log {
	l := &Log{cfg: cfg, due: time.NewTimer(0), hurry: make(chan struct{}, 1)}
	l.due.Stop()
	return l
}

// A kind is what a record is of.
type kind uint8

const (
	in kind = iota
	out
	opened
	closed
	certified
	linkIn
	linkOut
	linkUp
	linkDown
)

// Opened records a client that came.
func (l *Log) Opened(at time.Time, remote string) { record(l, opened, at, remote, "") }

// Closed records a client that went, and why.
func (l *Log) Closed(at time.Time, remote, reason string) { record(l, closed, at, remote, reason) }

// Certified records whom a client's certificate names, the subject as RFC 2253 writes it.
func (l *Log) Certified(at time.Time, remote, subject string) {
	record(l, certified, at, remote, subject)
}

// In records lines from a client. The last may lack its LF.
func (l *Log) In(at time.Time, remote string, lines []byte) { record(l, in, at, remote, lines) }

// Out records lines to a client.
func (l *Log) Out(at time.Time, remote string, answers []byte) { record(l, out, at, remote, answers) }

// LinkUp records that the link to a neighbour is up.
func (l *Log) LinkUp(at time.Time, neighbour string) { record(l, linkUp, at, neighbour, "") }

// LinkDown records that the link to a neighbour is down, and why.
func (l *Log) LinkDown(at time.Time, neighbour, reason string) {
	record(l, linkDown, at, neighbour, reason)
}

// LinkIn records lines from a neighbour.
func (l *Log) LinkIn(at time.Time, neighbour string, lines []byte) {
	record(l, linkIn, at, neighbour, lines)
}

// LinkOut records lines to a neighbour.
func (l *Log) LinkOut(at time.Time, neighbour string, lines []byte) {
	record(l, linkOut, at, neighbour, lines)
}

// Dropped is how many lines were not written down, ever.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Reopen makes Run open the path again, for when someone moved the file away.
func (l *Log) Reopen() {
	l.reopen.Store(true)
	l.poke()
}

// A record in the buffer: when, in ns since 1970; its kind; the lengths of who and
// of the text; who; the text, which is any number of lines.
const headerSize = 8 + 1 + 2 + 4

func record[text string | []byte](l *Log, k kind, at time.Time, who string, lines text) {
	const longestWho = 1 << 10
	who = who[:min(len(who), longestWho)]
	need := headerSize + len(who) + len(lines)

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over || l.size+need > l.cfg.Buffer {
		n := lineCount([]byte(lines))
		l.overflow += n
		l.dropped.Add(n)
		return
	}
	if cap(l.current)-len(l.current) < need {
		l.nextChunk(need)
	}
	b := binary.LittleEndian.AppendUint64(l.current, uint64(at.UnixNano()))
	b = append(b, byte(k))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(who)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(lines)))
	b = append(b, who...)
	l.current = append(b, lines...)
	if l.size == 0 { // a little later there is more to write at once
		l.due.Reset(linger)
	}
	half := l.cfg.Buffer / 2
	if l.size < half && l.size+need >= half {
		l.poke()
	}
	l.size += need
}

// nextChunk makes current have room for need bytes. l.mu is held.
func (l *Log) nextChunk(need int) {
	if len(l.current) > 0 {
		l.full = append(l.full, l.current)
	}
	if last := len(l.free) - 1; last >= 0 && need <= chunkSize {
		l.current, l.free[last], l.free = l.free[last], nil, l.free[:last]
		return
	}
	l.current = make([]byte, 0, max(chunkSize, need))
}

// take returns all that was recorded, and how many lines were dropped behind it.
func (l *Log) take() (chunks [][]byte, overflow uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	chunks, overflow = l.full, l.overflow
	if len(l.current) > 0 {
		chunks = append(chunks, l.current)
	}
	l.current, l.full, l.overflow, l.size = nil, nil, 0, 0
	return chunks, overflow
}

// giveBack keeps chunks for reuse.
func (l *Log) giveBack(chunk []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(chunk) == chunkSize && len(l.free) < keepFree {
		l.free = append(l.free, chunk[:0])
	}
}

// lineCount is how many lines of the transcript text makes.
func lineCount(text []byte) uint64 {
	n := uint64(bytes.Count(text, []byte{'\n'}))
	if len(text) == 0 || text[len(text)-1] != '\n' {
		n++
	}
	return n
}

func (l *Log) poke() {
	select {
	case l.hurry <- struct{}{}:
	default:
	}
}

// Run writes down what is recorded, until ctx has ended and all is written. What
// is recorded after that is dropped. A disk that fails ends nothing; Run returns
// nil. Call it once.
func (l *Log) Run(ctx context.Context) error {
	defer l.due.Stop()
	w := newWriter(l)
	for ended := false; !ended; {
		select {
		case <-l.due.C:
		case <-l.hurry:
		case <-w.again():
		case <-ctx.Done():
			l.mu.Lock()
			l.over, ended = true, true
			l.mu.Unlock()
		}
		if l.reopen.Swap(false) {
			w.reopen()
		}
		w.write(l.take())
	}
	l.file.close()
	return nil
}
