package test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herd/test/herdtest"
	"herd/test/ports"
)

// V1, V5: the port for devices speaks TLS with the client port's files; with users a certificate is
// optional, one of the two must identify, and certificates bind.
func TestDevicesOverTLS(t *testing.T) {
	quiet(t)
	for _, users := range []bool{false, true} {
		transcript := filepath.Join(t.TempDir(), "transcript")
		s := secure(t, map[string]string{"HERD_TLS_IDENTITY": "cn", "HERD_DEVICES": ports.Addr(t), "HERD_TRANSCRIPT": transcript})
		if users {
			s.env["HERD_DEVICES_USERS"] = usersFile(t, "alice")
		}
		_, e := herdtest.StartLone(t, s.env)
		kiwi := s.ca.Client("kiwi").Pair()
		alice := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:secret of alice")) + "\r\n"
		ask := func(cfg *tls.Config, id, header string) int {
			t.Helper()
			c, err := connectTLS(t, s.env["HERD_DEVICES"], cfg)
			if err != nil {
				return 0
			}
			defer c.Close()
			// No Host that plain HTTP would take: the certificate says whose port it is.
			io.WriteString(c, "GET /?id="+id+"&lat=1&lon=2&timestamp=3 HTTP/1.1\r\nHost: herd.example\r\n"+header+"\r\n")
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				return 0 // TLS 1.3 refuses a client without a certificate after its handshake
			}
			resp.Body.Close()
			return resp.StatusCode
		}
		nobody, withUser := 0, 0
		if users {
			nobody, withUser = 401, 200
		}
		for _, c := range []struct {
			what       string
			cfg        *tls.Config
			id, header string
			want       int
		}{
			{"a certificate", s.as(kiwi), "kiwi", "", 200},
			{"another id than the certificate's", s.as(kiwi), "emu", "", 401},
			{"nothing", s.as(), "kiwi", "", nobody},
			{"a user", s.as(), "phone", alice, withUser},
			{"TLS 1.1", &tls.Config{RootCAs: s.ca.Pool(), Certificates: []tls.Certificate{kiwi}, MaxVersion: tls.VersionTLS11}, "kiwi", "", 0},
		} {
			if got := ask(c.cfg, c.id, c.header); got != c.want {
				t.Errorf("users %v: %s is answered %d, want %d", users, c.what, got, c.want)
			}
		}
		held, err := askTLS(t, e.Addr, s.as(kiwi), "WHATSAT kiwi 0 0", "WHATSAT emu 0 0", "WHATSAT alice/phone 0 0")
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []bool{true, false, users} {
			if strings.HasPrefix(held[i], "AT ") != want {
				t.Errorf("users %v: held %q", users, held[i])
			}
		}
		herdtest.Eventually(t, herdtest.Promise(5e9), "the transcript says who came", func() error {
			text, err := os.ReadFile(transcript)
			if err == nil && !strings.Contains(string(text), " + certificate: CN=kiwi\n") {
				err = io.ErrUnexpectedEOF
			}
			return err
		})
	}
}

// askTLS returns the first lines of the answers to WHATSATs.
func askTLS(t *testing.T, addr string, cfg *tls.Config, lines ...string) (first []string, err error) {
	t.Helper()
	for _, line := range lines {
		c := dialTLS(t, addr, cfg)
		answer, err := c.ask(line)
		if err != nil {
			return nil, err
		}
		first = append(first, answer)
		c.Close()
	}
	return first, nil
}
