package position

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"herd/edge/wire"
)

// L2, L3: circles and boxes of 10 m to 1000 km anywhere hold whom a plain scan finds.
func TestAnAreaHoldsWhomAPlainScanFinds(t *testing.T) {
	seed := uint64(16)
	r := rand.New(rand.NewPCG(seed, 1))
	p := crowded(t, r, sizes(2000, 20_000))
	held, close := 0, 0
	for n := range sizes(1200, 20_000) {
		c := somewhere(r)
		if r.IntN(2) == 0 {
			c = p.point[p.ids[r.IntN(len(p.ids))]]
		}
		var a Area
		var says func(q wire.Point) (in, either bool)
		if n%2 == 0 {
			radius := anyRadius(r)
			if r.IntN(10) == 0 { // somebody is on its border
				rim := p.point[p.ids[r.IntN(len(p.ids))]]
				c = rim
				c.Lat = int32(min(max(int64(c.Lat)+r.Int64N(1e7)-5e6, -right), right))
				radius, _ = apart(c, rim)
			}
			a = Circle(c, radius)
			says = func(q wire.Point) (bool, bool) {
				km, err := apart(c, q)
				return km <= radius, math.Abs(km-radius) < err
			}
		} else {
			sw, ne := anyBox(r, c)
			if r.IntN(3) == 0 { // somebody is at its corner
				sw = p.point[p.ids[r.IntN(len(p.ids))]]
			}
			if r.IntN(3) == 0 {
				ne = p.point[p.ids[r.IntN(len(p.ids))]]
			}
			a = Box(sw, ne)
			says = func(q wire.Point) (bool, bool) { return inBox(sw, ne, q), false }
		}
		got := visited(t, p, a)
		held += len(got)
		for _, id := range p.ids {
			_, is := slices.BinarySearch(got, id)
			in, either := says(p.point[id])
			if either {
				close++
			} else if is != in {
				t.Fatalf("seed %d, area %d %+v: %s at %+v is found: %v, want %v", seed, n, a, id, p.point[id], is, in)
			}
			if c := a.Contains(p.point[id]); c != is {
				t.Fatalf("seed %d, area %d %+v: %s at %+v is found: %v, and is inside: %v", seed, n, a, id, p.point[id], is, c)
			}
		}
	}
	t.Logf("%d clients held in all, %d within 10 µm of a border", held, close)
	if held == 0 || close == 0 {
		t.Error("the areas tell nothing")
	}
}

// What lies exactly on a border is inside.
func TestABorderIsInside(t *testing.T) {
	km := EarthRadius * math.Pi / 180 // a degree
	pt := func(lat, lon float64) wire.Point {
		return wire.Point{Lat: int32(math.Round(lat * 1e7)), Lon: int32(math.Round(lon * 1e7))}
	}
	for _, c := range []struct {
		name string
		area Area
		in   []wire.Point
		out  []wire.Point
	}{
		{"L2 a circle of nothing", Circle(pt(34, -118), 0), []wire.Point{pt(34, -118)}, []wire.Point{pt(34.0000001, -118), pt(34, -118.0000001)}},
		{"L2 a circle of nothing at a pole", Circle(pt(90, 12), 0), []wire.Point{pt(90, 0), pt(90, -180), pt(90, 180), pt(90, 77.7)}, []wire.Point{pt(89.9999999, 12)}},
		{"L2 a circle of nothing on the antimeridian", Circle(pt(10, 180), 0), []wire.Point{pt(10, -180), pt(10, 180)}, []wire.Point{pt(10, 179.9999999), pt(10, -179.9999999)}},
		{"L2 a degree", Circle(pt(10, 20), km), []wire.Point{pt(11, 20), pt(9, 20)}, []wire.Point{pt(11.0000001, 20), pt(8.9999999, 20), pt(10, 22)}},
		{"L2 a degree along the equator", Circle(pt(0, 179.5), km), []wire.Point{pt(0, -179.5), pt(0, 178.5)}, []wire.Point{pt(0, -179.4999999), pt(0, 178.4999999)}},
		{"L2 a degree about a pole", Circle(pt(-90, 0), km), []wire.Point{pt(-89, 0), pt(-89, 180), pt(-89, -180), pt(-89, 90), pt(-89, -45.5)}, []wire.Point{pt(-88.9999999, 0), pt(-88.9999999, 123)}},
		{"L2 a degree over a pole", Circle(pt(89.5, 30), km), []wire.Point{pt(89.5, -150), pt(90, 7), pt(88.5, 30)}, []wire.Point{pt(89.4999999, -150), pt(88.4999999, 30)}},
		{"L2 a pole on the border", Circle(pt(89, 30), km), []wire.Point{pt(90, 30), pt(90, -100), pt(90, 180)}, []wire.Point{pt(89.9, -150)}},
		{"L2 a box", Box(pt(10, 20), pt(11, 21)), []wire.Point{pt(10, 20), pt(11, 21), pt(10, 21), pt(11, 20)}, []wire.Point{pt(9.9999999, 20), pt(10, 19.9999999), pt(11.0000001, 21), pt(11, 21.0000001)}},
		{"L2 a box across the antimeridian", Box(pt(10, 179), pt(11, -179)), []wire.Point{pt(10, 179), pt(10, 180), pt(10, -180), pt(11, -179)}, []wire.Point{pt(10, 178.9999999), pt(10, -178.9999999), pt(10, 0)}},
		{"L2 a box up to the antimeridian", Box(pt(10, 179), pt(11, 180)), []wire.Point{pt(10, 180), pt(10, -180)}, []wire.Point{pt(10, -179.9999999)}},
		{"L2 a box from the antimeridian", Box(pt(10, 180), pt(11, -179)), []wire.Point{pt(10, 180), pt(10, -180), pt(10, -179)}, []wire.Point{pt(10, 179.9999999), pt(10, -178.9999999)}},
		{"L2 a box whose west is its east is a line", Box(pt(10, 20), pt(11, 20)), []wire.Point{pt(10.5, 20)}, []wire.Point{pt(10.5, 20.0000001), pt(10.5, 19.9999999)}},
		{"L2 a line on the antimeridian", Box(pt(10, 180), pt(11, -180)), []wire.Point{pt(10.5, 180), pt(10.5, -180)}, []wire.Point{pt(10.5, 0), pt(10.5, 179.9999999)}},
		{"L2 all longitudes", Box(pt(10, -180), pt(11, 180)), []wire.Point{pt(10, 0), pt(11, 180), pt(11, -180), pt(10.5, 179.9999999)}, []wire.Point{pt(9.9999999, 0)}},
		{"L2 the Earth", Box(pt(-90, -180), pt(90, 180)), []wire.Point{pt(90, 0), pt(-90, 180), pt(0, 0)}, nil},
		{"L2 a box to the pole", Box(pt(89, 20), pt(90, 21)), []wire.Point{pt(90, 20.5)}, []wire.Point{pt(89.5, 22)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlain(Config{})
			p.table.Follow()
			for i, q := range c.in {
				if !c.area.Contains(q) {
					t.Errorf("%+v is not inside", q)
				}
				p.put(t, fmt.Sprint("in", i), q)
			}
			for i, q := range c.out {
				if c.area.Contains(q) {
					t.Errorf("%+v is inside", q)
				}
				p.put(t, fmt.Sprint("out", i), q)
			}
			if got := visited(t, p, c.area); len(got) != len(c.in) {
				t.Errorf("found %q, want %d", got, len(c.in))
			}
		})
	}
}

// nearest is L1 by a plain scan.
func nearest(p *plain, id string, radius float64, most int) []string {
	type found struct {
		chord float64
		id    string
	}
	a := Circle(p.point[id], radius)
	var all []found
	for _, other := range p.ids {
		if c := a.chordTo(p.point[other]); other != id && c <= a.chord {
			all = append(all, found{c, other})
		}
	}
	slices.SortFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.chord, b.chord), bytes.Compare([]byte(a.id), []byte(b.id)))
	})
	var lines []string
	for _, f := range all[:min(len(all), most)] {
		lines = append(lines, string(p.line[f.id]))
	}
	return lines
}

func search(t testing.TB, s *Search, p *plain, id string, radius float64, most int) (held string, near []string) {
	t.Helper()
	if !s.Begin(p.table, []byte(id), radius, most, p.stamp*second) {
		t.Fatalf("%s is not known", id)
	}
	for !s.Step(p.stamp * second) {
	}
	all := lines(s.Append(nil))
	return all[0], all[1:]
}

// L1: who is near, nearest first, as a plain scan finds them.
func TestASearchFindsTheNearestInOrder(t *testing.T) {
	seed := uint64(17)
	r := rand.New(rand.NewPCG(seed, 1))
	p := crowded(t, r, sizes(2000, 20_000))
	for i := range 60 { // equal distances
		p.put(t, fmt.Sprint("twin", i%7, "-", i), p.point["c7"])
	}
	var s Search
	found := 0
	for n := range sizes(800, 10_000) {
		id := p.ids[r.IntN(len(p.ids))]
		radius, most := min(anyRadius(r), 50), 1+r.IntN(20)
		want := nearest(p, id, radius, most)
		held, got := search(t, &s, p, id, radius, most)
		if held != string(p.line[id]) {
			t.Fatalf("held %q, want %q", held, p.line[id])
		}
		if !slices.Equal(got, want) {
			t.Fatalf("seed %d, search %d of %d within %v km of %s: %q, want %q", seed, n, most, radius, id, got, want)
		}
		found += len(got)
	}
	t.Logf("%d found in all", found)
}

// L1: clients at the same distance come in the order of their ids, on whichever side they are.
func TestEqualDistancesAreOrderedByID(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	var s Search
	for n := range sizes(500, 10_000) {
		p := newPlain(Config{})
		centre := somewhere(r)
		dLat, dLon := r.Int32N(1<<r.IntN(19)), r.Int32N(1<<r.IntN(19))
		var all []wire.Point
		add := func(lat, lon int64) {
			if lat < -right || lat > right {
				return
			}
			lon = (lon+half+turn)%turn - half
			all = append(all, wire.Point{Lat: int32(lat), Lon: int32(lon)})
			if lon == -half {
				all = append(all, wire.Point{Lat: int32(lat), Lon: half})
			}
		}
		switch n % 3 {
		case 0: // on both sides of a meridian
		case 1: // … and of the equator
			centre.Lat = 0
			add(-int64(dLat), int64(centre.Lon)+int64(dLon))
			add(-int64(dLat), int64(centre.Lon)-int64(dLon))
		case 2: // all about a pole
			centre.Lat = right
			dLat = -dLat
			for range 5 {
				add(right+int64(dLat), r.Int64N(turn))
			}
		}
		add(int64(centre.Lat)+int64(dLat), int64(centre.Lon)+int64(dLon))
		add(int64(centre.Lat)+int64(dLat), int64(centre.Lon)-int64(dLon))
		p.put(t, "centre", centre)
		ids := map[string]bool{}
		for i, k := range r.Perm(100)[:len(all)] {
			id := fmt.Sprintf("c%02d", k)
			p.put(t, id, all[i])
			ids[id] = true
		}
		_, got := search(t, &s, p, "centre", 50, 20)
		var found []string
		for _, line := range got {
			a, err := wire.ParseAT([]byte(line[:len(line)-1]))
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, string(a.Client))
		}
		if len(found) != len(ids) || !slices.IsSorted(found) {
			t.Fatalf("turn %d: about %+v at %+v: %q", n, centre, all, found)
		}
	}
}

// steps goes on with a search, and returns how many steps it took, meanwhile being done between them.
func steps(t testing.TB, s *Search, p *plain, meanwhile func(step int)) (n int) {
	for !s.Step(p.stamp * second) {
		if n++; n > 100_000 {
			t.Fatal("a search does not end")
		}
		meanwhile(n)
	}
	return n + 1
}

// A search in a crowd looks at the crowd, in short steps, and not at everybody.
func TestASearchInACrowdPassesTheOthers(t *testing.T) {
	p := newPlain(Config{})
	here := wire.Point{Lat: 340689300, Lon: -1184451270}
	const crowd, others = 5000, 100_000
	r := rand.New(rand.NewPCG(1, 6))
	for i := range others {
		p.put(t, fmt.Sprint("other", i), wire.Point{Lat: int32(r.Int64N(half) - right), Lon: int32(r.Int64N(turn) - half)})
		if i%(others/crowd) == 0 {
			p.put(t, fmt.Sprint("c", i), here)
		}
	}
	var s Search
	s.Begin(p.table, []byte("c0"), 0.5, 20, p.stamp*second)
	if n := steps(t, &s, p, func(int) {}); n > crowd/stepMost+2 {
		t.Errorf("it took %d steps of %d", n, stepMost)
	}
	if got, want := lines(s.Append(nil))[1:], nearest(p, "c0", 0.5, 20); !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}

// L1: who stays where it is is found, whatever happens between two steps in the list where a search stands:
// its clients go, others come, it is split.
func TestASearchStandsInAListThatChanges(t *testing.T) {
	for seed := range uint64(sizes(3, 50)) {
		r := rand.New(rand.NewPCG(seed, 7))
		p := newPlain(Config{})
		here := wire.Point{}
		for g := p.table.grid; ; { // its clients go over to the other list when theirs is split, which is soon
			here = somewhere(r)
			if here.Lon > half-4000 {
				continue
			}
			to := here
			to.Lon += 4000
			if c := CellAt(gridLevel, here); c == CellAt(gridLevel, to) && g.hash(c)%(2*listsMin)-listsMin < listsMin/32 {
				break
			}
		}
		const crowd = 3 * stepMost
		stays := map[string]bool{}
		for i := range crowd {
			to := here
			if stay := i%60 == 0; !stay { // those who stay are the nearest
				to.Lon += 1000 + r.Int32N(3000)
			} else {
				stays[fmt.Sprint("c", i)] = true
			}
			p.put(t, fmt.Sprint("c", i), to)
		}
		var some []Search // more than can stand
		for i := range standMost + 6 {
			some = append(some, Search{})
			some[i].Begin(p.table, []byte("c0"), 0.5, len(stays)+20, p.stamp*second)
		}
		for running := true; running; {
			running = false
			for i := range some {
				if !some[i].Step(p.stamp * second) {
					running = true
				}
			}
			for range 150 {
				id := p.ids[r.IntN(crowd)]
				if !stays[id] {
					p.put(t, id, somewhere(r))
				}
				g := p.table.grid
				if half := g.splitting != 0 && g.lists&g.mask == g.hash(CellAt(gridLevel, here))&g.mask; !half || seed%2 == 0 {
					p.put(t, fmt.Sprint("new", len(p.ids)), somewhere(r)) // in odd turns the split is not completed
				}
			}
			for range 20 { // the very ones before whom searches stand
				for _, at := range p.table.grid.stands[:p.table.grid.standing] {
					if at == 0 || at == standFree {
						continue
					}
					if id := string(p.table.AppendClient(nil, at-1)); !stays[id] {
						p.put(t, id, somewhere(r))
					}
				}
			}
		}
		for i := range some {
			found := map[string]bool{}
			for _, line := range lines(some[i].Append(nil)) {
				a, err := wire.ParseAT([]byte(line[:len(line)-1]))
				if err != nil || found[string(a.Client)] {
					t.Fatalf("%q, error %v, once before: %v", line, err, err == nil)
				}
				found[string(a.Client)] = true
			}
			for id, stay := range stays {
				if stay && !found[id] {
					t.Fatalf("seed %d, search %d: %s is missing, of %d found", seed, i, id, len(found))
				}
			}
		}
		if n := p.table.grid.standing; n != 0 {
			t.Fatalf("%d stand when all is done", n)
		}
	}
}

// A search that is begun anew before its end, and the end of one, leave their places.
func TestASearchThatIsBegunAnewStandsNowhere(t *testing.T) {
	p := newPlain(Config{})
	for i := range 2 * stepMost {
		p.put(t, fmt.Sprint("c", i), wire.Point{})
	}
	var s Search
	for range 3 {
		s.Begin(p.table, []byte("c0"), 1, 20, 0)
		if s.Step(0) || p.table.grid.standing != 1 {
			t.Fatalf("%d stand in the middle of a list, want 1", p.table.grid.standing)
		}
	}
	for !s.Step(0) {
	}
	if n := p.table.grid.standing; n != 0 {
		t.Errorf("%d stand, want 0", n)
	}
}

// The table's distance is the great circle's.
func TestDistancesAreGreatCircles(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range sizes(20_000, 1_000_000) {
		p, q := somewhere(r), somewhere(r)
		want, err := apart(p, q)
		if want > EarthRadius*3.1 {
			continue // the other formula is imprecise there
		}
		around := Circle(p, 1)
		got := 2 * EarthRadius * math.Asin(math.Sqrt(around.chordTo(q))/2)
		if math.Abs(got-want) > 2*err {
			t.Fatalf("from %+v to %+v: %v km, want %v", p, q, got, want)
		}
	}
}

// A client that comes and moves within one batch is where it was last.
func TestAClientMayMoveWithinABatch(t *testing.T) {
	p := newPlain(Config{})
	p.table.Follow()
	ops := apply(t, p.table, 0, Source{}, Put, at("A", "c", "+0+0", 1, 0), at("A", "d", "+0+0", 1, 0), at("A", "c", "+40+0", 2, 0), at("A", "c", "+0+0", 3, 0), at("A", "c", "+0+50", 4, 0))
	for i := range ops {
		if ops[i].Outcome != Stored {
			t.Fatalf("line %d: outcome %d", i, ops[i].Outcome)
		}
	}
	for _, c := range []struct {
		lat, lon int32
		want     string
	}{{0, 0, "[d]"}, {40, 0, "[]"}, {0, 50, "[c]"}} {
		if got := fmt.Sprint(visited(t, p, Circle(wire.Point{Lat: c.lat * degree, Lon: c.lon * degree}, 1))); got != c.want {
			t.Errorf("at %d %d are %s, want %s", c.lat, c.lon, got, c.want)
		}
	}
}

// Many clients in one place are found in short steps, too.
func TestManyInOnePlace(t *testing.T) {
	p := newPlain(Config{})
	p.table.Follow()
	here := wire.Point{Lat: 340689300, Lon: -1184451270}
	n := sizes(15_000, 200_000)
	for i := range n {
		p.put(t, fmt.Sprint("c", i), here)
		if i%1000 == 0 { // so that the long list is split
			for k := range 50 {
				p.put(t, fmt.Sprint("other", i, "-", k), wire.Point{Lat: int32(i) * 3000, Lon: int32(k) * 3000_000})
			}
		}
	}
	var s Search
	if _, got := search(t, &s, p, "c77", 1, 20); !slices.Equal(got, nearest(p, "c77", 1, 20)) {
		t.Errorf("found %q, want %q", got, nearest(p, "c77", 1, 20))
	}
	if got := visited(t, p, Circle(here, 0.5)); len(got) != n {
		t.Errorf("found %d, want %d", len(got), n)
	}
}

func TestZeroRadiusOrNoneAsksOnlyWhereTheClientIs(t *testing.T) {
	p := newPlain(Config{})
	p.put(t, "a", wire.Point{})
	p.put(t, "b", wire.Point{})
	var s Search
	for _, c := range []struct {
		radius float64
		most   int
		want   int
	}{{0, 10, 0}, {10, 0, 0}, {1e-9, 10, 1}} {
		if held, near := search(t, &s, p, "a", c.radius, c.most); held != string(p.line["a"]) || len(near) != c.want {
			t.Errorf("L1 radius %v, max %d: %q, %q", c.radius, c.most, held, near)
		}
	}
	if s.Begin(p.table, []byte("nobody"), 1, 1, 0) {
		t.Error("L1 an unknown client is known")
	}
	off := New(Config{})
	apply(t, off, 0, Source{}, Put, at("A", "a", "+1+1", 1, 0))
	if s.Begin(off, []byte("a"), 1, 1, 0) {
		t.Error("L1 a table without the index answers")
	}
}

func TestWhatIsPastIsNotNear(t *testing.T) {
	p := newPlain(Config{Retain: time.Minute})
	p.put(t, "old", wire.Point{})
	p.stamp = 40
	p.put(t, "a", wire.Point{})
	p.put(t, "b", wire.Point{})
	p.stamp = 70
	var s Search
	if _, near := search(t, &s, p, "a", 10, 10); len(near) != 1 || near[0] != string(p.line["b"]) {
		t.Errorf("S4 near are %q", near)
	}
	if s.Begin(p.table, []byte("old"), 10, 10, p.stamp*second) {
		t.Error("S4 a client whose line is past is known")
	}
}

// A client that is forgotten and comes back between two steps may be in another slot than before.
func TestWhoComesBackDuringASearchIsFoundOnce(t *testing.T) { // L1
	p := newPlain(Config{Retain: time.Minute})
	p.put(t, "back", wire.Point{Lat: 100})
	p.put(t, "gone", wire.Point{Lat: 200}) // its slot is the first to be used again
	p.stamp = 30
	p.put(t, "a", wire.Point{})
	for i := range 2 * stepMost { // much to look at, 11 km to the north
		p.stamp = 31
		p.put(t, fmt.Sprint("other", i), wire.Point{Lat: degree / 10})
	}
	s := Search{Sees: func(client []byte) bool { return !bytes.HasPrefix(client, []byte("other")) }}
	if !s.Begin(p.table, []byte("a"), 50, 20, p.stamp*second) {
		t.Fatal("a is not known")
	}
	var was []string
	steps(t, &s, p, func(step int) {
		if step > 1 {
			return
		}
		was = lines(s.Append(nil))
		p.stamp = 70
		if n, _ := p.table.Forget(p.stamp*second, 10, nil); n != 2 {
			t.Fatalf("%d are forgotten", n)
		}
		p.put(t, "back", wire.Point{Lat: degree / 5})
	})
	got := lines(s.Append(nil))
	if want := []string{was[0], string(p.line["gone"]), string(p.line["back"])}; !slices.Equal(got, want) {
		t.Errorf("at first %q, then %q, want %q", was, got, want)
	}
}

// The counts per degree are those of a plain scan, after moves and forgetting.
func TestCellsOfADegreeAreCounted(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 5))
	p := newPlain(Config{Retain: 3000 * time.Second})
	for range 6000 {
		p.put(t, fmt.Sprint("c", r.IntN(2500)), somewhere(r))
	}
	for end := false; !end; {
		_, end = p.table.Forget(p.stamp*second, 100, nil)
	}
	want := map[int]uint32{}
	clients := 0
	for _, id := range p.ids {
		if held(p.table, p.stamp*second, id) != "" {
			want[DegreeOf(p.point[id])]++
			clients++
		}
	}
	if clients == 0 || clients == len(p.ids) {
		t.Fatalf("%d of %d are held", clients, len(p.ids))
	}
	for i, n := range p.table.AppendCounts(nil) {
		if n != want[i] {
			t.Errorf("degree %d: %d clients, want %d", i, n, want[i])
		}
	}
}

func TestASearchAllocatesNothing(t *testing.T) {
	r := rand.New(rand.NewPCG(9, 9))
	p := crowded(t, r, 3000)
	var s Search
	var dst []byte
	i := 0
	step := func() {
		i++
		s.Begin(p.table, []byte(p.ids[i%50]), 50, 20, 0)
		for !s.Step(0) {
		}
		dst = s.Append(dst[:0])
	}
	for range 100 {
		step()
	}
	if got := testing.AllocsPerRun(200, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
}

// V5: for whom only some clients exist, the nearest of those are found as if there were no others.
func TestTheNearestOfThoseThatExist(t *testing.T) {
	r := rand.New(rand.NewPCG(18, 5))
	p, only := crowded(t, r, 1000), newPlain(Config{})
	sees := func(client []byte) bool { return client[len(client)-1]%3 == 0 }
	for _, id := range p.ids {
		if sees([]byte(id)) {
			only.put(t, id, p.point[id])
		}
	}
	ids := func(q *plain, sees func([]byte) bool, client string, radius float64) (ids []string) {
		s := Search{Sees: sees}
		if !s.Begin(q.table, []byte(client), radius, 5, q.stamp*second) {
			t.Fatalf("%s is not known", client)
		}
		for !s.Step(q.stamp * second) {
		}
		for line := range bytes.Lines(s.Append(nil)) {
			ids = append(ids, string(bytes.Fields(line)[3]))
		}
		return ids
	}
	found := 0
	for _, client := range only.ids {
		radius := anyRadius(r)
		got, want := ids(p, sees, client, radius), ids(only, nil, client, radius)
		if !slices.Equal(got, want) {
			t.Fatalf("near %s, %v km: %q, want %q", client, radius, got, want)
		}
		found += len(got) - 1
	}
	if found == 0 {
		t.Error("nobody was near anybody")
	}
}
