package test

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"herd/test/browser"
	"herd/test/herdtest"
)

// TestMain removes the binaries that the tests share. Tests that mostly wait run in parallel (see
// quiet), so that the ordinary form is quick on two cores too.
func TestMain(m *testing.M) {
	flag.Parse()
	asked := false
	flag.Visit(func(f *flag.Flag) { asked = asked || f.Name == "test.parallel" })
	if !asked {
		flag.Set("test.parallel", "10")
	}
	rememberSources()
	browser.Main(m).Run() // its result is the exit code when TestMain returns
	herdtest.RemoveBinaries()
}

// rememberSources stats every file of the module. The go command notes which files a test uses, and
// so does not take a result from its cache after the source of a binary has changed.
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

// full reports whether tests run with the full sizes and durations.
func full() bool { return os.Getenv("HERD_TEST") == "full" }

// needsFull skips a test that has no small form.
func needsFull(t *testing.T) {
	t.Helper()
	if !full() {
		t.Skip("skipped: set HERD_TEST=full")
	}
}

// size returns the first value in the ordinary form and the second in the full form.
func size[T any](ordinary, issues T) T {
	if full() {
		return issues
	}
	return ordinary
}

// quiet marks a test that mostly waits. It runs in parallel with others, after the tests under
// load, which have the machine to themselves.
func quiet(t *testing.T) {
	t.Helper()
	t.Parallel()
}

// pass sleeps for a span while the load of a test runs. Use it only for a duration that is part of
// the test ("for 10 s"), and never to wait for something to happen.
func pass(t *testing.T, span time.Duration) {
	t.Helper()
	select {
	case <-time.After(span):
	case <-t.Context().Done():
	}
}
