package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// loadIdle is how long Load waits for the next entry before it asks whether
// there is any.
const loadIdle = 250 * time.Millisecond

// Load calls f for every entry that is there, deleted ones left out, one after
// the other in the order of their sequences; Value is f's only while it runs.
// The state is that of just before the first. An entry that is written
// meanwhile may be told twice, with its newer value last.
func (b *Bucket) Load(ctx context.Context, f func(BucketEntry)) (state BucketState, err error) {
	err = b.do(ctx, "load", func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
		if state, err = b.state(ctx, js); err != nil {
			return err
		}
		goal, err := b.newest(ctx, nc, ">")
		if err != nil || goal == nil {
			return err
		}
		return b.follow(ctx, nc, js, goal.Sequence, f)
	})
	if err != nil {
		return BucketState{}, err
	}
	return state, nil
}

// follow reads the stream up to goal, and further until the leader has nothing
// newer: an entry that was to come may have been replaced by one behind the
// goal. nats.go's own mark of the end, and what is said to be pending, come too
// early then, and where the replica that is read lags.
func (b *Bucket) follow(ctx context.Context, nc *nats.Conn, js jetstream.JetStream, goal uint64, f func(BucketEntry)) error {
	kv, err := js.KeyValue(ctx, b.name)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	watch, err := kv.WatchAll(ctx)
	if err != nil {
		cancel()
		return err
	}
	defer func() {
		cancel() // ends the watch, without waiting for the broker as its Stop does
		for range watch.Updates() {
		}
	}()
	idle := time.NewTicker(loadIdle)
	defer idle.Stop()
	for seen, before := uint64(0), uint64(0); ; {
		select {
		case e, ok := <-watch.Updates():
			switch {
			case !ok && ctx.Err() != nil:
				return ctx.Err()
			case !ok:
				return nats.ErrConnectionClosed
			case e == nil:
				continue
			}
			seen = e.Revision()
			if e.Operation() == jetstream.KeyValuePut {
				f(BucketEntry{Key: e.Key(), Value: e.Value(), Sequence: seen})
			}
			if seen < goal {
				continue
			}
		case <-idle.C: // the goal itself may be gone
			if seen > before {
				before = seen
				continue
			}
		case <-ctx.Done():
			return ctx.Err()
		}
		switch m, err := b.newest(ctx, nc, ">"); {
		case err != nil:
			return err
		case m == nil || m.Sequence <= seen:
			return nil
		default:
			goal = m.Sequence
		}
	}
}

// stored is a message of the stream as its leader tells it.
type stored struct {
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
	Data     []byte `json:"data"`
}

// holds tells whether the message is a value, not a deletion marker.
func (m *stored) holds() (bool, error) {
	if len(m.Header) == 0 {
		return true, nil
	}
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return false, fmt.Errorf("headers of sequence %d: %w", m.Sequence, err)
	}
	return h.Get(headerOperation) == "" && h.Get(jetstream.MarkerReasonHeader) == "", nil
}

// newest is the last message on the keys of a pattern, nil if there is none.
// Only the leader of the stream answers; a direct get, which nats.go prefers,
// may reach a replica that lags.
func (b *Bucket) newest(ctx context.Context, nc *nats.Conn, pattern string) (*stored, error) {
	question, err := json.Marshal(map[string]string{"last_by_subj": b.subject + pattern})
	if err != nil {
		return nil, err
	}
	m, err := nc.RequestWithContext(ctx, "$JS.API.STREAM.MSG.GET."+b.stream, question)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	switch err := json.Unmarshal(m.Data, &answer); {
	case err != nil:
		return nil, fmt.Errorf("answer of the broker: %w", err)
	case answer.Error == nil && answer.Message == nil:
		return nil, errors.New("the broker's answer is empty")
	case answer.Error == nil:
		return answer.Message, nil
	case answer.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound:
		return nil, nil
	}
	return nil, answer.Error
}
