package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"herd/places/osm/osmtest"
	"herd/test/herdtest"
)

// These rows measure what clients notice of trouble: other clients ask for places or misbehave,
// an edge catches up, stops or is paused, or the broker does not answer. The floor is mostly the
// same load without the trouble.

// pace returns a load that is light for an edge, with times. So its times are mostly waiting.
func (s *session) pace(addr string, span time.Duration) load {
	const rate = 2000
	return load{addr: addr, ids: "pace", clients: 1000, conns: 50, pipeline: 1, rate: rate,
		requests: int(rate * span.Seconds()), times: new([]time.Duration)}
}

// late runs the load and returns a quantile of its times in ms: part of the answers took at most
// that long.
func (l load) late(ctx context.Context, part float64) (float64, error) {
	if _, err := l.run(ctx); err != nil {
		return 0, err
	}
	return l.milliseconds(part), nil
}

// A talk is a client connection to an edge that sends one line at a time.
type talk struct {
	nc net.Conn
	r  *bufio.Reader
}

func (s *session) talk(ctx context.Context, addr string) (*talk, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return &talk{nc, bufio.NewReaderSize(nc, 64<<10)}, nil
}

// ask sends a line and reads the answer until it ends with end.
func (c *talk) ask(line, end string) (string, error) {
	if _, err := io.WriteString(c.nc, line+"\n"); err != nil {
		return "", err
	}
	var text strings.Builder
	for {
		part, err := c.r.ReadString('\n')
		text.WriteString(part)
		if err != nil || strings.HasSuffix(text.String(), end) {
			return text.String(), err
		}
	}
}

// places measures WHATSAT with places from the extract of a country. The floor is an invalid
// command.
func places(ctx context.Context, s *session) (o outcome, err error) {
	n := s.size(1_000_000, 50_000)
	random := rand.New(rand.NewPCG(1, 2))
	somewhere := func(i int) (lat, lon float64) {
		if i%2 == 0 { // half of them are in one town, around 48, 11
			return 48 + 0.13*random.NormFloat64(), 11 + 0.2*random.NormFloat64()
		}
		return 47 + 8*random.Float64(), 6 + 9*random.Float64()
	}
	nodes := make([]osmtest.Node, n)
	for i := range nodes {
		lat, lon := somewhere(i)
		nodes[i] = osmtest.Node{ID: int64(i + 1), Lat: lat, Lon: lon,
			Tags: []string{"name", fmt.Sprint("Place number ", i), "shop", "bakery", "addr:street", "Hauptstrasse", "addr:city", "Neustadt"}}
	}
	file := s.path("country.osm.pbf")
	if err := os.WriteFile(file, osmtest.PBF(osmtest.Form{}, nodes, nil), 0o600); err != nil {
		return o, err
	}
	e, err := s.clark(ctx, "HERD_OSM_FILE="+file)
	if err != nil {
		return o, err
	}
	if err := until(ctx, 5*time.Minute, 50*time.Millisecond, "the places are read", func() (bool, error) {
		m, err := e.metrics()
		return m["herd_places_known"] >= float64(n), err
	}); err != nil {
		return o, err
	}
	c, err := s.talk(ctx, e.addr)
	if err != nil {
		return o, err
	}
	defer c.nc.Close()
	const clients = 200
	for i := range clients {
		lat, lon := somewhere(i)
		if _, err := c.ask(fmt.Sprintf("IAMAT k%d %+010.6f%+011.6f 1", i, lat, lon), "\n"); err != nil {
			return o, err
		}
	}
	slowest := func(line func(i int) string, end string) (float64, error) {
		var times []float64
		for i := range s.size(4000, 400) {
			begun := time.Now()
			answer, err := c.ask(line(i), end)
			if err != nil {
				return 0, err
			}
			times = append(times, micros(time.Since(begun)))
			if end == "\n\n" && !strings.Contains(answer, `"OK"`) {
				return 0, fmt.Errorf("%.200q", answer)
			}
		}
		median(times) // sorts them
		return times[len(times)*99/100], nil
	}
	o, err = s.inTurn(
		func() (float64, error) {
			return slowest(func(i int) string { return fmt.Sprintf("WHATSAT k%d 50 20", i%clients) }, "\n\n")
		},
		func() (float64, error) { return slowest(func(int) string { return "?" }, "\n") })
	o.met = o.figure <= o.floor+1000
	return o, err
}

// hang measures the answers of other clients while WHATSATs wait for a places provider that never
// answers.
func hang(ctx context.Context, s *session) (o outcome, err error) {
	deaf, err := net.Listen("tcp", "127.0.0.1:0") // accepts connections and sends nothing
	if err != nil {
		return o, err
	}
	defer deaf.Close()
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	vars := append(lone(url), "HERD_PLACES=google", "HERD_GOOGLE_KEY=key", "HERD_GOOGLE_URL=http://"+deaf.Addr().String(),
		"HERD_PLACES_DAILY=0", "HERD_PLACES_RATE=0", "HERD_PLACES_TIMEOUT=1h")
	calm, err := s.edge(ctx, "Clark", vars...)
	if err != nil {
		return o, err
	}
	asked, err := s.edge(ctx, "Jaquez", vars...)
	if err != nil {
		return o, err
	}
	for i := range 50 {
		c, err := s.talk(ctx, asked.addr)
		if err != nil {
			return o, err
		}
		defer c.nc.Close()
		// Each at another place, so that each request goes to the provider.
		if _, err := c.ask(fmt.Sprintf("IAMAT asker%d +34.0689%02d-118.445127 5\nWHATSAT asker%d 10 5", i, i, i), "\n"); err != nil {
			return o, err
		}
	}
	o, err = s.againstCalm(ctx, asked.addr, calm.addr)
	o.met = o.ratio <= 2 || o.figure <= o.floor+5
	return o, err
}

// againstCalm measures the p99 in ms of the same load on two edges.
func (s *session) againstCalm(ctx context.Context, addr, calm string) (outcome, error) {
	span := s.span(3*time.Second, time.Second)
	return s.inTurn(
		func() (float64, error) { return s.pace(addr, span).late(ctx, 0.99) },
		func() (float64, error) { return s.pace(calm, span).late(ctx, 0.99) })
}

// hell measures the answers of good clients beside many bad ones.
func hell(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	vars := append(lone(url), "HERD_WRITE_TIMEOUT=2s")
	calm, err := s.edge(ctx, "Clark", vars...)
	if err != nil {
		return o, err
	}
	e, err := s.edge(ctx, "Jaquez", vars...)
	if err != nil {
		return o, err
	}
	bad, stop := context.WithCancel(ctx)
	var all sync.WaitGroup
	defer all.Wait()
	defer stop()
	// again runs be with a connection until the edge cuts it off, and then with a new one.
	again := func(be func(c *net.TCPConn)) {
		all.Go(func() {
			for bad.Err() == nil {
				if nc, err := net.Dial("tcp", e.addr); err == nil {
					cut := context.AfterFunc(bad, func() { nc.Close() })
					be(nc.(*net.TCPConn))
					cut()
					nc.Close()
				}
				select {
				case <-bad.Done():
				case <-time.After(200 * time.Millisecond):
				}
			}
		})
	}
	questions := bytes.Repeat([]byte("WHATSAT pace0000001 50 20\n"), 100)
	noise := make([]byte, 16<<10)
	for i := range noise {
		noise[i] = byte(rand.IntN(256))
	}
	for range 20 {
		again(func(c *net.TCPConn) { // requests much and reads no answers
			c.SetReadBuffer(4 << 10)
			c.SetWriteBuffer(4 << 10)
			for err := error(nil); err == nil; {
				_, err = c.Write(questions)
			}
		})
	}
	for range 50 {
		again(func(c *net.TCPConn) { // ends in the middle of a command
			io.WriteString(c, "IAMAT half.exam")
			c.CloseWrite()
			io.Copy(io.Discard, c)
		})
		again(func(*net.TCPConn) { <-bad.Done() }) // sends nothing
	}
	for range 10 {
		again(func(c *net.TCPConn) {
			all.Go(func() { io.Copy(io.Discard, c) }) // ends with the connection
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for err := error(nil); err == nil && bad.Err() == nil; <-tick.C {
				_, err = c.Write(noise)
			}
		})
	}
	o, err = s.againstCalm(ctx, e.addr, calm.addr)
	o.met = o.figure <= o.floor+50
	return o, err
}

// catchUpOthers measures the slowest answer of an edge while an empty neighbour catches up with
// its million clients.
func catchUpOthers(ctx context.Context, s *session) (o outcome, err error) {
	full, _, vars, err := s.full(ctx)
	if err != nil {
		return o, err
	}
	span := s.span(3*time.Second, time.Second)
	o, err = s.inTurn(
		func() (float64, error) {
			caught := make(chan error, 1)
			go func() {
				empty, err := s.edge(ctx, "Jaquez", vars...)
				if err == nil {
					empty.Stop(stopLimit)
				}
				caught <- err
			}()
			late, err := s.pace(full.addr, span).late(ctx, 1)
			if err2 := <-caught; err == nil {
				err = err2
			}
			return late, err
		},
		func() (float64, error) { return s.pace(full.addr, span).late(ctx, 1) })
	o.met = o.figure <= o.floor+100
	return o, err
}

// outage measures the slowest answer while the broker is paused.
func outage(ctx context.Context, s *session) (o outcome, err error) {
	h, err := s.herd(ctx)
	if err != nil {
		return o, err
	}
	span := s.span(5*time.Second, time.Second)
	addr := h.edges[0].addr
	signal := func(x syscall.Signal) error { return h.broker.Cmd.Process.Signal(x) }
	o, err = s.inTurn(
		func() (float64, error) {
			if err := signal(syscall.SIGSTOP); err != nil {
				return 0, err
			}
			late, err := s.pace(addr, span).late(ctx, 1)
			if err := signal(syscall.SIGCONT); err != nil {
				return 0, err
			}
			if err == nil {
				err = h.level(ctx, 1000)
			}
			return late, err
		},
		func() (float64, error) { return s.pace(addr, span).late(ctx, 1) })
	o.met = o.figure <= o.floor+100
	return o, err
}

// stopping measures how long an edge takes to end that has nothing left to send or write. The
// floor is a process that does not handle the signal.
func stopping(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx)
	if err != nil {
		return o, err
	}
	end := func(c *herdtest.Process) float64 {
		begun := time.Now()
		c.Stop(stopLimit)
		return time.Since(begun).Seconds() * 1000
	}
	o, err = s.inTurn(
		func() (float64, error) {
			e, err := s.edge(ctx, "Clark", lone(url)...)
			if err != nil {
				return 0, err
			}
			return end(e.Process), nil
		},
		func() (float64, error) {
			c, _, err := s.echoFloor(ctx)
			if err != nil {
				return 0, err
			}
			return end(c), nil
		})
	o.met = o.figure <= o.floor+100
	return o, err
}

// back measures how long an edge takes after a pause to hold what the others hold.
func back(ctx context.Context, s *session) (o outcome, err error) {
	h, err := s.herd(ctx)
	if err != nil {
		return o, err
	}
	johnson := h.edges[4].Cmd.Process
	span := s.span(5*time.Second, time.Second)
	o.figure, err = s.often(func() (float64, error) {
		if err := johnson.Signal(syscall.SIGSTOP); err != nil {
			return 0, err
		}
		_, err := s.pace(h.edges[0].addr, span).run(ctx)
		begun := time.Now()
		if err := johnson.Signal(syscall.SIGCONT); err != nil {
			return 0, err
		}
		if err == nil {
			err = h.level(ctx, 1000)
		}
		return time.Since(begun).Seconds(), err
	})
	o.met = o.figure <= 3
	return o, err
}

// greedy measures the answers of a client, which wait for the journal, while other connections
// send new clients as fast as they can. The floor is an echo beside as many connections.
func greedy(ctx context.Context, s *session) (o outcome, err error) {
	_, url, err := s.nats(ctx, "-js", "-sd", s.path("jetstream"))
	if err != nil {
		return o, err
	}
	e, err := s.edge(ctx, "Clark", "NATS_URL="+url, "HERD_DURABILITY=journal")
	if err != nil {
		return o, err
	}
	_, echo, err := s.echoFloor(ctx)
	if err != nil {
		return o, err
	}
	// beside measures the p99 in ms of a client that sends one line at a time.
	beside := func(addr string) func() (float64, error) {
		return func() (float64, error) {
			bad, stop := context.WithCancel(ctx)
			var all sync.WaitGroup
			defer all.Wait()
			defer stop()
			for range 20 {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					return 0, err
				}
				context.AfterFunc(bad, func() { nc.Close() })
				all.Go(func() { io.Copy(io.Discard, nc) })
				all.Go(func() {
					var lines []byte
					for err := error(nil); err == nil; _, err = nc.Write(lines) {
						for lines = lines[:0]; len(lines) < 32<<10; {
							lines = fmt.Appendf(lines, "IAMAT new-%016x +34.068930-118.445127 5\n", rand.Uint64())
						}
					}
				})
			}
			l := load{addr: addr, ids: "good", clients: 1, conns: 1, pipeline: 1, requests: s.size(100, 20), times: new([]time.Duration)}
			return l.late(ctx, 0.99)
		}
	}
	o, err = s.inTurn(beside(e.addr), beside(echo))
	o.met = o.ratio <= 2 || o.figure <= 100
	return o, err
}
