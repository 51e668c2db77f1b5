// Package osm is the provider of places that reads an extract of OpenStreetMap: every named
// shop, café, bus stop and museum of a region, without a network and without a key. Several
// sites offer extracts of continents, countries and districts. The data is © OpenStreetMap
// contributors, under the Open Database License (ODbL), and every answer says so.
//
// A place is a node or a way with a name and one of the tags in kinds.go. The position of a
// way is the centre of its nodes' bounding box, as in OpenStreetMap's own tools. Relations
// are left out: an object mapped as a relation, such as a palace with courtyards, is found
// only through what is mapped inside it.
//
// It knows nothing of clients and edges, nor of where extracts come from.
package osm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"herd/places"
	"herd/places/nearby"
)

// Attribution is in every answer, as the ODbL requires.
const Attribution = `© <a href="https://www.openstreetmap.org/copyright">OpenStreetMap</a> contributors, ODbL`

// Failures that clients see while there are no places (C16).
var (
	errLoading = &places.Error{Status: nearby.UnknownError, Message: "the places are still being loaded"}
	errNone    = &places.Error{Status: nearby.UnknownError, Message: "the places could not be loaded"}
)

// Extract is a places.Loader of one file. Until the first successful Load it has no places,
// and Nearby returns an error, so that the next provider is asked. All methods may be called
// from any goroutine, but Load only from one at a time.
type Extract struct {
	path string
	log  *slog.Logger

	now    atomic.Pointer[index] // nil: nothing is loaded
	failed atomic.Bool           // the last Load failed
	file   os.FileInfo           // of the file that is loaded; only Load uses it
}

// New returns the provider for the extract at path, which should have a name that CheckName
// accepts. It does not open the file: Load does.
func New(path string, log *slog.Logger) *Extract {
	return &Extract{path: path, log: log}
}

// Known returns how many places are loaded.
func (e *Extract) Known() int {
	if x := e.now.Load(); x != nil {
		return len(x.places)
	}
	return 0
}

// Name returns osm.
func (e *Extract) Name() string { return "osm" }

// Instant marks a provider that answers from memory in microseconds (places.Instant).
func (e *Extract) Instant() {}

// Nearby returns the places within q.Radius (inclusive), nearest first, and at the same
// distance by name, then id, in the same order as the gazetteer. It takes microseconds and
// checks ctx only once. Answers share the types of the places.
func (e *Extract) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	if !(math.Abs(q.Lat) <= 90 && math.Abs(q.Lon) <= 180 && q.Radius >= 0 && q.Max >= 0) { // also false for NaN
		return nearby.Answer{}, places.ErrInvalid
	}
	x := e.now.Load()
	switch {
	case x != nil:
		return nearby.Found([]string{Attribution}, x.answer(q)), nil
	case e.failed.Load():
		return nearby.Answer{}, errNone
	default:
		return nearby.Answer{}, errLoading
	}
}

// Load reads the file, unless identity, size and modification time say that it is loaded
// already. The places loaded before are used meanwhile, and kept if the file cannot be read;
// both sets are in memory until Load ends. It logs its progress.
func (e *Extract) Load(ctx context.Context) error {
	start := time.Now()
	x, err := e.read(ctx)
	if err != nil {
		e.failed.Store(true)
		return fmt.Errorf("read extract %s: %w", e.path, err)
	}
	e.failed.Store(false)
	if x == nil {
		e.log.Info("extract unchanged", "file", e.path)
		return nil
	}
	e.now.Store(x)
	e.log.Info("extract loaded", "file", e.path, "places", len(x.places), "ways_without_nodes", x.lost,
		"bytes", x.size(), "took", time.Since(start).Round(time.Millisecond).String())
	if len(x.places) == 0 {
		e.log.Warn("the extract has no named places", "file", e.path)
	}
	return nil
}

// read returns the places in the file, or nil if the file is loaded already.
func (e *Extract) read(ctx context.Context) (*index, error) {
	if info, err := os.Stat(e.path); err != nil {
		return nil, cause(err)
	} else if !info.Mode().IsRegular() { // opening a pipe would block
		return nil, errors.New("not a regular file")
	}
	f, err := os.Open(e.path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if e.file != nil && same(e.file, before) {
		return nil, nil
	}
	x, err := load(ctx, f, before.Size(), formatOf(e.path), e.log.With("file", e.path))
	if err != nil {
		return nil, cause(err)
	}
	after, err := f.Stat()
	if err != nil {
		return nil, cause(err)
	}
	if !same(before, after) {
		return nil, errors.New("changed while it was read")
	}
	e.file = before
	return x, nil
}

// cause returns err without the path, which the caller adds.
func cause(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	return err
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// format is the file format of an extract.
type format string

const (
	pbf     format = ".osm.pbf"
	xml     format = ".osm"
	unknown format = ""
)

func formatOf(path string) format {
	for _, f := range []format{pbf, xml} {
		if strings.HasSuffix(path, string(f)) {
			return f
		}
	}
	return unknown
}

// packings are compression formats, by the first bytes of a file and by the end of its name.
var packings = []struct{ name, begins, ends string }{
	{"gzip", "\x1f\x8b", ".gz"},
	{"bzip2", "BZh", ".bz2"},
	{"xz", "\xfd7zXZ\x00", ".xz"},
	{"zstd", "\x28\xb5\x2f\xfd", ".zst"},
	{"lz4", "\x04\x22\x4d\x18", ".lz4"},
	{"zip", "PK\x03\x04", ".zip"},
	{"7z", "7z\xbc\xaf\x27\x1c", ".7z"},
}

func errPacked(with string) error { return fmt.Errorf("compressed with %s: unpack it first", with) }

// checkBegins refuses a file whose first bytes contradict its name. It leaves f at its
// beginning.
func checkBegins(f io.ReadSeeker, as format) error {
	var first [64]byte
	n, err := io.ReadFull(f, first[:])
	if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
		return err
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	for _, p := range packings {
		if bytes.HasPrefix(first[:n], []byte(p.begins)) {
			return errPacked(p.name)
		}
	}
	if as == xml && bytes.Contains(first[:n], []byte("OSMHeader")) {
		return errors.New("not XML: name it .osm.pbf")
	}
	return nil
}

// Check returns what is wrong with path as an extract, before it is loaded: its name, by
// CheckName, or that it cannot be read as a file.
func Check(path string) error {
	if err := CheckName(path); err != nil {
		return err
	}
	info, err := os.Stat(path) // opening a pipe would block
	if err != nil {
		return cause(err)
	}
	if !info.Mode().IsRegular() {
		return errors.New("not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return cause(err)
	}
	return f.Close()
}

// CheckName returns what is wrong with path as the name of an extract. The end of the name
// gives the file format.
func CheckName(path string) error {
	if formatOf(path) != unknown {
		return nil
	}
	for _, p := range packings {
		if strings.HasSuffix(path, p.ends) {
			return errPacked(p.name)
		}
	}
	return errName
}

var errName = errors.New("not an extract: the name ends in neither .osm.pbf nor .osm")
