// Package transcript records what goes in and out of an edge (C20): every line to and from
// clients, every client that connects or disconnects, and the same for links. It knows
// nothing of what the lines mean.
//
// It never delays a client. Recording copies bytes into a buffer of bounded size under a
// short lock; one goroutine, Run, formats and writes them. What the buffer or the disk cannot
// take is dropped and counted, and recorded as "dropped N" once that is possible.
//
//	2026-11-25T22:36:01.123456789Z Clark 127.0.0.1:4242 + connected
//	2026-11-25T22:36:01.123456789Z Clark 127.0.0.1:4242 + certificate: CN=kiwi,O=herd
//	2026-11-25T22:36:01.123456790Z Clark 127.0.0.1:4242 > IAMAT kiwi +34.0-118.4 1621464827.9
//	2026-11-25T22:36:01.123456791Z Clark 127.0.0.1:4242 < AT Clark +0.200000000 kiwi +34.0-118.4 1621464827.9
//	2026-11-25T22:36:01.123456791Z Clark 127.0.0.1:4242 = older by 619315200.000000000 s: kiwi
//	2026-11-25T22:36:01.123456792Z Clark 127.0.0.1:4242 - closed: client
//	2026-11-25T22:36:01.123456793Z Clark link Jaquez + up
//
// Each line has the time, the edge, the client's address or the neighbour, a direction (> in,
// < out, + connected or up, - disconnected or down, = a note by the edge), and a text. Bytes
// that do not print are written as \x00, and a backslash as \\. A line that was cut ends with
// the number of bytes that are missing, as in \+44.
package transcript

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strconv"
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

// Config says where and how much to write.
type Config struct {
	Path   string       // the file to append to; "-" is standard error
	Max    int64        // size in bytes at which the file is rotated; Path.1 to Path.3 are kept; 0: never
	Edge   string       // the edge's name, written in each line
	Buffer int          // bytes that may wait to be written; default 8 MiB
	Log    *slog.Logger // logs when the disk fails and when it works again; nil: no log

	// Wall returns what the edge's clock shows at a moment that time.Now returned, in Unix
	// nanoseconds. It is the time that lines show. nil: the moment's own wall clock.
	Wall func(time.Time) int64
}

// Log is a transcript. Its methods may be called from any goroutine, keep none of their
// arguments, and never wait for the disk.
type Log struct {
	cfg     Config
	file    file          // only Run uses it
	due     *time.Timer   // fires when something has waited for linger
	hurry   chan struct{} // signals that much waits, or that the file is to be reopened
	reopen  atomic.Bool
	dropped atomic.Uint64 // lines since the start

	mu       sync.Mutex
	current  []byte   // records, the newest last; nil: nothing recorded since the last take
	full     [][]byte // full chunks of records, before current
	free     [][]byte // chunks for reuse
	size     int      // bytes in current and full
	overflow uint64   // lines dropped after current
	over     bool     // Run has ended
}

// Open opens the file, so that a path that cannot be written is an error at once. Nothing is
// written before Run is called.
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
	if cfg.Wall == nil {
		cfg.Wall = time.Time.UnixNano
	}
	l := &Log{cfg: cfg, due: time.NewTimer(0), hurry: make(chan struct{}, 1)}
	l.due.Stop()
	return l
}

// A kind is the kind of a record.
type kind uint8

const (
	in kind = iota
	out
	opened
	closed
	certified
	older
	linkIn
	linkOut
	linkUp
	linkDown
)

// Opened records that a client connected.
func (l *Log) Opened(at time.Time, remote string) { record(l, opened, at, remote, "") }

// Closed records that a client's connection was closed, and why.
func (l *Log) Closed(at time.Time, remote, reason string) { record(l, closed, at, remote, reason) }

// Certified records the subject of a client's certificate, written as in RFC 2253.
func (l *Log) Certified(at time.Time, remote, subject string) {
	record(l, certified, at, remote, subject)
}

// In records lines from a client. The last may lack its LF.
func (l *Log) In(at time.Time, remote string, lines []byte) { record(l, in, at, remote, lines) }

// Out records lines to a client.
func (l *Log) Out(at time.Time, remote string, answers []byte) { record(l, out, at, remote, answers) }

// Older records that a client's IAMAT changed nothing, because the position stored for that
// client is newer by this much.
func (l *Log) Older(at time.Time, remote string, client []byte, by time.Duration) {
	var room [32 + 1024]byte
	text := strconv.AppendInt(room[:0], int64(by/time.Second), 10)
	text = append(text, '.')
	for digit := time.Second / 10; digit > 0; digit /= 10 {
		text = append(text, '0'+byte(by/digit%10))
	}
	text = append(text, " s: "...)
	record(l, older, at, remote, append(text, client...))
}

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

// Dropped returns how many lines were dropped since the start.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Reopen makes Run open the path again, for use after somebody moved the file.
func (l *Log) Reopen() {
	l.reopen.Store(true)
	l.poke()
}

// A record in the buffer is: the time in ns since 1970; the kind; the lengths of the name and
// of the text; the name, which is a client's address or a neighbour; and the text, any number
// of lines.
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
	b := binary.LittleEndian.AppendUint64(l.current, uint64(l.cfg.Wall(at)))
	b = append(b, byte(k))
	b = binary.LittleEndian.AppendUint16(b, uint16(len(who)))
	b = binary.LittleEndian.AppendUint32(b, uint32(len(lines)))
	b = append(b, who...)
	l.current = append(b, lines...)
	if l.size == 0 { // wait a little, so that one write takes more
		l.due.Reset(linger)
	}
	half := l.cfg.Buffer / 2
	if l.size < half && l.size+need >= half {
		l.poke()
	}
	l.size += need
}

// nextChunk makes room for need bytes in current. l.mu must be held.
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

// take returns everything recorded so far, and how many lines were dropped after it.
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

// giveBack keeps a chunk for reuse.
func (l *Log) giveBack(chunk []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cap(chunk) == chunkSize && len(l.free) < keepFree {
		l.free = append(l.free, chunk[:0])
	}
}

// lineCount returns how many transcript lines text makes.
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

// Run writes what is recorded until ctx has ended and everything is written. What is recorded
// after that is dropped. A failing disk does not end Run, which always returns nil. Call it
// once.
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
