package main

import (
	"crypto/tls"
	"flag"

	"herd/broker/certs"
)

// tlsFlags are the TLS flags of the commands that connect to client ports.
type tlsFlags struct{ files certs.Files }

func newTLSFlags(fs *flag.FlagSet) *tlsFlags {
	t := newAuthorityFlag(fs)
	fs.StringVar(&t.files.Cert, "tls-cert", "", "use TLS with the client certificate in `FILE`")
	fs.StringVar(&t.files.Key, "tls-key", "", "key `FILE` of --tls-cert")
	return t
}

// newAuthorityFlag defines --tls-ca alone, for a command that shows no certificate.
func newAuthorityFlag(fs *flag.FlagSet) *tlsFlags {
	t := &tlsFlags{}
	fs.StringVar(&t.files.CA, "tls-ca", "", "use TLS, and trust the authorities in `FILE` (this machine's)")
	return t
}

// config returns how to use TLS; nil means plain TCP, if no flag was given. The certificate
// must match the host of the address that is dialled.
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
