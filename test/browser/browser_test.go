package browser_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"herd/test/browser"
	"herd/test/herdtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(browser.Main(m)) }

// TestWhatNoPageMayDoIsNoticed: without this, tests that rely on the package could not fail.
func TestWhatNoPageMayDoIsNoticed(t *testing.T) {
	b := browser.Start(t)
	other := httptest.NewServer(http.NotFoundHandler())
	defer other.Close()
	for _, test := range []struct{ name, policy, body, want string }{
		{"an error", "", `<script>console.error("oh")</script>`, "console"},
		{"an exception", "", `<script>nothing()</script>`, "nothing is not defined"},
		{"a forbidden script", "script-src 'none'", `<script>1</script>`, "Content Security Policy"},
		{"a forbidden style", "style-src 'none'", `<p style="color: red">x`, "Content Security Policy"},
		{"another server", "", `<img src="` + other.URL + `/x.png" alt="">`, "request to " + other.URL},
		{"a missing file", "", `<img src="/missing.png" alt="">`, "404"},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/" {
					http.NotFound(w, r)
					return
				}
				w.Header().Set("Content-Type", "text/html; charset=utf-8")
				w.Header().Set("Content-Security-Policy", test.policy)
				_, _ = w.Write([]byte(`<!DOCTYPE html><html lang="en"><title>x</title><link rel="icon" href="data:,">` + test.body))
			}))
			t.Cleanup(s.Close)
			quiet := &silent{TB: t}
			p := b.Open(quiet, s.URL+"/", browser.Options{})
			herdtest.Eventually(t, herdtest.Promise(0), test.want, func() error {
				all := strings.Join(p.Wrong(), "\n")
				if strings.Contains(all, test.want) {
					return nil
				}
				return &missing{all}
			})
			p.Check(nil)
			if quiet.errors == 0 {
				t.Error("the test of the page would have passed")
			}
		})
	}
}

type missing struct{ all string }

func (m *missing) Error() string { return "noticed: " + m.all }

// silent counts errors instead of failing the test.
type silent struct {
	testing.TB
	errors int
}

func (s *silent) Errorf(string, ...any) { s.errors++ }

func TestAPageOfTheBrowserIsAsItWasAskedFor(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write([]byte(`<!DOCTYPE html><html lang="en"><link rel="icon" href="data:,"><p>plain</p><script>document.querySelector("p").textContent = innerWidth + " " + matchMedia("(prefers-color-scheme: dark)").matches</script>`))
	}))
	t.Cleanup(s.Close)
	b := browser.Start(t)
	for want, o := range map[string]browser.Options{
		"1280 false": {}, "390 true": {Width: 390, Height: 800, Dark: true}, "plain": {NoScript: true},
	} {
		if got := b.Open(t, s.URL, o).Text("p"); got != want {
			t.Errorf("%+v: %q, want %q", o, got, want)
		}
	}
}
