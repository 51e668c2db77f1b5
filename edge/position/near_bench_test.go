package position

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"

	"herd/edge/wire"
)

// A world is where clients are: 85 % of them in 300 towns, in each around its centre with a
// standard deviation of 5 km, the others anywhere on Earth.
type world struct {
	r     *rand.Rand
	towns []wire.Point
}

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 300))}
	for range 300 {
		p := w.anywhere()
		for p.Lat > 650000000 || p.Lat < -550000000 {
			p = w.anywhere()
		}
		w.towns = append(w.towns, p)
	}
	return w
}

func (w *world) anywhere() wire.Point {
	return wire.Point{Lat: int32(math.Asin(2*w.r.Float64()-1) * half / math.Pi), Lon: int32(w.r.Int64N(turn) - half)}
}

// home returns the town of a client, -1 for none.
func (w *world) home(client int) int {
	if client%20 < 17 {
		return client % 300
	}
	return -1
}

// near returns a point about kilometres away from another.
func (w *world) near(p wire.Point, km float64) wire.Point {
	lat := float64(p.Lat) + w.r.NormFloat64()*km/111.195*1e7
	lat = min(max(lat, -right), right)
	lon := float64(p.Lon) + w.r.NormFloat64()*km/111.195*1e7/max(math.Cos(lat*math.Pi/half), 1e-6)
	lon = math.Mod(lon+3*half, turn) - half
	return wire.Point{Lat: int32(lat), Lon: int32(min(max(lon, -half), half))}
}

// place returns where a client may be.
func (w *world) place(client int) wire.Point {
	if town := w.home(client); town >= 0 {
		return w.near(w.towns[town], 5)
	}
	return w.anywhere()
}

// worldLine is a benchLine somewhere else.
func worldLine(client, round int, p wire.Point) []byte {
	line := append([]byte(nil), "AT Clark +0.263873386 client-"...)
	for d := 1_000_000; d > 0; d /= 10 {
		line = append(line, byte('0'+client/d%10))
	}
	line = fmt.Appendf(line, " %s 16", location(p))
	for d := 10_000_000; d > 0; d /= 10 {
		line = append(line, byte('0'+round/d%10))
	}
	return append(line, ".959498503\n"...)
}

// settleWorld puts n clients into a table, and returns where they are.
func settleWorld(table *Table, w *world, n int) []wire.Point {
	ops := make([]Op, 1)
	at := make([]wire.Point, n)
	for i := range n {
		at[i] = w.place(i)
		line := worldLine(i, 0, at[i])
		a, _ := wire.ParseAT(line[:len(line)-1])
		table.PreparePut(&ops[0], line, &a)
		table.Apply(0, Source{}, ops)
	}
	return at
}

// BenchmarkStoreMove is what a stored change costs, parse and merge, of a million clients in
// no order in batches of 700: with and without the index by place, where clients move by some
// 30 metres and where they jump anywhere in their town.
func BenchmarkStoreMove(b *testing.B) {
	const clients, batch, batches = 1_000_000, 700, 200
	for _, live := range []bool{false, true} {
		w := newWorld(1)
		table := New(Config{Live: live})
		at := settleWorld(table, w, clients)
		round := 0
		for _, far := range []bool{false, true} {
			// Each line has two places; a round takes the one, the next the other.
			var lines [2][][]byte
			for range batch * batches {
				c := w.r.IntN(clients)
				for k := range lines {
					p := w.near(at[c], 0.03)
					if far {
						p = w.place(c)
					}
					lines[k] = append(lines[k], worldLine(c, 0, p))
				}
			}
			ops := make([]Op, batch)
			b.Run(fmt.Sprintf("index=%v/jump=%v", live, far), func(b *testing.B) {
				b.ReportAllocs()
				var locked, took time.Duration
				begun := cpu()
				stored := 0
				for n, k := 0, 0; n < b.N; n += batch {
					if k == 0 {
						b.StopTimer()
						took += cpu() - begun
						round++
						for _, line := range lines[round%2] {
							setRound(line, round)
						}
						b.StartTimer()
						begun = cpu()
					}
					for i, line := range lines[round%2][k*batch : (k+1)*batch] {
						a, _ := wire.ParseAT(line[:len(line)-1])
						table.PreparePut(&ops[i], line, &a)
					}
					at := time.Now()
					table.Apply(0, Source{1, "e"}, ops)
					locked += time.Since(at)
					for i := range ops {
						if ops[i].Outcome == Stored {
							stored++
						}
					}
					k = (k + 1) % batches
				}
				n := (b.N + batch - 1) / batch * batch
				if stored < n*4/5 {
					b.Fatalf("%d of %d were stored", stored, n)
				}
				took += cpu() - begun
				b.ReportMetric(float64(took)/float64(n), "cpu-ns/op")
				b.ReportMetric(float64(locked)/float64(n), "ns-locked/op")
			})
		}
	}
}

// setRound writes a line's time.
func setRound(line []byte, round int) {
	i := len(line) - len("00000000.959498503\n")
	for d := 10_000_000; d > 0; d /= 10 {
		line[i] = byte('0' + round/d%10)
		i++
	}
}

// cpu is the processor time that this process has taken. On a machine that does other things
// too it says more than the time that has passed.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkNear is what a search costs among a million clients, each search from another
// client: who is asked for is drawn like who is there.
func BenchmarkNear(b *testing.B) {
	w := newWorld(1)
	table := New(Config{Live: true})
	settleWorld(table, w, 1_000_000)
	for _, c := range []struct {
		radius float64
		most   int
	}{{1, 20}, {5, 10}, {50, 20}} {
		b.Run(fmt.Sprintf("%vkm/%d", c.radius, c.most), func(b *testing.B) {
			var s Search
			var dst []byte
			found, steps := 0, 0
			var id []byte
			b.ReportAllocs()
			begun := cpu()
			for b.Loop() {
				id = fmt.Appendf(id[:0], "client-%07d", w.r.IntN(1_000_000))
				if !s.Begin(table, id, c.radius, c.most, 0) {
					b.Fatalf("%s is not known", id)
				}
				for done := false; !done; steps++ {
					done = s.Step(0)
				}
				found += len(s.hits)
				dst = s.Append(dst[:0])
			}
			b.ReportMetric(float64(cpu()-begun)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(found)/float64(b.N), "found/op")
			b.ReportMetric(float64(steps)/float64(b.N), "steps/op")
		})
	}
}

// BenchmarkMemoryPerPlacedClient reports the bytes of heap that a client takes with the index.
func BenchmarkMemoryPerPlacedClient(b *testing.B) {
	const clients = 1_000_000
	for _, live := range []bool{false, true} {
		b.Run(fmt.Sprint("index=", live), func(b *testing.B) {
			for b.Loop() {
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				table := New(Config{Live: live})
				settleWorld(table, newWorld(1), clients)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/clients, "B/client")
				b.ReportMetric(float64(table.Bytes())/clients, "B-counted/client")
				runtime.KeepAlive(table)
			}
		})
	}
}
