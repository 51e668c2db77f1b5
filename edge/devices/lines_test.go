package devices

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"herd/edge/command"
	"herd/edge/server"
)

// A line client is a WebSocket on /lines.
type lineClient struct {
	t  *testing.T
	ws *websocket.Conn
}

func (r *rig) lines(target string, header http.Header) *lineClient {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	ws, _, err := websocket.Dial(ctx, "ws://"+r.addr+target, &websocket.DialOptions{HTTPHeader: header})
	if err != nil {
		r.t.Fatal(err)
	}
	ws.SetReadLimit(1 << 20)
	r.t.Cleanup(func() { ws.CloseNow() })
	return &lineClient{r.t, ws}
}

func (c *lineClient) say(message string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := c.ws.Write(ctx, websocket.MessageText, []byte(message)); err != nil {
		c.t.Fatal(err)
	}
}

func (c *lineClient) next() (websocket.MessageType, string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	kind, text, err := c.ws.Read(ctx)
	return kind, string(text), err
}

func (c *lineClient) wants(answers ...string) {
	c.t.Helper()
	for _, want := range answers {
		kind, got, err := c.next()
		if err != nil {
			c.t.Fatalf("%v in place of %q", err, want)
		}
		if got != want || kind != websocket.MessageText {
			c.t.Errorf("message %v %q, want %q", kind, got, want)
		}
	}
}

// closes waits for the end, and returns why.
func (c *lineClient) closes() websocket.StatusCode {
	c.t.Helper()
	for {
		if _, _, err := c.next(); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				c.t.Error("it is not closed")
			}
			return websocket.CloseStatus(err)
		}
	}
}

// V2: each answer is a message of its own, whatever came in one.
func TestLinesOverAWebSocket(t *testing.T) {
	r := start(t, rigged{})
	c := r.lines("/lines", http.Header{"Origin": {"http://" + r.addr}})
	const kiwi = "AT Clark +78535173.123456789 kiwi +34.0689-118.4451 1621464827"
	const json = "{\n\"status\": \"ZERO_RESULTS\"\n}"
	c.say("IAMAT kiwi +34.0689-118.4451 1621464827")
	c.wants(kiwi)
	c.say("IAMAT kiwi +34.0689-118.4451 1621464827\r\nWHATSAT kiwi 10 5\n\n  \nnonsense\t\r\nIAMAT kiwi +34.0689-118.4451 1621464827\nWHATSAT kiwi 10 5\nGET / HTTP/1.1\nWHATSAT emu 1 1")
	c.wants(kiwi, kiwi+"\n"+json+"\n", "? nonsense\t", kiwi, kiwi+"\n"+json+"\n", "? GET / HTTP/1.1", "? WHATSAT emu 1 1")
	c.say("")
	c.say("? \f\n\f\n" + strings.Repeat("x", 5000) + "\nAT")
	c.wants("? ? \f", "? "+strings.Repeat("x", 64), "? AT")
	c.say("IAMAT \xc3\xa9 +1+2 3")
	c.wants("AT Clark +1699999997.123456789 \u00e9 +1+2 3")
}

// V2: an answer that is no text goes as bytes. The client has to send such an id in another way: its
// own messages are text.
func TestAnswersThatAreNoText(t *testing.T) {
	r := start(t, rigged{})
	if got := r.get("/?id=%ff&lat=1&lon=2&timestamp=3"); got != 200 {
		t.Fatal(got)
	}
	// A server of WebSockets may pass on text that is none; this one does not look.
	c := r.lines("/lines", nil)
	c.say("WHATSAT \xff 0 0")
	kind, text, err := c.next()
	if err != nil || kind != websocket.MessageBinary || !strings.HasPrefix(text, "AT Clark +1699999997.123456789 \xff +1+2 3\n{") {
		t.Errorf("%v %q %v", kind, text, err)
	}
}

// V2: what closes a WebSocket, and that what is cut off is no command.
func TestWhatClosesAWebSocket(t *testing.T) {
	r := start(t, rigged{})
	c := r.lines("/lines", nil)
	if err := c.ws.Write(t.Context(), websocket.MessageBinary, []byte("IAMAT b +1+2 3\n")); err != nil {
		t.Fatal(err)
	}
	if got := c.closes(); got != websocket.StatusUnsupportedData {
		t.Errorf("a binary message: %d", got)
	}
	c = r.lines("/lines", nil)
	c.say("IAMAT whole +1+2 3\n" + strings.Repeat(" ", maxMessage-19))
	c.wants("AT Clark +1699999997.123456789 whole +1+2 3")
	c.say(strings.Repeat("\n", maxMessage-8) + "IAMAT cut +1+2 1234")
	if got := c.closes(); got != websocket.StatusMessageTooBig {
		t.Errorf("a message of over 256 KiB: %d", got)
	}
	if r.held("b") != "" || r.held("cut") != "" {
		t.Error("what is no line had an effect")
	}
	await(t, "no connection is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 && len(r.s.connections()) == 0 })
}

// V2: a message that is cut off ends in no line, wherever it is cut and however the connection ends.
// What comes of it could be a command with other numbers than those that were meant.
func TestAMessageThatIsCutOff(t *testing.T) {
	const cut = "IAMAT cut +1+2 12" // of a longer time
	// frame is one of a client, whose mask is zeros, with room for size bytes.
	frame := func(first byte, size int, payload string) string {
		return string([]byte{first, 0x80 | 126, byte(size >> 8), byte(size), 0, 0, 0, 0}) + payload
	}
	const part, whole, more, all = 0x01, 0x81, 0x00, 0x80
	fill := strings.Repeat(" ", 2<<10) // as much as is read at once
	closing := string([]byte{0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8})
	for name, sent := range map[string]string{
		"within a frame":                 frame(whole, len(cut)+8, cut),
		"where a read ends":              frame(whole, len(fill)+8, fill[len(cut):]+cut),
		"behind a part":                  frame(part, len(cut), cut),
		"behind two parts":               frame(part, 5, cut[:5]) + frame(more, len(cut)-5, cut[5:]),
		"in the head of a frame":         frame(part, len(cut), cut) + frame(all, 8, "")[:3],
		"behind the head of a frame":     frame(part, len(cut), cut) + frame(all, 8, ""),
		"by a good-bye":                  frame(part, len(cut), cut) + closing,
		"by another message":             frame(part, len(cut), cut) + frame(whole, 1, "\n"),
		"by a message that is too large": strings.Repeat(frame(part, 32<<10, strings.Repeat(" ", 32<<10)), 1) + strings.Repeat(frame(more, 32<<10, strings.Repeat(" ", 32<<10)), 6) + frame(more, 32<<10, strings.Repeat(" ", 32<<10-len(cut))+cut) + frame(all, 8, "34567890"),
	} {
		for _, ends := range []string{"closed", "half-closed", "reset"} {
			t.Run(name+", "+ends, func(t *testing.T) {
				r := start(t, rigged{})
				c := r.dial()
				c.send("GET /lines HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
					"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n")
				if status, _, _ := c.answer(); status != http.StatusSwitchingProtocols {
					t.Fatalf("it is answered %d", status)
				}
				const before = "IAMAT before +1+2 3"
				c.send(frame(whole, len(before), before) + sent)
				await(t, "what came before counts", func() bool { return r.held("before") != "" })
				switch tcp := c.nc.(*net.TCPConn); ends {
				case "half-closed":
					tcp.CloseWrite()
				case "reset":
					tcp.SetLinger(0)
					tcp.Close()
				default:
					tcp.Close()
				}
				await(t, "no connection is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 && len(r.s.connections()) == 0 })
				if r.held("cut") != "" || strings.Contains(r.rec.String(), "cut") {
					t.Errorf("what is no line had an effect: %q\n%s", r.held("cut"), strings.ReplaceAll(r.rec.String(), fill, ""))
				}
			})
		}
	}
}

// C19: a stop says good-bye.
func TestAStopClosesWebSockets(t *testing.T) {
	r := start(t, rigged{})
	c := r.lines("/lines", nil)
	c.say("IAMAT kiwi +1+2 3")
	c.wants("AT Clark +1699999997.123456789 kiwi +1+2 3")
	r.stop()
	if got := c.closes(); got != websocket.StatusGoingAway {
		t.Errorf("closed with %d", got)
	}
	if err := <-r.ended; err != nil {
		t.Errorf("it ends with %v", err)
	}
	r.ended = nil
	if text := r.rec.String(); strings.Count(text, "+ connected") != 1 || strings.Count(text, "- closed: stop") != 1 {
		t.Errorf("written down:\n%s", text)
	}
}

// C18: the idle go, and each WebSocket counts once.
func TestWebSocketsCount(t *testing.T) {
	r := start(t, rigged{conns: 3, lines: server.Config{IdleTimeout: time.Second}})
	c := r.lines("/lines", nil)
	if n := r.s.cfg.Gate.Stats().Connections; n != 1 {
		t.Errorf("%d connections", n)
	}
	c.closes()
	await(t, "none is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 })
}

// V5: on lines a user reports, and sees, only its own.
func TestLinesOfAUser(t *testing.T) {
	for _, all := range []bool{false, true} {
		r := start(t, rigged{users: hashed(t, "alice", "a") + hashed(t, "bob", "b"), see: all})
		b := r.lines("/t/bob:b/lines", nil)
		b.say("IAMAT bob/phone +1+2 3")
		b.wants("AT Clark +1699999997.123456789 bob/phone +1+2 3")
		a := r.lines("/lines", http.Header{"Authorization": {strings.TrimSuffix(strings.TrimPrefix(basic("alice", "a"), "Authorization: "), "\r\n")}})
		a.say("IAMAT bob/phone +1+2 4\nIAMAT bob +1+2 4\nIAMAT alice/../bob +1+2 3\nIAMAT alicex +1+2 4\nIAMAT alice +1+2 3")
		a.wants("? IAMAT bob/phone +1+2 4", "? IAMAT bob +1+2 4", "AT Clark +1699999997.123456789 alice/../bob +1+2 3", "? IAMAT alicex +1+2 4",
			"AT Clark +1699999997.123456789 alice +1+2 3")
		a.say("WHATSAT bob/phone 0 0")
		_, got, err := a.next()
		if seen := strings.HasPrefix(got, "AT "); err != nil || seen != all {
			t.Errorf("all %v: alice is told of bob %q, %v", all, got, err)
		}
	}
}

// Answers are told apart whatever they are, as they leave in one write (V2).
func TestAnswersAreCutApart(t *testing.T) {
	parts := []string{"AT a\n", "? x\n", "! w IN a\n", "AT a\n{\n \"x\": 1\n}\n\n", command.Mark + "AT a\nAT b\n\n", "AT a\n", command.Mark + "AT a\n\n", "? {\n", "AT a\n{}\n\n"}
	want := []string{"AT a", "? x", "! w IN a", "AT a\n{\n \"x\": 1\n}\n", "AT a\nAT b\n", "AT a", "AT a\n", "? {", "AT a\n{}\n"}
	var got []string
	for p := []byte(strings.Join(parts, "")); len(p) > 0; {
		answer, size := cutAnswer(p)
		got = append(got, string(answer))
		p = p[size:]
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
}

// C20: what a WebSocket is answered is written down a line for each, without the marks of V2, also where what
// is refused ends as a mark does.
func TestTheTranscriptOfAWebSocketHasEachLine(t *testing.T) {
	r := start(t, rigged{})
	c := r.lines("/lines", nil)
	c.say("hello\f\n\v x \f\nbye")
	c.wants("? hello\f", "? \v x \f", "? bye")
	await(t, "all is written down", func() bool { return strings.Contains(r.rec.String(), "? hello\f\n? \v x \f\n") })

	const at = "AT Clark +1699999997.123456789 kiwi +1+2 3\n"
	said := "? hello\f\n" + command.Mark + at + "\n" + command.Mark + at + "\n? \f\n"
	for said, want := range map[string]string{said: "? hello\f\n" + at + "\n" + at + "\n? \f\n", command.Mark + at + "\n" + at: at + "\n" + at} {
		if got := withoutMarks([]byte(said)); string(got) != want {
			t.Errorf("%q\nwant %q", got, want)
		}
	}
}

// C18: a WebSocket that takes no answers is not read any more, and closed after HERD_WRITE_TIMEOUT.
func TestAWebSocketThatTakesNothing(t *testing.T) {
	r := start(t, rigged{lines: server.Config{WriteTimeout: 300 * time.Millisecond}})
	c := r.lines("/lines", nil)
	c.say("IAMAT kiwi +1+2 3")
	c.wants("AT Clark +1699999997.123456789 kiwi +1+2 3")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	message := []byte(strings.Repeat("WHATSAT kiwi 0 0\n", 10_000))
	for sent := 0; ; sent++ {
		if err := c.ws.Write(ctx, websocket.MessageText, message); err != nil {
			break
		}
		if sent == 1000 {
			t.Fatal("it reads on")
		}
	}
	await(t, "it is closed", func() bool { return strings.Contains(r.rec.String(), "- closed: write\n") })
	await(t, "no connection is left", func() bool { return r.s.cfg.Gate.Stats().Connections == 0 && len(r.s.connections()) == 0 })
}
