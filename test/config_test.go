package test

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// wrong returns an invalid value per variable. Each of them alone makes an edge refuse to start.
func wrong(t *testing.T) map[string]string {
	absent := filepath.Join(t.TempDir(), "absent", "file")
	return map[string]string{
		"HERD_EDGE":                 "Kent Clark",
		"HERD_TOPOLOGY":             "Clark-Clark",
		"HERD_LISTEN":               "12000",
		"HERD_TLS_CERT":             absent,
		"HERD_TLS_KEY":              absent,
		"HERD_TLS_CLIENT_CA":        absent,
		"HERD_TLS_IDENTITY":         "dns",
		"HERD_HTTP":                 "localhost:http:80",
		"NATS_URL":                  "nats://127.0.0.1:port",
		"HERD_EMBEDDED_NATS":        "perhaps",
		"HERD_EMBEDDED_NATS_LISTEN": "4222",
		"HERD_EMBEDDED_NATS_SYNC":   "often",
		"HERD_SUBJECT_PREFIX":       "herd.at",
		"HERD_MAX_LINE":             "127",
		"HERD_MAX_CONNS":            "1000000000",
		"HERD_MAX_CLIENTS":          "0",
		"HERD_MAX_TABLE":            "16MB",
		"HERD_MAX_PENDING":          "1KiB",
		"HERD_HTTP_HOSTS":           "https://herd.example.org",
		"HERD_IDLE_TIMEOUT":         "fifteen",
		"HERD_WRITE_TIMEOUT":        "9ms",
		"HERD_SHUTDOWN_TIMEOUT":     "25h",
		"HERD_RETAIN":               "59s",
		"HERD_HEARTBEAT":            "0",
		"HERD_JOIN_TIMEOUT":         "-1s",
		"HERD_LINK_WINDOW":          "1025",
		"HERD_LINK_GAP":             "2s",
		"HERD_DURABILITY":           "disk",
		"HERD_JOURNAL_TIMEOUT":      "2",
		"HERD_PLACES_TIMEOUT":       "48h",
		"HERD_JOURNAL":              "maybe",
		"HERD_JOURNAL_REPLICAS":     "6",
		"HERD_JOURNAL_STORAGE":      "tape",
		"HERD_JOURNAL_MAX_BYTES":    "1000000",
		"HERD_PPROF":                "2",
		"HERD_DATA":                 "/dev/null/herd",
		"HERD_TRANSCRIPT":           absent,
		"HERD_TRANSCRIPT_MAX":       "1KiB",
		"HERD_TRANSCRIPT_LINKS":     "all",
		"HERD_LOG_LEVEL":            "loud",
		"HERD_LOG_FORMAT":           "xml",
		"HERD_PLACES":               "bing",
		"HERD_GOOGLE_KEY_FILE":      absent,
		"HERD_GOOGLE_URL":           "ftp://[",
		"HERD_PLACES_DAILY":         "-1",
		"HERD_PLACES_RATE":          "x",
		"HERD_PLACES_CACHE":         "1h",
		"HERD_OSM_FILE":             absent,
	}
}

// untouched returns addresses for a broker and a listener, and a check that the edge has used
// neither.
func untouched(t *testing.T) (env map[string]string, check func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	var called atomic.Int32
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			called.Add(1)
			c.Close()
		}
	}()
	env = map[string]string{
		"HERD_EDGE": "Clark", "HERD_LISTEN": ports.Addr(t), "HERD_HTTP": ports.Addr(t),
		"NATS_URL": "nats://" + ln.Addr().String(), "HERD_LOG_FORMAT": "text",
	}
	return env, func() error {
		if n := called.Load(); n > 0 {
			return fmt.Errorf("it connected to its broker")
		}
		return nil
	}
}

// configFault runs an edge that cannot start and returns its error output.
func configFault(t *testing.T, env map[string]string, code int) string {
	t.Helper()
	p := herdtest.StartChild(t, "edge", herdtest.Binary(t, "edge"), env)
	if got := p.Wait(herdtest.Promise(10 * time.Second)); got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	if out := p.Stdout.String(); out != "" {
		t.Errorf("standard output %q, want none", out)
	}
	return p.Stderr.String()
}

// Every wrong value is reported with its variable's name before anything starts, and the exit code
// is 2.
func TestAWrongVariableIsNamed(t *testing.T) {
	quiet(t)
	herdtest.Binary(t, "edge")
	for name, value := range wrong(t) {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			env, untouched := untouched(t)
			env[name] = value
			said := configFault(t, env, 2)
			if !names(said, name) {
				t.Errorf("%s=%s is not named: %q", name, value, said)
			}
			for other := range wrong(t) {
				if other != name && names(said, other) && other != "HERD_TOPOLOGY" {
					t.Errorf("%s is named too: %q", other, said)
				}
			}
			if strings.Contains(said, `"level":"INFO"`) || strings.Contains(said, "level=INFO") {
				t.Errorf("something had started: %q", said)
			}
			if err := untouched(); err != nil {
				t.Error(err)
			}
		})
	}
}

// names reports whether text contains a variable's name, not as part of a longer one.
func names(text, name string) bool {
	for {
		_, after, found := strings.Cut(text, name)
		if !found {
			return false
		}
		if after == "" || !strings.ContainsAny(after[:1], "ABCDEFGHIJKLMNOPQRSTUVWXYZ_") {
			return true
		}
		text = after
	}
}

// All errors are in one message.
func TestAllWrongVariablesAreNamedAtOnce(t *testing.T) {
	quiet(t)
	bad := wrong(t)
	said := configFault(t, bad, 2)
	for _, name := range slices.Sorted(maps.Keys(bad)) {
		if !names(said, name) {
			t.Errorf("%s=%s is not named", name, bad[name])
		}
	}
	if t.Failed() {
		t.Logf("it says %q", said)
	}
}

// A key appears in no log and no error.
func TestAKeyIsShownNowhere(t *testing.T) {
	quiet(t)
	const key = "AIza-that-nobody-may-read"
	for _, broken := range []string{"HERD_GOOGLE_KEY_FILE", "HERD_MAX_LINE"} {
		env, _ := untouched(t)
		env["HERD_GOOGLE_KEY"], env["HERD_LOG_LEVEL"] = key, "debug"
		env[broken] = wrong(t)[broken]
		if said := configFault(t, env, 2); !names(said, broken) || strings.Contains(said, key) {
			t.Errorf("with a wrong %s it says %q", broken, said)
		}
	}
}

func TestConfigurationsThatContradictThemselves(t *testing.T) {
	quiet(t)
	for _, c := range []struct {
		title string
		env   map[string]string
		named string
	}{
		{"no name", map[string]string{"HERD_EDGE": ""}, "HERD_EDGE"},
		{"name not in the topology", map[string]string{"HERD_EDGE": "Lois"}, "HERD_EDGE"},
		{"a repeated link", map[string]string{"HERD_TOPOLOGY": "Clark-Jaquez,Jaquez-Clark"}, "HERD_TOPOLOGY"},
		{"an edge that no path reaches", map[string]string{"HERD_TOPOLOGY": "Clark-Jaquez,Bernard-Johnson"}, "HERD_TOPOLOGY"},
		{"a name of 33 letters", map[string]string{"HERD_TOPOLOGY": "Clark-" + strings.Repeat("J", 33)}, "HERD_TOPOLOGY"},
		{"two brokers", map[string]string{"HERD_EMBEDDED_NATS": "true"}, "HERD_EMBEDDED_NATS"},
		{"durable without a journal", map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL": "off"}, "HERD_DURABILITY"},
	} {
		t.Run(c.title, func(t *testing.T) {
			quiet(t)
			env, untouched := untouched(t)
			maps.Copy(env, c.env)
			if said := configFault(t, env, 2); !names(said, c.named) {
				t.Errorf("%s is not named: %q", c.named, said)
			}
			if err := untouched(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An unknown HERD_* variable is one warning, and the edge starts.
func TestAnUnknownVariableIsAWarning(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_LISTENN": "127.0.0.1:1"})
	if log := e.Stderr.String(); strings.Count(log, "HERD_LISTENN") != 1 {
		t.Errorf("HERD_LISTENN is not named once in %q", log)
	}
}

// An address in use is named together with the variable that changes it.
func TestAnOccupiedPortIsNamedWithItsVariable(t *testing.T) {
	quiet(t)
	for _, name := range []string{"HERD_LISTEN", "HERD_HTTP"} {
		t.Run(name, func(t *testing.T) {
			quiet(t)
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			env, _ := untouched(t)
			env[name] = ln.Addr().String()
			p := herdtest.StartChild(t, "edge", herdtest.Binary(t, "edge"), env)
			if code := p.Wait(herdtest.Promise(10 * time.Second)); code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := p.Stderr.String(); !names(said, name) || !strings.Contains(said, ln.Addr().String()) {
				t.Errorf("%s=%s is not named: %q", name, ln.Addr(), said)
			}
		})
	}
}

// The admin port is read-only, and on loopback unless configured otherwise.
func TestTheAdminPortIsReadOnly(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_PPROF": "true"})
	for _, path := range []string{"/", "/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/symbol"} {
		for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "PATCH": 405, "OPTIONS": 405} {
			request, err := http.NewRequest(method, "http://"+e.HTTP+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := herdtest.AdminClient.Do(request)
			if err != nil {
				t.Errorf("%s %s: %v", method, path, err)
				continue
			}
			response.Body.Close()
			if response.StatusCode != want {
				t.Errorf("%s %s: %d, want %d", method, path, response.StatusCode, want)
			}
		}
	}
	cfg := map[string]string{} // as few variables as an edge needs
	maps.Copy(cfg, e.Env)
	delete(cfg, "HERD_HTTP")
	cfg["HERD_LISTEN"], cfg["HERD_SUBJECT_PREFIX"] = "0.0.0.0:0", "another" // which do not mention the admin port
	own := herdtest.StartChild(t, "edge", herdtest.Binary(t, "edge"), cfg)
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "the default admin port, or that somebody has it", func() error {
		if own.Running() {
			if c, err := net.DialTimeout("tcp", "127.0.0.1:12080", time.Second); err == nil {
				c.Close()
				return nil
			}
			return errors.New("nobody on 127.0.0.1:12080")
		}
		if !strings.Contains(own.Stderr.String(), "listen tcp 127.0.0.1:12080: bind: address already in use") {
			return errors.New(own.Stderr.String())
		}
		return nil
	})
	if own.Running() {
		for _, ip := range hostAddresses(t) {
			if c, err := net.DialTimeout("tcp", net.JoinHostPort(ip, "12080"), time.Second); err == nil {
				c.Close()
				t.Errorf("the admin port is open on %s", ip)
			}
		}
	}
}

// hostAddresses returns this machine's IPv4 addresses without loopback.
func hostAddresses(t *testing.T) (list []string) {
	t.Helper()
	all, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range all {
		if ip, ok := a.(*net.IPNet); ok && !ip.IP.IsLoopback() && ip.IP.To4() != nil {
			list = append(list, ip.IP.String())
		}
	}
	return list
}

// The two subcommands of cmd/edge.
func TestEdgeHealthAndVersion(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, nil)
	health := func() int {
		return herdtest.StartChild(t, "edge health", herdtest.Binary(t, "edge"), e.Env, "health").Wait(herdtest.Promise(10 * time.Second))
	}
	if code := health(); code != 0 {
		t.Errorf("health of a ready edge: exit code %d, want 0", code)
	}
	e.Kill()
	if code := health(); code != 1 {
		t.Errorf("health of no edge: exit code %d, want 1", code)
	}
	version := herdtest.StartChild(t, "edge version", herdtest.Binary(t, "edge"), nil, "version")
	if code := version.Wait(herdtest.Promise(10 * time.Second)); code != 0 || strings.TrimSpace(version.Stdout.String()) == "" {
		t.Errorf("version: exit code %d, %q", code, version.Stdout)
	}
	unknown := herdtest.StartChild(t, "edge fly", herdtest.Binary(t, "edge"), e.Env, "fly")
	if code := unknown.Wait(herdtest.Promise(10 * time.Second)); code != 2 {
		t.Errorf("an unknown word: exit code %d, want 2", code)
	}
}
