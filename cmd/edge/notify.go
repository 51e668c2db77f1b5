package main

import (
	"fmt"
	"log/slog"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"herd/edge"
)

// statusEvery is how often systemd is told what the edge waits for before it is ready.
const statusEvery = 5 * time.Second

// notify reports states to systemd if it started this process with Type=notify. Otherwise it
// does nothing.
func notify(log *slog.Logger, states ...string) {
	if _, err := systemd.SdNotify(false, strings.Join(states, "\n")); err != nil {
		log.Warn("tell systemd", "error", err)
	}
}

// waiting returns what an edge that is not ready waits for, as a line of `systemctl status`.
func waiting(e *edge.Edge) string {
	s := e.Source()
	_, why := s.Ready()
	return fmt.Sprintf("STATUS=not ready: %s; broker %s", why, s.Status().BrokerState())
}

// serving returns the status line of an edge that is ready.
func serving(e *edge.Edge) string { return fmt.Sprintf("STATUS=serving clients on %s", e.Addr()) }

// moreTime asks systemd for as much time as a complete stop may take (C19), even if the unit
// allows less.
func moreTime(limit time.Duration) string {
	return fmt.Sprintf("EXTEND_TIMEOUT_USEC=%d", (limit + 5*time.Second).Microseconds())
}
