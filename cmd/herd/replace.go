package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// lockDir locks a directory, so that one process at a time changes its files, until it is closed.
func lockDir(path string) (*os.File, error) {
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: in use by another run", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return lock, nil
}

// replaceFile writes a file of a locked directory atomically, even across a power failure. Its mode
// and owner are those of like, or 0600 and this process's where like is nil.
func replaceFile(dir *os.File, name string, text []byte, like fs.FileInfo) error {
	f, err := os.CreateTemp(dir.Name(), "."+name+".*") // its mode is 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(text)
	if err == nil && like != nil {
		err = errors.Join(keepOwner(f, like), f.Chmod(like.Mode().Perm())) // in this order: chown may clear bits
	}
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir.Name(), name))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := dir.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot sync directories
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// keepOwner gives a file the owner and group of another.
func keepOwner(f *os.File, like fs.FileInfo) error {
	is, err := f.Stat()
	if err != nil {
		return err
	}
	have, ok := is.Sys().(*syscall.Stat_t)
	want, known := like.Sys().(*syscall.Stat_t)
	if !ok || !known || have.Uid == want.Uid && have.Gid == want.Gid {
		return nil
	}
	if err := f.Chown(int(want.Uid), int(want.Gid)); err != nil {
		return fmt.Errorf("keep its owner: %w", err)
	}
	return nil
}
