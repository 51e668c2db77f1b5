package test

import (
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// H7: an edge that starts empty opens its client port once it holds what its neighbours told it of.
// Meanwhile their clients are served as before (for speeds see rows catch-up and catch-up-others of
// test/bench).
func TestAnEmptyEdgeCatchesUpBeforeItOpensItsPort(t *testing.T) {
	known := size(20_000, 1_000_000)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Unready: []string{"Bernard"}})
	joining, others := h.Edges["Bernard"], h.Others("Bernard")

	crowd := populate(t, others, "crowd-", known)
	newest := crowd.answered()
	tr := begin(t, load.Config{Addrs: addresses(others), Prefix: "device-", Rate: size(250.0, 1000), Conns: 100, Clients: 500})
	tr.warm(herdtest.Promise(10 * time.Second))
	for _, e := range others {
		t.Logf("%s takes %.0f MiB", e.Name, mib(e.Memory()))
	}

	joining.Start()
	var first net.Conn
	opened := herdtest.Eventually(t, herdtest.Promise(10*time.Second), "Bernard's port opens", func() error {
		if !joining.Running() {
			t.Fatalf("Bernard ended with exit code %d", joining.Cmd.ProcessState.ExitCode())
		}
		var err error
		first, err = net.DialTimeout("tcp", joining.Addr, time.Second)
		return err
	})
	first.Close()
	// The port is open, so from now on the edge knows all clients.
	dice := rand.New(rand.NewPCG(1, 2))
	sample, times := make([]string, 5000), make([]int64, 5000)
	for i := range sample {
		pick := dice.IntN(known)
		sample[i], times[i] = crowd.ids[pick], newest[pick]
	}
	if err := holds(joining, sample, times); err != nil {
		t.Errorf("the port was open before the edge had caught up: %v", err)
	}
	// It also has what changed meanwhile.
	awaitHolds(t, time.Now(), herdtest.Promise(time.Second), []*herdtest.EdgeProcess{joining}, tr.ids, tr.answered())
	tr.stop()
	if err := holds(joining, crowd.ids, newest); err != nil {
		t.Errorf("the port was open before the edge had caught up: %v", err)
	}
	t.Logf("the port opened %v after the start, and the edge knew all of %d clients", opened.Round(time.Millisecond), known)
	t.Logf("Bernard takes %.0f MiB", mib(joining.Memory()))
}
