// Package certstest makes authorities and certificates for tests.
package certstest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"
)

var serial atomic.Int64

// An Authority signs certificates. It lasts until its test ends.
type Authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	PEM  []byte // its own certificate
}

// New makes an authority with this name.
func New(t testing.TB, name string) *Authority {
	t.Helper()
	a := &Authority{t: t}
	own := a.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	})
	a.PEM, a.cert, a.key = own.Cert, own.leaf, own.key
	return a
}

// Pool returns a pool with only this authority.
func (a *Authority) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// Signed is a certificate and its key.
type Signed struct {
	t         testing.TB
	leaf      *x509.Certificate
	key       *ecdsa.PrivateKey
	Cert, Key []byte // PEM
}

// Server makes a certificate for a server on 127.0.0.1 and localhost, valid for an hour.
func (a *Authority) Server() *Signed {
	a.t.Helper()
	return a.Sign(&x509.Certificate{
		Subject: pkix.Name{CommonName: "edge"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

// Client makes a certificate with this common name, valid for an hour.
func (a *Authority) Client(name string) *Signed {
	a.t.Helper()
	return a.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: name}})
}

// Sign makes a certificate from the template. Fields that are not set get defaults: the
// serial number, the times (from now, for an hour), and the usage (servers and clients,
// except for an authority).
func (a *Authority) Sign(template *x509.Certificate) *Signed {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	if template.SerialNumber == nil {
		template.SerialNumber = big.NewInt(serial.Add(1))
	}
	if template.NotBefore.IsZero() {
		template.NotBefore = time.Now().Add(-time.Minute)
	}
	if template.NotAfter.IsZero() {
		template.NotAfter = time.Now().Add(time.Hour)
	}
	if !template.IsCA && template.ExtKeyUsage == nil {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return &Signed{
		t: a.t, leaf: leaf, key: key,
		Cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private}),
	}
}

// Serial returns the certificate's serial number.
func (s *Signed) Serial() int64 { return s.leaf.SerialNumber.Int64() }

// Pair returns the certificate in the form for crypto/tls.
func (s *Signed) Pair() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{s.leaf.Raw}, PrivateKey: s.key, Leaf: s.leaf}
}

// Files writes both to files in dir, replacing an earlier certificate of that name.
func (s *Signed) Files(dir, name string) (cert, key string) {
	s.t.Helper()
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	Write(s.t, cert, s.Cert)
	Write(s.t, key, s.Key)
	return cert, key
}

// Write writes a file that only the test's user may read.
func Write(t testing.TB, file string, text []byte) {
	t.Helper()
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
