package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
)

// pairs returns the ten pairs of edges of the default herd, or three in the ordinary form: without
// the first pair Jaquez is cut off, without the second Clark, without the third no edge.
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

// H1: with two edges down, an update reaches exactly the edges that live links connect to the edge
// that received it. When the two are back, all five hold it.
func TestUpdatesReachExactlyWhomLiveLinksJoin(t *testing.T) {
	quiet(t)
	names := strings.Fields("Bernard Clark Jaquez Johnson Juzang")
	each := func(do func(*herdtest.EdgeProcess)) func(*herdtest.Processes, []*herdtest.EdgeProcess) {
		return func(_ *herdtest.Processes, pair []*herdtest.EdgeProcess) {
			for _, e := range pair {
				do(e)
			}
		}
	}
	for _, way := range []struct {
		name     string
		pairs    [][2]string
		down, up func(*herdtest.Processes, []*herdtest.EdgeProcess)
	}{
		{"kill", pairs(names), each(func(e *herdtest.EdgeProcess) { e.Kill() }), each((*herdtest.EdgeProcess).Start)},
		{"stop", pairs(names), each((*herdtest.EdgeProcess).Pause), each((*herdtest.EdgeProcess).Resume)},
		// Long enough for the others to notice that the two are down, and for the two to notice
		// that the others are.
		{"long stop", [][2]string{{"Jaquez", "Juzang"}}, pauseUntilDown, each((*herdtest.EdgeProcess).Resume)},
	} {
		t.Run(way.name, func(t *testing.T) {
			quiet(t)
			h := herdtest.StartProcesses(t, herdtest.ProcessOptions{})
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

// pauseUntilDown pauses two edges and waits until their links to the others are down (H8).
func pauseUntilDown(h *herdtest.Processes, pair []*herdtest.EdgeProcess) {
	for _, e := range pair {
		e.Pause()
	}
	for _, e := range h.Others(pair[0].Name, pair[1].Name) {
		for _, gone := range pair {
			herdtest.Eventually(h.T, herdtest.Promise(5*time.Second), e.Name+" takes its links for down", func() error {
				if up := e.Metric("herd_link_up", `neighbour="`+gone.Name+`"`); up == 1 {
					return fmt.Errorf("the link to %s is up", gone.Name)
				}
				return nil
			})
		}
	}
}

// adjacency takes two edges down, sends each of the other three a position of its own client, and
// brings the two back. It returns 1 if an edge was cut off meanwhile.
func adjacency(t *testing.T, h *herdtest.Processes, label string, pair [2]string, down, up func(*herdtest.Processes, []*herdtest.EdgeProcess)) (cut int) {
	t.Helper()
	gone := []*herdtest.EdgeProcess{h.Edges[pair[0]], h.Edges[pair[1]]}
	down(h, gone)
	live := h.Others(pair[:]...)

	told := time.Now()
	ids := make([]string, len(live))
	newest := make([]int64, len(live))
	for i, e := range live {
		ids[i] = fmt.Sprintf("%s.at%s.example", label, e.Name)
		newest[i] = told.UnixNano()
		c := dial(t, e.Addr)
		c.send("IAMAT " + ids[i] + " +34.068930-118.445127 " + posix(newest[i]) + "\n")
		if got := c.line(); !strings.HasPrefix(got, "AT "+e.Name+" +") {
			t.Fatalf("%s answers %q", e.Name, got)
		}
		c.Close()
	}

	// Which edges hold the lines by now, and does an edge that is cut off hold one?
	var learned time.Duration
	look := func() (missing, wrong error) {
		for _, e := range live {
			lines, err := herdtest.Held(e.Addr, ids)
			if err != nil {
				return err, nil
			}
			for i, from := range live {
				joined := h.Reached(from.Name, live)[e.Name]
				switch knows := stamp(lines[i]) == newest[i]; {
				case knows && !joined:
					wrong = fmt.Errorf("%s learned of a client of %s, and no live link joins them", e.Name, from.Name)
				case !knows && joined:
					missing = fmt.Errorf("%s does not know the client of %s yet", e.Name, from.Name)
				case !joined:
					cut = 1
				}
			}
		}
		return missing, wrong
	}
	what := fmt.Sprintf("without %s and %s", pair[0], pair[1])
	learned = herdtest.Eventually(t, herdtest.Promise(time.Second), what, func() error {
		missing, wrong := look()
		if wrong != nil {
			t.Fatalf("%s: %v", what, wrong)
		}
		return missing
	})
	// An edge that must not get a line has not got it in the time in which all others did.
	herdtest.Throughout(t, time.Until(told.Add(time.Second)), what, func() error {
		_, wrong := look()
		return wrong
	})

	back := time.Now()
	up(h, gone)
	all := awaitHolds(t, back, herdtest.Promise(3*time.Second), h.All(), ids, newest)
	if err := sameBytes(h.All(), ids); err != nil {
		t.Errorf("after %s and %s came back: %v", pair[0], pair[1], err)
	}
	for _, e := range h.All() {
		e.LinksUp()
	}
	t.Logf("%s: learned in %v, cut off: %v; all five agree %v after the return", what, learned.Round(time.Millisecond), cut == 1, all.Round(time.Millisecond))
	return cut
}
