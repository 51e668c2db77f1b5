package broker_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"herd/broker"
	"herd/broker/brokertest"
)

// Who may ask is told by the broker, without a try that it would log as a violation.
func TestTheBrokerSaysWhoMayAskEdges(t *testing.T) {
	g := walledBroker(t, 1, func(text string) string { return text })
	plain := brokertest.Start(t)
	for _, c := range []struct {
		who      string
		conn     *broker.Conn
		endpoint string
		want     bool
	}{
		{"Clark", g.conn("Clark"), "status", false},
		{"the operator", g.conn("operator"), "status", true},
		{"anybody without accounts", brokertest.Dial(t, plain.URL(), "x"), "status", true},
	} {
		may, err := c.conn.MayAsk(soon(t), "herd", "Jaquez", c.endpoint)
		if err != nil || may != c.want {
			t.Errorf("%s may ask: %v, %v; want %v", c.who, may, err, c.want)
		}
	}
	gone := brokertest.Dial(t, plain.URL(), "y")
	plain.Stop()
	limit, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if may, err := gone.MayAsk(limit, "herd", "Jaquez", "status"); err == nil || may {
		t.Errorf("without a broker: %v, %v", may, err)
	}
	if _, err := gone.Ask(limit, "herd", "no.edge", "status", nil); err == nil || errors.Is(err, broker.ErrNotConnected) {
		t.Errorf("a name that is none: %v", err)
	}
}
