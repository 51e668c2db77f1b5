package test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
	"herd/test/ports"
)

// up is a running `herd up`.
type up struct {
	*herdtest.Child
	t     *testing.T
	temp  string
	addrs map[string]string // by edge
}

// startUp runs `herd up` and waits for its `ready`.
func startUp(t *testing.T, args ...string) *up { return startUpWith(t, nil, args...) }

// startUpWith is startUp with variables of the edges.
func startUpWith(t *testing.T, env map[string]string, args ...string) *up {
	t.Helper()
	u := &up{t: t, temp: t.TempDir(), addrs: map[string]string{}}
	all := map[string]string{"TMPDIR": u.temp}
	maps.Copy(all, env)
	u.Child = herdtest.StartChild(t, "herd up", herdtest.Binary(t, "herd"), all, append([]string{"up"}, args...)...)
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "herd up is ready", func() error {
		if !u.Running() {
			t.Fatalf("herd up ended with exit code %d", u.Cmd.ProcessState.ExitCode())
		}
		if out := u.Stdout.String(); !strings.HasSuffix(out, "ready\n") {
			return fmt.Errorf("it says %q", out)
		}
		return nil
	})
	lines := strings.Split(strings.TrimSuffix(u.Stdout.String(), "ready\n"), "\n")
	names := []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"}
	if len(lines) != len(names)+1 {
		t.Fatalf("standard output is %q, want five addresses and ready", u.Stdout)
	}
	for i, name := range names { // in alphabetical order
		addr, ok := strings.CutPrefix(lines[i], name+" ")
		if _, _, err := net.SplitHostPort(addr); !ok || err != nil {
			t.Fatalf("line %d is %q, want `%s HOST:PORT`", i+1, lines[i], name)
		}
		u.addrs[name] = addr
	}
	return u
}

// interrupt sends SIGINT, as Ctrl-C does.
func (u *up) interrupt() {
	u.t.Helper()
	start := time.Now()
	u.Signal(syscall.SIGINT)
	code := u.Wait(herdtest.Promise(10 * time.Second))
	u.t.Logf("ended %v after Ctrl-C", time.Since(start).Round(time.Millisecond))
	if code != 0 {
		u.t.Errorf("exit code %d, want 0", code)
	}
}

const kiwi = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"

// One command starts a herd.
func TestOneCommandRunsTheHerd(t *testing.T) {
	quiet(t)
	begun := time.Now()
	base := ports.FreeRow(t, 5)
	u := startUp(t, "--base-port", strconv.Itoa(base), "--http", ports.Addr(t), "--nats", ports.Addr(t))
	t.Logf("ready after %v", time.Since(begun).Round(time.Millisecond))
	for i, name := range []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"} {
		if want := ports.Local(base + i); u.addrs[name] != want {
			t.Errorf("%s listens on %s, want %s", name, u.addrs[name], want)
		}
	}
	if entries, err := os.ReadDir(u.temp); err != nil || len(entries) != 1 || !strings.Contains(u.Stderr.String(), entries[0].Name()) {
		t.Errorf("the temporary folder is not named at the start: %v, %v", entries, err)
	}

	answer := talk(t, u.addrs["Clark"], kiwi)
	if !regexp.MustCompile(`^AT Clark \+\d+\.\d{9} kiwi\.cs\.ucla\.edu \+34\.068930-118\.445127 1621464827\.959498503\n$`).MatchString(answer) {
		t.Fatalf("IAMAT is answered %q", answer)
	}
	for _, name := range []string{"Bernard", "Jaquez", "Johnson", "Juzang"} {
		var at, text string
		herdtest.Eventually(t, herdtest.Promise(time.Second), name+" knows kiwi", func() error {
			c := dial(t, u.addrs[name])
			defer c.Close()
			if at, text = c.whatsat("kiwi.cs.ucla.edu 10 5"); at+"\n" != answer {
				return fmt.Errorf("WHATSAT is answered %q, want %q", at, answer)
			}
			return nil
		})
		places := nearby(t, text)
		if len(places.Results) != 5 || places.Status != "OK" {
			t.Errorf("%s knows %d places, status %s, want five", name, len(places.Results), places.Status)
		}
	}

	u.interrupt()
	if entries, err := os.ReadDir(u.temp); err != nil || len(entries) != 0 {
		t.Errorf("the temporary folder is not removed: %v, %v", entries, err)
	}
}

// D2, D3: a herd that is killed while it works, as by a power cut or by the system for its memory,
// knows everything that it answered when it starts again.
func TestAHerdInOneProcessSurvivesBeingKilled(t *testing.T) {
	data := t.TempDir()
	var tracks []herdtest.Track
	for round := range size(3, 10) {
		u := startUpWith(t, map[string]string{"HERD_DURABILITY": "journal"}, "--base-port", "0", "--http", "", "--nats", "", "--data", data)
		var edges []*herdtest.EdgeProcess
		for name, addr := range u.addrs {
			edges = append(edges, &herdtest.EdgeProcess{T: t, Name: name, Addr: addr})
		}
		began := time.Now()
		herdtest.Eventually(t, herdtest.Promise(20*time.Second), "every edge holds what was answered before the herd was killed", func() error {
			holdings, err := herdtest.Ask(edges, tracks)
			if err != nil {
				return err
			}
			if v := herdtest.Judge(tracks, holdings, 0); len(v.Faults()) > 0 {
				return fmt.Errorf("%v: %q", v, v.Faults())
			}
			return nil
		})
		t.Logf("round %d: all that %d ids told is held by all edges %v after ready", round, len(tracks), time.Since(began).Round(time.Millisecond))
		roam := startNomads(t, edges, 50, fmt.Sprintf("round-%d", round), uint64(began.UnixNano()))
		pass(t, size(500*time.Millisecond, 5*time.Second))
		<-roam.told
		u.Kill()
		roam.stop()
		for _, failure := range roam.failures {
			t.Error(failure)
		}
		if roam.count.at == 0 {
			t.Fatalf("nothing was answered: %+v", roam.count)
		}
		tracks = append(tracks, roam.tracks...)
	}
}

// The tools that people use on a running herd.
func TestToolsOnARunningHerd(t *testing.T) {
	quiet(t)
	natsAddr, httpAddr := ports.Addr(t), ports.Addr(t)
	data := t.TempDir()
	u := startUp(t, "--base-port", "0", "--http", httpAddr, "--nats", natsAddr, "--data", data)
	env := map[string]string{"NATS_URL": "nats://" + natsAddr}
	herd := func(code int, args ...string) (string, string) {
		t.Helper()
		p := herdtest.StartChild(t, "herd "+strings.Join(args, " "), herdtest.Binary(t, "herd"), env, args...)
		if got := p.Wait(herdtest.Promise(10 * time.Second)); got != code {
			t.Errorf("herd %q: exit code %d, want %d: %s%s", args, got, code, p.Stdout, p.Stderr)
		}
		return p.Stdout.String(), p.Stderr.String()
	}

	watch := herdtest.StartChild(t, "herd watch", herdtest.Binary(t, "herd"), env, "watch")
	clark := u.addrs["Clark"]
	out, _ := herd(0, "iamat", "kiwi", "-34.068930+118.445127", "--addr", clark)
	if !strings.HasPrefix(out, "AT Clark ") || !strings.Contains(out, " kiwi -34.068930+118.445127 ") {
		t.Errorf("herd iamat prints %q", out)
	}
	// The watcher may have started after the first line was sent: send until it has printed one.
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd watch shows a position", func() error {
		talk(t, clark, "IAMAT watched +1+2 "+posix(time.Now().UnixNano())+"\n")
		if !strings.Contains(watch.Stdout.String(), "watched") {
			return fmt.Errorf("it shows %q", watch.Stdout)
		}
		return nil
	})
	watch.Signal(syscall.SIGINT)
	watch.Wait(herdtest.Promise(5 * time.Second))

	// The flag may stand anywhere.
	if out, _ := herd(0, "whatsat", "--addr", clark, "kiwi", "0", "0"); !strings.HasPrefix(out, "AT Clark ") || !strings.Contains(out, "ZERO_RESULTS") {
		t.Errorf("herd whatsat prints %q", out)
	}
	if out, _ := herd(1, "whatsat", "nobody", "10", "5", "--addr", clark); out != "? WHATSAT nobody 10 5\n" {
		t.Errorf("herd whatsat of an unknown client prints %q", out)
	}
	herd(2, "whatsat", "kiwi")

	follow := herdtest.StartChild(t, "herd follow", herdtest.Binary(t, "herd"), env, "follow", "-34.068930+118.445127", "5", "--json", "--addr", u.addrs["Johnson"]+","+clark)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd follow shows who is inside", func() error {
		if shown := follow.Stdout.String(); !strings.Contains(shown, `"event":"complete","inside":1,`) || !strings.Contains(shown, `"event":"in","client":"kiwi"`) {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	})
	talk(t, clark, "IAMAT kiwi -35.068930+118.445127 "+posix(time.Now().UnixNano())+"\n")
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd follow shows who goes", func() error {
		if shown := follow.Stdout.String(); !strings.Contains(shown, `"event":"out","client":"kiwi"`) {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	})
	follow.Signal(syscall.SIGINT)
	if code := follow.Wait(herdtest.Promise(5 * time.Second)); code != 0 {
		t.Errorf("herd follow exits with %d: %s", code, follow.Stderr)
	}
	talk(t, clark, "IAMAT watched -35.068930+118.445127 "+posix(time.Now().UnixNano())+"\n")
	if out, _ := herd(0, "whosat", "kiwi", "1", "5", "--addr", clark); strings.Count(out, "AT Clark ") != 2 || !strings.Contains(out, " watched -35.068930+118.445127 ") || !strings.HasSuffix(out, "\n\n") {
		t.Errorf("herd whosat prints %q", out)
	}
	if out, said := herd(1, "whosat", "nobody", "1", "5", "--addr", clark); out != "? WHOSAT nobody 1 5\n" || !strings.Contains(said, "unknown client") {
		t.Errorf("herd whosat of an unknown client prints %q and says %q", out, said)
	}
	herd(2, "fly")
	if _, said := herd(2, "iamat", "kiwi", "+1+2", "--wings", "2"); !strings.Contains(said, "wings") {
		t.Errorf("an unknown flag is not named: %q", said)
	}
	if out, _ := herd(0, "version"); strings.TrimSpace(out) == "" {
		t.Error("herd version prints nothing")
	}
	herd(0, "health", "--http", "http://"+httpAddr)
	herd(1, "health", "--http", "http://"+ports.Addr(t))

	// The tool waits for a limited time per edge, which may be too short on a busy machine.
	var all []status
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "herd status --json shows five edges", func() error {
		out, _ := herd(0, "status", "--json")
		err := json.Unmarshal([]byte(out), &all)
		if err == nil && len(all) != 5 {
			err = fmt.Errorf("it shows %d", len(all))
		}
		return err
	})
	for _, s := range all {
		if !s.Ready || s.Clients != 2 || len(s.Links) < 2 || s.Epoch == "" {
			t.Errorf("%s: %+v", s.Edge, s)
		}
	}
	if out, _ := herd(0, "status"); strings.Count(out, "Juzang") < 3 {
		t.Errorf("herd status prints %q", out)
	}

	u.interrupt()
	for name := range u.addrs {
		if text, err := os.ReadFile(data + "/" + name + ".log"); err != nil || len(text) == 0 {
			t.Errorf("no transcript of %s in --data: %v", name, err)
		}
	}
}

// An address in use is named together with the flag that changes it.
func TestAnOccupiedPortIsNamedWithItsFlag(t *testing.T) {
	quiet(t)
	herdtest.Binary(t, "herd")
	for _, flag := range []string{"--base-port", "--http", "--nats"} {
		t.Run(flag, func(t *testing.T) {
			quiet(t)
			base := ports.FreeRow(t, 5)
			values := map[string]string{"--base-port": strconv.Itoa(base), "--http": "127.0.0.1:0", "--nats": "127.0.0.1:0"}
			taken := ports.Local(base + 3)
			if flag != "--base-port" {
				taken = ports.Addr(t)
				values[flag] = taken
			}
			ln, err := net.Listen("tcp", taken)
			if err != nil {
				t.Fatal(err)
			}
			defer ln.Close()
			args := []string{"up"}
			for flag, value := range values {
				args = append(args, flag, value)
			}
			temp := t.TempDir()
			p := herdtest.StartChild(t, "herd up", herdtest.Binary(t, "herd"), map[string]string{"TMPDIR": temp}, args...)
			if code := p.Wait(herdtest.Promise(10 * time.Second)); code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := p.Stderr.String(); !strings.Contains(said, flag) || !strings.Contains(said, taken) {
				t.Errorf("%s and %s are not named: %q", flag, taken, said)
			}
			if entries, _ := os.ReadDir(temp); len(entries) != 0 {
				t.Errorf("the temporary folder is left: %v", entries)
			}
		})
	}
}
