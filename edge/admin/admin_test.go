package admin_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/admin"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// status is that of an edge called name with two neighbours.
func status(name string) admin.Status {
	return admin.Status{
		Edge: name, Epoch: "187fa3c2b9d01e00-9a3b5c7d", Version: "v0.1.0", Ready: true,
		Clients: 1_234_567, Connections: 42, Revision: 98_765_432,
		Links: []admin.LinkStatus{
			{Neighbour: "Jaquez", Up: true, Lag: 3, RoundTripSeconds: 0.00042, ClockSeconds: 0.00012},
			{Neighbour: "Juzang", Up: false, Lag: 12_345, RoundTripSeconds: 1.25, ClockSeconds: -6.5, ConfigDiffers: true},
		},
		Journal: admin.Journal{Mode: "off"},
		Broker:  "connected nats://127.0.0.1:4222",
		Places:  []admin.PlacesStatus{{Provider: "google", BreakerOpen: true, BudgetLeft: new(1234)}, {Provider: "gazetteer"}},
	}
}

// source is an edge that is well.
func source(name string) admin.Source {
	return admin.Source{
		Name:    name,
		Status:  func() admin.Status { return status(name) },
		Metrics: func() admin.Metrics { return admin.Metrics{} },
		Ready:   func() (bool, string) { return true, "" },
		Live:    func() bool { return true },
	}
}

// joining is an edge that is not ready.
func joining(name string) admin.Source {
	s := source(name)
	s.Ready = func() (bool, string) { return false, "waiting for <neighbours>" }
	s.Status = func() admin.Status {
		return admin.Status{Edge: name, Journal: admin.Journal{Mode: "auto", Lag: 1234}, Broker: "away"}
	}
	return s
}

func ask(t *testing.T, a *admin.Admin, method, path string) (*http.Response, string) {
	t.Helper()
	w := httptest.NewRecorder()
	a.Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	answer := w.Result()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer, string(body)
}

func TestHealthAndReadiness(t *testing.T) {
	dead := source("Johnson")
	dead.Live = func() bool { return false }
	for _, test := range []struct {
		name    string
		path    string
		sources []admin.Source
		code    int
		body    string
	}{
		{"all are alive", "/healthz", []admin.Source{source("Clark"), joining("Jaquez")}, 200, "ok\n"},
		{"one is not alive", "/healthz", []admin.Source{source("Clark"), dead}, 503, "Johnson is not alive\n"},
		{"one edge is ready", "/readyz", []admin.Source{source("Clark")}, 200,
			"Clark ready; broker connected nats://127.0.0.1:4222\n"},
		{"one of two is not", "/readyz", []admin.Source{source("Clark"), joining("Jaquez")}, 503,
			"Clark ready; broker connected nats://127.0.0.1:4222\nJaquez not ready: waiting for <neighbours>; broker away\n"},
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

func TestStatusIsTheContractsJSON(t *testing.T) {
	got, err := json.Marshal(status("Clark"))
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"edge":"Clark","epoch":"187fa3c2b9d01e00-9a3b5c7d","version":"v0.1.0","ready":true,"clients":1234567,"connections":42,"revision":98765432,` +
		`"links":[{"neighbour":"Jaquez","up":true,"lag":3,"round_trip_seconds":0.00042,"clock_seconds":0.00012,"config_differs":false},` +
		`{"neighbour":"Juzang","up":false,"lag":12345,"round_trip_seconds":1.25,"clock_seconds":-6.5,"config_differs":true}],` +
		`"journal":{"mode":"off","lag":0},"broker":"connected nats://127.0.0.1:4222",` +
		`"places":[{"provider":"google","breaker_open":true,"budget_left":1234},{"provider":"gazetteer","breaker_open":false}]}`
	if string(got) != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if got, err := json.Marshal(admin.Status{}); err != nil || !strings.Contains(string(got), `"links":[]`) || !strings.Contains(string(got), `"places":[]`) {
		t.Errorf("a lone edge: %s, %v", got, err)
	}
	var back admin.Status
	if err := json.Unmarshal(got, &back); err != nil || back.Links[1] != status("Clark").Links[1] {
		t.Errorf("read back as %+v, %v", back, err)
	}
}

// serve runs a's server until stop is called, which returns what Serve did.
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
		case <-time.After(10 * time.Second):
			t.Fatal("the server does not stop")
			return nil
		}
	}
}

func TestAStopLetsAnAnswerFinish(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := source("Clark")
	slow.Live = func() bool { close(asked); <-answer; return true }
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
	send("GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: x\r\n\r\n")
	// By the time that this is answered the others have been accepted.
	kept := send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := bufio.NewReader(kept).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	if err := stop(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("the stop took %v", took)
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
