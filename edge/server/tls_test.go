package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"
)

// certificates returns the server's and the client's configuration for a certificate of this name.
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
	c.wantEnd() // an orderly end; anything else is an error
	_ = c.Close()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 1)
}

func TestTLSHandshakesThatFail(t *testing.T) {
	serving, calling := certificates(t, "kiwi")
	h := newHerd()
	log := &memory{}
	r := serve(t, Config{TLS: serving, HandshakeTimeout: 100 * time.Millisecond, Log: slog.New(slog.NewTextHandler(log, nil))}, h)

	plain := r.dial()
	plain.send(strings.Repeat("a\n", 5000))
	plain.wantEnd() // and no reset, which could overtake an alert
	silent := r.dial()
	silent.wantGone() // C18
	anonymous := calling.Clone()
	anonymous.Certificates = nil
	if nc, err := tls.Dial("tcp", r.addr, anonymous); err == nil { // in TLS 1.3 the first read reports it
		c := wrap(t, nc)
		c.wantGone()
	}
	r.wantClosed("tls", 3)
	if opened, closed := h.count(); opened != 0 || closed != 0 {
		t.Errorf("%d sessions opened, %d closed", opened, closed)
	}
	if n := strings.Count(log.String(), "TLS handshake failed"); n != 1 { // not one per failure
		t.Errorf("logged %d times: %s", n, log)
	}
}

// memory keeps a log in memory.
type memory struct {
	mu   sync.Mutex
	text strings.Builder
}

func (m *memory) Write(p []byte) (int, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.Write(p)
}

func (m *memory) String() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.text.String()
}

// A client that never finishes its handshake does not delay others.
func TestASilentHandshakeHoldsNobodyUp(t *testing.T) {
	serving, calling := certificates(t, "kiwi")
	r := serve(t, Config{TLS: serving}, newHerd())
	for range 20 {
		r.dial()
	}
	c := r.dialTLS(calling)
	c.send("a\n")
	c.want("= a\n")
}

// A client that TLS refuses can read the reason, although it has sent commands by then.
func TestAClientThatIsRefusedLearnsWhy(t *testing.T) {
	serving, calling := certificates(t, "kiwi")
	r := serve(t, Config{TLS: serving}, newHerd())
	calling.Certificates = nil
	for i := range 20 {
		nc, err := tls.Dial("tcp", r.addr, calling) // TLS 1.3: the client's handshake is complete before it is refused
		if err != nil {
			t.Fatal(err)
		}
		c := wrap(t, nc)
		_, _ = io.WriteString(c, strings.Repeat("a\n", 5000))
		if _, err := io.Copy(io.Discard, c); err == nil || !strings.Contains(err.Error(), "certificate required") {
			t.Fatalf("attempt %d: %v, want certificate required", i, err)
		}
		_ = c.Close()
	}
}

func TestWhoDoesNotReadTLSIsClosed(t *testing.T) { // C18
	serving, calling := certificates(t, "kiwi")
	h := newHerd()
	r := serve(t, Config{TLS: serving, WriteTimeout: 200 * time.Millisecond}, h)
	c := r.dialTLS(calling)
	sent, err := 0, error(nil)
	block := []byte(strings.Repeat("big 60000\n", 100))
	for err == nil {
		var n int
		n, err = c.Write(block)
		sent += n
	}
	if errors.Is(err, os.ErrDeadlineExceeded) || sent > 64<<20 {
		t.Errorf("sent %d bytes and then %v, want to be closed", sent, err)
	}
	r.wantClosed("write", 1)
}

func TestALineThatSomebodyCutOffIsNoCommand(t *testing.T) { // C1 means an end that the client sent itself
	serving, calling := certificates(t, "kiwi")
	h := newHerd()
	r := serve(t, Config{TLS: serving}, h)
	nc, err := net.Dial("tcp", r.addr)
	if err != nil {
		t.Fatal(err)
	}
	over := tls.Client(nc, calling)
	c := wrap(t, over)
	c.send("a\nb\nIAMAT kiwi +1+1 1621464827")
	c.want("= a\n= b\n")
	if err := nc.(*net.TCPConn).CloseWrite(); err != nil { // below TLS: no close_notify
		t.Fatal(err)
	}
	c.wantEnd()
	r.wantClosed("client", 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	if all := strings.Join(h.takes, ""); all != "a\nb\n" {
		t.Errorf("taken: %q", all)
	}
}

// TLS's own time limit for close_notify applies, whatever HERD_WRITE_TIMEOUT is.
func TestALimitOnTheGoodByeHolds(t *testing.T) {
	ours, its := net.Pipe()
	defer ours.Close()
	defer its.Close()
	s := &socket{Conn: its, timeout: 24 * time.Hour}
	go func() { _, _ = ours.Read(make([]byte, 1)) }()
	if _, err := s.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	if err := s.SetWriteDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := s.Write([]byte("b"))
		done <- err
	}()
	select {
	case err := <-done:
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	case <-time.After(time.Minute):
		t.Fatal("still writes")
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
