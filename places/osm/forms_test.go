package osm

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/encoding/unicode"

	"herd/places/osm/osmtest"
)

// Forms of XML that programs write, and which of their elements are places.
func TestXMLIsReadAsProgramsWriteIt(t *testing.T) {
	utf16, err := unicode.UTF16(unicode.LittleEndian, unicode.UseBOM).NewEncoder().String(
		`<?xml version="1.0" encoding="UTF-16"?><osm><node id="1" lat="43.7" lon="7.4"><tag k="amenity" v="cafe"/><tag k="name" v="Ñandú ☕"/></node></osm>`)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, text, want string }{
		{"points in ways, as osmium adds them", `<osm>
			<node id="3" version="1" lat="43.703" lon="7.403"><tag k="name" v="Tea"/><tag k="amenity" v="cafe"/></node>
			<way id="9" version="1"><nd ref="1" lat="43.7" lon="7.4"/><nd ref="2" lat="43.702" lon="7.402"/>
			<tag k="name" v="Hall"/><tag k="amenity" v="library"/></way></osm>`,
			"osm:node/3 43.7030000 7.4030000 \"Tea\"\nosm:way/9 43.7010000 7.4010000 \"Hall\""},
		{"Overpass: out geom, with bounds", `<osm generator="Overpass API"><note>x</note><meta osm_base="2025"/>
			<way id="4"><bounds minlat="43.7" minlon="7.4" maxlat="43.701" maxlon="7.401"/>
			<nd ref="5" lat="43.7" lon="7.4"/><nd ref="6"/><nd ref="7" lat="43.701" lon="7.401"/>
			<tag k="amenity" v="restaurant"/><tag k="name" v="Geom"/></way></osm>`, `osm:way/4 43.7005000 7.4005000 "Geom"`},
		{"Overpass: out center; relations are left out", `<osm>
			<way id="4"><center lat="43.701" lon="7.401"/><nd ref="5"/><nd ref="6"/><tag k="amenity" v="restaurant"/><tag k="name" v="Middle"/></way>
			<relation id="5"><center lat="43.702" lon="7.402"/><member type="way" ref="1" role="outer"/><tag k="name" v="Palace"/><tag k="tourism" v="museum"/></relation></osm>`,
			`osm:way/4 43.7010000 7.4010000 "Middle"`},
		{"nodes in members of a relation are none", `<osm><relation id="5"><member type="node" ref="1" lat="1" lon="1"/></relation>
			<node id="1" lat="0.5" lon="0"><tag k="amenity" v="cafe"/><tag k="name" v="On the line"/></node></osm>`, `osm:node/1 0.5000000 0.0000000 "On the line"`},
		{"a node without coordinates is nowhere", `<osm><node id="1"><tag k="amenity" v="cafe"/><tag k="name" v="Nowhere"/></node>
			<node id="2" lat="1"><tag k="amenity" v="cafe"/><tag k="name" v="Nowhere either"/></node></osm>`, ""},
		{"what was deleted is left out", `<osm><node id="1" version="3" visible="false"/><node id="2" version="2" visible="true" lat="1" lon="1"><tag k="amenity" v="cafe"/><tag k="name" v="Is"/></node>
			<node id="-7" action="delete" lat="1" lon="1"><tag k="amenity" v="cafe"/><tag k="name" v="Was"/></node></osm>`, `osm:node/2 1.0000000 1.0000000 "Is"`},
		{"the same version twice", `<osm><node id="1" version="3" lat="1" lon="1"><tag k="amenity" v="cafe"/><tag k="name" v="One"/></node>
			<node id="1" version="3" lat="1" lon="1"><tag k="amenity" v="cafe"/><tag k="name" v="One"/></node></osm>`, `osm:node/1 1.0000000 1.0000000 "One"`},
		{"Latin-1", "<?xml version='1.0' encoding='ISO-8859-1'?><osm><node id='1' lat='1' lon='1'><tag k='amenity' v='cafe'/><tag k='name' v='Caf\xe9'/></node></osm>",
			`osm:node/1 1.0000000 1.0000000 "Café"`},
		{"Windows-1252", "<?xml version=\"1.0\" encoding=\"windows-1252\"?><osm><node id='1' lat='1' lon='1'><tag k='amenity' v='cafe'/><tag k='name' v='\x80uro'/></node></osm>",
			`osm:node/1 1.0000000 1.0000000 "€uro"`},
		{"UTF-16", utf16, `osm:node/1 43.7000000 7.4000000 "Ñandú ☕"`},
		{"UTF-8 with a mark", "\ufeff<?xml version='1.0' encoding='utf-8'?><osm><node id='1' lat='1' lon='1'><tag k='amenity' v='cafe'/><tag k='name' v='Café'/></node></osm>",
			`osm:node/1 1.0000000 1.0000000 "Café"`},
		{"a remark that is no error", `<osm><remark>made by hand</remark><node id='1' lat='1' lon='1'><tag k='amenity' v='cafe'/><tag k='name' v='x'/></node></osm>`, `osm:node/1 1.0000000 1.0000000 "x"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			x, err := loadBytes(t.Context(), []byte(test.text), xml)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range slices.SortedFunc(slices.Values(x.places), func(a, b place) int { return cmp.Compare(a.id, b.id) }) {
				got = append(got, fmt.Sprintf("%s %.7f %.7f %q", p.placeID(), p.at.degreesLat(), p.at.degreesLon(), x.name(&p)))
			}
			if got := strings.Join(got, "\n"); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// A history has several versions of an element, whether its header says so or not.
func TestHistoriesAreRefused(t *testing.T) {
	cafe := []string{"amenity", "cafe", "name", "Café"}
	nodes := []osmtest.Node{
		{ID: 1, Lat: 1, Lon: 1, Tags: cafe, Version: 1}, {ID: 1, Lat: 2, Lon: 2, Tags: cafe, Version: 2}, {ID: 1, Version: 3, Deleted: true},
	}
	apart := []osmtest.Node{nodes[0], {ID: 2, Lat: 1, Lon: 1, Version: 1}, nodes[1]}
	ways := []osmtest.Way{{ID: 1, Nodes: []int64{1}, Tags: cafe, Version: 4}, {ID: 1, Nodes: []int64{1}, Version: 5}}
	for _, test := range []struct {
		name string
		as   format
		text []byte
	}{
		{"XML", xml, []byte(`<osm><node id="1" version="1" lat="1" lon="1"/><node id="1" version="2" visible="false"/></osm>`)},
		{"ways", xml, []byte(`<osm><way id="1" version="1"><nd ref="1"/></way><way id="1" version="2"><nd ref="1"/></way></osm>`)},
		{"dense", pbf, osmtest.PBF(osmtest.Form{}, nodes, nil)},
		{"plain", pbf, osmtest.PBF(osmtest.Form{Plain: true}, nodes, nil)},
		{"ways in PBF", pbf, osmtest.PBF(osmtest.Form{}, nil, ways)},
		{"places that are apart", pbf, osmtest.PBF(osmtest.Form{Block: 1}, apart, nil)},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, err := loadBytes(t.Context(), test.text, test.as); err == nil || !strings.Contains(err.Error(), `needs a reader with "HistoricalInformation"`) {
				t.Errorf("%v", err)
			}
		})
	}
	t.Run("elements that occur once are no history", func(t *testing.T) {
		last := []osmtest.Node{nodes[1], {ID: 2, Version: 9, Deleted: true, Tags: cafe}, {ID: 3, Lat: 3, Lon: 3, Tags: cafe, Version: 9}}
		for _, form := range []osmtest.Form{{}, {Plain: true}} {
			x, err := loadBytes(t.Context(), osmtest.PBF(form, last, nil), pbf)
			if err != nil || len(x.places) != 2 {
				t.Errorf("%+v: %v, %v", form, x, err)
			}
		}
	})
}

func TestNamesOfCompressedFilesSaySo(t *testing.T) {
	for name, want := range map[string]string{
		"x.osm.gz": "compressed with gzip: unpack it first", "x.osm.bz2": "compressed with bzip2: unpack it first", "x.zip": "compressed with zip: unpack it first",
		"x.json": "neither .osm.pbf nor .osm",
	} {
		if err := CheckName(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
}
