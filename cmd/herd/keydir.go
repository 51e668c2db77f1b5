package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"herd/broker"
)

const (
	keySuffix    = ".nk"
	confSuffix   = ".conf"
	passwordFile = "routes.password"
)

// keyDir is the folder that holds the secrets of a herd's broker. One process at a time
// has it.
type keyDir struct {
	path string
	lock *os.File
}

// openKeyDir makes the folder if need be; one that it makes is its owner's alone.
func openKeyDir(path string) (*keyDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make the folder: %w", err)
	}
	lock, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the folder: %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: another run writes there just now", path)
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return &keyDir{path: path, lock: lock}, nil
}

func (d *keyDir) close() { d.lock.Close() }

// keys returns the public key of each name, of the file <name>.nk. It makes those that are
// missing, and says which. A file that holds no key is an error, and is left as it is.
func (d *keyDir) keys(names []string) (public map[string]string, made []string, err error) {
	public = make(map[string]string)
	owner := make(map[string]string) // by public key
	var problems []error
	for _, name := range names {
		file := filepath.Join(d.path, name+keySuffix)
		key, err := broker.PublicKey(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			made = append(made, name) // below, if nothing is wrong
			continue
		case err != nil:
			problems = append(problems, fmt.Errorf("%w; take it away to have a new one made", err))
			continue
		}
		if other, twice := owner[key]; twice {
			problems = append(problems, fmt.Errorf("%s holds the key of %s%s; two users must not be one", file, other, keySuffix))
		}
		public[name], owner[key] = key, name
	}
	if problems != nil {
		return nil, nil, errors.Join(problems...)
	}
	for _, name := range made {
		seed, key, err := broker.NewKey()
		if err != nil {
			return nil, nil, err
		}
		if err := d.replace(name+keySuffix, seed); err != nil {
			return nil, nil, err
		}
		public[name] = key
	}
	return public, made, nil
}

// password is what the servers of a cluster know each other by; made once.
func (d *keyDir) password() (string, error) {
	file := filepath.Join(d.path, passwordFile)
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		password := rand.Text() + rand.Text() // letters and digits
		return password, d.replace(passwordFile, []byte(password+"\n"))
	}
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(string(text), "\n")
	if len(password) < 16 || strings.ContainsFunc(password, notAlphanumeric) {
		return "", fmt.Errorf("%s: want 16 or more letters and digits; take it away to have a new one made", file)
	}
	return password, nil
}

// replace writes a file of mode 0600, whole or not at all, also where the power fails.
func (d *keyDir) replace(name string, text []byte) error {
	f, err := os.CreateTemp(d.path, "."+name+".*") // its mode is 0600
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(d.path, name))
	}
	if err != nil {
		os.Remove(f.Name())
		return fmt.Errorf("write %s: %w", name, err)
	}
	if err := d.lock.Sync(); err != nil && !errors.Is(err, unix.EINVAL) { // some file systems cannot
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// others lists the keys and configurations in the folder that are not among names.
func (d *keyDir) others(names map[string]bool) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list the folder: %w", err)
	}
	var left []string
	for _, e := range entries {
		ext := filepath.Ext(e.Name())
		if (ext == keySuffix || ext == confSuffix) && !names[e.Name()] && !strings.HasPrefix(e.Name(), ".") {
			left = append(left, e.Name())
		}
	}
	return left, nil
}
