package broker_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/natsconf"
	"herd/broker/options"
)

// An attack is something that Clark tries against all rules. It returns the subject on which
// Clark's own account must receive it, as proof that it took place, or "" if nothing is
// published.
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

// asks makes another account answer on a link that is not Clark's.
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

// attacks returns attacks that need Clark's bucket with a value for kiwi.
func attacks() []attack {
	all := []attack{
		// As another edge; to an edge that is no neighbour; a neighbour's claims and
		// endpoints.
		publishes("herd.at.Bernard.Jaquez"), publishes("herd.at.Jaquez.Bernard"), publishes("herd.at.Jaquez.Clark"),
		publishes("herd.ack.Bernard.Jaquez"), publishes("herd.join.Bernard.Jaquez"),
		publishes("herd.at.Clark.Bernard"), publishes("herd.ack.Clark.Bernard"), publishes("herd.join.Clark.Bernard"),
		publishes("herd.join.Jaquez.Jaquez"), publishes("herd.join.Bernard.Bernard"),
		publishes("herd.edge.Jaquez.iamat"), publishes("herd.edge.Jaquez.whatsat"), publishes("herd.edge.Jaquez.whosat"), publishes("herd.edge.Jaquez.status"),
		publishes("herd.edge.Jaquez.client"), publishes("herd.edge.Jaquez.cells"), publishes("herd.edge.Jaquez.digest"),
		publishes("$SRV.PING"), publishes("$SRV.STATS.herd-edge"),
		// A neighbour's journal.
		publishes("$KV.herd_Jaquez.kiwi"), publishes("$KV.herd_Bernard.kiwi"),
		publishes("JS.Jaquez.API.STREAM.INFO.KV_herd_Jaquez"), publishes("JS.Jaquez.API.DIRECT.GET.KV_herd_Jaquez"),
		// Guessed names that the server gives to imports.
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
				return "$KV.herd_Clark.kiwi" // a delivered message keeps its subject
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
				return to // refused: the ear would receive it
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

// rightful reports whether an account may receive this message while Clark attacks and all
// other edges send "control" on their own links.
func (g *walled) rightful(account, subject, payload string) bool {
	part := strings.Split(subject, ".")
	if strings.HasPrefix(subject, "_R_.") { // an answer of Jaquez, before the server passes it on to the account that asked
		return account == "Jaquez" && subject != "_R_.guess"
	}
	if len(part) != 4 || part[0] != "herd" || !slices.Contains(g.herd.Neighbours(part[2]), part[3]) {
		return false
	}
	kind, from, to := part[1], part[2], part[3]
	switch kind {
	case "at", "ack":
		return (account == from || account == to || account == natsconf.OperatorAccount) && (from == "Clark" || strings.HasPrefix(payload, "control "))
	case "join":
		return account == to && from == "Clark"
	}
	return false
}

// wrongs returns messages that Clark has caused in other accounts, and those that it has
// overheard.
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

// H1: an edge, even a hostile one, reaches its neighbours' at, ack and join subjects, and
// nobody else.
func TestAHostileEdgeIsHeardOnItsOwnLinksAlone(t *testing.T) {
	for _, test := range []struct {
		name      string
		nodes     int
		permitted bool // users may publish anything: only the accounts protect
	}{{"as written", 1, false}, {"by accounts alone", 1, true}, {"by accounts alone, in a cluster", 3, true}} {
		t.Run(test.name, func(t *testing.T) {
			var change func(string) string
			if test.permitted {
				change = noPermissions
			}
			g := walledBroker(t, test.nodes, change)
			g.clarksJournal("kiwi", "attack")
			ears := make(map[string]*ear)
			for _, account := range append(g.herd.Edges(), natsconf.OperatorAccount, natsconf.ClientAccount) {
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

// Nobody else can write to an edge's journal, read all of it or delete it.
func TestAJournalIsItsOwners(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	jaquez := g.conn("Jaquez").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "Jaquez"})
	if err := jaquez.Open(soon(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := jaquez.Write(soon(t), 0, []broker.BucketEntry{{Key: "kiwi", Value: []byte("rightful")}}); err != nil {
		t.Fatal(err)
	}
	before := g.state(jaquez)
	for _, account := range []string{"Clark", "Bernard", natsconf.OperatorAccount, natsconf.ClientAccount} {
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

	// A stream of Clark's own may have the same name and the same subjects, or be declared a
	// copy.
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
		{Name: "KV_herd_Jaquez"}, // the positive control: Clark's own stream can be copied
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
	if all, _ := load(t, jaquez); len(all) != 1 || string(all["kiwi"].Value) != "rightful" {
		t.Errorf("the journal holds %+v", all)
	}
	operator := g.login(natsconf.OperatorAccount, nil)
	if answer := ask(t, operator, "JS.Jaquez.API.DIRECT.GET.KV_herd_Jaquez.$KV.herd_Jaquez.kiwi", ""); answer != "rightful" {
		t.Errorf("the operator is told %q of Jaquez' journal", answer)
	}
}

// An edge's rights are enough for everything that its journal needs.
func TestAnEdgesRightsAreEnoughForItsJournal(t *testing.T) {
	g := walledBroker(t, 1, nil)
	complaints := make(chan error, 100)
	c, err := broker.Dial(options.Broker{URL: g.url(), NKey: g.key("Clark")}, "Clark",
		broker.Events{Error: func(err error) { complaints <- err }}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Wait(soon(t)); err != nil {
		t.Fatal(err)
	}
	b := journal(t, c)
	last, err := b.Own(soon(t), clarkEpoch, 0)
	if err != nil {
		t.Fatal(err)
	}
	const n = 12 // enough to be read through a consumer
	for i := range n {
		if last, err = b.Write(soon(t), last, fresh(fmt.Sprint("kiwi", i), broker.MaxBatch)); err != nil {
			t.Fatal(err)
		}
	}
	if last, err = b.Delete(soon(t), last, fresh("kiwi0", broker.MaxBatch)); err != nil {
		t.Fatal(err)
	}
	if all, st := read(t, b, 0); len(all) != n*broker.MaxBatch || st.Last != last {
		t.Errorf("read %d entries, %+v", len(all), st)
	}
	if epoch, at, err := b.Owner(soon(t)); epoch != clarkEpoch || at != 1 || err != nil {
		t.Errorf("owned by %q at %d, %v", epoch, at, err)
	}
	if st := state(t, b); st.MaxBytes != 64<<20 || st.Owner != 1 { // JournalMax
		t.Errorf("state %+v", st)
	}
	if err := b.Open(soon(t)); err != nil {
		t.Error(err)
	}
	if len(complaints) > 0 {
		t.Errorf("the server complains: %v", <-complaints)
	}
}

// Whatever Clark subscribes to, it receives nothing of others.
func TestASpyHearsNothing(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	ears := make(map[string]*ear)
	for _, account := range append(g.herd.Edges(), natsconf.OperatorAccount) {
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
		if _, err := spy.ChanQueueSubscribe(subject, "q", heard); err != nil { // to take messages from their receiver
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
	if err := spy.FlushTimeout(patience); err != nil { // everything has arrived by now
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

// The server tells an edge only about itself.
func TestTheServerTellsAnEdgeNothingOfOthers(t *testing.T) {
	g := walledBroker(t, 1, noPermissions)
	g.conn("Jaquez")
	clark, system := g.login("Clark", nil), g.login(natsconf.SystemAccount, nil)
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
