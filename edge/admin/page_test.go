package admin_test

import (
	"crypto/sha256"
	"encoding/base64"
	"flag"
	"os"
	"strings"
	"testing"

	"herd/edge/admin"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

func TestThePage(t *testing.T) {
	for _, test := range []struct {
		golden string
		a      *admin.Admin
	}{
		{"one.html", admin.New(admin.Config{Version: "v0.1.0", Commit: "938ce4e"}, source("Clark"))},
		{"two.html", admin.New(admin.Config{Version: "devel"}, source("Clark"), joining("Jaquez"))},
	} {
		t.Run(test.golden, func(t *testing.T) {
			answer, body := ask(t, test.a, "GET", "/")
			if got := answer.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
				t.Errorf("content type %q", got)
			}
			// Style and script are checked below; the golden file is for the rest.
			got := cut(cut(body, "<style>", "</style>"), "<script>", "</script>")
			golden := "testdata/" + test.golden
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the page is no longer %s; go test ./edge/admin -run ThePage -update, and look at the difference.\n%s", golden, got)
			}
		})
	}
}

// cut takes out what stands between two tags.
func cut(page, from, to string) string {
	before, rest, _ := strings.Cut(page, from)
	_, after, _ := strings.Cut(rest, to)
	return before + from + to + after
}

func TestThePolicyLetsThePagesOwnPartsRun(t *testing.T) {
	answer, body := ask(t, admin.New(admin.Config{}, source("Clark")), "GET", "/")
	policy := answer.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}
	for tag, file := range map[string]string{"script": "page.js", "style": "page.css"} {
		_, rest, _ := strings.Cut(body, "<"+tag+">")
		part, _, found := strings.Cut(rest, "</"+tag+">")
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !found || part != string(source) {
			t.Errorf("the %s is not %s as it is", tag, file)
		}
		sum := sha256.Sum256([]byte(part))
		if want := tag + "-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "';"; !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
		if strings.Count(body, "<"+tag) != 1 {
			t.Errorf("there is not one %s", tag)
		}
	}
	if strings.Contains(body, " style=") || strings.Contains(body, " onload=") {
		t.Error("the page has what the policy forbids")
	}
}
