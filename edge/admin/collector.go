package admin

import "github.com/prometheus/client_golang/prometheus"

// collector asks the sources when Prometheus does, so that nothing is counted
// twice and an edge pays for metrics only while somebody looks.
type collector struct {
	version, commit string
	sources         []Source
}

// describe makes a metric's description; `edge` is the first label of each.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"edge"}, labels...), nil)
}

var (
	buildInfo = describe("herd_build_info", "Version and commit of the program; always 1.", "version", "commit")

	commands       = describe("herd_commands_total", "Commands of clients by kind and by what became of them.", "command", "outcome")
	commandSeconds = describe("herd_command_seconds", "From the receipt of a command to its answer being ready.", "command")
	propagation    = describe("herd_propagation_seconds", "From the receipt of a position at its first edge to its being stored here, not while joining or catching up.")

	connections        = describe("herd_connections", "Clients' connections.")
	connectionsRefused = describe("herd_connections_refused_total", "Connections closed at once because there were too many.")
	connectionsClosed  = describe("herd_connections_closed_total", "Connections that ended, by reason.", "reason")

	positions = describe("herd_positions", "Clients whose positions are held.")
	forgotten = describe("herd_positions_forgotten_total", "Positions forgotten because of their age.")

	linkUp         = describe("herd_link_up", "Whether the link to the neighbour is up.", "neighbour")
	linkLag        = describe("herd_link_lag", "Revisions that the neighbour has not acknowledged.", "neighbour")
	linkRoundTrip  = describe("herd_link_round_trip_seconds", "From the last message to its ack; 0 before the first.", "neighbour")
	linkClock      = describe("herd_link_clock_seconds", "The neighbour's clock less this edge's.", "neighbour")
	linkConfig     = describe("herd_link_config_differs", "Whether the neighbour has another topology or retention.", "neighbour")
	linkSent       = describe("herd_link_sent_lines_total", "Lines sent to the neighbour.", "neighbour")
	linkReceived   = describe("herd_link_received_lines_total", "Lines received from the neighbour.", "neighbour")
	linkDuplicates = describe("herd_link_duplicate_lines_total", "Lines received from the neighbour that were not newer than what was held.", "neighbour")
	linkRefused    = describe("herd_link_refused_lines_total", "Lines received from the neighbour that were dropped as wrong.", "neighbour")
	linkRewinds    = describe("herd_link_rewinds_total", "Times that the link went back to what the neighbour holds.", "neighbour")

	brokerConnected    = describe("herd_broker_connected", "Whether the broker is connected.")
	certificateExpires = describe("herd_tls_certificate_expires_timestamp_seconds", "When the client port's certificate expires, in seconds since 1970.")
	journalLag         = describe("herd_journal_lag", "Revisions that the journal does not hold yet.")

	placesRequests = describe("herd_places_requests_total", "Questions to a provider of places by what became of them.", "provider", "outcome")
	placesSeconds  = describe("herd_places_request_duration_seconds", "From a question to a provider of places to its answer.", "provider")
	placesBreaker  = describe("herd_places_breaker_open", "Whether the provider is not asked for now, because it failed too often.", "provider")
	placesKnown    = describe("herd_places_known", "Places that the provider has read from its file.", "provider")
	placesBudget   = describe("herd_places_budget_left", "Questions that may still go to the provider today.", "provider")

	transcriptDropped = describe("herd_transcript_dropped_total", "Transcript lines that the disk could not take in time.")
)

// Describe says nothing, which Prometheus calls an unchecked collector: which
// metrics there are depends on what the edges have.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks every edge and sends what it tells.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.sources {
		e := emitter{out, s.Name}
		e.gauge(buildInfo, 1, c.version, c.commit)
		m := s.Metrics()
		e.clients(&m)
		for i := range m.Links {
			e.link(&m.Links[i])
		}
		e.gauge(brokerConnected, truth(m.BrokerConnected))
		if !m.CertificateExpires.IsZero() {
			e.gauge(certificateExpires, float64(m.CertificateExpires.Unix()))
		}
		if m.JournalLag != nil {
			e.gauge(journalLag, float64(*m.JournalLag))
		}
		e.places(&m)
		e.counter(transcriptDropped, m.TranscriptDropped)
	}
}

// emitter sends the metrics of one edge.
type emitter struct {
	out  chan<- prometheus.Metric
	name string
}

func (e emitter) clients(m *Metrics) {
	for _, c := range m.Commands {
		e.counter(commands, c.Count, c.Command, c.Outcome)
	}
	for command, h := range m.CommandSeconds {
		e.histogram(commandSeconds, h, command)
	}
	e.histogram(propagation, m.PropagationSeconds)
	e.gauge(connections, float64(m.Connections))
	e.counter(connectionsRefused, m.ConnectionsRefused)
	for reason, n := range m.ConnectionsClosed {
		e.counter(connectionsClosed, n, reason)
	}
	e.gauge(positions, float64(m.Positions))
	e.counter(forgotten, m.PositionsForgotten)
}

func (e emitter) link(l *LinkMetrics) {
	e.gauge(linkUp, truth(l.Up), l.Neighbour)
	e.gauge(linkLag, float64(l.Lag), l.Neighbour)
	e.gauge(linkRoundTrip, l.RoundTripSeconds, l.Neighbour)
	e.gauge(linkClock, l.ClockSeconds, l.Neighbour)
	e.gauge(linkConfig, truth(l.ConfigDiffers), l.Neighbour)
	e.counter(linkSent, l.SentLines, l.Neighbour)
	e.counter(linkReceived, l.ReceivedLines, l.Neighbour)
	e.counter(linkDuplicates, l.DuplicateLines, l.Neighbour)
	e.counter(linkRefused, l.RefusedLines, l.Neighbour)
	e.counter(linkRewinds, l.Rewinds, l.Neighbour)
}

func (e emitter) places(m *Metrics) {
	for _, p := range m.PlacesRequests {
		e.counter(placesRequests, p.Count, p.Provider, p.Outcome)
	}
	for provider, h := range m.PlacesSeconds {
		e.histogram(placesSeconds, h, provider)
	}
	for provider, open := range m.PlacesBreaker {
		e.gauge(placesBreaker, truth(open), provider)
	}
	for provider, left := range m.PlacesBudget {
		e.gauge(placesBudget, float64(left), provider)
	}
	for provider, known := range m.PlacesKnown {
		e.gauge(placesKnown, float64(known), provider)
	}
}

func (e emitter) gauge(d *prometheus.Desc, value float64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, e.labels(labels)...)
}

func (e emitter) counter(d *prometheus.Desc, value uint64, labels ...string) {
	e.out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), e.labels(labels)...)
}

// histogram turns counts a bucket into the running totals that Prometheus
// wants. The counts may have been read one after the other while more came, so
// the total is never less than what the buckets hold.
func (e emitter) histogram(d *prometheus.Desc, h Histogram, labels ...string) {
	totals := make(map[float64]uint64, len(h.Buckets))
	var total uint64
	for i, bound := range h.Buckets {
		total += h.Counts[i]
		totals[bound] = total
	}
	e.out <- prometheus.MustNewConstHistogram(d, max(total, h.Count), h.Sum, totals, e.labels(labels)...)
}

// labels puts the edge before the other labels.
func (e emitter) labels(others []string) []string { return append([]string{e.name}, others...) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
