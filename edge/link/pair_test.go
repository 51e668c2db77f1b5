package link

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// A peer is one end of a link in memory, with its own settings.
type peer struct {
	*rig
	inbox chan func(*Link)
	other *peer
}

func (p *peer) Send(m *Message) error {
	c := *m
	c.Lines = slices.Clone(m.Lines)
	p.other.inbox <- func(l *Link) { l.Receive(time.Now(), &c) }
	return nil
}

func (p *peer) Ack(a Ack) error {
	p.other.inbox <- func(l *Link) { l.ReceiveAck(time.Now(), a) }
	return nil
}

// inPair connects two edges with different settings in a bubble, and waits until the link is up.
func inPair(t *testing.T, a, b Config, f func(a, b *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var ps [2]*peer
		for i := range ps {
			ps[i] = &peer{rig: &rig{t: t, table: position.New(position.Config{})}, inbox: make(chan func(*Link), 1000)}
		}
		for i, c := range []Config{a, b} {
			p := ps[i]
			p.other = ps[1-i]
			c.Epoch, c.Number, c.Out, c.Log = []string{us, them}[i], 1, p, slog.New(slog.DiscardHandler)
			c.MaxBytes = func() int { return wire.MaxAT }
			links := NewLinks(p.table)
			p.link = links.Add(c)
			go func() {
				if err := links.Run(t.Context()); err != nil {
					t.Error(err)
				}
			}()
			go func() {
				for {
					select {
					case f := <-p.inbox:
						f(p.link)
					case <-t.Context().Done():
						return
					}
				}
			}()
		}
		for _, p := range ps {
			p.link.Reconnected(time.Now())
		}
		pass(2 * max(a.Heartbeat, b.Heartbeat))
		f(ps[0], ps[1])
	})
}

func TestAcksKeepToTheNeighboursHeartbeat(t *testing.T) {
	inPair(t, Config{Window: 100, Heartbeat: 100 * time.Millisecond},
		Config{Window: 100, Heartbeat: 10 * time.Second, Gap: time.Second}, func(a, b *peer) {
			before := a.link.Stats().Rewinds
			for i := range 200 {
				a.tell(fmt.Sprint("c", i))
				pass(40 * time.Millisecond)
			}
			if n := a.link.Stats().Rewinds - before; n > 0 {
				t.Errorf("H6 %d times back for want of an ack, though nothing was lost", n)
			}
		})
}

func TestANeighbourWithASmallerWindowIsNotHeldUpByAcks(t *testing.T) {
	inPair(t, Config{Window: 2, Heartbeat: time.Second, Gap: 20 * time.Millisecond},
		Config{Window: 64, Heartbeat: time.Second, Gap: 20 * time.Millisecond}, func(a, b *peer) {
			for i := range 3000 { // some hundred messages
				a.tell(fmt.Sprint("c", i))
			}
			begun := time.Now()
			for a.link.Stats().Lag > 0 {
				pass(10 * time.Millisecond)
			}
			if took := time.Since(begun); took > 2*time.Second {
				t.Errorf("H5 caught up after %v", took)
			}
		})
}

func TestDrainingTakesNoLongerThanAnAck(t *testing.T) {
	far := Config{Window: 8, Heartbeat: time.Minute, Gap: time.Second}
	inPair(t, far, far, func(a, b *peer) {
		a.tell("a")
		pass(time.Second) // sent
		pass(10 * time.Millisecond)
		a.tell("b")
		begun := time.Now()
		if err := a.link.Drain(a.t.Context()); err != nil {
			t.Error(err)
		}
		if took := time.Since(begun); took > 100*time.Millisecond {
			t.Errorf("C19 handed over after %v", took)
		}
	})
}
