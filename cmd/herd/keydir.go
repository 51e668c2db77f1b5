package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"herd/broker"
)

const (
	keySuffix    = ".nk"
	confSuffix   = ".conf"
	passwordFile = "routes.password"
)

// keyDir is the directory with the secrets of a herd's broker. Only one process at a time may
// open it.
type keyDir struct {
	path string
	lock *os.File
}

// openKeyDir opens the directory, and creates it with mode 0700 if it does not exist.
func openKeyDir(path string) (*keyDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("create the directory: %w", err)
	}
	lock, err := lockDir(path)
	if err != nil {
		return nil, err
	}
	return &keyDir{path: path, lock: lock}, nil
}

func (d *keyDir) close() { d.lock.Close() }

// keys returns the public key per name, from the file <name>.nk. It creates missing keys and
// returns their names in made. A file that holds no key is an error, and is not changed.
func (d *keyDir) keys(names []string) (public map[string]string, made []string, err error) {
	public = make(map[string]string)
	owner := make(map[string]string) // by public key
	var problems []error
	for _, name := range names {
		file := filepath.Join(d.path, name+keySuffix)
		key, err := broker.PublicKey(file)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			made = append(made, name) // created below, if nothing is wrong
			continue
		case err != nil:
			problems = append(problems, fmt.Errorf("%w; remove it to have a new one made", err))
			continue
		}
		if other, twice := owner[key]; twice {
			problems = append(problems, fmt.Errorf("%s holds the key of %s%s; two users must not share a key", file, other, keySuffix))
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

// password returns the password that the servers of a cluster share. It is created once.
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
		return "", fmt.Errorf("%s: want 16 or more letters and digits; remove it to have a new one made", file)
	}
	return password, nil
}

// replace writes a file of mode 0600 atomically, even across a power failure.
func (d *keyDir) replace(name string, text []byte) error {
	return replaceFile(d.lock, name, text, nil)
}

// others returns the keys and configurations in the directory that are not among names.
func (d *keyDir) others(names map[string]bool) ([]string, error) {
	entries, err := os.ReadDir(d.path)
	if err != nil {
		return nil, fmt.Errorf("list the directory: %w", err)
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
