package test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/test/herdtest"
)

// H7: a herd that lost power is back when its edges are, each with its own journal. An edge that
// opens its port before it holds what the others load would answer that it does not know their
// clients.
func TestAHerdThatLostItsPowerForgetsNobody(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{
		NATS: []string{"--jetstream", "--store_dir", t.TempDir()}, Proxies: true,
		Env: map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": "30s"},
	})
	// Each edge's clients are only in its own journal.
	sizes := map[string]int{
		"Clark": size(2000, 40_000), "Jaquez": size(1500, 10_000), "Juzang": size(500, 2000), "Bernard": 50, "Johnson": 3,
	}
	var ids []string
	var newest []int64
	for name, n := range sizes {
		crowd := populate(t, []*herdtest.EdgeProcess{h.Edges[name]}, "of-"+name+"-", n)
		ids, newest = append(ids, crowd.ids...), append(newest, crowd.answered()...)
	}
	awaitHolds(t, time.Now(), herdtest.Promise(10*time.Second), h.All(), ids, newest)

	for _, e := range h.All() {
		e.Kill()
	}
	h.NATS.Kill()
	// Clark's connection to the broker is slow now, and its journal is the largest.
	slow := h.Edges["Clark"]
	slow.Proxy.Limit(size(200<<10, 1<<20))

	h.NATS.Launch()
	began := time.Now()
	var asking sync.WaitGroup
	opened := make([]time.Duration, len(h.Names))
	for i, e := range h.All() {
		e.Start()
		asking.Go(func() {
			opened[i] = herdtest.Eventually(t, herdtest.Promise(45*time.Second), "the port of "+e.Name+" opens", func() error {
				if !e.Running() {
					return nil // the test logs this below
				}
				_, err := herdtest.Held(e.Addr, ids[:1])
				return err
			})
			// From now on every edge knows all clients.
			for range 3 {
				lines, err := herdtest.Held(e.Addr, ids)
				if err != nil {
					t.Errorf("%s: %v", e.Name, err)
					return
				}
				unknown, older := 0, 0
				for k, line := range lines {
					switch {
					case line == "":
						unknown++
					case stamp(line) < newest[k]:
						older++
					}
				}
				if unknown+older > 0 {
					t.Errorf("H7 %s opened its port after %v and answers ? for %d, and something older for %d, of %d clients",
						e.Name, opened[i].Round(time.Millisecond), unknown, older, len(ids))
					return
				}
			}
		})
	}
	asking.Wait()
	var took strings.Builder
	for i, e := range h.All() {
		if !e.Running() {
			t.Errorf("%s ended with exit code %d", e.Name, e.Cmd.ProcessState.ExitCode())
		}
		fmt.Fprintf(&took, ", %s %v", e.Name, opened[i].Round(time.Millisecond))
	}
	t.Logf("ports open after%s; %s loaded its journal in %v", strings.TrimPrefix(took.String(), ","), slow.Name, loadTook(slow))
	if loading := loadTook(slow); loading < time.Second {
		t.Errorf("%s loaded its journal in %v: this was no slow one", slow.Name, loading)
	}
	if open := time.Since(began); open > herdtest.Promise(60*time.Second) {
		t.Errorf("it took %v", open)
	}
}

// loadTook returns how long an edge's journal took to load, according to the edge's log.
func loadTook(e *herdtest.EdgeProcess) time.Duration {
	for line := range strings.Lines(e.Stderr.String()) {
		var said struct{ Msg, Took string }
		if json.Unmarshal([]byte(line), &said) == nil && said.Msg == "journal loaded" {
			took, _ := time.ParseDuration(said.Took)
			return took
		}
	}
	return 0
}
