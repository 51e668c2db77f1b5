package main

import (
	"crypto/tls"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"herd/broker/certs/certstest"
)

const kiwi = "kiwi.cs.ucla.edu"

func TestIamatSendsOneCommandAndPrintsItsAnswer(t *testing.T) {
	const answer = "AT Clark +0.5 kiwi +1+1 1\n"
	l := listen(t, answer)
	for _, test := range []struct{ args, line string }{
		{"iamat kiwi +34.068930-118.445127 1621464827.959498503 --addr " + l.addr, "IAMAT kiwi +34.068930-118.445127 1621464827.959498503\n"},
		{"iamat kiwi -34.5+118.2 5 --addr " + l.addr, "IAMAT kiwi -34.5+118.2 5\n"},
		{"iamat --addr=" + l.addr + " kiwi -34.5-118.2 5", "IAMAT kiwi -34.5-118.2 5\n"},
		{"--addr " + l.addr + " iamat -1 -2-3 4", "IAMAT -1 -2-3 4\n"},
		{"iamat --addr " + l.addr + " -- --help -x /", "IAMAT --help -x /\n"},
	} {
		o := newTool(t)
		o.want(exitOK, strings.Fields(test.args)...)
		if got := <-l.lines; got != test.line {
			t.Errorf("herd %s sends %q, want %q", test.args, got, test.line)
		}
		if o.stdout.String() != answer || o.stderr.String() != "" {
			t.Errorf("prints %q and says %q, want %q alone", o.stdout.String(), o.stderr.String(), answer)
		}
	}
}

// Over TLS, with each way to trust and to be trusted, and the error if that fails.
func TestIamatSpeaksTLS(t *testing.T) {
	dir := t.TempDir()
	ca, strangers := certstest.New(t, "authority"), certstest.New(t, "strangers")
	authority, strange := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "strange.pem")
	certstest.Write(t, authority, ca.PEM)
	certstest.Write(t, strange, strangers.PEM)
	cert, key := ca.Client("kiwi").Files(dir, "kiwi")
	for _, test := range []struct {
		flags string
		asks  tls.ClientAuthType
		code  int
		says  string
	}{
		{"--tls-ca " + authority, tls.NoClientCert, exitOK, ""},
		{"--tls-ca " + authority + " --tls-cert " + cert + " --tls-key " + key, tls.RequireAndVerifyClientCert, exitOK, ""},
		{"--tls-ca " + authority, tls.RequireAndVerifyClientCert, exitFailed, "certificate required"},
		{"--tls-ca " + strange, tls.NoClientCert, exitFailed, "unknown authority"},
		{"--tls-cert " + cert + " --tls-key " + key, tls.NoClientCert, exitFailed, "unknown authority"}, // this machine does not trust it
		{"--tls-ca " + dir, tls.NoClientCert, exitUsage, dir + ": is a directory"},
		{"--tls-ca " + authority + " --tls-cert " + cert + " --tls-key " + cert, tls.NoClientCert, exitUsage, cert + ": tls: "},
	} {
		l := listenTLS(t, "AT\n", &tls.Config{Certificates: []tls.Certificate{ca.Server().Pair()}, ClientCAs: ca.Pool(), ClientAuth: test.asks})
		o := newTool(t)
		o.want(test.code, append(strings.Fields("iamat kiwi +1+1 5 --addr "+l.addr), strings.Fields(test.flags)...)...)
		if !strings.Contains(o.stderr.String(), test.says) {
			t.Errorf("herd iamat %s says %q, want %q", test.flags, o.stderr.String(), test.says)
		}
		if test.code == exitOK {
			if got := <-l.lines; got != "IAMAT kiwi +1+1 5\n" || o.stdout.String() != "AT\n" {
				t.Errorf("sends %q, prints %q", got, o.stdout.String())
			}
		}
	}
}

func TestIamatTellsTheTimeWithNineDecimals(t *testing.T) {
	l := listen(t, "AT\n")
	newTool(t).want(exitOK, "iamat", "kiwi", "+1+1", "--addr", l.addr)
	if got := <-l.lines; !regexp.MustCompile(`^IAMAT kiwi \+1\+1 [0-9]{10}\.[0-9]{9}\n$`).MatchString(got) {
		t.Errorf("sends %q", got)
	}
}

func TestARefusalIsPrintedAndExitsOne(t *testing.T) {
	for _, test := range []struct{ args, refusal, reason string }{
		{"iamat kiwi +91+1 1", "? IAMAT kiwi +91+1 1\n", "C7"},
		{"iamat kiwi +1+1 soon", "? IAMAT kiwi +1+1 soon\n", "C8"},
		{"iamat kiwi +1+1 1", "? IAMAT kiwi +1+1 1\n", "refused"},
		{"whatsat kiwi 51 1", "? WHATSAT kiwi 51 1\n", "C12"},
		{"whatsat kiwi 5 1", "? WHATSAT kiwi 5 1\n", "C13"},
	} {
		l := listen(t, test.refusal)
		o := newTool(t)
		o.want(exitFailed, append(strings.Fields(test.args), "--addr", l.addr)...)
		if o.stdout.String() != test.refusal || !strings.Contains(o.stderr.String(), test.reason) {
			t.Errorf("herd %s prints %q and says %q, want %q and %s", test.args, o.stdout.String(), o.stderr.String(), test.refusal, test.reason)
		}
		<-l.lines
	}
}

func TestWordsWithWhiteSpaceAreRefused(t *testing.T) {
	l := listen(t, "AT\n")
	for _, word := range []string{"", " ", "a b", "a\nIAMAT b", "a\t", "\va", "a\r"} {
		for _, args := range [][]string{{"iamat", word, "+1+1", "1"}, {"iamat", "a", "+1+1", word}, {"whatsat", word, "1", "1"}} {
			o := newTool(t)
			o.want(exitUsage, append(args, "--addr", l.addr)...)
		}
	}
	if len(l.lines) > 0 {
		t.Errorf("%q was sent", <-l.lines)
	}
}

func TestWhatsatPrintsTheWholeAnswer(t *testing.T) {
	const answer = "AT Clark +0.5 kiwi +1+1 1\n{\n\"results\":[]\n}\n\n"
	l := listen(t, answer)
	o := newTool(t)
	o.want(exitOK, "whatsat", kiwi, "10", "5", "--addr", l.addr)
	if got := <-l.lines; got != "WHATSAT "+kiwi+" 10 5\n" {
		t.Errorf("sends %q", got)
	}
	if o.stdout.String() != answer {
		t.Errorf("prints %q, want %q", o.stdout.String(), answer)
	}
}

// A port that speaks TLS closes plain text without a word, so the tool says what that may be.
func TestPlainTextOnATLSPortIsExplained(t *testing.T) {
	l := listenTLS(t, "", &tls.Config{Certificates: []tls.Certificate{certstest.New(t, "authority").Server().Pair()}})
	o := newTool(t)
	o.want(exitFailed, "iamat", kiwi, "+1+1", "--addr", l.addr)
	if got := o.stderr.String(); !strings.Contains(got, "--tls-ca") {
		t.Errorf("says %q, and nothing of --tls-ca", got)
	}
}

// What another server answers is neither printed as an edge's answer nor success.
func TestAPortThatIsNoEdges(t *testing.T) {
	for _, args := range []string{"iamat kiwi +1+1 5", "whatsat kiwi 10 5", "whosat kiwi 10 5"} {
		for _, answer := range []string{"HTTP/1.1 400 Bad Request\r\n", "-ERR unknown command\r\n", "ATTENTION\n", "\n"} {
			l := listen(t, answer)
			o := newTool(t)
			o.want(exitFailed, append(strings.Fields(args), "--addr", l.addr)...)
			<-l.lines
			if o.stdout.String() != "" || !strings.Contains(o.stderr.String(), "no edge's client port") {
				t.Errorf("herd %s, answered %q, prints %q and says %q", args, answer, o.stdout.String(), o.stderr.String())
			}
		}
	}
}

func TestAnEdgeThatIsNotThereOrSilent(t *testing.T) {
	addr := closedAddr(t)
	o := newTool(t)
	o.want(exitFailed, "iamat", kiwi, "+1+1", "--addr", addr)
	if !strings.Contains(o.stderr.String(), addr) {
		t.Errorf("%q does not name %s", o.stderr.String(), addr)
	}
	l := listen(t, "")
	o = newTool(t)
	o.want(exitFailed, "iamat", kiwi, "+1+1", "--addr", l.addr, "--timeout", "30ms")
	if !strings.Contains(o.stderr.String(), "no answer within 30ms") {
		t.Errorf("says %q", o.stderr.String())
	}
}
