package test

import (
	"bytes"
	"cmp"
	"compress/zlib"
	bigendian "encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"herd/places/osm/osmtest"
	"herd/test/herdtest"
)

// mapped is a place on the map, in units of 1e-7 degrees.
type mapped struct {
	id, name string
	lat, lon int64
}

func (m mapped) degrees() (lat, lon float64) { return float64(m.lat) / 1e7, float64(m.lon) / 1e7 }

// readMap is a simple reader of extracts, written from the description of the format. The edges'
// own reader is compared with it. It supports only what most extracts use.
func readMap(t *testing.T, path string) (all []mapped) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	at := map[int64]mapped{}
	for len(text) > 0 {
		header := int(bigendian.BigEndian.Uint32(text)) + 4
		size := int(message(t, text[4:header])[3][0].number)
		blob := message(t, text[header:header+size])
		text = text[header+size:]
		z, err := zlib.NewReader(bytes.NewReader(blob[3][0].bytes))
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(z)
		if err != nil {
			t.Fatal(err)
		}
		block := message(t, data)
		var table []string
		for _, s := range message(t, block[1][0].bytes)[1] {
			table = append(table, string(s.bytes))
		}
		for _, group := range block[2] { // of a header: features, which have no fields 2 and 3
			if len(table) == 0 {
				break
			}
			fields := message(t, group.bytes)
			for _, dense := range fields[2] {
				f := message(t, dense.bytes)
				ids, lats, lons := sums(f[1]), sums(f[8]), sums(f[9])
				tags := numbers(f[10])
				for i, id := range ids {
					m := mapped{id: fmt.Sprint("osm:node/", id), lat: lats[i], lon: lons[i]}
					at[id] = m
					words := map[string]string{}
					for ; len(tags) > 0 && tags[0] != 0; tags = tags[2:] {
						words[table[tags[0]]] = table[tags[1]]
					}
					tags = tags[min(1, len(tags)):]
					if m.name = words["name"]; isPlace(words) {
						all = append(all, m)
					}
				}
			}
			for _, way := range fields[3] {
				f := message(t, way.bytes)
				words := map[string]string{}
				values := numbers(f[3])
				for i, key := range numbers(f[2]) {
					words[table[key]] = table[values[i]]
				}
				if !isPlace(words) {
					continue
				}
				var lats, lons []int64
				for _, ref := range sums(f[8]) {
					if n, ok := at[ref]; ok {
						lats, lons = append(lats, n.lat), append(lons, n.lon)
					}
				}
				all = append(all, mapped{fmt.Sprint("osm:way/", f[1][0].number), words["name"],
					(slices.Min(lats) + slices.Max(lats)) / 2, (slices.Min(lons) + slices.Max(lons)) / 2})
			}
		}
	}
	return all
}

// isPlace reports whether these tags are of a place that people would look for.
func isPlace(tags map[string]string) bool {
	for _, key := range []string{"amenity", "shop", "tourism", "leisure", "office", "historic", "craft", "healthcare", "public_transport"} {
		if tags[key] != "" && tags["name"] != "" {
			return true
		}
	}
	return tags["name"] != "" && slices.Contains([]string{"station", "halt", "tram_stop", "subway_entrance"}, tags["railway"])
}

type field struct {
	bytes  []byte
	number uint64
}

func message(t *testing.T, text []byte) map[protowire.Number][]field {
	t.Helper()
	all := map[protowire.Number][]field{}
	for len(text) > 0 {
		number, kind, n := protowire.ConsumeTag(text)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		size := protowire.ConsumeFieldValue(number, kind, text[n:])
		if size < 0 {
			t.Fatal(protowire.ParseError(size))
		}
		var f field
		if kind == protowire.BytesType {
			f.bytes, _ = protowire.ConsumeBytes(text[n:])
		} else {
			f.number, _ = protowire.ConsumeVarint(text[n:])
		}
		all[number] = append(all[number], f)
		text = text[n+size:]
	}
	return all
}

func numbers(packed []field) (all []uint64) {
	for _, f := range packed {
		for b := f.bytes; len(b) > 0; {
			v, n := protowire.ConsumeVarint(b)
			all, b = append(all, v), b[n:]
		}
	}
	return all
}

func sums(packed []field) (all []int64) {
	sum := int64(0)
	for _, n := range numbers(packed) {
		sum += protowire.DecodeZigZag(n)
		all = append(all, sum)
	}
	return all
}

// scan returns the places within radius of a point, nearest first, at most 20.
func scan(all []mapped, lat, lon, radius float64) (ids []string) {
	type hit struct {
		mapped
		km float64
	}
	var hits []hit
	for _, m := range all {
		y, x := m.degrees()
		if km := kilometres(lat, lon, y, x); km <= radius {
			hits = append(hits, hit{m, km})
		}
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(a.km, b.km), strings.Compare(a.name, b.name), strings.Compare(a.id, b.id))
	})
	for _, h := range hits[:min(len(hits), 20)] {
		ids = append(ids, h.id)
	}
	return ids
}

func ids(a answer) (all []string) {
	for _, p := range a.Results {
		all = append(all, p.PlaceID)
	}
	return all
}

// knows waits until an edge has loaded n places.
func knows(e *herdtest.EdgeProcess, n int) time.Duration {
	e.T.Helper()
	return herdtest.Eventually(e.T, herdtest.Promise(60*time.Second), fmt.Sprintf("%d places loaded", n), func() error {
		if known := e.Metric("herd_places_known", `provider="osm"`); known != float64(n) {
			return fmt.Errorf("there are %v", known)
		}
		return nil
	})
}

// C15: places of Monaco, over a socket, compared with a plain scan.
func TestAnExtractIsFoundLikeByAPlainScan(t *testing.T) {
	quiet(t)
	path := os.Getenv("HERD_TEST_OSM")
	if path == "" {
		t.Skip("skipped: set HERD_TEST_OSM to an extract of Monaco of 2015")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	all := readMap(t, path)
	if len(all) != 215+45 {
		t.Fatalf("%d places by the plain reader, want 260", len(all))
	}
	_, e := herdtest.StartLone(t, map[string]string{"HERD_OSM_FILE": path})
	knows(e, 260)
	c := dial(t, e.Addr)
	c.SetDeadline(time.Now().Add(herdtest.Promise(60 * time.Second)))
	asked := 0
	ask := func(lat, lon, radius float64) answer {
		asked++ // a new client per question, so that each position is its first
		c.send(fmt.Sprintf("IAMAT walker-%d %+010.6f%+011.6f 1621464827\n", asked, lat, lon))
		c.line()
		_, text := c.whatsat(fmt.Sprintf("walker-%d %g 20", asked, radius))
		a := nearby(t, text)
		if radius > 0 && (len(a.Attributions) != 1 || !strings.Contains(a.Attributions[0], "OpenStreetMap")) {
			t.Fatalf("the ODbL wants an attribution, there is %q", a.Attributions)
		}
		return a
	}
	random := rand.New(rand.NewPCG(43, 7))
	round := func(f float64, digits int) float64 {
		var r float64
		fmt.Sscan(fmt.Sprintf("%.*f", digits, f), &r)
		return r
	}
	some := 0
	for i := range 1000 {
		lat, lon := round(43.7384+random.NormFloat64()*0.01, 6), round(7.4246+random.NormFloat64()*0.01, 6)
		radius := round([]float64{0.05, 0.5, 3, 50}[i%4]*random.Float64(), 4)
		got, want := ids(ask(lat, lon, radius)), scan(all, lat, lon, radius)
		if radius == 0 {
			want = nil // C12
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%v km of %v %v: got %q, want %q", radius, lat, lon, got, want)
		}
		some += len(got)
	}
	if some < 1000 {
		t.Errorf("%d places in 1000 answers, that tests little", some)
	}
	// By their coordinates in Wikipedia, to 100 m.
	for name, where := range map[string][2]float64{
		"Casino de Monte Carlo": {43.7392, 7.4286}, "Musée Océanographique": {43.7308, 7.4256},
	} {
		found := false
		for _, p := range ask(where[0], where[1], 0.1).Results {
			found = found || strings.EqualFold(p.Name, name)
		}
		if !found {
			t.Errorf("%s is not within 100 m of %v", name, where)
		}
	}
	if got, want := ids(ask(43.7384, 7.4246, 10)), scan(all, 43.7384, 7.4246, 10); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// shops writes an extract of n shops at one point to path. A process may be reading the file that
// it replaces.
func shops(t *testing.T, path string, n int) {
	t.Helper()
	var nodes []osmtest.Node
	for i := range n {
		nodes = append(nodes, osmtest.Node{ID: int64(i + 1), Lat: 43.7384, Lon: 7.4246, Tags: []string{"name", fmt.Sprintf("one of %d", n), "shop", "yes"}})
	}
	replace(t, path, osmtest.PBF(osmtest.Form{}, nodes, nil))
}

func replace(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := errors.Join(os.WriteFile(path+".new", text, 0o600), os.Rename(path+".new", path)); err != nil {
		t.Fatal(err)
	}
}

// A changed file is read on SIGHUP without a gap; a broken one changes nothing.
func TestAChangedExtractIsPickedUpOnSIGHUP(t *testing.T) {
	quiet(t)
	path := filepath.Join(t.TempDir(), "town.osm.pbf")
	shops(t, path, 3)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_OSM_FILE": path})
	c := dial(t, e.Addr)
	c.send("IAMAT k +43.7384+007.4246 1\n")
	c.line()
	found := func() string {
		_, text := c.whatsat("k 1 20")
		a := nearby(t, text)
		if a.Status != "OK" || len(a.Results) == 0 || a.Results[0].Name != fmt.Sprintf("one of %d", len(a.Results)) {
			t.Fatalf("a gap: %s", text)
		}
		return a.Results[0].Name
	}
	becomes := func(want string) {
		t.Helper()
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), want, func() error {
			if got := found(); got != want {
				return errors.New(got)
			}
			return nil
		})
	}
	knows(e, 3)
	becomes("one of 3")
	shops(t, path, 4)
	e.Signal(syscall.SIGHUP)
	becomes("one of 4")

	replace(t, path, []byte("not a map"))
	e.Signal(syscall.SIGHUP)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the log says so", func() error {
		found()
		if !strings.Contains(e.Stderr.String(), "places not loaded") {
			return errors.New("not yet")
		}
		return nil
	})
	becomes("one of 4")
	shops(t, path, 5)
	e.Signal(syscall.SIGHUP)
	becomes("one of 5")
}

// C16: an extract that cannot be read costs its places and nothing else.
func TestABrokenExtractIsNoReasonNotToStart(t *testing.T) {
	quiet(t)
	path := filepath.Join(t.TempDir(), "town.osm")
	replace(t, path, []byte("<html>404</html>"))
	for order, want := range map[string]string{"auto": "OK", "osm": "UNKNOWN_ERROR"} {
		_, e := herdtest.StartLone(t, map[string]string{"HERD_OSM_FILE": path, "HERD_PLACES": order})
		c := dial(t, e.Addr)
		c.send("IAMAT k +43.7384+007.4246 1\n")
		c.line()
		_, text := c.whatsat("k 50 20")
		if a := nearby(t, text); a.Status != want || want != "OK" && !strings.Contains(a.ErrorMessage, "could not be loaded") {
			t.Errorf("HERD_PLACES=%s: %s", order, text)
		}
		if said := e.Stderr.String(); !strings.Contains(said, "places not loaded") || !strings.Contains(said, "no nodes and no ways") {
			t.Errorf("it says %q", said)
		}
	}
}

// C15: among a million places, half of them in one town, those within 50 km are found (for speeds
// see row places of test/bench).
func TestAMillionPlacesAreSearched(t *testing.T) {
	quiet(t)
	n := size(50_000, 1_000_000)
	random := rand.New(rand.NewPCG(1, 2))
	nodes := make([]osmtest.Node, n)
	for i := range nodes {
		// Half of them in one town: within 50 km of 48, 11.
		lat, lon := 47+8*random.Float64(), 6+9*random.Float64()
		if i%2 == 0 {
			lat, lon = 48+0.13*random.NormFloat64(), 11+0.2*random.NormFloat64()
		}
		nodes[i] = osmtest.Node{ID: int64(i + 1), Lat: lat, Lon: lon,
			Tags: []string{"name", fmt.Sprint("Place number ", i), "shop", "bakery", "addr:street", "Hauptstrasse", "addr:city", "Neustadt"}}
	}
	path := filepath.Join(t.TempDir(), "country.osm.pbf")
	replace(t, path, osmtest.PBF(osmtest.Form{}, nodes, nil))
	_, e := herdtest.StartLone(t, map[string]string{"HERD_OSM_FILE": path})
	knows(e, n)
	c := dial(t, e.Addr)
	c.SetDeadline(time.Now().Add(herdtest.Promise(60 * time.Second)))
	const clients = 200
	for i := range clients {
		lat, lon := 47+8*random.Float64(), 6+9*random.Float64()
		if i%2 == 0 {
			lat, lon = 48+0.13*random.NormFloat64(), 11+0.2*random.NormFloat64()
		}
		c.send(fmt.Sprintf("IAMAT k%d %+010.6f%+011.6f 1\n", i, lat, lon))
		c.line()
	}
	for i := range clients {
		question := fmt.Sprintf("k%d 50 20", i)
		_, text := c.whatsat(question)
		if a := nearby(t, text); a.Status != "OK" || len(a.Results) != 20 {
			t.Fatalf("%s: %s", question, text)
		}
	}
	t.Logf("%d places; the edge has %d MiB", n, e.Memory()>>20)
}
