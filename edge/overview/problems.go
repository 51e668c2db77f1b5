package overview

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Problems returns everything that is wrong, the most serious first. A consequence of a listed
// problem is not listed: an edge that is silent or has no broker has no links and no journal
// either. Edges with the same problem are listed together. now is for what expires.
func (s *Seen) Problems(now time.Time) []Problem {
	p := problems{Seen: s, now: now, cut: map[string]bool{}}
	if s.Blind != "" {
		p.add(Problem{Level: Down, What: s.Blind, Edges: []string{}})
	}
	p.silent()
	p.brokers()
	p.links()
	p.differences()
	p.warnings()
	slices.SortStableFunc(p.all, func(a, b Problem) int { return b.Level.rank() - a.Level.rank() })
	return p.all
}

// rank is how bad a level is.
func (l Level) rank() int {
	return slices.Index([]Level{OK, Unknown, Warning, Down}, l)
}

type problems struct {
	*Seen
	now time.Time
	all []Problem
	cut map[string]bool // edges of whose links more is said elsewhere
	// complaints, certificates and copies are told after what is down.
	complaints   groups[string]
	certificates groups[time.Time]
}

func (p *problems) add(x Problem) {
	if x.Links == nil {
		x.Links = []string{}
	}
	x.Text = x.What
	if x.More != "" {
		x.Text += ": " + x.More
	}
	if x.Short == "" {
		x.Short = x.What
	}
	p.all = append(p.all, x)
}

func (p *problems) silent() {
	for _, s := range p.Silent() {
		p.cut[s.Name] = true
		why := s.Why
		if len(s.By) > 0 {
			why += ", neighbour of " + List(s.By)
		}
		p.add(Problem{Level: Down, What: s.Name + " is silent", Short: s.Name + " silent", More: why, Since: s.Since, Edges: []string{s.Name}, Next: logOf(s.Name)})
	}
}

// brokers tells of edges without a broker, edges that are not ready, and journals.
func (p *problems) brokers() {
	away := groups[bool]{} // one: which of several servers each had tried last is chance
	unready, journals := groups[string]{}, groups[journalFault]{}
	var server, why string // of the first that is away
	for i := range p.Statuses {
		e := &p.Statuses[i]
		switch {
		case e.Away():
			p.cut[e.Edge] = true
			server = orElse(server, strings.TrimSpace(strings.TrimPrefix(e.Broker, "away")))
			why = orElse(why, e.BrokerError)
			away.add(true, e.Edge, e.BrokerSince)
		case e.BrokerError != "":
			p.complaints.add(e.BrokerError, e.Edge, time.Time{})
		}
		// The same of all edges that have it, whatever the bucket's name.
		general := func(text string) string {
			return strings.ReplaceAll(text, p.Prefix+"_"+e.Edge, p.Prefix+"_"+anyEdge)
		}
		if !e.Ready {
			unready.add(general(orElse(e.Why, "no reason given")), e.Edge, e.ReadySince)
		}
		if at := e.CertificateExpires; !at.IsZero() && at.Sub(p.now) < CertificateWarning {
			p.certificates.add(at.UTC(), e.Edge, time.Time{})
		}
		if e.Journal.Error != "" && !e.Away() {
			journals.add(journalFault{general(e.Journal.Error), e.Journal.Up, e.Journal.Mode != "on"}, e.Edge, e.Journal.DownSince)
		}
	}
	for _, g := range away.list {
		p.add(Problem{Level: Down, What: List(g.edges) + plural(g.edges, " has", " have") + " no broker", Short: "broker away", More: why, Since: g.since, Edges: g.edges,
			Next: "herd health --nats " + orElse(server, "URL") + "; " + logOf(g.edges[0])})
	}
	for _, g := range unready.list {
		p.add(Problem{Level: Down, What: List(g.edges) + plural(g.edges, " is", " are") + " not ready", Short: List(g.edges) + " not ready", More: g.about(g.key), Since: g.since, Edges: g.edges, Next: logOf(g.edges[0])})
	}
	for _, g := range journals.list {
		x := Problem{Level: Down, What: "the journal of " + List(g.edges) + " is not written", Short: "journal not written", More: g.about(g.key.why), Since: g.since, Edges: g.edges,
			Next: natsAs(g.edges[0], "account info")}
		if g.key.up {
			x.What, x.Short, x.Next = "the journal of "+List(g.edges)+" takes no new clients", "journal nearly full", natsAs(g.edges[0], "stream info KV_"+p.Prefix+"_"+g.edges[0])
		}
		if g.key.optional {
			x.Level = Warning
		}
		p.add(x)
	}
}

// links tells of links that are down, once where both ends say the same, and of a herd that is in
// parts.
func (p *problems) links() {
	for i := range p.Statuses {
		e := &p.Statuses[i]
		for _, l := range e.Links {
			if l.Up || p.cut[l.Neighbour] || p.cut[e.Edge] {
				continue
			}
			x := Problem{Level: Down, Edges: []string{e.Edge, l.Neighbour}, Links: []string{LinkName(e.Edge, l.Neighbour)}, Since: l.DownSince,
				Short: "link " + LinkName(e.Edge, l.Neighbour) + " down",
				What:  fmt.Sprintf("the link from %s to %s is down", e.Edge, l.Neighbour), More: l.Reason, Next: "nats trace " + p.Prefix + ".at." + e.Edge + "." + l.Neighbour}
			other := p.link(l.Neighbour, e.Edge)
			switch {
			case l.In: // its messages arrive, but no acks
				x.What = fmt.Sprintf("the link from %s to %s is in only", e.Edge, l.Neighbour)
				x.More = fmt.Sprintf("nothing from %s arrives there", e.Edge)
			case l.Out:
				x.What = fmt.Sprintf("the link from %s to %s is out only", e.Edge, l.Neighbour)
				x.More = fmt.Sprintf("nothing from %s arrives here", l.Neighbour)
				x.Next = "nats trace " + p.Prefix + ".at." + l.Neighbour + "." + e.Edge
			case other != nil && !other.Up && !other.In && !other.Out:
				if e.Edge > l.Neighbour {
					continue // told by the other end
				}
				x.What = fmt.Sprintf("the link between %s and %s is down", e.Edge, l.Neighbour)
				if at := other.DownSince; !at.IsZero() && (x.Since.IsZero() || at.Before(x.Since)) {
					x.Since = at
				}
			}
			p.add(x)
		}
	}
	if parts := p.parts(); len(parts) > 1 {
		var texts []string
		for _, names := range parts {
			texts = append(texts, List(names))
		}
		p.add(Problem{Level: Down, What: fmt.Sprintf("the herd is in %d parts", len(parts)), More: strings.Join(texts, "; "), Edges: slices.Concat(parts...)})
	}
}

// link is the link to a neighbour as an edge shows it; nil where it does not.
func (s *Seen) link(edge, neighbour string) *LinkStatus {
	if e := s.status(edge); e != nil {
		for i := range e.Links {
			if e.Links[i].Neighbour == neighbour {
				return &e.Links[i]
			}
		}
	}
	return nil
}

// differences tells of what should be the same at all edges.
func (p *problems) differences() {
	for _, g := range p.certificates.list {
		when := g.key.Format(Moment)
		x := Problem{Level: Warning, What: "the certificate of " + List(g.edges) + " expires on " + when, Short: "certificate expires", Edges: g.edges,
			Next: "the files HERD_TLS_CERT and HERD_TLS_KEY; " + logOf(g.edges[0])}
		if !g.key.After(p.now) {
			x.Level, x.What, x.Short = Down, "the certificate of "+List(g.edges)+" has expired", "certificate expired"
			x.Since, x.More = g.key, "clients refuse the edge"
		}
		p.add(x)
	}
	for _, g := range p.complaints.list {
		p.add(Problem{Level: Warning, What: "the broker complains to " + List(g.edges), Short: "broker complains", More: g.key, Edges: g.edges, Next: logOf(g.edges[0])})
	}
	topologies, versions := groups[string]{}, groups[string]{}
	for i := range p.Statuses {
		e := &p.Statuses[i]
		topologies.add(e.Topology, e.Edge, time.Time{})
		versions.add(e.Version, e.Edge, time.Time{})
	}
	if len(topologies.list) > 1 {
		var texts []string
		for _, g := range topologies.sorted() {
			texts = append(texts, List(g.edges)+": "+orElse(g.key, "unknown"))
		}
		p.add(Problem{Level: Warning, What: "topologies differ", More: "which is normal while a change rolls through. " + strings.Join(texts, "; "), Edges: topologies.edges(), Next: "HERD_TOPOLOGY of each edge"})
	} else {
		told := map[string]bool{}
		for i := range p.Statuses {
			e := &p.Statuses[i]
			for _, l := range e.Links {
				if name := LinkName(e.Edge, l.Neighbour); l.ConfigDiffers && !told[name] {
					told[name] = true
					p.add(Problem{Level: Warning, What: e.Edge + " and " + l.Neighbour + " are configured otherwise", Short: "configuration differs",
						Edges: []string{e.Edge, l.Neighbour}, Links: []string{name}, Next: "HERD_RETAIN, HERD_MAX_CLIENTS of both"})
				}
			}
		}
	}
	if len(versions.list) > 1 {
		var texts []string
		for _, g := range versions.sorted() {
			texts = append(texts, orElse(g.key, "unknown")+" at "+List(g.edges))
		}
		p.add(Problem{Level: Warning, What: "versions differ", More: strings.Join(texts, "; "), Edges: versions.edges()})
	}
}

// warnings tells of what takes nothing down.
func (p *problems) warnings() {
	copies, places := groups[[2]int]{}, groups[string]{}
	for i := range p.Statuses {
		e := &p.Statuses[i]
		warn := func(other, short, next, format string, args ...any) {
			x := Problem{Level: Warning, What: fmt.Sprintf(format, args...), Short: short, Edges: []string{e.Edge}, Next: next}
			if other != "" {
				x.Edges, x.Links = append(x.Edges, other), []string{LinkName(e.Edge, other)}
			}
			p.add(x)
		}
		if e.Clock != "" {
			warn("", "clock differs", "timedatectl there", "the clock of %s: %s", e.Edge, e.Clock)
		}
		if j := e.Journal; j.Copies < j.Replicas {
			copies.add([2]int{j.Copies, j.Replicas}, e.Edge, time.Time{})
		}
		for _, provider := range e.Places {
			if provider.BreakerOpen {
				places.add(provider.Provider, e.Edge, time.Time{})
			}
		}
		for _, l := range e.Links {
			if l.Up && math.Abs(l.ClockSeconds) > 5 {
				warn(l.Neighbour, "clocks differ", "timedatectl on both machines", "the clock of %s is %s ahead of %s's", l.Neighbour, Clock(l.ClockSeconds), e.Edge)
			}
			if l.PutOff > 0 {
				warn(l.Neighbour, "lines put off", "timedatectl on both machines", "%s has put off %d lines from %s since its start: their time was over an hour ahead of its clock", e.Edge, l.PutOff, l.Neighbour)
			}
			if l.Unsendable > 0 {
				warn(l.Neighbour, "lines too long", "max_payload of the NATS servers", "%s has not sent %d lines to %s since its start: they fit in no message", e.Edge, l.Unsendable, l.Neighbour)
			}
		}
	}
	for _, g := range copies.list {
		p.add(Problem{Level: Warning, What: fmt.Sprintf("the journal of %s has %d of %d copies", List(g.edges), g.key[0], g.key[1]), Short: "journal lacks a copy",
			More: "a NATS server is down or catching up", Edges: g.edges, Next: natsAs("sys", "server report jetstream")})
	}
	for _, g := range places.list {
		p.add(Problem{Level: Warning, What: fmt.Sprintf("places of %s fail at %s", g.key, List(g.edges)), Short: "places failing", More: "not asked for a while", Edges: g.edges, Next: logOf(g.edges[0])})
	}
}

// journalFault is what stands in the way of a journal.
type journalFault struct {
	why      string
	up       bool // it is written, but takes no new clients
	optional bool // nothing is promised that needs it
}

// groups are edges with the same fault, in the order in which each fault was first seen.
type groups[K comparable] struct{ list []group[K] }

type group[K comparable] struct {
	key   K
	edges []string
	since time.Time // the first of them; zero: not known
}

func (all *groups[K]) add(key K, edge string, since time.Time) {
	i := slices.IndexFunc(all.list, func(g group[K]) bool { return g.key == key })
	if i < 0 {
		i, all.list = len(all.list), append(all.list, group[K]{key: key, since: since})
	}
	g := &all.list[i]
	g.edges = append(g.edges, edge)
	if !since.IsZero() && (g.since.IsZero() || since.Before(g.since)) {
		g.since = since
	}
}

// sorted are the groups by their keys as text.
func (all *groups[K]) sorted() []group[K] {
	list := slices.Clone(all.list)
	slices.SortFunc(list, func(a, b group[K]) int { return strings.Compare(fmt.Sprint(a.key), fmt.Sprint(b.key)) })
	return list
}

func (all *groups[K]) edges() (names []string) {
	for _, g := range all.list {
		names = append(names, g.edges...)
	}
	slices.Sort(names)
	return names
}

// anyEdge stands for an edge's name in a text that is the same for each.
const anyEdge = "<EDGE>"

// about is such a text of the group's edges: of one of them with its name.
func (g group[K]) about(text string) string {
	if len(g.edges) == 1 {
		return strings.ReplaceAll(text, anyEdge, g.edges[0])
	}
	return text
}

// logOf is how one reads the log of an edge, whichever of the two ways it runs.
func logOf(edge string) string {
	return "docker compose logs --tail 50 " + strings.ToLower(edge) + ", or journalctl -u herd-edge@" + edge
}

func orElse(text, other string) string {
	if text == "" {
		return other
	}
	return text
}

func plural(names []string, one, more string) string {
	if len(names) == 1 {
		return one
	}
	return more
}

// LinkName names a link, whichever end says it.
func LinkName(a, b string) string { return min(a, b) + "-" + max(a, b) }

// Clock is by how many seconds a clock is ahead, for people.
func Clock(seconds float64) string {
	seconds = math.Round(seconds*1000)/1000 + 0 // adding 0 turns -0 into +0
	return fmt.Sprintf("%+.3fs", seconds)
}

// natsAs is a command of the nats CLI that an edge, or the system account, may use. Whether the herd
// has accounts is not known here.
func natsAs(who, command string) string {
	return "nats " + command + " (with accounts: nats --nkey " + who + ".nk …)"
}
