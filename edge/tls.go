package edge

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"

	"herd/broker/certs"
	"herd/edge/config"
)

// forClients is TLS as the client port speaks it: each handshake uses what the files
// hold by then, and every connection makes a whole one, so that no client comes back
// by a session ticket after its certificate has expired or its authority is out.
func forClients(keeper *certs.Keeper) *tls.Config {
	return withClients(keeper, tls.RequireAndVerifyClientCert)
}

// withClients is forClients that says what is asked of clients' certificates where there are
// authorities for them.
func withClients(keeper *certs.Keeper, auth tls.ClientAuthType) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true,
		GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
			held := keeper.Now()
			now := &tls.Config{
				MinVersion:             tls.VersionTLS12,
				SessionTicketsDisabled: true,
				Certificates:           []tls.Certificate{*held.Pair},
			}
			if held.CA != nil {
				now.ClientAuth, now.ClientCAs = auth, held.CA
			}
			return now, nil
		},
	}
}

// identities are the ids of clients that a certificate names, byte for byte: its common
// name, if it has exactly one; or those of its subject's alternative names that are DNS
// names, e-mail addresses and URIs. A wildcard stands for itself.
func identities(by string, cert *x509.Certificate) []string {
	if by == config.ByCommonName {
		return commonNames(cert)
	}
	return altNames(cert)
}

func commonNames(cert *x509.Certificate) []string {
	attribute := asn1.ObjectIdentifier{2, 5, 4, 3}
	n := 0
	for _, a := range cert.Subject.Names {
		if a.Type.Equal(attribute) {
			n++
		}
	}
	if n != 1 { // crypto/x509 shows the last, others the first
		return nil
	}
	return []string{cert.Subject.CommonName}
}

// altNames reads the extension itself, because crypto/x509 parses URIs, and what it
// writes then may be other bytes.
func altNames(cert *x509.Certificate) (names []string) {
	const email, dns, uri = 1, 2, 6 // tags of RFC 5280's GeneralName
	for _, extension := range cert.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			continue
		}
		var all []asn1.RawValue
		if _, err := asn1.Unmarshal(extension.Value, &all); err != nil {
			return nil // crypto/x509 has refused it before
		}
		for _, name := range all {
			if name.Class != asn1.ClassContextSpecific {
				continue
			}
			switch name.Tag {
			case email, dns, uri:
				names = append(names, string(name.Bytes))
			}
		}
	}
	return names
}
