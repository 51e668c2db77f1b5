package sim

import (
	"cmp"
	"container/heap"
	"hash/fnv"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing/synctest"
	"time"
)

// An item is something on its way: a message, a question, an answer. What edges send only
// becomes an item; the one goroutine of the world draws its fate and delivers it.
type item struct {
	from    *run   // nil: of the world
	subject string // items of one run on one subject keep their order
	number  uint64 // of the run, on this subject
	links   bool   // it goes between two edges, and may be lost, cut off and repeated
	sent    time.Time
	at      time.Time
	local   bool   // it is what a run does to itself, and not on its way anywhere
	lost    bool   // with its connection
	do      func() // what happens when it comes
}

// items is a heap by time; no two have the same.
type items []*item

func (h items) Len() int           { return len(h) }
func (h items) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h items) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *items) Push(x any)        { *h = append(*h, x.(*item)) }
func (h *items) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// A network carries items from their senders to what they do.
type network struct {
	w       *world
	way     items
	moments map[int64]bool // that are taken
	streams map[string]*rand.Rand
	last    map[stream]time.Time // when the last item of a stream arrives
	cut     map[[2]string]bool
	mended  map[[2]string]time.Time // when that last changed
	calm    bool                    // nothing is lost, and ways are short
}

type stream struct {
	run     int
	subject string
}

// random is a subject's own source, so that what happens on one changes nothing on another.
func (n *network) random(subject string) *rand.Rand {
	r := n.streams[subject]
	if r == nil {
		h := fnv.New64a()
		_, _ = h.Write([]byte(subject))
		r = rand.New(rand.NewPCG(n.w.plan.Seed, h.Sum64()))
		n.streams[subject] = r
	}
	return r
}

// post is called by edges, from any goroutine.
func (w *world) post(x *item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.postLocked(x)
}

func (w *world) postLocked(x *item) {
	x.sent = time.Now()
	if x.from != nil {
		x.number = x.from.posted[x.subject]
		x.from.posted[x.subject]++
	}
	w.outbox = append(w.outbox, x)
	select {
	case w.posted <- struct{}{}:
	default:
	}
}

// collect draws the fate of all that was posted.
func (w *world) collect() {
	w.mu.Lock()
	posted := w.outbox
	w.outbox = nil
	w.mu.Unlock()
	slices.SortStableFunc(posted, func(a, b *item) int {
		return cmp.Or(cmp.Compare(a.from.index(), b.from.index()), strings.Compare(a.subject, b.subject), cmp.Compare(a.number, b.number))
	})
	for _, x := range posted {
		if x.from != nil && x.from.stalled {
			x.from.held = append(x.from.held, x)
			continue
		}
		if x.from != nil && x.from.muted && !x.local && !strings.HasPrefix(x.subject, "later ") {
			continue
		}
		w.net.carry(x)
	}
}

func (n *network) carry(x *item) {
	p := n.w.plan
	r := n.random(x.subject)
	n.w.trace.tell("run %d sends on %s", x.from.index(), x.subject)
	delay := 50*time.Microsecond + time.Duration(r.Int64N(int64(p.Delay)))
	loss, twice := r.Float64(), r.Float64()
	if n.calm {
		delay = 50*time.Microsecond + delay%(2*time.Millisecond)
	}
	if x.links && (!n.calm && loss < p.Loss || x.from.losing(x.subject)) {
		return
	}
	at := time.Now().Add(delay)
	key := stream{x.from.index(), x.subject}
	if last := n.last[key]; at.Before(last) {
		at = last
	}
	n.put(x, at)
	n.last[key] = x.at
	if x.links && !n.calm && twice < p.Twice {
		again := *x
		n.put(&again, x.at.Add(time.Microsecond))
		n.last[key] = again.at
	}
}

// put gives an item a moment of its own: none of edges' timers is due then, which go by even
// microseconds from moments of the same kind, but for rare ones.
func (n *network) put(x *item, at time.Time) {
	for n.moments[at.UnixNano()] {
		at = at.Add(time.Nanosecond)
	}
	n.moments[at.UnixNano()] = true
	x.at = at
	heap.Push(&n.way, x)
}

// until lets the world go on until a moment. What comes then is not lost by a connection that
// goes later.
func (w *world) until(end time.Time) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for w.wrong == "" {
		synctest.Wait()
		// All others are blocked, so nothing runs in between; but a new time slice begins. Who
		// is woken shares the slice of who woke it, and after 10 ms of that the runtime would
		// have one goroutine give way in the midst of a step.
		runtime.Gosched()
		w.collect()
		next := end
		if len(w.net.way) > 0 && w.net.way[0].at.Before(end) {
			next = w.net.way[0].at
		}
		if now := time.Now(); now.Before(next) {
			timer.Reset(next.Sub(now))
			select {
			case <-timer.C:
			case <-w.posted:
			}
			continue
		}
		if !next.Before(end) {
			return
		}
		x := heap.Pop(&w.net.way).(*item)
		delete(w.net.moments, x.at.UnixNano())
		if !x.lost {
			x.do()
		}
	}
}

// isCut says whether nothing goes between two edges.
func (n *network) isCut(a, b string) bool { return n.cut[pair(a, b)] }
