package broker

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/micro"
)

// A subscription that the broker refuses is dead: it does not come back when the right is
// granted (H8). So it is made again and again, at these intervals.
const (
	deniedFirst = time.Second
	deniedMost  = 10 * time.Second
)

// A denial is the state of one subscription that the broker may have refused. c.mu guards it.
type denial struct {
	due   time.Time     // when to try again; zero: not refused, as far as is known
	tried time.Time     // when it was last tried
	wait  time.Duration // how long it waited before that
}

// happened records a refusal. One long after the last try counts as a new one.
func (d *denial) happened(now time.Time) {
	if !d.due.IsZero() {
		return
	}
	if d.wait = min(2*d.wait, deniedMost); d.wait == 0 || now.Sub(d.tried) > 2*deniedMost {
		d.wait = deniedFirst
	}
	d.due = now.Add(d.wait)
}

// ripe reports whether it is time to try again, and if so records a try.
func (d *denial) ripe(now time.Time) bool {
	if d.due.IsZero() || now.Before(d.due) {
		return false
	}
	d.due, d.tried = time.Time{}, now
	return true
}

// noteDenied records which subscription a complaint is about, if any, and returns when to try
// the first refused one again. The broker names the subscription only in the text.
func (c *Conn) noteDenied(complaint error, now time.Time) (due time.Time) {
	if !errors.Is(complaint, nats.ErrPermissionViolation) {
		return time.Time{}
	}
	about := func(subject string) bool {
		return strings.Contains(complaint.Error(), "Subscription to "+subject) // as in nats.go
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for sub := range c.subs {
		if about(strconv.Quote(sub.subject)) {
			sub.denial.happened(now)
		}
	}
	for s := range c.services {
		if about(`"`+s.subject("")) || about(`"`+micro.APIPrefix+".") {
			s.denial.happened(now)
		}
	}
	if about(`"` + nats.InboxPrefix) {
		if c.inbox.trying { // the trial failed too
			c.inbox.trying, c.inbox.denial.due = false, time.Time{}
		}
		c.inbox.denial.happened(now)
	}
	return c.deniedDue()
}

// deniedDue returns when to try the first refused subscription again. c.mu must be held.
func (c *Conn) deniedDue() (due time.Time) {
	sooner := func(d denial) {
		if !d.due.IsZero() && (due.IsZero() || d.due.Before(due)) {
			due = d.due
		}
	}
	for sub := range c.subs {
		sooner(sub.denial)
	}
	for s := range c.services {
		sooner(s.denial)
	}
	sooner(c.inbox.denial)
	return due
}

// tryDenied subscribes again to what was refused, if it is time to, and returns when to call
// it again.
func (c *Conn) tryDenied(nc *nats.Conn, now time.Time) (due time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for sub := range c.subs {
		if sub.denial.ripe(now) {
			sub.renew()
		}
	}
	for s := range c.services {
		if s.denial.ripe(now) {
			s.renew(nc)
		}
	}
	if c.inbox.denial.ripe(now) {
		c.tryInbox(nc, now)
	}
	return c.deniedDue()
}

// inbox is the subscription for answers. nats.go makes it once in a connection's life, so a
// connection whose inbox was refused must be replaced. That only helps once the right is
// granted: to find out, a trial inbox is subscribed to.
type inbox struct {
	denial denial
	trying bool // a trial inbox is subscribed to, and not refused so far
}

// tryInbox finds out whether an inbox would be granted, and reconnects if so. c.mu must be
// held.
func (c *Conn) tryInbox(nc *nats.Conn, now time.Time) {
	i := &c.inbox
	if i.trying { // not refused for as long as a refusal may take
		i.trying = false
		c.log.Info("answers may be received now, reconnecting")
		_ = nc.ForceReconnect() // fails only if nc is closed, which another event reports
		return
	}
	sub, err := nc.ChanSubscribe(nc.NewInbox(), make(chan *nats.Msg, 1))
	if err != nil {
		return // nc is closed
	}
	_ = sub.Unsubscribe() // the broker processes both in this order
	i.trying = true
	i.denial.due = now.Add(deniedFirst)
}

// RenewAnswers subscribes again to everything that asks this edge: joins, its name, its
// endpoints. Servers of a cluster that learned of the edge's account after these
// subscriptions do not route questions to them (nats-server issue 8560). With a single server
// there is no such problem, and nothing is done. A question at that moment finds nobody.
func (c *Conn) RenewAnswers() {
	nc := c.live.Load()
	if nc == nil || nc.ConnectedClusterName() == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.nc != nc {
		return // the next connection subscribes again
	}
	for sub := range c.subs {
		if sub.asked {
			sub.renew()
		}
	}
	for s := range c.services {
		s.renew(nc)
	}
}
