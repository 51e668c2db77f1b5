package edge

import (
	"fmt"
	"strings"

	"herd/broker"
	"herd/edge/config"
	"herd/edge/wire"
)

// A condition is one thing that has to hold for an edge to be ready. It returns "" where
// it holds, and else why not, in words for /readyz, `herd status` and the page. It is
// called whenever somebody looks, from any goroutine, and must not block.
type condition func() (why string)

// conditions are all that a ready edge fulfils (/readyz). This is the one list of them.
// Reasons are shown in its order: one that explains another stands before it.
func (e *Edge) conditions() []condition {
	return []condition{e.whyStopping, e.whyPayload, e.clockDoubt, e.whyJournal, e.whyJoining}
}

// readiness says whether the edge is ready, and if not, every reason why.
func (e *Edge) readiness() (ready bool, why string) {
	var reasons []string
	for _, c := range e.conditions() {
		if why := c(); why != "" {
			reasons = append(reasons, why)
		}
	}
	return len(reasons) == 0, strings.Join(reasons, "; ")
}

// whyStopping: who balances load sends no more clients to an edge that stops (C19).
func (e *Edge) whyStopping() string {
	if isClosed(e.stopping) {
		return "stopping"
	}
	return ""
}

// leastPayload is what the broker's max_payload has to be for every line to go (H5).
const leastPayload = wire.MaxAT + broker.HeaderRoom

// whyPayload: where the broker takes no message with the longest line, what clients told
// would not reach the herd (H5).
func (e *Edge) whyPayload() string {
	if !e.dialled() {
		return ""
	}
	if most := e.conn.MaxPayload(); most > 0 && most < leastPayload {
		return fmt.Sprintf("the broker's max_payload is %d bytes, and a line may need %d", most, leastPayload)
	}
	return ""
}

// whyJournal: where an answer promises that it is kept, or the journal has to be there,
// it can be written (D3, D4).
func (e *Edge) whyJournal() string {
	if needed := e.cfg.Durability == config.DurabilityJournal || e.cfg.Journal == config.JournalOn; !needed || !e.dialled() {
		return ""
	}
	if s := e.journalStats(); !s.Up { // before anybody is refused
		return "the journal cannot be written: " + reason(s.Err)
	}
	return ""
}
