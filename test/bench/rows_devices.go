package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// httpFloor is the least that could serve OsmAnd's requests: net/http, which reads the same query and
// answers 200.
func httpFloor(addr string) error {
	return http.ListenAndServe(addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("id") == "" || q.Get("lat") == "" || q.Get("lon") == "" || q.Get("timestamp") == "" {
			w.WriteHeader(http.StatusBadRequest)
		}
	}))
}

// osmand sends OsmAnd's requests on one connection, one at a time.
func osmand(ctx context.Context, addr string, n int) error {
	nc, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	if err := nc.SetDeadline(time.Now().Add(5 * time.Minute)); err != nil {
		return err
	}
	r := bufio.NewReader(nc)
	base := time.Now().UnixMilli()
	for i := range n {
		_, err := fmt.Fprintf(nc, "GET /?id=c%d&lat=34.0689%04d&lon=-118.4451%04d&timestamp=%d&hdop=4.5&altitude=81.0&speed=0.0 HTTP/1.1\r\nHost: %s\r\nUser-Agent: bench\r\n\r\n",
			i%1000, i%10_000, i%10_000, base+int64(i), addr)
		if err != nil {
			return err
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("answered %s", resp.Status)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			return err
		}
	}
	return nil
}

// devicesGet measures the CPU time of an edge per request of OsmAnd's, beside that of net/http.
func devicesGet(ctx context.Context, s *session) (o outcome, err error) {
	devices, err := ports.TakeAddr()
	if err != nil {
		return o, err
	}
	e, err := s.clark(ctx, "HERD_DEVICES="+devices)
	if err != nil {
		return o, err
	}
	floorAddr, err := ports.TakeAddr()
	if err != nil {
		return o, err
	}
	floor, err := s.start("net/http", nil, s.self, roleHTTP, floorAddr)
	if err != nil {
		return o, err
	}
	err = until(ctx, 10*time.Second, 10*time.Millisecond, "net/http listens", func() (bool, error) { return osmand(ctx, floorAddr, 1) == nil, nil })
	if err != nil {
		return o, err
	}
	n := s.size(40_000, 2000)
	var took []float64
	each := func(p *herdtest.Process, addr string) (float64, error) {
		before, err := p.CPU()
		if err != nil {
			return 0, err
		}
		begun := time.Now()
		if err := osmand(ctx, addr, n); err != nil {
			return 0, fmt.Errorf("%w\n%s", err, last(p))
		}
		if p == e.Process {
			took = append(took, float64(time.Since(begun).Microseconds())/float64(n))
		}
		after, err := p.CPU()
		return float64((after - before).Microseconds()) / float64(n), err
	}
	for addr, p := range map[string]*herdtest.Process{devices: e.Process, floorAddr: floor} { // what is done once
		if _, err := each(p, addr); err != nil {
			return o, err
		}
	}
	took = nil
	o, err = s.inTurn(
		func() (float64, error) { return each(e.Process, devices) },
		func() (float64, error) { return each(floor, floorAddr) })
	if err != nil {
		return o, err
	}
	o.met = o.ratio <= 1.3
	o.note = fmt.Sprintf("a request takes %s µs from the client's side", number(median(took)))
	return o, nil
}

// devicesBatch measures what a position of Overland's costs beyond decoding its JSON as the edge decodes
// it, of a request with 1,000 of them.
func devicesBatch(ctx context.Context, s *session) (o outcome, err error) {
	const positions = 1000
	bench := func(name string) (float64, error) {
		cmd := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", "^BenchmarkOverland$/^"+name+"$",
			"-benchtime", s.span(time.Second, 20*time.Millisecond).String(), "herd/edge/devices")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return 0, fmt.Errorf("%w\n%s", err, out)
		}
		m := benchmarkLine.FindSubmatch(out)
		if m == nil {
			return 0, fmt.Errorf("no figure in the output of go test:\n%s", out)
		}
		ns, err := strconv.ParseFloat(string(m[2]), 64)
		return ns / 1000 / positions, err
	}
	var decoding float64 // the floor, which is measured before each figure
	var beyond []float64
	o, err = s.inTurn(
		func() (float64, error) {
			us, err := bench("request")
			beyond = append(beyond, us-decoding)
			return us, err
		},
		func() (float64, error) {
			decoding, err = bench("floor")
			return decoding, err
		})
	if err != nil {
		return o, err
	}
	more := median(beyond)
	o.met = more <= 1.5
	o.note = fmt.Sprintf("beyond decoding: %.2f µs per position", more)
	return o, nil
}
