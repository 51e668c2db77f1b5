package test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/errgroup"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// TestDockerHerd takes the stack of docker-compose.yml through what happens in a year of operation:
// rolling restarts, network partitions and a power cut. It is one stack for all of them, each with
// clients that go to another edge when theirs closes the connection.
func TestDockerHerd(t *testing.T) {
	s := composed(t)
	for _, e := range s.edges {
		e.LinksUp()
	}
	t.Run("the operator looks on", s.lookOn)
	t.Run("a phone", s.phone)
	t.Run("rolling restart", s.rollingRestart)
	t.Run("an edge's network is cut", s.edgeCut)
	t.Run("a NATS server's network is cut", s.natsCut)
	t.Run("power cut", s.powerCut)
}

// phone sets up a phone as deploy/README.md does, and has it report to an edge.
func (s *stack) phone(t *testing.T) {
	at := "http://" + s.bind + ":12010" // Bernard's
	if answer, err := http.Get(at + "/"); err != nil || answer.StatusCode != http.StatusUnauthorized {
		t.Fatalf("before there is a user: %v, %v", answer, err)
	} else {
		answer.Body.Close()
	}
	out := s.compose("run", "--rm", "-T", "phones", "alice", "--url", at)
	token := regexp.MustCompile(`Access token +(\S+)`).FindStringSubmatch(out)
	if token == nil {
		t.Fatalf("no token in %s", out)
	}
	phone(t, s.bind+":12011", token[1], "pixel", 34.5, -118.25) // Clark has the same users
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "another edge knows the phone", func() error {
		if got := talk(t, s.edge("Johnson").Addr, "WHATSAT alice/pixel 0 0\n"); !strings.Contains(got, " +34.500000-118.250000 ") {
			return fmt.Errorf("it answers %q", got)
		}
		return nil
	})
	if out := s.compose("run", "--rm", "-T", "phones"); !strings.Contains(out, "alice\n") {
		t.Errorf("the users are %q", out)
	}
}

// lookOn tests the nats tool with the operator's key: it hears every link, finds every edge, reads
// a journal's entry, and can change nothing.
func (s *stack) lookOn(t *testing.T) {
	key, err := nats.NkeyOptionFromSeed(s.file("nats-1", "/config/operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+s.bind+":4222", key)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	said, err := nc.SubscribeSync("herd.at.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	told := posix(time.Now().UnixNano())
	c := dial(t, s.edge("Clark").Addr)
	c.send("IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 " + told + "\n")
	at := c.line()
	if !strings.HasPrefix(at, "AT Clark ") {
		t.Fatalf("answered %q", at)
	}
	heard := map[string]bool{}
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "the links out of Clark say it", func() error {
		for {
			m, err := said.NextMsg(time.Millisecond)
			if err != nil {
				break
			}
			if strings.Contains(string(m.Data), at+"\n") {
				heard[m.Subject] = true
			}
		}
		if !heard["herd.at.Clark.Jaquez"] || !heard["herd.at.Clark.Juzang"] {
			return fmt.Errorf("heard on %v", heard)
		}
		return nil
	})

	reply, err := nc.Request("JS.Clark.API.DIRECT.GET.KV_herd_Clark.$KV.herd_Clark.kiwi.cs.ucla.edu", nil, herdtest.Promise(5*time.Second))
	if err != nil || string(reply.Data) != at {
		t.Errorf("Clark's journal holds %q (%v), want %q", reply.Data, err, at)
	}
	for _, e := range s.edges {
		if st, err := askStatus(nc, e.Name); err != nil || !st.Ready || st.Journal.Mode != "on" {
			t.Errorf("status of %s: %+v, %v", e.Name, st, err)
		}
		_, err := nc.Request("herd.edge."+e.Name+".iamat", []byte("intruder +1+1 "+told), time.Second)
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("the operator's iamat at %s: %v, want nobody", e.Name, err)
		}
	}
	ping := nats.NewInbox()
	found, err := nc.SubscribeSync(ping)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.PING.herd-edge", ping, nil); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "every edge answers a ping of services", func() error {
		m, err := found.NextMsg(time.Second)
		if err == nil {
			for _, e := range s.edges {
				names[e.Name] = names[e.Name] || strings.Contains(string(m.Data), `"edge":"`+e.Name+`"`)
			}
		}
		for _, e := range s.edges {
			if !names[e.Name] {
				return fmt.Errorf("%v", names)
			}
		}
		return nil
	})
	if lines, err := herdtest.Held(s.edge("Johnson").Addr, []string{"intruder"}); err != nil || lines[0] != "" {
		t.Errorf("somebody knows the operator's client: %q, %v", lines, err)
	}
}

// roam starts clients that send positions to all edges. If an edge closes the connection, its
// clients go to the next edge and send again what had no answer.
func (s *stack) roam(t *testing.T, prefix string) *traffic {
	t.Helper()
	tr := begin(t, load.Config{
		Addrs: addresses(s.edges), Prefix: prefix, Clients: 500, Conns: 50, Rate: 500,
		Reconnect: true, Timeout: herdtest.Promise(30 * time.Second),
	})
	tr.warm(herdtest.Promise(20 * time.Second))
	return tr
}

// settled stops the clients and checks that no acknowledged update is lost.
func (s *stack) settled(t *testing.T, tr *traffic) {
	t.Helper()
	tr.cancelAndWait()
	tr.log()
	counts := tr.result.Counts
	refused := counts.Total() - counts.Of(load.OK)
	t.Logf("%d of %d answers were refusals, %d connections ended", refused, counts.Total(), tr.result.Deaths)
	if counts.Of(load.OK) == 0 || counts.Of(load.Wrong) > 0 {
		t.Errorf("answers %+v: %q", counts, tr.wrong)
	}
	took := awaitHolds(t, time.Now(), herdtest.Promise(30*time.Second), s.edges, tr.ids, tr.answered())
	t.Logf("all five edges hold all that was answered %v later", took.Round(time.Millisecond))
	// What was refused may have taken effect, and may still be on its way.
	herdtest.Eventually(t, herdtest.Promise(30*time.Second), "all five edges hold the same", func() error { return sameBytes(s.edges, tr.ids) })
}

// rollingRestart restarts all edges and then all NATS servers, one at a time, each when the one
// before it is healthy again.
func (s *stack) rollingRestart(t *testing.T) {
	tr := s.roam(t, "roll-")
	begun := time.Now()
	for _, e := range s.edges {
		s.compose("restart", service(e))
		s.healthy(service(e), herdtest.Promise(time.Minute))
	}
	t.Logf("all edges restarted in %v", time.Since(begun).Round(time.Second))
	begun = time.Now()
	for i := 1; i <= 3; i++ {
		nats := fmt.Sprintf("nats-%d", i)
		s.compose("restart", nats)
		s.healthy(nats, herdtest.Promise(time.Minute))
	}
	t.Logf("all NATS servers restarted in %v", time.Since(begun).Round(time.Second))
	s.settled(t, tr)
}

// edgeCut disconnects one edge from the others. It goes on answering its clients, and all that it
// acknowledged reaches all edges when the network is back.
func (s *stack) edgeCut(t *testing.T) {
	tr := s.roam(t, "edge-")
	heal := s.cut("clark")
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "neighbours notice", func() error {
		if up := s.edge("Jaquez").Metric("herd_link_up", `neighbour="Clark"`); up != 0 {
			return fmt.Errorf("herd_link_up is %v", up)
		}
		return nil
	})
	before := tr.heard()
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "clients are answered", func() error {
		if heard := tr.heard() - before; heard < 5000 {
			return fmt.Errorf("%d times", heard)
		}
		return nil
	})
	heal()
	healed := time.Now()
	s.healthy("clark", herdtest.Promise(time.Minute))
	s.edge("Clark").LinksUp()
	t.Logf("well again %v after the network was back", time.Since(healed).Round(time.Millisecond))
	s.settled(t, tr)
}

// natsCut disconnects one NATS server. Its edges find another server, and its journals another
// leader.
func (s *stack) natsCut(t *testing.T) {
	tr := s.roam(t, "nats-")
	heal := s.cut("nats-2")
	pass(t, 20*time.Second)
	for _, e := range s.edges { // without the third server
		herdtest.Eventually(t, herdtest.Promise(20*time.Second), e.Name+" is ready again", e.Readyz)
		e.LinksUp()
	}
	heal()
	s.healthy("nats-2", herdtest.Promise(time.Minute))
	s.settled(t, tr)
}

// powerCut kills every container at once under load, with a million clients known, and
// starts them again. How soon all are back is judged from when the NATS servers serve and
// the edges run, beside a bare reader of the same journals.
func (s *stack) powerCut(t *testing.T) {
	const clients = 1_000_000
	known := s.fill(t, "million-", clients)
	positions := s.edges[0].Metric("herd_positions") // other clients have sent some of them too
	tr := s.roam(t, "power-")
	servers := []string{s.container("nats-1"), s.container("nats-2"), s.container("nats-3")}
	s.compose("kill", "-s", "SIGKILL")
	cut := time.Now()
	up := make(chan error, 1)
	go func() {
		out, err := s.try("up", "-d", "--no-build")
		if err != nil {
			err = fmt.Errorf("compose up: %w\n%s", err, out)
		}
		up <- err
	}()
	for _, id := range servers {
		herdtest.Eventually(t, herdtest.Promise(time.Minute), "all NATS servers are healthy", func() error {
			if state := s.docker("inspect", "-f", "{{.State.Running}} {{.State.Health.Status}}", id); state != "true healthy" {
				return errors.New(state)
			}
			return nil
		})
	}
	running := time.Now()
	if err := <-up; err != nil {
		t.Fatal(err)
	}
	t.Logf("the NATS servers are healthy %v after the power cut, and compose is done %v after that",
		running.Sub(cut).Round(time.Millisecond), time.Since(running).Round(time.Millisecond))
	bare := make(chan time.Duration, 1)
	go func() { bare <- s.readJournals(t) }()
	for _, e := range s.edges {
		herdtest.Eventually(t, herdtest.Promise(30*time.Second), e.Name+" knows a million clients", func() error {
			m, err := e.Metrics()
			if err != nil {
				return err
			}
			if n := m[`herd_positions{edge="`+e.Name+`"}`]; n < positions {
				return fmt.Errorf("%.0f of %.0f", n, positions)
			}
			return e.Readyz()
		})
	}
	level := time.Now()
	for _, e := range s.edges { // which compose starts after the servers, one after the other
		if at := s.startedAt(t, service(e)); at.After(running) {
			running = at
		}
	}
	s.settled(t, tr)
	awaitHolds(t, time.Now(), herdtest.Promise(time.Minute), s.edges, known.ids, known.answered())
	for _, e := range s.edges {
		inspect := s.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", s.container(service(e)))
		t.Logf("%s uses %s", e.Name, strings.TrimSpace(inspect))
	}
	floor := <-bare
	if floor == 0 {
		t.FailNow() // it has said why
	}
	t.Logf("a million clients are back at all five edges %v after all ran again; bare readers of the five journals, beside them, took %v",
		level.Sub(running).Round(time.Millisecond), floor.Round(time.Millisecond))
	// Joining has its own steps (H7).
	if took, most := level.Sub(running), 20*time.Second+2*floor; took > most {
		t.Errorf("a million clients are back %v after all ran again, want at most %v", took, most)
	}
}

// fill sends the positions of n clients until all edges and all journals hold them. A refused
// position may take effect all the same (D3); those that did not are sent again.
func (s *stack) fill(t *testing.T, prefix string, n int) *traffic {
	t.Helper()
	goal := s.edges[0].Metric("herd_positions") + float64(n)
	for round := 1; ; round++ {
		tr := begin(t, load.Config{
			Addrs: addresses(s.edges), Prefix: prefix, Clients: n, Requests: uint64(n),
			Conns: 8, Pipeline: 512, Rate: 1e9, // all due at once, each client once
		})
		<-tr.ended
		if tr.err != nil || tr.result.Counts.Of(load.OK)+tr.result.Counts.Of(load.Refused) != uint64(n) {
			t.Fatalf("fill: %v, %+v, %q", tr.err, tr.result.Counts, tr.result.Samples)
		}
		least := 0.0
		herdtest.Eventually(t, herdtest.Promise(time.Minute), "links and journals have taken all", func() error {
			least = goal
			for _, e := range s.edges {
				if lag := e.Metric("herd_link_lag") + e.Metric("herd_journal_lag"); lag != 0 {
					return fmt.Errorf("%s lags by %.0f", e.Name, lag)
				}
				least = min(least, e.Metric("herd_positions"))
			}
			return nil
		})
		t.Logf("round %d: %d clients told their places in %v, of which %d were refused", round, n, tr.result.Took.Round(time.Millisecond), tr.result.Counts.Of(load.Refused))
		if least >= goal {
			return tr
		}
		if round == 5 {
			t.Fatalf("an edge knows %.0f of %.0f clients after %d rounds", least, goal, round)
		}
	}
}

// readJournals returns how long bare readers of all journals take at the same time, from now on,
// however often they have to begin anew because a NATS server has no leader yet. It returns 0 if they
// fail. Any goroutine of the test may call it.
func (s *stack) readJournals(t *testing.T) time.Duration {
	start := time.Now()
	entries := make([]int, len(s.edges))
	var all errgroup.Group
	for i, e := range s.edges {
		all.Go(func() error {
			key, err := nats.NkeyOptionFromSeed(s.file("nats-1", "/config/"+e.Name+".nk"))
			if err != nil {
				return err
			}
			nc, err := nats.Connect("nats://"+s.bind+":4222", key)
			if err != nil {
				return err
			}
			defer nc.Close()
			ctx, cancel := context.WithTimeout(t.Context(), herdtest.Promise(2*time.Minute))
			defer cancel()
			for {
				if entries[i], err = readJournal(ctx, nc, "herd_"+e.Name); err == nil || ctx.Err() != nil {
					return err
				}
			}
		})
	}
	if err := all.Wait(); err != nil {
		t.Error(err)
		return 0
	}
	took := time.Since(start)
	for i, e := range s.edges {
		t.Logf("the journal of %s has %d entries", e.Name, entries[i])
	}
	return took
}

// readJournal reads a whole journal, drops what it reads, and returns how many entries it has.
func readJournal(ctx context.Context, nc *nats.Conn, bucket string) (entries int, err error) {
	js, err := jetstream.New(nc)
	if err != nil {
		return 0, err
	}
	kv, err := js.KeyValue(ctx, bucket)
	if err != nil {
		return 0, err
	}
	watch, err := kv.WatchAll(ctx, jetstream.IgnoreDeletes())
	if err != nil {
		return 0, err
	}
	defer watch.Stop()
	for {
		select {
		case e := <-watch.Updates():
			if e == nil { // that was all
				return entries, nil
			}
			entries++
		case <-ctx.Done():
			return 0, fmt.Errorf("%s after %d entries: %w", bucket, entries, ctx.Err())
		}
	}
}
