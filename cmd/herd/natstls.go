package main

import (
	"crypto/x509"
	"errors"
	"fmt"

	"herd/broker/certs"
	"herd/broker/natsconf"
)

// checkServerTLS records what would keep servers with these files from starting, or the nodes
// of a cluster from connecting to each other.
func checkServerTLS(problems *flagErrors, files natsconf.TLSFiles, nodes []node) {
	before := len(problems.all)
	for _, f := range []struct{ flag, file string }{{"tls-ca", files.CA}, {"tls-cert", files.Cert}, {"tls-key", files.Key}} {
		if f.file == "" {
			problems.add(f.flag, errors.New("missing; TLS needs an authority, a certificate and its key"))
		}
	}
	if len(problems.all) > before {
		return
	}
	held, err := certs.Read(certs.Files{CA: files.CA, Cert: files.Cert, Key: files.Key})
	if err != nil {
		problems.add("tls-ca, --tls-cert, --tls-key", err) // each line of the error names its file
		return
	}
	pair := held.Pair

	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			between.AddCert(c)
		}
	}
	verify := func(who string, use x509.ExtKeyUsage) {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: held.CA, Intermediates: between, KeyUsages: []x509.ExtKeyUsage{use}})
		if err != nil {
			problems.add("tls-cert", fmt.Errorf("is not valid for a %s: %w", who, err))
		}
	}
	verify("server", x509.ExtKeyUsageServerAuth)
	if len(nodes) > 0 {
		verify("client of the other nodes", x509.ExtKeyUsageClientAuth)
	}
	for _, n := range nodes {
		problems.add("tls-cert", pair.Leaf.VerifyHostname(n.host))
	}
}
