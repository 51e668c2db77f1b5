package edge

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"
)

// newEpoch names a run (H3): its start in UTC nanoseconds and a random part, so
// that two runs never share one and byte order is age.
func newEpoch(start time.Time) string {
	var random [4]byte
	_, _ = rand.Read(random[:]) // never fails
	return fmt.Sprintf("%016x-%s", start.UnixNano(), hex.EncodeToString(random[:]))
}

// configHash is what Herd-Config says: the same for edges that agree on the
// topology and on HERD_RETAIN (H7).
func configHash(cfg *Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d", cfg.Topology, cfg.Retain))
	return hex.EncodeToString(sum[:8])
}
