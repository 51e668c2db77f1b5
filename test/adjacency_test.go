package test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// pairs are the ten pairs of edges of the default herd, or the three of the ordinary form:
// one that leaves Jaquez alone, one that leaves Clark alone, one that cuts nobody off.
func pairs(names []string) [][2]string {
	if !full() {
		return [][2]string{{"Bernard", "Clark"}, {"Jaquez", "Juzang"}, {"Clark", "Johnson"}}
	}
	var all [][2]string
	for i, a := range names {
		for _, b := range names[i+1:] {
			all = append(all, [2]string{a, b})
		}
	}
	return all
}

// H1: with two edges gone an update reaches exactly those that live links join to the one
// that was told, within a second; when the two are back all five hold it within three.
func TestUpdatesReachExactlyWhomLiveLinksJoin(t *testing.T) {
	timed(t)
	names := strings.Fields("Bernard Clark Jaquez Johnson Juzang")
	each := func(do func(*edge)) func(*herd, []*edge) {
		return func(_ *herd, pair []*edge) {
			for _, e := range pair {
				do(e)
			}
		}
	}
	for _, way := range []struct {
		name     string
		pairs    [][2]string
		down, up func(*herd, []*edge)
	}{
		{"kill", pairs(names), each(func(e *edge) { e.kill() }), each((*edge).start)},
		{"stop", pairs(names), each((*edge).pause), each((*edge).resume)},
		// So long that nobody takes the two for live any more, and that they find out.
		{"long stop", [][2]string{{"Jaquez", "Juzang"}}, pauseUntilDown, each((*edge).resume)},
	} {
		t.Run(way.name, func(t *testing.T) {
			timed(t)
			h := newHerd(t, options{})
			spy := lookOn(t, h)
			cut := 0
			for i, pair := range way.pairs {
				cut += adjacency(t, h, fmt.Sprintf("%s-%d", strings.ReplaceAll(way.name, " ", "-"), i), pair, way.down, way.up)
			}
			want := map[int]int{1: 1, 3: 2, 10: 3}[len(way.pairs)]
			if cut != want {
				t.Errorf("%d pairs cut somebody off, want %d", cut, want)
			}
			spy.check()
		})
	}
}

// pauseUntilDown stops two edges and waits until the others take their links for down (H8).
func pauseUntilDown(h *herd, pair []*edge) {
	for _, e := range pair {
		e.pause()
	}
	for _, e := range h.others(pair[0].name, pair[1].name) {
		for _, gone := range pair {
			eventually(h.t, promise(5*time.Second), e.name+" takes its links for down", func() error {
				if up := e.metric("herd_link_up", `neighbour="`+gone.name+`"`); up == 1 {
					return fmt.Errorf("the link to %s is up", gone.name)
				}
				return nil
			})
		}
	}
}

// adjacency takes two edges down, tells each of the other three of a client of its own, and
// brings the two back. It returns 1 if somebody was cut off meanwhile.
func adjacency(t *testing.T, h *herd, label string, pair [2]string, down, up func(*herd, []*edge)) (cut int) {
	t.Helper()
	gone := []*edge{h.edges[pair[0]], h.edges[pair[1]]}
	down(h, gone)
	live := h.others(pair[:]...)

	told := time.Now()
	ids := make([]string, len(live))
	newest := make([]int64, len(live))
	for i, e := range live {
		ids[i] = fmt.Sprintf("%s.at%s.example", label, e.name)
		newest[i] = told.UnixNano()
		c := dial(t, e.addr)
		c.send("IAMAT " + ids[i] + " +34.068930-118.445127 " + posix(newest[i]) + "\n")
		if got := c.line(); !strings.HasPrefix(got, "AT "+e.name+" +") {
			t.Fatalf("%s answers %q", e.name, got)
		}
		c.Close()
	}

	// Who has learned by now, and did anybody who must not?
	var learned time.Duration
	look := func() (missing, wrong error) {
		for _, e := range live {
			lines, err := held(e.addr, ids)
			if err != nil {
				return err, nil
			}
			for i, from := range live {
				joined := h.reached(from.name, live)[e.name]
				switch knows := stamp(lines[i]) == newest[i]; {
				case knows && !joined:
					wrong = fmt.Errorf("%s learned of a client of %s, and no live link joins them", e.name, from.name)
				case !knows && joined:
					missing = fmt.Errorf("%s does not know the client of %s yet", e.name, from.name)
				case !joined:
					cut = 1
				}
			}
		}
		return missing, wrong
	}
	what := fmt.Sprintf("without %s and %s", pair[0], pair[1])
	learned = eventually(t, time.Until(told.Add(promise(time.Second))), what, func() error {
		missing, wrong := look()
		if wrong != nil {
			t.Fatalf("%s: %v", what, wrong)
		}
		return missing
	})
	// Who must not learn has not learned by the time that all others had to.
	throughout(t, time.Until(told.Add(time.Second)), what, func() error {
		_, wrong := look()
		return wrong
	})

	back := time.Now()
	up(h, gone)
	all := awaitHolds(t, back, promise(3*time.Second), h.all(), ids, newest)
	if err := sameBytes(h.all(), ids); err != nil {
		t.Errorf("after %s and %s came back: %v", pair[0], pair[1], err)
	}
	for _, e := range h.all() {
		e.linksUp()
	}
	t.Logf("%s: learned in %v, cut off: %v; all five agree %v after the return", what, learned.Round(time.Millisecond), cut == 1, all.Round(time.Millisecond))
	return cut
}
