// Package osm is the places provider that reads an extract of OpenStreetMap: every
// named shop, café, bus stop and museum of a region, without a network and without a
// key. Extracts of continents, countries and districts are to be had at many places;
// the data is © OpenStreetMap contributors, under the Open Database License (ODbL), and
// every answer says so.
//
// A place is a node or a way with a name and one of the tags in kinds.go. Where a way is
// is the centre of the box around its nodes, as OpenStreetMap's own tools have it.
// Relations are left out: what is mapped as one, such as a palace with courtyards, is
// found only by what is mapped inside it.
//
// It knows nothing of clients and edges, nor of where extracts come from.
package osm

import (
	"context"
	"errors"
	"fmt"
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

// Attribution is in every answer, as the ODbL wants it.
const Attribution = `© <a href="https://www.openstreetmap.org/copyright">OpenStreetMap</a> contributors, ODbL`

// What clients read while there are no places (C16).
var (
	errLoading = &places.Error{Status: nearby.UnknownError, Message: "the places are still being loaded"}
	errNone    = &places.Error{Status: nearby.UnknownError, Message: "the places could not be loaded"}
)

// Extract is a places.Loader of what is in one file. It has no places, and says so with
// an error that passes to the next provider, until the first Load has ended well. All
// methods may be called from any goroutine, but Load by one at a time.
type Extract struct {
	path string
	log  *slog.Logger

	now    atomic.Pointer[index] // nil: nothing is loaded
	failed atomic.Bool           // the last Load
	file   os.FileInfo           // of what is loaded; Load's
}

// New returns the provider for the extract at path, whose name CheckName takes. It does
// not look at the file: Load does.
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

// Nearby returns the places within q.Radius, which is inclusive, nearest first and
// between equally near ones by name, then id: the gazetteer's order. It takes
// microseconds and does not look at ctx more than once. The types of the places are
// shared between answers.
func (e *Extract) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nearby.Answer{}, err
	}
	if !(math.Abs(q.Lat) <= 90 && math.Abs(q.Lon) <= 180 && q.Radius >= 0 && q.Max >= 0) { // NaN included
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

// Load reads the file, unless it is the one that is loaded, by its identity, size and
// time of change. What was loaded before serves on meanwhile, and stays if the file cannot
// be read; the places of both are in memory until then. It says in the log how far it is.
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

// read returns what is in the file, or nil where that is loaded.
func (e *Extract) read(ctx context.Context) (*index, error) {
	if info, err := os.Stat(e.path); err != nil {
		return nil, cause(err)
	} else if !info.Mode().IsRegular() { // opening a pipe would wait for its other end
		return nil, errors.New("no regular file")
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
		return nil, errors.New("it was changed while it was read")
	}
	e.file = before
	return x, nil
}

// cause returns err without the path, which is named once.
func cause(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	return err
}

func same(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// format is how an extract is written.
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

// CheckName says what speaks against path as the name of an extract: the end of the name
// tells how the file is written.
func CheckName(path string) error {
	if formatOf(path) == unknown {
		return errName
	}
	return nil
}

var errName = errors.New("no extract: the name ends in neither .osm.pbf nor .osm")
