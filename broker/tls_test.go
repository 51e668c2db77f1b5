package broker_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"herd/broker"
	"herd/broker/certs/certstest"
	"herd/broker/options"
)

// An authority signs certificates.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	certFile, keyFile := a.sign(t, "authority")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, a.key, a.file = pair.Leaf, pair.PrivateKey.(*ecdsa.PrivateKey), certFile
	return a
}

// sign makes a certificate for name and its key, as files.
func (a *authority) sign(t *testing.T, name string) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	cert := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = cert, key
		cert.IsCA, cert.BasicConstraintsValid, cert.KeyUsage, cert.ExtKeyUsage = true, true, x509.KeyUsageCertSign, nil
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return file(t, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))),
		file(t, string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})))
}

// serverWith runs a server until the test ends, and returns its URL.
func serverWith(t *testing.T, o *server.Options) string {
	t.Helper()
	o.Host, o.Port, o.NoSigs, o.NoLog = "127.0.0.1", -1, true, true
	s, err := server.NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	t.Cleanup(func() { s.Shutdown(); s.WaitForShutdown() })
	if !s.ReadyForConnections(patience) {
		t.Fatal("the server is not ready")
	}
	return s.ClientURL()
}

func TestTLSInBothDirections(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	certFile, keyFile := ca.sign(t, "broker")
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	url := serverWith(t, &server.Options{TLSTimeout: patience.Seconds(), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS12,
	}})
	cert, key := ca.sign(t, "Clark")
	c, w := dial(t, options.Broker{URL: url, CA: ca.file, Cert: cert, Key: key})
	take(t, w.connected, "connection")
	if err := c.Alive(soon(t)); err != nil {
		t.Error(err)
	}
	strange, strangeKey := other.sign(t, "Clark")
	for name, o := range map[string]options.Broker{
		"a broker of another authority": {URL: url, CA: other.file, Cert: cert, Key: key},
		"no certificate":                {URL: url, CA: ca.file},
		"one of another authority":      {URL: url, CA: ca.file, Cert: strange, Key: strangeKey},
	} {
		t.Run(name, func(t *testing.T) { refused(t, o, "tls") })
	}
}

// refused fails the test unless connecting with o fails with why.
func refused(t *testing.T, o options.Broker, why string) {
	t.Helper()
	c, _ := dial(t, o)
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		err := c.Wait(ctx)
		cancel()
		switch {
		case err == nil:
			t.Fatal("connected")
		case strings.Contains(strings.ToLower(err.Error()), why):
			return
		case time.Now().After(end):
			t.Fatalf("not refused but %v", err)
		}
	}
}

func TestLogins(t *testing.T) {
	seed, public := userSeed(t)
	byKey := serverWith(t, &server.Options{Nkeys: []*server.NkeyUser{{Nkey: public}}})
	byPassword := serverWith(t, &server.Options{Username: "Clark", Password: "secret"})
	byToken := serverWith(t, &server.Options{Authorization: "secret"})
	strange, _ := userSeed(t)
	for name, test := range map[string]struct{ good, bad options.Broker }{
		"nkey": {options.Broker{URL: byKey, NKey: file(t, seed)}, options.Broker{URL: byKey, NKey: file(t, strange)}},
		"password": {options.Broker{URL: byPassword, User: "Clark", Password: options.NewSecret("secret")},
			options.Broker{URL: byPassword, User: "Clark", Password: options.NewSecret("wrong")}},
		"token": {options.Broker{URL: byToken, Token: options.NewSecret("secret")}, options.Broker{URL: byToken}},
	} {
		t.Run(name, func(t *testing.T) {
			_, w := dial(t, test.good)
			take(t, w.connected, "connection")
			refused(t, test.bad, "authorization violation")
		})
	}
}

// Renewed files are used from the next connection on. Half of a renewal changes nothing.
func TestRenewedCertificatesNeedNoRestart(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "authority")
	shown := make(chan int64, 16) // serial numbers of the clients' certificates
	url := serverWith(t, &server.Options{TLSTimeout: patience.Seconds(), TLSConfig: &tls.Config{
		Certificates: []tls.Certificate{ca.Server().Pair()}, ClientCAs: ca.Pool(), ClientAuth: tls.RequireAndVerifyClientCert,
		VerifyConnection: func(s tls.ConnectionState) error {
			shown <- s.PeerCertificates[0].SerialNumber.Int64()
			return nil
		},
	}})
	first, second, third := ca.Client("Clark"), ca.Client("Clark"), ca.Client("Clark")
	cert, key := first.Files(dir, "Clark")
	authority := filepath.Join(dir, "ca.pem")
	certstest.Write(t, authority, ca.PEM)
	log := &memory{}
	w := newWitness()
	c, err := broker.Dial(options.Broker{URL: url, CA: authority, Cert: cert, Key: key}, "Clark", w.events(), text(log))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	again := func(want *certstest.Signed) {
		t.Helper()
		take(t, w.connected, "connection")
		if got := take(t, shown, "certificate"); got != want.Serial() {
			t.Errorf("showed certificate %d, want %d", got, want.Serial())
		}
	}
	again(first)

	second.Files(dir, "Clark")
	if err := c.Reconnect(); err != nil {
		t.Fatal(err)
	}
	again(second)

	certstest.Write(t, cert, third.Cert) // without its key
	certstest.Write(t, authority, ca.PEM[:50])
	if err := c.Reconnect(); err != nil {
		t.Fatal(err)
	}
	again(second)
	for _, file := range []string{key, authority} {
		if n := strings.Count(log.String(), file+": "); n != 1 {
			t.Errorf("%s is named %d times in %s", file, n, log)
		}
	}
}
