package config

import (
	"fmt"
	"time"

	"herd/broker/certs"
)

// Values of HERD_TLS_IDENTITY.
const (
	ByCommonName = "cn"
	ByAltName    = "san"
)

// ClientFiles returns the TLS files of the client port. Without a Cert, TLS is off.
func (c *Config) ClientFiles() certs.Files {
	return certs.Files{Cert: c.TLSCert, Key: c.TLSKey, CA: c.TLSClientCA}
}

// expired returns a warning if the client port's certificate is not valid now. The edge
// starts nevertheless: the certificate can be renewed without a restart.
func (c *Config) expired() []string {
	if c.TLSCert == "" {
		return nil
	}
	held, err := certs.Read(c.ClientFiles())
	if err != nil {
		return nil // has been reported
	}
	if why := certs.Expiry(held.Pair.Leaf, time.Now()); why != "" {
		return []string{fmt.Sprintf("HERD_TLS_CERT: %s: %s", quote(c.TLSCert), why)}
	}
	return nil
}
