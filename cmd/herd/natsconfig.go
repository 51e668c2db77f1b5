package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"herd/broker/natsconf"
	"herd/broker/topology"
	"herd/edge/config"
)

var natsConfigCommand = command{
	name:  "nats-config",
	brief: "write the configuration of NATS servers: one account per edge",
	more: `
Writes nats.conf, or NAME.conf for each node of a cluster, and a key per user:
EDGE.nk for each edge, operator.nk, sys.nk and client.nk. Give each user its key
file, which NATS_NKEY names. Files that hold a secret have mode 0600.

Run it again after a change: existing keys are kept, configurations are replaced.
A running nats-server takes the change with "nats-server --signal reload". If an
edge is new, reload twice: the first reload omits the services of a new account.
Reload every server before you start a new edge and restart its neighbours.
A change of an address, --store-dir or --sync needs a restart of the server.

Outside its account, an edge may only publish on its own links. The operator may read
everything and change nothing. The client may send any command to any edge for any
client. sys is the servers' own account, for "nats server". With TLS everybody needs a
certificate of the authority, servers also for each other: theirs must name every HOST.

Nodes on one machine need ports of their own: nats-server -c NAME.conf -p PORT -m PORT.
`,
	setup: func(fs *flag.FlagSet) action {
		c := &natsConfig{fs: fs}
		fs.StringVar(&c.out, "out", "", "`DIR` to write to, created if missing")
		fs.StringVar(&c.topology, "topology", "", "`LINKS` of the herd, A-B separated by commas (HERD_TOPOLOGY, or the default herd)")
		fs.StringVar(&c.prefix, "prefix", "", "`NAME` of the herd: the first token of its subjects (HERD_SUBJECT_PREFIX, or herd)")
		fs.StringVar(&c.cluster, "cluster", "", "`NODES` as NAME=HOST:PORT separated by commas; PORT is for routes (a single server)")
		fs.StringVar(&c.listen, "listen", "", "`HOST:PORT` for clients (127.0.0.1:4222, 0.0.0.0:4222 with --cluster)")
		fs.StringVar(&c.monitor, "monitor", "127.0.0.1:8222", "`HOST:PORT` for HTTP monitoring, which anybody may read; empty means off")
		fs.StringVar(&c.storeDir, "store-dir", "", "`DIR` of JetStream on the server (a directory in that of --out)")
		fs.StringVar(&c.sync, "sync", "2m", "how often JetStream syncs to disk: a `DURATION`, or always")
		fs.StringVar(&c.journalMax, "journal-max", "16GiB", "maximum `SIZE` of an edge's journal on disk, all replicas together")
		fs.StringVar(&c.journalMemory, "journal-memory", "0", "maximum `SIZE` of an edge's journal in memory, for HERD_JOURNAL_STORAGE=memory")
		fs.StringVar(&c.tls.CA, "tls-ca", "", "certificate `FILE` of the authority of servers and clients")
		fs.StringVar(&c.tls.Cert, "tls-cert", "", "certificate `FILE` of the servers")
		fs.StringVar(&c.tls.Key, "tls-key", "", "key `FILE` of the certificate")
		return func(_ context.Context, p *process, _ []string) error { return c.run(p) }
	},
}

// natsConfig has the command's flags, and what is read from them.
type natsConfig struct {
	fs                              *flag.FlagSet
	out, topology, prefix, cluster  string
	listen, monitor, storeDir, sync string
	journalMax, journalMemory       string
	tls                             natsconf.TLSFiles
}

// node is one server of a cluster.
type node struct{ name, host, routes string }

func (c *natsConfig) run(p *process) error {
	if c.out == "" {
		return usageError("--out: want a directory")
	}
	servers, err := c.read(p.environ)
	if err != nil {
		return configError{err}
	}
	dir, err := openKeyDir(c.out)
	if err != nil {
		return err
	}
	defer dir.close()

	ours := make(map[string]bool) // the files of this herd
	users := append(servers[0].Herd.Edges(), natsconf.OtherAccounts()...)
	keys, made, err := dir.keys(users)
	if err != nil {
		return err
	}
	if len(made) > 0 {
		p.say("made keys for %s", strings.Join(made, ", "))
	}
	for _, user := range users {
		ours[user+keySuffix] = true
	}
	password := ""
	if servers[0].Cluster != nil {
		if password, err = dir.password(); err != nil {
			return err
		}
	}
	for _, s := range servers {
		s.Keys = keys
		if s.Cluster != nil {
			s.Cluster.Password = password
		}
		name := s.Name + confSuffix
		if err := dir.replace(name, []byte(s.String())); err != nil {
			return err
		}
		ours[name] = true
		fmt.Fprintln(p.stdout, filepath.Join(c.out, name))
	}
	left, err := dir.others(ours)
	if err != nil {
		return err
	}
	for _, name := range left {
		p.say("%s is not part of this herd and was not changed", filepath.Join(c.out, name))
	}
	return nil
}

// read returns the configuration per server, without keys and passwords. The error names
// every wrong flag at once.
func (c *natsConfig) read(environ []string) ([]natsconf.Server, error) {
	fromEnvironment(c.fs, environ, map[string]string{"topology": "HERD_TOPOLOGY", "prefix": "HERD_SUBJECT_PREFIX"})
	problems := &flagErrors{}
	s := natsconf.Server{
		Prefix: cmp.Or(c.prefix, "herd"), Name: "nats", Listen: cmp.Or(c.listen, "127.0.0.1:4222"), Monitor: c.monitor,
		StoreDir: cmp.Or(c.storeDir, problems.abs("out", c.out)),
	}
	var err error
	if s.Herd, err = topology.Parse(cmp.Or(c.topology, topology.Default)); err == nil {
		err = natsconf.CheckEdges(s.Herd)
	}
	problems.add("topology", err)
	if len(s.Prefix) > 64 || strings.ContainsFunc(s.Prefix, notAlphanumeric) {
		problems.add("prefix", errors.New("want at most 64 letters and digits"))
	}
	var nodes []node
	if c.cluster != "" {
		nodes, err = readNodes(c.cluster)
		problems.add("cluster", err)
		s.Listen = cmp.Or(c.listen, "0.0.0.0:4222")
	}
	problems.add("listen", natsconf.CheckListen(s.Listen))
	if s.Monitor != "" {
		problems.add("monitor", natsconf.CheckListen(s.Monitor))
	}
	var sync config.Sync
	if err := sync.UnmarshalText([]byte(c.sync)); err != nil || !sync.Always && sync.Interval < time.Millisecond {
		problems.add("sync", fmt.Errorf("%q is neither always nor a duration of 1ms or more", c.sync))
	}
	s.SyncAlways, s.SyncInterval = sync.Always, sync.Interval
	s.JournalMax = problems.size("journal-max", c.journalMax)
	s.JournalMemory = problems.size("journal-memory", c.journalMemory)
	if c.tls != (natsconf.TLSFiles{}) {
		checkServerTLS(problems, c.tls, nodes)
		s.TLS = &natsconf.TLSFiles{
			CA: problems.abs("tls-ca", c.tls.CA), Cert: problems.abs("tls-cert", c.tls.Cert), Key: problems.abs("tls-key", c.tls.Key),
		}
	}
	if problems.all != nil {
		return nil, errors.Join(problems.all...)
	}
	if nodes == nil {
		return []natsconf.Server{s}, nil
	}
	var servers []natsconf.Server
	for _, n := range nodes {
		one := s
		one.Name, one.Cluster = n.name, n.cluster(s.Prefix, nodes)
		if c.storeDir == "" { // nodes may share a machine
			one.StoreDir = filepath.Join(s.StoreDir, n.name)
		}
		servers = append(servers, one)
	}
	return servers, nil
}

// flagErrors collects all mistakes in flags.
type flagErrors struct{ all []error }

// add records each line of err, if not nil, as a mistake in a flag.
func (f *flagErrors) add(flag string, err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		f.all = append(f.all, fmt.Errorf("--%s: %s", flag, line))
	}
}

// abs makes a path absolute, so that it does not depend on where the server is started.
func (f *flagErrors) abs(flag, path string) string {
	full, err := filepath.Abs(path)
	f.add(flag, err)
	return full
}

func (f *flagErrors) size(flag, text string) int64 {
	var size config.Size
	if err := size.UnmarshalText([]byte(text)); err != nil || size > mostStorage {
		f.add(flag, fmt.Errorf("%q is not a size: want bytes, or a number and KiB, MiB or GiB", text))
	}
	return int64(size)
}

// mostStorage is the limit on the storage of an edge: all edges together still give a number
// of bytes that a server can read.
const mostStorage = 1 << 50

// fromEnvironment sets flags that were not given from their variables.
func fromEnvironment(fs *flag.FlagSet, environ []string, variableOf map[string]string) {
	got := given(fs)
	for _, pair := range environ {
		for name, variable := range variableOf {
			if value, ok := strings.CutPrefix(pair, variable+"="); ok && !got[name] {
				_ = fs.Lookup(name).Value.Set(value) // any value is valid for a string flag
			}
		}
	}
}

// readNodes parses NAME=HOST:PORT, separated by commas.
func readNodes(text string) (nodes []node, err error) {
	var problems []error
	seen := make(map[string]bool)
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		name, routes, ok := strings.Cut(item, "=")
		host, port, err := net.SplitHostPort(routes)
		number, portErr := strconv.ParseUint(port, 10, 16)
		switch {
		case !ok || err != nil || host == "" || portErr != nil || number == 0:
			problems = append(problems, fmt.Errorf("%q is not NAME=HOST:PORT", item))
		case name == "" || len(name) > 32 || strings.ContainsFunc(name, func(r rune) bool { return notAlphanumeric(r) && r != '-' && r != '_' }):
			problems = append(problems, fmt.Errorf("%q: a name is 1 to 32 letters, digits, - and _", item))
		case strings.ContainsFunc(host, func(r rune) bool { return strings.ContainsRune(" /@?#\"\\", r) || r < ' ' }):
			problems = append(problems, fmt.Errorf("%q: no host", item))
		case seen[strings.ToLower(name)] || seen[routes]: // names become file names
			problems = append(problems, fmt.Errorf("%q: another node has that name or address", item))
		}
		seen[strings.ToLower(name)], seen[routes] = true, true
		nodes = append(nodes, node{name: name, host: host, routes: routes})
	}
	if len(nodes) == 1 && problems == nil {
		problems = append(problems, errors.New("one node is not a cluster; omit --cluster"))
	}
	return nodes, errors.Join(problems...)
}

// cluster returns the node's configuration of the cluster.
func (n node) cluster(name string, all []node) *natsconf.Cluster {
	_, port, _ := net.SplitHostPort(n.routes) // checked before
	c := &natsconf.Cluster{Name: name, Listen: net.JoinHostPort("0.0.0.0", port)}
	if n.host == "localhost" || net.ParseIP(n.host).IsLoopback() {
		c.Listen = n.routes
	}
	for _, other := range all {
		c.Routes = append(c.Routes, other.routes)
	}
	return c
}
