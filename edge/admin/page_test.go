package admin_test

import (
	"crypto/sha256"
	"encoding/base64"
	"os"
	"regexp"
	"strings"
	"testing"

	"herd/edge/admin"
)

func TestThePolicyLetsThePagesOwnPartsRun(t *testing.T) {
	answer, body := ask(t, admin.New(admin.Config{}, source("Clark")), "GET", "/")
	if got := answer.Header.Get("Content-Type"); got != "text/html; charset=utf-8" {
		t.Errorf("content type %q", got)
	}
	policy := answer.Header.Get("Content-Security-Policy")
	if !strings.HasPrefix(policy, "default-src 'none'; ") || strings.Contains(policy, "unsafe") {
		t.Errorf("policy: %s", policy)
	}
	for tag, files := range map[string][]string{
		"script": {"../worldmap/map.js", "graph.js", "questions.js", "page.js"}, "style": {"page.css"},
	} {
		parts := regexp.MustCompile(`(?s)<`+tag+`>(.*?)</`+tag+`>`).FindAllStringSubmatch(body, -1)
		if len(parts) != len(files) || strings.Count(body, "<"+tag) != len(files) {
			t.Fatalf("there are %d of %s, not %d", len(parts), tag, len(files))
		}
		want := tag + "-src"
		for i, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if parts[i][1] != string(text) {
				t.Errorf("%s is not on the page as it is", file)
			}
			sum := sha256.Sum256(text)
			want += " 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'"
		}
		if !strings.Contains(policy, want+";") {
			t.Errorf("the policy lacks %s", want)
		}
	}
	if strings.Contains(body, " style=") || regexp.MustCompile(`\son\w+=`).MatchString(body[:strings.Index(body, "<script>")]) {
		t.Error("the page has what the policy forbids")
	}
}

// TestThePageIsCompleteWithoutScripts: the server writes the sentence, all that is wrong, and each edge and link.
func TestThePageIsCompleteWithoutScripts(t *testing.T) {
	for _, test := range states() {
		body, err := admin.RenderPage(test.herd)
		if err != nil {
			t.Fatal(err)
		}
		text := string(body)
		head, _, _ := strings.Cut(text, "<script>")
		if !strings.Contains(head, `<noscript><meta http-equiv="refresh"`) {
			t.Errorf("%s: the page does not load itself again", test.name)
		}
		for _, e := range test.herd.Edges {
			if !strings.Contains(head, `id="edge-`+e.Name+`"`) {
				t.Errorf("%s: no %s", test.name, e.Name)
			}
		}
		for _, l := range test.herd.Links {
			if !strings.Contains(head, ">"+l.A+"–"+l.B) {
				t.Errorf("%s: no link %s–%s", test.name, l.A, l.B)
			}
		}
		for _, p := range test.herd.Summary.Problems {
			if !strings.Contains(head, p.Text) {
				t.Errorf("%s: the page does not say %q", test.name, p.Text)
			}
		}
		if strings.Contains(head, "<img") || strings.Contains(head, "<b>Jaquez") {
			t.Errorf("%s: a text became an element", test.name)
		}
	}
}
