package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// markerTTL is how long a deletion stays in the bucket: a run that reads on within that
	// time learns of it (D5).
	markerTTL = time.Hour

	headerOperation = "KV-Operation" // of a deletion marker, as in every key-value bucket
	operationDelete = "DEL"

	// underWayMost is how long a refusal because another write of a key is under way is not
	// believed, and underWayPause is how long to wait before each new attempt.
	underWayMost  = 500 * time.Millisecond
	underWayPause = 5 * time.Millisecond

	// batchHeaders is more than what an atomic batch adds to the headers of each message.
	batchHeaders = 96
)

// Codes of JetStream for which nats.go has no names. See refusal.
const (
	codeSequenceNotMatch jetstream.ErrorCode = 10063
	codeHeadersTooLarge  jetstream.ErrorCode = 10097
	codeStoreFailed      jetstream.ErrorCode = 10077
	codeAccountExceeded  jetstream.ErrorCode = 10002
	codeInsufficient     jetstream.ErrorCode = 10023
	codeMemoryExceeded   jetstream.ErrorCode = 10028
	codeStorageExceeded  jetstream.ErrorCode = 10047
)

// Write stores the entries in one atomic batch: all, or none. Their keys must differ. It sets
// the Sequence of each entry and returns the last.
//
// The error is an [ErrRefused] if the bucket's last sequence is not last, or that of a key is
// not the one that its entry expects (D5); an [EntryError] if one entry will never be
// accepted; or an [ErrFull]. After any other error the entries may have been stored: a second
// attempt is then refused. A single server whose account is full, but not the bucket, may
// store part of a batch without an answer; [BucketState].MaxBytes shows that limit before it
// is reached.
func (b *Bucket) Write(ctx context.Context, last uint64, entries []BucketEntry) (newLast uint64, err error) {
	return b.change(ctx, "write to", last, entries, func(m *nats.Msg, e *BucketEntry) { m.Data = e.Value })
}

// Delete replaces the entries with markers, under the conditions of Write.
func (b *Bucket) Delete(ctx context.Context, last uint64, entries []BucketEntry) (newLast uint64, err error) {
	return b.change(ctx, "delete from", last, entries, func(m *nats.Msg, _ *BucketEntry) {
		m.Data = nil
		m.Header[headerOperation] = []string{operationDelete}
		m.Header[jetstream.MsgTTLHeader] = []string{markerTTL.String()}
	})
}

// change writes a message per entry. fill completes each message.
func (b *Bucket) change(ctx context.Context, what string, last uint64, entries []BucketEntry, fill func(*nats.Msg, *BucketEntry)) (newLast uint64, err error) {
	if n := len(entries); n == 0 || n > MaxBatch {
		return 0, fmt.Errorf("%s bucket %s: %d entries, want 1 to %d", what, b.name, n, MaxBatch)
	}
	room, ok := b.spare.Get().(*[]*nats.Msg)
	if !ok {
		room = new([]*nats.Msg)
	}
	defer b.spare.Put(room) // no message is used after it is sent
	for len(*room) < len(entries) {
		*room = append(*room, &nats.Msg{Header: make(nats.Header, 4)})
	}
	batch := (*room)[:len(entries)]
	for i := range entries {
		m, e := batch[i], &entries[i]
		if err := b.check(e); err != nil {
			return 0, fmt.Errorf("%s bucket %s: %w", what, b.name, &EntryError{i, err})
		}
		m.Subject = b.subject + e.Key
		clear(m.Header)
		if i == 0 { // in a batch, only the first message has it
			m.Header[jetstream.ExpectedLastSeqHeader] = []string{strconv.FormatUint(last, 10)}
		}
		if e.Expect != 0 {
			expectOfKey(m, e.Expect)
		}
		fill(m, e)
	}
	err = b.do(ctx, what, func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
		if err := fits(batch, nc.MaxPayload()); err != nil {
			return err
		}
		newLast, err = commit(ctx, js, batch)
		return err
	})
	if err != nil {
		return 0, err
	}
	first := newLast - uint64(len(entries)) + 1 // the messages of a batch are consecutive in the stream
	for i := range entries {
		entries[i].Sequence = first + uint64(i)
	}
	return newLast, nil
}

// check refuses an entry that no bucket accepts.
func (b *Bucket) check(e *BucketEntry) error {
	if len(e.Value) > MaxValue {
		return fmt.Errorf("value of %s longer than %d bytes", e.Key, MaxValue)
	}
	return checkKey(e.Key)
}

func expectOfKey(m *nats.Msg, sequence uint64) {
	m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(sequence, 10)}
}

// fits finds the first message that is too large for the broker, which would close the
// connection.
func fits(batch []*nats.Msg, most int64) error {
	for i, m := range batch {
		size := len("NATS/1.0\r\n\r\n") + batchHeaders + len(m.Data)
		for key, values := range m.Header {
			size += len(key) + len(": \r\n") + len(values[0])
		}
		if int64(size) > most {
			return &EntryError{i, fmt.Errorf("message of %d bytes, the broker's max_payload is %d", size, most)}
		}
	}
	return nil
}

// commit stores all messages or none, and returns the sequence of the last.
//
// The servers of a replicated bucket refuse a write of a key while another one is under way, and
// answer a write a moment before they take it off that list: a writer that is quick is refused for
// its own last write. So such a refusal counts only if it lasts (D5). To try again is harmless, since
// nothing was stored and the conditions are the same.
func commit(ctx context.Context, js jetstream.JetStream, batch []*nats.Msg) (last uint64, err error) {
	for end := time.Now().Add(underWayMost); ; {
		last, err = commitOnce(ctx, js, batch)
		if !isAPIError(err, jetstream.JSErrCodeStreamWrongLastSequenceConstant) || !time.Now().Before(end) {
			return last, err
		}
		if rest(ctx, underWayPause) != nil {
			return last, err
		}
	}
}

func commitOnce(ctx context.Context, js jetstream.JetStream, batch []*nats.Msg) (last uint64, err error) {
	if len(batch) == 1 { // saves an fsync compared with a batch of one
		ack, err := js.PublishMsg(ctx, batch[0], jetstream.WithRetryAttempts(0))
		if err != nil {
			return 0, refusal(err)
		}
		return ack.Sequence, nil
	}
	// Only the last message asks for an answer: waiting for an earlier one would not end with
	// ctx.
	ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch, jetstreamext.BatchFlowControl{})
	if err != nil {
		return 0, refusal(err)
	}
	return ack.Sequence, nil
}

// refusal translates an error of a write.
func refusal(err error) error {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("%w: %w", ErrNobody, err) // no bucket, no leader for now, or no JetStream
	}
	switch {
	case isAPIError(err,
		jetstream.JSErrCodeStreamWrongLastSequence,
		jetstream.JSErrCodeStreamWrongLastSequenceConstant, // another write of the key is under way, see commit
		codeSequenceNotMatch):                              // after a change of leader, another message has that sequence
		return fmt.Errorf("%w: %w", ErrRefused, err)
	case isAPIError(err, jetstream.JSErrCodeStreamMessageExceedsMaximum, codeHeadersTooLarge): // for a single message; a batch with such a message is incomplete
		return &EntryError{0, err}
	case isAPIError(err, codeStoreFailed, codeAccountExceeded, codeInsufficient, codeMemoryExceeded, codeStorageExceeded):
		return fmt.Errorf("%w: %w", ErrFull, err)
	}
	return err
}
