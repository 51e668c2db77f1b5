package admin_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"herd/edge/admin"
)

// C18: a web page whose own host name resolves to this address can read nothing.
func TestOnlyThisHostIsAnsweredFor(t *testing.T) {
	machine, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	a := admin.New(admin.Config{Hosts: []string{"herd.example.org"}}, source("Clark"))
	for host, want := range map[string]int{
		"127.0.0.1": 200, "127.0.0.1:12080": 200, "192.0.2.1:80": 200, "[::1]": 200, "[::1]:12080": 200, "[fe80::1%25eth0]:80": 200,
		"localhost": 200, "LocalHost:12080": 200, "clark": 200, "clark:12080": 200, machine: 200, strings.ToUpper(machine) + ":80": 200,
		"herd.example.org": 200, "Herd.Example.ORG:12080": 200,
		"":             200, // not from a browser
		"evil.example": 421, "evil.example:12080": 421, "127.0.0.1.evil.example": 421, "localhost.evil.example:80": 421,
		"example.org": 421, "x.herd.example.org": 421, "herd.example.org.": 421, "[evil.example]": 421, "evil.": 421,
	} {
		for _, path := range []string{"/", "/healthz", "/metrics", "/none"} {
			if want == 200 && path != "/healthz" {
				continue
			}
			w, r := httptest.NewRecorder(), httptest.NewRequest("GET", path, nil)
			r.Host = host
			a.Handler().ServeHTTP(w, r)
			if w.Code != want {
				t.Errorf("%q%s: %d, want %d", host, path, w.Code, want)
			}
			if body := w.Body.String(); want == 421 && !strings.Contains(body, "HERD_HTTP_HOSTS") {
				t.Errorf("%q%s: %q does not say what to do", host, path, body)
			}
		}
	}
}

// dial opens a connection and writes text to it.
func dial(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// get sends a request on an open connection.
func get(c net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path); err != nil {
		return "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return string(body), err
}

// C18: silent, half-finished and idle connections do not keep others out.
func TestWhoSaysNothingGivesWay(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "half a request": "GET / HTTP/1.1\r\nHost:", "no more": "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			addr, stop := serve(t, admin.New(admin.Config{}, source("Clark")))
			var conns []net.Conn
			for range 64 {
				c := dial(t, addr, text)
				conns = append(conns, c)
				if name != "no more" {
					continue
				}
				// One after the other: the connection that is answered first has been silent
				// for longest.
				if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 10 {
				if body, err := get(dial(t, addr, ""), "/healthz"); err != nil || body != "ok\n" {
					t.Errorf("newcomer %d: %q, %v", i, body, err)
				}
			}
			gone := 0
			for _, c := range conns[:10] {
				if _, err := io.Copy(io.Discard, c); err == nil || !os.IsTimeout(err) {
					gone++
				}
			}
			if gone != 10 {
				t.Errorf("of the 10 that were silent for longest %d gave way", gone)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// C18: a connection that is being answered is not evicted, and there are never more than 64.
func TestWhoIsAnsweredDoesNotGiveWay(t *testing.T) {
	asked, answer := make(chan struct{}, 100), make(chan struct{})
	slow := source("Clark")
	slow.Live = func() (bool, string) { asked <- struct{}{}; <-answer; return true, "" }
	addr, stop := serve(t, admin.New(admin.Config{}, slow))
	var conns []net.Conn
	for range 64 {
		conns = append(conns, dial(t, addr, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"))
	}
	for range conns {
		<-asked
	}
	if body, err := get(dial(t, addr, ""), "/readyz"); err == nil {
		t.Errorf("one too many was answered %q", body)
	}
	close(answer)
	for i, c := range conns {
		if r, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || r.StatusCode != 200 {
			t.Errorf("connection %d: %v", i, err)
		}
	}
	if body, err := get(dial(t, addr, ""), "/readyz"); err != nil || !strings.HasPrefix(body, "Clark ready") {
		t.Errorf("afterwards: %q, %v", body, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
