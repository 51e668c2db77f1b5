package httplog

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve asks a handler with what must not be logged, and returns the log and whether there was an answer.
func serve(t *testing.T, handler http.HandlerFunc) (logged, answer string) {
	t.Helper()
	var log bytes.Buffer
	to := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	srv := httptest.NewUnstartedServer(Panics(to, func(*http.Request) string { return "GET something" }, handler))
	srv.Config.ErrorLog = Rest(to)
	srv.Start()
	client := &http.Client{Transport: &http.Transport{}}
	got, err := client.Post(srv.URL+"/secret-path", "text/plain", strings.NewReader("secret-body"))
	if err == nil {
		text, _ := io.ReadAll(got.Body)
		got.Body.Close()
		answer = got.Status + " " + string(text)
	} else if !errors.Is(err, io.EOF) {
		t.Errorf("the connection ends with %v", err)
	}
	client.CloseIdleConnections()
	srv.Close() // waits for what is served
	return log.String(), answer
}

func TestAPanicIsLoggedAsAnErrorWithoutWhatWasSent(t *testing.T) {
	var nothing map[string]int
	for name, c := range map[string]struct {
		handler http.HandlerFunc
		says    string
	}{
		"of the runtime": {func(http.ResponseWriter, *http.Request) { nothing["x"]++ }, "assignment to entry in nil map"},
		"an index":       {func(_ http.ResponseWriter, r *http.Request) { _ = r.URL.Path[len(r.URL.Path):][0] }, "index out of range [0] with length 0"},
		"a text":         {func(_ http.ResponseWriter, r *http.Request) { panic("bad path " + r.URL.Path) }, "error=string"},
		"an error":       {func(_ http.ResponseWriter, r *http.Request) { panic(errors.New("bad path " + r.URL.Path)) }, "error=*errors.errorString"},
		"a type":         {func(_ http.ResponseWriter, r *http.Request) { _ = any(r.URL.Path).(int) }, "is string, not int"},
		"before all is told": {func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			w.WriteHeader(204)
			panic(1)
		}, "error=int"},
	} {
		t.Run(name, func(t *testing.T) {
			logged, answer := serve(t, c.handler)
			if !strings.Contains(logged, "level=ERROR") || !strings.Contains(logged, `request="GET something"`) || !strings.Contains(logged, c.says) || !strings.Contains(logged, "httplog_test.go:") {
				t.Errorf("logged is\n%s", logged)
			}
			if strings.Contains(logged, "secret") || strings.Count(logged, "level=") != 1 {
				t.Errorf("what was sent is logged, or more than the panic:\n%s", logged)
			}
			if answer != "" {
				t.Errorf("answered %q", answer)
			}
		})
	}
}

func TestWhatIsNoPanicIsNoError(t *testing.T) {
	if logged, answer := serve(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "fine") }); logged != "" || answer != "200 OK fine" {
		t.Errorf("answered %q, logged %q", answer, logged)
	}
	if logged, answer := serve(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }); logged != "" || answer != "" {
		t.Errorf("a handler that gives up: answered %q, logged %q", answer, logged)
	}
	logged, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(200); w.WriteHeader(201) })
	if !strings.Contains(logged, "level=DEBUG") || !strings.Contains(logged, "superfluous") || strings.Contains(logged, "level=ERROR") {
		t.Errorf("another line of net/http is logged as %q", logged)
	}
}

func TestAFloodOfPanicsIsNotAllLogged(t *testing.T) {
	var log bytes.Buffer
	h := Panics(slog.New(slog.NewTextHandler(&log, nil)), func(*http.Request) string { return "" }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(1) }))
	for range 1000 {
		func() {
			defer func() {
				if cause := recover(); cause != http.ErrAbortHandler {
					t.Errorf("it ends with %v", cause)
				}
			}()
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
		}()
	}
	if n := strings.Count(log.String(), "level=ERROR"); n < 10 || n > 500 {
		t.Errorf("%d of 1000 are logged", n)
	}
}
