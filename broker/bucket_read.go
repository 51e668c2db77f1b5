package broker

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// A piece of a stream is what one question to a replica requests.
	pieceMessages = 5000
	pieceBytes    = 1 << 20

	// many is the number of messages from which a consumer pays off: its pieces cost the
	// machine a third of what direct gets cost.
	many = 2 * pieceMessages

	// directMost is the number of pieces that are read by direct gets before a consumer is tried
	// again.
	directMost = 8

	// waitMost bounds reader.wait.
	waitMost = 4 * time.Second

	// A consumer whose reader is gone ends by itself after consumerLife.
	consumerLife = time.Minute

	// readSilence is how long Read waits when nothing arrives any more.
	readSilence = 10 * time.Second
)

var errReadSilent = errors.New("no more messages arrive")

// Read calls f for every entry and marker with a sequence after after, except the owner's,
// one at a time and in the order of their sequences. f may use Value only until it returns.
// An entry that is written meanwhile may be reported twice, the newer value last. Read
// returns the state at which the leader had nothing newer: everything up to State.Last has
// been read.
//
// It asks replicas, which needs no leader and any of which may lag, and then asks the leader
// whether that was all. It continues as long as something arrives, and gives up when nothing
// has for ten seconds.
func (b *Bucket) Read(ctx context.Context, after uint64, f func(BucketEntry)) (state BucketState, err error) {
	err = b.do(ctx, "read", func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		r := reader{b: b, nc: nc, js: js, inbox: nc.NewInbox(), wait: askAgain, seen: after, f: f}
		r.patience = time.AfterFunc(readSilence, func() { cancel(errReadSilent) })
		defer r.patience.Stop()
		if r.sub, err = nc.SubscribeSync(r.inbox + ".*"); err != nil {
			return err
		}
		defer r.sub.Unsubscribe()
		defer r.dismiss(ctx)
		state, err = r.read(ctx)
		if err != nil && errors.Is(context.Cause(ctx), errReadSilent) {
			return errReadSilent
		}
		return err
	})
	if err != nil {
		return BucketState{}, err
	}
	return state, nil
}

// A reader reads a stream in pieces.
type reader struct {
	b        *Bucket
	nc       *nats.Conn
	js       jetstream.JetStream
	sub      *nats.Subscription // to inbox.*
	inbox    string
	asked    int           // number of questions asked
	wait     time.Duration // how long a piece may be silent before more is asked for
	patience *time.Timer   // see readSilence
	seen     uint64        // everything up to here was read
	consumer string        // consumer that delivers pieces; "" means direct gets
	given    uint64        // messages that the consumer delivered
	unheard  bool          // the consumer gave nothing to the last question
	owner    uint64        // the owner's sequence, if it was read
	f        func(BucketEntry)
}

// read reads on from seen until the leader has nothing newer.
func (r *reader) read(ctx context.Context) (BucketState, error) {
	from, id := r.seen, ""
	for {
		info, err := r.b.info(ctx, r.nc)
		if err != nil {
			return BucketState{}, err
		}
		r.patience.Reset(readSilence)
		state := r.b.stateOf(info)
		switch {
		case id == "":
			id = state.ID
		case state.ID != id:
			return BucketState{}, errors.New("recreated while it was read")
		}
		if state.Last <= r.seen {
			state.Owner, err = r.ownerSince(ctx, from)
			return state, err
		}
		for direct := 0; r.seen < state.Last; direct++ {
			if r.consumer != "" {
				direct = 0
			} else if direct%directMost == 0 && min(state.Last-r.seen, state.Messages) > many {
				r.employ(ctx)
			}
			before := r.seen
			if err := r.piece(ctx); err != nil {
				return BucketState{}, err
			}
			if r.seen > before {
				continue
			}
			// A replica has nothing more: it lags, or the last messages are gone.
			m, err := r.b.message(ctx, r.nc, map[string]any{"seq": r.seen + 1, "next_by_subj": ">"})
			if err != nil {
				return BucketState{}, err
			}
			if m == nil {
				r.seen = state.Last
				break
			}
			h, err := m.header()
			if err != nil {
				return BucketState{}, err
			}
			r.take(m.Sequence, m.Subject, h, m.Data)
		}
	}
}

// ownerSince returns the sequence of the owner's entry: the one read, or the one from before.
func (r *reader) ownerSince(ctx context.Context, from uint64) (uint64, error) {
	if r.owner != 0 || from == 0 {
		return r.owner, nil
	}
	m, err := r.b.newest(ctx, r.nc, ownerKey)
	if err != nil || m == nil {
		return 0, err
	}
	return m.Sequence, nil
}

// employ makes a consumer of what follows seen. Only the leader of the whole cluster can; if
// there is none now, direct gets are used.
func (r *reader) employ(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*askAgain)
	defer cancel()
	c, err := r.js.CreateConsumer(ctx, r.b.stream, jetstream.ConsumerConfig{
		DeliverPolicy: jetstream.DeliverByStartSequencePolicy, OptStartSeq: r.seen + 1, AckPolicy: jetstream.AckNonePolicy,
		InactiveThreshold: consumerLife, MemoryStorage: true, Replicas: 1,
	})
	if err == nil {
		r.consumer, r.given, r.unheard = c.CachedInfo().Name, 0, false
	}
}

// dismiss deletes the consumer, if there is one and the broker can be told.
func (r *reader) dismiss(ctx context.Context) {
	if r.consumer == "" {
		return
	}
	subject := "$JS.API.CONSUMER.DELETE." + r.b.stream + "." + r.consumer
	r.consumer = ""
	_ = r.nc.PublishRequest(subject, r.inbox+".dismissed", nil) // if this is lost, it ends by itself
}

// piece asks a replica for what follows seen. It is no error if no replica answers or part of
// the answer is lost: then less is read than there is. On a slow machine an answer may only be
// late: after each silence the next may last twice as long, and a consumer is asked once more before
// it is given up, as what it sends late is what follows. Otherwise the same messages were sent again
// and again.
func (r *reader) piece(ctx context.Context) error {
	r.asked++
	reply := r.inbox + "." + strconv.Itoa(r.asked)
	subject := "$JS.API.DIRECT.GET." + r.b.stream
	question := fmt.Appendf(nil, `{"seq":%d,"batch":%d,"max_bytes":%d}`, r.seen+1, pieceMessages, pieceBytes)
	if r.consumer != "" {
		subject = "$JS.API.CONSUMER.MSG.NEXT." + r.b.stream + "." + r.consumer
		question = fmt.Appendf(nil, `{"batch":%d,"max_bytes":%d,"no_wait":true}`, pieceMessages, pieceBytes)
	}
	if err := r.nc.PublishRequest(subject, reply, question); err != nil {
		return err
	}
	before := uint64(0) // the previous message of this answer
	from, given := r.seen, r.given
	for {
		m, err := next(ctx, r.sub, r.wait)
		switch {
		case errors.Is(err, errSilent):
			r.wait = min(2*r.wait, waitMost)
			if r.seen == from && r.unheard { // else what comes late of the consumer counts
				r.dismiss(ctx)
			}
			r.unheard = r.seen == from
			return nil
		case errors.Is(err, nats.ErrNoResponders):
			r.dismiss(ctx)
			return nil
		case err != nil:
			return err
		case r.consumer != "" && strings.HasPrefix(m.Reply, "$JS.ACK."):
			at, err := m.Metadata()
			if err == nil && at.Consumer != r.consumer {
				continue // of one that was given up
			}
			if err != nil || !r.follows(at) {
				r.dismiss(ctx)
				return nil
			}
			r.given++
			r.unheard = false
			if at.Sequence.Stream > r.seen { // the leader may have given it meanwhile
				r.take(at.Sequence.Stream, m.Subject, m.Header, m.Data)
			}
			if at.NumPending == 0 || r.given == given+pieceMessages {
				return nil
			}
			continue
		case m.Subject != reply:
			continue // a late message of an earlier piece
		case r.consumer != "": // the end of the replica's messages or of the piece
			if r.seen == from {
				r.dismiss(ctx)
			}
			return nil
		}
		text, told := lastOf(m.Header[jetstream.SequenceHeader])
		if !told { // also a late message
			return nil
		}
		sequence, ok := parseNumber(text)
		text, _ = lastOf(m.Header[jetstream.LastSequenceHeader])
		previous, ok2 := parseNumber(text)
		subject, ok3 := lastOf(m.Header[jetstream.SubjectHeader])
		if !ok || !ok2 || !ok3 || sequence <= r.seen {
			return fmt.Errorf("answer of the broker: %.200q", m.Header)
		}
		if previous != before {
			return nil // a message was lost on its way
		}
		before = sequence
		r.take(sequence, subject, m.Header, m.Data)
	}
}

// follows reports whether a message is the consumer's next one, so that none was lost on its
// way. It may have been taken already, from the leader.
func (r *reader) follows(at *nats.MsgMetadata) bool {
	return at.Sequence.Consumer == r.given+1
}

// take passes a message to f and marks it as read.
func (r *reader) take(sequence uint64, subject string, h nats.Header, data []byte) {
	r.seen = sequence
	r.patience.Reset(readSilence)
	key, ours := strings.CutPrefix(subject, r.b.subject)
	switch {
	case !ours: // the bucket had other subjects before
	case key == ownerKey:
		r.owner = sequence
	case isMarker(h):
		r.f(BucketEntry{Key: key, Marker: true, Sequence: sequence})
	default:
		r.f(BucketEntry{Key: key, Value: data, Sequence: sequence})
	}
}

// lastOf returns the last of the values: those before it were the message's own.
func lastOf(values []string) (string, bool) {
	if len(values) == 0 {
		return "", false
	}
	return values[len(values)-1], true
}

// isMarker reports whether a message with these headers says that its key was deleted.
func isMarker(h nats.Header) bool {
	return len(h[headerOperation]) > 0 || len(h[jetstream.MarkerReasonHeader]) > 0
}

// stored is a message of the stream, as the leader returns it.
type stored struct {
	Subject  string `json:"subject"`
	Sequence uint64 `json:"seq"`
	Header   []byte `json:"hdrs"`
	Data     []byte `json:"data"`
}

func (m *stored) header() (nats.Header, error) {
	if len(m.Header) == 0 {
		return nil, nil
	}
	h, err := nats.DecodeHeadersMsg(m.Header)
	if err != nil {
		return nil, fmt.Errorf("headers of sequence %d: %w", m.Sequence, err)
	}
	return h, nil
}

// marks reports whether the message is a deletion marker.
func (m *stored) marks() (bool, error) {
	h, err := m.header()
	return isMarker(h), err
}

// newest returns the last message of a key, or nil if there is none.
func (b *Bucket) newest(ctx context.Context, nc *nats.Conn, key string) (*stored, error) {
	return b.message(ctx, nc, map[string]any{"last_by_subj": b.subject + key})
}

// message returns the message with which the stream's leader answers, or nil for none. A
// direct get, which nats.go prefers, may reach a replica that lags.
func (b *Bucket) message(ctx context.Context, nc *nats.Conn, question any) (*stored, error) {
	var answer struct {
		Message *stored `json:"message"`
	}
	err := api(ctx, nc, "STREAM.MSG.GET."+b.stream, question, &answer)
	switch {
	case isAPIError(err, jetstream.JSErrCodeMessageNotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case answer.Message == nil:
		return nil, errors.New("the broker's answer is empty")
	}
	return answer.Message, nil
}
