package test

import (
	"bytes"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"

	"herd/test/herdtest"

	"github.com/nats-io/nats.go"
)

// stranger implements the edge Jaquez for a real Clark from docs/PROTOCOL.md alone. It shares no
// code with the herd.
type stranger struct {
	t     *testing.T
	clark *herdtest.EdgeProcess
	nc    *nats.Conn
	epoch string
	head  uint64             // the highest head that it has sent (H9)
	in    *nats.Subscription // herd.at.Clark.Jaquez
	acks  *nats.Subscription // herd.ack.Clark.Jaquez
}

func newStranger(t *testing.T, env map[string]string) *stranger {
	t.Helper()
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Unready: []string{"Jaquez"}, Env: env})
	s := &stranger{t: t, clark: h.Edges["Clark"], nc: operator(h), epoch: fmt.Sprintf("%016x-%08x", time.Now().UnixNano(), 7)}
	subscribe := func(subject string) *nats.Subscription {
		sub, err := s.nc.SubscribeSync(subject)
		if err == nil {
			err = s.nc.Flush()
		}
		if err != nil {
			t.Fatalf("subscribe to %s: %v", subject, err)
		}
		return sub
	}
	s.in, s.acks = subscribe("herd.at.Clark.Jaquez"), subscribe("herd.ack.Clark.Jaquez")
	return s
}

func (s *stranger) publish(subject, payload string, headers map[string]string) {
	s.t.Helper()
	m := &nats.Msg{Subject: subject, Data: []byte(payload), Header: nats.Header{}}
	for name, value := range headers {
		m.Header.Set(name, value)
	}
	err := s.nc.PublishMsg(m)
	if err == nil {
		err = s.nc.Flush()
	}
	if err != nil {
		s.t.Fatalf("publish on %s: %v", subject, err)
	}
}

// send sends a message with these lines, After and Through.
func (s *stranger) send(after, through uint64, lines string, more map[string]string) {
	s.t.Helper()
	s.head = max(s.head, through)
	headers := map[string]string{
		"Herd-Epoch": s.epoch, "Herd-After": fmt.Sprint(after), "Herd-Through": fmt.Sprint(through), "Herd-Head": fmt.Sprint(s.head),
	}
	maps.Copy(headers, more)
	s.publish("herd.at.Jaquez.Clark", lines, headers)
}

// heartbeat sends a heartbeat, which keeps the link up for three times its interval.
func (s *stranger) heartbeat(cursor uint64) {
	s.t.Helper()
	s.send(cursor, cursor, "", map[string]string{"Herd-Interval": "20s", "Herd-Time": posix(time.Now().UnixNano())})
}

// next returns Clark's next message for which match is true, or nil after limit.
func next(sub *nats.Subscription, limit time.Duration, match func(*nats.Msg) bool) *nats.Msg {
	for end := time.Now().Add(limit); ; {
		m, err := sub.NextMsg(time.Until(end))
		if err != nil {
			return nil
		}
		if match(m) {
			return m
		}
	}
}

func hasLines(m *nats.Msg) bool { return len(m.Data) > 0 }

// batch returns Clark's next message with lines, and skips heartbeats.
func (s *stranger) batch() *nats.Msg {
	s.t.Helper()
	m := next(s.in, herdtest.Promise(2*time.Second), hasLines)
	if m == nil {
		s.t.Fatal("Clark sends no lines")
	}
	return m
}

// ack acknowledges a message of Clark's.
func (s *stranger) ack(m *nats.Msg) {
	s.t.Helper()
	s.publish("herd.ack.Jaquez.Clark", "", map[string]string{"Herd-Epoch": s.epoch, "Herd-Of": m.Header.Get("Herd-Epoch"), "Herd-Through": m.Header.Get("Herd-Through")})
}

// acked waits for an ack of Clark's with these values.
func (s *stranger) acked(through uint64, rewind bool) {
	s.t.Helper()
	var last *nats.Msg
	if next(s.acks, herdtest.Promise(2*time.Second), func(m *nats.Msg) bool {
		last = m
		return m.Header.Get("Herd-Of") == s.epoch && m.Header.Get("Herd-Through") == fmt.Sprint(through) && (m.Header.Get("Herd-Rewind") == "1") == rewind
	}) == nil {
		s.t.Fatalf("no ack through %d, rewind %v; the last was %v", through, rewind, last)
	}
}

func (s *stranger) tell(client string, ns int64) string {
	s.t.Helper()
	answer := talk(s.t, s.clark.Addr, "IAMAT "+client+" "+ucla+" "+posix(ns)+"\n")
	if !strings.HasPrefix(answer, "AT Clark ") {
		s.t.Fatalf("answered %q", answer)
	}
	return answer
}

// H2 to H5: what an edge sends, and how it handles acks.
func TestALinkSendsWhatIsBehindItsCursor(t *testing.T) {
	quiet(t)
	// Fifty updates have to come in before three heartbeats without an ack are over.
	s := newStranger(t, map[string]string{"HERD_LINK_WINDOW": "3", "HERD_HEARTBEAT": "4s"})
	s.heartbeat(0) // the neighbour is there

	line := s.tell("kiwi", 5e9)
	m := s.batch()
	number := func(m *nats.Msg, header string) uint64 {
		n, err := strconv.ParseUint(m.Header.Get(header), 10, 64)
		if err != nil {
			t.Fatalf("%s is %q", header, m.Header.Get(header))
		}
		return n
	}
	if string(m.Data) != line {
		t.Fatalf("H2: the payload is %q, want %q", m.Data, line)
	}
	if number(m, "Herd-After") != 0 || number(m, "Herd-Through") != 1 || number(m, "Herd-Head") != 1 {
		t.Errorf("H4: headers %v, want revision 1", m.Header)
	}
	s.ack(m)
	// The first ack tells Clark the receiver's epoch and moves its cursor (H6): Clark would send
	// again what it sent before that ack came.
	herdtest.Eventually(t, herdtest.Promise(2*time.Second), "Clark has the ack", func() error {
		if lag := s.clark.Metric("herd_link_lag", `neighbour="Jaquez"`); lag != 0 {
			return fmt.Errorf("herd_link_lag is %v", lag)
		}
		return nil
	})

	// Three messages fill the window. Later changes wait and are one line per client.
	for i := range 3 {
		line := s.tell(fmt.Sprintf("window-%d", i), 5e9)
		if m = s.batch(); string(m.Data) != line {
			t.Fatalf("message %d is %q, want %q", i, m.Data, line)
		}
	}
	if got := m.Header.Get("Herd-To"); got != s.epoch {
		t.Errorf("H4: Herd-To is %q, the acks say %q", got, s.epoch)
	}
	var last string
	for i := range 50 {
		last = s.tell("waits", int64(i+6)*1e9)
	}
	if m := next(s.in, 500*time.Millisecond, hasLines); m != nil {
		t.Fatalf("H5: the window is full, and Clark sends %q", m.Data)
	}
	s.ack(m) // one ack for three messages
	if m = s.batch(); string(m.Data) != last {
		t.Errorf("H3: fifty updates of one client became %q, want %q", m.Data, last)
	}
	if after, through := number(m, "Herd-After"), number(m, "Herd-Through"); after != 4 || through != 54 {
		t.Errorf("H4: it runs from %d through %d, want from 4 through 54", after, through)
	}

	// Without an ack it is sent again after three heartbeats.
	again := next(s.in, herdtest.Promise(20*time.Second), hasLines)
	if again == nil || string(again.Data) != last {
		t.Errorf("H6: an unacknowledged message is not sent again: %v", again)
	}

	// Another epoch of the neighbour knows nothing: everything is sent again.
	s.epoch = fmt.Sprintf("%016x-%08x", time.Now().UnixNano(), 8)
	s.publish("herd.ack.Jaquez.Clark", "", map[string]string{"Herd-Epoch": s.epoch, "Herd-Of": m.Header.Get("Herd-Epoch"), "Herd-Through": "0"})
	s.heartbeat(0)
	var all bytes.Buffer
	for bytes.Count(all.Bytes(), []byte("\n")) < 5 {
		m := s.batch()
		if m.Header.Get("Herd-To") == s.epoch {
			all.Write(m.Data)
			s.ack(m)
		}
	}
	for _, client := range []string{" kiwi ", " window-0 ", " window-1 ", " window-2 ", " waits "} {
		if strings.Count(all.String(), client) != 1 {
			t.Errorf("H6: a new epoch of the neighbour gets %q", &all)
		}
	}
}

// H5: a message is at most 64 KiB, and holds many lines.
func TestALinkFillsItsMessages(t *testing.T) {
	quiet(t)
	s := newStranger(t, nil)
	const n = 3000
	var text strings.Builder
	for i := range n {
		fmt.Fprintf(&text, "IAMAT client-%04d %s 5\n", i, ucla)
	}
	s.heartbeat(0)
	c := dial(t, s.clark.Addr)
	c.send(text.String())
	lines, messages := 0, 0
	for lines < n {
		m := s.batch()
		if len(m.Data) > 64<<10 {
			t.Fatalf("a message of %d bytes", len(m.Data))
		}
		lines += bytes.Count(m.Data, []byte("\n"))
		messages++
		s.ack(m)
	}
	if messages > n/10 {
		t.Errorf("%d lines came in %d messages", lines, messages)
	}
	t.Logf("%d lines in %d messages", lines, messages)
}

// H6, H9: what an edge merges, and what it drops.
func TestALinkTakesWhatFollows(t *testing.T) {
	quiet(t)
	s := newStranger(t, nil)
	at := func(client string, ns int64) string {
		return "AT Jaquez +0.000000001 " + client + " +1+1 " + posix(ns) + "\n"
	}
	knows := func(client string) bool { return strings.HasPrefix(lookup(t, s.clark.Addr, client), "AT Jaquez ") }

	s.send(0, 2, at("one", 5e9)+at("two", 5e9), nil)
	s.acked(2, false)
	if !knows("one") || !knows("two") {
		t.Error("what follows was not merged")
	}
	s.send(5, 6, at("gap", 5e9), nil)
	s.acked(2, true)
	if knows("gap") {
		t.Error("what does not follow was merged")
	}
	s.send(0, 3, at("one", 6e9)+at("two", 4e9)+at("three", 5e9), nil)
	s.acked(3, false)
	if got := lookup(t, s.clark.Addr, "one") + lookup(t, s.clark.Addr, "two"); !strings.Contains(got, posix(6e9)) || !strings.Contains(got, posix(5e9)) {
		t.Errorf("after an overlap it holds %q", got)
	}
	s.send(3, 4, at("other", 5e9), map[string]string{"Herd-To": "00000000000004d2-00000001"})
	s.acked(3, true)
	if knows("other") {
		t.Error("what is for another epoch was merged")
	}

	// H9: bad lines are dropped, good lines in the same message are not.
	late := time.Now().Add(2 * time.Hour).UnixNano()
	bad := "hello\n" +
		"AT Jaquez +0.000000001 bad-lat +91+1 5.000000000\n" +
		"AT Jaquez 0.000000001 bad-skew +1+1 5.000000000\n" +
		"AT Jaq-uez +0.000000001 bad-edge +1+1 5.000000000\n" +
		"AT Jaquez +0.000000001 bad-time +1+1 -5\n" +
		"AT Jaquez  +0.000000001 bad-space +1+1 5.000000000\n" +
		"AT Jaquez -9.000000000 bad-receipt +1+1 5.000000000\n" +
		at("bad-late", late)
	s.send(3, 20, at("good-1", 5e9)+bad+at("good-2", 5e9), nil)
	s.acked(20, false)
	if !knows("good-1") || !knows("good-2") {
		t.Error("good lines beside bad ones were not merged")
	}
	for _, client := range []string{"bad-lat", "bad-skew", "bad-edge", "bad-time", "bad-space", "bad-receipt", "bad-late"} {
		if knows(client) {
			t.Errorf("the line of %s was merged", client)
		}
	}
	if n := s.clark.Metric("herd_link_refused_lines_total", `neighbour="Jaquez"`); n != 7 {
		t.Errorf("%v lines are counted as refused, want 7", n)
	}
	if n := s.clark.Metric("herd_link_put_off_lines_total", `neighbour="Jaquez"`); n != 1 {
		t.Errorf("%v lines are counted as put off, want 1", n)
	}

	// H9: a message with bad headers gets no ack.
	for drained := false; !drained; {
		_, err := s.acks.NextMsg(100 * time.Millisecond)
		drained = err != nil
	}
	for header, value := range map[string]string{"Herd-Epoch": "yesterday", "Herd-After": "-1", "Herd-Through": "x", "Herd-Head": ""} {
		s.send(20, 21, at("headless", 5e9), map[string]string{header: value})
	}
	if m := next(s.acks, 300*time.Millisecond, func(m *nats.Msg) bool { return m.Header.Get("Herd-Through") == "21" }); m != nil {
		t.Errorf("a message with bad headers is acknowledged: %v", m.Header)
	}
	if knows("headless") {
		t.Error("a message with bad headers was merged")
	}
}

// H8: three missed heartbeats take a link down; then it sends heartbeats only.
func TestASilentLinkGoesDown(t *testing.T) {
	quiet(t)
	s := newStranger(t, map[string]string{"HERD_HEARTBEAT": "200ms"})
	up := func() float64 { return s.clark.Metric("herd_link_up", `neighbour="Jaquez"`) }
	beat := func() {
		s.send(0, 0, "", map[string]string{"Herd-Interval": "200ms", "Herd-Time": posix(time.Now().Add(time.Minute).UnixNano())})
	}
	herdtest.Eventually(t, herdtest.Promise(2*time.Second), "the link is up", func() error {
		beat()
		if up() != 1 {
			return fmt.Errorf("herd_link_up is %v", up())
		}
		return nil
	})
	if ahead := s.clark.Metric("herd_link_clock_seconds"); ahead < 50 || ahead > 70 {
		t.Errorf("the neighbour's clock is a minute ahead, herd_link_clock_seconds is %v", ahead)
	}
	took := herdtest.Eventually(t, herdtest.Promise(2*time.Second), "the link is down", func() error {
		if up() != 0 {
			return fmt.Errorf("herd_link_up is %v", up())
		}
		return nil
	})
	t.Logf("down after %v of silence", took.Round(time.Millisecond))
	s.tell("kiwi", 5e9)
	beats := 0
	next(s.in, herdtest.Promise(time.Second), func(m *nats.Msg) bool {
		if hasLines(m) {
			t.Errorf("a down link sends %q", m.Data)
		} else {
			beats++
			if m.Header.Get("Herd-Interval") == "" || m.Header.Get("Herd-Time") == "" {
				t.Errorf("a heartbeat without Herd-Interval or Herd-Time: %v", m.Header)
			}
		}
		return beats == 5
	})
	if beats < 5 {
		t.Errorf("a down link sends %d heartbeats, and then none", beats)
	}
	beat()
	if m := s.batch(); !strings.Contains(string(m.Data), " kiwi ") {
		t.Errorf("up again it sends %q", m.Data)
	}
}
