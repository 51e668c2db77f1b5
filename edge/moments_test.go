package edge

import (
	"testing"
	"time"
)

func TestMomentsSayAboutWhenARecordChanged(t *testing.T) {
	var m moments
	at := func(s int) time.Time { return time.Unix(int64(s), 0) }
	if after, before := m.of(1); !after.IsZero() || !before.IsZero() {
		t.Errorf("of nothing: %v, %v", after, before)
	}
	m.note(0, at(0))
	m.note(10, at(1))
	m.note(10, at(2))
	m.note(10, at(3)) // takes the place of the one before
	m.note(20, at(4))
	for _, test := range []struct{ revision, after, before int }{{5, 0, 1}, {10, 0, 1}, {11, 3, 4}, {20, 3, 4}} {
		after, before := m.of(uint64(test.revision))
		if !after.Equal(at(test.after)) || !before.Equal(at(test.before)) {
			t.Errorf("revision %d: between %v and %v, want %ds and %ds", test.revision, after, before, test.after, test.before)
		}
	}
	if after, before := m.of(21); !after.Equal(at(4)) || !before.IsZero() {
		t.Errorf("a revision of just now: %v, %v", after, before)
	}
}

func TestMomentsAreBoundedAndStayTrue(t *testing.T) {
	var m moments
	const n = 20 * momentsMost
	for i := range n {
		m.note(uint64(i), time.Unix(int64(i), 0))
	}
	if len(m.all) > momentsMost {
		t.Fatalf("%d moments", len(m.all))
	}
	for i := 1; i < n; i++ {
		after, before := m.of(uint64(i))
		if after.IsZero() || after.Unix() >= int64(i) || before.Unix() < int64(i) {
			t.Fatalf("revision %d is said to be of %v to %v", i, after, before)
		}
		if d := before.Sub(after); i > n-momentsMost/2 && d != time.Second {
			t.Fatalf("revision %d of %d is known to %v", i, n, d)
		}
	}
}
