package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"herd/cmd/herd/load"
)

// talker is a client that sends commands until the edge ends the connection, which it then
// ends too, as a polite client does.
type talker struct {
	id       string
	reads    sync.Mutex   // held by a test while this client shall not read
	made     atomic.Int64 // commands
	sent     int          // of those made, how many a write took
	answers  int
	newest   int64 // the newest time that was answered
	failures []string
}

func (tk *talker) fail(format string, args ...any) {
	tk.failures = append(tk.failures, fmt.Sprintf(format, args...))
}

// run talks to one edge: positions, and every fourth command a question, so many at a time
// and no more than the edge and the network take.
func (tk *talker) run(e *edge, every time.Duration, many int) {
	c, err := net.Dial("tcp", e.addr)
	if err != nil {
		tk.fail("dial: %v", err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	commands := make(chan string, 1<<14)
	over := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		defer close(commands)
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-over:
				return
			case <-tick.C:
			}
			var text strings.Builder
			for range many {
				command := "IAMAT " + tk.id + " " + ucla + " " + posix(time.Now().UnixNano()) + "\n"
				if tk.made.Add(1)%4 == 0 {
					command = "WHATSAT " + tk.id + " 10 5\n"
				}
				select {
				case <-over:
					return
				case commands <- command:
				}
				text.WriteString(command)
			}
			if _, err := io.WriteString(c, text.String()); err != nil {
				return // the reader says why
			}
			tk.sent = int(tk.made.Load())
		}
	})
	r := bufio.NewReaderSize(c, 64<<10)
	for {
		tk.reads.Lock()
		_, err := r.Peek(1)
		tk.reads.Unlock()
		if err != nil {
			if err != io.EOF {
				tk.fail("the connection ended with %v after %d answers", err, tk.answers)
			}
			break
		}
		command, ok := <-commands
		if !ok {
			tk.fail("more answers than commands")
			break
		}
		if err := tk.answer(r, e.name, command); err != nil {
			tk.fail("answer %d: %v", tk.answers, err)
			break
		}
		tk.answers++
	}
	close(over)
	writer.Wait()
}

// answer reads the answer to a command.
func (tk *talker) answer(r *bufio.Reader, edge, command string) error {
	if strings.HasPrefix(command, "WHATSAT") {
		line, err := readWhatsat(r)
		if err == nil && stamp(line) != tk.newest {
			err = fmt.Errorf("%q answers %q, want the time %s", line, command, posix(tk.newest))
		}
		return err
	}
	line, err := r.ReadString('\n')
	if err != nil {
		return fmt.Errorf("%q: %w", line, err)
	}
	if !strings.HasPrefix(line, "AT "+edge+" ") || !strings.HasSuffix(line, strings.TrimPrefix(command, "IAMAT")) {
		return fmt.Errorf("%q answers %q", line, command)
	}
	tk.newest = stamp(strings.TrimSuffix(line, "\n"))
	return nil
}

// C19: an edge that is told to stop answers what it read, loses no answer to a reset, and
// ends when a neighbour holds every update that it answered.
func TestAStoppingEdgeOwesNobodyAnything(t *testing.T) {
	logs := t.TempDir()
	h := newHerd(t, options{each: func(e *edge) { e.env["HERD_TRANSCRIPT"] = filepath.Join(logs, e.name) }})
	stopping, others := h.edges["Clark"], h.others("Clark")
	elsewhere := begin(t, load.Config{Addrs: addresses(others), Prefix: "device-", Rate: size(200.0, 1000), Conns: 20, Clients: 200})
	elsewhere.warm(promise(10 * time.Second))

	talkers := make([]*talker, size(20, 100))
	var talking sync.WaitGroup
	for i := range talkers {
		talkers[i] = &talker{id: fmt.Sprintf("talker-%d", i)}
		talking.Go(func() { talkers[i].run(stopping, size(10*time.Millisecond, 5*time.Millisecond), 1) })
	}
	pass(t, size(time.Second, 5*time.Second))
	told := time.Now()
	stopping.signal(syscall.SIGTERM)
	code := stopping.wait(promise(10 * time.Second)) // HERD_SHUTDOWN_TIMEOUT
	took := time.Since(told)
	ids, newest := make([]string, len(talkers)), make([]int64, len(talkers))

	talking.Wait()
	for i, tk := range talkers {
		ids[i], newest[i] = tk.id, tk.newest
	}
	holder := make([]int64, len(ids)) // the newest time that any other edge held when the edge had ended
	for _, e := range others {
		lines, err := held(e.addr, ids)
		if err != nil {
			t.Fatal(err)
		}
		for i := range lines {
			holder[i] = max(holder[i], stamp(lines[i]))
		}
	}

	if code != 0 {
		t.Errorf("exit code %d, want 0 after a complete stop", code)
	}
	sent, answers := 0, 0
	for i, tk := range talkers {
		for _, failure := range tk.failures {
			t.Errorf("%s: %s", tk.id, failure)
		}
		sent, answers = sent+tk.sent, answers+tk.answers
		if holder[i] < newest[i] {
			t.Errorf("%s was told %s, and no other edge holds that", tk.id, posix(newest[i]))
		}
	}
	read, written := transcribed(t, filepath.Join(logs, "Clark"))
	if read != written || written != answers {
		t.Errorf("by its transcript the edge read %d commands and wrote %d answers, of which %d arrived", read, written, answers)
	}
	t.Logf("%d commands sent, %d read, %d answered; ended %v after SIGTERM", sent, read, answers, took.Round(time.Millisecond))
	all := awaitHolds(t, time.Now(), promise(time.Second), others, ids, newest)
	t.Logf("all other edges hold all that was answered %v after the end", all.Round(time.Millisecond))
	elsewhere.stop()
}

// transcribed is how many commands and answers are in a transcript (C20), whose lines are
// time, edge, remote address, direction and text.
func transcribed(t *testing.T, path string) (commands, answers int) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		switch f := strings.Fields(line); {
		case strings.Contains(line, " dropped "):
			t.Errorf("the transcript is not complete: %q", line)
		case len(f) < 5:
		case f[3] == ">" && (f[4] == "IAMAT" || f[4] == "WHATSAT"):
			commands++
		case f[3] == "<" && f[4] == "AT":
			answers++
		}
	}
	return commands, answers
}

// C19: an edge that stops has not read all that its clients go on to send; that must not
// cost them an answer.
func TestAStoppingEdgeLosesNoAnswerToAReset(t *testing.T) {
	_, e := newEdge(t, nil)
	floods := make([]*talker, 4)
	var talking sync.WaitGroup
	for i := range floods {
		floods[i] = &talker{id: fmt.Sprintf("flood-%d", i)}
		talking.Go(func() { floods[i].run(e, time.Millisecond, 1000) })
	}
	pass(t, size(500*time.Millisecond, 5*time.Second))
	// Buffers fill in both directions, and are full when the signal comes.
	for _, tk := range floods {
		tk.reads.Lock()
	}
	for _, tk := range floods {
		last, since := int64(0), time.Now()
		eventually(t, promise(10*time.Second), "all buffers are full", func() error {
			if now := tk.made.Load(); now != last {
				last, since = now, time.Now()
			}
			if time.Since(since) < 100*time.Millisecond {
				return errors.New("it still sends")
			}
			return nil
		})
	}
	e.signal(syscall.SIGTERM)
	throughout(t, 100*time.Millisecond, "nobody reads", func() error { return nil })
	for _, tk := range floods {
		tk.reads.Unlock()
	}
	if code := e.wait(promise(10 * time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	talking.Wait()
	made, answers := 0, 0
	for _, tk := range floods {
		for _, failure := range tk.failures {
			t.Errorf("%s: %s", tk.id, failure)
		}
		made, answers = made+int(tk.made.Load()), answers+tk.answers
	}
	t.Logf("%d answers to %d commands", answers, made)
	if answers == 0 || answers == made {
		t.Error("the edge left nothing unread: this was no flood")
	}
}

// C19: what links lack is handed on before the edge ends, here what waits for company
// (HERD_LINK_LINGER).
func TestAStoppingEdgeHandsOnWhatItsLinksLack(t *testing.T) {
	quiet(t)
	h := newHerd(t, options{topology: "Clark-Jaquez", env: map[string]string{"HERD_LINK_LINGER": "1s"}})
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	told := time.Now().UnixNano()
	talk(t, clark.addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	clark.signal(syscall.SIGTERM)
	if code := clark.wait(promise(10 * time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if err := holds(jaquez, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// C19: a client that reads nothing does not decide how an edge stops: what others were
// answered is handed on all the same, within HERD_SHUTDOWN_TIMEOUT.
func TestAClientThatNeverReadsDoesNotHoldUpAStop(t *testing.T) {
	quiet(t)
	const limit = 4 * time.Second
	h := newHerd(t, options{topology: "Clark-Jaquez", env: map[string]string{
		"HERD_LINK_LINGER": "1s", "HERD_SHUTDOWN_TIMEOUT": limit.String(),
	}})
	clark, jaquez := h.edges["Clark"], h.edges["Jaquez"]
	deaf := dial(t, clark.addr)
	deaf.SetReadBuffer(4 << 10)
	deaf.SetWriteDeadline(time.Now().Add(time.Second)) // long enough to fill all buffers
	io.WriteString(deaf, "IAMAT deaf "+ucla+" 5\n"+strings.Repeat("WHATSAT deaf 50 20\n", 1<<20))
	told := time.Now().UnixNano()
	talk(t, clark.addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	start := time.Now()
	clark.signal(syscall.SIGTERM)
	code := clark.wait(limit + promise(time.Second))
	t.Logf("ended %v after SIGTERM, exit code %d", time.Since(start).Round(time.Millisecond), code)
	if err := holds(jaquez, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// C19: nothing owed, nothing waited for.
func TestAnIdleEdgeStopsAtOnce(t *testing.T) {
	quiet(t)
	_, e := newEdge(t, nil)
	idle := dial(t, e.addr)
	idle.send("x\n")
	idle.expect("? x\n") // it is served, and not only in the system's queue
	start := time.Now()
	e.signal(syscall.SIGINT)
	idle.end()
	idle.Close()
	if code := e.wait(promise(10 * time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if took := time.Since(start); took > promise(time.Second) {
		t.Errorf("it took %v, want at once", took)
	}
}

// C19: a second signal ends an edge at once, exit 1.
func TestASecondSignalEndsAnEdgeAtOnce(t *testing.T) {
	quiet(t)
	_, e := newEdge(t, nil)
	// A client that does not end its side is drained for a second, which gives the time for
	// a second signal.
	busy := dial(t, e.addr)
	busy.send("x\n")
	busy.expect("? x\n") // it is served, and not only in the system's queue
	e.signal(syscall.SIGTERM)
	busy.end()
	start := time.Now()
	e.signal(syscall.SIGTERM)
	if code := e.wait(promise(5 * time.Second)); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	t.Logf("ended %v after the second signal", time.Since(start).Round(time.Millisecond))
}

// H7, C19: while all edges are restarted one after the other, each as soon as the last is
// ready, nobody who asks any of them hears `?` for a client that the herd knows.
func TestARollingRestartForgetsNobody(t *testing.T) {
	h := newHerd(t, options{})
	known := size(2000, 20000)
	crowd := populate(t, h.all(), "crowd-", known)

	// Devices that move and ask, and go to another edge when theirs ends.
	tr := begin(t, load.Config{
		Addrs: addresses(h.all()), Prefix: "crowd-", Rate: size(300.0, 1000), Conns: 50, Clients: known,
		WhatsatShare: 0.5, Radius: "0", Max: "0", Reconnect: true,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asked, forgotten := make([]int, len(h.names)), make([]error, len(h.names))
	for i, e := range h.all() {
		asking.Go(func() { asked[i], forgotten[i] = askForEver(ctx, e.addr, crowd.ids) })
	}
	stopAsking := sync.OnceFunc(func() { cancel(); asking.Wait() })
	defer stopAsking()

	for _, e := range h.all() {
		start := time.Now()
		e.signal(syscall.SIGTERM)
		if code := e.wait(promise(10 * time.Second)); code != 0 {
			t.Errorf("%s: exit code %d, want 0", e.name, code)
		}
		ended := time.Since(start)
		e.start()
		ready := e.awaitReady()
		t.Logf("%s ended in %v and was ready again %v later", e.name, ended.Round(time.Millisecond), ready.Round(time.Millisecond))
	}
	stopAsking()
	for i, e := range h.all() {
		t.Logf("%s was asked %d times", e.name, asked[i])
		if forgotten[i] != nil {
			t.Errorf("%s: %v", e.name, forgotten[i])
		}
		if asked[i] == 0 {
			t.Errorf("%s was never asked", e.name)
		}
	}
	tr.cancelAndWait()
	tr.log()
	if r := tr.result; r.Counts.Of(load.Refused)+r.Counts.Of(load.Wrong) > 0 {
		t.Errorf("wrong answers: %+v: %q", r.Counts, tr.wrong)
	}
	awaitHolds(t, time.Now(), promise(time.Second), h.all(), tr.ids, tr.answered())
	if err := sameBytes(h.all(), tr.ids); err != nil {
		t.Error(err)
	}
}

// askForEver asks one edge for known clients, over as many connections as that takes, and
// returns an error once the edge does not know one.
func askForEver(ctx context.Context, addr string, ids []string) (asked int, forgotten error) {
	dice := rand.New(rand.NewPCG(3, 4))
	for ctx.Err() == nil {
		pick := make([]string, 10)
		for i := range pick {
			pick[i] = ids[dice.IntN(len(ids))]
		}
		lines, err := held(addr, pick)
		if err == nil {
			for i, line := range lines {
				asked++
				if line == "" {
					return asked, fmt.Errorf("it answers ? for %s, which the herd knows", pick[i])
				}
			}
		} else if errors.Is(err, errOtherAnswer) {
			return asked, err
		}
		select { // in a tight loop it would be a load of its own
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return asked, nil
}
