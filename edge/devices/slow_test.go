package devices

import (
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// V4: headers have 10 s to come, and a body 60 s; who is slower is told to come again, or nothing.
func TestWhatDoesNotCome(t *testing.T) {
	if os.Getenv("HERD_TEST") != "full" {
		t.Skip("skipped: set HERD_TEST=full")
	}
	r := start(t, rigged{})
	var all sync.WaitGroup
	for _, c := range []struct {
		request     string
		least, most time.Duration
		status      int
	}{
		{"GET /?id=slow&lat=1&lon=2 HTTP/1.1\r\nHost: local", 9 * time.Second, 40 * time.Second, 0},
		{"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nid=slow", 59 * time.Second, 90 * time.Second, 503},
		{"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nid=sl", 59 * time.Second, 90 * time.Second, 503},
	} {
		all.Go(func() {
			conn := r.dial()
			begun := time.Now()
			conn.send(c.request)
			if c.status == 0 {
				if text, err := io.ReadAll(conn.r); len(text) > 0 || err != nil {
					t.Errorf("%q is answered %q, %v", c.request, text, err)
				}
			} else if status, _, _ := conn.answer(); status != c.status {
				t.Errorf("%q is answered %d", c.request, status)
			}
			if took := time.Since(begun); took < c.least || took > c.most {
				t.Errorf("%q had %v", c.request, took)
			}
		})
	}
	all.Wait()
}

// V5: how long it takes to refuse a password says neither whether there is such a user nor whether the user has
// logged in before. (TestWhatIsRememberedOfPasswords says why, in any form of the tests.)
func TestTheTimeOfARefusalTellsNothing(t *testing.T) {
	if os.Getenv("HERD_TEST") != "full" {
		t.Skip("skipped: set HERD_TEST=full")
	}
	r := start(t, rigged{users: hashed(t, "alice", "a") + hashed(t, "bob", "b") + hashed(t, "carol", "c")})
	c := r.dial()
	ask := func(user, password string) (status int, took time.Duration) {
		begun := time.Now()
		c.send("GET /?id=x&lat=1&lon=2 HTTP/1.1\r\nHost: localhost\r\n" + basic(user, password) + "\r\n")
		status, _, _ = c.answer()
		return status, time.Since(begun)
	}
	if status, _ := ask("alice", "a"); status != 200 { // and is remembered
		t.Fatal(status)
	}
	kinds := []struct{ name, user, password string }{
		{"no user", "dave", "guess"}, {"no user, by a user's password", "erin", "a"}, {"no name", "", "guess"},
		{"a user who never logged in", "bob", "guess"}, {"a user who did", "alice", "guess"},
		{"a user, by another's password", "carol", "a"}, {"a user, without a password", "bob", ""}, {"a user, by a long one", "alice", strings.Repeat("a", 500)},
	}
	took := make([][]time.Duration, len(kinds))
	for round := range 500 {
		for i := range kinds {
			i = (i + round) % len(kinds)
			status, d := ask(kinds[i].user, kinds[i].password)
			if status != 401 {
				t.Fatalf("%s: %d", kinds[i].name, status)
			}
			took[i] = append(took[i], d)
		}
	}
	// Other work on the machine only adds to some of them, so the lower quartile says more than the median.
	quartile := func(i int) time.Duration { slices.Sort(took[i]); return took[i][len(took[i])/4] }
	first := quartile(0)
	for i, kind := range kinds {
		at := quartile(i)
		t.Logf("%-30s %v, median %v", kind.name, at, took[i][len(took[i])/2])
		if at < first*9/10 || at > first*11/10 {
			t.Errorf("%s is refused in %v, %s in %v", kind.name, at, kinds[0].name, first)
		}
	}
}
