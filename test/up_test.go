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
)

// up is a running `herd up`.
type up struct {
	*process
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
	u.process = start(t, "herd up", binary(t, "herd"), all, append([]string{"up"}, args...)...)
	eventually(t, promise(20*time.Second), "herd up is ready", func() error {
		if !u.running() {
			t.Fatalf("herd up ended with exit code %d", u.cmd.ProcessState.ExitCode())
		}
		if out := u.stdout.String(); !strings.HasSuffix(out, "ready\n") {
			return fmt.Errorf("it says %q", out)
		}
		return nil
	})
	lines := strings.Split(strings.TrimSuffix(u.stdout.String(), "ready\n"), "\n")
	names := []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"}
	if len(lines) != len(names)+1 {
		t.Fatalf("standard output is %q, want five addresses and ready", u.stdout)
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

// interrupt is Ctrl-C.
func (u *up) interrupt() {
	u.t.Helper()
	start := time.Now()
	u.signal(syscall.SIGINT)
	code := u.wait(promise(10 * time.Second))
	took := time.Since(start)
	u.t.Logf("ended %v after Ctrl-C", took.Round(time.Millisecond))
	if code != 0 || took > promise(2*time.Second) {
		u.t.Errorf("exit code %d after %v, want 0 within %v", code, took, promise(2*time.Second))
	}
}

const kiwi = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"

// Item 1 of what must be seen to work: one command is a herd.
func TestOneCommandRunsTheHerd(t *testing.T) {
	timed(t)
	begun := time.Now()
	base := freePorts(t, 5)
	u := startUp(t, "--base-port", strconv.Itoa(base), "--http", local(freePort(t)), "--nats", local(freePort(t)))
	t.Logf("ready after %v", time.Since(begun).Round(time.Millisecond))
	for i, name := range []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"} {
		if want := local(base + i); u.addrs[name] != want {
			t.Errorf("%s listens on %s, want %s", name, u.addrs[name], want)
		}
	}
	if entries, err := os.ReadDir(u.temp); err != nil || len(entries) != 1 || !strings.Contains(u.stderr.String(), entries[0].Name()) {
		t.Errorf("the temporary folder is not named at the start: %v, %v", entries, err)
	}

	answer := talk(t, u.addrs["Clark"], kiwi)
	if !regexp.MustCompile(`^AT Clark \+\d+\.\d{9} kiwi\.cs\.ucla\.edu \+34\.068930-118\.445127 1621464827\.959498503\n$`).MatchString(answer) {
		t.Fatalf("IAMAT is answered %q", answer)
	}
	told := time.Now()
	for _, name := range []string{"Bernard", "Jaquez", "Johnson", "Juzang"} {
		var at, text string
		eventually(t, time.Until(told.Add(promise(time.Second))), name+" knows kiwi", func() error {
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

// D2, D3: a herd that is killed in the middle of its work, as by a power cut or for want of
// memory, knows when it is started again all that it answered.
func TestAHerdInOneProcessSurvivesBeingKilled(t *testing.T) {
	data := t.TempDir()
	var trails []trail
	for round := range size(3, 10) {
		u := startUpWith(t, map[string]string{"HERD_DURABILITY": "journal"}, "--base-port", "0", "--http", "", "--nats", "", "--data", data)
		var edges []*edge
		for name, addr := range u.addrs {
			edges = append(edges, &edge{t: t, name: name, addr: addr})
		}
		began := time.Now()
		eventually(t, promise(20*time.Second), "every edge holds what was answered before the herd was killed", func() error {
			if lost := lostBy(t, edges, trails); len(lost) > 0 {
				return fmt.Errorf("%d ids of %d are lost: %s", len(lost), len(trails), lost[0])
			}
			return nil
		})
		t.Logf("round %d: all that %d ids told is held by all edges %v after ready", round, len(trails), time.Since(began).Round(time.Millisecond))
		roam := startNomads(t, edges, 50, fmt.Sprintf("round-%d", round), uint64(began.UnixNano()))
		pass(t, size(500*time.Millisecond, 5*time.Second))
		<-roam.told
		u.kill()
		roam.stop()
		for _, failure := range roam.failures {
			t.Error(failure)
		}
		if roam.count.at == 0 {
			t.Fatalf("nothing was answered: %+v", roam.count)
		}
		trails = append(trails, roam.trails...)
	}
}

// The tools that people use on a running herd.
func TestToolsOnARunningHerd(t *testing.T) {
	quiet(t)
	natsAddr, httpAddr := local(freePort(t)), local(freePort(t))
	data := t.TempDir()
	u := startUp(t, "--base-port", "0", "--http", httpAddr, "--nats", natsAddr, "--data", data)
	env := map[string]string{"NATS_URL": "nats://" + natsAddr}
	herd := func(code int, args ...string) (string, string) {
		t.Helper()
		p := start(t, "herd "+strings.Join(args, " "), binary(t, "herd"), env, args...)
		if got := p.wait(promise(10 * time.Second)); got != code {
			t.Errorf("herd %q: exit code %d, want %d: %s%s", args, got, code, p.stdout, p.stderr)
		}
		return p.stdout.String(), p.stderr.String()
	}

	watch := start(t, "herd watch", binary(t, "herd"), env, "watch")
	clark := u.addrs["Clark"]
	out, _ := herd(0, "iamat", "kiwi", "-34.068930+118.445127", "--addr", clark)
	if !strings.HasPrefix(out, "AT Clark ") || !strings.Contains(out, " kiwi -34.068930+118.445127 ") {
		t.Errorf("herd iamat prints %q", out)
	}
	// The watcher may have come later than the first line: tell until it has seen one.
	eventually(t, promise(5*time.Second), "herd watch shows a position", func() error {
		talk(t, clark, "IAMAT watched +1+2 "+posix(time.Now().UnixNano())+"\n")
		if !strings.Contains(watch.stdout.String(), "watched") {
			return fmt.Errorf("it shows %q", watch.stdout)
		}
		return nil
	})
	watch.signal(syscall.SIGINT)
	watch.wait(promise(5 * time.Second))

	// The flag may stand anywhere.
	if out, _ := herd(0, "whatsat", "--addr", clark, "kiwi", "0", "0"); !strings.HasPrefix(out, "AT Clark ") || !strings.Contains(out, "ZERO_RESULTS") {
		t.Errorf("herd whatsat prints %q", out)
	}
	if out, _ := herd(1, "whatsat", "nobody", "10", "5", "--addr", clark); out != "? WHATSAT nobody 10 5\n" {
		t.Errorf("herd whatsat of an unknown client prints %q", out)
	}
	herd(2, "whatsat", "kiwi")
	herd(2, "fly")
	if _, said := herd(2, "iamat", "kiwi", "+1+2", "--wings", "2"); !strings.Contains(said, "wings") {
		t.Errorf("an unknown flag is not named: %q", said)
	}
	if out, _ := herd(0, "version"); strings.TrimSpace(out) == "" {
		t.Error("herd version prints nothing")
	}
	herd(0, "health", "--http", "http://"+httpAddr)
	herd(1, "health", "--http", "http://"+local(freePort(t)))

	// It waits only so long for each edge, which on a busy machine may be too short.
	var all []status
	eventually(t, promise(5*time.Second), "herd status --json shows five edges", func() error {
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

// An address that somebody else has is named with the flag that changes it.
func TestAnOccupiedPortIsNamedWithItsFlag(t *testing.T) {
	quiet(t)
	binary(t, "herd")
	for _, flag := range []string{"--base-port", "--http", "--nats"} {
		t.Run(flag, func(t *testing.T) {
			quiet(t)
			base := freePorts(t, 5)
			values := map[string]string{"--base-port": strconv.Itoa(base), "--http": "127.0.0.1:0", "--nats": "127.0.0.1:0"}
			taken := local(base + 3)
			if flag != "--base-port" {
				taken = local(freePort(t))
				values[flag] = taken
			}
			// freePort has tried the port. A process that another test begins just then holds
			// what that opened until it is itself.
			var ln net.Listener
			eventually(t, promise(10*time.Second), taken+" can be had", func() (err error) {
				ln, err = net.Listen("tcp", taken)
				return err
			})
			defer ln.Close()
			args := []string{"up"}
			for flag, value := range values {
				args = append(args, flag, value)
			}
			temp := t.TempDir()
			p := start(t, "herd up", binary(t, "herd"), map[string]string{"TMPDIR": temp}, args...)
			if code := p.wait(promise(10 * time.Second)); code != 1 && code != 2 {
				t.Errorf("exit code %d", code)
			}
			if said := p.stderr.String(); !strings.Contains(said, flag) || !strings.Contains(said, taken) {
				t.Errorf("%s and %s are not named: %q", flag, taken, said)
			}
			if entries, _ := os.ReadDir(temp); len(entries) != 0 {
				t.Errorf("the temporary folder is left: %v", entries)
			}
		})
	}
}
