package test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// crowd is many clients that report together and fall silent together.
type crowd struct {
	edges  []*herdtest.EdgeProcess
	seed   uint64
	tracks []herdtest.Track // each is used by one worker at a time

	mu       sync.Mutex
	failures []string
	refused  int
}

func newCrowd(edges []*herdtest.EdgeProcess, n int, prefix string, seed uint64) *crowd {
	c := &crowd{edges: edges, seed: seed}
	for i := range n {
		c.tracks = append(c.tracks, herdtest.Track{ID: fmt.Sprintf("%s-%d", prefix, i)})
	}
	return c
}

const crowdConns = 20

// report sends one position, with a time age ago, of each client from first to last. It repeats
// them over new connections until they are answered AT. It returns how many are not when ctx ends.
func (c *crowd) report(ctx context.Context, first, last int, age time.Duration) (unanswered int) {
	var all sync.WaitGroup
	left := make([]int, crowdConns)
	for w := range crowdConns {
		all.Go(func() {
			r := roamer{edges: c.edges, dice: rand.New(rand.NewPCG(c.seed, uint64(w)))}
			defer r.leave()
			var mine []int
			for i := first + w; i < last; i += crowdConns {
				now := time.Now()
				tr := &c.tracks[i]
				tr.Sent = append(tr.Sent, herdtest.Update{Text: tr.ID + " " + r.anywhere() + " " + posix(now.Add(-age).UnixNano()), At: now})
				mine = append(mine, i)
			}
			for len(mine) > 0 && r.move(ctx) {
				some := mine[:min(100, len(mine))]
				again := c.tell(&r, some)
				mine = append(mine[len(some):], again...)
			}
			left[w] = len(mine)
		})
	}
	all.Wait()
	c.seed += crowdConns // the next report goes elsewhere
	for _, n := range left {
		unanswered += n
	}
	return unanswered
}

// tell sends the last position of some clients in one write, and returns the clients that were not
// answered AT.
func (c *crowd) tell(r *roamer, clients []int) (again []int) {
	newest := func(i int) string { return c.tracks[i].Sent[len(c.tracks[i].Sent)-1].Text }
	var lines strings.Builder
	for _, i := range clients {
		lines.WriteString("IAMAT " + newest(i) + "\n")
	}
	r.conn.SetDeadline(time.Now().Add(herdtest.Promise(10 * time.Second)))
	if _, err := io.WriteString(r.conn, lines.String()); err != nil {
		r.leave()
		return clients
	}
	refused := 0
	for n, i := range clients {
		at, err := r.read(newest(i))
		if err != nil {
			if err != errGone {
				c.mu.Lock()
				c.failures = append(c.failures, err.Error())
				c.mu.Unlock()
			}
			r.leave()
			return append(again, clients[n:]...)
		}
		if at == "" {
			refused++
			again = append(again, i)
			continue
		}
		c.tracks[i].Got = append(c.tracks[i].Got, herdtest.Reply{Line: at, At: time.Now()})
	}
	c.mu.Lock()
	c.refused += refused
	c.mu.Unlock()
	return again
}

// wave sends a position of every client that expires (HERD_RETAIN) after left, and waits until it
// has. It returns false if ctx ends before.
func (c *crowd) wave(ctx context.Context, retain, left time.Duration) bool {
	if c.report(ctx, 0, len(c.tracks), retain-left) > 0 {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(left + 2*time.Second): // they are silent for so long, and have been forgotten
		return true
	}
}

// check fails the test if an edge gave an answer that no edge may give.
func (c *crowd) check(t *testing.T) {
	t.Helper()
	for _, failure := range c.failures[:min(len(c.failures), 10)] {
		t.Error(failure)
	}
}
