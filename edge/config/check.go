package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"herd/broker/certs"
	"herd/broker/topology"
)

const (
	shortly = 10 * time.Millisecond // the minimum of every timeout
	longest = 24 * time.Hour
)

// checks collects what is wrong with a configuration: at most one fault per variable, the
// first that is found.
type checks struct {
	vars     map[string]string
	unparsed map[string]error
	faults   map[string]string
}

// faults returns what is wrong with c, by variable name. vars is the environment that c was
// read from; a variable in unparsed has no valid value and is not checked further.
func (c *Config) faults(vars map[string]string, unparsed map[string]error, files uint64) map[string]string {
	k := checks{vars, unparsed, make(map[string]string)}

	for _, d := range []struct {
		name        string
		value       time.Duration
		least, most time.Duration
	}{
		{"HERD_IDLE_TIMEOUT", c.IdleTimeout, shortly, longest},
		{"HERD_WRITE_TIMEOUT", c.WriteTimeout, shortly, longest},
		{"HERD_SHUTDOWN_TIMEOUT", c.ShutdownTimeout, shortly, longest},
		{"HERD_HEARTBEAT", c.Heartbeat, shortly, longest},
		{"HERD_JOIN_TIMEOUT", c.JoinTimeout, shortly, longest},
		{"HERD_LINK_GAP", c.LinkGap, 0, time.Second},
		{"HERD_JOURNAL_TIMEOUT", c.JournalTimeout, shortly, longest},
		{"HERD_PLACES_TIMEOUT", c.PlacesTimeout, shortly, longest},
	} {
		k.want(d.name, d.least <= d.value && d.value <= d.most,
			fmt.Sprintf("a duration from %s to %s", brief(d.least), brief(d.most)))
	}
	k.want("HERD_RETAIN", c.Retain == 0 || c.Retain >= time.Minute, "0 or a duration of 1m or more")
	sync := c.EmbeddedNATSSync
	k.want("HERD_EMBEDDED_NATS_SYNC", sync.Always || shortly <= sync.Interval && sync.Interval <= longest,
		"always or a duration from 10ms to 24h")

	k.want("HERD_MAX_LINE", 128 <= c.MaxLine && c.MaxLine <= 16384, "a number from 128 to 16384")
	k.want("HERD_MAX_CONNS", 1 <= c.MaxConns && int64(c.MaxConns) <= spare(files), // C18
		fmt.Sprintf("a number from 1 to %d (the process may open %d files, and keeps %d for other things)", max(1, spare(files)), files, reserved))
	k.want("HERD_MAX_CLIENTS", c.MaxClients >= 1, "a number of 1 or more")
	k.want("HERD_MAX_TABLE", c.MaxTable >= 16*MiB, "a size of 16MiB or more, such as 4GiB")
	k.want("HERD_MAX_PENDING", c.MaxPending >= MiB, "a size of 1MiB or more, such as 256MiB")
	k.want("HERD_LINK_WINDOW", 1 <= c.LinkWindow && c.LinkWindow <= 1024, "a number from 1 to 1024")
	k.want("HERD_JOURNAL_REPLICAS", 1 <= c.JournalReplicas && c.JournalReplicas <= 5, "a number from 1 to 5")
	k.want("HERD_WATCHES", 1 <= c.Watches && c.Watches <= 100_000, "a number from 1 to 100000")
	k.want("HERD_WATCH_MEMBERS", c.WatchMembers >= 1, "a number of 1 or more")
	k.want("HERD_WATCH_TOTAL", c.WatchTotal >= 1, "a number of 1 or more")
	k.want("HERD_PLACES_DAILY", c.PlacesDaily >= 0, "a number of 0 or more")
	k.want("HERD_PLACES_RATE", c.PlacesRate >= 0, "a number of 0 or more")
	k.want("HERD_TRANSCRIPT_MAX", c.TranscriptMax >= MiB, "a size of 1MiB or more, such as 100MiB")

	k.want("HERD_JOURNAL_MAX_BYTES", vars["HERD_JOURNAL_MAX_BYTES"] == "" || c.JournalMaxBytes >= MiB, "a size of 1MiB or more, such as 4GiB")

	k.want("HERD_SUBJECT_PREFIX", isPrefix(c.SubjectPrefix), "1 to 64 letters and digits")
	k.want("HERD_LOG_LEVEL", true, "debug, info, warn or error")
	k.oneOf("HERD_LOG_FORMAT", c.LogFormat, "", "text", "json")
	k.oneOf("HERD_DURABILITY", c.Durability, DurabilityMemory, DurabilityJournal)
	k.oneOf("HERD_JOURNAL", c.Journal, JournalOn, JournalAuto, JournalOff)
	k.oneOf("HERD_LIVE", c.Live, LiveOn, LiveOff)
	k.oneOf("HERD_DEVICES_SEE", c.DevicesSee, SeeOwn, SeeAll)
	k.oneOf("HERD_MAP", c.Map, MapAuto, MapOn, MapOff)
	k.oneOf("HERD_JOURNAL_STORAGE", c.JournalStorage, "file", "memory")
	k.oneOf("HERD_TLS_IDENTITY", c.TLSIdentity, "", ByCommonName, ByAltName)
	for name, value := range map[string]string{
		"HERD_LISTEN": c.Listen, "HERD_HTTP": c.HTTP, "HERD_DEVICES": c.Devices, "HERD_EMBEDDED_NATS_LISTEN": c.EmbeddedNATSListen,
	} {
		k.want(name, value == "" || isAddress(value), "HOST:PORT, such as 127.0.0.1:12000 or [::1]:0")
	}
	if len(c.HTTPHosts) > 0 {
		k.want("HERD_HTTP_HOSTS", !slices.ContainsFunc(c.HTTPHosts, func(name string) bool { return !isHostName(name) }),
			"host names separated by commas, without ports, such as herd.example.org")
	}
	if len(c.DevicesOrigins) > 0 {
		k.want("HERD_DEVICES_ORIGINS", !slices.ContainsFunc(c.DevicesOrigins, func(name string) bool { return !isOrigin(name) }),
			"web pages' hosts separated by commas, such as map.example.org or https://map.example.org:8443")
	}
	for _, name := range []string{"HERD_EMBEDDED_NATS", "HERD_PPROF", "HERD_TRANSCRIPT_LINKS"} {
		k.want(name, true, "true or false")
	}

	k.edge(c)
	k.paths(c)
	k.tls(c)
	if c.EmbeddedNATS && vars["NATS_URL"] != "" {
		k.fault("HERD_EMBEDDED_NATS", "true, but NATS_URL names another server; set one of the two")
	}
	if c.Durability == DurabilityJournal && c.Journal == JournalOff {
		k.fault("HERD_DURABILITY", "journal, but HERD_JOURNAL is off")
	}
	if c.EmbeddedNATS && c.Journal == JournalOn && c.Data == "" {
		k.fault("HERD_JOURNAL", "on, but the embedded NATS server stores nothing without HERD_DATA")
	}
	k.places(c)
	// For a variable that nothing above has reported, use the parser's error.
	for name, err := range unparsed {
		k.fault(name, strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return k.faults
}

// fault records what is wrong with a variable, unless a fault was recorded already.
func (k *checks) fault(name, text string) {
	if _, known := k.faults[name]; !known {
		k.faults[name] = text
	}
}

// want records a fault if the value could not be parsed or ok is false. The text says what
// the value should be.
func (k *checks) want(name string, ok bool, want string) {
	if k.unparsed[name] == nil && ok {
		return
	}
	if value := k.vars[name]; value != "" {
		want = quote(value) + ", want " + want
	} else {
		want = "want " + want
	}
	k.fault(name, want)
}

func (k *checks) oneOf(name, value string, known ...string) {
	ok := slices.Contains(known, value)
	if known[0] == "" {
		known = known[1:]
	}
	last := len(known) - 1
	k.want(name, ok, strings.Join(known[:last], ", ")+" or "+known[last])
}

// edge checks that this edge is part of the herd.
func (k *checks) edge(c *Config) {
	if c.Edge == "" {
		k.fault("HERD_EDGE", "required: this edge's name")
		return
	}
	k.want("HERD_EDGE", topology.CheckName(c.Edge) == nil, "1 to 32 letters, digits and _")
	if k.unparsed["HERD_TOPOLOGY"] == nil && !c.Topology.Has(c.Edge) {
		k.fault("HERD_EDGE", fmt.Sprintf("%s is not an edge of HERD_TOPOLOGY, which has %s", quote(c.Edge), strings.Join(c.Topology.Edges(), ", ")))
	}
}

// paths checks that the files to be written can be written, as far as it can tell without
// writing.
func (k *checks) paths(c *Config) {
	if c.Data != "" {
		if err := canMake(c.Data); err != nil {
			k.fault("HERD_DATA", quote(c.Data)+": "+err.Error())
		}
	}
	if c.Transcript == "" || c.Transcript == "-" || k.vars["HERD_TRANSCRIPT"] == "" {
		return // off, standard error, or a file in HERD_DATA, whose name is valid
	}
	if err := canWrite(c.Transcript, c.Data); err != nil {
		k.fault("HERD_TRANSCRIPT", quote(c.Transcript)+": "+err.Error())
	}
}

// tls checks the TLS files of the client port: first each file, then that no file lacks
// another that it needs, then that the key belongs to the certificate.
func (k *checks) tls(c *Config) {
	for name, files := range map[string]certs.Files{
		"HERD_TLS_CERT":      {CA: c.TLSCert}, // certificates, like a CA file
		"HERD_TLS_KEY":       {Key: c.TLSKey},
		"HERD_TLS_CLIENT_CA": {CA: c.TLSClientCA},
	} {
		if _, err := certs.Read(files); err != nil {
			k.file(name, err)
		}
	}
	for _, lack := range []struct{ name, value, need, needed string }{
		{"HERD_TLS_CERT", c.TLSCert, "HERD_TLS_KEY", c.TLSKey},
		{"HERD_TLS_KEY", c.TLSKey, "HERD_TLS_CERT", c.TLSCert},
		{"HERD_TLS_CLIENT_CA", c.TLSClientCA, "HERD_TLS_CERT", c.TLSCert},
		{"HERD_TLS_IDENTITY", c.TLSIdentity, "HERD_TLS_CLIENT_CA", c.TLSClientCA},
	} {
		if lack.value != "" && lack.needed == "" {
			k.fault(lack.name, quote(lack.value)+", but it needs "+lack.need)
		}
	}
	if c.TLSCert != "" && c.TLSKey != "" && k.faults["HERD_TLS_CERT"] == "" {
		if _, err := certs.Read(certs.Files{Cert: c.TLSCert, Key: c.TLSKey}); err != nil {
			k.file("HERD_TLS_KEY", err)
		}
	}
}

// file records what is wrong with the file that a variable names.
func (k *checks) file(name string, err error) {
	if wrong, ok := errors.AsType[*certs.FileError](err); ok {
		k.fault(name, quote(wrong.File)+": "+wrong.Err.Error())
	}
}

// quote quotes a value for an error and cuts it if it is long.
func quote(value string) string {
	const most = 100
	if len(value) > most {
		return strconv.Quote(value[:most]) + "..."
	}
	return strconv.Quote(value)
}

// brief formats a duration without zero minutes and seconds: 24h, not 24h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if before, ok := strings.CutSuffix(s, "m0s"); ok {
		s = before + "m"
	}
	if before, ok := strings.CutSuffix(s, "h0m"); ok {
		s = before + "h"
	}
	return s
}

const alphanumeric = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"

func isPrefix(s string) bool {
	return 1 <= len(s) && len(s) <= 64 && strings.Trim(s, alphanumeric) == ""
}

// isAddress reports whether s is HOST:PORT, where HOST is a host name, an IP address, or
// empty for all addresses. Port 0 means any free port.
func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil {
		return false
	}
	if strings.Contains(host, ":") {
		_, err := netip.ParseAddr(host)
		return err == nil
	}
	return strings.Trim(host, alphanumeric+"-._") == ""
}

// isHostName reports whether s is a host name without a port.
func isHostName(s string) bool {
	return 1 <= len(s) && len(s) <= 253 && strings.Trim(s, alphanumeric+"-._") == ""
}

// isOrigin reports whether s is a host of web pages: HOST or HOST:PORT, with http:// or https://
// before it or without.
func isOrigin(s string) bool {
	if rest, ok := strings.CutPrefix(s, "https://"); ok {
		s = rest
	} else {
		s = strings.TrimPrefix(s, "http://")
	}
	host, _, err := net.SplitHostPort(s)
	return isHostName(s) || err == nil && host != "" && isAddress(s)
}

// canMake returns why the directory at path could not be created, or nil if it exists or
// could be.
func canMake(path string) error {
	info, err := os.Stat(path)
	for errors.Is(err, fs.ErrNotExist) && filepath.Dir(path) != path {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	if err != nil {
		return cause(err)
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a directory", quote(path))
	}
	return unix.Access(path, unix.W_OK)
}

// canWrite returns why path could not be opened for appending. Its directory must exist, or
// be data, which is created at start.
func canWrite(path, data string) error {
	info, err := os.Stat(path)
	if err == nil {
		if info.IsDir() {
			return errors.New("a directory, not a file")
		}
		return unix.Access(path, unix.W_OK)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return cause(err)
	}
	folder := filepath.Dir(path)
	if data != "" && folder == filepath.Clean(data) {
		return nil
	}
	if _, err := os.Stat(folder); err != nil {
		return fmt.Errorf("its directory: %w", cause(err))
	}
	return unix.Access(folder, unix.W_OK)
}

// cause returns err without the path, which the caller adds.
func cause(err error) error {
	if path := new(fs.PathError); errors.As(err, &path) {
		return path.Err
	}
	return err
}
