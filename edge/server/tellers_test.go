package server

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// Clients that take nothing hold nobody up, however many more of them there are than tellers.
func TestClientsThatTakeNothingHoldNoTeller(t *testing.T) { // C18, L6
	h := newHerd()
	r := serve(t, Config{WriteTimeout: time.Minute, MaxPending: 64 << 20}, h)
	stuck := 4*r.tellers.most + 1
	line := "! w AT " + strings.Repeat("x", 1000) + "\n"
	for i := range stuck {
		c := r.dial()
		c.send("list w 0\n")
		c.want(listed("w", 0))
		for range 2000 {
			h.talk(i).say(line)
		}
	}
	eventually(t, "all wait for their clients", func() bool { return r.Stats().Pending >= int64(stuck*flushAt*9/10) })
	c := r.dial()
	c.send("list w 0\n")
	c.want(listed("w", 0))
	k := h.talk(stuck)
	for i := range 100 {
		told := fmt.Sprintf("! w AT %d\n", i)
		k.say(told)
		c.want(told)
	}
	k.wantOrder(t)
	eventually(t, "no teller waits for work", func() bool {
		r.tellers.mu.Lock()
		defer r.tellers.mu.Unlock()
		return r.tellers.working == 0 && r.tellers.waiting.Len() == 0
	})
}
