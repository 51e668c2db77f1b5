package admin

import (
	"bytes"
	"crypto/sha256"
	_ "embed" // the page's parts
	"encoding/base64"
	"fmt"
	"html/template"
	"net/http"
	"strconv"
	"strings"
)

//go:embed page.html
var pageHTML string

//go:embed page.css
var pageCSS string

//go:embed page.js
var pageJS string

var pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
	"count":    count,
	"duration": duration,
	"clock":    clock,
}).Parse(pageHTML))

// pagePolicy lets the page run its own script and style and nothing else, talk
// to its own server, and stand in nobody's frame.
var pagePolicy = fmt.Sprintf("default-src 'none'; script-src '%s'; style-src '%s'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	hash(pageJS), hash(pageCSS))

func hash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// view is what the page shows.
type view struct {
	Title           string
	Version, Commit string
	Edges           []edgeView
	Style           template.CSS
	Script          template.JS
}

type edgeView struct {
	Status
	Why string // it is not ready
}

// page serves the status page. It reloads itself: by script, without a jump, or
// else by the browser.
func (a *Admin) page(w http.ResponseWriter, _ *http.Request) {
	v := view{
		Title: "The herd", Version: a.cfg.Version, Commit: a.cfg.Commit,
		Style: template.CSS(pageCSS), Script: template.JS(pageJS), // verbatim, as pagePolicy's hashes want
	}
	if len(a.sources) == 1 {
		v.Title = a.sources[0].Name
	}
	for _, s := range a.sources {
		e := edgeView{Status: s.Status()}
		e.Edge = s.Name
		e.Ready, e.Why = s.Ready()
		v.Edges = append(v.Edges, e)
	}
	var body bytes.Buffer
	if err := pageTemplate.Execute(&body, v); err != nil {
		a.cfg.Log.Error("status page", "error", err)
		http.Error(w, "the page could not be made", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", pagePolicy)
	w.Write(body.Bytes())
}

// LinksUp counts the links that are up.
func (e edgeView) LinksUp() (n int) {
	for _, l := range e.Links {
		if l.Up {
			n++
		}
	}
	return n
}

// BrokerAway tells whether the broker is not connected.
func (e edgeView) BrokerAway() bool { return !strings.HasPrefix(e.Broker, "connected") }

// count writes a number with its digits in threes.
func count(n any) string {
	digits := fmt.Sprint(n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "\u202f" + digits[i:] // a narrow space that does not break
	}
	return digits
}

// duration writes seconds, 0 or more, with up to three digits that matter in a
// unit that fits. 0 stands for what is not known.
func duration(seconds float64) string {
	switch {
	case seconds == 0:
		return "–"
	case seconds < 999.5e-6:
		return strconv.FormatFloat(seconds*1e6, 'f', 0, 64) + " µs"
	case seconds < 0.9995:
		return strconv.FormatFloat(seconds*1e3, 'g', 3, 64) + " ms"
	default:
		return strconv.FormatFloat(seconds, 'f', 1, 64) + " s"
	}
}

// clock writes by how many seconds a clock is before (+) or behind (−).
func clock(seconds float64) string {
	switch {
	case seconds > 0:
		return "+" + duration(seconds)
	case seconds < 0:
		return "−" + duration(-seconds)
	}
	return duration(0)
}
