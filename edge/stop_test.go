package edge

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker/brokertest"
)

// A guarded is a NATS server with JetStream that can deny the user A, which an edge uses, to
// publish or subscribe. B may do everything.
type guarded struct {
	*brokertest.Configured
	t          *testing.T
	file, text string
}

func startGuarded(t *testing.T) *guarded {
	t.Helper()
	dir := t.TempDir()
	g := &guarded{t: t, file: filepath.Join(dir, "nats.conf")}
	g.text = fmt.Sprintf(`listen: 127.0.0.1:-1
jetstream { store_dir: %q }
authorization { users: [
  { user: A, password: a, permissions: { publish: { allow: ">", deny: [%%s] }, subscribe: { allow: ">", deny: [%%s] } } }
  { user: B, password: b }
] }
`, filepath.Join(dir, "js"))
	g.write("", "")
	g.Configured = brokertest.StartConfigured(t, g.file)[0]
	return g
}

func (g *guarded) write(publish, subscribe string) {
	g.t.Helper()
	if err := os.WriteFile(g.file, fmt.Appendf(nil, g.text, publish, subscribe), 0o600); err != nil {
		g.t.Fatal(err)
	}
}

// deny denies A these subjects, quoted and separated by commas, and no others.
func (g *guarded) deny(publish, subscribe string) {
	g.t.Helper()
	g.write(publish, subscribe)
	if err := g.Reload(); err != nil {
		g.t.Fatal(err)
	}
}

// A's journal.
const journalOfA = `"$KV.herd_A.>"`

// edge runs an edge that logs in as the user of its name.
func (g *guarded) edge(name string, more ...string) *running {
	g.t.Helper()
	return run(g.t, name, g.URL(), append([]string{"NATS_USER=" + name, "NATS_PASSWORD=" + strings.ToLower(name)}, more...)...)
}

// login opens a plain connection as B.
func (g *guarded) login() *nats.Conn {
	g.t.Helper()
	nc, err := nats.Connect(g.URL(), nats.UserInfo("B", "b"))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

func TestPromisesOverNATSWaitForTheJournalSideBySide(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	a := server.edge("A", "HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=1h").ready()
	nc := server.login()
	answers, err := nc.SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	server.deny(journalOfA, "")
	const n = 200
	for i := range n {
		if err := nc.PublishRequest("herd.edge.A.iamat", "answers", fmt.Appendf(nil, "c%d +1+1 1", i)); err != nil {
			t.Fatal(err)
		}
	}
	// All have taken effect, although the first is not promised yet.
	eventually(t, "D3 all to take effect", func() bool { return a.edge.Status().Clients == n })
	if got, _, err := answers.Pending(); err != nil || got > 0 {
		t.Errorf("D3 %d answered before the journal holds them; %v", got, err)
	}
	server.deny("", "")
	for i := range n {
		m, err := answers.NextMsg(20 * time.Second)
		if err != nil {
			t.Fatalf("answer %d: %v", i, err)
		}
		if !strings.HasPrefix(string(m.Data), "AT A ") {
			t.Fatalf("D3 answered %q", m.Data)
		}
	}
}

func TestWaitingForTheJournalEndsInTimeForHandingOver(t *testing.T) {
	t.Parallel()
	server := startGuarded(t)
	a := server.edge("A", "HERD_TOPOLOGY=A-B", "HERD_DURABILITY=journal",
		"HERD_JOURNAL_TIMEOUT=1h", "HERD_SHUTDOWN_TIMEOUT=4s").ready()
	b := server.edge("B", "HERD_TOPOLOGY=A-B", "HERD_JOURNAL=off").ready()
	eventually(t, "the link", func() bool { return a.edge.Status().Links[0].Up })
	server.deny(journalOfA, "")

	nc := server.login()
	over := make(chan string, 1)
	go func() {
		m, err := nc.Request("herd.edge.A.iamat", []byte("over +1+1 1"), 20*time.Second)
		if err != nil {
			over <- err.Error()
			return
		}
		over <- string(m.Data)
	}()
	c, err := net.Dial("tcp", a.edge.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	const n = 200 // in as many reads: more than may be asked at the same time (C16)
	for i := range n {
		if _, err := fmt.Fprintf(c, "IAMAT c%d +1+1 1\n", i); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it to take effect", func() bool { return a.edge.Status().Clients > i })
	}
	eventually(t, "the other one", func() bool { return a.edge.Status().Clients == n+1 })

	ended := make(chan error, 1)
	go func() { ended <- a.end() }() // which does not wait for the whole journal timeout
	_ = c.SetReadDeadline(time.Now().Add(time.Minute))
	answers := bufio.NewScanner(c)
	for i := range n {
		if !answers.Scan() {
			t.Fatalf("C19 %d of %d received are answered, %v", i, n, answers.Err())
		}
		if want := fmt.Sprintf("? IAMAT c%d +1+1 1", i); answers.Text() != want {
			t.Fatalf("D3 answered %q, want %q", answers.Text(), want)
		}
	}
	if got := <-over; got != "? IAMAT over +1+1 1\n" {
		t.Errorf("C19 over NATS answered %q", got)
	}
	if err := <-ended; err == nil {
		t.Error("C19 a stop without a journal is called complete")
	}
	if clients := b.edge.Status().Clients; clients != n+1 {
		t.Errorf("C19 the neighbour was handed %d of %d", clients, n+1)
	}
}

func TestAStopWithoutABrokerKeepsToItsTime(t *testing.T) {
	t.Parallel()
	server := brokertest.Start(t, brokertest.JetStream)
	a := run(t, "A", server.URL(), "HERD_TOPOLOGY=A-B", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=1h", "HERD_SHUTDOWN_TIMEOUT=4s").ready()
	server.Stop()
	c, err := net.Dial("tcp", a.edge.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	fmt.Fprintln(c, "IAMAT kiwi +1+1 1")
	eventually(t, "it to take effect", func() bool { return a.edge.Status().Clients == 1 })
	if err := a.end(); err == nil || !strings.Contains(err.Error(), "the journal was not completed") {
		t.Errorf("C19 stopped with %v", err)
	}
	if answer, err := bufio.NewReader(c).ReadString('\n'); answer != "? IAMAT kiwi +1+1 1\n" {
		t.Errorf("C19 answered %q, %v", answer, err)
	}
}
