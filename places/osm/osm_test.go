package osm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"herd/places"
	"herd/places/nearby"
	"herd/places/osm/osmtest"
	"herd/places/placestest"
)

var (
	_ places.Instant = (*Extract)(nil)
	_ places.Loader  = (*Extract)(nil)
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serving returns a provider that has loaded x.
func serving(x *index) *Extract {
	e := New("", silent)
	e.now.Store(x)
	return e
}

func TestConformance(t *testing.T) {
	var spots []spot
	for i := range 3000 {
		at := float64(i) * 1e-4
		spots = append(spots,
			spot{int64(3 * i), fmt.Sprint("town ", i), 48 + at*0.3, 11 - at},
			spot{int64(3*i + 1), fmt.Sprint("line ", i), -17 + at, 180 - at},
			spot{int64(3*i + 2), fmt.Sprint("pole ", i), 90 - at, at * 1000})
	}
	e := serving(indexOf(spots))
	quiet := places.Query{Lat: 0, Lon: -140, Radius: 50, Max: 5}
	for name, busy := range map[string]places.Query{
		"a town":           {Lat: 48, Lon: 11, Radius: 50, Max: 5},
		"the antimeridian": {Lat: -17, Lon: -180, Radius: 2, Max: 2},
		"the pole":         {Lat: 90, Lon: 7, Radius: 1, Max: 19},
	} {
		t.Run(name, func(t *testing.T) { placestest.Run(t, e, placestest.Known{Busy: busy, Quiet: quiet}) })
	}
}

func TestEveryAnswerSaysWhoseDataItIs(t *testing.T) {
	e := serving(indexOf([]spot{{1, "x", 1, 2}}))
	for _, q := range []places.Query{{Lat: 1, Lon: 2, Radius: 1, Max: 1}, {Lat: -1, Lon: 2, Radius: 1, Max: 1}} {
		answer, err := e.Nearby(t.Context(), q)
		if err != nil || !slices.Equal(answer.HTMLAttributions, []string{Attribution}) {
			t.Errorf("%+v: %q, %v", q, answer.HTMLAttributions, err)
		}
	}
	if !strings.Contains(Attribution, "OpenStreetMap</a> contributors") || !strings.Contains(Attribution, "ODbL") {
		t.Error(Attribution)
	}
}

func TestQuestionsThatMakeNoSense(t *testing.T) {
	e := serving(indexOf(nil))
	for _, q := range []places.Query{{Lat: 90.1, Radius: 1, Max: 1}, {Lon: -180.1, Radius: 1, Max: 1}, {Radius: -1, Max: 1}, {Radius: 1, Max: -1}} {
		if _, err := e.Nearby(t.Context(), q); !errors.Is(err, places.ErrInvalid) {
			t.Errorf("%+v: %v, want %v", q, err, places.ErrInvalid)
		}
	}
}

var here = places.Query{Lat: 43.73, Lon: 7.42, Radius: 5, Max: 20}

// file is an extract on disk.
type file struct {
	t    *testing.T
	path string
	log  bytes.Buffer
	*Extract
}

func newFile(t *testing.T, name string) *file {
	f := &file{t: t, path: filepath.Join(t.TempDir(), name)}
	f.Extract = New(f.path, slog.New(slog.NewTextHandler(&f.log, nil)))
	return f
}

// put replaces the file atomically, as updates of an extract should.
func (f *file) put(text []byte) {
	f.t.Helper()
	if err := errors.Join(os.WriteFile(f.path+".new", text, 0o600), os.Rename(f.path+".new", f.path)); err != nil {
		f.t.Fatal(err)
	}
}

func (f *file) names() []string {
	f.t.Helper()
	answer, err := f.Nearby(f.t.Context(), here)
	if err != nil {
		f.t.Fatal(err)
	}
	all := []string{}
	for _, p := range answer.Results {
		all = append(all, p.Name)
	}
	return all
}

func shopsAt(n int) []byte {
	var nodes []osmtest.Node
	for i := range n {
		nodes = append(nodes, osmtest.Node{ID: int64(i + 1), Lat: here.Lat, Lon: here.Lon, Tags: []string{"name", fmt.Sprint("shop of ", n), "shop", "yes"}})
	}
	return osmtest.PBF(osmtest.Form{}, nodes, nil)
}

func TestBeforePlacesAreLoadedTheNextIsAsked(t *testing.T) {
	f := newFile(t, "x.osm.pbf")
	_, err := f.Nearby(t.Context(), here)
	if e := new(places.Error); !errors.As(err, &e) || e.Status != nearby.UnknownError || !strings.Contains(e.Message, "still being loaded") || f.Known() != 0 {
		t.Errorf("C16: %v", err)
	}
	if err := f.Load(t.Context()); err == nil || !strings.Contains(err.Error(), "no such file") || strings.Count(err.Error(), f.path) != 1 {
		t.Error(err)
	}
	_, err = f.Nearby(t.Context(), here)
	if e := new(places.Error); !errors.As(err, &e) || e.Status != nearby.UnknownError || !strings.Contains(e.Message, "could not be loaded") {
		t.Errorf("C16: %v", err)
	}
	f.put(shopsAt(1))
	if err := f.Load(t.Context()); err != nil || len(f.names()) != 1 || f.Known() != 1 {
		t.Errorf("%v, %q", err, f.names())
	}
}

func TestAChangedFileIsLoadedAndABrokenOneIsNot(t *testing.T) {
	f := newFile(t, "x.osm.pbf")
	load := func(text []byte, wantErr string, want int) {
		t.Helper()
		if text != nil {
			f.put(text)
		}
		err := f.Load(t.Context())
		if (err == nil) != (wantErr == "") || err != nil && !strings.Contains(err.Error(), wantErr) {
			t.Errorf("%v, want %q", err, wantErr)
		}
		if got := f.names(); len(got) != want || got[0] != fmt.Sprint("shop of ", want) {
			t.Errorf("%q, want %d", got, want)
		}
	}
	load(shopsAt(2), "", 2)
	load(nil, "", 2)
	if !strings.Contains(f.log.String(), "extract unchanged") {
		t.Errorf("the same file was read again:\n%s", &f.log)
	}
	load(shopsAt(3), "", 3)
	load(shopsAt(4)[:100], "in the middle of a block", 3)
	load(nil, "in the middle of a block", 3)
	load([]byte("what is this"), "not an .osm.pbf file", 3)
	load(shopsAt(5), "", 5)
	if err := os.Remove(f.path); err != nil {
		t.Fatal(err)
	}
	load(nil, "no such file", 5)
	if err := syscall.Mkfifo(f.path, 0o600); err != nil {
		t.Fatal(err)
	}
	load(nil, "not a regular file", 5) // and does not wait for a writer
}

// TestThereIsNoGapWhileAFileIsLoaded asks all the time: the old places answer until the new
// ones do.
func TestThereIsNoGapWhileAFileIsLoaded(t *testing.T) {
	f := newFile(t, "x.osm.pbf")
	f.put(shopsAt(1))
	if err := f.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var askers sync.WaitGroup
	for range 2 {
		askers.Go(func() {
			for !stop.Load() {
				answer, err := f.Nearby(context.Background(), here)
				if n := len(answer.Results); err != nil || n == 0 || answer.Results[n-1].Name != fmt.Sprint("shop of ", n) {
					t.Errorf("%v, %v", answer, err)
					return
				}
			}
		})
	}
	for n := 2; n < 20; n++ {
		f.put(shopsAt(n))
		if err := f.Load(t.Context()); err != nil || f.Known() != n {
			t.Errorf("%d places, want %d; %v", f.Known(), n, err)
		}
	}
	stop.Store(true)
	askers.Wait()
}

func TestNamesOfExtracts(t *testing.T) {
	for path, want := range map[string]format{
		"monaco.osm.pbf": pbf, "/a/b.osm": xml, "x.pbf": unknown, "x.osm.gz": unknown, "": unknown, "osm": unknown, ".osm.pbf": pbf,
	} {
		if got, err := formatOf(path), CheckName(path); got != want || (err == nil) != (want != unknown) {
			t.Errorf("%q: %q, %v; want %q", path, got, err, want)
		}
	}
}
