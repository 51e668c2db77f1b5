package broker

import "testing"

func TestPatternsOfSubjects(t *testing.T) {
	for _, c := range []struct {
		pattern string
		want    bool
	}{
		{"herd.edge.A.status", true}, {"herd.edge.*.status", true}, {"herd.>", true}, {">", true}, {"*.*.*.*", true}, {"herd.edge.A.>", true},
		{"herd.edge.A", false}, {"herd.edge.A.status.>", false}, {"herd.edge.*", false}, {"herd.edge.B.status", false}, {"*", false}, {"", false}, {"herd.edge.A.status.x", false},
	} {
		if got := covered(c.pattern, "herd.edge.A.status"); got != c.want {
			t.Errorf("%q: %v, want %v", c.pattern, got, c.want)
		}
	}
}
