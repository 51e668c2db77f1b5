package edge

import (
	"context"
	"log/slog"

	"herd/broker"
)

// A Broker is what an edge needs of its connection to the broker: that of *broker.Conn, whose
// documentation holds for every Broker, or a model of one. Its methods may be called from any
// goroutine.
type Broker interface {
	Connected() bool
	Wait(ctx context.Context) error // until it is connected
	Server() string
	MaxPayload() int // bytes; 0: not known yet

	// What tells whether it still works, and mends it (H8).
	Alive(ctx context.Context) error
	Reconnect() error
	RenewAnswers()

	// The edge's name (H10).
	AskName(ctx context.Context, prefix, self string) (epoch string, answered bool, err error)
	ClaimName(prefix, self, epoch string) error
	AnswerName(prefix, self, epoch string, claimed func(other string)) error

	Neighbour(prefix, self, other string) Neighbour
	Bucket(cfg broker.BucketConfig) Bucket
	Serve(cfg broker.ServiceConfig) (Service, error)

	Flush(ctx context.Context) error
	Close()
}

// A Neighbour is the way to one neighbour, and from it (H1).
type Neighbour interface {
	Send(m *broker.Message) error
	Ack(a broker.Ack) error
	AskJoin(ctx context.Context, config string) (broker.Join, error)
	Listen(h broker.Handlers) error
	Renew(in, out bool)
}

// A Bucket is where the journal is kept (D1).
type Bucket interface {
	Open(ctx context.Context) error
	Owner(ctx context.Context) (epoch string, sequence uint64, err error)
	Own(ctx context.Context, epoch string, expect uint64) (sequence uint64, err error)
	Read(ctx context.Context, after uint64, f func(broker.BucketEntry)) (broker.BucketState, error)
	Write(ctx context.Context, last uint64, entries []broker.BucketEntry) (newLast uint64, err error)
	Delete(ctx context.Context, last uint64, entries []broker.BucketEntry) (newLast uint64, err error)
	State(ctx context.Context) (broker.BucketState, error)
}

// A Service is the edge's endpoints until Stop.
type Service interface {
	Stop(limit context.Context)
}

// connection is a broker.Conn as a Broker.
type connection struct{ *broker.Conn }

func (c connection) Neighbour(prefix, self, other string) Neighbour {
	return c.Conn.Neighbour(prefix, self, other)
}

func (c connection) Bucket(cfg broker.BucketConfig) Bucket { return c.Conn.Bucket(cfg) }

func (c connection) Serve(cfg broker.ServiceConfig) (Service, error) { return c.Conn.Serve(cfg) }

// connect connects to the embedded server, where there is one, or to the configured broker.
func (e *Edge) connect(embedded *broker.Embedded, events broker.Events) (Broker, error) {
	if e.shared.Dial != nil {
		return e.shared.Dial(e.cfg.Edge, events, e.log)
	}
	var c *broker.Conn
	var err error
	if embedded != nil {
		c, err = embedded.Dial(e.cfg.Edge, events, e.log)
	} else {
		c, err = broker.Dial(e.cfg.Broker, e.cfg.Edge, events, e.log)
	}
	if err != nil {
		return nil, err
	}
	return connection{c}, nil
}

// Dial connects an edge of this name to a broker, and tells of the connection's events as
// broker.Dial does.
type Dial func(edge string, events broker.Events, log *slog.Logger) (Broker, error)
