// Package googletest is a fake of Google's Places API for tests: it serves both APIs over
// HTTP as Google's reference describes them. It refuses what Google would refuse, and
// remembers that it did. It knows nothing of its callers.
//
// Reference:
// https://developers.google.com/maps/documentation/places/web-service/reference/rest/v1/places/searchNearby and
// https://developers.google.com/maps/documentation/places/web-service/search-nearby.
package googletest

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Key is the only key that the server accepts.
const Key = "AIzaSyVerySecretKeyOfTheTests_0123456789"

// Place is a place of the server.
type Place struct {
	ID, Name string
	Lat, Lon float64
}

// Server is a fake of Google. All methods may be called from any goroutine.
type Server struct {
	URL string // base URL of both APIs

	http   *httptest.Server
	places []Place

	mu      sync.Mutex
	behave  http.HandlerFunc // answers valid questions instead of the server
	gate    chan struct{}    // closed when questions stop hanging; nil: they do not hang
	refused []string
	asked   int
	waiting int
}

// Start runs a server with these places. At its end the test fails if the server refused a
// question and the test did not call Refused.
func Start(t testing.TB, places ...Place) *Server {
	t.Helper()
	s := &Server{places: places}
	s.http = httptest.NewServer(s)
	s.URL = s.http.URL
	t.Cleanup(func() {
		s.http.CloseClientConnections()
		s.http.Close()
		if refused := s.Refused(); len(refused) > 0 {
			t.Errorf("Google would have refused %d questions, the first: %s", len(refused), refused[0])
		}
	})
	return s
}

// Behave makes f answer all valid questions from now on; nil restores the server's own
// answers.
func (s *Server) Behave(f http.HandlerFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.behave = f
}

// Hang makes all questions wait from now on, until their callers give up or release is
// called, which answers them and may be called again.
func (s *Server) Hang() (release func()) {
	gate := make(chan struct{})
	s.mu.Lock()
	s.gate = gate
	s.mu.Unlock()
	return sync.OnceFunc(func() {
		s.mu.Lock()
		s.gate = nil
		s.mu.Unlock()
		close(gate)
	})
}

func (s *Server) wait(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.waiting += n
}

// Waiting returns how many questions hang.
func (s *Server) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// Asked returns how many questions arrived.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

// Refused returns why questions were refused as Google would, and clears the list.
func (s *Server) Refused() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	refused := s.refused
	s.refused = nil
	return refused
}

func (s *Server) refuse(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused = append(s.refused, fmt.Sprintf(format, args...))
}

// ServeHTTP answers one question.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.asked++
	behave, gate := s.behave, s.gate
	s.mu.Unlock()
	if gate != nil {
		body, err := io.ReadAll(r.Body) // the server notices only after this that the caller has gone
		if err != nil {
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		s.wait(1)
		select {
		case <-gate:
		case <-r.Context().Done():
		}
		s.wait(-1)
		if r.Context().Err() != nil {
			return
		}
	}
	if !strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		s.refuse("no compression is asked for")
	}
	switch r.URL.Path {
	case "/v1/places:searchNearby":
		s.search(w, r, behave)
	case "/maps/api/place/nearbysearch/json":
		s.legacy(w, r, behave)
	default:
		s.refuse("%s %s is not a method of the APIs", r.Method, r.URL.Path)
		http.Error(w, "<html>404", http.StatusNotFound)
	}
}

// WriteJSON answers with JSON as Google's front end does: compressed.
func WriteJSON(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.Header().Set("Content-Encoding", "gzip")
	w.WriteHeader(status)
	z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // fails only for invalid levels
	defer z.Close()
	io.WriteString(z, text)
}

// near returns the places within metres, nearest first.
func (s *Server) near(lat, lon, metres float64) []Place {
	var found []Place
	for _, p := range s.places {
		if distance(lat, lon, p.Lat, p.Lon) <= metres {
			found = append(found, p)
		}
	}
	slices.SortStableFunc(found, func(a, b Place) int {
		return int(math.Copysign(1, distance(lat, lon, a.Lat, a.Lon)-distance(lat, lon, b.Lat, b.Lon)))
	})
	return found
}

// distance returns metres on a sphere, by the haversine formula.
func distance(lat1, lon1, lat2, lon2 float64) float64 {
	const degree = math.Pi / 180
	a := math.Pow(math.Sin((lat2-lat1)*degree/2), 2) +
		math.Cos(lat1*degree)*math.Cos(lat2*degree)*math.Pow(math.Sin((lon2-lon1)*degree/2), 2)
	return 2 * 6371008.8 * math.Asin(math.Sqrt(a))
}
