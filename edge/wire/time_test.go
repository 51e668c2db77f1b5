package wire

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"regexp"
	"strings"
	"testing"
)

// parseTime reads a time and nothing behind it.
func parseTime(text []byte) (ns int64, err error) {
	ns, end, err := scanTime(text, 0)
	if err == nil && end < len(text) {
		return 0, errTimeForm
	}
	return ns, err
}

func TestParseTime(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       int64
	}{
		{"C8 one digit", "0", 0},
		{"C8 ten digits", "1621464827", 1621464827_000000000},
		{"C8 nine decimals", "1621464827.959498503", 1621464827_959498503},
		{"C8 one decimal", "1.5", 1_500000000},
		{"C8 eight decimals", "1.12345678", 1_123456780},
		{"C8 the tenth decimal is ignored", "1.1234567899", 1_123456789},
		{"C8 decimals without end are ignored", "1.000000000" + strings.Repeat("9", 53), 1_000000000},
		{"C8 leading zeros", "0000000001.0", 1_000000000},
		{"C8 what floats cannot hold", "1621464827.000000001", 1621464827_000000001},
		{"C8 one nanosecond", "0.000000001", 1},
		{"C8 the last second", "9199999999.999999999", 9199999999_999999999},
		{"C8 the last time", "9200000000", 9200000000_000000000},
		{"C8 the last time with decimals", "9200000000.00000000000", 9200000000_000000000},
		{"C8 64 bytes", "1." + strings.Repeat("0", 62), 1_000000000},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseTime([]byte(test.text))
			if err != nil || got != test.want {
				t.Errorf("parseTime(%q) = %d, %v, want %d", test.text, got, err, test.want)
			}
		})
	}
	for _, test := range []struct{ name, text string }{
		{"C8 empty", ""},
		{"C8 sign", "+1"},
		{"C8 minus", "-1"},
		{"C8 exponent", "1e9"},
		{"C8 exponent after decimals", "1.5e9"},
		{"C8 nan", "nan"},
		{"C8 inf", "inf"},
		{"C8 hexadecimal", "0x10"},
		{"C8 underscore", "1_000"},
		{"C8 no integer digit", ".5"},
		{"C8 no decimal", "1."},
		{"C8 two points", "1.2.3"},
		{"C8 comma", "1,5"},
		{"C8 eleven digits", "00000000001"},
		{"C8 twenty digits", "18446744073709551617"},
		{"C8 past the last time", "9200000001"},
		{"C8 a tenth past the last time", "9200000000.1"},
		{"C8 a nanosecond past the last time", "9200000000.000000001"},
		{"C8 less than a nanosecond past the last time", "9200000000.0000000001"},
		{"C8 ten nines", "9999999999"},
		{"C8 65 bytes", "1." + strings.Repeat("0", 63)},
		{"C8 space before", " 1"},
		{"C8 space after", "1 "},
		{"C8 Arabic digits", "١"},
		{"C8 NUL", "1\x00"},
		{"C8 byte over the digits", "1:"},
		{"C8 byte under the digits", "1/"},
		{"C8 high bits", "\xb1\xb2"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseTime([]byte(test.text))
			refused(t, test.text, err, "C8")
		})
	}
}

var skews = []struct {
	name, text string
	ns         int64
}{
	{"C10 behind", "+0.263873386", 263873386},
	{"C10 ahead", "-12.000000001", -12_000000001},
	{"C10 none", "+0.000000000", 0},
	{"C10 least", "+0.000000001", 1},
	{"C10 least ahead", "-0.000000001", -1},
	{"C10 ten", "+10.000000000", 10_000000000},
	{"C10 ten digits", "-7578535173.040501497", -7578535173_040501497},
	{"C10 most", "+9223372036.854775807", math.MaxInt64},
	{"C10 most ahead", "-9223372036.854775808", math.MinInt64},
}

func TestAppendSkew(t *testing.T) {
	for _, test := range skews {
		t.Run(test.name, func(t *testing.T) {
			if got := AppendSkew([]byte("x"), test.ns); string(got) != "x"+test.text {
				t.Errorf("AppendSkew(%d) = %q, want %q", test.ns, got, test.text)
			}
		})
	}
}

// TestDigitsAreThoseOfEveryNumber tries all groups of four digits in both halves: the halves
// are independent.
func TestDigitsAreThoseOfEveryNumber(t *testing.T) { // C10
	for four := range uint64(10_000) {
		for _, value := range []uint64{four, four * 10_000, four*10_000 + 9999, 9999_0000 + four} {
			got := binary.LittleEndian.AppendUint64(nil, digits(value))
			if want := fmt.Sprintf("%08d", value); string(got) != want {
				t.Fatalf("digits of %d: %q, want %q", value, got, want)
			}
		}
	}
}

// parseSkew parses all of text as a skew.
func parseSkew(text []byte) (ns int64, err error) {
	ns, end, err := scanSkew(text, 0)
	if err == nil && end < len(text) {
		return 0, errSkewForm
	}
	return ns, err
}

func TestParseSkew(t *testing.T) {
	for _, test := range skews {
		t.Run(test.name, func(t *testing.T) {
			got, err := parseSkew([]byte(test.text))
			if err != nil || got != test.ns {
				t.Errorf("parseSkew(%q) = %d, %v, want %d", test.text, got, err, test.ns)
			}
		})
	}
	for _, test := range []struct{ name, text string }{
		{"C10 empty", ""},
		{"C10 sign alone", "+"},
		{"C10 no sign", "0.263873386"},
		{"C10 no integer digit", "+.263873386"},
		{"C10 no decimals", "+1"},
		{"C10 point alone", "+1."},
		{"C10 eight decimals", "+1.26387338"},
		{"C10 ten decimals", "+1.2638733860"},
		{"C10 leading zero", "+01.000000000"},
		{"C10 two zeros", "+00.000000000"},
		{"C10 minus zero", "-0.000000000"},
		{"C10 eleven digits", "+10000000000.000000000"},
		{"C10 more than 64 bits", "+9223372036.854775808"},
		{"C10 less than 64 bits", "-9223372036.854775809"},
		{"C10 ten nines", "+9999999999.999999999"},
		{"C10 no digit", "+1.26387338x"},
		{"C10 two signs", "+-1.000000000"},
		{"C10 space", "+1.000000000 "},
		{"C10 exponent", "+1e000000000"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := parseSkew([]byte(test.text))
			refused(t, test.text, err, "C10")
		})
	}
}

var timeForm = regexp.MustCompile(`^[0-9]{1,10}(\.[0-9]+)?$`)

// FuzzParseTime compares parseTime with exact fractions.
func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"1621464827.959498503", "9200000000.0", "9200000000.0000000001", "0", "1.", ".1", "1:", "12345678901"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseTime(text)
		good := len(text) <= 64 && timeForm.Match(text)
		value := new(big.Rat)
		if good {
			value.SetString(string(text))
			good = value.Cmp(big.NewRat(9200000000, 1)) <= 0
		}
		if (err == nil) != good {
			t.Fatalf("parseTime(%q) = %d, %v", text, got, err)
		}
		if !good {
			return
		}
		value.Mul(value, big.NewRat(1e9, 1))
		if want := new(big.Int).Quo(value.Num(), value.Denom()); want.Cmp(big.NewInt(got)) != 0 {
			t.Errorf("parseTime(%q) = %d, want %d", text, got, want)
		}
	})
}

var skewForm = regexp.MustCompile(`^[+-](0|[1-9][0-9]{0,9})\.[0-9]{9}$`)

func FuzzParseSkew(f *testing.F) {
	for _, test := range skews {
		f.Add([]byte(test.text))
	}
	f.Add([]byte("-0.000000000"))
	f.Add([]byte("+01.000000000"))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := parseSkew(text)
		good := skewForm.Match(text) && string(text) != "-0.000000000"
		if good {
			value, _ := new(big.Rat).SetString(string(text))
			value.Mul(value, big.NewRat(1e9, 1))
			good = value.Num().IsInt64()
		}
		if (err == nil) != good {
			t.Fatalf("parseSkew(%q) = %d, %v", text, got, err)
		}
		if again := AppendSkew(nil, got); good && string(again) != string(text) {
			t.Errorf("parseSkew(%q) = %d, which is %q", text, got, again)
		}
	})
}

func FuzzAppendSkew(f *testing.F) {
	for _, test := range skews {
		f.Add(test.ns)
	}
	f.Fuzz(func(t *testing.T, ns int64) {
		text := AppendSkew(nil, ns)
		value, ok := new(big.Rat).SetString(string(text))
		if !ok || !skewForm.Match(text) || value.Cmp(big.NewRat(ns, 1e9)) != 0 {
			t.Errorf("AppendSkew(%d) = %q", ns, text)
		}
		if got, err := parseSkew(text); err != nil || got != ns {
			t.Errorf("parseSkew(%q) = %d, %v, want %d", text, got, err, ns)
		}
	})
}
