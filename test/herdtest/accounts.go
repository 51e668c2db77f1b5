package herdtest

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ConfigureNATS runs `herd nats-config` and returns the path of the file that it wrote.
func (h *Processes) ConfigureNATS(topology string) string {
	h.T.Helper()
	p := StartChild(h.T, "herd nats-config", Binary(h.T, "herd"), nil, "nats-config", "--out", h.Keys, "--topology", topology, "--monitor", "")
	if code := p.Wait(Promise(10 * time.Second)); code != 0 {
		h.T.Fatalf("herd nats-config: exit code %d: %s", code, p.Stderr)
	}
	return strings.TrimSpace(p.Stdout.String())
}

// ReloadNATS makes the server reload its configuration.
func (h *Processes) ReloadNATS() {
	h.T.Helper()
	reloads := func() int { return strings.Count(h.NATS.Stderr.String(), "Reloaded server configuration") }
	before := reloads()
	h.NATS.Signal(syscall.SIGHUP)
	Eventually(h.T, Promise(5*time.Second), "nats-server has taken the change", func() error {
		if reloads() == before {
			return fmt.Errorf("it says %s", h.NATS.Stderr.Tail())
		}
		return nil
	})
}

// Key returns the path of a user's key file.
func (h *Processes) Key(name string) string { return filepath.Join(h.Keys, name+".nk") }
