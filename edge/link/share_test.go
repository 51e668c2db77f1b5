package link

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// On a link that carries less than what changes, a client that moves often is updated at the far
// end once per round of all clients, and a client that moves seldom gets through as well (H3).
func TestNobodyStarvesOnASaturatedLink(t *testing.T) {
	const (
		slow, slowEvery = 1000, 200 // ticks of 100 ms: every 20 s
		hot, hotEvery   = 20, 10    // every second: as many moves as 400 slow clients
		ticks           = 6000      // ten minutes
		bytesPerLine    = 33
	)
	for _, share := range []float64{2. / 3, 1. / 5} {
		t.Run(fmt.Sprintf("%.2f", share), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t, 1, [][2]string{{"A", "B"}})
				a, b := n.start("A"), n.start("B")
				n.mu.Lock()
				n.rate = int(share * (slow/20 + hot) * bytesPerLine)
				n.mu.Unlock()
				time.Sleep(2 * time.Second)
				told := map[string]int{} // how often B's line of a client changed in the second half
				was := map[string]string{}
				for tick := range ticks {
					for i := tick % slowEvery; i < slow; i += slowEvery {
						a.tell(fmt.Sprint("s", i), 1000+tick)
					}
					for i := tick % hotEvery; i < hot; i += hotEvery {
						a.tell(fmt.Sprint("h", i), 1000+tick)
					}
					time.Sleep(100 * time.Millisecond)
					if tick < ticks/2 || tick%10 != 0 {
						continue
					}
					for _, line := range b.state() {
						client := strings.Fields(line)[3]
						if old := was[client]; old != "" && old != line {
							told[client]++
						}
						was[client] = line
					}
				}
				// A round of all clients, with half of what the link carries.
				round := time.Duration(float64(2*(slow+hot)) / (share * (slow/20 + hot)) * float64(time.Second))
				want := int(ticks / 2 * 100 * time.Millisecond / round / 2) // half of the rounds in that time
				starved, least := 0, ticks
				for i := range hot {
					least = min(least, told[fmt.Sprint("h", i)])
				}
				for i := range slow {
					if told[fmt.Sprint("s", i)] == 0 {
						starved++
					}
				}
				t.Logf("a round takes %v; whoever moves most was heard of at least %d times", round.Round(time.Second), least)
				if least < max(1, want) {
					t.Errorf("H3 whoever moves most was heard of %d times, want %d", least, want)
				}
				if starved > 0 {
					t.Errorf("H3 %d of %d that move seldom were not heard of in %v", starved, slow, ticks/2*100*time.Millisecond)
				}
			})
		})
	}
}

// Two live runs of a name, at either end or both, cost no more than their share of messages.
func TestTwoLiveRunsOfANameDoNotMultiplyMessages(t *testing.T) {
	carried := func(t *testing.T, twins ...string) (n int) {
		synctest.Test(t, func(t *testing.T) {
			net := newNetwork(t, 1, [][2]string{{"A", "B"}})
			for _, name := range append([]string{"A", "B"}, twins...) {
				net.start(name)
			}
			for i := range 300 { // more than a window's worth
				for _, r := range net.of("A") {
					r.tell(fmt.Sprint("c", i), 1000)
				}
			}
			time.Sleep(10 * time.Second)
			begun := net.count()
			for i := range 600 { // a minute
				for _, r := range net.of([]string{"A", "B"}[i%2]) {
					r.tell(fmt.Sprint("c", i%50), 2000+i)
				}
				time.Sleep(100 * time.Millisecond)
			}
			n = net.count() - begun
		})
		return n
	}
	alone := carried(t)
	for _, twins := range [][]string{{"A"}, {"B"}, {"A", "B"}} {
		// Each run sends as much as one run alone. Each message reaches all runs of the other
		// name, and each of them may answer.
		runs := len(twins) + 2
		if n := carried(t, twins...); n > runs*runs*alone/2 {
			t.Errorf("H6 %d messages and acks with two runs of %v, %d with one of each", n, twins, alone)
		} else {
			t.Logf("%d messages and acks with two runs of %v, %d with one of each", n, twins, alone)
		}
	}
}

func TestALineThatFitsInNoMessageDoesNotJamALink(t *testing.T) {
	var most atomic.Int64
	inBubble(t, func(c *Config) { c.MaxBytes = func() int { return int(most.Load()) } }, func(r *rig) {
		long := strings.Repeat("x", 500)
		most.Store(200)
		r.ack(0, false)
		r.tell("a", long+"1", "b", long+"2", "c")
		through, lines := uint64(0), ""
		take := func() {
			for _, m := range r.sent() {
				if len(m.Lines) > int(most.Load()) || m.After > through {
					t.Errorf("H5 %d bytes after %d", len(m.Lines), m.After)
				}
				through = max(through, m.Through)
				lines += string(m.Lines)
			}
			r.ack(through, false)
		}
		take()
		pass(200 * time.Millisecond) // the last message may be empty
		take()
		if s := r.link.Stats(); s.Unsendable != 2 || s.Lag != 0 || strings.Count(lines, "\n") != 3 {
			t.Errorf("H5 %+v, sent %q", s, lines)
		}
		// When messages may carry more, the lines are sent once they are new changes. Earlier
		// acks do not cover them.
		most.Store(600)
		r.ack(through, false)
		r.table.Again(200, 0, 1000)
		take()
		take()
		pass(200 * time.Millisecond)
		take()
		if s := r.link.Stats(); s.Lag != 0 || strings.Count(lines, "xx1 ") != 1 || strings.Count(lines, "xx2 ") != 1 || strings.Count(lines, " a ") != 1 {
			t.Errorf("H5 when they fit: %+v, sent %q", s, lines)
		}
		// Even if no line fits at all, the link stays up.
		most.Store(-100)
		r.tell("e")
		r.live(10*time.Second, through)
		if s := r.link.Stats(); !s.Up || s.Unsendable != 3 {
			t.Errorf("H5 %+v", s)
		}
		if n := r.log.count("lines not sent: too long"); n < 1 || n > 2 {
			t.Errorf("H5 logged %q", r.log.lines)
		}
	})
}

// Once its buffers have grown, a link allocates nothing, saturated or not.
func TestALinkAllocatesNothing(t *testing.T) {
	l, _ := benchLink()
	l.cfg.Window = 4
	l.Reconnected(time.Now())
	now := time.Now()
	l.ReceiveAck(now, Ack{Epoch: them, Of: us})
	messages := newBenchMessages(10_000)
	m := Message{Epoch: them, To: us}
	taken := Link{cfg: l.cfg, table: l.table, health: health{interval: l.cfg.Heartbeat}, kick: make(chan struct{}, 1)}
	taken.cfg.Number = 2 // lines from another neighbour, more than this link sends
	step := func() {
		for range 3 {
			m.Lines = messages.take()
			m.After, m.Through, m.Head = m.Through, m.Through+benchLines, m.Through+benchLines
			taken.Receive(now, &m)
		}
		l.step(now, now)
		l.ReceiveAck(now, Ack{Epoch: them, Of: us, Through: l.send.flights[0].through})
	}
	for range 200 {
		step()
	}
	if got := testing.AllocsPerRun(50, step); got != 0 {
		t.Errorf("%v allocations", got)
	}
}
