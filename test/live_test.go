package test

import (
	"fmt"
	"slices"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// told reads n lines of a watch, and returns them without edge, skew and time: `! w IN kiwi
// +1+1`.
func (c *conn) told(n int) (lines []string) {
	c.t.Helper()
	for range n {
		lines = append(lines, brief(c.line()))
	}
	return lines
}

// brief is a told line without edge, skew and time.
func brief(line string) string {
	f := strings.Fields(line)
	if len(f) < 8 {
		return line
	}
	return strings.Join(append([]string{f[0], f[1], f[2], f[5], f[6]}, f[8:]...), " ")
}

// expectTold reads as many told lines as are wanted, in any order.
func (c *conn) expectTold(want ...string) {
	c.t.Helper()
	got := c.told(len(want))
	sort.Strings(got)
	sort.Strings(want)
	if !slices.Equal(got, want) {
		c.t.Fatalf("told %q\nwant %q", got, want)
	}
}

// report sends IAMATs on a connection of their own, and returns when they are answered.
func report(t testing.TB, addr string, fields ...string) {
	t.Helper()
	for _, line := range strings.Split(strings.TrimSpace(talk(t, addr, "IAMAT "+strings.Join(fields, "\nIAMAT ")+"\n")), "\n") {
		if !strings.HasPrefix(line, "AT ") {
			t.Fatalf("IAMAT is answered %q", line)
		}
	}
}

func TestLiveQuestionsOverSockets(t *testing.T) {
	_, e := herdtest.StartLone(t, map[string]string{"HERD_WATCHES": "3", "HERD_WATCH_MEMBERS": "20", "HERD_PLACES": "gazetteer"})

	t.Run("L1 who is near, nearest first", func(t *testing.T) {
		report(t, e.Addr, "l1 +10+10 1", "l1-c +10.03+10 1", "l1-a +10.01+10 1", "l1-b +10.02+10 1", "l1-far +10.5+10 1")
		c := dial(t, e.Addr)
		for _, q := range []struct {
			fields string
			want   []string
		}{
			{"l1 5 20", []string{"l1", "l1-a", "l1-b", "l1-c"}},
			{"l1 5 2", []string{"l1", "l1-a", "l1-b"}},
			{"l1 2 20", []string{"l1", "l1-a"}},
			{"l1 0 20", []string{"l1"}},
			{"l1 50 0", []string{"l1"}},
			{"l1-b 50 20", []string{"l1-b", "l1-a", "l1-c", "l1"}},
		} {
			c.send("WHOSAT " + q.fields + "\n")
			for i, want := range q.want {
				f := strings.Fields(c.line())
				// Of two that are as far away, rounding decides.
				if equal := q.fields == "l1-b 50 20" && (i == 1 || i == 2) && len(f) == 6 && (f[3] == "l1-a" || f[3] == "l1-c"); !equal && (len(f) != 6 || f[0] != "AT" || f[3] != want) {
					t.Fatalf("WHOSAT %s: line %d is %q, want %s", q.fields, i, f, want)
				}
			}
			c.expect("\n")
		}
		for _, bad := range []string{"nobody 5 5", "l1 51 5", "l1 5 21", "l1 5", "l1 5 5 5", ""} {
			c.send("WHOSAT " + bad + "\n")
			c.expect("? WHOSAT " + bad + "\n")
		}
	})

	t.Run("L3 a list, then who comes, moves and goes", func(t *testing.T) {
		report(t, e.Addr, "l3-in +20+20 1", "l3-out +21+20 1")
		c := dial(t, e.Addr)
		c.send("WATCH w +20+20 10\nx\n")
		c.expectTold("! w IN l3-in +20+20")
		c.expect("! w NOW 1\n? x\n")
		for _, step := range []struct{ location, want string }{
			{"l3-out +20.05+20 2", "! w IN l3-out +20.05+20"},
			{"l3-out +20.06+20 3", "! w AT l3-out +20.06+20"},
			{"l3-out +20.5+20 4", "! w OUT l3-out +20.5+20 left"},
			{"l3-in +20.0+20 5", "! w AT l3-in +20.0+20"},
			{"l3-out +20+20.01 6", "! w IN l3-out +20+20.01"},
		} {
			report(t, e.Addr, step.location)
			c.expectTold(step.want)
		}
		report(t, e.Addr, "l3-in +20+20 1", "l3-in +20.0+20 5") // C11: older and repeated
		c.send("UNWATCH w\nUNWATCH w\nWATCH w l3-in\n")
		c.expect("! w OFF\n? UNWATCH w\n")
		c.expectTold("! w IN l3-in +20.0+20", "! w NOW 1")
		// Its own IAMAT is answered, and told.
		c.send("IAMAT l3-in -20-20 7\nx\n")
		lines := []string{c.line(), c.line(), c.line()}
		answers := slices.DeleteFunc(slices.Clone(lines), func(line string) bool { return strings.HasPrefix(line, "! ") })
		if len(answers) != 2 || !strings.HasPrefix(answers[0], "AT Clark ") || answers[1] != "? x" || !slices.ContainsFunc(lines, func(line string) bool { return brief(line) == "! w AT l3-in -20-20" }) {
			t.Errorf("got %q", lines)
		}
	})

	t.Run("L2 what can be watched", func(t *testing.T) {
		report(t, e.Addr, "l2-east -17+179.95 1", "l2-west -17-179.95 1", "+13105550100 -30+30 1", "l2-near -30+30.01 1", "l2-pole +90+0 1", "l2-pole-too +89.99-120 1")
		for _, q := range []struct {
			what string
			want []string
		}{
			{"-17.5+179.9 -16.5-179.9", []string{"IN l2-east -17+179.95", "IN l2-west -17-179.95", "NOW 2"}},
			{"-17+180 20", []string{"IN l2-east -17+179.95", "IN l2-west -17-179.95", "NOW 2"}},
			{"+13105550100", []string{"IN +13105550100 -30+30", "NOW 1"}},
			{"+13105550100 5", []string{"IN l2-near -30+30.01", "NOW 1"}},
			{"+90-77 2", []string{"IN l2-pole +90+0", "IN l2-pole-too +89.99-120", "NOW 2"}},
			{"+89-180 +90+180", []string{"IN l2-pole +90+0", "IN l2-pole-too +89.99-120", "NOW 2"}},
			{"nobody", []string{"NOW 0"}},
			{"nobody 50", []string{"NOW 0"}},
			{"-50-50 0", []string{"NOW 0"}},
		} {
			c := dial(t, e.Addr)
			c.send("WATCH w " + q.what + "\n")
			for i := range q.want {
				q.want[i] = "! w " + q.want[i]
			}
			c.expectTold(q.want...)
			c.Close()
		}
		c := dial(t, e.Addr)
		for _, bad := range []string{"", "w", "w +1+1 +0+0", "w +1+1 1001", "w kiwi 51", "w +91+1 1", "w a b c", strings.Repeat("n", 65) + " kiwi"} {
			c.send("WATCH " + bad + "\n")
			c.expect("? WATCH " + bad + "\n")
		}
	})

	t.Run("L5 names and limits", func(t *testing.T) {
		c := dial(t, e.Addr)
		c.send("WATCH a x\nWATCH a y\nWATCH b x\nWATCH c x\nWATCH d x\nUNWATCH b\nWATCH d x\nUNWATCH e\n")
		c.expect("! a NOW 0\n? WATCH a y\n! b NOW 0\n! c NOW 0\n? WATCH d x\n! b OFF\n! d NOW 0\n? UNWATCH e\n")
	})

	t.Run("L5 full", func(t *testing.T) {
		full := e.Metric("herd_watch_ended_total", `reason="full"`)
		var many []string
		for i := range 19 {
			many = append(many, fmt.Sprintf("full-%d +40+40 1", i))
		}
		report(t, e.Addr, many...)
		c := dial(t, e.Addr)
		c.send("WATCH w +40+40 1\n")
		lines := c.told(20)
		if lines[19] != "! w NOW 19" {
			t.Fatalf("told %q", lines)
		}
		report(t, e.Addr, "full-19 +40+40 1", "full-20 +40+40 1")
		for {
			line := c.line()
			if line == "! w OFF full" {
				break
			}
			if !strings.HasPrefix(line, "! w IN ") {
				t.Fatalf("told %q", line)
			}
		}
		c.send("WATCH w full-1\n") // the name is free, the connection goes on
		c.expectTold("! w IN full-1 +40+40", "! w NOW 1")
		if n := e.Metric("herd_watch_ended_total", `reason="full"`) - full; n != 1 {
			t.Errorf("%v ended as full", n)
		}
	})

	t.Run("L6 a half-close", func(t *testing.T) {
		report(t, e.Addr, "l6-a +50+50 1", "l6-b +50+50 1")
		all := talk(t, e.Addr, "WATCH w +50+50 1\nWHATSAT l6-a 0 0\nWATCH v l6-a\nlast")
		lines := strings.Split(all, "\n")
		if n := len(lines); n < 9 || lines[2] != "! w NOW 2" || !strings.HasPrefix(lines[3], "AT Clark ") || !strings.HasSuffix(all, "! v NOW 1\n? last\n") {
			t.Errorf("got %q", all)
		}
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), "nothing of a watch outlives its connection", func() error {
			if n := e.Metric("herd_watches"); n > 0 {
				return fmt.Errorf("%v watches", n)
			}
			if n := e.Metric("herd_watch_members"); n > 0 {
				return fmt.Errorf("%v members", n)
			}
			return nil
		})
	})

	t.Run("L5 a stop", func(t *testing.T) {
		c, listing := dial(t, e.Addr), dial(t, e.Addr)
		c.send("WATCH w l6-a\nWATCH v l6-b\n")
		c.expectTold("! w IN l6-a +50+50", "! w NOW 1", "! v IN l6-b +50+50", "! v NOW 1")
		e.Signal(syscall.SIGTERM)
		c.expectTold("! w OFF stopping", "! v OFF stopping")
		c.end()
		listing.end()
	})
}

func TestLiveQuestionsCanBeOff(t *testing.T) {
	h, e := herdtest.StartLone(t, map[string]string{"HERD_LIVE": "off"})
	report(t, e.Addr, "kiwi "+ucla+" 1")
	converse(t, e.Addr, refused("WHOSAT kiwi 5 5"), refused("WATCH w kiwi"), refused("UNWATCH w"), accepted("kiwi "+ucla+" 2"))
	reply, err := operator(h).Request("herd.edge.Clark.whosat", []byte("kiwi 5 5"), herdtest.Promise(5*time.Second))
	if err != nil || string(reply.Data) != "? WHOSAT kiwi 5 5\n" || reply.Header.Get("Nats-Service-Error-Code") != "400" {
		t.Errorf("over NATS: %v, %v", reply, err)
	}
	if all, err := e.Metrics(); err != nil {
		t.Error(err)
	} else {
		for name := range all {
			if strings.HasPrefix(name, "herd_watch") {
				t.Errorf("there is %s", name)
			}
		}
	}
}

func TestAWatcherAndTheIdleTimeout(t *testing.T) { // L6, C18
	_, e := herdtest.StartLone(t, map[string]string{"HERD_IDLE_TIMEOUT": "400ms"})
	watcher, ended, idle := dial(t, e.Addr), dial(t, e.Addr), dial(t, e.Addr)
	watcher.send("WATCH w kiwi\n")
	watcher.expect("! w NOW 0\n")
	ended.send("WATCH w kiwi\nUNWATCH w\n")
	ended.expect("! w NOW 0\n! w OFF\n")
	idle.send("x\n")
	idle.expect("? x\n")
	idle.end()
	ended.end()
	for range 2 { // two timeouts more
		dial(t, e.Addr).end()
	}
	report(t, e.Addr, "kiwi +1+1 1")
	watcher.expectTold("! w IN kiwi +1+1")
	if n := e.Metric("herd_connections_closed_total", `reason="idle"`); n != 4 {
		t.Errorf("%v closed as idle, want 4", n)
	}
}

func TestAWatcherThatDoesNotReadIsClosed(t *testing.T) { // L6, C18
	_, e := herdtest.StartLone(t, map[string]string{"HERD_WRITE_TIMEOUT": "1s", "HERD_WATCHES": "1000"})
	c := dial(t, e.Addr)
	var watches strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&watches, "WATCH w%d +60+60 1000\n", i)
	}
	c.send(watches.String())
	mover := dial(t, e.Addr)
	sent := 0
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "it is closed", func() error {
		for range 20 { // each is told a thousand times
			sent++
			mover.send(fmt.Sprintf("IAMAT mover +60+60.%04d %d\n", sent%10000, sent))
			mover.line()
		}
		if n := e.Metric("herd_connections_closed_total", `reason="write"`); n != 1 {
			return fmt.Errorf("%v closed for not reading", n)
		}
		return nil
	})
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "and nothing is left", func() error {
		if n := e.Metric("herd_watches") + e.Metric("herd_watch_members"); n != 0 {
			return fmt.Errorf("%v watches and members", n)
		}
		return nil
	})
}
