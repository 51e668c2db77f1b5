package transcript

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 25, 22, 36, 1, 123456789, time.UTC)

// open opens a transcript in a folder of its own; end runs what is left and closes it.
func open(t testing.TB, most int64) (l *Log, path string, end func()) {
	path = filepath.Join(t.TempDir(), "Clark.log")
	l, err := Open(Config{Path: path, Max: most, Edge: "Clark"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(end)
	return l, path, end
}

func read(t testing.TB, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(10 * time.Second); !condition(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestEverythingIsWrittenALineEach(t *testing.T) {
	l, path, end := open(t, 1<<20)
	l.Opened(at, "10.0.0.1:5")
	l.In(at, "10.0.0.1:5", []byte("IAMAT a +1+1 1\nWHATSAT a 1 1\r\nlast"))
	l.Out(at, "10.0.0.1:5", []byte("AT Clark +0.000000000 a +1+1 1\n{}\n\n"))
	l.Closed(at, "10.0.0.1:5", "client")
	l.LinkUp(at, "Jaquez")
	l.LinkIn(at, "Jaquez", []byte("AT x\n"))
	l.LinkOut(at, "Jaquez", []byte("AT y\n"))
	l.LinkDown(at, "Jaquez", "silent")
	end()
	const t0 = "2026-11-25T22:36:01.123456789Z Clark "
	want := strings.Join([]string{
		"10.0.0.1:5 + connected", "10.0.0.1:5 > IAMAT a +1+1 1", `10.0.0.1:5 > WHATSAT a 1 1\x0d`, "10.0.0.1:5 > last",
		"10.0.0.1:5 < AT Clark +0.000000000 a +1+1 1", "10.0.0.1:5 < {}", "10.0.0.1:5 < ", "10.0.0.1:5 - closed: client",
		"link Jaquez + up", "link Jaquez > AT x", "link Jaquez < AT y", "link Jaquez - down: silent", ""}, "\n")
	want = t0 + strings.ReplaceAll(strings.TrimSuffix(want, "\n"), "\n", "\n"+t0) + "\n"
	if got := read(t, path); got != want {
		t.Errorf("C20 wrote\n%swant\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("rights %v, %v; want 0600: it says where people are", info.Mode(), err)
	}
}

func TestItIsWrittenWhileItRuns(t *testing.T) {
	l, path, _ := open(t, 1<<20)
	l.In(at, "a", []byte("x\n"))
	eventually(t, "the line to be written", func() bool { return strings.HasSuffix(read(t, path), "a > x\n") })
}

func TestBytesThatDoNotPrintAreEscapedAndLinesCut(t *testing.T) {
	for _, c := range []struct{ name, line, want string }{
		{"printing", "IAMAT ~ !", "IAMAT ~ !"},
		{"C20 control bytes", "\x00\t\x1b[2J\x7f", `\x00\x09\x1b[2J\x7f`},
		{"C20 bytes beyond ASCII", "é\xff", `\xc3\xa9\xff`},
		{"a backslash is no escape", `\x00`, `\\x00`},
		{"C20 256 bytes", strings.Repeat("x", 256), strings.Repeat("x", 256)},
		{"C20 longer", strings.Repeat("\x00", 300), strings.Repeat(`\x00`, 256) + ` \+44`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(appendEscaped(nil, []byte(c.line))); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestItIsRotatedBySizeAndThreeAreKept(t *testing.T) {
	l, path, end := open(t, 10_000)
	for i := range 6 {
		l.In(at, "a", bytes.Repeat(fmt.Appendf(nil, "round %d\n", i), 150))
		eventually(t, "the round to be written", func() bool {
			l.mu.Lock()
			defer l.mu.Unlock()
			return len(l.filled) == 0
		})
	}
	end()
	for i, name := range []string{path, path + ".1", path + ".2", path + ".3"} {
		text := read(t, name)
		if !strings.Contains(text, fmt.Sprint("round ", 5-i)) || len(text) > 10_000 || strings.Count(text, "\n") != 150 {
			t.Errorf("C20 %s has %d bytes, %.60q", filepath.Base(name), len(text), text)
		}
	}
	if _, err := os.Stat(path + ".4"); err == nil {
		t.Error("C20 a fourth is kept")
	}
}

func TestReopenFollowsAFileThatWasMovedAway(t *testing.T) {
	l, path, _ := open(t, 1<<20)
	l.In(at, "a", []byte("before\n"))
	eventually(t, "the first line", func() bool { return strings.Contains(read(t, path), "before") })
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.In(at, "a", []byte("after\n"))
	eventually(t, "the new file", func() bool {
		b, err := os.ReadFile(path)
		return err == nil && strings.HasSuffix(string(b), "a > after\n")
	})
}

func TestWhatDoesNotFitIsDroppedCountedAndWrittenDown(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	l, err := Open(Config{Path: path, Max: 100 << 20, Edge: "Clark"})
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<12)
	blocks := 0
	for ; l.Dropped() == 0; blocks++ { // nobody writes yet
		l.In(at, "a", block)
	}
	for range 2 {
		l.In(at, "a", block)
	}
	if n := l.Dropped(); n != 3<<12 || blocks*len(block) > bufferSize+len(block) {
		t.Errorf("C20 %d lines dropped after %d blocks, want 3 blocks", n, blocks)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	text := read(t, path)
	if want := (blocks-1)<<12 + 1; strings.Count(text, "\n") != want || !strings.HasSuffix(text, fmt.Sprintf(" Clark dropped %d\n", 3<<12)) {
		t.Errorf("C20 %d lines, want %d; the end: %q", strings.Count(text, "\n"), want, text[len(text)-60:])
	}
}

func TestADiskThatFailsCostsLinesAndNothingElse(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "d")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "x.log")
	l, err := Open(Config{Path: path, Max: 1 << 20, Edge: "Clark"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	eventually(t, "C20 lines to be dropped", func() bool {
		l.In(at, "a", []byte("x\n"))
		return l.Dropped() > 0
	})
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	eventually(t, "C20 the disk to be used again", func() bool {
		l.In(at, "a", []byte("back\n"))
		b, err := os.ReadFile(path)
		return err == nil && bytes.Contains(b, []byte(" dropped ")) && bytes.Contains(b, []byte("> back\n"))
	})
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestAFileThatCannotBeOpenedIsAnErrorAtOnce(t *testing.T) {
	if _, err := Open(Config{Path: filepath.Join(t.TempDir(), "no", "x.log"), Max: 1 << 20}); err == nil || !strings.Contains(err.Error(), "x.log") {
		t.Errorf("opened: %v", err)
	}
}

func FuzzEscaped(f *testing.F) {
	f.Add([]byte("IAMAT \x00\\ é"))
	f.Fuzz(func(t *testing.T, line []byte) {
		got := appendEscaped(nil, line)
		for _, b := range got {
			if b < ' ' || b > '~' {
				t.Fatalf("C20 %q has a byte that does not print", got)
			}
		}
		if len(got) > 4*lineMax+24 {
			t.Fatalf("C20 %d bytes", len(got))
		}
	})
}

func TestRecordingAllocatesNothing(t *testing.T) {
	l := &Log{wake: make(chan struct{}, 1)}
	lines, answers := []byte("IAMAT a +1+1 1\n"), []byte("AT Clark +0.000000000 a +1+1 1\n")
	l.filled = make([]byte, 0, 1<<20)
	if got := testing.AllocsPerRun(1000, func() {
		l.In(at, "127.0.0.1:1", lines)
		l.Out(at, "127.0.0.1:1", answers)
	}); got != 0 {
		t.Errorf("%v allocations, want none", got)
	}
}

// BenchmarkCommand is what a command of a pipeline 32 deep costs the transcript,
// formatting and writing included: its line and its answer.
func BenchmarkCommand(b *testing.B) {
	l, _, end := open(b, 1<<40)
	lines := bytes.Repeat([]byte("IAMAT client-0000001 +34.068930-118.445127 1621464827.959498503\n"), 32)
	answers := bytes.Repeat([]byte("AT Clark +0.263873386 client-0000001 +34.068930-118.445127 1621464827.959498503\n"), 32)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 32 {
		l.In(at, "127.0.0.1:12345", lines)
		l.Out(at, "127.0.0.1:12345", answers)
	}
	end()
	b.ReportMetric(float64(l.Dropped())/float64(2*b.N), "dropped/line")
}
