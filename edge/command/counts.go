package command

import "sync/atomic"

// A Verb is what a line asks for, as metrics name it.
type Verb uint8

const (
	IAMAT Verb = iota
	WHATSAT
	WHOSAT
	WATCH
	UNWATCH
	AT
	Other
	Verbs // how many there are
)

func (v Verb) String() string {
	return [...]string{"iamat", "whatsat", "whosat", "watch", "unwatch", "at", "other"}[v]
}

// An Outcome is how it went, as metrics name it.
type Outcome uint8

const (
	OK        Outcome = iota // stored, or answered with what is held
	Older                    // answered, stored nothing (C11)
	Expired                  // answered, past HERD_RETAIN (S4)
	Full                     // HERD_MAX_CLIENTS or HERD_MAX_TABLE (C18), HERD_WATCHES (L5)
	Unknown                  // a client that this edge does not know (C13, L1), or a watch (L5)
	Taken                    // a watch's name that is in use (L5)
	Invalid                  // an invalid command (C4)
	Overlong                 // C5
	Unkept                   // C4 for a journal that could not be written in time (D3)
	Gone                     // the connection ended before the journal held the line (D3)
	Forbidden                // C4 for an IAMAT of a client that the connection may not report
	Proxied                  // a PROXY protocol header in place of commands (C17)
	outcomes
	// Waited counts as OK at once; its time is observed when the answer is ready.
	Waited = outcomes
	// Pending is counted, and its time observed, when the wait for the journal is over, or when its turn
	// has come.
	Pending = outcomes + 1
)

func (o Outcome) String() string {
	return [outcomes]string{
		OK: "ok", Older: "older", Expired: "expired", Full: "full", Unknown: "unknown", Taken: "taken", Invalid: "invalid",
		Overlong: "overlong", Unkept: "unkept", Gone: "gone", Forbidden: "forbidden", Proxied: "proxied",
	}[o]
}

// A tally counts the commands of one batch, so that the shared counters are
// touched once a batch and not once a line.
type tally struct {
	n      [Verbs][outcomes]uint32
	waited uint32 // WHATSATs that wait; in n as OK too
	total  uint32
}

func (t *tally) note(v Verb, o Outcome) {
	if o == Pending {
		return
	}
	if o == Waited {
		t.waited++
		o = OK
	}
	t.n[v][o]++
	t.total++
}

// timed is how many commands of a kind were answered at once.
func (t *tally) timed(v Verb) int {
	var sum uint32
	for _, n := range t.n[v] {
		sum += n
	}
	if v == WHATSAT {
		sum -= t.waited
	}
	return int(sum)
}

// counts are a Handler's counters since its start.
type counts struct {
	n [Verbs][outcomes]atomic.Uint64
}

func (c *counts) add(t *tally) {
	for v := range t.n {
		for o, n := range t.n[v] {
			if n > 0 {
				c.n[v][o].Add(uint64(n))
			}
		}
	}
}

// A Count is how often a command ended in an outcome since the start.
type Count struct {
	Verb    Verb
	Outcome Outcome
	N       uint64
}

// ends are the outcomes that a command can have.
var ends = [Verbs][]Outcome{
	IAMAT:   {OK, Older, Expired, Full, Invalid, Unkept, Gone, Forbidden},
	WHATSAT: {OK, Unknown, Invalid},
	WHOSAT:  {OK, Unknown, Invalid},
	WATCH:   {OK, Full, Taken, Invalid},
	UNWATCH: {OK, Unknown, Invalid},
	AT:      {Invalid},
	Other:   {Invalid, Overlong, Proxied},
}

// Stats returns all counts, those that are zero too: a rate needs a beginning. It may be
// called from any goroutine.
func (h *Handler) Stats() []Count {
	var all []Count
	for v := range Verbs {
		for _, o := range ends[v] {
			all = append(all, Count{v, o, h.count.n[v][o].Load()})
		}
	}
	return all
}
