package admin

import "github.com/prometheus/client_golang/prometheus"

// collector asks the sources whenever Prometheus scrapes, so that nothing is counted twice
// and metrics cost nothing between scrapes.
type collector struct {
	version, commit string
	sources         []Source
}

// describe returns a metric's description. Its first label is always `edge`.
func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"edge"}, labels...), nil)
}

var (
	buildInfo = describe("herd_build_info", "Version and commit of the program; always 1.", "version", "commit")

	commands       = describe("herd_commands_total", "Clients' commands by kind and outcome.", "command", "outcome")
	commandSeconds = describe("herd_command_seconds", "Time from the receipt of a command until its answer is ready.", "command")
	propagation    = describe("herd_propagation_seconds", "Time from the receipt of a position at its first edge until it is stored here; not measured while joining or catching up.")

	connections        = describe("herd_connections", "Client connections.")
	connectionsPending = describe("herd_connections_pending_bytes", "Bytes held by connections that wait for their clients, and by answers that wait for places or the journal.")
	connectionsRefused = describe("herd_connections_refused_total", "Connections closed at once because there were too many.")
	connectionsClosed  = describe("herd_connections_closed_total", "Connections that ended, by reason.", "reason")

	positions  = describe("herd_positions", "Clients whose positions are stored.")
	tableBytes = describe("herd_positions_bytes", "Memory taken by positions.")
	forgotten  = describe("herd_positions_forgotten_total", "Positions forgotten because of their age.")

	watches      = describe("herd_watches", "Watches that clients have open.")
	watchMembers = describe("herd_watch_members", "Clients inside all watches together, counted once per watch.")
	watchTold    = describe("herd_watch_told_total", "Lines told to watchers, by event.", "event")
	watchMarked  = describe("herd_watch_marked_total", "Changes of which a watch was to tell. Of those of one client a slow watcher is told the newest.")
	watchEnded   = describe("herd_watch_ended_total", "Watches that ended, by reason.", "reason")
	watchSeconds = describe("herd_watch_seconds", "Time from the moment when a change is stored until the line that tells a watcher of it is written; of the oldest change per write.")

	deviceRequests  = describe("herd_device_requests_total", "Requests on the port for devices, by what sent them and how they were answered.", "app", "outcome")
	devicePositions = describe("herd_device_positions_total", "Positions in these requests, by what sent them and what became of them.", "app", "outcome")

	older          = describe("herd_positions_older_seconds", "By how much clients' positions that changed nothing were older than the stored ones.")
	clockInDoubt   = describe("herd_clock_in_doubt", "Whether this edge's clock differs by over a minute from most others that it hears.")
	retentionClock = describe("herd_retention_clock_seconds", "The retention clock less this edge's clock; missing if positions are not forgotten, or not yet.")
	retentionParts = describe("herd_retention_clock_parted_total", "How often the retention clock moved over a minute away from this edge's clock.")

	linkUp               = describe("herd_link_up", "Whether the link to the neighbour is up.", "neighbour")
	linkDirection        = describe("herd_link_direction_up", "Whether one direction of the link works: in, the neighbour's messages arrive; out, it acknowledges this edge's.", "neighbour", "direction")
	linkLag              = describe("herd_link_lag", "Revisions that the neighbour has not acknowledged.", "neighbour")
	linkRoundTrip        = describe("herd_link_round_trip_seconds", "Time from the last message to its ack; 0 before the first, missing while no acks arrive.", "neighbour")
	linkClock            = describe("herd_link_clock_seconds", "The neighbour's clock less this edge's; missing while the neighbour is not heard.", "neighbour")
	linkConfig           = describe("herd_link_config_differs", "Whether the neighbour has another topology, retention or table limits.", "neighbour")
	linkSent             = describe("herd_link_sent_lines_total", "Lines sent to the neighbour.", "neighbour")
	linkReceived         = describe("herd_link_received_lines_total", "Lines received from the neighbour.", "neighbour")
	linkSentBytes        = describe("herd_link_sent_bytes_total", "Bytes of the lines sent to the neighbour.", "neighbour")
	linkReceivedBytes    = describe("herd_link_received_bytes_total", "Bytes of the lines received from the neighbour.", "neighbour")
	linkSentMessages     = describe("herd_link_sent_messages_total", "Messages sent to the neighbour, heartbeats included.", "neighbour")
	linkReceivedMessages = describe("herd_link_received_messages_total", "Messages received from the neighbour, heartbeats included.", "neighbour")
	linkDuplicates       = describe("herd_link_duplicate_lines_total", "Lines received from the neighbour that were not newer than the stored ones.", "neighbour")
	linkRefused          = describe("herd_link_refused_lines_total", "Invalid lines received from the neighbour and dropped.", "neighbour")
	linkPutOff           = describe("herd_link_put_off_lines_total", "Lines received from the neighbour and put off because their time is over an hour ahead of this edge's clock; counted each time they arrive.", "neighbour")
	linkUnsendable       = describe("herd_link_unsendable_lines_total", "Lines not sent to the neighbour because they exceed the broker's max_payload.", "neighbour")
	linkRewinds          = describe("herd_link_rewinds_total", "How often the link went back to the revision that the neighbour holds.", "neighbour")
	linkDowns            = describe("herd_link_downs_total", "How often the link to the neighbour went down.", "neighbour")

	ready              = describe("herd_ready", "Whether the edge is ready, as in /readyz.")
	brokerConnected    = describe("herd_broker_connected", "Whether the broker is connected.")
	brokerReconnects   = describe("herd_broker_reconnects_total", "Connections to the broker after the first.")
	certificateExpires = describe("herd_tls_certificate_expires_timestamp_seconds", "When the client port's certificate expires, in seconds since 1970.")
	journalUp          = describe("herd_journal_up", "Whether the journal can be written; missing where it is off.")
	journalReplicas    = describe("herd_journal_replicas", "NATS servers that should hold the journal.")
	journalCopies      = describe("herd_journal_copies", "NATS servers that hold the journal and are up to date.")
	journalWrites      = describe("herd_journal_writes_total", "Writes that the journal acknowledged, of one or more lines each.")
	journalErrors      = describe("herd_journal_errors_total", "Failed calls of the journal's store.")
	journalSeconds     = describe("herd_journal_seconds", "Time from a journal write to its acknowledgement.")
	journalLag         = describe("herd_journal_lag", "Revisions that the journal does not hold yet.")
	journalFull        = describe("herd_journal_full_ratio", "How full the journal is, from 0 to 1; 0 if it has no limit.")
	journalSkipped     = describe("herd_journal_skipped_total", "Lines that can never be stored in the journal.")
	journalLeftOut     = describe("herd_journal_left_out", "Clients left out of the journal because it is nearly full.")

	placesRequests = describe("herd_places_requests_total", "Questions to a provider of places by outcome.", "provider", "outcome")
	placesSeconds  = describe("herd_places_request_duration_seconds", "Time from a question to a provider of places to its answer.", "provider")
	placesBreaker  = describe("herd_places_breaker_open", "Whether the provider failed too often and is not asked for now.", "provider")
	placesKnown    = describe("herd_places_known", "Places that the provider has read from its file.", "provider")
	placesBudget   = describe("herd_places_budget_left", "Questions left for the provider today.", "provider")

	transcriptDropped = describe("herd_transcript_dropped_total", "Transcript lines dropped because the disk was too slow or failed.")
)

// Describe sends nothing, which makes this an unchecked collector to Prometheus: which
// metrics exist depends on what the edges have.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// Collect asks every edge and sends its metrics.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.sources {
		e := emitter{out, s.Name}
		e.gauge(buildInfo, 1, c.version, c.commit)
		m := s.Metrics()
		e.clients(&m)
		for i := range m.Links {
			e.link(&m.Links[i])
		}
		isReady, _ := s.Ready()
		e.gauge(ready, truth(isReady))
		e.gauge(brokerConnected, truth(m.BrokerConnected))
		e.counter(brokerReconnects, m.BrokerReconnects)
		if !m.CertificateExpires.IsZero() {
			e.gauge(certificateExpires, float64(m.CertificateExpires.Unix()))
		}
		if j := m.Journal; j != nil {
			e.gauge(journalUp, truth(j.Up))
			e.gauge(journalLag, float64(j.Lag))
			e.counter(journalSkipped, j.Skipped)
			e.gauge(journalLeftOut, float64(j.LeftOut))
			e.gauge(journalFull, j.FullRatio)
			if j.Replicas > 0 {
				e.gauge(journalReplicas, float64(j.Replicas))
				e.gauge(journalCopies, float64(j.Copies))
			}
			e.counter(journalWrites, j.Writes)
			e.counter(journalErrors, j.Errors)
			e.histogram(journalSeconds, j.Seconds)
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
	e.gauge(connectionsPending, float64(m.ConnectionsPending))
	e.counter(connectionsRefused, m.ConnectionsRefused)
	for reason, n := range m.ConnectionsClosed {
		e.counter(connectionsClosed, n, reason)
	}
	e.gauge(positions, float64(m.Positions))
	e.gauge(tableBytes, float64(m.PositionsBytes))
	e.counter(forgotten, m.PositionsForgotten)
	e.histogram(older, m.OlderSeconds)
	if l := m.Live; l != nil {
		e.gauge(watches, float64(l.Watches))
		e.gauge(watchMembers, float64(l.Members))
		e.counter(watchMarked, l.Marked)
		for event, n := range l.Told {
			e.counter(watchTold, n, event)
		}
		for reason, n := range l.Ended {
			e.counter(watchEnded, n, reason)
		}
		e.histogram(watchSeconds, l.Seconds)
	}
	if d := m.Devices; d != nil {
		for _, c := range d.Requests {
			e.counter(deviceRequests, c.Count, c.App, c.Outcome)
		}
		for _, c := range d.Positions {
			e.counter(devicePositions, c.Count, c.App, c.Outcome)
		}
	}
	e.gauge(clockInDoubt, truth(m.ClockInDoubt))
	if m.RetentionClockSeconds != nil {
		e.gauge(retentionClock, *m.RetentionClockSeconds)
	}
	if m.RetentionParts != nil {
		e.counter(retentionParts, *m.RetentionParts)
	}
}

func (e emitter) link(l *LinkMetrics) {
	e.gauge(linkUp, truth(l.Up), l.Neighbour)
	e.gauge(linkDirection, truth(l.In), l.Neighbour, "in")
	e.gauge(linkDirection, truth(l.Out), l.Neighbour, "out")
	e.gauge(linkLag, float64(l.Lag), l.Neighbour)
	if l.Out { // otherwise the figure is old and would look current
		e.gauge(linkRoundTrip, l.RoundTripSeconds, l.Neighbour)
	}
	if l.In {
		e.gauge(linkClock, l.ClockSeconds, l.Neighbour)
	}
	e.gauge(linkConfig, truth(l.ConfigDiffers), l.Neighbour)
	e.counter(linkSent, l.SentLines, l.Neighbour)
	e.counter(linkReceived, l.ReceivedLines, l.Neighbour)
	e.counter(linkSentBytes, l.SentBytes, l.Neighbour)
	e.counter(linkReceivedBytes, l.ReceivedBytes, l.Neighbour)
	e.counter(linkSentMessages, l.SentMessages, l.Neighbour)
	e.counter(linkReceivedMessages, l.ReceivedMessages, l.Neighbour)
	e.counter(linkDuplicates, l.DuplicateLines, l.Neighbour)
	e.counter(linkRefused, l.RefusedLines, l.Neighbour)
	e.counter(linkPutOff, l.PutOff, l.Neighbour)
	e.counter(linkUnsendable, l.Unsendable, l.Neighbour)
	e.counter(linkRewinds, l.Rewinds, l.Neighbour)
	e.counter(linkDowns, l.Downs, l.Neighbour)
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

// histogram turns counts per bucket into the running totals that Prometheus wants. The counts
// may have been read one by one while more were added, so the total is raised to at least the
// sum of the buckets.
func (e emitter) histogram(d *prometheus.Desc, h Histogram, labels ...string) {
	totals := make(map[float64]uint64, len(h.Buckets))
	var total uint64
	for i, bound := range h.Buckets {
		total += h.Counts[i]
		totals[bound] = total
	}
	e.out <- prometheus.MustNewConstHistogram(d, max(total, h.Count), h.Sum, totals, e.labels(labels)...)
}

// labels puts the edge's name in front of the other labels.
func (e emitter) labels(others []string) []string { return append([]string{e.name}, others...) }

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
