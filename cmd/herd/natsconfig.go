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

	"herd/broker"
	"herd/broker/topology"
	"herd/edge"
)

var natsConfigCommand = command{
	name:  "nats-config",
	brief: "write the configuration of NATS servers: an account an edge",
	more: `
Writes nats.conf, or NAME.conf for each node of a cluster, and a key for each user:
EDGE.nk for each edge, operator.nk, sys.nk and client.nk. Give each to who may be
that user, as the file that NATS_NKEY names. Whatever holds a secret has mode 0600.
Run it again after a change: keys that exist are kept, files are replaced whole, and
a running nats-server takes the change with "nats-server --signal reload": two of
them where an edge is new, since the first leaves out the services of a new account.
Reload every server before you start a new edge and restart its neighbours.
Another address, --store-dir or --sync wants a restart of the server.

An edge can say nothing outside its account but on its own links; operator may look at
everything and change nothing; client may tell and ask every edge as any client. sys is
the servers' own account, for "nats server". With TLS everybody needs a certificate
of the authority, servers for each other too: theirs must name every HOST.

Nodes on one machine need ports of their own: nats-server -c NAME.conf -p PORT -m PORT.
`,
	setup: func(fs *flag.FlagSet) action {
		c := &natsConfig{fs: fs}
		fs.StringVar(&c.out, "out", "", "`DIR` to write to, made if need be")
		fs.StringVar(&c.topology, "topology", "", "`LINKS` of the herd, A-B with commas (HERD_TOPOLOGY, or the default herd)")
		fs.StringVar(&c.prefix, "prefix", "", "`NAME` of the herd: the first token of its subjects (HERD_SUBJECT_PREFIX, or herd)")
		fs.StringVar(&c.cluster, "cluster", "", "`NODES` as NAME=HOST:PORT with commas; PORT is for routes (one server alone)")
		fs.StringVar(&c.listen, "listen", "", "`HOST:PORT` for clients (127.0.0.1:4222, 0.0.0.0:4222 with --cluster)")
		fs.StringVar(&c.monitor, "monitor", "127.0.0.1:8222", "`HOST:PORT` for HTTP monitoring, which anybody may read; empty is off")
		fs.StringVar(&c.storeDir, "store-dir", "", "`DIR` of JetStream on the server (a folder in that of --out)")
		fs.StringVar(&c.sync, "sync", "2m", "how often JetStream syncs to disk: a `DURATION` or always")
		fs.StringVar(&c.journalMax, "journal-max", "16GiB", "most storage of an edge's journal, replicas counted, a `SIZE`")
		fs.StringVar(&c.journalMemory, "journal-memory", "0", "the same of memory, for HERD_JOURNAL_STORAGE=memory, a `SIZE`")
		fs.StringVar(&c.tls.CA, "tls-ca", "", "`FILE` of the authority whose certificates servers and clients have")
		fs.StringVar(&c.tls.Cert, "tls-cert", "", "`FILE` of the servers' certificate")
		fs.StringVar(&c.tls.Key, "tls-key", "", "`FILE` of its key")
		return func(_ context.Context, p *process, _ []string) error { return c.run(p) }
	},
}

// natsConfig is the command's flags, and how they are read.
type natsConfig struct {
	fs                              *flag.FlagSet
	out, topology, prefix, cluster  string
	listen, monitor, storeDir, sync string
	journalMax, journalMemory       string
	tls                             broker.TLSFiles
}

// node is one server of a cluster.
type node struct{ name, host, routes string }

func (c *natsConfig) run(p *process) error {
	if c.out == "" {
		return usageError("--out: want a folder")
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

	ours := make(map[string]bool) // files
	users := append(servers[0].Herd.Edges(), broker.OtherAccounts()...)
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
		p.say("%s is no part of this herd; it was left alone", filepath.Join(c.out, name))
	}
	return nil
}

// read returns the configuration of each server, without keys and password. The error
// names every wrong flag at once.
func (c *natsConfig) read(environ []string) ([]broker.ServerConfig, error) {
	fromEnvironment(c.fs, environ, map[string]string{"topology": "HERD_TOPOLOGY", "prefix": "HERD_SUBJECT_PREFIX"})
	problems := &flagErrors{}
	s := broker.ServerConfig{
		Prefix: cmp.Or(c.prefix, "herd"), Name: "nats", Listen: cmp.Or(c.listen, "127.0.0.1:4222"), Monitor: c.monitor,
		StoreDir: cmp.Or(c.storeDir, problems.abs("out", c.out)),
	}
	var err error
	if s.Herd, err = topology.Parse(cmp.Or(c.topology, topology.Default)); err == nil {
		err = broker.CheckEdges(s.Herd)
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
	problems.add("listen", broker.CheckListen(s.Listen))
	if s.Monitor != "" {
		problems.add("monitor", broker.CheckListen(s.Monitor))
	}
	var sync edge.Sync
	if err := sync.UnmarshalText([]byte(c.sync)); err != nil || !sync.Always && sync.Interval < time.Millisecond {
		problems.add("sync", fmt.Errorf("%q is neither always nor a duration of 1ms or more", c.sync))
	}
	s.SyncAlways, s.SyncInterval = sync.Always, sync.Interval
	s.JournalMax = problems.size("journal-max", c.journalMax)
	s.JournalMemory = problems.size("journal-memory", c.journalMemory)
	if c.tls != (broker.TLSFiles{}) {
		checkServerTLS(problems, c.tls, nodes)
		s.TLS = &broker.TLSFiles{
			CA: problems.abs("tls-ca", c.tls.CA), Cert: problems.abs("tls-cert", c.tls.Cert), Key: problems.abs("tls-key", c.tls.Key),
		}
	}
	if problems.all != nil {
		return nil, errors.Join(problems.all...)
	}
	if nodes == nil {
		return []broker.ServerConfig{s}, nil
	}
	var servers []broker.ServerConfig
	for _, n := range nodes {
		one := s
		one.Name, one.Cluster = n.name, n.cluster(s.Prefix, nodes)
		if c.storeDir == "" { // nodes may share the machine
			one.StoreDir = filepath.Join(s.StoreDir, n.name)
		}
		servers = append(servers, one)
	}
	return servers, nil
}

// flagErrors are all mistakes in flags.
type flagErrors struct{ all []error }

// add notes each line of err, if it is any, as a mistake in a flag.
func (f *flagErrors) add(flag string, err error) {
	if err == nil {
		return
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		f.all = append(f.all, fmt.Errorf("--%s: %s", flag, line))
	}
}

// abs makes a path one that does not depend on where the server is started.
func (f *flagErrors) abs(flag, path string) string {
	full, err := filepath.Abs(path)
	f.add(flag, err)
	return full
}

func (f *flagErrors) size(flag, text string) int64 {
	var size edge.Size
	if err := size.UnmarshalText([]byte(text)); err != nil || size > mostStorage {
		f.add(flag, fmt.Errorf("%q is no size: want bytes, or a number and KiB, MiB or GiB", text))
	}
	return int64(size)
}

// mostStorage of all edges together still is a number of bytes that a server can read.
const mostStorage = 1 << 50

// fromEnvironment gives flags that were not given the values of their variables.
func fromEnvironment(fs *flag.FlagSet, environ []string, variableOf map[string]string) {
	got := given(fs)
	for _, pair := range environ {
		for name, variable := range variableOf {
			if value, ok := strings.CutPrefix(pair, variable+"="); ok && !got[name] {
				_ = fs.Lookup(name).Value.Set(value) // a string takes any
			}
		}
	}
}

// readNodes reads NAME=HOST:PORT, parted by commas.
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
		case seen[strings.ToLower(name)] || seen[routes]: // names are file names
			problems = append(problems, fmt.Errorf("%q: another node has that name or address", item))
		}
		seen[strings.ToLower(name)], seen[routes] = true, true
		nodes = append(nodes, node{name: name, host: host, routes: routes})
	}
	if len(nodes) == 1 && problems == nil {
		problems = append(problems, errors.New("one node is no cluster; leave it out"))
	}
	return nodes, errors.Join(problems...)
}

// cluster is what a node is told of all nodes.
func (n node) cluster(name string, all []node) *broker.ClusterConfig {
	_, port, _ := net.SplitHostPort(n.routes) // was checked
	c := &broker.ClusterConfig{Name: name, Listen: net.JoinHostPort("0.0.0.0", port)}
	if n.host == "localhost" || net.ParseIP(n.host).IsLoopback() {
		c.Listen = n.routes
	}
	for _, other := range all {
		c.Routes = append(c.Routes, other.routes)
	}
	return c
}
