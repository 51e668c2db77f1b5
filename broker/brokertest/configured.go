package brokertest

import (
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// Configured is a NATS server that runs by a configuration file of its own, as
// nats-server -c does.
type Configured struct {
	t      testing.TB
	file   string
	server *server.Server // nil while stopped
}

const startLimit = 20 * time.Second

// StartConfigured starts a server for each file and returns when all are ready, as
// one cluster where they are more than one. They are stopped, and waited for,
// when the test ends.
func StartConfigured(t testing.TB, files ...string) []*Configured {
	t.Helper()
	servers := make([]*Configured, len(files))
	for i, file := range files {
		servers[i] = &Configured{t: t, file: file}
		servers[i].launch()
		t.Cleanup(servers[i].Stop)
	}
	for _, c := range servers {
		c.Await()
	}
	return servers
}

// Start runs the server again after Stop.
func (c *Configured) Start() {
	c.t.Helper()
	c.launch()
	c.Await()
}

func (c *Configured) launch() {
	c.t.Helper()
	o, err := server.ProcessConfigFile(c.file)
	if err != nil {
		c.t.Fatalf("%s: %v", c.file, err)
	}
	o.NoSigs = true
	s, err := server.NewServer(o)
	if err != nil {
		c.t.Fatalf("%s: %v", c.file, err)
	}
	s.SetLoggerV2(words{Log(c.t).With("server", o.ServerName)}, false, false, false)
	s.Start()
	c.server = s
}

// Await returns when the server takes connections and, in a cluster, its
// JetStream has caught up.
func (c *Configured) Await() {
	c.t.Helper()
	s := c.server
	ready := func() bool {
		return s.ReadyForConnections(20*time.Millisecond) && (!s.JetStreamIsClustered() || s.JetStreamIsCurrent())
	}
	for end := time.Now().Add(startLimit); !ready(); {
		if time.Now().After(end) {
			c.t.Fatalf("%s: not ready within %v", c.file, startLimit)
		}
		time.Sleep(5 * time.Millisecond) // there is nothing to wait on
	}
}

// URL is where the server listens.
func (c *Configured) URL() string { return c.server.ClientURL() }

// Reload makes the server read its file again, as a SIGHUP does.
func (c *Configured) Reload() error { return c.server.Reload() }

// Stop stops the server, if it runs, and returns when it is gone.
func (c *Configured) Stop() {
	if c.server != nil {
		c.server.Shutdown()
		c.server.WaitForShutdown()
		c.server = nil
	}
}

// words is a server's log.
type words struct{ log *slog.Logger }

func (w words) Noticef(string, ...any)         {}
func (w words) Debugf(string, ...any)          {}
func (w words) Tracef(string, ...any)          {}
func (w words) Warnf(format string, v ...any)  { w.log.Warn(fmt.Sprintf(format, v...)) }
func (w words) Errorf(format string, v ...any) { w.log.Error(fmt.Sprintf(format, v...)) }
func (w words) Fatalf(format string, v ...any) { w.log.Error("fatal: " + fmt.Sprintf(format, v...)) }
