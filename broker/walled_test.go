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
	"herd/broker/topology"
)

// hearing is how long an ear may take.
const hearing = time.Second

// walled is a herd's broker as its configuration makes it, and the keys to it. No
// edge runs there.
type walled struct {
	t       *testing.T
	herd    *topology.Graph
	dir     string
	keys    map[string]string // public ones
	routes  []string          // an address a server
	change  func(string) string
	servers []*brokertest.Configured
	next    int // of the servers, for the next connection
}

// walledBroker starts nodes servers with the configuration of the default herd.
// change, if any, changes its text first.
func walledBroker(t *testing.T, nodes int, change func(text string) string) *walled {
	t.Helper()
	g := &walled{t: t, dir: t.TempDir(), change: change, keys: make(map[string]string)}
	for range nodes {
		g.routes = append(g.routes, brokertest.FreeAddr(t))
	}
	g.servers = brokertest.StartConfigured(t, g.configure(topology.Default)...)
	return g
}

// configure writes a file for each server, and the keys that are missing.
func (g *walled) configure(links string) (files []string) {
	g.t.Helper()
	herd, err := topology.Parse(links)
	if err != nil {
		g.t.Fatal(err)
	}
	g.herd = herd
	for _, name := range append(herd.Edges(), broker.OtherAccounts()...) {
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
		c := broker.ServerConfig{
			Herd: herd, Prefix: "herd", Keys: g.keys, Name: fmt.Sprintf("node%d", i), Listen: "127.0.0.1:0",
			StoreDir: filepath.Join(g.dir, fmt.Sprint(i)), SyncInterval: time.Minute, JournalMax: 64 << 20,
		}
		if len(g.routes) > 1 {
			c.Cluster = &broker.ClusterConfig{Name: "herd", Listen: route, Routes: g.routes, Password: "secret"}
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

// url is that of each server in turn, so that what is tried crosses routes.
func (g *walled) url() string {
	g.next++
	return g.servers[g.next%len(g.servers)].URL()
}

// login is a plain connection with a user's key, as anybody's who has stolen it.
// complaints gets what the server refuses.
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

// conn is a connection as the herd's own are.
func (g *walled) conn(name string) *broker.Conn {
	g.t.Helper()
	c, err := broker.Dial(broker.Options{URL: g.url(), NKey: g.key(name)}, name, broker.Events{}, brokertest.Log(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	if err := c.Wait(soon(g.t)); err != nil {
		g.t.Fatal(err)
	}
	return c
}

// An ear hears everything that is said in an account.
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
		if strings.HasPrefix(m.Subject, "$JS.EVENT.") { // JetStream's own words on what its account did
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

// await returns when the ear has heard what fits, or false when the time is up.
func (e *ear) await(fits func(heard []string) bool, limit time.Duration) bool {
	end, tick := time.After(limit), time.NewTicker(10*time.Millisecond) // for what is not heard
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

// noPermissions takes the users' permissions out, so that the accounts alone stand.
func noPermissions(text string) string {
	return regexp.MustCompile(`(?s), permissions: \{ publish: \[.*?\] \} \}`).ReplaceAllString(text, " }")
}

// clarksJournal makes Clark's bucket with a value. A cluster may need a moment for it. It comes
// before the ears: one counts as somebody who could answer.
func (g *walled) clarksJournal(key, value string) *broker.Bucket {
	g.t.Helper()
	bucket := g.conn("Clark").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Clark", Replicas: len(g.servers)})
	write := func() error {
		ctx, cancel := context.WithTimeout(g.t.Context(), hearing)
		defer cancel()
		if err := bucket.Open(ctx); err != nil {
			return err
		}
		_, err := bucket.Write(ctx, []broker.BucketEntry{{Key: key, Value: []byte(value)}})
		if errors.Is(err, broker.ErrRefused) { // by what an attempt without an answer wrote
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

// control has every edge but Clark say something on each of its links, waits until it is
// heard where it should be, and returns all that the ears have heard since the last time.
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
					for _, account := range []string{from, to, broker.OperatorAccount} {
						want[account] = append(want[account], subject+" "+payload)
					}
				}
			}
		}
	}
	for end := time.Now().Add(patience); ; { // the nodes of a cluster learn of new ears one after the other
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

// ask is a request that may stay unanswered: then the answer is "".
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

// state is what the owner of a journal sees of it.
func (g *walled) state(b *broker.Bucket) broker.BucketState {
	g.t.Helper()
	s, err := b.State(soon(g.t))
	if err != nil {
		g.t.Fatal(err)
	}
	return s
}

// endpoints is a micro service of each edge that counts who told it what.
func (g *walled) endpoints() (told chan string) {
	told = make(chan string, 100)
	for _, edge := range g.herd.Edges() {
		s, err := g.conn(edge).Serve(broker.ServiceConfig{
			Prefix: "herd", Edge: edge, Version: "1.2.3",
			IAMAT: func(payload []byte, _ time.Time) ([]byte, bool) {
				told <- edge + " " + string(payload)
				return []byte("AT " + edge), true
			},
			WHATSAT: func([]byte, time.Time) ([]byte, bool) { return []byte("near " + edge), true },
			Status:  func() []byte { return []byte(`{"edge":"` + edge + `"}`) },
		})
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(s.Stop)
	}
	return told
}

// services are the names in what comes back within a moment.
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
