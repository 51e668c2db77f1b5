package transcript

import (
	"fmt"
	"os"
	"time"
)

const (
	kept      = 3           // rotated files
	tryAfter  = time.Second // how long a disk that failed is left alone
	fileRight = 0o600       // it says where people are
)

// A file is what is appended to, and rotated by size. It is one goroutine's.
type file struct {
	path string
	max  int64

	f      *os.File // nil: closed, by us or by a failure
	size   int64
	torn   bool // the last write ended within a line
	failed time.Time
}

func (f *file) open() error {
	if f.path == "-" {
		f.f = os.Stderr
		return nil
	}
	o, err := os.OpenFile(f.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, fileRight)
	if err != nil {
		return err
	}
	info, err := o.Stat()
	if err != nil {
		_ = o.Close()
		return err
	}
	f.f, f.size = o, info.Size()
	return nil
}

func (f *file) close() {
	if f.f != nil && f.f != os.Stderr {
		_ = f.f.Close()
	}
	f.f = nil
}

// write appends whole lines; false means that they are lost.
func (f *file) write(text []byte) bool {
	if f.f != nil && f.f != os.Stderr && f.size > 0 && f.size+int64(len(text)) > f.max {
		f.rotate()
	}
	if f.f == nil {
		if time.Since(f.failed) < tryAfter {
			return false
		}
		if err := f.open(); err != nil {
			f.failed = time.Now()
			return false
		}
	}
	if f.torn {
		text = append([]byte{'\n'}, text...)
	}
	n, err := f.f.Write(text)
	f.size += int64(n)
	f.torn = n < len(text) && (n > 0 || f.torn)
	if err != nil && f.f != os.Stderr {
		// It may be the disk, or the file: a new one is tried after a while.
		f.close()
		f.failed = time.Now()
	}
	return err == nil
}

// rotate moves the file and its elders one on; the eldest goes.
func (f *file) rotate() {
	f.close()
	f.torn = false
	for i := kept; i > 1; i-- {
		_ = os.Rename(fmt.Sprintf("%s.%d", f.path, i-1), fmt.Sprintf("%s.%d", f.path, i))
	}
	// A file that cannot be moved goes on growing, which is better than to lose it.
	_ = os.Rename(f.path, f.path+".1")
}
