package test

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"herd/test/herdtest"
)

// C5: HERD_MAX_LINE changes the limit.
func TestTheLongestLineIsConfigured(t *testing.T) {
	quiet(t)
	for _, most := range []int{128, 16384} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			quiet(t)
			_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_LINE": fmt.Sprint(most)})
			line := strings.Repeat("x", most)
			converse(t, e.Addr, refused(line), said{line + "\r", "? " + line}, said{line + "y", "? " + line[:64]}, said{line + "y\r", "? " + line[:64]}, refused("next"))
		})
	}
}

// C18: a connection without a command is closed; one with commands is not.
func TestAnIdleConnectionIsClosed(t *testing.T) {
	quiet(t)
	const idle = 3 * time.Second // long enough for a slow machine to send something within it
	_, e := herdtest.StartLone(t, map[string]string{"HERD_IDLE_TIMEOUT": idle.String()})
	busy, silent, half := dial(t, e.Addr), dial(t, e.Addr), dial(t, e.Addr)
	half.send("IAMAT half")
	start := time.Now()
	for time.Since(start) < 2*idle {
		busy.send("hello\n")
		busy.expect("? hello\n")
		pass(t, idle/20)
	}
	silent.closed()
	half.closed()
	last := time.Now()
	busy.send("hello\n")
	busy.expect("? hello\n")
	busy.closed()
	if took := time.Since(last); took < idle {
		t.Errorf("an idle connection was closed after %v, want %v", took, idle)
	}
	if n := e.Metric("herd_connections_closed_total"); n != 3 {
		t.Errorf("%v connections are counted as closed, want 3: %v", n, closedFor(t, e))
	}
}

// C18: a line that is not complete after a minute ends its connection, even if bytes keep coming.
func TestALineMustBeCompleteWithinAMinute(t *testing.T) {
	needsFull(t)
	quiet(t)
	_, e := herdtest.StartLone(t, nil)
	c := dial(t, e.Addr)
	c.SetDeadline(time.Now().Add(herdtest.Promise(time.Minute)))
	start := time.Now()
	go func() {
		for { // ends with the connection
			if _, err := io.WriteString(c, "x"); err != nil {
				return
			}
			pass(t, time.Second)
		}
	}()
	c.closed()
	if took := time.Since(start); took < 59*time.Second {
		t.Errorf("closed after %v, want 60s or more", took)
	}
}

// C18: a client that does not read its answers is no longer read, costs no memory, and is closed.
func TestAClientThatNeverReadsIsClosed(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_WRITE_TIMEOUT": "1s"})
	talk(t, e.Addr, "IAMAT kiwi "+ucla+" 5\n")
	before, closed := e.Memory(), e.Metric("herd_connections_closed_total")
	deaf := dial(t, e.Addr)
	deaf.SetReadBuffer(4 << 10)
	deaf.SetDeadline(time.Now().Add(herdtest.Promise(30 * time.Second)))
	question := strings.Repeat("WHATSAT kiwi 50 20\n", 100)
	sent := 0
	for {
		n, err := io.WriteString(deaf, question)
		sent += n
		if err != nil {
			if os.IsTimeout(err) {
				t.Fatalf("after %d bytes the client is neither read nor closed", sent)
			}
			break
		}
	}
	if grown := e.Memory() - before; grown > 32<<20 {
		t.Errorf("the edge grew by %.1f MiB", mib(grown))
	}
	herdtest.Eventually(t, herdtest.Promise(time.Second), "the closed connection is counted", func() error {
		if n := e.Metric("herd_connections_closed_total"); n != closed+1 {
			return fmt.Errorf("%v", closedFor(t, e))
		}
		return nil
	})
	t.Logf("closed after %d bytes of commands", sent)
}

// C18: a full edge closes a new connection at once while no other has been silent for a minute.
func TestAFullEdgeRefusesConnections(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_CONNS": "3"})
	var kept []*conn
	for range 3 {
		c := dial(t, e.Addr)
		c.send("hello\n")
		c.expect("? hello\n")
		kept = append(kept, c)
	}
	for range 5 {
		c := dial(t, e.Addr)
		c.closed()
		c.Close()
	}
	for _, c := range kept {
		c.send("hello\n")
		c.expect("? hello\n")
	}
	if n := e.Metric("herd_connections_refused_total"); n != 5 {
		t.Errorf("%v connections are counted as refused, want 5", n)
	}
	if n := e.Metric("herd_connections"); n != 3 {
		t.Errorf("%v connections, want 3", n)
	}
	kept[0].Close()
	herdtest.Eventually(t, herdtest.Promise(time.Second), "a place is free", func() error {
		if n := e.Metric("herd_connections"); n != 2 {
			return fmt.Errorf("%v connections", n)
		}
		return nil
	})
	c := dial(t, e.Addr)
	c.send("hello\n")
	c.expect("? hello\n")
}

// C18: a full edge evicts the connection longest without a command, after a minute.
func TestTheLongestSilentConnectionGivesWay(t *testing.T) {
	needsFull(t)
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_CONNS": "2"})
	oldest, second := dial(t, e.Addr), dial(t, e.Addr)
	for _, c := range []*conn{oldest, second} {
		c.SetDeadline(time.Now().Add(3 * time.Minute))
		c.send("hello\n")
		c.expect("? hello\n")
	}
	pass(t, 61*time.Second)
	second.send("hello\n")
	second.expect("? hello\n")
	third := dial(t, e.Addr)
	third.send("hello\n")
	third.expect("? hello\n")
	oldest.closed()
	fourth := dial(t, e.Addr)
	fourth.closed()
}

// C18: beyond HERD_MAX_CLIENTS new ids are refused; known clients go on.
func TestAFullTableRefusesNewClients(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_MAX_CLIENTS": "2"})
	converse(t, e.Addr,
		accepted("a "+ucla+" 5"), accepted("b "+ucla+" 5"), refused("IAMAT c "+ucla+" 5"),
		accepted("a "+ucla+" 6"), refused("WHATSAT c 0 0"), refused("IAMAT c "+ucla+" 6"))
	if n := e.Metric("herd_positions"); n != 2 {
		t.Errorf("%v positions, want 2", n)
	}
}

// C19: what was received before the signal is answered. Then the edge ends its side of the
// connection and waits for the client to end its own.
func TestAStoppingEdgeAnswersWhatItReceived(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, nil)
	c := dial(t, e.Addr)
	c.send("IAMAT kiwi " + ucla + " 5\nhello\nIAMAT half")
	c.line()
	c.expect("? hello\n")
	e.Signal(syscall.SIGTERM)
	c.end()
	c.Close()
	if code := e.Wait(herdtest.Promise(5 * time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// C20: the transcript has every line of every client in both directions, and every connection's
// beginning and end.
func TestTheTranscriptHasEveryLine(t *testing.T) {
	quiet(t)
	path := filepath.Join(t.TempDir(), "clark.log")
	_, e := herdtest.StartLone(t, map[string]string{"HERD_TRANSCRIPT": path, "HERD_TRANSCRIPT_MAX": "1MiB"})
	c := dial(t, e.Addr)
	remote := c.LocalAddr().String()
	c.send("IAMAT kiwi\x00\xff " + ucla + " 5\nhello\x1b[2J world\n" + strings.Repeat("long", 200) + "\n")
	answer := c.line()
	c.line()
	c.line()
	c.Close()
	read := func() string {
		text, err := os.ReadFile(path)
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		return string(text)
	}
	var text string
	skew := strings.Split(answer, " ")[2]
	wanted := []string{remote, "IAMAT kiwi", "AT Clark " + skew + " kiwi", "hello", "? hello", "? longlong"}
	herdtest.Eventually(t, herdtest.Promise(3*time.Second), "the transcript is written", func() error {
		text = read()
		for _, want := range wanted {
			if !strings.Contains(text, want) {
				return fmt.Errorf("it lacks %q", want)
			}
		}
		if n := strings.Count(text, remote); n < 8 { // opened, three in, three out, closed
			return fmt.Errorf("%s is in it %d times", remote, n)
		}
		return nil
	})
	for line := range strings.Lines(text) {
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return r < ' ' || r > '~' }) {
			t.Errorf("a line with what does not print: %q", line)
		}
		if len(line) > 512 {
			t.Errorf("a line of %d bytes: %.80q", len(line), line)
		}
	}

	// After the file was moved away, SIGHUP opens a new one.
	if err := os.Rename(path, path+".moved"); err != nil {
		t.Fatal(err)
	}
	e.Signal(syscall.SIGHUP)
	herdtest.Eventually(t, herdtest.Promise(3*time.Second), "the transcript is opened again", func() error {
		talk(t, e.Addr, "after the move\n")
		if !strings.Contains(read(), "after the move") {
			return fmt.Errorf("it has %d bytes", len(read()))
		}
		return nil
	})

	// It is rotated by size, and three old ones are kept.
	chatter := strings.Repeat(strings.Repeat("x", 200)+"\n", 1000)
	herdtest.Eventually(t, herdtest.Promise(20*time.Second), "the transcript is rotated", func() error {
		if got := talk(t, e.Addr, chatter); len(got) != len(chatter)+2*1000 {
			t.Fatalf("%d bytes of answers", len(got))
		}
		found, err := filepath.Glob(path + "?*")
		if err == nil && len(found) < 4 { // including the one that was moved
			err = fmt.Errorf("there are %q", found)
		}
		return err
	})
	for range 10 {
		talk(t, e.Addr, chatter)
	}
	found, _ := filepath.Glob(path + "?*")
	if len(found) > 4 {
		t.Errorf("there are %q, want three beside the one that was moved", found)
	}
	for _, name := range append(found, path) {
		if info, err := os.Stat(name); err == nil && info.Size() > 2<<20 {
			t.Errorf("%s has %d bytes, want about 1 MiB", name, info.Size())
		}
	}
}
