package admin

import (
	"testing"
	"time"
)

func TestHowThePageWritesNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0", 0.25: "0.2", 3: "3", 9.94: "9.9", 9.96: "10", 1234.4: "1,234"} {
		if got := rate(n); got != want || rate(&n) != want {
			t.Errorf("rate(%v) is %q, want %q", n, got, want)
		}
	}
	if got := rate((*float64)(nil)); got != "–" {
		t.Errorf("an unknown rate is %q", got)
	}
	for n, want := range map[float64]string{0: "0.0 %", 0.013: "1.3 %", 0.13: "13 %", 1.5: "150 %"} {
		if got := percent(n); got != want {
			t.Errorf("percent(%v) is %q, want %q", n, got, want)
		}
	}
	for n, want := range map[uint64]string{0: "–", 48 << 20: "48 MiB", 3 << 29: "1.5 GiB"} {
		if got := size(n); got != want {
			t.Errorf("size(%v) is %q, want %q", n, got, want)
		}
	}
	for seconds, want := range map[float64]string{
		0: "–", 0.0000004: "0 µs", 0.00042: "420 µs", 0.0009994: "999 µs", 0.0009996: "1 ms", 0.00123: "1.23 ms",
		0.0123: "12.3 ms", 0.9994: "999 ms", 0.9996: "1.0 s", 1.25: "1.2 s", 3600: "3600.0 s",
	} {
		if got := duration(seconds); got != want {
			t.Errorf("duration(%v) is %q, want %q", seconds, got, want)
		}
	}
}

func TestHowThePageWritesTimes(t *testing.T) {
	now := time.Date(2026, 11, 30, 0, 10, 0, 0, time.UTC)
	for before, want := range map[time.Duration][2]string{
		0: {"00:10:00", "0 s"}, 89 * time.Second: {"00:08:31", "89 s"}, 9 * time.Minute: {"00:01:00", "9 min"},
		89 * time.Minute: {"29 Nov 22:41:00", "89 min"}, 3 * time.Hour: {"29 Nov 21:10:00", "3.0 h"}, 72 * time.Hour: {"27 Nov 00:10:00", "3 days"},
		-time.Second: {"00:10:01", "0 s"}, // a clock that is ahead
	} {
		if got := [2]string{clock(now.Add(-before), now), age(now.Add(-before), now)}; got != want {
			t.Errorf("%v before: %q, want %q", before, got, want)
		}
	}
	if clock(time.Time{}, now) != "–" || age(time.Time{}, now) != "" {
		t.Error("an unknown time is shown as one")
	}
}

func TestTextsAreShownAsWhatTheyAre(t *testing.T) {
	for text, want := range map[string]string{
		"kiwi <b>": "kiwi <b>", "": "", "é中😀": "é中😀", "a\u202eb\u2066": `a\u{202e}b\u{2066}`, "\x00\n\u2028": `\u{0}\u{a}\u{2028}`, "\u200d": `\u{200d}`,
		`\u{202e}`: `\u{5c}u{202e}`, `\U`: `\U`,
	} {
		if got := printable(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
