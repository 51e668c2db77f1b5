package test

import (
	"bufio"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// twin returns a second run of an edge's name, with its own addresses.
func twin(t *testing.T, e *herdtest.EdgeProcess) *herdtest.EdgeProcess {
	t.Helper()
	second := &herdtest.EdgeProcess{T: t, Name: e.Name, Env: maps.Clone(e.Env)}
	second.ChoosePorts()
	return second
}

// H10: a run that finds that its name has a live run gives up, and names that run.
func TestASecondRunOfALiveNameGivesUp(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez"})
	first, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	rewinds := func() float64 {
		return first.Metric("herd_link_rewinds_total") + jaquez.Metric("herd_link_rewinds_total")
	}
	before := rewinds()
	s, err := askStatus(operator(h), "Clark")
	if err != nil {
		t.Fatal(err)
	}
	second := twin(t, first)
	start := time.Now()
	second.Start()
	code := second.Wait(herdtest.Promise(20 * time.Second))
	t.Logf("the second run gave up after %v", time.Since(start).Round(time.Millisecond))
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if log := second.Stderr.String(); s.Epoch == "" || !strings.Contains(log, s.Epoch) {
		t.Errorf("its error does not name the epoch %q", s.Epoch)
	}
	if !first.Running() {
		t.Error("the first run ended too")
	}
	// A run without its name sends nothing on links; otherwise the live run's links would start
	// over.
	if now := rewinds(); now != before {
		t.Errorf("the second run made links go back %v times", now-before)
	}
	if got := talk(t, first.Addr, "hello\n"); got != "? hello\n" {
		t.Errorf("the first run answers %q", got)
	}
}

// H10: a run that was paused and replaced meanwhile finds the later claim when it goes on.
func TestAReplacedRunEndsWhenItGoesOn(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez"})
	first, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	first.Pause()
	second := twin(t, first)
	second.Start()
	second.AwaitReady()
	first.Resume()
	continued := time.Now()
	if code := first.Wait(herdtest.Promise(15 * time.Second)); code != 1 {
		t.Errorf("exit code of the first run %d, want 1", code)
	}
	t.Logf("the first run ended %v after it went on", time.Since(continued).Round(time.Millisecond))
	if !second.Running() {
		t.Fatal("the second run ended too")
	}
	second.LinksUp()
	told := time.Now().UnixNano()
	talk(t, second.Addr, "IAMAT kiwi +34.068930-118.445127 "+posix(told)+"\n")
	awaitHolds(t, time.Now(), herdtest.Promise(time.Second), []*herdtest.EdgeProcess{jaquez, second}, []string{"kiwi"}, []int64{told})
}

// D3, D5: two runs of a name may both answer while one does not know yet that it was replaced. What
// either answered is held by the one that survives.
func TestNothingThatTwoRunsAnsweredIsLost(t *testing.T) {
	for _, c := range []struct {
		name       string
		away, back func(*herdtest.EdgeProcess)
	}{
		{"D5 stopped and continued", (*herdtest.EdgeProcess).Pause, (*herdtest.EdgeProcess).Resume},
		{"D5 cut off and back", func(e *herdtest.EdgeProcess) { e.Proxy.Silent(true) }, func(e *herdtest.EdgeProcess) { e.Proxy.Silent(false) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			quiet(t)
			h := herdtest.StartProcesses(t, herdtest.ProcessOptions{
				Topology: "Clark", Proxies: true, NATS: []string{"--jetstream", "--store_dir", t.TempDir()},
				Env: map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": "5s"},
			})
			ledger := &ledger{told: map[string]int64{}}
			live := h.Edges["Clark"]
			for round := range size(2, 10) {
				replaced := live
				before := ledger.begin(t, replaced, round)
				herdtest.Eventually(t, herdtest.Promise(10*time.Second), "answers", func() error { return before.has(100) })
				c.away(replaced)
				live = twin(t, replaced)
				live.Proxy = herdtest.StartProxy(t, h.NATS.Addr, 0)
				live.Env["NATS_URL"] = "nats://" + live.Proxy.Addr()
				live.Start()
				live.AwaitReady()
				after := ledger.begin(t, live, round)
				herdtest.Eventually(t, herdtest.Promise(10*time.Second), "answers of the second run", func() error { return after.has(100) })
				c.back(replaced) // the positions that its clients sent meanwhile wait in its socket
				if code := replaced.Wait(herdtest.Promise(20 * time.Second)); code != 1 {
					t.Errorf("H10 exit code of the replaced run %d, want 1", code)
				}
				if !live.Running() {
					t.Fatal("the live run ended")
				}
				before.end()
				after.end()
				t.Logf("%d answers AT and %d refusals of the replaced run, %d and %d of the live one", before.at, before.refused, after.at, after.refused)
				if err := ledger.check(live); err != nil {
					t.Errorf("D3, D5 round %d: %v", round, err)
				}
			}
		})
	}
}

// A ledger has, by client, the newest time that any run acknowledged.
type ledger struct {
	mu   sync.Mutex
	told map[string]int64
}

// A clerk sends one run positions of the ledger's clients, until the run ends or the clerk is
// stopped.
type clerk struct {
	ledger      *ledger
	conn        net.Conn
	working     sync.WaitGroup
	at, refused int // guarded by ledger.mu
	failure     error
}

func (l *ledger) begin(t *testing.T, e *herdtest.EdgeProcess, round int) *clerk {
	t.Helper()
	conn, err := net.Dial("tcp", e.Addr)
	if err != nil {
		t.Fatal(err)
	}
	k := &clerk{ledger: l, conn: conn}
	t.Cleanup(func() { k.end() })
	k.working.Go(func() {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			<-tick.C
			// Some clients send to all runs, some only in this round.
			id := fmt.Sprintf("both-%d", i%500)
			if i%2 == 1 {
				id = fmt.Sprintf("of-%d-%d", round, i/2%500)
			}
			if _, err := fmt.Fprintf(conn, "IAMAT %s %s %s\n", id, ucla, posix(time.Now().UnixNano())); err != nil {
				return // the reader reports the reason
			}
		}
	})
	k.working.Go(func() {
		r := bufio.NewReader(conn)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				conn.Close() // ends the writer
				return
			}
			l.mu.Lock()
			f := strings.Fields(line)
			switch {
			case f[0] == "AT" && len(f) == 6:
				k.at++
				l.told[f[3]] = max(l.told[f[3]], stamp(strings.TrimSuffix(line, "\n")))
			case strings.HasPrefix(line, "? IAMAT "):
				k.refused++
			default:
				k.failure = fmt.Errorf("answered %q", line)
			}
			l.mu.Unlock()
		}
	})
	return k
}

// has returns an error unless n positions were answered AT.
func (k *clerk) has(n int) error {
	k.ledger.mu.Lock()
	defer k.ledger.mu.Unlock()
	if k.failure != nil || k.at < n {
		return fmt.Errorf("%d answers AT, %d refusals, %v", k.at, k.refused, k.failure)
	}
	return nil
}

func (k *clerk) end() {
	k.conn.Close()
	k.working.Wait()
}

// check compares what an edge holds with what was acknowledged.
func (l *ledger) check(e *herdtest.EdgeProcess) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var ids []string
	var newest []int64
	for id, told := range l.told {
		ids, newest = append(ids, id), append(newest, told)
	}
	return holds(e, ids, newest)
}
