package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"rsc.io/qr"

	"herd/broker/certs/certstest"
)

// startDevices runs a herd of one edge with a file of users, and returns it, the file and the
// address of the port for devices.
func startDevices(t *testing.T, users string) (h *herd, file, addr string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, []byte(users), 0o640); err != nil {
		t.Fatal(err)
	}
	h = startHerd(t, []string{"HERD_DEVICES_USERS=" + file}, "--topology", "Clark", "--devices", "127.0.0.1:0")
	t.Cleanup(h.stop)
	m := regexp.MustCompile(`reach Clark at (\S+)`).FindStringSubmatch(h.stderr.await(t, "reach Clark at "))
	return h, file, m[1]
}

// field returns what the output tells to type into a field of an app.
func field(t *testing.T, out, app, name string) string {
	t.Helper()
	_, rest, _ := strings.Cut(out, "\n"+app+": ")
	for line := range strings.Lines(rest) {
		if value, ok := strings.CutPrefix(line, "  "+name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("%s has no %q in\n%s", app, name, out)
	return ""
}

// send is what an app sends; it must be answered 200.
func send(t *testing.T, method, at, body string, header ...string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, at, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s is answered %s, %v", method, answer.Status, err)
	}
	return string(text)
}

// What is printed for each app, typed into it, puts the phone on the map under the id that was named.
func TestPhoneSetsUpEachApp(t *testing.T) {
	h, file, addr := startDevices(t, "")
	o := newTool(t)
	o.want(exitOK, "phone", "alice", "--users", file, "--addr", addr, "--device", "pixel")
	out := o.stdout.String()
	if said := o.stderr.String(); !strings.Contains(said, "alice is added in "+file+", and the edge at "+addr+" takes the password") {
		t.Errorf("says %q", said)
	}
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	password := field(t, out, "OwnTracks", "Password")
	if text, _ := os.ReadFile(file); !strings.HasPrefix(string(text), "alice:$2y$") || bytes.Contains(text, []byte(password)) {
		t.Errorf("the file is %q", text)
	}
	if strings.Contains(o.stderr.String()+h.stderr.String(), password) {
		t.Error("the password is in a log")
	}
	if log := h.stderr.String(); strings.Contains(log, "wrong name or password") {
		t.Errorf("what was tried is in the edge's log as a guess:\n%s", log)
	}
	if said := o.stderr.String(); !strings.Contains(said, "warning: http://"+addr+"/ is this machine to itself") {
		t.Errorf("no phone reaches that, and it says %q", said)
	}

	at := 0
	onTheMap := func(app, location string) {
		t.Helper()
		_, rest, _ := strings.Cut(out, "\n"+app+": on the map it is ")
		id, _, _ := strings.Cut(rest, "\n")
		if id != "alice/pixel" {
			t.Errorf("%s: on the map it is %q", app, id)
		}
		if answer := ask(t, h.addr["Clark"], "WHATSAT "+id+" 0 0"); !strings.Contains(answer, " "+location+" ") {
			t.Errorf("%s: WHATSAT is answered %q", app, answer)
		}
		at++
	}
	stamp := func() string {
		return []string{"1750000000", "1750000001", "1750000002", "1750000003", "1750000004"}[at]
	}

	// OwnTracks, set up by its link.
	coded, _ := strings.CutPrefix(field(t, out, "OwnTracks", "Or all of it by this link"), "owntracks:///config?inline=")
	text, err := base64.StdEncoding.DecodeString(coded)
	if err != nil {
		t.Fatalf("OwnTracks' link: %v", err)
	}
	var set struct {
		Type     string `json:"_type"`
		Mode     int
		URL      string
		Auth     bool
		Username string
		Password string
		DeviceID string `json:"deviceId"`
	}
	if err = json.Unmarshal(text, &set); err != nil || set.Type != "configuration" || set.Mode != 3 || !set.Auth ||
		set.URL != field(t, out, "OwnTracks", "URL") || set.Username != field(t, out, "OwnTracks", "User name") || set.Password != password || set.DeviceID != field(t, out, "OwnTracks", "Device ID") {
		t.Fatalf("OwnTracks' link has %s, %v", text, err)
	}
	basic := "Basic " + base64.StdEncoding.EncodeToString([]byte(set.Username+":"+set.Password))
	if body := send(t, "POST", set.URL, `{"_type":"location","lat":1.5,"lon":2.5,"tst":`+stamp()+`}`,
		"Authorization", basic, "X-Limit-U", set.Username, "X-Limit-D", set.DeviceID); body != "[]" {
		t.Errorf("OwnTracks is answered %q", body)
	}
	onTheMap("OwnTracks", "+1.5+2.5")

	// Traccar Client takes the URL of its link without the query for its server, and its id.
	link, err := url.Parse(field(t, out, "Traccar Client", "Or all of it by this link"))
	if err != nil || link.Query().Get("id") != field(t, out, "Traccar Client", "Device identifier") {
		t.Fatalf("Traccar Client's link is %v, %v", link, err)
	}
	link.RawQuery = ""
	if link.String() != field(t, out, "Traccar Client", "Server URL") {
		t.Errorf("Traccar Client's link is for %s", link)
	}
	send(t, "POST", link.String(), "id=pixel&lat=2.5&lon=3.5&timestamp="+stamp(), "Content-Type", "application/x-www-form-urlencoded")
	onTheMap("Traccar Client", "+2.5+3.5")

	fill := strings.NewReplacer("{0}", "3.5", "{1}", "4.5", "{2}", stamp()+"000", "{3}", "1", "{4}", "0", "{5}", "0")
	send(t, "GET", fill.Replace(field(t, out, "OsmAnd", "Online tracking web address")), "")
	onTheMap("OsmAnd", "+3.5+4.5")

	fill = strings.NewReplacer("%LAT", "4.5", "%LON", "5.5", "%TIMESTAMP", stamp(), "%ACC", "1", "%ALT", "1", "%SPD", "0", "%DIR", "0", "%BATT", "50")
	send(t, field(t, out, "GPSLogger", "HTTP method"), fill.Replace(field(t, out, "GPSLogger", "Log to custom URL")), "")
	onTheMap("GPSLogger", "+4.5+5.5")

	overland, err := url.Parse(field(t, out, "Overland", "Or all of it by this link"))
	if err != nil || overland.Scheme != "overland" || overland.Host != "setup" {
		t.Fatalf("Overland's link is %v, %v", overland, err)
	}
	q := overland.Query()
	if q.Get("url") != field(t, out, "Overland", "Receiver endpoint URL") || q.Get("token") != field(t, out, "Overland", "Access token") || q.Get("device_id") != field(t, out, "Overland", "Device ID") {
		t.Errorf("Overland's link has %v", q)
	}
	send(t, "POST", q.Get("url"), `{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[6.5,5.5]},"properties":{"timestamp":"2025-06-15T15:06:44Z","device_id":"pixel"}}]}`,
		"Authorization", "Bearer "+q.Get("token"), "Content-Type", "application/json")
	onTheMap("Overland", "+5.5+6.5")
}

// A password of one's own, of signs that URLs and templates give a meaning to, works in each way; a renewed
// one takes the old one's place, and who is taken out is out.
func TestPhoneRenewsAndTakesOut(t *testing.T) {
	_, file, addr := startDevices(t, "# ours\n")
	const hard = `a%2F{0}%LAT&+?~>"\<'#/=:@`
	o := newTool(t)
	o.stdin = hard + "\r\nmore\n"
	o.want(exitOK, "phone", "b+o%b", "--stdin", "--users", file, "--addr", addr)
	out := o.stdout.String()
	if got := field(t, out, "OwnTracks", "Password"); got != hard {
		t.Errorf("the password is %q", got)
	}
	link := field(t, out, "OwnTracks", "Or all of it by this link")
	if !regexp.MustCompile(`^owntracks:///config\?inline=[A-Za-z0-9]+$`).MatchString(link) {
		t.Errorf("OwnTracks' link has signs that are escaped or not: %s", link)
	}
	text, err := base64.StdEncoding.DecodeString(link[len("owntracks:///config?inline="):])
	var set struct{ Password string }
	if err != nil || json.Unmarshal(text, &set) != nil || set.Password != hard {
		t.Errorf("OwnTracks' link has %s, %v", text, err)
	}
	template := field(t, out, "GPSLogger", "Log to custom URL")
	if strings.Count(template, "%LAT") != 1 || strings.Contains(field(t, out, "OsmAnd", "Online tracking web address"), hard) {
		t.Errorf("the password is part of the template %s", template)
	}
	before := out

	o = newTool(t)
	o.want(exitOK, "phone", "b+o%b", "--users", file, "--url", "http://"+addr, "--app", "owntracks,osmand")
	if said := o.stderr.String(); !strings.Contains(said, "b+o%b is renewed in ") {
		t.Errorf("says %q", said)
	}
	if out := o.stdout.String(); strings.Contains(out, "Traccar") || !strings.Contains(out, "OsmAnd: ") || strings.Contains(out, "█") {
		t.Errorf("prints for owntracks and osmand, without a terminal:\n%s", out)
	}
	text, err = os.ReadFile(file)
	if lines := strings.Split(string(text), "\n"); err != nil || len(lines) != 3 || lines[0] != "# ours" {
		t.Errorf("the file is %q, %v", text, err)
	}
	if status := get(t, strings.Split(field(t, before, "OsmAnd", "Online tracking web address"), "?")[0]+"?id=x"); status != http.StatusUnauthorized {
		t.Errorf("the old password is answered %d", status)
	}

	o = newTool(t)
	o.want(exitOK, "phone", "--users", file)
	if out := o.stdout.String(); out != "b+o%b\n" {
		t.Errorf("lists %q", out)
	}
	o.want(exitOK, "phone", "b+o%b", "--remove", "--users", file)
	o.want(exitFailed, "phone", "b+o%b", "--remove", "--users", file)
	if text, err := os.ReadFile(file); string(text) != "# ours\n" {
		t.Errorf("the file is %q, %v", text, err)
	}
}

func get(t *testing.T, at string) int {
	t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	answer, err := (&http.Client{Transport: transport}).Get(at)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	return answer.StatusCode
}

// What the edge does not take is not shown, and the file is as it was.
func TestPhoneShowsNothingThatTheEdgeDoesNotTake(t *testing.T) {
	_, _, other := startDevices(t, "") // with another file
	open := startHerd(t, nil, "--topology", "Clark", "--devices", "127.0.0.1:0")
	t.Cleanup(open.stop)
	anybody := regexp.MustCompile(`reach Clark at (\S+)`).FindStringSubmatch(open.stderr.await(t, "reach Clark at "))[1]
	server := func(h http.HandlerFunc) string {
		s := httptest.NewServer(h)
		t.Cleanup(s.Close)
		return s.Listener.Addr().String()
	}
	const before = "# nobody yet\n"
	for _, test := range []struct{ name, addr, url, says string }{
		{"another file", other, "", "it does not take the password"},
		{"no file", anybody, "", "it lets in anybody"},
		{"nobody there", closedAddr(t), "", "connection refused"},
		{"a name that it does not answer to", other, "http://herd.example", "HERD_DEVICES_ORIGINS"},
		{"full", server(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) }), "", "503"},
		{"something else", server(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "<html>") }), "", "otherwise than an edge"},
		{"somewhere else", server(func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/x", http.StatusFound) }), "", "302 Found"},
		{"silent", server(func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		}), "", "no answer within 1s"},
	} {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "users")
			if err := os.WriteFile(file, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			o := newTool(t)
			o.stdin = "a-password-to-look-for"
			args := []string{"phone", "alice", "--users", file, "--addr", test.addr, "--timeout", "1s", "--stdin"}
			if test.url != "" {
				args = append(args, "--url", test.url)
			}
			o.want(exitFailed, args...)
			if said := o.stderr.String(); !strings.Contains(said, test.says) || !strings.Contains(said, "the file of users is as it was") {
				t.Errorf("says %q, want %q", said, test.says)
			}
			if all := o.stdout.String() + o.stderr.String(); strings.Contains(all, o.stdin) || o.stdout.String() != "" {
				t.Errorf("shows %q", all)
			}
			if text, err := os.ReadFile(file); string(text) != before {
				t.Errorf("the file is %q, %v", text, err)
			}
		})
	}
}

// With TLS the edge is asked under the name that phones use, and its certificate must have it.
func TestPhoneOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certstest.New(t, "authority")
	cert, key := ca.Server().Files(dir, "edge")
	authority, strange, file := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "strange.pem"), filepath.Join(dir, "users")
	certstest.Write(t, authority, ca.PEM)
	certstest.Write(t, strange, certstest.New(t, "strangers").PEM)
	newTool(t).want(exitOK, "phone", "--users", file, "--create")
	h := startHerd(t, []string{"HERD_DEVICES_USERS=" + file, "HERD_TLS_CERT=" + cert, "HERD_TLS_KEY=" + key}, "--topology", "Clark", "--devices", "127.0.0.1:0")
	t.Cleanup(h.stop)
	addr := regexp.MustCompile(`reach Clark at (\S+)`).FindStringSubmatch(h.stderr.await(t, "reach Clark at "))[1]

	o := newTool(t)
	o.want(exitOK, "phone", "alice", "--users", file, "--addr", addr, "--tls-ca", authority)
	if got := field(t, o.stdout.String(), "OwnTracks", "URL"); got != "https://"+addr+"/" {
		t.Errorf("the URL is %q", got)
	}
	if said := o.stderr.String(); strings.Contains(said, "not encrypted") {
		t.Errorf("says %q", said)
	}
	for says, args := range map[string][]string{
		"--tls-ca FILE":      nil,
		"herd.example":       {"--tls-ca", authority, "--url", "https://herd.example"},
		"unknown authority":  {"--tls-ca", strange},
		"--url: want http:/": {"--tls-ca", authority, "--url", "herd.example"},
	} {
		o := newTool(t)
		if code := o.run(append([]string{"phone", "bob", "--users", file, "--addr", addr}, args...)...); code == exitOK {
			t.Errorf("%q: exit 0", args)
		}
		if said := o.stderr.String(); !strings.Contains(said, says) {
			t.Errorf("%q says %q, want %q", args, said, says)
		}
	}
	if text, err := os.ReadFile(file); strings.Count(string(text), "\n") != 1 {
		t.Errorf("the file is %q, %v", text, err)
	}
}

// The password is tried where phones send it, unless there is a proxy between, which has the certificate.
func TestWhereAPasswordIsTried(t *testing.T) {
	for _, test := range []struct{ flags, url, addr string }{
		{"", "http://127.0.0.1:12010/", "127.0.0.1:12010"},
		{"--url http://192.0.2.10:5055", "http://192.0.2.10:5055/", "192.0.2.10:5055"},
		{"--url http://herd.example/way", "http://herd.example/way/", "herd.example:80"},
		{"--url http://[2001:db8::1]:5055", "http://[2001:db8::1]:5055/", "[2001:db8::1]:5055"},
		{"--url https://herd.example", "https://herd.example/", "127.0.0.1:12010"},
		{"--url https://herd.example:8443", "https://herd.example:8443/", "127.0.0.1:12010"},
		{"--url https://herd.example --addr 192.0.2.10:5055", "https://herd.example/", "192.0.2.10:5055"},
		{"--url http://192.0.2.10:5055 --addr 127.0.0.1:5055", "http://192.0.2.10:5055/", "127.0.0.1:5055"},
		{"--url http://192.0.2.10:5055 --addr=", "http://192.0.2.10:5055/", ""},
		{"--addr 192.0.2.10:5055", "http://192.0.2.10:5055/", "192.0.2.10:5055"},
		{"--tls-ca x", "https://127.0.0.1:12010/", "127.0.0.1:12010"},
		{"--tls-ca x --url https://herd.example", "https://herd.example/", "herd.example:443"},
		{"--tls-ca x --url https://herd.example:5055", "https://herd.example:5055/", "herd.example:5055"},
		{"--tls-ca x --url http://herd.example", "http://herd.example/", "127.0.0.1:12010"},
		{"--tls-ca x --addr 192.0.2.10:5055", "https://192.0.2.10:5055/", "192.0.2.10:5055"},
	} {
		c := &phone{fs: newFlagSet("phone")}
		c.secure = newAuthorityFlag(c.fs)
		c.fs.StringVar(&c.addr, "addr", "", "")
		c.fs.StringVar(&c.url, "url", "", "")
		if err := c.fs.Parse(strings.Fields(test.flags)); err != nil {
			t.Fatal(err)
		}
		base, addr, err := c.where(given(c.fs)["tls-ca"])
		if err != nil || base.String() != test.url || addr != test.addr {
			t.Errorf("%q: phones go to %v, it is tried at %q, %v; want %s and %q", test.flags, base, addr, err, test.url, test.addr)
		}
	}
}

func TestPhoneUsage(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "users")
	wrong := filepath.Join(dir, "wrong")
	if err := os.WriteFile(wrong, []byte("alice:plain-text\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	newTool(t).want(exitOK, "phone", "--users", file, "--create")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 || info.Size() != 0 {
		t.Errorf("a new file: %v, %v", info, err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(file, link); err != nil {
		t.Fatal(err)
	}
	newTool(t).want(exitOK, "phone", "alice", "--users", link, "--addr=", "--url", "https://herd.example/way")
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("a link: %v, %v", info, err)
	}
	for _, test := range []struct {
		args, stdin string
		code        int
		says        string
	}{
		{"phone alice", "", exitUsage, "--users"},
		{"phone a:b --users FILE", "", exitUsage, "USER: a name is"},
		{"phone #a --users FILE", "", exitUsage, "USER: a name is"},
		{"phone alice --users FILE --device a/b", "", exitUsage, "--device: a name is"},
		{"phone alice --users FILE --addr nowhere", "", exitUsage, "--addr"},
		{"phone alice --users FILE --addr=", "", exitUsage, "--url must say"},
		{"phone alice --users FILE --url ftp://x", "", exitUsage, "--url: want http"},
		{"phone alice --users FILE --url https://a:secret@x", "", exitUsage, "--url: want no user"},
		{"phone alice --users FILE --url https://a:secret@x:y", "", exitUsage, "--url: not a URL"},
		{"phone alice --users FILE --app nokia", "", exitUsage, `"nokia" is none of owntracks`},
		{"phone alice --users FILE --timeout 0s", "", exitUsage, "--timeout"},
		{"phone alice --users FILE --stdin", "short", exitUsage, "standard input: a password is"},
		{"phone alice --users FILE --stdin", "", exitUsage, "standard input: a password is"},
		{"phone alice --users FILE --stdin", strings.Repeat("x", 5000), exitUsage, "standard input: a password is"},
		{"phone alice --users FILE --remove --stdin", "", exitUsage, "--remove"},
		{"phone --users FILE --remove", "", exitUsage, "want USER"},
		{"phone alice --users NONE", "", exitFailed, "does not exist; --create makes it"},
		{"phone alice --users NONE/x --create", "", exitFailed, "open the directory"},
		{"phone alice --users DIR", "", exitFailed, "not a regular file"},
		{"phone alice --users WRONG", "", exitFailed, "line 1: not a bcrypt hash"},
		{"phone --users WRONG", "", exitFailed, "line 1: not a bcrypt hash"},
	} {
		o := newTool(t)
		o.stdin = test.stdin
		names := strings.NewReplacer("FILE", file, "NONE", filepath.Join(dir, "none"), "DIR", dir, "WRONG", wrong)
		var args []string
		for _, word := range strings.Fields(test.args) {
			args = append(args, names.Replace(word))
		}
		o.want(test.code, args...)
		if said := o.stderr.String(); !strings.Contains(said, test.says) || strings.Contains(said, "secret") {
			t.Errorf("%q with %.9q says %q, want %q", test.args, test.stdin, said, test.says)
		}
	}
}

// What is drawn is the code, with its border, in either way.
func TestQRCodeAsItIsDrawn(t *testing.T) {
	const text = "owntracks:///config?inline=eyJfdHlwZSI6ImNvbmZpZ3VyYXRpb24ifQ"
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		t.Fatal(err)
	}
	for _, colours := range []bool{false, true} {
		var b bytes.Buffer
		if err := writeQR(&b, text, colours); err != nil {
			t.Fatal(err)
		}
		rows := strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
		if want := (code.Size + 2*quiet + 1) / 2; len(rows) != want {
			t.Fatalf("%d rows, want %d", len(rows), want)
		}
		for i, row := range rows {
			row = strings.TrimSuffix(strings.TrimPrefix(row, "\x1b[30;107m"), "\x1b[0m")
			signs := []rune(row)
			if len(signs) != code.Size+2*quiet {
				t.Fatalf("row %d has %d signs", i, len(signs))
			}
			for j, sign := range signs {
				above, below := sign == '█' || sign == '▀', sign == '█' || sign == '▄'
				x, y := j-quiet, 2*i-quiet
				if code.Black(x, y) != (above == colours) || code.Black(x, y+1) != (below == colours) {
					t.Fatalf("colours %v: %q at %d, %d", colours, sign, x, y)
				}
			}
		}
	}
	if err := writeQR(io.Discard, strings.Repeat("x", 4000), false); err == nil {
		t.Error("4,000 bytes fit a QR code")
	}
}
