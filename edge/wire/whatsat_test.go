package wire

import (
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func TestParseWHATSAT(t *testing.T) {
	for _, test := range []struct {
		name, args, client string
		radius             float64
		max                int
	}{
		{"C12 example", " kiwi.cs.ucla.edu 10 5\n", "kiwi.cs.ucla.edu", 10, 5},
		{"C12 decimals", " k 9.5 20", "k", 9.5, 20},
		{"C12 most", " k 50 20\n", "k", 50, 20},
		{"C12 most with decimals", " k 50.000 20\n", "k", 50, 20},
		{"C12 nearly most", " k 49.99999999999999999999 20\n", "k", 50, 20},
		{"C12 zero radius", " k 0 5\n", "k", 0, 5},
		{"C12 zero places", " k 0.0 0\n", "k", 0, 0},
		{"C12 places of two digits", " k 1 00\n", "k", 1, 0},
		{"C12 places with a zero", " k 1 07\n", "k", 1, 7},
		{"C12 leading zeros of the radius", " k 0000000000000000000000000000050.0 1\n", "k", 50, 1},
		{"C12 64 bytes of radius", " k 0." + strings.Repeat("1", 62) + " 1\n", "k", 1.0 / 9, 1},
		{"C2 any white space", "\t\xff\v1\f\r2 \r\n", "\xff", 1, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			q, err := ParseWHATSAT([]byte(test.args))
			if err != nil {
				t.Fatalf("ParseWHATSAT(%q): %v", test.args, err)
			}
			if string(q.Client) != test.client || q.Radius != test.radius || q.Max != test.max {
				t.Errorf("ParseWHATSAT(%q) = %q, %v, %v", test.args, q.Client, q.Radius, q.Max)
			}
		})
	}
	for _, test := range []struct{ name, args, rule string }{
		{"C6 no client", " \r\n", "C6"},
		{"C6 1025 bytes", " " + strings.Repeat("x", 1025) + " 1 1\n", "C6"},
		{"C12 no radius", " k\n", "C12"},
		{"C12 no places", " k 10\n", "C12"},
		{"C12 negative radius", " k -1 5\n", "C12"},
		{"C12 signed radius", " k +1 5\n", "C12"},
		{"C12 radius over 50", " k 51 5\n", "C12"},
		{"C12 radius a little over 50", " k 50.0001 5\n", "C12"},
		{"C12 radius over 50 by digits alone", " k 50.00000000000000000000000001 5\n", "C12"},
		{"C12 radius that wraps in 64 bits", " k 18446744073709551617 5\n", "C12"},
		{"C12 radius with decimals that wrap in 64 bits", " k 50.18446744073709551616 5\n", "C12"},
		{"C12 no integer digits", " k .5 5\n", "C12"},
		{"C12 no decimals", " k 5. 5\n", "C12"},
		{"C12 two points", " k 5.5.5 5\n", "C12"},
		{"C12 exponent", " k 1e1 5\n", "C12"},
		{"C12 nan", " k nan 5\n", "C12"},
		{"C12 inf", " k inf 5\n", "C12"},
		{"C12 65 bytes of radius", " k 0." + strings.Repeat("1", 63) + " 5\n", "C12"},
		{"C12 21 places", " k 10 21\n", "C12"},
		{"C12 three digits of places", " k 10 005\n", "C12"},
		{"C12 places with a point", " k 10 5.\n", "C12"},
		{"C12 places negative", " k 10 -5\n", "C12"},
		{"C12 places signed", " k 10 +5\n", "C12"},
		{"C4 a fourth field", " k 10 5 x\n", "C4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			q, err := ParseWHATSAT([]byte(test.args))
			refused(t, test.args, err, test.rule)
			if q.Client != nil || q.Radius != 0 || q.Max != 0 {
				t.Errorf("refused, yet %+v", q)
			}
		})
	}
}

var (
	radiusForm = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?$`)
	maxForm    = regexp.MustCompile(`^([01]?[0-9]|20)$`)
)

func FuzzParseWHATSAT(f *testing.F) {
	for _, seed := range []string{" k 10 5\n", " k 50.0 20", " k 50.00000001 20", " k 09.5 00\r\n", " k 1 21", " k 1 2 3"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		q, err := ParseWHATSAT(args)
		fields := fieldsOf(args)
		good := len(fields) == 3 && len(fields[0]) <= 1024 && len(fields[1]) <= 64 &&
			radiusForm.Match(fields[1]) && within(string(fields[1]), 50) && maxForm.Match(fields[2])
		if (err == nil) != good {
			t.Fatalf("ParseWHATSAT(%q) = %+v, %v", args, q, err)
		}
		if !good {
			return
		}
		radius, _ := strconv.ParseFloat(string(fields[1]), 64)
		places, _ := strconv.Atoi(string(fields[2]))
		if string(q.Client) != string(fields[0]) || q.Radius != radius || q.Max != places {
			t.Errorf("ParseWHATSAT(%q) = %+v", args, q)
		}
	})
}
