package main

import (
	"crypto/tls"
	"flag"

	"herd/broker/certs"
)

// tlsFlags are those of the commands that speak to client ports.
type tlsFlags struct{ files certs.Files }

func newTLSFlags(fs *flag.FlagSet) *tlsFlags {
	t := &tlsFlags{}
	fs.StringVar(&t.files.CA, "tls-ca", "", "speak TLS, and trust the authorities in `FILE` (this machine's)")
	fs.StringVar(&t.files.Cert, "tls-cert", "", "speak TLS, and show the certificate in `FILE`")
	fs.StringVar(&t.files.Key, "tls-key", "", "`FILE` of the key of --tls-cert")
	return t
}

// config is how to speak TLS; nil is plain TCP, for when no flag was given. Whom to
// expect is the host of the address that is called.
func (t *tlsFlags) config() (*tls.Config, error) {
	switch {
	case t.files == certs.Files{}:
		return nil, nil
	case t.files.Cert != "" && t.files.Key == "":
		return nil, usageError("--tls-cert needs --tls-key")
	case t.files.Key != "" && t.files.Cert == "":
		return nil, usageError("--tls-key needs --tls-cert")
	}
	held, err := certs.Read(t.files)
	if err != nil {
		return nil, configError{err}
	}
	secure := &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: held.CA}
	if held.Pair != nil {
		secure.Certificates = []tls.Certificate{*held.Pair}
	}
	return secure, nil
}
