package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// arrows are the imports within the module that HOUSE.md allows. `*` stands for one path
// element. What a room may import is all that stands here; a room that is missing fails.
var arrows = map[string][]string{
	"edge/wire":                {},
	"edge/server":              {},
	"edge/transcript":          {},
	"edge/admin":               {},
	"edge/position":            {"edge/wire"},
	"edge/command":             {"edge/wire", "edge/position", "places/nearby"},
	"edge/link":                {"edge/wire", "edge/position"},
	"edge/journal":             {"edge/position"},
	"broker":                   {"broker/topology", "broker/certs"},
	"broker/topology":          {},
	"broker/brokertest":        {"broker", "broker/topology"},
	"broker/certs":             {},
	"broker/certs/certstest":   {},
	"places":                   {"places/nearby"},
	"places/nearby":            {},
	"places/placestest":        {"places", "places/nearby"},
	"places/google":            {"places", "places/nearby"},
	"places/google/googletest": {},
	"places/osm":               {"places", "places/nearby"},
	"places/gazetteer":         {"places", "places/nearby"},
	"edge":                     {"edge/*", "broker", "broker/topology", "broker/certs", "places", "places/*"},
	"cmd/edge":                 {"edge"},
	"cmd/herd":                 {"edge", "edge/admin", "edge/wire", "broker", "broker/topology", "broker/certs", "places", "cmd/herd/load"},
	"cmd/herd/load":            {"edge/wire"},
	"test":                     {},
	"places/osm/osmtest":       {},
	"test/bench":               {},
}

// monopolies are modules that only one room may import.
var monopolies = map[string]string{
	"github.com/nats-io/":                     "broker",
	"github.com/synadia-io/":                  "broker",
	"github.com/prometheus/":                  "edge/admin",
	"github.com/tidwall/cities":               "places/gazetteer",
	"github.com/sony/gobreaker":               "places",
	"github.com/hashicorp/golang-lru":         "places",
	"github.com/paulmach/":                    "places/osm",
	"github.com/tidwall/rtree":                "places/osm",
	"github.com/HdrHistogram/hdrhistogram-go": "cmd/herd/load",
	"github.com/coreos/":                      "cmd/edge",
}

// pkg is what `go list -json` says of a package.
type pkg struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Main bool }
	Imports    []string
	CgoFiles   []string
}

// HOUSE.md: every arrow points down, only broker knows NATS, only edge/admin Prometheus,
// and the binaries need no C.
func TestArrowsPointDown(t *testing.T) {
	quiet(t)
	own := 0
	for _, p := range dependencies(t) {
		if p.Module == nil || !p.Module.Main {
			continue
		}
		own++
		room := strings.TrimPrefix(p.ImportPath, "herd/")
		allowed, known := arrows[room]
		if !known {
			t.Errorf("%s is no room of the house; say here what it may import", room)
			continue
		}
		for _, path := range p.Imports {
			if below, ours := strings.CutPrefix(path, "herd/"); ours {
				if !slices.ContainsFunc(allowed, func(pattern string) bool { return fits(pattern, below) }) {
					t.Errorf("%s imports %s; it may import %q", room, below, allowed)
				}
			}
			for module, owner := range monopolies {
				// A bare publisher is what propagation is measured against.
				apart := owner == "broker" && (room == "broker/brokertest" || room == "test/bench")
				if strings.HasPrefix(path, module) && room != owner && !apart {
					t.Errorf("%s imports %s; only %s does", room, path, owner)
				}
			}
			if path == "C" {
				t.Errorf("%s imports C", room)
			}
		}
		if len(p.CgoFiles) > 0 {
			t.Errorf("%s has cgo files: %q", room, p.CgoFiles)
		}
	}
	if own < 10 {
		t.Errorf("go list shows %d packages of the module, that cannot be all", own)
	}
}

func fits(pattern, path string) bool {
	if parent, ok := strings.CutSuffix(pattern, "/*"); ok {
		child, ok := strings.CutPrefix(path, parent+"/")
		return ok && !strings.Contains(child, "/")
	}
	return pattern == path
}

// dependencies is every package of the module and every one that those need, as they are
// built without cgo.
func dependencies(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module,Imports,CgoFiles", "herd/...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1") // with it cgo files show
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	var list []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return list
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		// Of the standard library's own cgo (net, os/user) there is a pure form.
		if len(p.CgoFiles) > 0 && !p.Standard {
			t.Errorf("%s uses cgo: %q", p.ImportPath, p.CgoFiles)
		}
		list = append(list, p)
	}
}
