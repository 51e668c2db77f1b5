package broker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	// MaxBatch is the maximum number of entries of one [Bucket.Write]: the server's limit of
	// an atomic batch.
	MaxBatch = 1000
	// MaxValue is the maximum size of a value in bytes: that of an AT line (H5).
	MaxValue = 1280

	maxKey     = 1024                  // bytes; a subject of 4 KiB would close the connection
	maxMessage = MaxValue + HeaderRoom // of the stream, which counts headers too

	ownerKey = "=owner" // not a client's key: there = begins an escape of two hex digits, or "=h."

	// askAgain is how long to wait for an answer before asking again. A question is lost
	// without notice if the leader that should have answered is gone.
	askAgain = 500 * time.Millisecond
)

var (
	// ErrNoJetStream means that the broker has no JetStream, or none for this account.
	ErrNoJetStream = errors.New("no JetStream at the broker")
	// ErrRefused means that the bucket has something that the writer has not seen. Nothing
	// was stored.
	ErrRefused = errors.New("refused: the bucket has something newer")
	// ErrFull means that the bucket, its account or the server has no room. Nothing was
	// stored, but see [Bucket.Write].
	ErrFull = errors.New("no room")
	// ErrUnfit means that a bucket may drop what it acknowledged, or cannot be written as a
	// journal, and that this could not be repaired. The error names the limits.
	ErrUnfit = errors.New("not fit for a journal")
)

// An EntryError means that the bucket will never accept one of the entries of a write.
// Nothing was stored.
type EntryError struct {
	Index int // index of the entry
	Err   error
}

func (e *EntryError) Error() string { return fmt.Sprintf("entry %d: %v", e.Index, e.Err) }

func (e *EntryError) Unwrap() error { return e.Err }

// BucketConfig configures an edge's journal.
type BucketConfig struct {
	Prefix   string // HERD_SUBJECT_PREFIX
	Edge     string
	Replicas int    // for a new bucket; 1 to 5
	Storage  string // for a new bucket: "file" or "memory"
	MaxBytes int64  // HERD_JOURNAL_MAX_BYTES; 0 does not change an existing bucket
	// Clock, unless nil, is called each time the broker reports on the bucket (H8), with the
	// time that the broker's clock showed and the moment when the report arrived. It must be
	// quick.
	Clock func(clock, at time.Time)
}

// A BucketEntry is a key and the value last written to it.
type BucketEntry struct {
	Key      string // letters, digits, - _ = / and inner single dots
	Value    []byte // at most MaxValue bytes
	Marker   bool   // set by Read: the key was deleted
	Expect   uint64 // for a write: the last sequence seen of the key; 0 expects nothing
	Sequence uint64 // set by a write that succeeded, and by Read
}

// BucketState identifies one life of a bucket, and says how far it has come (D5, D6).
type BucketState struct {
	ID       string // of the stream: when it was created
	Last     uint64 // its last sequence, which never decreases within a life
	Owner    uint64 // sequence of the owner's entry, or of its deletion; 0: none
	Messages uint64 // number of entries and markers, and the owner's entry
	Bytes    uint64 // bytes that they take
	MaxBytes uint64 // limit on Bytes of the bucket or of its account; 0: no limit
	Replicas int    // how many servers should hold it
	Copies   int    // how many hold it and are up to date
}

// Bucket is a key-value bucket that one run at a time owns, and in which every write states
// what the writer has seen. Its methods may be called from any goroutine. Each uses the
// connection current at the call, and returns [ErrNotConnected] if there is none or if it is
// lost meanwhile: an operation under way then may or may not have been done. The methods end
// with ctx, which they may overrun by two seconds if the broker reads nothing.
type Bucket struct {
	c       *Conn
	cfg     BucketConfig
	name    string // for people and `nats kv`
	stream  string
	subject string // prefix of the subjects of keys

	account atomic.Uint64 // see accountRoom
	spare   sync.Pool     // of *[]*nats.Msg for Write: headers are maps, cheaper to reuse than to make
}

// Bucket returns the bucket <prefix>_<edge>. It does not ask the broker yet.
func (c *Conn) Bucket(cfg BucketConfig) *Bucket {
	cfg.Replicas = max(1, cfg.Replicas)
	name := cfg.Prefix + "_" + cfg.Edge
	return &Bucket{c: c, cfg: cfg, name: name, stream: "KV_" + name, subject: "$KV." + name + "."}
}

// State returns the current state of the stream, or the zero State if there is no such
// stream. If the stream was changed since Open repaired it, the error is an [ErrUnfit], with
// a valid state.
func (b *Bucket) State(ctx context.Context) (state BucketState, err error) {
	err = b.do(ctx, "look at", func(ctx context.Context, nc *nats.Conn, _ jetstream.JetStream) error {
		info, err := b.info(ctx, nc)
		if isAPIError(err, jetstream.JSErrCodeStreamNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		// Ask for the owner last: so no owner's entry with a sequence up to Last is missed.
		owner, err := b.newest(ctx, nc, ownerKey)
		if err != nil {
			return err
		}
		state = b.stateOf(info)
		if owner != nil {
			state.Owner = owner.Sequence
		}
		if state.MaxBytes > 0 && info.Config.MaxBytes <= 0 && state.Bytes > state.MaxBytes/4*3 {
			b.askAccount(ctx, nc, info) // the account's limit may have been raised
			state.MaxBytes = b.maxBytes(info)
		}
		if wrong := b.wrong(&info.Config); len(wrong) > 0 {
			return unfit(wrong)
		}
		return nil
	})
	return state, err
}

// stateOf returns the state without the owner.
func (b *Bucket) stateOf(info *jetstream.StreamInfo) BucketState {
	return BucketState{
		ID: info.Created.UTC().Format(time.RFC3339Nano), Last: info.State.LastSeq,
		Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: b.maxBytes(info),
		Replicas: info.Config.Replicas, Copies: copies(info),
	}
}

// copies returns how many servers hold all of a stream: the leader, which answers, and the
// followers that are up to date.
func copies(info *jetstream.StreamInfo) int {
	n := 1
	if info.Cluster != nil {
		for _, peer := range info.Cluster.Replicas {
			if peer.Current && !peer.Offline {
				n++
			}
		}
	}
	return n
}

// Owner returns the epoch of the run that owns the bucket, or "" if none does, and the
// sequence of the owner's entry, which Own must expect (D5).
func (b *Bucket) Owner(ctx context.Context) (epoch string, sequence uint64, err error) {
	err = b.do(ctx, "ask for the owner of", func(ctx context.Context, nc *nats.Conn, _ jetstream.JetStream) error {
		m, err := b.newest(ctx, nc, ownerKey)
		if err != nil || m == nil {
			return err
		}
		sequence = m.Sequence
		marker, err := m.marks()
		if !marker {
			epoch = string(m.Data)
		}
		return err
	})
	if err != nil {
		return "", 0, err
	}
	return epoch, sequence, nil
}

// Own makes epoch the owner if the owner's entry still has the sequence expect, 0 for none.
// Otherwise the error is an [ErrRefused].
func (b *Bucket) Own(ctx context.Context, epoch string, expect uint64) (sequence uint64, err error) {
	m := &nats.Msg{Subject: b.subject + ownerKey, Data: []byte(epoch), Header: nats.Header{}}
	expectOfKey(m, expect)
	err = b.do(ctx, "own", func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		sequence, err = commit(ctx, js, []*nats.Msg{m})
		return err
	})
	return sequence, err
}

// info asks the leader of the stream for its description.
func (b *Bucket) info(ctx context.Context, nc *nats.Conn) (*jetstream.StreamInfo, error) {
	var info jetstream.StreamInfo
	if err := api(ctx, nc, "STREAM.INFO."+b.stream, nil, &info); err != nil {
		return nil, err
	}
	if info.Created.IsZero() {
		return nil, errors.New("the broker's answer is empty")
	}
	if b.cfg.Clock != nil && !info.TimeStamp.IsZero() {
		b.cfg.Clock(info.TimeStamp, time.Now())
	}
	return &info, nil
}

// api asks JetStream a question that changes nothing, until it is answered. question may be
// nil.
func api(ctx context.Context, nc *nats.Conn, subject string, question, answer any) error {
	var text []byte
	if question != nil {
		var err error
		if text, err = json.Marshal(question); err != nil {
			return err
		}
	}
	for {
		m, err := ask(ctx, nc, "$JS.API."+subject, text)
		if err != nil {
			return err
		}
		var refusal struct {
			Error *jetstream.APIError `json:"error"`
		}
		if err := json.Unmarshal(m.Data, &refusal); err != nil {
			return fmt.Errorf("answer of the broker: %w", err)
		}
		switch e := refusal.Error; {
		case e == nil:
			if err := json.Unmarshal(m.Data, answer); err != nil {
				return fmt.Errorf("answer of the broker: %w", err)
			}
			return nil
		case e.Code != 503 || isAPIError(e, noJetStreamCodes...): // a 503 may mean that there is no leader yet
			return e
		}
		if err := rest(ctx, askAgain); err != nil {
			return err
		}
	}
}

// ask sends a question repeatedly until it is answered.
func ask(ctx context.Context, nc *nats.Conn, subject string, question []byte) (*nats.Msg, error) {
	inbox := nc.NewInbox()
	sub, err := nc.SubscribeSync(inbox)
	if err != nil {
		return nil, err
	}
	defer sub.Unsubscribe()
	for {
		if err := nc.PublishRequest(subject, inbox, question); err != nil {
			return nil, err
		}
		if m, err := next(ctx, sub, askAgain); !errors.Is(err, errSilent) {
			return m, err
		}
	}
}

var errSilent = errors.New("no answer")

// next waits for a message. The error is errSilent if none arrives in time.
func next(ctx context.Context, sub *nats.Subscription, atMost time.Duration) (*nats.Msg, error) {
	waiting, cancel := context.WithTimeoutCause(ctx, atMost, errSilent)
	defer cancel()
	m, err := sub.NextMsgWithContext(waiting)
	if err != nil && ctx.Err() == nil && errors.Is(context.Cause(waiting), errSilent) && errors.Is(err, context.DeadlineExceeded) {
		return nil, errSilent
	}
	return m, err
}

// rest sleeps for d. The error is that of ctx.
func rest(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// noJetStreamCodes are the answers of a server without JetStream, or without JetStream for
// the account.
var noJetStreamCodes = []jetstream.ErrorCode{jetstream.JSErrCodeJetStreamNotEnabled, jetstream.JSErrCodeJetStreamNotEnabledForAccount}

// isAPIError reports whether err is an answer of JetStream with one of these codes.
func isAPIError(err error, codes ...jetstream.ErrorCode) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	if !ok {
		return false
	}
	for _, code := range codes {
		if e.ErrorCode == code {
			return true
		}
	}
	return false
}

// do calls f with the current connection and a ctx that ends when it is lost. The error says
// what was done with the bucket.
func (b *Bucket) do(ctx context.Context, what string, f func(context.Context, *nats.Conn, jetstream.JetStream) error) error {
	err := b.c.whileConnected(ctx, func(ctx context.Context, nc *nats.Conn) error {
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		err = f(ctx, nc, js)
		if errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, ErrNobody) || isAPIError(err, noJetStreamCodes...) {
			return fmt.Errorf("%w: %w", ErrNoJetStream, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s bucket %s: %w", what, b.name, err)
	}
	return nil
}

// whileConnected calls f with the current connection and a ctx that ends when it is lost,
// because a request of nats.go keeps waiting after that.
func (c *Conn) whileConnected(ctx context.Context, f func(context.Context, *nats.Conn) error) error {
	nc := c.live.Load()
	if nc == nil {
		return ErrNotConnected
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	lost := nc.StatusChanged(nats.DISCONNECTED, nats.RECONNECTING, nats.CLOSED)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer nc.RemoveStatusListener(lost) // closes it
	watching.Go(func() {
		if _, ok := <-lost; ok {
			cancel(ErrNotConnected)
		}
	})
	if !nc.IsConnected() { // was lost before the listener was added
		return ErrNotConnected
	}
	err := f(ctx, nc)
	switch {
	case errors.Is(err, context.Canceled) && ctx.Err() != nil:
		return context.Cause(ctx)
	case isLost(err):
		return fmt.Errorf("%w: %w", ErrNotConnected, err)
	}
	return err
}

// isLost reports whether err means that the connection is lost or breaking. A publisher that
// fills the buffer writes it out, so a publish may be the first to fail.
func isLost(err error) bool {
	if _, broken := errors.AsType[*net.OpError](err); broken {
		return true
	}
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// checkKey refuses a key that NATS would refuse, or for which it would close the connection.
func checkKey(key string) error {
	bad := key == "" || len(key) > maxKey || key[0] == '.' || key[len(key)-1] == '.' || strings.Contains(key, "..")
	for i := 0; i < len(key) && !bad; i++ {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '-', c == '_', c == '=', c == '/', c == '.':
		default:
			bad = true
		}
	}
	if bad {
		return fmt.Errorf("%.40q is not a valid key", key)
	}
	return nil
}
