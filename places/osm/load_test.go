package osm

import (
	"bytes"
	"cmp"
	"context"
	encoding "encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"herd/places/osm/osmtest"
)

var silent = slog.New(slog.DiscardHandler)

// small returns the small extract, as text and as lists of elements.
func small(tb testing.TB) (text []byte, nodes []osmtest.Node, ways []osmtest.Way) {
	tb.Helper()
	text, err := os.ReadFile("testdata/small.osm")
	if err != nil {
		tb.Fatal(err)
	}
	var all struct {
		Nodes []element `xml:"node"`
		Ways  []element `xml:"way"`
	}
	if err := encoding.Unmarshal(text, &all); err != nil || len(all.Nodes) == 0 || len(all.Ways) == 0 {
		tb.Fatal(err, len(all.Nodes), len(all.Ways))
	}
	list := func(e element) (tags []string) {
		for _, t := range e.Tags {
			tags = append(tags, t.Key, t.Value)
		}
		return tags
	}
	for _, e := range all.Nodes {
		nodes = append(nodes, osmtest.Node{ID: e.ID, Lat: *e.Lat, Lon: *e.Lon, Tags: list(e)})
	}
	for _, e := range all.Ways {
		w := osmtest.Way{ID: e.ID, Tags: list(e)}
		for _, n := range e.Nodes {
			w.Nodes = append(w.Nodes, n.Ref)
		}
		ways = append(ways, w)
	}
	return text, nodes, ways
}

func loadBytes(ctx context.Context, text []byte, as format) (*index, error) {
	return load(ctx, bytes.NewReader(text), int64(len(text)), as, silent)
}

// dump returns all places, one per line, sorted by id.
func (x *index) dump() string {
	var lines []string
	for _, p := range slices.SortedFunc(slices.Values(x.places), func(a, b place) int { return cmp.Compare(a.id, b.id) }) {
		lines = append(lines, fmt.Sprintf("%s %.7f %.7f %q %q %s", p.placeID(), p.at.degreesLat(), p.at.degreesLon(),
			x.name(&p), x.text[p.text+uint32(p.name):][:p.vicinity], strings.Join(x.kinds[p.kind], " ")))
	}
	return strings.Join(lines, "\n")
}

const smallPlaces = `osm:node/1 43.7300000 7.4200000 "Café à l’Ancre" "12 Quai Imaginaire, Monaco" cafe food point_of_interest establishment
osm:way/1 43.7315000 7.4220000 "Musée de Rien" "" museum tourist_attraction point_of_interest establishment
osm:node/2 43.7301234 7.4212345 "Pain & Vin" "Le Port, La Condamine" bakery food store liquor_store point_of_interest establishment
osm:way/2 -16.8000000 -179.9990000 "Park on the line" "" park point_of_interest establishment
osm:node/6 43.7305000 7.4205000 "Saint Nobody" "" church place_of_worship tourist_attraction point_of_interest establishment
osm:node/7 43.7306000 7.4206000 "Gare du Test" "" transit_station train_station point_of_interest establishment
osm:node/9 43.7308000 7.4208000 "Nobody's Office" "At the end of the road" point_of_interest establishment
osm:node/12 -16.8000000 179.9900000 "West of the line" "" lodging point_of_interest establishment
osm:node/13 -16.8000000 -179.9900000 "East of the line" "" doctor health point_of_interest establishment`

func TestAnExtractIsTheSameInEveryForm(t *testing.T) {
	text, nodes, ways := small(t)
	backwards := func(nodes []osmtest.Node) []osmtest.Node {
		nodes = slices.Clone(nodes)
		slices.Reverse(nodes)
		return nodes
	}
	for _, test := range []struct {
		name string
		as   format
		text []byte
		lost int
	}{
		{"xml", xml, text, 1},
		{"dense", pbf, osmtest.PBF(osmtest.Form{}, nodes, ways), 1},
		{"plain", pbf, osmtest.PBF(osmtest.Form{Plain: true}, nodes, ways), 1},
		{"not compressed", pbf, osmtest.PBF(osmtest.Form{Raw: true}, nodes, ways), 1},
		{"an element a block", pbf, osmtest.PBF(osmtest.Form{Block: 1}, nodes, ways), 1},
		{"another grid", pbf, osmtest.PBF(osmtest.Form{Granularity: 20, LatOffset: -16_800_000_020, LonOffset: 179_000_000_000}, nodes, ways), 1},
		{"nodes in disorder", pbf, osmtest.PBF(osmtest.Form{Block: 7}, backwards(nodes), ways), 1},
		{"everything twice", pbf, osmtest.PBF(osmtest.Form{Block: 3}, append(slices.Clone(nodes), nodes...), append(slices.Clone(ways), ways...)), 2},
		{"points in the ways", pbf, osmtest.PBF(osmtest.Form{Located: true}, nodes, whole(ways)), 0},
		{"lists not packed", pbf, osmtest.PBF(osmtest.Form{Unpacked: true}, nodes, ways), 1},
		{"plain and not packed", pbf, osmtest.PBF(osmtest.Form{Unpacked: true, Plain: true}, nodes, ways), 1},
		{"lists in two parts", pbf, osmtest.PBF(osmtest.Form{Parts: true}, nodes, ways), 1},
		{"points in ways, in two parts", pbf, osmtest.PBF(osmtest.Form{Parts: true, Located: true}, nodes, whole(ways)), 0},
		{"sizes not announced", pbf, osmtest.PBF(osmtest.Form{Unsized: true}, nodes, ways), 1},
		{"with a block that nobody knows", pbf, append(osmtest.PBF(osmtest.Form{}, nodes, ways), osmtest.Block("Extra", []byte("!"))...), 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, err := loadBytes(t.Context(), test.text, test.as)
			if err != nil {
				t.Fatal(err)
			}
			if got := x.dump(); got != smallPlaces || x.lost != test.lost {
				t.Errorf("%d ways lost, want %d; got\n%s\nwant\n%s", x.lost, test.lost, got, smallPlaces)
			}
		})
	}
}

// whole removes references to nodes that are not in the file and so have no point.
func whole(ways []osmtest.Way) (all []osmtest.Way) {
	for _, w := range ways {
		w.Nodes = slices.DeleteFunc(slices.Clone(w.Nodes), func(n int64) bool { return n > 900 })
		if len(w.Nodes) > 0 {
			all = append(all, w)
		}
	}
	return all
}

func TestBrokenExtractsAreErrors(t *testing.T) {
	text, nodes, ways := small(t)
	good := osmtest.PBF(osmtest.Form{}, nodes, ways)
	header := osmtest.PBF(osmtest.Form{}, nil, nil)
	with := func(kind string, blob []byte) []byte {
		return append(slices.Clone(header), osmtest.Block(kind, blob)...)
	}
	field := func(n protowire.Number, value string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, n, protowire.BytesType), value)
	}
	raw := func(block []byte) []byte { return field(1, string(block)) }
	group := func(message []byte) []byte { return with("OSMData", raw(field(2, string(message)))) }
	flipped := slices.Clone(good)
	flipped[len(flipped)-40] ^= 0x10
	for _, test := range []struct {
		name string
		as   format
		text []byte
		want string
	}{
		{"empty", pbf, nil, "the file ends in the middle of a block"},
		{"empty", xml, nil, "no nodes and no ways"},
		{"no more than a header", pbf, header, "no nodes and no ways"},
		{"XML by the wrong name", pbf, text, "not an .osm.pbf file: a header of"},
		{"PBF by the wrong name", xml, good, "not XML: name it .osm.pbf"},
		{"a web page", xml, []byte("<html><body>404</body></html>"), "no nodes and no ways"},
		{"cut XML", xml, text[:len(text)/2], "XML syntax error"},
		{"without a header", pbf, good[len(header):], `it begins with a block "OSMData"`},
		{"a bit flipped", pbf, flipped, "block at byte"},
		{"history", pbf, osmtest.Block("OSMHeader", raw(field(4, "HistoricalInformation"))), `needs a reader with "HistoricalInformation"`},
		{"zstd", pbf, with("OSMData", field(7, "data")), "compressed with zstd, want zlib"},
		{"nothing in a blob", pbf, with("OSMData", nil), "broken message"},
		{"longer than announced", pbf, with("OSMData", osmtest.Zlib(make([]byte, 1<<20), 100)), "not the announced 100 bytes"},
		{"shorter than announced", pbf, with("OSMData", osmtest.Zlib(make([]byte, 100), 1<<20)), "not the announced 1048576 bytes"},
		{"too long", pbf, with("OSMData", osmtest.Zlib(nil, maxBlob+1)), "more than a block may have"},
		{"a string that is not there", pbf, group(field(3, string(slices.Concat(field(2, "\x09"), field(3, "\x09"))))), "string number out of range"},
		{"fewer values than keys", pbf, group(field(3, string(field(2, "\x00")))), "different lengths"},
		{"fewer latitudes than ids", pbf, group(field(2, string(slices.Concat(field(1, "\x02\x02"), field(8, "\x02"), field(9, "\x02\x02"))))), "different lengths"},
		{"a number without an end", pbf, group(field(2, string(field(1, "\xff\xff")))), "broken message"},
		{"too long, and not announced", pbf, with("OSMData", osmtest.ZlibOnly(make([]byte, maxBlob+1))), "more than the 33554432 bytes"},
		{"millions of empty strings", pbf, with("OSMData", raw(field(1, strings.Repeat("\x0a\x00", maxList+1)))), "more than the 1048576"},
		{"millions of nodes", pbf, group(field(2, string(slices.Concat(field(1, strings.Repeat("\x02", maxList+1)), field(8, strings.Repeat("\x00", maxList+1)), field(9, strings.Repeat("\x00", maxList+1)))))), "more than the 1048576"},
		{"compressed with gzip", xml, []byte("\x1f\x8b\x08rest"), "compressed with gzip: unpack it first"},
		{"compressed with bzip2", pbf, []byte("BZh91AY"), "compressed with bzip2: unpack it first"},
		{"what Overpass did not finish", xml, []byte(`<osm><node id="1" lat="1" lon="1"/><remark> runtime error: Query timed out </remark></osm>`), "runtime error: Query timed out"},
		{"a character set that nobody knows", xml, []byte(`<?xml version="1.0" encoding="EBCDIC-XX"?><osm/>`), `unknown character set "EBCDIC-XX"`},
		{"another name", unknown, good, "neither .osm.pbf nor .osm"},
	} {
		t.Run(test.name+" "+string(test.as), func(t *testing.T) {
			x, err := loadBytes(t.Context(), test.text, test.as)
			if err == nil || !strings.Contains(err.Error(), test.want) || x != nil {
				t.Errorf("%v, want %q", err, test.want)
			}
		})
	}
}

// TestCutExtractsAreErrors: except between two blocks, where the format cannot tell.
func TestCutExtractsAreErrors(t *testing.T) {
	_, nodes, ways := small(t)
	header := len(osmtest.PBF(osmtest.Form{}, nil, nil))
	withNodes := len(osmtest.PBF(osmtest.Form{}, nodes, nil))
	good := osmtest.PBF(osmtest.Form{}, nodes, ways)
	for n := range good {
		if _, err := loadBytes(t.Context(), good[:n], pbf); err == nil && n != withNodes {
			t.Errorf("cut after %d of %d bytes (header %d): no error", n, len(good), header)
		} else if n != header && n != withNodes && !errors.Is(err, errTruncated) {
			t.Errorf("cut after %d of %d bytes: %v", n, len(good), err)
		}
	}
}

func TestALoadEndsWithItsContext(t *testing.T) {
	text, nodes, ways := small(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for as, text := range map[format][]byte{xml: text, pbf: osmtest.PBF(osmtest.Form{Block: 1}, nodes, ways)} {
		if _, err := loadBytes(ctx, text, as); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", as, err)
		}
	}
}

// TestPanicsAreErrors: a library that panics on broken data must not end an edge.
func TestPanicsAreErrors(t *testing.T) {
	err := guard(func() error { panic("index out of range") })
	if err == nil || !strings.Contains(err.Error(), "index out of range") {
		t.Error(err)
	}
}

func TestALoadSaysHowFarItIs(t *testing.T) {
	var log bytes.Buffer
	p := progress{ctx: t.Context(), r: strings.NewReader(strings.Repeat("x", 100)), size: 100, pass: "1 of 2",
		log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 2 { // the second read is too early to log
		if _, err := io.CopyN(io.Discard, &p, 25); err != nil {
			t.Fatal(err)
		}
	}
	p.next = time.Now()
	if _, err := io.CopyN(io.Discard, &p, 25); err != nil {
		t.Fatal(err)
	}
	lines := regexp.MustCompile(`percent=\d+`).FindAllString(log.String(), -1)
	if !slices.Equal(lines, []string{"percent=25", "percent=75"}) {
		t.Errorf("%q", log.String())
	}
}

func TestCentre(t *testing.T) {
	for _, test := range []struct {
		name string
		all  []point
		want point
	}{
		{"none", nil, nowhere},
		{"nowhere", []point{nowhere, nowhere}, nowhere},
		{"one", []point{{5, 7}, nowhere}, point{5, 7}},
		{"the box and not the mean", []point{{0, 0}, {0, 0}, {10, 20}}, point{5, 10}},
		{"across the antimeridian from the west", []point{{0, 1799000000}, {0, -1797000000}}, point{0, -1799000000}},
		{"across the antimeridian from the east", []point{{0, -1797000000}, {0, 1799000000}}, point{0, -1799000000}},
		{"on the antimeridian", []point{{0, 1799000000}, {0, -1799000000}}, point{0, 1800000000}},
		{"at the end of the numbers", []point{{900000000, 1800000000}, {900000000, 1800000000}}, point{900000000, 1800000000}},
	} {
		if got := centre(test.all); got != test.want {
			t.Errorf("%s: %v, want %v", test.name, got, test.want)
		}
	}
}

func FuzzPBF(f *testing.F) {
	_, nodes, ways := small(f)
	header := osmtest.PBF(osmtest.Form{Raw: true}, nil, nil)
	for _, form := range []osmtest.Form{{Raw: true}, {Raw: true, Plain: true}, {Raw: true, Located: true}, {Raw: true, Block: 4}, {}} {
		f.Add(osmtest.PBF(form, nodes, ways))
		f.Add(osmtest.PBF(form, nodes, ways)[len(header):])
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		check(t, text, pbf)
		// This gets past the checks that stop most changed inputs: the same bytes as the
		// content of a block.
		d := decoder{visitor: visitor{located: func([]int64, []point) {}}}
		c := &collector{}
		d.visitor = c.first()
		_ = d.block(text)
		c.gather()
		d.visitor = c.second()
		_ = d.block(text)
		c.settle()
		if x, err := newIndex(c.places, c.text.String(), c.kinds); err == nil {
			x.check(t)
		}
	})
}

func FuzzXML(f *testing.F) {
	text, _, _ := small(f)
	f.Add(text)
	f.Add([]byte(`<osm><node id="x" lat="NaN" lon="1e999"/><way id="-1"><nd/></way></osm>`))
	f.Fuzz(func(t *testing.T, text []byte) { check(t, text, xml) })
}

func check(t *testing.T, text []byte, as format) {
	x, err := loadBytes(t.Context(), text, as)
	if err == nil {
		x.check(t)
	} else if strings.HasPrefix(err.Error(), "panic") {
		t.Error(err)
	}
}

// check checks what holds for every index.
func (x *index) check(t *testing.T) {
	seen := make(map[int64]bool)
	for _, p := range x.places {
		at := x.answer(queryAt(p.at, 1))
		if x.name(&p) == "" || len(x.kinds[p.kind]) < 2 || len(at) != 1 || seen[p.id] {
			t.Errorf("%+v: %q, found %v", p, x.name(&p), at)
		}
		seen[p.id] = true
	}
}

// BenchmarkLoad loads a small model of a country: every fortieth node is a place, and every
// tenth way.
func BenchmarkLoad(b *testing.B) {
	random := rand.New(rand.NewPCG(1, 2))
	nodes := make([]osmtest.Node, 1_000_000)
	for i := range nodes {
		nodes[i] = osmtest.Node{ID: int64(i + 1), Lat: 47 + float64(i)*8e-6 + 1e-3*random.Float64(), Lon: 6 + 9*random.Float64()}
		if i%40 == 0 {
			nodes[i].Tags = []string{"name", fmt.Sprint("Place number ", i), "shop", "bakery", "addr:street", "Hauptstrasse"}
		}
	}
	ways := make([]osmtest.Way, 100_000)
	for i := range ways {
		ways[i] = osmtest.Way{ID: int64(i + 1), Tags: []string{"building", "yes"}}
		for range 8 {
			ways[i].Nodes = append(ways[i].Nodes, 1+random.Int64N(int64(len(nodes))))
		}
		if i%10 == 0 {
			ways[i].Tags = []string{"name", fmt.Sprint("House number ", i), "amenity", "school"}
		}
	}
	text := osmtest.PBF(osmtest.Form{}, nodes, ways)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		x, err := loadBytes(b.Context(), text, pbf)
		if err != nil || len(x.places) != 35_000 {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(nodes)*b.N)/b.Elapsed().Seconds(), "nodes/s")
}

// Some kilobytes of compressed file can expand to very much data. The memory for a load is
// bounded all the same.
func TestASmallFileTakesLittleMemory(t *testing.T) {
	const block = 32<<20 - 1<<10
	field := func(n protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), value)
	}
	number := func(n protowire.Number, value uint64) []byte {
		return protowire.AppendVarint(protowire.AppendTag(nil, n, protowire.VarintType), value)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	cafe := field(1, join(field(1, nil), field(1, []byte("name")), field(1, []byte("n")), field(1, []byte("amenity")), field(1, []byte("cafe"))))
	keys, values := []byte{1, 3}, []byte{2, 4}
	way := func(refs int) []byte {
		return field(3, join(number(1, 1), field(2, keys), field(3, values), field(8, bytes.Repeat([]byte{2}, refs))))
	}
	nodes := func(n int, tags []byte) []byte {
		zeros := make([]byte, n)
		return field(2, join(field(1, bytes.Repeat([]byte{2}, n)), field(8, zeros), field(9, zeros), field(10, bytes.Repeat(tags, n))))
	}
	for _, test := range []struct {
		name  string
		block []byte
		want  error // nil: any error or none
	}{
		{"empty strings", field(1, bytes.Repeat(field(1, nil), block/2)), errTooMany},
		{"nodes without tags", field(2, nodes(block/3, nil)), errTooMany},
		{"places", join(cafe, field(2, bytes.Repeat(nodes(8000, []byte{1, 2, 3, 4, 0}), block/4/64100))), errKept},
		{"a long way", join(cafe, field(2, way(block/2))), errTooMany},
		{"long ways", join(cafe, field(2, bytes.Repeat(way(1_000_000), block/4/1_000_100))), errKept},
		{"short ways", join(cafe, field(2, bytes.Repeat(way(2), block/4/20))), errKept},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := osmtest.PBF(osmtest.Form{}, nil, nil)
			one := osmtest.Block("OSMData", osmtest.Zlib(test.block, len(test.block)))
			for range 3 {
				file = append(file, one...)
			}
			if len(file) > 400<<10 {
				t.Fatalf("the file has %d bytes", len(file))
			}
			test.block, one = nil, nil
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			_, err := loadBytes(t.Context(), file, pbf)
			runtime.ReadMemStats(&after)
			if most := uint64(200 << 20); after.TotalAlloc-before.TotalAlloc > most {
				t.Errorf("a file of %d bytes took %d", len(file), after.TotalAlloc-before.TotalAlloc)
			} else {
				t.Logf("a file of %d bytes took %d MiB", len(file), (after.TotalAlloc-before.TotalAlloc)>>20)
			}
			if !errors.Is(err, test.want) {
				t.Errorf("error %v, want %v", err, test.want)
			}
		})
	}
}
