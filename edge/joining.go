package edge

import (
	"fmt"
	"strings"
	"time"

	"herd/edge/config"
	"herd/edge/link"
)

const (
	// joinLimit is how long an edge whose journal is loaded waits for its neighbours in all (H7).
	joinLimit = 30 * time.Second
	// settledAfter is for how long a client port is open before its edge counts as settled (H7).
	settledAfter = 30 * time.Second
)

// joining decides when an edge that starts may open its client port (H7): by levels.
// Level k says that everything loaded by edges at most k-1 links away is here. Of several
// joining edges the lowest can always rise, so a cycle of them does not deadlock, though each
// watches its neighbours only. At as many levels as there are edges, everything is here.
//
// It does nothing by itself: step is told what is known and what time it is. It is to be called
// whenever something new is known, and at the time that step returns.
type joining struct {
	edges       int           // in the topology
	timeout     time.Duration // HERD_JOIN_TIMEOUT
	heartbeat   time.Duration
	mustJournal bool // HERD_JOURNAL=on
	neighbours  []joiningNeighbour

	level   int
	begun   time.Time // of the first step
	named   time.Time // when the name was seen to be this run's; zero: it is not
	broker  bool      // the broker was there at the last step,
	turned  time.Time // and since when it is there, or not
	entries uint64    // of the journal, at the last step,
	came    time.Time // and when that last changed
	loaded  time.Time // when the journal was done with; zero: not yet
	next    time.Time // when time alone changes something
}

// joiningNeighbour is what is remembered of a neighbour from step to step.
type joiningNeighbour struct {
	name  string
	heard bool   // any run of it ever told its level
	epoch string // the run that did last
	wasUp bool   // that run was heard on its link
	count int    // the highest level that it counts for: told, and held through the head told with it
	held  uint64
	moved time.Time // when held last grew, or what is owed began to be
	owes  bool
}

// joinSeen is what an edge knows when it steps.
type joinSeen struct {
	broker  bool   // it is connected
	named   bool   // the name is this run's (H10)
	journal bool   // loaded, or known to be none
	entries uint64 // that came of the journal so far
	holds   bool   // there are clients in the table
	// neighbours are in the order of joining's.
	neighbours []neighbourSeen
}

type neighbourSeen struct {
	link.Standing
	nobody bool // the broker says that nobody answers for it
}

// joinStep is what a step decides.
type joinStep struct {
	level int
	open  bool      // the client port may open
	short bool      // though something is missing
	why   string    // what is waited for, or was missing; for people, and bounded
	next  time.Time // step again then, if nothing was heard before; zero: not for time's sake
}

// newJoining makes the state of an edge that has not joined yet.
func newJoining(cfg *config.Config) *joining {
	j := &joining{
		edges: len(cfg.Topology.Edges()), timeout: cfg.JoinTimeout, heartbeat: cfg.Heartbeat,
		mustJournal: cfg.Journal == config.JournalOn,
	}
	for _, name := range cfg.Topology.Neighbours(cfg.Edge) {
		j.neighbours = append(j.neighbours, joiningNeighbour{name: name})
	}
	return j
}

// step takes what is known now, and says how far the edge has joined.
func (j *joining) step(now time.Time, seen *joinSeen) joinStep {
	j.next = time.Time{}
	j.note(now, seen)
	why := j.before(now, seen)
	if why == "" {
		j.loaded = earliest(j.loaded, now)
		var missing []string
		j.level, missing = j.rise(now, seen)
		if j.level < j.edges {
			why = some(missing)
		}
	}
	s := joinStep{level: j.level, why: why, open: why == ""}
	if !s.open && !j.loaded.IsZero() && j.reached(now, j.loaded.Add(joinLimit)) {
		s.open, s.short = true, true
	}
	s.next = j.next
	return s
}

// note remembers what has changed since the last step.
func (j *joining) note(now time.Time, seen *joinSeen) {
	if j.begun.IsZero() {
		j.begun, j.came, j.turned, j.broker = now, now, now, seen.broker
	}
	if j.broker != seen.broker {
		j.broker, j.turned = seen.broker, now
	}
	if seen.named && j.named.IsZero() {
		j.named, j.came = now, now // the journal begins here
	}
	if seen.entries != j.entries {
		j.entries, j.came = seen.entries, now
	}
	for i := range j.neighbours {
		n, s := &j.neighbours[i], &seen.neighbours[i]
		if s.Epoch == "" {
			continue // nothing was told, or it said good-bye
		}
		if s.Epoch != n.epoch { // what another run told, and what came of it, is of no use
			*n = joiningNeighbour{name: n.name, heard: true, epoch: s.Epoch, moved: now}
		}
		owes := s.Through < s.Head
		if s.Through > n.held || owes && !n.owes {
			n.moved = now
		}
		n.held, n.owes, n.wasUp = s.Through, owes, n.wasUp || s.Up
		if !owes {
			n.count = max(n.count, s.Level)
		}
	}
}

// before says what has to be waited for before neighbours count: "" nothing any more.
func (j *joining) before(now time.Time, seen *joinSeen) (why string) {
	if !seen.named {
		if seen.broker {
			return "waits for its name" // which ends by itself (H10), unless the broker goes
		}
		if !j.reached(now, j.turned.Add(j.timeout)) { // one that starts beside this edge may take a while
			return "waits for the broker"
		}
	}
	switch {
	case !j.loaded.IsZero() || seen.journal:
		return ""
	case !j.mustJournal && j.reached(now, j.came.Add(j.timeout)):
		return "" // nothing comes of it
	}
	return "waits for the journal"
}

// rise returns the level that the neighbours allow, and which of them allow no more.
func (j *joining) rise(now time.Time, seen *joinSeen) (level int, missing []string) {
	settled := false // somebody has been open for a while: who joins knows no more than it does
	for i := range j.neighbours {
		settled = settled || seen.neighbours[i].Level >= link.LevelSettled && j.counts(now, i, seen)
	}
	least := j.edges
	for i := range j.neighbours {
		n, s := &j.neighbours[i], &seen.neighbours[i]
		count := n.count
		switch {
		case !n.heard:
			if !j.awaitsFirst(now, s, seen, settled) {
				continue
			}
			count = -1
		case !j.counts(now, i, seen), settled && s.Level < link.LevelOpen:
			continue
		}
		if count < least {
			least, missing = count, missing[:0]
		}
		if count == least && least < j.edges {
			missing = append(missing, n.name)
		}
	}
	return max(j.level, min(1+least, j.edges)), missing
}

// counts says whether a neighbour that was heard is waited for: not where it has fallen
// silent, and not where nothing comes of what it owes.
func (j *joining) counts(now time.Time, i int, seen *joinSeen) bool {
	n, s := &j.neighbours[i], &seen.neighbours[i]
	if s.Epoch == "" {
		return false
	}
	if !s.Up {
		until := j.turned.Add(askFor(j.heartbeat))
		switch {
		case !seen.broker: // without the broker silence proves nothing, nor just after it is back
			until = j.turned.Add(j.timeout)
		case !n.wasUp: // it answered a question, and was not heard yet
			until = later(j.turned, s.At).Add(askFor(j.heartbeat))
		}
		if j.reached(now, until) {
			return false
		}
	}
	return !n.owes || !j.reached(now, later(later(n.moved, j.turned), j.loaded).Add(j.timeout))
}

// silentAfter is how many heartbeats without a word make a neighbour silent (H8).
const silentAfter = 3

// awaitsFirst says whether to wait for a neighbour that was never heard. If nobody
// answers for it, it may be about to start like this edge. An edge with an empty table does not
// wait: either the herd is new, or others already hold all that it has.
func (j *joining) awaitsFirst(now time.Time, s *neighbourSeen, seen *joinSeen, settled bool) bool {
	if !s.nobody && seen.broker && !j.reached(now, j.named.Add(askFor(j.heartbeat))) {
		return true // it was asked, and may yet answer
	}
	from := j.named
	if from.IsZero() || !seen.broker { // it cannot be asked
		from = j.turned
	}
	return seen.holds && !settled && !j.reached(now, from.Add(j.timeout))
}

// askFor is for how long a neighbour that does not answer is asked (H7): three heartbeats,
// and at least one whole question.
func askFor(heartbeat time.Duration) time.Duration { return max(silentAfter*heartbeat, askLimit) }

// reached says whether a time has come; where not, it is one to step at.
func (j *joining) reached(now, at time.Time) bool {
	if !now.Before(at) {
		return true
	}
	j.next = earliest(j.next, at)
	return false
}

// some is names for people: three, and how many more.
func some(names []string) string {
	const most = 3
	if len(names) > most {
		return fmt.Sprintf("waits for %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return "waits for " + strings.Join(names, ", ")
}

// earliest returns the earlier of two times, where the zero time is none.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
