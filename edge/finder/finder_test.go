package finder

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"herd/edge/config"
)

// fromVariables reads the configuration of an edge called Clark with vars.
func fromVariables(vars ...string) (config.Config, []string, error) {
	return config.FromEnvironment(append([]string{"HERD_EDGE=Clark"}, vars...), Check)
}

// providersBy returns the names of the providers that these variables configure, in order.
func providersBy(t *testing.T, vars ...string) string {
	t.Helper()
	cfg, _, err := fromVariables(vars...)
	if err != nil {
		t.Fatal(err)
	}
	f, err := New(&cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	<-f.Loaded()
	var names []string
	for _, s := range f.Stats() {
		names = append(names, s.Provider)
	}
	return strings.Join(names, ",")
}

func TestTheProvidersAreAskedInTheirOrder(t *testing.T) {
	for _, test := range []struct{ vars, want string }{
		{"", "gazetteer"},
		{"HERD_GOOGLE_KEY=k", "google,gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=auto", "google,gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=gazetteer", "gazetteer"},
		{"HERD_GOOGLE_KEY=k HERD_PLACES=gazetteer,google-legacy,google", "gazetteer,google-legacy,google"},
	} {
		if got := providersBy(t, strings.Fields(test.vars)...); got != test.want {
			t.Errorf("%s: %s, want %s", test.vars, got, test.want)
		}
	}
}

func TestACountThatCannotBeReadIsToldAtStart(t *testing.T) {
	data := t.TempDir()
	if err := os.Mkdir(filepath.Join(data, "google-questions"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		vars []string
		want string
	}{
		{[]string{"HERD_GOOGLE_KEY=k"}, "questions to Google (HERD_PLACES_DAILY, HERD_DATA): "},
		{[]string{"HERD_GOOGLE_KEY=k", "HERD_PLACES_DAILY=0"}, ""}, // nothing is counted
		{[]string{"HERD_GOOGLE_KEY=k", "HERD_PLACES=gazetteer"}, ""},
	} {
		cfg, _, err := fromVariables(append(test.vars, "HERD_DATA="+data)...)
		if err != nil {
			t.Fatal(err)
		}
		f, err := New(&cfg, slog.New(slog.NewTextHandler(t.Output(), nil)))
		if err == nil {
			f.Close()
		}
		if (err == nil) != (test.want == "") || err != nil && !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.vars, err, test.want)
		}
	}
}

func TestAnExtractThatCannotBeReadIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	fill := strings.NewReplacer("{dir}", dir, "{file}", file).Replace
	if err := os.Mkdir(filepath.Join(dir, "x.osm"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ value, says string }{
		{"{dir}/none.osm.pbf", `"{dir}/none.osm.pbf": no such file or directory`},
		{"{file}", `"{file}": not an extract: the name ends in neither .osm.pbf nor .osm`},
		{"{dir}/x.osm.gz", `"{dir}/x.osm.gz": compressed with gzip: unpack it first`},
		{"{dir}/x.osm", `"{dir}/x.osm": not a regular file`},
	} {
		if _, _, err := fromVariables("HERD_OSM_FILE=" + fill(test.value)); err == nil || err.Error() != "HERD_OSM_FILE: "+fill(test.says) {
			t.Errorf("%s: %v", test.value, err)
		}
	}
}
