package test

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
)

// An example is a fenced block of a document whose language is one that a test here plays:
//
//	session     what clients send and are answered; after it variables of the edge
//	http        what apps send to the port for devices and are answered, and what is held then
//	websocket   messages of a WebSocket with lines
//	nats        messages between edges, as they were recorded
//	order       AT lines of one client, each newer than the one before
//	journal     keys and values of the bucket of an edge
//	subjects    the subjects on which the default herd sends positions
//	transcript  lines of a transcript
type example struct {
	kind  string
	args  []string // what stands behind the language
	rule  string   // the rule under which it stands
	lines []string
}

var exampleBlock = regexp.MustCompile("(?ms)^( *)```(session|http|websocket|nats|order|journal|subjects|transcript)\\b([^\n]*)\n(.*?)^ *```$")

// examplesOf returns a document's examples of a kind.
func examplesOf(text, kind string) (all []example) {
	for _, at := range exampleBlock.FindAllStringSubmatchIndex(text, -1) {
		part := func(i int) string { return text[at[2*i]:at[2*i+1]] }
		if part(2) != kind {
			continue
		}
		e := example{kind: kind, args: strings.Fields(part(3)), rule: "none"}
		if before := ruleAnchor.FindAllStringSubmatch(text[:at[0]], -1); len(before) > 0 {
			e.rule = before[len(before)-1][2]
		}
		for line := range strings.Lines(part(4)) {
			e.lines = append(e.lines, strings.TrimPrefix(strings.TrimSuffix(line, "\n"), part(1)))
		}
		all = append(all, e)
	}
	return all
}

// protocolExamples returns the examples of a kind in docs/PROTOCOL.md, at least so many.
func protocolExamples(t *testing.T, kind string, least int) []example {
	t.Helper()
	all := examplesOf(document(t, rulesFile), kind)
	if len(all) < least {
		t.Fatalf("%s has %d examples of the kind %s, want %d at least", rulesFile, len(all), kind, least)
	}
	return all
}

func document(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Each rule that is built has an example: a block that a test plays, or one in words.
func TestEachRuleHasAnExample(t *testing.T) {
	quiet(t)
	text := document(t, rulesFile)
	at := ruleAnchor.FindAllStringSubmatchIndex(text, -1)
	seen := 0
	for i, m := range at {
		rule, end := text[m[4]:m[5]], len(text)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		if !strings.Contains("CSHDV", rule[:1]) {
			continue
		}
		seen++
		if body := text[m[0]:end]; !exampleBlock.MatchString(body) && !strings.Contains(body, "*Example") {
			t.Errorf("%s has no example", rule)
		}
	}
	if seen < 40 {
		t.Errorf("%d rules were found, that cannot be all", seen)
	}
}

// exampleLine is a line that a client sends. Before the mark may stand the edge that it is sent to.
var exampleLine = regexp.MustCompile(`^([A-Z]\w*)?> ?(.*)$`)

// A step is what is sent to one edge, and the answers.
type step struct {
	edge    string
	text    string
	answers []string
}

// steps returns what an example's clients send, and what they are answered. Without edges' names it
// is one step: all is sent at once.
func (e example) steps() (all []step, herd bool, err error) {
	for _, line := range e.lines {
		m := exampleLine.FindStringSubmatch(line)
		if m == nil {
			if len(all) == 0 {
				return nil, false, fmt.Errorf("%q is answered before anything is sent", line)
			}
			last := &all[len(all)-1]
			last.answers = append(last.answers, line)
			continue
		}
		text, err := unescaped(m[2])
		if err != nil {
			return nil, false, fmt.Errorf("%q: %w", line, err)
		}
		if whole, ok := strings.CutSuffix(text, "<end>"); ok {
			text = whole
		} else {
			text += "\n"
		}
		herd = herd || m[1] != ""
		if m[1] == "" && len(all) > 0 {
			all[len(all)-1].text += text
			continue
		}
		all = append(all, step{edge: cmp.Or(m[1], "Clark"), text: text})
	}
	return all, herd, nil
}

// unescaped replaces escapes such as \t and \xff, as in a string of Go.
func unescaped(text string) (string, error) {
	return strconv.Unquote(`"` + strings.ReplaceAll(text, `"`, `\"`) + `"`)
}

var (
	exampleSkew  = regexp.MustCompile(`^(AT \S+ )([+-])\d+\.\d{9} `)
	recordedTime = regexp.MustCompile(`^\d+\.\d{9}$`)
)

// expected returns the answers as a regular expression: a skew stands for any of the same sign, `…`
// for any text, and a line `…` for any lines.
func expected(answers []string) (*regexp.Regexp, error) {
	var pattern strings.Builder
	pattern.WriteString(`\A`)
	for _, line := range answers {
		if line == "…" {
			pattern.WriteString(`(?:.*\n)*?`)
			continue
		}
		if strings.HasPrefix(line, "? ") {
			plain, err := unescaped(line)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", line, err)
			}
			line = plain
		}
		if m := exampleSkew.FindStringSubmatch(line); m != nil {
			line = line[len(m[0]):]
			pattern.WriteString(regexp.QuoteMeta(m[1]) + `[` + m[2] + `]\d+\.\d{9} `)
		}
		pattern.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", `(?s:.*?)`) + `\n`)
	}
	pattern.WriteString(`\z`)
	return regexp.Compile(pattern.String())
}

// ask sends text to an edge, ends its own side, and returns all that the edge answers.
func ask(addr, text string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, herdtest.Promise(5*time.Second))
	if err != nil {
		return "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(herdtest.Promise(10 * time.Second)))
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	c.(*net.TCPConn).CloseWrite() // an edge that has closed the connection already makes this fail
	all, err := io.ReadAll(c)
	return string(all), err
}

// play sends what an example's clients send, and compares the answers.
func (e example) play(t *testing.T, addr func(edge string) string) {
	t.Helper()
	steps, herd, err := e.steps()
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range steps {
		want, err := expected(s.answers)
		if err != nil {
			t.Fatal(err)
		}
		try := func() error {
			got, err := ask(addr(s.edge), s.text)
			if err != nil {
				return fmt.Errorf("%q: %q, %w", s.text, got, err)
			}
			if !want.MatchString(got) {
				return fmt.Errorf("%q is answered\n%s\nwant\n%s", s.text, got, strings.Join(s.answers, "\n"))
			}
			return nil
		}
		if herd && strings.HasPrefix(s.text, "WHATSAT ") { // what another edge was told is on its way
			herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the answer of "+s.edge, try)
		} else if err := try(); err != nil {
			t.Error(err)
		}
	}
}

// The examples of the line protocol in docs/PROTOCOL.md are what an edge answers.
func TestTheExamplesOfTheLineProtocol(t *testing.T) {
	quiet(t)
	for i, e := range protocolExamples(t, "session", 20) {
		t.Run(fmt.Sprintf("%s %d", e.rule, i), func(t *testing.T) {
			_, herd, err := e.steps()
			if err != nil {
				t.Fatal(err)
			}
			o := herdtest.Options{Topology: "Clark", Env: e.args}
			if herd {
				o.Topology = ""
			}
			e.play(t, herdtest.Start(t, o).Addr)
		})
	}
}

// The README's conversation is one with one edge.
func TestTheConversationOfTheREADME(t *testing.T) {
	quiet(t)
	all := examplesOf(document(t, "README.md"), "session")
	if len(all) < 3 {
		t.Fatalf("README.md has %d examples, want 3 at least", len(all))
	}
	h := herdtest.Start(t, herdtest.Options{Topology: "Clark"})
	for _, e := range all {
		e.play(t, h.Addr)
	}
}

// S2: of the lines in an example each is newer than the one before it, in whatever order an edge hears
// of them.
func TestTheExampleOfTheOrder(t *testing.T) {
	quiet(t)
	for _, e := range protocolExamples(t, "order", 1) {
		s := newStranger(t, map[string]string{"HERD_JOURNAL": "off"})
		revision := uint64(0)
		tell := func(lines ...string) {
			revision += uint64(len(lines))
			s.send(revision-uint64(len(lines)), revision, strings.Join(lines, "\n")+"\n", nil)
			s.acked(revision, false)
		}
		named := func(line string, pair int, order string) (string, string) {
			fields := strings.Fields(line)
			if len(fields) != 6 {
				t.Fatalf("%q is no AT line", line)
			}
			fields[3] = fmt.Sprintf("%s-%d-%s", fields[3], pair, order)
			return strings.Join(fields, " "), fields[3]
		}
		for i := range e.lines[1:] {
			for _, order := range []string{"up", "down"} {
				older, client := named(e.lines[i], i, order)
				newer, _ := named(e.lines[i+1], i, order)
				if order == "up" {
					tell(older, newer)
				} else {
					tell(newer, older)
				}
				if got := lookup(t, s.clark.Addr, client); got != newer {
					t.Errorf("%s: of\n%s\n%s\nan edge holds\n%s", order, older, newer, got)
				}
			}
		}
	}
}

// D1, D5: the bucket of an edge has the keys and values of the example, and no others.
func TestTheExampleOfTheJournal(t *testing.T) {
	quiet(t)
	for _, e := range protocolExamples(t, "journal", 1) {
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark", NATS: []string{"-js", "-sd", t.TempDir()},
			Env: map[string]string{"HERD_DURABILITY": "journal"}})
		clark := h.Edges["Clark"]
		nc := operator(h)
		for _, line := range e.lines {
			if key, value, _ := strings.Cut(line, " "); key != "=owner" {
				fields := strings.Fields(value)
				talk(t, clark.Addr, "IAMAT "+strings.Join(fields[3:], " ")+"\n")
			}
		}
		for _, line := range e.lines {
			key, value, _ := strings.Cut(line, " ")
			want, err := expected([]string{strings.TrimSpace(value)})
			if key == "=owner" {
				want, err = regexp.MustCompile(`\A`+epochPattern.String()+`\z`), nil
			}
			if err != nil {
				t.Fatal(err)
			}
			reply, err := nc.Request("$JS.API.DIRECT.GET.KV_herd_Clark.$KV.herd_Clark."+key, nil, herdtest.Promise(2*time.Second))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(reply.Data); !want.MatchString(got) && !want.MatchString(got+"\n") {
				t.Errorf("the key %s has the value %q (%v), want %s", key, got, reply.Header, value)
			}
		}
		reply, err := nc.Request("$JS.API.STREAM.INFO.KV_herd_Clark", []byte(`{"subjects_filter":">"}`), herdtest.Promise(2*time.Second))
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(`"num_subjects":%d,`, len(e.lines)); !strings.Contains(string(reply.Data), want) {
			t.Errorf("the bucket has other keys than these %d: %s", len(e.lines), reply.Data)
		}
	}
}

// H1: the edges of the default herd send positions and heartbeats on the subjects of the example, and on no
// others.
func TestTheExampleOfTheSubjects(t *testing.T) {
	quiet(t)
	for _, e := range protocolExamples(t, "subjects", 1) {
		h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Env: map[string]string{"HERD_JOURNAL": "off"}})
		r := record(t, operator(h), "herd.at.>")
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), "heartbeats on all links", func() error {
			seen := map[string]bool{}
			for _, text := range r.all(nil) {
				subject, _, _ := strings.Cut(text, "\n")
				seen[subject] = true
			}
			if got := slices.Sorted(maps.Keys(seen)); !slices.Equal(got, e.lines) {
				return fmt.Errorf("messages on %q, want %q", got, e.lines)
			}
			return nil
		})
	}
}

// transcriptStamp and transcriptPort differ from run to run.
var (
	transcriptStamp = regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z`)
	transcriptPort  = regexp.MustCompile(`127\.0\.0\.1:\d+`)
	transcriptSkew  = regexp.MustCompile(`AT Clark \+\d+\.\d{9}`)
)

// C20: the example is what an edge writes of the lines that come in in it.
func TestTheExampleOfTheTranscript(t *testing.T) {
	quiet(t)
	plain := func(text string) string {
		text = transcriptStamp.ReplaceAllString(text, "TIME")
		return transcriptSkew.ReplaceAllString(transcriptPort.ReplaceAllString(text, "ADDRESS"), "AT Clark SKEW")
	}
	for _, e := range protocolExamples(t, "transcript", 1) {
		file := filepath.Join(t.TempDir(), "clark.log")
		h := herdtest.Start(t, herdtest.Options{Topology: "Clark", Env: []string{"HERD_TRANSCRIPT=" + file}})
		var sends strings.Builder
		for _, line := range e.lines {
			if _, text, ok := strings.Cut(line, " > "); ok {
				text, err := unescaped(text)
				if err != nil {
					t.Fatal(err)
				}
				sends.WriteString(text + "\n")
			}
		}
		if _, err := ask(h.Addr("Clark"), sends.String()); err != nil {
			t.Fatal(err)
		}
		want := plain(strings.Join(e.lines, "\n") + "\n")
		herdtest.Eventually(t, herdtest.Promise(5*time.Second), "the transcript is written", func() error {
			got, err := os.ReadFile(file)
			if err == nil && plain(string(got)) != want {
				err = fmt.Errorf("it has\n%s\nwant\n%s", got, strings.Join(e.lines, "\n"))
			}
			return err
		})
	}
}

var epochPattern = regexp.MustCompile(`[0-9a-f]{16}-[0-9a-f]{8}`)

// The epochs of the documents' Clark and Jaquez.
const (
	clarkInDocuments  = "18eb954787a246ac-23a379a4"
	jaquezInDocuments = "18eb954784c03b0b-501e4b7f"
)

// A recording is what passed on a NATS server, as text: subject, headers sorted by name, an empty line and
// the payload.
type recording struct {
	mu       sync.Mutex
	messages []*nats.Msg
}

func record(t *testing.T, nc *nats.Conn, subject string) *recording {
	t.Helper()
	r := &recording{}
	_, err := nc.Subscribe(subject, func(m *nats.Msg) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.messages = append(r.messages, m)
	})
	if err == nil {
		err = nc.Flush()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// settled waits until everything is recorded that the connection had received when it was called.
func (r *recording) settled(t *testing.T, nc *nats.Conn) {
	t.Helper()
	const mark = "herd.mark"
	if err := nc.Publish(mark, nil); err != nil {
		t.Fatal(err)
	}
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "all is recorded", func() error {
		if all := r.all(nil); !slices.Contains(all, mark) {
			return fmt.Errorf("%d messages, and not the last", len(all))
		}
		return nil
	})
}

// all returns what was recorded so far, with other names for epochs.
func (r *recording) all(epochs map[string]string) (texts []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range r.messages {
		texts = append(texts, messageText(m, epochs))
	}
	return texts
}

func messageText(m *nats.Msg, epochs map[string]string) string {
	lines := []string{m.Subject}
	if strings.HasPrefix(m.Subject, "_INBOX.") {
		lines[0] = "_INBOX.…"
	}
	var headers []string
	for name := range m.Header {
		value := m.Header.Get(name)
		switch {
		case name == "Herd-Time" && recordedTime.MatchString(value):
			value = "TIME"
		case name == "Herd-Config":
			value = "HASH"
		}
		headers = append(headers, name+": "+value)
	}
	slices.Sort(headers)
	lines = append(lines, headers...)
	if len(m.Data) > 0 {
		lines = append(lines, "", strings.TrimSuffix(string(m.Data), "\n"))
	}
	text := strings.Join(lines, "\n")
	text = recordedSkew.ReplaceAllString(text, "$1 SKEW")
	return epochPattern.ReplaceAllStringFunc(text, func(epoch string) string { return cmp.Or(epochs[epoch], epoch) })
}

var recordedSkew = regexp.MustCompile(`(?m)^(AT \S+) [+-]\d+\.\d{9}`)

// messages returns the messages of an example, as messageText would.
func (e example) messages() (texts []string) {
	var m *nats.Msg
	flush := func() {
		if m != nil {
			texts = append(texts, messageText(m, nil))
		}
	}
	for _, line := range e.lines {
		name, value, isHeader := strings.Cut(line, ": ")
		switch {
		case strings.HasPrefix(line, "herd.") || strings.HasPrefix(line, "_INBOX."):
			flush()
			m = &nats.Msg{Subject: line, Header: nats.Header{}}
		case isHeader && strings.HasPrefix(name, "Herd-"):
			m.Header.Set(name, value)
		case line != "":
			m.Data = append(m.Data, line+"\n"...)
		}
	}
	flush()
	return texts
}

// H1 to H10, C19: the messages of the examples passed in this order between real edges, or between a
// real Clark and a Jaquez that the test plays. An example says which by what stands behind its
// language: edges, or the name of what is played.
func TestTheExamplesOfMessagesBetweenEdges(t *testing.T) {
	quiet(t)
	recorded := map[string]func(*testing.T) []string{"edges": recordEdges, "window": recordWindow, "follows": recordFollows}
	wanted := map[string][]example{}
	for _, e := range protocolExamples(t, "nats", 8) {
		if len(e.args) != 1 || recorded[e.args[0]] == nil {
			t.Errorf("%s: an example of messages from %q", e.rule, e.args)
			continue
		}
		wanted[e.args[0]] = append(wanted[e.args[0]], e)
	}
	for from, examples := range wanted {
		t.Run(from, func(t *testing.T) {
			passed := recorded[from](t)
			for _, e := range examples {
				rest := passed
				for _, want := range e.messages() {
					i := slices.Index(rest, want)
					if i < 0 {
						t.Errorf("%s: this did not pass, or not in this order:\n%s\n\nWhat passed:\n\n%s", e.rule, want, strings.Join(passed, "\n\n"))
						break
					}
					rest = rest[i+1:]
				}
			}
		})
	}
}

// recordEdges starts Clark and then Jaquez, tells Clark of a client, and stops Clark.
func recordEdges(t *testing.T) []string {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Unready: []string{"Clark", "Jaquez"}, Env: map[string]string{"HERD_JOURNAL": "off"}})
	nc := operator(h)
	r := record(t, nc, ">")
	epochs := map[string]string{}
	for _, edge := range []struct{ name, inDocuments string }{{"Clark", clarkInDocuments}, {"Jaquez", jaquezInDocuments}} {
		h.Edges[edge.name].Start()
		h.Edges[edge.name].FirstReady()
		s, err := askStatus(nc, edge.name)
		if err != nil {
			t.Fatal(err)
		}
		epochs[s.Epoch] = edge.inDocuments
	}
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	clark.LinksUp()
	jaquez.LinksUp()
	passed := func(what string, subject string, match func(string) bool) {
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), what, func() error {
			texts := r.all(epochs)
			if !slices.ContainsFunc(texts, func(text string) bool { return strings.HasPrefix(text, subject+"\n") && match(text) }) {
				return fmt.Errorf("%d messages passed, none such", len(texts))
			}
			return nil
		})
	}
	// The first ack told Clark of Jaquez, so its messages name it.
	passed("Clark knows Jaquez", "herd.at.Clark.Jaquez", func(text string) bool { return strings.Contains(text, "Herd-To: ") })
	talk(t, clark.Addr, "IAMAT kiwi "+ucla+" 1621464827.5\n")
	passed("Jaquez acks", "herd.ack.Jaquez.Clark", func(text string) bool { return strings.Contains(text, "Herd-Through: 1") })
	clark.Signal(syscall.SIGINT)
	if code := clark.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
		t.Errorf("Clark exits %d", code)
	}
	passed("the good-bye", "herd.at.Clark.Jaquez", func(text string) bool { return strings.Contains(text, "Herd-Bye: 1") })
	return r.all(epochs)
}

// recordWindow plays a Jaquez that acks late. The window is one message.
func recordWindow(t *testing.T) []string {
	s := newStranger(t, map[string]string{"HERD_LINK_WINDOW": "1", "HERD_HEARTBEAT": "20s", "HERD_JOURNAL": "off"})
	r := record(t, s.nc, "herd.>")
	s.heartbeat(0)
	first := s.tell("emu", 5e9)
	m := s.batch()
	if string(m.Data) != first {
		t.Fatalf("Clark sends %q", m.Data)
	}
	s.ack(m)
	herdtest.Eventually(t, herdtest.Promise(5*time.Second), "Clark has the ack", func() error {
		if lag := s.clark.Metric("herd_link_lag", `neighbour="Jaquez"`); lag != 0 {
			return fmt.Errorf("herd_link_lag is %v", lag)
		}
		return nil
	})
	s.tell("kiwi", 5e9)
	m = s.batch() // fills the window
	for i := range 3 {
		s.tell("kiwi", int64(6+i)*1e9)
	}
	s.tell("emu", 6e9)
	s.ack(m)
	s.batch()
	r.settled(t, s.nc)
	return r.all(map[string]string{m.Header.Get("Herd-Epoch"): clarkInDocuments, s.epoch: jaquezInDocuments})
}

// recordFollows plays a Jaquez one of whose messages was lost, and one of whose lines breaks a rule.
func recordFollows(t *testing.T) []string {
	s := newStranger(t, map[string]string{"HERD_HEARTBEAT": "20s", "HERD_JOURNAL": "off"})
	r := record(t, s.nc, "herd.>")
	at := func(client, location string) string {
		return "AT Jaquez +0.000000001 " + client + " " + location + " 5\n"
	}
	s.send(0, 2, at("kiwi", "+1+1")+at("emu", "+2+2"), nil)
	s.acked(2, false)
	s.send(3, 4, at("moa", "+4+4"), nil) // revision 3 was lost
	s.acked(2, true)
	s.send(2, 4, at("kea", "+3+3")+at("moa", "+4+4"), nil)
	s.acked(4, false)
	s.send(4, 6, at("kaka", "+91+5")+at("tui", "+6+6"), nil)
	s.acked(6, false)
	for client, known := range map[string]bool{"kiwi": true, "emu": true, "kea": true, "moa": true, "kaka": false, "tui": true} {
		if got := strings.HasPrefix(lookup(t, s.clark.Addr, client), "AT "); got != known {
			t.Errorf("Clark knows %s: %v, want %v", client, got, known)
		}
	}
	status, err := askStatus(s.nc, "Clark")
	if err != nil {
		t.Fatal(err)
	}
	r.settled(t, s.nc)
	return r.all(map[string]string{status.Epoch: clarkInDocuments, s.epoch: jaquezInDocuments})
}

// The players of examples see what is wrong.
func TestWrongExamplesAreSeen(t *testing.T) {
	text := "- <a id=\"c1\"></a>**C1.** Text\n\n  ```session HERD_MAX_LINE=128\n  > a\\tb<end>\n  ? a\\tb\n\n  ```\n\n```nats edges\nherd.at.A.B\nHerd-Epoch: x\n\nAT Clark +0.000000001 a +1+1 5\n```\n"
	all := examplesOf(text, "session")
	if len(all) != 1 || all[0].rule != "C1" || fmt.Sprint(all[0].args) != "[HERD_MAX_LINE=128]" {
		t.Fatalf("examples %+v", all)
	}
	steps, herd, err := all[0].steps()
	if err != nil || herd || len(steps) != 1 || steps[0].text != "a\tb" || fmt.Sprintf("%q", steps[0].answers) != `["? a\\tb" ""]` {
		t.Errorf("steps %+v, %v, %v", steps, herd, err)
	}
	for _, c := range []struct {
		answers []string
		got     string
		match   bool
	}{
		{[]string{`? a\tb`, ""}, "? a\tb\n\n", true},
		{[]string{`? a\tb`}, "? a\tb\n\n", false},
		{[]string{"AT Clark +1.000000000 a +1+1 5"}, "AT Clark +77.123456789 a +1+1 5\n", true},
		{[]string{"AT Clark +1.000000000 a +1+1 5"}, "AT Clark -77.123456789 a +1+1 5\n", false},
		{[]string{"AT Clark +1.000000000 a +1+1 5"}, "AT Clark +77.123456789 a +1+1 6\n", false},
		{[]string{"AT Clark +1.000000000 a +1+1 5"}, "AT Clark +77.12345678 a +1+1 5\n", false},
		{[]string{"{…", "…", "}"}, "{1\n2\n3\n}\n", true},
		{[]string{"{…", "…", "}"}, "{1\n2\n3\n}}\n", false},
	} {
		want, err := expected(c.answers)
		if err != nil {
			t.Fatal(err)
		}
		if got := want.MatchString(c.got); got != c.match {
			t.Errorf("%q for %q is %v, want %v", c.got, c.answers, got, c.match)
		}
	}
	if _, _, err := (example{lines: []string{"answer"}}).steps(); err == nil {
		t.Error("an answer to nothing is an example")
	}
	m := examplesOf(text, "nats")[0].messages()
	if len(m) != 1 || m[0] != "herd.at.A.B\nHerd-Epoch: x\n\nAT Clark SKEW a +1+1 5" {
		t.Errorf("messages %q", m)
	}
}
