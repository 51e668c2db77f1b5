package edge

import (
	"context"
	"time"
)

// A subscription may be dead though the broker took it: rights or accounts that came later
// than it do not reach it, of which the broker tells nobody (H8). What was refused in words
// the broker's own package subscribes to anew.
const (
	// renewAfter is for how long nothing comes before what it would come by is made anew.
	renewAfter = 10 * time.Second
	renewEvery = time.Second // a look at all neighbours
)

// A renewal decides when what a neighbour says, and asks, is subscribed to anew.
type renewal struct {
	in, out time.Time // since when nothing came, or when it was last made anew; zero: something comes
	up      time.Time // since when the neighbour is heard; zero: it is not
	settled bool      // questions of this neighbour arrive
}

// look is told, again and again, in which directions a link is up, and says what to make
// anew: what comes in, acks of what goes out, and the subscriptions for questions. The
// last is needed once, when the neighbour is there on a new connection, since only who
// asks would know that questions do not arrive; a little later, since a neighbour that
// comes up asks.
func (r *renewal) look(now time.Time, in, out bool) (renewIn, renewOut, renewAnswers bool) {
	renewIn, renewOut = overdue(&r.in, now, in), overdue(&r.out, now, out)
	switch {
	case !in:
		r.up = time.Time{}
		r.settled = r.settled && !renewIn // after such a silence it is as on a new connection
	case r.up.IsZero():
		r.up = now
	case !r.settled && now.Sub(r.up) >= renewAfter:
		r.settled, renewAnswers = true, true
	}
	return renewIn, renewOut, renewAnswers
}

// overdue says whether nothing has come since renewAfter, which begins anew then.
func overdue(since *time.Time, now time.Time, comes bool) bool {
	switch {
	case comes:
		*since = time.Time{}
	case since.IsZero():
		*since = now
	case now.Sub(*since) >= renewAfter:
		*since = now
		return true
	}
	return false
}

// followBroker does what changes at the broker ask for of which it tells nobody: it makes
// anew what may be dead, and has sent what fits its messages by now.
func (e *Edge) followBroker(ctx context.Context) error {
	renewals := make([]renewal, len(e.neighbours))
	connection := uint64(0)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if !e.conn.Connected() {
			continue
		}
		if now := e.connections.Load(); now != connection { // all of them are new
			connection = now
			clear(renewals)
		}
		if connection == 0 { // the name is not ours yet, and nothing is subscribed to
			continue
		}
		e.tellAnew()
		answers := false
		for i, n := range e.neighbours {
			in, out := n.link.Directions()
			renewIn, renewOut, asked := renewals[i].look(time.Now(), in, out)
			if renewIn || renewOut {
				n.log.Debug("subscribe anew", "in", renewIn, "out", renewOut)
				n.path.Renew(renewIn, renewOut)
			}
			answers = answers || asked
		}
		if answers {
			e.conn.RenewAnswers()
		}
	}
}
