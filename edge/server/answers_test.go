package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

func TestAnswersThatWaitKeepTheirPlace(t *testing.T) { // C1
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("a\nwait 1\nb\nwait 2\nc\n")
	c.want("= a\n") // is sent at once
	close(h.gate("2"))
	c.send("d\n")
	eventually(t, "the last command is taken", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.takes[len(h.takes)-1] == "d\n"
	})
	close(h.gate("1"))
	c.want("waited 1\n= b\nwaited 2\n= c\n= d\n")
	c.send("e\n") // and as before
	c.want("= e\n")
	c.send("wait 1\nf\n")
	c.want("waited 1\n= f\n")
}

func TestAtMostEightAreAskedAheadOfTheirTurn(t *testing.T) { // C16
	h := newHerd()
	h.asked = make(chan string, 100)
	r := serve(t, Config{}, h)
	c := r.dial()
	var commands strings.Builder
	for i := range 20 {
		fmt.Fprintf(&commands, "wait %d\nthen\n", i)
	}
	c.send(commands.String())
	asked := map[string]bool{}
	for range 8 {
		asked[<-h.asked] = true
	}
	for i := 7; i > 0; i-- { // all but the first: they wait for their turn, and no other is called in their place
		close(h.gate(fmt.Sprint(i)))
	}
	eventually(t, "seven came in", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.running == 1
	})
	select {
	case name := <-h.asked:
		t.Errorf("%s was asked for, nine ahead", name)
	default:
	}
	close(h.gate("0"))
	for i := range 8 {
		c.want(fmt.Sprintf("waited %d\n= then\n", i))
		if !asked[fmt.Sprint(i)] {
			t.Errorf("%d was not among the first that were asked", i)
		}
	}
	for i := 8; i < 20; i++ {
		close(h.gate(fmt.Sprint(i)))
	}
	for i := 8; i < 20; i++ {
		c.want(fmt.Sprintf("waited %d\n= then\n", i))
	}
	if h.most > 8 {
		t.Errorf("%d at once", h.most)
	}
}

func TestReadingStopsWhileManyAnswersWait(t *testing.T) { // C18: bounded memory
	for _, test := range []struct{ name, behind string }{
		{"that wait", "wait 1\n"},
		{"ready ones", "big 20000\n"},
		{"small ready ones", "x\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHerd()
			r := serve(t, Config{WriteTimeout: 20 * time.Second}, h)
			c := r.dial()
			c.send("wait 0\n")
			_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
			sent, block := 0, []byte(strings.Repeat(test.behind, 64<<10/len(test.behind)))
			for sent < 256<<20 {
				n, err := c.Write(block)
				sent += n
				if err != nil {
					break
				}
			}
			if sent >= 256<<20 {
				t.Fatal("all was read")
			}
			_ = c.SetWriteDeadline(time.Time{})
			close(h.gate("1"))
			close(h.gate("0"))
			c.want("waited 0\n")
			_ = c.Close()
			r.wantClosed("client", 1)
		})
	}
}

func TestIdleWhileAnAnswerWaitsStillAnswers(t *testing.T) {
	h := newHerd()
	r := serve(t, Config{IdleTimeout: 300 * time.Millisecond}, h)
	c := r.dial()
	c.send("wait 0\na\n")
	eventually(t, "the connection is about to close", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.received) > 0 && time.Since(h.received[0]) > time.Second
	})
	close(h.gate("0"))
	c.want("waited 0\n= a\n")
	c.wantEnd()
	r.wantClosed("idle", 1)
}

// TestAnyMixOfAnswersKeepsItsOrder completes answers in random order.
func TestAnyMixOfAnswersKeepsItsOrder(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2)) // the order of the commands, and of the sender
	h := newHerd()
	r := serve(t, Config{}, h)
	c := r.dial()
	var commands, want strings.Builder
	var gates []chan struct{}
	for i := range 2000 {
		switch random.IntN(4) {
		case 0:
			name := fmt.Sprint(i)
			gates = append(gates, h.gate(name))
			fmt.Fprintf(&commands, "wait %s\n", name)
			fmt.Fprintf(&want, "waited %s\n", name)
		case 1:
			size := random.IntN(20_000)
			fmt.Fprintf(&commands, "big %d\n", size)
			want.WriteString(strings.Repeat("x", size) + "\n")
		default:
			fmt.Fprintf(&commands, "%d\n", i)
			fmt.Fprintf(&want, "= %d\n", i)
		}
	}
	go func() {
		random := rand.New(rand.NewPCG(3, 4))
		// Not too far out of order, or they would wait for each other.
		for len(gates) > 0 {
			i := random.IntN(min(len(gates), 20))
			close(gates[i])
			gates = append(gates[:i], gates[i+1:]...)
		}
	}()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		text := commands.String()
		for text != "" {
			n := min(len(text), 1+random.IntN(5000))
			c.send(text[:n])
			text = text[n:]
		}
		c.closeWrite()
	}()
	c.want(want.String())
	c.wantEnd()
	<-sent
}

func TestAnswersAfterCloseAreIgnored(t *testing.T) {
	a := &Answers{}
	a.Append([]byte("a"))
	a.Close()
	a.Append([]byte("b"))
	a.Later(0, func(context.Context, context.Context) []byte { t.Error("asked"); return nil })
	if string(a.ready) != "a" || a.queue != nil {
		t.Errorf("owes %q", a.ready)
	}
}
