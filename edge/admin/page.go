package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"herd/edge/overview"
	"herd/edge/worldmap"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

// The page's scripts, in the order in which they run.
var (
	//go:embed graph.js
	graphJS string
	//go:embed questions.js
	questionsJS string
	//go:embed page.js
	pageJS string

	pageScripts = []string{worldmap.Script, graphJS, questionsJS, pageJS}
)

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"clock": clock, "count": count, "icon": icon, "mark": mark,
}).Parse(pageHTML))

// pagePolicy lets the page run its own scripts and style and nothing else, connect to its own
// server only, and never be framed by another page.
var pagePolicy = fmt.Sprintf("default-src 'none'; script-src %s; style-src %s; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	hashes(pageScripts...), hashes(pageCSS))

func hashes(texts ...string) string {
	all := make([]string, len(texts))
	for i, text := range texts {
		sum := sha256.Sum256([]byte(text))
		all[i] = "'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
	}
	return strings.Join(all, " ")
}

// view is what the page shows before its scripts run, and all that it shows without them.
type view struct {
	Herd                          overview.Herd
	EdgeRows, LinkRows, EventRows []tableRow
	Figures                       []figure
	Outline                       string
	Style                         template.CSS
	Scripts                       []template.JS
}

// figure is a number with its history. Key is its name in the JSON.
type figure struct{ Key, Name, Now string }

// page serves the page. Its scripts follow /events; without scripts the browser loads it again
// every few seconds.
func (a *Admin) page(w http.ResponseWriter, r *http.Request) {
	body, err := renderPage(a.herd(r.Context()))
	if err != nil {
		a.cfg.Log.Error("render page", "error", err)
		http.Error(w, "cannot render the page", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	_, _ = w.Write(body)
}

func renderPage(h overview.Herd) ([]byte, error) {
	h = printableHerd(h)
	v := view{
		Herd: h, EdgeRows: edgeRows(h), LinkRows: linkRows(h), EventRows: eventRows(h), Outline: worldmap.Outline,
		Style: template.CSS(pageCSS), // verbatim, as are the scripts, because pagePolicy has their hashes
		Figures: []figure{
			{"updates_per_second", "updates/s", rate(h.Totals.Updates)},
			{"questions_per_second", "questions/s", rate(h.Totals.Questions)},
			{"refusals_per_second", "refused/s", rate(h.Totals.Refusals)},
			{"p99_seconds", "p99 of answers", optional(h.Totals.P99, duration)},
			{"lag", "largest lag", count(h.Totals.Lag)},
		},
	}
	for _, script := range pageScripts {
		v.Scripts = append(v.Scripts, template.JS(script))
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, v); err != nil {
		return nil, err
	}
	return body.Bytes(), nil
}

// printableHerd is h with every text as printable writes it.
func printableHerd(h overview.Herd) overview.Herd {
	for _, text := range []*string{&h.Server.Name, &h.Summary.Sentence, &h.Summary.Short, &h.Server.ScopeNote, &h.Server.ScopeCommand} {
		*text = printable(*text)
	}
	h.Summary.Problems, h.Edges, h.Events = slices.Clone(h.Summary.Problems), slices.Clone(h.Edges), slices.Clone(h.Events)
	for i := range h.Summary.Problems {
		p := &h.Summary.Problems[i]
		p.Text, p.Next = printable(p.Text), printable(p.Next)
	}
	for i := range h.Edges {
		h.Edges[i].Why = printable(h.Edges[i].Why)
	}
	for i := range h.Events {
		h.Events[i].Text = printable(h.Events[i].Text)
	}
	return h
}

// printable writes characters that cannot be seen, or that change how others are shown, by their numbers, so
// that different texts look different. page.js does the same.
func printable(text string) string {
	var b strings.Builder
	for i, c := range text {
		if unicode.In(c, unicode.C, unicode.Zl, unicode.Zp) || strings.HasPrefix(text[i:], `\u{`) {
			fmt.Fprintf(&b, `\u{%x}`, c)
		} else {
			b.WriteRune(c)
		}
	}
	return b.String()
}

// mark is the sign of a level, where colour cannot be seen.
func mark(l overview.Level) string {
	switch l {
	case overview.OK:
		return "✓"
	case overview.Warning:
		return "▲"
	case overview.Down:
		return "✕"
	}
	return "?"
}

// icon is the tab's icon: each level has a colour and a shape. page.js has the same.
func icon(l overview.Level) template.URL {
	shape := `<path d="M8 1l7 7-7 7-7-7z" fill="#5c666b"/>`
	switch l {
	case overview.OK:
		shape = `<circle cx="8" cy="8" r="7" fill="#17693c"/>`
	case overview.Warning:
		shape = `<path d="M8 1l7.5 14H.5z" fill="#b07400"/>`
	case overview.Down:
		shape = `<path d="M1 1h14v14H1z" fill="#a3201d"/>`
	}
	return template.URL("data:image/svg+xml," + url.PathEscape(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16">`+shape+`</svg>`))
}
