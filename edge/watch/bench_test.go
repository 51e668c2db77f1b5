package watch

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A crowd is clients in 300 towns of a hemisphere, in each around its centre with a standard
// deviation of 5 km, and lines with which they move.
type crowd struct {
	r     *rand.Rand
	towns []wire.Point
	table *position.Table
	ops   []position.Op
	round int
}

const crowdBatch = 512

func newCrowd(b *testing.B, clients int) *crowd {
	c := &crowd{r: rand.New(rand.NewPCG(1, 300)), table: position.New(position.Config{Live: true}), ops: make([]position.Op, crowdBatch)}
	for range 300 {
		c.towns = append(c.towns, c.inHemisphere(1))
	}
	for from := 0; from < clients; from += crowdBatch {
		var lines [][]byte
		for i := range crowdBatch {
			lines = append(lines, c.line(from+i, c.inTown(from+i)))
		}
		c.store(b, lines)
	}
	return c
}

// inHemisphere draws a point between 1 and 60 degrees north, or south.
func (c *crowd) inHemisphere(north int32) wire.Point {
	return wire.Point{Lat: north * int32(1e7+c.r.Float64()*59e7), Lon: int32((c.r.Float64()*358 - 179) * 1e7)}
}

func (c *crowd) inTown(client int) wire.Point { return c.near(c.towns[client%300], 5) }

func (c *crowd) near(p wire.Point, km float64) wire.Point {
	const unit = 1e7 / 111.195 // per km
	lon := c.r.NormFloat64() * km * unit / math.Cos(float64(p.Lat)/1e7*math.Pi/180)
	return wire.Point{Lat: p.Lat + int32(c.r.NormFloat64()*km*unit), Lon: p.Lon + int32(lon)}
}

// line is one of a client, with room for another time.
func (c *crowd) line(client int, p wire.Point) []byte {
	return fmt.Appendf(nil, "AT Clark +0.263873386 client-%07d %s 1600000000.959498503\n", client, location(p))
}

// store stores lines, each a second younger than what was stored before.
func (c *crowd) store(b *testing.B, lines [][]byte) (stored int) {
	c.round++
	for i, line := range lines {
		at := len(line) - len("00000000.959498503\n")
		for d := 10_000_000; d > 0; d /= 10 {
			line[at] = byte('0' + c.round/d%10)
			at++
		}
		a, err := wire.ParseAT(line[:len(line)-1])
		if err != nil {
			b.Fatal(err)
		}
		c.table.PreparePut(&c.ops[i], line, &a)
	}
	c.table.Apply(0, position.Source{}, c.ops[:len(lines)])
	for i := range lines {
		if c.ops[i].Outcome == position.Stored {
			stored++
		}
	}
	return stored
}

// moves draws batches of lines: of clients that move by some 30 metres, or jump anywhere in
// their town. Each batch's clients are there twice, at two places.
func (c *crowd) moves(clients, batches int, jump bool) (all [][2][][]byte) {
	for range batches {
		var two [2][][]byte
		for range crowdBatch {
			client := c.r.IntN(clients)
			p := c.inTown(client)
			q := c.near(p, 0.03)
			if jump {
				q = c.inTown(client)
			}
			two[0] = append(two[0], c.line(client, p))
			two[1] = append(two[1], c.line(client, q))
		}
		all = append(all, two)
	}
	return all
}

// followed measures what a change costs the reader of the changes, and the watchers who take all
// that they are told.
func followed(b *testing.B, c *crowd, set *Set, watchers []*Watcher, moves [][2][][]byte) {
	drain := func() {
		for _, w := range watchers {
			for more := true; more; {
				_, more, _ = w.Tell(nil, 1<<16)
			}
		}
	}
	settle := func() {
		for more := true; more; {
			more, _ = set.step()
		}
	}
	for i := range moves { // so that all were seen once
		c.store(b, moves[i][0])
	}
	settle()
	drain()
	told := set.Stats().Told
	var reading, telling time.Duration
	changes := 0
	b.ResetTimer()
	for n, k := 0, 0; n < b.N; n, k = n+crowdBatch, k+1 {
		two := moves[k%len(moves)]
		changes += c.store(b, two[(k/len(moves)+1)%2])
		begun := time.Now()
		settle()
		mid := time.Now()
		drain()
		reading, telling = reading+mid.Sub(begun), telling+time.Since(mid)
	}
	now := set.Stats().Told
	lines := now[wire.EventIn] + now[wire.EventAt] + now[wire.EventOut] - told[wire.EventIn] - told[wire.EventAt] - told[wire.EventOut]
	b.ReportMetric(float64(reading)/float64(changes), "ns-read/change")
	b.ReportMetric(float64(telling)/float64(changes), "ns-told/change")
	b.ReportMetric(float64(lines)/float64(changes), "told/change")
}

func benchSet(c *crowd) *Set {
	now := int64(0)
	return New(Config{Table: c.table, PerConn: 1 << 20, Members: 1 << 30, Total: 1 << 30, Now: func() int64 { now++; return now }})
}

func ask(b *testing.B, w *Watcher, format string, args ...any) {
	m, err := wire.ParseWATCH(fmt.Appendf(nil, format, args...))
	if err == nil {
		err = w.Watch(&m)
	}
	if err != nil {
		b.Fatal(err)
	}
	for more := true; more; {
		_, more, _ = w.Tell(nil, 1<<16)
	}
}

const crowdClients = 1 << 20

// BenchmarkWatchesElsewhere is what a change costs the reader where one circle, and where
// 100,000, are on the other hemisphere.
func BenchmarkWatchesElsewhere(b *testing.B) {
	c := newCrowd(b, crowdClients)
	moves := c.moves(crowdClients, 200, false)
	for _, n := range []int{1, 100_000} {
		set := benchSet(c)
		w := set.Open(netip.MustParseAddr("10.0.0.1"), func() {})
		for i := range n {
			ask(b, w, "w%d %s 1", i, location(c.inHemisphere(-1)))
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) { followed(b, c, set, []*Watcher{w}, moves) })
		w.Close()
	}
}

// BenchmarkFences is what a change costs the reader and the watcher where 23,000 circles of
// 1 km are watched over the towns.
func BenchmarkFences(b *testing.B) {
	c := newCrowd(b, crowdClients)
	set := benchSet(c)
	w := set.Open(netip.MustParseAddr("10.0.0.1"), func() {})
	for i := range 23_000 {
		ask(b, w, "w%d %s 1", i, location(c.inTown(i)))
	}
	b.Logf("%d are inside", set.Stats().Members)
	for _, jump := range []bool{false, true} {
		moves := c.moves(crowdClients, 200, jump)
		b.Run(fmt.Sprint("jump=", jump), func(b *testing.B) { followed(b, c, set, []*Watcher{w}, moves) })
	}
	w.Close()
}

// BenchmarkManyFollowOne is what an update of one client costs that 10,000 connections follow:
// per connection, the writing not counted.
func BenchmarkManyFollowOne(b *testing.B) {
	c := newCrowd(b, crowdBatch)
	set := benchSet(c)
	const conns = 10_000
	var watchers []*Watcher
	woken := 0
	for range conns {
		w := set.Open(netip.MustParseAddr("10.0.0.1"), func() { woken++ })
		ask(b, w, "w client-0000007")
		watchers = append(watchers, w)
	}
	dst := make([]byte, 0, 4096)
	b.ReportAllocs()
	for n := 0; n < b.N; n += conns {
		c.store(b, [][]byte{c.line(7, c.inTown(7))})
		woken = 0
		for more := true; more; {
			more, _ = set.step()
		}
		if woken != conns {
			b.Fatalf("%d were woken", woken)
		}
		for _, w := range watchers {
			if told, more, _ := w.Tell(dst, 4000); len(told) == 0 || more {
				b.Fatalf("told %q, more: %v", told, more)
			}
		}
	}
}

// BenchmarkList is what a WATCH's list costs per client, of 100,000 inside.
func BenchmarkList(b *testing.B) {
	c := newCrowd(b, crowdClients)
	set := benchSet(c)
	w := set.Open(netip.MustParseAddr("10.0.0.1"), func() {})
	listed, longest := 0, time.Duration(0)
	dst := make([]byte, 0, 1<<17)
	for n := 0; n < b.N; n = listed {
		m, err := wire.ParseWATCH([]byte("w +0-180 +22.1+179"))
		if err == nil {
			err = w.Watch(&m)
		}
		if err != nil {
			b.Fatal(err)
		}
		for more := true; more; {
			begun := time.Now()
			_, more, _ = w.Tell(dst, 1<<14)
			longest = max(longest, time.Since(begun))
		}
		listed += set.Stats().Members
		if err := w.Unwatch([]byte("w")); err != nil {
			b.Fatal(err)
		}
		w.Tell(dst, 1<<14)
	}
	b.ReportMetric(float64(longest)/1e6, "ms-longest-Tell")
	w.Close()
}
