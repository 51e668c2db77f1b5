package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/certs/certstest"
	"herd/test/ports"
)

// natsConfigured runs nats-config for a directory and returns what it printed, one file per
// line.
func natsConfigured(t *testing.T, dir string, args ...string) []string {
	t.Helper()
	o := newTool(t)
	o.want(exitOK, append([]string{"nats-config", "--out", dir}, args...)...)
	return strings.Split(strings.TrimSuffix(o.stdout.String(), "\n"), "\n")
}

// plain replaces what differs between runs.
func plain(t *testing.T, dir, file string) []byte {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text = []byte(strings.ReplaceAll(string(text), dir, "/keys"))
	text = regexp.MustCompile(`\bU[A-Z2-7]{55}\b`).ReplaceAll(text, []byte("PUBLIC_KEY"))
	return regexp.MustCompile(`(password: "|route:)[A-Z2-7]{52}`).ReplaceAll(text, []byte("${1}PASSWORD"))
}

func TestNATSConfigAsItIsWritten(t *testing.T) {
	dir := t.TempDir()
	files := natsConfigured(t, dir, "--topology", "A-B,B-C")
	golden(t, "testdata/nats.golden", plain(t, dir, files[0]))

	dir = t.TempDir()
	files = natsConfigured(t, dir, "--topology", "Lone", "--prefix", "other", "--sync", "always", "--monitor", "", "--journal-max", "1GiB",
		"--store-dir", `/da"ta\`, "--cluster", "n1=n1.example:6222,n2=127.0.0.1:6223")
	if len(files) != 2 {
		t.Fatalf("wrote %q", files)
	}
	golden(t, "testdata/nats-cluster.golden", slices.Concat(plain(t, dir, files[0]), []byte("\n----\n"), plain(t, dir, files[1])))
}

// The server itself accepts each configuration, and every key can log in.
func TestAServerTakesWhatNATSConfigWrites(t *testing.T) {
	authority, files := certstest.New(t, "authority"), t.TempDir()
	ca := filepath.Join(files, "ca.pem")
	certstest.Write(t, ca, authority.PEM)
	cert, key := authority.Server().Files(files, "server")
	clientCert, clientKey := authority.Client("client").Files(files, "client")
	withTLS := []string{"--tls-ca", ca, "--tls-cert", cert, "--tls-key", key}
	for _, test := range []struct {
		name  string
		nodes int
		args  []string
	}{
		{"one server", 1, nil},
		{"a lone edge", 1, []string{"--topology", "Lone"}},
		{"names that are words of the format", 1, []string{"--topology", "true-include,include-1e5,1e5-_9z,_9z-10k"}},
		{"memory, always synced", 1, []string{"--sync", "always", "--journal-memory", "64MiB"}},
		{"TLS", 1, withTLS},
		{"a cluster", 3, nil},
		{"a cluster with TLS", 3, withTLS},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), `with "quotes" \ and spaces`)
			args := append([]string{"--listen", "127.0.0.1:0", "--monitor", "127.0.0.1:0"}, test.args...)
			if test.nodes > 1 {
				var nodes []string
				for i := range test.nodes {
					nodes = append(nodes, fmt.Sprintf("n%d=%s", i, ports.Addr(t)))
				}
				args = append(args, "--cluster", strings.Join(nodes, ","))
			}
			servers := brokertest.StartConfigured(t, natsConfigured(t, dir, args...)...)
			keys, err := filepath.Glob(filepath.Join(escapeGlob(dir), "*.nk"))
			if err != nil || len(keys) < 4 {
				t.Fatalf("keys are %q, %v", keys, err)
			}
			for i, key := range keys {
				env := []string{"NATS_NKEY=" + key}
				if slices.Contains(test.args, "--tls-ca") {
					env = append(env, "NATS_CA="+ca, "NATS_CERT="+clientCert, "NATS_KEY="+clientKey)
				}
				newTool(t, env...).want(exitOK, "health", "--nats", servers[i%len(servers)].URL())
			}
			without := newTool(t) // no key
			says := regexp.MustCompile("uthorization")
			if slices.Contains(test.args, "--tls-ca") { // no certificate
				without = newTool(t, "NATS_CA="+ca, "NATS_NKEY="+keys[0])
				says = regexp.MustCompile("certificate required|tls error") // depends on which side notices first
			}
			without.want(exitFailed, "health", "--nats", servers[0].URL(), "--timeout", "500ms")
			if got := without.stderr.String(); !says.MatchString(got) {
				t.Errorf("says %s", got)
			}
		})
	}
}

func escapeGlob(path string) string { return strings.ReplaceAll(path, `\`, `\\`) }

func TestSecretsAreTheirOwnersAndAreKept(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	cluster := []string{"--cluster", "n1=127.0.0.1:6221,n2=127.0.0.1:6222"}
	natsConfigured(t, dir, append(cluster, "--topology", "A-B,B-C")...)
	before := contents(t, dir)
	want := "A.nk B.nk C.nk client.nk n1.conf n2.conf operator.nk routes.password sys.nk"
	if got := names(before); got != want {
		t.Errorf("wrote %s, want %s", got, want)
	}
	for name := range before {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder: %v, %v", info.Mode(), err)
	}

	// C leaves, D joins.
	o := newTool(t)
	o.want(exitOK, append([]string{"nats-config", "--out", dir, "--topology", "A-B,B-D"}, cluster...)...)
	after := contents(t, dir)
	for name, text := range before {
		if same := after[name] == text; same != !strings.HasSuffix(name, ".conf") {
			t.Errorf("%s is the same: %v", name, same)
		}
	}
	if after["D.nk"] == "" || !strings.Contains(o.stderr.String(), "made keys for D\n") {
		t.Errorf("no key for D; says %s", o.stderr.String())
	}
	if !strings.Contains(o.stderr.String(), "C.nk is not part of this herd") {
		t.Errorf("says nothing of C's key: %s", o.stderr.String())
	}
	if key, err := broker.PublicKey(filepath.Join(dir, "C.nk")); err != nil || strings.Contains(after["n1.conf"], key) {
		t.Errorf("C's key still opens the broker (%v)", err)
	}
	// From a cluster to a single server.
	o = newTool(t, "HERD_TOPOLOGY=A-B,B-D")
	o.want(exitOK, "nats-config", "--out", dir)
	for _, file := range []string{"n1.conf", "n2.conf", "C.nk"} {
		if !strings.Contains(o.stderr.String(), file) {
			t.Errorf("says nothing of %s: %s", file, o.stderr.String())
		}
	}
	if strings.Contains(contents(t, dir)["nats.conf"], "herd_C.") {
		t.Error("HERD_TOPOLOGY is not read")
	}
}

func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string]string)
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(text)
	}
	return all
}

func names(files map[string]string) string {
	var list []string
	for name := range files {
		list = append(list, name)
	}
	slices.Sort(list)
	return strings.Join(list, " ")
}

func TestADamagedKeyIsAnErrorAndIsLeftAlone(t *testing.T) {
	for name, damage := range map[string]string{"A.nk": "", "operator.nk": "SUAM\n", "B.nk": "the key of A", "routes.password": "short\n"} {
		dir := t.TempDir()
		args := []string{"nats-config", "--out", dir, "--topology", "A-B", "--cluster", "n1=127.0.0.1:6221,n2=127.0.0.1:6222"}
		newTool(t).want(exitOK, args...)
		file := filepath.Join(dir, name)
		if name == "B.nk" {
			damage = contents(t, dir)["A.nk"]
		}
		if err := os.WriteFile(file, []byte(damage), 0o600); err != nil {
			t.Fatal(err)
		}
		before := contents(t, dir)
		o := newTool(t)
		o.want(exitFailed, args...)
		if says := o.stderr.String(); !strings.Contains(says, name) || damage != "" && strings.Contains(says, strings.TrimSpace(damage)) {
			t.Errorf("%s: says %s", name, says)
		}
		if after := contents(t, dir); names(after) != names(before) || after[name] != damage {
			t.Errorf("%s was changed: %s", name, names(after))
		}
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	newTool(t).want(exitFailed, "nats-config", "--out", file)
}

func TestEveryMistakeInNATSConfigIsNamedAndNothingIsWritten(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "keys")
	files := t.TempDir()
	ca, strange := filepath.Join(files, "ca.pem"), filepath.Join(files, "strange.pem")
	certstest.Write(t, ca, certstest.New(t, "authority").PEM)
	stranger := certstest.New(t, "stranger")
	certstest.Write(t, strange, stranger.PEM)
	cert, key := stranger.Server().Files(files, "server")
	for _, test := range []struct {
		args string
		want []string // the beginning of each line
	}{
		{"--topology A-A,operator-B,sys-B,x --prefix a.b --cluster n1,n2=h:0,n=h:1,N=i:1 --listen 4222 --monitor x:y --sync 0 --journal-max 1TB --journal-memory -1 --tls-cert x",
			[]string{"--topology: link", "--topology: \"x\"", "--prefix", "--cluster: \"n1\"", "--cluster: \"n2=h:0\"", "--cluster: \"N=i:1\"", "--listen", "--monitor",
				"--sync", "--journal-max", "--journal-memory", "--tls-ca", "--tls-key"}},
		{"--topology operator-client", []string{"--topology: no edge may be called operator, client"}},
		{"--cluster n1=127.0.0.1:6222", []string{"--cluster: one node is not a cluster"}},
		{"--cluster a/b=h:1,n2=h:2", []string{"--cluster: \"a/b=h:1\""}},
		{"--tls-ca nowhere --tls-cert nowhere --tls-key nowhere", []string{"--tls-ca, --tls-cert, --tls-key: nowhere", "--tls-ca, --tls-cert, --tls-key: nowhere", "--tls-ca, --tls-cert, --tls-key: nowhere"}},
		{"--tls-ca " + ca + " --tls-cert " + cert + " --tls-key " + key, []string{"--tls-cert: is not valid for a server"}},
		{"--cluster n1=127.0.0.1:1,n2=other.example:2 --tls-ca " + strange + " --tls-cert " + cert + " --tls-key " + key, []string{"--tls-cert: x509: certificate is valid for localhost, not other.example"}},
	} {
		o := newTool(t)
		o.want(exitUsage, append([]string{"nats-config", "--out", dir}, strings.Fields(test.args)...)...)
		lines := strings.Split(strings.TrimSpace(o.stderr.String()), "\n")[1:]
		if len(lines) != len(test.want) {
			t.Errorf("%s: says\n%s", test.args, o.stderr.String())
			continue
		}
		for i, line := range lines {
			if !strings.HasPrefix(strings.TrimSpace(line), test.want[i]) {
				t.Errorf("%s: says %q, want %q", test.args, line, test.want[i])
			}
		}
	}
	newTool(t).want(exitUsage, "nats-config")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}
