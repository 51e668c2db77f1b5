package main

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// A world is where the clients of the rows about live questions are: 85 % of them in 300 towns,
// in each around its centre with a standard deviation of 5 km, the others anywhere on Earth. It is
// the same in each run.
type world struct {
	towns []spot
	homes []spot  // of the clients by number, from west to east
	town  []int16 // the same: its number; -1: none
	gauss []float64
}

// A spot is a point in units of 1e-7 degrees.
type spot struct{ lat, lon int32 }

const (
	townCount = 300
	townSigma = 5.0  // km
	stepSigma = 0.03 // km: by how much a client moves that does not jump
	unitsOfKM = 1e7 / 111.195
	spotWidth = len("+00.000000+000.000000")
)

func newWorld(clients int) *world {
	r := rand.New(rand.NewPCG(1, townCount))
	w := &world{gauss: make([]float64, 1<<12)}
	for i := range w.gauss {
		w.gauss[i] = r.NormFloat64()
	}
	anywhere := func() spot {
		return spot{int32(math.Asin(2*r.Float64()-1) * 180 / math.Pi * 1e7), int32((r.Float64()*360 - 180) * 1e7)}
	}
	for len(w.towns) < townCount {
		if p := anywhere(); p.lat > -55e7 && p.lat < 65e7 {
			w.towns = append(w.towns, p)
		}
	}
	type home struct {
		spot
		town int16
	}
	homes := make([]home, clients)
	for i := range homes {
		homes[i] = home{anywhere(), -1}
		if i%20 < 17 {
			town := i / 20 % townCount
			homes[i] = home{w.towns[town].off(r.NormFloat64()*townSigma, r.NormFloat64()*townSigma), int16(town)}
		}
	}
	slices.SortStableFunc(homes, func(a, b home) int { return cmp.Compare(a.lon, b.lon) })
	for _, h := range homes {
		w.homes, w.town = append(w.homes, h.spot), append(w.town, h.town)
	}
	return w
}

// off returns the point so many kilometres to the north and to the east.
func (p spot) off(north, east float64) spot {
	lat := min(max(float64(p.lat)+north*unitsOfKM, -90e7), 90e7)
	lon := float64(p.lon) + east*unitsOfKM/max(math.Cos(lat/1e7*math.Pi/180), 1e-3)
	return spot{int32(lat), int32(math.Mod(lon+540e7, 360e7) - 180e7)}
}

// place returns where a client is next, by a number that is another one each time: some 30 metres
// from its home, or anywhere in its town.
func (w *world) place(client int, jump bool, n uint64) spot {
	n *= 0x9e3779b97f4a7c15
	north, east := w.gauss[n>>52], w.gauss[n>>40&0xfff]
	if town := w.town[client]; jump && town >= 0 {
		return w.towns[town].off(north*townSigma, east*townSigma)
	}
	return w.homes[client].off(north*stepSigma, east*stepSigma)
}

// circles returns the centres of n circles over the towns, drawn more closely than the clients: so
// one who jumps enters or leaves some 2.5 circles of 1 km of 23,000.
func (w *world) circles(n int) []spot {
	r := rand.New(rand.NewPCG(2, townCount))
	all := make([]spot, n)
	for i := range all {
		all[i] = w.towns[i%townCount].off(r.NormFloat64(), r.NormFloat64())
	}
	return all
}

// strip returns the box of those longitudes in which the first n homes are, as WATCH has it.
func (w *world) strip(n int) string {
	return spot{-90e7, -180e7}.String() + " " + spot{90e7, w.homes[n-1].lon}.String()
}

// put writes a spot as a location, always as long as that of the loads without a world: lines of other
// lengths would take another amount of memory.
func (p spot) put(dst []byte) {
	putAngle(dst[:10], p.lat)
	putAngle(dst[10:spotWidth], p.lon)
}

func putAngle(dst []byte, angle int32) {
	dst[0] = '+'
	if angle < 0 {
		dst[0], angle = '-', -angle
	}
	point := len(dst) - 7
	putDigits(dst[1:point], uint64(angle/1e7))
	dst[point] = '.'
	putDigits(dst[point+1:], uint64(angle%1e7/10))
}

func (p spot) String() string {
	text := make([]byte, spotWidth)
	p.put(text)
	return string(text)
}
