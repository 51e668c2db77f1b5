package devices

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"herd/edge/command"
	"herd/edge/position"
	"herd/edge/server"
)

// overland is a request of Overland with so many positions of one device, as large as they are, that
// begin at a moment.
func overland(n int, from int64) []byte {
	var b bytes.Buffer
	b.WriteString(`{"locations":[`)
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.44%05d,34.06%05d]},"properties":{"timestamp":"%s","altitude":81,"speed":1,"horizontal_accuracy":5,"vertical_accuracy":3,"speed_accuracy":1,"course":90,"course_accuracy":4,"motion":["walking"],"pauses":false,"activity":"fitness","desired_accuracy":-1,"deferred":0,"significant_change":"disabled","locations_in_payload":%d,"battery_state":"unplugged","battery_level":0.8,"wifi":"home","unique_id":"0123456789ABCDEF","device_id":"phone"}}`,
			i, i, time.Unix(from+int64(i), 0).UTC().Format("2006-01-02T15:04:05-0700"), n)
	}
	b.WriteString("]}")
	return b.Bytes()
}

// sink is a ResponseWriter that keeps nothing but the status.
type sink struct {
	header http.Header
	status int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) Write(p []byte) (int, error) { return len(p), nil }
func (s *sink) WriteHeader(status int)      { s.status = status }

// decode decodes what an Overland request has of positions as parseJSON does, by the same calls into
// the same types, and does nothing with it.
func decode(text []byte) (n int, err error) {
	d := json.NewDecoder(bytes.NewReader(text))
	for range 3 { // {, "locations", [
		if _, err := d.Token(); err != nil {
			return 0, err
		}
	}
	var f feature
	for ; d.More(); n++ {
		if err := d.Decode(&f); err != nil {
			return 0, err
		}
		f.clear()
	}
	for range 2 { // ], }
		if _, err := d.Token(); err != nil {
			return 0, err
		}
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return 0, fmt.Errorf("%w in place of the end", err)
	}
	return n, nil
}

// What a request of Overland's 1,000 positions costs, from its reading to its answer, beside what
// decoding its JSON costs.
func BenchmarkOverland(b *testing.B) {
	const n = 1000
	text := overland(n, 1_600_000_000)
	b.Run("floor", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if got, err := decode(text); got != n || err != nil {
				b.Fatal(got, err)
			}
		}
	})
	b.Run("request", func(b *testing.B) {
		s, c := bare(b)
		ctx := context.WithValue(b.Context(), connKey{}, c)
		bodies := make([][]byte, 64) // each is newer than the one before
		for i := range bodies {
			bodies[i] = overland(n, 1_600_000_000+int64(i)*n)
		}
		r, err := http.NewRequestWithContext(ctx, "POST", "http://localhost/", nil)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			w := &sink{header: http.Header{}}
			body := bodies[i%len(bodies)]
			r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
			if s.ServeHTTP(w, r); w.status != 200 {
				b.Fatal(w.status)
			}
		}
	})
}

// What OsmAnd's GET costs beyond what net/http does.
func BenchmarkOsmAnd(b *testing.B) {
	s, c := bare(b)
	ctx := context.WithValue(b.Context(), connKey{}, c)
	r, err := http.NewRequestWithContext(ctx, "GET", "http://localhost/?id=kiwi&lat=34.06890000&lon=-118.44510000&timestamp=1621464827959&hdop=4.5&altitude=81.0&speed=0.0", nil)
	if err != nil {
		b.Fatal(err)
	}
	w := &sink{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		clear(w.header)
		if s.ServeHTTP(w, r); w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

// bare is a Server without a listener, and a connection of nobody's.
func bare(t testing.TB) (*Server, *conn) {
	t.Helper()
	h := command.New(command.Config{Edge: "Clark", Table: position.New(position.Config{})})
	s, err := New(Config{
		Gate: server.NewGate(server.GateConfig{}), Wall: time.Time.UnixNano,
		Caller:  func(from netip.Addr, _ Who) *command.Caller { return h.Caller(from) },
		Session: func(c *command.Caller) server.Session { return session{c.Session()} },
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Open()
	near, far := net.Pipe()
	t.Cleanup(func() { near.Close(); far.Close() })
	c := &conn{Conn: near, s: s, remote: "192.0.2.1:1"}
	s.cfg.Gate.Enter(&c.entry, near.RemoteAddr(), c)
	return s, c
}

// A position costs what its numbers are long, not what its request has besides.
func TestAllocationsOfARequest(t *testing.T) {
	s, c := bare(t)
	ctx := context.WithValue(t.Context(), connKey{}, c)
	r, err := http.NewRequestWithContext(ctx, "GET", "http://localhost/?id=kiwi&lat=34.0689&lon=-118.4451&timestamp=1621464827&x="+strings.Repeat("y", 1000), nil)
	if err != nil {
		t.Fatal(err)
	}
	w := &sink{header: http.Header{}}
	most := 24.0
	if got := testing.AllocsPerRun(100, func() { clear(w.header); s.ServeHTTP(w, r) }); got > most {
		t.Errorf("a request of OsmAnd allocates %v times, want %v at most", got, most)
	}
}
