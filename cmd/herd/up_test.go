package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/broker/brokertest"
	"herd/edge/client"
	"herd/edge/overview"
)

// anyPorts are the arguments of an up that uses free ports only.
var anyPorts = []string{"up", "--base-port", "0", "--http", "127.0.0.1:0", "--nats", "127.0.0.1:0"}

// --devices is the first edge's port; the others follow, and the last must be one.
func TestPortsForDevices(t *testing.T) {
	for address, want := range map[string]int{"": 0, "127.0.0.1:0": 0, "nowhere": 0, "[::1]:5055": 5055, ":65531": 65531, "127.0.0.1:70000": 0} {
		if _, port, err := devicePorts(address, 5); port != want || err != nil {
			t.Errorf("%q: port %d, %v; want %d", address, port, err, want)
		}
	}
	if _, _, err := devicePorts("127.0.0.1:65532", 5); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("ports beyond the last: %v", err)
	}
	h := startHerd(t, nil, "--devices", "127.0.0.1:0")
	talk := h.stderr.String()
	for _, name := range defaultHerd {
		m := regexp.MustCompile(`devices and browsers reach ` + name + ` at (\S+)\n`).FindStringSubmatch(talk)
		if m == nil {
			t.Fatalf("it does not say where devices reach %s: %s", name, talk)
		}
		resp, err := http.Get("http://" + m[1] + "/?id=kiwi&lat=1&lon=2")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != 200 {
			t.Errorf("%s answers %s", name, resp.Status)
		}
	}
}

var defaultHerd = []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"}

// herd is a `herd up` that is ready.
type herd struct {
	*tool
	addr    map[string]string // client ports by edge
	web     string            // URL of the admin port
	nats    string
	data    string // the temporary directory; "" with --data
	signals chan<- os.Signal
	done    chan int
}

func startHerd(t *testing.T, environ []string, args ...string) *herd {
	t.Helper()
	h := &herd{tool: newTool(t, append(environ, "HERD_LOG_LEVEL=warn")...), addr: make(map[string]string), done: make(chan int, 1)}
	go func() { h.done <- h.run(append(slices.Clone(anyPorts), args...)...) }()
	h.signals = <-h.tool.signals
	out := h.stdout.await(t, "ready\n")
	for line := range strings.Lines(out) {
		if name, addr, ok := strings.Cut(strings.TrimSuffix(line, "\n"), " "); ok {
			h.addr[name] = addr
		}
	}
	talk := h.stderr.String()
	find := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(talk); m != nil {
			return m[1]
		}
		return ""
	}
	h.web, h.nats, h.data = find(`(http://\S+)/\n`), find(`(nats://\S+)`), find(`are in (\S+), which`)
	return h
}

// stop stops the herd, and checks that it stops as it should.
func (h *herd) stop() {
	h.t.Helper()
	h.signals <- os.Interrupt
	select {
	case code := <-h.done:
		if code != exitOK {
			h.t.Errorf("exit %d, want 0\n%s", code, h.stderr.String())
		}
	case <-time.After(limit):
		h.t.Fatal("the herd does not stop")
	}
	if h.data != "" {
		if _, err := os.Stat(h.data); !os.IsNotExist(err) {
			h.t.Errorf("%s is still there (%v)", h.data, err)
		}
	}
}

func ask(t *testing.T, addr, line string) string {
	t.Helper()
	c, err := client.Dial(t.Context(), addr, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer, err := c.Do(t.Context(), []byte(line))
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

// await repeats the command in line until the answer does not begin with `? `.
func await(t *testing.T, addr, line string) string {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		answer := ask(t, addr, line)
		if !strings.HasPrefix(answer, "? ") {
			return answer
		}
		if time.Now().After(end) {
			t.Fatalf("%s answers %q", addr, answer)
		}
	}
}

// awaitFile waits until the file exists and contains part. It calls try repeatedly, which may
// bring that about.
func awaitFile(t *testing.T, file, part string, try func()) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		try()
		text, err := os.ReadFile(file)
		if err == nil && bytes.Contains(text, []byte(part)) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no %q in %s (%v): %.2000s", part, file, err, text)
		}
	}
}

func TestUpIsAWholeHerd(t *testing.T) {
	t.Parallel()
	h := startHerd(t, []string{"NATS_URL=nats://nowhere.invalid:1", "HERD_EDGE=nobody", "HERD_LISTEN=nonsense"})
	var names []string
	for line := range strings.Lines(h.stdout.String()) {
		name, _, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		names = append(names, name)
	}
	if want := append(slices.Clone(defaultHerd), "ready"); !slices.Equal(names, want) {
		t.Errorf("prints %q, want %q", names, want)
	}

	const told = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"
	at := ask(t, h.addr["Clark"], told)
	if !strings.HasPrefix(at, "AT Clark +") || !strings.HasSuffix(at, told[len("IAMAT"):]+"\n") {
		t.Fatalf("Clark answers %q", at)
	}
	for name, addr := range h.addr {
		answer := await(t, addr, "WHATSAT kiwi.cs.ucla.edu 10 5")
		first, rest, _ := strings.Cut(answer, "\n")
		if first+"\n" != at {
			t.Errorf("%s answers %q, want %q first", name, first, at)
		}
		var places struct {
			Results []json.RawMessage `json:"results"`
			Status  string            `json:"status"`
		}
		if err := json.Unmarshal([]byte(rest), &places); err != nil || places.Status != "OK" || len(places.Results) != 5 {
			t.Errorf("%s answers %s, %d places (%v), want 5", name, places.Status, len(places.Results), err)
		}
	}

	look := newTool(t, "NATS_URL="+h.nats)
	look.want(exitOK, "status", "--json")
	var edges []overview.Status
	if err := json.Unmarshal([]byte(look.stdout.String()), &edges); err != nil || len(edges) != 5 || !edges[0].Ready || edges[0].Clients != 1 {
		t.Errorf("status: %v, %s", err, look.stdout.String())
	}
	newTool(t).want(exitOK, "health", "--http", h.web)
	newTool(t).want(exitOK, "health", "--nats", h.nats)
	answer, err := http.Get(h.web + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := io.ReadAll(answer.Body)
	answer.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil || !bytes.Contains(metrics, []byte(`herd_positions{edge="Johnson"} 1`)) {
		t.Errorf("metrics: %v, %d bytes", err, len(metrics))
	}

	for _, name := range defaultHerd {
		awaitFile(t, filepath.Join(h.data, name+".log"), "WHATSAT kiwi.cs.ucla.edu 10 5", func() {}) // C20
	}
	h.stop()
}

func TestUpOfOneEdgeKeepsItsData(t *testing.T) {
	t.Parallel()
	data := filepath.Join(t.TempDir(), "made", "by up")
	h := startHerd(t, nil, "--data", data, "--topology", "Clark", "--http", "", "--nats=")
	if len(h.addr) != 1 || h.web != "" || h.nats != "" || h.data != "" {
		t.Errorf("%v, web %q, NATS %q, temporary %q", h.addr, h.web, h.nats, h.data)
	}
	at := ask(t, h.addr["Clark"], "IAMAT kiwi -33.9+151.2 1621464827")
	another := newTool(t, "HERD_LOG_LEVEL=error")
	another.want(exitFailed, append(slices.Clone(anyPorts), "--data", data)...)
	if got := another.stderr.String(); !strings.Contains(got, data) || !strings.Contains(got, "--data") {
		t.Errorf("another herd with the same folder says %s", got)
	}
	transcript := filepath.Join(data, "Clark.log")
	awaitFile(t, transcript, strings.TrimSuffix(at, "\n"), func() {}) // C20
	if err := os.Rename(transcript, transcript+".old"); err != nil {
		t.Fatal(err)
	}
	h.signals <- syscall.SIGHUP
	awaitFile(t, transcript, "after the signal", func() { ask(t, h.addr["Clark"], "after the signal") })
	h.stop()
}

func TestAnEdgeThatFailsEndsTheHerd(t *testing.T) {
	t.Parallel()
	h := startHerd(t, nil)
	if err := brokertest.Dial(t, h.nats, "twin").ClaimName("herd", "Jaquez", "ffffffffffffffff-ffffffff"); err != nil { // H10
		t.Fatal(err)
	}
	if code := <-h.done; code != exitFailed || !strings.Contains(h.stderr.String(), "edge Jaquez: ") {
		t.Errorf("exit %d, says %s", code, h.stderr.String())
	}
	if _, err := os.Stat(h.data); !os.IsNotExist(err) {
		t.Errorf("%s is still there (%v)", h.data, err)
	}
}

func TestUpNamesWhatIsOccupied(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	for _, flag := range [][2]string{{"--base-port", port}, {"--http", addr}, {"--nats", addr}} {
		o := newTool(t, "HERD_LOG_LEVEL=error")
		o.want(exitFailed, append(slices.Clone(anyPorts), flag[0], flag[1])...)
		if got := o.stderr.String(); !strings.Contains(got, addr) || !strings.Contains(got, flag[0]) || strings.Contains(got, ":12000") {
			t.Errorf("%s: says %s", flag[0], got)
		}
		if o.stdout.String() != "" {
			t.Errorf("%s: prints %q", flag[0], o.stdout.String())
		}
		temporary := regexp.MustCompile(`are in (\S+), which`).FindStringSubmatch(o.stderr.String())
		if temporary == nil {
			t.Fatalf("no folder is named in %s", o.stderr.String())
		}
		if _, err := os.Stat(temporary[1]); !os.IsNotExist(err) {
			t.Errorf("%s is still there", temporary[1])
		}
	}
}

func TestUpReportsWhatIsWronglyConfigured(t *testing.T) {
	for _, test := range []struct {
		environ []string
		args    []string
		says    []string
	}{
		{environ: []string{"HERD_MAX_LINE=1", "HERD_RETAIN=1s", "HERD_TOPOLOGY=A-A", "HERD_TLS_CERT=x"},
			says: []string{"HERD_MAX_LINE: ", "HERD_RETAIN: ", "HERD_TOPOLOGY: ", "HERD_TLS_CERT: \"x\": no such file"}},
		{args: []string{"--topology", "A-B,C", "--http", "nowhere", "--nats", "1"}, environ: []string{"HERD_HEARTBEAT=1ms"},
			says: []string{"--topology: ", "--http: ", "--nats: ", "HERD_HEARTBEAT: "}},
		{args: []string{"--host", "a b"}, says: []string{"--host: "}},
		{args: []string{"--data", "/dev/null/x"}, says: []string{"--data: "}},
		{environ: []string{"HERD_TRANSCRIPT=/tmp/one"}, says: []string{"HERD_TRANSCRIPT: "}},
		{environ: []string{"HERD_MAX_CONNS=1000000000"}, says: []string{"HERD_MAX_CONNS: "}},
	} {
		o := newTool(t, test.environ...)
		o.want(exitUsage, append(slices.Clone(anyPorts), test.args...)...)
		for _, says := range test.says {
			if !strings.Contains(o.stderr.String(), says) {
				t.Errorf("up %v with %v says %s, want %s", test.args, test.environ, o.stderr.String(), says)
			}
		}
		if o.stdout.String() != "" || strings.Contains(o.stderr.String(), "which is removed") {
			t.Errorf("something was started: %q, %q", o.stdout.String(), o.stderr.String())
		}
	}
}

// What ends at once leaves goroutines behind, and real signals reach the whole process, so
// these tests need a process of their own.
func TestSignals(t *testing.T) { // C19
	t.Parallel()
	for _, test := range []struct {
		signals []os.Signal
		code    int
	}{
		{[]os.Signal{syscall.SIGTERM}, exitOK},
		{[]os.Signal{syscall.SIGTERM, syscall.SIGTERM}, exitOK}, // as some supervisors send it
		{[]os.Signal{os.Interrupt, os.Interrupt}, exitFailed},
	} {
		temporary := t.TempDir()
		cmd := exec.CommandContext(t.Context(), os.Args[0], append(slices.Clone(anyPorts), "--topology", "Clark")...)
		cmd.Env = []string{asHerd + "=1", "TMPDIR=" + temporary, "HERD_LOG_LEVEL=error"}
		var stdout, stderr text
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr, _, _ := strings.Cut(strings.TrimPrefix(stdout.await(t, "ready\n"), "Clark "), "\n")
		if len(test.signals) > 1 {
			// A client that does not close: the stop waits up to a second for it, so the
			// second signal arrives in time.
			nc, err := net.Dial("tcp", addr)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if _, err := nc.Write([]byte("hello\n")); err != nil {
				t.Fatal(err)
			}
			if _, err := nc.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range test.signals {
			if err := cmd.Process.Signal(s); err != nil {
				t.Fatal(err)
			}
			stderr.await(t, "stopping\n") // else two signals may arrive as one
		}
		_ = cmd.Wait() // the exit code is checked below
		if code := cmd.ProcessState.ExitCode(); code != test.code {
			t.Errorf("exit %d after %v, want %d\n%s", code, test.signals, test.code, stderr.String())
		}
		left, err := os.ReadDir(temporary)
		if err != nil || len(left) > 0 && test.code == exitOK {
			t.Errorf("left behind: %v, %v", left, err)
		}
	}
}

// A transcript that is a pipe without a reader hangs the start. One that is not read hangs
// the last step of a stop.
func TestAHerdThatHangsEndsItself(t *testing.T) { // C19
	t.Parallel()
	data := t.TempDir()
	path := filepath.Join(data, "Clark.log")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	start := exec.CommandContext(t.Context(), os.Args[0], append(slices.Clone(anyPorts), "--topology", "Clark", "--data", data)...)
	start.Env = []string{asHerd + "=1", "HERD_NEW=1", "HERD_SHUTDOWN_TIMEOUT=10ms"}
	var said text
	start.Stderr = &said
	if err := start.Start(); err != nil {
		t.Fatal(err)
	}
	said.await(t, "HERD_NEW") // it handles signals from here on
	if err := start.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = start.Wait() // the exit code is checked below
	if code := start.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(said.String(), "the start hangs") {
		t.Errorf("exit %d, says %s", code, said.String())
	}
	reader, err := os.OpenFile(path, os.O_RDWR, 0) // a reader that reads nothing
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append(slices.Clone(anyPorts), "--topology", "Clark", "--data", data)...)
	cmd.Env = []string{asHerd + "=1", "HERD_LOG_LEVEL=error", "HERD_SHUTDOWN_TIMEOUT=500ms"}
	var stdout, stderr text
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	addr, _, _ := strings.Cut(strings.TrimPrefix(stdout.await(t, "ready\n"), "Clark "), "\n")
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	line := strings.Repeat("x", 200) + "\n"
	if _, err := nc.Write([]byte(strings.Repeat(line, 1<<20/len(line)))); err != nil { // more than the pipe's buffer holds
		t.Fatal(err)
	}
	if _, err := io.ReadFull(nc, make([]byte, 1<<19)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // the exit code is checked below
	if code := cmd.ProcessState.ExitCode(); code != exitFailed || !strings.Contains(stderr.String(), "the stop hangs: edge Clark, at transcript") {
		t.Errorf("exit %d, says %s", code, stderr.String())
	}
}

func TestUpReadsAnExtractAndReadsItAnewOnSIGHUP(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "town.osm")
	put := func(name string) {
		t.Helper()
		text := `<osm><node id="1" lat="43.7" lon="7.4"><tag k="name" v="` + name + `"/><tag k="shop" v="toys"/></node></osm>`
		if err := errors.Join(os.WriteFile(path+".new", []byte(text), 0o600), os.Rename(path+".new", path)); err != nil {
			t.Fatal(err)
		}
	}
	put("before")
	h := startHerd(t, []string{"HERD_OSM_FILE=" + path})
	found := func(want string) bool {
		return strings.Contains(ask(t, h.addr["Juzang"], "WHATSAT extract 1 5"), `"name":"`+want+`"`)
	}
	wait := func(what string, ok func() bool) {
		t.Helper()
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for limit := time.Now().Add(20 * time.Second); !ok(); <-tick.C {
			if time.Now().After(limit) {
				t.Fatalf("waited in vain: %s", what)
			}
		}
	}
	ask(t, h.addr["Juzang"], "IAMAT extract +43.7+7.4 1")
	if !found("before") {
		t.Error("the extract was not read when the herd was ready")
	}
	put("after it")
	h.signals <- syscall.SIGHUP
	wait("the new places", func() bool { return found("after it") })
	h.stop()
}

func TestPlacesLooksIntoAnExtract(t *testing.T) {
	path := filepath.Join(t.TempDir(), "town.osm")
	text := `<osm><node id="1" lat="43.7" lon="7.4"><tag k="name" v="toys here"/><tag k="shop" v="toys"/></node></osm>`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newTool(t, "HERD_OSM_FILE="+path)
	p.want(exitOK, "places", "+43.7+7.4", "1", "5")
	if got := p.stdout.String(); !strings.Contains(got, `"place_id":"osm:node/1"`) || !strings.Contains(p.stderr.String(), "osm answered") {
		t.Errorf("%s\n%s", got, p.stderr.String())
	}
}
