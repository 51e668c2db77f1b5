package test

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const rulesFile = "docs/PROTOCOL.md"

// repository returns the module's files that people read, by path from the root.
func repository(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	root := filepath.Join("..")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && path != root && d.Name() != ".ci" {
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".sum", ".mod", ".json", ".osm", ".pbf", ".tsv", ".test":
			return nil
		}
		if !d.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		all[filepath.ToSlash(name)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	ruleAnchor = regexp.MustCompile(`(?m)^- <a id="([a-z]\d+)"></a>\*\*([A-Z]\d+)\.\*\* `)
	ruleCited  = regexp.MustCompile(`\b([CSHDLV]\d{1,2})\b(\.\d)?`)
)

// rules returns the rules in docs/PROTOCOL.md.
func rules(t *testing.T, text string) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, m := range ruleAnchor.FindAllStringSubmatch(text, -1) {
		if strings.ToUpper(m[1]) != m[2] || known[m[2]] {
			t.Errorf("%s: the anchor of %s is %s, or it stands twice", rulesFile, m[2], m[1])
		}
		known[m[2]] = true
	}
	// The numbers of a series have no gap.
	for _, series := range "CSHDLV" {
		n := 0
		for known[fmt.Sprintf("%c%d", series, n+1)] {
			n++
		}
		count := 0
		for rule := range known {
			if rule[0] == byte(series) {
				count++
			}
		}
		if n == 0 || n != count {
			t.Errorf("%s has %d rules %c, but %c1 to %c%d in a row", rulesFile, count, series, series, series, n)
		}
	}
	return known
}

// Every rule that is cited in code, answers and documents exists.
func TestEveryCitedRuleIsWrittenDown(t *testing.T) {
	quiet(t)
	files := repository(t)
	known := rules(t, files[rulesFile])
	cited := 0
	for name, text := range files {
		for _, m := range ruleCited.FindAllStringSubmatch(text, -1) {
			if m[2] != "" { // V0.6 is a version
				continue
			}
			cited++
			if !known[m[1]] {
				t.Errorf("%s cites %s, which %s does not have", name, m[1], rulesFile)
			}
		}
	}
	if cited < 1000 {
		t.Errorf("%d citations were found, that cannot be all", cited)
	}
}

var (
	fencedCode  = regexp.MustCompile("(?ms)^```.*?^```")
	inlineCode  = regexp.MustCompile("`[^`]*`")
	documentRef = regexp.MustCompile(`\]\(([^)\s]+)\)|(?m)^\[[^\]]+\]: +(\S+)`)
	heading     = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *#*$`)
	anchor      = regexp.MustCompile(`<a id="([^"]+)"></a>`)
	notInSlugs  = regexp.MustCompile(`[^\p{L}\p{N}\p{M}_ -]`)
)

// anchors returns the anchors of a document: those that GitHub makes of headings, and explicit
// ones.
func anchors(text string) map[string]bool {
	found := map[string]bool{}
	text = fencedCode.ReplaceAllString(text, "")
	for _, m := range anchor.FindAllStringSubmatch(text, -1) {
		found[m[1]] = true
	}
	for _, m := range heading.FindAllStringSubmatch(text, -1) {
		slug := strings.ReplaceAll(notInSlugs.ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")
		for base, n := slug, 1; found[slug]; n++ {
			slug = fmt.Sprintf("%s-%d", base, n)
		}
		found[slug] = true
	}
	return found
}

// references returns the targets of a document's links, without those to other sites.
func references(text string) (all []string) {
	text = inlineCode.ReplaceAllString(fencedCode.ReplaceAllString(text, ""), "x")
	for _, m := range documentRef.FindAllStringSubmatch(text, -1) {
		if target := m[1] + m[2]; !strings.Contains(target, "://") && !strings.HasPrefix(target, "mailto:") {
			all = append(all, target)
		}
	}
	return all
}

// Every link between the repository's documents leads to a file, and to a place in it.
func TestEveryLinkInTheDocumentsLeadsSomewhere(t *testing.T) {
	quiet(t)
	files := repository(t)
	links := 0
	for name, text := range files {
		if filepath.Ext(name) != ".md" {
			continue
		}
		for _, target := range references(text) {
			links++
			path, place, _ := strings.Cut(target, "#")
			to := name
			if path != "" {
				to = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
				if _, err := os.Stat(filepath.Join("..", to)); err != nil {
					t.Errorf("%s links to %s: %v", name, target, err)
					continue
				}
			}
			if place != "" && !anchors(files[to])[place] {
				t.Errorf("%s links to %s, and %s has no such place", name, target, to)
			}
		}
	}
	if links < 50 {
		t.Errorf("%d links were found, that cannot be all", links)
	}
	for _, name := range []string{"README.md", "ARCHITECTURE.md"} {
		if !strings.Contains(files[name], "]("+rulesFile+")") {
			t.Errorf("%s does not say where the rules are", name)
		}
	}
}

// The checks of documents find what is wrong.
func TestWrongDocumentsAreSeen(t *testing.T) {
	text := "# One `two` & three!\n\n## One two & three!\n<a id=\"set\"></a>\n```\n# no heading\n[no](link)\n```\n" +
		"See [a](b.md#c), `[code](x)` and [site](https://example.org).\n[ref]: other.md\n"
	got := anchors(text)
	for _, want := range []string{"one-two--three", "one-two--three-1", "set"} {
		if !got[want] {
			t.Errorf("no anchor %q in %v", want, got)
		}
	}
	if len(got) != 3 {
		t.Errorf("anchors %v, want three", got)
	}
	if got := references(text); fmt.Sprint(got) != "[b.md#c other.md]" {
		t.Errorf("links %q", got)
	}
	if m := ruleCited.FindAllStringSubmatch("(C13), H4: V0.6 xC1 C100 D3.", -1); len(m) != 4 || m[2][2] == "" {
		t.Errorf("citations %q", m)
	}
}

// TestTheDaemonsOfTheREADMEHaveAJournal: by default a NATS server has no JetStream, so whoever
// follows the README would have no journal and not know it.
func TestTheDaemonsOfTheREADMEHaveAJournal(t *testing.T) {
	_, section, _ := strings.Cut(repository(t)["README.md"], "## Five daemons on a NATS server of your own\n")
	section, _, _ = strings.Cut(section, "\n## ")
	if !regexp.MustCompile(`(?m)^    (bin/)?nats-server .*-js\b`).MatchString(section) {
		t.Error("nats-server runs without -js")
	}
	if !strings.Contains(section, "NATS 2.12 or later") {
		t.Error("the version of NATS that is needed is not said")
	}
}
