package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"

	"herd/test/herdtest"
)

// withUser has a file of users made of HERD_DEVICES_USERS=name:password.
func withUser(t *testing.T, env []string) []string {
	t.Helper()
	env = append([]string{"HERD_DEVICES=127.0.0.1:0"}, env...)
	for i, pair := range env {
		text, ok := strings.CutPrefix(pair, "HERD_DEVICES_USERS=")
		if !ok {
			continue
		}
		name, password, _ := strings.Cut(text, ":")
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "users")
		if err := os.WriteFile(file, fmt.Appendf(nil, "%s:%s\n", name, hash), 0o600); err != nil {
			t.Fatal(err)
		}
		env[i] = "HERD_DEVICES_USERS=" + file
	}
	return env
}

// The examples of requests in docs/PROTOCOL.md are answered so, and what is held then is what they say.
func TestTheExamplesOfRequests(t *testing.T) {
	quiet(t)
	for i, e := range protocolExamples(t, "http", 4) {
		t.Run(fmt.Sprintf("%s %d", e.rule, i), func(t *testing.T) {
			h := herdtest.Start(t, herdtest.Options{Topology: "Clark", Env: withUser(t, e.args)})
			var request []string
			for _, line := range e.lines {
				if text, ok := strings.CutPrefix(line, ">"); ok {
					request = append(request, strings.TrimPrefix(text, " "))
					continue
				}
				if held, ok := strings.CutPrefix(line, "= "); ok {
					f := strings.Fields(held)
					got, err := herdtest.Held(h.Addr("Clark"), []string{f[3]})
					want, wrong := expected([]string{held})
					if err != nil || wrong != nil || !want.MatchString(got[0]+"\n") {
						t.Errorf("%q is held (%v, %v), want %s", got, err, wrong, held)
					}
					continue
				}
				head, body, _ := strings.Cut(strings.Join(request, "\n"), "\n\n")
				head = strings.TrimSuffix(head, "\n")
				text := strings.ReplaceAll(head, "\n", "\r\n") + "\r\nHost: HOST\r\n"
				if !strings.HasPrefix(head, "GET ") {
					text += fmt.Sprintf("Content-Length: %d\r\n", len(body))
				}
				status, answer := posted(t, h.Devices("Clark"), text+"\r\n"+body)
				if got := strings.TrimSpace(fmt.Sprint(status, " ", answer)); got != line {
					t.Errorf("%s is answered %q, want %q", head, got, line)
				}
				request = nil
			}
			if request != nil {
				t.Errorf("nothing is said of %q", request)
			}
		})
	}
}

// The examples of WebSockets are messages, each an answer.
func TestTheExamplesOfWebSockets(t *testing.T) {
	quiet(t)
	for _, e := range protocolExamples(t, "websocket", 1) {
		h := herdtest.Start(t, herdtest.Options{Topology: "Clark", Env: withUser(t, e.args)})
		say, next := linesOn(t, "ws://"+h.Devices("Clark")+"/lines", "")
		for _, line := range e.lines {
			text, err := unescaped(line[2:])
			if err != nil {
				t.Fatal(err)
			}
			if line[0] == '>' {
				say(text)
				continue
			}
			got := next()
			if withoutSkews(got) != withoutSkews(text) {
				t.Errorf("told %q, want %q", got, text)
			}
		}
	}
}

// withoutSkews leaves the skews out of AT lines and told lines.
func withoutSkews(text string) string {
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		f := strings.Fields(line)
		for j, field := range f {
			if recordedTime.MatchString(strings.TrimPrefix(field, "+")) && strings.HasPrefix(field, "+") {
				f[j] = "+"
			}
		}
		if len(f) > 0 {
			lines[i] = strings.Join(f, " ")
		}
	}
	return strings.Join(lines, "\n")
}
