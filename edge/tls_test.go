package edge

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"testing"
	"time"

	"herd/broker/certs/certstest"
	"herd/edge/command"
	"herd/edge/config"
	"herd/edge/wire"
)

// leaf creates a certificate from the template and parses it as TLS does.
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

// A certificate that names nobody, or no certificate, may report nobody; never everybody.
func TestWithoutAVerifiedCertificateNobodyIsReported(t *testing.T) {
	cfg, _, err := config.FromEnvironment([]string{"HERD_EDGE=A", "HERD_TOPOLOGY=A", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP="})
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
		s := h.Open("10.0.0.1:5", netip.Addr{}, state).(session)
		reports := s.Report(time.Now(), wire.IAMAT{Client: []byte("kiwi"), Location: []byte("+1+1"), Time: []byte("1"), Stamp: 1e9})
		if got := reports.Each[0].Outcome; got != command.Forbidden {
			t.Errorf("%s: %v", title, got)
		}
	}
}
