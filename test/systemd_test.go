package test

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// notified plays the service manager for an edge of Type=notify.
type notified struct {
	t    *testing.T
	conn *net.UnixConn
	path string
}

func notifySocket(t *testing.T) *notified {
	t.Helper()
	dir, err := os.MkdirTemp("", "herd-") // the path of a socket has a short limit
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	n := &notified{t: t, path: filepath.Join(dir, "notify")}
	if n.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: n.path, Net: "unixgram"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.conn.Close() })
	return n
}

// next returns the next message within limit, "" if there is none.
func (n *notified) next(limit time.Duration) string {
	n.t.Helper()
	n.conn.SetReadDeadline(time.Now().Add(limit))
	text := make([]byte, 4096)
	size, err := n.conn.Read(text)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		n.t.Fatal(err)
	}
	return string(text[:size])
}

// await skips messages until one has this line, and returns that message.
func (n *notified) await(line string) string {
	n.t.Helper()
	for end := time.Now().Add(herdtest.Promise(15 * time.Second)); time.Now().Before(end); {
		if text := n.next(herdtest.Promise(15 * time.Second)); hasLine(text, line) {
			return text
		}
	}
	n.t.Fatalf("systemd is not told %s", line)
	return ""
}

func hasLine(text, line string) bool { return strings.Contains("\n"+text+"\n", "\n"+line+"\n") }

// An edge of Type=notify reports that it is ready when its client port is open, not before: here it
// waits for a broker that is away at first (D4). When it stops, it reports the time that it may
// take.
func TestSystemdIsTold(t *testing.T) {
	quiet(t)
	n := notifySocket(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Unready: []string{"Clark"}})
	h.NATS.Kill()
	e := h.Edges["Clark"]
	e.Env["NOTIFY_SOCKET"], e.Env["HERD_JOURNAL"], e.Env["HERD_SHUTDOWN_TIMEOUT"] = n.path, "on", "20s"
	e.Start()
	first := n.next(herdtest.Promise(10 * time.Second))
	if !strings.HasPrefix(first, "STATUS=not ready: ") || !strings.Contains(first, "broker away") {
		t.Errorf("told %q first", first)
	}
	if text := n.next(time.Second); strings.Contains(text, "READY=1") {
		t.Errorf("ready without the broker: %q", text)
	}
	store := t.TempDir()
	host, port, _ := net.SplitHostPort(h.NATS.Addr)
	herdtest.StartChild(t, "nats-server", herdtest.Binary(t, "nats-server"), nil, "-a", host, "-p", port, "-js", "-sd", store)
	if text := n.await("READY=1"); !hasLine(text, "STATUS=serving clients on "+e.Addr) {
		t.Errorf("told %q", text)
	}
	c := dial(t, e.Addr) // it is open by now
	c.send("IAMAT kiwi +1+1 1\n")
	c.line()
	e.Signal(syscall.SIGHUP) // is no stop
	e.Signal(syscall.SIGTERM)
	if text := n.await("STOPPING=1"); !hasLine(text, "EXTEND_TIMEOUT_USEC=25000000") {
		t.Errorf("told %q", text)
	}
	if code := e.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if text := n.next(10 * time.Millisecond); text != "" {
		t.Errorf("told %q at the end", text)
	}
}

// With a wrong configuration an edge reports nothing but its exit code, for which the unit does not
// restart it.
func TestSystemdIsNotToldOfAWrongConfiguration(t *testing.T) {
	quiet(t)
	n := notifySocket(t)
	env, _ := untouched(t)
	env["HERD_MAX_LINE"], env["NOTIFY_SOCKET"] = "1", n.path
	configFault(t, env, 2)
	if text := n.next(10 * time.Millisecond); text != "" {
		t.Errorf("told %q", text)
	}
}

// systemd accepts the unit without warnings.
func TestTheSystemdUnitVerifies(t *testing.T) {
	quiet(t)
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("skipped: no systemd-analyze")
	}
	unit, err := os.ReadFile("../deploy/herd-edge@.service")
	if err != nil {
		t.Fatal(err)
	}
	const installed = "ExecStart=/usr/local/bin/edge\n"
	if strings.Count(string(unit), installed) != 1 {
		t.Fatalf("the unit has no %s", installed)
	}
	verify := func(text string) string {
		dir := t.TempDir()
		file := filepath.Join(dir, "herd-edge@.service")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(analyze, "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, "herd-edge@Clark.service"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			return string(out) + err.Error()
		}
		return string(out)
	}
	here := strings.Replace(string(unit), installed, "ExecStart="+herdtest.Binary(t, "edge")+"\n", 1) // it must be there
	if said := verify(here); said != "" {
		t.Errorf("systemd-analyze verify says:\n%s", said)
	}
	if verify(here+"\n[Service]\nTypo=yes\n") == "" {
		t.Error("systemd-analyze finds no fault in a unit that has one")
	}
}
