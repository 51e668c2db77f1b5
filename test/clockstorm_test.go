package test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"herd/test/herdtest"
)

// wholeAfter is how soon all edges hold everything after the last clock was corrected (H9).
const wholeAfter = 90 * time.Second

// S2, S4, H8, H9, D3: clocks are stepped by 20 minutes and by two hours, forwards and backwards, at
// one edge after the other. Some of these edges are killed and start with the clock that they have.
// Once the last clock is right again, no answered position is lost that is not past, and soon all
// edges hold the same.
func TestClockStorm(t *testing.T) {
	const retain = time.Hour
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Clocks: true, NATS: []string{"--jetstream", "--store_dir", t.TempDir()},
		Env: map[string]string{"HERD_DURABILITY": "journal", "HERD_RETAIN": retain.String()}})
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	dice := rand.New(rand.NewPCG(seed, 0))
	nomads := startNomads(t, h.All(), 50, "nomad", seed)

	wrong := []time.Duration{0, 20 * time.Minute, -20 * time.Minute, 2 * time.Hour, -2 * time.Hour}
	steps, kills := 0, 0
	// If a clock steps and steps back before an edge notices, lines put off meanwhile may be asked
	// for a minute later (H9). So each clock stays wrong for a while.
	const stays = 1500 * time.Millisecond
	stepped, slow := map[*herdtest.EdgeProcess]time.Time{}, map[*herdtest.EdgeProcess]bool{}
	for end := time.Now().Add(size(5*time.Second, 2*time.Minute)); time.Now().Before(end); {
		if e := h.All()[dice.IntN(len(h.Names))]; time.Since(stepped[e]) > stays {
			by := wrong[dice.IntN(len(wrong))]
			if by < -time.Hour && !full() {
				// Lines that a slow clock put off are asked for at most once a minute.
				if slow[e] {
					continue
				}
				slow[e] = true
			}
			e.Step(by)
			stepped[e] = time.Now()
			steps++
			if dice.IntN(4) == 0 {
				e.Kill()
				e.Start()
				kills++
			}
		}
		pass(t, time.Duration(dice.IntN(700))*time.Millisecond)
	}
	pass(t, stays)
	nomads.stop()
	for _, failure := range nomads.failures {
		t.Error(failure)
	}
	for _, e := range h.All() {
		e.Step(0)
	}
	right := time.Now()
	for _, e := range h.All() {
		e.AwaitReady()
	}
	var v herdtest.Verdict
	herdtest.Eventually(t, size(herdtest.Promise(wholeAfter), wholeAfter-time.Since(right)), "all is level", func() error {
		holdings, err := herdtest.Ask(h.All(), nomads.tracks)
		if err != nil {
			return err
		}
		if v = herdtest.Judge(nomads.tracks, holdings, retain); len(v.Faults()) > 0 {
			return fmt.Errorf("%v: %q", v, v.Faults())
		}
		for _, e := range h.All() {
			if lag := e.Metric("herd_link_lag"); lag != 0 {
				return fmt.Errorf("the links of %s lag by %v", e.Name, lag)
			}
			if e.Metric("herd_clock_in_doubt") != 0 {
				return errors.New(e.Name + " is in doubt")
			}
		}
		return nil
	})
	level := time.Since(right)
	c := nomads.count
	t.Logf("%d steps, %d kills; %d commands of %d ids: %d answered AT, %d refused, %d without an answer", steps, kills, c.commands(), len(nomads.tracks), c.at, c.refused, c.dead)
	t.Logf("%v; level %v after the last clock was right", v, level.Round(time.Millisecond))
	if 10*v.Judged < len(nomads.tracks) {
		t.Errorf("of %d ids only %d have to be held: the storm is blind", len(nomads.tracks), v.Judged)
	}
}
