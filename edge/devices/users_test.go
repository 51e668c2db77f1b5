package devices

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// V5: users are who the file says, by each way to say it; nobody else is.
func TestUsers(t *testing.T) {
	r := start(t, rigged{users: "# a comment\n\n" + hashed(t, "alice", "pa:ss wörd/%") + hashed(t, "bob", "b")})
	const q = "?id=x&lat=1&lon=2"
	for _, c := range []struct {
		name, target, header string
		want                 int
	}{
		{"nobody", "/" + q, "", 401},
		{"Basic", "/" + q, basic("alice", "pa:ss wörd/%"), 200},
		{"basic", "/" + q, strings.Replace(basic("alice", "pa:ss wörd/%"), "Basic", "bAsIc", 1), 200},
		{"Bearer", "/" + q, "Authorization: Bearer alice:pa:ss wörd/%\r\n", 200},
		{"the path", "/t/alice:pa:ss%20w%C3%B6rd%2F%25/pub" + q, "", 200},
		{"the path alone", "/t/alice%3Apa:ss%20w%C3%B6rd%2F%25" + q, "", 200},
		{"the path, decoded once", "/t/alice:pa:ss%20w%C3%B6rd%252F%2525/" + q, "", 401},
		{"a wrong path beside a right header", "/t/alice:no/" + q, basic("alice", "pa:ss wörd/%"), 401},
		{"a wrong password", "/" + q, basic("alice", "pa:ss wörd/"), 401},
		{"bob's password", "/" + q, basic("alice", "b"), 401},
		{"another case", "/" + q, basic("Alice", "pa:ss wörd/%"), 401},
		{"an unknown name", "/" + q, basic("carol", "b"), 401},
		{"no name", "/" + q, basic("", "b"), 401},
		{"an empty password", "/" + q, basic("bob", ""), 401},
		{"a long password", "/" + q, basic("bob", strings.Repeat("b", 5000)), 401},
		{"no base64", "/" + q, "Authorization: Basic !!!\r\n", 401},
		{"another scheme", "/" + q, "Authorization: Digest username=\"bob\"\r\n", 401},
		{"the hash", "/" + q, basic("bob", "$2y$04$"), 401},
		{"the page", "/", "", 401},
		{"the page of somebody", "/", basic("bob", "b"), 200},
		{"lines", "/lines", "", 401},
		{"a query has no credentials", "/" + q + "&user=bob&password=b", "", 401},
		{"twice in the path", "/t/bob:b/t/alice:x/" + q, "", 200},
		{"dots", "/t/bob:b/../../" + q, "", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			before := r.counted(false, Unknown, Denied)
			status := r.get(c.target, c.header)
			if status != c.want {
				t.Errorf("it is answered %d, want %d", status, c.want)
			}
			if denied := r.counted(false, Unknown, Denied) - before; (denied == 1) != (c.want == 401) {
				t.Errorf("%d are denied", denied)
			}
		})
	}
	if !slices.ContainsFunc([]string{"alice/x", "bob/x"}, func(id string) bool { return r.held(id) != "" }) || r.held("x") != "" || r.clients() != 2 {
		t.Errorf("%d clients are known", r.clients())
	}
	for _, text := range []string{r.log.String(), r.rec.String()} {
		for _, secret := range []string{"pa:ss", "w%C3%B6rd", "wörd", "alice:", "carol", "$2y$", "cGE6c3M", basic("bob", "b"), "/t/", "bob:b"} {
			if strings.Contains(text, secret) {
				t.Errorf("%q is written down:\n%s", secret, text)
			}
		}
	}
}

// V5: what a browser sends with its user's password for a page of another site reports nothing: to plain HTTP it
// may say neither Origin nor Referer nor Sec-Fetch-Site. What only who knows the password can send does.
func TestPasswordsThatABrowserRemembers(t *testing.T) {
	r := start(t, rigged{users: hashed(t, "alice", "a")})
	const (
		firefox  = "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n"
		image    = "Accept: image/avif,image/webp,image/*;q=0.8,*/*;q=0.5\r\n"
		document = "Accept: text/html,application/xhtml+xml\r\n"
		token    = "Authorization: Bearer alice:a\r\n"
	)
	login := basic("alice", "a")
	for i, c := range []struct {
		name, method, target string
		headers              []string
		want                 int
	}{
		{"a script", "GET", "/", []string{login, firefox}, 403},
		{"an image", "GET", "/", []string{login, image}, 403},
		{"a link", "GET", "/", []string{login, document}, 403},
		{"a link to another path", "GET", "/x/", []string{login, firefox, document}, 403},
		{"before the browser knows the password", "GET", "/", []string{firefox}, 403},
		{"with another one", "GET", "/", []string{basic("alice", "b"), firefox}, 403},
		{"typed, or led to by a mail", "GET", "/", []string{login, firefox, "Sec-Fetch-Site: none\r\n"}, 403},
		{"what begins like a path with a password", "GET", "/t", []string{login, firefox}, 403},
		{"a token", "GET", "/", []string{token, firefox, document}, 200},
		{"a wrong token", "GET", "/", []string{token[:len(token)-3] + "b\r\n", firefox}, 401},
		{"in the path", "GET", "/t/alice:a/", []string{firefox, document}, 200},
		{"a wrong one in the path", "GET", "/t/alice:b/", []string{login, firefox}, 401},
		{"in the path, for another site", "GET", "/t/alice:a/", []string{firefox, "Referer: http://evil.example/\r\n"}, 403},
		{"a script without a browser", "GET", "/", []string{login, "User-Agent: curl/8.5.0\r\nAccept: */*\r\n"}, 200},
		{"a form of the port's own page", "POST", "/", []string{login, firefox, document, "Origin: http://" + r.addr + "\r\n"}, 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			id := fmt.Sprint("x", i)
			status, _, _ := r.once(c.method + " " + c.target + "?lat=1&lon=2&id=" + id + " HTTP/1.1\r\nHost: " + r.addr + "\r\nContent-Length: 0\r\n" + strings.Join(c.headers, "") + "\r\n")
			if held := r.held("alice/"+id) != ""; status != c.want || held != (c.want == 200) {
				t.Errorf("it is answered %d, want %d; held: %t", status, c.want, held)
			}
		})
	}
	// The page is for browsers.
	if got := r.get("/", login, firefox, document); got != 200 {
		t.Errorf("the page is answered %d", got)
	}
	// Where anybody may, a path with a password says nothing.
	r = start(t, rigged{})
	if got := []int{r.get("/t/a:b/?id=x&lat=1&lon=2", firefox), r.get("/?id=x&lat=1&lon=2", token, firefox)}; !slices.Equal(got, []int{403, 403}) || r.held("x") != "" {
		t.Errorf("without users they are answered %d", got)
	}
}

// V6: alice reaches bob by nothing that she sends.
func TestAliceNeverReachesBob(t *testing.T) {
	r := start(t, rigged{users: hashed(t, "alice", "a") + hashed(t, "bob", "b")})
	own := func(topic string) string {
		return `{"_type":"location","topic":"` + topic + `","lat":1,"lon":2,"tst":5}`
	}
	for _, request := range []string{
		post("/?id=bob&lat=1&lon=2&timestamp=5", "", basic("alice", "a")),
		post("/?id=bob/phone&lat=1&lon=2&timestamp=5", "", basic("alice", "a")),
		post("/?id=alice/../bob&lat=1&lon=2&timestamp=5", "", basic("alice", "a")),
		post("/?id=..%2Fbob&lat=1&lon=2&timestamp=5", "", basic("alice", "a")),
		post("/?id=BOB&id=bob&deviceid=bob&lat=1&lon=2&timestamp=5", "", basic("alice", "a")),
		post("/bob/?id=bob&lat=1&lon=2&timestamp=5", "id=bob", basic("alice", "a")),
		post("/t/alice:a/t/bob:x/?id=bob&lat=1&lon=2&timestamp=5", ""),
		post("/", own("owntracks/bob/phone"), basic("alice", "a")),
		post("/", own("owntracks/bob"), basic("alice", "a")),
		post("/?u=bob&d=phone", own(""), basic("alice", "a")),
		post("/", own(""), basic("alice", "a"), "X-Limit-U: bob\r\nX-Limit-D: phone\r\n"),
		post("/", own(""), basic("alice", "a"), "X-Limit-U: alice/../bob\r\n"),
		post("/", `{"locations":[{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":"bob"}}],"device_id":"bob"}`, basic("alice", "a")),
		post("/", `{"locations":[{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":"\u0062ob/phone"}}]}`, basic("alice", "a")),
		post("/", `{"location":{"coords":{"latitude":1,"longitude":2}},"device_id":"bob"}`, basic("alice", "a")),
		post("/", "id=bob&lat=1&lon=2", basic("alice", "a"), "Content-Type: application/x-www-form-urlencoded\r\n"),
		post("/?id=bob%00&lat=1&lon=2", "", basic("alice", "a"), "X-Forwarded-User: bob\r\n"),
		"POST /?id=bob&lat=1&lon=2 HTTP/1.1\r\nHost: bob@localhost\r\nContent-Length: 0\r\n" + basic("alice", "a") + "\r\n",
		"POST http://bob:b@localhost/?id=bob&lat=1&lon=2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n" + basic("alice", "a") + "\r\n",
	} {
		status, _, _ := r.once(request)
		if status != 200 && status != 400 && status != 421 {
			t.Errorf("%q is answered %d", request, status)
		}
	}
	if r.clients() < 5 {
		t.Errorf("only %d clients are known", r.clients())
	}
	for _, id := range []string{"bob", "bob/phone", "BOB", "bob/"} {
		if r.held(id) != "" {
			t.Errorf("%s was reached: %s", id, r.held(id))
		}
	}
	if r.held("alice/bob") == "" || r.held("alice/bob/phone") == "" || r.held("alice/../bob") == "" {
		t.Error("what alice reports is not hers")
	}
}

// V5: a changed file counts, one that is of no use does not; and who is out loses its connections.
func TestTheFileOfUsersChanges(t *testing.T) {
	alice, bob := hashed(t, "alice", "a"), hashed(t, "bob", "b")
	r := start(t, rigged{users: alice + bob})
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(r.s.cfg.Users, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		r.s.LookAtUsers()
	}
	ask := func(c *rawConn, name, password string) int {
		c.send("GET / HTTP/1.1\r\nHost: localhost\r\n" + basic(name, password) + "\r\n")
		status, _, _ := c.answer()
		return status
	}
	ca, cb := r.dial(), r.dial()
	if ask(ca, "alice", "a") != 200 || ask(cb, "bob", "b") != 200 {
		t.Fatal("not let in")
	}
	write("alice")
	if ask(ca, "alice", "a") != 200 || !strings.Contains(r.log.String(), "line 1: not name:hash") {
		t.Errorf("a broken file counts, or nobody is told: %s", r.log)
	}
	write(alice)
	if _, err := cb.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Error("bob is still connected")
	}
	if ask(ca, "alice", "a") != 200 {
		t.Error("alice is not let in any more")
	}
	if got := ask(r.dial(), "bob", "b"); got != 401 {
		t.Errorf("bob is let in: %d", got)
	}
	write(hashed(t, "alice", "new") + bob)
	if _, err := ca.r.ReadByte(); !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Error("alice is still connected with the old password")
	}
	if got := []int{ask(r.dial(), "alice", "a"), ask(r.dial(), "alice", "new"), ask(r.dial(), "bob", "b")}; !slices.Equal(got, []int{401, 200, 200}) {
		t.Errorf("the old password, the new one, bob: %d", got)
	}
	if err := os.Remove(r.s.cfg.Users); err != nil {
		t.Fatal(err)
	}
	r.s.LookAtUsers()
	if got := ask(r.dial(), "bob", "b"); got != 200 {
		t.Errorf("without the file the users are others: %d", got)
	}
}

// V5: a file that has changed counts at once for who is not in it as it was, and is not read again for each that
// is wrong.
func TestAUserWhoWasJustAdded(t *testing.T) {
	r := start(t, rigged{users: "# nobody yet\n"})
	ask := func(name, password string) int { return r.get("/?id=x&lat=1&lon=2", basic(name, password)) }
	write := func(text string) { // into another file, as herd phone does
		t.Helper()
		if err := os.WriteFile(r.s.cfg.Users+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(r.s.cfg.Users+".new", r.s.cfg.Users); err != nil {
			t.Fatal(err)
		}
	}
	alice, renewed, bob := hashed(t, "alice", "a"), hashed(t, "alice", "new"), hashed(t, "bob", "b")
	write(alice)
	if got := ask("alice", "a"); got != 200 {
		t.Errorf("the first user is answered %d", got)
	}
	write(alice + bob)
	if got := ask("bob", "b"); got != 200 {
		t.Errorf("another user is answered %d", got)
	}
	write(renewed + bob)
	if got := []int{ask("alice", "new"), ask("alice", "a")}; !slices.Equal(got, []int{200, 401}) {
		t.Errorf("a new password and the old one are answered %d", got)
	}
	if n := strings.Count(r.log.String(), "wrong name or password"); n != 1 {
		t.Errorf("%d wrong passwords are logged, want that of the old one:\n%s", n, r.log)
	}
	write("alice")
	for range 3 {
		if got := ask("alice", "a"); got != 401 {
			t.Errorf("with a file that is of no use a wrong password is answered %d", got)
		}
	}
	r.s.users.mu.Lock()
	defer r.s.users.mu.Unlock()
	if info, err := os.Stat(r.s.cfg.Users); err != nil || !r.s.users.tried.same(info) || r.s.users.seen.same(info) {
		t.Errorf("the file that is of no use: %v, tried %v", err, r.s.users.tried)
	}
}

func TestFilesOfUsers(t *testing.T) {
	good := hashed(t, "alice", "a")
	for text, says := range map[string]string{
		good: "", "": "", "# nobody\r\n": "", strings.TrimSuffix(good, "\n"): "", strings.Replace(good, "\n", "\r\n", 1): "",
		"alice":             "line 1: not name:hash",
		good + good:         "line 2: a name for the second time",
		"a/b" + good[5:]:    "line 1: a name is 1 to 255 bytes without /, : and white space",
		"a b" + good[5:]:    "line 1: a name is 1 to 255 bytes without /, : and white space",
		good[5:]:            "line 1: a name is 1 to 255 bytes without /, : and white space",
		"alice:{SHA}secret": "line 1: not a bcrypt hash, as htpasswd -B makes them",
		"alice:secret":      "line 1: not a bcrypt hash, as htpasswd -B makes them",
		"alice:" + strings.Replace(good[6:], "$04$", "$31$", 1): "line 1: a bcrypt cost of 31; the most is 14",
	} {
		_, err := parseUsers([]byte(text))
		if says == "" && err != nil || says != "" && (err == nil || err.Error() != says) {
			t.Errorf("%q: %v, want %q", text, err, says)
		}
	}
}

// V5: a password that was right is remembered, as nothing that it could be read from.
func TestWhatIsRememberedOfPasswords(t *testing.T) {
	r, err := parseUsers([]byte(hashed(t, "alice", "secret") + hashed(t, "bob", "other")))
	if err != nil {
		t.Fatal(err)
	}
	of := func(name, password string) credentials { return credentials{[]byte(name), []byte(password)} }
	right, wrong := of("alice", "secret"), of("alice", "Secret")
	if r.remembers(right) != nil || r.remembers(of("", "")) != nil {
		t.Fatal("remembered before it was right")
	}
	if r.verify(wrong) != nil || r.remembers(right) != nil {
		t.Error("the wrong one is right, or remembered")
	}
	if u := r.verify(right); u == nil || u.name != "alice" || r.remembers(right) != u {
		t.Errorf("the right one is of %v, and is remembered of %v", u, r.remembers(right))
	}
	if r.verify(wrong) != nil || r.remembers(wrong) != nil || r.remembers(of("bob", "secret")) != nil || r.remembers(right) == nil {
		t.Error("another is remembered, or it is not any more")
	}
	sum := r.sum(right.name, right.password)
	if again, _ := parseUsers([]byte(hashed(t, "alice", "secret"))); again.sum(right.name, right.password) == sum {
		t.Error("two files have the same key")
	}
	// An unknown name costs what a known one does: some user's hash is looked at, always the same.
	v, known := r.find([]byte("carol"))
	if w, _ := r.find([]byte("carol")); known || v == nil || w != v {
		t.Error("an unknown name costs nothing, or something else each time")
	}
	for _, password := range []string{"other", "secret"} {
		if r.verify(of("carol", password)) != nil || r.remembers(of("carol", password)) != nil {
			t.Error("an unknown name has a password")
		}
	}
	if bytes.Equal(r.key[:], make([]byte, 32)) {
		t.Error("the key is zero")
	}
}

// V5: the hash that is looked at for an unknown name stays the same when the file changes, as a user's does,
// but where its own user goes or one comes between.
func TestAnUnknownNameKeepsItsCost(t *testing.T) {
	hash := strings.TrimPrefix(hashed(t, "alice", "a"), "alice:")
	lines := make([]string, 20)
	for i := range lines {
		lines[i] = fmt.Sprint("user", i, ":", hash)
	}
	file := filepath.Join(t.TempDir(), "users")
	write := func(lines []string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(strings.Join(lines, "")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(lines)
	u, err := openUsers(file, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	costs := func() (of []string) {
		for i := range 200 {
			v, known := u.now.Load().find(fmt.Append(nil, "unknown", i))
			if known {
				t.Fatalf("unknown%d is known", i)
			}
			of = append(of, v.name)
		}
		return of
	}
	before := costs()
	if len(slices.Compact(slices.Sorted(slices.Values(before)))) < 10 {
		t.Errorf("unknown names cost what few users do: %q", before)
	}
	write(append([]string{"late:" + hash}, lines[1:]...)) // one comes, one goes
	if gone := u.look(); !slices.Equal(gone, []string{"user0"}) {
		t.Fatalf("gone are %q", gone)
	}
	for i, after := range costs() {
		if after != before[i] && after != "late" && before[i] != "user0" {
			t.Errorf("unknown%d cost what %s did, and now what %s does", i, before[i], after)
		}
	}
}

// V5: wrong passwords come by turns of addresses, and a flood of them costs no other address its turn.
func TestTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := turns{places: 1, each: 1, most: 10}
		evil, good := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		if turns.enter(t.Context(), evil) != nil {
			t.Fatal("no place though all are free")
		}
		var mu sync.Mutex
		var order []string
		var all sync.WaitGroup
		refused := 0
		wants := func(name string, from netip.Addr) {
			all.Go(func() {
				err := turns.enter(t.Context(), from)
				mu.Lock()
				defer mu.Unlock()
				if errors.Is(err, errFull) {
					refused++
					return
				}
				order = append(order, name)
				time.AfterFunc(time.Second, func() { turns.leave(from) })
			})
			synctest.Wait()
		}
		for range 15 {
			wants("evil", evil)
		}
		if turns.waiting != 10 || refused != 5 {
			t.Errorf("%d wait, %d were refused", turns.waiting, refused)
		}
		wants("good", good)
		if turns.waiting != 10 || refused != 6 {
			t.Errorf("with another address %d wait, %d were refused", turns.waiting, refused)
		}
		turns.leave(evil)
		all.Wait()
		if i := slices.Index(order, "good"); i < 0 || i > 1 {
			t.Errorf("the turns are %q", order)
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if turns.taken != 0 || turns.waiting != 0 || len(turns.has)+len(turns.waits)+len(turns.order) != 0 {
			t.Errorf("something is left: %+v", &turns)
		}
	})
}

// A place that becomes free goes to the next whose address has less than its share.
func TestATurnIsNotForWhoHasItsShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := turns{places: 2, each: 1}
		a, b, c := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("192.0.2.3")
		var mu sync.Mutex
		got := ""
		wants := func(name string, from netip.Addr) {
			go func() {
				if err := turns.enter(t.Context(), from); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				mu.Lock()
				defer mu.Unlock()
				got += name
			}()
			synctest.Wait()
		}
		expect := func(when, want string) {
			t.Helper()
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if got != want || turns.has[a] > 1 {
				t.Errorf("%s: %q have had a place, want %q; a has %d", when, got, want, turns.has[a])
			}
		}
		wants("a", a)
		wants("b", b)
		wants("A", a)
		turns.leave(b)
		expect("a waits for a second place, and one is free", "ab")
		wants("c", c)
		expect("another one comes", "abc")
		wants("B", b)
		turns.leave(c)
		expect("one waits behind a", "abcB")
		turns.leave(a)
		expect("a has left its first", "abcBA")
		turns.leave(a)
		turns.leave(b)
		if turns.taken != 0 || turns.waiting != 0 || len(turns.has)+len(turns.waits)+len(turns.order) != 0 {
			t.Errorf("something is left: %+v", &turns)
		}
	})
}

// V5: whoever was taken out, or has another password, while its password was checked is not let in:
// its connection was nobody's yet when those of such users were closed.
func TestAUserTakenOutDuringItsLogin(t *testing.T) {
	alice, bob := hashed(t, "alice", "a"), hashed(t, "bob", "b")
	for name, c := range map[string]struct {
		users string // afterwards
		want  int
	}{
		"taken out": {alice, 401}, "another password": {alice + hashed(t, "bob", "new"), 401}, "another hash": {alice + hashed(t, "bob", "b"), 401},
		"another user changed": {bob, 200},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, rigged{users: alice + bob})
			checking := netip.MustParseAddr("192.0.2.1")
			if err := r.s.checks.enter(t.Context(), checking); err != nil {
				t.Fatal(err)
			}
			conn := r.dial()
			conn.send(post("/?id=x&lat=1&lon=2", "", basic("bob", "b")))
			await(t, "it waits for its password to be checked", func() bool {
				r.s.checks.mu.Lock()
				defer r.s.checks.mu.Unlock()
				return r.s.checks.waiting == 1
			})
			if err := os.WriteFile(r.s.cfg.Users, []byte(c.users), 0o600); err != nil {
				t.Fatal(err)
			}
			r.s.LookAtUsers()
			r.s.checks.leave(checking)
			if status, _, _ := conn.answer(); status != c.want {
				t.Errorf("it is answered %d, want %d", status, c.want)
			}
			if held := r.held("bob/x") != ""; held != (c.want == 200) {
				t.Errorf("its position is held: %t", held)
			}
		})
	}
}

// V5: a proxy sends many users' requests on one connection; each is its own user's.
func TestUsersOnOneConnection(t *testing.T) {
	r := start(t, rigged{users: hashed(t, "alice", "a") + hashed(t, "bob", "b")})
	c := r.dial()
	for _, user := range []string{"alice", "bob", "alice"} {
		c.send("GET /?id=phone&lat=1&lon=2 HTTP/1.1\r\nHost: localhost\r\n" + basic(user, user[:1]) + "\r\n")
		if status, _, _ := c.answer(); status != 200 {
			t.Errorf("%s is answered %d", user, status)
		}
		if r.held(user+"/phone") == "" {
			t.Errorf("nothing is held of %s", user)
		}
	}
}

// Who stops waiting leaves nothing behind, and takes no place.
func TestTurnsThatAreGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := turns{places: 2, each: 1}
		a, b := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
		_ = turns.enter(t.Context(), a)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := turns.enter(short, a); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a second place of one address: %v", err)
		}
		if err := turns.enter(short, b); err != nil {
			t.Errorf("the other's: %v", err)
		}
		turns.leave(a)
		turns.leave(b)
		if turns.taken != 0 || len(turns.has)+len(turns.waits)+len(turns.order) != 0 {
			t.Errorf("something is left: %+v", &turns)
		}
	})
}

// C18, V5: wrong guesses are refused, without a 401 for who had no turn, and good requests go on.
func TestGuessesBesideGoodRequests(t *testing.T) {
	r := start(t, rigged{users: hashed(t, "alice", "a")})
	good := r.dial()
	ask := func(c *rawConn, password string) int {
		c.send("GET /?id=x&lat=1&lon=2 HTTP/1.1\r\nHost: localhost\r\n" + basic("alice", password) + "\r\n")
		status, _, _ := c.answer()
		return status
	}
	if ask(good, "a") != 200 {
		t.Fatal("not let in")
	}
	// While a password is being checked, more guess than may wait, however fast this machine is.
	checking := netip.MustParseAddr("192.0.2.1")
	if err := r.s.checks.enter(t.Context(), checking); err != nil {
		t.Fatal(err)
	}
	var guessing sync.WaitGroup
	over := make(chan struct{})
	said := make([]map[int]int, 32)
	for i := range said {
		said[i] = map[int]int{}
		c := r.dial()
		guessing.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
					said[i][ask(c, "guess"+strings.Repeat("x", n%60))]++
				}
			}
		})
	}
	begun := time.Now()
	for i := range 200 {
		if i == 100 {
			await(t, "a guess that has no turn", func() bool { return r.counted(false, Unknown, Later) > 0 })
			r.s.checks.leave(checking)
		}
		if status := ask(good, "a"); status != 200 {
			t.Fatalf("a good request is answered %d", status)
		}
	}
	await(t, "a guess that is refused", func() bool { return r.counted(false, Unknown, Denied) > 0 })
	close(over)
	guessing.Wait()
	all := map[int]int{}
	for _, of := range said {
		for status, n := range of {
			all[status] += n
		}
	}
	if all[200] > 0 || all[401] == 0 || all[503] == 0 || len(all) != 2 {
		t.Errorf("guesses are answered %v", all)
	}
	if n := strings.Count(r.log.String(), "wrong name or password"); n < 1 || n > 1+int(time.Since(begun)/(10*time.Second)) {
		t.Errorf("it is logged %d times", n)
	}
}
