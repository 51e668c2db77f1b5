package broker_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/natsconf"
	"herd/broker/options"
	"herd/broker/topology"
)

// guardedBroker starts a server whose user A may not subscribe to some subjects. deny changes
// them.
func guardedBroker(t *testing.T, subjects string) (server *brokertest.Configured, deny func(subjects string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	write := func(subjects string) {
		t.Helper()
		text := fmt.Sprintf(`listen: 127.0.0.1:-1
authorization { users: [ { user: A, password: a, permissions: { subscribe: { allow: ">", deny: [%s] } } }, { user: B, password: b } ] }
`, subjects)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(subjects)
	server = brokertest.StartConfigured(t, file)[0]
	return server, func(subjects string) {
		t.Helper()
		write(subjects)
		if err := server.Reload(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWhatWasRefusedIsSubscribedToAnew(t *testing.T) {
	for _, test := range []struct {
		name, subjects string
		refusedLater   bool
	}{
		{"from the start", `"herd.>"`, false},
		{"later", `"herd.>"`, true},
		{"services", `"herd.edge.>", "$SRV.>"`, false},
		{"the inbox", `"_INBOX.>"`, false},
	} {
		t.Run("H8 "+test.name, func(t *testing.T) {
			t.Parallel()
			before := test.subjects
			if test.refusedLater {
				before = ""
			}
			server, deny := guardedBroker(t, before)
			a, w := dial(t, options.Broker{URL: server.URL(), User: "A", Password: options.NewSecret("a")})
			take(t, w.connected, "connection")
			b, bw := dial(t, options.Broker{URL: server.URL(), User: "B", Password: options.NewSecret("b")})
			take(t, bw.connected, "connection")

			heard := make(chan string, 1000)
			err := a.Neighbour("herd", "A", "B").Listen(broker.Handlers{
				Message: func(m broker.Message) { heard <- "message" },
				Ack:     func(broker.Ack) { heard <- "ack" },
				Join:    func(string) broker.Join { heard <- "join"; return broker.Join{Epoch: clarkEpoch, Config: "c"} },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err := b.Neighbour("herd", "B", "A").Listen(broker.Handlers{
				Join: func(string) broker.Join { return broker.Join{Epoch: jaquezEpoch, Config: "c"} },
			}); err != nil {
				t.Fatal(err)
			}
			serve(t, a, "A")
			if test.refusedLater {
				deny(test.subjects)
			}
			toA := b.Neighbour("herd", "B", "A")
			nc := operator(t, "nats://B:b@"+server.URL()[len("nats://"):])
			works := map[string]func() bool{ // each reports whether it works now
				"message": func() bool { _ = toA.Send(&broker.Message{Epoch: jaquezEpoch}); return contains(heard, "message") },
				"ack":     func() bool { _ = toA.Ack(broker.Ack{Epoch: jaquezEpoch}); return contains(heard, "ack") },
				"join": func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					_, err := toA.AskJoin(ctx, "c")
					return err == nil
				},
				"service": func() bool {
					m, err := nc.Request("herd.edge.A.iamat", nil, 50*time.Millisecond)
					return err == nil && len(m.Data) > 0
				},
				"discovery": func() bool { _, err := nc.Request("$SRV.PING.herd-edge", nil, 50*time.Millisecond); return err == nil },
				"question": func() bool {
					ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
					defer cancel()
					_, err := a.Neighbour("herd", "A", "B").AskJoin(ctx, "c")
					return err == nil
				},
			}
			works["question"]() // the first question subscribes to the inbox
			take(t, w.complaints, "refusal")
			deny("")
			for what, does := range works {
				for end := time.Now().Add(patience); !does(); time.Sleep(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Errorf("the right is there, and %s does not work", what)
						break
					}
				}
			}
		})
	}
}

// contains reads the channel until it is empty or what is found, and reports whether it was.
func contains(heard <-chan string, what string) bool {
	for {
		select {
		case got := <-heard:
			if got == what {
				return true
			}
		default:
			return false
		}
	}
}

// A new edge may start before all servers of a cluster know its account. Its subscriptions
// for questions stay unknown to the other servers after their reloads.
func TestQuestionsFindAnEdgeWhoseAccountCameLaterToOtherServers(t *testing.T) {
	g := walledBroker(t, 3, nil)
	at := func(name string, node int) *broker.Conn {
		t.Helper()
		c, err := broker.Dial(options.Broker{URL: g.servers[node].URL(), NKey: g.key(name)}, name, broker.Events{}, brokertest.Log(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		if err := c.Wait(soon(t)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	clark, client := at("Clark", 0), g.login(natsconf.ClientAccount, nil)
	g.configure(topology.Default + ",Clark-Newman")
	var newman *broker.Conn
	for range 2 { // a new account gets its imports of services with the second reload
		for _, node := range []int{2, 1, 0} {
			if err := g.servers[node].Reload(); err != nil {
				t.Fatal(err)
			}
			if newman == nil {
				newman = at("Newman", node)
				if err := newman.Neighbour("herd", "Newman", "Clark").Listen(broker.Handlers{
					Join: func(string) broker.Join { return broker.Join{Epoch: jaquezEpoch, Config: "c"} },
				}); err != nil {
					t.Fatal(err)
				}
				if err := newman.AnswerName("herd", "Newman", jaquezEpoch, func(string) {}); err != nil {
					t.Fatal(err)
				}
				serve(t, newman, "Newman")
			}
		}
	}
	second := at("Newman", 0)
	newman.RenewAnswers()
	for what, answers := range map[string]func(ctx context.Context) bool{
		"a join": func(ctx context.Context) bool {
			_, err := clark.Neighbour("herd", "Clark", "Newman").AskJoin(ctx, "c")
			return err == nil
		},
		"a name": func(ctx context.Context) bool {
			_, answered, _ := second.AskName(ctx, "herd", "Newman")
			return answered
		},
		"service": func(ctx context.Context) bool {
			_, err := client.RequestWithContext(ctx, "herd.edge.Newman.status", nil)
			return err == nil
		},
	} {
		for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // the servers learn of it one by one
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			ok := answers(ctx)
			cancel()
			if ok {
				break
			}
			if time.Now().After(end) {
				t.Errorf("H8, H10 nobody answers %s", what)
				break
			}
		}
	}
}

func TestSubscribingAnewTakesTheOldOnesPlace(t *testing.T) {
	s := brokertest.Start(t)
	a, _ := connect(t, s.URL())
	b, _ := connect(t, s.URL())
	heard := make(chan string, 100)
	from, to := a.Neighbour("herd", "A", "B"), b.Neighbour("herd", "B", "A")
	err := from.Listen(broker.Handlers{
		Message: func(m broker.Message) { heard <- "message " + string(m.Lines) },
		Ack:     func(ack broker.Ack) { heard <- fmt.Sprint("ack ", ack.Through) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i, renew := range []struct{ in, out bool }{{false, false}, {true, false}, {false, true}, {true, true}} {
		from.Renew(renew.in, renew.out)
		if err := a.Flush(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := to.Send(&broker.Message{Epoch: jaquezEpoch, Lines: fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
		if err := to.Ack(broker.Ack{Epoch: jaquezEpoch, Of: clarkEpoch, Through: uint64(i)}); err != nil {
			t.Fatal(err)
		}
		want := map[string]bool{fmt.Sprint("message ", i): true, fmt.Sprint("ack ", i): true}
		for range 2 { // each message once
			if got := take(t, heard, "message or ack"); !want[got] {
				t.Errorf("H8 heard %q, want one of %v", got, want)
			} else {
				delete(want, got)
			}
		}
	}
	if len(heard) > 0 {
		t.Errorf("heard too much: %q", <-heard)
	}
}
