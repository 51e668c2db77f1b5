package inquiry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/edge/admin"
	"herd/edge/inquiry"
	"herd/edge/overview"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var _ inquiry.Conn = (*broker.Conn)(nil)

// serve makes edges that answer.
func serve(t *testing.T, url string, names ...string) {
	t.Helper()
	conn := brokertest.Dial(t, url, "edges")
	for _, name := range names {
		s, err := conn.Serve(broker.ServiceConfig{Prefix: "herd", Edge: name, Version: "1.0.0",
			Status: func(question []byte) []byte { return fmt.Appendf(nil, `{"edge":%q,"asked":%q}`, name, question) },
			WHATSAT: func(payload []byte, _ time.Time) broker.Reply {
				return broker.Reply{Refused: true, Answer: append([]byte("? "), payload...)}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Stop(t.Context()) })
	}
}

func TestEdgesAreAskedOverNATS(t *testing.T) {
	nats := brokertest.Start(t)
	serve(t, nats.URL(), "A", "B")
	conn := brokertest.Dial(t, nats.URL(), "test")
	edges := inquiry.Of(conn, "herd", "herd page")
	if r := edges.Reach(t.Context()); r.Away || r.Restricted != "" || r.Command != "herd page" || r.Edges != nil {
		t.Errorf("reach %+v", r)
	}
	if answer, err := edges.Ask(t.Context(), "A", "status", []byte("{}")); err != nil || string(answer) != `{"edge":"A","asked":"{}"}` {
		t.Errorf("%s, %v", answer, err)
	}
	if _, err := edges.Ask(t.Context(), "C", "status", nil); !errors.Is(err, admin.ErrNobody) {
		t.Errorf("an edge that is not there: %v", err)
	}
	_, err := edges.Ask(t.Context(), "B", "whatsat", []byte("kiwi"))
	if refusal, ok := errors.AsType[*admin.Refusal](err); !ok || refusal.Code != "400" || string(refusal.Data) != "? kiwi" {
		t.Errorf("a refusal: %v", err)
	}
	if r := inquiry.Search(conn, "herd").Reach(t.Context()); len(r.Edges) != 2 || r.Edges[0] != "A" || r.Edges[1] != "B" {
		t.Errorf("a search: %+v", r)
	}
}

// scripted is a connection that says what a test wants.
type scripted struct {
	connected, may bool
	err            error
	rights         int
}

func (s *scripted) Connected() bool { return s.connected }
func (s *scripted) Ask(context.Context, string, string, string, []byte) ([]byte, error) {
	return nil, s.err
}
func (s *scripted) MayAsk(context.Context, string, string, string) (bool, error) {
	s.rights++
	return s.may, s.err
}
func (s *scripted) Edges(context.Context, string) (edges, others []string, err error) {
	return nil, nil, s.err
}

func TestWhatCanBeReached(t *testing.T) {
	s := &scripted{}
	edges := inquiry.Of(s, "herd", "herd page")
	if r := edges.Reach(t.Context()); !r.Away || s.rights != 0 {
		t.Errorf("without a broker: %+v", r)
	}
	s.connected = true
	for range 3 {
		if r := edges.Reach(t.Context()); r.Away || r.Restricted == "" || r.Command != "herd page" {
			t.Errorf("without rights: %+v", r)
		}
	}
	if s.rights != 1 {
		t.Errorf("the broker was asked %d times", s.rights)
	}
	unsure := &scripted{connected: true, err: errors.New("no answer")}
	if r := inquiry.Of(unsure, "herd", "").Reach(t.Context()); r.Restricted != "" {
		t.Errorf("where the broker does not say: %+v", r)
	}
}

// mute is a broker at which users may not ask for their rights, and which therefore says nothing.
type mute struct{ scripted }

func (m *mute) MayAsk(ctx context.Context, _, _, _ string) (bool, error) {
	m.rights++
	<-ctx.Done()
	return false, ctx.Err()
}

// The page has 900 ms for all edges together.
func TestABrokerThatDoesNotTellRightsLeavesTimeForTheEdges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &mute{scripted{connected: true}}
		edges := inquiry.Of(m, "herd", "herd page")
		for range 3 {
			limit, cancel := context.WithTimeout(t.Context(), 900*time.Millisecond)
			r := edges.Reach(limit)
			if r.Restricted != "" || limit.Err() != nil {
				t.Errorf("%+v, %v", r, limit.Err())
			}
			cancel()
		}
		if m.rights != 1 {
			t.Errorf("it was asked %d times", m.rights)
		}
	})
}

func TestAComparisonInWords(t *testing.T) {
	text, err := inquiry.Verify(t.Context(), []string{"A"}, func(context.Context, string, []byte) ([]byte, error) { return nil, admin.ErrNobody })
	var c inquiry.Compared
	if err == nil {
		err = json.Unmarshal(text, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	if c.Level != overview.Down || c.Sentence != "0 edges, 0 clients, none answers; A does not answer: not connected to the broker" || c.Differences == nil || len(c.Result) == 0 {
		t.Errorf("%s", text)
	}
}
