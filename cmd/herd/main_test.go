package main

import (
	"flag"
	"os"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares output for people with a file.
func golden(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("not as %s (go test -update writes it):\n%s", file, got)
	}
}

func TestUsage(t *testing.T) {
	o := newTool(t)
	o.want(exitOK, "help")
	for _, c := range commands() {
		o.stdout.Write([]byte("\n----\n"))
		o.want(exitOK, "help", c.name)
	}
	golden(t, "testdata/usage.golden", []byte(o.stdout.String()))
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for _, args := range []string{"-h", "--help", "help", "iamat -h", "iamat --help", "help iamat", "-h iamat", "up x y --help", "whatsat a b -h"} {
		o := newTool(t)
		o.want(exitOK, strings.Fields(args)...)
		if !strings.HasPrefix(o.stdout.String(), "Usage: herd ") || o.stderr.String() != "" {
			t.Errorf("herd %s: %q on stdout, %q on stderr", args, o.stdout.String(), o.stderr.String())
		}
	}
}

func TestWrongUsage(t *testing.T) {
	for args, says := range map[string]string{
		"":                             "a command is required",
		"--":                           "a command is required",
		"hello":                        `unknown command "hello"`,
		"help hello":                   `unknown command "hello"`,
		"-x":                           "-x",
		"--x iamat a +1+1":             "-x",
		"iamat":                        "want CLIENT LOCATION [TIME]",
		"iamat a +1+1 1 1":             "too many arguments",
		"iamat a +1+1 --json":          "-json",
		"iamat a +1+1 --addr":          "-addr",
		"iamat a +1+1 --addr nowhere":  "--addr",
		"iamat a +1+1 --timeout soon":  "soon",
		"whatsat a 1":                  "want CLIENT RADIUS MAX",
		"whosat a 1":                   "want CLIENT RADIUS MAX",
		"follow":                       "want WHAT",
		"follow a b c":                 "too many arguments",
		"follow +1+1 1001":             "L2",
		"follow +91+1 5":               "C7",
		"follow a --addr nowhere":      "--addr",
		"follow a --addr a:1,":         "--addr",
		"follow a --tls-cert file":     "--tls-cert needs --tls-key",
		"version 1":                    "too many arguments",
		"health --http x --nats x":     "not both",
		"watch --edge A-B":             "--edge",
		"watch --prefix a.b":           "--prefix",
		"status --prefix=":             "--prefix",
		"verify --wait 0s":             "--wait",
		"verify x":                     "too many arguments",
		"verify --prefix a.b":          "--prefix",
		"explain":                      "want CLIENT",
		"explain --prefix= a":          "--prefix",
		"up --base-port -1":            "-1",
		"up --base-port 65533":         "65537",
		"up --base-port 70000":         "--base-port",
		"up here":                      "too many arguments",
		"iamat a +1+1 --tls-cert file": "--tls-cert needs --tls-key",
		"whatsat a 1 1 --tls-key file": "--tls-key needs --tls-cert",
		"bench x":                      "too many arguments",
		"bench --addr nowhere":         "--addr",
		"bench --observe a:1,":         "--observe",
		"bench --connections 0":        "--connections",
		"bench --duration 0s":          "--duration",
		"bench --rate -1":              "rate",
		"bench --whatsat 2":            "share",
		"bench --tls-cert file":        "--tls-cert needs --tls-key",
		"bench --radius 51":            "C12",
	} {
		o := newTool(t)
		o.want(exitUsage, strings.Fields(args)...)
		if got := o.stderr.String(); !strings.Contains(got, says) || strings.Count(got, "\n") != 1 || !strings.Contains(got, `"herd help`) {
			t.Errorf("herd %s says %q, want %q and where help is, in a line", args, got, says)
		}
		if o.stdout.String() != "" {
			t.Errorf("herd %s: %q on stdout", args, o.stdout.String())
		}
	}
}

func TestVersion(t *testing.T) {
	for _, arg := range []string{"version", "--version", "-version"} {
		o := newTool(t)
		o.want(exitOK, arg)
		if words := strings.Fields(o.stdout.String()); len(words) != 3 || words[0] != "herd" {
			t.Errorf("%q, want herd, version and commit", o.stdout.String())
		}
	}
}
