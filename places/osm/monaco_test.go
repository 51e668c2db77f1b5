package osm

import (
	"log/slog"
	"os"
	"testing"
)

// monaco returns the extract of Monaco that HERD_TEST_OSM names.
func monaco(tb testing.TB) *Extract {
	tb.Helper()
	path := os.Getenv("HERD_TEST_OSM")
	if path == "" {
		tb.Skip("skipped: set HERD_TEST_OSM to an extract of Monaco of 2015")
	}
	e := New(path, slog.New(slog.NewTextHandler(tb.Output(), nil)))
	if err := e.Load(tb.Context()); err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestMonacoIsKnown(t *testing.T) {
	x := monaco(t).now.Load()
	nodes, ways := 0, 0
	for _, p := range x.places {
		if p.id&1 == 1 {
			ways++
		} else {
			nodes++
		}
	}
	if nodes != 215 || ways != 45 || x.lost != 0 {
		t.Errorf("%d nodes and %d ways, %d ways without nodes; want 215, 45 and none", nodes, ways, x.lost)
	}
}
