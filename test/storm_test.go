package test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// stormSpan is for a duration between the ordinary and the full form: go test ./test/ -run Storm
// -storm 1m
var stormSpan = flag.Duration("storm", 0, "how long a kill storm takes; 0 is 8s, or 2m with HERD_TEST=full")

func spanOfStorms() time.Duration {
	if *stormSpan > 0 {
		return *stormSpan
	}
	return size(8*time.Second, 2*time.Minute)
}

// D3: no answered update is lost, whatever is killed.
func TestKillStorm(t *testing.T) {
	span := spanOfStorms()
	t.Run("D3 with HERD_DURABILITY=journal nothing answered is lost", func(t *testing.T) {
		s := newStorm(t, herdtest.ProcessOptions{Env: map[string]string{"HERD_DURABILITY": "journal"}}, 0)
		s.rage(span, nil)
		s.settle()
		s.checkAtomicBatches()
	})
	// The same clients, kills and checks where nothing is promised and no other edge has the
	// positions: finding no loss here would mean that the test cannot find any.
	t.Run("D3 with HERD_DURABILITY=memory and no neighbours losses are seen", func(t *testing.T) {
		s := newStorm(t, herdtest.ProcessOptions{Topology: "Clark", Env: map[string]string{"HERD_DURABILITY": "memory"}}, 0)
		s.rage(min(span/2, 10*time.Second), nil)
		s.h.Edges["Clark"].AwaitReady()
		if v, err := s.judge(); err != nil || len(v.Lost) == 0 || len(v.Wrong) > 0 {
			t.Errorf("no loss was seen, the storm is blind; or more than losses: %v: %q, %v", v, v.Faults(), err)
		}
	})
}

// S4, D3, D5, D6: the same where positions are forgotten after a minute, and many clients fall
// silent together, are forgotten, and come back together. Their times are old, so that the silence
// can be short.
func TestKillStormWhereClientsAreForgotten(t *testing.T) {
	const retain = time.Minute
	s := newStorm(t, herdtest.ProcessOptions{Env: map[string]string{"HERD_DURABILITY": "journal", "HERD_RETAIN": retain.String()}}, retain)
	s.crowd = newCrowd(s.h.All(), size(2000, 100_000), "crowd", s.seed)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var waves sync.WaitGroup
	var n atomic.Int32
	waves.Go(func() {
		for s.crowd.wave(ctx, retain, size(6*time.Second, 20*time.Second)) {
			n.Add(1)
		}
	})
	s.rage(spanOfStorms(), func() bool { return n.Load() >= 2 })
	cancel()
	waves.Wait()
	t.Logf("%d clients were told of %d times and forgotten as often while edges and brokers were killed; %d were refused meanwhile", len(s.crowd.tracks), n.Load(), s.crowd.refused)

	// Half of them come back once more and stay.
	half := len(s.crowd.tracks) / 2
	back, stop := context.WithTimeout(t.Context(), herdtest.Promise(30*time.Second))
	defer stop()
	if left := s.crowd.report(back, 0, half, 0); left > 0 {
		t.Errorf("%d of %d clients that came back are never answered AT", left, half)
	}
	s.crowd.check(t)
	v := s.settle()
	if v.Judged < half {
		t.Errorf("of %d ids something has to be held, want at least %d that came back: nothing is left to judge", v.Judged, half)
	}
	herdtest.Eventually(t, retain+herdtest.Promise(30*time.Second), "what is past is forgotten everywhere", func() error {
		holdings, err := herdtest.Ask(s.h.All(), s.crowd.tracks[half:])
		if err != nil {
			return err
		}
		for _, h := range holdings {
			for i, line := range h.Lines {
				if line != "" {
					return fmt.Errorf("%s holds %q of %s", h.Edge, line, s.crowd.tracks[half+i].ID)
				}
			}
		}
		return nil
	})
}

// D3: the same where the broker, with the journal, is 20 ms away.
func TestKillStormFarFromTheJournal(t *testing.T) {
	s := newStorm(t, herdtest.ProcessOptions{Proxies: true, Delay: 10 * time.Millisecond, Env: map[string]string{"HERD_DURABILITY": "journal"}}, 0)
	s.rage(spanOfStorms(), nil)
	s.settle()
}

// storm is a herd whose processes are killed again and again.
type storm struct {
	t      *testing.T
	h      *herdtest.Processes
	seed   uint64
	dice   *rand.Rand
	retain time.Duration
	calm   time.Duration // how long the herd's start took, before anything was killed
	nomads *nomads
	crowd  *crowd // nil: none

	edges, brokers  int // how often one was killed
	together        int // of these, how often an edge that had just answered with the broker
	slowestTogether time.Duration
}

func newStorm(t *testing.T, o herdtest.ProcessOptions, retain time.Duration) *storm {
	t.Helper()
	o.NATS = []string{"--jetstream", "--store_dir", t.TempDir()}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	herdtest.Binary(t, "edge") // is built before the start is timed
	begun := time.Now()
	s := &storm{t: t, h: herdtest.StartProcesses(t, o), seed: seed, dice: rand.New(rand.NewPCG(seed, 0)), retain: retain}
	s.calm = time.Since(begun)
	s.nomads = startNomads(t, s.h.All(), 200, "nomad", seed)
	return s
}

// rage kills a process every second for span, and until enough returns true if it is not nil. If a
// start takes longer than a second on this machine, it waits that long between two kills.
func (s *storm) rage(span time.Duration, enough func() bool) {
	s.t.Helper()
	every := max(time.Second, s.calm)
	span = max(span, 6*every)
	tick := time.NewTicker(every)
	defer tick.Stop()
	begun := time.Now()
	end := begun.Add(span)
	for turn := 0; time.Now().Before(end) || enough != nil && !enough(); turn++ {
		if time.Since(begun) > span+herdtest.Promise(time.Minute) {
			s.t.Error("the storm waits in vain for enough to happen")
			break
		}
		<-tick.C
		if turn%2 == 0 {
			s.killWhoAnswers(every)
		} else if i := s.dice.IntN(len(s.h.Names) + 1); i < len(s.h.Names) {
			s.kill(s.h.Edges[s.h.Names[i]])
		} else {
			s.kill(nil)
		}
	}
	s.nomads.stop()
	for _, failure := range s.nomads.failures {
		s.t.Error(failure)
	}
	c := s.nomads.count
	s.t.Logf("%v, something was killed every %v: %d commands of %d ids: %d answered AT (%d%%), %d refused, %d without an answer; %d were said again; the slowest answer took %v",
		time.Since(begun).Round(time.Second), every.Round(time.Millisecond), c.commands(), len(s.nomads.tracks), c.at, 100*c.at/max(1, c.commands()), c.refused, c.dead, c.retries, c.slowest.Round(time.Millisecond))
	s.t.Logf("killed: %d edges, %d brokers, of these %d together, at most %v after the edge's answer",
		s.edges, s.brokers, s.together, s.slowestTogether.Round(time.Microsecond))
	if s.together == 0 {
		s.t.Error("no edge was killed with the broker as it answered")
	}
}

// kill kills an edge, or the broker if e is nil, and starts it again.
func (s *storm) kill(e *herdtest.EdgeProcess) {
	s.t.Helper()
	if e == nil {
		s.h.NATS.Kill()
		s.h.NATS.Launch()
		s.brokers++
		return
	}
	s.edges++
	s.wasRunning(e)
	e.Kill()
	e.Start()
}

// killWhoAnswers kills the next edge that answers, together with the broker, and starts both again.
func (s *storm) killWhoAnswers(patience time.Duration) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	var answer told
	select {
	case answer = <-s.nomads.told:
	case <-ctx.Done(): // no edge answers now; the share of answers accounts for this
		s.kill(nil)
		return
	}
	e := answer.edge
	s.wasRunning(e)
	e.Signal(syscall.SIGKILL)
	s.h.NATS.Signal(syscall.SIGKILL)
	took := time.Since(answer.at)
	e.Kill()
	s.h.NATS.Kill()
	s.h.NATS.Launch()
	e.Start()
	s.edges, s.brokers, s.together = s.edges+1, s.brokers+1, s.together+1
	s.slowestTogether = max(s.slowestTogether, took)
}

// wasRunning reports an edge that ended without being killed.
func (s *storm) wasRunning(e *herdtest.EdgeProcess) {
	s.t.Helper()
	if !e.Running() {
		s.t.Errorf("%s ended by itself with exit code %d:\n%s", e.Name, e.Cmd.ProcessState.ExitCode(), e.Stderr.Tail())
	}
}

// back waits until all processes run again, and returns that moment.
func (s *storm) back() time.Time {
	s.t.Helper()
	s.h.NATS.AwaitHello()
	for _, e := range s.h.All() {
		herdtest.Eventually(s.t, herdtest.Promise(15*time.Second), e.Name+" is alive", func() error {
			s.wasRunning(e)
			code, body, err := e.Get("/healthz")
			if err == nil && code != http.StatusOK {
				err = fmt.Errorf("/healthz: %d %s", code, body)
			}
			return err
		})
	}
	return time.Now()
}

// judge compares what the storm's clients were promised with what edges hold now.
func (s *storm) judge() (herdtest.Verdict, error) {
	tracks := s.nomads.tracks
	if s.crowd != nil {
		tracks = append(tracks[:len(tracks):len(tracks)], s.crowd.tracks...)
	}
	holdings, err := herdtest.Ask(s.h.All(), tracks)
	if err != nil {
		return herdtest.Verdict{}, err
	}
	return herdtest.Judge(tracks, holdings, s.retain), nil
}

// settle waits until all edges are ready and hold the same lines, no promise is broken, and every
// lag is 0. That must be so within half a minute, plus ten times a calm start on this machine,
// after the last process is back.
func (s *storm) settle() (v herdtest.Verdict) {
	s.t.Helper()
	back := s.back()
	limit := 30*time.Second + 10*s.calm
	herdtest.Eventually(s.t, limit, "all is level", func() (err error) {
		for _, e := range s.h.All() {
			s.wasRunning(e)
			if err := e.Readyz(); err != nil {
				return fmt.Errorf("%s: %w", e.Name, err)
			}
		}
		if v, err = s.judge(); err != nil {
			return err
		}
		if len(v.Faults()) > 0 {
			return fmt.Errorf("%v: %q", v, v.Faults())
		}
		for _, e := range s.h.All() {
			if len(s.h.Names) > 1 {
				if lag := e.Metric("herd_link_lag"); lag != 0 {
					return fmt.Errorf("the links of %s lag by %v", e.Name, lag)
				}
			}
			if lag := e.Metric("herd_journal_lag"); lag != 0 {
				return fmt.Errorf("the journal of %s lags by %v", e.Name, lag)
			}
		}
		return nil
	})
	s.t.Logf("%v; level %v after all was back (a calm start took %v)", v, time.Since(back).Round(time.Millisecond), s.calm.Round(time.Millisecond))
	for _, e := range s.h.All() {
		e.LinksUp()
	}
	return v
}

// checkAtomicBatches checks that an edge's journal still accepts atomic batches: each start and
// each connection may change the bucket's settings.
func (s *storm) checkAtomicBatches() {
	s.t.Helper()
	nc := operator(s.h)
	for _, name := range s.h.Names {
		reply, err := nc.Request("$JS.API.STREAM.INFO.KV_herd_"+name, nil, herdtest.Promise(5*time.Second))
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
