package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"herd/edge"
)

// statusEvery is how often systemd is told what an edge waits for before it is ready.
const statusEvery = 5 * time.Second

// notify tells systemd how the edge is, where that has started it with Type=notify;
// elsewhere it tells nobody.
func notify(log *slog.Logger, states ...string) {
	if _, err := systemd.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Warn("tell systemd", "error", err)
	}
}

// waiting says what an edge that is not ready does, for `systemctl status`.
func waiting(e *edge.Edge) string {
	s := e.Source()
	_, why := s.Ready()
	return fmt.Sprintf("STATUS=not ready: %s; broker %s", why, s.Status().Broker)
}

// serving says that it is ready.
func serving(e *edge.Edge) string { return fmt.Sprintf("STATUS=serving clients on %s", e.Addr()) }

// moreTime asks for the time that a complete stop may take (C19), whatever the unit allows.
func moreTime(limit time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit + 5*time.Second).Microseconds())
}
