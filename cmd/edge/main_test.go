package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// With this variable set, the test binary runs the command.
const asCommand = "EDGE_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(asCommand) != "" {
		os.Unsetenv(asCommand)
		main()
	}
	m.Run()
}

// output runs the command in this process and returns what it wrote.
func output(t *testing.T, args []string, environ ...string) (code int, stdout, stderr string) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	var out strings.Builder
	code = run(args, environ, &out, file)
	written, err := os.ReadFile(file.Name())
	if err != nil {
		t.Fatal(err)
	}
	return code, out.String(), string(written)
}

func TestWrongArgumentsAreAnsweredWithTheUsage(t *testing.T) {
	for _, args := range [][]string{{"up"}, {"health", "now"}, {"--help"}, {"-v"}} {
		code, stdout, stderr := output(t, args)
		if code != exitUsage || stdout != "" || stderr != usage {
			t.Errorf("%q: exit %d, %q, %q", args, code, stdout, stderr)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := output(t, []string{"version"})
	if code != exitOK || !strings.HasPrefix(stdout, "edge ") || !strings.HasSuffix(stdout, ")\n") || stderr != "" {
		t.Errorf("exit %d, %q, %q", code, stdout, stderr)
	}
}

func TestAWrongConfigurationIsOneMessage(t *testing.T) {
	code, stdout, stderr := output(t, nil, "HERD_LISTEN=here", "HERD_TLS_CERT=cert.pem", "HERD_LISTENS=:1", "PATH=/bin")
	const want = `edge: the configuration is wrong
  HERD_EDGE: required: this edge's name
  HERD_LISTEN: "here", want HOST:PORT, such as 127.0.0.1:12000 or [::1]:0
  HERD_TLS_CERT: "cert.pem": no such file or directory
  warning: HERD_LISTENS: no such variable; did you mean HERD_LISTEN?
`
	if code != exitUsage || stdout != "" || stderr != want {
		t.Errorf("exit %d, %q,\n%s\nwant\n%s", code, stdout, stderr, want)
	}
}

func TestHealthAsksTheEdgesOwnPort(t *testing.T) {
	ready := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != "GET" || r.URL.Path != "/readyz" {
			t.Errorf("asked %s %s", r.Method, r.URL)
		}
		w.WriteHeader(ready)
		fmt.Fprintln(w, "Clark says so")
	}))
	address := server.Listener.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		http  string
		ready int
		code  int
		says  string // part of the error
	}{
		{address, 200, exitOK, ""},
		{":" + port, 200, exitOK, ""},
		{"0.0.0.0:" + port, 200, exitOK, ""},
		{address, 503, exitFailed, "503 Service Unavailable"},
		{"", 200, exitFailed, "HERD_HTTP is off"},
		{"127.0.0.1:0", 200, exitFailed, "HERD_HTTP has port 0"},
		{"nowhere", 200, exitFailed, `HERD_HTTP: "nowhere", want`},
	} {
		ready = test.ready
		// This command ignores mistakes in other variables.
		code, stdout, stderr := output(t, []string{"health"}, "HERD_HTTP="+test.http, "HERD_MAX_LINE=1", "HTTP_PROXY=http://127.0.0.1:1")
		if code != test.code || (stderr == "") != (code == exitOK) || !strings.Contains(stderr, test.says) {
			t.Errorf("HERD_HTTP=%s: exit %d, %q, want %d and %q", test.http, code, stderr, test.code, test.says)
		}
		if asked := strings.HasSuffix(test.http, port); asked != (stdout == "Clark says so\n") {
			t.Errorf("HERD_HTTP=%s: printed %q", test.http, stdout)
		}
	}
	server.Close()
	if code, _, stderr := output(t, []string{"health"}, "HERD_HTTP="+address); code != exitFailed || !strings.Contains(stderr, "refused") {
		t.Errorf("nobody there: exit %d, %q", code, stderr)
	}
}

func TestWildcardsMapToLoopback(t *testing.T) {
	for listen, want := range map[string]string{
		"HERD_HTTP=:80": "127.0.0.1:80", "HERD_HTTP=[::]:80": "[::1]:80", "HERD_HTTP=example.org:80": "example.org:80",
		"HERD_OTHER=:80": "127.0.0.1:12080",
	} {
		if got, err := adminAddress([]string{listen}); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", listen, got, err, want)
		}
	}
}

// daemon is a running edge and its log.
type daemon struct {
	cmd *exec.Cmd
	log chan map[string]any // closed when the process has ended
}

func start(t *testing.T, environ ...string) *daemon {
	t.Helper()
	d := &daemon{cmd: exec.CommandContext(t.Context(), os.Args[0]), log: make(chan map[string]any, 1000)}
	d.cmd.Env = append([]string{asCommand + "=1", "HERD_EDGE=Clark", "HERD_TOPOLOGY=Clark", "HERD_EMBEDDED_NATS=true", "HERD_LISTEN=127.0.0.1:0", "HERD_HTTP="}, environ...)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(d.log)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			var line map[string]any
			if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
				line = map[string]any{"msg": lines.Text()}
			}
			d.log <- line
		}
	}()
	return d
}

// await returns the log line with this message.
func (d *daemon) await(t *testing.T, msg string) map[string]any {
	t.Helper()
	limit := time.After(30 * time.Second)
	for {
		select {
		case line, ok := <-d.log:
			if !ok {
				t.Fatalf("it ended without %q", msg)
			}
			if line["msg"] == msg {
				return line
			}
			t.Log(line)
		case <-limit:
			t.Fatalf("no %q", msg)
		}
	}
}

// exit waits for the process to end and returns its exit code.
func (d *daemon) exit(t *testing.T) int {
	t.Helper()
	for line := range d.log {
		t.Log(line)
	}
	d.cmd.Wait() // the exit code is checked below
	return d.cmd.ProcessState.ExitCode()
}

func TestASignalStopsIt(t *testing.T) {
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		d := start(t, "HERD_NEW=1")
		if line := d.await(t, "configuration"); line["warning"] != "HERD_NEW: no such variable" || line["level"] != "WARN" {
			t.Errorf("warned %v", line)
		}
		d.await(t, "ready")
		if err := d.cmd.Process.Signal(syscall.SIGHUP); err != nil { // must not end it
			t.Fatal(err)
		}
		if err := d.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		d.await(t, "stopped")
		if code := d.exit(t); code != exitOK {
			t.Errorf("%v: exit %d", s, code)
		}
	}
}

func TestASecondSIGINTEndsItAtOnceAndASecondSIGTERMDoesNot(t *testing.T) {
	d := start(t, "HERD_SHUTDOWN_TIMEOUT=1h")
	address := d.await(t, "ready")["address"].(string)
	// A client that does not read its answers holds up the first stop.
	client, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	questions := strings.Repeat(strings.Repeat("x", 4000)+"\n", 64)
	client.SetWriteDeadline(time.Now().Add(time.Second))
	for err == nil {
		_, err = client.Write([]byte(questions))
	}
	for i, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGTERM, syscall.SIGINT} {
		if err := d.cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			d.await(t, "stopping") // else two signals may arrive as one, or in another order
		}
	}
	if line := d.await(t, "stopped at once"); line["signal"] != "interrupt" || line["at"] != "clients" {
		t.Errorf("C19 %v", line)
	}
	if code := d.exit(t); code != exitFailed {
		t.Errorf("exit %d", code)
	}
}

// A transcript that nobody reads hangs the last step of a stop.
func TestAnEdgeThatHangsEndsItself(t *testing.T) {
	path := filepath.Join(t.TempDir(), "transcript")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // a reader that reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	d := start(t, "HERD_SHUTDOWN_TIMEOUT=500ms", "HERD_TRANSCRIPT="+path)
	client, err := net.Dial("tcp", d.await(t, "ready")["address"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	line := strings.Repeat("x", 200) + "\n"
	if _, err := client.Write([]byte(strings.Repeat(line, 1<<20/len(line)))); err != nil { // more than the pipe's buffer holds
		t.Fatal(err)
	}
	if _, err := io.ReadFull(client, make([]byte, 1<<19)); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if line := d.await(t, "stopped at once, since the stop hangs"); line["at"] != "transcript" {
		t.Errorf("C19 %v", line)
	}
	if code := d.exit(t); code != exitFailed {
		t.Errorf("exit %d", code)
	}
}

// A transcript that is a pipe without a reader hangs the start.
func TestAnEdgeThatHangsBeforeItRunsCanBeEnded(t *testing.T) {
	for _, test := range []struct {
		limit   string
		signals []syscall.Signal
		says    string
	}{
		{"10ms", []syscall.Signal{syscall.SIGTERM}, "stopped at once, since the stop hangs"},
		{"1h", []syscall.Signal{syscall.SIGTERM, syscall.SIGINT}, "stopped at once"},
	} {
		path := filepath.Join(t.TempDir(), "transcript")
		if err := syscall.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		d := start(t, "HERD_SHUTDOWN_TIMEOUT="+test.limit, "HERD_TRANSCRIPT="+path, "HERD_NEW=1")
		d.await(t, "configuration") // it handles signals from here on
		for i, s := range test.signals {
			if err := d.cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				d.await(t, "stopping") // else the second signal may arrive first
			}
		}
		if line := d.await(t, test.says); line["at"] != "start" {
			t.Errorf("C19 %v", line)
		}
		if code := d.exit(t); code != exitFailed {
			t.Errorf("exit %d", code)
		}
	}
}

func TestAnOccupiedPortIsNamedWithItsVariable(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, name := range []string{"HERD_LISTEN", "HERD_HTTP", "HERD_EMBEDDED_NATS_LISTEN"} {
		t.Run(name, func(t *testing.T) {
			d := start(t, name+"="+taken.Addr().String())
			var all strings.Builder
			for line := range d.log {
				fmt.Fprintln(&all, line)
			}
			d.cmd.Wait() // the exit code is checked below
			if code := d.cmd.ProcessState.ExitCode(); code != exitFailed {
				t.Errorf("exit %d", code)
			}
			for _, want := range []string{name, taken.Addr().String(), "address already in use"} {
				if !strings.Contains(all.String(), want) {
					t.Errorf("%q is not in\n%s", want, &all)
				}
			}
		})
	}
}
