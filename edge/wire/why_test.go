package wire

import "testing"

func TestWhyALineIsNewer(t *testing.T) {
	for _, test := range []struct{ newer, older, want string }{
		{"AT A +1.000000000 k +1+1 12.5", "AT A +1.000000000 k +1+1 10", "its time is 2.5s later"},
		{"AT A -400.000000000 k +1+1 500", "AT A +1.000000000 k +1+1 100", "its time is 1m0s later, counting it no more than 60s past its receipt"},
		{"AT A +1.000000000 k +1+1 161", "AT A -400.000000000 k +1+1 500", "its time is 1s later, as the other counts no more than 60s past its receipt"},
		{"AT A -400.000000000 k +1+1 501", "AT A -400.000000000 k +1+1 500", "its time is 1s later, counting both no more than 60s past their receipt"},
		{"AT A -400.000000000 k +1+1 500", "AT A +1.000000000 k +1+1 160", "both count alike, and its client's time is 5m40s later"},
		{"AT A +2.000000000 k +1+1 5", "AT B +1.000000000 k +2+2 5", "both have the same time, and it was received 1s later"},
		{"AT A +1.000000000 k +2+1 5", "AT B +1.000000000 k +1+1 5", "both have the same time and receipt, and the text of its location is greater"},
		{"AT B +1.000000000 k +1+1 5", "AT A +1.000000000 k +1+1 5", "both have the same time, receipt and location, and the name of its edge is greater"},
		{"AT A +1.000000000 k +1+1 5.0", "AT A +1.000000000 k +1+1 5", "both differ in spelling alone, and its bytes are greater"},
	} {
		a, errA := ParseAT([]byte(test.newer))
		b, errB := ParseAT([]byte(test.older))
		if errA != nil || errB != nil {
			t.Fatal(errA, errB)
		}
		if got := Why(&a, &b, []byte(test.newer), []byte(test.older)); got != test.want {
			t.Errorf("%s against %s: %q, want %q", test.newer, test.older, got, test.want)
		}
		if got := Why(&b, &a, []byte(test.older), []byte(test.newer)); got != "" {
			t.Errorf("the older one is newer: %q", got)
		}
	}
}
