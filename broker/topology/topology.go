// Package topology is the herd's graph: which edges there are, and which of them are
// neighbours. It parses the text of HERD_TOPOLOGY and refuses graphs that cannot be a herd.
// It is pure, and knows nothing of brokers, subjects or configuration.
package topology

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Default is the default herd.
const Default = "Clark-Jaquez,Clark-Juzang,Bernard-Jaquez,Bernard-Juzang,Bernard-Johnson,Johnson-Juzang"

// MaxName is the maximum length of an edge's name in bytes.
const MaxName = 32

// Graph is a connected undirected graph of edges (H1). It never changes after parsing, so any
// goroutine may read it.
type Graph struct {
	neighbours map[string][]string // by edge; each list is sorted
}

// Parse parses a topology: links "A-B" separated by commas, or the name of a lone edge. White
// space around names is ignored. All problems of the text are reported, joined by
// [errors.Join]: empty items, items that are not links, bad names, links from an edge to
// itself, repeated links (in either direction), and edges that no path reaches.
func Parse(text string) (*Graph, error) {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if strings.TrimSpace(text) == "" {
		return nil, errors.New("no edges in the topology")
	}
	g := &Graph{neighbours: make(map[string][]string)}
	items := strings.Split(text, ",")
	for i, item := range items {
		item = strings.TrimSpace(item)
		a, b, isLink := strings.Cut(item, "-")
		a, b = strings.TrimSpace(a), strings.TrimSpace(b)
		switch {
		case item == "":
			bad("item %d is empty", i+1)
		case !isLink && len(items) == 1:
			g.neighbours[item] = nil
		case !isLink:
			bad("%q is not a link: one edge's name must be the whole topology", item)
		case a == "" || b == "":
			bad("link %q lacks a name", item)
		case a == b:
			bad("link %q joins an edge to itself", item)
		case slices.Contains(g.neighbours[a], b):
			bad("link %q is repeated", item)
		default:
			g.neighbours[a] = append(g.neighbours[a], b)
			g.neighbours[b] = append(g.neighbours[b], a)
		}
	}
	// Names are checked only now, once each: an edge with a bad name still connects its
	// neighbours, which must not be reported as unreachable.
	for _, name := range g.Edges() {
		if err := CheckName(name); err != nil {
			problems = append(problems, err)
		}
	}
	if lost := g.unreachable(); len(lost) > 0 {
		bad("no path from %s to %s", g.Edges()[0], strings.Join(lost, ", "))
	}
	if err := errors.Join(problems...); err != nil {
		return nil, err
	}
	for _, list := range g.neighbours {
		slices.Sort(list)
	}
	return g, nil
}

// CheckName reports why name cannot be an edge's name, which is 1 to [MaxName] ASCII letters,
// digits and '_'. Case matters.
func CheckName(name string) error {
	if name == "" {
		return errors.New("an edge's name is empty")
	}
	if len(name) > MaxName {
		return fmt.Errorf("edge name %q is longer than %d bytes", name, MaxName)
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_':
		default:
			return fmt.Errorf("edge name %q has characters other than letters, digits and _", name)
		}
	}
	return nil
}

// unreachable returns the edges that no path connects to the first one, sorted.
func (g *Graph) unreachable() []string {
	edges := g.Edges()
	if len(edges) == 0 {
		return nil
	}
	seen := map[string]bool{edges[0]: true}
	for next := []string{edges[0]}; len(next) > 0; {
		edge := next[0]
		next = next[1:]
		for _, n := range g.neighbours[edge] {
			if !seen[n] {
				seen[n] = true
				next = append(next, n)
			}
		}
	}
	return slices.DeleteFunc(edges, func(e string) bool { return seen[e] })
}

// Edges returns the names of all edges, sorted. The caller may change the slice.
func (g *Graph) Edges() []string {
	return slices.Sorted(maps.Keys(g.neighbours))
}

// Has reports whether name is an edge of the herd.
func (g *Graph) Has(name string) bool {
	_, ok := g.neighbours[name]
	return ok
}

// Neighbours returns the edges linked to name, sorted, or none if name is not an edge. The
// caller may change the slice.
func (g *Graph) Neighbours(name string) []string {
	return slices.Clone(g.neighbours[name])
}

// Links returns every link once, its two names in order, sorted. The caller may change the
// slice.
func (g *Graph) Links() [][2]string {
	var links [][2]string
	for _, a := range g.Edges() {
		for _, b := range g.neighbours[a] {
			if a < b {
				links = append(links, [2]string{a, b})
			}
		}
	}
	return links
}

// String returns the topology in canonical form, which [Parse] accepts: equal graphs have
// equal strings. H7 hashes it.
func (g *Graph) String() string {
	links := g.Links()
	if len(links) == 0 {
		return strings.Join(g.Edges(), "")
	}
	items := make([]string, len(links))
	for i, l := range links {
		items[i] = l[0] + "-" + l[1]
	}
	return strings.Join(items, ",")
}
