package test

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"herd/test/herdtest"
	"herd/test/ports"

	"github.com/coder/websocket"
)

// withDevices gives an edge a port for devices.
func withDevices(e *herdtest.EdgeProcess) { e.Env["HERD_DEVICES"] = ports.Addr(e.T) }

// posted is the answer to one request on a connection of its own, as it was sent.
func posted(t testing.TB, addr, request string) (status int, body string) {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	c.send(strings.ReplaceAll(request, "HOST", addr))
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatalf("%.100q: %v", request, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func postOf(target, body string, headers ...string) string {
	return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: HOST\r\n%sContent-Length: %d\r\n\r\n%s", target, strings.Join(headers, ""), len(body), body)
}

// V3: what each app sends is at every edge, to the digit.
func TestEachAppReachesEveryEdge(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Each: withDevices})
	const json = "Content-Type: application/json\r\n"
	for i, c := range []struct{ id, request, body, want string }{
		{"v-osmand", "GET /?id=v-osmand&lat=34.06890000&lon=-118.44510000&timestamp=1621464827959&hdop=4.5&altitude=81.0&speed=0.0 HTTP/1.1\r\nHost: HOST\r\n\r\n", "", "+34.06890000-118.44510000 1621464827.959"},
		{"v-traccar8", postOf("/?id=v-traccar8&timestamp=1621464827&lat=34.0689&lon=-118.4451&speed=0.0&bearing=0.0&altitude=81.0&accuracy=12.5&batt=77.0", ""), "", "+34.0689-118.4451 1621464827"},
		{"v-traccar9", postOf("/", `{"location":{"timestamp":"2026-01-02T03:04:05.678Z","coords":{"latitude":34.0689012345678,"longitude":-1.184451e2,"accuracy":12.5,"speed":1.25,"heading":90,"altitude":81.2},"is_moving":true,"battery":{"level":0.8,"is_charging":false},"activity":{"type":"still"},"event":"motionchange"},"device_id":"v-traccar9"}`, json), "", "+34.0689012345678-118.4451 1767323045.678"},
		{"v-traccar10", postOf("/", "id=v-traccar10&lat=34.0689&lon=-118.4451&timestamp=1621464827&accuracy=12.5&altitude=81.0&speed=0.0&bearing=0.0&batt=77", "Content-Type: application/x-www-form-urlencoded\r\n"), "", "+34.0689-118.4451 1621464827"},
		{"v-gpslogger", postOf("/log?id=v-gpslogger&lat=34.0689&lon=-118.4451&timestamp=2021-05-19T22:53:47.959Z&acc=5.0&alt=81.0", ""), "", "+34.0689-118.4451 1621464827.959"},
		{"v-own/phone", postOf("/pub", `{"_type":"location","BSSID":"00","acc":12,"alt":81.0,"batt":77,"bs":1,"conn":"w","created_at":1621464830,"lat":34.0689,"lon":0.0,"m":1,"t":"u","tid":"ne","topic":"owntracks/x/y","tst":1621464827,"vac":3,"vel":0}`, "Content-Type: application/json; charset=utf-8\r\nX-Limit-U: v-own\r\nX-Limit-D: phone\r\n"), "[]", "+34.0689+0.0 1621464827"},
		{"v-overland", postOf("/", `{"locations":[{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.4451,34.0689]},"properties":{"timestamp":"2021-05-19T15:53:47-0700","altitude":81,"device_id":"v-overland"}}],"current":{"type":"Feature","geometry":{"type":"Point","coordinates":[-118.4452,34.0690]},"properties":{"timestamp":"2021-05-19T15:53:50-0700","device_id":"v-overland"}}}`, json, "Authorization: Bearer x\r\n"), `{"result":"ok"}`, "+34.0690-118.4452 1621464830"},
	} {
		from := h.All()[i%len(h.Names)]
		status, body := posted(t, from.Env["HERD_DEVICES"], c.request)
		if status != 200 || body != c.body {
			t.Errorf("%s is answered %d %q", c.id, status, body)
		}
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), c.id+" at every edge", func() error {
			for _, e := range h.All() {
				held, err := herdtest.Held(e.Addr, []string{c.id})
				if err != nil {
					return err
				}
				if !strings.HasPrefix(held[0], "AT "+from.Name+" ") || !strings.HasSuffix(held[0], " "+c.id+" "+c.want) {
					return fmt.Errorf("%s holds %q, want %s %s", e.Name, held[0], c.id, c.want)
				}
			}
			return nil
		})
	}
	// Metrics are there from the start, and count.
	_, text, err := h.Edges["Bernard"].Get("/metrics")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`herd_device_requests_total{app="osmand",edge="Bernard",outcome="ok"} `, `herd_device_requests_total{app="unknown",edge="Bernard",outcome="denied"} 0`, `herd_device_positions_total{app="owntracks",edge="Bernard",outcome="encrypted"} 0`} {
		if !strings.Contains(text, want) {
			t.Errorf("no metric %s", want)
		}
	}
}

// V1: HERD_MAX_CONNS counts both ports together, with C18's rule of who is evicted.
func TestBothPortsShareTheLimitOfConnections(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Each: withDevices, Env: map[string]string{"HERD_MAX_CONNS": "3"}})
	e := h.Edges["Clark"]
	devices := e.Env["HERD_DEVICES"]
	var open []*conn
	for range 3 {
		c := dial(t, devices)
		c.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if line := c.line(); line != "HTTP/1.1 200 OK\r" {
			t.Fatalf("answered %q", line)
		}
		open = append(open, c)
	}
	c := dial(t, e.Addr)
	c.send("x\n")
	if _, err := io.ReadAll(c.r); err != nil && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a connection too many, of the same address: %v", err)
	}
	open[0].Close()
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "room for one more", func() error {
		c := dial(t, e.Addr)
		defer c.Close()
		if _, err := io.WriteString(c, "x\n"); err != nil {
			return err
		}
		line, err := c.r.ReadString('\n')
		if line != "? x\n" {
			return fmt.Errorf("answered %q, %v", line, err)
		}
		return nil
	})
}

// linesOn opens a WebSocket with lines.
func linesOn(t *testing.T, url, auth string) (say func(string), next func() string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), herdtest.Promise(10*time.Second))
	t.Cleanup(cancel)
	header := http.Header{}
	if auth != "" {
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(auth)))
	}
	ws, _, err := websocket.Dial(ctx, url, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ws.CloseNow() })
	say = func(text string) {
		t.Helper()
		if err := ws.Write(ctx, websocket.MessageText, []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	next = func() string {
		t.Helper()
		_, text, err := ws.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	return say, next
}

func usersFile(t *testing.T, names ...string) string {
	t.Helper()
	var text []byte
	for _, name := range names {
		hash, err := bcrypt.GenerateFromPassword([]byte("secret of "+name), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text = fmt.Appendf(text, "%s:%s\n", name, hash)
	}
	file := filepath.Join(t.TempDir(), "users")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// V5: on lines a user's questions are answered, and watches told, as if only its own clients were there.
func TestAUserSeesOnlyItsOwn(t *testing.T) {
	quiet(t)
	for _, see := range []string{"own", "all"} {
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", Each: withDevices, Env: map[string]string{
			"HERD_DEVICES_USERS": usersFile(t, "alice", "bob"), "HERD_DEVICES_SEE": see, "HERD_WATCH_MEMBERS": "10"}})
		e := h.Edges["Clark"]
		report(t, e.Addr, "bob/a +10+10 1", "bob/b +10.01+10 1", "alice/a +10.02+10 1", "alice/b +10.03+10 1", "alice +10.04+10 1", "alicex +10+10 1")
		say, next := linesOn(t, "ws://"+e.Env["HERD_DEVICES"]+"/lines", "alice:secret of alice")
		names := func(text string) (ids []string) {
			for _, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
				f := strings.Fields(line)
				ids = append(ids, f[min(len(f)-1, 3)])
			}
			return ids
		}
		say("WHOSAT alice/a 50 2")
		want := []string{"alice/a", "alice/b", "bob/b"}
		if see == "own" {
			want = []string{"alice/a", "alice", "alice/b"}
		}
		got := names(next())
		if slices.Sort(got[1:]); !slices.Equal(got, want) {
			t.Errorf("%s: WHOSAT is answered %q, want %q", see, got, want)
		}
		inside := func(what string) (ids []string) {
			say("WATCH w " + what)
			for {
				line := next()
				if strings.HasPrefix(line, "! w NOW ") {
					slices.Sort(ids)
					return ids
				}
				ids = append(ids, strings.Fields(line)[5])
			}
		}
		all := []string{"alice", "alice/a", "alice/b", "alicex", "bob/a", "bob/b"}
		own, bobs, around := []string{"alice", "alice/a", "alice/b"}, []string(nil), []string(nil)
		if see == "all" {
			own, bobs, around = all, []string{"bob/a"}, []string{"alice", "alice/a", "alice/b", "alicex", "bob/b"}
		}
		for _, q := range []struct {
			what string
			want []string
		}{{"+10+10 100", own}, {"+9+9 +11+11", own}, {"bob/a", bobs}, {"bob/a 50", around}, {"alice/a", []string{"alice/a"}}} {
			if got := inside(q.what); !slices.Equal(got, q.want) {
				t.Errorf("%s: WATCH %s tells of %q, want %q", see, q.what, got, q.want)
			}
			say("UNWATCH w")
			if got := next(); got != "! w OFF" {
				t.Errorf("UNWATCH is answered %q", got)
			}
		}
		// What moves is told only of the user's own, and others' clients count for nothing.
		inside("+10+10 1000")
		if see == "all" {
			continue
		}
		for i := range 30 {
			report(t, e.Addr, fmt.Sprintf("bob/%d +10+10 1", i), fmt.Sprintf("bob/a +10.0%d+10 %d", i%10, i+2))
		}
		report(t, e.Addr, "alice/c +10+10 1")
		if got := next(); !strings.HasPrefix(got, "! w IN ") || !strings.Contains(got, " alice/c ") {
			t.Errorf("told %q in place of alice/c", got)
		}
		say("WHATSAT bob/a 1 1\nIAMAT bob/a +1+2 3\nWHOSAT bob/a 1 1")
		for _, want := range []string{"? WHATSAT bob/a 1 1", "? IAMAT bob/a +1+2 3", "? WHOSAT bob/a 1 1"} {
			if got := next(); got != want {
				t.Errorf("answered %q, want %q", got, want)
			}
		}
	}
}

// A queue is a phone's, as its app keeps it: the head leaves when the app is told what it wants, and
// everything waits behind it.
type queue struct {
	app   string
	id    string
	make  func(id string, n int64) string // the request of a position at time n
	never func(n int) string              // requests that can never succeed
	body  string                          // what the app has to be told
	drops bool                            // a 4xx is dropped

	made, kept atomic.Int64 // the newest time that was made, and that was answered 2xx
	bad        atomic.Int64 // 4xx
	waits      atomic.Int64 // 503
	dry        atomic.Bool  // the queue is empty
}

// run sends what is made, one position each few milliseconds, until ctx ends and all is sent.
func (q *queue) run(ctx context.Context, addr string, pause time.Duration) {
	client := &http.Client{Transport: &http.Transport{}, Timeout: 20 * time.Second}
	defer client.CloseIdleConnections()
	var pending []string
	var times []int64
	for n := int64(1); ; n++ {
		if ctx.Err() == nil {
			pending, times = append(pending, q.make(q.id, 1_600_000_000+n)), append(times, 1_600_000_000+n)
			q.made.Store(1_600_000_000 + n)
			if n%7 == 0 {
				pending, times = append(pending, q.never(int(n/7))), append(times, 0)
			}
		}
		for len(pending) > 0 {
			status, body := send(client, addr, pending[0])
			switch {
			case status == 200 && body == q.body:
				q.kept.Store(max(q.kept.Load(), times[0]))
			case status >= 400 && status < 500:
				q.bad.Add(1)
				if !q.drops {
					time.Sleep(pause)
					continue
				}
			default:
				if status == 503 {
					q.waits.Add(1)
				}
				time.Sleep(pause) // its back-off, shortened
				if ctx.Err() == nil {
					goto next
				}
				continue
			}
			pending, times = pending[1:], times[1:]
		}
		if ctx.Err() != nil {
			q.dry.Store(true)
			return
		}
	next:
		time.Sleep(pause)
	}
}

// send sends a request: its method, its target, and the body behind a space.
func send(client *http.Client, addr, request string) (status int, body string) {
	method, rest, _ := strings.Cut(request, " ")
	target, text, _ := strings.Cut(rest, " ")
	req, err := http.NewRequest(method, "http://"+addr+target, strings.NewReader(text))
	if err != nil {
		return 0, ""
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, ""
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(all)
}

// V4, D3: whatever happens to the edge, nothing blocks a phone's queue for ever, everything that can be
// valid arrives, and nothing that was answered is lost.
func TestQueuesOfPhones(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{
		Topology: "Clark", Each: withDevices, Unready: []string{"Clark"}, NATS: []string{"-js", "-sd", t.TempDir()},
		Env: map[string]string{"HERD_DURABILITY": "journal", "HERD_JOURNAL_TIMEOUT": "300ms"},
	})
	e := h.Edges["Clark"]
	osm := func(id string, n int64) string {
		return fmt.Sprintf("POST /?id=%s&lat=1.5&lon=2.5&timestamp=%d", id, n)
	}
	own := func(id string, n int64) string {
		return fmt.Sprintf(`POST /pub?u=%s&d=p {"_type":"location","lat":1.5,"lon":2.5,"tst":%d}`, id, n)
	}
	over := func(id string, n int64) string {
		return fmt.Sprintf(`POST / {"locations":[{"geometry":{"coordinates":[2.5,1.5]},"properties":{"timestamp":"%s","device_id":"%s"}},{"geometry":{"coordinates":[999,1.5]},"properties":{"timestamp":"x"}}]}`,
			time.Unix(n, 0).UTC().Format("2006-01-02T15:04:05-0700"), id)
	}
	pick := func(all ...string) func(int) string { return func(n int) string { return all[n%len(all)] } }
	queues := []*queue{
		{app: "traccar", id: "q-traccar", make: osm, never: pick("POST /?id=x&lat=91&lon=2", "POST /?id=x&timestamp=5", "POST /?id=&lat=1&lon=2", "POST /?id=x&lat=NaN&lon=1")},
		{app: "gpslogger", id: "q-gps", make: osm, never: pick("GET /?id=x&lat=1&lon=2&timestamp=never"), drops: true},
		{app: "owntracks android", id: "q-android", make: own, body: "[]", never: pick("POST /pub ", `POST /pub {"_type":"lwt","tst":5}`, `POST /pub {"_type":"encrypted","data":"x"}`, `POST /pub?u=a {"_type":"location","lat":null,"lon":5,"tst":4}`)},
		{app: "owntracks ios", id: "q-ios", make: own, body: "[]", never: pick(`POST /pub?u=a&d=b {"_type":"waypoints"}`), drops: true},
		{app: "overland", id: "q-over", make: over, body: `{"result":"ok"}`, never: pick(`POST / {"locations":[{}]}`, `POST / {"locations":[]}`)},
	}
	id := func(q *queue) string {
		if q.body == "[]" {
			return q.id + "/p"
		}
		return q.id
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	for _, q := range queues {
		running.Go(func() { q.run(ctx, e.Env["HERD_DEVICES"], 5*time.Millisecond) })
	}
	sum := func(of func(*queue) int64) (n int64) {
		for _, q := range queues {
			n += of(q)
		}
		return n
	}
	refused := func(what string) { // each is told to come again
		t.Helper()
		var before []int64
		for _, q := range queues {
			before = append(before, q.waits.Load())
		}
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), what+": all are told to come again", func() error {
			for i, q := range queues {
				if q.waits.Load() == before[i] {
					return errors.New(q.app + " is not")
				}
			}
			return nil
		})
	}
	served := func(what string) { // each sends something that was made from now on
		t.Helper()
		var made []int64
		for _, q := range queues {
			made = append(made, q.made.Load())
		}
		herdtest.Eventually(t, herdtest.Promise(20*time.Second), what+": all are served", func() error {
			for i, q := range queues {
				if q.kept.Load() < made[i] {
					return fmt.Errorf("%s has sent %d of %d", q.app, q.kept.Load(), made[i])
				}
			}
			return nil
		})
	}
	lost := func(what string) {
		t.Helper()
		for _, q := range queues {
			kept := q.kept.Load()
			held, err := herdtest.Held(e.Addr, []string{id(q)})
			if err != nil {
				t.Fatal(err)
			}
			var at int64
			if f := strings.Fields(held[0]); len(f) == 6 {
				fmt.Sscan(f[5], &at)
			}
			if at < kept {
				t.Errorf("%s: %s was answered for %d, and %q is held", what, q.app, kept, held[0])
			}
		}
	}

	h.NATS.Kill()
	e.Start()
	refused("while it joins")
	h.NATS.Start()
	e.FirstReady()
	served("ready")
	h.NATS.Kill()
	refused("the journal is away")
	h.NATS.Start()
	served("the journal is back")
	e.Signal(syscall.SIGTERM)
	if code := e.Wait(herdtest.Promise(15 * time.Second)); code != 0 {
		t.Errorf("it ends with %d", code)
	}
	e.Start()
	e.AwaitReady()
	lost("a stop")
	served("after a stop")
	for range size(2, 10) {
		e.Kill()
		e.Start()
		e.AwaitReady()
		lost("a kill")
		served("after a kill")
	}
	cancel()
	running.Wait()
	for _, q := range queues {
		if !q.dry.Load() || q.kept.Load() != q.made.Load() {
			t.Errorf("%s has sent %d of %d", q.app, q.kept.Load(), q.made.Load())
		}
	}
	if n := sum(func(q *queue) int64 { return q.bad.Load() }); n > 0 {
		t.Errorf("%d were answered 4xx", n)
	}
	lost("the end")
}
