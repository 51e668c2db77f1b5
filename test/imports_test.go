package test

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// arrows are the allowed imports within the module, by package. `*` stands for one path element. A
// package may import only what is listed here, and every package must be listed.
var arrows = map[string][]string{
	"edge/wire":                {},
	"edge/fifo":                {},
	"edge/server":              {"edge/fifo"},
	"edge/transcript":          {},
	"edge/admin":               {"edge/httplog", "edge/overview", "edge/worldmap"},
	"edge/httplog":             {},
	"edge/worldmap":            {},
	"edge/livemap":             {"edge/worldmap"},
	"edge/overview":            {"broker/topology"},
	"edge/events":              {"edge/overview"},
	"edge/inquiry":             {"broker", "edge/admin", "edge/overview", "edge/verify"},
	"edge/position":            {"edge/wire"},
	"edge/clock":               {},
	"edge/config":              {"broker/topology", "broker/certs", "broker/options"},
	"edge/finder":              {"edge/config", "places", "places/google", "places/osm", "places/gazetteer"},
	"edge/client":              {"edge/wire"},
	"edge/client/clienttest":   {"edge/wire"},
	"edge/command":             {"edge/wire", "edge/position", "places/nearby"},
	"edge/devices":             {"edge/command", "edge/httplog", "edge/server", "edge/wire"},
	"edge/link":                {"edge/wire", "edge/position"},
	"edge/watch":               {"edge/fifo", "edge/wire", "edge/position"},
	"edge/journal":             {"edge/position"},
	"edge/verify":              {"edge/position", "edge/wire"},
	"edge/journal/storetest":   {"edge/journal"},
	"broker":                   {"broker/topology", "broker/certs", "broker/options"},
	"broker/options":           {},
	"broker/topology":          {},
	"broker/natsconf":          {"broker/topology"},
	"broker/brokertest":        {"broker", "broker/options", "broker/topology", "test/ports"},
	"broker/certs":             {},
	"broker/certs/certstest":   {},
	"places":                   {"places/nearby"},
	"places/nearby":            {},
	"places/placestest":        {"places", "places/nearby"},
	"places/google":            {"places", "places/nearby"},
	"places/google/googletest": {},
	"places/osm":               {"places", "places/nearby"},
	"places/gazetteer":         {"places", "places/nearby"},
	"edge":                     {"edge/admin", "edge/clock", "edge/command", "edge/config", "edge/devices", "edge/events", "edge/finder", "edge/inquiry", "edge/journal", "edge/link", "edge/livemap", "edge/overview", "edge/position", "edge/server", "edge/transcript", "edge/verify", "edge/watch", "edge/wire", "broker", "broker/topology", "broker/certs", "places", "places/nearby"},
	"cmd/edge":                 {"edge", "edge/config"},
	"cmd/herd":                 {"edge", "edge/admin", "edge/client", "edge/config", "edge/devices", "edge/finder", "edge/inquiry", "edge/overview", "edge/verify", "edge/wire", "broker", "broker/topology", "broker/certs", "broker/natsconf", "broker/options", "places", "cmd/herd/load"},
	"cmd/herd/load":            {"edge/client", "edge/wire"},
	"test":                     {},
	"places/osm/osmtest":       {},
	"test/bench":               {"broker/topology", "places/osm/osmtest", "test/herdtest", "test/ports"},
	"test/ports":               {},
	"test/browser":             {"test/herdtest"},
	"test/herdtest":            {"edge", "edge/client", "edge/config", "broker", "test/ports"},
	"test/sim":                 {"broker", "edge", "edge/config", "edge/journal", "edge/journal/storetest", "edge/overview", "places", "test/herdtest"},
	"test/clockedge":           {"edge", "edge/config"},
}

// monopolies are modules that only one package may import.
var monopolies = map[string]string{
	"github.com/nats-io/":                     "broker",
	"github.com/synadia-io/":                  "broker",
	"github.com/prometheus/":                  "edge/admin",
	"github.com/tidwall/cities":               "places/gazetteer",
	"github.com/sony/gobreaker":               "places",
	"golang.org/x/text":                       "places/osm",
	"github.com/tidwall/rtree":                "places/osm",
	"github.com/HdrHistogram/hdrhistogram-go": "cmd/herd/load",
	"github.com/coreos/":                      "cmd/edge",
	"github.com/coder/":                       "edge/devices",
	"golang.org/x/crypto":                     "edge/devices",
	"github.com/minio/highwayhash":            "edge/position",
}

// needless are the packages that a package must not depend on, not even indirectly, so that a
// program that imports only this package stays small and starts nothing.
var needless = map[string][]string{
	"edge/config":     {"net/http", "github.com/nats-io/", "github.com/prometheus/", "herd/broker", "herd/edge", "herd/places"},
	"edge/finder":     {"github.com/nats-io/", "github.com/prometheus/", "herd/broker", "herd/edge"},
	"edge/client":     {"net/http", "github.com/", "herd/broker", "herd/edge", "herd/places"},
	"broker/options":  {"net/http", "github.com/nats-io/", "crypto/tls"},
	"broker/natsconf": {"net/http", "github.com/nats-io/", "crypto/tls"},
}

// narrow are files of commands that need only a part of the herd, and the herd's packages that they
// may import. None of them needs an edge.
var narrow = map[string][]string{
	"cmd/edge/health.go":     {"edge/config"},
	"cmd/herd/places.go":     {"edge/config", "edge/finder", "edge/wire", "places"},
	"cmd/herd/natsconfig.go": {"edge/config", "broker/natsconf", "broker/topology"},
}

// pkg is a package in the output of `go list -json`.
type pkg struct {
	ImportPath string
	Standard   bool
	Module     *struct{ Main bool }
	Imports    []string
	CgoFiles   []string
}

// Imports follow the list of arrows, only broker imports NATS, only edge/admin imports Prometheus,
// and the binaries need no cgo.
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
				// The bench measures propagation against a bare publisher.
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

// A package does not depend, even indirectly, on what it is meant to keep out.
func TestWhatIsPureNeedsNothing(t *testing.T) {
	quiet(t)
	imports := make(map[string][]string)
	for _, p := range dependencies(t) {
		imports[p.ImportPath] = p.Imports
	}
	for room, forbidden := range needless {
		start := "herd/" + room
		if imports[start] == nil {
			t.Errorf("go list does not show %s", start)
		}
		by := map[string]string{start: ""} // the first package on the path that needs it
		for queue := []string{start}; len(queue) > 0; queue = queue[1:] {
			for _, path := range imports[queue[0]] {
				if _, seen := by[path]; seen {
					continue
				}
				by[path] = queue[0]
				queue = append(queue, path)
			}
		}
		for path, who := range by {
			for _, not := range forbidden {
				if path == not || strings.HasSuffix(not, "/") && strings.HasPrefix(path, not) {
					t.Errorf("%s needs %s, by %s", room, path, who)
				}
			}
		}
	}
}

func TestNarrowCommandsNeedNoEdge(t *testing.T) {
	for name, allowed := range narrow {
		file, err := parser.ParseFile(token.NewFileSet(), "../"+name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range file.Imports {
			path, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			if below, ours := strings.CutPrefix(path, "herd/"); ours && !slices.Contains(allowed, below) {
				t.Errorf("%s imports %s; it may import %q", name, path, allowed)
			}
		}
	}
}

func fits(pattern, path string) bool {
	if parent, ok := strings.CutSuffix(pattern, "/*"); ok {
		child, ok := strings.CutPrefix(path, parent+"/")
		return ok && !strings.Contains(child, "/")
	}
	return pattern == path
}

// dependencies returns the module's packages and all their dependencies, as built without cgo.
func dependencies(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Standard,Module,Imports,CgoFiles", "herd/...")
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=1") // with cgo enabled, files that use it would show
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
		// The standard library's packages that use cgo (net, os/user) also have a pure Go form.
		if len(p.CgoFiles) > 0 && !p.Standard {
			t.Errorf("%s uses cgo: %q", p.ImportPath, p.CgoFiles)
		}
		list = append(list, p)
	}
}
