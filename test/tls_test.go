package test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"herd/broker/certs/certstest"
	"herd/test/herdtest"
)

// secured is the environment of an edge with TLS, and the authority for its clients' certificates.
type secured struct {
	t   *testing.T
	dir string
	ca  *certstest.Authority // of the edge and of its clients
	env map[string]string
}

// secure makes the files of an edge that requires client certificates.
func secure(t *testing.T, more map[string]string) *secured {
	t.Helper()
	s := &secured{t: t, dir: t.TempDir(), ca: certstest.New(t, "authority")}
	cert, key := s.ca.Server().Files(s.dir, "edge")
	authority := filepath.Join(s.dir, "ca.pem")
	certstest.Write(t, authority, s.ca.PEM)
	s.env = map[string]string{"HERD_TLS_CERT": cert, "HERD_TLS_KEY": key, "HERD_TLS_CLIENT_CA": authority}
	maps.Copy(s.env, more)
	return s
}

// as returns the TLS configuration of a client with these certificates.
func (s *secured) as(certs ...tls.Certificate) *tls.Config {
	return &tls.Config{RootCAs: s.ca.Pool(), Certificates: certs}
}

// dialTLS is dial over TLS.
func dialTLS(t *testing.T, addr string, cfg *tls.Config) *tlsConn {
	t.Helper()
	c, err := connectTLS(t, addr, cfg)
	if err != nil {
		t.Fatalf("dial: %v", err)
	}
	return c
}

func connectTLS(t *testing.T, addr string, cfg *tls.Config) (*tlsConn, error) {
	nc, err := tls.DialWithDialer(&net.Dialer{Timeout: herdtest.Promise(10 * time.Second)}, "tcp", addr, cfg)
	if err != nil {
		return nil, err
	}
	nc.SetDeadline(time.Now().Add(herdtest.Promise(20 * time.Second)))
	t.Cleanup(func() { nc.Close() })
	return &tlsConn{nc, bufio.NewReaderSize(nc, 1<<16)}, nil
}

type tlsConn struct {
	*tls.Conn
	r *bufio.Reader
}

// ask sends a line and returns the first line of the answer.
func (c *tlsConn) ask(line string) (string, error) {
	if _, err := io.WriteString(c, line+"\n"); err != nil {
		return "", err
	}
	return c.r.ReadString('\n')
}

// counted waits until a metric of the edge Clark has this value.
func counted(e *herdtest.EdgeProcess, metric string, want float64) {
	e.T.Helper()
	herdtest.Eventually(e.T, herdtest.Promise(10*time.Second), metric, func() error {
		m, err := e.Metrics()
		if err == nil && m[metric] != want {
			err = fmt.Errorf("%v, want %v", m[metric], want)
		}
		return err
	})
}

// A client that TLS does not let in is refused and counted.
func TestTLSLetsNobodyUninvitedIn(t *testing.T) {
	quiet(t)
	s := secure(t, nil)
	_, e := herdtest.StartLone(t, s.env)
	foreign := certstest.New(t, "authority") // with the same name
	expired := s.ca.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "kiwi"}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: time.Now().Add(-time.Second)})
	server := s.ca.Sign(&x509.Certificate{Subject: pkix.Name{CommonName: "kiwi"}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	old := s.as(s.ca.Client("kiwi").Pair())
	old.MinVersion, old.MaxVersion = tls.VersionTLS11, tls.VersionTLS11
	fails := 0.0
	for _, c := range []struct {
		title string
		cfg   *tls.Config
		says  string
	}{
		{"no certificate", s.as(), "certificate required"},
		{"one of another authority", s.as(foreign.Client("kiwi").Pair()), "certificate"},
		{"one that has expired", s.as(expired.Pair()), "expired"},
		{"one for servers", s.as(server.Pair()), "certificate"},
		{"TLS 1.1", old, "protocol version"},
	} {
		t.Run(c.title, func(t *testing.T) {
			for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
				cfg := c.cfg.Clone()
				if cfg.MaxVersion == 0 {
					cfg.MinVersion, cfg.MaxVersion = version, version
				}
				cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { // for any server name
					if len(c.cfg.Certificates) == 0 {
						return new(tls.Certificate), nil
					}
					return &c.cfg.Certificates[0], nil
				}
				answer := ""
				nc, err := connectTLS(t, e.Addr, cfg)
				if err == nil { // TLS 1.3 refuses after the client's handshake
					answer, err = nc.ask("IAMAT kiwi +1+1 1")
					nc.Close()
				}
				says := c.says
				if version == tls.VersionTLS12 && c.title == "no certificate" {
					says = "" // there is no alert of that name
				}
				if err == nil || !strings.Contains(err.Error(), says) {
					t.Errorf("%s: %q, %v; want %s", tls.VersionName(version), answer, err, c.says)
				}
				fails++
				counted(e, `herd_connections_closed_total{edge="Clark",reason="tls"}`, fails)
			}
		})
	}
	t.Run("plain text", func(t *testing.T) {
		c := dial(t, e.Addr)
		c.send("IAMAT kiwi +1+1 1\n")
		c.end() // closed without an answer
		c.Close()
		fails++
		counted(e, `herd_connections_closed_total{edge="Clark",reason="tls"}`, fails)
	})
	if m, err := e.Metrics(); err != nil || m[`herd_positions{edge="Clark"}`] != 0 {
		t.Errorf("somebody told something: %v, %v", m, err)
	}
	if n := strings.Count(e.Stderr.String(), "TLS handshake failed"); n < 1 || n > 5 {
		t.Errorf("%d lines in the log: %s", n, e.Stderr.Tail())
	}
	if answer, err := dialTLS(t, e.Addr, s.as(s.ca.Client("kiwi").Pair())).ask("IAMAT kiwi +1+1 1"); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
		t.Errorf("who is invited: %q, %v", answer, err)
	}
}

// Without HERD_TLS_CLIENT_CA every client is served, but only over TLS; on a plain port TLS is an
// invalid command.
func TestTLSWithoutCertificatesOfClients(t *testing.T) {
	quiet(t)
	s := secure(t, map[string]string{"HERD_TLS_CLIENT_CA": ""})
	_, e := herdtest.StartLone(t, s.env)
	tool := herdtest.StartChild(t, "herd iamat", herdtest.Binary(t, "herd"), nil, "iamat", "kiwi", "+1+1", "1", "--addr", e.Addr, "--tls-ca", filepath.Join(s.dir, "ca.pem"))
	if code := tool.Wait(herdtest.Promise(20 * time.Second)); code != 0 || !strings.HasPrefix(tool.Stdout.String(), "AT Clark ") {
		t.Errorf("herd iamat: exit %d, %q, %q", code, tool.Stdout, tool.Stderr)
	}
	m, err := e.Metrics()
	expires := time.Unix(int64(m[`herd_tls_certificate_expires_timestamp_seconds{edge="Clark"}`]), 0)
	if left := time.Until(expires); err != nil || left < 50*time.Minute || left > time.Hour {
		t.Errorf("the certificate expires in %v, %v; want about an hour", left, err)
	}
	_, plain := herdtest.StartLone(t, nil)
	if _, err := connectTLS(t, plain.Addr, s.as()); err == nil {
		t.Error("a plain port speaks TLS")
	}
}

// HERD_TLS_IDENTITY: a device may report only the ids that its certificate names, and may ask about
// all.
func TestTLSIdentity(t *testing.T) {
	quiet(t)
	uri := &url.URL{Scheme: "urn", Opaque: "device:kiwi"}
	for by, named := range map[string][]string{"cn": {"kiwi"}, "san": {"kiwi.example", "kiwi@example", "urn:device:kiwi"}} {
		t.Run(by, func(t *testing.T) {
			quiet(t)
			transcript := filepath.Join(t.TempDir(), "transcript")
			s := secure(t, map[string]string{"HERD_TLS_IDENTITY": by, "HERD_TRANSCRIPT": transcript})
			_, e := herdtest.StartLone(t, s.env)
			device := s.ca.Sign(&x509.Certificate{
				Subject: pkix.Name{CommonName: "kiwi"}, DNSNames: []string{"kiwi.example"}, EmailAddresses: []string{"kiwi@example"}, URIs: []*url.URL{uri},
			})
			c := dialTLS(t, e.Addr, s.as(device.Pair()))
			for _, id := range named {
				if answer, err := c.ask("IAMAT " + id + " +1+1 1"); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
					t.Errorf("%s: %q, %v", id, answer, err)
				}
			}
			all := []string{"kiwi", "kiwi.example", "kiwi@example", "urn:device:kiwi", "KIWI", "kiwi.exampl", "authority"}
			forbidden := 0.0
			for _, id := range all {
				line := "IAMAT " + id + " +2+2 2"
				answer, err := c.ask(line)
				if err != nil {
					t.Fatal(err)
				}
				if !strings.HasPrefix(answer, "AT ") {
					forbidden++
					if answer != "? "+line+"\n" {
						t.Errorf("C4 %s: %q", id, answer)
					}
				}
			}
			if want := float64(len(all) - len(named)); forbidden != want {
				t.Errorf("%v ids forbidden, want %v", forbidden, want)
			}
			counted(e, `herd_commands_total{command="iamat",edge="Clark",outcome="forbidden"}`, forbidden)
			other := dialTLS(t, e.Addr, s.as(s.ca.Client("other").Pair()))
			if answer, err := other.ask("WHATSAT " + named[0] + " 0 0"); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
				t.Errorf("WHATSAT of another: %q, %v", answer, err)
			}
			herdtest.Eventually(t, herdtest.Promise(10*time.Second), "the transcript says who came", func() error {
				text, err := os.ReadFile(transcript)
				if err == nil && !strings.Contains(string(text), " + certificate: CN=kiwi\n") {
					err = errors.New(string(text))
				}
				return err
			})
		})
	}
}

// Renewed files are used from the next connection on; live connections go on. Half of a renewal
// changes nothing and is logged. A removed authority is refused at once.
func TestTLSCertificatesAreRenewedWhileConnectionsLive(t *testing.T) {
	quiet(t)
	s := secure(t, nil)
	_, e := herdtest.StartLone(t, s.env)
	device := s.as(s.ca.Client("kiwi").Pair())
	device.ClientSessionCache = tls.NewLRUClientSessionCache(8) // could resume a session without a full handshake
	lives := dialTLS(t, e.Addr, device)
	first := lives.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	n := 0
	answers := func() {
		t.Helper()
		n++
		if answer, err := lives.ask(fmt.Sprintf("IAMAT kiwi +1+1 %d", n)); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
			t.Fatalf("the connection that lives: %q, %v", answer, err)
		}
	}
	answers()
	shown := func() int64 { // of a new connection
		t.Helper()
		c := dialTLS(t, e.Addr, device)
		if answer, err := c.ask("WHATSAT kiwi 0 0"); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
			t.Fatalf("a new connection: %q, %v", answer, err)
		}
		if c.ConnectionState().DidResume {
			t.Error("a session was resumed")
		}
		return c.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}

	renewed := s.ca.Server()
	renewed.Files(s.dir, "edge")
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "a new connection sees the new certificate", func() error {
		if got := shown(); got != renewed.Serial() {
			return fmt.Errorf("certificate %d, want %d; it was %d", got, renewed.Serial(), first)
		}
		return nil
	})
	answers()

	half := s.ca.Server()
	certstest.Write(t, s.env["HERD_TLS_CERT"], half.Cert)
	e.Signal(syscall.SIGHUP) // or the next client
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "half a renewal is told", func() error {
		if !strings.Contains(e.Stderr.String(), "of no use") {
			return errors.New(e.Stderr.String())
		}
		return nil
	})
	if got := shown(); got != renewed.Serial() {
		t.Errorf("half of a renewal was used: certificate %d, want %d", got, renewed.Serial())
	}
	answers()
	certstest.Write(t, s.env["HERD_TLS_KEY"], half.Key)
	e.Signal(syscall.SIGHUP)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the whole renewal is used", func() error {
		if got := shown(); got != half.Serial() {
			return fmt.Errorf("certificate %d, want %d", got, half.Serial())
		}
		return nil
	})

	next := certstest.New(t, "next authority")
	certstest.Write(t, s.env["HERD_TLS_CLIENT_CA"], next.PEM)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the old authority is out", func() error {
		c, err := connectTLS(t, e.Addr, device)
		if err == nil {
			_, err = c.ask("WHATSAT kiwi 0 0")
		}
		if err == nil {
			return errors.New("its device is let in")
		}
		return nil
	})
	if answer, err := dialTLS(t, e.Addr, s.as(next.Client("kiwi").Pair())).ask("WHATSAT kiwi 0 0"); err != nil || !strings.HasPrefix(answer, "AT Clark ") {
		t.Errorf("a device of the new authority: %q, %v", answer, err)
	}
	answers()
}

// C1 over TLS: the client's close_notify ends its last line; everything is answered in order.
func TestTLSPipelinesAndHalfClose(t *testing.T) {
	quiet(t)
	s := secure(t, nil)
	_, e := herdtest.StartLone(t, s.env)
	c := dialTLS(t, e.Addr, s.as(s.ca.Client("kiwi").Pair()))
	const lines = 10_000
	sent := make(chan error, 1)
	go func() {
		var text strings.Builder
		for i := range lines {
			fmt.Fprintf(&text, "IAMAT kiwi +1+1 %d\n", i+1)
		}
		_, err := io.WriteString(c, text.String()+"WHATSAT kiwi 0 0") // no LF
		sent <- errors.Join(err, c.CloseWrite())
	}()
	for i := range lines {
		answer, err := c.r.ReadString('\n')
		if want := fmt.Sprintf(" kiwi +1+1 %d\n", i+1); err != nil || !strings.HasPrefix(answer, "AT Clark ") || !strings.HasSuffix(answer, want) {
			t.Fatalf("answer %d: %q, %v", i, answer, err)
		}
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	rest, err := io.ReadAll(c.r)
	if text := string(rest); err != nil || !strings.HasPrefix(text, "AT Clark ") || !strings.HasSuffix(text, "}\n\n") {
		t.Errorf("after the half-close: %q, %v", text, err)
	}
}

func TestTLSServes200ClientsAtOnce(t *testing.T) {
	s := secure(t, map[string]string{"HERD_TLS_IDENTITY": "cn"})
	_, e := herdtest.StartLone(t, s.env)
	var all sync.WaitGroup
	for i := range 200 {
		id := fmt.Sprintf("device-%d", i)
		cfg := s.as(s.ca.Client(id).Pair())
		all.Go(func() {
			c, err := connectTLS(t, e.Addr, cfg)
			if err != nil {
				t.Errorf("%s: %v", id, err)
				return
			}
			for n := range 50 {
				line := fmt.Sprintf("IAMAT %s +1+1 %d", id, n+1)
				if answer, err := c.ask(line); err != nil || !strings.HasSuffix(answer, strings.TrimPrefix(line, "IAMAT")+"\n") {
					t.Errorf("%s: %q, %v", line, answer, err)
					return
				}
			}
		})
	}
	all.Wait()
	counted(e, `herd_positions{edge="Clark"}`, 200)
}

// C19 over TLS: everything that the edge has received by SIGTERM is answered, and the answers
// arrive. The transcript shows what it received.
func TestTLSStopLosesNoAnswer(t *testing.T) {
	transcript := filepath.Join(t.TempDir(), "transcript")
	s := secure(t, map[string]string{"HERD_TRANSCRIPT": transcript})
	_, e := herdtest.StartLone(t, s.env)
	const clients = 30
	var all sync.WaitGroup
	var mu sync.Mutex
	answered := map[string]int{} // by the client's address
	busy := make(chan struct{}, clients)
	for i := range clients {
		c := dialTLS(t, e.Addr, s.as(s.ca.Client("kiwi").Pair()))
		all.Go(func() { // until the edge is gone; no faster than the transcript is written
			pace := time.NewTicker(10 * time.Millisecond)
			defer pace.Stop()
			for n := 0; ; <-pace.C {
				var lines []byte
				for range 10 {
					n++
					lines = fmt.Appendf(lines, "IAMAT device-%d +1+1 %d\n", i, n)
				}
				if _, err := c.Write(lines); err != nil {
					return
				}
			}
		})
		all.Go(func() {
			defer c.Close()
			for n := 0; ; n++ {
				answer, err := c.r.ReadString('\n')
				if err != nil {
					mu.Lock()
					answered[c.LocalAddr().String()] = n
					mu.Unlock()
					if !errors.Is(err, io.EOF) || answer != "" {
						t.Errorf("client %d after %d answers: %q, %v", i, n, answer, err)
					}
					return
				}
				if want := fmt.Sprintf(" device-%d +1+1 %d\n", i, n+1); !strings.HasPrefix(answer, "AT Clark ") || !strings.HasSuffix(answer, want) {
					t.Errorf("client %d, answer %d: %q", i, n, answer)
					return
				}
				if n == 200 {
					busy <- struct{}{}
				}
			}
		})
	}
	for range clients {
		select {
		case <-busy:
		case <-time.After(herdtest.Promise(20 * time.Second)):
			t.Fatal("the clients are not served")
		}
	}
	e.Signal(syscall.SIGTERM)
	if code := e.Wait(herdtest.Promise(20 * time.Second)); code != 0 {
		t.Errorf("exit code %d", code)
	}
	all.Wait()
	received := map[string]int{}
	text, err := os.ReadFile(transcript)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 3 && fields[3] == ">" {
			received[fields[2]]++
		}
	}
	total := 0
	for addr, n := range answered {
		total += n
		if received[addr] != n {
			t.Errorf("%s: %d lines received, %d answers arrived", addr, received[addr], n)
		}
	}
	if len(answered) != clients || strings.Contains(string(text), "dropped") {
		t.Errorf("%d clients ended; the transcript has %d bytes", len(answered), len(text))
	}
	t.Logf("%d lines received and answered", total)
}
