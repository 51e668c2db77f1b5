package broker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/synadia-io/orbit.go/jetstreamext"
)

const (
	// MaxBatch is how many entries one [Bucket.Write] takes: what a server
	// takes in one atomic batch.
	MaxBatch = 1000
	// MaxValue is the size in bytes of the largest value: an AT line (H5).
	MaxValue = 1280

	maxKey     = 1024                  // bytes; a subject of 4 KiB would end the connection
	maxMessage = MaxValue + HeaderRoom // of the stream, which counts headers too

	// markerTTL is how long a deletion is remembered in the bucket, so that a
	// late write of a dead run (D5) does not bring the key back.
	markerTTL = time.Hour

	headerOperation = "KV-Operation" // of a deletion marker, as in every key-value bucket
	operationPurge  = "PURGE"
)

var (
	// ErrNoJetStream says that the broker has no JetStream, or none for this
	// account.
	ErrNoJetStream = errors.New("no JetStream at the broker")
	// ErrRefused says that a key has been written since it was last seen.
	// Nothing was stored.
	ErrRefused = errors.New("refused: a key has another last sequence")
)

// BucketConfig is that of an edge's journal.
type BucketConfig struct {
	Prefix   string // HERD_SUBJECT_PREFIX
	Edge     string
	Replicas int    // of a bucket that is made; 1 to 5
	Storage  string // of a bucket that is made: "file" or "memory"
}

// A BucketEntry is a key and its newest value.
type BucketEntry struct {
	Key      string // letters, digits, - _ = / and inner single dots
	Value    []byte // at most MaxValue bytes
	Expect   uint64 // of a write: the last sequence seen of the key, 0 for none
	Sequence uint64 // set by a write that succeeded, by Load and by Get
}

// BucketState tells one life of a bucket from another (D5).
type BucketState struct {
	ID   string // of the stream: when it was made
	Last uint64 // its last sequence, which only grows within a life
}

// Bucket is a key-value bucket in which every write says what it expects to
// replace. Its methods may be called from any goroutine. Each uses the
// connection of the moment it is called, and returns [ErrNotConnected] when
// there is none or when it is lost meanwhile: what was under way then may have
// been done or not. They end with ctx, which they may overrun by two seconds
// where nothing can even be written.
type Bucket struct {
	c       *Conn
	cfg     BucketConfig
	name    string // for people and `nats kv`
	stream  string
	subject string // of a key, up to the key

	spare sync.Pool // of *[]*nats.Msg for Write: headers are maps, cheaper to fill than to make
}

// Bucket is the bucket <prefix>_<edge>. Nothing is asked of the broker yet.
func (c *Conn) Bucket(cfg BucketConfig) *Bucket {
	cfg.Replicas = max(1, cfg.Replicas)
	name := cfg.Prefix + "_" + cfg.Edge
	return &Bucket{c: c, cfg: cfg, name: name, stream: "KV_" + name, subject: "$KV." + name + "."}
}

// Open finds the bucket or makes it. A bucket that is there keeps its values,
// replicas and storage; where it lacks what writes need, it gets that. The
// error is an [ErrNoJetStream] where there is none.
func (b *Bucket) Open(ctx context.Context) error {
	return b.do(ctx, "open", func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
		s, err := js.Stream(ctx, b.stream)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			s, err = js.CreateStream(ctx, b.config())
		}
		if err != nil {
			return err
		}
		cfg := s.CachedInfo().Config
		if cfg.Replicas != b.cfg.Replicas || cfg.Storage != b.storage() {
			b.c.log.Warn("journal bucket is not as configured", "bucket", b.name,
				"replicas", cfg.Replicas, "storage", cfg.Storage.String())
		}
		if upgrade(&cfg) {
			if s, err = js.UpdateStream(ctx, cfg); err != nil {
				return err
			}
		}
		if cfg = s.CachedInfo().Config; upgrade(&cfg) { // an older server ignores what it does not know
			return errors.New("the server has no atomic batches: NATS 2.12 or later is needed")
		}
		return nil
	})
}

// config is what nats.go makes of a KeyValueConfig, which has no field for
// atomic batches.
func (b *Bucket) config() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:              b.stream,
		Description:       "journal of the edge " + b.cfg.Edge,
		Subjects:          []string{b.subject + ">"},
		Storage:           b.storage(),
		Replicas:          b.cfg.Replicas,
		MaxMsgsPerSubject: 1,
		MaxMsgs:           -1,
		MaxBytes:          -1,
		MaxMsgSize:        maxMessage,
		MaxConsumers:      -1,
		Discard:           jetstream.DiscardNew,
		Duplicates:        2 * time.Minute,
		DenyDelete:        true,
		AllowDirect:       true, // for `nats kv get`
	}
	upgrade(&cfg)
	return cfg
}

func (b *Bucket) storage() jetstream.StorageType {
	if b.cfg.Storage == "memory" {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

// upgrade switches on all that writes need, and tells whether something was
// missing.
func upgrade(cfg *jetstream.StreamConfig) bool {
	small := cfg.MaxMsgSize >= 0 && cfg.MaxMsgSize < maxMessage
	if cfg.AllowAtomicPublish && cfg.AllowMsgTTL && cfg.AllowRollup && !small {
		return false
	}
	cfg.AllowAtomicPublish, cfg.AllowMsgTTL, cfg.AllowRollup = true, true, true
	if small {
		cfg.MaxMsgSize = maxMessage
	}
	return true
}

// Write stores the entries in one atomic batch: all, or none. Their keys must
// differ. It sets the Sequence of each, and returns the last. It is an
// [ErrRefused] where the last sequence of any key is not the one expected. On
// any other error they may have been stored: who tries again is then refused.
func (b *Bucket) Write(ctx context.Context, entries []BucketEntry) (last uint64, err error) {
	if n := len(entries); n == 0 || n > MaxBatch {
		return 0, fmt.Errorf("write to bucket %s: %d entries, want 1 to %d", b.name, n, MaxBatch)
	}
	room, ok := b.spare.Get().(*[]*nats.Msg)
	if !ok {
		room = new([]*nats.Msg)
	}
	defer b.spare.Put(room) // nobody keeps a message once it is sent
	for len(*room) < len(entries) {
		*room = append(*room, &nats.Msg{Header: make(nats.Header, 4)})
	}
	batch := (*room)[:len(entries)]
	for i := range entries {
		e := &entries[i]
		if len(e.Value) > MaxValue {
			return 0, fmt.Errorf("write to bucket %s: value of %s longer than %d bytes", b.name, e.Key, MaxValue)
		}
		if err := b.address(batch[i], e); err != nil {
			return 0, fmt.Errorf("write to bucket %s: %w", b.name, err)
		}
		batch[i].Data = e.Value
	}
	err = b.do(ctx, "write to", func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		last, err = commit(ctx, js, batch)
		return err
	})
	if err != nil {
		return 0, err
	}
	first := last - uint64(len(entries)) + 1 // a batch lies in the stream in one piece
	for i := range entries {
		entries[i].Sequence = first + uint64(i)
	}
	return last, nil
}

// Delete purges the keys of entries, each only if its last sequence is still
// Expect; it is no error where it is not. On an error some may be purged.
func (b *Bucket) Delete(ctx context.Context, entries []BucketEntry) error {
	return b.do(ctx, "delete from", func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		for some := range slices.Chunk(entries, MaxBatch) {
			if err := b.purge(ctx, js, some); err != nil {
				return err
			}
		}
		return nil
	})
}

// purge tries all at once; where that is refused, each half.
func (b *Bucket) purge(ctx context.Context, js jetstream.JetStream, entries []BucketEntry) error {
	batch := make([]*nats.Msg, 0, len(entries))
	for i := range entries {
		if entries[i].Expect == 0 {
			continue // nothing to purge
		}
		m := &nats.Msg{Header: nats.Header{}}
		if err := b.address(m, &entries[i]); err != nil {
			return err
		}
		m.Header[headerOperation] = []string{operationPurge}
		m.Header[jetstream.MsgRollup] = []string{jetstream.MsgRollupSubject}
		m.Header[jetstream.MsgTTLHeader] = []string{markerTTL.String()}
		batch = append(batch, m)
	}
	if len(batch) == 0 {
		return nil
	}
	_, err := commit(ctx, js, batch)
	if !errors.Is(err, ErrRefused) {
		return err
	}
	if len(entries) == 1 {
		return nil
	}
	half := len(entries) / 2
	if err := b.purge(ctx, js, entries[:half]); err != nil {
		return err
	}
	return b.purge(ctx, js, entries[half:])
}

// address makes m one to the key of e that expects what e expects; it has no other header.
func (b *Bucket) address(m *nats.Msg, e *BucketEntry) error {
	if err := checkKey(e.Key); err != nil {
		return err
	}
	m.Subject = b.subject + e.Key
	clear(m.Header)
	m.Header[jetstream.ExpectedLastSubjSeqHeader] = []string{strconv.FormatUint(e.Expect, 10)}
	return nil
}

// commit stores all messages or none, and returns the sequence of the last.
func commit(ctx context.Context, js jetstream.JetStream, batch []*nats.Msg) (last uint64, err error) {
	if len(batch) == 1 { // one fsync less than a batch of one
		ack, err := js.PublishMsg(ctx, batch[0], jetstream.WithRetryAttempts(0))
		if err != nil {
			return 0, refusal(err)
		}
		return ack.Sequence, nil
	}
	// Only the last message asks for an answer: the wait for an earlier one
	// would not end with ctx.
	ack, err := jetstreamext.PublishMsgBatch(ctx, js, batch, jetstreamext.BatchFlowControl{})
	if err != nil {
		return 0, refusal(err)
	}
	return ack.Sequence, nil
}

// refusal gives an error of a write its meaning.
func refusal(err error) error {
	if errors.Is(err, nats.ErrNoResponders) || errors.Is(err, jetstream.ErrNoStreamResponse) {
		return fmt.Errorf("%w: %w", ErrNobody, err) // no bucket, or no JetStream
	}
	if e, ok := errors.AsType[*jetstream.APIError](err); ok {
		switch e.ErrorCode {
		case jetstream.JSErrCodeStreamWrongLastSequence,
			jetstream.JSErrCodeStreamWrongLastSequenceConstant: // another write of the key is under way
			return fmt.Errorf("%w: %w", ErrRefused, err)
		}
	}
	return err
}

// Get returns the newest entry of a key. ok is false where there is none: then
// Sequence is that of its deletion, or 0. That is what a next write must expect.
func (b *Bucket) Get(ctx context.Context, key string) (e BucketEntry, ok bool, err error) {
	e.Key = key
	if err := checkKey(key); err != nil {
		return e, false, fmt.Errorf("get from bucket %s: %w", b.name, err)
	}
	err = b.do(ctx, "get from", func(ctx context.Context, nc *nats.Conn, _ jetstream.JetStream) error {
		m, err := b.newest(ctx, nc, key)
		if err != nil || m == nil {
			return err
		}
		e.Sequence = m.Sequence
		if ok, err = m.holds(); ok {
			e.Value = m.Data
		}
		return err
	})
	if err != nil {
		return BucketEntry{Key: key}, false, err
	}
	return e, ok, nil
}

// State is that of the stream now; the zero State where there is no such stream.
func (b *Bucket) State(ctx context.Context) (state BucketState, err error) {
	err = b.do(ctx, "look at", func(ctx context.Context, _ *nats.Conn, js jetstream.JetStream) error {
		state, err = b.state(ctx, js)
		if errors.Is(err, jetstream.ErrStreamNotFound) {
			return nil
		}
		return err
	})
	return state, err
}

func (b *Bucket) state(ctx context.Context, js jetstream.JetStream) (BucketState, error) {
	s, err := js.Stream(ctx, b.stream)
	if err != nil {
		return BucketState{}, err
	}
	info := s.CachedInfo()
	return BucketState{ID: info.Created.UTC().Format(time.RFC3339Nano), Last: info.State.LastSeq}, nil
}

// do calls f with the present connection, and a ctx that ends when it is lost.
// The error says what was done with the bucket.
func (b *Bucket) do(ctx context.Context, what string, f func(context.Context, *nats.Conn, jetstream.JetStream) error) error {
	err := b.c.whileConnected(ctx, func(ctx context.Context, nc *nats.Conn) error {
		js, err := jetstream.New(nc)
		if err != nil {
			return err
		}
		err = f(ctx, nc, js)
		if errors.Is(err, nats.ErrNoResponders) && !errors.Is(err, ErrNobody) ||
			errors.Is(err, jetstream.ErrJetStreamNotEnabled) || errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount) {
			return fmt.Errorf("%w: %w", ErrNoJetStream, err)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("%s bucket %s: %w", what, b.name, err)
	}
	return nil
}

// whileConnected calls f with the present connection, and a ctx that ends when
// it is lost: a request of nats.go waits on over that.
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
	if !nc.IsConnected() { // was lost before there was anyone to tell
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

// isLost says whether err is that of a connection that is gone or breaks. A full buffer
// is written out by whoever fills it, so a publish may be the first to meet one that breaks.
func isLost(err error) bool {
	if _, broken := errors.AsType[*net.OpError](err); broken {
		return true
	}
	return errors.Is(err, nats.ErrDisconnected) || errors.Is(err, nats.ErrConnectionClosed) || errors.Is(err, nats.ErrReconnectBufExceeded)
}

// checkKey refuses what NATS would refuse as a key, or break the connection
// over.
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
		return fmt.Errorf("%.40q is no key", key)
	}
	return nil
}
