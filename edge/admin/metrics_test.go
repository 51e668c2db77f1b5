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

// everything returns the metrics of an edge that has all of them.
func everything() admin.Metrics {
	h := admin.Histogram{Buckets: []float64{0.001, 0.01}, Counts: []uint64{5, 2}, Sum: 0.5, Count: 8}
	parts, behind := uint64(18), -86400.5
	return admin.Metrics{
		Commands:           []admin.CommandCount{{Command: "iamat", Outcome: "ok", Count: 3}, {Command: "whatsat", Outcome: "invalid", Count: 1}},
		CommandSeconds:     map[string]admin.Histogram{"iamat": h},
		PropagationSeconds: h,
		OlderSeconds:       h,
		Connections:        4, ConnectionsPending: 2048, ConnectionsRefused: 5, ConnectionsClosed: map[string]uint64{"idle": 6},
		Positions: 7, PositionsBytes: 4096, PositionsForgotten: 8,
		Live: &admin.LiveMetrics{
			Watches: 29, Members: 30, Marked: 34, Told: map[string]uint64{"in": 31, "out": 32}, Ended: map[string]uint64{"full": 33}, Seconds: h,
		},
		ClockInDoubt: true, RetentionClockSeconds: &behind, RetentionParts: &parts,
		CertificateExpires: time.Unix(1_800_000_000, 0),
		Links: []admin.LinkMetrics{{
			Neighbour: "Jaquez", Up: true, Lag: 9, RoundTripSeconds: 0.25, ClockSeconds: -0.5, ConfigDiffers: true,
			In: true, Out: true, PutOff: 18, Unsendable: 19,
			SentLines: 10, ReceivedLines: 11, DuplicateLines: 12, RefusedLines: 13, Rewinds: 14, Downs: 15,
			SentMessages: 20, ReceivedMessages: 21, SentBytes: 22, ReceivedBytes: 23,
		}},
		BrokerConnected: true, BrokerReconnects: 24,
		Journal:        &admin.JournalMetrics{Up: true, Lag: 7, Skipped: 8, LeftOut: 9, FullRatio: 0.5, Replicas: 27, Copies: 28, Writes: 25, Errors: 26, Seconds: h},
		PlacesRequests: []admin.PlacesCount{{Provider: "gazetteer", Outcome: "ok", Count: 15}},
		PlacesSeconds:  map[string]admin.Histogram{"gazetteer": h},
		PlacesBreaker:  map[string]bool{"google": false},
		PlacesBudget:   map[string]int{"google": 16},
		PlacesKnown:    map[string]int{"osm": 260},

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

// herdLines returns the values of the herd's own metrics.
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
	// Sorted as Prometheus sends them: by name, then by the labels' values.
	want := strings.Split(strings.TrimSpace(`
herd_broker_connected{edge="Clark"} 1
herd_broker_reconnects_total{edge="Clark"} 24
herd_ready{edge="Clark"} 1
herd_journal_replicas{edge="Clark"} 27
herd_journal_copies{edge="Clark"} 28
herd_journal_writes_total{edge="Clark"} 25
herd_journal_errors_total{edge="Clark"} 26
herd_journal_seconds_bucket{edge="Clark",le="0.001"} 5
herd_journal_seconds_bucket{edge="Clark",le="0.01"} 7
herd_journal_seconds_bucket{edge="Clark",le="+Inf"} 8
herd_journal_seconds_sum{edge="Clark"} 0.5
herd_journal_seconds_count{edge="Clark"} 8
herd_link_sent_messages_total{edge="Clark",neighbour="Jaquez"} 20
herd_link_received_messages_total{edge="Clark",neighbour="Jaquez"} 21
herd_link_sent_bytes_total{edge="Clark",neighbour="Jaquez"} 22
herd_link_received_bytes_total{edge="Clark",neighbour="Jaquez"} 23
herd_build_info{commit="abcdef",edge="Clark",version="v1.2.3"} 1
herd_clock_in_doubt{edge="Clark"} 1
herd_command_seconds_bucket{command="iamat",edge="Clark",le="0.001"} 5
herd_command_seconds_bucket{command="iamat",edge="Clark",le="0.01"} 7
herd_command_seconds_bucket{command="iamat",edge="Clark",le="+Inf"} 8
herd_command_seconds_sum{command="iamat",edge="Clark"} 0.5
herd_command_seconds_count{command="iamat",edge="Clark"} 8
herd_commands_total{command="iamat",edge="Clark",outcome="ok"} 3
herd_commands_total{command="whatsat",edge="Clark",outcome="invalid"} 1
herd_connections{edge="Clark"} 4
herd_connections_closed_total{edge="Clark",reason="idle"} 6
herd_connections_pending_bytes{edge="Clark"} 2048
herd_connections_refused_total{edge="Clark"} 5
herd_journal_full_ratio{edge="Clark"} 0.5
herd_journal_lag{edge="Clark"} 7
herd_journal_left_out{edge="Clark"} 9
herd_journal_skipped_total{edge="Clark"} 8
herd_journal_up{edge="Clark"} 1
herd_link_clock_seconds{edge="Clark",neighbour="Jaquez"} -0.5
herd_link_config_differs{edge="Clark",neighbour="Jaquez"} 1
herd_link_direction_up{direction="in",edge="Clark",neighbour="Jaquez"} 1
herd_link_direction_up{direction="out",edge="Clark",neighbour="Jaquez"} 1
herd_link_downs_total{edge="Clark",neighbour="Jaquez"} 15
herd_link_duplicate_lines_total{edge="Clark",neighbour="Jaquez"} 12
herd_link_lag{edge="Clark",neighbour="Jaquez"} 9
herd_link_put_off_lines_total{edge="Clark",neighbour="Jaquez"} 18
herd_link_received_lines_total{edge="Clark",neighbour="Jaquez"} 11
herd_link_refused_lines_total{edge="Clark",neighbour="Jaquez"} 13
herd_link_rewinds_total{edge="Clark",neighbour="Jaquez"} 14
herd_link_round_trip_seconds{edge="Clark",neighbour="Jaquez"} 0.25
herd_link_sent_lines_total{edge="Clark",neighbour="Jaquez"} 10
herd_link_unsendable_lines_total{edge="Clark",neighbour="Jaquez"} 19
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
herd_positions_bytes{edge="Clark"} 4096
herd_positions_forgotten_total{edge="Clark"} 8
herd_positions_older_seconds_bucket{edge="Clark",le="0.001"} 5
herd_positions_older_seconds_bucket{edge="Clark",le="0.01"} 7
herd_positions_older_seconds_bucket{edge="Clark",le="+Inf"} 8
herd_positions_older_seconds_sum{edge="Clark"} 0.5
herd_positions_older_seconds_count{edge="Clark"} 8
herd_propagation_seconds_bucket{edge="Clark",le="0.001"} 5
herd_propagation_seconds_bucket{edge="Clark",le="0.01"} 7
herd_propagation_seconds_bucket{edge="Clark",le="+Inf"} 8
herd_propagation_seconds_sum{edge="Clark"} 0.5
herd_propagation_seconds_count{edge="Clark"} 8
herd_retention_clock_parted_total{edge="Clark"} 18
herd_retention_clock_seconds{edge="Clark"} -86400.5
herd_tls_certificate_expires_timestamp_seconds{edge="Clark"} 1.8e+09
herd_transcript_dropped_total{edge="Clark"} 17
herd_watch_ended_total{edge="Clark",reason="full"} 33
herd_watch_marked_total{edge="Clark"} 34
herd_watch_members{edge="Clark"} 30
herd_watch_seconds_bucket{edge="Clark",le="0.001"} 5
herd_watch_seconds_bucket{edge="Clark",le="0.01"} 7
herd_watch_seconds_bucket{edge="Clark",le="+Inf"} 8
herd_watch_seconds_sum{edge="Clark"} 0.5
herd_watch_seconds_count{edge="Clark"} 8
herd_watch_told_total{edge="Clark",event="in"} 31
herd_watch_told_total{edge="Clark",event="out"} 32
herd_watches{edge="Clark"} 29
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
	for _, name := range []string{"journal", "places", "link", "commands", "retention_clock", "watch"} {
		if strings.Contains(body, "herd_"+name) {
			t.Errorf("there is a herd_%s", name)
		}
	}
	for _, name := range []string{"herd_connections", "herd_positions", "herd_clock_in_doubt", "herd_broker_connected", "herd_transcript_dropped_total"} {
		if !strings.Contains(body, name+`{edge="Clark"} 0`) {
			t.Errorf("%s is not 0", name)
		}
	}
}

// TestALinkThatIsDownTellsNoOldFigures: a round trip measured before the link went down would
// otherwise be shown for ever.
func TestALinkThatIsDownTellsNoOldFigures(t *testing.T) {
	for _, test := range []struct {
		in, out           bool
		clock, roundTrips int // how many there should be
	}{
		{true, true, 1, 1}, {true, false, 1, 0}, {false, true, 0, 1}, {false, false, 0, 0},
	} {
		body := scrape(t, admin.Metrics{Links: []admin.LinkMetrics{{
			Neighbour: "Jaquez", In: test.in, Out: test.out, RoundTripSeconds: 0.25, ClockSeconds: 0.5}}})
		if n := strings.Count(body, "herd_link_clock_seconds{"); n != test.clock {
			t.Errorf("in %t, out %t: %d clocks", test.in, test.out, n)
		}
		if n := strings.Count(body, "herd_link_round_trip_seconds{"); n != test.roundTrips {
			t.Errorf("in %t, out %t: %d round trips", test.in, test.out, n)
		}
		if !strings.Contains(body, `herd_link_up{edge="Clark",neighbour="Jaquez"} 0`) {
			t.Error("the link is gone")
		}
	}
}

// TestNotReadyIsAMetric checks that herd_ready agrees with /readyz.
func TestNotReadyIsAMetric(t *testing.T) {
	_, body := ask(t, admin.New(admin.Config{}, source("Clark"), joining("Jaquez")), "GET", "/metrics")
	for _, want := range []string{`herd_ready{edge="Clark"} 1`, `herd_ready{edge="Jaquez"} 0`} {
		if !strings.Contains(body, want+"\n") {
			t.Errorf("no %s", want)
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
	// Count was read before the buckets: the total must not be below their sum.
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
