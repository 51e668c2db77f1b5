package link

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeds returns how many random herds a test runs.
func seeds(short, full int) int {
	if os.Getenv("HERD_TEST") == "full" {
		return full
	}
	return short
}

// storm runs a random herd of up to most edges through faults. It checks that no line crosses a
// cut, heals all faults, and returns what is wrong then, or "". stripTo selects the variant
// without Herd-To. To show only the faults of that variant, no messages are forged and all clocks
// are right.
func storm(t *testing.T, seed uint64, most int, stripTo bool) (wrong string) {
	r := rand.New(rand.NewPCG(seed, 1))
	var links [][2]string
	count := 2 + r.IntN(most-1)
	name := func(i int) string { return fmt.Sprintf("E%02d", i) }
	for i := 1; i < count; i++ {
		links = append(links, pair(name(r.IntN(i)), name(i)))
	}
	for range r.IntN(count) {
		a, b := r.IntN(count), r.IntN(count)
		if l := pair(name(a), name(b)); a != b && !slices.Contains(links, l) {
			links = append(links, l)
		}
	}
	n := newNetwork(t, seed, links)
	n.stripTo = stripTo
	switch seed % 3 { // H5
	case 1:
		n.gap = 5 * time.Millisecond
	case 2: // limited by how long a line may take through 30 edges
		n.gap = time.Duration(1+r.IntN(80)) * time.Millisecond
	}
	names := n.names()
	for _, e := range names {
		n.start(e)
	}
	n.noise(0.15, 0.05, 30*time.Millisecond)

	version := int(time.Now().Unix()) // about the present time
	for range 150 {
		e := names[r.IntN(count)]
		runs := n.of(e)
		switch x := r.Float64(); {
		case x < 0.6 && len(runs) > 0:
			version++
			stamp := version
			if r.Float64() < 0.2 {
				stamp -= r.IntN(5)
			}
			runs[r.IntN(len(runs))].tell(fmt.Sprint("c", r.IntN(12)), stamp)
		case x < 0.64:
			n.kill(e)
		case x < 0.72 && len(runs) == 0:
			n.start(e)
		case x < 0.74 && len(runs) == 1: // a second run of the name (H10); kill ends the older
			n.start(e)
		case x < 0.76 && len(runs) > 0:
			for _, l := range runs[0].links {
				l.Reconnected(time.Now())
			}
		case x < 0.80:
			n.set(links[r.IntN(len(links))], true)
		case x < 0.88:
			n.set(links[r.IntN(len(links))], false)
		case stripTo:
		case x < 0.91:
			n.clocks[e].Store(int64([]time.Duration{0, 20 * time.Minute, -20 * time.Minute, 2 * time.Hour, -2 * time.Hour}[r.IntN(5)]))
		case x < 0.96:
			l := links[r.IntN(len(links))]
			side := r.IntN(2)
			n.lie(l[side], l[1-side])
		}
		time.Sleep(time.Duration(r.IntN(400)) * time.Millisecond) // virtual
	}

	// The cuts stay and the noise ends: lines now reach exactly the edges that are connected.
	n.noise(0, 0, 30*time.Millisecond)
	for _, e := range names {
		for len(n.of(e)) > 1 {
			n.kill(e)
		}
	}
	for _, c := range n.clocks {
		c.Store(0)
	}
	if stripTo {
		time.Sleep(10 * time.Second)
	} else {
		time.Sleep(90 * time.Second) // forged state heals; put-off lines come
	}
	for _, e := range names {
		if len(n.of(e)) == 0 {
			continue
		}
		version++
		client := "told-at-" + e
		n.of(e)[0].tell(client, version)
		time.Sleep(3 * time.Second)
		reach := n.reachable(e)
		for _, other := range names {
			for _, run := range n.of(other) {
				knows := slices.ContainsFunc(run.state(), func(l string) bool { return strings.Contains(l, client+" ") })
				if knows != reach[other] {
					wrong = fmt.Sprintf("told at %s: %s knows: %v, links lead there: %v", e, other, knows, reach[other])
				}
			}
		}
		break
	}

	newest := func(states [][]string) map[string]string {
		all := map[string]string{}
		for _, s := range states {
			for _, l := range s {
				f := strings.Fields(l)
				if old, ok := all[f[3]]; !ok || newer(l, old) {
					all[f[3]] = l
				}
			}
		}
		return all
	}
	var states [][]string
	for _, e := range names {
		for _, run := range n.of(e) {
			states = append(states, run.state())
		}
	}
	floor := newest(states)
	for _, l := range links {
		n.set(l, false)
	}
	for _, e := range names {
		if len(n.of(e)) == 0 {
			n.start(e)
		}
	}
	time.Sleep(15 * time.Second)
	first := n.of(names[0])[0].state()
	for _, e := range names {
		if got := n.of(e)[0].state(); !slices.Equal(got, first) {
			return fmt.Sprintf("%s holds %q, %s holds %q", e, got, names[0], first)
		}
	}
	now := newest([][]string{first})
	for client, line := range floor {
		if got := now[client]; got == "" || newer(line, got) {
			return fmt.Sprintf("%q was held when the faults ended, now %q", line, got)
		}
	}
	for _, e := range names {
		for _, l := range n.of(e)[0].links {
			if s := l.Stats(); !s.Up || s.Lag != 0 {
				return fmt.Sprintf("%s to %s: %+v", e, s.Neighbour, s)
			}
		}
	}
	return wrong
}

func TestAnyHerdConvergesAfterAnyFaults(t *testing.T) {
	for seed := range uint64(seeds(25, 150)) {
		synctest.Test(t, func(t *testing.T) {
			if wrong := storm(t, seed, 30, false); wrong != "" {
				t.Errorf("seed %d: %s", seed, wrong)
			}
		})
	}
}

// TestWithoutHerdToSomeHerdsDiverge shows that the test above can see: the
// protocol without Herd-To is known to be wrong.
func TestWithoutHerdToSomeHerdsDiverge(t *testing.T) {
	diverged := 0
	for seed := range uint64(seeds(1500, 3000)) { // one in some 150 does
		synctest.Test(t, func(t *testing.T) {
			if storm(t, seed, 7, true) != "" {
				diverged++
			}
		})
		if diverged > 0 {
			return
		}
	}
	t.Error("H4 no herd without Herd-To diverged: the test is blind")
}
