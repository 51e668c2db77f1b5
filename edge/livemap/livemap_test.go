package livemap

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func ask(t *testing.T, method, path string) *http.Response {
	t.Helper()
	w := httptest.NewRecorder()
	Handler().ServeHTTP(w, httptest.NewRequest(method, path, nil))
	return w.Result()
}

// The page loads files of its own server alone, by relative links, and each of them is there.
func TestThePageHasAllItsFiles(t *testing.T) {
	links := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(pageHTML, -1)
	linked := 1 // the page itself
	for _, m := range links {
		if strings.HasPrefix(m[1], "data:") {
			continue
		}
		linked++
		if !strings.HasPrefix(m[1], "page/") {
			t.Errorf("%s is no file of the page's own, by a relative link", m[1])
		}
		if r := ask(t, "GET", "/"+m[1]); r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != files["/"+m[1]].kind {
			t.Errorf("%s: %s, %s", m[1], r.Status, r.Header.Get("Content-Type"))
		}
	}
	if linked != len(files) {
		t.Errorf("the page and its links are %d files, there are %d", linked, len(files))
	}
	if strings.Contains(files["/"].text, "OUTLINE") {
		t.Error("the page has no outline of the world")
	}
}

// Nothing in the page needs a policy that is laxer than its own.
func TestThePolicyIsKept(t *testing.T) {
	for _, path := range []string{"/", "/page/live.js", "/page/none", "/none"} {
		h := ask(t, "GET", path).Header
		if h.Get("Content-Security-Policy") != policy || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, h)
		}
	}
	if strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
		t.Errorf("the policy is %s", policy)
	}
	for _, bad := range []string{` style="`, ` onclick="`, "<style", "<script>", "javascript:"} {
		if strings.Contains(pageHTML, bad) {
			t.Errorf("the page has %s", bad)
		}
	}
	for name, text := range map[string]string{"follow.js": followJS, "live.js": liveJS} {
		if m := regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|\.style\b|setAttribute\('style`).FindString(text); m != "" {
			t.Errorf("%s has %s", name, m)
		}
	}
}

func TestOtherPathsAreNoFiles(t *testing.T) {
	for _, path := range []string{"/page/", "/page/page.html", "/page/../", "/page//live.js", "/x"} {
		if r := ask(t, "GET", path); r.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, r.Status)
		}
	}
}
