// Package livemap is the page for people on the port for devices (V3): who is where now, and moves, on a
// map and in words. Its script follow.js is the example of how a web page uses the WebSocket
// /lines (V2), which docs/clients.md names.
//
// It serves fixed files, and knows nothing of edges, positions or who asks: the page learns everything
// that it shows over the WebSocket, with the rights of whoever looks at it.
package livemap

import (
	_ "embed" // the page's files
	"net/http"
	"strings"

	"herd/edge/worldmap"
)

var (
	//go:embed page.html
	pageHTML string
	//go:embed page.css
	pageCSS string
	//go:embed follow.js
	followJS string
	//go:embed live.js
	liveJS string
)

// policy lets the page run the files of its own server, and connect to it, and nothing else; no other
// page may frame it.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// A file is what is served under one path.
type file struct{ kind, text string }

const script = "text/javascript; charset=utf-8"

var files = map[string]file{
	"/":               {"text/html; charset=utf-8", strings.Replace(pageHTML, "OUTLINE", worldmap.Outline, 1)},
	"/page/page.css":  {"text/css; charset=utf-8", pageCSS},
	"/page/map.js":    {script, worldmap.Script},
	"/page/follow.js": {script, followJS},
	"/page/live.js":   {script, liveJS},
}

// Handler serves the page under / and its files under /page/. The page's links are relative, so that it
// works below another path too, such as /t/<name>:<password>/ (V5).
func Handler() http.Handler { return http.HandlerFunc(serve) }

func serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Referrer-Policy", "no-referrer") // the path may have a password
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	f, known := files[r.URL.Path]
	if !known {
		http.Error(w, "no such file", http.StatusNotFound)
		return
	}
	h.Set("Content-Type", f.kind)
	_, _ = w.Write([]byte(f.text)) // net/http leaves the body out for HEAD
}
