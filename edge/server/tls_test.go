package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// certificates returns how to serve and how to call with a certificate of the name.
func certificates(t *testing.T, name string) (server, caller *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	own := []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}
	return &tls.Config{Certificates: own, ClientCAs: roots, ClientAuth: tls.RequireAndVerifyClientCert},
		&tls.Config{Certificates: own, RootCAs: roots, ServerName: name}
}

func (r *running) dialTLS(cfg *tls.Config) *client {
	r.t.Helper()
	nc, err := tls.Dial("tcp", r.addr, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return wrap(r.t, nc)
}

func TestTLS(t *testing.T) {
	serving, calling := certificates(t, "kiwi")
	h := newHerd()
	r := serve(t, Config{TLS: serving, DrainTimeout: 20 * time.Second}, h)
	long := strings.Repeat("x", 4000)

	c := r.dialTLS(calling)
	c.send("a\n" + strings.Repeat(long+"\n", 50) + "wait b\nhalf")
	c.want("= a\n" + strings.Repeat("= "+long+"\n", 50))
	close(h.gate("b"))
	c.want("waited b\n")
	c.send(" a line\nunended")
	c.closeWrite()
	c.want("= half a line\n= unended\n")
	c.wantEnd()
	r.wantClosed("client", 1)
	if state := h.states[0]; state == nil || len(state.PeerCertificates) != 1 || state.PeerCertificates[0].Subject.CommonName != "kiwi" {
		t.Errorf("the session was opened with %+v", state)
	}

	c = r.dialTLS(calling)
	c.send("a\nbye\nignored\n")
	c.want("= a\nbye\n")
	c.wantEnd()
	_ = c.Close()
	r.wantClosed("http", 1)

	c = r.dialTLS(calling)
	c.send("a\nwait c\nunfinished")
	c.want("= a\n")
	r.stop()
	c.want("ended c\n")
	c.wantEnd() // an orderly end, or this is an error
	_ = c.Close()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 1)
}

func TestTLSHandshakesThatFail(t *testing.T) {
	serving, calling := certificates(t, "kiwi")
	h := newHerd()
	r := serve(t, Config{TLS: serving, LineTimeout: 100 * time.Millisecond}, h)

	plain := r.dial()
	plain.send("a\n")
	plain.wantGone()
	silent := r.dial()
	silent.wantGone() // C18
	anonymous := calling.Clone()
	anonymous.Certificates = nil
	if nc, err := tls.Dial("tcp", r.addr, anonymous); err == nil { // TLS 1.3 tells it with the first read
		c := wrap(t, nc)
		c.wantGone()
	}
	r.wantClosed("tls", 3)
	if opened, closed := h.count(); opened != 0 || closed != 0 {
		t.Errorf("%d sessions opened, %d closed", opened, closed)
	}
}

func TestAStopEndsTLSHandshakes(t *testing.T) { // C19
	serving, _ := certificates(t, "kiwi")
	r := serve(t, Config{TLS: serving}, newHerd())
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	c := wrap(t, nc)
	eventually(t, "accepted", func() bool { return r.Stats().Accepted == 1 })
	r.stop()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	if _, err := io.Copy(io.Discard, c.Conn); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 1)
}
