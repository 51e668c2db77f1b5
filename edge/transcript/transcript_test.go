package transcript

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var at = time.Date(2026, 11, 25, 22, 36, 1, 123456789, time.UTC)

// open opens a transcript in its own directory. end writes the rest and closes it.
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

// eventually waits until condition holds.
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
	l.Certified(at, "10.0.0.1:5", "CN=kiwi\n")
	l.In(at, "10.0.0.1:5", []byte("IAMAT a +1+1 1\nWHATSAT a 1 1\r\nlast"))
	l.Out(at, "10.0.0.1:5", []byte("AT Clark +0.000000000 a +1+1 1\n{}\n\n"))
	l.Older(at, "10.0.0.1:5", []byte("kiwi\x00"), 1024*7*24*time.Hour+time.Nanosecond)
	l.Older(at, "10.0.0.1:5", []byte("kiwi"), 0)
	l.Closed(at, "10.0.0.1:5", "client")
	l.LinkUp(at, "Jaquez")
	l.LinkIn(at, "Jaquez", []byte("AT x\n"))
	l.LinkOut(at, "Jaquez", []byte("AT y\n"))
	l.LinkDown(at, "Jaquez", "silent")
	end()
	const t0 = "2026-11-25T22:36:01.123456789Z Clark "
	want := strings.Join([]string{
		"10.0.0.1:5 + connected", "10.0.0.1:5 + certificate: CN=kiwi", "10.0.0.1:5 > IAMAT a +1+1 1", `10.0.0.1:5 > WHATSAT a 1 1\x0d`, "10.0.0.1:5 > last",
		"10.0.0.1:5 < AT Clark +0.000000000 a +1+1 1", "10.0.0.1:5 < {}", "10.0.0.1:5 < ",
		`10.0.0.1:5 = older by 619315200.000000001 s: kiwi\x00`, "10.0.0.1:5 = older by 0.000000000 s: kiwi", "10.0.0.1:5 - closed: client",
		"link Jaquez + up", "link Jaquez > AT x", "link Jaquez < AT y", "link Jaquez - down: silent", ""}, "\n")
	want = t0 + strings.ReplaceAll(strings.TrimSuffix(want, "\n"), "\n", "\n"+t0) + "\n"
	if got := read(t, path); got != want {
		t.Errorf("C20 wrote\n%swant\n%s", got, want)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("rights %v, %v; want 0600: it says where people are", info.Mode(), err)
	}
}

func TestLinesCarryWhatTheEdgesClockShows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "Clark.log")
	l, err := Open(Config{Path: path, Edge: "Clark", Buffer: 100, Wall: func(moment time.Time) int64 { return moment.Add(-2 * time.Hour).UnixNano() }})
	if err != nil {
		t.Fatal(err)
	}
	l.In(at, "a", []byte("x\n"))
	l.In(at, "a", make([]byte, 100)) // more than fits
	begun := time.Now()
	ended, end := context.WithCancel(t.Context())
	end()
	if err := l.Run(ended); err != nil {
		t.Fatal(err)
	}
	line, dropped, _ := strings.Cut(read(t, path), "\n")
	if line != "2026-11-25T20:36:01.123456789Z Clark a > x" {
		t.Errorf("wrote %q", line)
	}
	word, _, _ := strings.Cut(dropped, " Clark dropped 1\n")
	if when, err := time.Parse(stamp, word); err != nil || begun.Sub(when).Round(time.Minute) != 2*time.Hour {
		t.Errorf("wrote %q: %v", dropped, err)
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
			if got := strings.TrimSuffix(string(appendText(nil, []byte(c.line))), "\n"); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestItIsRotatedBySizeAndThreeAreKept(t *testing.T) {
	l, path, end := open(t, 10_000)
	for i := range 6 {
		var round []byte
		for j := range 150 {
			round = fmt.Appendf(round, "number %d\n", i*150+j)
		}
		l.In(at, "a", round)
	}
	end()
	all := ""
	for _, name := range []string{path + ".3", path + ".2", path + ".1", path} {
		text := read(t, name)
		if len(text) > 10_000 || len(text) < 7_000 && name != path {
			t.Errorf("C20 %s has %d bytes", filepath.Base(name), len(text))
		}
		all += text
	}
	lines := strings.Split(strings.TrimSuffix(all, "\n"), "\n")
	for i, line := range lines { // the newest lines, without a gap
		if want := fmt.Sprintf(" number %d", 900-len(lines)+i); !strings.HasSuffix(line, want) {
			t.Fatalf("C20 %q, want %q", line, want)
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
	const buffer = 1 << 20
	path := filepath.Join(t.TempDir(), "x.log")
	l, err := Open(Config{Path: path, Max: 100 << 20, Edge: "Clark", Buffer: buffer})
	if err != nil {
		t.Fatal(err)
	}
	block := bytes.Repeat([]byte("0123456789abcdef\n"), 1<<12)
	blocks := 0
	for ; l.Dropped() == 0; blocks++ { // Run has not started
		l.In(at, "a", block)
	}
	for range 2 {
		l.In(at, "a", block)
	}
	if n := l.Dropped(); n != 3<<12 || blocks*len(block) > buffer+len(block) {
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

// unescape returns the original text, and how many bytes were cut off.
func unescape(t *testing.T, line string) (text []byte, cut int) {
	for len(line) > 0 {
		switch {
		case line[0] != '\\':
			if line[0] == ' ' && strings.HasPrefix(line, ` \+`) {
				if _, err := fmt.Sscanf(line, ` \+%d`, &cut); err != nil {
					t.Fatal(err)
				}
				return text, cut
			}
			text, line = append(text, line[0]), line[1:]
		case line[1] == 'x':
			b, err := hex.DecodeString(line[2:4])
			if err != nil {
				t.Fatal(err)
			}
			text, line = append(text, b...), line[4:]
		default:
			text, line = append(text, line[1]), line[2:]
		}
	}
	return text, 0
}

func FuzzAppendText(f *testing.F) {
	f.Add([]byte("IAMAT \x00\\ é"))
	f.Add(bytes.Repeat([]byte(`\+`), 130))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, ended := strings.CutSuffix(string(appendText(nil, line)), "\n")
		if !ended {
			t.Fatalf("%q has no end", got)
		}
		for _, b := range []byte(got) {
			if b < ' ' || b > '~' {
				t.Fatalf("C20 %q has a byte that does not print", got)
			}
		}
		text, cut := unescape(t, got)
		if len(text) != min(len(line), 256) || !bytes.HasPrefix(line, text) || cut != len(line)-len(text) {
			t.Fatalf("C20 %q says %q and %d more, want %q", got, text, cut, line)
		}
	})
}

// FuzzRecord records any text between two known ones.
func FuzzRecord(f *testing.F) {
	f.Add("127.0.0.1:1", []byte("a\nb\n\nc"))
	f.Add("", []byte{})
	f.Fuzz(func(t *testing.T, who string, lines []byte) {
		l := newLog(Config{Edge: "Clark", Buffer: 1 << 20})
		l.LinkUp(at, "first")
		l.In(at, who, lines)
		l.LinkUp(at, "last")
		chunks, dropped := l.take()
		if len(chunks) != 1 || dropped != 0 {
			t.Fatalf("%d chunks, %d dropped", len(chunks), dropped)
		}
		w := newWriter(l)
		for rest := chunks[0]; len(rest) > 0; {
			var e entry
			e, rest = next(rest)
			w.entry(e)
		}
		got := strings.Split(strings.TrimSuffix(string(w.out), "\n"), "\n")
		if n := int(lineCount(lines)); len(got) != n+2 || !strings.HasSuffix(got[0], " first + up") || !strings.HasSuffix(got[n+1], " last + up") {
			t.Fatalf("%q makes %d lines, want %d and two around them", lines, len(got), n)
		}
	})
}

func TestRecordingAllocatesNothing(t *testing.T) {
	l := newLog(Config{Buffer: 1 << 20})
	lines, answers := []byte("IAMAT a +1+1 1\n"), []byte("AT Clark +0.000000000 a +1+1 1\n")
	l.giveBack(make([]byte, 0, chunkSize))
	if got := testing.AllocsPerRun(400, func() {
		l.In(at, "127.0.0.1:1", lines)
		l.Out(at, "127.0.0.1:1", answers)
		l.Older(at, "127.0.0.1:1", lines[6:7], 619_315_200*time.Second)
		l.Closed(at, "127.0.0.1:1", "client")
	}); got != 0 || l.Dropped() != 0 {
		t.Errorf("%v allocations, %d dropped, want none", got, l.Dropped())
	}
}

func TestABurstLeavesLittleBehind(t *testing.T) {
	l, _, end := open(t, 1<<30)
	block := bytes.Repeat(append(bytes.Repeat([]byte{'x'}, 255), '\n'), 1<<7)
	for range 100 {
		l.In(at, "a", block)
	}
	end()
	if len(l.free) == 0 || len(l.free) > keepFree || l.size != 0 || len(l.full) != 0 || l.Dropped() != 0 {
		t.Errorf("%d chunks free, %d full, %d bytes, %d dropped", len(l.free), len(l.full), l.size, l.Dropped())
	}
}

func TestLinesLargerThanAChunk(t *testing.T) {
	l, path, end := open(t, 1<<30)
	l.In(at, "a", []byte("before\n"))
	l.Out(at, "a", bytes.Repeat([]byte("0123456789abcdef\n"), 1<<13))
	l.In(at, "a", []byte("after\n"))
	end()
	text := read(t, path)
	if strings.Count(text, "\n") != 1<<13+2 || strings.Count(text, " a < 0123456789abcdef\n") != 1<<13 || !strings.HasSuffix(text, " a > after\n") {
		t.Errorf("wrote %d lines: %.200q", strings.Count(text, "\n"), text)
	}
}

func TestWhatComesAfterTheEndIsDropped(t *testing.T) {
	l, path, end := open(t, 1<<20)
	l.In(at, "a", []byte("before\n"))
	end()
	l.In(at, "a", []byte("after\nthat\n"))
	if text := read(t, path); l.Dropped() != 2 || !strings.HasSuffix(text, " a > before\n") {
		t.Errorf("%d dropped, wrote %q", l.Dropped(), text)
	}
}

func TestAFileThatCannotBeRotatedIsNotFilledFurther(t *testing.T) {
	l, path, end := open(t, 10_000)
	if err := os.MkdirAll(path+".3/in the way", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path+".2", 0o700); err != nil {
		t.Fatal(err)
	}
	l.In(at, "a", bytes.Repeat([]byte("0123456789abcdef\n"), 1000))
	end()
	if text := read(t, path); len(text) == 0 || len(text) > 10_000 || l.Dropped()+uint64(strings.Count(text, "\n")) != 1000 {
		t.Errorf("%d bytes, %d dropped", len(text), l.Dropped())
	}
}

func TestHalfALineIsNotContinued(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	f := file{path: path, torn: true}
	if err := f.open(); err != nil {
		t.Fatal(err)
	}
	defer f.close()
	if n, err := f.write([]byte("a\n")); n != 2 || err != nil || read(t, path) != "\na\n" || f.torn {
		t.Errorf("wrote %d, %v, %q", n, err, read(t, path))
	}
}

func TestStandardErrorIsNeitherRotatedNorClosed(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func(was *os.File) { os.Stderr = was }(os.Stderr)
	os.Stderr = w
	l, err := Open(Config{Path: "-", Max: 1, Edge: "Clark"})
	if err != nil {
		t.Fatal(err)
	}
	l.LinkUp(at, "Jaquez")
	l.LinkDown(at, "Jaquez", "silent")
	l.Reopen()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := l.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("still open\n"); err != nil {
		t.Error(err)
	}
	_ = w.Close()
	text, err := io.ReadAll(r)
	if want := "link Jaquez - down: silent\nstill open\n"; err != nil || !strings.HasSuffix(string(text), want) || l.Dropped() != 0 {
		t.Errorf("%q, %v, want the end %q", text, err, want)
	}
}

func TestTheProcessLogIsToldOfADiskOnce(t *testing.T) {
	var log bytes.Buffer
	path := filepath.Join(t.TempDir(), "x.log")
	l, err := Open(Config{Path: path, Max: 1 << 20, Edge: "Clark", Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	_ = l.file.f.Close() // every write fails
	w := newWriter(l)
	for range 3 {
		l.In(at, "a", []byte("lost\nlost too\n"))
		w.write(l.take())
	}
	if got := strings.Count(log.String(), "level=WARN"); got != 1 || l.Dropped() != 6 || w.lost != 6 {
		t.Errorf("%d dropped, logged %q", l.Dropped(), log.String())
	}
	w.tried = time.Time{} // a while later
	l.In(at, "a", []byte("kept\n"))
	w.write(l.take())
	l.file.close()
	text := read(t, path)
	if strings.Count(text, "\n") != 2 || !strings.Contains(text, " Clark dropped 6\n") || !strings.HasSuffix(text, " a > kept\n") {
		t.Errorf("wrote %q", text)
	}
	if !strings.Contains(log.String(), "level=INFO") || l.Dropped() != 6 {
		t.Errorf("%d dropped, logged %q", l.Dropped(), log.String())
	}
}

// BenchmarkRecord measures what a command in a pipeline 32 deep costs a client: copying its
// line and its answer.
func BenchmarkRecord(b *testing.B) {
	l := newLog(Config{Buffer: defaultBuffer})
	lines := bytes.Repeat([]byte("IAMAT client-0000001 +34.068930-118.445127 1621464827.959498503\n"), 32)
	answers := bytes.Repeat([]byte("AT Clark +0.263873386 client-0000001 +34.068930-118.445127 1621464827.959498503\n"), 32)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 32 {
		l.In(at, "127.0.0.1:12345", lines)
		l.Out(at, "127.0.0.1:12345", answers)
		if l.size > 1<<19 {
			chunks, _ := l.take()
			for _, chunk := range chunks {
				l.giveBack(chunk)
			}
		}
	}
}

// BenchmarkEntry measures what the same command costs Run, without the disk.
func BenchmarkEntry(b *testing.B) {
	w := newWriter(&Log{cfg: Config{Edge: "Clark"}})
	e := entry{in, at, []byte("127.0.0.1:12345"), bytes.Repeat([]byte("IAMAT client-0000001 +34.068930-118.445127 1621464827.959498503\n"), 32)}
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += 32 {
		w.entry(e)
		w.out = w.out[:0]
	}
}

// BenchmarkCommand measures what a command in a pipeline 32 deep costs the transcript in all,
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
