package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// nomads are clients that tell one position after the other to whichever edge takes it,
// and go to another one when theirs ends or refuses. Each takes a fresh id after one to
// five updates, so that no later update hides the loss of an earlier one.
type nomads struct {
	edges []*edge

	// told has each AT answer that somebody wants to know of at the moment it is read;
	// nobody waits for that.
	told chan told

	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	trails   []trail
	count    tally
	failures []string
}

// told is an AT answer: by which edge, and when it was read.
type told struct {
	edge *edge
	at   time.Time
}

// trail is what one id told.
type trail struct {
	id       string
	answered int64 // the newest time that was answered AT; 0 is none
	sent     int64 // the newest time that was sent
	line     string
	read     time.Time // when that answer was read
}

// tally is how many commands ended how.
type tally struct {
	at, refused, dead int // answered AT, answered `? `, their connection died first
	retries           int // of all these, how many were a repetition
	slowest           time.Duration
}

func (c tally) commands() int { return c.at + c.refused + c.dead }

func (c *tally) add(d tally) {
	c.at, c.refused, c.dead, c.retries = c.at+d.at, c.refused+d.refused, c.dead+d.dead, c.retries+d.retries
	c.slowest = max(c.slowest, d.slowest)
}

// startNomads sends n clients to these edges until stop. Their ids begin with prefix.
func startNomads(t *testing.T, edges []*edge, n int, prefix string, seed uint64) *nomads {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	all := &nomads{edges: edges, told: make(chan told), cancel: cancel}
	for i := range n {
		all.running.Go(func() {
			one := nomad{of: all, name: fmt.Sprintf("%s-%d", prefix, i), dice: rand.New(rand.NewPCG(seed, uint64(i)))}
			one.run(ctx)
		})
	}
	t.Cleanup(all.stop)
	return all
}

// stop lets each client hear the answer that it waits for.
func (all *nomads) stop() {
	all.cancel()
	all.running.Wait()
}

// nomad is one client.
type nomad struct {
	of    *nomads
	name  string
	dice  *rand.Rand
	ids   int
	last  int64 // the newest time told
	count tally

	edge *edge
	conn net.Conn // nil: none
	r    *bufio.Reader
}

func (n *nomad) run(ctx context.Context) {
	defer n.leave()
	var trails []trail
	for ctx.Err() == nil {
		tr := trail{id: fmt.Sprintf("%s-%d", n.name, n.ids)}
		n.ids++
		for updates := 1 + n.dice.IntN(5); updates > 0 && ctx.Err() == nil; updates-- {
			n.last = max(time.Now().UnixNano(), n.last+1)
			text := fmt.Sprintf("%s %+08.4f%+09.4f %s", tr.id, 180*n.dice.Float64()-90, 360*n.dice.Float64()-180, posix(n.last))
			if !n.tell(ctx, &tr, text, n.last) {
				break // an id whose newest update has no answer is left as it is
			}
		}
		if tr.sent > 0 {
			trails = append(trails, tr)
		}
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.of.trails = append(n.of.trails, trails...)
	n.of.count.add(n.count)
}

// tell has one update answered. Where an edge does not, it is as often said again, to
// another edge, as given up.
func (n *nomad) tell(ctx context.Context, tr *trail, text string, ns int64) bool {
	for again := false; n.move(ctx); again = true {
		if again {
			n.count.retries++
		}
		tr.sent = ns
		if n.say(tr, text, ns) {
			return true
		}
		if n.dice.IntN(2) == 0 {
			return false
		}
	}
	return false
}

// say sends one update and reads its answer; it reports whether that is an AT line.
func (n *nomad) say(tr *trail, text string, ns int64) bool {
	start := time.Now()
	n.conn.SetDeadline(start.Add(promise(10 * time.Second)))
	_, err := io.WriteString(n.conn, "IAMAT "+text+"\n")
	var answer string
	if err == nil {
		answer, err = n.r.ReadString('\n')
	}
	now := time.Now()
	if err != nil {
		if e, ok := err.(net.Error); ok && e.Timeout() {
			n.fail("%s has not answered %q within %v", n.edge.name, text, now.Sub(start))
		}
		n.count.dead++
		n.leave()
		return false
	}
	n.count.slowest = max(n.count.slowest, now.Sub(start))
	switch {
	case strings.HasPrefix(answer, "AT "+n.edge.name+" ") && strings.HasSuffix(answer, " "+text+"\n"):
		n.count.at++
		tr.answered, tr.line, tr.read = ns, strings.TrimSuffix(answer, "\n"), now
		select {
		case n.of.told <- told{n.edge, now}:
		default:
		}
		return true
	case answer == "? IAMAT "+text+"\n":
		n.count.refused++
	default:
		n.fail("%s answers %q to %q", n.edge.name, answer, text)
	}
	n.leave()
	return false
}

// move finds an edge that takes connections, where this client has none.
func (n *nomad) move(ctx context.Context) bool {
	for tries := 0; n.conn == nil; tries++ {
		if ctx.Err() != nil {
			return false
		}
		if tries > 0 { // in a tight loop it would be a load of its own
			select {
			case <-ctx.Done():
				return false
			case <-time.After(time.Duration(n.dice.IntN(20)) * time.Millisecond):
			}
		}
		n.edge = n.of.edges[n.dice.IntN(len(n.of.edges))]
		conn, err := net.DialTimeout("tcp", n.edge.addr, time.Second)
		if err == nil {
			n.conn, n.r = conn, bufio.NewReader(conn)
		}
	}
	return true
}

func (n *nomad) leave() {
	if n.conn != nil {
		n.conn.Close()
		n.conn = nil
	}
}

func (n *nomad) fail(format string, args ...any) {
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	if len(n.of.failures) < 10 {
		n.of.failures = append(n.of.failures, fmt.Sprintf(format, args...))
	}
}

// lostBy has a text for each id of which one of these edges does not hold what was last
// answered, or something that was sent after it.
func lostBy(t *testing.T, edges []*edge, trails []trail) (lost []string) {
	t.Helper()
	ids := make([]string, len(trails))
	for i, tr := range trails {
		ids[i] = tr.id
	}
	wrong := make([]string, len(ids))
	for _, e := range edges {
		lines, err := held(e.addr, ids)
		if err != nil {
			t.Fatalf("ask %s: %v", e.name, err)
		}
		for i, tr := range trails {
			switch at := stamp(lines[i]); {
			case at < tr.answered:
				wrong[i] = fmt.Sprintf("%q was answered at %s; %s holds %q", tr.line, posix(tr.read.UnixNano()), e.name, lines[i])
			case at > tr.sent:
				t.Errorf("%s holds %q of %s, which told nothing after %s", e.name, lines[i], tr.id, posix(tr.sent))
			}
		}
	}
	return slices.DeleteFunc(wrong, func(what string) bool { return what == "" })
}
