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

func TestALingeringLinkWaitsForMore(t *testing.T) {
	inBubble(t, func(c *Config) { c.Linger = 5 * time.Millisecond }, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		pass(4 * time.Millisecond)
		r.tell("b")
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H5 sent before its time: %+v", m)
		}
		pass(time.Millisecond)
		if m := r.sent(); len(m) != 1 || m[0].Through != 2 {
			t.Errorf("H5 after the wait: %+v", m)
		}
	})
}

func TestALingeringLinkSendsAFullMessageAtOnce(t *testing.T) {
	inBubble(t, func(c *Config) { c.Linger, c.MaxBytes = time.Second, func() int { return 400 } }, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		pass(time.Second) // the link learns how long lines are
		if m := r.sent(); len(m) != 1 {
			t.Fatalf("%+v", m)
		}
		r.ack(1, false)
		full := 400 / len(r.line("a"))
		for i := range full - 1 {
			r.tell(string(rune('b' + i)))
		}
		pass(500 * time.Millisecond)
		if m := r.sent(); len(m) != 0 {
			t.Fatalf("H5 sent before its time: %+v", m)
		}
		r.tell("z")
		if m := r.sent(); len(m) != 1 || m[0].Through != uint64(full)+1 {
			t.Errorf("H5 a full message: %+v", m)
		}
		// What comes behind it waits for the next beat.
		r.tell("y")
		pass(490 * time.Millisecond)
		if m := r.sent(); len(m) != 0 {
			t.Errorf("H5 sent before its time: %+v", m)
		}
		pass(10 * time.Millisecond)
		if m := r.sent(); len(m) != 1 {
			t.Errorf("H5 after the wait: %+v", m)
		}
	})
}

func TestAcksLingerWhereLinksDo(t *testing.T) {
	inBubble(t, func(c *Config) { c.Linger, c.Window = 5*time.Millisecond, 100 }, func(r *rig) {
		r.hear(Message{After: 0, Through: 0}) // after a silence: at once
		pass(7 * time.Millisecond)
		r.acked()
		for i := range 4 {
			r.hear(Message{After: uint64(i), Through: uint64(i + 1)})
			pass(10 * time.Millisecond)
		}
		if a := r.acked(); len(a) != 0 {
			t.Errorf("H5 acked after 40 ms: %+v", a)
		}
		pass(3 * time.Millisecond)
		if a := r.acked(); len(a) != 1 || a[0].Through != 4 {
			t.Errorf("H5 at the 50th millisecond: %+v", a)
		}
	})
	inBubble(t, func(c *Config) { c.Linger, c.Window = 10*time.Second, 100 }, func(r *rig) {
		r.hear(Message{After: 0, Through: 0})
		r.acked()
		r.hear(Message{After: 0, Through: 1})
		pass(500 * time.Millisecond)
		if a := r.acked(); len(a) != 1 || a[0].Through != 1 {
			t.Errorf("H5 within a heartbeat: %+v", a)
		}
	})
}

func TestLinksOfAnEdgeSpeakTogetherAndInTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := position.New(position.Config{})
		links := NewLinks(table)
		order := make(chan string, 100)
		var all []*Link
		for i, name := range []string{"B", "C"} {
			all = append(all, links.Add(Config{Neighbour: name, Epoch: us, Holder: i + 1, Window: 100, Heartbeat: time.Second, Linger: 20 * time.Millisecond,
				MaxBytes: func() int { return wire.MaxAT }, Out: named{name, order}, Log: slog.New(slog.DiscardHandler)}))
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		r := &rig{t: t, table: table}
		for i, l := range all {
			l.Reconnected()
			l.ReceiveAck(Ack{Epoch: them, Of: us})
			pass(time.Duration(1+i) * time.Millisecond)
		}
		r.tell("a")
		pass(time.Millisecond)
		if len(order) != 0 {
			t.Errorf("H5 sent before the beat: %s", <-order)
		}
		pass(20 * time.Millisecond)
		if len(order) != 2 || <-order+<-order != "BC" {
			t.Errorf("at the beat: %d messages", len(order))
		}
		for i := range 40 { // some messages for each
			r.tell(fmt.Sprint(strings.Repeat("x", 200), i))
		}
		pass(20 * time.Millisecond)
		first := ""
		for range min(turn+1, len(order)) {
			first += <-order
		}
		if first != strings.Repeat("B", turn)+"C" && first != strings.Repeat("C", turn)+"B" {
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
		const line = 128 // bytes, as a link takes them to have before it has seen any
		for i, lines := range []int{100, 2, 50} {
			l := links.Add(Config{Neighbour: "B", Epoch: us, Holder: i + 1, Window: 100, Heartbeat: time.Second, Linger: time.Second,
				MaxBytes: func() int { return lines * line }, Out: named{fmt.Sprint(lines), order}, Log: slog.New(slog.DiscardHandler)})
			l.Reconnected()
			l.ReceiveAck(Ack{Epoch: them, Of: us})
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- links.Run(ctx) }()
		r := &rig{t: t, table: table}
		pass(time.Millisecond)
		r.tell("a")
		pass(time.Millisecond)
		if len(order) != 0 {
			t.Errorf("H5 sent before its time, of %s lines", <-order)
		}
		r.tell("b")
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

// named is a Transport that tells whose lines went.
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

func TestALinkThatHandsOverDoesNotLinger(t *testing.T) { // C19
	inBubble(t, func(c *Config) { c.Linger = time.Second }, func(r *rig) {
		r.ack(0, false)
		r.tell("a")
		if m := r.sent(); len(m) != 0 {
			t.Fatalf("%+v", m)
		}
		done := make(chan error, 1)
		go func() { done <- r.link.HandOver(r.t.Context()) }()
		if m := r.sent(); len(m) != 1 || m[0].Through != 1 {
			t.Errorf("%+v, want what lingered", m)
		}
		r.ack(1, false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
