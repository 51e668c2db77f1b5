package test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/cmd/herd/load"
)

// TestDockerHerd takes the stack of docker-compose.yml through what a year brings: rolling
// restarts, cut networks, a power cut. One stack, one story after the other, each with
// clients that go to another edge when theirs closes.
func TestDockerHerd(t *testing.T) {
	s := composed(t)
	for _, e := range s.edges {
		e.linksUp()
	}
	t.Run("the operator looks on", s.lookOn)
	t.Run("rolling restart", s.rollingRestart)
	t.Run("an edge's network is cut", s.edgeCut)
	t.Run("a NATS server's network is cut", s.natsCut)
	t.Run("power cut", s.powerCut)
}

// lookOn is what the nats tool does with the operator's key: it hears every link, finds
// every edge, reads one entry of a journal, and changes nothing.
func (s *stack) lookOn(t *testing.T) {
	key, err := nats.NkeyOptionFromSeed(s.file("nats-1", "/config/operator.nk"))
	if err != nil {
		t.Fatal(err)
	}
	nc, err := nats.Connect("nats://"+s.bind+":4222", key)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	said, err := nc.SubscribeSync("herd.at.>")
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}

	told := posix(time.Now().UnixNano())
	c := dial(t, s.edge("Clark").addr)
	c.send("IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 " + told + "\n")
	at := c.line()
	if !strings.HasPrefix(at, "AT Clark ") {
		t.Fatalf("answered %q", at)
	}
	heard := map[string]bool{}
	eventually(t, 10*time.Second, "the links out of Clark say it", func() error {
		for {
			m, err := said.NextMsg(time.Millisecond)
			if err != nil {
				break
			}
			if strings.Contains(string(m.Data), at+"\n") {
				heard[m.Subject] = true
			}
		}
		if !heard["herd.at.Clark.Jaquez"] || !heard["herd.at.Clark.Juzang"] {
			return fmt.Errorf("heard on %v", heard)
		}
		return nil
	})

	reply, err := nc.Request("JS.Clark.API.DIRECT.GET.KV_herd_Clark.$KV.herd_Clark.kiwi.cs.ucla.edu", nil, 5*time.Second)
	if err != nil || string(reply.Data) != at {
		t.Errorf("Clark's journal holds %q (%v), want %q", reply.Data, err, at)
	}
	for _, e := range s.edges {
		if st, err := askStatus(nc, e.name); err != nil || !st.Ready || st.Journal.Mode != "on" {
			t.Errorf("status of %s: %+v, %v", e.name, st, err)
		}
		_, err := nc.Request("herd.edge."+e.name+".iamat", []byte("intruder +1+1 "+told), time.Second)
		if !errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, nats.ErrTimeout) {
			t.Errorf("the operator's iamat at %s: %v, want nobody", e.name, err)
		}
	}
	ping := nats.NewInbox()
	found, err := nc.SubscribeSync(ping)
	if err != nil {
		t.Fatal(err)
	}
	if err := nc.PublishRequest("$SRV.PING.herd-edge", ping, nil); err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{}
	eventually(t, 10*time.Second, "every edge answers a ping of services", func() error {
		m, err := found.NextMsg(100 * time.Millisecond)
		if err == nil {
			for _, e := range s.edges {
				names[e.name] = names[e.name] || strings.Contains(string(m.Data), `"edge":"`+e.name+`"`)
			}
		}
		for _, e := range s.edges {
			if !names[e.name] {
				return fmt.Errorf("%v", names)
			}
		}
		return nil
	})
	if lines, err := held(s.edge("Johnson").addr, []string{"intruder"}); err != nil || lines[0] != "" {
		t.Errorf("somebody knows the operator's client: %q, %v", lines, err)
	}
}

// roam starts clients that report to all edges and go to the next one when theirs closes
// the connection; what had no answer is sent again there.
func (s *stack) roam(t *testing.T, prefix string) *traffic {
	t.Helper()
	tr := begin(t, load.Config{
		Addrs: addresses(s.edges), Prefix: prefix, Clients: 500, Conns: 50, Rate: 500,
		Reconnect: true, Timeout: 30 * time.Second,
	})
	tr.warm(20 * time.Second)
	return tr
}

// settled ends clients and checks what they were promised: an answer to each command
// within limit, and no answered update lost.
func (s *stack) settled(t *testing.T, tr *traffic, limit time.Duration) {
	t.Helper()
	tr.cancelAndWait()
	tr.log()
	counts := tr.result.Counts
	refused := counts.Total() - counts.Of(load.OK)
	t.Logf("%d of %d answers were refusals, %d connections ended", refused, counts.Total(), tr.result.Deaths)
	if slowest := tr.quantile(100); slowest > limit {
		t.Errorf("a command was unanswered for %v, limit %v", slowest, limit)
	}
	if counts.Of(load.OK) < counts.Total()/2 {
		t.Errorf("only %d of %d commands were answered AT: %q", counts.Of(load.OK), counts.Total(), tr.wrong)
	}
	took := awaitHolds(t, time.Now(), 30*time.Second, s.edges, tr.ids, tr.answered())
	t.Logf("all five edges hold all that was answered %v later", took.Round(time.Millisecond))
	// What was refused may have taken effect, and may still be on its way.
	eventually(t, 30*time.Second, "all five edges hold the same", func() error { return sameBytes(s.edges, tr.ids) })
}

// rollingRestart restarts all edges, then all NATS servers, one after the other, each
// when the one before it is well again.
func (s *stack) rollingRestart(t *testing.T) {
	tr := s.roam(t, "roll-")
	begun := time.Now()
	for _, e := range s.edges {
		s.compose("restart", service(e))
		s.healthy(service(e), time.Minute)
	}
	t.Logf("all edges restarted in %v", time.Since(begun).Round(time.Second))
	begun = time.Now()
	for i := 1; i <= 3; i++ {
		nats := fmt.Sprintf("nats-%d", i)
		s.compose("restart", nats)
		s.healthy(nats, time.Minute)
	}
	t.Logf("all NATS servers restarted in %v", time.Since(begun).Round(time.Second))
	s.settled(t, tr, 5*time.Second)
}

// edgeCut takes one edge off the network that joins it to the others: it goes on answering
// its clients, and all that was answered is everywhere when the network is back.
func (s *stack) edgeCut(t *testing.T) {
	tr := s.roam(t, "edge-")
	heal := s.cut("clark")
	eventually(t, 20*time.Second, "neighbours notice", func() error {
		if up := s.edge("Jaquez").metric("herd_link_up", `neighbour="Clark"`); up != 0 {
			return fmt.Errorf("herd_link_up is %v", up)
		}
		return nil
	})
	before := tr.heard()
	pass(t, 10*time.Second)
	if heard := tr.heard() - before; heard < 1000 {
		t.Errorf("only %d answers in 10 s of the cut", heard)
	}
	heal()
	healed := time.Now()
	s.healthy("clark", time.Minute)
	s.edge("Clark").linksUp()
	t.Logf("well again %v after the network was back", time.Since(healed).Round(time.Millisecond))
	s.settled(t, tr, 5*time.Second)
}

// natsCut takes one NATS server off the network: its edges find another, its journals
// another leader.
func (s *stack) natsCut(t *testing.T) {
	tr := s.roam(t, "nats-")
	heal := s.cut("nats-2")
	pass(t, 20*time.Second)
	for _, e := range s.edges { // without the third server
		eventually(t, 20*time.Second, e.name+" is ready again", e.readyz)
		e.linksUp()
	}
	heal()
	s.healthy("nats-2", time.Minute)
	s.settled(t, tr, 5*time.Second)
}

// powerCut kills every container at once under load, with a million clients known, and
// starts them again.
func (s *stack) powerCut(t *testing.T) {
	clients := 1_000_000
	known := populate(t, s.edges, "million-", clients)
	tr := s.roam(t, "power-")
	s.compose("kill", "-s", "SIGKILL")
	cut := time.Now()
	s.up()
	t.Logf("compose is done %v after the power cut", time.Since(cut).Round(time.Millisecond))
	for _, e := range s.edges {
		eventually(t, 30*time.Second-time.Since(cut), e.name+" knows a million clients", func() error {
			if n := e.metric("herd_positions"); n < float64(clients) {
				return fmt.Errorf("%.0f", n)
			}
			return e.readyz()
		})
	}
	t.Logf("a million clients are back at all five edges %v after the power cut", time.Since(cut).Round(time.Millisecond))
	s.settled(t, tr, time.Minute) // the machines were off meanwhile
	awaitHolds(t, time.Now(), time.Minute, s.edges, known.ids, known.answered())
	for _, e := range s.edges {
		inspect := s.docker("stats", "--no-stream", "--format", "{{.MemUsage}}", s.container(service(e)))
		t.Logf("%s uses %s", e.name, strings.TrimSpace(inspect))
	}
}
