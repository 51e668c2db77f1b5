package wire

import (
	"bytes"
	"strconv"
	"strings"
	"testing"
)

func TestParseWHOSATHasTheFieldsOfWHATSAT(t *testing.T) { // L1
	for _, args := range []string{" kiwi 9.5 20\n", " k 0 0", " k 50 5 x", " k 50.1 1", " k", ""} {
		whosat, err := ParseWHOSAT([]byte(args))
		whatsat, same := ParseWHATSAT([]byte(args))
		if err != same || string(whosat.Client) != string(whatsat.Client) || whosat.Radius != whatsat.Radius || whosat.Max != whatsat.Max {
			t.Errorf("ParseWHOSAT(%q) = %+v, %v, but ParseWHATSAT %+v, %v", args, whosat, err, whatsat, same)
		}
	}
}

func TestParseWATCH(t *testing.T) { // L2
	la, box := Point{340700000, -1184400000}, Point{350000000, -1170000000}
	for _, test := range []struct {
		name, args string
		want       WATCH
	}{
		{"L2 a client", " w kiwi\n", WATCH{Kind: WatchClient, Client: []byte("kiwi")}},
		{"L2 a client whose id is a telephone number", " w +13105550100", WATCH{Kind: WatchClient, Client: []byte("+13105550100")}},
		{"L2 a client whose id looks like a location", " w +34.07-118.44", WATCH{Kind: WatchClient, Client: []byte("+34.07-118.44")}},
		{"L2 a circle", " w +34.07-118.44 5\r\n", WATCH{Kind: WatchCircle, Centre: la, Radius: 5}},
		{"L2 the largest circle", " w +34.07-118.44 1000.000", WATCH{Kind: WatchCircle, Centre: la, Radius: 1000}},
		{"L2 a circle that is a point", " w +34.07-118.44/ 0", WATCH{Kind: WatchCircle, Centre: la}},
		{"L2 a box", "\tw\v+34.07-118.44 +35-117/ ", WATCH{Kind: WatchBox, SW: la, NE: box}},
		{"L2 a box that is a point", " w +35-117 +35-117", WATCH{Kind: WatchBox, SW: box, NE: box}},
		{"L2 a box across the antimeridian", " w +1+170 +2-170", WATCH{Kind: WatchBox, SW: Point{10000000, 1700000000}, NE: Point{20000000, -1700000000}}},
		{"L2 around a client", " w kiwi 50.0", WATCH{Kind: WatchAround, Client: []byte("kiwi"), Radius: 50}},
		{"L2 around a telephone number", " w +13105550100 5", WATCH{Kind: WatchAround, Client: []byte("+13105550100"), Radius: 5}},
		{"L2 around a client with a sign at its end", " w -kiwi 5", WATCH{Kind: WatchAround, Client: []byte("-kiwi"), Radius: 5}},
		{"L2 around a client with a later sign", " w k+i-w+i 5", WATCH{Kind: WatchAround, Client: []byte("k+i-w+i"), Radius: 5}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseWATCH([]byte(test.args))
			if err != nil {
				t.Fatalf("ParseWATCH(%q): %v", test.args, err)
			}
			test.want.Name = []byte("w")
			if !sameWATCH(got, test.want) {
				t.Errorf("ParseWATCH(%q) = %+v, want %+v", test.args, got, test.want)
			}
		})
	}
	long := strings.Repeat("x", 64)
	if got, err := ParseWATCH([]byte(" " + long + " kiwi")); err != nil || string(got.Name) != long {
		t.Errorf("a name of 64 bytes: %+v, %v", got, err)
	}
	for _, test := range []struct{ name, args, rule string }{
		{"L2 no name", " \n", "L2"},
		{"L2 a name of 65 bytes", " x" + long + " kiwi", "L2"},
		{"L2 nothing to watch", " w \r\n", "L2"},
		{"C6 a client of 1025 bytes", " w " + strings.Repeat("x", 1025), "C6"},
		{"C6 around a client of 1025 bytes", " w " + strings.Repeat("x", 1025) + " 1", "C6"},
		{"C7 two signs and no location", " w +1-310-555-0100 5", "C7"},
		{"C7 a circle beyond the pole", " w +90.1+0 5", "C7"},
		{"C7 a box without its second corner", " w +1+1 +2", "C7"},
		{"C7 a box with a wrong first corner", " w +1+181 +2+2", "C7"},
		{"C7 a negative radius", " w +1+1 -5", "C7"},
		{"L2 a box that is upside down", " w +2+1 +1+2", "L2"},
		{"L2 a circle of over 1000 km", " w +1+1 1000.0000000000000000001", "L2"},
		{"C12 around a client by over 50 km", " w kiwi 50.1", "C12"},
		{"C12 around a client, no radius", " w kiwi near", "C12"},
		{"C12 around a client, a location", " w kiwi +1+1", "C12"},
		{"C12 a circle, no radius", " w +1+1 near", "C12"},
		{"C12 a radius of 65 bytes", " w +1+1 " + strings.Repeat("0", 65), "C12"},
		{"C4 a fourth field", " w +1+1 5 x", "C4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseWATCH([]byte(test.args))
			refused(t, test.args, err, test.rule)
			if !sameWATCH(got, WATCH{}) {
				t.Errorf("refused, yet %+v", got)
			}
		})
	}
}

func sameWATCH(a, b WATCH) bool {
	same := bytes.Equal(a.Name, b.Name) && bytes.Equal(a.Client, b.Client)
	a.Name, a.Client, b.Name, b.Client = nil, nil, nil, nil
	return same && a.Kind == b.Kind && a.Centre == b.Centre && a.Radius == b.Radius && a.SW == b.SW && a.NE == b.NE
}

func TestParseUNWATCH(t *testing.T) { // L5
	if name, err := ParseUNWATCH([]byte(" w\r\n")); err != nil || string(name) != "w" {
		t.Errorf("got %q, %v", name, err)
	}
	for _, test := range []struct{ args, rule string }{{"", "L2"}, {" " + strings.Repeat("x", 65), "L2"}, {" w x", "C4"}} {
		name, err := ParseUNWATCH([]byte(test.args))
		if refused(t, test.args, err, test.rule); name != nil {
			t.Errorf("refused, yet %q", name)
		}
	}
}

// FuzzParseWATCH compares with L2 in other words.
func FuzzParseWATCH(f *testing.F) {
	for _, seed := range []string{" w kiwi", " w +34.07-118.44 5\n", " w +1+170 +2-170", " w kiwi 50", " w +1310 5", " w +1-310 5", " w +2+1 +1+2", " w a b c"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		got, err := ParseWATCH(args)
		fields := fieldsOf(args)
		want := WATCH{}
		good := len(fields) >= 2 && len(fields) <= 3 && len(fields[0]) <= 64
		if good {
			want.Name = fields[0]
			what := fields[1:]
			signs := bytes.Count(what[0], []byte("+")) + bytes.Count(what[0], []byte("-"))
			located := strings.IndexByte("+-", what[0][0]) >= 0 && signs >= 2
			isPlace := func(text []byte) bool {
				_, err := ParsePoint(text)
				return locationForm.Match(text) && len(text) <= 64 && err == nil
			}
			isRadius := func(text []byte, most int64) bool {
				return len(text) <= 64 && radiusForm.Match(text) && within(string(text), most)
			}
			switch {
			case len(what) == 1:
				want.Kind, want.Client = WatchClient, what[0]
				good = len(want.Client) <= 1024
			case !located:
				want.Kind, want.Client = WatchAround, what[0]
				want.Radius, _ = strconv.ParseFloat(string(what[1]), 64)
				good = len(want.Client) <= 1024 && isRadius(what[1], 50)
			case isPlace(what[0]) && isRadius(what[1], 1000):
				want.Kind = WatchCircle
				want.Centre, _ = ParsePoint(what[0])
				want.Radius, _ = strconv.ParseFloat(string(what[1]), 64)
			default:
				want.Kind = WatchBox
				want.SW, _ = ParsePoint(what[0])
				want.NE, _ = ParsePoint(what[1])
				good = isPlace(what[0]) && isPlace(what[1]) && want.SW.Lat <= want.NE.Lat
			}
		}
		if (err == nil) != good {
			t.Fatalf("ParseWATCH(%q) = %+v, %v, want %+v", args, got, err, want)
		}
		if good && !sameWATCH(got, want) {
			t.Errorf("ParseWATCH(%q) = %+v, want %+v", args, got, want)
		}
	})
}
