package position

import (
	"slices"
	"testing"
	"time"
)

func TestRetentionForgetsAndStaysForgotten(t *testing.T) {
	table := New(Config{Retain: time.Minute})
	old, young := at("A", "old", "+1+1", 100, 1), at("A", "young", "+1+1", 130, 1)
	future := at("A", "future", "+1+1", 9e9, 101-9e9) // effective: 161
	apply(t, table, 101*second, Source{}, PutOwn, old, young, future)
	now := 160 * second
	if got := held(table, now-1, "old"); got != string(old) {
		t.Errorf("S4 a nanosecond before its time: held %q", got)
	}
	if got := held(table, now, "old"); got != "" {
		t.Errorf("S4 at its time, before Forget: held %q", got)
	}
	for _, kind := range []Kind{Put, PutOwn} {
		if got := apply(t, table, now, Source{}, kind, at("A", "old", "+1+1", 100, 9))[0].Outcome; got != Expired {
			t.Errorf("S4 a line past its time: outcome %d, want Expired", got)
		}
	}
	if _, span := table.Read(nil, 0, 1<<20, Source{}, now, nil); span.Lines != 2 {
		t.Errorf("S4 read %d lines, want 2", span.Lines)
	}
	for end := false; !end; {
		_, end = table.Forget(now, 1, nil)
	}
	if clients, _, forgotten := table.Stats(); clients != 2 || forgotten != 1 {
		t.Errorf("S4 %d clients, %d forgotten; want 2, 1", clients, forgotten)
	}
	if got := apply(t, table, now, Source{}, PutOwn, at("B", "old", "+1+1", 150, 1))[0].Outcome; got != Stored {
		t.Errorf("S4 what comes later is stored: outcome %d", got)
	}
	for end := false; !end; {
		_, end = table.Forget(221*second, 2, nil)
	}
	if clients, _, _ := table.Stats(); clients != 0 {
		t.Errorf("S4 a far future is forgotten by its effective time: %d clients left", clients)
	}
}

// What a full table refuses changes nothing, so the journal is yet told of what was past its time.
func TestWhoIsRefusedIsForgottenInTheJournalToo(t *testing.T) {
	for _, live := range []bool{false, true} {
		table := New(Config{Retain: time.Minute, MaxClients: 1, Journal: true, Live: live})
		if live {
			table.Follow()
		}
		apply(t, table, 100*second, Source{}, PutOwn, at("A", "old", "+1+1", 100, 0))
		table.View(func(v View) {
			r, _ := v.Find([]byte("old"))
			r.SetSequence(7)
		})
		apply(t, table, 150*second, Source{}, Put, at("B", "young", "+1+1", 150, 0)) // beyond the limit (C18)
		now := 170 * second
		if got := apply(t, table, now, Source{}, PutOwn, at("A", "old", "+1+1", 170, 0))[0].Outcome; got != Full {
			t.Fatalf("C18 outcome %d, want Full", got)
		}
		var told []string
		table.Forget(now, 10, func(line []byte) bool {
			told = append(told, string(ClientOf(line)))
			return true
		})
		if !slices.Equal(told, []string{"old"}) {
			t.Errorf("S4 the journal was told of %q, want old", told)
		}
	}
}
