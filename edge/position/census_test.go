package position

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"herd/edge/wire"
)

// census counts to the end.
func census(t *testing.T, table *Table, sw, ne wire.Point, most int) *Census {
	t.Helper()
	c, ok := table.NewCensus(sw, ne, most)
	if !ok {
		t.Fatal("no census")
	}
	for steps := 0; !c.Step(0); steps++ {
		if steps > 1000 {
			t.Fatal("a census without an end")
		}
	}
	return c
}

// inCells says whether a point is in a cell of a census, by its numbers alone.
func inCells(c *Census, p wire.Point) (i int, inside bool) {
	size := int64(c.Size*degree + 0.5)
	columns := 360 * degree / size
	row := min((int64(p.Lat)+right)/size, 180*degree/size-1) - int64(c.Row)
	column := (int64(p.Lon)+half)/size%columns - int64(c.Column)
	if column < 0 {
		column += columns
	}
	return int(row)*c.Columns + int(column), row >= 0 && row < int64(c.Rows) && column < int64(c.Columns)
}

func TestACensusCountsEachClientInItsCell(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	table := New(Config{Live: true})
	var where []wire.Point
	for i := range 3000 {
		lat, lon := r.IntN(2*right+1)-right, r.IntN(turn+1)-half
		switch i % 4 {
		case 0: // a crowd
			lat, lon = 34*degree+r.IntN(degree), -118*degree-r.IntN(degree)
		case 1: // about the antimeridian, a pole at times
			lat, lon = []int{-right, right, 0, 1}[r.IntN(4)], []int{half, -half, half - 1, 1 - half}[r.IntN(4)]
		}
		location := fmt.Sprintf("%+03d.%07d%+04d.%07d", lat/degree, abs(lat%degree), lon/degree, abs(lon%degree))
		if lat < 0 && lat > -degree {
			location = "-00" + location[3:]
		}
		p, err := wire.ParsePoint([]byte(location))
		if err != nil {
			t.Fatal(err)
		}
		where = append(where, p)
		apply(t, table, 0, Source{}, Put, at("A", fmt.Sprint("c", i), location, 1, 0))
	}
	for i := range 400 {
		sw := wire.Point{Lat: int32(r.IntN(2*right+1) - right), Lon: int32(r.IntN(turn+1) - half)}
		wide := []int{turn - 1, 40 * degree, degree, degree / 100, 0}[i%5]
		ne := wire.Point{Lat: int32(min(int(sw.Lat)+r.IntN(wide/2+1), right)), Lon: int32((int(sw.Lon)+half+r.IntN(wide+1))%turn - half)}
		if i%7 == 0 {
			sw, ne = wire.Point{Lat: -right, Lon: -half}, wire.Point{Lat: right, Lon: half}
		}
		c := census(t, table, sw, ne, 200)
		if len(c.Counts) > censusMost {
			t.Fatalf("%v %v: %d cells", sw, ne, len(c.Counts))
		}
		want, sum := make([]uint32, len(c.Counts)), 0
		box := Box(sw, ne)
		for _, p := range where {
			i, inside := inCells(c, p)
			if box.Contains(p) && !inside {
				t.Fatalf("%v %v: %v is in the box and in no cell of %+v", sw, ne, p, c)
			}
			if inside {
				want[i]++
				sum++
			}
		}
		if fmt.Sprint(c.Counts) != fmt.Sprint(want) || c.Clients != sum {
			t.Fatalf("%v %v, cells of %v: counted %d, want %d", sw, ne, c.Size, c.Clients, sum)
		}
		if lines := bytes.Count(c.Lines, []byte("\n")); c.HasLines != (sum <= 200) || c.HasLines && lines != sum {
			t.Fatalf("%v %v: %d clients, %d lines, %t", sw, ne, sum, lines, c.HasLines)
		}
	}
}

// C7: +180 is -180, also where a census begins there.
func TestACensusThatBeginsAtTheAntimeridian(t *testing.T) {
	table := New(Config{Live: true})
	for client, location := range map[string]string{"east": "+5.5+180", "west": "+5.5-180", "beyond": "+5.5+179.9999999"} {
		apply(t, table, 0, Source{}, Put, at("A", client, location, 1, 0))
	}
	for _, wide := range []int32{0, degree / 100, degree, 40 * degree} {
		c := census(t, table, wire.Point{Lat: 5 * degree, Lon: -half}, wire.Point{Lat: 6 * degree, Lon: wide - half}, 10)
		counted := uint32(0)
		for row := range c.Rows {
			counted += c.Counts[row*c.Columns]
		}
		if c.Column != 0 || counted != 2 || c.Clients != 2 || bytes.Count(c.Lines, []byte("\n")) != 2 {
			t.Errorf("%d wide: from column %d on, %d in the first one and %d in all, with lines %q; want 2 of 2", wide, c.Column, counted, c.Clients, c.Lines)
		}
	}
}

func abs(n int) int { return max(n, -n) }

func TestACensusIsBounded(t *testing.T) {
	table := New(Config{Live: true, Retain: time.Hour})
	long := string(bytes.Repeat([]byte("x"), 1000))
	for i := range 300 {
		apply(t, table, 0, Source{}, Put, at("A", fmt.Sprint(long, i), "+5.5+5.5", 1, 0))
	}
	everywhere := [2]wire.Point{{Lat: -right, Lon: -half}, {Lat: right, Lon: half}}
	if c := census(t, table, everywhere[0], everywhere[1], 500); c.HasLines || c.Lines != nil || c.Clients != 300 {
		t.Errorf("lines beyond the bound in bytes: %d", len(c.Lines))
	}
	c, _ := table.NewCensus(wire.Point{Lat: 5 * degree, Lon: 5 * degree}, wire.Point{Lat: 6 * degree, Lon: 6 * degree}, 0)
	for !c.Step(int64(2 * time.Hour)) {
	}
	if c.HasLines || c.Clients != 300 {
		t.Errorf("counted %d, lines %t", c.Clients, c.HasLines)
	}
	small := New(Config{Live: true, Retain: time.Hour})
	apply(t, small, 0, Source{}, Put, at("A", "c", "+5.5+5.5", 1, 0))
	c, _ = small.NewCensus(everywhere[0], everywhere[1], 10)
	for !c.Step(int64(2 * time.Hour)) {
	}
	if !c.HasLines || len(c.Lines) > 0 {
		t.Errorf("S4: what is past is told: %q", c.Lines)
	}
	if _, ok := New(Config{}).NewCensus(everywhere[0], everywhere[1], 10); ok {
		t.Error("a census without an index")
	}
}

func TestARecordKnowsFromWhomItsLineCame(t *testing.T) {
	table := New(Config{Journal: true})
	from := func(client string) string {
		text := "unknown"
		table.View(func(v View) {
			if r, ok := v.Find([]byte(client)); ok {
				f, n := r.From()
				text = fmt.Sprint(f, n, r.Effective())
			}
		})
		return text
	}
	expect := func(client string, want From, n int, effective int64) {
		t.Helper()
		if got := from(client); got != fmt.Sprint(want, n, effective) {
			t.Errorf("%s came from %s, want %d %d", client, got, want, n)
		}
	}
	two := Source{Neighbour: 2, Epoch: "e"}
	last := Source{Neighbour: MaxNeighbours, Epoch: "e"}
	apply(t, table, 0, two, Put, at("A", "a", "+1+1", 1, 0))
	expect("a", FromNeighbour, 2, 1e9)
	apply(t, table, 0, last, Put, at("A", "a", "+1+1", 1, 0)) // the same again
	expect("a", FromNeighbour, 2, 1e9)
	apply(t, table, 0, last, Put, at("A", "a", "+1+1", 2, 0))
	expect("a", FromNeighbour, MaxNeighbours, 2e9)
	apply(t, table, 0, Source{Neighbour: MaxNeighbours + 1, Epoch: "e"}, Put, at("A", "a", "+1+1", 3, 0))
	expect("a", FromNeighbour, 0, 3e9)
	apply(t, table, 0, Source{}, PutOwn, at("A", "a", "+1+1", 4, 0))
	expect("a", FromClient, 0, 4e9)
	kept := make([]Op, 1)
	if _, err := table.PreparePutKept(&kept[0], at("A", "k", "+1+1", 5, 0), 7); err != nil {
		t.Fatal(err)
	}
	table.Apply(0, Source{}, kept)
	expect("k", FromJournal, 0, 5e9)
	apply(t, table, 0, two, Put, at("A", "ahead", "+1+1", 500, -400)) // received at 100: it counts as 160
	expect("ahead", FromNeighbour, 2, 160e9)
}

// What a look at the map costs of a table with a million clients: a box of whole degrees, and one
// for which all clients are looked at.
func BenchmarkCensus(b *testing.B) {
	const n = 1_000_000
	table := New(Config{Live: true})
	ops := make([]Op, 1000)
	lines := make([][]byte, len(ops))
	r := rand.New(rand.NewPCG(1, 2))
	for i := 0; i < n; i += len(ops) {
		for j := range ops {
			lines[j] = at("A", fmt.Sprint("client-", i+j), fmt.Sprintf("%+03d.%07d%+04d.%07d", r.IntN(120)-60, r.IntN(degree), r.IntN(340)-170, r.IntN(degree)), 1, 0)
			a := parse(b, lines[j])
			table.PreparePut(&ops[j], lines[j], &a)
		}
		table.Apply(0, Source{}, ops)
	}
	for _, box := range []struct {
		name   string
		sw, ne wire.Point
	}{
		{"Earth", wire.Point{Lat: -right, Lon: -half}, wire.Point{Lat: right, Lon: half}},
		{"20 degrees", wire.Point{Lat: 30 * degree, Lon: 0}, wire.Point{Lat: 50 * degree, Lon: 20 * degree}},
		{"1 degree", wire.Point{Lat: 30 * degree, Lon: 0}, wire.Point{Lat: 31*degree - 1, Lon: degree - 1}},
	} {
		b.Run(box.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				c, _ := table.NewCensus(box.sw, box.ne, 200)
				for !c.Step(0) {
				}
			}
		})
	}
}
