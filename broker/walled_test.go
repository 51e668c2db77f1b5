package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/natsconf"
	"herd/broker/options"
	"herd/broker/topology"
	"herd/test/ports"
)

// hearing is how long an ear may take to receive a message.
const hearing = 3 * time.Second

// walled is a herd's broker with its real configuration, and the keys to it. No edge runs
// there.
type walled struct {
	t       *testing.T
	herd    *topology.Graph
	dir     string
	keys    map[string]string // public keys
	routes  []string          // one address per server
	change  func(string) string
	servers []*brokertest.Configured
	next    int // index of the server for the next connection
}

// walledBroker starts this many servers with the configuration of the default herd. change,
// if not nil, changes its text first.
func walledBroker(t *testing.T, nodes int, change func(text string) string) *walled {
	t.Helper()
	g := &walled{t: t, dir: t.TempDir(), change: change, keys: make(map[string]string)}
	for range nodes {
		g.routes = append(g.routes, ports.Addr(t))
	}
	g.servers = brokertest.StartConfigured(t, g.configure(topology.Default)...)
	return g
}

// configure writes a file per server, and creates missing keys.
func (g *walled) configure(links string) (files []string) {
	g.t.Helper()
	herd, err := topology.Parse(links)
	if err != nil {
		g.t.Fatal(err)
	}
	g.herd = herd
	for _, name := range append(herd.Edges(), natsconf.OtherAccounts()...) {
		if g.keys[name] != "" {
			continue
		}
		seed, public, err := broker.NewKey()
		if err != nil {
			g.t.Fatal(err)
		}
		if err := os.WriteFile(g.key(name), seed, 0o600); err != nil {
			g.t.Fatal(err)
		}
		g.keys[name] = public
	}
	for i, route := range g.routes {
		c := natsconf.Server{
			Herd: herd, Prefix: "herd", Keys: g.keys, Name: fmt.Sprintf("node%d", i), Listen: "127.0.0.1:0",
			StoreDir: filepath.Join(g.dir, fmt.Sprint(i)), SyncInterval: time.Minute, JournalMax: 64 << 20,
		}
		if len(g.routes) > 1 {
			c.Cluster = &natsconf.Cluster{Name: "herd", Listen: route, Routes: g.routes, Password: "secret"}
		}
		text := c.String()
		if g.change != nil {
			text = g.change(text)
		}
		file := filepath.Join(g.dir, c.Name+".conf")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			g.t.Fatal(err)
		}
		files = append(files, file)
	}
	return files
}

func (g *walled) key(name string) string { return filepath.Join(g.dir, name+".nk") }

// url returns the URL of each server in turn, so that attacks cross routes.
func (g *walled) url() string {
	g.next++
	return g.servers[g.next%len(g.servers)].URL()
}

// login makes a plain connection with a user's key, as a thief of the key would. complaints
// receives what the server refuses.
func (g *walled) login(name string, complaints chan<- error) *nats.Conn {
	g.t.Helper()
	key, err := nats.NkeyOptionFromSeed(g.key(name))
	if err != nil {
		g.t.Fatal(err)
	}
	nc, err := nats.Connect(g.url(), key, nats.Name(name), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
		if complaints != nil {
			complaints <- err
		}
	}))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(nc.Close)
	return nc
}

// conn makes a connection like the herd's own.
func (g *walled) conn(name string) *broker.Conn {
	g.t.Helper()
	c, err := broker.Dial(options.Broker{URL: g.url(), NKey: g.key(name)}, name, broker.Events{}, brokertest.Log(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	if err := c.Wait(soon(g.t)); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// An ear receives everything that is published in an account.
type ear struct {
	account string
	nc      *nats.Conn

	mu    sync.Mutex
	heard []string // subject and payload
	more  chan struct{}
}

func (g *walled) listen(account string) *ear {
	g.t.Helper()
	e := &ear{account: account, nc: g.login(account, nil), more: make(chan struct{}, 1)}
	_, err := e.nc.Subscribe(">", func(m *nats.Msg) {
		if strings.HasPrefix(m.Subject, "$JS.EVENT.") { // JetStream's own events about its account
			return
		}
		e.mu.Lock()
		e.heard = append(e.heard, m.Subject+" "+string(m.Data))
		e.mu.Unlock()
		select {
		case e.more <- struct{}{}:
		default:
		}
	})
	if err == nil {
		err = e.nc.FlushTimeout(patience)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	return e
}

// await returns true when what the ear has received fits, or false when the time is up.
func (e *ear) await(fits func(heard []string) bool, limit time.Duration) bool {
	end, tick := time.After(limit), time.NewTicker(10*time.Millisecond) // limit for what is not received
	defer tick.Stop()
	for {
		e.mu.Lock()
		ok := fits(e.heard)
		e.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-e.more:
		case <-tick.C:
		case <-end:
			return false
		}
	}
}

func (e *ear) forget() (heard []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	heard, e.heard = e.heard, nil
	return heard
}

// noPermissions removes the users' permissions, so that only the accounts protect.
func noPermissions(text string) string {
	return regexp.MustCompile(`(?s), permissions: \{ publish: \[.*?\] \} \}`).ReplaceAllString(text, " }")
}

// clarksJournal makes Clark's bucket with a value, for which a cluster may need a moment. It
// must run before the ears subscribe: an ear counts as a responder.
func (g *walled) clarksJournal(key, value string) *broker.Bucket {
	g.t.Helper()
	bucket := g.conn("Clark").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: len(g.servers)})
	write := func() error {
		ctx, cancel := context.WithTimeout(g.t.Context(), hearing)
		defer cancel()
		if err := bucket.Open(ctx); err != nil {
			return err
		}
		_, err := bucket.Write(ctx, 0, []broker.BucketEntry{{Key: key, Value: []byte(value)}})
		if errors.Is(err, broker.ErrRefused) { // by an earlier attempt that was stored without an answer
			err = nil
		}
		return err
	}
	for end := time.Now().Add(patience); ; {
		err := write()
		if err == nil {
			return bucket
		}
		if time.Now().After(end) {
			g.t.Fatal(err)
		}
	}
}

// control makes every edge but Clark send a message on each of its links, waits until it is
// received where it should be, and returns what the ears have received since the last call.
func (g *walled) control(ears map[string]*ear, round int) (heard map[string][]string) {
	g.t.Helper()
	want := make(map[string][]string)
	say := func() {
		clear(want)
		for _, link := range g.herd.Links() {
			for _, kind := range []string{"at", "ack"} {
				for i, from := range link {
					if from == "Clark" {
						continue
					}
					to := link[1-i]
					subject, payload := "herd."+kind+"."+from+"."+to, fmt.Sprint("control ", round)
					if err := ears[from].nc.Publish(subject, []byte(payload)); err != nil {
						g.t.Fatal(err)
					}
					for _, account := range []string{from, to, natsconf.OperatorAccount} {
						want[account] = append(want[account], subject+" "+payload)
					}
				}
			}
		}
	}
	for end := time.Now().Add(patience); ; { // the nodes of a cluster learn of new ears one by one
		say()
		deaf := ""
		for account, lines := range want {
			if !ears[account].await(func(heard []string) bool {
				return !slices.ContainsFunc(lines, func(line string) bool { return !slices.Contains(heard, line) })
			}, time.Second) {
				deaf = account
			}
		}
		if deaf == "" {
			break
		}
		if time.Now().After(end) {
			g.t.Fatalf("the ear in the account %s is deaf: it heard %q of %q", deaf, ears[deaf].forget(), want[deaf])
		}
	}
	heard = make(map[string][]string)
	for account, e := range ears {
		heard[account] = e.forget()
	}
	return heard
}

// ask sends a request, and returns "" if it stays unanswered.
func ask(t *testing.T, nc *nats.Conn, subject, payload string) string {
	t.Helper()
	m, err := nc.Request(subject, []byte(payload), hearing)
	switch {
	case errors.Is(err, nats.ErrNoResponders), errors.Is(err, nats.ErrTimeout):
		return ""
	case err != nil:
		t.Fatal(err)
	}
	return string(m.Data)
}

// state returns the state of a journal as its owner sees it.
func (g *walled) state(b *broker.Bucket) broker.BucketState {
	g.t.Helper()
	s, err := b.State(soon(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// endpoints offers a micro service per edge that reports who sent it what.
func (g *walled) endpoints() (told chan string) {
	told = make(chan string, 100)
	for _, edge := range g.herd.Edges() {
		s, err := g.conn(edge).Serve(broker.ServiceConfig{
			Prefix: "herd", Edge: edge, Version: "1.2.3",
			IAMAT: func(payload []byte, _ time.Time) broker.Reply {
				told <- edge + " " + string(payload)
				return broker.Reply{Answer: []byte("AT " + edge)}
			},
			WHATSAT: func([]byte, time.Time) broker.Reply { return broker.Reply{Answer: []byte("near " + edge)} },
			WHOSAT:  func([]byte, time.Time) broker.Reply { return broker.Reply{Answer: []byte("who " + edge)} },
			Status:  func([]byte) []byte { return []byte(`{"edge":"` + edge + `"}`) },
			Client:  func([]byte) broker.Reply { return broker.Reply{Answer: []byte(`{"client":"` + edge + `"}`)} },
			Cells:   func([]byte) broker.Reply { return broker.Reply{Answer: []byte(`{"cells":"` + edge + `"}`)} },
			Digest:  func([]byte) broker.Reply { return broker.Reply{Answer: []byte(`{"digest":"` + edge + `"}`)} },
		})
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { s.Stop(g.t.Context()) })
	}
	return told
}

// services returns the names in the answers that arrive within a moment.
func (g *walled) services(nc *nats.Conn, subject string) (edges []string) {
	g.t.Helper()
	inbox, err := nc.SubscribeSync(nc.NewInbox())
	if err == nil {
		err = nc.PublishRequest(subject, inbox.Subject, nil)
	}
	if err != nil {
		g.t.Fatal(err)
	}
	for len(edges) < 5 {
		m, err := inbox.NextMsg(hearing)
		if err != nil {
			return edges
		}
		var answer struct{ Metadata map[string]string }
		if err := json.Unmarshal(m.Data, &answer); err != nil {
			g.t.Fatal(err)
		}
		edges = append(edges, answer.Metadata["edge"])
	}
	slices.Sort(edges)
	return slices.Compact(edges)
}
