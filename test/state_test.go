package test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// metrics is the edge's /metrics page: a sample's name with its labels, and its value.
func (e *edge) metrics() (map[string]float64, error) {
	code, body, err := e.get("/metrics")
	if err != nil {
		return nil, err
	}
	if code != 200 {
		return nil, fmt.Errorf("/metrics: %d", code)
	}
	samples := map[string]float64{}
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		line = strings.TrimSpace(line)
		end := strings.LastIndexByte(line, ' ')
		if end < 0 {
			continue
		}
		value, err := strconv.ParseFloat(line[end+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("/metrics: %q: %w", line, err)
		}
		samples[line[:end]] = value
	}
	return samples, nil
}

// metric is the sum of the samples of one name whose labels hold all of the given ones,
// written as name="value". It is NaN where there are none.
func (e *edge) metric(name string, labels ...string) float64 {
	e.t.Helper()
	samples, err := e.metrics()
	if err != nil {
		e.t.Fatalf("metrics of %s: %v", e.name, err)
	}
	sum, found := 0.0, false
next:
	for sample, value := range samples {
		if sample != name && !strings.HasPrefix(sample, name+"{") {
			continue
		}
		for _, label := range labels {
			if !strings.Contains(sample, label) {
				continue next
			}
		}
		sum, found = sum+value, true
	}
	if !found {
		return math.NaN()
	}
	return sum
}

// status is the answer of an edge's NATS endpoint of that name (CONTRACT.md).
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

// operator is a connection to the herd's broker, as the nats command has one.
func (h *herd) operator() *nats.Conn {
	h.t.Helper()
	options := []nats.Option{nats.MaxReconnects(-1), nats.ReconnectWait(50 * time.Millisecond)}
	if h.keys != "" {
		key, err := nats.NkeyOptionFromSeed(h.key("operator"))
		if err != nil {
			h.t.Fatal(err)
		}
		options = append(options, key)
	}
	nc, err := nats.Connect(h.nats.url(), options...)
	if err != nil {
		h.t.Fatalf("connect to nats-server: %v", err)
	}
	h.t.Cleanup(nc.Close)
	return nc
}

func askStatus(nc *nats.Conn, edge string) (status, error) {
	var s status
	reply, err := nc.Request("herd.edge."+edge+".status", nil, 2*time.Second)
	if err != nil {
		return s, fmt.Errorf("status of %s: %w", edge, err)
	}
	if err := json.Unmarshal(reply.Data, &s); err != nil {
		return s, fmt.Errorf("status of %s: %q: %w", edge, reply.Data, err)
	}
	return s, nil
}

var errOtherAnswer = errors.New("an answer to another question")

// held asks one edge where these clients are, by `WHATSAT x 0 0`, which asks no provider
// (C12). A client that the edge does not know has an empty line.
func held(addr string, ids []string) ([]string, error) {
	conn, err := net.DialTimeout("tcp", addr, 2*time.Second)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5*time.Second + time.Duration(len(ids))*100*time.Microsecond))
	wrote := make(chan error, 1)
	go func() {
		w := bufio.NewWriterSize(conn, 64<<10)
		for _, id := range ids {
			w.WriteString("WHATSAT " + id + " 0 0\n")
		}
		wrote <- w.Flush()
	}()
	r := bufio.NewReaderSize(conn, 64<<10)
	lines := make([]string, 0, len(ids))
	for _, id := range ids {
		line, err := readWhatsat(r)
		if err != nil {
			return nil, fmt.Errorf("%s about %s: %w", addr, id, err)
		}
		if got, ok := strings.CutPrefix(line, "? "); ok {
			if got != "WHATSAT "+id+" 0 0" {
				return nil, fmt.Errorf("%w: %s about %s: %q", errOtherAnswer, addr, id, line)
			}
			line = ""
		} else if f := strings.Split(line, " "); len(f) != 6 || f[0] != "AT" || f[3] != id {
			return nil, fmt.Errorf("%w: %s about %s: %q", errOtherAnswer, addr, id, line)
		}
		lines = append(lines, line)
	}
	return lines, <-wrote
}

// readWhatsat reads one answer to WHATSAT and returns its first line (C14).
func readWhatsat(r *bufio.Reader) (string, error) {
	first, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	first = strings.TrimSuffix(first, "\n")
	if strings.HasPrefix(first, "? ") {
		return first, nil
	}
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return "", err
		}
		if bytes.Equal(line, []byte("\n")) {
			return first, nil
		}
	}
}

// stamp is the client's time of an AT line in nanoseconds, 0 for no line. It reads only
// times as these tests write them, with nine decimals.
func stamp(line string) int64 {
	sec, frac, ok := strings.Cut(line[strings.LastIndexByte(line, ' ')+1:], ".")
	if !ok || len(frac) != 9 {
		return 0
	}
	s, _ := strconv.ParseInt(sec, 10, 64)
	ns, _ := strconv.ParseInt(frac, 10, 64)
	return s*1e9 + ns
}

// posix writes a time as clients do.
func posix(ns int64) string { return fmt.Sprintf("%d.%09d", ns/1e9, ns%1e9) }

// holds reports the first client of which the edge holds nothing as new as it should.
func holds(e *edge, ids []string, newest []int64) error {
	lines, err := held(e.addr, ids)
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
		return fmt.Errorf("%s is behind for %d of %d clients: %s", e.name, behind, len(ids), example)
	}
	return nil
}

// awaitHolds waits until every one of these edges holds lines as new as these, and says
// how long it took from start on.
func awaitHolds(t *testing.T, start time.Time, limit time.Duration, edges []*edge, ids []string, newest []int64) time.Duration {
	t.Helper()
	pending := edges
	eventually(t, time.Until(start.Add(limit)), "every edge has caught up", func() error {
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
func sameBytes(edges []*edge, ids []string) error {
	first, err := held(edges[0].addr, ids)
	if err != nil {
		return err
	}
	for _, e := range edges[1:] {
		lines, err := held(e.addr, ids)
		if err != nil {
			return err
		}
		for i := range lines {
			if lines[i] != first[i] || lines[i] == "" {
				return fmt.Errorf("%s holds %q, %s holds %q", edges[0].name, first[i], e.name, lines[i])
			}
		}
	}
	return nil
}
