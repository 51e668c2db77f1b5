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
	"herd/test/herdtest"
)

// talker is a client that sends commands until the edge ends its side of the connection, and then
// closes it.
type talker struct {
	id       string
	reads    sync.Mutex   // held by a test while this client must not read
	made     atomic.Int64 // commands
	sent     int          // how many commands were written
	answers  int
	newest   int64 // the newest time that was answered
	failures []string
}

func (tk *talker) fail(format string, args ...any) {
	tk.failures = append(tk.failures, fmt.Sprintf(format, args...))
}

// run sends commands to one edge: IAMATs, and every fourth a WHATSAT. It sends many at a time, as
// fast as the edge and the network accept them.
func (tk *talker) run(e *herdtest.EdgeProcess, every time.Duration, many int) {
	c, err := net.Dial("tcp", e.Addr)
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
				return // the reader reports the reason
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
		if err := tk.answer(r, e.Name, command); err != nil {
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
		line, err := herdtest.ReadWhatsat(r)
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

// C19: an edge that is told to stop answers what it has read, loses no answer to a reset, and ends
// only when a neighbour holds every update that it answered.
func TestAStoppingEdgeOwesNobodyAnything(t *testing.T) {
	logs := t.TempDir()
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Each: func(e *herdtest.EdgeProcess) { e.Env["HERD_TRANSCRIPT"] = filepath.Join(logs, e.Name) }})
	stopping, others := h.Edges["Clark"], h.Others("Clark")
	elsewhere := begin(t, load.Config{Addrs: addresses(others), Prefix: "device-", Rate: size(200.0, 1000), Conns: 20, Clients: 200})
	elsewhere.warm(herdtest.Promise(10 * time.Second))

	talkers := make([]*talker, size(20, 100))
	var talking sync.WaitGroup
	for i := range talkers {
		talkers[i] = &talker{id: fmt.Sprintf("talker-%d", i)}
		talking.Go(func() { talkers[i].run(stopping, size(10*time.Millisecond, 5*time.Millisecond), 1) })
	}
	pass(t, size(time.Second, 5*time.Second))
	told := time.Now()
	stopping.Signal(syscall.SIGTERM)
	code := stopping.Wait(herdtest.Promise(10 * time.Second)) // HERD_SHUTDOWN_TIMEOUT
	took := time.Since(told)
	ids, newest := make([]string, len(talkers)), make([]int64, len(talkers))

	talking.Wait()
	for i, tk := range talkers {
		ids[i], newest[i] = tk.id, tk.newest
	}
	holder := make([]int64, len(ids)) // the newest time that any other edge held when this edge had ended
	for _, e := range others {
		lines, err := herdtest.Held(e.Addr, ids)
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
	all := awaitHolds(t, time.Now(), herdtest.Promise(time.Second), others, ids, newest)
	t.Logf("all other edges hold all that was answered %v after the end", all.Round(time.Millisecond))
	elsewhere.stop()
}

// transcribed returns how many commands and answers are in a transcript (C20). Its lines are time,
// edge, remote address, direction and text.
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

// C19: an edge that stops has not read everything that its clients go on to send. That must not
// cost them an answer.
func TestAStoppingEdgeLosesNoAnswerToAReset(t *testing.T) {
	_, e := herdtest.StartLone(t, nil)
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
		herdtest.Eventually(t, herdtest.Promise(10*time.Second), "all buffers are full", func() error {
			if now := tk.made.Load(); now != last {
				last, since = now, time.Now()
			}
			if time.Since(since) < 100*time.Millisecond {
				return errors.New("it still sends")
			}
			return nil
		})
	}
	e.Signal(syscall.SIGTERM)
	herdtest.Throughout(t, 100*time.Millisecond, "nobody reads", func() error { return nil })
	for _, tk := range floods {
		tk.reads.Unlock()
	}
	if code := e.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
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

// C19: the edge sends what links lack before it ends, here what waits for the gap between two
// messages (H5).
func TestAStoppingEdgeHandsOnWhatItsLinksLack(t *testing.T) {
	quiet(t)
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{"HERD_LINK_GAP": "1s"}})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	told := time.Now().UnixNano()
	talk(t, clark.Addr, "IAMAT first "+ucla+" 5\n") // is sent at once, and the next one waits
	talk(t, clark.Addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	clark.Signal(syscall.SIGTERM)
	if code := clark.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if err := holds(jaquez, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// C19: a client that reads nothing does not delay a stop: what other clients were answered is sent
// to the neighbours all the same, within HERD_SHUTDOWN_TIMEOUT.
func TestAClientThatNeverReadsDoesNotHoldUpAStop(t *testing.T) {
	quiet(t)
	const limit = 8 * time.Second
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{Topology: "Clark-Jaquez", Env: map[string]string{
		"HERD_LINK_GAP": "1s", "HERD_SHUTDOWN_TIMEOUT": limit.String(),
	}})
	clark, jaquez := h.Edges["Clark"], h.Edges["Jaquez"]
	deaf := dial(t, clark.Addr)
	deaf.SetReadBuffer(4 << 10)
	deaf.SetWriteDeadline(time.Now().Add(time.Second)) // long enough to fill all buffers
	io.WriteString(deaf, "IAMAT deaf "+ucla+" 5\n"+strings.Repeat("WHATSAT deaf 50 20\n", 1<<20))
	told := time.Now().UnixNano()
	talk(t, clark.Addr, "IAMAT first "+ucla+" 5\n") // is sent at once, and the next one waits
	talk(t, clark.Addr, "IAMAT kiwi "+ucla+" "+posix(told)+"\n")
	start := time.Now()
	clark.Signal(syscall.SIGTERM)
	code := clark.Wait(limit + herdtest.Promise(time.Second))
	t.Logf("ended %v after SIGTERM, exit code %d", time.Since(start).Round(time.Millisecond), code)
	if err := holds(jaquez, []string{"kiwi"}, []int64{told}); err != nil {
		t.Error(err)
	}
}

// C19: an edge that owes nothing waits for nothing (for the duration see row stop of test/bench).
// An edge that waits for its time limit would wait longer than this test.
func TestAnIdleEdgeStopsAtOnce(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, map[string]string{"HERD_SHUTDOWN_TIMEOUT": "1h"})
	idle := dial(t, e.Addr)
	idle.send("x\n")
	idle.expect("? x\n") // it is served, not only in the system's backlog
	e.Signal(syscall.SIGINT)
	idle.end()
	idle.Close()
	if code := e.Wait(herdtest.Promise(time.Second)); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
}

// C19: a second SIGINT ends an edge at once with exit 1; a second SIGTERM within a second does not,
// since supervisors send two.
func TestASecondSIGINTEndsAnEdgeAtOnce(t *testing.T) {
	quiet(t)
	_, e := herdtest.StartLone(t, nil)
	// A client that does not end its side is drained for a second, which leaves time for further
	// signals.
	busy := dial(t, e.Addr)
	busy.send("x\n")
	busy.expect("? x\n") // it is served, not only in the system's backlog
	e.Signal(syscall.SIGTERM)
	busy.end()
	start := time.Now()
	e.Signal(syscall.SIGTERM)
	e.Signal(syscall.SIGINT)
	if code := e.Wait(herdtest.Promise(5 * time.Second)); code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	t.Logf("ended %v after the signals", time.Since(start).Round(time.Millisecond))
}

// H7, C19: while all edges are restarted one after the other, each as soon as the one before is
// ready, no edge answers `? ` for a client that the herd knows.
func TestARollingRestartForgetsNobody(t *testing.T) {
	h := herdtest.StartProcesses(t, herdtest.ProcessOptions{})
	known := size(2000, 20000)
	crowd := populate(t, h.All(), "crowd-", known)

	// Devices that move and ask, and go to another edge when theirs ends the connection.
	tr := begin(t, load.Config{
		Addrs: addresses(h.All()), Prefix: "crowd-", Rate: size(300.0, 1000), Conns: 50, Clients: known,
		WhatsatShare: 0.5, Radius: "0", Max: "0", Reconnect: true,
	})
	ctx, cancel := context.WithCancel(t.Context())
	var asking sync.WaitGroup
	asked, forgotten := make([]int, len(h.Names)), make([]error, len(h.Names))
	for i, e := range h.All() {
		asking.Go(func() { asked[i], forgotten[i] = askForEver(ctx, e.Addr, crowd.ids) })
	}
	stopAsking := sync.OnceFunc(func() { cancel(); asking.Wait() })
	defer stopAsking()

	for _, e := range h.All() {
		start := time.Now()
		e.Signal(syscall.SIGTERM)
		if code := e.Wait(herdtest.Promise(10 * time.Second)); code != 0 {
			t.Errorf("%s: exit code %d, want 0", e.Name, code)
		}
		ended := time.Since(start)
		e.Start()
		ready := e.AwaitReady()
		t.Logf("%s ended in %v and was ready again %v later", e.Name, ended.Round(time.Millisecond), ready.Round(time.Millisecond))
	}
	stopAsking()
	for i, e := range h.All() {
		t.Logf("%s was asked %d times", e.Name, asked[i])
		if forgotten[i] != nil {
			t.Errorf("%s: %v", e.Name, forgotten[i])
		}
		if asked[i] == 0 {
			t.Errorf("%s was never asked", e.Name)
		}
	}
	tr.cancelAndWait()
	tr.log()
	if r := tr.result; r.Counts.Of(load.Refused)+r.Counts.Of(load.Wrong) > 0 {
		t.Errorf("wrong answers: %+v: %q", r.Counts, tr.wrong)
	}
	awaitHolds(t, time.Now(), herdtest.Promise(time.Second), h.All(), tr.ids, tr.answered())
	if err := sameBytes(h.All(), tr.ids); err != nil {
		t.Error(err)
	}
}

// askForEver asks one edge for known clients, over as many connections as needed. It returns an
// error once the edge does not know one.
func askForEver(ctx context.Context, addr string, ids []string) (asked int, forgotten error) {
	dice := rand.New(rand.NewPCG(3, 4))
	for ctx.Err() == nil {
		pick := make([]string, 10)
		for i := range pick {
			pick[i] = ids[dice.IntN(len(ids))]
		}
		lines, err := herdtest.Held(addr, pick)
		if err == nil {
			for i, line := range lines {
				asked++
				if line == "" {
					return asked, fmt.Errorf("it answers ? for %s, which the herd knows", pick[i])
				}
			}
		} else if errors.Is(err, herdtest.ErrOtherAnswer) {
			return asked, err
		}
		select { // a tight loop would be a load of its own
		case <-ctx.Done():
		case <-time.After(2 * time.Millisecond):
		}
	}
	return asked, nil
}
