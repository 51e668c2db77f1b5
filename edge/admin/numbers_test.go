package admin

import "testing"

func TestHowThePageWritesNumbers(t *testing.T) {
	for n, want := range map[uint64]string{0: "0", 999: "999", 1000: "1\u202f000", 1234567: "1\u202f234\u202f567", 100000: "100\u202f000"} {
		if got := count(n); got != want {
			t.Errorf("count(%d) is %q, want %q", n, got, want)
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
	for seconds, want := range map[float64]string{0: "–", 0.0213: "+21.3 ms", -6.5: "−6.5 s"} {
		if got := clock(seconds); got != want {
			t.Errorf("clock(%v) is %q, want %q", seconds, got, want)
		}
	}
}
