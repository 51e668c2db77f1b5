package test

import (
	"maps"
	"strings"
	"testing"
	"time"
)

// twin is a second run of an edge's name, at addresses of its own.
func twin(t *testing.T, e *edge) *edge {
	t.Helper()
	second := &edge{t: t, name: e.name, env: maps.Clone(e.env)}
	second.choosePorts()
	return second
}

// H10: who finds that the name has a live run gives up, and says which run that is.
func TestASecondRunOfALiveNameGivesUp(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez"})
	first, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	rewinds := func() float64 {
		return first.metric("herd_link_rewinds_total") + jaquez.metric("herd_link_rewinds_total")
	}
	before := rewinds()
	s, err := askStatus(h.operator(), "Clark")
	if err != nil {
		t.Fatal(err)
	}
	second := twin(t, first)
	start := time.Now()
	second.start()
	code := second.wait(promise(20 * time.Second))
	t.Logf("the second run gave up after %v", time.Since(start).Round(time.Millisecond))
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	if log := second.stderr.String(); s.Epoch == "" || !strings.Contains(log, s.Epoch) {
		t.Errorf("its error does not name the epoch %q", s.Epoch)
	}
	if !first.running() {
		t.Error("the first run ended too")
	}
	// A run without its name says nothing on links, or the live run's would begin anew.
	if now := rewinds(); now != before {
		t.Errorf("the second run made links go back %v times", now-before)
	}
	if got := talk(t, first.addr, "hello\n"); got != "? hello\n" {
		t.Errorf("the first run answers %q", got)
	}
}

// H10: a run that was stopped and replaced meanwhile finds the later claim when it goes on.
func TestAReplacedRunEndsWhenItGoesOn(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez"})
	first, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	first.pause()
	second := twin(t, first)
	second.start()
	second.awaitReady()
	first.resume()
	continued := time.Now()
	if code := first.wait(promise(15 * time.Second)); code != 1 {
		t.Errorf("exit code of the first run %d, want 1", code)
	}
	t.Logf("the first run ended %v after it went on", time.Since(continued).Round(time.Millisecond))
	if !second.running() {
		t.Fatal("the second run ended too")
	}
	second.linksUp()
	told := time.Now().UnixNano()
	talk(t, second.addr, "IAMAT kiwi +34.068930-118.445127 "+posix(told)+"\n")
	awaitHolds(t, time.Now(), promise(time.Second), []*edge{jaquez, second}, []string{"kiwi"}, []int64{told})
}
