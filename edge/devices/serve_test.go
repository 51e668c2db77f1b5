package devices

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"herd/edge/command"
)

// The answer is to the byte what the app wants (V4), however the request comes.
func TestAnswersToTheByte(t *testing.T) {
	r := start(t, rigged{})
	overland := `{"locations":[{"geometry":{"coordinates":[-118.4451,34.0689]},"properties":{"timestamp":"2021-05-19T15:53:47-0700","device_id":"over"}}]}`
	own := `{"_type":"location","lat":34.0689,"lon":-118.4451,"tst":1621464827}`
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	io.WriteString(z, overland)
	z.Close()
	const common = "Cache-Control: no-store\r\n"
	json := func(body string) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\n%sContent-Type: application/json\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nDate: D\r\nContent-Length: %d\r\n\r\n%s", common, len(body), body)
	}
	const empty = "HTTP/1.1 200 OK\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nDate: D\r\nContent-Length: 0\r\n\r\n"
	for _, c := range []struct{ name, request, want, client string }{
		{"OsmAnd", "GET /?id=osm&lat=34.0689&lon=-118.4451&timestamp=1621464827 HTTP/1.1\r\nHost: x:1\r\n\r\n", "", ""},
		{"OsmAnd", "GET /?id=osm&lat=34.0689&lon=-118.4451&timestamp=1621464827 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n", empty, "osm"},
		{"Traccar 8", post("/?id=t8&timestamp=1621464827&lat=34.0689&lon=-118.4451", ""), empty, "t8"},
		{"Traccar 9", post("/", `{"location":{"timestamp":"2021-05-19T22:53:47Z","coords":{"latitude":34.0689,"longitude":-118.4451}},"device_id":"t9"}`, "Content-Type: application/json\r\n"), empty, "t9"},
		{"Traccar 10 anywhere", post("/any/where", "id=t10&timestamp=1621464827&lat=34.0689&lon=-118.4451", "Content-Type: application/x-www-form-urlencoded\r\n"), empty, "t10"},
		{"PUT", strings.Replace(post("/?id=put&timestamp=1621464827&lat=34.0689&lon=-118.4451", ""), "POST", "PUT", 1), empty, "put"},
		{"OwnTracks", post("/pub", own, "Content-Type: application/json; charset=utf-8\r\nX-Limit-U: al\r\nX-Limit-D: ph\r\n"), json("[]"), "al/ph"},
		{"OwnTracks, nothing", post("/pub", ""), json("[]"), ""},
		{"OwnTracks, another type", post("/pub", `{"_type":"lwt","tst":1621464827}`), json("[]"), ""},
		// A 400 would block the phone, or alert its user, for what comes again as it is.
		{"OwnTracks, unreadable, by its headers", post("/pub", own[:40], "X-Limit-U: al\r\nX-Limit-D: unread\r\n"), json("[]"), ""},
		{"OwnTracks, unreadable, by its query", post("/pub?u=al&d=unread", "\x00\xff"), json("[]"), ""},
		{"Overland", post("/", overland, "Authorization: Bearer whatever\r\n"), json(`{"result":"ok"}`), "over"},
		{"gzip", post("/", packed.String(), "Content-Encoding: gzip\r\n"), json(`{"result":"ok"}`), "over"},
		{"chunked", "POST / HTTP/1.1\r\nHost: [::1]\r\nTransfer-Encoding: chunked\r\n\r\n9;x=y\r\n{\"_type\":\r\n8\r\n\"card\" }\r\n0\r\n\r\n", json("[]"), ""},
		{"100-continue", post("/", own, "Expect: 100-continue\r\nX-Limit-U: exp\r\n"), "HTTP/1.1 100 Continue\r\n\r\n" + json("[]"), "exp"},
		{"HTTP/1.0", "GET /?id=old&lat=34.0689&lon=-118.4451&timestamp=1621464827 HTTP/1.0\r\n\r\n", strings.Replace(empty, "HTTP/1.1", "HTTP/1.0", 1), "old"},
		{"pipelined", strings.Repeat("GET /?id=pipe&lat=34.0689&lon=-118.4451&timestamp=1621464827 HTTP/1.1\r\nHost: localhost\r\n\r\n", 3), empty + empty + empty, "pipe"},
		{"a bad one", post("/", "{"), "HTTP/1.1 400 Bad Request\r\nCache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\nDate: D\r\nContent-Length: 0\r\n\r\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			conn := r.dial()
			conn.send(c.request)
			if tcp, ok := conn.nc.(*net.TCPConn); ok {
				tcp.CloseWrite()
			}
			text, err := io.ReadAll(conn.r)
			if err != nil && !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			got := dated(string(text))
			if c.want == "" {
				if !strings.HasPrefix(got, "HTTP/1.1 421 ") {
					t.Errorf("it is answered\n%q", got)
				}
				return
			}
			if got != c.want {
				t.Errorf("it is answered\n%q\nwant\n%q", got, c.want)
			}
			if want := "AT Clark +78535173.123456789 " + c.client + " +34.0689-118.4451 1621464827"; c.client != "" && r.held(c.client) != want {
				t.Errorf("held is %q, want %q", r.held(c.client), want)
			}
		})
	}
	if got := r.counted(true, OwnTracks, Invalid); got != 2 || r.held("al/unread") != "" {
		t.Errorf("%d of OwnTracks could not be read, want 2; held is %q", got, r.held("al/unread"))
	}
}

// dated is text with the dates of answers left out.
func dated(text string) string {
	var lines []string
	for line := range strings.SplitSeq(text, "\r\n") {
		if strings.HasPrefix(line, "Date: ") {
			line = "Date: D"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "\r\n")
}

// V4: of a request with many positions, some of which could be kept later, all come again.
func TestManyPositions(t *testing.T) {
	r := start(t, rigged{max: 2})
	feature := func(id, time string) string {
		return `{"geometry":{"coordinates":[1.5,2.5]},"properties":{"timestamp":"` + time + `","device_id":"` + id + `"}}`
	}
	status, body, _ := r.once(post("/", `{"locations":[`+strings.Join([]string{
		feature("a", "2021-05-19T22:53:49Z"), feature("a", "2021-05-19T22:53:47Z"), feature("b", "yesterday"), feature("", "2021-05-19T22:53:47Z"), feature("b", "2021-05-19T22:53:47Z"),
	}, ",")+`]}`))
	if status != 200 || body != `{"result":"ok"}` {
		t.Errorf("%d %q", status, body)
	}
	for o, want := range map[Outcome]uint64{OK: 3, Older: 0, Invalid: 1, Nameless: 1} { // in the order of time nothing is older
		if got := r.counted(true, Overland, o); got != want {
			t.Errorf("%d are %v, want %d", got, o, want)
		}
	}
	many := `{"locations":[` + feature("a", "2021-05-19T22:53:50Z") + "," + feature("c", "2021-05-19T22:53:50Z") + `]}`
	for range 2 {
		if status, _, header := r.once(post("/", many)); status != 503 || header.Get("Retry-After") == "" {
			t.Errorf("a client too many: %d %v", status, header)
		}
	}
	if got := []uint64{r.counted(true, Overland, OK), r.counted(true, Overland, Older), r.counted(true, Overland, Full)}; !slices.Equal(got, []uint64{4, 1, 2}) {
		t.Errorf("ok, older, full: %d", got)
	}
}

// D3, V4: nothing is said before the journal has it, and 503 where it has not.
func TestAnswersWaitForTheJournal(t *testing.T) {
	r := start(t, rigged{journalled: true})
	c := r.dial()
	for _, step := range []struct {
		says error
		want int
	}{{nil, 200}, {errors.New("away"), 503}, {command.ErrNever, 200}, {nil, 200}} {
		c.send("GET /?id=kiwi&lat=1&lon=2&timestamp=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
		c.nc.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		if _, err := c.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("answered before the journal: %v", err)
		}
		c.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
		r.journal.says <- step.says
		if status, _, _ := c.answer(); status != step.want {
			t.Errorf("%v: %d, want %d", step.says, status, step.want)
		}
	}
	if got := r.counted(true, OsmAnd, Never); got != 1 {
		t.Errorf("%d are never to be kept", got)
	}
	// Who goes away is not waited for.
	gone := r.dial()
	gone.send("GET /?id=gone&lat=1&lon=2&timestamp=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	await(t, "its position", func() bool { return r.held("gone") != "" })
	gone.nc.Close()
	await(t, "that it is seen to be gone", func() bool { return r.counted(true, OsmAnd, Gone) == 1 })
}

// A timed connection is one whose time for reading can be made to be over.
type timed struct {
	net.Conn
	mu     sync.Mutex
	limits bool // there is such a time
}

func (c *timed) SetReadDeadline(at time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limits = !at.IsZero()
	return c.Conn.SetReadDeadline(at)
}

func (c *timed) SetDeadline(at time.Time) error {
	return errors.Join(c.SetReadDeadline(at), c.SetWriteDeadline(at))
}

// over lets the time pass. It reports whether there was a limit.
func (c *timed) over() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.limits {
		_ = c.Conn.SetReadDeadline(longAgo)
	}
	return c.limits
}

type timedListener struct {
	net.Listener
	all chan *timed
}

func (l timedListener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &timed{Conn: nc}
	l.all <- c
	return c, nil
}

// D3, V4: the journal may take as long as HERD_JOURNAL_TIMEOUT says, whatever the time in which a request
// has to come.
func TestTheJournalHasItsOwnTime(t *testing.T) {
	for name, request := range map[string]string{
		"without a body": "GET /?id=kiwi&lat=1&lon=2&timestamp=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
		"with a body":    post("/", "id=kiwi&lat=1&lon=2&timestamp=1"),
		"chunked":        "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1f\r\nid=kiwi&lat=1&lon=2&timestamp=1\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *timed, 1)
			r := start(t, rigged{journalled: true, listen: func(ln net.Listener) net.Listener { return timedListener{ln, conns} }})
			c := r.dial()
			c.send(request)
			conn := <-conns
			await(t, "the journal is asked", func() bool { return r.journal.asked.Load() == 1 })
			limited := conn.over()
			select {
			case r.journal.says <- nil:
			case <-time.After(20 * time.Second):
				t.Fatal("the journal is not waited for any more")
			}
			if status, _, _ := c.answer(); status != 200 || limited {
				t.Errorf("answered %d; its time was limited: %t", status, limited)
			}
			if got := r.counted(true, OsmAnd, OK); got != 1 {
				t.Errorf("%d are kept", got)
			}
			// The next request has its time again.
			c.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
			c.answer()
			await(t, "the connection is idle", func() bool {
				open := r.s.connections()
				return len(open) == 1 && !open[0].busy.Load()
			})
			await(t, "its time is limited", conn.over)
			if _, err := c.r.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("an idle connection is not closed: %v", err)
			}
		})
	}
}

// D6: one position that can never be kept does not keep back the others of its request.
func TestOneThatIsNeverKeptSpoilsNoOther(t *testing.T) {
	r := start(t, rigged{journalled: true})
	r.journal.never, r.journal.table = "b", r.table
	var features []string
	for _, id := range []string{"a", "b", "c"} {
		features = append(features, `{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":"`+id+`"}}`)
	}
	if status, body, _ := r.once(post("/", `{"locations":[`+strings.Join(features, ",")+`]}`)); status != 200 || body != `{"result":"ok"}` {
		t.Errorf("%d %q", status, body)
	}
	if got := []uint64{r.counted(true, Overland, Never), r.counted(true, Overland, Older)}; !slices.Equal(got, []uint64{1, 2}) {
		t.Errorf("never, older: %d", got)
	}
}

// Each position that waits for a journal that is away takes HERD_JOURNAL_TIMEOUT: the first says enough.
func TestAJournalThatIsAwayIsNotAskedForEachPosition(t *testing.T) {
	r := start(t, rigged{journalled: true})
	r.journal.never, r.journal.away, r.journal.table = "a", "b", r.table
	var features []string
	for _, id := range []string{"a", "b", "c", "d"} {
		features = append(features, `{"geometry":{"coordinates":[1,2]},"properties":{"timestamp":"2021-05-19T22:53:47Z","device_id":"`+id+`"}}`)
	}
	if status, _, _ := r.once(post("/", `{"locations":[`+strings.Join(features, ",")+`]}`)); status != 503 {
		t.Errorf("%d, want 503", status)
	}
	if got := r.journal.asked.Load(); got != 3 { // for all, for a and for b
		t.Errorf("the journal was asked %d times", got)
	}
}

// V5: a fault of ours is an error in the log, which has nothing of what was sent, and costs its
// connection alone.
func TestAHandlerThatPanics(t *testing.T) {
	r := start(t, rigged{
		users:  hashed(t, "alice", "secret"),
		broken: true,
		page:   http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { panic("no page " + r.URL.Path) }),
	})
	r.lines("/t/alice:secret/lines", nil).closes()
	for range 2 {
		c := r.dial()
		c.send("GET /t/alice:secret/page/secret HTTP/1.1\r\nHost: localhost\r\n\r\n")
		if text, err := io.ReadAll(c.r); len(text) > 0 || err != nil {
			t.Errorf("answered %q, %v", text, err)
		}
	}
	await(t, "no connection is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 && len(r.s.connections()) == 0 })
	await(t, "all are logged", func() bool { return strings.Count(r.log.String(), "level=ERROR") == 3 })
	log := r.log.String()
	if n := strings.Count(log, "level="); n != 3 || strings.Count(log, "request=GET error=string") != 3 {
		t.Errorf("%d lines are logged:\n%s", n, log)
	}
	if strings.Contains(log, "secret") || strings.Contains(log, "/page") {
		t.Errorf("what was sent is logged:\n%s", log)
	}
	if got := r.get("/t/alice:secret/?id=x&lat=1&lon=2"); got != 200 {
		t.Errorf("afterwards a position is answered %d", got)
	}
}

// V4: while the edge joins, and while it stops, all are to come again.
func TestJoiningAndStopping(t *testing.T) {
	r := start(t, rigged{closed: true, journalled: true, stop: 10 * time.Second})
	for _, target := range []string{"/?id=a&lat=1&lon=2", "/", "/lines"} {
		if got := r.get(target); got != 503 {
			t.Errorf("GET %s while it joins: %d", target, got)
		}
	}
	r.s.Open()
	if got := r.get("/"); got != 200 {
		t.Errorf("GET / once it is open: %d", got)
	}
	waits, idle, half, slow, refused := r.dial(), r.dial(), r.dial(), r.dial(), r.dial()
	waits.send("GET /?id=kiwi&lat=1&lon=2&timestamp=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
	idle.send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
	idle.answer()
	half.send("GET /?id=half&lat=1")
	slow.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nid=slow")
	refused.send("POST / HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 100\r\n\r\nid=refused")
	await(t, "all of them", func() bool {
		reading := 0
		for _, c := range r.s.connections() {
			if c.reading.Load() {
				reading++
			}
		}
		return r.held("kiwi") != "" && reading == 2 && len(r.s.connections()) == 5
	})
	r.stop()
	if status, _, header := slow.answer(); status != 503 || header.Get("Retry-After") == "" {
		t.Errorf("whose body had not come: %d %v", status, header)
	}
	if status, _, _ := refused.answer(); status != 421 {
		t.Errorf("who was refused, and whose body had not come: %d", status)
	}
	for _, c := range []*rawConn{idle, half} {
		if _, err := c.r.ReadByte(); err == nil {
			t.Error("something is said to who asks nothing")
		}
	}
	r.journal.says <- nil
	if status, _, _ := waits.answer(); status != 200 {
		t.Errorf("what was received before is answered %d", status)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	r.ended = nil
	if _, err := net.Dial("tcp", r.addr); err == nil {
		t.Error("it accepts when it has ended")
	}
}

// V4: limits on bodies, each beside good requests.
func TestBodiesThatAreTooLarge(t *testing.T) {
	r := start(t, rigged{})
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write(bytes.Repeat([]byte(" "), 64<<20))
	z.Close()
	large := strings.Repeat(" ", maxBody-2) + "{}"
	chunked := func(text string, headers ...string) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: localhost\r\n%sTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", strings.Join(headers, ""), len(text), text)
	}
	pad := func(n int) string { return `{"_type":"card","face":"` + strings.Repeat("x", n-26) + `"}` }
	const gzipped = "Content-Encoding: gzip\r\n"
	// packed is a body that takes size bytes when it is packed, of which few are left when it is unpacked.
	packed := func(size int) string {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		z.Comment = strings.Repeat("x", 100)
		z.Write([]byte(pad(100)))
		z.Close()
		member := b.String()
		z.Reset(&b)
		z.Close()
		empty := b.String()[len(member):]
		member += strings.Repeat(empty, (size-len(member))/len(empty)-1)
		z.Reset(&b)
		z.Comment = strings.Repeat("x", size-len(member)-len(empty)-1)
		b.Reset()
		z.Close()
		if member += b.String(); len(member) != size {
			t.Fatalf("packed it is %d bytes, not %d", len(member), size)
		}
		return member
	}
	whole := packed(maxBody)
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"2 MiB", post("/", pad(maxBody)), 200}, {"a byte more", post("/", pad(maxBody+1)), 413},
		{"2 MiB of chunks", chunked(pad(maxBody)), 200}, {"and a byte", chunked(pad(maxBody + 1)), 413},
		{"a length alone", "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999999\r\n\r\n", 413},
		{"a bomb", post("/", bomb.String(), gzipped), 413},
		{"2 MiB packed", post("/", whole, gzipped), 200}, {"a byte more packed", post("/", packed(maxBody+1), gzipped), 413},
		{"2 MiB packed, of chunks", chunked(whole, gzipped), 200}, {"and a byte packed", chunked(packed(maxBody+1), gzipped), 413},
		{"more packed than unpacked", chunked(whole+whole, gzipped), 413},
		{"a packed length alone", "POST / HTTP/1.1\r\nHost: localhost\r\n" + gzipped + "Content-Length: 9999999999\r\n\r\n", 413},
		{"packed, and cut off", post("/", whole[:maxBody-5], gzipped), 400},
		{"what is not packed", post("/", "nothing", gzipped), 400},
		{"another packing", post("/", "nothing", "Content-Encoding: br\r\n"), 400},
		{"white space", post("/", large), 400},
		{"open brackets", post("/", `{"locations":`+strings.Repeat("[", maxBody-20)), 400},
		{"objects in objects", post("/", strings.Repeat(`{"a":`, maxBody/5)), 400},
		{"features without an end", post("/", `{"locations":[`+strings.Repeat("{},", maxBody/3-10)), 400},
		{"empty features", post("/", `{"locations":[`+strings.Repeat("{},", maxBody/3-10)+`{}]}`), 200},
		{"nulls", post("/", `{"locations":[`+strings.Repeat("0,", maxBody/2-10)+`0]}`), 200},
		{"coordinates", post("/", `{"locations":[{"geometry":{"coordinates":[`+strings.Repeat("0,", maxBody/2-40)+`0]}}]}`), 200},
		{"fields", post("/?id=f&lat=1&lon=2", strings.Repeat("a=b&", maxBody/4)), 200},
		{"fixes", post("/", `{"device_id":"x","location":[`+strings.Repeat("{},", maxBody/3-20)+`{}]}`), 200},
		{"an id of 1024 bytes for many", post("/", `{"locations":[`+strings.Repeat(`{"geometry":{"coordinates":[1,2]}},`, 9000)+`{}],"device_id":"`+strings.Repeat("x", 1024)+`"}`), 413},
		{"an id of 1025 bytes for many", post("/", `{"locations":[`+strings.Repeat(`{"geometry":{"coordinates":[1,2]}},`, 9000)+`{}],"device_id":"`+strings.Repeat("x", 1025)+`"}`), 200},
		{"a small one of 4 KiB", post("/", pad(freeBody)), 200}, {"and more", post("/", pad(freeBody+1)), 200},
		{"one of 256 KiB", post("/", pad(smallBody)), 200}, {"and more of it", post("/", pad(smallBody+1)), 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			good := r.dial()
			done := make(chan int, 1)
			go func() {
				conn := r.dial()
				go io.WriteString(conn.nc, c.request) // it may be answered before it has come; ends with the connection
				status, _, _ := conn.answer()
				done <- status
			}()
			for n := 0; ; n++ {
				good.send("GET /?id=good&lat=1&lon=2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
				if status, _, _ := good.answer(); status != 200 {
					t.Fatalf("a good request is answered %d", status)
				}
				select {
				case status := <-done:
					if status != c.want {
						t.Errorf("it is answered %d, want %d", status, c.want)
					}
					return
				case <-time.After(time.Millisecond): // good ones are not a flood
				}
			}
		})
	}
	if n := r.s.bodies.small.taken + r.s.bodies.large.taken; n != 0 {
		t.Errorf("%d places among bodies are still taken", n)
	}
}

// V5: a page of another site can report nothing, nor read.
func TestOtherSites(t *testing.T) {
	r := start(t, rigged{origins: []string{"map.example.org", "https://other.example:8443"}})
	const position = "/?id=evil&lat=1&lon=2"
	host := "Host: " + r.addr + "\r\n"
	for _, c := range []struct {
		name, request string
		want          int
	}{
		{"a name that is not ours", "GET " + position + " HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421},
		{"a name that is not ours, the page", "GET / HTTP/1.1\r\nHost: evil.example:80\r\n\r\n", 421},
		{"a name that is not ours, lines", "GET /lines HTTP/1.1\r\nHost: evil.example\r\n\r\n", 421},
		{"a name that begins like ours", "GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", 421},
		{"no host that can be", "GET / HTTP/1.1\r\nHost: a/b@c\r\n\r\n", 400},
		{"our name", "GET / HTTP/1.1\r\nHost: MAP.example.org.:80\r\n\r\n", 200},
		{"localhost", "GET / HTTP/1.1\r\nHost: localhost:1\r\n\r\n", 200},
		{"another origin", "POST " + position + " HTTP/1.1\r\n" + host + "Origin: https://evil.example\r\nContent-Length: 0\r\n\r\n", 403},
		{"a null origin", "POST " + position + " HTTP/1.1\r\n" + host + "Origin: null\r\nContent-Length: 0\r\n\r\n", 403},
		{"another port", "POST " + position + " HTTP/1.1\r\n" + host + "Origin: http://127.0.0.1:1\r\nContent-Length: 0\r\n\r\n", 403},
		{"an origin of the configuration may not report", "POST " + position + " HTTP/1.1\r\n" + host + "Origin: http://map.example.org\r\nContent-Length: 0\r\n\r\n", 403},
		{"another referer", "GET " + position + " HTTP/1.1\r\n" + host + "Referer: http://evil.example/" + r.addr + "\r\n\r\n", 403},
		{"a referer with our name as user", "GET " + position + " HTTP/1.1\r\n" + host + "Referer: http://" + r.addr + "@evil.example/\r\n\r\n", 403},
		{"two origins", "POST " + position + " HTTP/1.1\r\n" + host + "Origin: http://" + r.addr + "\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n", 403},
		{"fetched across sites", "GET " + position + " HTTP/1.1\r\n" + host + "Sec-Fetch-Site: cross-site\r\n\r\n", 403},
		{"fetched on the same site", "GET / HTTP/1.1\r\n" + host + "Sec-Fetch-Site: same-site\r\n\r\n", 403},
		{"a preflight", "OPTIONS / HTTP/1.1\r\n" + host + "Origin: http://evil.example\r\nAccess-Control-Request-Method: POST\r\n\r\n", 403},
		{"an image", "GET " + position + " HTTP/1.1\r\n" + host + "Accept: image/avif,image/webp,*/*;q=0.8\r\n\r\n", 403},
		{"a page", "GET " + position + " HTTP/1.1\r\n" + host + "Accept: TEXT/HTML\r\n\r\n", 403},
		// What a browser sends for <script referrerpolicy=no-referrer> to plain HTTP that is not its own machine.
		{"a script", "GET " + position + " HTTP/1.1\r\n" + host + "Accept: */*\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\r\n", 403},
		{"an Android app's", "GET /?id=app&lat=1&lon=2 HTTP/1.1\r\n" + host + "User-Agent: Dalvik/2.1.0 (Linux; U; Android 14)\r\n\r\n", 200},
		{"our own page's", "POST /?id=own&lat=1&lon=2 HTTP/1.1\r\n" + host + "Origin: http://" + r.addr + "\r\nReferer: http://" + r.addr + "/\r\nSec-Fetch-Site: same-origin\r\nContent-Length: 0\r\n\r\n", 200},
		{"an app's", "GET /?id=app&lat=1&lon=2 HTTP/1.1\r\n" + host + "Accept: */*\r\n\r\n", 200},
		{"another method", "DELETE " + position + " HTTP/1.1\r\n" + host + "\r\n", 405},
		{"another method of lines", "POST /lines HTTP/1.1\r\n" + host + "Content-Length: 0\r\n\r\n", 405},
		{"lines from elsewhere", "GET /lines HTTP/1.1\r\n" + host + "Origin: http://evil.example\r\n\r\n", 403},
		{"lines from a name with another port", "GET /lines HTTP/1.1\r\n" + host + "Origin: http://map.example.org:81\r\n\r\n", 403},
		{"lines from another scheme", "GET /lines HTTP/1.1\r\n" + host + "Origin: http://other.example:8443\r\n\r\n", 403},
		{"lines, no WebSocket", "GET /lines HTTP/1.1\r\n" + host + "Origin: https://other.example:8443\r\n\r\n", 426},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			status, body, header := r.once(c.request)
			if status != c.want {
				t.Errorf("it is answered %d %q, want %d", status, body, c.want)
			}
			for name := range header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("it allows others: %s", name)
				}
			}
			if header.Get("Referrer-Policy") != "no-referrer" && status != 400 {
				t.Error("no Referrer-Policy")
			}
		})
	}
	if r.held("evil") != "" {
		t.Error("another site has reported something")
	}
}

// C18: newcomers that make others give way, and are refused, leave nothing behind.
func TestConnectionsThatGiveWay(t *testing.T) {
	r := start(t, rigged{conns: 4})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, byte(1+i))}}
			for range 50 {
				nc, err := d.Dial("tcp", r.addr)
				if err != nil {
					t.Error(err)
					return
				}
				io.WriteString(nc, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
				nc.SetReadDeadline(time.Now().Add(20 * time.Second))
				nc.Read(make([]byte, 1)) // answered, or closed
				if i%2 == 0 {
					defer nc.Close()
				} else {
					nc.Close()
				}
			}
		})
	}
	all.Wait()
	await(t, "no connection is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 && len(r.s.connections()) == 0 })
}
