package edge

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	"herd/edge/config"
)

// newEpoch names a run (H3): its start in UTC nanoseconds, by its own clock, and a random
// part, so that two runs never share one and byte order is age.
func newEpoch(start int64, random io.Reader) (string, error) {
	var part [4]byte
	if _, err := io.ReadFull(random, part[:]); err != nil {
		return "", fmt.Errorf("name the run: %w", err)
	}
	return fmt.Sprintf("%016x-%s", start, hex.EncodeToString(part[:])), nil
}

// configHash is what Herd-Config says: the same for edges that agree on all that has to be
// the same in the whole herd (H7).
func configHash(cfg *config.Config) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\n%d\n%d\n%d", cfg.Topology, cfg.Retain, cfg.MaxClients, cfg.MaxTable))
	return hex.EncodeToString(sum[:8])
}
