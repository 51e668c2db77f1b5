package admin_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"herd/edge/admin"
)

// everything is an edge that has everything to tell.
func everything() admin.Metrics {
	h := admin.Histogram{Buckets: []float64{0.001, 0.01}, Counts: []uint64{5, 2}, Sum: 0.5, Count: 8}
	lag := uint64(7)
	return admin.Metrics{
		Commands:           []admin.CommandCount{{Command: "iamat", Outcome: "ok", Count: 3}, {Command: "whatsat", Outcome: "invalid", Count: 1}},
		CommandSeconds:     map[string]admin.Histogram{"iamat": h},
		PropagationSeconds: h,
		Connections:        4, ConnectionsRefused: 5, ConnectionsClosed: map[string]uint64{"idle": 6},
		Positions: 7, PositionsForgotten: 8,
		CertificateExpires: time.Unix(1_800_000_000, 0),
		Links: []admin.LinkMetrics{{
			Neighbour: "Jaquez", Up: true, Lag: 9, RoundTripSeconds: 0.25, ClockSeconds: -0.5, ConfigDiffers: true,
			SentLines: 10, ReceivedLines: 11, DuplicateLines: 12, RefusedLines: 13, Rewinds: 14,
		}},
		BrokerConnected: true,
		JournalLag:      &lag,
		PlacesRequests:  []admin.PlacesCount{{Provider: "gazetteer", Outcome: "ok", Count: 15}},
		PlacesSeconds:   map[string]admin.Histogram{"gazetteer": h},
		PlacesBreaker:   map[string]bool{"google": false},
		PlacesBudget:    map[string]int{"google": 16},
		PlacesKnown:     map[string]int{"osm": 260},

		TranscriptDropped: 17,
	}
}

func scrape(t *testing.T, metrics ...admin.Metrics) string {
	t.Helper()
	var sources []admin.Source
	for i, m := range metrics {
		s := source([]string{"Clark", "Jaquez"}[i])
		s.Metrics = func() admin.Metrics { return m }
		sources = append(sources, s)
	}
	answer, body := ask(t, admin.New(admin.Config{Version: "v1.2.3", Commit: "abcdef"}, sources...), "GET", "/metrics")
	if answer.StatusCode != 200 {
		t.Fatalf("%s: %s", answer.Status, body)
	}
	return body
}

// herdLines are the values of the herd's own metrics.
func herdLines(body string) (lines []string) {
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "herd_") {
			lines = append(lines, strings.TrimSuffix(line, "\n"))
		}
	}
	return lines
}

func TestEveryMetricOfTheContract(t *testing.T) {
	got := herdLines(scrape(t, everything()))
	// Sorted, as Prometheus sends them: by name, then by the labels' values.
	want := strings.Split(strings.TrimSpace(`
herd_broker_connected{edge="Clark"} 1
herd_build_info{commit="abcdef",edge="Clark",version="v1.2.3"} 1
herd_command_seconds_bucket{command="iamat",edge="Clark",le="0.001"} 5
herd_command_seconds_bucket{command="iamat",edge="Clark",le="0.01"} 7
herd_command_seconds_bucket{command="iamat",edge="Clark",le="+Inf"} 8
herd_command_seconds_sum{command="iamat",edge="Clark"} 0.5
herd_command_seconds_count{command="iamat",edge="Clark"} 8
herd_commands_total{command="iamat",edge="Clark",outcome="ok"} 3
herd_commands_total{command="whatsat",edge="Clark",outcome="invalid"} 1
herd_connections{edge="Clark"} 4
herd_connections_closed_total{edge="Clark",reason="idle"} 6
herd_connections_refused_total{edge="Clark"} 5
herd_journal_lag{edge="Clark"} 7
herd_link_clock_seconds{edge="Clark",neighbour="Jaquez"} -0.5
herd_link_config_differs{edge="Clark",neighbour="Jaquez"} 1
herd_link_duplicate_lines_total{edge="Clark",neighbour="Jaquez"} 12
herd_link_lag{edge="Clark",neighbour="Jaquez"} 9
herd_link_received_lines_total{edge="Clark",neighbour="Jaquez"} 11
herd_link_refused_lines_total{edge="Clark",neighbour="Jaquez"} 13
herd_link_rewinds_total{edge="Clark",neighbour="Jaquez"} 14
herd_link_round_trip_seconds{edge="Clark",neighbour="Jaquez"} 0.25
herd_link_sent_lines_total{edge="Clark",neighbour="Jaquez"} 10
herd_link_up{edge="Clark",neighbour="Jaquez"} 1
herd_places_breaker_open{edge="Clark",provider="google"} 0
herd_places_budget_left{edge="Clark",provider="google"} 16
herd_places_known{edge="Clark",provider="osm"} 260
herd_places_request_duration_seconds_bucket{edge="Clark",provider="gazetteer",le="0.001"} 5
herd_places_request_duration_seconds_bucket{edge="Clark",provider="gazetteer",le="0.01"} 7
herd_places_request_duration_seconds_bucket{edge="Clark",provider="gazetteer",le="+Inf"} 8
herd_places_request_duration_seconds_sum{edge="Clark",provider="gazetteer"} 0.5
herd_places_request_duration_seconds_count{edge="Clark",provider="gazetteer"} 8
herd_places_requests_total{edge="Clark",outcome="ok",provider="gazetteer"} 15
herd_positions{edge="Clark"} 7
herd_positions_forgotten_total{edge="Clark"} 8
herd_propagation_seconds_bucket{edge="Clark",le="0.001"} 5
herd_propagation_seconds_bucket{edge="Clark",le="0.01"} 7
herd_propagation_seconds_bucket{edge="Clark",le="+Inf"} 8
herd_propagation_seconds_sum{edge="Clark"} 0.5
herd_propagation_seconds_count{edge="Clark"} 8
herd_tls_certificate_expires_timestamp_seconds{edge="Clark"} 1.8e+09
herd_transcript_dropped_total{edge="Clark"} 17
`), "\n")
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("missing: %s", line)
		}
	}
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("unexpected: %s", line)
		}
	}
}

func TestTheCollectorsOfGoAndTheProcess(t *testing.T) {
	body := scrape(t, admin.Metrics{})
	for _, name := range []string{"go_goroutines ", "go_memstats_heap_alloc_bytes ", "go_sync_mutex_wait_total_seconds_total ", "process_start_time_seconds "} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("no %s", name)
		}
	}
}

func TestWhatAnEdgeLacksIsLeftOut(t *testing.T) {
	body := scrape(t, admin.Metrics{})
	for _, name := range []string{"journal", "places", "link", "commands"} {
		if strings.Contains(body, "herd_"+name) {
			t.Errorf("there is a herd_%s", name)
		}
	}
	for _, name := range []string{"herd_connections", "herd_positions", "herd_broker_connected", "herd_transcript_dropped_total"} {
		if !strings.Contains(body, name+`{edge="Clark"} 0`) {
			t.Errorf("%s is not 0", name)
		}
	}
}

func TestEachEdgeOfAProcessHasItsLabel(t *testing.T) {
	body := scrape(t, everything(), everything())
	per := make(map[string]int)
	edge := regexp.MustCompile(`[{,]edge="(\w+)"`)
	for _, line := range herdLines(body) {
		found := edge.FindStringSubmatch(line)
		if found == nil {
			t.Fatalf("no edge in %s", line)
		}
		per[found[1]]++
	}
	if len(per) != 2 || per["Clark"] != per["Jaquez"] {
		t.Errorf("lines an edge: %v", per)
	}
}

func TestHistogramsReadWhileTheyCount(t *testing.T) {
	// Count was read before the buckets were: the total must not be below them.
	body := scrape(t, admin.Metrics{PropagationSeconds: admin.Histogram{Buckets: []float64{1}, Counts: []uint64{5}, Count: 3}})
	for _, line := range []string{
		`herd_propagation_seconds_bucket{edge="Clark",le="1"} 5`,
		`herd_propagation_seconds_bucket{edge="Clark",le="+Inf"} 5`,
		`herd_propagation_seconds_count{edge="Clark"} 5`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("missing: %s", line)
		}
	}
}

func TestPrometheusLikesTheNames(t *testing.T) {
	problems, err := promlint.New(strings.NewReader(scrape(t, everything()))).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "herd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}
