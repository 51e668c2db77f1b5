package command

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// questions is a Live that knows one client, and one connection's watches.
type questions struct {
	steps  int
	opened []netip.Addr
	names  []string
	said   []string // by Tell, one per call
	calls  []string
}

func (l *questions) Near(dst []byte, q *wire.WHOSAT, _ Sees, yield func()) ([]byte, bool) {
	if string(q.Client) != "kiwi" {
		return dst, false
	}
	for range l.steps {
		yield()
	}
	return fmt.Appendf(dst, "AT kiwi\nAT within %v of %d\n", q.Radius, q.Max), true
}

func (l *questions) Open(from netip.Addr, _ Sees, _ func()) Watcher {
	l.opened = append(l.opened, from)
	return l
}

func (l *questions) Watch(m *wire.WATCH) Outcome {
	switch {
	case slices.Contains(l.names, string(m.Name)):
		return Taken
	case len(l.names) == 2:
		return Full
	}
	l.names = append(l.names, string(m.Name))
	l.said = append(l.said, "! "+string(m.Name)+" IN someone\n", "! "+string(m.Name)+" NOW 1\n")
	return OK
}

func (l *questions) Unwatch(name []byte) Outcome {
	i := slices.Index(l.names, string(name))
	if i < 0 {
		return Unknown
	}
	l.names = slices.Delete(l.names, i, i+1)
	l.said = append(l.said, "! "+string(name)+" OFF\n")
	return OK
}

func (l *questions) Tell(dst []byte, _ int) ([]byte, bool, bool) {
	if len(l.said) == 0 {
		return dst, false, false
	}
	dst = append(dst, l.said[0]...)
	l.said = l.said[1:]
	return dst, len(l.said) > 0, len(l.said) > 0
}

func (l *questions) Written()     { l.calls = append(l.calls, "written") }
func (l *questions) Watches() int { return len(l.names) }
func (l *questions) Stop()        { l.calls = append(l.calls, "stop") }
func (l *questions) Close()       { l.calls = append(l.calls, "close") }

// countedOf returns how often a command ended in each outcome, without those that never did.
func countedOf(h *Handler, v Verb) string {
	var all []string
	for _, c := range h.Stats() {
		if c.Verb == v && c.N > 0 {
			all = append(all, fmt.Sprintf("%s %d", c.Outcome, c.N))
		}
	}
	return strings.Join(all, ", ")
}

func TestLiveQuestionsAreAnsweredByTheirRules(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"L1 WHOSAT", " WHOSAT\tkiwi 9.5 20 \r\n", "AT kiwi\nAT within 9.5 of 20\n\n"},
		{"L1 an unknown client", "WHOSAT emu 1 1\n", "? WHOSAT emu 1 1\n"},
		{"C12 its fields", "WHOSAT kiwi 50.1 1\nWHOSAT kiwi 1 21\nWHOSAT kiwi 1\n", "? WHOSAT kiwi 50.1 1\n? WHOSAT kiwi 1 21\n? WHOSAT kiwi 1\n"},
		{"L3 a list", "WATCH w kiwi\r\nx\n", "! w IN someone\n! w NOW 1\n? x\n"},
		{"L5 a name in use", "WATCH w kiwi\nWATCH w emu\n", "! w IN someone\n! w NOW 1\n? WATCH w emu\n"},
		{"L5 too many", "WATCH u kiwi\nWATCH v kiwi\nWATCH w kiwi\n", "! u IN someone\n! u NOW 1\n! v IN someone\n! v NOW 1\n? WATCH w kiwi\n"},
		{"L5 UNWATCH", "WATCH w kiwi\nUNWATCH w\nUNWATCH w\nWATCH w kiwi\n", "! w IN someone\n! w NOW 1\n! w OFF\n? UNWATCH w\n! w IN someone\n! w NOW 1\n"},
		{"L5 UNWATCH before any WATCH", "UNWATCH w\n", "? UNWATCH w\n"},
		{"L2 what is no watch", "WATCH\nWATCH w\nWATCH w +1+1 +0+0\nWATCH w a b c\nUNWATCH\nUNWATCH a b\n",
			"? WATCH\n? WATCH w\n? WATCH w +1+1 +0+0\n? WATCH w a b c\n? UNWATCH\n? UNWATCH a b\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, client := open(t, Config{Live: &questions{steps: 3}})
			if got := strings.Join(client.say(c.lines), ""); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
	t.Run("C4 HERD_LIVE=off", func(t *testing.T) {
		h, client := open(t, Config{})
		const lines = "WHOSAT kiwi 1 1\nWATCH w kiwi\nUNWATCH w\n"
		if got, want := strings.Join(client.say(lines), ""), "? WHOSAT kiwi 1 1\n? WATCH w kiwi\n? UNWATCH w\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		for _, v := range []Verb{WHOSAT, WATCH, UNWATCH} {
			if got := countedOf(h, v); got != "invalid 1" {
				t.Errorf("%s is counted as %q", v, got)
			}
		}
		if _, ok := client.s.Watching(func() {}); ok {
			t.Error("there is something to watch with")
		}
		if lines, outcome := client.s.Near(received, &wire.WHOSAT{Client: []byte("kiwi")}); lines != nil || outcome != Invalid {
			t.Errorf("Near gives %q, %v", lines, outcome)
		}
	})
}

func TestLiveQuestionsAreCounted(t *testing.T) {
	live := &questions{}
	timed := map[Verb]int{}
	h, client := open(t, Config{Live: live, Observe: func(v Verb, n int, _ time.Duration) { timed[v] += n }})
	client.say("WHOSAT kiwi 1 1\nWHOSAT emu 1 1\nWHOSAT\nWATCH u a\nWATCH u a\nWATCH v a\nWATCH w a\nWATCH\nUNWATCH u\nUNWATCH u\nUNWATCH\n")
	for v, want := range map[Verb]string{WHOSAT: "ok 1, unknown 1, invalid 1", WATCH: "ok 2, full 1, taken 1, invalid 1", UNWATCH: "ok 1, unknown 1, invalid 1"} {
		if got := countedOf(h, v); got != want {
			t.Errorf("%s is counted as %q, want %q", v, got, want)
		}
	}
	if timed[WHOSAT] != 3 || timed[WATCH] != 5 || timed[UNWATCH] != 3 {
		t.Errorf("timed: %v", timed)
	}
	if len(live.opened) != 1 {
		t.Errorf("opened %d times, want once per connection", len(live.opened))
	}
}

func TestATurnComesBehindWhatWaitsForTheJournal(t *testing.T) { // D3, L3
	journal := &kept{asked: make(chan []position.Ref, 10)}
	_, client := open(t, Config{Live: &questions{}, Journal: journal, JournalTimeout: time.Second})
	got := client.say(kiwi + "\nWHOSAT kiwi 1 1\nx\n")
	if want := []string{kiwiAT, "AT kiwi\nAT within 1 of 1\n\n", "? x\n"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAStopEndsWhatIsWatched(t *testing.T) { // L5
	live := &questions{}
	_, client := open(t, Config{Live: live})
	client.say("WATCH w kiwi\n")
	client.s.Written()
	if n := client.s.Watches(); n != 1 {
		t.Errorf("%d watches", n)
	}
	if got := string(client.s.Still([]byte("x\n"))); got != "x\n! STILL\n" { // L6
		t.Errorf("still: %q", got)
	}
	client.s.StopTelling()
	if got, want := strings.Join(client.say("WATCH v kiwi\nUNWATCH w\n"), ""), "! v OFF stopping\n? UNWATCH w\n"; got != want {
		t.Errorf("while stopping: %q, want %q", got, want)
	}
	client.s.Close()
	if want := []string{"written", "stop", "close"}; !slices.Equal(live.calls, want) {
		t.Errorf("calls %q, want %q", live.calls, want)
	}
}

func TestASessionThatNeverWatchedHasNothingToTell(t *testing.T) {
	live := &questions{}
	_, client := open(t, Config{Live: live})
	s := client.s
	s.Written()
	s.StopTelling()
	if told, more, listing := s.Tell([]byte("x"), 100); string(told) != "x" || more || listing || s.Watches() != 0 {
		t.Errorf("told %q, %t, %t, %d watches", told, more, listing, s.Watches())
	}
	s.Close()
	if len(live.opened)+len(live.calls) > 0 {
		t.Errorf("opened %d, called %q", len(live.opened), live.calls)
	}
}
