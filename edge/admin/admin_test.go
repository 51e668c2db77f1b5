package admin_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/admin"
	"herd/edge/overview"
	"herd/test/browser"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(browser.Main(m)) }

// status returns the status of an edge called name with two neighbours.
func status(name string) overview.Status {
	return overview.Status{
		Edge: name, Epoch: "187fa3c2b9d01e00-9a3b5c7d", Version: "v0.1.0", Ready: true, Topology: "Clark-Jaquez,Clark-Juzang",
		Clients: 1_234_567, Connections: 42, Revision: 98_765_432,
		Links: []overview.LinkStatus{
			{Neighbour: "Jaquez", Up: true, In: true, Out: true, Lag: 3, RoundTripSeconds: 0.00042, ClockSeconds: 0.00012},
			{Neighbour: "Juzang", Up: false, Out: true, PutOff: 1_234, Unsendable: 2, Lag: 12_345, RoundTripSeconds: 1.25, ClockSeconds: -6.5, ConfigDiffers: true, Downs: 7, DownSince: time.Date(2026, 11, 29, 23, 4, 5, 0, time.UTC)},
		},
		Journal: overview.Journal{Mode: "off"},
		Broker:  "connected nats://127.0.0.1:4222",
		Places:  []overview.PlacesStatus{{Provider: "google", BreakerOpen: true, BudgetLeft: new(1234)}, {Provider: "gazetteer"}},
	}
}

// source returns an edge with no problem.
func source(name string) admin.Source {
	return admin.Source{
		Name:    name,
		Status:  func() overview.Status { return status(name) },
		Metrics: func() admin.Metrics { return admin.Metrics{} },
		Ready:   func() (bool, string) { return true, "" },
		Live:    func() (bool, string) { return true, "" },
	}
}

// joining returns an edge that is not ready.
func joining(name string) admin.Source {
	s := source(name)
	s.Ready = func() (bool, string) { return false, "waiting for <neighbours>" }
	s.Status = func() overview.Status {
		return overview.Status{Edge: name, Journal: overview.Journal{Mode: "auto", Lag: 1234}, Broker: "away", Clock: "differs by a <minute>"}
	}
	return s
}

func ask(t *testing.T, a *admin.Admin, method, path string) (*http.Response, string) {
	t.Helper()
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, nil)
	r.Host = "127.0.0.1:12080"
	a.Handler().ServeHTTP(w, r)
	answer := w.Result()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func TestHealthAndReadiness(t *testing.T) {
	dead := source("Johnson")
	dead.Live = func() (bool, string) { return false, "the table hangs" }
	for _, test := range []struct {
		name    string
		path    string
		sources []admin.Source
		code    int
		body    string
	}{
		{"all are alive", "/healthz", []admin.Source{source("Clark"), joining("Jaquez")}, 200, "ok\n"},
		{"one is not alive", "/healthz", []admin.Source{source("Clark"), dead}, 503, "Johnson is not alive: the table hangs\n"},
		{"one edge is ready", "/readyz", []admin.Source{source("Clark")}, 200,
			"Clark ready; broker connected nats://127.0.0.1:4222\n"},
		{"one of two is not", "/readyz", []admin.Source{source("Clark"), joining("Jaquez")}, 503,
			"Clark ready; broker connected nats://127.0.0.1:4222\nJaquez not ready: waiting for <neighbours>; broker away; clock: differs by a <minute>\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			answer, body := ask(t, admin.New(admin.Config{}, test.sources...), "GET", test.path)
			if answer.StatusCode != test.code || body != test.body {
				t.Errorf("answer %d %q, want %d %q", answer.StatusCode, body, test.code, test.body)
			}
			if got := answer.Header.Get("Content-Type"); got != "text/plain; charset=utf-8" {
				t.Errorf("content type %q", got)
			}
		})
	}
}

func TestOnlyReading(t *testing.T) {
	a := admin.New(admin.Config{Pprof: true}, source("Clark"))
	for _, path := range []string{"/", "/healthz", "/readyz", "/metrics", "/debug/pprof/"} {
		for _, method := range []string{"GET", "HEAD"} {
			answer, _ := ask(t, a, method, path)
			if answer.StatusCode != 200 {
				t.Errorf("%s %s: %s", method, path, answer.Status)
			}
			for header, want := range map[string]string{
				"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
			} {
				if got := answer.Header.Get(header); got != want {
					t.Errorf("%s %s: %s is %q, want %q", method, path, header, got, want)
				}
			}
		}
		for _, method := range []string{"POST", "PUT", "DELETE", "OPTIONS", "PATCH"} {
			answer, _ := ask(t, a, method, path)
			if allow := answer.Header.Get("Allow"); answer.StatusCode != 405 || allow != "GET, HEAD" {
				t.Errorf("%s %s: %s, allowed are %q", method, path, answer.Status, allow)
			}
		}
	}
	if answer, _ := ask(t, a, "GET", "/favicon.ico"); answer.StatusCode != 404 {
		t.Errorf("an unknown path: %s", answer.Status)
	}
}

func TestProfilesOnlyWhereAskedFor(t *testing.T) {
	answer, _ := ask(t, admin.New(admin.Config{}, source("Clark")), "GET", "/debug/pprof/")
	if answer.StatusCode != 404 {
		t.Errorf("without Pprof: %s", answer.Status)
	}
	answer, body := ask(t, admin.New(admin.Config{Pprof: true}, source("Clark")), "GET", "/debug/pprof/goroutine?debug=1")
	if answer.StatusCode != 200 || !strings.HasPrefix(body, "goroutine profile:") {
		t.Errorf("with Pprof: %s, %.40q", answer.Status, body)
	}
}

// serve runs a's server. stop stops it and returns the result of Serve.
func serve(t *testing.T, a *admin.Admin) (addr string, stop func() error) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx, ln) }()
	return ln.Addr().String(), func() error {
		cancel()
		select {
		case err := <-done:
			return err
		case <-time.After(time.Minute):
			t.Fatal("the server does not stop")
			return nil
		}
	}
}

// A fault of ours is an error in the log, which has nothing of what was sent, and costs its connection
// alone.
func TestAHandlerThatPanics(t *testing.T) {
	broken := source("Clark")
	broken.Live = func() (bool, string) { panic("not alive") }
	var log bytes.Buffer // read when all is over
	addr, stop := serve(t, admin.New(admin.Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, broken))
	c := dial(t, addr, "GET /healthz?secret HTTP/1.1\r\nHost: localhost\r\nX-Token: secret\r\n\r\n")
	if text, err := io.ReadAll(c); len(text) > 0 || err != nil {
		t.Errorf("answered %q, %v", text, err)
	}
	if body, err := get(dial(t, addr, ""), "/readyz"); err != nil || !strings.HasPrefix(body, "Clark ready") {
		t.Errorf("afterwards: %q, %v", body, err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	if text := log.String(); !strings.Contains(text, `level=ERROR msg="panic while a request was answered" request="GET /healthz" error=string`) || strings.Contains(text, "secret") {
		t.Errorf("logged is\n%s", text)
	}
}

func TestAStopLetsAnAnswerFinish(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := source("Clark")
	slow.Live = func() (bool, string) { close(asked); <-answer; return true, "" }
	addr, stop := serve(t, admin.New(admin.Config{}, slow))

	got := make(chan string, 1)
	go func() {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		r, err := client.Get("http://" + addr + "/healthz")
		if err != nil {
			got <- err.Error()
			return
		}
		defer r.Body.Close()
		body, _ := io.ReadAll(r.Body)
		got <- r.Status + " " + string(body)
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	// The stop has begun when nobody can connect any more.
	for begun := false; !begun; {
		conn, err := net.Dial("tcp", addr)
		if begun = err != nil; !begun {
			conn.Close()
		}
	}
	close(answer)
	if err := <-stopped; err != nil {
		t.Error(err)
	}
	if text := <-got; text != "200 OK ok\n" {
		t.Errorf("the answer was %q", text)
	}
}

func TestAStopDoesNotWaitForSilentConnections(t *testing.T) {
	addr, stop := serve(t, admin.New(admin.Config{Pprof: true}, source("Clark")))
	send := func(text string) net.Conn {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		if _, err := io.WriteString(conn, text); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	send("")
	send("GET / HTTP/1.1\r\nHost:")
	send("GET /debug/pprof/profile?seconds=600 HTTP/1.1\r\nHost: x\r\n\r\n")
	// Once this is answered, the other connections have been accepted.
	kept := send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReader(kept).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil { // must not wait for the profile to finish
		t.Error(err)
	}
}

func TestServeTellsWhyItCannotGoOn(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ln.Close()
	err = admin.New(admin.Config{}, source("Clark")).Serve(t.Context(), ln)
	if err == nil || !strings.Contains(err.Error(), ln.Addr().String()) {
		t.Errorf("error: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := admin.New(admin.Config{}, source("Clark")).Serve(ctx, ln); err != nil {
		t.Errorf("ended before it began: %v", err)
	}
}
