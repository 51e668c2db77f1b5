// Package inquiry asks the edges of a herd over NATS for what the status page shows. An edge and
// the tool share it. It knows nothing of HTTP or of what the answers mean.
package inquiry

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"herd/broker"
	"herd/edge/admin"
)

// A Conn is what is needed of a connection to the broker, such as *broker.Conn.
type Conn interface {
	Connected() bool
	Ask(ctx context.Context, prefix, edge, endpoint string, payload []byte) ([]byte, error)
	MayAsk(ctx context.Context, prefix, edge, endpoint string) (bool, error)
	Edges(ctx context.Context, prefix string) (edges, others []string, err error)
}

// Edges are the edges of one herd at one broker. They implement admin.Others.
type Edges struct {
	conn    Conn
	prefix  string
	search  bool // ask the broker which edges there are
	command string

	mu      sync.Mutex
	looked  time.Time // when the rights were last asked for
	allowed bool
	found   []string
}

const (
	lookEvery = 10 * time.Second       // between two questions to the broker for this user's rights
	lookLimit = 300 * time.Millisecond // for the broker's answer: the edges need the rest of the time
	searching = 3 * time.Second        // the longest search for edges
)

// Of returns the edges of the herd with this prefix, for an edge of it. command is the command
// that shows all edges where the broker's rights keep them from this user.
func Of(conn Conn, prefix, command string) *Edges {
	return &Edges{conn: conn, prefix: prefix, command: command, allowed: true}
}

// Search returns the same for a tool that does not know which edges there are.
func Search(conn Conn, prefix string) *Edges {
	return &Edges{conn: conn, prefix: prefix, search: true, allowed: true}
}

// Reach says what may be asked now.
func (e *Edges) Reach(ctx context.Context) admin.Reach {
	if !e.conn.Connected() {
		return admin.Reach{Away: true}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.looked.IsZero() || time.Since(e.looked) >= lookEvery {
		// Rights are of the user, and the same for all edges: any name does. A broker where users may
		// not ask for their rights says nothing at all.
		limit, cancel := context.WithTimeout(ctx, lookLimit)
		may, err := e.conn.MayAsk(limit, e.prefix, "Other", "status")
		cancel()
		if err == nil {
			e.allowed = may
		}
		if err == nil || ctx.Err() == nil {
			e.looked = time.Now()
		}
	}
	r := admin.Reach{Command: e.command}
	if !e.allowed {
		r.Restricted = "at this broker each edge has an account of its own, and may not ask the others"
	}
	if e.search && len(e.found) == 0 { // any edge that answers names all others
		limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), searching)
		defer cancel()
		if found, _, err := e.conn.Edges(limit, e.prefix); err == nil {
			e.found = found
		}
	}
	r.Edges = slices.Clone(e.found)
	return r
}

// Ask asks an edge.
func (e *Edges) Ask(ctx context.Context, edge, endpoint string, payload []byte) ([]byte, error) {
	answer, err := e.conn.Ask(ctx, e.prefix, edge, endpoint, payload)
	if refusal, ok := errors.AsType[*broker.AnswerError](err); ok {
		return nil, &admin.Refusal{Code: refusal.Code, Text: refusal.Text, Data: refusal.Data}
	}
	if errors.Is(err, broker.ErrNobody) {
		return nil, admin.ErrNobody
	}
	return answer, err
}
