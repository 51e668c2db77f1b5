package wire

import (
	"math/big"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestParseLocation(t *testing.T) {
	for _, test := range []struct {
		name, text string
		lat, lon   float64
	}{
		{"C7 decimal degrees", "+34.068930-118.445127", 34.068930, -118.445127},
		{"C7 closing stroke", "+34.068930-118.445127/", 34.068930, -118.445127},
		{"C7 no decimals", "+34-118", 34, -118},
		{"C7 no decimals, closing stroke", "+34-118/", 34, -118},
		{"C7 one digit", "+4-8.5", 4, -8.5},
		{"C7 two digits of longitude", "-04.5+08.25", -4.5, 8.25},
		{"C7 leading zeros", "+04.0-008.0", 4, -8},
		{"C7 nothing", "+0-0", 0, 0},
		{"C7 north pole", "+90+180", 90, 180},
		{"C7 south pole", "-90.0-180.000", -90, -180},
		{"C7 nearly a pole", "+89.99999999999999999999+179.9999999999999999999", 90, 180},
		{"C7 many decimals", "+1.12345678901234567890-1.12345678901234567890", 1.1234567890123457, -1.1234567890123457},
		{"C7 64 bytes", "+1." + strings.Repeat("0", 30) + "+2." + strings.Repeat("0", 28), 1, 2},
		{"C7 64 bytes, all of one number", "+1+2." + strings.Repeat("3", 59), 1, 7.0 / 3},
	} {
		t.Run(test.name, func(t *testing.T) {
			lat, lon, err := ParseLocation([]byte(test.text))
			if err != nil || lat != test.lat || lon != test.lon {
				t.Errorf("ParseLocation(%q) = %v, %v, %v, want %v, %v", test.text, lat, lon, err, test.lat, test.lon)
			}
			if err := CheckLocation([]byte(test.text)); err != nil {
				t.Errorf("CheckLocation(%q) = %v", test.text, err)
			}
		})
	}
	for _, test := range []struct{ name, text string }{
		{"C7 empty", ""},
		{"C7 latitude alone", "+34.068930"},
		{"C7 latitude and stroke", "+34.068930/"},
		{"C7 no sign of latitude", "34.068930-118.445127"},
		{"C7 no sign of longitude", "+34.068930/118.445127"},
		{"C7 sign alone", "+-118.445127"},
		{"C7 sign of longitude alone", "+34.068930-"},
		{"C7 no decimals after the point", "+34.-118.445127"},
		{"C7 no decimals after the point of longitude", "+34.068930-118."},
		{"C7 no integer digits", "+.5-118.445127"},
		{"C7 degrees and minutes", "+3404.1-11826.7"},
		{"C7 degrees, minutes, seconds", "+340408-1182642"},
		{"C7 three digits of latitude", "+034.0-118.0"},
		{"C7 four digits of longitude", "+34.0-0118.0"},
		{"C7 latitude beyond 90", "+90.0000001-118.445127"},
		{"C7 latitude beyond 90 by digits alone", "+90.00000000000000000000000001-118"},
		{"C7 latitude of 91", "-91+0"},
		{"C7 longitude beyond 180", "+34.0-180.0000001"},
		{"C7 longitude beyond 180 by digits alone", "+34.0+180.00000000000000000000000001"},
		{"C7 longitude of 181", "+0+181"},
		{"C7 decimals that wrap to zero in 64 bits", "+90.18446744073709551616+0"},
		{"C7 altitude", "+34.068930-118.445127+12.5/"},
		{"C7 reference system", "+34.068930-118.445127CRSWGS_84/"},
		{"C7 two strokes", "+34.068930-118.445127//"},
		{"C7 exponent", "+3.4e1-118.445127"},
		{"C7 comma", "+34,068930-118,445127"},
		{"C7 nan", "+nan-nan"},
		{"C7 two signs", "++34.0-118.0"},
		{"C7 white space", "+34.0 -118.0"},
		{"C7 white space after", "+34.0-118.0 "},
		{"C7 no digits of ours", "+３４-１１８"},
		{"C7 65 bytes", "+1." + strings.Repeat("0", 30) + "+2." + strings.Repeat("0", 29)},
		{"C7 65 bytes with the stroke", "+1." + strings.Repeat("0", 30) + "+2." + strings.Repeat("0", 28) + "/"},
	} {
		t.Run(test.name, func(t *testing.T) {
			lat, lon, err := ParseLocation([]byte(test.text))
			refused(t, test.text, err, "C7")
			if lat != 0 || lon != 0 {
				t.Errorf("refused, yet at %v, %v", lat, lon)
			}
			refused(t, test.text, CheckLocation([]byte(test.text)), "C7")
		})
	}
}

var locationForm = regexp.MustCompile(`^([+-][0-9]{1,2}(?:\.[0-9]+)?)([+-][0-9]{1,3}(?:\.[0-9]+)?)/?$`)

// within compares with exact fractions.
func within(number string, limit int64) bool {
	value, ok := new(big.Rat).SetString(number)
	return ok && value.Abs(value).Cmp(big.NewRat(limit, 1)) <= 0
}

func FuzzParseLocation(f *testing.F) {
	for _, seed := range []string{"+34.068930-118.445127", "-90.0+180.000/", "+90.0000000001-1", "+1-180.1", "+3404.1-11826.7", "+1.+1", "+1+1//"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		lat, lon, err := ParseLocation(text)
		if check := CheckLocation(text); check != err {
			t.Fatalf("ParseLocation(%q) gave %v, CheckLocation %v", text, err, check)
		}
		parts := locationForm.FindStringSubmatch(string(text))
		good := parts != nil && len(text) <= 64 && within(parts[1], 90) && within(parts[2], 180)
		if (err == nil) != good {
			t.Fatalf("ParseLocation(%q) = %v, %v, %v", text, lat, lon, err)
		}
		if !good {
			return
		}
		wantLat, _ := strconv.ParseFloat(parts[1], 64)
		wantLon, _ := strconv.ParseFloat(parts[2], 64)
		if lat != wantLat || lon != wantLon {
			t.Errorf("ParseLocation(%q) = %v, %v, want %v, %v", text, lat, lon, wantLat, wantLon)
		}
	})
}
