package natsconf

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/conf"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"

	"herd/broker/certs/certstest"
	"herd/broker/topology"
)

// keysOf makes a public key per user of a herd's servers.
func keysOf(t *testing.T, herd *topology.Graph) map[string]string {
	t.Helper()
	keys := make(map[string]string)
	for _, name := range append(herd.Edges(), OtherAccounts()...) {
		pair, err := nkeys.CreateUser()
		if err != nil {
			t.Fatal(err)
		}
		if keys[name], err = pair.PublicKey(); err != nil {
			t.Fatal(err)
		}
	}
	return keys
}

// load parses what s writes with the server's own parser, as nats-server -c does.
func load(t *testing.T, s Server) *server.Options {
	t.Helper()
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte(s.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := server.ProcessConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// Each kind of server, with names that need quoting.
func TestTheServersOwnParserReadsWhatIsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a \"quoted\" \\ folder\twith\nlines, $HOME, # and é\x01\xff")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ca := certstest.New(t, "authority")
	cert, key := ca.Server().Files(dir, "server")
	authority := filepath.Join(dir, "ca.pem")
	certstest.Write(t, authority, ca.PEM)
	files := &TLSFiles{CA: authority, Cert: cert, Key: key}
	cluster := &Cluster{Name: "herd", Listen: "[::1]:6222", Routes: []string{"[::1]:6222", "b.example:6222"}, Password: "Secret1"}

	for name, change := range map[string]func(*Server){
		"alone":                  func(*Server) {},
		"without monitoring":     func(s *Server) { s.Monitor = "" },
		"any port":               func(s *Server) { s.Listen = "127.0.0.1:0" },
		"syncs always":           func(s *Server) { s.SyncAlways, s.SyncInterval = true, 0 },
		"journals in memory":     func(s *Server) { s.JournalMax, s.JournalMemory = 0, 1<<50 },
		"a name like a number":   func(s *Server) { s.Name = "1k" },
		"a name like a boolean":  func(s *Server) { s.Name = "true" },
		"a name like a variable": func(s *Server) { s.Name = "$HOME" },
		"with TLS":               func(s *Server) { s.TLS = files },
		"in a cluster":           func(s *Server) { s.Cluster = cluster },
		"in a cluster with TLS":  func(s *Server) { s.Cluster, s.TLS = cluster, files },
		"of a lone edge":         func(s *Server) { s.Herd, _ = topology.Parse("A") },
		"of edges like keywords": func(s *Server) { s.Herd, _ = topology.Parse("include-true,true-1k,1k-_,_-0") },
	} {
		t.Run(name, func(t *testing.T) {
			herd, err := topology.Parse(topology.Default)
			if err != nil {
				t.Fatal(err)
			}
			s := Server{
				Herd: herd, Prefix: "herd", Name: "node-1", Listen: "127.0.0.1:4222", Monitor: "127.0.0.1:8222",
				StoreDir: filepath.Join(dir, "store"), SyncInterval: 90 * time.Second, JournalMax: 16 << 30,
			}
			change(&s)
			s.Keys = keysOf(t, s.Herd)
			o := load(t, s)
			if o.ServerName != s.Name || o.StoreDir != s.StoreDir || o.SyncAlways != s.SyncAlways || !s.SyncAlways && o.SyncInterval != s.SyncInterval {
				t.Errorf("it is %q, stores in %q, syncs %v, %v", o.ServerName, o.StoreDir, o.SyncAlways, o.SyncInterval)
			}
			port := o.Port
			if port == server.RANDOM_PORT {
				port = 0
			}
			if got := fmt.Sprintf("%s:%d", o.Host, port); got != s.Listen {
				t.Errorf("listens on %s, want %s", got, s.Listen)
			}
			if got := o.HTTPPort != 0; got != (s.Monitor != "") {
				t.Errorf("monitoring on port %d, want %q", o.HTTPPort, s.Monitor)
			}
			want := append(s.Herd.Edges(), OperatorAccount, ClientAccount, systemAccountName)
			var got []string
			for _, a := range o.Accounts {
				got = append(got, a.Name)
			}
			if slices.Sort(got); !slices.Equal(got, sorted(want)) {
				t.Errorf("accounts %q, want %q", got, sorted(want))
			}
			var users []string
			for _, u := range o.Nkeys {
				users = append(users, u.Nkey)
			}
			if slices.Sort(users); !slices.Equal(users, slices.Sorted(maps.Values(s.Keys))) {
				t.Errorf("users %q, want %q", users, s.Keys)
			}
			if (o.TLSConfig != nil) != (s.TLS != nil) || s.Cluster != nil && (o.Cluster.TLSConfig != nil) != (s.TLS != nil) {
				t.Error("TLS is not as it should be")
			}
			if c := s.Cluster; c != nil {
				var routes []string
				for _, r := range o.Routes {
					routes = append(routes, r.Host)
				}
				if o.Cluster.Name != c.Name || o.Cluster.Password != c.Password || !slices.Equal(routes, c.Routes) {
					t.Errorf("cluster %+v, routes %q", o.Cluster, routes)
				}
			}
		})
	}
}

func sorted(list []string) []string {
	slices.Sort(list)
	return list
}

// Whatever a string contains, the server's parser reads the same string.
func FuzzQuote(f *testing.F) {
	for _, text := range []string{"", "plain", `\`, `"`, "\t\r\n", "\x00", "\x7f\x1b[0m", "\xff\xfe", "é $HOME # // }", `\x41`, "a\\\nb"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := fmt.Sprintf("value: %s\nlist: [%s, %s]\n", quote(text), quote(text), quote("end"))
		got, err := conf.Parse(file)
		if err != nil {
			t.Fatalf("%q: %v\n%s", text, err, file)
		}
		if got["value"] != text {
			t.Errorf("%q is read as %q", text, got["value"])
		}
		if list, ok := got["list"].([]any); !ok || len(list) != 2 || list[0] != text || list[1] != "end" {
			t.Errorf("%q in a list is read as %q", text, got["list"])
		}
		if strings.ContainsAny(quote(text), "\n\r\x00") {
			t.Errorf("%q breaks the line", text)
		}
	})
}
