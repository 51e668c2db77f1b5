package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"herd/edge/overview"
)

// change is what /events sends once a second: what is other than a second before. Whole edges and
// links are sent only where something other than their numbers changed.
type change struct {
	At       time.Time        `json:"at"`
	Server   *overview.Server `json:"server,omitempty"`
	Sentence string           `json:"sentence,omitempty"`
	Summary  json.RawMessage  `json:"summary,omitempty"`
	Totals   json.RawMessage  `json:"totals,omitempty"`
	Edges    []overview.Edge  `json:"edges,omitempty"`
	Links    []overview.Link  `json:"links,omitempty"`
	Events   []overview.Event `json:"events,omitempty"`
	Point    *overview.Point  `json:"point,omitempty"`
	Numbers  *numbers         `json:"numbers,omitempty"`
}

// numbers are rows in the order of overview.Columns.
type numbers struct {
	Edges map[string]row `json:"edges,omitempty"`
	Links map[string]row `json:"links,omitempty"`
}

// A row is written with three digits after the first, whole numbers in full: so that it changes
// only where people would see it.
type row []*float64

func (r row) MarshalJSON() ([]byte, error) {
	b := []byte{'['}
	for i, x := range r {
		if i > 0 {
			b = append(b, ',')
		}
		if x == nil || math.IsNaN(*x) || math.IsInf(*x, 0) {
			b = append(b, "null"...)
			continue
		}
		b = appendNumber(b, *x)
	}
	return append(b, ']'), nil
}

func appendNumber(b []byte, x float64) []byte {
	if x == math.Trunc(x) && math.Abs(x) < 1<<53 {
		return strconv.AppendInt(b, int64(x), 10)
	}
	rounded, _ := strconv.ParseFloat(strconv.FormatFloat(x, 'g', 3, 64), 64)
	return strconv.AppendFloat(b, rounded, 'g', -1, 64)
}

// mostNumbers is how many bytes of rows go per second; where there are more they take turns.
const mostNumbers = 450

// A differ makes changes of one state after the other. Who follows it has had all that it sent.
type differ struct {
	server, summary, totals []byte
	sentence                string
	edges, links            map[string][]byte // steady, by name
	rows                    map[string][]byte // as last sent, by "e name" and "l name"
	waits                   []string          // rows that are to be sent, oldest first
	events                  map[string]overview.Event
	until                   time.Time
}

// begin takes a state that is sent as a whole.
func (d *differ) begin(h *overview.Herd) {
	*d = differ{server: mustJSON(h.Server), summary: steadySummary(h), totals: totalsOf(h), sentence: h.Summary.Sentence,
		edges: map[string][]byte{}, links: map[string][]byte{}, rows: map[string][]byte{}, events: map[string]overview.Event{}, until: h.History.Until}
	for i := range h.Edges {
		e := &h.Edges[i]
		d.edges[e.Name], d.rows["e "+e.Name] = mustJSON(e.Steady()), mustJSON(row(e.Row()))
	}
	for i := range h.Links {
		l := &h.Links[i]
		d.links[l.Name()], d.rows["l "+l.Name()] = mustJSON(l.Steady()), mustJSON(row(l.Row()))
	}
	for _, e := range h.Events {
		d.events[e.ID] = e
	}
}

// change returns what is other than before as JSON; nil where edges or links came or went, so that
// the whole is to be sent.
func (d *differ) change(h *overview.Herd) []byte {
	if !d.sameNames(h) {
		return nil
	}
	c := change{At: h.At.Round(time.Millisecond)}
	if server := mustJSON(h.Server); !bytes.Equal(server, d.server) {
		d.server, c.Server = server, &h.Server
	}
	if summary := steadySummary(h); !bytes.Equal(summary, d.summary) {
		d.summary, c.Summary = summary, mustJSON(h.Summary)
		d.sentence = h.Summary.Sentence
	} else if h.Summary.Sentence != d.sentence {
		d.sentence, c.Sentence = h.Summary.Sentence, h.Summary.Sentence
	}
	if totals := totalsOf(h); !bytes.Equal(totals, d.totals) {
		d.totals, c.Totals = totals, totals
	}
	rows := map[string][]byte{}
	for i := range h.Edges {
		e := &h.Edges[i]
		rows["e "+e.Name] = mustJSON(row(e.Row()))
		if steady := mustJSON(e.Steady()); !bytes.Equal(steady, d.edges[e.Name]) {
			d.edges[e.Name], c.Edges = steady, append(c.Edges, *e)
			d.rows["e "+e.Name] = rows["e "+e.Name]
		}
	}
	for i := range h.Links {
		l := &h.Links[i]
		rows["l "+l.Name()] = mustJSON(row(l.Row()))
		if steady := mustJSON(l.Steady()); !bytes.Equal(steady, d.links[l.Name()]) {
			d.links[l.Name()], c.Links = steady, append(c.Links, *l)
			d.rows["l "+l.Name()] = rows["l "+l.Name()]
		}
	}
	c.Numbers = d.numbers(h, rows)
	events := map[string]overview.Event{}
	for _, e := range h.Events {
		events[e.ID] = e
		if d.events[e.ID] != e {
			c.Events = append(c.Events, e)
		}
	}
	d.events = events
	if n := h.History.Len(); n > 0 && h.History.Until.After(d.until) {
		d.until = h.History.Until
		p := h.History.At(n - 1)
		for _, x := range []**float64{&p.Updates, &p.Questions, &p.Refusals, &p.P99, &p.Lag} {
			*x = rounded(*x)
		}
		c.Point = &p
	}
	return mustJSON(c)
}

func (d *differ) sameNames(h *overview.Herd) bool {
	if len(h.Edges) != len(d.edges) || len(h.Links) != len(d.links) {
		return false
	}
	for i := range h.Edges {
		if d.edges[h.Edges[i].Name] == nil {
			return false
		}
	}
	for i := range h.Links {
		if d.links[h.Links[i].Name()] == nil {
			return false
		}
	}
	return true
}

// numbers are the rows that changed, those first that wait longest, up to mostNumbers.
func (d *differ) numbers(h *overview.Herd, rows map[string][]byte) *numbers {
	changed := func(key string) bool { return !bytes.Equal(rows[key], d.rows[key]) }
	d.waits = slices.DeleteFunc(d.waits, func(key string) bool { return !changed(key) })
	waiting := map[string]bool{}
	for _, key := range d.waits {
		waiting[key] = true
	}
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if changed(key) && !waiting[key] {
			d.waits = append(d.waits, key)
		}
	}
	if len(d.waits) == 0 {
		return nil
	}
	sent := map[string]bool{}
	size := 0
	for len(d.waits) > 0 && size < mostNumbers {
		key := d.waits[0]
		d.waits = d.waits[1:]
		d.rows[key] = rows[key]
		sent[key] = true
		size += len(key) + len(rows[key])
	}
	n := &numbers{Edges: map[string]row{}, Links: map[string]row{}}
	for i := range h.Edges {
		if e := &h.Edges[i]; sent["e "+e.Name] {
			n.Edges[e.Name] = e.Row()
		}
	}
	for i := range h.Links {
		if l := &h.Links[i]; sent["l "+l.Name()] {
			n.Links[l.Name()] = l.Row()
		}
	}
	return n
}

// steadySummary is the summary without its sentence, which has numbers.
func steadySummary(h *overview.Herd) []byte {
	s := h.Summary
	s.Sentence = ""
	return mustJSON(s)
}

// totalsOf are the totals, rounded.
func totalsOf(h *overview.Herd) []byte {
	t := h.Totals
	t.Updates, t.Questions, t.Refusals, t.P99 = *rounded(&t.Updates), *rounded(&t.Questions), *rounded(&t.Refusals), rounded(t.P99)
	return mustJSON(t)
}

// rounded is a number as rows have it.
func rounded(x *float64) *float64 {
	if x == nil || *x == math.Trunc(*x) {
		return x
	}
	y, _ := strconv.ParseFloat(strconv.FormatFloat(*x, 'g', 3, 64), 64)
	return &y
}

// mustJSON encodes what can always be encoded: structs of texts, times and finite numbers.
func mustJSON(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		return fmt.Appendf(nil, `{"error":%q}`, err)
	}
	return b
}
