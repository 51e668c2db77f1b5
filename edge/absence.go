package edge

import (
	"sync"
	"time"

	"herd/broker"
)

// complaintTold is for how long a complaint of the broker is shown. It repeats one that
// holds at least every half a minute ([broker.Events]).
const complaintTold = time.Minute

// An absence is what an operator wants to know of a broker that is away or complains: since
// when, and why. Its methods may be called from any goroutine.
type absence struct {
	mu         sync.Mutex
	since      time.Time // zero: it is connected
	why        string    // it is away; "": not known
	connected  time.Time // since when it is connected; zero: it is away
	complained time.Time // when it last complained
	words      string    // and of what
}

// begin notes that the broker is away since now. err may be nil.
func (a *absence) begin(now time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since, a.why, a.connected = now, "", time.Time{}
	if err != nil {
		a.why = broker.Reason(err)
	}
}

// failed notes why it is not reached: that says more than how it was lost.
func (a *absence) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.why = broker.Reason(err)
}

func (a *absence) complaint(now time.Time, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.complained, a.words = now, err.Error()
}

// end notes that the broker is connected since now.
func (a *absence) end(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since, a.why, a.connected = time.Time{}, "", now
}

// state returns since when the broker is away, which is zero where it is not, and why: its
// last complaint where it is connected, and complained within the last minute.
func (a *absence) state(now time.Time) (since time.Time, why string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	why = a.why
	if a.since.IsZero() && a.words != "" && now.Sub(a.complained) < complaintTold {
		why = a.words
	}
	return a.since, why
}

// turned returns when the broker was last connected or lost.
func (a *absence) turned() time.Time {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.since.IsZero() {
		return a.connected
	}
	return a.since
}
