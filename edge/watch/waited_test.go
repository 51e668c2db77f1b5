package watch

import (
	"testing"
	"time"
)

// Who waits is told in turn, however many others of the connection have their turn before, and how long
// it waited counts from its own mark, though the connection has always more to say.
func TestHowLongAWatchWaitedCountsFromItsOwnMark(t *testing.T) {
	var waited []time.Duration
	b := newBench(t, Config{Observe: func(d time.Duration) { waited = append(waited, d) }}, 0)
	b.put("a", "+10+10")
	b.put("b", "+20+20")
	w := b.open("192.0.2.1")
	for _, text := range []string{"wa +10+10 1", "wb +20+20 1"} {
		if err := w.watch(text); err != nil {
			t.Fatal(err)
		}
		w.tell()
	}
	w.Written()
	waited = nil

	mark := func(at int64, client, location string) {
		b.now = at * second
		b.put(client, location)
		b.settle()
	}
	// told tells one line, and says how long it had waited.
	told := func(at int64) time.Duration {
		t.Helper()
		b.now = at * second
		line, _, _ := w.Tell(nil, 1)
		w.Written()
		if len(line) == 0 || len(waited) != 1 {
			t.Fatalf("told %q, waited %v", line, waited)
		}
		d := waited[0].Round(time.Second)
		waited = nil
		return d
	}
	mark(2001, "a", "+10.001+10")
	mark(2002, "b", "+20.001+20")
	if d := told(2004); d != 3*time.Second {
		t.Errorf("a waited %v, want 3s", d)
	}
	mark(2005, "a", "+10.002+10")
	if d := told(2006); d != 4*time.Second {
		t.Errorf("b waited %v, want 4s", d)
	}
	mark(2007, "b", "+20.002+20")
	if d := told(2008); d != 3*time.Second {
		t.Errorf("a waited %v, want 3s: it was told meanwhile", d)
	}
	told(2009) // b
	// Who came and went before it was told has waited for nothing, and nothing of it stays.
	mark(2010, "c", "+10+10")
	mark(2010, "c", "+50+50")
	if line, more, _ := w.Tell(nil, 4096); len(line) > 0 || more {
		t.Fatalf("told %q, more %v", line, more)
	}
	mark(3000, "a", "+10.003+10")
	if d := told(3001); d != time.Second {
		t.Errorf("a waited %v, want 1s", d)
	}
}
