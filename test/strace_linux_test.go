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
)

// tracer is strace on running processes: one for all of them, so that there is one order
// of what they do.
type tracer struct {
	*process
	t    *testing.T
	path string
}

// startTracer traces these processes; it returns when that has begun. It skips the test
// where there is no strace, or no leave to use it.
func startTracer(t *testing.T, processes ...*process) *tracer {
	t.Helper()
	strace := needsStrace(t)
	tr := &tracer{t: t, path: filepath.Join(t.TempDir(), "trace")}
	// Of threads it follows all (-f), of descriptors it says what they are (-y).
	args := []string{"-f", "-y", "-s", "8192", "-o", tr.path,
		"-e", "trace=read,write,writev,recvfrom,sendto,fsync,fdatasync", "-e", "signal=none"}
	for _, p := range processes {
		args = append(args, "-p", strconv.Itoa(p.cmd.Process.Pid))
	}
	tr.process = start(t, "strace", strace, nil, args...)
	eventually(t, promise(10*time.Second), "strace is attached", func() error {
		said := tr.stderr.String()
		if strings.Contains(said, "Operation not permitted") {
			t.Skip("skipped: no leave to trace processes (ptrace)")
		}
		if !tr.running() {
			t.Fatalf("strace ended: %s", said)
		}
		for _, p := range processes {
			if !strings.Contains(said, fmt.Sprintf("Process %d attached", p.cmd.Process.Pid)) {
				return fmt.Errorf("it says %q", said)
			}
		}
		return nil
	})
	return tr
}

// needsStrace is the path of strace; the test is skipped where there is none.
func needsStrace(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("skipped: no strace")
	}
	return path
}

// call is a system call. Its beginning and its end are places in the one order of all that
// was traced.
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
	tr.signal(syscall.SIGINT)
	tr.wait(promise(10 * time.Second))
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

// readTrace reads what strace wrote. A call whose end it has not seen, since a client may
// have an answer before strace sees its write return, ends behind all others.
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

// received says whether the call brought this text from a socket.
func (c call) received(text string) bool {
	return (c.name == "read" || c.name == "recvfrom") && onSocket.MatchString(c.text) && strings.Contains(c.text, text)
}

// sends says whether the call gives this text to a socket.
func (c call) sends(text string) bool {
	return (c.name == "write" || c.name == "writev" || c.name == "sendto") && onSocket.MatchString(c.text) && strings.Contains(c.text, text)
}

var syncDone = regexp.MustCompile(`^\d+<(.*)>\) += 0$`)

// synced is the path of the file that the call wrote to disk; "" for other calls.
func (c call) synced() string {
	if c.name != "fsync" && c.name != "fdatasync" {
		return ""
	}
	if m := syncDone.FindStringSubmatch(c.text); m != nil {
		return m[1]
	}
	return ""
}
