package test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/cmd/herd/load"
	"herd/test/herdtest"
)

// H3, H5: what a stopped edge lacks costs the others at most one line per client, however much
// changes meanwhile, and the edge has it once it goes on. An operator watches.
func TestAStoppedEdgeCostsTheOthersNothing(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{})
	spy := lookOn(t, h)
	stopped := h.Edges["Bernard"]
	others := h.Others("Bernard")
	tr := begin(t, load.Config{
		Addrs: addresses(others), Prefix: "device-",
		Rate: size(2000.0, 20000), Conns: size(50, 1000), Clients: size(200, 1000),
	})
	tr.warm(herdtest.Promise(10 * time.Second))
	// The first growth is that of the load itself: buffers, connections and garbage.
	pass(t, size(time.Second, 10*time.Second))

	before := map[*herdtest.EdgeProcess]int64{}
	for _, e := range others {
		before[e] = e.Memory()
	}
	stopped.Pause()
	grown := map[*herdtest.EdgeProcess]int64{}
	start, heard := time.Now(), tr.heard()
	herdtest.Throughout(t, size(3500*time.Millisecond, 30*time.Second), "the load goes on", func() error {
		for _, e := range others {
			grown[e] = max(grown[e], e.Memory()-before[e])
		}
		return nil
	})
	rate := float64(tr.heard()-heard) / time.Since(start).Seconds()

	stopped.Resume()
	continued := time.Now()
	newest := tr.answered()
	caught := awaitHolds(t, continued, herdtest.Promise(3*time.Second), []*herdtest.EdgeProcess{stopped}, tr.ids, newest)
	tr.stop()
	awaitHolds(t, time.Now(), herdtest.Promise(time.Second), h.All(), tr.ids, tr.answered())
	if err := sameBytes(h.All(), tr.ids); err != nil {
		t.Error(err)
	}

	t.Logf("%.0f updates/s; Bernard had caught up %v after SIGCONT", rate, caught.Round(time.Millisecond))
	for _, e := range others {
		t.Logf("%s grew by %.1f MiB from %.1f MiB", e.Name, mib(grown[e]), mib(before[e]))
		if most := int64(32 << 20); grown[e] > most {
			t.Errorf("%s grew by %.1f MiB while Bernard stood still, want at most %.0f", e.Name, mib(grown[e]), mib(most))
		}
	}
	spy.check()
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }

// onlooker is `nats sub 'herd.>'`.
type onlooker struct {
	t        *testing.T
	sub      *nats.Subscription
	messages atomic.Int64
	lines    atomic.Int64
	fault    atomic.Pointer[string]
}

// lookOn subscribes to all messages of the herd. It checks that they are all of links of the
// topology (H1) and readable for an operator (H2).
func lookOn(t *testing.T, h *herdtest.Processes) *onlooker {
	t.Helper()
	legal := map[string]bool{}
	for _, link := range strings.Split(h.Topology, ",") {
		a, b, _ := strings.Cut(link, "-")
		legal["herd.at."+a+"."+b], legal["herd.at."+b+"."+a] = true, true
	}
	o := &onlooker{t: t}
	nc := operator(h)
	var err error
	o.sub, err = nc.Subscribe("herd.at.>", func(m *nats.Msg) {
		o.messages.Add(1)
		o.lines.Add(int64(bytes.Count(m.Data, []byte("\n"))))
		switch {
		case !legal[m.Subject]:
			o.blame("a message on " + m.Subject + ", where no link is")
		case len(m.Data) > 0 && (!bytes.HasPrefix(m.Data, []byte("AT ")) || !bytes.HasSuffix(m.Data, []byte("\n"))):
			o.blame("a payload that is no AT lines: " + string(m.Data[:min(200, len(m.Data))]))
		case len(m.Data) > 64<<10:
			o.blame("a payload of more than 64 KiB")
		}
		for _, header := range []string{"Herd-Epoch", "Herd-After", "Herd-Through", "Herd-Head"} {
			if m.Header.Get(header) == "" {
				o.blame("a message without " + header)
			}
		}
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatalf("look on: %v", err)
	}
	return o
}

func (o *onlooker) blame(what string) { o.fault.CompareAndSwap(nil, &what) }

func (o *onlooker) check() {
	o.t.Helper()
	if fault := o.fault.Load(); fault != nil {
		o.t.Errorf("on the broker: %s", *fault)
	}
	dropped, _ := o.sub.Dropped()
	o.t.Logf("the onlooker saw %d lines in %d messages and missed %d messages", o.lines.Load(), o.messages.Load(), dropped)
	if o.lines.Load() == 0 {
		o.t.Error("the onlooker saw no line")
	}
}
