package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// tracer is one strace of several running processes, so that their calls are in one order.
type tracer struct {
	*herdtest.Child
	t    *testing.T
	path string
}

// startTracer traces these processes, and returns when the tracing has begun. It skips the test if
// there is no strace, or no permission to use it.
func startTracer(t *testing.T, processes ...*herdtest.Child) *tracer {
	t.Helper()
	strace := needsStrace(t)
	tr := &tracer{t: t, path: filepath.Join(t.TempDir(), "trace")}
	// -f traces all threads, -y prints what descriptors refer to.
	args := []string{"-f", "-y", "-s", "8192", "-o", tr.path,
		"-e", "trace=read,write,writev,recvfrom,sendto,fsync,fdatasync", "-e", "signal=none"}
	for _, p := range processes {
		args = append(args, "-p", strconv.Itoa(p.Cmd.Process.Pid))
	}
	tr.Child = herdtest.StartChild(t, "strace", strace, nil, args...)
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "strace is attached", func() error {
		said := tr.Stderr.String()
		if strings.Contains(said, "Operation not permitted") {
			t.Skip("skipped: no leave to trace processes (ptrace)")
		}
		if !tr.Running() {
			t.Fatalf("strace ended: %s", said)
		}
		for _, p := range processes {
			if !strings.Contains(said, fmt.Sprintf("Process %d attached", p.Cmd.Process.Pid)) {
				return fmt.Errorf("it says %q", said)
			}
		}
		return nil
	})
	return tr
}

// needsStrace returns the path of strace. It skips the test if there is none.
func needsStrace(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("skipped: no strace")
	}
	return path
}

// call is a system call. Its beginning and end are positions in the order of all traced events.
type call struct {
	name, text string // text: arguments and result, as strace writes them
	begin, end int
}

var (
	straceWhole   = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	straceBegun   = regexp.MustCompile(`^(\d+) +(\w+)\((.*) <unfinished \.\.\.>$`)
	straceResumed = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
)

// stop ends the tracing and returns all calls, in the order of their ends.
func (tr *tracer) stop() []call {
	tr.t.Helper()
	tr.Signal(syscall.SIGINT)
	tr.Wait(herdtest.Promise(10 * time.Second))
	text, err := os.ReadFile(tr.path)
	if err != nil {
		tr.t.Fatal(err)
	}
	calls := readTrace(string(text))
	if len(calls) == 0 {
		tr.t.Fatalf("strace has seen no call: %.500q", text)
	}
	return calls
}

// readTrace parses the output of strace. A call without an end counts as ending after all others: a
// client may have an answer before strace sees the write return.
func readTrace(text string) (calls []call) {
	begun := map[string]call{} // by thread
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		if m := straceBegun.FindStringSubmatch(line); m != nil {
			begun[m[1]] = call{name: m[2], text: m[3], begin: i}
		} else if m := straceResumed.FindStringSubmatch(line); m != nil {
			c, ok := begun[m[1]]
			if !ok || c.name != m[2] {
				continue // begun before the tracing
			}
			delete(begun, m[1])
			c.text, c.end = c.text+m[3], i
			calls = append(calls, c)
		} else if m := straceWhole.FindStringSubmatch(line); m != nil {
			calls = append(calls, call{name: m[2], text: m[3], begin: i, end: i})
		}
	}
	for _, c := range begun {
		c.end = len(lines)
		calls = append(calls, c)
	}
	return calls
}

func TestATraceIsReadToItsEnd(t *testing.T) {
	calls := readTrace(`7 read(5<TCP:[1]>, "IAMAT a ", 99 <unfinished ...>
8 fsync(9</streams/KV_herd_Clark/msgs/1.blk>) = 0
7 <... read resumed>) = 8
9 <... write resumed>) = 1
7 write(5<TCP:[1]>, "AT Clark a ", 11 <unfinished ...>
8 fsync(9</streams/KV_herd_Clark/msgs/1.blk> <unfinished ...>
`)
	if len(calls) != 4 {
		t.Fatalf("%d calls: %+v", len(calls), calls)
	}
	var sent, synced int
	for _, c := range calls {
		if c.sends(" a ") && c.begin == 4 && c.end > 5 {
			sent++
		}
		if c.synced() != "" {
			synced++
		}
	}
	if sent != 1 || synced != 1 {
		t.Errorf("%d answers sent and %d files written, want one of each: %+v", sent, synced, calls)
	}
}

var onSocket = regexp.MustCompile(`^\d+<(socket|TCP)`)

// received reports whether the call read this text from a socket.
func (c call) received(text string) bool {
	return (c.name == "read" || c.name == "recvfrom") && onSocket.MatchString(c.text) && strings.Contains(c.text, text)
}

// sends reports whether the call writes this text to a socket.
func (c call) sends(text string) bool {
	return (c.name == "write" || c.name == "writev" || c.name == "sendto") && onSocket.MatchString(c.text) && strings.Contains(c.text, text)
}

var syncDone = regexp.MustCompile(`^\d+<(.*)>\) += 0$`)

// synced returns the path of the file that the call synced to disk, or "" for other calls.
func (c call) synced() string {
	if c.name != "fsync" && c.name != "fdatasync" {
		return ""
	}
	if m := syncDone.FindStringSubmatch(c.text); m != nil {
		return m[1]
	}
	return ""
}
