package test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
)

// programsOf returns the programs of docs/clients.md by language.
func programsOf(t *testing.T) map[string]string {
	text, err := os.ReadFile("../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	programs := map[string]string{}
	for _, m := range regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```\n").FindAllStringSubmatch(string(text), -1) {
		if programs[m[1]] != "" {
			t.Errorf("two programs in %s", m[1])
		}
		programs[m[1]] = m[2]
	}
	return programs
}

// The follower of docs/clients.md tells what changes, and goes on at the next edge with what has
// changed meanwhile (L5).
func TestTheFollowerOfTheDocumentsWorks(t *testing.T) {
	if _, err := exec.LookPath("python3"); err != nil {
		t.Skip("skipped: no python3")
	}
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez"})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	report(t, clark.Addr, "follow-a +10+10 1", "follow-b +10+10 1")
	file := filepath.Join(t.TempDir(), "follow.py")
	if err := os.WriteFile(file, []byte(programsOf(t)["py"]), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), herdtest.Promise(20*time.Second))
	defer cancel()
	run := exec.CommandContext(ctx, "python3", file, clark.Addr+","+jaquez.Addr, "+10+10", "5")
	out, err := run.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for range want {
			if !lines.Scan() {
				t.Fatalf("printed %q, want %q", got, want)
			}
			got = append(got, strings.TrimRight(lines.Text(), " "))
		}
		sort.Strings(got)
		sort.Strings(want)
		if !slices.Equal(got, want) {
			t.Fatalf("printed %q, want %q", got, want)
		}
	}
	expect("in follow-a +10+10 1", "in follow-b +10+10 1", "2 inside")
	report(t, clark.Addr, "follow-a +10.01+10 2")
	expect("moved follow-a +10.01+10 2")
	report(t, clark.Addr, "follow-a +11+10 3")
	expect("out follow-a +11+10 3 left")
	herdtest.Eventually(t, herdtest.Promise(10*time.Second), "the other edge has it too", func() error {
		if got := talk(t, jaquez.Addr, "WHATSAT follow-a 0 0\n"); !strings.Contains(got, " +11+10 3\n") {
			return errors.New(got)
		}
		return nil
	})
	clark.Kill()
	report(t, jaquez.Addr, "follow-b +12+10 4", "follow-c +10+10 4")
	expect("in follow-c +10+10 4", "out follow-b +10+10 1 missing", "1 inside")
	cancel()
	_ = run.Wait() // it was killed
}

// The clients of docs/clients.md work as they are printed there, if their language is installed.
func TestTheClientsOfTheDocumentsWork(t *testing.T) {
	programs := programsOf(t)
	delete(programs, "py")         // TestTheFollowerOfTheDocumentsWorks
	delete(programs, "javascript") // TestTheWebPageOfTheDocumentsWorks
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark"})
	e := h.Edges["Clark"]
	for _, c := range []struct {
		language, file string
		command        []string
		want           []string // in this order
	}{
		{"go", "main.go", []string{"go", "run"}, []string{"AT Clark ", " kiwi ", "AT Clark ", `"status"`}},
		{"python", "client.py", []string{"python3"}, []string{"AT Clark ", " kiwi ", "AT Clark ", "\n"}},
		{"js", "client.js", []string{"node"}, []string{"AT Clark ", " kiwi ", "AT Clark ", `"status"`}},
		{"sh", "client.sh", []string{"sh"}, []string{"AT Clark ", " kiwi ", "AT Clark ", `"status"`}},
	} {
		t.Run(c.language, func(t *testing.T) {
			program, ok := programs[c.language]
			if !ok {
				t.Fatal("docs/clients.md has no such program")
			}
			if _, err := exec.LookPath(c.command[0]); err != nil {
				t.Skipf("skipped: no %s", c.command[0])
			}
			if c.language == "sh" {
				usage, _ := exec.Command("nc", "-h").CombinedOutput()
				if !strings.Contains(string(usage), "-N") {
					t.Skip("skipped: no nc of OpenBSD")
				}
			}
			file := filepath.Join(t.TempDir(), c.file)
			if err := os.WriteFile(file, []byte(program), 0o600); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), herdtest.Promise(20*time.Second))
			defer cancel()
			run := exec.CommandContext(ctx, c.command[0], append(c.command[1:], file, e.Addr)...)
			out, err := run.CombinedOutput()
			if err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			rest := string(out)
			for _, want := range c.want {
				_, after, found := strings.Cut(rest, want)
				if !found {
					t.Fatalf("printed %q, which lacks %q", out, want)
				}
				rest = after
			}
		})
		delete(programs, c.language)
	}
	if len(programs) > 0 {
		t.Errorf("docs/clients.md has programs that no test runs: %v", programs)
	}
}
