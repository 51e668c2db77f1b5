package test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestMain lets go what the tests shared. The tests that wait more than they work run side
// by side (see quiet), so that the ordinary form is quick on two cores too.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		flag.Set("test.parallel", "10")
	}
	rememberSources()
	m.Run() // its result is the exit code when TestMain returns
	if dir := built.dir; dir != "" {
		os.RemoveAll(dir)
	}
}

// rememberSources looks at every file of the module. The go command notes what a test looks
// at; so a result is not taken from its cache when the source of a binary has changed, of
// which it would not know otherwise.
func rememberSources() {
	filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return nil // gone since it was listed
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && d.Name() != "..":
			return fs.SkipDir
		case d.Type().IsRegular():
			os.Stat(path)
		}
		return nil
	})
}

// full says whether the sizes and durations are the issues' own.
func full() bool { return os.Getenv("HERD_TEST") == "full" }

// needsFull skips what has no small form.
func needsFull(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("skipped: set HERD_TEST=full")
	}
}

// size is the first value in the ordinary form and the second in the full one.
func size[T any](ordinary, issues T) T {
	if full() {
		return issues
	}
	return ordinary
}

// quiet marks a test that mostly waits: it runs beside others, after those that have the
// machine to themselves because load is what they are about.
func quiet(t *testing.T) {
	t.Helper()
	t.Parallel()
}

// timed marks a test that mostly waits and whose time limits are promises: it has the
// machine to itself in the full form, where they are judged as they stand.
func timed(t *testing.T) {
	t.Helper()
	if !full() {
		t.Parallel()
	}
}

// promise is the limit by which a promise about seconds is judged: the promise itself in
// the full form. In the ordinary form `go test ./...` compiles and runs other packages on
// the same two cores, and the race detector makes the binaries some ten times slower, so
// there it only tells a herd that is late from one that never comes.
func promise(d time.Duration) time.Duration {
	switch {
	case raceDetector:
		return 10 * d
	case full():
		return d
	default:
		return 4 * d
	}
}

// delay is the same for a promise about what one client may notice (100 ms and less), on
// which a compiler on the same cores weighs more.
func delay(d time.Duration) time.Duration {
	if full() && !raceDetector {
		return d
	}
	return 10 * d
}

// built holds the binaries of this run.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// binary is the path of edge, herd or nats-server, built once a run: with the race
// detector where the tests have it.
func binary(t *testing.T, name string) string {
	t.Helper()
	built.once.Do(func() { built.dir, built.err = build() })
	if built.err != nil {
		t.Fatalf("build the binaries: %v", built.err)
	}
	return filepath.Join(built.dir, name)
}

func build() (string, error) {
	dir, err := os.MkdirTemp("", "herd-test-")
	if err != nil {
		return "", err
	}
	// nats-server is a dependency of the module, its main package included.
	args := []string{"build", "-o", dir + string(filepath.Separator)}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, "herd/cmd/edge", "herd/cmd/herd", "github.com/nats-io/nats-server/v2")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return dir, fmt.Errorf("%w\n%s", err, out)
	}
	return dir, nil
}

// eventually polls until ok returns nil and says how long that took; it fails the test
// when limit has passed.
func eventually(t *testing.T, limit time.Duration, what string, ok func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-tick.C
	}
}

// throughout polls for the whole of span and fails the test when ok once returns an error.
func throughout(t *testing.T, span time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(span)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := ok(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(end) {
			return
		}
		<-tick.C
	}
}

// pass lets a span go by while the load that a test has started runs: a duration that is
// part of the test ("for 10 s"), never a hope that something has happened meanwhile.
func pass(t *testing.T, span time.Duration) {
	t.Helper()
	select {
	case <-time.After(span):
	case <-t.Context().Done():
	}
}
