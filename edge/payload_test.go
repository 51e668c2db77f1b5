package edge

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herd/broker/brokertest"
	"herd/test/ports"
)

// paying is a NATS server whose max_payload changes when it restarts.
type paying struct {
	*brokertest.Configured
	t    *testing.T
	file string
	port string
}

func startPaying(t *testing.T, most int) *paying {
	t.Helper()
	p := &paying{t: t, file: filepath.Join(t.TempDir(), "nats.conf"), port: ports.Addr(t)}
	p.set(most)
	p.Configured = brokertest.StartConfigured(t, p.file)[0]
	return p
}

func (p *paying) set(most int) {
	p.t.Helper()
	if err := os.WriteFile(p.file, fmt.Appendf(nil, "listen: %q\nmax_payload: %d\n", p.port, most), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// again restarts the server with another max_payload.
func (p *paying) again(most int) {
	p.t.Helper()
	p.Stop()
	p.set(most)
	p.Start()
}

func TestWhatFitsTheBrokersMessagesGoes(t *testing.T) {
	t.Parallel()
	server := startPaying(t, 1<<20)
	a, b := run(t, "A", server.URL(), "HERD_TOPOLOGY=A-B", "HERD_LINK_WINDOW=1").ready(), run(t, "B", server.URL(), "HERD_TOPOLOGY=A-B").ready()
	now := time.Now().Unix()
	long := strings.Repeat("x", 1000)
	unsendable := func() uint64 { return a.edge.links()[0].link.Stats().Unsendable }
	for i, most := range []int{1000, 700, 1 << 20} {
		server.again(most)
		eventually(t, "the broker", func() bool { return a.edge.Metrics().BrokerConnected && b.edge.Metrics().BrokerConnected })
		eventually(t, fmt.Sprintf("H5 /readyz to say that max_payload is %d, or nothing where that is enough", most), func() bool {
			code, body := a.readyz()
			if most == 1<<20 {
				return code == http.StatusOK
			}
			return code == http.StatusServiceUnavailable && strings.Contains(body, fmt.Sprintf("max_payload is %d bytes", most))
		})
		before := unsendable()
		first := a.say("IAMAT first%d +1+1 %d", i, now)
		big := a.say("IAMAT %s%d +1+1 %d", long, i, now)
		last := a.say("IAMAT last%d +1+1 %d", i, now)
		for _, line := range []string{first, last} {
			eventually(t, fmt.Sprintf("H5 with max_payload %d the neighbour to know %s", most, strings.Fields(line)[3]), b.knows(line))
		}
		if i == 0 { // more than one message, so that an ack comes before the last one is sent
			for j := range 150 {
				a.say("IAMAT %s-%d +1+1 %d", long, j, now)
			}
		}
		if most < 1<<20 {
			eventually(t, "H5 what does not fit to be counted", func() bool { return unsendable() > before })
			if b.knows(big)() {
				t.Errorf("a line of %d bytes went through %d", len(big), most)
			}
			continue
		}
		// What did not fit is sent once it fits.
		eventually(t, "H5 what did not fit to go", func() bool { return b.edge.Status().Clients == a.edge.Status().Clients })
	}
}
