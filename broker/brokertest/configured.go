package brokertest

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"herd/test/ports"
)

// Configured is a NATS server that runs from a configuration file, as with nats-server -c.
type Configured struct {
	t      testing.TB
	file   string
	server *server.Server // nil while stopped
}

const startLimit = 20 * time.Second

// StartConfigured starts a server per file and returns when all are ready; several servers
// must form one cluster. When the test ends, they are stopped and waited for.
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

// StartCluster starts this many servers as one cluster with JetStream and a single account,
// and returns when all are ready. Each keeps its address over Stop and Start.
func StartCluster(t testing.TB, servers int) []*Configured {
	t.Helper()
	dir := t.TempDir()
	routes := make([]string, servers)
	for i := range routes {
		routes[i] = ports.Addr(t)
	}
	files := make([]string, servers)
	for i, route := range routes {
		files[i] = filepath.Join(dir, fmt.Sprintf("node%d.conf", i))
		text := fmt.Sprintf(`server_name: node%d
listen: %q
jetstream { store_dir: %q }
cluster { name: test, listen: %q, routes: ["nats://%s"] }
`, i, ports.Addr(t), filepath.Join(dir, fmt.Sprint(i)), route, strings.Join(routes, `", "nats://`))
		if err := os.WriteFile(files[i], []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return StartConfigured(t, files...)
}

// URLs returns the URLs of all servers, in the form of NATS_URL.
func URLs(servers []*Configured) string {
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL()
	}
	return strings.Join(urls, ",")
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

// Await returns when the server accepts connections and, in a cluster, its JetStream has
// caught up.
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
		time.Sleep(5 * time.Millisecond) // there is no event to wait for
	}
}

// URL returns the server's URL.
func (c *Configured) URL() string { return c.server.ClientURL() }

// Reload makes the server read its file again, as a SIGHUP does.
func (c *Configured) Reload() error { return c.server.Reload() }

// Stop stops the server if it runs, and returns when it has ended.
func (c *Configured) Stop() {
	if c.server != nil {
		c.server.Shutdown()
		c.server.WaitForShutdown()
		c.server = nil
	}
}

// words logs the server's messages.
type words struct{ log *slog.Logger }

func (w words) Noticef(string, ...any)         {}
func (w words) Debugf(string, ...any)          {}
func (w words) Tracef(string, ...any)          {}
func (w words) Warnf(format string, v ...any)  { w.log.Warn(fmt.Sprintf(format, v...)) }
func (w words) Errorf(format string, v ...any) { w.log.Error(fmt.Sprintf(format, v...)) }
func (w words) Fatalf(format string, v ...any) { w.log.Error("fatal: " + fmt.Sprintf(format, v...)) }
