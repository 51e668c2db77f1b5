package transcript

import (
	"bytes"
	"strconv"
	"time"
)

const (
	writeSize = 256 << 10   // bytes per write, approximately
	retry     = time.Second // between attempts to write to a failing disk
)

// writer formats records and writes them. Only Run uses it.
type writer struct {
	log    *Log
	size   int // bytes per write
	out    []byte
	prefix []byte
	lost   uint64 // lines dropped before those in out and not reported yet

	failing bool
	tried   time.Time // when the last failed attempt was
}

func newWriter(l *Log) *writer {
	w := &writer{log: l, size: writeSize}
	if l.cfg.Max > 0 {
		w.size = int(min(writeSize, l.cfg.Max/4)) // otherwise a file could grow far beyond Max
	}
	return w
}

// write writes all of chunks, and notes that overflow lines were dropped after them.
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

// entry writes one line for each line of e.
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

// flush writes out, after a note of what was dropped before it.
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

// sayLost writes how many lines were dropped, and reports whether none is left to report.
func (w *writer) sayLost() bool {
	if w.lost == 0 {
		return true
	}
	var line []byte
	line = time.Unix(0, w.log.cfg.Wall(time.Now())).UTC().AppendFormat(line, stamp)
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

// try writes text to the file and returns how many bytes were written. After a failure it
// writes nothing for a while, since an attempt may take long.
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
		w.log.file.close() // opened again by the next attempt
	case w.failing:
		w.failing = false
		w.log.cfg.Log.Info("transcript can be written again")
	}
	return n
}

// reopen makes the next write open the path again (SIGHUP).
func (w *writer) reopen() {
	w.log.file.close()
	w.tried = time.Time{} // the operator has changed something, so try at once
}

// again returns a channel that fires when to try again, if a note of dropped lines could not
// be written.
func (w *writer) again() <-chan time.Time {
	if w.lost == 0 {
		return nil
	}
	return time.After(retry)
}
