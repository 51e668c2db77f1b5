package admin_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	"herd/edge/admin"
	"herd/edge/overview"
	"herd/test/browser"
	"herd/test/herdtest"
)

// shown serves a page of a herd that a test makes up. The herd's JSON is what a server sends.
type shown struct {
	*httptest.Server
	mu      sync.Mutex
	herd    overview.Herd
	streams map[chan string]bool
	answers map[string]func(r *http.Request) any // by path
	asked   map[string]string                    // the last box or id or line, by path
}

func show(t *testing.T, h overview.Herd) *shown {
	s := &shown{herd: h, streams: map[chan string]bool{}, asked: map[string]string{}, answers: map[string]func(*http.Request) any{
		"/map.json": func(*http.Request) any { return cells(5, nil) },
	}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func (s *shown) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	herd, answer := s.herd, s.answers[r.URL.Path]
	s.asked[r.URL.Path] = r.FormValue("box") + r.FormValue("id") + r.FormValue("line")
	s.mu.Unlock()
	switch {
	case r.URL.Path == "/":
		body, err := admin.RenderPage(herd)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Header().Set("Content-Security-Policy", admin.PagePolicy)
		_, _ = w.Write(body)
	case answer != nil:
		value := answer(r)
		if code, refused := value.(int); refused {
			http.Error(w, "refused", code)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(value)
	case r.URL.Path == "/status.json":
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(herd)
	case r.URL.Path == "/events":
		s.stream(w, r, herd)
	default:
		http.NotFound(w, r)
	}
}

func (s *shown) stream(w http.ResponseWriter, r *http.Request, herd overview.Herd) {
	messages := make(chan string, 1000)
	text, _ := json.Marshal(herd)
	messages <- "event: herd\ndata: " + string(text) // before any change
	s.mu.Lock()
	s.streams[messages] = true
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		delete(s.streams, messages)
		s.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		select {
		case m := <-messages:
			fmt.Fprintf(w, "%s\n\n", m)
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

// send sends an event to all open streams, and returns how many there are.
func (s *shown) send(event string, data any) int {
	text, _ := json.Marshal(data)
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := range s.streams {
		m <- "event: " + event + "\ndata: " + string(text)
	}
	return len(s.streams)
}

// awaitDrawn waits until the page has drawn what its server sent.
func awaitDrawn(p *browser.Page) {
	p.Await(herdtest.Promise(0), `document.body.dataset.seen`, "#note")
}

// TestThePageShowsWhatIsWrong: each state is said in words, and shown by colour, shape and line.
func TestThePageShowsWhatIsWrong(t *testing.T) {
	b := browser.Start(t)
	for _, test := range states() {
		t.Run(test.name, func(t *testing.T) {
			p := b.Open(t, show(t, test.herd).URL+"/", browser.Options{})
			awaitDrawn(p)
			text := p.Text("body")
			for _, want := range append(test.words, test.herd.Summary.Sentence) {
				if !strings.Contains(text, want) {
					t.Errorf("the page does not say %q", want)
				}
			}
			for _, part := range test.parts {
				if !browser.Eval[bool](p, fmt.Sprintf("!!document.querySelector(%q)", part)) {
					t.Errorf("no %s on the page", part)
				}
			}
			if title := browser.Eval[string](p, "document.title"); !strings.Contains(title, test.herd.Summary.Short) {
				t.Errorf("the title is %q, without %q", title, test.herd.Summary.Short)
			}
			for _, text := range browser.Eval[[]string](p, sameRows) {
				t.Error(text)
			}
			p.Picture("state-" + test.name)
		})
	}
}

// showMap shows a herd with clients on its map: towns while the box is large, else single clients.
func showMap(t *testing.T, h overview.Herd) *shown {
	s := show(t, h)
	s.answer("/map.json", func(r *http.Request) any {
		var south, west, north, east float64
		if _, err := fmt.Sscanf(r.FormValue("box"), "%f,%f,%f,%f", &south, &west, &north, &east); err != nil {
			return http.StatusBadRequest
		}
		counts, singles, known := [][3]int{}, []single{}, map[[2]int]bool{}
		random := rand.New(rand.NewPCG(1, 2))
		for town := range 300 {
			lat, lon, n := 55-random.Float64()*80, random.Float64()*300-130, 1+int(random.ExpFloat64()*3000)
			if lat < south-1 || lat > north || lon < west-1 || lon > east {
				continue
			}
			if at := [2]int{int(lat + 90), int(lon + 180)}; east-west > 3 {
				if !known[at] {
					counts = append(counts, [3]int{at[0], at[1], n})
				}
				known[at] = true
				continue
			}
			for i := range min(n, 60) {
				singles = append(singles, single{fmt.Sprintf("town%d-%d", town, i), lat + random.NormFloat64()/50, lon + random.NormFloat64()/50, "Clark", "1796038862.5"})
			}
		}
		if east-west > 3 {
			return cells(1, counts)
		}
		return cells(1, nil, singles...)
	})
	return s
}

func (s *shown) answer(path string, how func(*http.Request) any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answers[path] = how
}

// last is the box, id or line that a path was asked for last.
func (s *shown) last(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[path]
}

func full() bool { return os.Getenv("HERD_TEST") == "full" }

// sameRows lists rows of tables that the scripts draw otherwise than the server.
const sameRows = `(async () => {
	const other = new DOMParser().parseFromString(await (await fetch('/')).text(), 'text/html'), wrong = [];
	const rows = (d, id) => [...d.querySelectorAll('#' + id + ' tr')].map((r) => r.id + ' ' + r.className + ': ' + [...r.cells].map((c) => c.className + ' ' + c.textContent.replace(/\s+/g, ' ').trim()).join(' | '));
	for (const id of ['edges', 'links', 'events']) {
		const a = rows(other, id), b = rows(document, id);
		if (a.length !== b.length) wrong.push(id + ': ' + a.length + ' rows of the server, ' + b.length + ' of the scripts');
		a.forEach((r, i) => r !== b[i] && wrong.push('the server: ' + r + '\\nthe scripts: ' + b[i]));
	}
	return wrong.slice(0, 5);
})()`

// A single is a client as an edge's endpoint cells tells of it.
type single struct {
	Client string  `json:"client"`
	Lat    float64 `json:"lat"`
	Lon    float64 `json:"lon"`
	Edge   string  `json:"edge"`
	Time   string  `json:"time"`
}

// cells is what an edge's endpoint cells answers.
func cells(size float64, counts [][3]int, singles ...single) any {
	return map[string]any{"edge": "Clark", "size": size, "cells": counts, "singles": singles}
}
