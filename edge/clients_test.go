package edge

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"herd/broker/certs/certstest"
)

// leaf is a certificate by the template, as TLS parses it.
func leaf(t *testing.T, template *x509.Certificate) *x509.Certificate {
	t.Helper()
	return certstest.New(t, "authority").Sign(template).Pair().Leaf
}

func TestIdentitiesAreWhatTheCertificateNames(t *testing.T) {
	uri, err := url.Parse("urn:device:kiwi%2f1")
	if err != nil {
		t.Fatal(err)
	}
	cn := asn1.ObjectIdentifier{2, 5, 4, 3}
	full := &x509.Certificate{
		Subject:        pkix.Name{CommonName: "kiwi", Organization: []string{"herd"}},
		DNSNames:       []string{"Kiwi.example", "*.example"},
		EmailAddresses: []string{"kiwi@example"},
		URIs:           []*url.URL{uri},
		IPAddresses:    []net.IP{net.IPv4(10, 0, 0, 1)},
	}
	for _, c := range []struct {
		name, by string
		template *x509.Certificate
		want     []string
	}{
		{"cn is the common name alone", "cn", full, []string{"kiwi"}},
		{"san is DNS names, e-mail addresses and URIs as they are written", "san", full,
			[]string{"Kiwi.example", "*.example", "kiwi@example", "urn:device:kiwi%2f1"}},
		{"no common name", "cn", &x509.Certificate{DNSNames: []string{"kiwi"}}, nil},
		{"no alternative name", "san", &x509.Certificate{Subject: pkix.Name{CommonName: "kiwi"}}, nil},
		{"two common names are none", "cn", &x509.Certificate{Subject: pkix.Name{ExtraNames: []pkix.AttributeTypeAndValue{
			{Type: cn, Value: "kiwi"}, {Type: cn, Value: "other"}}}}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			template := *c.template
			if got := identities(c.by, leaf(t, &template)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

// A certificate that names nobody, or none at all, may report nobody: never everybody.
func TestWithoutAVerifiedCertificateNobodyIsReported(t *testing.T) {
	cfg, _, err := FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP="})
	if err != nil {
		t.Fatal(err)
	}
	e, err := New(cfg, Shared{})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	h := handler{e.handler, "cn"}
	nameless := leaf(t, &x509.Certificate{DNSNames: []string{"kiwi"}})
	for title, state := range map[string]*tls.ConnectionState{
		"no TLS":                    nil,
		"no certificate":            {},
		"one that was not verified": {PeerCertificates: []*x509.Certificate{leaf(t, &x509.Certificate{Subject: pkix.Name{CommonName: "kiwi"}})}},
		"one without a common name": {PeerCertificates: []*x509.Certificate{nameless}, VerifiedChains: [][]*x509.Certificate{{nameless}}},
	} {
		out := &oneAnswer{}
		s := h.Open("10.0.0.1:5", state).(session)
		s.Session.Take(time.Now(), []byte("IAMAT kiwi +1+1 1\n"), out)
		if got := string(out.answer); got != "? IAMAT kiwi +1+1 1\n" {
			t.Errorf("%s: %q", title, got)
		}
	}
}

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
