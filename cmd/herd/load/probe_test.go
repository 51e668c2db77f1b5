package load

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/client/clienttest"
)

// flood makes a herd of fakes: what is reported to the first is known to each other one after
// its own delay, or never if that is negative.
func flood(t *testing.T, from *clienttest.Fake, to map[*clienttest.Fake]time.Duration) {
	from.Twist = func(command, answer []byte) []byte {
		if !strings.HasPrefix(string(command), "IAMAT") {
			return answer
		}
		client := strings.Fields(string(command))[1]
		for f, after := range to {
			if after < 0 {
				continue
			}
			line := slices.Clone(answer)
			time.AfterFunc(after, func() {
				f.Mu.Lock()
				defer f.Mu.Unlock()
				f.Known[client] = line
			})
		}
		return answer
	}
}

// probed runs a prober against fakes for a time.
func probed(t *testing.T, cfg ProbeConfig, span time.Duration, fakes ...*clienttest.Fake) *Propagation {
	t.Helper()
	cfg.Dial = clienttest.Pipe(fakes...)
	p, err := NewProber(cfg)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	time.AfterFunc(span, func() { close(done) })
	return p.Run(t.Context(), done)
}

func TestPropagationIsTheTimeUntilAnEdgeHoldsTheUpdate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez, juzang := clienttest.New("Clark"), clienttest.New("Jaquez"), clienttest.New("Juzang")
		flood(t, clark, map[*clienttest.Fake]time.Duration{jaquez: 3 * time.Millisecond, juzang: 400 * time.Millisecond})
		got := probed(t, ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Clark", "Jaquez", "Juzang"}, Rate: 20}, 10*time.Second, clark, jaquez, juzang)
		if got.Probes < 199 || got.Probes > 201 || got.Failed != 0 || len(got.Samples) > 0 {
			t.Errorf("%+v, want 200 probes", got)
		}
		if len(got.Edges) != 2 || got.Edges[0].Addr != "Jaquez" || got.Edges[1].Addr != "Juzang" {
			t.Fatalf("%+v, want the two edges that were not told", got.Edges)
		}
		// The pause of a tenth makes it at most 11 % later than it was, never earlier.
		for i, want := range []time.Duration{3 * time.Millisecond, 400 * time.Millisecond} {
			l := got.Edges[i].Latency
			if l.Count != int64(got.Probes) || l.P50 < want || l.Maximum > want+want/8+leastPause || got.Edges[i].Lost != 0 {
				t.Errorf("to %s %+v, want all after %v", got.Edges[i].Addr, got.Edges[i], want)
			}
		}
		if got.All.Count != int64(got.Probes) || got.All.P50 < 400*time.Millisecond {
			t.Errorf("to all %+v, want all after 400 ms", got.All)
		}
	})
}

func TestAProbeIsNoOlderPositionOfItsClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		flood(t, clark, map[*clienttest.Fake]time.Duration{jaquez: 50 * time.Millisecond})
		// Ids repeat after a thousand: then the edges hold old positions of them.
		got := probed(t, ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Jaquez"}, Rate: 500, Timeout: time.Second}, 2500*time.Millisecond, clark, jaquez)
		if len(clark.Known) != 1000 || got.Edges[0].Latency.Count < 1240 {
			t.Fatalf("%d clients, %+v; want 1000, and a quarter of them twice", len(clark.Known), got)
		}
		if l := got.All; l.P50 < 50*time.Millisecond || l.Maximum > 60*time.Millisecond {
			t.Errorf("%+v, want all after 50 ms", l)
		}
	})
}

func TestProbesThatDoNotComeAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez, juzang := clienttest.New("Clark"), clienttest.New("Jaquez"), clienttest.New("Juzang")
		flood(t, clark, map[*clienttest.Fake]time.Duration{jaquez: 0, juzang: -1})
		begun := time.Now()
		got := probed(t, ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Jaquez", "Juzang"}, Timeout: 3 * time.Second}, 5*time.Second, clark, jaquez, juzang)
		if got.Edges[0].Lost != 0 || got.Edges[1].Lost != got.Probes || got.Probes < 49 || got.All.Count != 0 {
			t.Errorf("%+v, want all lost on the way to Juzang and none to Jaquez", got)
		}
		if took := time.Since(begun); took < 7*time.Second || took > 8500*time.Millisecond {
			t.Errorf("took %v, want 5 s and the 3 s that the last may take", took)
		}
		if juzang.Lines > 100*int(got.Probes) {
			t.Errorf("%d questions for %d probes", juzang.Lines, got.Probes)
		}
	})
}

func TestProbesThatNoEdgeTakesHaveFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		told := 0
		clark.Twist = func(command, answer []byte) []byte {
			told++
			switch {
			case told <= 10:
				return append([]byte("? "), command...)
			case told <= 20:
				return nil // the connection ends
			}
			return answer
		}
		got := probed(t, ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Jaquez"}, Timeout: time.Second}, 3500*time.Millisecond, clark, jaquez)
		if got.Failed != 20 || got.Probes < 15 || got.Edges[0].Lost != got.Probes {
			t.Errorf("%+v, want 20 failed and the rest lost", got)
		}
		if len(got.Samples) != maxSamples || !strings.Contains(got.Samples[0], "refused") {
			t.Errorf("says %q", got.Samples)
		}
	})
}

func TestAnEdgeThatIsAwayIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		flood(t, clark, map[*clienttest.Fake]time.Duration{jaquez: 0})
		begun := time.Now()
		both := clienttest.Pipe(clark, jaquez)
		p, err := NewProber(ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Jaquez"}, Dial: func(ctx context.Context, addr string) (net.Conn, error) {
			if addr == "Jaquez" && time.Since(begun) < time.Second {
				return nil, net.ErrClosed
			}
			return both(ctx, addr)
		}})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		time.AfterFunc(3*time.Second, func() { close(done) })
		got := p.Run(t.Context(), done)
		if l := got.Edges[0].Latency; l.Count != int64(got.Probes) || l.Maximum < time.Second || l.Maximum > 1200*time.Millisecond {
			t.Errorf("%+v, want all held, the first after a second", got)
		}
	})
}

func TestAProberEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clark, jaquez := clienttest.New("Clark"), clienttest.New("Jaquez")
		p, err := NewProber(ProbeConfig{Told: []string{"Clark"}, Asked: []string{"Jaquez"}, Dial: clienttest.Pipe(clark, jaquez)})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		if got := p.Run(ctx, nil); got.Edges[0].Lost != 0 || got.Probes == 0 {
			t.Errorf("%+v: a probe that was not waited for is not lost", got)
		}
		if took := time.Since(begun); took != time.Second {
			t.Errorf("took %v, want a second", took)
		}
	})
}

func TestWrongProbesAreRefused(t *testing.T) {
	for _, cfg := range []ProbeConfig{
		{},
		{Told: []string{"Clark"}, Rate: -1},
		{Told: []string{"Clark"}, Rate: 1e6},
		{Told: []string{"Clark"}, Timeout: -1},
		{Told: []string{"Clark"}, Prefix: "a b"},
	} {
		if _, err := NewProber(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
