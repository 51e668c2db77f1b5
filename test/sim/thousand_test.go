package sim

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

var edgesFlag = flag.Int("sim.edges", 0, "measure a herd of so many edges")

// TestALargeHerd measures a herd of regions of 20 to 50 edges that are joined by two links each,
// in virtual time: messages per update, how long the herd takes to come level after a region was
// cut off, and the memory of an edge. docs/performance.md has what it said.
func TestALargeHerd(t *testing.T) {
	if *edgesFlag == 0 {
		t.Skip("skipped: no -sim.edges")
	}
	runtime.GOMAXPROCS(1)
	begun := time.Now()
	p, regions := large(*edgesFlag)
	f := finder()
	before := inUse()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, p, f, nil, nil)
		w.net.calm = true
		for _, name := range p.Names {
			w.start(w.sites[name])
			w.until(time.Now().Add(5 * time.Millisecond))
		}
		within(w, time.Minute, "serve clients", func() bool {
			return !slices.ContainsFunc(w.runs, func(r *run) bool { return !isReady(r) })
		})
		w.until(time.Now().Add(10 * time.Second))
		fmt.Printf("%d edges in %d regions, %d links; all serve clients %.1f s after the first began; %.0f KB per edge\n",
			len(p.Names), len(regions), len(p.Links), time.Since(w.begun).Seconds()-10, float64(inUse()-before)/1024/float64(len(p.Names)))

		// Messages at rest, and of updates, ten a second and then two hundred a second.
		rest := count(w, 10*time.Second, func(time.Duration) {})
		fmt.Printf("at rest: %.0f messages and acks per second\n", float64(rest.messages)/10)
		r := rand.New(rand.NewPCG(1, 2))
		for _, each := range []time.Duration{100 * time.Millisecond, 5 * time.Millisecond} {
			told := 0
			c := count(w, 10*time.Second, func(at time.Duration) {
				for ; time.Duration(told)*each <= at; told++ {
					w.tell(w.sites[pick(r, p.Names...)], told%500, time.Now(), told)
				}
			})
			fmt.Printf("%d updates per second: %.0f lines and %.0f messages and acks per update beyond those at rest\n",
				time.Second/each, float64(c.lines)/float64(told), float64(c.messages-rest.messages)/float64(told))
		}
		level := func() bool { return w.unlike(w.reach(p.Names[:1]), nil) == "" }
		begin := time.Now()
		within(w, time.Minute, "come level", level)
		fmt.Printf("level %.1f s after the last update\n", time.Since(begin).Seconds())

		// A region is cut off for a while.
		mine := map[string]bool{}
		for _, name := range regions[len(regions)/2] {
			mine[name] = true
		}
		for _, cut := range []bool{true, false} {
			for _, l := range p.Links {
				if mine[l[0]] != mine[l[1]] {
					w.net.cut[l] = cut
				}
			}
			if !cut {
				break
			}
			told := 0
			count(w, 20*time.Second, func(at time.Duration) {
				for ; time.Duration(told)*10*time.Millisecond <= at; told++ {
					w.tell(w.sites[pick(r, p.Names...)], 1000+told%1000, time.Now(), told)
				}
			})
			fmt.Printf("a region of %d edges was cut off for 20 s, in which %d updates were told\n", len(mine), told)
		}
		begin = time.Now()
		lines := w.lines
		within(w, time.Minute, "come level", level)
		fmt.Printf("all %d edges level %.1f s after the links were back, with %d lines\n", len(p.Names), time.Since(begin).Seconds(), w.lines-lines)
		fmt.Printf("%.0f KB per edge with %d clients\n", float64(inUse()-before)/1024/float64(len(p.Names)), len(w.tracks))
		if w.wrong != "" {
			t.Error(w.wrong)
		}
		for _, r := range w.runs {
			w.kill(r)
		}
		for _, r := range w.runs {
			<-r.done
		}
	})
	fmt.Printf("took %v\n", time.Since(begun).Round(time.Second))
}

// large is a plan for regions in a ring, each joined to the next by two links.
func large(edges int) (p *Plan, regions [][]string) {
	r := rand.New(rand.NewPCG(uint64(edges), 15))
	p = &Plan{Seed: uint64(edges), Options: Options{
		Window: 8, Gap: 5 * time.Millisecond, Heartbeat: time.Second + 37*time.Microsecond, MaxPayload: 1 << 20, Journal: "off",
		JournalTimeout: 2 * time.Second, Delay: 2 * time.Millisecond, StoreTrip: time.Millisecond,
	}}
	for len(p.Names) < edges {
		region := &Plan{}
		region.draw(r, min(20+r.IntN(31), max(2, edges-len(p.Names))))
		rename := map[string]string{}
		var names []string
		for _, name := range region.Names {
			rename[name] = fmt.Sprintf("E%04d", len(p.Names)+len(names))
			names = append(names, rename[name])
		}
		for _, l := range region.Links {
			p.Links = append(p.Links, pair(rename[l[0]], rename[l[1]]))
		}
		p.Names = append(p.Names, names...)
		regions = append(regions, names)
	}
	for i, region := range regions {
		if next := regions[(i+1)%len(regions)]; i+1 < len(regions) || len(regions) > 2 {
			p.Links = append(p.Links, pair(region[0], next[0]), pair(region[len(region)-1], next[len(next)-1]))
		}
	}
	p.Heal = p.Names
	return p, regions
}

type carried struct{ lines, messages int }

// count has do called every ten milliseconds, and counts what links carry meanwhile.
func count(w *world, d time.Duration, do func(at time.Duration)) carried {
	lines, messages, begun := w.lines, w.carried, time.Now()
	for at := time.Duration(0); at < d; at += 10 * time.Millisecond {
		do(at)
		w.until(begun.Add(at + 10*time.Millisecond))
	}
	return carried{w.lines - lines, w.carried - messages}
}

func within(w *world, d time.Duration, what string, is func() bool) {
	for end := time.Now().Add(d); !is(); {
		if w.until(time.Now().Add(100 * time.Millisecond)); time.Now().After(end) || w.wrong != "" {
			w.t.Fatalf("not in %v: %s (%s)", d, what, w.wrong)
		}
	}
}

// inUse is what is in use after a collection.
func inUse() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
