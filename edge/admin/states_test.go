package admin_test

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"herd/edge/overview"
)

// now is when the states below were put together.
var now = time.Date(2026, 11, 30, 11, 41, 2, 0, time.UTC)

const defaultHerd = "Bernard-Jaquez,Bernard-Johnson,Bernard-Juzang,Clark-Jaquez,Clark-Juzang,Johnson-Juzang"

// well returns the state of a herd in which nothing is wrong. Its history is a wave.
func well(topology string) overview.Herd {
	started := now.Add(-161 * time.Minute)
	h := overview.Herd{
		At:     now,
		Server: overview.Server{Name: "Clark", Version: "v0.9.0", Commit: "0094df9", Started: started, Scope: overview.ScopeHerd, Map: overview.Switch{On: true}},
		Events: []overview.Event{}, Links: []overview.Link{}, Edges: []overview.Edge{},
		Columns: overview.Columns{
			Edge: []string{"clients", "connections", "watches", "updates_per_second", "questions_per_second", "refusals_per_second", "p99_seconds", "cpu_cores", "memory_bytes", "goroutines", "journal_lag"},
			Link: []string{"ab.lag", "ab.round_trip_seconds", "ab.lines_per_second", "ab.bytes_per_second", "ba.lag", "ba.round_trip_seconds", "ba.lines_per_second", "ba.bytes_per_second"},
		},
		Summary: overview.Summary{Level: overview.OK, Problems: []overview.Problem{}},
	}
	near := map[string][]string{}
	for _, l := range strings.Split(topology, ",") {
		a, b, two := strings.Cut(l, "-")
		if !two { // the name of a lone edge
			near[a] = nil
			continue
		}
		if a > b {
			a, b = b, a
		}
		near[a], near[b] = append(near[a], b), append(near[b], a)
		h.Links = append(h.Links, overview.Link{
			A: a, B: b, State: overview.LinkUp, Level: overview.OK, Words: "up", Since: started.Add(2 * time.Second),
			AB: overview.Direction{State: overview.LinkUp, Lag: new(uint64(3)), RoundTrip: 0.0071, Lines: new(2711.0), Bytes: new(230435.0)},
			BA: overview.Direction{State: overview.LinkUp, Lag: new(uint64(0)), RoundTrip: 0.0069, Lines: new(899.0), Bytes: new(76400.0)},
		})
	}
	slices.SortFunc(h.Links, func(a, b overview.Link) int { return cmp.Or(cmp.Compare(a.A, b.A), cmp.Compare(a.B, b.B)) })
	for i, name := range sorted(near) {
		s := overview.Status{
			Edge: name, Epoch: "18c4f0", Version: "v0.9.0", Ready: true, Clients: 10_200, Connections: 203, Topology: topology, Watches: 1,
			Started: started, ReadySince: started.Add(2 * time.Second), Journal: overview.Journal{Mode: "auto", Up: true, Since: started},
			BrokerConnected: true, BrokerServer: "nats://127.0.0.1:4222", BrokerAt: started, Broker: "connected nats://127.0.0.1:4222",
			Process: overview.Process{ID: fmt.Sprint("host/", i), CPU: new(0.13), Memory: 48 << 20, Goroutines: 61, Cores: 2},
			Rates:   &overview.Rates{Over: 3, Updates: 722, Questions: 24.4, P99: new(0.00025)},
		}
		for _, n := range near[name] {
			s.Links = append(s.Links, overview.LinkStatus{Neighbour: n, Up: true, In: true, Out: true, Lag: 3})
		}
		h.Edges = append(h.Edges, overview.Edge{
			Name: name, State: overview.Ready, Level: overview.OK, Words: "ready", Since: started.Add(2 * time.Second), Neighbours: append([]string{}, near[name]...), Status: &s,
		})
		h.Events = append(h.Events, overview.Event{ID: name + "/18c4f0/1", At: started.Add(2 * time.Second), Edge: name, Level: "info", Event: "ready", Text: "ready"})
	}
	h.History = overview.History{Every: 10, Until: now}
	for i := range 60 {
		f := float64(i)
		for list, v := range map[*[]*float64]float64{
			&h.History.Updates: 3000 + 600*math.Sin(f/7), &h.History.Questions: 120 + 9*math.Cos(f/3), &h.History.Refusals: 0,
			&h.History.P99: 0.00025 + 0.00004*math.Sin(f), &h.History.Lag: 30 + 20*math.Sin(f/2),
		} {
			if i < 12 {
				*list = append(*list, nil)
			} else {
				*list = append(*list, new(v))
			}
		}
	}
	n := len(h.Edges)
	h.Totals = overview.Totals{Edges: n, EdgesReady: n, Links: len(h.Links), LinksUp: len(h.Links), Clients: 10_200, Connections: 203 * n, Watches: n,
		Updates: 722 * float64(n), Questions: 24.4 * float64(n), P99: new(0.00025), Lag: 3}
	h.Summary.Short = fmt.Sprintf("%d of %d ready", n, n)
	h.Summary.Sentence = fmt.Sprintf("%d of %d edges ready, %d of %d links up, 10,200 clients, 3,610 updates/s, nothing refused", n, n, len(h.Links), len(h.Links))
	return h
}

func sorted[V any](m map[string]V) []string {
	var names []string
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func edge(h *overview.Herd, name string) *overview.Edge {
	return &h.Edges[slices.IndexFunc(h.Edges, func(e overview.Edge) bool { return e.Name == name })]
}

// problem adds a problem, and makes the summary say it.
func problem(h *overview.Herd, p overview.Problem) {
	if p.Edges == nil {
		p.Edges = []string{}
	}
	if p.Links == nil {
		p.Links = []string{}
	}
	h.Summary.Problems = append(h.Summary.Problems, p)
	if h.Summary.Level != overview.Down {
		h.Summary.Level = p.Level
	}
	h.Summary.Sentence = p.Text + " since " + p.Since.Format(time.TimeOnly) + "; " + h.Summary.Sentence
	h.Summary.Short = p.Text[:min(len(p.Text), 40)]
	h.Summary.Since = p.Since
}

// cut makes a link down, or silent where one of its ends is.
func cut(h *overview.Herd, a, b, state, words string, since time.Time) {
	for i := range h.Links {
		l := &h.Links[i]
		if l.A != a || l.B != b {
			continue
		}
		l.State, l.Level, l.Words, l.Since = state, overview.Down, words, since
		l.AB = overview.Direction{State: overview.LinkDown, Since: since, Reason: "silent for 3s (in)", Lag: new(uint64(481)), Lines: new(0.0), Bytes: new(0.0)}
		l.BA = l.AB
		h.Totals.LinksUp--
		for _, end := range []string{a, b} {
			if e := edge(h, end); e.State == overview.Ready {
				e.Level, e.Words = overview.Warning, "1 link down"
			}
			h.Events = slices.Insert(h.Events, 0, overview.Event{ID: end + "/18c4f0/" + a + b, At: since, Edge: end, Level: "warning", Event: "link down", Text: "link " + a + "–" + b + " down: silent for 3s", Open: true})
		}
	}
}

// A state is a herd with something wrong, what its page must say, and a part of the page that must be there.
type state struct {
	name  string
	herd  overview.Herd
	words []string // in the text of the page
	parts []string // selectors, each of which must match
}

func states() []state {
	killed := well(defaultHerd)
	since := now.Add(-4 * time.Minute)
	e := edge(&killed, "Juzang")
	e.State, e.Level, e.Words, e.Why, e.Since, e.Status = overview.Silent, overview.Down, "silent", "not connected to the broker", since, nil
	for _, other := range []string{"Bernard", "Clark", "Johnson"} {
		cut(&killed, other, "Juzang", overview.Silent, "Juzang is silent", since)
	}
	edge(&killed, "Bernard").Parts = true
	killed.Links[3].Parts = true
	killed.Totals.EdgesReady = 4
	problem(&killed, overview.Problem{Level: overview.Down, Text: "Juzang is silent: not connected to the broker; neighbour of Bernard, Clark and Johnson", Since: since, Edges: []string{"Juzang"}, Next: "journalctl -u herd-edge@Juzang"})

	link := well(defaultHerd)
	cut(&link, "Bernard", "Jaquez", overview.LinkDown, "down", since)
	problem(&link, overview.Problem{Level: overview.Down, Text: "the link Bernard–Jaquez is down", Since: since, Links: []string{"Bernard-Jaquez"}, Next: "nats trace herd.at.Bernard.Jaquez"})

	away := well(defaultHerd)
	away.Server.BrokerAway = true
	for i := range away.Links {
		cut(&away, away.Links[i].A, away.Links[i].B, overview.LinkDown, "down", since)
	}
	for i := range away.Edges {
		e := &away.Edges[i]
		e.Level, e.Words = overview.Down, "broker away"
		if e.Name != "Clark" {
			e.State, e.Level, e.Words, e.Status = overview.Hidden, overview.Unknown, "not visible from here", nil
			continue
		}
		e.Status.BrokerConnected, e.Status.Broker, e.Status.BrokerAt, e.Status.BrokerSince = false, "away nats://127.0.0.1:4222", since, since
	}
	problem(&away, overview.Problem{Level: overview.Down, Text: "the broker is away from Clark: connection refused", Since: since, Edges: []string{"Clark"}})

	differs := well(defaultHerd)
	e = edge(&differs, "Johnson")
	e.TopologyDiffers, e.Level, e.Words, e.ConfigDiffers = true, overview.Warning, "topology differs", []string{"Bernard"}
	e.Status.Topology = "Bernard-Johnson,Johnson-Juzang"
	differs.Links[1].ConfigDiffers = true
	problem(&differs, overview.Problem{Level: overview.Warning, Text: "Johnson has another topology than the others", Since: since, Edges: []string{"Johnson"}})

	journal := well(defaultHerd)
	e = edge(&journal, "Clark")
	e.Level, e.Words = overview.Warning, "no journal"
	e.Status.Journal = overview.Journal{Mode: "auto", Since: since, Lag: 12345, Error: "no responders"}
	problem(&journal, overview.Problem{Level: overview.Warning, Text: "Clark writes no journal: no responders", Since: since, Edges: []string{"Clark"}})

	accounts := well(defaultHerd)
	accounts.Server.Scope, accounts.Server.ScopeNote, accounts.Server.ScopeCommand = overview.ScopeEdge, "With accounts, an edge may ask no other edge.", "herd page --nkey operator.nk"
	accounts.Server.Map = overview.Switch{Why: "positions are private: this page is not on a loopback address; HERD_MAP=on shows them"}
	for i := range accounts.Edges {
		if e := &accounts.Edges[i]; e.Name != "Clark" {
			e.State, e.Level, e.Words, e.Status, e.Since = overview.Hidden, overview.Unknown, "not visible from here", nil, time.Time{}
		}
	}

	odd := well("Clark-Jaquez")
	odd.Server.Name = `<script>document.title="broken"</script>`
	odd.Events[0].Text = "link to <b>Jaquez</b> \u202edown\u202c " + strings.Repeat("long", 256)
	edge(&odd, "Clark").Why = `<img src=x onerror="document.title='broken'">`

	many := well(sixty())
	many.Edges[7].Parts, many.Links[20].Parts = true, true
	cut(&many, many.Links[5].A, many.Links[5].B, overview.LinkDown, "down", since)
	problem(&many, overview.Problem{Level: overview.Down, Text: "the link " + many.Links[5].A + "–" + many.Links[5].B + " is down", Since: since})

	return []state{
		{"healthy", well(defaultHerd), []string{"5 of 5 edges ready", "3,610"}, []string{"#top.ok", ".node.ok"}},
		{"killed", killed, []string{"Juzang is silent", "since 11:37:02", "journalctl", "parts the herd"}, []string{"#top.down", ".node.silent", ".link.silent", "tr.silent#edge-Juzang", ".node.parts", ".link.parts"}},
		{"link", link, []string{"the link Bernard–Jaquez is down", "still so"}, []string{"#top.down", ".link.down", ".node.warning"}},
		{"away", away, []string{"cannot ask other edges", "not visible from here"}, []string{"#top.down", ".node.unknown", ".node.down"}},
		{"differs", differs, []string{"Johnson has another topology", "The edges have different topologies", "configured otherwise"}, []string{"#top.warning", ".node.warning"}},
		{"journal", journal, []string{"Clark writes no journal", "not written", "12,345 behind"}, []string{"#top.warning", "tr.warning#edge-Clark"}},
		{"lone", well("Clark"), []string{"1 of 1 edges ready", "A lone edge"}, []string{".node.ok"}},
		{"accounts", accounts, []string{"herd page --nkey operator.nk", "HERD_MAP=on"}, []string{".node.unknown", "#positions[hidden]"}},
		{"odd", odd, []string{`<script>document.title="broken"</script>`, "<img src=x", `<b>Jaquez</b> \u{202e}down`}, nil},
		{"sixty", many, []string{"60 of 60 edges ready"}, []string{".link.down"}},
	}
}

// sixty is a topology of sixty edges: six rings of nine and a chain.
func sixty() string {
	var links []string
	for ring := range 6 {
		for i := range 9 {
			links = append(links, fmt.Sprintf("R%d_%d-R%d_%d", ring, i, ring, (i+1)%9))
		}
		links = append(links, fmt.Sprintf("R%d_0-R%d_4", ring, (ring+1)%6))
	}
	at := "R5_7"
	for i := range 6 {
		links = append(links, fmt.Sprintf("%s-Tail%d", at, i))
		at = fmt.Sprintf("Tail%d", i)
	}
	return strings.Join(links, ",")
}
