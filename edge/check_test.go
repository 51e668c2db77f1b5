package edge

import (
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"herd/edge/admin"
	"herd/edge/config"
	"herd/places"
	"herd/places/google/googletest"
)

// Errors that show only when files are opened are reported together with all others.
func TestWrongFilesAreToldWithWrongValues(t *testing.T) {
	environ := []string{"HERD_EDGE=Clark", "HERD_HEARTBEAT=0", "NATS_URL=ftp://broker", "NATS_NKEY=/nowhere/seed", "NATS_CA=/nowhere/ca", "HERD_OSM_FILE=/nowhere/x.osm"}
	_, _, err := config.FromEnvironment(environ, Check)
	if err == nil {
		t.Fatal("accepted")
	}
	want := []string{"HERD_HEARTBEAT: ", "NATS_URL: ", "NATS_NKEY: ", "NATS_CA: ", "HERD_OSM_FILE: "}
	if got := strings.Split(err.Error(), "\n"); !slices.EqualFunc(got, want, strings.HasPrefix) {
		t.Errorf("got:\n%v\nwant these: %q", err, want)
	}
	// With an embedded broker, its credentials are not checked.
	if _, _, err := config.FromEnvironment([]string{"HERD_EDGE=Clark", "HERD_EMBEDDED_NATS=true", "NATS_NKEY=/nowhere/seed"}, Check); err != nil {
		t.Error(err)
	}
}

// What operators see of the providers: in the endpoint status and in /metrics.
func TestProvidersAreShown(t *testing.T) {
	s := googletest.Start(t, googletest.Place{ID: "ChIJ1", Name: "Café", Lat: 34.06893, Lon: -118.445127})
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=Clark", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP=", "HERD_TOPOLOGY=Clark",
		"HERD_GOOGLE_KEY=" + googletest.Key, "HERD_GOOGLE_URL=" + s.URL, "HERD_PLACES_DAILY=7"})
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
