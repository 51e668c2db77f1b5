package broker

import (
	"testing"
	"time"
)

func TestWhatIsRefusedAgainIsTriedMoreAndMoreSeldom(t *testing.T) {
	now := time.Unix(1000, 0)
	var d denial
	for _, want := range []time.Duration{1, 2, 4, 8, 10, 10} {
		d.happened(now)
		d.happened(now.Add(time.Second / 2)) // reported twice
		if got := d.due.Sub(now); got != want*time.Second {
			t.Errorf("H8 tried again after %v, want %ds", got, want)
		}
		if d.ripe(d.due.Add(-1)) || !d.ripe(d.due) || d.ripe(d.due) {
			t.Error("not tried once when due")
		}
		now = d.tried.Add(time.Millisecond)
	}
	now = now.Add(time.Minute) // the right was granted meanwhile
	if d.happened(now); d.due.Sub(now) != time.Second {
		t.Errorf("H8 a new refusal is tried again after %v, want 1s", d.due.Sub(now))
	}
}
