package edge

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestWhatIsSilentIsSubscribedToAnew(t *testing.T) {
	for _, test := range []struct {
		name string
		link string // a letter per second: - nothing, i in, o out, b both
		want string // "in 10" means: in was renewed in the tenth second
	}{
		{"silent from the start", strings.Repeat("-", 32), "in+out 10, in+out 20, in+out 30"},
		{"up at once", strings.Repeat("b", 40), "answers 10"},
		{"up at last", strings.Repeat("-", 5) + strings.Repeat("b", 40), "answers 15"},
		{"comes and goes", "--------b--------b--------b", ""},
		{"no acks", strings.Repeat("i", 25), "answers 10, out 10, out 20"},
		{"acks alone", strings.Repeat("o", 25), "in 10, in 20"},
		{"a short silence", strings.Repeat("b", 12) + "--------" + strings.Repeat("b", 20), "answers 10"},
		{"a long silence", strings.Repeat("b", 12) + strings.Repeat("-", 12) + strings.Repeat("b", 20), "answers 10, in+out 22, answers 34"},
	} {
		t.Run("H8 "+test.name, func(t *testing.T) {
			var r renewal
			var got []string
			start := time.Unix(1000, 0)
			for second, link := range test.link {
				in, out, answers := r.look(start.Add(time.Duration(second)*time.Second), strings.ContainsRune("ib", link), strings.ContainsRune("ob", link))
				if answers {
					got = append(got, fmt.Sprint("answers ", second))
				}
				switch {
				case in && out:
					got = append(got, fmt.Sprint("in+out ", second))
				case in:
					got = append(got, fmt.Sprint("in ", second))
				case out:
					got = append(got, fmt.Sprint("out ", second))
				}
			}
			if text := strings.Join(got, ", "); text != test.want {
				t.Errorf("renewed %q, want %q", text, test.want)
			}
		})
	}
}

func TestALinkWorksWhenItsRightsCome(t *testing.T) {
	for _, denied := range []string{`"herd.at.B.A"`, `"herd.ack.B.A"`, `"herd.>", "_INBOX.>", "$SRV.>"`} {
		t.Run("H8 "+denied, func(t *testing.T) {
			t.Parallel()
			server := startGuarded(t)
			server.deny("", denied)
			b := server.edge("B", "HERD_TOPOLOGY=A-B").ready()
			a := server.edge("A", "HERD_TOPOLOGY=A-B", "HERD_JOURNAL=off", "HERD_JOIN_TIMEOUT=100ms").ready()
			before := b.say("IAMAT before +1+1 %d", time.Now().Unix())
			server.deny("", "")
			eventually(t, "A to know what B was told before", a.knows(before))
			after := a.say("IAMAT after +1+1 %d", time.Now().Unix())
			eventually(t, "B to know what A is told", b.knows(after))
			eventually(t, "no lag", func() bool { return a.edge.Status().Links[0].Lag == 0 && b.edge.Status().Links[0].Lag == 0 })
			if got := a.edge.Status(); !got.Links[0].Up {
				t.Errorf("the link is down: %+v", got)
			}
		})
	}
}
