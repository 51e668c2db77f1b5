package command

import "sync/atomic"

// A Verb is what a line asks for, as metrics name it.
type Verb uint8

const (
	IAMAT Verb = iota
	WHATSAT
	AT
	Other
	Verbs // how many there are
)

func (v Verb) String() string { return [...]string{"iamat", "whatsat", "at", "other"}[v] }

// An Outcome is how it went, as metrics name it.
type Outcome uint8

const (
	OK        Outcome = iota // stored, or answered with what is held
	Older                    // answered, stored nothing (C11)
	Expired                  // answered, past HERD_RETAIN (S4)
	Full                     // HERD_MAX_CLIENTS (C18)
	Unknown                  // a client that this edge knows nothing of (C13)
	Invalid                  // no valid command (C4)
	Overlong                 // C5
	Unkept                   // C4 for a journal that could not be written in time (D3)
	Forbidden                // C4 for an IAMAT of a client that the connection may not report
	outcomes
	// Waited is OK, and its answer is timed when it is ready.
	Waited = outcomes
	// Pending is counted and timed when the journal has been waited for.
	Pending = outcomes + 1
)

func (o Outcome) String() string {
	return [...]string{"ok", "older", "expired", "full", "unknown", "invalid", "overlong", "unkept", "forbidden"}[o]
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

// Stats returns the counts that are not zero. It may be called from any goroutine.
func (h *Handler) Stats() []Count {
	var all []Count
	for v := range Verbs {
		for o := range outcomes {
			if n := h.count.n[v][o].Load(); n > 0 {
				all = append(all, Count{v, o, n})
			}
		}
	}
	return all
}
