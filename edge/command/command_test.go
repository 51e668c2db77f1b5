package command

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
)

// A client collects the answers of one session, in order.
type client struct {
	t      *testing.T
	s      *Session
	out    []func(client, stop context.Context) []byte
	closed bool
	room   int // 1 MiB at first
}

func (c *client) Append(p []byte) {
	p = bytes.Clone(p)
	c.out = append(c.out, func(context.Context, context.Context) []byte { return p })
}
func (c *client) Room() int { return c.room }
func (c *client) Close()    { c.closed = true }

func (c *client) InTurn(_ int, f func(dst []byte) []byte) {
	c.out = append(c.out, func(context.Context, context.Context) []byte { return f(nil) })
}

func (c *client) Follow(_ int, f func(dst []byte, wake func()) ([]byte, bool)) {
	c.out = append(c.out, func(context.Context, context.Context) []byte {
		answer, listing := f(nil, func() {})
		for listing {
			answer, _, listing = c.s.Tell(answer, 1)
		}
		return answer
	})
}

func (c *client) Later(_ int, f func(client, stop context.Context) []byte) { c.out = append(c.out, f) }

var received = time.Unix(1621464827, 959498503+263873386).UTC()

// say passes lines as one read and returns the answers.
func (c *client) say(lines string) []string {
	c.out = nil
	c.s.Take(received, []byte(lines), c)
	var answers []string
	for _, f := range c.out {
		answers = append(answers, string(f(c.t.Context(), c.t.Context())))
	}
	return answers
}

type found func(ctx context.Context, q Query) []byte

func (f found) Find(ctx context.Context, q Query) []byte { return f(ctx, q) }
func (f found) FindNow(Query) ([]byte, bool)             { return nil, false }

// atOnce returns the answers and fails the test if one of them waits.
type atOnce struct{ found }

func (f atOnce) FindNow(q Query) ([]byte, bool) { return f.found(context.Background(), q), true }

func open(t *testing.T, cfg Config) (*Handler, *client) {
	if cfg.Table == nil {
		cfg.Table = position.New(position.Config{})
	}
	if cfg.Finder == nil {
		cfg.Finder = found(func(context.Context, Query) []byte { return []byte(`{"places":1}`) })
	}
	cfg.Edge, cfg.PlacesTimeout = "Clark", time.Second
	h := New(cfg)
	return h, &client{t: t, s: h.Caller(netip.Addr{}).Session(), room: 1 << 20}
}

const (
	kiwi   = "IAMAT kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503"
	kiwiAT = "AT Clark +0.263873386 kiwi.cs.ucla.edu +34.068930-118.445127 1621464827.959498503\n"
)

func TestLinesAreAnsweredByTheirRules(t *testing.T) {
	for _, c := range []struct{ name, lines, want string }{
		{"C9 IAMAT", kiwi + "\n", kiwiAT},
		{"C9 fields are copied byte for byte, white space is not", " \tIAMAT\v kiwi.cs.ucla.edu \f+34.068930-118.445127  1621464827.959498503 \r\n", kiwiAT},
		{"C10 a client that runs ahead", "IAMAT c +1+1 1621464839.223371890\n", "AT Clark -11.000000001 c +1+1 1621464839.223371890\n"},
		{"C3 blank lines get no answer", "\n \t\v\f\r\n\r\n", ""},
		{"C4 no command", "HELLO herd\n", "? HELLO herd\n"},
		{"C4 a copy without its CRLF", "  x  y \r\n", "?   x  y \n"},
		{"C4 verbs are as they are written", "iamat c +1+1 1\n", "? iamat c +1+1 1\n"},
		{"C4 IAMAT with too few fields", "IAMAT c +1+1\n", "? IAMAT c +1+1\n"},
		{"C4 IAMAT with too many fields", "IAMAT c +1+1 1 1\n", "? IAMAT c +1+1 1 1\n"},
		{"C4 NUL and bytes that are no UTF-8", "IAMAT\x00\xff\n", "? IAMAT\x00\xff\n"},
		{"C7", "IAMAT c +91+1 1\n", "? IAMAT c +91+1 1\n"},
		{"C8", "IAMAT c +1+1 1e9\n", "? IAMAT c +1+1 1e9\n"},
		{"C12 a radius beyond 50", kiwi + "\nWHATSAT kiwi.cs.ucla.edu 51 5\n", kiwiAT + "? WHATSAT kiwi.cs.ucla.edu 51 5\n"},
		{"C12 more than 20", kiwi + "\nWHATSAT kiwi.cs.ucla.edu 10 21\n", kiwiAT + "? WHATSAT kiwi.cs.ucla.edu 10 21\n"},
		{"C13 an unknown client", "WHATSAT kiwi.cs.ucla.edu 10 5\n", "? WHATSAT kiwi.cs.ucla.edu 10 5\n"},
		{"C14", kiwi + "\nWHATSAT kiwi.cs.ucla.edu 10 5\n", kiwiAT + kiwiAT + "{\"places\":1}\n\n"},
		{"C17 AT from a client", kiwiAT, "? " + kiwiAT},
		{"C1 the last line lacks its LF", "x\n" + kiwi, "? x\n" + kiwiAT},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, client := open(t, Config{})
			if got := strings.Join(client.say(c.lines), ""); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if client.closed {
				t.Error("closed the connection")
			}
		})
	}
}

func TestAnOlderOrRepeatedIAMATIsAnsweredAndChangesNothing(t *testing.T) {
	table := position.New(position.Config{})
	_, c := open(t, Config{Table: table})
	c.say("IAMAT c +1+1 100\n")
	for _, line := range []string{"IAMAT c +1+1 100.0\n", "IAMAT c +2+2 99.999999999\n"} {
		if got := c.say(line); len(got) != 1 || !strings.HasPrefix(got[0], "AT Clark ") {
			t.Errorf("C11 %q: %q", line, got)
		}
	}
	if table.Head() != 1 {
		t.Errorf("C11 revision %d, want 1", table.Head())
	}
}

func TestAnOlderIAMATIsToldWithWhoseAndByHowMuch(t *testing.T) {
	for _, c := range []struct {
		name    string
		journal Journal
	}{{"answered at once", nil}, {"D3 waits for the journal", &kept{asked: make(chan []position.Ref, 10)}}} {
		t.Run(c.name, func(t *testing.T) {
			var told []string
			_, client := open(t, Config{Journal: c.journal, JournalTimeout: time.Second, Older: func(remote string, client []byte, by time.Duration) {
				told = append(told, fmt.Sprintf("%s %s %v", remote, client, by))
			}})
			client.s.Remote = "10.0.0.1:5"
			client.say("IAMAT c +1+1 619315300\nIAMAT d +1+1 100\nIAMAT c +2+2 100\nIAMAT c +1+1 619315300\nIAMAT d +2+2 99.5\nIAMAT d +2+2 101\nWHATSAT c 0 0\nIAMAT e +1+1 1\n")
			if want := []string{"10.0.0.1:5 c 172032h0m0s", "10.0.0.1:5 d 500ms"}; !slices.Equal(told, want) {
				t.Errorf("C11 told %q, want %q", told, want)
			}
		})
	}
}

func TestZeroAsksNoProvider(t *testing.T) {
	_, c := open(t, Config{Finder: found(func(context.Context, Query) []byte {
		t.Error("C12 a provider was asked")
		return nil
	})})
	c.say(kiwi + "\n")
	for _, line := range []string{"WHATSAT kiwi.cs.ucla.edu 0 5\n", "WHATSAT kiwi.cs.ucla.edu 0.000 5\n", "WHATSAT kiwi.cs.ucla.edu 5 0\n"} {
		got := strings.Join(c.say(line), "")
		text, ok := strings.CutSuffix(strings.TrimPrefix(got, kiwiAT), "\n\n")
		var answer struct {
			Results []any
			Status  string
		}
		if err := json.Unmarshal([]byte(text), &answer); err != nil || !ok || answer.Status != "ZERO_RESULTS" || answer.Results == nil || len(answer.Results) != 0 {
			t.Errorf("C12 %q: %q (%v)", line, got, err)
		}
	}
}

func TestCommandsTakeEffectInTheOrderReceived(t *testing.T) {
	asked := make(chan Query, 2)
	_, c := open(t, Config{Finder: found(func(_ context.Context, q Query) []byte { asked <- q; return []byte("{}") })})
	got := c.say("IAMAT c +1+2 100\nWHATSAT c 1 1\nIAMAT c -3.5-4 101\nWHATSAT c 9.5 20\n")
	if len(got) != 4 || !strings.Contains(got[1], " +1+2 100\n{}") || !strings.Contains(got[3], " -3.5-4 101\n{}") {
		t.Errorf("C16 %q", got)
	}
	if q := <-asked; q != (Query{1, 2, 1, 1}) {
		t.Errorf("C16 first asked %+v", q)
	}
	if q := <-asked; q != (Query{-3.5, -4, 9.5, 20}) {
		t.Errorf("C16 then asked %+v", q)
	}
}

func TestPlacesThatTakeNoWaitingAreAnsweredAtOnce(t *testing.T) {
	_, c := open(t, Config{Finder: atOnce{func(context.Context, Query) []byte { return []byte("{}") }}})
	c.out = nil
	c.s.Take(received, []byte(kiwi+"\nWHATSAT kiwi.cs.ucla.edu 10 5\nx\n"), ready{c})
	var got string
	for _, f := range c.out {
		got += string(f(t.Context(), t.Context()))
	}
	if want := kiwiAT + kiwiAT + "{}\n\n? x\n"; got != want {
		t.Errorf("C14 got %q, want %q", got, want)
	}
}

// ready is a client none of whose answers may wait.
type ready struct{ *client }

func (r ready) Later(int, func(client, stop context.Context) []byte) {
	r.t.Error("an answer waits that need not")
}

func TestPlacesEndAtTheirTimeLimit(t *testing.T) {
	h, c := open(t, Config{Finder: found(func(ctx context.Context, _ Query) []byte {
		if _, ok := ctx.Deadline(); !ok {
			t.Error("C16 no deadline")
		}
		<-ctx.Done()
		return []byte("late")
	})})
	h.cfg.PlacesTimeout = time.Millisecond
	c.say(kiwi + "\n")
	if got := strings.Join(c.say("WHATSAT kiwi.cs.ucla.edu 10 5\n"), ""); got != kiwiAT+"late\n\n" {
		t.Errorf("C16 %q", got)
	}
}

func TestAWebPageCannotPostCommands(t *testing.T) {
	for _, first := range []string{"GET / HTTP/1.1", "POST /x HTTP/1.0", kiwi + " HTTP/1.1"} {
		table := position.New(position.Config{})
		_, c := open(t, Config{Table: table})
		if got := strings.Join(c.say(first+"\r\n"+kiwi+"\n"), ""); got != "? "+first+"\n" || !c.closed || table.Head() != 0 {
			t.Errorf("C17 %q: %q, closed %v, revision %d", first, got, c.closed, table.Head())
		}
	}
	_, c := open(t, Config{})
	c.s.Overlong(received, []byte("POST /aaaa"), []byte("aaa HTTP/1.1\r"), c)
	if !c.closed || len(c.out) != 1 || string(c.out[0](t.Context(), t.Context())) != "? POST /aaaa\n" {
		t.Error("C17 an overlong first line of a web page does not close the connection")
	}
	_, c = open(t, Config{})
	if c.say("x\nGET / HTTP/1.1\n"); c.closed {
		t.Error("C17 closed for a line that is not the first")
	}
	c.s.Overlong(received, []byte("x"), []byte(" HTTP/1.1"), c)
	if c.closed {
		t.Error("C17 closed for an overlong line that is not the first")
	}
}

// The header that a load balancer sends about its client is no command (C17).
func TestAConnectionThatBeginsWithAProxyHeaderIsClosed(t *testing.T) {
	for name, begins := range map[string]string{
		"v1": "PROXY TCP4 192.0.2.1 192.0.2.2 56324 12000\r\n" + kiwi + "\n", "v1 of another kind": "PROXY UNKNOWN\r\n", "v1 over IPv6": "PROXY TCP6 ::1 ::1 1 2\r\n",
		"v2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\n" + kiwi + "\n",
	} {
		table := position.New(position.Config{})
		told := 0
		h, c := open(t, Config{Table: table, Proxied: func(string) { told++ }})
		if got := c.say(begins); len(got) != 0 || !c.closed || table.Head() != 0 || told != 1 {
			t.Errorf("C17 %s: answered %q, closed %v, revision %d, told %d times", name, got, c.closed, table.Head(), told)
		}
		if all := counted(h); len(all) != 1 || all[0] != (Count{Other, Proxied, 1}) {
			t.Errorf("C17 %s: counted %v", name, all)
		}
	}
	for _, first := range []string{"PROXY me\n", "PROXY\n", "\r\n\r\nQUIT\n"} {
		_, c := open(t, Config{})
		if got := c.say(first); len(got) != 1 || c.closed {
			t.Errorf("C4 %q: answered %q, closed %v", first, got, c.closed)
		}
	}
	_, c := open(t, Config{})
	if got := c.say(kiwi + "\n"); len(got) != 1 {
		t.Fatal(got)
	}
	if got := c.say("PROXY TCP4 192.0.2.1 192.0.2.2 56324 12000\n"); len(got) != 1 || c.closed {
		t.Errorf("C4 later it is a line as any other: %q, closed %v", got, c.closed)
	}
}

// counted returns the counts that are not zero.
func counted(h *Handler) []Count {
	return slices.DeleteFunc(h.Stats(), func(c Count) bool { return c.N == 0 })
}

// A rate needs a first value, so every counter exists from the start.
func TestCountersExistFromTheStart(t *testing.T) {
	h, _ := open(t, Config{})
	if all := h.Stats(); len(all) != 25 || len(counted(h)) != 0 {
		t.Errorf("%v", all)
	}
}

func TestNewClientsBeyondTheLimitAreRefusedAndCounted(t *testing.T) {
	h, c := open(t, Config{Table: position.New(position.Config{MaxClients: 1})})
	got := c.say("IAMAT a +1+1 1\nIAMAT b +1+1 1\nIAMAT a +1+1 2\n")
	if got[1] != "? IAMAT b +1+1 1\n" || got[2][:2] != "AT" {
		t.Errorf("C18 %q", got)
	}
	want := []Count{{IAMAT, OK, 2}, {IAMAT, Full, 1}}
	if got := counted(h); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
}

// C18: commands for which there is no room are not taken and have no effect yet. One command is
// always taken where none is owed.
func TestNoMoreIsTakenThanThereIsRoomFor(t *testing.T) {
	places := bytes.Repeat([]byte("x"), 8<<10)
	for _, test := range []struct {
		name, line string
		journal    bool
		room       int
		least      int // commands taken
		most       int
	}{
		{"no room", "IAMAT %d +1+1 1\n", false, 0, 1, 1},
		{"less than none", "IAMAT %d +1+1 1\n", false, -5, 1, 1},
		{"IAMAT", "IAMAT %d +1+1 1\n", false, 1000, 10, 40},
		{"IAMAT that waits", "IAMAT %d +1+1 1\n", true, 1000, 3, 8},
		{"WHATSAT", "WHATSAT kiwi.cs.ucla.edu 50 20\n", false, 32 << 10, 2, 4},
		{"WHATSAT without places", "WHATSAT kiwi.cs.ucla.edu 50 0\n", false, 32 << 10, 20, 100},
		{"what is refused", "%d\n", false, 1000, 20, 250},
		{"much room", "IAMAT %d +1+1 1\n", false, 1 << 30, 200, 300},
	} {
		t.Run(test.name, func(t *testing.T) {
			table := position.New(position.Config{})
			cfg := Config{Table: table, Finder: atOnce{func(context.Context, Query) []byte { return places }}}
			h, c := open(t, cfg)
			c.say(kiwi + "\n")
			if test.journal {
				h.cfg.Journal, h.cfg.JournalTimeout = never{}, time.Hour
			}
			var lines []byte
			for i := range 1000 {
				line := test.line
				if strings.Contains(line, "%d") {
					line = fmt.Sprintf(line, i)
				}
				lines = append(lines, line...)
			}
			c.room, c.out = test.room, nil
			before := table.Head()
			taken := c.s.Take(received, lines, c)
			n := bytes.Count(lines[:taken], []byte{'\n'})
			if n < test.least || n > test.most || taken > 0 && lines[taken-1] != '\n' {
				t.Errorf("C18 %d commands in %d bytes were taken, want %d to %d", n, taken, test.least, test.most)
			}
			if stored := table.Head() - before; strings.HasPrefix(test.line, "IAMAT") && stored != uint64(n) {
				t.Errorf("C18 %d were taken, %d took effect", n, stored)
			}
		})
	}
}

func TestEachCommandIsCountedAndTimedOnce(t *testing.T) {
	timed := map[Verb]int{}
	h, c := open(t, Config{Observe: func(v Verb, n int, took time.Duration) {
		timed[v] += n
		if took <= 0 {
			t.Errorf("%v took %v", v, took)
		}
	}})
	c.say(kiwi + "\n" + kiwi + "\nIAMAT\n\nAT\nWHATSAT kiwi.cs.ucla.edu 10 5\nWHATSAT kiwi.cs.ucla.edu 0 5\nWHATSAT nobody 1 1\nWHATSAT\nx\n")
	c.s.Overlong(received, []byte("y"), []byte("y"), c)
	want := []Count{{IAMAT, OK, 1}, {IAMAT, Older, 1}, {IAMAT, Invalid, 1}, {WHATSAT, OK, 2}, {WHATSAT, Unknown, 1}, {WHATSAT, Invalid, 1},
		{AT, Invalid, 1}, {Other, Invalid, 1}, {Other, Overlong, 1}}
	if got := counted(h); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("counted %v, want %v", got, want)
	}
	if timed[IAMAT] != 3 || timed[WHATSAT] != 4 || timed[AT] != 1 || timed[Other] != 1 {
		t.Errorf("timed %v", timed)
	}
}

// A kept is a Journal that the test controls.
type kept struct {
	asked chan []position.Ref
	err   error
}

func (k *kept) Await(ctx context.Context, _ Peer, lines []position.Ref) error {
	k.asked <- lines
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return k.err
}

func TestAnswersWaitForTheJournalInTheirOrder(t *testing.T) {
	at := func(client string) string { return "AT Clark +1621464827.223371889 " + client + " +1+1 1\n" }
	last := at("a") + string(noPlaces) + "\n\n"
	for _, c := range []struct {
		name   string
		err    error
		want   string
		unkept uint64
	}{
		{"D3 kept", nil, "? x\n" + at("a") + "? y\n" + at("b") + last, 0},
		{"D3 not in time", context.DeadlineExceeded, "? x\n? IAMAT a +1+1 1\n? y\n? IAMAT b +1+1 1\n" + last, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := &kept{asked: make(chan []position.Ref, 10), err: c.err}
			h, client := open(t, Config{Journal: k})
			h.cfg.JournalTimeout = time.Second
			stopped, cancel := context.WithCancel(t.Context())
			cancel() // a stop does not end the wait (C19)
			client.s.Take(received, []byte("x\nIAMAT a +1+1 1\ny\nIAMAT b +1+1 1\nWHATSAT a 0 0\n"), client)
			var got string
			for _, f := range client.out {
				got += string(f(t.Context(), stopped))
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if lines := <-k.asked; len(lines) != 2 || len(k.asked) != 0 || len(client.out) != 2 {
				t.Errorf("D3 a pipeline waits once for all: %v, %d answers", lines, len(client.out))
			}
			if n := h.count.n[IAMAT][Unkept].Load(); n != c.unkept {
				t.Errorf("counted %d unkept, want %d", n, c.unkept)
			}
		})
	}
}

func TestNobodyIsRefusedWhoIsGone(t *testing.T) {
	k := &kept{asked: make(chan []position.Ref, 1), err: context.Canceled}
	h, client := open(t, Config{Journal: k, JournalTimeout: time.Second})
	client.s.Take(received, []byte("IAMAT a +1+1 1\n"), client)
	lost, lose := context.WithCancel(t.Context())
	lose()
	if answer := client.out[0](lost, lost); len(answer) != 0 {
		t.Errorf("answered %q to nobody", answer)
	}
	if gone, unkept := h.count.n[IAMAT][Gone].Load(), h.count.n[IAMAT][Unkept].Load(); gone != 1 || unkept != 0 {
		t.Errorf("D3 counted %d gone and %d unkept, want 1 and 0", gone, unkept)
	}
}

// never is a Journal that keeps nothing.
type never struct{}

func (never) Await(ctx context.Context, _ Peer, _ []position.Ref) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestThoseWhoWaitForTheJournalWaitFromTheirCommandOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, client := open(t, Config{Journal: never{}, JournalTimeout: 2 * time.Second})
		begun := time.Now()
		const reads = 10
		for i := range reads {
			client.s.Take(begun, fmt.Appendf(nil, "IAMAT client-%d +1+1 1\n", i), client)
		}
		for i, f := range client.out { // one at a time, like the last ones on a connection
			if got, want := string(f(t.Context(), t.Context())), fmt.Sprintf("? IAMAT client-%d +1+1 1\n", i); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		}
		if took := time.Since(begun); len(client.out) != reads || took != 2*time.Second {
			t.Errorf("D3 %d commands were answered after %v, want %d after 2s", len(client.out), took, reads)
		}
	})
}

// none accepts answers and drops them.
type none struct{}

func (none) Room() int                                       { return 1 << 20 }
func (none) InTurn(int, func([]byte) []byte)                 {}
func (none) Follow(int, func([]byte, func()) ([]byte, bool)) {}
func (none) Append([]byte)                                   {}
func (none) Close()                                          {}

func (none) Later(int, func(client, stop context.Context) []byte) {}

// A pipeline is n IAMATs of different clients, as one read may return them.
type pipeline []byte

func newPipeline(n int) (p pipeline) {
	for i := range n {
		p = fmt.Appendf(p, "IAMAT client-%06d +34.068930-118.445127 1500000000.000000000\n", i)
	}
	return p
}

// next makes each IAMAT a nanosecond newer.
func (p pipeline) next() {
	for l := range bytes.Lines(p) {
		for at := len(l) - 2; ; at-- {
			if l[at] == '.' {
				continue
			}
			if l[at]++; l[at] <= '9' {
				break
			}
			l[at] = '0'
		}
	}
}

func TestServingAllocatesNothing(t *testing.T) {
	if raceDetector {
		t.Skip("skipped: pools forget under the race detector")
	}
	older := 0
	h, _ := open(t, Config{Observe: func(Verb, int, time.Duration) {}, Older: func(string, []byte, time.Duration) { older++ }})
	s := h.Caller(netip.Addr{}).Session()
	p := newPipeline(32)
	others := []byte("WHATSAT client-000001 0 0\nnonsense\n\nIAMAT client-000001 +1+1 1\n")
	step := func() {
		p.next()
		s.Take(received, p, none{})
		s.Take(received, others, none{})
	}
	for range 100 { // let the pool and the table grow
		step()
	}
	if got := testing.AllocsPerRun(300, step); got != 0 {
		t.Errorf("%v allocations a batch, want none", got)
	}
	if older == 0 {
		t.Error("no IAMAT was older")
	}
}

// BenchmarkTake measures what one command costs: parsing, merging and answering, in batches of 32,
// with clients in random order. Writing the commands is included, some 15 ns each.
func BenchmarkTake(b *testing.B) {
	for _, clients := range []uint64{1000, 100_000, 1_000_000} {
		b.Run(fmt.Sprint(clients), func(b *testing.B) {
			h := New(Config{Edge: "Clark", Table: position.New(position.Config{})})
			s := h.Caller(netip.Addr{}).Session()
			p := newPipeline(32)
			size := len(p) / 32
			seed, stamp := uint64(1), uint64(1)
			step := func() {
				stamp++
				for l := p; len(l) > 0; l = l[size:] {
					seed = seed*6364136223846793005 + 1442695040888963407
					putDigits(l[len("IAMAT client-"):][:6], (seed>>33)%clients)
					putDigits(l[size-len("000000000\n"):][:9], stamp)
				}
				s.Take(time.Now(), p, none{})
			}
			for range clients / 8 { // nearly every client is known
				step()
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := 0; n < b.N; n += 32 {
				step()
			}
		})
	}
}

func putDigits(dst []byte, x uint64) {
	for i := len(dst) - 1; i >= 0; i-- {
		dst[i] = byte('0' + x%10)
		x /= 10
	}
}

// Without HERD_TLS_IDENTITY a session may report any client; with it, only those that the
// certificate names.
func TestABoundSessionReportsItsOwnClientsAlone(t *testing.T) {
	h, free := open(t, Config{})
	for _, c := range []struct {
		name, line string
		ids        []string
		forbidden  bool
	}{
		{"its own id", "IAMAT kiwi +1+1 1\n", []string{"kiwi"}, false},
		{"one of several", "IAMAT kiwi +1+1 1\n", []string{"a", "kiwi"}, false},
		{"another's", "IAMAT other +1+1 1\n", []string{"kiwi"}, true},
		{"ids are bytes, not names of hosts", "IAMAT Kiwi +1+1 1\n", []string{"kiwi"}, true},
		{"a longer one", "IAMAT kiwi2 +1+1 1\n", []string{"kiwi"}, true},
		{"a wildcard stands for itself", "IAMAT a.kiwi +1+1 1\n", []string{"*.kiwi"}, true},
		{"no id", "IAMAT kiwi +1+1 1\n", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bound := &client{t: t, s: h.CallerFor(netip.Addr{}, c.ids).Session(), room: 1 << 20}
			got := strings.Join(bound.say(c.line), "")
			if refused := got == "? "+c.line; refused != c.forbidden {
				t.Errorf("answered %q", got)
			}
			if c.forbidden {
				name := strings.Fields(c.line)[1]
				if got := free.say("WHATSAT " + name + " 0 0\n"); name != "kiwi" && got[0] != "? WHATSAT "+name+" 0 0\n" {
					t.Errorf("stored all the same: %q", got)
				}
			}
		})
	}
	bound := &client{t: t, s: h.CallerFor(netip.Addr{}, nil).Session(), room: 1 << 20}
	if got := bound.say("WHATSAT kiwi 0 0\nIAMAT kiwi +99+1 1\n"); !strings.HasPrefix(got[0], "AT Clark ") || got[1] != "? IAMAT kiwi +99+1 1\n" {
		t.Errorf("WHATSAT and a wrong IAMAT: %q", got)
	}
	if s := fmt.Sprint(h.Stats()); !strings.Contains(s, fmt.Sprint(Count{IAMAT, Forbidden, 5})) || !strings.Contains(s, fmt.Sprint(Count{IAMAT, Invalid, 1})) {
		t.Errorf("counted %v, want 5 forbidden and 1 invalid", s)
	}
}
