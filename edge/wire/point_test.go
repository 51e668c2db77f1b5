package wire

import (
	"math/big"
	"strings"
	"testing"
)

func TestParsePoint(t *testing.T) { // L2
	for _, test := range []struct {
		name, text string
		want       Point
	}{
		{"L2 six decimals", "+34.068930-118.445127", Point{340689300, -1184451270}},
		{"L2 no decimals", "-4+8/", Point{-40000000, 80000000}},
		{"L2 seven decimals", "+0.0000001-0.0000001", Point{1, -1}},
		{"L2 half goes away from zero", "+0.00000005-0.00000005", Point{1, -1}},
		{"L2 less than half goes to zero", "+0.0000000499999999999999999-0.00000004", Point{0, 0}},
		{"L2 more than half by a late digit", "+0.000000050000000000000000001-0.1234567500", Point{1, -1234568}},
		{"L2 carries into the degrees", "+33.99999995-117.999999999999999999", Point{340000000, -1180000000}},
		{"L2 does not carry", "+33.99999994-117.9999999499999", Point{339999999, -1179999999}},
		{"L2 the ends", "-90-180", Point{-900000000, -1800000000}},
		{"L2 the other ends", "+90.0+180.00000000000", Point{900000000, 1800000000}},
		{"L2 nearly the ends", "+89.99999999999999999999+179.9999999999999999999", Point{900000000, 1800000000}},
		{"L2 zero has no sign", "-0.0-000.00000001", Point{0, 0}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got, err := ParsePoint([]byte(test.text)); err != nil || got != test.want {
				t.Errorf("ParsePoint(%q) = %v, %v, want %v", test.text, got, err, test.want)
			}
		})
	}
	for _, bad := range []string{"", "+1", "+90.00000001+0", "+1+180.00000000000000000001", "+3404.1-11826.7",
		"+", "-", "+.", "+1.", "+1+1.", "x", "+1x", strings.Repeat("9", 80), "+1." + strings.Repeat("9", 80)} {
		_, err := ParsePoint([]byte(bad))
		refused(t, bad, err, "C7")
	}
}

// nearest is the simple way to a Point's coordinate: by fractions.
func nearest(t *testing.T, number string) int32 {
	t.Helper()
	x, ok := new(big.Rat).SetString(number)
	if !ok {
		t.Fatalf("%q is no number", number)
	}
	sign := int32(x.Sign())
	x.Abs(x).Mul(x, big.NewRat(10_000_000, 1)).Add(x, big.NewRat(1, 2))
	return sign * int32(new(big.Int).Quo(x.Num(), x.Denom()).Int64())
}

func FuzzParsePoint(f *testing.F) {
	for _, seed := range []string{"+34.068930-118.445127", "-0.00000005+179.99999995/", "+1+2", "+90-180.0", "+1.12345678-1.123456749999"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := ParsePoint(text)
		if (err == nil) != (CheckLocation(text) == nil) {
			t.Fatalf("ParsePoint(%q) = %v, %v, but as a location it is %v", text, p, err, CheckLocation(text))
		}
		if err != nil {
			return
		}
		_, split, _ := angle(text, 0, 2, 90)
		want := Point{nearest(t, string(text[:split])), nearest(t, strings.TrimSuffix(string(text[split:]), "/"))}
		if p != want {
			t.Errorf("ParsePoint(%q) = %v, want %v", text, p, want)
		}
	})
}
