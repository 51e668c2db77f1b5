package load

import (
	"math"
	"testing"

	"herd/edge/wire"
)

func TestLinesAreValidAndMove(t *testing.T) {
	for client := range 200 {
		w := newWalker(client)
		now := int64(1_621_464_827_959_498_503)
		var place string
		for i := range 20 {
			before := w.stamp
			w.step(now) // the clock stands still, but the client's time must advance
			line := w.appendIAMAT(nil, "load-", client)
			verb, rest := wire.Cut(line)
			m, err := wire.ParseIAMAT(rest[:len(rest)-1])
			if err != nil || string(verb) != "IAMAT" {
				t.Fatalf("%q: %v", line, err)
			}
			if m.Stamp != w.stamp || m.Stamp <= before {
				t.Fatalf("%q has time %d after %d, want %d", line, m.Stamp, before, w.stamp)
			}
			lat, lon, err := wire.ParseLocation(m.Location)
			if err != nil || math.Round(lat*1e6) != float64(w.lat) || math.Round(lon*1e6) != float64(w.lon) {
				t.Fatalf("%q is at %v %v, want %d %d millionths", line, lat, lon, w.lat, w.lon)
			}
			if string(m.Location) == place && i < 2 {
				t.Errorf("client %d stands still at %s", client, place)
			}
			place = string(m.Location)
		}
	}
}

func TestAWalkerStaysOnTheGlobe(t *testing.T) {
	w := walker{lat: -90_000000, lon: 180_000000}
	for range 1000 {
		w.step(1)
		if err := wire.CheckLocation(appendDegrees(appendDegrees(nil, w.lat), w.lon)); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDegrees(t *testing.T) {
	for degrees, want := range map[int32]string{0: "+0.000000", -1: "-0.000001", 34_068930: "+34.068930", -118_445127: "-118.445127", 90_000000: "+90.000000"} {
		if got := string(appendDegrees(nil, degrees)); got != want {
			t.Errorf("%d millionths are %s, want %s", degrees, got, want)
		}
	}
}

func TestLinesCostNoMemory(t *testing.T) {
	w := newWalker(1)
	line := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() {
		w.step(1)
		line = w.appendIAMAT(line[:0], "load-", 1)
	}); n != 0 {
		t.Errorf("%v allocations a line", n)
	}
}
