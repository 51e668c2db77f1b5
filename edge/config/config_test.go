package config

import (
	"errors"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v10"

	"herd/broker/options"
	"herd/broker/topology"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// files is the file limit of these tests.
const files = 20_000

// read reads the configuration of an edge called Clark with vars, which may set another name.
func read(vars ...string) (Config, []string, error) {
	return fromEnvironment(append([]string{"PATH=/bin", "HERD_EDGE=Clark"}, vars...), files)
}

// wrong holds a value per line that its variable must refuse, and the error. {dir} is a
// directory of the test, {file} a file in it.
var wrong = []struct{ name, value, says string }{
	{"HERD_EDGE", "", "required: this edge's name"},
	{"HERD_EDGE", strings.Repeat("x", 101), `"` + strings.Repeat("x", 100) + `"..., want 1 to 32 letters, digits and _`},
	{"HERD_EDGE", "clark", `"clark" is not an edge of HERD_TOPOLOGY, which has Bernard, Clark, Jaquez, Johnson, Juzang`},
	{"HERD_EDGE", "Cl.ark", `"Cl.ark", want 1 to 32 letters, digits and _`},
	{"HERD_TOPOLOGY", "Clark-Clark,A-B,C-D", `link "Clark-Clark" joins an edge to itself; no path from A to C, D`},
	{"HERD_LISTEN", "12000", `"12000", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_LISTEN", "localhost:http", `"localhost:http", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_LISTEN", "localhost:65536", `"localhost:65536", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_LISTEN", "tcp://localhost:1", `"tcp://localhost:1", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_LISTEN", "[::g]:1", `"[::g]:1", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_TLS_CERT", "{dir}/none", `"{dir}/none": no such file or directory`},
	{"HERD_TLS_CERT", "{file}", `"{file}": no certificate in it`},
	{"HERD_TLS_KEY", "{dir}", `"{dir}": is a directory`},
	{"HERD_TLS_KEY", "{file}", `"{file}", but it needs HERD_TLS_CERT`},
	{"HERD_TLS_KEY", "{dir}/none", `"{dir}/none": no such file or directory`},
	{"HERD_TLS_CLIENT_CA", "{dir}/none", `"{dir}/none": no such file or directory`},
	{"HERD_TLS_CLIENT_CA", "{file}", `"{file}": no certificate in it`},
	{"HERD_TLS_IDENTITY", "dn", `"dn", want cn or san`},
	{"HERD_TLS_IDENTITY", "san", `"san", but it needs HERD_TLS_CLIENT_CA`},
	{"HERD_TLS_IDENTITY", "CN", `"CN", want cn or san`},
	{"HERD_HTTP", "off", `"off", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_EMBEDDED_NATS", "yes", `"yes", want true or false`},
	{"HERD_EMBEDDED_NATS_LISTEN", "4222", `"4222", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_EMBEDDED_NATS_SYNC", "never", `"never", want always or a duration from 10ms to 24h`},
	{"HERD_EMBEDDED_NATS_SYNC", "0", `"0", want always or a duration from 10ms to 24h`},
	{"HERD_EMBEDDED_NATS_SYNC", "1ms", `"1ms", want always or a duration from 10ms to 24h`},
	{"HERD_SUBJECT_PREFIX", "herd.one", `"herd.one", want 1 to 64 letters and digits`},
	{"HERD_SUBJECT_PREFIX", strings.Repeat("h", 65), `"` + strings.Repeat("h", 65) + `", want 1 to 64 letters and digits`},
	{"HERD_MAX_LINE", "many", `"many", want a number from 128 to 16384`},
	{"HERD_MAX_LINE", "127", `"127", want a number from 128 to 16384`},
	{"HERD_MAX_LINE", "16385", `"16385", want a number from 128 to 16384`},
	{"HERD_MAX_CONNS", "19745", `"19745", want a number from 1 to 19744 (the process may open 20000 files, and keeps 256 for other things)`},
	{"HERD_MAX_CONNS", "0", `"0", want a number from 1 to 19744 (the process may open 20000 files, and keeps 256 for other things)`},
	{"HERD_MAX_CLIENTS", "0", `"0", want a number of 1 or more`},
	{"HERD_MAX_CLIENTS", "99999999999999999999", `"99999999999999999999", want a number of 1 or more`},
	{"HERD_MAX_TABLE", "16383KiB", `"16383KiB", want a size of 16MiB or more, such as 4GiB`},
	{"HERD_MAX_TABLE", "4GB", `"4GB", want a size of 16MiB or more, such as 4GiB`},
	{"HERD_MAX_PENDING", "1023KiB", `"1023KiB", want a size of 1MiB or more, such as 256MiB`},
	{"HERD_MAX_PENDING", "-1", `"-1", want a size of 1MiB or more, such as 256MiB`},
	{"HERD_HTTP_HOSTS", "herd.example.org:80", `"herd.example.org:80", want host names separated by commas, without ports, such as herd.example.org`},
	{"HERD_HTTP_HOSTS", "a.example,,b.example", `"a.example,,b.example", want host names separated by commas, without ports, such as herd.example.org`},
	{"HERD_HTTP_HOSTS", "*.example", `"*.example", want host names separated by commas, without ports, such as herd.example.org`},
	{"HERD_IDLE_TIMEOUT", "fifteen", `"fifteen", want a duration from 10ms to 24h`},
	{"HERD_IDLE_TIMEOUT", "9ms", `"9ms", want a duration from 10ms to 24h`},
	{"HERD_IDLE_TIMEOUT", "24h1ns", `"24h1ns", want a duration from 10ms to 24h`},
	{"HERD_WRITE_TIMEOUT", "10", `"10", want a duration from 10ms to 24h`},
	{"HERD_SHUTDOWN_TIMEOUT", "0", `"0", want a duration from 10ms to 24h`},
	{"HERD_RETAIN", "59s", `"59s", want 0 or a duration of 1m or more`},
	{"HERD_RETAIN", "-1h", `"-1h", want 0 or a duration of 1m or more`},
	{"HERD_HEARTBEAT", "-1s", `"-1s", want a duration from 10ms to 24h`},
	{"HERD_JOIN_TIMEOUT", "1d", `"1d", want a duration from 10ms to 24h`},
	{"HERD_LINK_WINDOW", "1025", `"1025", want a number from 1 to 1024`},
	{"HERD_LINK_WINDOW", "0", `"0", want a number from 1 to 1024`},
	{"HERD_LINK_GAP", "1001ms", `"1001ms", want a duration from 0s to 1s`},
	{"HERD_LINK_GAP", "-1ns", `"-1ns", want a duration from 0s to 1s`},
	{"HERD_DURABILITY", "disk", `"disk", want memory or journal`},
	{"HERD_JOURNAL_TIMEOUT", "25h", `"25h", want a duration from 10ms to 24h`},
	{"HERD_JOURNAL", "true", `"true", want on, auto or off`},
	{"HERD_JOURNAL_REPLICAS", "6", `"6", want a number from 1 to 5`},
	{"HERD_JOURNAL_STORAGE", "tape", `"tape", want file or memory`},
	{"HERD_JOURNAL_MAX_BYTES", "1023KiB", `"1023KiB", want a size of 1MiB or more, such as 4GiB`},
	{"HERD_PPROF", "on", `"on", want true or false`},
	{"HERD_DATA", "{file}", `"{file}": "{file}" is not a directory`},
	{"HERD_DATA", "{file}/data", `"{file}/data": not a directory`},
	{"HERD_TRANSCRIPT", "{dir}", `"{dir}": a directory, not a file`},
	{"HERD_TRANSCRIPT", "{dir}/none/log", `"{dir}/none/log": its directory: no such file or directory`},
	{"HERD_TRANSCRIPT_MAX", "100MB", `"100MB", want a size of 1MiB or more, such as 100MiB`},
	{"HERD_TRANSCRIPT_MAX", "1023KiB", `"1023KiB", want a size of 1MiB or more, such as 100MiB`},
	{"HERD_TRANSCRIPT_LINKS", "2", `"2", want true or false`},
	{"HERD_LOG_LEVEL", "loud", `"loud", want debug, info, warn or error`},
	{"HERD_LOG_FORMAT", "xml", `"xml", want text or json`},
	{"HERD_DEVICES", "5055", `"5055", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0`},
	{"HERD_DEVICES_SEE", "alice", `"alice", want own or all`},
	{"HERD_DEVICES_ORIGINS", "a.example,b/c", `"a.example,b/c", want web pages' hosts separated by commas, such as map.example.org or https://map.example.org:8443`},
	{"HERD_DEVICES_ORIGINS", "*", `"*", want web pages' hosts separated by commas, such as map.example.org or https://map.example.org:8443`},
	{"HERD_MAP", "maybe", `"maybe", want auto, on or off`},
	{"HERD_LIVE", "maybe", `"maybe", want on or off`},
	{"HERD_LIVE", "ON", `"ON", want on or off`},
	{"HERD_WATCHES", "0", `"0", want a number from 1 to 100000`},
	{"HERD_WATCHES", "100001", `"100001", want a number from 1 to 100000`},
	{"HERD_WATCH_MEMBERS", "0", `"0", want a number of 1 or more`},
	{"HERD_WATCH_MEMBERS", "-1", `"-1", want a number of 1 or more`},
	{"HERD_WATCH_TOTAL", "0", `"0", want a number of 1 or more`},
	{"HERD_WATCH_TOTAL", "many", `"many", want a number of 1 or more`},
	{"HERD_PLACES_TIMEOUT", "5", `"5", want a duration from 10ms to 24h`},
	{"HERD_PLACES", "gazetteer,bing", `"gazetteer,bing", want auto, or some of google, google-legacy, osm and gazetteer separated by commas`},
	{"HERD_PLACES", "auto,gazetteer", `"auto,gazetteer", want auto, or some of google, google-legacy, osm and gazetteer separated by commas`},
	{"HERD_PLACES", "osm, gazetteer", "osm needs HERD_OSM_FILE"},
	{"HERD_PLACES", "google,google", `"google,google", want auto, or some of google, google-legacy, osm and gazetteer separated by commas`},
	{"HERD_PLACES", "google", "Google needs HERD_GOOGLE_KEY or HERD_GOOGLE_KEY_FILE"},
	{"HERD_PLACES", "gazetteer,google-legacy", "Google needs HERD_GOOGLE_KEY or HERD_GOOGLE_KEY_FILE"},
	{"HERD_PLACES", "gazetteer,", `"gazetteer,", want auto, or some of google, google-legacy, osm and gazetteer separated by commas`},
	{"HERD_GOOGLE_KEY", "AIza Key", "want a key of 1 to 256 letters, digits and -_.~+/=:"},
	{"HERD_GOOGLE_KEY", strings.Repeat("AIza", 65), "want a key of 1 to 256 letters, digits and -_.~+/=:"},
	{"HERD_GOOGLE_KEY_FILE", "{dir}/none", `"{dir}/none": no such file or directory`},
	{"HERD_GOOGLE_KEY_FILE", "{dir}", `"{dir}": not a regular file`},
	{"HERD_GOOGLE_KEY_FILE", "{file}", `"{file}": want a key of 1 to 256 letters, digits and -_.~+/=:`}, // empty
	{"HERD_GOOGLE_FIELDS", "places.id, places.types", `"places.id, places.types", want * or names such as places.id separated by commas, without spaces`},
	{"HERD_GOOGLE_FIELDS", "places.id,", `"places.id,", want * or names such as places.id separated by commas, without spaces`},
	{"HERD_GOOGLE_FIELDS", "id,displayName,location", `"id,displayName,location", want * or names such as places.id separated by commas, without spaces`},
	{"HERD_GOOGLE_FIELDS", "places.id,places.displayName", `"places.id,places.displayName", want a mask with places.id, places.displayName and places.location, which answers need`},
	{"HERD_GOOGLE_FIELDS", "places.id,places.displayNames,places.location", `"places.id,places.displayNames,places.location", want a mask with places.id, places.displayName and places.location, which answers need`},
	{"HERD_GOOGLE_URL", "localhost:80", "want https://HOST or http://HOST:PORT, without user name, query and fragment"},
	{"HERD_GOOGLE_URL", "https://me:AIzaWord@host", "want https://HOST or http://HOST:PORT, without user name, query and fragment"},
	{"HERD_GOOGLE_URL", "https://host/?key=AIzaWord", "want https://HOST or http://HOST:PORT, without user name, query and fragment"},
	{"HERD_PLACES_DAILY", "-1", `"-1", want a number of 0 or more`},
	{"HERD_PLACES_RATE", "1.5", `"1.5", want a number of 0 or more`},
}

// wrongBroker does the same for variables of package options, which has its own tests for
// them.
var wrongBroker = []struct{ name, value, says string }{
	{"NATS_URL", "http://me:AIzaWord@broker", `unknown scheme "http"`},
	{"NATS_PASSWORD", "AIzaWord", "a password needs NATS_USER"},
	{"NATS_CERT", "cert.pem", "a certificate needs NATS_KEY"},
}

// inPlace returns a function that replaces {dir} and {file}.
func inPlace(t *testing.T) func(string) string {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer("{dir}", dir, "{file}", file).Replace
}

func TestEachWrongValueIsNamedAlone(t *testing.T) {
	fill := inPlace(t)
	for _, test := range slices.Concat(wrong, wrongBroker) {
		t.Run(test.name+"="+test.value, func(t *testing.T) {
			cfg, _, err := read(test.name + "=" + fill(test.value))
			want := test.name + ": " + fill(test.says)
			if err == nil || err.Error() != want {
				t.Errorf("error:\n%v\nwant:\n%s", err, want)
			}
			if !reflect.DeepEqual(cfg, Config{}) {
				t.Error("a configuration beside the error")
			}
		})
	}
}

func TestAllWrongValuesAreNamedAtOnce(t *testing.T) {
	fill := inPlace(t)
	want := slices.DeleteFunc(variables(), func(name string) bool {
		return !strings.HasPrefix(name, "HERD_") || name == "HERD_OSM_FILE" || name == "HERD_DEVICES_USERS" // of which others report
	})
	for _, test := range wrongBroker {
		want = append(want, test.name)
	}
	want = append(want, "HERD_OSM_FILE")
	for _, pick := range []string{"first", "last"} {
		values := make(map[string]string)
		for _, test := range slices.Concat(wrong, wrongBroker) {
			if _, taken := values[test.name]; pick == "last" || !taken {
				values[test.name] = fill(test.value)
			}
		}
		var environ []string
		for name, value := range values {
			environ = append(environ, name+"="+value)
		}
		// Errors of the functions that open files are reported too, last.
		_, warnings, err := fromEnvironment(append([]string{"HERD_EDGE=Clark"}, environ...), files, func(*Config) error { return nil },
			func(cfg *Config) error { return errors.New("HERD_OSM_FILE: " + cfg.OSMFile) })
		if err == nil {
			t.Fatal("accepted")
		}
		var got []string
		for line := range strings.Lines(err.Error()) {
			name, _, _ := strings.Cut(line, ":")
			got = append(got, name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s wrong values: the error names\n%q\nwant\n%q", pick, got, want)
		}
		if len(warnings) > 0 {
			t.Errorf("warnings: %q", warnings)
		}
		if strings.Contains(err.Error(), "AIza") {
			t.Errorf("a secret is shown: %v", err)
		}
	}
}

func TestDefaults(t *testing.T) {
	got, warnings, err := read()
	if err != nil || len(warnings) > 0 {
		t.Fatal(err, warnings)
	}
	herd, err := topology.Parse(topology.Default)
	if err != nil {
		t.Fatal(err)
	}
	if text := got.Topology.String(); text != herd.String() {
		t.Errorf("topology is %s", text)
	}
	want := Config{
		Edge: "Clark", Topology: got.Topology,
		Listen: "127.0.0.1:12000", HTTP: "127.0.0.1:12080", Map: "auto",
		Broker:           options.Broker{URL: options.DefaultURL},
		EmbeddedNATSSync: Sync{Interval: 2 * time.Minute}, SubjectPrefix: "herd",
		MaxLine: 4096, MaxConns: 19744, MaxClients: 10_000_000, MaxTable: 4 * GiB, MaxPending: 256 * MiB,
		IdleTimeout: 15 * time.Minute, WriteTimeout: 10 * time.Second, ShutdownTimeout: 10 * time.Second,
		Heartbeat: time.Second, JoinTimeout: 5 * time.Second, LinkWindow: 8, LinkGap: 5 * time.Millisecond,
		Durability: "memory", JournalTimeout: 2 * time.Second,
		Journal: "auto", JournalReplicas: 1, JournalStorage: "file",
		TranscriptMax: 100 * MiB, LogLevel: slog.LevelInfo,
		DevicesSee: "own", Live: "on", Watches: 16, WatchMembers: 100_000, WatchTotal: 5_000_000,
		PlacesTimeout: 5 * time.Second, Places: "auto", PlacesDaily: 1000, PlacesRate: 10,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestGoodValues(t *testing.T) {
	dir := t.TempDir()
	keyFile := dir + "/key"
	if err := os.WriteFile(keyFile, []byte("\tAIza-Key_1 \n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		vars string // separated by spaces
		got  func(c Config) any
		want any
	}{
		{"HERD_EDGE=A HERD_TOPOLOGY=A", func(c Config) any { return c.Topology.String() }, "A"},
		{"HERD_LISTEN=:0", func(c Config) any { return c.Listen }, ":0"},
		{"HERD_LISTEN=[fe80::1%eth0]:65535", func(c Config) any { return c.Listen }, "[fe80::1%eth0]:65535"},
		{"HERD_HTTP=edge-1.example.org:80", func(c Config) any { return c.HTTP }, "edge-1.example.org:80"},
		{"HERD_EMBEDDED_NATS=true NATS_URL=", func(c Config) any { return c.EmbeddedNATS }, true},
		{"HERD_EMBEDDED_NATS=true NATS_CREDS=/nowhere", func(c Config) any { return c.EmbeddedNATS }, true}, // not checked
		{"NATS_URL=tls://a,b:1 NATS_TOKEN=x", func(c Config) any { return c.URL + c.Token.Reveal() }, "tls://a,b:1x"},
		{"NATS_URL=", func(c Config) any { return c.URL }, options.DefaultURL},
		{"HERD_EMBEDDED_NATS_SYNC=always", func(c Config) any { return c.EmbeddedNATSSync }, Sync{Always: true}},
		{"HERD_EMBEDDED_NATS_SYNC=10ms", func(c Config) any { return c.EmbeddedNATSSync }, Sync{Interval: 10 * time.Millisecond}},
		{"HERD_SUBJECT_PREFIX=Herd2", func(c Config) any { return c.SubjectPrefix }, "Herd2"},
		{"HERD_MAX_LINE=128", func(c Config) any { return c.MaxLine }, 128},
		{"HERD_MAX_LINE=16384", func(c Config) any { return c.MaxLine }, 16384},
		{"HERD_MAX_CONNS=19744", func(c Config) any { return c.MaxConns }, 19744},
		{"HERD_MAX_CLIENTS=1", func(c Config) any { return c.MaxClients }, 1},
		{"HERD_MAX_TABLE=16MiB", func(c Config) any { return c.MaxTable }, 16 * MiB},
		{"HERD_MAX_TABLE=", func(c Config) any { return c.MaxTable }, 4 * GiB},
		{"HERD_MAX_PENDING=1MiB", func(c Config) any { return c.MaxPending }, MiB},
		{"HERD_HTTP_HOSTS=", func(c Config) any { return len(c.HTTPHosts) }, 0},
		{"HERD_IDLE_TIMEOUT=10ms", func(c Config) any { return c.IdleTimeout }, 10 * time.Millisecond},
		{"HERD_IDLE_TIMEOUT=24h", func(c Config) any { return c.IdleTimeout }, 24 * time.Hour},
		{"HERD_RETAIN=1m", func(c Config) any { return c.Retain }, time.Minute},
		{"HERD_RETAIN=87600h", func(c Config) any { return c.Retain }, 87600 * time.Hour},
		{"HERD_LINK_WINDOW=1024", func(c Config) any { return c.LinkWindow }, 1024},
		{"HERD_LINK_GAP=1s", func(c Config) any { return c.LinkGap }, time.Second},
		{"HERD_JOURNAL_TIMEOUT=1s", func(c Config) any { return c.JournalTimeout }, time.Second},
		{"HERD_PPROF=1", func(c Config) any { return c.Pprof }, true},
		{"HERD_DATA=" + dir + "/new/folder", func(c Config) any { return c.Transcript }, dir + "/new/folder/Clark.log"},
		{"HERD_DATA=" + dir + "/new HERD_TRANSCRIPT=" + dir + "/new/x", func(c Config) any { return c.Transcript }, dir + "/new/x"},
		{"HERD_TRANSCRIPT=-", func(c Config) any { return c.Transcript }, "-"},
		{"HERD_TRANSCRIPT=" + dir + "/log", func(c Config) any { return c.Transcript }, dir + "/log"},
		{"HERD_TRANSCRIPT_MAX=1MiB", func(c Config) any { return c.TranscriptMax }, MiB},
		{"HERD_TRANSCRIPT_MAX=1048576", func(c Config) any { return c.TranscriptMax }, MiB},
		{"HERD_LOG_LEVEL=WARN", func(c Config) any { return c.LogLevel }, slog.LevelWarn},
		{"HERD_LOG_FORMAT=json", func(c Config) any { return c.LogFormat }, "json"},
		{"HERD_PLACES=gazetteer", func(c Config) any { return c.Places }, "gazetteer"},
		{"HERD_PLACES_DAILY=0 HERD_PLACES_RATE=0", func(c Config) any { return c.PlacesDaily + c.PlacesRate }, 0},
		{"HERD_GOOGLE_KEY=k", func(c Config) any { return strings.Join(c.Providers(), " ") }, "google gazetteer"},
		{"HERD_GOOGLE_KEY_FILE=" + keyFile, func(c Config) any { return strings.Join(c.Providers(), " ") }, "google gazetteer"},
		{"HERD_GOOGLE_KEY= HERD_GOOGLE_KEY_FILE=" + keyFile, func(c Config) any { return c.GoogleKey.Reveal() }, "AIza-Key_1"},
		{"HERD_PLACES=gazetteer HERD_GOOGLE_KEY=k", func(c Config) any { return strings.Join(c.Providers(), " ") }, "gazetteer"},
		{"HERD_PLACES=google-legacy,gazetteer,google HERD_GOOGLE_KEY=k", func(c Config) any { return strings.Join(c.Providers(), " ") }, "google-legacy gazetteer google"},
		{"HERD_GOOGLE_FIELDS=*", func(c Config) any { return c.GoogleFields }, "*"},
		{"HERD_GOOGLE_FIELDS=places.id,places.displayName.text,places.location", func(c Config) any { return c.GoogleFields }, "places.id,places.displayName.text,places.location"},
		{"HERD_GOOGLE_URL=http://[::1]:80/google", func(c Config) any { return c.GoogleURL }, "http://[::1]:80/google"},
		{"HERD_JOURNAL_REPLICAS=1 HERD_JOURNAL_STORAGE=file HERD_DURABILITY=memory", func(c Config) any { return c.JournalReplicas }, 1},
		{"HERD_PLACES_DAILY=1000 HERD_PLACES_RATE=10 HERD_PLACES_CACHE=", func(c Config) any { return c.PlacesRate }, 10},
		// The last of a repeated name counts, as in exec.Cmd.
		{"HERD_LISTEN=nowhere HERD_LISTEN=:1", func(c Config) any { return c.Listen }, ":1"},
		// An empty value means off.
		{"HERD_HTTP=", func(c Config) any { return c.HTTP }, ""},
		{"HERD_TRANSCRIPT= HERD_DATA=" + dir, func(c Config) any { return c.Transcript }, ""},
		{"HERD_JOURNAL=", func(c Config) any { return c.Journal }, "off"},
		{"HERD_MAP=", func(c Config) any { return c.Map }, "off"},
		{"HERD_HTTP=127.0.0.1:0", func(c Config) any { return c.ShowsMap() }, true},
		{"HERD_HTTP=[::1]:0", func(c Config) any { return c.ShowsMap() }, true},
		{"HERD_HTTP=localhost:0", func(c Config) any { return c.ShowsMap() }, true},
		{"HERD_HTTP=[::ffff:127.0.0.1]:0", func(c Config) any { return c.ShowsMap() }, true},
		{"HERD_HTTP=:0", func(c Config) any { return c.ShowsMap() }, false},
		{"HERD_HTTP=0.0.0.0:0", func(c Config) any { return c.ShowsMap() }, false},
		{"HERD_HTTP=192.0.2.1:0", func(c Config) any { return c.ShowsMap() }, false},
		{"HERD_HTTP=localhost.example:0", func(c Config) any { return c.ShowsMap() }, false},
		{"HERD_HTTP=:0 HERD_MAP=on", func(c Config) any { return c.ShowsMap() }, true},
		{"HERD_HTTP=127.0.0.1:0 HERD_MAP=off", func(c Config) any { return c.ShowsMap() }, false},
		{"HERD_LIVE=", func(c Config) any { return c.Live }, "off"},
		{"HERD_LIVE=off", func(c Config) any { return c.Live }, "off"},
		{"HERD_WATCHES=1", func(c Config) any { return c.Watches }, 1},
		{"HERD_WATCHES=100000", func(c Config) any { return c.Watches }, 100_000},
		{"HERD_WATCH_MEMBERS=1", func(c Config) any { return c.WatchMembers }, 1},
		{"HERD_WATCH_TOTAL=1", func(c Config) any { return c.WatchTotal }, 1},
		{"HERD_JOURNAL_MAX_BYTES=4GiB", func(c Config) any { return c.JournalMaxBytes }, 4 * GiB},
		{"HERD_JOURNAL_MAX_BYTES=", func(c Config) any { return c.JournalMaxBytes }, Size(0)},
		{"HERD_JOURNAL_REPLICAS=3 HERD_JOURNAL_STORAGE=memory", func(c Config) any { return c.JournalStorage }, "memory"},
		{"HERD_DURABILITY=journal", func(c Config) any { return c.Journal }, "on"},
		{"HERD_DURABILITY=journal", func(c Config) any { return c.EmbeddedNATSSync }, Sync{Always: true}},
		{"HERD_DURABILITY=journal HERD_EMBEDDED_NATS_SYNC=1s", func(c Config) any { return c.EmbeddedNATSSync }, Sync{Interval: time.Second}},
		{"HERD_DATA=", func(c Config) any { return c.Data + c.Transcript }, ""},
		{"HERD_TLS_CERT= HERD_GOOGLE_KEY= HERD_OSM_FILE= HERD_TLS_IDENTITY=", func(c Config) any { return c.TLSCert }, ""},
		{"HERD_RETAIN=", func(c Config) any { return c.Retain }, time.Duration(0)},
		{"HERD_EMBEDDED_NATS=", func(c Config) any { return c.EmbeddedNATS }, false},
		// A variable that cannot be off takes its default.
		{"HERD_LISTEN=", func(c Config) any { return c.Listen }, "127.0.0.1:12000"},
		{"HERD_MAX_CONNS=", func(c Config) any { return c.MaxConns }, 19744},
		{"HERD_IDLE_TIMEOUT=", func(c Config) any { return c.IdleTimeout }, 15 * time.Minute},
		{"HERD_PLACES=", func(c Config) any { return c.Places }, "auto"},
		{"HERD_WATCHES= HERD_WATCH_MEMBERS= HERD_WATCH_TOTAL=", func(c Config) any { return [...]int{c.Watches, c.WatchMembers, c.WatchTotal} }, [...]int{16, 100_000, 5_000_000}},
	} {
		t.Run(test.vars, func(t *testing.T) {
			cfg, warnings, err := read(strings.Fields(test.vars)...)
			if err != nil || len(warnings) > 0 {
				t.Fatal(err, warnings)
			}
			if got := test.got(cfg); got != test.want {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestWhatContradicts(t *testing.T) {
	for _, test := range []struct{ vars, says string }{
		{"HERD_EMBEDDED_NATS=true NATS_URL=nats://broker:4222",
			"HERD_EMBEDDED_NATS: true, but NATS_URL names another server; set one of the two"},
		{"HERD_DURABILITY=journal HERD_JOURNAL=off", "HERD_DURABILITY: journal, but HERD_JOURNAL is off"},
		{"HERD_DURABILITY=journal HERD_JOURNAL=", "HERD_DURABILITY: journal, but HERD_JOURNAL is off"},
		{"HERD_EMBEDDED_NATS=true HERD_JOURNAL=on", "HERD_JOURNAL: on, but the embedded NATS server stores nothing without HERD_DATA"},
		{"HERD_GOOGLE_KEY=AIzaKey HERD_GOOGLE_KEY_FILE=/nowhere", "HERD_GOOGLE_KEY_FILE: conflicts with HERD_GOOGLE_KEY; set one of the two"},
		// A key that is needed and cannot be read is reported once.
		{"HERD_PLACES=google HERD_GOOGLE_KEY_FILE=/nowhere/key", `HERD_GOOGLE_KEY_FILE: "/nowhere/key": no such file or directory`},
		{"HERD_PLACES_CACHE=24h", "HERD_PLACES_CACHE: withdrawn: Google's terms forbid keeping its answers; leave it out"},
		{"HERD_LINK_LINGER=5ms", "HERD_LINK_LINGER: withdrawn: use HERD_LINK_GAP, the least time between two messages on a link (H5)"},
		{"HERD_EDGE=A HERD_TOPOLOGY=B-C", `HERD_EDGE: "A" is not an edge of HERD_TOPOLOGY, which has B, C`},
		// If the topology itself is wrong, only that is reported.
		{"HERD_EDGE=A HERD_TOPOLOGY=B-B", `HERD_TOPOLOGY: link "B-B" joins an edge to itself`},
	} {
		t.Run(test.vars, func(t *testing.T) {
			if _, _, err := read(strings.Fields(test.vars)...); err == nil || err.Error() != test.says {
				t.Errorf("error:\n%v\nwant:\n%s", err, test.says)
			}
		})
	}
}

func TestTheFileLimitBoundsConnections(t *testing.T) { // C18
	for _, test := range []struct {
		files uint64
		want  int // 0: want an error
	}{{1 << 63, 100_000}, {100_257, 100_000}, {100_256, 100_000}, {100_255, 99_999}, {257, 1}, {256, 0}, {0, 0}} {
		cfg, _, err := fromEnvironment([]string{"HERD_EDGE=Clark"}, test.files)
		if (err == nil) != (test.want > 0) || cfg.MaxConns != test.want {
			t.Errorf("%d files: %d connections, %v; want %d", test.files, cfg.MaxConns, err, test.want)
		}
		if err != nil && !strings.HasPrefix(err.Error(), "HERD_MAX_CONNS: want ") {
			t.Errorf("%d files: %v", test.files, err)
		}
	}
	if got := fileLimit(); got == 0 {
		t.Error("this process may open no files")
	}
}

func TestUnknownVariablesAreWarnings(t *testing.T) {
	_, warnings, err := read("HERD_NEW=1", "HERD_IDEL_TIMEOUT=1s", "HERD_LISTENS=x", "HERD_TEST=full", "herd_edge=x", "NEW=1", "HERD_", "=x")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"HERD_IDEL_TIMEOUT: no such variable; did you mean HERD_IDLE_TIMEOUT?",
		"HERD_LISTENS: no such variable; did you mean HERD_LISTEN?",
		"HERD_NEW: no such variable",
	}
	if !slices.Equal(warnings, want) {
		t.Errorf("warnings:\n%q\nwant:\n%q", warnings, want)
	}
	// With an error, warnings are reported too.
	if _, warnings, err := read("HERD_NEW=1", "HERD_EDGE="); err == nil || len(warnings) != 1 {
		t.Errorf("error %v, warnings %q", err, warnings)
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{
		"0": 0, "1": 1, "1023": 1023, "1KiB": KiB, "1 KiB": KiB, "3MiB": 3 * MiB, "2GiB": 2 * GiB,
		"9223372036854775807": 1<<63 - 1, "8589934591GiB": 8589934591 * GiB,
	} {
		var got Size
		if err := got.UnmarshalText([]byte(text)); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(got.String())); err != nil || again != want {
			t.Errorf("%q is written %q and read as %d, %v", text, got, again, err)
		}
	}
	for _, text := range []string{"", "-1", "+1", "1.5MiB", "MiB", "1MB", "1mib", "1  MiB", "0x10", "1_000", "9223372036854775808", "8589934592GiB"} {
		got := Size(7)
		if err := got.UnmarshalText([]byte(text)); err == nil || got != 7 {
			t.Errorf("%q is %d, %v; want an error and no change", text, got, err)
		}
	}
}

func TestSyncsAreWrittenAsTheyAreRead(t *testing.T) {
	for _, text := range []string{"always", "2m0s", "10ms"} {
		var s Sync
		if err := s.UnmarshalText([]byte(text)); err != nil || s.String() != text {
			t.Errorf("%q became %q, %v", text, s, err)
		}
	}
}

// shownDefaults are the defaults to show that a tag cannot express.
var shownDefaults = map[string]string{
	"HERD_EDGE":          "(required)",
	"HERD_TOPOLOGY":      "the default herd",
	"HERD_MAX_CONNS":     "`100000`, or the file limit less 256",
	"HERD_RETAIN":        "`0` (for ever)",
	"HERD_TRANSCRIPT":    "`<HERD_DATA>/<edge>.log` where that is set, else off",
	"HERD_LOG_FORMAT":    "`text` on a terminal, else `json`",
	"HERD_TLS_CERT":      "off",
	"HERD_TLS_KEY":       "off",
	"HERD_TLS_CLIENT_CA": "off",
	"HERD_TLS_IDENTITY":  "off",
	"HERD_DEVICES":       "off",
}

// shownMeanings are those of the fields of package options.
var shownMeanings = map[string]string{
	"NATS_URL":      "URL of the broker, or several separated by commas.",
	"NATS_USER":     "User name for the broker.",
	"NATS_PASSWORD": "Password of `NATS_USER`.",
	"NATS_TOKEN":    "Token for the broker.",
	"NATS_CREDS":    "Credentials file for the broker: a user's JWT and seed.",
	"NATS_NKEY":     "NKey file for the broker: a user's seed.",
	"NATS_CA":       "PEM file with the authorities that may sign the broker's certificate.",
	"NATS_CERT":     "PEM file with the client certificate for the broker.",
	"NATS_KEY":      "PEM file with the key of `NATS_CERT`.",
}

// variableTable returns the table of all variables: names and defaults are from the tags,
// meanings from the fields' comments.
func variableTable(t *testing.T) string {
	t.Helper()
	params, err := env.GetFieldParams(&Config{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	meanings := meanings(t)
	var table strings.Builder
	table.WriteString("| variable | default | meaning |\n|---|---|---|\n")
	for _, p := range params {
		names = append(names, p.Key)
		shown := shownDefaults[p.Key]
		switch {
		case shown != "":
		case p.DefaultValue == "":
			shown = "none"
		default:
			shown = "`" + p.DefaultValue + "`"
		}
		if meanings[p.Key] == "" {
			t.Errorf("the field of %s has no comment", p.Key)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", p.Key, shown, strings.ReplaceAll(meanings[p.Key], "|", "\\|"))
	}
	if own := variables(); !slices.Equal(names, own) {
		t.Errorf("env reads\n%q\nand errors are told for\n%q", names, own)
	}
	return table.String()
}

// meanings returns the comments of the fields of Config.
func meanings(t *testing.T) map[string]string {
	t.Helper()
	parsed, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	found := maps.Clone(shownMeanings)
	ast.Inspect(parsed, func(n ast.Node) bool {
		field, ok := n.(*ast.Field)
		if !ok || field.Tag == nil {
			return true
		}
		tag, err := strconv.Unquote(field.Tag.Value)
		if err != nil {
			t.Fatal(err)
		}
		found[reflect.StructTag(tag).Get("env")] = strings.Join(strings.Fields(field.Doc.Text()), " ")
		return true
	})
	return found
}

func TestTheTableOfVariables(t *testing.T) {
	const golden = "testdata/variables.md"
	got := variableTable(t)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the variables are no longer those of %s; go test ./edge/config -run TheTableOfVariables -update, and look at the difference.\n%s", golden, got)
	}
}

func TestTheDocumentHasEveryVariable(t *testing.T) {
	document, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	// The table is between these two lines.
	_, after, ok := strings.Cut(string(document), "<!-- variables -->\n")
	table, _, closed := strings.Cut(after, "<!-- /variables -->")
	if !ok || !closed {
		t.Fatal("docs/configuration.md has no table of variables")
	}
	got, want := rows(table), rows(variableTable(t))
	for name, def := range want {
		if other, ok := got[name]; !ok {
			t.Errorf("docs/configuration.md lacks %s", name)
		} else if other != def {
			t.Errorf("docs/configuration.md: the default of %s is %s, want %s", name, other, def)
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("docs/configuration.md has %s, which is no variable", name)
		}
	}
}

// rows returns the default per variable in a table.
func rows(table string) map[string]string {
	defaults := make(map[string]string)
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); len(cells) >= 3 && strings.HasPrefix(line, "| `") {
			defaults[strings.Trim(cells[0], "| `")] = strings.TrimSpace(cells[1])
		}
	}
	return defaults
}

func FuzzFromEnvironment(f *testing.F) {
	f.Add("HERD_EDGE=Clark")
	for _, test := range wrong {
		f.Add("HERD_EDGE=Clark\n" + test.name + "=" + test.value)
	}
	f.Add("HERD_EDGE=A\nHERD_TOPOLOGY=A\nHERD_HTTP=\nHERD_DATA=/\x00\n=\nHERD_\nNATS_URL=nats://me:pw@[::1]:x")
	names := slices.Concat(variables(), slices.Collect(maps.Keys(withdrawn)))
	f.Fuzz(func(t *testing.T, text string) {
		environ := strings.Split(text, "\n")
		cfg, _, err := fromEnvironment(environ, files)
		if err == nil {
			if !cfg.Topology.Has(cfg.Edge) || cfg.MaxLine < 128 || cfg.MaxConns < 1 {
				t.Errorf("accepted %q as %+v", text, cfg)
			}
			return
		}
		for line := range strings.Lines(err.Error()) {
			if name, _, ok := strings.Cut(line, ": "); !ok || !slices.Contains(names, name) {
				t.Errorf("%q: this names no variable: %q", text, line)
			}
		}
	})
}
