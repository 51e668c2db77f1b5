// Package natsconf writes the configuration of a herd's NATS servers: one account per edge,
// with exports and imports along the links, which isolates the edges (H1).
//
// It is pure: it knows the subjects of the herd's protocol and the syntax of the server's
// configuration file, and imports neither the server nor a client.
package natsconf

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"herd/broker/topology"
)

// Server is the configuration of one NATS server of a herd: one account per edge, and
// everything else that the server needs.
type Server struct {
	Herd   *topology.Graph
	Prefix string            // HERD_SUBJECT_PREFIX
	Keys   map[string]string // public keys of users, by edge and by each of OtherAccounts

	Name     string // name of the server
	Listen   string // "host:port" for clients
	Monitor  string // "host:port" for HTTP monitoring; "" means off
	StoreDir string // directory of JetStream
	// SyncInterval is how often JetStream syncs. With SyncAlways it syncs each write.
	SyncInterval time.Duration
	SyncAlways   bool
	// JournalMax is how many bytes of storage each edge's account may use, counting every
	// replica. JournalMemory is the same for memory.
	JournalMax    int64
	JournalMemory int64

	Cluster *Cluster  // nil for a single server
	TLS     *TLSFiles // nil for no TLS
}

// Cluster is what a server must know of the other servers.
type Cluster struct {
	Name     string
	Listen   string   // "host:port" for routes
	Routes   []string // "host:port" of every server, including this one
	Password string   // shared by all servers; letters and digits
}

// TLSFiles names the files of a server's TLS. Clients, and the other servers of a cluster,
// need certificates of the same authority.
type TLSFiles struct{ CA, Cert, Key string }

// The user of routes, and how many streams, consumers, connections and subscriptions an
// edge's account may have. An edge needs one stream, a consumer while it loads, and one
// connection. The rest is for restores, for two runs at the same time, and for people who use
// its key.
const (
	routeUser        = "route"
	maxStreams       = 4
	maxConsumers     = 64
	maxConnections   = 64
	maxSubscriptions = 10000

	unlimited = 1 << 60 // bytes; the default is the disk's size, and a server refuses accounts beyond it
)

// String returns the configuration file. It holds public keys of users and, for a cluster,
// the password of the routes.
func (s Server) String() string {
	p := &printer{}
	p.line("# A NATS server of the herd %s, written by `herd nats-config`. To change it, run", quote(s.Prefix))
	p.line("# that again: edits to this file would be lost.")
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
	p.line("# Each account has limits of its own. Never lower these: the server would refuse a reload.")
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

func (p *printer) account(s Server, a account) {
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

// quote quotes text as a string of a server's configuration file. The file's parser knows
// \xXX, \t, \r, \n, \" and \\ and no other escape, and takes a zero byte for the end of the
// file.
func quote(text string) string {
	const hex = "0123456789abcdef"
	b := append(make([]byte, 0, len(text)+2), '"')
	for i := range len(text) {
		switch c := text[i]; {
		case c == '\\' || c == '"':
			b = append(b, '\\', c)
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c < ' ' || c == 0x7f:
			b = append(b, '\\', 'x', hex[c>>4], hex[c&15])
		default:
			b = append(b, c)
		}
	}
	return string(append(b, '"'))
}

// CheckListen reports why text is not a "host:port" on which a server could listen. Port 0
// means any.
func CheckListen(text string) error {
	_, _, err := splitListen(text)
	return err
}

// listen formats an address that CheckListen accepted.
func listen(text string) string {
	host, port, err := splitListen(text)
	if err != nil {
		return quote(text)
	}
	return quote(net.JoinHostPort(host, strconv.Itoa(port)))
}

// splitListen parses "host:port". The server calls port 0, for any, -1.
func splitListen(text string) (host string, port int, err error) {
	host, p, err := net.SplitHostPort(text)
	if err != nil {
		return "", 0, err
	}
	port, err = strconv.Atoi(p)
	if err != nil || port < -1 || port > 65535 {
		return "", 0, fmt.Errorf("port %q is not between 0 and 65535", p)
	}
	if port == 0 {
		port = -1
	}
	return host, port, nil
}
