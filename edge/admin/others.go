package admin

import (
	"context"
	"errors"
)

// Others are the edges of other processes, as far as they can be asked. The methods may be called
// from any goroutine, and keep to their context.
type Others interface {
	// Reach says what may be asked now. It is called at most once a second.
	Reach(ctx context.Context) Reach
	// Ask asks an edge at one of its endpoints: status, client, cells, digest, whatsat or whosat
	// (docs/PROTOCOL.md, NATS endpoints). The error is ErrNobody where the edge is not there, and a
	// *Refusal where it does not answer the question.
	Ask(ctx context.Context, edge, endpoint string, payload []byte) ([]byte, error)
}

// Reach is what this process may ask of other edges.
type Reach struct {
	Away       bool     // the broker is away
	Restricted string   // why others may not be asked at all; "": they may
	Command    string   // which command shows all edges where this page cannot
	Edges      []string // that are known to be there, other than by what statuses name
}

// ErrNobody is the error of asking an edge that is not connected to the broker.
var ErrNobody = errors.New("not connected to the broker")

// A Refusal is an edge's error in place of an answer.
type Refusal struct {
	Code, Text string
	Data       []byte // what came with it, such as the line of C4
}

func (r *Refusal) Error() string { return r.Text }
