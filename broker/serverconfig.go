package broker

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"herd/broker/topology"
)

// ServerConfig is that of one NATS server of a herd, as its own configuration
// file says it: an account an edge, and what a server needs besides.
type ServerConfig struct {
	Herd   *topology.Graph
	Prefix string            // HERD_SUBJECT_PREFIX
	Keys   map[string]string // public keys of users, by edge and by each of OtherAccounts

	Name     string // of the server
	Listen   string // "host:port" for clients
	Monitor  string // "host:port" for HTTP monitoring; "" is off
	StoreDir string // of JetStream
	// SyncInterval is that of JetStream, unless SyncAlways: then each write.
	SyncInterval time.Duration
	SyncAlways   bool
	// JournalMax is how many bytes of storage each edge's account may fill, every
	// replica counted. JournalMemory is the same of memory.
	JournalMax    int64
	JournalMemory int64

	Cluster *ClusterConfig // nil for a server alone
	TLS     *TLSFiles      // nil for none
}

// ClusterConfig is what a server knows of the others.
type ClusterConfig struct {
	Name     string
	Listen   string   // "host:port" for routes
	Routes   []string // "host:port" of every server, this one too
	Password string   // that all of them have; letters and digits
}

// TLSFiles are those of a server's certificate. Clients, and the other servers
// of a cluster, must have certificates of the same authority.
type TLSFiles struct{ CA, Cert, Key string }

// The user of routes, and how many streams, consumers, connections and
// subscriptions an edge's account may have. An edge needs one stream, a
// consumer while it loads, and one connection; the rest is for restores, for
// runs that meet, and for people who look on with its key.
const (
	routeUser        = "route"
	maxStreams       = 4
	maxConsumers     = 64
	maxConnections   = 64
	maxSubscriptions = 10000

	unlimited = 1 << 60 // bytes; by default a server takes its disk's and refuses accounts beyond
)

// String is the file. It holds public keys of users, and with a cluster the
// routes' password.
func (s ServerConfig) String() string {
	p := &printer{}
	p.line("# A NATS server of the herd %s, as `herd nats-config` wrote it. Run that again to", quote(s.Prefix))
	p.line("# change it: what is written here by hand is lost then.")
	p.line("# Links: %s", s.Herd)
	p.line("")
	p.line("server_name: %s", quote(s.Name))
	p.line("listen: %s", listen(s.Listen))
	if s.Monitor != "" {
		p.line("http: %s", listen(s.Monitor))
	}
	p.line("")
	p.open("jetstream {")
	p.line("store_dir: %s", quote(s.StoreDir))
	sync := s.SyncInterval.String()
	if s.SyncAlways {
		sync = "always"
	}
	p.line("sync_interval: %s", quote(sync))
	p.line("# The limits are those of each account. These must not shrink: no reload would be taken.")
	p.line("max_file_store: %d", unlimited)
	p.line("max_memory_store: %d", unlimited)
	p.close("}")
	if t := s.TLS; t != nil {
		p.line("")
		p.tls(t)
	}
	if c := s.Cluster; c != nil {
		p.line("")
		p.open("cluster {")
		p.line("name: %s", quote(c.Name))
		p.line("listen: %s", listen(c.Listen))
		p.line("authorization { user: %s, password: %s }", quote(routeUser), quote(c.Password))
		p.open("routes: [")
		for _, r := range c.Routes {
			p.line("%s", quote("nats://"+routeUser+":"+c.Password+"@"+r))
		}
		p.close("]")
		if s.TLS != nil {
			p.tls(s.TLS)
		}
		p.close("}")
	}
	p.line("")
	p.open("accounts {")
	for _, a := range accounts(s.Herd, s.Prefix, s.Keys) {
		p.account(s, a)
	}
	p.close("}")
	return p.text.String()
}

// printer writes indented lines.
type printer struct {
	text  strings.Builder
	depth int
}

func (p *printer) line(format string, args ...any) {
	if format != "" {
		p.text.WriteString(strings.Repeat("  ", p.depth))
		fmt.Fprintf(&p.text, format, args...)
	}
	p.text.WriteByte('\n')
}

func (p *printer) open(format string, args ...any) {
	p.line(format, args...)
	p.depth++
}

func (p *printer) close(end string) {
	p.depth--
	p.line("%s", end)
}

func (p *printer) tls(t *TLSFiles) {
	p.open("tls {")
	p.line("ca_file: %s", quote(t.CA))
	p.line("cert_file: %s", quote(t.Cert))
	p.line("key_file: %s", quote(t.Key))
	p.line("verify: true")
	p.close("}")
}

func (p *printer) account(s ServerConfig, a account) {
	p.open("%s {", quote(a.name))
	if len(a.publish) == 0 {
		p.line("users: [ { nkey: %s } ]", a.user)
	} else {
		p.open("users: [ { nkey: %s, permissions: { publish: [", a.user)
		for _, subject := range a.publish {
			p.line("%s", quote(subject))
		}
		p.close("] } } ]")
	}
	if a.journal {
		p.line("jetstream { max_file: %d, max_mem: %d, max_streams: %d, max_consumers: %d }",
			s.JournalMax, s.JournalMemory, maxStreams, maxConsumers)
		p.line("limits { max_connections: %d, max_subscriptions: %d }", maxConnections, maxSubscriptions)
	}
	if len(a.exports) > 0 {
		p.open("exports: [")
		for _, e := range a.exports {
			p.line("{ %s, accounts: [%s] }", e.head(), quoteAll(e.to))
		}
		p.close("]")
	}
	if len(a.imports) > 0 {
		p.open("imports: [")
		for _, i := range a.imports {
			kind, to := "stream", ""
			if i.service {
				kind = "service"
			}
			if i.as != "" {
				to = ", to: " + quote(i.as)
			}
			p.line("{ %s: { account: %s, subject: %s }%s }", kind, quote(i.from), quote(i.subject), to)
		}
		p.close("]")
	}
	p.close("}")
}

func (e export) head() string {
	switch e.answers {
	case oneAnswer:
		return "service: " + quote(e.subject)
	case anyAnswers:
		return "service: " + quote(e.subject) + ", response_type: stream"
	default:
		return "stream: " + quote(e.subject)
	}
}

func quoteAll(texts []string) string {
	quoted := make([]string, len(texts))
	for i, text := range texts {
		quoted[i] = quote(text)
	}
	return strings.Join(quoted, ", ")
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\r", `\r`, "\t", `\t`)

// quote writes text as a string of a server's configuration file.
func quote(text string) string { return `"` + escapes.Replace(text) + `"` }

// CheckListen reports why text is no "host:port" that a server could listen on;
// port 0 is any.
func CheckListen(text string) error {
	_, _, err := splitListen(text)
	return err
}

// listen writes what CheckListen approved of.
func listen(text string) string {
	host, port, err := splitListen(text)
	if err != nil {
		return quote(text)
	}
	return quote(net.JoinHostPort(host, strconv.Itoa(port)))
}
