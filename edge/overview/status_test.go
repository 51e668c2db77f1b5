package overview

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// status returns the status of an edge called name with two neighbours.
func status(name string) Status {
	return Status{
		Edge: name, Epoch: "187fa3c2b9d01e00-9a3b5c7d", Version: "v0.1.0", Ready: true, Topology: "Clark-Jaquez,Clark-Juzang",
		Clients: 1_234_567, Connections: 42, Revision: 98_765_432,
		Links: []LinkStatus{
			{Neighbour: "Jaquez", Up: true, In: true, Out: true, Lag: 3, RoundTripSeconds: 0.00042, ClockSeconds: 0.00012},
			{Neighbour: "Juzang", Up: false, Out: true, PutOff: 1_234, Unsendable: 2, Lag: 12_345, RoundTripSeconds: 1.25, ClockSeconds: -6.5, ConfigDiffers: true, Downs: 7, DownSince: time.Date(2026, 11, 29, 23, 4, 5, 0, time.UTC)},
		},
		Journal: Journal{Mode: "off"},
		Broker:  "connected nats://127.0.0.1:4222",
		Places:  []PlacesStatus{{Provider: "google", BreakerOpen: true, BudgetLeft: new(1234)}, {Provider: "gazetteer"}},
	}
}

func TestStatusIsTheContractsJSON(t *testing.T) {
	got, err := json.Marshal(status("Clark"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"edge":"Clark","epoch":"187fa3c2b9d01e00-9a3b5c7d","version":"v0.1.0","ready":true,"why":"","clients":1234567,"connections":42,"revision":98765432,"topology":"Clark-Jaquez,Clark-Juzang",` +
		`"links":[{"neighbour":"Jaquez","up":true,"lag":3,"round_trip_seconds":0.00042,"clock_seconds":0.00012,"config_differs":false,"downs":0,"in":true,"out":true,"sent_lines":0,"sent_bytes":0,"received_lines":0,"received_bytes":0,"sent_lines_per_second":0,"sent_bytes_per_second":0,"received_lines_per_second":0,"received_bytes_per_second":0,"put_off_lines":0,"unsendable_lines":0},` +
		`{"neighbour":"Juzang","up":false,"lag":12345,"round_trip_seconds":1.25,"clock_seconds":-6.5,"config_differs":true,"downs":7,"in":false,"out":true,"down_since":"2026-11-29T23:04:05Z","sent_lines":0,"sent_bytes":0,"received_lines":0,"received_bytes":0,"sent_lines_per_second":0,"sent_bytes_per_second":0,"received_lines_per_second":0,"received_bytes_per_second":0,"put_off_lines":1234,"unsendable_lines":2}],` +
		`"journal":{"mode":"off","up":false,"lag":0,"error":""},"broker_connected":false,"broker":"connected nats://127.0.0.1:4222",` +
		`"places":[{"provider":"google","breaker_open":true,"budget_left":1234},{"provider":"gazetteer","breaker_open":false}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, err := json.Marshal(Status{}); err != nil || !strings.Contains(string(got), `"links":[]`) || !strings.Contains(string(got), `"places":[]`) {
		t.Errorf("a lone edge: %s, %v", got, err)
	}
	odd := Status{Clock: "differs"}
	if got, err := json.Marshal(odd); err != nil || !strings.Contains(string(got), `"broker":"","clock":"differs","places"`) {
		t.Errorf("with a note on the clock: %s, %v", got, err)
	}
	var back Status
	if err := json.Unmarshal(got, &back); err != nil || back.Links[1] != status("Clark").Links[1] {
		t.Errorf("read back as %+v, %v", back, err)
	}
}
