package test

import (
	"fmt"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"
)

// said is one line of a client and its answer. `{AT}` stands for `AT Clark` and a skew.
type said struct{ line, answer string }

func accepted(rest string) said { return said{"IAMAT " + rest, "{AT} " + rest} }
func refused(line string) said  { return said{line, "? " + line} }

var atAndSkew = regexp.MustCompile(`^AT Clark [+-]\d+\.\d{9} `)

// converse sends all lines in one write, and compares all answers.
func converse(t *testing.T, addr string, lines ...said) {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	var text strings.Builder
	for _, s := range lines {
		text.WriteString(s.line + "\n")
	}
	c.send(text.String())
	c.CloseWrite()
	for _, s := range lines {
		got := c.line()
		if strings.HasPrefix(s.answer, "{AT} ") {
			got = atAndSkew.ReplaceAllString(got, "{AT} ")
		}
		if got != s.answer {
			t.Errorf("%.200q is answered\n%.200q, want\n%.200q", s.line, got, s.answer)
		}
	}
	c.end()
}

// lookup returns the AT line that an edge holds of a client, or the echo with `? `.
func lookup(t *testing.T, addr, client string) string {
	t.Helper()
	c := dial(t, addr)
	defer c.Close()
	at, _ := c.whatsat(client + " 0 0")
	return at
}

const (
	ucla = "+34.068930-118.445127"
	then = "1621464827.959498503"
)

// The rules C1 to C17 in order, as a client sees them on a running edge.
func TestAnEdgeKeepsTheClientProtocol(t *testing.T) {
	quiet(t)
	h, e := herdtest.StartLone(t, nil)
	addr := e.Addr

	t.Run("C1 pipelined commands are answered in order", func(t *testing.T) {
		c := dial(t, addr)
		var text strings.Builder
		const n = 2000
		for i := range n {
			fmt.Fprintf(&text, "IAMAT c1-%d %s %d.5\nWHATSAT c1-%d 0 0\nline %d\n", i, ucla, i, i, i)
		}
		go c.Write([]byte(text.String())) // concurrently with reading: there is more than the buffers hold
		for i := range n {
			want := fmt.Sprintf("{AT} c1-%d %s %d.5", i, ucla, i)
			at := c.line()
			if got := atAndSkew.ReplaceAllString(at, "{AT} "); got != want {
				t.Fatalf("answer %d is %q, want %q", i, got, want)
			}
			if got, err := herdtest.ReadWhatsat(c.r); err != nil || got != at {
				t.Fatalf("answer %d is %q, %v, want %q", i, got, err, at)
			}
			c.expect(fmt.Sprintf("? line %d\n", i))
		}
	})
	t.Run("C1 a command may come in single bytes", func(t *testing.T) {
		c := dial(t, addr)
		c.SetNoDelay(true)
		for _, b := range []byte("IAMAT c1-bytes " + ucla + " 5\n") {
			c.send(string([]byte{b}))
		}
		if got := atAndSkew.ReplaceAllString(c.line(), "{AT} "); got != "{AT} c1-bytes "+ucla+" 5" {
			t.Errorf("answered %q", got)
		}
	})
	t.Run("C1 the end of the stream ends a line", func(t *testing.T) {
		got := talk(t, addr, "hello\nIAMAT c1-end "+ucla+" 7.25")
		if got := strings.Split(got, "\n"); len(got) != 3 || got[0] != "? hello" ||
			atAndSkew.ReplaceAllString(got[1], "{AT} ") != "{AT} c1-end "+ucla+" 7.25" || got[2] != "" {
			t.Errorf("answered %q", got)
		}
		if got := talk(t, addr, ""); got != "" {
			t.Errorf("nothing is answered %q", got)
		}
	})
	t.Run("C2 six bytes are white space", func(t *testing.T) {
		converse(t, addr,
			said{"\t\v\f\r IAMAT\tc2-a\v" + ucla + "\f5\r ", "{AT} c2-a " + ucla + " 5"},
			said{"IAMAT \t c2-b \r\r " + ucla + "\v\f5 \t\r", "{AT} c2-b " + ucla + " 5"})
	})
	t.Run("C2 all other bytes belong to fields", func(t *testing.T) {
		for _, id := range []string{"a\x00b", "\xff\xfe", "\x85", "\xa0", "\u00a0", "\u2003", "\x1c\x1d\x1e\x1f", "\x01", "\x7f", "日本", "\"'\\%s", "?", "AT"} {
			converse(t, addr, accepted(id+" "+ucla+" 5"))
			if got := lookup(t, addr, id); !strings.HasSuffix(got, " "+id+" "+ucla+" 5") {
				t.Errorf("%q is found as %q", id, got)
			}
		}
		converse(t, addr, refused("IAMAT\u00a0a "+ucla+" 5"), refused("\x00IAMAT a "+ucla+" 5"))
	})
	t.Run("C3 blank lines have no answer", func(t *testing.T) {
		if got := talk(t, addr, "\n\r\n \t\v\f\r\n\n   \nhello\n \n\t"); got != "? hello\n" {
			t.Errorf("answered %q", got)
		}
	})
	t.Run("C4 what is no command comes back", func(t *testing.T) {
		good := "c4 " + ucla + " 5"
		converse(t, addr,
			refused("hello world"), refused("  two  words  "), refused("\x00\xff"), refused("?"), refused("? ? ?"),
			said{"crlf\r", "? crlf"}, said{"two cr\r\r", "? two cr\r"}, said{"in\rside\r", "? in\rside"},
			refused("iamat "+good), refused("IAMATc4 "+ucla+" 5"), refused("IAMAT"), refused("IAMAT c4"), refused("IAMAT c4 "+ucla),
			refused("IAMAT "+good+" 6"), refused("WHATSAT"), refused("WHATSAT c4"), refused("WHATSAT c4 10"), refused("WHATSAT c4 10 5 1"),
			refused("WHATSAT c4 10 5"))
		if got := lookup(t, addr, "c4"); got != "? WHATSAT c4 0 0" {
			t.Errorf("a refused command had an effect: %q", got)
		}
	})
	t.Run("C5 a line of 4096 bytes is a line", func(t *testing.T) {
		long := strings.Repeat("x", 4096)
		converse(t, addr, refused(long), said{long + "\r", "? " + long}, said{"IAMAT y " + ucla + strings.Repeat(" ", 3000) + "5", "{AT} y " + ucla + " 5"})
	})
	t.Run("C5 a longer one has its first 64 bytes for an answer", func(t *testing.T) {
		first := strings.Repeat("abcdefg ", 8)
		for _, n := range []int{4097, 5000, 1 << 20} {
			converse(t, addr,
				said{first + strings.Repeat("x", n-64), "? " + first},
				refused("next"),
				said{strings.Repeat(" ", n), "? " + strings.Repeat(" ", 64)},
				said{strings.Repeat("z", n-len(" IAMAT c5 "+ucla+" 5")) + " IAMAT c5 " + ucla + " 5", "? " + strings.Repeat("z", 64)},
				accepted("c5-next "+ucla+" 5"))
		}
		if got := talk(t, addr, strings.Repeat("q", 5000)); got != "? "+strings.Repeat("q", 64)+"\n" {
			t.Errorf("at the end of the stream it is answered %q", got)
		}
		if got := lookup(t, addr, "c5"); got != "? WHATSAT c5 0 0" {
			t.Errorf("the tail of a long line had an effect: %q", got)
		}
	})
	t.Run("C6 a client has 1 to 1024 bytes", func(t *testing.T) {
		id := strings.Repeat("k", 1023)
		converse(t, addr, accepted("k "+ucla+" 5"), accepted(id+"1 "+ucla+" 5"), refused("IAMAT "+id+"12 "+ucla+" 5"))
	})
	t.Run("C7 locations", func(t *testing.T) {
		digits := func(n int) string { return strings.Repeat("1", n) }
		for _, good := range []string{
			ucla, "+1+1", "-1-1", "+0-0", "+90+180", "-90-180", "+90.0-180.000", "+05+005", "+5+05", "+12.5+123.5/", "+1+1/", "-0.0+0.0",
			"+89.9999999999+179.9999999999", "+1." + digits(59) + "+1", "+90.000+0/",
		} {
			converse(t, addr, accepted("c7 "+good+" 5"))
		}
		for _, bad := range []string{
			"34+118", "+34", "+34118", "+34-", "-118", "++34-118", "+34--118", "+90.0000001+0", "+91+0", "-90.1+0", "+0+180.1", "+0-181", "+0+999",
			"+3404.1-11826.7", "+001+1", "+1+0001", "+1.+1", "+1+1.", "+.5+1", "+1+.5", "+1+1+1", "+1+1-5/", "+1+1CRSWGS_84/", "+1+1//", "/+1+1", "+1/+1", "/",
			"+1,5+1", "+1e1+1", "+nan+nan", "+inf+1", "+0x1+1", "+1+1\x00", "\uff0b1\uff0b1", "+1\u00b2+1", "−1−1",
			"+1." + digits(60) + "+1", "+90." + strings.Repeat("0", 50) + "1+0", "+0+180." + strings.Repeat("0", 50) + "1",
		} {
			converse(t, addr, refused("IAMAT c7 "+bad+" 5"))
		}
	})
	t.Run("C8 times", func(t *testing.T) {
		for _, good := range []string{"0", "5", then, "0000000001", "9200000000", "9200000000.000000000", "1.1234567890123", "1.0", "0.000000001", "9199999999.999999999999", "1." + strings.Repeat("9", 62)} {
			converse(t, addr, accepted("c8 "+ucla+" "+good))
		}
		for _, bad := range []string{"-1", "+1", "9200000001", "9999999999", "12345678901", "00000000001", "1e9", "1E9", "nan", "NaN", "inf", "1.", ".5", ".", "1,5", "0x10", "1_000", "1.5.5", "1.-5", "1.5e1", "\u0661", "1." + strings.Repeat("9", 63)} {
			converse(t, addr, refused("IAMAT c8 "+ucla+" "+bad))
		}
	})
	t.Run("C9 three fields come back byte for byte", func(t *testing.T) {
		converse(t, addr,
			accepted("c9 +34.068930-118.4451270/ 1621464827.9594985030001"),
			said{" IAMAT  c9\t+01.50-001.50  0000000009.90 \r", "{AT} c9 +01.50-001.50 0000000009.90"})
	})
	t.Run("C10 the skew is receipt less time, exactly", func(t *testing.T) {
		now := time.Now().UnixNano()
		for _, ns := range []int64{0, 1, 999_999_999, 1_621_464_827_959_498_503, now, now + 500_000_000, now + 60_000_000_000, 9_200_000_000_000_000_000} {
			before := time.Now().UnixNano()
			answer := strings.TrimSuffix(talk(t, addr, "IAMAT c10 "+ucla+" "+posix(ns)+"\n"), "\n")
			after := time.Now().UnixNano()
			skew := strings.Split(answer, " ")[2]
			if !regexp.MustCompile(`^[+-](0|[1-9]\d*)\.\d{9}$`).MatchString(skew) || skew == "-0.000000000" {
				t.Fatalf("the skew is %q", skew)
			}
			exact, _ := new(big.Rat).SetString(skew)
			exact.Mul(exact, big.NewRat(1e9, 1))
			if !exact.IsInt() {
				t.Fatalf("the skew is %q", skew)
			}
			if receipt := exact.Num().Int64() + ns; receipt < before || receipt > after {
				t.Errorf("of time %s the skew is %s: received at %s, not from %s to %s", posix(ns), skew, posix(receipt), posix(before), posix(after))
			}
		}
	})
	t.Run("C11 what is older or the same is answered and stores nothing", func(t *testing.T) {
		converse(t, addr, accepted("c11 "+ucla+" 100.5"))
		first := lookup(t, addr, "c11")
		for _, same := range []string{ucla + " 100.5", ucla + " 100.499999999", "+1+1 100.4999999999", "+1+1 0", ucla + " 100.500000000", ucla + " 0000000100.5", ucla + " 100.5000000009"} {
			converse(t, addr, accepted("c11 "+same))
			if got := lookup(t, addr, "c11"); got != first {
				t.Fatalf("after %q it holds %q, not %q", same, got, first)
			}
		}
		// The same time at another location is no repetition: S2 compares receipts.
		for _, newer := range []string{"+1+1 100.5", "+2+2 100.500000001", "+2+2 101"} {
			converse(t, addr, accepted("c11 "+newer))
			if got := lookup(t, addr, "c11"); !strings.HasSuffix(got, " c11 "+newer) {
				t.Errorf("after %q it holds %q", newer, got)
			}
		}
	})
	t.Run("S2 a time far ahead freezes a client for a minute at most", func(t *testing.T) {
		now := time.Now().UnixNano()
		converse(t, addr, accepted("s2 "+ucla+" 9200000000"))
		ahead := "s2 +1+1 " + posix(now+58e9) // less than a minute ahead: older
		converse(t, addr, accepted(ahead))
		if got := lookup(t, addr, "s2"); !strings.HasSuffix(got, " 9200000000") {
			t.Errorf("it holds %q", got)
		}
		later := "s2 +1+1 9000000000" // as far ahead as can be, received later
		converse(t, addr, accepted(later))
		if got := lookup(t, addr, "s2"); !strings.HasSuffix(got, later) {
			t.Errorf("it holds %q", got)
		}
	})
	t.Run("C12 radius and max have bounds", func(t *testing.T) {
		converse(t, addr, accepted("c12 "+ucla+" 5"))
		c := dial(t, addr)
		for _, good := range []string{"10 5", "0 0", "9.5 20", "50 1", "50.0 05", "50.000 0", "0.0 20", "0.001 1", "10 00"} {
			if at, _ := c.whatsat("c12 " + good); !strings.HasSuffix(at, " c12 "+ucla+" 5") {
				t.Errorf("%s: %q", good, at)
			}
		}
		for _, bad := range []string{"50.1 5", "50.0000001 5", "51 5", "100 5", "-1 5", "+1 5", "1e1 5", "nan 5", "inf 5", ".5 5", "5. 5", "1,5 5", "10 21", "10 99", "10 100", "10 005", "10 -1", "10 +1", "10 1.5", "10 x", "x 5", "0x1 5"} {
			if at, _ := c.whatsat("c12 " + bad); at != "? WHATSAT c12 "+bad {
				t.Errorf("%s: %q", bad, at)
			}
		}
		for _, nothing := range []string{"0 20", "10 0", "0.000 5", "0 0"} {
			_, text := c.whatsat("c12 " + nothing)
			if a := nearby(t, text); len(a.Results) != 0 || a.Status != "ZERO_RESULTS" || a.ErrorMessage != "" {
				t.Errorf("%s: %+v", nothing, a)
			}
		}
	})
	t.Run("C13 an unknown client", func(t *testing.T) {
		converse(t, addr, refused("WHATSAT c13 10 5"), said{"  WHATSAT\tc13 10  5\r", "?   WHATSAT\tc13 10  5"})
	})
	t.Run("C14 the AT line, a JSON text, two LFs", func(t *testing.T) {
		told := talk(t, addr, "IAMAT c14 "+ucla+" 5\n")
		answers := talk(t, addr, "WHATSAT c14 10 5\nWHATSAT c14 0 0\nhello\n")
		first, rest, _ := strings.Cut(answers, "\n")
		one, rest, _ := strings.Cut(rest, "\n\n")
		second, rest, _ := strings.Cut(rest, "\n")
		two, rest, _ := strings.Cut(rest, "\n\n")
		if first+"\n" != told || second+"\n" != told || rest != "? hello\n" {
			t.Fatalf("answered %q, told %q", answers, told)
		}
		nearby(t, one)
		nearby(t, two)
	})
	t.Run("C15 five real places at UCLA", func(t *testing.T) {
		talk(t, addr, "IAMAT c15 "+ucla+" 5\n")
		c := dial(t, addr)
		for _, q := range []struct {
			radius  string
			km      float64
			max     int
			results int
		}{{"10", 10, 5, 5}, {"10", 10, 20, 20}, {"2.5", 2.5, 1, 1}, {"50", 50, 20, 20}} {
			_, text := c.whatsat(fmt.Sprintf("c15 %s %d", q.radius, q.max))
			a := nearby(t, text)
			if len(a.Results) != q.results || a.Status != "OK" || len(a.Attributions) == 0 {
				t.Fatalf("radius %s, max %d: %+v", q.radius, q.max, a)
			}
			last, seen := 0.0, map[string]bool{}
			for _, p := range a.Results {
				at := p.Geometry.Location
				away := kilometres(34.068930, -118.445127, at.Lat, at.Lng)
				if p.Name == "" || away > q.km*1.006 || away < last*0.99 || seen[p.Name] {
					t.Errorf("radius %s: %q is %.3f km away, after %.3f km", q.radius, p.Name, away, last)
				}
				last, seen[p.Name] = away, true
			}
		}
	})
	t.Run("C15 where nothing is near", func(t *testing.T) {
		talk(t, addr, "IAMAT c15-sea -48.876667-123.393333 5\n") // Point Nemo
		c := dial(t, addr)
		_, text := c.whatsat("c15-sea 50 20")
		if a := nearby(t, text); len(a.Results) != 0 || a.Status != "ZERO_RESULTS" {
			t.Errorf("%+v", a)
		}
	})
	t.Run("C17 AT is refused", func(t *testing.T) {
		converse(t, addr, accepted("c17 "+ucla+" 5"))
		held := lookup(t, addr, "c17")
		converse(t, addr,
			refused("AT Clark +0.000000000 c17 +1+1 "+then), refused(held), refused("AT"),
			refused("AT Jaquez +0.263873386 c17-new "+ucla+" "+then))
		if got := lookup(t, addr, "c17"); got != held {
			t.Errorf("it holds %q, not %q", got, held)
		}
		if got := lookup(t, addr, "c17-new"); got != "? WHATSAT c17-new 0 0" {
			t.Errorf("it knows %q", got)
		}
	})
	t.Run("C17 a web page cannot post commands", func(t *testing.T) {
		for _, first := range []string{"GET / HTTP/1.1", "POST / HTTP/1.0", "hello HTTP/1.1", "IAMAT c17-web " + ucla + " HTTP/1.1"} {
			c := dial(t, addr)
			c.send(first + "\r\nIAMAT c17-web " + ucla + " 5\n")
			c.expect("? " + first + "\n")
			c.closed()
		}
		long := "GET /" + strings.Repeat("a", 9000) + " HTTP/1.1"
		c := dial(t, addr)
		c.send(long + "\r\nIAMAT c17-web " + ucla + " 5\n")
		c.expect("? " + long[:64] + "\n")
		c.closed()
		if got := lookup(t, addr, "c17-web"); got != "? WHATSAT c17-web 0 0" {
			t.Errorf("a web page told %q", got)
		}
		converse(t, addr, refused("hello"), refused("GET / HTTP/1.1"), refused("and on HTTP/1.1x"), accepted("c17-on "+ucla+" 5"))
	})
	t.Run("the same commands over NATS", func(t *testing.T) { endpoints(t, h) })
}

// endpoints tests the endpoints of the micro service herd-edge (docs/PROTOCOL.md).
func endpoints(t *testing.T, h *herdtest.Processes) {
	nc := operator(h)
	ask := func(endpoint, payload string) (string, string) {
		t.Helper()
		reply, err := nc.Request("herd.edge.Clark."+endpoint, []byte(payload), herdtest.Promise(5*time.Second))
		if err != nil {
			t.Fatalf("%s: %v", endpoint, err)
		}
		return string(reply.Data), reply.Header.Get("Nats-Service-Error-Code")
	}
	at, code := ask("iamat", "nats "+ucla+" 5")
	if atAndSkew.ReplaceAllString(at, "{AT} ") != "{AT} nats "+ucla+" 5\n" || code != "" {
		t.Errorf("iamat is answered %q, error %q", at, code)
	}
	answer, code := ask("whatsat", "nats 10 5")
	first, text, _ := strings.Cut(answer, "\n")
	if first+"\n" != at || !strings.HasSuffix(text, "\n\n") || code != "" {
		t.Errorf("whatsat is answered %q, error %q", answer, code)
	}
	if a := nearby(t, strings.TrimSuffix(text, "\n\n")); len(a.Results) != 5 {
		t.Errorf("whatsat: %+v", a)
	}
	// L1: the client, and one who is as near as can be.
	one, _ := ask("iamat", "nats-one +61.5+23.75 5")
	two, _ := ask("iamat", "nats-two +61.5+23.75 5")
	if who, code := ask("whosat", "nats-one 0.001 20"); !strings.HasPrefix(two, "AT ") || who != one+two+"\n" || code != "" {
		t.Errorf("whosat is answered %q, error %q", who, code)
	}
	// Nearest first, at equal distances by id; max counts without the client itself.
	four, _ := ask("iamat", "nats-four +61.5+23.7505 5")
	three, _ := ask("iamat", "nats-three +61.5+23.7495 5")
	for payload, want := range map[string]string{
		"nats-one 1 20": one + two + four + three, "nats-one 1 2": one + two + four, "nats-one 0 20": one, "nats-one 1 0": one,
		"nats-four 0.04 20": four + one + two,
	} {
		if who, code := ask("whosat", payload); who != want+"\n" || code != "" {
			t.Errorf("whosat %s is answered %q, error %q, want %q", payload, who, code, want)
		}
	}
	for _, bad := range [][3]string{
		{"iamat", "nats " + ucla, "? IAMAT nats " + ucla},
		{"iamat", "nats +91+0 5", "? IAMAT nats +91+0 5"},
		{"iamat", "", "? IAMAT"},
		{"whatsat", "nobody 10 5", "? WHATSAT nobody 10 5"},
		{"whatsat", "nats 10 21", "? WHATSAT nats 10 21"},
		{"whosat", "nobody 10 5", "? WHOSAT nobody 10 5"},
		{"whosat", "nats 51 5", "? WHOSAT nats 51 5"},
	} {
		got, code := ask(bad[0], bad[1])
		if got = strings.TrimSuffix(got, "\n"); strings.TrimRight(got, " ") != bad[2] || code != "400" {
			t.Errorf("%s %q is answered %q, error %q, want %q, 400", bad[0], bad[1], got, code, bad[2])
		}
	}
	s, err := askStatus(nc, "Clark")
	if err != nil {
		t.Fatal(err)
	}
	if s.Edge != "Clark" || !regexp.MustCompile(`^[0-9a-f]{16}-[0-9a-f]{8}$`).MatchString(s.Epoch) || s.Version == "" || !s.Ready || s.Clients == 0 || s.Revision == 0 || len(s.Links) != 0 {
		t.Errorf("status %+v", s)
	}
	found, err := nc.Request("$SRV.INFO.herd-edge", nil, herdtest.Promise(5*time.Second))
	if err != nil {
		t.Fatalf("micro info: %v", err)
	}
	for _, want := range []string{`"herd-edge"`, `"edge":"Clark"`, `"prefix":"herd"`, `"herd.edge.Clark.iamat"`, `"herd.edge.Clark.whatsat"`, `"herd.edge.Clark.whosat"`, `"herd.edge.Clark.status"`,
		`"herd.edge.Clark.client"`, `"herd.edge.Clark.cells"`, `"herd.edge.Clark.digest"`} {
		if !strings.Contains(string(found.Data), want) {
			t.Errorf("micro info lacks %s: %s", want, found.Data)
		}
	}
}
