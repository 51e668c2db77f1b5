package config

import (
	"crypto/x509"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herd/broker/certs/certstest"
)

func TestFilesOfTLSThatDoNotGoTogetherAreNamed(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "authority")
	cert, key := ca.Server().Files(dir, "server")
	_, other := ca.Server().Files(dir, "other")
	authority := filepath.Join(dir, "ca.pem")
	certstest.Write(t, authority, ca.PEM)
	old, oldKey := ca.Sign(&x509.Certificate{NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Hour)}).Files(dir, "old")
	for _, c := range []struct{ vars, says, warns string }{
		{vars: "HERD_TLS_CERT=" + cert + " HERD_TLS_KEY=" + key + " HERD_TLS_CLIENT_CA=" + authority + " HERD_TLS_IDENTITY=san"},
		{vars: "HERD_TLS_CERT=" + cert, says: "HERD_TLS_CERT: \"" + cert + "\", but it needs HERD_TLS_KEY"},
		{vars: "HERD_TLS_KEY=" + key, says: "HERD_TLS_KEY: \"" + key + "\", but it needs HERD_TLS_CERT"},
		{vars: "HERD_TLS_CLIENT_CA=" + authority, says: "HERD_TLS_CLIENT_CA: \"" + authority + "\", but it needs HERD_TLS_CERT"},
		{vars: "HERD_TLS_CERT=" + cert + " HERD_TLS_KEY=" + key + " HERD_TLS_IDENTITY=cn", says: `HERD_TLS_IDENTITY: "cn", but it needs HERD_TLS_CLIENT_CA`},
		{vars: "HERD_TLS_CERT=" + cert + " HERD_TLS_KEY=" + other, says: "HERD_TLS_KEY: \"" + other + "\": tls: private key does not match public key"},
		{vars: "HERD_TLS_CERT=" + cert + " HERD_TLS_KEY=" + cert, says: "HERD_TLS_KEY: \"" + cert + "\": tls: "},
		{vars: "HERD_TLS_CERT=" + key + " HERD_TLS_KEY=" + key, says: "HERD_TLS_CERT: \"" + key + "\": no certificate in it"},
		{vars: "HERD_TLS_CERT=" + old + " HERD_TLS_KEY=" + oldKey, warns: "HERD_TLS_CERT: \"" + old + "\": the certificate expired at "},
	} {
		_, warnings, err := read(strings.Fields(c.vars)...)
		said := ""
		if err != nil {
			said = err.Error()
		}
		if !strings.HasPrefix(said, c.says) || strings.Contains(said, "\n") || (said == "") != (c.says == "") {
			t.Errorf("%s\nsays %q, want %q", c.vars, said, c.says)
		}
		if got := strings.Join(warnings, "\n"); !strings.HasPrefix(got, c.warns) || (got == "") != (c.warns == "") {
			t.Errorf("%s\nwarns %q, want %q", c.vars, got, c.warns)
		}
	}
}
