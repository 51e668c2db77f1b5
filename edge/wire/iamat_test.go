package wire

import (
	"math"
	"strings"
	"testing"
)

func TestParseIAMAT(t *testing.T) {
	long := strings.Repeat("x", 1024)
	for _, test := range []struct {
		name, args, client, location, time string
		stamp                              int64
	}{
		{"C6 example", benchArgs, "kiwi.cs.ucla.edu", "+34.068930-118.445127", "1621464827.959498503", 1621464827_959498503},
		{"C2 any white space", "\t\v kiwi\f+1-2\r\r3\t \r\n", "kiwi", "+1-2", "3", 3_000000000},
		{"C1 no line end", " kiwi +1-2 3", "kiwi", "+1-2", "3", 3_000000000},
		{"C6 any bytes", " \x00\xff\u00a0? +1-2/ 3.0\n", "\x00\xff\u00a0?", "+1-2/", "3.0", 3_000000000},
		{"C6 1024 bytes", " " + long + " +1-2 3\n", long, "+1-2", "3", 3_000000000},
		{"C8 copied with all its digits", " k +1-2 003.00000000019\n", "k", "+1-2", "003.00000000019", 3_000000000},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseIAMAT([]byte(test.args))
			if err != nil {
				t.Fatalf("ParseIAMAT(%q): %v", test.args, err)
			}
			if string(m.Client) != test.client || string(m.Location) != test.location || string(m.Time) != test.time || m.Stamp != test.stamp {
				t.Errorf("ParseIAMAT(%q) = %q, %q, %q, %d", test.args, m.Client, m.Location, m.Time, m.Stamp)
			}
		})
	}
	for _, test := range []struct{ name, args, rule string }{
		{"C6 no fields", "", "C6"},
		{"C6 blank", " \r\n", "C6"},
		{"C6 1025 bytes", " x" + long + " +1-2 3\n", "C6"},
		{"C7 no location", " kiwi\n", "C7"},
		{"C7 no location, blank", " kiwi \t\r\n", "C7"},
		{"C7 latitude beyond 90", " kiwi +90.1-2 3\n", "C7"},
		{"C7 longitude beyond 180", " kiwi +1-180.1 3\n", "C7"},
		{"C7 location runs on", " kiwi +1-2x 3\n", "C7"},
		{"C7 location apart", " kiwi +1 -2 3\n", "C7"},
		{"C7 location of 65 bytes", " kiwi +1-2." + strings.Repeat("0", 60) + " 3\n", "C7"},
		{"C7 location a NUL longer", " kiwi +1-2\x00 3\n", "C7"},
		{"C8 no time", " kiwi +1-2\n", "C8"},
		{"C8 no time, no line end", " kiwi +1-2", "C8"},
		{"C8 no time, blank", " kiwi +1-2 \t\n", "C8"},
		{"C8 time runs on", " kiwi +1-2 3x\n", "C8"},
		{"C8 negative", " kiwi +1-2 -3\n", "C8"},
		{"C8 eleven digits", " kiwi +1-2 12345678901\n", "C8"},
		{"C8 65 bytes", " kiwi +1-2 3." + strings.Repeat("0", 63) + "\n", "C8"},
		{"C4 a fourth field", " kiwi +1-2 3 4\n", "C4"},
		{"C4 a fourth field of one NUL", " kiwi +1-2 3 \x00\n", "C4"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseIAMAT([]byte(test.args))
			refused(t, test.args, err, test.rule)
			if m.Client != nil || m.Location != nil || m.Time != nil || m.Stamp != 0 {
				t.Errorf("refused, yet %+v", m)
			}
		})
	}
}

func TestAppendAT(t *testing.T) {
	for _, test := range []struct {
		name, args, edge string
		received         int64
		want             string
	}{
		{"C9 example", benchArgs, "Clark", 1621464828_223371889, benchAT + "\n"},
		{"C9 copied byte for byte", "\x00\xff  +01-002/  0003.10\r\n", "E_1", 2_000000000, "AT E_1 -1.100000000 \x00\xff +01-002/ 0003.10\n"},
		{"C10 no skew", "k +1-2 3", "E", 3_000000000, "AT E +0.000000000 k +1-2 3\n"},
		{"C10 the farthest future", "k +1-2 9200000000", "E", 0, "AT E -9200000000.000000000 k +1-2 9200000000\n"},
		{"C10 the farthest past", "k +1-2 0", "E", math.MaxInt64, "AT E +9223372036.854775807 k +1-2 0\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseIAMAT([]byte(test.args))
			if err != nil {
				t.Fatal(err)
			}
			if got := m.AppendAT([]byte("x"), test.edge, test.received); string(got) != "x"+test.want {
				t.Errorf("got %q, want %q", got[1:], test.want)
			}
		})
	}
}

// FuzzParseIAMAT compares ParseIAMAT with the parsers of the single fields, and checks that
// ParseAT accepts what AppendAT writes.
func FuzzParseIAMAT(f *testing.F) {
	f.Add([]byte(benchArgs), int64(1621464828_223371889))
	f.Add([]byte("\t\x00 +1-2/\v3.0000000001\r\n"), int64(0))
	f.Add([]byte(" k +1-2 3 4"), int64(1))
	f.Add([]byte(" k +1-2 0"), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, args []byte, received int64) {
		m, err := ParseIAMAT(args)
		fields := fieldsOf(args)
		good := len(fields) == 3 && len(fields[0]) <= 1024
		if good {
			stamp, timeErr := parseTime(fields[2])
			good = timeErr == nil && CheckLocation(fields[1]) == nil && (err != nil || m.Stamp == stamp)
		}
		if (err == nil) != good {
			t.Fatalf("ParseIAMAT(%q) = %+v, %v", args, m, err)
		}
		if !good {
			return
		}
		if string(m.Client) != string(fields[0]) || string(m.Location) != string(fields[1]) || string(m.Time) != string(fields[2]) {
			t.Fatalf("ParseIAMAT(%q) = %q, %q, %q", args, m.Client, m.Location, m.Time)
		}
		received = max(received, -(received + 1)) // not negative
		line := m.AppendAT(nil, "Clark", received)
		if len(line) > MaxAT || line[len(line)-1] != '\n' {
			t.Fatalf("%d bytes: %q", len(line), line)
		}
		at, err := ParseAT(line[:len(line)-1])
		if err != nil {
			t.Fatalf("ParseAT(%q): %v", line, err)
		}
		if string(at.Edge) != "Clark" || at.Receipt != received || at.Stamp != m.Stamp || string(at.Client) != string(m.Client) ||
			string(at.Location) != string(m.Location) || string(at.Time) != string(m.Time) {
			t.Errorf("ParseAT(%q) = %+v", line, at)
		}
	})
}
