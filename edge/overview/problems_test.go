package overview

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// wellEdge returns the status of an edge without problems, with links to these neighbours.
func wellEdge(name string, neighbours ...string) Status {
	s := Status{Edge: name, Version: "1.2.0", Ready: true, Clients: 3, Connections: 1, Broker: "connected nats://127.0.0.1:4222",
		Topology: "Clark-Jaquez", Journal: Journal{Mode: "auto", Up: true}}
	for _, n := range neighbours {
		s.Links = append(s.Links, LinkStatus{Neighbour: n, Up: true, RoundTripSeconds: 0.0002})
	}
	return s
}

// of is what is seen where these answered.
func of(all ...Status) *Seen { return &Seen{Prefix: "herd", Statuses: all} }

// told is a problem as people read it.
func told(p Problem) string {
	text := p.What
	if !p.Since.IsZero() {
		text += " since " + p.Since.UTC().Format(Moment)
	}
	if p.More != "" {
		text += ": " + p.More
	}
	return text
}

// What is down makes the exit code 1; what only differs does not.
func TestStatusSaysWhatIsWrong(t *testing.T) {
	for _, test := range []struct {
		name    string
		change  func(a, b *Status)
		want    string
		warning bool
	}{
		{"not ready", func(a, _ *Status) { a.Ready, a.Why = false, "the clock is in doubt" }, "Clark is not ready: the clock is in doubt", false},
		{"a link down", func(a, _ *Status) { a.Links[0].Up = false }, "the link from Clark to Jaquez is down", false},
		{"a link that is not acknowledged", func(a, _ *Status) { a.Links[0].Up, a.Links[0].In = false, true }, "the link from Clark to Jaquez is in only", false},
		{"a link that is not heard", func(a, _ *Status) { a.Links[0].Up, a.Links[0].Out = false, true }, "the link from Clark to Jaquez is out only", false},
		{"the broker away", func(a, b *Status) { a.Broker, b.Broker = "away x", "away x" }, "Clark and Jaquez have no broker", false},
		{"a journal that is wanted", func(a, _ *Status) { a.Journal = Journal{Mode: "on", Error: "no space"} }, "the journal of Clark is not written: no space", false},
		{"a journal that may be", func(a, _ *Status) { a.Journal.Up, a.Journal.Error = false, "no JetStream" }, "the journal of Clark is not written: no JetStream", true},
		{"a certificate that has expired", func(a, _ *Status) { a.CertificateExpires = time.Now().Add(-time.Hour) }, "the certificate of Clark has expired since", false},
		{"a certificate that soon expires", func(a, _ *Status) { a.CertificateExpires = time.Now().Add(time.Hour) }, "the certificate of Clark expires on", true},
		{"a broker that complains", func(a, _ *Status) { a.BrokerError = "Permissions Violation" }, "the broker complains to Clark: Permissions Violation", true},
		{"a link that is down for a while", func(a, _ *Status) {
			a.Links[0].Up, a.Links[0].DownSince = false, time.Date(2026, 11, 29, 23, 4, 5, 0, time.UTC)
		}, "the link from Clark to Jaquez is down since 29 Nov 23:04:05 UTC", false},
		{"a journal that lacks a copy", func(a, _ *Status) { a.Journal.Replicas, a.Journal.Copies = 3, 2 }, "the journal of Clark has 2 of 3 copies", true},
		{"topologies", func(a, _ *Status) { a.Topology = "Clark" }, "topologies differ", true},
		{"configuration", func(a, _ *Status) { a.Links[0].ConfigDiffers = true }, "Clark and Jaquez are configured otherwise", true},
		{"versions", func(a, _ *Status) { a.Version = "1.3.0" }, "versions differ: 1.2.0 at Jaquez; 1.3.0 at Clark", true},
		{"a clock", func(a, _ *Status) { a.Clock = "differs" }, "the clock of Clark: differs", true},
		{"lines put off", func(a, _ *Status) { a.Links[0].PutOff = 3 }, "Clark has put off 3 lines from Jaquez", true},
		{"lines too long", func(a, _ *Status) { a.Links[0].Unsendable = 3 }, "Clark has not sent 3 lines to Jaquez", true},
		{"clocks", func(a, _ *Status) { a.Links[0].ClockSeconds = -90 }, "the clock of Jaquez is -90.000s ahead of Clark's", true},
	} {
		a, b := wellEdge("Clark", "Jaquez"), wellEdge("Jaquez", "Clark")
		test.change(&a, &b)
		wrong := of(a, b).Problems(time.Now())
		if len(wrong) == 0 || !strings.HasPrefix(told(wrong[0]), test.want) || (wrong[0].Level == Warning) != test.warning {
			t.Errorf("%s: %+v, want %q", test.name, wrong, test.want)
		}
	}
}

// One fault is one line: what follows from it is not listed, edges that have the same are
// named together, and the worst stands first.
func TestStatusNamesTheCauseOnce(t *testing.T) {
	since := time.Date(2026, 11, 29, 23, 4, 5, 0, time.UTC)
	for _, test := range []struct {
		name   string
		change func(*Status)
		want   []string
	}{
		{"no broker", func(s *Status) {
			s.Broker, s.BrokerError, s.BrokerSince = "away nats://127.0.0.1:4222", "dial: connect: connection refused", since
			s.Journal = Journal{Mode: "auto", Error: "the broker is away", DownSince: since}
			s.Links[0].Up, s.Links[0].DownSince = false, since
		}, []string{"Clark and Jaquez have no broker since 29 Nov 23:04:05 UTC: dial: connect: connection refused"}},
		{"no JetStream", func(s *Status) {
			s.Ready, s.Why = false, "the journal cannot be written: open bucket herd_"+s.Edge+": no JetStream"
			s.Journal = Journal{Mode: "on", Error: "open bucket herd_" + s.Edge + ": no JetStream", DownSince: since}
		}, []string{
			"Clark and Jaquez are not ready: the journal cannot be written: open bucket herd_<EDGE>: no JetStream",
			"the journal of Clark and Jaquez is not written since 29 Nov 23:04:05 UTC: open bucket herd_<EDGE>: no JetStream",
		}},
		{"a note before what is wrong", func(s *Status) {
			if s.Edge == "Clark" {
				s.Journal = Journal{Mode: "auto", Error: "no JetStream at the broker of herd_Clark"}
			} else {
				s.CertificateExpires = since.AddDate(-1, 0, 0)
			}
		}, []string{
			"the certificate of Jaquez has expired since 29 Nov 23:04:05 UTC: clients refuse the edge",
			"the journal of Clark is not written: no JetStream at the broker of herd_Clark",
		}},
	} {
		a, b := wellEdge("Clark", "Jaquez"), wellEdge("Jaquez", "Clark")
		test.change(&a)
		test.change(&b)
		var got []string
		for _, p := range of(a, b).Problems(time.Now()) {
			got = append(got, told(p))
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s:\n%s\nwant\n%s", test.name, strings.Join(got, "\n"), strings.Join(test.want, "\n"))
		}
	}
}

func TestASilentEdgeIsSilentSinceItsLastNeighbourHeardIt(t *testing.T) {
	since := time.Date(2026, 11, 29, 23, 4, 5, 0, time.UTC)
	a, b := wellEdge("Clark", "Jaquez"), wellEdge("Bernard", "Jaquez")
	a.Links[0].Up, a.Links[0].DownSince = false, since
	b.Links[0].Up, b.Links[0].DownSince = false, since.Add(-time.Second)
	want := "Jaquez is silent since 29 Nov 23:04:05 UTC: no answer, neighbour of Bernard and Clark"
	got := of(b, a).Problems(time.Now())
	if len(got) != 2 || told(got[0]) != want || told(got[1]) != "the herd is in 2 parts: Bernard; Clark" {
		t.Errorf("%+v, want %s", got, want)
	}
}
