// Package config is an edge's configuration: every variable with its default, range and
// meaning. It reports everything that is wrong with an environment at once.
//
// It knows the values, and nothing of the packages that use them: it imports no sockets, no
// NATS and no provider of places, so a program that needs only one setting does not link
// them. The package that uses a file opens it: see [FromEnvironment].
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"net"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caarlos0/env/v10"

	"herd/broker/options"
	"herd/broker/topology"
)

// Config is everything that the environment tells an edge, one field per variable.
// [FromEnvironment] returns one; without an error, it is complete and within its ranges. The
// comment of a field is its meaning in docs/configuration.md. The NATS_* variables are in
// package options, because cmd/herd reads them too; they are ignored with HERD_EMBEDDED_NATS.
type Config struct {
	// This edge's name, one of `HERD_TOPOLOGY`: letters, digits and `_`, at most 32.
	Edge string `env:"HERD_EDGE"`
	// The whole graph: links `A-B`, separated by commas, or the name of a lone edge. The edge finds its neighbours in it (H1).
	Topology *topology.Graph `env:"HERD_TOPOLOGY" envDefault:"Clark-Jaquez,Clark-Juzang,Bernard-Jaquez,Bernard-Juzang,Bernard-Johnson,Johnson-Juzang"`
	// TCP address of the client port; port 0 means any free port.
	Listen string `env:"HERD_LISTEN" envDefault:"127.0.0.1:12000"`
	// PEM file with the certificate of the client port and its intermediates; the client port then speaks TLS 1.2 or later. Read again when it is renewed.
	TLSCert string `env:"HERD_TLS_CERT"`
	// PEM file with the key of `HERD_TLS_CERT`.
	TLSKey string `env:"HERD_TLS_KEY"`
	// PEM file with the authorities that sign client certificates; a client without such a certificate is refused.
	TLSClientCA string `env:"HERD_TLS_CLIENT_CA"`
	// `cn` or `san`: a client may report only the id in its certificate: the common name (`cn`), or a DNS name, e-mail address or URI (`san`). Needs `HERD_TLS_CLIENT_CA`.
	TLSIdentity string `env:"HERD_TLS_IDENTITY"`
	// Address of the admin port: `/metrics`, `/healthz`, `/readyz` and the status page `/`. Empty means off.
	HTTP string `env:"HERD_HTTP" envDefault:"127.0.0.1:12080"`
	// More host names that the admin port answers to, separated by commas; other names get 421. IP addresses, `localhost`, names without a dot and the machine's own name always work.
	HTTPHosts []string `env:"HERD_HTTP_HOSTS"`
	// Whether the status page shows where clients are: its map, its search for a client, commands tried from it, and its comparison of all edges. `on`, `off`, or `auto`, which is on where `HERD_HTTP` is a loopback address.
	Map string `env:"HERD_MAP" envDefault:"auto"`

	// Where the broker is and how to log in: the NATS_* variables of the nats tool.
	options.Broker
	// Run a NATS server inside this process instead of connecting to `NATS_URL`.
	EmbeddedNATS bool `env:"HERD_EMBEDDED_NATS" envDefault:"false"`
	// TCP address of the embedded NATS server, for tools that connect to it.
	EmbeddedNATSListen string `env:"HERD_EMBEDDED_NATS_LISTEN"`
	// How often the embedded NATS server syncs to disk: a duration, or `always`, which is the default with `HERD_DURABILITY=journal`.
	EmbeddedNATSSync Sync `env:"HERD_EMBEDDED_NATS_SYNC" envDefault:"2m"`
	// First token of every subject: 1 to 64 letters and digits. Herds with different prefixes can share a broker (H1).
	SubjectPrefix string `env:"HERD_SUBJECT_PREFIX" envDefault:"herd"`

	// Maximum length of a client's line in bytes, without its line end (C5); 128 to 16384.
	MaxLine int `env:"HERD_MAX_LINE" envDefault:"4096"`
	// Maximum number of client connections (C18); 1 to the process's file limit less 256.
	MaxConns int `env:"HERD_MAX_CONNS"`
	// Number of known clients beyond which new ones are refused (C18); 1 or more.
	MaxClients int `env:"HERD_MAX_CLIENTS" envDefault:"10000000"`
	// Memory for positions beyond which new clients are refused (C18), the same in the whole herd: bytes, or with KiB, MiB, GiB; 16MiB or more. A client takes about 140 bytes of that (a process takes more), or 1.3 KB with an id of 1,024 bytes.
	MaxTable Size `env:"HERD_MAX_TABLE" envDefault:"4GiB"`
	// Maximum memory for what all connections hold unread, unanswered or unsent (C18); 1MiB or more.
	MaxPending Size `env:"HERD_MAX_PENDING" envDefault:"256MiB"`
	// A connection without a command for this long is closed (C18); 10ms to 24h.
	IdleTimeout time.Duration `env:"HERD_IDLE_TIMEOUT" envDefault:"15m"`
	// A connection whose client reads no answers for this long is closed (C18); 10ms to 24h.
	WriteTimeout time.Duration `env:"HERD_WRITE_TIMEOUT" envDefault:"10s"`
	// Longest time from the signal to the end of the process (C19). A second later the process logs what hangs and exits with 1. 10ms to 24h.
	ShutdownTimeout time.Duration `env:"HERD_SHUTDOWN_TIMEOUT" envDefault:"10s"`

	// Positions are forgotten this long after their time (S4), the same in the whole herd; 1m or more, or 0 for never.
	Retain time.Duration `env:"HERD_RETAIN" envDefault:"0"`
	// How often each link sends a heartbeat, also while it sends lines; a link is down after three that are missed (H8); 10ms to 24h.
	Heartbeat time.Duration `env:"HERD_HEARTBEAT" envDefault:"1s"`
	// How long the journal or a neighbour may make no progress before an edge that joins opens its client port without it (H7); 10ms to 24h.
	JoinTimeout time.Duration `env:"HERD_JOIN_TIMEOUT" envDefault:"5s"`
	// Maximum number of unacknowledged messages per link (H5); 1 to 1024.
	LinkWindow int `env:"HERD_LINK_WINDOW" envDefault:"8"`
	// Least time between two messages with lines on a link (H5). On a link that was quiet for this long a line is sent at once; on a busy one, lines that have collected are sent together. 0 to 1s.
	LinkGap time.Duration `env:"HERD_LINK_GAP" envDefault:"5ms"`

	// What an answer to IAMAT promises (D3): `memory`, that the position is in this edge's memory and being sent to its neighbours; `journal`, that this edge's journal holds it or a newer one.
	Durability string `env:"HERD_DURABILITY" envDefault:"memory"`
	// Longest wait for the journal per answer with `HERD_DURABILITY=journal` (D3); 10ms to 24h.
	JournalTimeout time.Duration `env:"HERD_JOURNAL_TIMEOUT" envDefault:"2s"`
	// The journal in JetStream (D1): `on` waits for it, `auto` uses it if it is there, `off` does not use it. `HERD_DURABILITY=journal` implies `on`.
	Journal string `env:"HERD_JOURNAL" envDefault:"auto"`
	// Number of JetStream replicas of the journal; 1 to 5.
	JournalReplicas int `env:"HERD_JOURNAL_REPLICAS" envDefault:"1"`
	// Where JetStream keeps the journal: `file` or `memory`.
	JournalStorage string `env:"HERD_JOURNAL_STORAGE" envDefault:"file"`
	// Maximum size of the journal, beyond which new entries are refused and none is dropped (D6): bytes, or with KiB, MiB, GiB; 1MiB or more. If unset, a new journal has only its account's limit, and an existing one keeps its own.
	JournalMaxBytes Size `env:"HERD_JOURNAL_MAX_BYTES"`

	// Serve Go's profiles on the admin port under `/debug/pprof/`.
	Pprof bool `env:"HERD_PPROF" envDefault:"false"`
	// Directory of this edge alone, for the embedded NATS server, the transcript and the count of questions to Google; created at start.
	Data string `env:"HERD_DATA"`
	// File for the transcript of what goes in and out (C20); `-` means standard error, empty means off.
	Transcript string `env:"HERD_TRANSCRIPT"`
	// Size at which the transcript is rotated; three old files are kept. Bytes, or with KiB, MiB, GiB; 1MiB or more.
	TranscriptMax Size `env:"HERD_TRANSCRIPT_MAX" envDefault:"100MiB"`
	// Record the lines on links in the transcript too.
	TranscriptLinks bool `env:"HERD_TRANSCRIPT_LINKS" envDefault:"false"`
	// Lowest level that is logged, on standard error: `debug`, `info`, `warn` or `error`.
	LogLevel slog.Level `env:"HERD_LOG_LEVEL" envDefault:"info"`
	// Format of the log: `text` or `json`.
	LogFormat string `env:"HERD_LOG_FORMAT"`

	// TCP address of the port for devices' apps and browsers, HTTP and WebSocket (V1); port 0 means any free port. TLS and the limit of connections are those of the client port.
	Devices string `env:"HERD_DEVICES"`
	// File of users who may use that port, in lines `name:hash` as `htpasswd -B` writes them; read again when it changes (V5). If unset, anybody may.
	DevicesUsers string `env:"HERD_DEVICES_USERS"`
	// What a user sees on the WebSocket: `own`, the clients that it may report; or `all` (V5).
	DevicesSee string `env:"HERD_DEVICES_SEE" envDefault:"own"`
	// More web pages that may open a WebSocket, separated by commas, each a host name, with a port or a scheme if need be; over plain HTTP the port answers to these names too (V2). IP addresses and `localhost` always work.
	DevicesOrigins []string `env:"HERD_DEVICES_ORIGINS"`

	// Live questions (L): `on`, or `off`, which refuses WHOSAT and WATCH and saves the memory of their index, about 20 bytes per client. With `on`, whoever may connect can read the ids of all clients.
	Live string `env:"HERD_LIVE" envDefault:"on"`
	// Maximum number of watches per connection (L5); 1 to 100000.
	Watches int `env:"HERD_WATCHES" envDefault:"16"`
	// Maximum number of clients inside all watches of a connection (L5); 1 or more. A client takes about 8 bytes per watch that it is inside.
	WatchMembers int `env:"HERD_WATCH_MEMBERS" envDefault:"100000"`
	// Maximum number of clients inside all watches of the edge (L5); 1 or more.
	WatchTotal int `env:"HERD_WATCH_TOTAL" envDefault:"5000000"`

	// Longest wait for places per question (C16); 10ms to 24h.
	PlacesTimeout time.Duration `env:"HERD_PLACES_TIMEOUT" envDefault:"5s"`
	// Providers of places in order of preference, separated by commas: `google`, `google-legacy`, `osm`, `gazetteer`; or `auto`, which means all that are configured.
	Places string `env:"HERD_PLACES" envDefault:"auto"`
	// Key of Google Places; never shown.
	GoogleKey options.Secret `env:"HERD_GOOGLE_KEY"`
	// File that holds the key of Google Places, instead of `HERD_GOOGLE_KEY`.
	GoogleKeyFile string `env:"HERD_GOOGLE_KEY_FILE"`
	// Field mask of Google's Places API (New): the fields that are requested per place. The dearest of them sets the price.
	GoogleFields string `env:"HERD_GOOGLE_FIELDS"`
	// Base URL of a server to use instead of Google Places, such as a proxy: https://HOST or http://HOST:PORT.
	GoogleURL string `env:"HERD_GOOGLE_URL"`
	// Questions per day that this process may send to Google, counted from midnight Pacific time; 0 means no limit. The count is kept in `HERD_DATA` across restarts.
	PlacesDaily int `env:"HERD_PLACES_DAILY" envDefault:"1000"`
	// Questions per second that this process may send to Google; 0 means no limit.
	PlacesRate int `env:"HERD_PLACES_RATE" envDefault:"10"`
	// OpenStreetMap extract of the region, `.osm.pbf` or `.osm`; read at start, and again on SIGHUP if it has changed.
	OSMFile string `env:"HERD_OSM_FILE"`
}

// Values of HERD_JOURNAL, HERD_DURABILITY, HERD_LIVE, HERD_DEVICES_SEE and HERD_MAP.
const (
	JournalOn   = "on"
	JournalAuto = "auto"
	JournalOff  = "off"

	DurabilityMemory  = "memory"
	DurabilityJournal = "journal"

	LiveOn  = "on"
	LiveOff = "off"

	SeeOwn = "own"
	SeeAll = "all"

	MapAuto = "auto"
	MapOn   = "on"
	MapOff  = "off"
)

// FromEnvironment reads the configuration from environ, KEY=VALUE pairs as [os.Environ]
// returns them; of a repeated key the last counts. It changes nothing and starts nothing, but
// checks the process's file limit and the paths, and reads certificates and keys.
//
// Of other files, such as an extract of OpenStreetMap and the credentials of NATS_*, it knows
// only the names. The packages that use them check them, by the functions in open: each is
// called with the configuration that was read, valid or not, and its errors are reported with
// the others. A program that runs an edge passes edge.Check.
//
// An empty value means off if a variable can be off (HERD_HTTP, HERD_TRANSCRIPT, HERD_JOURNAL,
// HERD_LIVE and all that are off by default), and otherwise the default. An unknown HERD_* variable is
// a warning; one that was withdrawn is an error. The error joins
// ([errors.Join]) one error per wrong or missing variable, in the order of [Config]. Each
// begins with the variable's name and shows its value, unless that may be a secret. Errors of
// NATS_* variables come after these, and errors of open last. With an error, cfg is the zero
// Config.
func FromEnvironment(environ []string, open ...func(*Config) error) (cfg Config, warnings []string, err error) {
	return fromEnvironment(environ, fileLimit(), open...)
}

func fromEnvironment(environ []string, files uint64, open ...func(*Config) error) (cfg Config, warnings []string, err error) {
	vars := make(map[string]string, len(environ))
	for _, pair := range environ {
		// env would take an empty name for that of every field without a tag.
		if name, value, ok := strings.Cut(pair, "="); ok && name != "" {
			vars[name] = value
		}
	}
	unparsed, err := parse(&cfg, vars)
	if err != nil {
		return Config{}, nil, err
	}
	cfg.derive(vars, files)
	if err := cfg.readGoogleKey(); err != nil {
		unparsed["HERD_GOOGLE_KEY_FILE"] = err
	}

	faults := cfg.faults(vars, unparsed, files)
	names := variables()
	var errs []error
	for _, name := range names {
		if fault, ok := faults[name]; ok {
			errs = append(errs, fmt.Errorf("%s: %s", name, fault))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(withdrawn)) {
		if vars[name] != "" {
			errs = append(errs, fmt.Errorf("%s: %s", name, withdrawn[name]))
		}
	}
	if !cfg.EmbeddedNATS {
		errs = append(errs, cfg.Broker.Validate())
	}
	for _, try := range open {
		errs = append(errs, try(&cfg))
	}
	warnings = unknown(vars, names)
	if err := errors.Join(errs...); err != nil {
		return Config{}, warnings, err
	}
	return cfg, append(warnings, cfg.expired()...), nil
}

// parse fills cfg from vars and defaults. unparsed has the parser's error per variable that
// could not be parsed; err is a mistake in Config itself.
func parse(cfg *Config, vars map[string]string) (unparsed map[string]error, err error) {
	unparsed = make(map[string]error)
	all := env.AggregateError{}
	err = env.ParseWithOptions(cfg, env.Options{
		Environment: vars, // never nil, or env would read the process's environment
		FuncMap: map[reflect.Type]env.ParserFunc{
			reflect.TypeFor[topology.Graph](): func(text string) (any, error) {
				g, err := topology.Parse(text)
				if err != nil {
					return nil, err
				}
				return *g, nil
			},
		},
	})
	if err != nil && !errors.As(err, &all) {
		return nil, err
	}
	for _, err := range all.Errors {
		// env names the field, but people know the variable.
		var wrong env.ParseError
		if !errors.As(err, &wrong) {
			return nil, err
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(wrong.Name)
		unparsed[field.Tag.Get("env")] = wrong.Err
	}
	return unparsed, nil
}

// derive sets the defaults that a tag cannot express.
func (c *Config) derive(vars map[string]string, files uint64) {
	if vars["HERD_MAX_CONNS"] == "" { // C18
		c.MaxConns = int(min(100_000, spare(files)))
	}
	for _, hosts := range [][]string{c.HTTPHosts, c.DevicesOrigins} {
		for i, host := range hosts {
			hosts[i] = strings.ToLower(strings.TrimSpace(host))
		}
	}
	// env takes the default for an empty value; for these variables empty means off.
	empty := func(name string) bool {
		value, set := vars[name]
		return set && value == ""
	}
	if empty("HERD_HTTP") {
		c.HTTP = ""
	}
	if empty("HERD_JOURNAL") {
		c.Journal = JournalOff
	}
	if empty("HERD_MAP") {
		c.Map = MapOff
	}
	if empty("HERD_LIVE") {
		c.Live = LiveOff
	}
	if c.Durability == DurabilityJournal { // D3
		if c.Journal == JournalAuto {
			c.Journal = JournalOn
		}
		if vars["HERD_EMBEDDED_NATS_SYNC"] == "" {
			c.EmbeddedNATSSync = Sync{Always: true}
		}
	}
	if c.Data != "" && c.Transcript == "" && !empty("HERD_TRANSCRIPT") {
		c.Transcript = filepath.Join(c.Data, c.Edge+".log")
	}
}

// ShowsMap reports whether the status page may show where clients are.
func (c *Config) ShowsMap() bool {
	return c.Map == MapOn || c.Map == MapAuto && IsLoopback(c.HTTP)
}

// IsLoopback reports whether only this machine reaches an address HOST:PORT.
func IsLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// reserved is how many files the process keeps for purposes other than client connections.
const reserved = 256

// spare returns how many of files may be client connections; 0 or less means none.
func spare(files uint64) int64 { return int64(min(files, math.MaxInt32)) - reserved }

// fileLimit returns how many files the process may have open. Go raises the soft limit to the
// hard limit when a process starts, so this is the effective limit.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024 // a usual minimum
	}
	return uint64(limit.Cur)
}

// withdrawn are variables of earlier versions, and why they are gone. Setting one is an
// error, since it would have no effect.
var withdrawn = map[string]string{
	"HERD_LINK_LINGER":  "withdrawn: use HERD_LINK_GAP, the least time between two messages on a link (H5)",
	"HERD_PLACES_CACHE": "withdrawn: Google's terms forbid keeping its answers; leave it out",
}

// variables returns the names of all variables in the order of Config.
func variables() []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if name := field.Tag.Get("env"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// unknown returns a warning per HERD_* of vars that is not in names, sorted, with the name
// that was perhaps meant. A withdrawn variable has an error of its own.
func unknown(vars map[string]string, names []string) (warnings []string) {
	for name := range vars {
		// HERD_TEST is for this project's own tests, which start edges.
		if !strings.HasPrefix(name, "HERD_") || name == "HERD_TEST" || name == "HERD_TEST_OSM" || slices.Contains(names, name) || withdrawn[name] != "" {
			continue
		}
		warning := name + ": no such variable"
		if i := slices.IndexFunc(names, func(known string) bool { return oneSlip(name, known) }); i >= 0 {
			warning += "; did you mean " + names[i] + "?"
		}
		warnings = append(warnings, warning)
	}
	slices.Sort(warnings)
	return warnings
}

// oneSlip reports whether a is b with one letter added, missing or changed, or with two
// adjacent letters exchanged.
func oneSlip(a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
