package test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`\bherd_[a-z_]+`)

// TestAlarmsAndDashboardAskForMetricsThatThereAre reads the rules and the dashboard, and
// looks each of the herd's metrics in them up where the edges make them.
func TestAlarmsAndDashboardAskForMetricsThatThereAre(t *testing.T) {
	made := make(map[string]bool)
	source, err := os.ReadFile("../edge/admin/collector.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range metricName.FindAllString(string(source), -1) {
		made[name] = true
		for _, suffix := range []string{"_bucket", "_sum", "_count"} { // of histograms
			made[name+suffix] = true
		}
	}

	rules, err := os.ReadFile("../deploy/prometheus/herd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	dashboard, err := os.ReadFile("../deploy/grafana/dashboards/herd.json")
	if err != nil {
		t.Fatal(err)
	}
	asked := 0
	for _, text := range append(dashboardQueries(t, dashboard), strings.Split(string(rules), "\n")...) {
		for _, name := range metricName.FindAllString(text, -1) {
			asked++
			if !made[name] {
				t.Errorf("no edge has %s: %s", name, strings.TrimSpace(text))
			}
		}
	}
	if asked < 50 {
		t.Errorf("rules and dashboard name only %d metrics", asked)
	}
}

// dashboardQueries lists the expressions of a Grafana dashboard.
func dashboardQueries(t *testing.T, data []byte) (queries []string) {
	t.Helper()
	var dashboard struct {
		UID    string
		Panels []struct {
			Title   string
			Type    string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(data, &dashboard); err != nil {
		t.Fatalf("the dashboard: %v", err)
	}
	for _, p := range dashboard.Panels {
		if p.Type != "row" && len(p.Targets) == 0 {
			t.Errorf("panel %q asks for nothing", p.Title)
		}
		for _, target := range p.Targets {
			queries = append(queries, target.Expr)
		}
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

// TestEachAlarmIsExplained finds each alarm in the operators' README.
func TestEachAlarmIsExplained(t *testing.T) {
	rules, err := os.ReadFile("../deploy/prometheus/herd.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("../deploy/prometheus/herd.rules_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`alert: (\w+)`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 10 {
		t.Fatalf("only %d alarms", len(alerts))
	}
	for _, alert := range alerts {
		if !strings.Contains(string(readme), "`"+alert[1]+"`") {
			t.Errorf("deploy/README.md says nothing of %s", alert[1])
		}
		if !strings.Contains(string(tests), "alertname: "+alert[1]+"\n") {
			t.Errorf("no test of the rules sees %s fire", alert[1])
		}
	}
}

// TestNoSecretInTheRepository finds no key of a NATS user, nor a private key, in any file.
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
