package test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// roamer is a client connection to any edge that accepts it.
type roamer struct {
	edges []*herdtest.EdgeProcess
	dice  *rand.Rand

	edge *herdtest.EdgeProcess
	conn net.Conn // nil: none
	r    *bufio.Reader
}

// move connects to an edge that accepts connections, unless there is a connection.
func (r *roamer) move(ctx context.Context) bool {
	for tries := 0; r.conn == nil; tries++ {
		if ctx.Err() != nil {
			return false
		}
		if tries > 0 { // a tight loop would be a load of its own
			select {
			case <-ctx.Done():
				return false
			case <-time.After(time.Duration(r.dice.IntN(20)) * time.Millisecond):
			}
		}
		r.edge = r.edges[r.dice.IntN(len(r.edges))]
		conn, err := net.DialTimeout("tcp", r.edge.Addr, time.Second)
		if err == nil {
			r.conn, r.r = conn, bufio.NewReaderSize(conn, 16<<10)
		}
	}
	return true
}

func (r *roamer) leave() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
}

// anywhere returns a random location.
func (r *roamer) anywhere() string {
	return fmt.Sprintf("%+08.4f%+09.4f", 180*r.dice.Float64()-90, 360*r.dice.Float64()-180)
}

// silence is a command that was not answered within the time that any edge may take.
type silence struct {
	edge, command string
}

func (s silence) Error() string { return fmt.Sprintf("%s has not answered %q", s.edge, s.command) }

// read reads the answer to an IAMAT. It returns the AT line, or "" for an echo with `? `. Its error
// is errGone if the connection has ended, a silence after a timeout, and another error for a wrong
// answer.
func (r *roamer) read(text string) (at string, err error) {
	answer, err := r.r.ReadString('\n')
	if e, ok := err.(net.Error); ok && e.Timeout() {
		return "", silence{r.edge.Name, text}
	}
	switch {
	case err != nil:
		return "", errGone
	case strings.HasPrefix(answer, "AT "+r.edge.Name+" ") && strings.HasSuffix(answer, " "+text+"\n"):
		return strings.TrimSuffix(answer, "\n"), nil
	case answer == "? IAMAT "+text+"\n":
		return "", nil
	}
	return "", fmt.Errorf("%s answers %q to %q", r.edge.Name, answer, text)
}

// errGone is the end of a connection before the answer.
var errGone = fmt.Errorf("the connection ended")

// nomads are clients that send one position after another to any edge that accepts them. They go to
// another edge if theirs ends or refuses. Each takes a new id after one to five updates, so that
// no later update hides the loss of an earlier one.
type nomads struct {
	// told receives an AT answer when it is read, if a test waits for one at that moment.
	told chan told

	cancel  context.CancelFunc
	running sync.WaitGroup

	mu       sync.Mutex
	tracks   []herdtest.Track
	count    tally
	failures []string
}

// told is an AT answer, with its edge and when it was read.
type told struct {
	edge *herdtest.EdgeProcess
	at   time.Time
}

// tally counts commands by how they ended.
type tally struct {
	at, refused, dead int // answered AT, answered `? `, their connection died first
	retries           int // of all these, repetitions
	slowest           time.Duration
}

func (c tally) commands() int { return c.at + c.refused + c.dead }

func (c *tally) add(d tally) {
	c.at, c.refused, c.dead, c.retries = c.at+d.at, c.refused+d.refused, c.dead+d.dead, c.retries+d.retries
	c.slowest = max(c.slowest, d.slowest)
}

// startNomads sends n clients to these edges until stop. Their ids begin with prefix.
func startNomads(t *testing.T, edges []*herdtest.EdgeProcess, n int, prefix string, seed uint64) *nomads {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	all := &nomads{told: make(chan told), cancel: cancel}
	for i := range n {
		all.running.Go(func() {
			one := nomad{of: all, name: fmt.Sprintf("%s-%d", prefix, i),
				roamer: roamer{edges: edges, dice: rand.New(rand.NewPCG(seed, uint64(i)))}}
			one.run(ctx)
		})
	}
	t.Cleanup(all.stop)
	return all
}

// stop stops the clients once each has the answer that it waits for.
func (all *nomads) stop() {
	all.cancel()
	all.running.Wait()
}

// nomad is one client.
type nomad struct {
	roamer
	of    *nomads
	name  string
	ids   int
	last  int64 // the newest time sent
	count tally
}

func (n *nomad) run(ctx context.Context) {
	defer n.leave()
	var tracks []herdtest.Track
	for ctx.Err() == nil {
		tr := herdtest.Track{ID: fmt.Sprintf("%s-%d", n.name, n.ids)}
		n.ids++
		for updates := 1 + n.dice.IntN(5); updates > 0 && ctx.Err() == nil; updates-- {
			n.last = max(time.Now().UnixNano(), n.last+1)
			if !n.tell(ctx, &tr, tr.ID+" "+n.anywhere()+" "+posix(n.last)) {
				break // an id whose newest update has no answer is left as it is
			}
		}
		if len(tr.Sent) > 0 {
			tracks = append(tracks, tr)
		}
	}
	n.of.mu.Lock()
	defer n.of.mu.Unlock()
	n.of.tracks = append(n.of.tracks, tracks...)
	n.of.count.add(n.count)
}

// tell sends one update until it is answered AT. After each failure it gives up or tries another
// edge, with equal probability.
func (n *nomad) tell(ctx context.Context, tr *herdtest.Track, text string) bool {
	for again := false; n.move(ctx); again = true {
		if again {
			n.count.retries++
		} else {
			tr.Sent = append(tr.Sent, herdtest.Update{Text: text, At: time.Now()})
		}
		if n.say(tr, text) {
			return true
		}
		if n.dice.IntN(2) == 0 {
			return false
		}
	}
	return false
}

// say sends one update and reports whether the answer is an AT line.
func (n *nomad) say(tr *herdtest.Track, text string) bool {
	start := time.Now()
	n.conn.SetDeadline(start.Add(herdtest.Promise(10 * time.Second)))
	if _, err := io.WriteString(n.conn, "IAMAT "+text+"\n"); err != nil {
		n.count.dead++
		n.leave()
		return false
	}
	at, err := n.read(text)
	now := time.Now()
	switch {
	case err == errGone:
		n.count.dead++
	case err != nil:
		n.of.fail(err)
	case at == "":
		n.count.refused++
		n.count.slowest = max(n.count.slowest, now.Sub(start))
	default:
		n.count.at++
		n.count.slowest = max(n.count.slowest, now.Sub(start))
		tr.Got = append(tr.Got, herdtest.Reply{Line: at, At: now})
		select {
		case n.of.told <- told{n.edge, now}:
		default:
		}
		return true
	}
	n.leave()
	return false
}

func (all *nomads) fail(err error) {
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.failures) < 10 {
		all.failures = append(all.failures, err.Error())
	}
}
