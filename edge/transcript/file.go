package transcript

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

const (
	kept   = 3     // rotated files that are kept
	rights = 0o600 // the transcript shows where people are
)

// file is where the transcript is written: a file that is rotated, or standard error. Only
// one goroutine uses it.
type file struct {
	path string
	max  int64 // 0: never rotated

	f    *os.File // nil: the last attempt to open it failed
	size int64
	torn bool // the last write ended within a line
}

func (f *file) standardError() bool { return f.path == "-" }

// open opens the path. f must be closed.
func (f *file) open() error {
	if f.standardError() {
		f.f = os.Stderr
		return nil
	}
	opened, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, rights)
	if err != nil {
		return err // names the path
	}
	info, err := opened.Stat()
	if err != nil {
		_ = opened.Close()
		return err
	}
	f.f, f.size = opened, info.Size()
	if !info.Mode().IsRegular() {
		f.max = 0
	}
	return nil
}

func (f *file) close() {
	if f.f != nil && !f.standardError() {
		_ = f.f.Close()
	}
	f.f = nil
}

// write appends whole lines. It rotates the file first if they would make it too large. n is
// how many bytes were written.
func (f *file) write(lines []byte) (n int, err error) {
	if f.f == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	if f.max > 0 && f.size > 0 && f.size+int64(len(lines)) > f.max {
		if err := f.rotate(); err != nil {
			return 0, err
		}
	}
	if f.torn {
		if _, err := f.f.Write([]byte{'\n'}); err != nil {
			return 0, err
		}
		f.torn = false
	}
	n, err = f.f.Write(lines)
	f.size += int64(n)
	f.torn = n > 0 && lines[n-1] != '\n'
	return n, err
}

// rotate renames path.1 to path.2 and so on, then the file to path.1, and begins a new file.
// If that fails, nothing more is written: a full disk would harm other programs.
func (f *file) rotate() error {
	name := func(n int) string { return fmt.Sprintf("%s.%d", f.path, n) }
	for n := kept - 1; n >= 1; n-- {
		if err := os.Rename(name(n), name(n+1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := os.Rename(f.path, name(1)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f.close()
	f.torn = false
	return f.open()
}
