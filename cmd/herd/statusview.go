package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"herd/edge/overview"
)

// screen is the width of a status, in characters.
const screen = 80

// wrong returns everything that is wrong in a view, the most serious first.
func (v view) wrong() []overview.Problem {
	all := v.seen.Problems(time.Now())
	if len(v.unasked) > 0 {
		all = append(all, overview.Problem{Level: overview.Warning, What: list(v.unasked) + " not asked: give --http the admin ports of all edges"})
	}
	return all
}

// sentence is a problem in words.
func sentence(p overview.Problem) string {
	text := p.What
	if !p.Since.IsZero() {
		text += " since " + p.Since.UTC().Format(overview.Moment)
	}
	if p.More != "" {
		text += ": " + p.More
	}
	return text
}

// list writes names as in a sentence.
func list(names []string) string { return overview.List(names) }

// writeProblems writes what is wrong, wrapped to the screen, or nothing.
func writeProblems(w *strings.Builder, all []overview.Problem, c colours) {
	for _, p := range all {
		mark := c.red("wrong")
		if p.Level != overview.Down {
			mark = c.yellow("note ")
		}
		w.WriteString(mark + "  " + wrapped(printable(sentence(p)), len("wrong  ")) + "\n")
		if p.Next != "" {
			w.WriteString(strings.Repeat(" ", len("wrong  ")) + "see " + wrapped(printable(p.Next), len("wrong  see ")) + "\n")
		}
	}
}

// wrapped breaks text at spaces to fit the screen, and indents each line but the first.
func wrapped(text string, indent int) string {
	var b strings.Builder
	room := screen - indent
	for i, word := range strings.Fields(text) {
		n := utf8.RuneCountInString(word)
		switch {
		case i == 0:
		case room < n+1:
			b.WriteString("\n" + strings.Repeat(" ", indent))
			room = screen - indent
		default:
			b.WriteByte(' ')
			room--
		}
		b.WriteString(word)
		room -= n
	}
	return b.String()
}

// writeStatus writes the state of the herd.
func writeStatus(w *strings.Builder, v view, wrong []overview.Problem, c colours) {
	w.WriteString(wrapped(v.totals(), 0) + "\n\n")
	edges := &table{head: []string{"EDGE", "STATE", "CLIENTS", "CONNECTIONS", "JOURNAL", "VERSION"}, numbers: 1<<2 | 1<<3}
	for _, e := range v.seen.Statuses {
		state, colour := "ready", c.green
		if !e.Ready {
			state, colour = "not ready", c.red
		}
		edges.row(colour, printable(e.Edge), state, strconv.Itoa(e.Clients), strconv.Itoa(e.Connections), journalState(e.Journal), printable(e.Version))
	}
	for _, s := range v.seen.Silent() {
		edges.row(c.red, printable(s.Name), "silent", "-", "-", "-", "-")
	}
	for _, name := range v.unasked {
		edges.row(c.yellow, printable(name), "not asked", "-", "-", "-", "-")
	}
	edges.write(w)
	if slices.ContainsFunc(v.seen.Statuses, func(e overview.Status) bool { return len(e.Links) > 0 }) {
		w.WriteByte('\n')
		links := &table{head: []string{"LINK", "TO", "STATE", "DOWNS", "LAG", "ROUND TRIP", "CLOCK"}, numbers: 1<<3 | 1<<4 | 1<<5 | 1<<6}
		for _, e := range v.seen.Statuses {
			for _, l := range e.Links {
				downs := strconv.FormatUint(l.Downs, 10)
				if !l.Up { // its last figures are old
					links.row(c.red, printable(e.Edge), printable(l.Neighbour), l.Words(), downs, strconv.FormatUint(l.Lag, 10), "-", "-")
					continue
				}
				links.row(c.green, printable(e.Edge), printable(l.Neighbour), "up", downs, strconv.FormatUint(l.Lag, 10),
					roundTrip(l.RoundTripSeconds), clock(l.ClockSeconds))
			}
		}
		links.write(w)
	}
	if slices.ContainsFunc(v.seen.Statuses, func(e overview.Status) bool { return len(e.Places) > 0 }) {
		w.WriteByte('\n')
		places := &table{head: []string{"PLACES", "PROVIDER", "LEFT TODAY", "STATE"}, numbers: 1 << 2}
		for _, e := range v.seen.Statuses {
			for _, provider := range e.Places {
				state, left, colour := "asked", "-", c.plain
				if provider.BudgetLeft != nil {
					left = strconv.Itoa(*provider.BudgetLeft)
				}
				switch {
				case left == "0":
					state, colour = "not asked until midnight Pacific time", c.yellow
				case provider.BreakerOpen:
					state, colour = "failing, not asked for now", c.yellow
				}
				places.row(colour, printable(e.Edge), printable(provider.Provider), left, state)
			}
		}
		places.write(w)
	}
	if len(wrong) > 0 {
		w.WriteByte('\n')
		writeProblems(w, wrong, c)
	}
}

// totals returns the herd in one line.
func (v view) totals() string {
	ready, clients, connections := 0, 0, 0
	type pair [2]string
	up := map[pair]bool{}
	for _, e := range v.seen.Statuses {
		if e.Ready {
			ready++
		}
		clients = max(clients, e.Clients)
		connections += e.Connections
		for _, l := range e.Links {
			p := pair{min(e.Edge, l.Neighbour), max(e.Edge, l.Neighbour)}
			was, seen := up[p]
			up[p] = l.Up && (was || !seen) // both ends must say so
		}
	}
	silent := v.seen.Silent()
	for _, s := range silent {
		for _, by := range s.By {
			up[pair{min(s.Name, by), max(s.Name, by)}] = false
		}
	}
	links := 0
	for _, u := range up {
		if u {
			links++
		}
	}
	text := fmt.Sprintf("%d of %s ready, %d of %s up, %s, %s; asked %s", ready, counted(len(v.seen.Statuses)+len(silent)+len(v.unasked), "edge"),
		links, counted(len(up), "link"), counted(clients, "client"), counted(connections, "connection"), printable(v.from))
	if v.herd != "" {
		text += fmt.Sprintf(" for the herd %q", v.herd)
	}
	if len(v.others) > 0 {
		text += "; edges of " + quoted(v.others) + " are there too"
	}
	return text
}

func counted(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func journalState(j overview.Journal) string {
	switch {
	case j.Mode == "off":
		return "off"
	case j.Error != "":
		return "not written"
	case !j.Up:
		return "none"
	case j.Lag > 0:
		return fmt.Sprintf("up, lag %d", j.Lag)
	}
	return "up"
}

// table is text in columns that fits the screen: names that are too long are cut.
type table struct {
	head    []string
	numbers uint // a bit per column of numbers, which are aligned to the right
	rows    [][]string
	colours []func(string) string
}

func (t *table) row(colour func(string) string, cells ...string) {
	t.rows, t.colours = append(t.rows, cells), append(t.colours, colour)
}

// write writes the table. Only the STATE column is coloured.
func (t *table) write(w *strings.Builder) {
	widths := make([]int, len(t.head))
	for i, text := range t.head {
		widths[i] = len(text)
		for _, r := range t.rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(r[i]))
		}
	}
	const gap = 2
	for {
		sum, widest := (len(widths)-1)*gap, 0
		for i, n := range widths {
			sum += n
			if n > widths[widest] {
				widest = i
			}
		}
		if sum <= screen {
			break
		}
		widths[widest]--
	}
	line := func(cells []string, colour func(string) string) {
		var b strings.Builder
		for i, text := range cells {
			text = cutTo(text, widths[i])
			fill := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if t.head[i] == "STATE" && colour != nil {
				text = colour(text)
			}
			if t.numbers>>i&1 == 1 {
				text, fill = fill+text, ""
			}
			if i > 0 {
				b.WriteString(strings.Repeat(" ", gap))
			}
			b.WriteString(text + fill)
		}
		w.WriteString(strings.TrimRight(b.String(), " ") + "\n")
	}
	line(t.head, nil)
	for i, r := range t.rows {
		line(r, t.colours[i])
	}
}

// cutTo cuts text to n characters; the last one is then an ellipsis.
func cutTo(text string, n int) string {
	if utf8.RuneCountInString(text) <= n {
		return text
	}
	return string([]rune(text)[:n-1]) + "…"
}

func roundTrip(seconds float64) string {
	if seconds == 0 {
		return "-"
	}
	return time.Duration(seconds * float64(time.Second)).Round(10 * time.Microsecond).String()
}

func clock(seconds float64) string { return overview.Clock(seconds) }
