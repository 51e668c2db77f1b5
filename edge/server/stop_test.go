package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestAStopClosesInOrder(t *testing.T) { // C19
	h := newHerd()
	r := serve(t, Config{DrainTimeout: 20 * time.Second}, h)
	idle, busy := r.dial(), r.dial()
	busy.send("a\nunfinished")
	busy.want("= a\n")
	r.stop()
	idle.wantEnd()
	busy.wantEnd() // C19: an incomplete line is not answered
	if nc, err := net.Dial("tcp", r.addr); err == nil {
		_ = nc.Close()
		t.Error("still accepting")
	}
	select {
	case err := <-r.done:
		t.Fatalf("Serve returned %v before the clients closed their side", err)
	default:
	}
	_ = idle.Close()
	_ = busy.Close()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 2)
	if opened, closed := h.count(); opened != 2 || closed != 2 {
		t.Errorf("%d sessions opened, %d closed", opened, closed)
	}
}

func TestAStopWaitsForClientsOnlySoLong(t *testing.T) { // C19
	r := serve(t, Config{DrainTimeout: 50 * time.Millisecond}, newHerd())
	c := r.dial()
	c.send("a\n")
	c.want("= a\n")
	r.stop()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", 1)
}

func TestAStopEndsWhatWaits(t *testing.T) { // C19
	h := newHerd()
	h.asked = make(chan string, 10)
	r := serve(t, Config{}, h)
	c := r.dial()
	c.send("wait 1\na\n" + strings.Repeat("wait 2\n", 9))
	for range 8 {
		<-h.asked
	}
	r.stop()
	c.want("ended 1\n= a\n" + strings.Repeat("ended 2\n", 9))
	c.wantEnd()
	_ = c.Close()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
}

// TestAStopUnderLoadLosesNoAnswer has clients that go on writing until they see the end of the
// stream.
func TestAStopUnderLoadLosesNoAnswer(t *testing.T) { // C19
	h := newHerd()
	r := serve(t, Config{DrainTimeout: 20 * time.Second}, h)
	const clients = 8
	warm := make(chan struct{}, clients)
	var all sync.WaitGroup
	answers := make([]int, clients)
	for i := range clients {
		c := r.dial()
		var writing sync.WaitGroup
		writing.Go(func() {
			for n := 0; ; n++ {
				if _, err := fmt.Fprintf(c, "%d %d\n", i, n); err != nil {
					return
				}
			}
		})
		all.Go(func() {
			defer writing.Wait()
			defer c.Close()
			for {
				answer, err := c.r.ReadString('\n')
				switch want := fmt.Sprintf("= %d %d\n", i, answers[i]); {
				case err == io.EOF && answer == "":
					return
				case err != nil:
					t.Errorf("client %d after %d answers: %q, %v", i, answers[i], answer, err)
					return
				case answer != want:
					t.Errorf("got %q, want %q", answer, want)
					return
				}
				if answers[i]++; answers[i] == 20 {
					warm <- struct{}{}
				}
			}
		})
	}
	for range clients {
		<-warm
	}
	r.stop()
	all.Wait()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.wantClosed("stop", clients)
	taken, answered := 0, 0
	for _, lines := range h.takes {
		taken += strings.Count(lines, "\n")
	}
	for _, n := range answers {
		answered += n
	}
	if taken != answered {
		t.Errorf("%d commands were taken, %d answered", taken, answered)
	}
}

func TestAbort(t *testing.T) { // C19: as after a second signal, or after the time limit
	r := serve(t, Config{WriteTimeout: time.Hour, DrainTimeout: time.Hour}, newHerd())
	reads, draining := r.dial(), r.dial()
	draining.send("a\n")
	draining.want("= a\n")
	reads.send("big 16000000\n")
	reads.want("xxx") // and nothing more, so that the server cannot finish
	r.stop()
	draining.wantEnd()
	r.Abort()
	if err := r.stopped(); !errors.Is(err, ErrAborted) {
		t.Errorf("Serve: %v, want %v", err, ErrAborted)
	}
	r.wantClosed("stop", 2)
}

func TestAbortAfterACompleteStopIsHarmless(t *testing.T) {
	r := serve(t, Config{}, newHerd())
	r.stop()
	if err := r.stopped(); err != nil {
		t.Error(err)
	}
	r.Abort()
}

// journal is a Recorder.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) write(at time.Time, remote, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if at.IsZero() || remote == "" {
		j.text.WriteString("WRONG ")
	}
	fmt.Fprintf(&j.text, format, args...)
}
func (j *journal) Opened(at time.Time, remote string)         { j.write(at, remote, "open\n") }
func (j *journal) Closed(at time.Time, remote, reason string) { j.write(at, remote, "%s\n", reason) }
func (j *journal) In(at time.Time, remote string, p []byte)   { j.write(at, remote, "> %q\n", p) }
func (j *journal) Out(at time.Time, remote string, p []byte)  { j.write(at, remote, "< %q\n", p) }
func (j *journal) Certified(at time.Time, remote, subject string) {
	j.write(at, remote, "certificate %s\n", subject)
}

func TestEverythingIsRecorded(t *testing.T) { // C20
	j := &journal{}
	h := newHerd()
	r := serve(t, Config{Recorder: j, MaxLine: 128}, h)
	c := r.dial()
	c.send("a\nb\n")
	c.want("= a\n= b\n")
	long := strings.Repeat("x", 128) + "y"
	c.send(long + "\n")
	c.want("~ " + long[:64] + " " + long[113:] + "\n")
	c.send("wait z\n")
	close(h.gate("z"))
	c.want("waited z\n")
	c.send("last")
	c.closeWrite()
	c.want("= last\n")
	c.wantEnd()
	r.wantClosed("client", 1)
	j.mu.Lock()
	defer j.mu.Unlock()
	want := "open\n> \"a\\nb\\n\"\n< \"= a\\n= b\\n\"\n> \"" + long[:64] + "\"\n< \"~ " + long[:64] + " " + long[113:] + "\\n\"\n" +
		"> \"wait z\\n\"\n< \"waited z\\n\"\n> \"last\"\n< \"= last\\n\"\nclient\n"
	if got := j.text.String(); got != want {
		t.Errorf("recorded\n%swant\n%s", got, want)
	}
}
