package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Codes of JetStream for which nats.go has no names.
const (
	codeMaxBytesRequired jetstream.ErrorCode = 10113 // the account requires a limit in bytes
)

// Open finds the bucket or creates it. An existing bucket keeps its values, replicas and
// storage. Settings with which it may drop what it acknowledged, or refuse writes, are
// repaired (D5). The error is an [ErrNoJetStream] without JetStream, and an [ErrUnfit] if
// something could not be repaired.
func (b *Bucket) Open(ctx context.Context) error {
	return b.do(ctx, "open", func(ctx context.Context, nc *nats.Conn, js jetstream.JetStream) error {
		info, err := b.info(ctx, nc)
		if isAPIError(err, jetstream.JSErrCodeStreamNotFound) {
			if _, err := js.CreateStream(ctx, b.config()); err != nil {
				return b.notMade(err)
			}
			info, err = b.info(ctx, nc)
		}
		if err != nil {
			return err
		}
		cfg := &info.Config
		if cfg.Replicas != b.cfg.Replicas || cfg.Storage != b.storage() {
			b.c.log.Warn("journal bucket is not as configured", "bucket", b.name,
				"replicas", cfg.Replicas, "storage", cfg.Storage.String())
		}
		if wrong := b.putRight(cfg); len(wrong) > 0 {
			if _, err := js.UpdateStream(ctx, *cfg); err != nil {
				return b.notPutRight(wrong, err)
			}
			b.c.log.Warn("journal bucket put right", "bucket", b.name, "was", strings.Join(wrong, ", "))
			// A server ignores settings that it does not know, so ask what it has set.
			if info, err = b.info(ctx, nc); err != nil {
				return err
			}
			if wrong := b.wrong(&info.Config); len(wrong) > 0 {
				return unfit(wrong)
			}
		}
		b.askAccount(ctx, nc, info)
		return nil
	})
}

// config returns what nats.go makes of a KeyValueConfig, which has no field for atomic
// batches.
func (b *Bucket) config() jetstream.StreamConfig {
	cfg := jetstream.StreamConfig{
		Name:        b.stream,
		Description: "journal of the edge " + b.cfg.Edge,
		Storage:     b.storage(),
		Replicas:    b.cfg.Replicas,
		MaxMsgSize:  maxMessage,
		Duplicates:  2 * time.Minute,
		DenyDelete:  true,
		AllowRollup: true, // for `nats kv purge`
	}
	b.putRight(&cfg)
	return cfg
}

func (b *Bucket) storage() jetstream.StorageType {
	if b.cfg.Storage == "memory" {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}

// wrong names what is wrong with a stream's configuration.
func (b *Bucket) wrong(cfg *jetstream.StreamConfig) []string {
	some := *cfg
	return b.putRight(&some)
}

// putRight changes everything in a stream's configuration that would let it drop, hide or
// refuse what a journal writes. It returns the names and values of what was wrong.
func (b *Bucket) putRight(cfg *jetstream.StreamConfig) (wrong []string) {
	if want := []string{b.subject + ">"}; !slices.Equal(cfg.Subjects, want) {
		wrong = append(wrong, fmt.Sprintf("subjects %q", cfg.Subjects))
		cfg.Subjects = want
	}
	if cfg.Mirror != nil {
		wrong = append(wrong, "a mirror of "+cfg.Mirror.Name)
		cfg.Mirror = nil
	}
	if len(cfg.Sources) > 0 {
		wrong = append(wrong, "sources")
		cfg.Sources = nil
	}
	if cfg.SubjectTransform != nil {
		wrong = append(wrong, "a subject transform")
		cfg.SubjectTransform = nil
	}
	if cfg.Retention != jetstream.LimitsPolicy {
		wrong = append(wrong, "retention "+strings.ToLower(cfg.Retention.String()))
		cfg.Retention = jetstream.LimitsPolicy
	}
	if cfg.MaxAge != 0 {
		wrong = append(wrong, "max_age "+cfg.MaxAge.String())
		cfg.MaxAge = 0
	}
	if cfg.SubjectDeleteMarkerTTL != 0 { // each marker that expires would create another
		wrong = append(wrong, "subject_delete_marker_ttl "+cfg.SubjectDeleteMarkerTTL.String())
		cfg.SubjectDeleteMarkerTTL = 0
	}
	if cfg.MaxMsgs > 0 {
		wrong = append(wrong, fmt.Sprint("max_msgs ", cfg.MaxMsgs))
	}
	cfg.MaxMsgs = -1
	if cfg.MaxMsgsPerSubject != 1 {
		wrong = append(wrong, fmt.Sprint("max_msgs_per_subject ", cfg.MaxMsgsPerSubject))
		cfg.MaxMsgsPerSubject = 1
	}
	if cfg.Discard != jetstream.DiscardNew {
		wrong = append(wrong, "discard old")
		cfg.Discard = jetstream.DiscardNew
	}
	if cfg.DiscardNewPerSubject { // would refuse new values of existing keys
		wrong = append(wrong, "discard_new_per_subject")
		cfg.DiscardNewPerSubject = false
	}
	if want := b.cfg.MaxBytes; want > 0 && cfg.MaxBytes != want {
		wrong = append(wrong, fmt.Sprintf("max_bytes %d, not %d", cfg.MaxBytes, want))
		cfg.MaxBytes = want
	}
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = -1
	}
	if cfg.MaxMsgSize > 0 && cfg.MaxMsgSize < maxMessage {
		wrong = append(wrong, fmt.Sprint("max_msg_size ", cfg.MaxMsgSize))
		cfg.MaxMsgSize = maxMessage
	}
	for _, flag := range []struct {
		name string
		is   *bool
		want bool
	}{
		{"sealed", &cfg.Sealed, false},
		{"no_ack", &cfg.NoAck, false},
		{"allow_msg_counter", &cfg.AllowMsgCounter, false},     // accepts no values
		{"allow_msg_schedules", &cfg.AllowMsgSchedules, false}, // incompatible with discard new
		{"allow_atomic", &cfg.AllowAtomicPublish, true},        // NATS 2.12 and later
		{"allow_msg_ttl", &cfg.AllowMsgTTL, true},              // for markers
		{"allow_direct", &cfg.AllowDirect, true},               // for Read and `nats kv get`
	} {
		if *flag.is != flag.want {
			wrong = append(wrong, map[bool]string{true: "no ", false: ""}[flag.want]+flag.name)
			*flag.is = flag.want
		}
	}
	if cfg.PersistMode != jetstream.DefaultPersistMode { // acknowledges before it has written
		wrong = append(wrong, "persist_mode "+strings.ToLower(cfg.PersistMode.String()))
		cfg.PersistMode = jetstream.DefaultPersistMode
	}
	return wrong
}

func unfit(wrong []string) error { return fmt.Errorf("%w: %s", ErrUnfit, strings.Join(wrong, ", ")) }

// notPutRight returns the error for a refused change of the configuration.
func (b *Bucket) notPutRight(wrong []string, err error) error {
	if isRefusedConfig(err) {
		return fmt.Errorf("%w, which could not be put right: %w", unfit(wrong), b.demand(err))
	}
	return err
}

// notMade returns the error for a bucket that could not be created.
func (b *Bucket) notMade(err error) error {
	if isRefusedConfig(err) {
		return fmt.Errorf("%w: it could not be made: %w", ErrUnfit, b.demand(err))
	}
	return err
}

// demand adds what to do if the account requires a limit.
func (b *Bucket) demand(err error) error {
	if isAPIError(err, codeMaxBytesRequired) {
		return fmt.Errorf("the account requires a limit in bytes: set HERD_JOURNAL_MAX_BYTES: %w", err)
	}
	return err
}

// isRefusedConfig reports whether JetStream refuses such a stream, and not merely that it
// could not be asked now.
func isRefusedConfig(err error) bool {
	e, ok := errors.AsType[*jetstream.APIError](err)
	return ok && e.Code != 503
}

// maxBytes returns how many bytes the stream may take: its own limit, or what its account
// allows.
func (b *Bucket) maxBytes(info *jetstream.StreamInfo) uint64 {
	if own := info.Config.MaxBytes; own > 0 {
		return uint64(own)
	}
	return b.account.Load()
}

// askAccount asks what the account's limit allows a stream without a limit of its own. It
// waits for only one answer: an unknown limit counts as none, until the stream itself reports
// that there is no room.
func (b *Bucket) askAccount(ctx context.Context, nc *nats.Conn, info *jetstream.StreamInfo) {
	if info.Config.MaxBytes > 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askAgain)
	defer cancel()
	var account jetstream.AccountInfo
	if err := api(ctx, nc, "INFO", nil, &account); err == nil {
		b.account.Store(accountRoom(&account, info))
	}
}

// accountRoom returns how many bytes a stream may take by its account's limit, or 0 for no
// limit. An account's limit counts each replica; the limit of a tier, which is for streams
// with a given number of replicas, does not.
func accountRoom(account *jetstream.AccountInfo, info *jetstream.StreamInfo) uint64 {
	replicas := max(1, int64(info.Config.Replicas))
	tier, times := account.Tier, int64(1)
	if t, ok := account.Tiers[fmt.Sprintf("R%d", replicas)]; ok {
		tier, times = t, replicas
	}
	limit, used := tier.Limits.MaxStore, tier.Store
	if info.Config.Storage == jetstream.MemoryStorage {
		limit, used = tier.Limits.MaxMemory, tier.Memory
	}
	if limit < 0 || limit > math.MaxInt64/times {
		return 0
	}
	others := max(0, int64(used)-int64(info.State.Bytes)*replicas)
	return uint64(max(1, (limit*times-others)/replicas))
}
