package broker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

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
		g.routes = append(g.routes, freeAddr(t))
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

// freeAddr is an address of this machine where nobody listens just now: routes need one
// that is known before.
func freeAddr(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().String()
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

// An attack is something that Clark, who keeps to no rule, tries. It returns the
// subject on which Clark's own account must hear of it, as proof that it took
// place; "" where nothing is published.
type attack struct {
	name string
	try  func(t *testing.T, clark *nats.Conn, js jetstream.JetStream) (inside string)
}

func publishes(subject string) attack {
	return attack{"publish " + subject, func(t *testing.T, clark *nats.Conn, _ jetstream.JetStream) string {
		if err := clark.PublishRequest(subject, "herd.at.Clark.Bernard", []byte("attack")); err != nil {
			t.Error(err)
		}
		return subject
	}}
}

// asks makes somebody answer on a foreign link.
func asks(subject, reply, payload string) attack {
	return attack{"ask " + subject + " for an answer on " + reply, func(t *testing.T, clark *nats.Conn, _ jetstream.JetStream) string {
		m := &nats.Msg{Subject: subject, Reply: reply, Data: []byte(payload)}
		if strings.HasPrefix(subject, "herd.join.") {
			m.Header = nats.Header{"Herd-Config": {"c"}}
		}
		if err := clark.PublishMsg(m); err != nil {
			t.Error(err)
		}
		return reply
	}}
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

// attacks need Clark's bucket with a value for kiwi.
func attacks() []attack {
	all := []attack{
		// As another edge; to who is no neighbour; a neighbour's claims and endpoints.
		publishes("herd.at.Bernard.Jaquez"), publishes("herd.at.Jaquez.Bernard"), publishes("herd.at.Jaquez.Clark"),
		publishes("herd.ack.Bernard.Jaquez"), publishes("herd.join.Bernard.Jaquez"),
		publishes("herd.at.Clark.Bernard"), publishes("herd.ack.Clark.Bernard"), publishes("herd.join.Clark.Bernard"),
		publishes("herd.join.Jaquez.Jaquez"), publishes("herd.join.Bernard.Bernard"),
		publishes("herd.edge.Jaquez.iamat"), publishes("herd.edge.Jaquez.whatsat"), publishes("herd.edge.Jaquez.status"),
		publishes("$SRV.PING"), publishes("$SRV.STATS.herd-edge"),
		// A neighbour's journal.
		publishes("$KV.herd_Jaquez.kiwi"), publishes("$KV.herd_Bernard.kiwi"),
		publishes("JS.Jaquez.API.STREAM.INFO.KV_herd_Jaquez"), publishes("JS.Jaquez.API.DIRECT.GET.KV_herd_Jaquez"),
		// Guessed names of what the server makes of an import.
		publishes("Jaquez.herd.at.Jaquez.Bernard"), publishes("_R_.guess"), publishes("_INBOX.guess.1"),
		publishes("$SYS.ACCOUNT.Jaquez.CONNECT"), publishes("$SYS.REQ.ACCOUNT.Jaquez.CONNZ"),
	}
	for _, reply := range []string{"herd.at.Clark.Bernard", "herd.at.Jaquez.Bernard", "herd.join.Jaquez.Jaquez", "$KV.herd_Jaquez.kiwi"} {
		all = append(all,
			asks("herd.join.Clark.Jaquez", reply, ""),
			asks("$JS.API.DIRECT.GET.KV_herd_Clark.$KV.herd_Clark.kiwi", reply, ""),
			asks("$JS.API.STREAM.MSG.GET.KV_herd_Clark", reply, `{"last_by_subj":"$KV.herd_Clark.kiwi"}`),
			asks("$JS.API.STREAM.INFO.KV_herd_Clark", reply, ""),
			asks("$KV.herd_Clark.kiwi", reply, "attack"), // the PubAck
			asks("$SYS.REQ.USER.INFO", reply, ""),
			attack{"a consumer that delivers to " + reply, func(t *testing.T, clark *nats.Conn, js jetstream.JetStream) string {
				interest, err := clark.SubscribeSync(reply)
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { interest.Unsubscribe() })
				_, err = js.CreatePushConsumer(t.Context(), "KV_herd_Clark", jetstream.ConsumerConfig{
					DeliverSubject: reply, AckPolicy: jetstream.AckNonePolicy, FilterSubject: "$KV.herd_Clark.kiwi", InactiveThreshold: time.Second,
				})
				if err != nil {
					t.Error(err)
				}
				return "$KV.herd_Clark.kiwi" // what is delivered keeps its name
			}},
		)
	}
	for _, to := range []string{"herd.at.Clark.Bernard", "herd.at.Jaquez.Bernard"} {
		all = append(all, attack{"a stream that republishes to " + to, func(t *testing.T, _ *nats.Conn, js jetstream.JetStream) string {
			ctx, cancel := context.WithTimeout(t.Context(), hearing)
			defer cancel()
			_, err := js.CreateStream(ctx, jetstream.StreamConfig{
				Name: "REPUBLISH", Subjects: []string{"_INBOX.republish"}, RePublish: &jetstream.RePublish{Source: "_INBOX.republish", Destination: to},
			})
			if errors.Is(err, context.DeadlineExceeded) {
				return to // refused: the ear will tell
			}
			if err != nil {
				t.Fatal(err)
			}
			for stored := false; !stored && ctx.Err() == nil; { // a cluster may need a moment
				trying, cancel := context.WithTimeout(ctx, hearing/5)
				_, err := js.Publish(trying, "_INBOX.republish", []byte("attack"))
				stored = err == nil
				cancel()
			}
			if err := js.DeleteStream(t.Context(), "REPUBLISH"); err != nil {
				t.Error(err)
			}
			return to
		}}, attack{"a trace that goes to " + to, func(t *testing.T, clark *nats.Conn, _ jetstream.JetStream) string {
			if err := clark.PublishMsg(&nats.Msg{Subject: "herd.at.Clark.Jaquez", Data: []byte("attack"), Header: nats.Header{"Nats-Trace-Dest": {to}}}); err != nil {
				t.Error(err)
			}
			return to
		}})
	}
	return all
}

// rightful tells whether an account may hear that while Clark does what it likes and all
// others say "control" on their own links.
func (g *walled) rightful(account, subject, payload string) bool {
	part := strings.Split(subject, ".")
	if strings.HasPrefix(subject, "_R_.") { // what Jaquez answers, before the server gives it to who asked
		return account == "Jaquez" && subject != "_R_.guess"
	}
	if len(part) != 4 || part[0] != "herd" || !slices.Contains(g.herd.Neighbours(part[2]), part[3]) {
		return false
	}
	kind, from, to := part[1], part[2], part[3]
	switch kind {
	case "at", "ack":
		return (account == from || account == to || account == broker.OperatorAccount) && (from == "Clark" || strings.HasPrefix(payload, "control "))
	case "join":
		return account == to && from == "Clark"
	}
	return false
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

// wrongs are what Clark has brought about in other accounts, and what it has overheard.
func (g *walled) wrongs(heard map[string][]string) (wrong []string) {
	for account, lines := range heard {
		for _, line := range lines {
			subject, payload, _ := strings.Cut(line, " ")
			foreign := account != "Clark" || strings.HasPrefix(payload, "control ")
			if foreign && !g.rightful(account, subject, payload) {
				wrong = append(wrong, account+" hears "+line)
			}
		}
	}
	return wrong
}

// H1: an edge, even a hostile one, reaches its neighbours'
// at, ack and join, and nobody else.
func TestAHostileEdgeIsHeardOnItsOwnLinksAlone(t *testing.T) {
	for _, test := range []struct {
		name      string
		nodes     int
		permitted bool // to publish anything: the accounts alone are the wall
	}{{"as written", 1, false}, {"by accounts alone", 1, true}, {"by accounts alone, in a cluster", 3, true}} {
		t.Run(test.name, func(t *testing.T) {
			var change func(string) string
			if test.permitted {
				change = noPermissions
			}
			g := walledBroker(t, test.nodes, change)
			g.clarksJournal("kiwi", "attack")
			ears := make(map[string]*ear)
			for _, account := range append(g.herd.Edges(), broker.OperatorAccount, broker.ClientAccount) {
				ears[account] = g.listen(account)
			}
			if err := g.conn("Jaquez").Neighbour("herd", "Jaquez", "Clark").Listen(broker.Handlers{
				Join: func(string) broker.Join { return broker.Join{Epoch: jaquezEpoch, Config: "attack"} },
			}); err != nil {
				t.Fatal(err)
			}
			refused := make(chan error, 100)
			clark := g.login("Clark", refused)
			js, err := jetstream.New(clark)
			if err != nil {
				t.Fatal(err)
			}
			g.control(ears, 0)

			for i, a := range attacks() {
				t.Run(a.name, func(t *testing.T) {
					inside := a.try(t, clark, js)
					took := ears["Clark"].await(func(heard []string) bool {
						return len(refused) > 0 || slices.ContainsFunc(heard, func(line string) bool { return strings.HasPrefix(line, inside+" ") })
					}, hearing)
					if !took {
						t.Errorf("nothing came of it in Clark's own account: %q", ears["Clark"].forget())
					}
					for len(refused) > 0 {
						if err := <-refused; test.permitted || !errors.Is(err, nats.ErrPermissionViolation) {
							t.Errorf("the server says %v", err)
						}
					}
					for _, wrong := range g.wrongs(g.control(ears, i+1)) {
						t.Error(wrong)
					}
				})
			}
		})
	}
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

// Nobody else writes to an edge's journal, reads all of it or deletes it.
func TestAJournalIsItsOwners(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	jaquez := g.conn("Jaquez").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Jaquez"})
	if err := jaquez.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := jaquez.Write(soon(t), []broker.BucketEntry{{Key: "kiwi", Value: []byte("rightful")}}); err != nil {
		t.Fatal(err)
	}
	before := g.state(jaquez)
	for _, account := range []string{"Clark", "Bernard", broker.OperatorAccount, broker.ClientAccount} {
		nc := g.login(account, nil)
		for _, api := range []string{"$JS.API", "JS.Jaquez.API"} {
			for _, question := range [][2]string{
				{".STREAM.DELETE.KV_herd_Jaquez", ""}, {".STREAM.PURGE.KV_herd_Jaquez", ""},
				{".STREAM.MSG.DELETE.KV_herd_Jaquez", `{"seq":1}`}, {".STREAM.MSG.GET.KV_herd_Jaquez", `{"seq":1}`},
				{".STREAM.UPDATE.KV_herd_Jaquez", `{"name":"KV_herd_Jaquez","subjects":["x"]}`},
				{".STREAM.SNAPSHOT.KV_herd_Jaquez", `{"deliver_subject":"snapshot"}`},
				{".STREAM.LEADER.STEPDOWN.KV_herd_Jaquez", ""},
				{".CONSUMER.CREATE.KV_herd_Jaquez", `{"stream_name":"KV_herd_Jaquez","config":{"ack_policy":"none","deliver_subject":"deliver"}}`},
				{".STREAM.NAMES", ""}, {".INFO", ""},
			} {
				answer := ask(t, nc, api+question[0], question[1])
				if strings.Contains(answer, "success\":true") || strings.Contains(answer, "rightful") || strings.Contains(answer, "created") {
					t.Errorf("%s asks %s%s and gets %s", account, api, question[0], answer)
				}
			}
		}
		if answer := ask(t, nc, "$KV.herd_Jaquez.kiwi", "foreign"); answer != "" {
			t.Errorf("%s writes, and gets %s", account, answer)
		}
	}

	// A stream of Clark's own may have the same name and the same subjects, or claim to
	// be a copy.
	js, err := jetstream.New(g.login("Clark", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "KV_herd_Jaquez", Subjects: []string{"$KV.herd_Jaquez.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := js.Publish(t.Context(), "$KV.herd_Jaquez.kiwi", []byte("foreign")); err != nil {
		t.Fatal(err)
	}
	for i, from := range []*jetstream.StreamSource{
		{Name: "KV_herd_Jaquez", External: &jetstream.ExternalStream{APIPrefix: "JS.Jaquez.API", DeliverPrefix: "herd.at.Jaquez"}},
		{Name: "KV_herd_Jaquez"}, // the positive: what is at hand is copied
	} {
		s, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: fmt.Sprint("COPY", i), Mirror: from})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			defer func() {
				if info, err := s.Info(t.Context()); err != nil || info.State.Msgs != 0 {
					t.Errorf("a mirror of a foreign journal holds something: %+v, %v", info, err)
				}
			}()
			continue
		}
		for end := time.Now().Add(patience); ; {
			info, err := s.Info(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if info.State.Msgs == 1 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("the mirror of an own stream stays empty")
			}
		}
	}

	if after := g.state(jaquez); after != before {
		t.Errorf("the journal was %+v and is %+v", before, after)
	}
	if e, ok, err := jaquez.Get(soon(t), "kiwi"); err != nil || !ok || string(e.Value) != "rightful" {
		t.Errorf("the journal holds %q, %v, %v", e.Value, ok, err)
	}
	operator := g.login(broker.OperatorAccount, nil)
	if answer := ask(t, operator, "JS.Jaquez.API.DIRECT.GET.KV_herd_Jaquez.$KV.herd_Jaquez.kiwi", ""); answer != "rightful" {
		t.Errorf("the operator is told %q of Jaquez' journal", answer)
	}
}

// Whatever Clark subscribes to, it overhears nothing.
func TestASpyHearsNothing(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	ears := make(map[string]*ear)
	for _, account := range append(g.herd.Edges(), broker.OperatorAccount) {
		ears[account] = g.listen(account)
	}
	spy := g.login("Clark", nil)
	heard := make(chan *nats.Msg, 1000)
	for _, subject := range []string{
		"herd.at.Bernard.Jaquez", "herd.at.*.*", "herd.>", "*.*.*.*", "herd.ack.Jaquez.Bernard", "herd.join.*.*",
		"herd.edge.Jaquez.*", "$SYS.>", "$SYS.ACCOUNT.>", "$KV.>", "Jaquez.>", "_R_.>",
	} {
		if _, err := spy.ChanSubscribe(subject, heard); err != nil {
			t.Fatal(err)
		}
		if _, err := spy.ChanQueueSubscribe(subject, "q", heard); err != nil { // to take it from who should have it
			t.Fatal(err)
		}
	}
	js, err := jetstream.New(spy)
	if err != nil {
		t.Fatal(err)
	}
	tap, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "TAP", Subjects: []string{"herd.>"}, NoAck: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := spy.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	for _, wrong := range g.wrongs(g.control(ears, 1)) {
		t.Error(wrong)
	}
	own := 0
	if err := spy.FlushTimeout(patience); err != nil { // all that was to come has come
		t.Fatal(err)
	}
	for len(heard) > 0 {
		m := <-heard
		if !g.rightful("Clark", m.Subject, string(m.Data)) && !strings.HasPrefix(m.Subject, "$JS.EVENT.") {
			t.Errorf("the spy hears %s %q", m.Subject, m.Data)
		}
		own++
	}
	if own == 0 {
		t.Error("the spy is deaf: it does not even hear its own links")
	}
	info, err := tap.Info(t.Context(), jetstream.WithSubjectFilter("herd.>"))
	if err != nil {
		t.Fatal(err)
	}
	for subject := range info.State.Subjects {
		if !strings.HasSuffix(subject, ".Clark") {
			t.Errorf("a stream of the spy's holds %s", subject)
		}
	}
}

// The server tells an edge of itself alone.
func TestTheServerTellsAnEdgeNothingOfOthers(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	g.conn("Jaquez")
	clark, system := g.login("Clark", nil), g.login(broker.SystemAccount, nil)
	for _, subject := range []string{
		"$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.SERVER.PING.ACCOUNTZ", "$SYS.REQ.SERVER.PING.KICK", "$SYS.REQ.SERVER.PING.JSZ",
		"$SYS.REQ.ACCOUNT.Jaquez.CONNZ", "$SYS.REQ.ACCOUNT.Jaquez.SUBSZ", "$SYS.REQ.ACCOUNT.Jaquez.INFO", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.ACCOUNT.PING.STATZ",
	} {
		if answer := ask(t, clark, subject, `{"subscriptions":true,"auth":true,"cid":1}`); strings.Contains(answer, "Jaquez") {
			t.Errorf("Clark asks %s and is told %s", subject, answer)
		}
	}
	if answer := ask(t, clark, "$SYS.REQ.USER.INFO", ""); !strings.Contains(answer, `"account":"Clark"`) {
		t.Errorf("Clark is told of itself: %s", answer)
	}
	for _, subject := range []string{"$SYS.REQ.SERVER.PING.CONNZ", "$SYS.REQ.ACCOUNT.Jaquez.CONNZ"} {
		if answer := ask(t, system, subject, ""); !strings.Contains(answer, `"Jaquez"`) {
			t.Errorf("the system account asks %s and is told %s", subject, answer)
		}
	}
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

func TestTheOperatorLooksAtEverythingAndChangesNothing(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			g := walledBroker(t, nodes, nil)
			bucket := g.clarksJournal("kiwi.cs.ucla.edu", "AT Clark")
			told := g.endpoints()
			ears := make(map[string]*ear)
			for _, account := range append(g.herd.Edges(), broker.OperatorAccount) {
				ears[account] = g.listen(account)
			}
			g.control(ears, 0) // it hears every link

			operator := g.conn(broker.OperatorAccount)
			for end := time.Now().Add(patience); ; {
				answers, err := operator.Statuses(soon(t), "herd")
				if err == nil && len(answers) == 5 {
					break
				}
				if time.Now().After(end) {
					t.Fatalf("asked for their status, the edges say %s, %v", answers, err)
				}
			}
			nc := g.login(broker.OperatorAccount, nil)
			for _, edge := range g.herd.Edges() {
				if got := ask(t, nc, "herd.edge."+edge+".whatsat", "kiwi 10 5"); got != "near "+edge {
					t.Errorf("%s answers whatsat with %q", edge, got)
				}
			}
			for _, verb := range []string{"PING", "INFO", "STATS"} {
				if got := g.services(nc, "$SRV."+verb+".herd-edge"); len(got) != 5 {
					t.Errorf("$SRV.%s finds %q", verb, got)
				}
			}
			js, err := jetstream.NewWithAPIPrefix(nc, "JS.Clark.API")
			if err != nil {
				t.Fatal(err)
			}
			kv, err := js.KeyValue(t.Context(), "herd_Clark")
			if err != nil {
				t.Fatal(err)
			}
			e, err := kv.Get(t.Context(), "kiwi.cs.ucla.edu")
			if err != nil || string(e.Value()) != "AT Clark" {
				t.Errorf("the journal holds %v, %v", e, err)
			}

			before := g.state(bucket)
			g.control(ears, 1)
			for _, subject := range []string{
				"herd.edge.Clark.iamat", "herd.at.Clark.Jaquez", "herd.at.Jaquez.Clark", "herd.ack.Clark.Jaquez", "herd.join.Clark.Jaquez",
				"herd.join.Clark.Clark", "$KV.herd_Clark.kiwi", "$JS.API.STREAM.DELETE.KV_herd_Clark", "JS.Clark.API.STREAM.DELETE.KV_herd_Clark",
				"JS.Clark.API.STREAM.PURGE.KV_herd_Clark", "JS.Clark.API.CONSUMER.CREATE.KV_herd_Clark", "$JS.API.STREAM.CREATE.NEW",
				"$SYS.REQ.SERVER.PING.KICK",
			} {
				if err := nc.PublishRequest(subject, "answers", []byte("operator")); err != nil {
					t.Error(err)
				}
			}
			if err := nc.FlushTimeout(patience); err != nil {
				t.Fatal(err)
			}
			for account, lines := range g.control(ears, 2) {
				for _, line := range lines {
					if account == broker.OperatorAccount && strings.HasPrefix(line, "answers ") && !strings.Contains(line, `"error"`) ||
						account != broker.OperatorAccount && strings.HasSuffix(line, " operator") {
						t.Errorf("%s hears %s", account, line)
					}
				}
			}
			if len(told) > 0 {
				t.Errorf("an edge was told %q", <-told)
			}
			if after := g.state(bucket); after != before {
				t.Errorf("the journal was %+v and is %+v", before, after)
			}
		})
	}
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

func TestATrustedServiceTellsAnyEdgeOfAnyClientAndNothingElse(t *testing.T) {
	g := walledBroker(t, 1, nil)
	told := g.endpoints()
	ears := make(map[string]*ear)
	for _, account := range append(g.herd.Edges(), broker.OperatorAccount) {
		ears[account] = g.listen(account)
	}
	nc := g.login(broker.ClientAccount, nil)
	for _, edge := range g.herd.Edges() {
		for verb, want := range map[string]string{"iamat": "AT " + edge, "whatsat": "near " + edge, "status": `{"edge":"` + edge + `"}`} {
			if got := ask(t, nc, "herd.edge."+edge+"."+verb, "any.id"); got != want {
				t.Errorf("%s answers %s with %q", edge, verb, got)
			}
		}
		if got := <-told; got != edge+" any.id" {
			t.Errorf("told %q", got)
		}
	}
	for _, subject := range []string{
		"herd.at.Clark.Jaquez", "herd.ack.Clark.Jaquez", "herd.join.Clark.Jaquez", "herd.join.Clark.Clark", "$KV.herd_Clark.kiwi",
		"JS.Clark.API.STREAM.INFO.KV_herd_Clark", "$JS.API.STREAM.DELETE.KV_herd_Clark", "$SRV.PING", "$SRV.INFO.herd-edge",
	} {
		if answer := ask(t, nc, subject, "trespass"); answer != "" && !strings.Contains(answer, `"error"`) {
			t.Errorf("a client says something on %s, and is answered %s", subject, answer)
		}
	}
	for account, lines := range g.control(ears, 1) {
		for _, line := range lines {
			if strings.HasSuffix(line, " trespass") {
				t.Errorf("%s hears %s", account, line)
			}
		}
	}
}

// What one edge stores takes nothing from the others.
func TestAnEdgeThatFloodsItsJournalHarmsNobodyElse(t *testing.T) {
	g := walledBroker(t, 1, func(text string) string {
		return noPermissions(strings.ReplaceAll(text, fmt.Sprint("max_file: ", 64<<20), "max_file: 1048576"))
	})
	js, err := jetstream.New(g.login("Clark", nil))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "MEMORY", Subjects: []string{"_INBOX.m"}, Storage: jetstream.MemoryStorage}); err == nil {
		_, err = js.Publish(t.Context(), "_INBOX.m", make([]byte, 1000))
		if err == nil {
			t.Error("an edge may fill the server's memory")
		}
		if err := js.DeleteStream(t.Context(), "MEMORY"); err != nil {
			t.Error(err)
		}
	}
	flood := jetstream.StreamConfig{Name: "FLOOD", Subjects: []string{"$KV.herd_Clark.>"}}
	if _, err := js.CreateStream(t.Context(), flood); err != nil {
		t.Fatal(err)
	}
	stored := 0
	for ; stored < 100; stored++ {
		if _, err = js.Publish(t.Context(), "$KV.herd_Clark.x", make([]byte, 64<<10)); err != nil {
			break
		}
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); !ok || e.ErrorCode != 10002 && e.ErrorCode != 10047 && e.ErrorCode != 10077 {
		t.Errorf("the flood of %d messages ends with %v", stored, err)
	}
	if stored < 8 || stored > 16 {
		t.Errorf("%d messages of 64 KiB were stored in 1 MiB", stored)
	}
	streams := 1
	for ; streams < 100; streams++ {
		_, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: fmt.Sprint("S", streams), Subjects: []string{fmt.Sprint("_INBOX.s", streams)}})
		if err != nil {
			break
		}
	}
	if streams != 4 {
		t.Errorf("an edge may have %d streams", streams)
	}
	jaquez := g.conn("Jaquez").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Jaquez"})
	if err := jaquez.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := jaquez.Write(soon(t), fresh("a", 100)); err != nil {
		t.Errorf("beside the flood a neighbour cannot write: %v", err)
	}

	var open []*nats.Conn
	for len(open) < 100 {
		key, err := nats.NkeyOptionFromSeed(g.key("Clark"))
		if err != nil {
			t.Fatal(err)
		}
		nc, err := nats.Connect(g.url(), key)
		if err != nil {
			break
		}
		t.Cleanup(nc.Close)
		open = append(open, nc)
	}
	if len(open) > 64 {
		t.Errorf("an edge may have %d connections", len(open))
	}
	g.conn("Jaquez")
}

// An edge that has another's key is told so by the subject that it may not publish on; one
// whose key nobody knows, in the server's words. Both are well again when the file of the
// key is, without a restart.
func TestAKeyThatIsMendedIsReadAgain(t *testing.T) {
	g := walledBroker(t, 1, nil)
	right, err := os.ReadFile(g.key("Clark"))
	if err != nil {
		t.Fatal(err)
	}
	stranger, _, err := broker.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	jaquez, err := os.ReadFile(g.key("Jaquez"))
	if err != nil {
		t.Fatal(err)
	}
	_, heard := link(t, g.conn("Jaquez"), g.conn("Jaquez"))
	for _, test := range []struct {
		name    string
		started []byte // the key at the start
		broken  []byte // and what it is before it is mended
		says    string
	}{
		{"another edge's", jaquez, jaquez, `Permissions Violation for Publish to \"herd.at.Clark.Jaquez\"`},
		{"nobody's", stranger, stranger, "Authorization Violation"},
		{"nobody's, later", right, stranger, "authorization violation"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			put := func(key []byte) {
				t.Helper()
				if err := os.WriteFile(file, key, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			put(test.started)
			log := &memory{}
			c, err := broker.Dial(broker.Options{URL: g.url(), NKey: file}, "Clark", broker.Events{}, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			n := c.Neighbour("herd", "Clark", "Jaquez")
			trying := true
			try := func() { // as a link's heartbeats do, whether there is a connection or not
				_ = n.Send(&broker.Message{Epoch: clarkEpoch, Lines: []byte(test.name)})
			}
			if string(test.started) != string(test.broken) {
				if err := c.Wait(soon(t)); err != nil {
					t.Fatal(err)
				}
				put(test.broken)
				if err := c.Reconnect(); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(patience); !strings.Contains(log.String(), test.says); {
				try()
				if time.Now().After(end) {
					t.Fatalf("the log has no %q:\n%s", test.says, log)
				}
				time.Sleep(5 * time.Millisecond)
			}
			for len(heard) > 0 {
				<-heard
			}
			put(right)
			for end := time.After(patience); trying; {
				try()
				select {
				case m := <-heard:
					trying = string(m.Lines) != test.name
				case <-time.After(20 * time.Millisecond):
				case <-end:
					t.Fatalf("Jaquez hears nothing:\n%s", log)
				}
			}
			for _, key := range [][]byte{right, stranger, jaquez} {
				if strings.Contains(log.String(), strings.TrimSpace(string(key))) {
					t.Error("a key is in the log")
				}
			}
		})
	}
}

// An edge that is new to a running cluster gets its links and its journal by reloads of
// each server; whoever is connected notices nothing.
func TestAReloadMakesRoomForANewEdge(t *testing.T) {
	for _, nodes := range []int{1, 3} {
		t.Run(fmt.Sprint(nodes, " nodes"), func(t *testing.T) {
			g := walledBroker(t, nodes, nil)
			log := &memory{}
			clark, err := broker.Dial(broker.Options{URL: g.url(), NKey: g.key("Clark")}, "Clark", broker.Events{}, slog.New(slog.NewTextHandler(log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer clark.Close()
			if err := clark.Wait(soon(t)); err != nil {
				t.Fatal(err)
			}
			jaquez := g.conn("Jaquez")
			heard := make(chan string, 1000)
			listen := func(from string) {
				t.Helper()
				if err := clark.Neighbour("herd", "Clark", from).Listen(broker.Handlers{
					Message: func(m broker.Message) { heard <- string(m.Lines) },
					Join:    func(string) broker.Join { return broker.Join{Epoch: clarkEpoch, Config: "c"} },
				}); err != nil {
					t.Fatal(err)
				}
			}
			listen("Jaquez")
			await := func(c *broker.Conn, name, text string) {
				t.Helper()
				for end := time.After(patience); ; {
					if err := c.Neighbour("herd", name, "Clark").Send(&broker.Message{Epoch: jaquezEpoch, Lines: []byte(text)}); err != nil {
						t.Fatal(err)
					}
					select {
					case got := <-heard:
						if got == text {
							return
						}
					case <-time.After(50 * time.Millisecond): // a cluster learns of subscriptions one after the other
					case <-end:
						t.Fatalf("Clark hears nothing of %s", name)
					}
				}
			}
			await(jaquez, "Jaquez", "before")

			g.configure(topology.Default + ",Clark-Newman")
			// The first reload makes a new account, but none of its imports of services:
			// nats-server 2.15.2 leaves them to the next.
			for range 2 {
				for _, s := range slices.Backward(g.servers) {
					if err := s.Reload(); err != nil {
						t.Fatal(err)
					}
				}
			}
			// Its neighbours listen to it only now. What was subscribed to before would stay unknown
			// to those servers of a cluster that learned of the account later (nats-server issue
			// 8560); that is why edges are restarted after the reloads.
			listen("Newman")
			newman := g.conn("Newman")
			await(newman, "Newman", "new")
			await(jaquez, "Jaquez", "after")
			if _, err := newman.Neighbour("herd", "Newman", "Clark").AskJoin(soon(t), "c"); err != nil {
				t.Error(err)
			}
			journal := newman.Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Newman", Replicas: nodes})
			for end := time.Now().Add(patience); ; {
				err := journal.Open(soon(t))
				if err == nil {
					_, err = journal.Write(soon(t), fresh("a", 10))
				}
				if err == nil {
					break
				}
				if time.Now().After(end) {
					t.Fatal(err)
				}
			}
			if text := log.String(); strings.Contains(text, "disconnected") || strings.Contains(text, "complains") {
				t.Errorf("Clark noticed:\n%s", text)
			}

			g.configure(topology.Default)
			for _, s := range g.servers {
				if err := s.Reload(); err != nil {
					t.Fatal(err)
				}
			}
			for end := time.Now().Add(patience); newman.Connected(); time.Sleep(5 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("Newman is still let in")
				}
			}
			await(jaquez, "Jaquez", "at last")
		})
	}
}
