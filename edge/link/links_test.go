package link

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

func TestAcksOfManyMessagesWaitForEachOther(t *testing.T) {
	inBubble(t, func(c *Config) { c.Window = 100 }, func(r *rig) {
		r.hear(Message{After: 0, Through: 0}) // after a silence: at once
		pass(7 * time.Millisecond)
		r.acked()
		for i := range 2 {
			r.hear(Message{After: uint64(i), Through: uint64(i + 1)})
			pass(time.Millisecond)
		}
		if a := r.acked(); len(a) != 0 {
			t.Errorf("H5 acked after 2 ms: %+v", a)
		}
		pass(time.Millisecond)
		if a := r.acked(); len(a) != 1 || a[0].Through != 2 {
			t.Errorf("H5 at the tenth millisecond: %+v", a)
		}
	})
	for name, test := range map[string]struct{ ours, theirs time.Duration }{
		"our heartbeat":         {20 * time.Millisecond, time.Second},
		"the neighbour's":       {time.Second, 20 * time.Millisecond},
		"both are short enough": {20 * time.Millisecond, 20 * time.Millisecond},
	} {
		t.Run("H5 a quarter of the shorter heartbeat, "+name, func(t *testing.T) {
			inBubble(t, func(c *Config) { c.Window, c.Heartbeat = 100, test.ours }, func(r *rig) {
				r.hear(Message{Interval: test.theirs})
				r.acked()
				r.hear(Message{After: 0, Through: 1})
				pass(5 * time.Millisecond)
				if a := r.acked(); len(a) != 1 || a[0].Through != 1 {
					t.Errorf("acked %+v", a)
				}
			})
		})
	}
}

func TestALinkThatHasMuchToSayLetsOthersHaveTheirTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := position.New(position.Config{})
		links := NewLinks(table)
		order := make(chan string, 100)
		r := &rig{t: t, table: table}
		for i := range 40 { // some messages per link
			r.tell(fmt.Sprint(strings.Repeat("x", 200), i))
		}
		for i, name := range []string{"B", "C"} {
			l := links.Add(Config{Neighbour: name, Epoch: us, Number: i + 1, Window: 100, Heartbeat: time.Second,
				MaxBytes: func() int { return wire.MaxAT }, Out: named{name, order}, Log: slog.New(slog.DiscardHandler)})
			l.Reconnected(time.Now())
			l.ReceiveAck(time.Now(), Ack{Epoch: them, Of: us})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		pass(time.Millisecond)
		first := ""
		for range min(turn+1, len(order)) {
			first += <-order
		}
		if first != strings.Repeat("B", turn)+"C" {
			t.Errorf("a link that has much to say lets the others wait: %q", first)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestTheLinkThatWaitsForLeastIsWoken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := position.New(position.Config{})
		links := NewLinks(table)
		order := make(chan string, 100)
		r := &rig{t: t, table: table}
		line := len(r.line("a"))
		for i, lines := range []int{100, 2, 50} {
			l := links.Add(Config{Neighbour: "B", Epoch: us, Number: i + 1, Window: 100, Heartbeat: time.Second, Gap: time.Second,
				MaxBytes: func() int { return lines * line }, Out: named{fmt.Sprint(lines), order}, Log: slog.New(slog.DiscardHandler)})
			l.Reconnected(time.Now())
			l.ReceiveAck(time.Now(), Ack{Epoch: them, Of: us})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		pass(time.Millisecond)
		r.tell("a")
		pass(time.Millisecond)
		for range 3 {
			<-order // sent to all links at once
		}
		r.tell("b")
		pass(time.Millisecond)
		if len(order) != 0 {
			t.Errorf("H5 sent before its time, of %s lines", <-order)
		}
		r.tell("c")
		pass(time.Millisecond)
		if len(order) != 1 || <-order != "2" {
			t.Errorf("H5 %d full messages sent at once, want the one of two lines", len(order))
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// named is a Transport that reports its name for each message with lines.
type named struct {
	name string
	sent chan string
}

func (n named) Send(m *Message) error {
	if len(m.Lines) > 0 {
		n.sent <- n.name
	}
	return nil
}

func (n named) Ack(Ack) error { return nil }
