package herdtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
)

// built is the folder with the binaries of this test run.
var built struct {
	once sync.Once
	dir  string
	err  error
}

// Binary returns the path of the binary edge, herd, clockedge or nats-server. All are built once
// per test run, with the race detector if the tests have it. With -short it skips the test,
// because processes are slow to start.
func Binary(t testing.TB, name string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("skipped: -short starts no processes")
	}
	built.once.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "herd-test-"); built.err == nil {
			built.err = Build(context.Background(), built.dir, RaceDetector, "herd/cmd/edge", "herd/cmd/herd", "herd/test/clockedge", NATSServer)
		}
	})
	if built.err != nil {
		t.Fatalf("build the binaries: %v", built.err)
	}
	return filepath.Join(built.dir, name)
}

// RemoveBinaries removes what Binary built. TestMain calls it after all tests.
func RemoveBinaries() {
	if dir := built.dir; dir != "" {
		os.RemoveAll(dir)
	}
}

// NATSServer is the main package of nats-server, a dependency of the herd's module.
const NATSServer = "github.com/nats-io/nats-server/v2"

// Build builds main packages of the herd's module, or of its dependencies, into a folder. It uses
// the versions of the herd's module, whichever module the caller belongs to.
func Build(ctx context.Context, dir string, race bool, packages ...string) error {
	list := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", "herd")
	module, err := list.Output()
	if err != nil {
		return fmt.Errorf("find the module herd: %w", err)
	}
	args := []string{"build", "-C", string(bytes.TrimSpace(module)), "-o", dir + string(filepath.Separator)}
	if race {
		args = append(args, "-race")
	}
	if out, err := exec.CommandContext(ctx, "go", append(args, packages...)...).CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}
