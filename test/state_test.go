package test

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
)

// status is the answer of an edge's NATS endpoint of that name (docs/PROTOCOL.md).
type status struct {
	Edge        string
	Epoch       string
	Version     string
	Ready       bool
	Clients     int
	Connections int
	Revision    uint64
	Links       []struct {
		Neighbour string
		Up        bool
		Lag       uint64
		RoundTrip float64 `json:"round_trip_seconds"`
		Clock     float64 `json:"clock_seconds"`
		Differs   bool    `json:"config_differs"`
	}
	Journal struct {
		Mode string
		Lag  uint64
	}
	Broker any
}

// operator returns a connection to the herd's broker, like that of the nats command.
func operator(h *herdtest.Processes) *nats.Conn {
	h.T.Helper()
	options := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}
	if h.Keys != "" {
		key, err := nats.NkeyOptionFromSeed(h.Key("operator"))
		if err != nil {
			h.T.Fatal(err)
		}
		options = append(options, key)
	}
	nc, err := nats.Connect(h.NATS.URL(), options...)
	if err != nil {
		h.T.Fatalf("connect to nats-server: %v", err)
	}
	h.T.Cleanup(nc.Close)
	return nc
}

func askStatus(nc *nats.Conn, edge string) (status, error) {
	var s status
	reply, err := nc.Request("herd.edge."+edge+".status", nil, herdtest.Promise(2*time.Second))
	if err != nil {
		return s, fmt.Errorf("status of %s: %w", edge, err)
	}
	if err := json.Unmarshal(reply.Data, &s); err != nil {
		return s, fmt.Errorf("status of %s: %q: %w", edge, reply.Data, err)
	}
	return s, nil
}

// stamp returns the client's time of an AT line in nanoseconds, or 0 for no line. It parses only
// times with nine decimals, as these tests write them.
func stamp(line string) int64 {
	sec, frac, ok := strings.Cut(line[strings.LastIndexByte(line, ' ')+1:], ".")
	if !ok || len(frac) != 9 {
		return 0
	}
	s, _ := strconv.ParseInt(sec, 10, 64)
	ns, _ := strconv.ParseInt(frac, 10, 64)
	return s*1e9 + ns
}

// posix formats a time as clients do.
func posix(ns int64) string { return fmt.Sprintf("%d.%09d", ns/1e9, ns%1e9) }

// holds returns an error for the first client of which the edge holds no line that is at least as
// new as wanted.
func holds(e *herdtest.EdgeProcess, ids []string, newest []int64) error {
	lines, err := herdtest.Held(e.Addr, ids)
	if err != nil {
		return err
	}
	behind, example := 0, ""
	for i, line := range lines {
		if stamp(line) < newest[i] {
			behind++
			example = fmt.Sprintf("of %s it holds %q, not %s", ids[i], line, posix(newest[i]))
		}
	}
	if behind > 0 {
		return fmt.Errorf("%s is behind for %d of %d clients: %s", e.Name, behind, len(ids), example)
	}
	return nil
}

// awaitHolds waits until all these edges hold lines as new as these, and returns how long it took
// since start.
func awaitHolds(t *testing.T, start time.Time, limit time.Duration, edges []*herdtest.EdgeProcess, ids []string, newest []int64) time.Duration {
	t.Helper()
	pending := edges
	herdtest.Eventually(t, time.Until(start.Add(limit)), "every edge has caught up", func() error {
		for len(pending) > 0 {
			if err := holds(pending[0], ids, newest); err != nil {
				return err
			}
			pending = pending[1:]
		}
		return nil
	})
	return time.Since(start)
}

// sameBytes fails unless these edges hold the same line for each client (S2).
func sameBytes(edges []*herdtest.EdgeProcess, ids []string) error { return same(edges, ids, true) }

// same fails unless these edges hold the same line for each client, or, unless every client is
// needed, all none.
func same(edges []*herdtest.EdgeProcess, ids []string, needed bool) error {
	first, err := herdtest.Held(edges[0].Addr, ids)
	if err != nil {
		return err
	}
	for _, e := range edges[1:] {
		lines, err := herdtest.Held(e.Addr, ids)
		if err != nil {
			return err
		}
		for i := range lines {
			if lines[i] != first[i] || needed && lines[i] == "" {
				return fmt.Errorf("%s holds %q, %s holds %q", edges[0].Name, first[i], e.Name, lines[i])
			}
		}
	}
	return nil
}
