package test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"
)

// stormSpan is for those who have more time than the ordinary form takes and less than the
// full one: go test ./test/ -run TestKillStorm -storm 1m
var stormSpan = flag.Duration("storm", 0, "how long the kill storm takes; 0 is 8s, or 2m with HERD_TEST=full")

// Item 1 of what must be seen to work, D3: no answered update is lost, whatever is killed.
func TestKillStorm(t *testing.T) {
	span := *stormSpan
	if span == 0 {
		span = size(8*time.Second, 2*time.Minute)
	}
	t.Run("D3 with HERD_DURABILITY=journal nothing answered is lost", func(t *testing.T) {
		s := newStorm(t, options{env: map[string]string{"HERD_DURABILITY": "journal"}})
		lost := s.rage(span)
		if lost > 0 {
			t.Errorf("D3 %d answered updates are lost", lost)
		}
		if c := s.nomads.count; 2*c.at < c.commands() {
			t.Errorf("%d of %d commands were answered AT, want at least half", c.at, c.commands())
		}
		// The 20,000 ids in two minutes.
		if least := int(20_000 * span / (2 * time.Minute)); len(s.nomads.trails) < least && full() {
			t.Errorf("%d ids in %v, want at least %d", len(s.nomads.trails), span, least)
		}
		s.checkAtomicBatches()
	})
	// The same clients, kills and questions where nothing is promised and nobody else knows:
	// that they find no loss here would say that they find none anywhere.
	t.Run("D3 with HERD_DURABILITY=memory and no neighbours losses are seen", func(t *testing.T) {
		s := newStorm(t, options{topology: "Clark", env: map[string]string{"HERD_DURABILITY": "memory"}})
		if lost := s.rage(min(span/2, 10*time.Second)); lost == 0 {
			t.Error("no loss was seen: the storm is blind")
		}
	})
}

// storm is a herd of which something is killed every second.
type storm struct {
	t      *testing.T
	h      *herd
	dice   *rand.Rand
	nomads *nomads

	edges, brokers  int // how often one was killed
	together        int // of these, how often an edge that had just answered with the broker,
	late            int // and how often later than it should
	slowestTogether time.Duration
}

// justAnswered is how soon after its answer an edge dies with the broker.
const justAnswered = 20 * time.Millisecond

func newStorm(t *testing.T, o options) *storm {
	t.Helper()
	o.nats = []string{"--jetstream", "--store_dir", t.TempDir()}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	s := &storm{t: t, h: newHerd(t, o), dice: rand.New(rand.NewPCG(seed, 0))}
	s.nomads = startNomads(t, s.h.all(), 200, "nomad", seed)
	return s
}

// rage kills something every second for so long, starts all that was killed, lets it come
// to rest, and counts the ids of which some edge does not hold what was last answered.
func (s *storm) rage(span time.Duration) (lost int) {
	s.t.Helper()
	every := time.Second
	if raceDetector { // under which all takes longer to be back
		every = 3 * time.Second
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	end := time.Now().Add(span)
	for turn := 0; time.Now().Before(end); turn++ {
		<-tick.C
		if turn%2 == 0 {
			s.killWhoAnswers(every)
		} else if i := s.dice.IntN(len(s.h.names) + 1); i < len(s.h.names) {
			s.kill(s.h.edges[s.h.names[i]])
		} else {
			s.kill(nil)
		}
	}
	s.nomads.stop()

	all := s.nomads
	for _, failure := range all.failures {
		s.t.Error(failure)
	}
	rest := s.rest()
	asking := time.Now()
	losses := lostBy(s.t, s.h.all(), all.trails)
	asked := time.Since(asking)
	for _, what := range losses[:min(len(losses), 5)] {
		s.t.Log(what)
	}
	c := all.count
	s.t.Logf("%v: %d commands of %d ids: %d answered AT (%d%%), %d refused, %d without an answer; %d were said again; the slowest answer took %v",
		span, c.commands(), len(all.trails), c.at, 100*c.at/max(1, c.commands()), c.refused, c.dead, c.retries, c.slowest.Round(time.Millisecond))
	s.t.Logf("killed: %d edges, %d brokers, of these %d together, at most %v after the edge's answer, and %d more than %v after it",
		s.edges, s.brokers, s.together, s.slowestTogether.Round(time.Microsecond), s.late, justAnswered)
	s.t.Logf("at rest after %v; %d ids are lost, as %v of questions tell", rest.Round(time.Millisecond), len(losses), asked.Round(time.Millisecond))
	if s.together == 0 {
		s.t.Errorf("no edge was killed with the broker within %v of its answer", justAnswered)
	}
	return len(losses)
}

// kill ends an edge, or the broker where e is nil, and starts it again.
func (s *storm) kill(e *edge) {
	s.t.Helper()
	if e == nil {
		s.h.nats.kill()
		s.h.nats.launch()
		s.brokers++
		return
	}
	s.edges++
	s.wasRunning(e)
	e.kill()
	e.start()
}

// killWhoAnswers ends the next edge that answers together with the broker, and starts both
// again.
func (s *storm) killWhoAnswers(patience time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var answer told
	select {
	case answer = <-s.nomads.told:
	case <-ctx.Done(): // nobody answers just now, which the share of answers accounts for
		s.kill(nil)
		return
	}
	e := answer.edge
	s.wasRunning(e)
	e.signal(syscall.SIGKILL)
	s.h.nats.signal(syscall.SIGKILL)
	took := time.Since(answer.at)
	e.kill()
	s.h.nats.kill()
	s.h.nats.launch()
	e.start()
	s.edges, s.brokers = s.edges+1, s.brokers+1
	if took > justAnswered {
		s.late++
		return
	}
	s.together++
	s.slowestTogether = max(s.slowestTogether, took)
}

// wasRunning reports an edge that ended without being killed.
func (s *storm) wasRunning(e *edge) {
	s.t.Helper()
	if !e.running() {
		s.t.Errorf("%s ended by itself with exit code %d:\n%s", e.name, e.cmd.ProcessState.ExitCode(), e.stderr.tail())
	}
}

// rest waits until all is there and nobody owes anybody anything, and says how long it took.
func (s *storm) rest() time.Duration {
	s.t.Helper()
	start := time.Now()
	s.h.nats.awaitHello()
	for _, e := range s.h.all() {
		s.wasRunning(e)
		e.awaitReady()
	}
	for _, e := range s.h.all() {
		e.linksUp()
	}
	eventually(s.t, promise(20*time.Second), "all is quiet", func() error {
		for _, e := range s.h.all() {
			if len(s.h.names) > 1 {
				if lag := e.metric("herd_link_lag"); lag != 0 {
					return fmt.Errorf("the links of %s lag by %v", e.name, lag)
				}
			}
			if lag := e.metric("herd_journal_lag"); lag != 0 {
				return fmt.Errorf("the journal of %s lags by %v", e.name, lag)
			}
		}
		return nil
	})
	return time.Since(start)
}

// checkAtomicBatches: what an edge makes of its journal anew with each start and each
// connection still lets it write in atomic batches.
func (s *storm) checkAtomicBatches() {
	s.t.Helper()
	nc := s.h.operator()
	for _, name := range s.h.names {
		reply, err := nc.Request("$JS.API.STREAM.INFO.KV_herd_"+name, nil, promise(5*time.Second))
		if err != nil {
			s.t.Fatalf("ask for the journal of %s: %v", name, err)
		}
		var info struct {
			Config struct {
				AllowAtomic bool `json:"allow_atomic"`
			}
		}
		if err := json.Unmarshal(reply.Data, &info); err != nil || !info.Config.AllowAtomic {
			s.t.Errorf("the journal of %s does not allow atomic batches: %v, %.300s", name, err, reply.Data)
		}
	}
}
