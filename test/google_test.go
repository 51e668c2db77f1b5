package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"herd/cmd/herd/load"
	"herd/places/google/googletest"
	"herd/test/herdtest"
)

// street returns n places at UCLA, 50 m apart.
func street(n int) []googletest.Place {
	var all []googletest.Place
	for i := range n {
		all = append(all, googletest.Place{ID: fmt.Sprintf("ChIJ%04d", i), Name: fmt.Sprintf("Café %d", i), Lat: 34.06893, Lon: -118.445127 + float64(i)*0.0005})
	}
	return all
}

// asksGoogle returns the environment of an edge that asks only the fake Google, without limits.
func asksGoogle(s *googletest.Server, provider string) map[string]string {
	return map[string]string{
		"HERD_PLACES": provider, "HERD_GOOGLE_KEY": googletest.Key, "HERD_GOOGLE_URL": s.URL,
		"HERD_PLACES_DAILY": "0", "HERD_PLACES_RATE": "0",
		"HERD_PLACES_TIMEOUT": "1h", // nothing takes so long
	}
}

// An edge with a key asks Google, and the next provider if Google fails.
func TestAnEdgeAsksGoogle(t *testing.T) {
	quiet(t)
	s := googletest.Start(t, street(30)...)
	keyFile := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(keyFile, []byte(googletest.Key+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "New-Auto,Auto-Old", Each: func(e *herdtest.EdgeProcess) {
		e.Env["HERD_GOOGLE_URL"], e.Env["HERD_PLACES_TIMEOUT"] = s.URL, "1h"
		switch e.Name {
		case "New":
			e.Env["HERD_PLACES"], e.Env["HERD_GOOGLE_KEY"] = "google", googletest.Key
		case "Old":
			e.Env["HERD_PLACES"], e.Env["HERD_GOOGLE_KEY"] = "google-legacy", googletest.Key
		case "Auto":
			e.Env["HERD_GOOGLE_KEY_FILE"] = keyFile
			e.Env["HERD_DATA"] = t.TempDir()
			e.Env["HERD_PLACES_DAILY"] = "3"
		}
	}})
	for _, e := range h.All() {
		// The nearest places are returned, and no more than are asked for (C15).
		c := dial(t, e.Addr)
		c.send("IAMAT kiwi-" + e.Name + " " + ucla + " 5\n")
		told := c.line()
		for _, most := range []int{1, 7, 20} {
			at, text := c.whatsat(fmt.Sprintf("kiwi-%s 10 %d", e.Name, most))
			got := nearby(t, text)
			if at != told || got.Status != "OK" || len(got.Results) != most || got.Results[0].Name != "Café 0" || got.Results[most-1].PlaceID != fmt.Sprintf("ChIJ%04d", most-1) {
				t.Errorf("%s, max %d: %s\n%s", e.Name, most, at, text)
			}
		}
	}
	if _, text := whatsat(h.Edges["Old"], "kiwi-Old 10 1"); !strings.Contains(text, `"icon":`) {
		t.Errorf("the legacy answer is not passed on as it came: %s", text)
	}

	// HERD_PLACES_DAILY is used up: no question waits, and the next provider answers. A restart
	// changes nothing.
	auto := h.Edges["Auto"]
	for range 2 {
		if _, text := whatsat(auto, "kiwi-Auto 10 20"); !strings.Contains(text, "gazetteer") || nearby(t, text).Status != "OK" {
			t.Errorf("over the budget: %s", text)
		}
		if n := auto.Metric("herd_places_budget_left", `provider="google"`); n != 0 {
			t.Errorf("%v questions left, want 0", n)
		}
		auto.Kill()
		auto.Start()
		auto.AwaitReady()
	}

	// C16: whatever Google answers, the client gets the AT line and a status of Nearby Search.
	for _, failure := range []struct {
		name, status string
		new, old     http.HandlerFunc
	}{
		{"HTTP 400", "INVALID_REQUEST", fails(400), says("INVALID_REQUEST")},
		{"HTTP 403", "REQUEST_DENIED", fails(403), says("REQUEST_DENIED")},
		{"HTTP 500", "UNKNOWN_ERROR", fails(500), fails(500)},
		{"HTTP 429", "OVER_QUERY_LIMIT", fails(429), says("OVER_QUERY_LIMIT")},
	} {
		for name, behave := range map[string]http.HandlerFunc{"New": failure.new, "Old": failure.old} {
			s.Behave(behave)
			at, text := whatsat(h.Edges[name], "kiwi-"+name+" 10 5")
			got := nearby(t, text)
			if !strings.Contains(at, " kiwi-"+name+" ") || got.Status != failure.status || got.ErrorMessage == "" || len(got.Results) > 0 {
				t.Errorf("%s %s: %s\n%s", name, failure.name, at, text)
			}
		}
	}
}

func fails(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { googletest.WriteError(w, code, "STATUS", "no") }
}

func says(status string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { googletest.WriteStatus(w, status, "no") }
}

// whatsat sends one WHATSAT on a new connection.
func whatsat(e *herdtest.EdgeProcess, args string) (at, text string) {
	e.T.Helper()
	c := dial(e.T, e.Addr)
	defer c.Close()
	return c.whatsat(args)
}

// Equal questions at the same time are one question to Google.
func TestFiveHundredClientsAskAtOnce(t *testing.T) {
	quiet(t)
	s := googletest.Start(t, street(30)...)
	_, e := herdtest.StartLone(t, asksGoogle(s, "google"))
	talk(t, e.Addr, "IAMAT kiwi "+ucla+" 5\n")
	release := s.Hang()
	defer release()
	var all []*conn
	for i := range 500 {
		c := dial(t, e.Addr)
		c.send(fmt.Sprintf("WHATSAT kiwi 10 %d\n", 1+i%20))
		all = append(all, c)
	}
	herdtest.Eventually(t, herdtest.Promise(4*time.Second), "all 500 wait", func() error {
		if n := e.Metric("herd_commands_total", `command="whatsat"`, `outcome="ok"`); n != 500 || s.Waiting() == 0 {
			return fmt.Errorf("%v questions came, %d went out", n, s.Waiting())
		}
		return nil
	})
	release()
	for i, c := range all {
		c.line() // the AT line
		var text strings.Builder
		for !strings.HasSuffix(text.String(), "\n\n") {
			text.WriteString(c.line() + "\n")
		}
		if got := nearby(t, strings.TrimSuffix(text.String(), "\n\n")); got.Status != "OK" || len(got.Results) != 1+i%20 {
			t.Fatalf("client %d: %s", i, text.String())
		}
	}
	if n := s.Asked(); n != 1 {
		t.Errorf("%d questions went out, want 1", n)
	}
	if n := e.Metric("herd_places_requests_total", `provider="google"`); n != 1 {
		t.Errorf("%v questions are counted, want 1", n)
	}
}

// C16: a provider that hangs costs only the places of those who ask, and nothing else (for
// latencies see row hang of test/bench). Once it is back, it is asked again.
func TestAProviderThatHangs(t *testing.T) {
	quiet(t)
	const limit = 10 * time.Second // HERD_PLACES_TIMEOUT: long, so that others are answered meanwhile
	const rest = 5 * time.Second   // how long it is not asked after failures
	s := googletest.Start(t, street(30)...)
	env := asksGoogle(s, "google")
	env["HERD_PLACES_TIMEOUT"] = limit.String()
	_, e := herdtest.StartLone(t, env)

	const askers = 50
	told := make([]string, askers)
	for i := range told { // each at another place, so that each question is sent
		told[i] = strings.TrimSuffix(talk(t, e.Addr, fmt.Sprintf("IAMAT asker-%d +34.0689%02d-118.445127 5\n", i, i)), "\n")
	}
	tr := begin(t, load.Config{Addrs: []string{e.Addr}, Prefix: "device-", Rate: 500, Conns: size(20, 200), Clients: size(200, 1000)})
	tr.warm(herdtest.Promise(10 * time.Second))

	release := s.Hang()
	defer release()
	var asking sync.WaitGroup
	for i := range askers {
		c := dial(t, e.Addr)
		asking.Go(func() {
			start := time.Now()
			c.send(fmt.Sprintf("WHATSAT asker-%d 10 5\n", i))
			at := c.line()
			took := time.Since(start)
			rest := []string{c.line(), c.line(), c.line(), c.line(), c.line()}
			if got := nearby(t, strings.Join(rest[:4], "\n")); at != told[i] || got.Status != "UNKNOWN_ERROR" || rest[4] != "" {
				t.Errorf("asker %d: %s\n%q", i, at, rest)
			}
			if took < limit-10*time.Millisecond {
				t.Errorf("asker %d waited %v, want %v", i, took, limit)
			}
		})
	}
	herdtest.Eventually(t, herdtest.Promise(time.Second), "all questions hang", func() error {
		if n := s.Waiting(); n != askers {
			return fmt.Errorf("%d do", n)
		}
		return nil
	})
	heard := tr.heard()
	herdtest.Eventually(t, herdtest.Promise(time.Second), "others are answered", func() error {
		if n := tr.heard() - heard; n < 500 {
			return fmt.Errorf("%d times", n)
		}
		return nil
	})
	if n := s.Waiting(); n != askers {
		t.Errorf("by then %d questions hang, want %d: others had to wait for them", n, askers)
	}
	asking.Wait()

	// It is not asked now, so no question waits.
	open, asked := time.Now(), s.Asked()
	if e.Metric("herd_places_breaker_open", `provider="google"`) != 1 && time.Since(open) < rest {
		t.Error("the breaker is not open")
	}
	if _, text := whatsat(e, "asker-0 10 5"); nearby(t, text).Status != "UNKNOWN_ERROR" {
		t.Errorf("with the breaker open: %s", text)
	}
	if s.Asked() != asked && time.Since(open) < rest {
		t.Error("with the breaker open a question went out")
	}
	release()
	back := herdtest.Eventually(t, herdtest.Promise(15*time.Second), "Google is asked again", func() error {
		if _, text := whatsat(e, "asker-0 10 5"); nearby(t, text).Status != "OK" {
			return fmt.Errorf("%s", text)
		}
		return nil
	})
	if e.Metric("herd_places_breaker_open", `provider="google"`) != 0 {
		t.Error("the breaker is open still")
	}
	t.Logf("Google was back, and asked again %v later", back.Round(10*time.Millisecond))
	tr.stop()
}

// The key is sent to Google, and shown nowhere else.
func TestTheKeyIsShownNowhere(t *testing.T) {
	quiet(t)
	key := googletest.Key
	echo := "key " + key + ", https://maps.googleapis.com/maps/api/place/nearbysearch/json?key=" + key
	s := googletest.Start(t)
	other := googletest.Start(t) // the target of redirects: it would complain about the key
	data := t.TempDir()
	h, e := herdtest.StartLone(t, map[string]string{
		"HERD_PLACES": "google,google-legacy,gazetteer", "HERD_GOOGLE_KEY": key, "HERD_GOOGLE_URL": s.URL, "HERD_PLACES_DAILY": "9",
		"HERD_DATA": data, "HERD_TRANSCRIPT_LINKS": "true", "HERD_LOG_LEVEL": "debug", "HERD_PLACES_TIMEOUT": "4s", "HERD_PPROF": "true",
	})
	var seen strings.Builder // everything that people can see
	seen.WriteString(talk(t, e.Addr, "IAMAT kiwi "+ucla+" 5\n"))
	for _, behave := range []http.HandlerFunc{
		func(w http.ResponseWriter, _ *http.Request) { googletest.WriteError(w, 403, "PERMISSION_DENIED", echo) },
		func(w http.ResponseWriter, _ *http.Request) { googletest.WriteStatus(w, "REQUEST_DENIED", echo) },
		func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other.URL+r.URL.RequestURI(), http.StatusTemporaryRedirect)
		},
		func(w http.ResponseWriter, _ *http.Request) {
			googletest.WriteJSON(w, 200, `{"places":[{"id":"`+echo+`"}],"results":[{"name":"`+echo+`"}],"status":"OK"}`)
		},
		func(w http.ResponseWriter, _ *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				io.WriteString(conn, echo+"\r\n\r\n")
				conn.Close()
			}
		},
		func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		s.Behave(behave)
		e.Kill() // so that each provider is asked and its failures are logged
		seen.WriteString(e.Stdout.String() + e.Stderr.String())
		e.Start()
		e.AwaitReady()
		seen.WriteString(talk(t, e.Addr, "IAMAT kiwi "+ucla+" 5\n"))
		at, text := whatsat(e, "kiwi 10 5")
		seen.WriteString(at + text)
		env := map[string]string{"HERD_PLACES": "google,google-legacy", "HERD_GOOGLE_KEY": key, "HERD_GOOGLE_URL": s.URL, "HERD_PLACES_TIMEOUT": "4s"}
		tool := herdtest.StartChild(t, "herd places", herdtest.Binary(t, "herd"), env, "places", ucla, "10", "5")
		if code := tool.Wait(herdtest.Promise(10 * time.Second)); code != 1 {
			t.Errorf("herd places exits %d, want 1: %s", code, tool.Stderr)
		}
		seen.WriteString(tool.Stdout.String() + tool.Stderr.String())
	}
	for _, path := range []string{"/metrics", "/", "/readyz", "/healthz", "/debug/pprof/cmdline", "/debug/pprof/goroutine?debug=2"} {
		_, body, err := e.Get(path)
		if err != nil {
			t.Fatal(err)
		}
		seen.WriteString(body)
	}
	tool := herdtest.StartChild(t, "herd status", herdtest.Binary(t, "herd"), map[string]string{"NATS_URL": h.NATS.URL()}, "status", "--json")
	tool.Wait(herdtest.Promise(10 * time.Second))
	seen.WriteString(tool.Stdout.String() + tool.Stderr.String())
	if !strings.Contains(tool.Stdout.String(), `"budget_left": 0`) {
		t.Errorf("herd status --json does not show the budget: %s", tool.Stdout)
	}
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", e.Cmd.Process.Pid)); err == nil {
		seen.Write(args)
	}
	e.Signal(syscall.SIGINT)
	e.Wait(herdtest.Promise(10 * time.Second))
	seen.WriteString(e.Stdout.String() + e.Stderr.String())
	files := 0
	err := filepath.WalkDir(data, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		seen.Write(text)
		files++
		return err
	})
	if err != nil || files < 2 { // the transcript, and the count of questions
		t.Errorf("%d files in HERD_DATA, %v", files, err)
	}
	all := seen.String()
	for _, want := range []string{"[secret]", "places provider failed", "HTTP 307", "malformed HTTP", "outcome=timeout", "WHATSAT kiwi", "used up"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not among what was seen: the test did not see what it should", want)
		}
	}
	if i := strings.Index(all, key[:20]); i >= 0 {
		t.Errorf("the key is shown: …%s", all[max(0, i-300):min(len(all), i+100)])
	}
}
