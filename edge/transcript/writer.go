package transcript

import (
	"bytes"
	"strconv"
	"time"
)

const (
	writeSize = 256 << 10   // bytes to a write, more or less
	retry     = time.Second // between tries to write to a disk that fails
)

// writer makes records legible and writes them. It is Run's.
type writer struct {
	log    *Log
	size   int // bytes to a write
	out    []byte
	prefix []byte
	lost   uint64 // lines dropped before those in out, which no line says yet

	failing bool
	tried   time.Time // when it failed last
}

func newWriter(l *Log) *writer {
	w := &writer{log: l, size: writeSize}
	if l.cfg.Max > 0 {
		w.size = int(min(writeSize, l.cfg.Max/4)) // or a file could be far beyond Max
	}
	return w
}

// write writes all of chunks, and that overflow lines were dropped behind them.
func (w *writer) write(chunks [][]byte, overflow uint64) {
	for _, chunk := range chunks {
		for rest := chunk; len(rest) > 0; {
			var e entry
			e, rest = next(rest)
			w.entry(e)
		}
		w.log.giveBack(chunk)
	}
	w.flush()
	w.lost += overflow
	w.sayLost()
}

// entry writes one line for each of e's.
func (w *writer) entry(e entry) {
	w.prefix = appendPrefix(w.prefix[:0], w.log.cfg.Edge, e)
	for more := true; more; more = len(e.lines) > 0 {
		var line []byte
		line, e.lines = nextLine(e.lines)
		w.out = append(w.out, w.prefix...)
		w.out = appendText(w.out, line)
		if len(w.out) >= w.size {
			w.flush()
		}
	}
}

// flush writes out, behind word of what was dropped before it.
func (w *writer) flush() {
	if len(w.out) == 0 {
		return
	}
	n := 0
	if w.sayLost() {
		n = w.try(w.out)
	}
	lost := uint64(bytes.Count(w.out[n:], []byte{'\n'}))
	w.lost += lost
	w.log.dropped.Add(lost)
	w.out = w.out[:0]
}

// sayLost writes down what was dropped, and says whether that is done.
func (w *writer) sayLost() bool {
	if w.lost == 0 {
		return true
	}
	var line []byte
	line = time.Now().UTC().AppendFormat(line, stamp)
	line = append(line, ' ')
	line = append(line, w.log.cfg.Edge...)
	line = append(line, " dropped "...)
	line = strconv.AppendUint(line, w.lost, 10)
	line = append(line, '\n')
	if w.try(line) < len(line) {
		return false
	}
	w.lost = 0
	return true
}

// try writes text to the file, and says how much of it was taken. A disk that
// fails is left alone for a while, since a try may take long.
func (w *writer) try(text []byte) (n int) {
	if w.failing && time.Since(w.tried) < retry {
		return 0
	}
	n, err := w.log.file.write(text)
	switch {
	case err != nil:
		if !w.failing {
			w.log.cfg.Log.Warn("transcript cannot be written, dropping lines", "error", err)
		}
		w.failing, w.tried = true, time.Now()
		w.log.file.close() // opened anew with the next try
	case w.failing:
		w.failing = false
		w.log.cfg.Log.Info("transcript is written again")
	}
	return n
}

// reopen has the next write open the path anew (SIGHUP).
func (w *writer) reopen() {
	w.log.file.close()
	w.tried = time.Time{} // whoever asks for it has changed something
}

// again is when to try again, if there is something to say that could not be said.
func (w *writer) again() <-chan time.Time {
	if w.lost == 0 {
		return nil
	}
	return time.After(retry)
}
