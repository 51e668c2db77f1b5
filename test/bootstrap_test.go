package test

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"herd/cmd/herd/load"
)

// H7: an edge that starts empty opens its client port once it holds what its neighbours
// told it of, soon, while their clients notice nothing.
func TestAnEmptyEdgeCatchesUpBeforeItOpensItsPort(t *testing.T) {
	known := size(20_000, 1_000_000)
	h := newHerd(t, options{unready: []string{"Bernard"}})
	joining, others := h.edges["Bernard"], h.others("Bernard")

	crowd := populate(t, others, "crowd-", known)
	newest := crowd.answered()
	tr := begin(t, load.Config{Addrs: addresses(others), Prefix: "device-", Rate: size(250.0, 1000), Conns: 100, Clients: 500})
	tr.warm(promise(10 * time.Second))
	for _, e := range others {
		t.Logf("%s takes %.0f MiB", e.name, mib(e.memory()))
	}

	joining.start()
	var first net.Conn
	opened := eventually(t, promise(10*time.Second), "Bernard's port opens", func() error {
		if !joining.running() {
			t.Fatalf("Bernard ended with exit code %d", joining.cmd.ProcessState.ExitCode())
		}
		var err error
		first, err = net.DialTimeout("tcp", joining.addr, time.Second)
		return err
	})
	first.Close()
	// The port is open: who asks now, asks an edge that knows.
	dice := rand.New(rand.NewPCG(1, 2))
	sample, times := make([]string, 5000), make([]int64, 5000)
	for i := range sample {
		pick := dice.IntN(known)
		sample[i], times[i] = crowd.ids[pick], newest[pick]
	}
	if err := holds(joining, sample, times); err != nil {
		t.Errorf("the port was open before the edge had caught up: %v", err)
	}
	// What moves meanwhile is there within a second too.
	awaitHolds(t, time.Now(), promise(time.Second), []*edge{joining}, tr.ids, tr.answered())
	tr.stop()
	if err := holds(joining, crowd.ids, newest); err != nil {
		t.Errorf("the port was open before the edge had caught up: %v", err)
	}
	t.Logf("the port opened %v after the start, and the edge knew all of %d clients", opened.Round(time.Millisecond), known)
	t.Logf("Bernard takes %.0f MiB", mib(joining.memory()))
	if slowest := tr.quantile(100); slowest > delay(100*time.Millisecond) {
		t.Errorf("a client of another edge waited %v for its answer, want at most %v", slowest, delay(100*time.Millisecond))
	}
}
