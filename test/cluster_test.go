package test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// newClusteredHerd starts a herd with three NATS servers, which all edges know, and journals with
// three replicas. sync is a line for the JetStream configuration of the servers, or "".
func newClusteredHerd(t *testing.T, o herdtest.ProcessOptions, sync string) (*herdtest.Processes, []*herdtest.NATS) {
	t.Helper()
	routes := []int{ports.Free(t), ports.Free(t), ports.Free(t)}
	second := herdtest.StartNATS(t, "-c", natsConfig(t, 1, routes, sync))
	third := herdtest.StartNATS(t, "-c", natsConfig(t, 2, routes, sync))
	env := map[string]string{"HERD_JOURNAL_REPLICAS": "3"}
	maps.Copy(env, o.Env)
	o.Env, o.NATS = env, []string{"-c", natsConfig(t, 0, routes, sync)}
	o.Unready = strings.FieldsFunc(o.Topology, func(r rune) bool { return r == '-' || r == ',' })
	h := herdtest.StartProcesses(t, o)
	awaitCluster(t, h)
	servers := []*herdtest.NATS{h.NATS, second, third}
	for _, e := range h.All() {
		e.Env["NATS_URL"] = strings.Join([]string{servers[0].URL(), servers[1].URL(), servers[2].URL()}, ",")
		e.Start()
	}
	for _, e := range h.All() {
		e.FirstReady()
	}
	return h, servers
}

// natsConfig writes the configuration of one server. routes are the ports of all servers' routes.
func natsConfig(t *testing.T, number int, routes []int, sync string) string {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("server_name: n%d\njetstream {\n\tstore_dir: %q\n\t%s\n}\n", number, filepath.Join(dir, "state"), sync)
	if len(routes) > 1 {
		var urls []string
		for _, port := range routes {
			urls = append(urls, `"nats://`+ports.Local(port)+`"`)
		}
		text += fmt.Sprintf("cluster {\n\tname: herd\n\tlisten: %q\n\troutes: [ %s ]\n}\n", ports.Local(routes[number]), strings.Join(urls, ", "))
	}
	path := filepath.Join(dir, "nats.conf")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// awaitCluster waits until JetStream has a leader.
func awaitCluster(t *testing.T, h *herdtest.Processes) {
	t.Helper()
	nc := operator(h)
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "JetStream has a leader", func() error {
		reply, err := nc.Request("$JS.API.INFO", nil, time.Second)
		if errors.Is(err, nats.ErrTimeout) || err == nil && strings.Contains(string(reply.Data), `"error"`) {
			return errors.New("not yet")
		}
		return err
	})
}

// A gap is the longest time between two successes.
type gap struct {
	mu        sync.Mutex
	last      time.Time
	longest   time.Duration
	successes int
}

func (g *gap) success() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	if !g.last.IsZero() {
		g.longest = max(g.longest, now.Sub(g.last))
	}
	g.last = now
	g.successes++
}

// count returns the number of successes so far.
func (g *gap) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.successes
}

// take returns the longest gap since the last call of take. A gap that still lasts counts.
func (g *gap) take() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	longest := max(g.longest, time.Since(g.last))
	g.longest = 0
	return longest
}

// writers write all the time, to measure for how long they cannot.
type writers struct {
	t     *testing.T
	js    jetstream.JetStream
	edge  gap // IAMATs whose answers wait for the journal
	floor gap // bare messages to the journal's stream, which its leader refuses
	bare  gap // bare messages to another stream with as many replicas
}

// startWriters starts writers that run until the test ends.
func startWriters(t *testing.T, h *herdtest.Processes, servers []*herdtest.NATS) *writers {
	t.Helper()
	var urls []string
	for _, s := range servers {
		urls = append(urls, s.URL())
	}
	nc, err := nats.Connect(strings.Join(urls, ","), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond), nats.ReconnectBufSize(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "BARE", Subjects: []string{"bare"}, MaxMsgs: 1000, Replicas: 3}); err != nil {
		t.Fatal(err)
	}
	w := &writers{t: t, js: js}
	var all sync.WaitGroup
	ctx, stop := context.WithCancel(t.Context())
	t.Cleanup(func() { stop(); all.Wait() })
	publish := func(g *gap, subject string, header nats.Header, code jetstream.ErrorCode) {
		for ctx.Err() == nil {
			soon, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
			_, err := js.PublishMsg(soon, &nats.Msg{Subject: subject, Header: header}, jetstream.WithRetryAttempts(0))
			cancel()
			api, _ := errors.AsType[*jetstream.APIError](err)
			if err == nil || api != nil && api.ErrorCode == code {
				g.success()
			}
			pass(t, 10*time.Millisecond)
		}
	}
	all.Go(func() { publish(&w.bare, "bare", nil, 0) })
	all.Go(func() {
		publish(&w.floor, "$KV.herd_Clark.bare", nats.Header{jetstream.ExpectedLastSeqHeader: {"999999999999"}}, jetstream.JSErrCodeStreamWrongLastSequence)
	})
	all.Go(func() {
		c, err := net.Dial("tcp", h.Edges["Clark"].Addr)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for answers := bufio.NewReader(c); ctx.Err() == nil; pass(t, 10*time.Millisecond) {
			c.SetDeadline(time.Now().Add(herdtest.Promise(10 * time.Second)))
			fmt.Fprintf(c, "IAMAT phone +1+1 %s\n", posix(time.Now().UnixNano()))
			answer, err := answers.ReadString('\n')
			if err != nil {
				t.Error(err)
				return
			}
			if strings.HasPrefix(answer, "AT ") {
				w.edge.success()
			}
		}
	})
	w.settle()
	return w
}

// settle waits until the streams have a leader and all replicas are current, as deploy/README.md
// does, and drops the gaps until then.
func (w *writers) settle() {
	w.t.Helper()
	herdtest.Eventually(w.t, herdtest.Promise(30*time.Second), "all replicas are current", func() error {
		for _, stream := range []string{"KV_herd_Clark", "BARE"} {
			if err := current(w.js.Conn(), stream); err != nil {
				return err
			}
		}
		return nil
	})
	for _, g := range []*gap{&w.edge, &w.floor, &w.bare} {
		g.take()
	}
}

// current returns an error unless a stream has a leader and all its replicas are current.
func current(nc *nats.Conn, stream string) error {
	m, err := nc.Request("$JS.API.STREAM.INFO."+stream, nil, time.Second)
	if err != nil {
		return err
	}
	var info jetstream.StreamInfo
	if err := json.Unmarshal(m.Data, &info); err != nil {
		return err
	}
	if info.Cluster == nil || info.Cluster.Leader == "" || len(info.Cluster.Replicas) != 2 {
		return fmt.Errorf("%s: %s", stream, m.Data)
	}
	for _, r := range info.Cluster.Replicas {
		if !r.Current || r.Offline || r.Lag > 0 && stream != "KV_herd_Clark" {
			return fmt.Errorf("%s: replica %+v", stream, *r)
		}
	}
	return nil
}

// leader returns the server that leads the journal's stream.
func (w *writers) leader(servers []*herdtest.NATS) *herdtest.NATS {
	w.t.Helper()
	var number int
	herdtest.Eventually(w.t, herdtest.Promise(20*time.Second), "the journal's stream has a leader", func() error {
		s, err := w.js.Stream(w.t.Context(), "KV_herd_Clark")
		if err != nil {
			return err
		}
		_, err = fmt.Sscanf(s.CachedInfo().Cluster.Leader, "n%d", &number)
		return err
	})
	return servers[number]
}

// B9: with three NATS servers, killing one costs a journal the election of its stream's next
// leader, no more than a bare writer to that stream. Stopping one in order costs next to nothing.
func TestAJournalIsBackAsSoonAsABareWriter(t *testing.T) {
	quiet(t)
	h, servers := newClusteredHerd(t, herdtest.ProcessOptions{Topology: "Clark", Env: map[string]string{"HERD_DURABILITY": "journal"}}, "")
	w := startWriters(t, h, servers)
	judge := func(what string) {
		t.Helper()
		edge, floor, bare := w.edge.take(), w.floor.take(), w.bare.take()
		t.Logf("%s: an edge was without its journal for %v, a bare writer to its stream for %v, one to another stream for %v",
			what, edge.Round(time.Millisecond), floor.Round(time.Millisecond), bare.Round(time.Millisecond))
		// Beside the floor in the same run the machine's speed counts little. In the ordinary form
		// other packages are compiled and run on the same cores.
		if limit := max(floor, bare) + size(6*time.Second, 2*time.Second); edge > limit {
			t.Errorf("%s: an edge was without its journal for %v, want at most %v", what, edge, limit)
		}
	}
	// back waits until all three write again: twice, because the first success may be of a write
	// that was answered before.
	back := func() {
		t.Helper()
		all := []*gap{&w.edge, &w.floor, &w.bare}
		var before []int
		for _, g := range all {
			before = append(before, g.count())
		}
		for i, g := range all {
			herdtest.Eventually(t, herdtest.Promise(30*time.Second), "all are back", func() error {
				if n := g.count() - before[i]; n < 2 {
					return fmt.Errorf("%d writes since", n)
				}
				return nil
			})
		}
	}
	for round := range size(1, 3) {
		leader := w.leader(servers)
		leader.Kill()
		back()
		judge(fmt.Sprintf("round %d, its leader killed", round+1))
		leader.Start()
		w.settle()
	}
	rolled := servers // as deploy/README.md rolls them
	if !full() {
		rolled = []*herdtest.NATS{w.leader(servers)}
	}
	for i, s := range rolled {
		s.Signal(syscall.SIGTERM)
		s.Wait(herdtest.Promise(20 * time.Second))
		back()
		s.Start()
		back()
		judge(fmt.Sprintf("server %d rolled", i+1))
		w.settle()
	}
}
