package test

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"

	"herd/test/herdtest"
)

const (
	alarmsFile    = "../deploy/prometheus/herd.rules.yml"
	dashboardFile = "../deploy/grafana/dashboards/herd.json"
)

// TestAlarmsAndDashboardAskForWhatEdgesExport parses each query with Prometheus' own parser and
// looks for each series that it selects, by name and labels, among those that an edge with every
// feature exports. An alarm whose series does not exist never fires.
func TestAlarmsAndDashboardAskForWhatEdgesExport(t *testing.T) {
	quiet(t)
	var queries []string
	for _, a := range alarms(t) {
		queries = append(queries, a.expr)
	}
	onDashboard := dashboardQueries(t)
	if len(queries) < 30 || len(onDashboard) < 40 {
		t.Errorf("%d alarms and %d queries of the dashboard were found, that cannot be all", len(queries), len(onDashboard))
	}
	var wanted []*parser.VectorSelector
	for _, query := range append(queries, onDashboard...) {
		selected, err := selectors(query)
		if err != nil {
			t.Errorf("%s: %v", query, err)
		}
		wanted = append(wanted, selected...)
	}

	env := secure(t, map[string]string{
		"HERD_RETAIN": "1h", "HERD_TRANSCRIPT": filepath.Join(t.TempDir(), "transcript"),
		"HERD_PLACES": "google,gazetteer", "HERD_GOOGLE_KEY": "none", "HERD_GOOGLE_URL": "http://127.0.0.1:1",
		"HERD_JOURNAL": "on",
	}).env
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: env, NATS: []string{"-js", "-sd", t.TempDir()}})
	herdtest.Eventually(t, herdtest.Promise(15*time.Second), "all that is asked for to be exported", func() error {
		_, body, err := h.Edges["Clark"].Get("/metrics")
		if err != nil {
			return err
		}
		var missing []string
		for _, exported := range [][]labels.Labels{series(t, body, false), series(t, body, true)} {
			for _, s := range wanted {
				if !slices.ContainsFunc(exported, func(l labels.Labels) bool { return selects(s, l) }) {
					missing = append(missing, s.String())
				}
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("no edge exports %q", missing)
		}
		return nil
	})
}

// A query for a series that does not exist, and a query that does not parse, are found.
func TestWrongQueriesAreSeen(t *testing.T) {
	exported := series(t, "# TYPE a_bucket histogram\na_bucket{le=\"5\",edge=\"Clark\"} 5\nb 1e+06\n", true)
	for query, want := range map[string]bool{
		`b`:                       true,
		`sum(rate(b[5m])) > 0`:    true,
		`a_bucket{le="5.0"}`:      true, // as Prometheus 3 keeps it
		`a_bucket{edge=~"$edge"}`: true,
		`a_bucket{le="5"}`:        false,
		`b{edge="Clark"}`:         false,
		`c`:                       false,
		`b and a_bucket{le="6"}`:  false,
		`up{job="herd"} == 0`:     true,
	} {
		wanted, err := selectors(query)
		if err != nil {
			t.Error(err)
		}
		got := !slices.ContainsFunc(wanted, func(s *parser.VectorSelector) bool {
			return !slices.ContainsFunc(exported, func(l labels.Labels) bool { return selects(s, l) })
		})
		if got != want {
			t.Errorf("%s: all is there: %t, want %t", query, got, want)
		}
	}
	if _, err := selectors(`sum by (rate(b[5m])`); err == nil {
		t.Error("what is no query is taken for one")
	}
}

// selectors returns what a query selects, by Prometheus' own parser. Grafana's $edge matches any
// edge.
func selectors(query string) (all []*parser.VectorSelector, err error) {
	expr, err := parser.ParseExpr(strings.ReplaceAll(query, "$edge", ".+"))
	if err != nil {
		return nil, err
	}
	parser.Inspect(expr, func(node parser.Node, _ []parser.Node) error {
		if s, ok := node.(*parser.VectorSelector); ok {
			all = append(all, s)
		}
		return nil
	})
	return all, nil
}

func selects(s *parser.VectorSelector, l labels.Labels) bool {
	return !slices.ContainsFunc(s.LabelMatchers, func(m *labels.Matcher) bool { return !m.Matches(l.Get(m.Name)) })
}

// series returns the series of a /metrics page as Prometheus keeps them, with the job and instance
// that it adds. Prometheus 3, selected by three, writes the bounds of histograms differently.
func series(t *testing.T, page string, three bool) (all []labels.Labels) {
	t.Helper()
	page = "up 1\nALERTS{alertname=\"HerdNotReady\",alertstate=\"firing\",edge=\"Clark\"} 1\n" + page
	for line := range strings.Lines(page) {
		end := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || end < 0 {
			continue
		}
		metric, err := parser.ParseMetric(line[:end])
		if err != nil {
			t.Fatalf("/metrics: %q: %v", line, err)
		}
		b := labels.NewBuilder(metric).Set("job", "herd").Set("instance", "clark:12080")
		if bound := metric.Get("le"); three && bound != "" && !strings.ContainsAny(bound, ".eI") {
			b.Set("le", bound+".0")
		}
		all = append(all, b.Labels())
	}
	return all
}

// An alarm is one of the alerting rules.
type alarm struct{ name, expr, severity, summary, runbook string }

// alarms reads the rules.
func alarms(t *testing.T) (all []alarm) {
	t.Helper()
	text, err := os.ReadFile(alarmsFile)
	if err != nil {
		t.Fatal(err)
	}
	part := func(text, pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return strings.TrimSpace(m[1])
		}
		return ""
	}
	for _, rule := range strings.Split(string(text), "\n      - alert: ")[1:] {
		name, rest, _ := strings.Cut(rule, "\n")
		all = append(all, alarm{
			name:     name,
			expr:     part(rest, `(?m)^ +expr: (?:>-\n)?((?:.+\n)(?:          .+\n)*)`),
			severity: part(rest, `(?m)^ +labels: \{severity: (\w+)\}$`),
			summary:  part(rest, `(?m)^ +summary: "(.+)"$`),
			runbook:  part(rest, `(?m)^ +runbook_url: (.+)$`),
		})
	}
	return all
}

// dashboardQueries lists the queries of the Grafana dashboard, those of its annotations and
// variables included.
func dashboardQueries(t *testing.T) (queries []string) {
	t.Helper()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	type source struct{ UID string }
	type query struct {
		Expr       string
		Datasource source
	}
	var dashboard struct {
		Annotations struct{ List []query }
		Templating  struct {
			List []struct{ Name, Type, Definition string }
		}
		Panels []struct {
			ID         int
			Datasource source
			Title      string
			Type       string
			GridPos    struct{ X, Y, W, H int }
			Targets    []query
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatalf("the dashboard: %v", err)
	}
	ids, places := map[int]bool{}, map[[2]int]string{}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		if ids[p.ID] {
			t.Errorf("panel %q has the number of another", p.Title)
		}
		ids[p.ID] = true
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := places[[2]int{x, y}]; other != "" {
					t.Fatalf("panel %q lies over %q", p.Title, other)
				}
				places[[2]int{x, y}] = p.Title
			}
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
			if p.Datasource.UID != "${datasource}" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %q asks a data source of its own, so the dashboard cannot be imported anywhere", p.Title)
			}
		}
	}
	for _, a := range dashboard.Annotations.List {
		queries = append(queries, a.Expr)
	}
	for _, query := range queries {
		if !strings.Contains(query, "$edge") {
			t.Errorf("%s does not follow the edge that is chosen", query)
		}
	}
	for _, v := range dashboard.Templating.List {
		if v.Type == "datasource" && v.Name == "datasource" {
			continue
		}
		metric, found := strings.CutPrefix(v.Definition, "label_values(")
		metric, _, _ = strings.Cut(metric, ",")
		if !found {
			t.Errorf("a variable is %q", v.Definition)
		}
		queries = append(queries, metric)
	}
	return queries
}

// TestAlarmsFireWhenTheyShould has promtool run the rules' own tests.
func TestAlarmsFireWhenTheyShould(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("skipped: no promtool")
	}
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "herd.rules_test.yml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = "../deploy/prometheus"
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEachAlarmIsExplained follows the link of each alarm to its section in the operators' README,
// which names the next command to type, and looks for a test of the rules in which the alarm fires.
func TestEachAlarmIsExplained(t *testing.T) {
	readme, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../deploy/prometheus/herd.rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	places := anchors(string(readme))
	all := alarms(t)
	if len(all) < 30 {
		t.Errorf("%d alarms were found, that cannot be all", len(all))
	}
	for _, a := range all {
		if a.expr == "" || a.summary == "" || a.severity != "page" && a.severity != "ticket" {
			t.Errorf("%s lacks something: %+v", a.name, a)
		}
		place, found := strings.CutPrefix(a.runbook, "deploy/README.md#")
		if !found || place != strings.ToLower(a.name) || !places[place] {
			t.Errorf("the runbook_url of %s is %q, and leads nowhere", a.name, a.runbook)
		}
		_, section, _ := strings.Cut(string(readme), "\n### "+a.name+"\n")
		section, _, _ = strings.Cut(section, "\n#")
		if !regexp.MustCompile(`(?m)^    \S`).MatchString(section) || len(section) < 80 {
			t.Errorf("deploy/README.md does not say of %s what to type next: %q", a.name, section)
		}
		if !regexp.MustCompile(`alertname: ` + a.name + `\n +exp_alerts:`).Match(tests) {
			t.Errorf("no test of the rules sees %s fire", a.name)
		}
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Herd\w+)$`).FindAllStringSubmatch(string(readme), -1) {
		if !slices.ContainsFunc(all, func(a alarm) bool { return a.name == m[1] }) {
			t.Errorf("deploy/README.md explains %s, which there is not", m[1])
		}
	}
}

// TestNoSecretInTheRepository checks that no file contains a NATS user's key or a private key.
func TestNoSecretInTheRepository(t *testing.T) {
	secret := regexp.MustCompile(`\bS[UA][A-Z2-7]{56}\b|-----BEGIN (EC |RSA |)PRIVATE KEY-----\n`)
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && d.Name() == ".git":
			return fs.SkipDir
		case !d.Type().IsRegular():
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if found := secret.Find(data); found != nil {
			t.Errorf("%s holds a secret", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
