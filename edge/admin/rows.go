package admin

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"herd/edge/overview"
)

// A tableRow is a row of one of the page's tables. page.js makes the same rows of the same state; a test compares them.
type tableRow struct {
	ID, Class string
	Cells     []cell
}

// A cell is a text, in a pill of that class if Pill is set, and something less important beside it.
type cell struct{ Class, Pill, Text, Sub string }

func number(text string, bad bool) cell {
	if bad {
		return cell{Class: "number bad", Text: text}
	}
	return cell{Class: "number", Text: text}
}

// edgeRows are the edges, what is ill on top.
func edgeRows(h overview.Herd) []tableRow {
	edges := slices.Clone(h.Edges)
	slices.SortStableFunc(edges, func(a, b overview.Edge) int { return worse(a.Level) - worse(b.Level) })
	rows := make([]tableRow, 0, len(edges))
	for _, e := range edges {
		rows = append(rows, tableRow{"edge-" + e.Name, kind(e.State, e.Level), edgeCells(h, e)})
	}
	return rows
}

func edgeCells(h overview.Herd, e overview.Edge) []cell {
	links, up, most := 0, 0, (*uint64)(nil) // of those that can be seen
	for _, l := range h.Links {
		way := l.AB
		switch e.Name {
		case l.A:
		case l.B:
			way = l.BA
		default:
			continue
		}
		if l.State != overview.LinkUnknown {
			links++
		}
		if l.State == overview.LinkUp {
			up++
		}
		if way.Lag != nil && (most == nil || *way.Lag > *most) {
			most = way.Lag
		}
	}
	why := []string{}
	for _, text := range []string{e.Why, when(e.TopologyDiffers, "topology differs"), when(len(e.ConfigDiffers) > 0, "configured otherwise: "+strings.Join(e.ConfigDiffers, ", "))} {
		if text != "" {
			why = append(why, text)
		}
	}
	linksUp := number("–", false)
	switch {
	case links > 0:
		linksUp = number(fmt.Sprintf("%d of %d", up, links), up < links)
	case len(e.Neighbours) == 0:
		linksUp = number("none", false)
	}
	cells := []cell{
		{Text: e.Name, Sub: when(e.Parts, "parts the herd")},
		{Pill: kind(e.State, e.Level), Text: e.Words, Sub: join(append(why, notes(e.Status, h.At)...))},
		{Class: "since", Text: clock(e.Since, h.At), Sub: age(e.Since, h.At)},
	}
	s := e.Status
	if s == nil {
		unknown := number("–", false)
		return append(cells, unknown, unknown, unknown, unknown, unknown, unknown, unknown, linksUp, number(lag(most), false), cell{Text: "–"}, cell{Text: "–"}, unknown, unknown, unknown, cell{Text: "–"})
	}
	var rates [4]cell
	for i := range rates {
		rates[i] = number("–", false)
	}
	if r := s.Rates; r != nil {
		rates = [4]cell{number(rate(r.Updates), false), number(rate(r.Questions), false), number(rate(r.Refusals), r.Refusals > 0), number(optional(r.P99, duration), false)}
	}
	broken := s.Journal.Mode != "off" && !s.Journal.Up
	return append(cells, number(count(s.Clients), false), rates[0], rates[1], rates[2], rates[3],
		number(count(s.Connections), false), number(count(s.Watches), false), linksUp, number(lag(most), false),
		cell{Class: when(broken, "bad"), Text: journal(s.Journal), Sub: join(journalNotes(s.Journal, h.At))},
		cell{Class: when(!s.BrokerConnected, "bad"), Text: broker(*s), Sub: when(!s.BrokerConnected && !s.BrokerAt.IsZero(), "since "+clock(s.BrokerAt, h.At))},
		number(optional(s.Process.CPU, percent), false), number(size(s.Process.Memory), false), number(cmp.Or(age(s.Started, h.At), "–"), false), cell{Text: cmp.Or(s.Version, "–")})
}

// linkRows are the links, what is ill on top.
func linkRows(h overview.Herd) []tableRow {
	links := slices.Clone(h.Links)
	slices.SortStableFunc(links, func(a, b overview.Link) int { return worse(a.Level) - worse(b.Level) })
	rows := make([]tableRow, 0, len(links))
	for _, l := range links {
		var reasons []string
		for _, r := range []string{l.AB.Reason, l.BA.Reason} {
			if l.State != overview.LinkUp && r != "" && !slices.Contains(reasons, r) {
				reasons = append(reasons, r)
			}
		}
		both := func(ab, ba string) cell { return number(ab+" / "+ba, false) }
		k := kind(l.State, l.Level)
		rows = append(rows, tableRow{Class: k, Cells: []cell{
			{Text: l.A + "–" + l.B, Sub: join(linkNotes(h, l))},
			{Pill: k, Text: l.Words, Sub: join(reasons)},
			{Class: "since", Text: clock(l.Since, h.At), Sub: age(l.Since, h.At)},
			both(lag(l.AB.Lag), lag(l.BA.Lag)), both(duration(l.AB.RoundTrip), duration(l.BA.RoundTrip)),
			both(rate(l.AB.Lines), rate(l.BA.Lines)), both(bytesRate(l.AB.Bytes), bytesRate(l.BA.Bytes)),
		}})
	}
	return rows
}

// eventRows are the events, the newest first.
func eventRows(h overview.Herd) []tableRow {
	rows := make([]tableRow, 0, len(h.Events))
	for _, e := range h.Events {
		until := when(e.Open, "still so")
		if !e.Open && !e.Until.IsZero() {
			until = "until " + clock(e.Until, h.At)
		}
		rows = append(rows, tableRow{Class: e.Level, Cells: []cell{
			{Text: clock(e.At, h.At), Sub: when(e.Open, "for "+age(e.At, h.At))}, {Text: e.Edge},
			{Class: "what " + e.Level, Text: e.Text, Sub: until},
		}})
	}
	return rows
}

// when is text if something is so.
func when(so bool, text string) string {
	if so {
		return text
	}
	return ""
}

// worse orders levels, the worst first.
func worse(l overview.Level) int {
	return slices.Index([]overview.Level{overview.Down, overview.Warning, overview.Unknown, overview.OK}, l)
}

// kind is the class of an edge or link: its level, but silence looks like itself.
func kind(state string, level overview.Level) string {
	if state == overview.Silent {
		return overview.Silent
	}
	return string(level)
}

// broker says where an edge's broker is.
func broker(s overview.Status) string {
	switch {
	case !s.BrokerConnected:
		return "away"
	case s.BrokerServer == "":
		return printable(s.Broker)
	}
	return printable(strings.TrimPrefix(s.BrokerServer, "nats://"))
}

// linkNotes says what is to be known of a link beside its state.
func linkNotes(h overview.Herd, l overview.Link) (all []string) {
	if l.Parts {
		all = append(all, "parts the herd")
	}
	if l.ConfigDiffers {
		all = append(all, "configured otherwise")
	}
	for _, e := range h.Edges {
		if e.Status == nil || (e.Name != l.A && e.Name != l.B) {
			continue
		}
		for _, k := range e.Status.Links {
			if k.Neighbour != l.A && k.Neighbour != l.B {
				continue
			}
			if k.PutOff > 0 {
				all = append(all, count(k.PutOff)+" lines put off by "+e.Name)
			}
			if k.Unsendable > 0 {
				all = append(all, count(k.Unsendable)+" lines of "+e.Name+" too long to send")
			}
		}
	}
	return all
}

// notes says what is to be known of an edge beside its state.
func notes(s *overview.Status, now time.Time) (all []string) {
	if s == nil {
		return nil
	}
	if text, _ := s.Certificate(now); text != "" {
		all = append(all, "certificate "+text)
	}
	if s.Clock != "" {
		all = append(all, "clock: "+s.Clock)
	}
	for _, p := range s.Places {
		if p.BreakerOpen {
			all = append(all, "places: "+p.Provider+" fails")
		}
		if p.BudgetLeft != nil {
			all = append(all, fmt.Sprintf("places: %s has %s questions left today", p.Provider, count(*p.BudgetLeft)))
		}
	}
	return all
}

// journalNotes says what is to be known of a journal beside its state.
func journalNotes(j overview.Journal, now time.Time) (all []string) {
	if j.Mode != "off" && !j.Up && !j.Since.IsZero() {
		all = append(all, "since "+clock(j.Since, now))
	}
	if j.Lag > 0 {
		all = append(all, count(j.Lag)+" behind")
	}
	if j.Copies < j.Replicas {
		all = append(all, fmt.Sprintf("%d of %d copies", j.Copies, j.Replicas))
	}
	if j.Skipped > 0 {
		all = append(all, count(j.Skipped)+" lines skipped")
	}
	if j.Error != "" {
		all = append(all, j.Error)
	}
	return all
}

func join(texts []string) string { return printable(strings.Join(texts, "; ")) }

func journal(j overview.Journal) string {
	switch {
	case j.Mode == "off":
		return "off"
	case !j.Up:
		return "not written"
	case j.NearlyFull:
		return "nearly full"
	}
	return "written"
}
