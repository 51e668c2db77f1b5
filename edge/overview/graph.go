package overview

import (
	"maps"
	"slices"

	"herd/broker/topology"
)

// graphs are the topologies of the edges that answered, each once.
func (s *Seen) graphs() (all []*topology.Graph) {
	seen := map[string]bool{}
	for i := range s.Statuses {
		t := s.Statuses[i].Topology
		if seen[t] {
			continue
		}
		seen[t] = true
		if g, err := topology.Parse(t); err == nil {
			all = append(all, g)
		}
	}
	return all
}

// markParts marks the edges and links whose loss would part edges that reach each other now. It
// goes by what works; where something cannot be seen, nothing is marked.
func (h *Herd) markParts() {
	n := network{}
	for i := range h.Edges {
		switch h.Edges[i].State {
		case Hidden:
			return
		case Silent:
		default:
			n[h.Edges[i].Name] = nil
		}
	}
	for i := range h.Links {
		if l := &h.Links[i]; l.State == LinkUp {
			n.join(l.A, l.B)
		}
	}
	edges, links := n.needed()
	for i := range h.Edges {
		h.Edges[i].Parts = edges[h.Edges[i].Name]
	}
	for i := range h.Links {
		h.Links[i].Parts = links[h.Links[i].Name()]
	}
}

// parts are the edges that reach each other, each part sorted, the largest first; nil where not
// all edges can be seen. Edges that are silent, or have no broker, are no part: more is said of
// them elsewhere.
func (s *Seen) parts() [][]string {
	if len(s.Hidden) > 0 {
		return nil
	}
	n := network{}
	for i := range s.Statuses {
		if e := &s.Statuses[i]; !e.Away() {
			n[e.Edge] = nil
		}
	}
	for i := range s.Statuses {
		for _, l := range s.Statuses[i].Links {
			_, a := n[s.Statuses[i].Edge]
			if _, b := n[l.Neighbour]; a && b && l.Up {
				n.join(s.Statuses[i].Edge, l.Neighbour)
			}
		}
	}
	return n.parts()
}

// A network is which edges reach which directly.
type network map[string][]string

func (n network) join(a, b string) {
	n[a], n[b] = append(n[a], b), append(n[b], a)
}

func (n network) parts() (all [][]string) {
	seen := map[string]bool{}
	for _, start := range slices.Sorted(maps.Keys(n)) {
		if seen[start] {
			continue
		}
		seen[start] = true
		part := []string{start}
		for i := 0; i < len(part); i++ {
			for _, next := range n[part[i]] {
				if !seen[next] {
					seen[next] = true
					part = append(part, next)
				}
			}
		}
		slices.Sort(part)
		all = append(all, part)
	}
	slices.SortStableFunc(all, func(a, b []string) int { return len(b) - len(a) })
	return all
}

// needed returns the edges and links without which others would not reach each other: the
// articulation points and bridges, by Tarjan's depth-first search.
func (n network) needed() (edges, links map[string]bool) {
	edges, links = map[string]bool{}, map[string]bool{}
	order, lowest := map[string]int{}, map[string]int{}
	var visit func(name, from string)
	visit = func(name, from string) {
		order[name] = len(order) + 1
		lowest[name] = order[name]
		children := 0
		for _, next := range n[name] {
			switch {
			case next == from: // links are not repeated
			case order[next] != 0:
				lowest[name] = min(lowest[name], order[next])
			default:
				children++
				visit(next, name)
				lowest[name] = min(lowest[name], lowest[next])
				if from != "" && lowest[next] >= order[name] {
					edges[name] = true
				}
				if lowest[next] > order[name] {
					links[LinkName(name, next)] = true
				}
			}
		}
		if from == "" && children > 1 {
			edges[name] = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(n)) {
		if order[name] == 0 {
			visit(name, "")
		}
	}
	return edges, links
}
