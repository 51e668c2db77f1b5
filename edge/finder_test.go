package edge

import (
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herd/edge/admin"
	"herd/places"
	"herd/places/google/googletest"
)

// providersBy tells which providers vars make, in order.
func providersBy(t *testing.T, vars ...string) string {
	t.Helper()
	cfg, _, err := read(vars...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := NewFinder(&cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	<-f.Loaded()
	var names []string
	for _, s := range f.Stats() {
		names = append(names, s.Provider)
	}
	return strings.Join(names, ",")
}

func TestTheProvidersAreAskedInTheirOrder(t *testing.T) {
	for _, test := range []struct{ vars, want string }{
		{"", "gazetteer"},
		{"HERD_GOOGLE_KEY=k", "google,gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=auto", "google,gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=gazetteer", "gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=gazetteer,google-legacy,google", "gazetteer,google-legacy,google"},
	} {
		if got := providersBy(t, strings.Fields(test.vars)...); got != test.want {
			t.Errorf("%s: %s, want %s", test.vars, got, test.want)
		}
	}
}

func TestACountThatCannotBeReadIsToldAtStart(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "google-questions"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		vars []string
		want string
	}{
		{[]string{"HERD_GOOGLE_KEY=k"}, "questions to Google (HERD_PLACES_DAILY, HERD_DATA): "},
		{[]string{"HERD_GOOGLE_KEY=k", "HERD_PLACES_DAILY=0"}, ""}, // nothing is counted
		{[]string{"HERD_GOOGLE_KEY=k", "HERD_PLACES=gazetteer"}, ""},
	} {
		cfg, _, err := read(append(test.vars, "HERD_DATA="+data)...)
		if err != nil {
			t.Fatal(err)
		}
		f, err := NewFinder(&cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err == nil {
			f.Close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.vars, err, test.want)
		}
	}
}

// What operators see of the providers: the endpoint status and /metrics.
func TestProvidersAreShown(t *testing.T) {
	s := googletest.Start(t, googletest.Place{ID: "ChIJ1", Name: "Café", Lat: 34.06893, Lon: -118.445127})
	cfg, _, err := read("HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "HERD_TOPOLOGY=Clark",
		"HERD_GOOGLE_KEY="+googletest.Key, "HERD_GOOGLE_URL="+s.URL, "HERD_PLACES_DAILY=7")
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Shared{Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	text := e.finder.Find(t.Context(), places.Query{Lat: 34.06893, Lon: -118.445127, Radius: 1, Max: 1})
	if !strings.Contains(string(text), "ChIJ1") {
		t.Errorf("found %s", text)
	}
	status, err := json.Marshal(e.Status().Places)
	if want := `[{"provider":"google","breaker_open":false,"budget_left":6},{"provider":"gazetteer","breaker_open":false}]`; err != nil || string(status) != want {
		t.Errorf("status has %s, want %s", status, want)
	}
	m := e.Metrics()
	if open, ok := m.PlacesBreaker["google"]; open || !ok || len(m.PlacesBreaker) != 1 || m.PlacesBudget["google"] != 6 || len(m.PlacesBudget) != 1 {
		t.Errorf("breakers %v, budgets %v", m.PlacesBreaker, m.PlacesBudget)
	}
	var asked admin.PlacesCount
	for _, c := range m.PlacesRequests {
		if c.Provider == "google" && c.Outcome == "ok" {
			asked = c
		}
	}
	if asked.Count != 1 || m.PlacesSeconds["google"].Count != 1 {
		t.Errorf("counted %+v, %+v", asked, m.PlacesSeconds["google"])
	}
}
