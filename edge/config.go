package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/caarlos0/env/v10"

	"herd/broker"
	"herd/broker/topology"
)

// Config is everything that an edge is told by its environment, one field a
// variable. [FromEnvironment] makes one; what it returns without an error is
// whole and within its ranges. The comment of a field is the meaning that the
// README gives. The NATS_* are the broker package's, because cmd/herd reads them
// too; they are not looked at where the broker is inside (HERD_EMBEDDED_NATS).
type Config struct {
	// This edge's name, one of `HERD_TOPOLOGY`: letters, digits and `_`, at most 32.
	Edge string `env:"HERD_EDGE"`
	// The whole graph: links `A-B` parted by commas, or one edge's name. The edge finds its neighbours in it (H1).
	Topology *topology.Graph `env:"HERD_TOPOLOGY" envDefault:"Clark-Jaquez,Clark-Juzang,Bernard-Jaquez,Bernard-Juzang,Bernard-Johnson,Johnson-Juzang"`
	// TCP address for clients; port 0 is any free port.
	Listen string `env:"HERD_LISTEN" envDefault:"127.0.0.1:12000"`
	// PEM file of the certificate for clients, and those between it and its authority: the client port speaks TLS, 1.2 or later. Read again when it is renewed.
	TLSCert string `env:"HERD_TLS_CERT"`
	// PEM file of the key of `HERD_TLS_CERT`.
	TLSKey string `env:"HERD_TLS_KEY"`
	// PEM file of the authorities that sign clients' certificates: a client without one is refused.
	TLSClientCA string `env:"HERD_TLS_CLIENT_CA"`
	// `cn` or `san`: a client may report only the id that its certificate names, as the common name or as a DNS name, e-mail address or URI. Needs `HERD_TLS_CLIENT_CA`.
	TLSIdentity string `env:"HERD_TLS_IDENTITY"`
	// Address of `/metrics`, `/healthz`, `/readyz` and the status page `/`; empty is off.
	HTTP string `env:"HERD_HTTP" envDefault:"127.0.0.1:12080"`

	// Where the broker is and how to log in: NATS_*, as the nats tool has them.
	broker.Options
	// Run a NATS server inside this process, in place of `NATS_URL`.
	EmbeddedNATS bool `env:"HERD_EMBEDDED_NATS" envDefault:"false"`
	// TCP address of the NATS server inside, so that others can look on.
	EmbeddedNATSListen string `env:"HERD_EMBEDDED_NATS_LISTEN"`
	// How often the NATS server inside syncs to disk: a duration, or `always`, which is the default with `HERD_DURABILITY=journal`.
	EmbeddedNATSSync Sync `env:"HERD_EMBEDDED_NATS_SYNC" envDefault:"2m"`
	// First token of every subject; at most 64 letters and digits. Herds with different ones share a broker (H1).
	SubjectPrefix string `env:"HERD_SUBJECT_PREFIX" envDefault:"herd"`

	// Longest line of a client in bytes, without its line end (C5); 128 to 16384.
	MaxLine int `env:"HERD_MAX_LINE" envDefault:"4096"`
	// Most connections of clients at once (C18); 1 to the process's file limit less 256.
	MaxConns int `env:"HERD_MAX_CONNS"`
	// Most clients known before new ones are refused (C18); 1 or more.
	MaxClients int `env:"HERD_MAX_CLIENTS" envDefault:"10000000"`
	// A connection without a command for so long is closed (C18); 10ms to 24h.
	IdleTimeout time.Duration `env:"HERD_IDLE_TIMEOUT" envDefault:"15m"`
	// A client that takes none of its answers for so long is closed (C18); 10ms to 24h.
	WriteTimeout time.Duration `env:"HERD_WRITE_TIMEOUT" envDefault:"10s"`
	// Longest time from the signal to the end of the process (C19); 10ms to 24h.
	ShutdownTimeout time.Duration `env:"HERD_SHUTDOWN_TIMEOUT" envDefault:"10s"`

	// Positions are forgotten so long after their time (S4), the same in the whole herd; 0 is never, else 1m or more.
	Retain time.Duration `env:"HERD_RETAIN" envDefault:"0"`
	// A link on which nothing was sent for so long says that it is there; three missed mean down (H8); 10ms to 24h.
	Heartbeat time.Duration `env:"HERD_HEARTBEAT" envDefault:"1s"`
	// Longest wait for news from neighbours before the client port opens (H7); 10ms to 24h.
	JoinTimeout time.Duration `env:"HERD_JOIN_TIMEOUT" envDefault:"5s"`
	// Most messages on a link without an ack (H5); 1 to 1024.
	LinkWindow int `env:"HERD_LINK_WINDOW" envDefault:"8"`
	// How long an idle link waits for more before it sends (H5); 0 to 1s.
	LinkLinger time.Duration `env:"HERD_LINK_LINGER" envDefault:"0"`

	// What an answer to IAMAT promises (D3): `memory`, that it is in this edge's memory and on its way; or `journal`, that this edge's journal holds it or a newer one.
	Durability string `env:"HERD_DURABILITY" envDefault:"memory"`
	// Longest wait for the journal with `HERD_DURABILITY=journal` (D3); 10ms to 24h.
	JournalTimeout time.Duration `env:"HERD_JOURNAL_TIMEOUT" envDefault:"2s"`
	// The journal in JetStream (D1): `on` waits for it, `auto` uses it where it is, `off`. `HERD_DURABILITY=journal` is `on`.
	Journal string `env:"HERD_JOURNAL" envDefault:"auto"`
	// JetStream replicas of the journal; 1 to 5.
	JournalReplicas int `env:"HERD_JOURNAL_REPLICAS" envDefault:"1"`
	// Where JetStream keeps the journal: `file` or `memory`.
	JournalStorage string `env:"HERD_JOURNAL_STORAGE" envDefault:"file"`

	// Serve Go's profiles on the admin port, under `/debug/pprof/`.
	Pprof bool `env:"HERD_PPROF" envDefault:"false"`
	// A folder of this edge's own, for the NATS server inside, the transcript and the count of questions to Google; made at start.
	Data string `env:"HERD_DATA"`
	// File of what goes in and out (C20); `-` is standard error, empty is off.
	Transcript string `env:"HERD_TRANSCRIPT"`
	// Size at which the transcript is rotated, three kept: bytes, or with KiB, MiB, GiB; 1MiB or more.
	TranscriptMax Size `env:"HERD_TRANSCRIPT_MAX" envDefault:"100MiB"`
	// Write the lines on links into the transcript too.
	TranscriptLinks bool `env:"HERD_TRANSCRIPT_LINKS" envDefault:"false"`
	// Least level of the process log, on standard error: `debug`, `info`, `warn` or `error`.
	LogLevel slog.Level `env:"HERD_LOG_LEVEL" envDefault:"info"`
	// Form of the process log: `text` or `json`.
	LogFormat string `env:"HERD_LOG_FORMAT"`

	// Longest wait for places (C16); 10ms to 24h.
	PlacesTimeout time.Duration `env:"HERD_PLACES_TIMEOUT" envDefault:"5s"`
	// Providers of places in order of preference, parted by commas: `google`, `google-legacy`, `osm`, `gazetteer`; or `auto`, which is those that can be asked.
	Places string `env:"HERD_PLACES" envDefault:"auto"`
	// Key of Google Places; shown nowhere.
	GoogleKey Secret `env:"HERD_GOOGLE_KEY"`
	// File that holds the key of Google Places, in place of `HERD_GOOGLE_KEY`.
	GoogleKeyFile string `env:"HERD_GOOGLE_KEY_FILE"`
	// Field mask of Google's Places API (New): what is asked of each place, and billed by the dearest.
	GoogleFields string `env:"HERD_GOOGLE_FIELDS"`
	// Base address of who stands in for Google Places, such as a proxy: https://HOST or http://HOST:PORT.
	GoogleURL string `env:"HERD_GOOGLE_URL"`
	// Questions a day, from midnight Pacific time, that this process may put to Google; 0 is no limit. Kept in `HERD_DATA` over restarts.
	PlacesDaily int `env:"HERD_PLACES_DAILY" envDefault:"1000"`
	// Questions a second that this process may put to Google; 0 is no limit.
	PlacesRate int `env:"HERD_PLACES_RATE" envDefault:"10"`
	// How long Google's answers are kept and given again; 0 is not at all. Google's terms forbid it.
	PlacesCache time.Duration `env:"HERD_PLACES_CACHE" envDefault:"0"`
	// OpenStreetMap extract of the region, `.osm.pbf` or `.osm`; read at the start and, where it changed, on SIGHUP.
	OSMFile string `env:"HERD_OSM_FILE"`
}

// FromEnvironment reads the configuration from environ, KEY=VALUE pairs as
// [os.Environ] returns them; of a repeated key the last counts. It changes
// nothing and starts nothing, but looks at the process's file limit and at
// what the paths name, and reads certificates and the NATS_* credentials.
//
// An empty value means off where a variable can be off (HERD_HTTP,
// HERD_TRANSCRIPT, HERD_JOURNAL and all that are off by default), elsewhere the
// default. An HERD_* that no table knows is a warning. The error joins
// ([errors.Join]) one error a wrong or missing variable, in the order of
// [Config], which begins with the variable's name and shows its value, unless
// that may be a secret; NATS_* are last. Beside an error, cfg is the zero Config.
func FromEnvironment(environ []string) (cfg Config, warnings []string, err error) {
	return fromEnvironment(environ, fileLimit())
}

func fromEnvironment(environ []string, files uint64) (cfg Config, warnings []string, err error) {
	vars := make(map[string]string, len(environ))
	for _, pair := range environ {
		// An empty name would be that of every field without a tag, to env.
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
	if !cfg.EmbeddedNATS {
		errs = append(errs, cfg.Options.Validate())
	}
	warnings = unknown(vars, names)
	if err := errors.Join(errs...); err != nil {
		return Config{}, warnings, err
	}
	return cfg, append(warnings, cfg.expired()...), nil
}

// parse fills cfg with vars and defaults. unparsed says of each variable that
// could not be parsed why; err is a mistake of Config itself.
func parse(cfg *Config, vars map[string]string) (unparsed map[string]error, err error) {
	unparsed = make(map[string]error)
	all := env.AggregateError{}
	err = env.ParseWithOptions(cfg, env.Options{
		Environment: vars, // never nil: env would read the process's own
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
		// env names the field, people know the variable.
		var wrong env.ParseError
		if !errors.As(err, &wrong) {
			return nil, err
		}
		field, _ := reflect.TypeFor[Config]().FieldByName(wrong.Name)
		unparsed[field.Tag.Get("env")] = wrong.Err
	}
	return unparsed, nil
}

// derive sets what a tag's default cannot say.
func (c *Config) derive(vars map[string]string, files uint64) {
	if vars["HERD_MAX_CONNS"] == "" { // C18
		c.MaxConns = int(min(100_000, spare(files)))
	}
	// env takes the default for an empty value; these mean off by it.
	empty := func(name string) bool {
		value, set := vars[name]
		return set && value == ""
	}
	if empty("HERD_HTTP") {
		c.HTTP = ""
	}
	if empty("HERD_JOURNAL") {
		c.Journal = "off"
	}
	if c.Durability == "journal" { // D3
		if c.Journal == "auto" {
			c.Journal = "on"
		}
		if vars["HERD_EMBEDDED_NATS_SYNC"] == "" {
			c.EmbeddedNATSSync = Sync{Always: true}
		}
	}
	if c.Data != "" && c.Transcript == "" && !empty("HERD_TRANSCRIPT") {
		c.Transcript = filepath.Join(c.Data, c.Edge+".log")
	}
}

// reserved is how many files the process keeps for other things than clients.
const reserved = 256

// spare returns how many of files may be clients' connections; 0 or less is
// none.
func spare(files uint64) int64 { return int64(min(files, math.MaxInt32)) - reserved }

// fileLimit returns how many files the process may have open. Go raises the
// soft limit to the hard one when a process starts, so this is what there is.
func fileLimit() uint64 {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil {
		return 1024 // what POSIX systems give at the least
	}
	return uint64(limit.Cur)
}

// variables lists the names of all variables in the order of Config.
func variables() []string {
	var names []string
	for _, field := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if name := field.Tag.Get("env"); name != "" {
			names = append(names, name)
		}
	}
	return names
}

// unknown returns a warning for each HERD_* of vars that is none of names,
// sorted, with the name that was perhaps meant.
func unknown(vars map[string]string, names []string) (warnings []string) {
	for name := range vars {
		// HERD_TEST is for this project's tests, which start edges.
		if !strings.HasPrefix(name, "HERD_") || name == "HERD_TEST" || name == "HERD_TEST_OSM" || slices.Contains(names, name) {
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

// oneSlip tells whether a is b with one letter more, less or other, or with two
// neighbouring letters exchanged.
func oneSlip(a, b string) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	for a != "" && b != "" && a[len(a)-1] == b[len(b)-1] {
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return len(a) <= 1 && len(b) <= 1 || len(a) == 2 && len(b) == 2 && a[0] == b[1] && a[1] == b[0]
}
