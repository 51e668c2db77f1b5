package broker_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"

	"herd/broker"
	"herd/broker/brokertest"
)

// promising offers an IAMAT endpoint whose answers, except to "now", wait until leave is
// closed. effects receives each command as it takes effect.
func promising(t *testing.T, c *broker.Conn) (service *broker.Service, effects chan string, leave chan struct{}) {
	t.Helper()
	effects, leave = make(chan string, 10_000), make(chan struct{})
	service, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: "Clark", Version: "1.0.0",
		IAMAT: func(payload []byte, _ time.Time) broker.Reply {
			effects <- string(payload)
			answer := broker.Reply{Answer: append([]byte("AT "), payload...)}
			switch string(payload) {
			case "now":
				return answer
			case "refused":
				answer.Refused = true
			}
			return broker.Reply{Later: func() broker.Reply { <-leave; return answer }}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return service, effects, leave
}

func TestPromisesOverNATSWaitSideBySideAndTakeEffectInOrder(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	service, effects, leave := promising(t, c)
	defer service.Stop(t.Context())
	nc := operator(t, s.URL())
	answers, err := nc.SubscribeSync("answers.>")
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for i := range n {
		if err := nc.PublishRequest("herd.edge.Clark.iamat", fmt.Sprint("answers.", i), []byte(strconv.Itoa(i))); err != nil {
			t.Fatal(err)
		}
	}
	for i := range n { // all take effect before any answer; one at a time, only the first would
		if got := take(t, effects, "effect"); got != strconv.Itoa(i) {
			t.Fatalf("C16 as number %d took effect %s", i, got)
		}
	}
	if m, err := nc.Request("herd.edge.Clark.iamat", []byte("now"), patience); err != nil || string(m.Data) != "AT now" {
		t.Errorf("what need not wait waits behind them: %v, %v", m, err)
	}
	if got, _, err := answers.Pending(); err != nil || got != 0 {
		t.Errorf("D3 answered before it is kept: %d, %v", got, err)
	}
	close(leave)
	for range n {
		m, err := answers.NextMsg(patience)
		if err != nil {
			t.Fatal(err)
		}
		if want := "AT " + m.Subject[len("answers."):]; string(m.Data) != want {
			t.Fatalf("answered %q on %s", m.Data, m.Subject)
		}
	}
	m, err := nc.Request("herd.edge.Clark.iamat", []byte("refused"), patience)
	if err != nil || string(m.Data) != "AT refused" || m.Header.Get(micro.ErrorCodeHeader) != "400" {
		t.Errorf("C4 a refusal that waited is %v, %v", m, err)
	}
}

func TestWhatCannotWaitAnyMoreIsToldSoAndTakesNoEffect(t *testing.T) {
	for _, test := range []struct {
		name string
		room int // number of requests that may wait
		size int // bytes per request
	}{
		{"number", 4096, 4},
		{"bytes", 8 << 20 / 100_000, 100_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := brokertest.Start(t)
			c, _ := connect(t, s.URL())
			service, effects, leave := promising(t, c)
			defer service.Stop(t.Context())
			nc := operator(t, s.URL())
			for range test.room {
				if err := nc.PublishRequest("herd.edge.Clark.iamat", "nobody", make([]byte, test.size)); err != nil {
					t.Fatal(err)
				}
			}
			for range test.room {
				take(t, effects, "effect")
			}
			m, err := nc.Request("herd.edge.Clark.iamat", make([]byte, test.size), patience)
			if err != nil || m.Header.Get(micro.ErrorCodeHeader) != "503" || m.Header.Get(micro.ErrorHeader) != "busy" || len(m.Data) > 0 {
				t.Errorf("one too many is answered %v, %v", m, err)
			}
			if len(effects) > 0 {
				t.Error("one too many took effect")
			}
			close(leave)
			for end := time.Now().Add(patience); ; { // answered requests make room
				m, err := nc.Request("herd.edge.Clark.iamat", make([]byte, test.size), patience)
				if err != nil {
					t.Fatal(err)
				}
				if m.Header.Get(micro.ErrorCodeHeader) == "" {
					break
				}
				if time.Now().After(end) {
					t.Fatal("there is no room any more")
				}
			}
		})
	}
}

func TestAStopAnswersWhatWasReceived(t *testing.T) {
	s := brokertest.Start(t)
	c, _ := connect(t, s.URL())
	entered, leave := make(chan bool, 1000), make(chan struct{})
	service, err := c.Serve(broker.ServiceConfig{
		Prefix: "herd", Edge: "Clark", Version: "1.0.0",
		IAMAT: func(payload []byte, _ time.Time) broker.Reply {
			entered <- true
			<-leave // the other requests wait in the connection
			return broker.Reply{Answer: payload}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	nc := operator(t, s.URL())
	answers, err := nc.SubscribeSync("answers")
	if err != nil {
		t.Fatal(err)
	}
	const n = 1000
	for range n {
		if err := nc.PublishRequest("herd.edge.Clark.iamat", "answers", []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	take(t, entered, "first request")
	if err := nc.FlushTimeout(patience); err != nil {
		t.Fatal(err)
	}
	if err := c.Flush(soon(t)); err != nil { // now this process has received the requests
		t.Fatal(err)
	}
	stopped := make(chan bool)
	go func() {
		service.Stop(soon(t))
		close(stopped)
	}()
	for end := time.Now().Add(patience); ; { // until the stop has begun
		_, err := nc.Request("herd.edge.Clark.iamat", nil, 20*time.Millisecond)
		if errors.Is(err, nats.ErrNoResponders) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the endpoint is still there: %v", err)
		}
	}
	close(leave)
	take(t, stopped, "end of Stop")
	for i := range n {
		if _, err := answers.NextMsg(patience); err != nil {
			t.Fatalf("C19 %d of %d were received and are not answered: %v", n-i, n, err)
		}
	}
}

func TestAStopOfAServiceHasALimit(t *testing.T) {
	s := brokertest.Start(t)
	network := brokertest.Proxy(t, s.Addr())
	c, _ := connect(t, "nats://"+network.Addr())
	service := serve(t, c, "Clark")
	network.Silence()
	limit, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	stopped := make(chan bool)
	go func() {
		service.Stop(limit)
		close(stopped)
	}()
	take(t, stopped, "end of Stop")
}
