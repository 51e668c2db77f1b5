package wire

import (
	"regexp"
	"strings"
	"testing"
)

func TestParseAT(t *testing.T) {
	for _, test := range []struct {
		name, line     string
		want           AT
		stamp, receipt int64
	}{
		{"C9 example", benchAT, AT{Edge: []byte("Clark"), Skew: []byte("+0.263873386"), Client: []byte("kiwi.cs.ucla.edu"),
			Location: []byte("+34.068930-118.445127"), Time: []byte("1621464827.959498503")}, 1621464827_959498503, 1621464828_223371889},
		{"C9 any bytes", "AT E -0.500000000 \x00\xff +1-2/ 3.00", AT{Edge: []byte("E"), Skew: []byte("-0.500000000"), Client: []byte("\x00\xff"),
			Location: []byte("+1-2/"), Time: []byte("3.00")}, 3_000000000, 2_500000000},
		{"C10 receipt of zero", "AT E -3.000000000 k +1-2 3", AT{Edge: []byte("E"), Skew: []byte("-3.000000000"), Client: []byte("k"),
			Location: []byte("+1-2"), Time: []byte("3")}, 3_000000000, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := ParseAT([]byte(test.line))
			if err != nil {
				t.Fatalf("ParseAT(%q): %v", test.line, err)
			}
			if string(got.Edge) != string(test.want.Edge) || string(got.Skew) != string(test.want.Skew) || string(got.Client) != string(test.want.Client) ||
				string(got.Location) != string(test.want.Location) || string(got.Time) != string(test.want.Time) {
				t.Errorf("ParseAT(%q) = %+v", test.line, got)
			}
			if got.Stamp != test.stamp || got.Receipt != test.receipt {
				t.Errorf("ParseAT(%q): stamp %d, receipt %d, want %d, %d", test.line, got.Stamp, got.Receipt, test.stamp, test.receipt)
			}
		})
	}
	for _, test := range []struct{ name, line, rule string }{
		{"C9 empty", "", "C9"},
		{"C9 no AT", "IAMAT k +1-2 3", "C9"},
		{"C9 small letters", "at E +0.000000000 k +1-2 3", "C9"},
		{"C9 a space before", " AT E +0.000000000 k +1-2 3", "C9"},
		{"C9 verb alone", "AT", "C9"},
		{"C9 another white space", "AT\tE +0.000000000 k +1-2 3", "C9"},
		{"C9 CR in the client", "AT E +0.000000000 k\r +1-2 3", "C9"},
		{"C9 tab after the client", "AT E +0.000000000 k\t+1-2 3", "C9"},
		{"C9 no location", "AT E +0.000000000 k", "C9"},
		{"H9 no edge", "AT ", "H9"},
		{"H9 two spaces", "AT  E +0.000000000 k +1-2 3", "H9"},
		{"H9 edge name grammar", "AT E-1 +0.000000000 k +1-2 3", "H9"},
		{"H9 edge of 33 bytes", "AT " + strings.Repeat("E", 33) + " +0.000000000 k +1-2 3", "H9"},
		{"H9 edge alone", "AT E", "H9"},
		{"C10 no skew", "AT E ", "C10"},
		{"C10 two spaces", "AT E  +0.000000000 k +1-2 3", "C10"},
		{"C10 skew without sign", "AT E 0.000000000 k +1-2 3", "C10"},
		{"C10 minus zero", "AT E -0.000000000 k +1-2 3", "C10"},
		{"C10 leading zero", "AT E +00.000000000 k +1-2 3", "C10"},
		{"C10 ten decimals", "AT E +0.0000000000 k +1-2 3", "C10"},
		{"C10 receipt before 1970", "AT E -3.000000001 k +1-2 3", "C10"},
		{"C10 receipt beyond 64 bits", "AT E +9223372036.854775807 k +1-2 0.000000001", "C10"},
		{"C10 skew beyond 64 bits", "AT E +9223372036.854775808 k +1-2 0", "C10"},
		{"C6 no client", "AT E +0.000000000 ", "C6"},
		{"C6 two spaces", "AT E +0.000000000  k +1-2 3", "C6"},
		{"C6 client of 1025 bytes", "AT E +0.000000000 " + strings.Repeat("k", 1025) + " +1-2 3", "C6"},
		{"C7 no location", "AT E +0.000000000 k ", "C7"},
		{"C7 two spaces", "AT E +0.000000000 k  +1-2 3", "C7"},
		{"C7 latitude beyond 90", "AT E +0.000000000 k +91-2 3", "C7"},
		{"C7 no time", "AT E +0.000000000 k +1-2", "C7"},
		{"C8 empty time", "AT E +0.000000000 k +1-2 ", "C8"},
		{"C8 two spaces", "AT E +0.000000000 k +1-2  3", "C8"},
		{"C8 a space after", "AT E +0.000000000 k +1-2 3 ", "C8"},
		{"C8 CR", "AT E +0.000000000 k +1-2 3\r", "C8"},
		{"C8 LF", "AT E +0.000000000 k +1-2 3\n", "C8"},
		{"C8 a sixth field", "AT E +0.000000000 k +1-2 3 4", "C8"},
		{"C8 past the last time", "AT E +0.000000000 k +1-2 9200000001", "C8"},
	} {
		t.Run(test.name, func(t *testing.T) {
			m, err := ParseAT([]byte(test.line))
			refused(t, test.line, err, test.rule)
			if m.Edge != nil || m.Client != nil || m.Receipt != 0 {
				t.Errorf("refused, yet %+v", m)
			}
		})
	}
}

func TestTheLongestLineIsWithinMaxAT(t *testing.T) { // H5
	m := IAMAT{Client: make([]byte, 1024), Location: []byte("+1-2." + strings.Repeat("0", 59)), Time: []byte("9200000000." + strings.Repeat("0", 53))}
	var err error
	if m.Stamp, err = parseTime(m.Time); err != nil {
		t.Fatal(err)
	}
	line := m.AppendAT(nil, strings.Repeat("E", 32), 0)
	if _, err := ParseAT(line[:len(line)-1]); err != nil || len(line) > MaxAT {
		t.Errorf("%d bytes: %v", len(line), err)
	}
}

var atForm = regexp.MustCompile(`^AT ([A-Za-z0-9_]{1,32}) ([^ \t\n\v\f\r]+) ([^ \t\n\v\f\r]+) ([^ \t\n\v\f\r]+) ([^ \t\n\v\f\r]+)$`)

// FuzzParseAT compares ParseAT with the parsers of the single fields, and checks that
// AppendAT writes what ParseAT accepted.
func FuzzParseAT(f *testing.F) {
	for _, seed := range []string{benchAT, "AT E -3.000000000 \x00\xff +1-2/ 3.00", "AT E +9223372036.854775807 k +1-2 1", "AT E +0.000000000 k +1-2 3\r"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		m, err := ParseAT(line)
		good := false
		if parts := atForm.FindSubmatch(line); parts != nil && len(parts[3]) <= 1024 {
			skew, skewErr := parseSkew(parts[2])
			stamp, timeErr := parseTime(parts[5])
			receipt := stamp + skew // overflows to less than zero
			good = skewErr == nil && timeErr == nil && CheckLocation(parts[4]) == nil && receipt >= 0
		}
		if (err == nil) != good {
			t.Fatalf("ParseAT(%q) = %+v, %v", line, m, err)
		}
		if !good {
			return
		}
		back := IAMAT{Client: m.Client, Location: m.Location, Time: m.Time, Stamp: m.Stamp}
		if again := back.AppendAT(nil, string(m.Edge), m.Receipt); string(again) != string(line)+"\n" || len(again) > MaxAT {
			t.Errorf("ParseAT(%q) is written %q", line, again)
		}
	})
}
