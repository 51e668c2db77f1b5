package test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// L4: while clients move as fast as the machine moves them, whatever a watcher is told is right
// and never goes back, told lines never stand within an answer, and once nothing moves each
// watcher has just what a plain scan finds: no exit is missed. Two edges; good, slow and
// reconnecting watchers.
func TestFollowersHaveWhatAPlainScanFinds(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{
		"HERD_WRITE_TIMEOUT": "1m", "HERD_WATCHES": "100", "HERD_PLACES": "gazetteer",
	}})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	const senders, each = 4, 250
	rate := size(2000, 50_000) / senders // updates per second and sender; the machine may be slower
	span := size(4*time.Second, time.Minute)

	areas := []area{
		{"c1", "+34.05-118.25 5", circle(34.05, -118.25, 5)},
		{"c2", "+34.00-118.40 0.5", circle(34.00, -118.40, 0.5)},
		{"all", "+34.0-118.3 1000", circle(34.0, -118.3, 1000)},
		{"box", "+33.95-118.35 +34.05-118.20", box(33.95, -118.35, 34.05, -118.20)},
		{"one", "walker-7", func(id string, _, _ float64, _ map[string]point) bool { return id == "walker-7" }},
		{"around", "walker-1 3", around("walker-1", 3)},
	}
	var watchers []*follower
	for i, addr := range []string{clark.Addr, jaquez.Addr, clark.Addr, jaquez.Addr} {
		w := &follower{t: t, addrs: []string{addr}, areas: areas, slow: i == 2, asks: i < 2}
		if i == 3 {
			w.addrs = []string{jaquez.Addr, clark.Addr}
			w.again = span / 8
		}
		watchers = append(watchers, w)
	}
	done := make(chan struct{})
	var following sync.WaitGroup
	for _, w := range watchers {
		following.Go(func() { w.run(done) })
	}

	final := make([]map[string]point, senders)
	var sending sync.WaitGroup
	var updates atomic.Int64
	for s := range senders {
		sending.Go(func() {
			final[s] = walk(t, []string{clark.Addr, jaquez.Addr}[s%2], s*each, each, rate, span, &updates)
		})
	}
	sending.Wait()
	all := map[string]point{}
	for _, some := range final {
		maps.Copy(all, some)
	}
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "each watcher has what a plain scan finds", func() error {
		if t.Failed() { // a watcher that was told something wrong has ended
			t.FailNow()
		}
		for i, w := range watchers {
			if err := w.compare(all); err != nil {
				return fmt.Errorf("watcher %d: %w", i, err)
			}
		}
		return nil
	})
	close(done)
	following.Wait()
	var told int64
	for i, w := range watchers {
		told += w.told.Load()
		if w.asks && w.answers.Load() < 10 {
			t.Errorf("watcher %d got %d answers", i, w.answers.Load())
		}
	}
	t.Logf("%d updates, %d lines told", updates.Load(), told)
}

type point struct{ lat, lon float64 }

// An area is a watch, and the plain way to tell whether a client is inside.
type area struct {
	name, what string
	inside     func(id string, lat, lon float64, all map[string]point) bool
}

const earth = 6371.0088 // km (L2)

func distance(a, b point) float64 {
	rad := math.Pi / 180
	h := math.Pow(math.Sin((b.lat-a.lat)*rad/2), 2) + math.Cos(a.lat*rad)*math.Cos(b.lat*rad)*math.Pow(math.Sin((b.lon-a.lon)*rad/2), 2)
	return 2 * earth * math.Asin(math.Sqrt(h))
}

func circle(lat, lon, radius float64) func(string, float64, float64, map[string]point) bool {
	return func(_ string, y, x float64, _ map[string]point) bool {
		return distance(point{lat, lon}, point{y, x}) <= radius
	}
}

func box(south, west, north, east float64) func(string, float64, float64, map[string]point) bool {
	return func(_ string, lat, lon float64, _ map[string]point) bool {
		return south <= lat && lat <= north && west <= lon && lon <= east
	}
}

func around(centre string, radius float64) func(string, float64, float64, map[string]point) bool {
	return func(id string, lat, lon float64, all map[string]point) bool {
		at, known := all[centre]
		return known && id != centre && distance(at, point{lat, lon}) <= radius
	}
}

// walk has n clients move for a span, and returns where they are at the end.
func walk(t *testing.T, addr string, first, n, rate int, span time.Duration, updates *atomic.Int64) map[string]point {
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Error(err)
		return nil
	}
	defer nc.Close()
	answered := make(chan error, 1)
	go func() { // all answers are read
		_, err := io.Copy(io.Discard, nc)
		answered <- err
	}()
	r := rand.New(rand.NewPCG(uint64(first), 1))
	at := make(map[string]point)
	var text []byte
	begin := time.Now()
	for sent := 0; time.Since(begin) < span || sent < 4*n; {
		text = text[:0]
		for range max(1, rate/100) {
			id := fmt.Sprint("walker-", first+r.IntN(n))
			p := at[id]
			if p == (point{}) || r.IntN(10) == 0 { // a jump
				p = point{33.85 + 0.4*r.Float64(), -118.5 + 0.4*r.Float64()}
			} else {
				p.lat, p.lon = p.lat+0.002*(r.Float64()-0.5), p.lon+0.002*(r.Float64()-0.5)
			}
			location := fmt.Sprintf("%+.7f%+.7f", p.lat, p.lon)
			p.lat, _ = strconv.ParseFloat(location[:11], 64)
			p.lon, _ = strconv.ParseFloat(location[11:], 64)
			at[id] = p
			now := time.Now()
			text = fmt.Appendf(text, "IAMAT %s %s %d.%09d\n", id, location, now.Unix(), now.Nanosecond())
			sent++
		}
		if _, err := nc.Write(text); err != nil {
			t.Error(err)
			return at
		}
		updates.Add(int64(max(1, rate/100)))
		if due := begin.Add(time.Duration(sent) * time.Second / time.Duration(rate)); time.Until(due) > 0 {
			time.Sleep(time.Until(due))
		}
	}
	_ = nc.(*net.TCPConn).CloseWrite()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	return at
}

// A follower is a connection that watches areas and checks what it is told.
type follower struct {
	t     *testing.T
	addrs []string
	areas []area
	slow  bool          // it reads a little at a time
	again time.Duration // it comes again after so long, at the next address; 0: it stays
	asks  bool          // it asks for places and for who is near, meanwhile

	told, answers atomic.Int64

	mu     sync.Mutex
	inside map[string]map[string]seen // by watch and client
	listed map[string]bool
}

// seen is the line last told of a client.
type seen struct {
	at       point
	location string
	time     string
}

func (f *follower) run(done <-chan struct{}) {
	for round := 0; ; round++ {
		c, err := net.Dial("tcp", f.addrs[round%len(f.addrs)])
		if err != nil {
			f.t.Error(err)
			return
		}
		f.mu.Lock()
		f.inside, f.listed = map[string]map[string]seen{}, map[string]bool{}
		f.mu.Unlock()
		over := make(chan struct{})
		var closing sync.WaitGroup
		closing.Go(func() {
			var leave <-chan time.Time
			if f.again > 0 && round < 6 {
				leave = time.After(f.again)
			}
			select {
			case <-done:
			case <-leave:
			case <-over:
			}
			_ = c.Close()
		})
		for _, a := range f.areas {
			fmt.Fprintf(c, "WATCH %s %s\n", a.name, a.what)
		}
		if f.asks {
			closing.Go(func() {
				for i := 0; ; i++ {
					if _, err := fmt.Fprintf(c, "WHATSAT walker-%d 5 3\nx %d\nWHOSAT walker-%d 5 10\nIAMAT asker +0+0 %d\n", i%1000, i, i%1000, i); err != nil {
						return
					}
					select {
					case <-over:
						return
					case <-time.After(5 * time.Millisecond):
					}
				}
			})
		}
		err = f.listen(c)
		close(over)
		closing.Wait()
		if err != nil {
			f.t.Error(err)
			return
		}
		select {
		case <-done:
			return
		default:
		}
	}
}

// listen reads until the connection ends; the error is what must not be.
func (f *follower) listen(c net.Conn) error {
	var from io.Reader = c
	if f.slow {
		from = trickle{c}
	}
	r := bufio.NewReaderSize(from, 4096)
	next := 0 // which answer is due: WHATSAT, x, WHOSAT, IAMAT
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return nil
		}
		line = line[:len(line)-1]
		switch {
		case strings.HasPrefix(line, "! "):
			f.told.Add(1)
			if err := f.hear(line); err != nil {
				return err
			}
			continue
		case next%4 == 0 && strings.HasPrefix(line, "AT "): // C14
			var text strings.Builder
			for {
				part, err := r.ReadString('\n')
				if err != nil {
					return nil
				}
				if part == "\n" {
					break
				}
				text.WriteString(part)
			}
			if !json.Valid([]byte(text.String())) {
				return fmt.Errorf("within WHATSAT's answer: %.300q", text.String())
			}
		case next%4 == 2 && strings.HasPrefix(line, "AT "): // L1
			for {
				part, err := r.ReadString('\n')
				if err != nil {
					return nil
				}
				if part == "\n" {
					break
				}
				if !strings.HasPrefix(part, "AT ") {
					return fmt.Errorf("within WHOSAT's answer: %q", part)
				}
			}
		case next%4 == 0 && strings.HasPrefix(line, "? WHATSAT "), next%4 == 2 && strings.HasPrefix(line, "? WHOSAT "):
		case next%4 == 1 && strings.HasPrefix(line, "? x "), next%4 == 3 && strings.HasPrefix(line, "AT "):
		default:
			return fmt.Errorf("answer %d is %q", next, line)
		}
		next++
		f.answers.Add(1)
	}
}

// hear checks a told line against those before it.
func (f *follower) hear(line string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	w := strings.Fields(line)
	if line == "! STILL" {
		return nil
	}
	inside := f.inside[w[1]]
	if inside == nil {
		inside = map[string]seen{}
		f.inside[w[1]] = inside
	}
	switch {
	case w[2] == "NOW" && len(w) == 4:
		if n, err := strconv.Atoi(w[3]); err != nil || f.listed[w[1]] || n != len(inside) {
			return fmt.Errorf("%q with %d inside", line, len(inside))
		}
		f.listed[w[1]] = true
		return nil
	case w[2] == "OUT" && len(w) == 9 && w[8] == "left", (w[2] == "IN" || w[2] == "AT") && len(w) == 8:
	default:
		return fmt.Errorf("told %q", line)
	}
	had, was := inside[w[5]]
	if was == (w[2] == "IN") {
		return fmt.Errorf("told %q of one who was inside: %t", line, was)
	}
	// Who goes because a circle's centre moves has the line that it had.
	if was && len(w[7]) == len(had.time) && (w[7] < had.time || w[7] == had.time && w[2] == "AT") {
		return fmt.Errorf("told %q behind the line of %s", line, had.time)
	}
	if w[2] == "OUT" {
		delete(inside, w[5])
		return nil
	}
	i := strings.LastIndexAny(w[6], "+-")
	lat, _ := strconv.ParseFloat(w[6][:i], 64)
	lon, _ := strconv.ParseFloat(w[6][i:], 64)
	inside[w[5]] = seen{point{lat, lon}, w[6], w[7]}
	return nil
}

// compare says where the follower's sets are not those of a plain scan.
func (f *follower) compare(all map[string]point) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, a := range f.areas {
		if !f.listed[a.name] {
			return fmt.Errorf("%s is not listed yet", a.name)
		}
		for id, p := range all {
			is, want := f.inside[a.name][id], a.inside(id, p.lat, p.lon, all)
			if (is != seen{}) != want {
				return fmt.Errorf("%s: %s at %v is told inside %t, want %t", a.name, id, p, is != seen{}, want)
			}
			if want && is.at != p {
				return fmt.Errorf("%s: %s is told at %v, and is at %v", a.name, id, is.at, p)
			}
		}
	}
	return nil
}

// trickle reads a little, and not often.
type trickle struct{ io.Reader }

func (r trickle) Read(p []byte) (int, error) {
	time.Sleep(5 * time.Millisecond)
	return r.Reader.Read(p[:min(len(p), 2000)])
}

// Watchers that never read, watch everything, watch again and again and half-close cost the
// others nothing: good clients get right answers, good watchers are told, and what the bad ones
// took is given back (L5, L6, C18).
func TestWatchersFromHellHarmNobodyElse(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{
		"HERD_WRITE_TIMEOUT": "2s", "HERD_WATCH_MEMBERS": "5000", "HERD_WATCH_TOTAL": "100000",
	}})
	e := h.Edges["Clark"]
	good := begin(t, load.Config{
		Addrs: []string{e.Addr}, Prefix: "good-", Rate: size(250.0, 1000), Conns: 20, Clients: 500,
		WhatsatShare: 0.2, Radius: "10", Max: "5",
	})
	pass(t, size(time.Second, 5*time.Second))
	memory, connections := e.Memory(), e.Metric("herd_connections")

	done := make(chan struct{})
	areas := []area{{"here", "+34.05-118.25 50", circle(34.05, -118.25, 50)}}
	watcher := &follower{t: t, addrs: []string{e.Addr}, areas: areas}
	var following sync.WaitGroup
	following.Go(func() { watcher.run(done) })
	var updates atomic.Int64
	var walked map[string]point
	span := size(4*time.Second, time.Minute)
	var walking sync.WaitGroup
	walking.Go(func() { walked = walk(t, e.Addr, 0, 200, 1000, span, &updates) })

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	bad := &hell{addr: e.Addr}
	const everything = "-90-180 +90+180"
	var all strings.Builder
	for i := range 16 {
		fmt.Fprintf(&all, "WATCH w%d %s\n", i, everything)
	}
	var raging sync.WaitGroup
	for range size(25, 125) {
		raging.Go(func() { // never reads
			bad.again(ctx, func(ctx context.Context, c *net.TCPConn) {
				if bad.write(c, []byte(all.String())) == nil {
					<-ctx.Done()
				}
			})
		})
		raging.Go(func() { // watches everything, and reads slowly
			bad.again(ctx, func(_ context.Context, c *net.TCPConn) {
				if bad.write(c, []byte(all.String())) == nil {
					_, _ = io.Copy(io.Discard, trickle{c})
				}
			})
		})
		raging.Go(func() { // again and again
			bad.again(ctx, func(ctx context.Context, c *net.TCPConn) {
				var reading sync.WaitGroup
				reading.Go(func() { _, _ = io.Copy(io.Discard, c) })
				for ctx.Err() == nil && bad.write(c, []byte("WATCH w "+everything+"\nUNWATCH w\nWATCH v good-1 50\nUNWATCH v\n")) == nil {
				}
				_ = c.Close()
				reading.Wait()
			})
		})
		raging.Go(func() { // half-closes, and comes again
			bad.again(ctx, func(_ context.Context, c *net.TCPConn) {
				if bad.write(c, []byte(all.String())) == nil && c.CloseWrite() == nil {
					_, _ = io.Copy(io.Discard, c)
				}
			})
		})
	}
	peak := memory
	herdtest.Throughout(t, span, "hell", func() error {
		peak = max(peak, e.Memory())
		return nil
	})
	walking.Wait()
	cancel()
	raging.Wait()
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "the good watcher has what a plain scan finds", func() error { return watcher.compare(walked) })
	close(done)
	following.Wait()
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "watches are given back", func() error {
		if n := e.Metric("herd_watches") + e.Metric("herd_watch_members"); n > 0 {
			return fmt.Errorf("%v watches and members", n)
		}
		return nil
	})
	after, _ := givenBack(t, e, memory, connections, 48<<20)
	good.stop()
	var ended []string
	for _, reason := range []string{"full", "slow", "unwatch", "closed"} {
		ended = append(ended, fmt.Sprintf("%s %v", reason, e.Metric("herd_watch_ended_total", `reason="`+reason+`"`)))
	}
	slices.Sort(ended)
	t.Logf("%d connections of bad watchers; watches ended: %s; memory %.1f MiB before, at most %.1f, %.1f after",
		bad.conns.Load(), strings.Join(ended, ", "), mib(memory), mib(peak), mib(after))
}
