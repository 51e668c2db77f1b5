package edge

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// registry is the broker's side of names: who lives under one name.
type registry struct {
	mu   sync.Mutex // all fields here and of the runs
	runs []*nameRun
}

// do changes something under the lock.
func (r *registry) do(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

type nameRun struct {
	epoch     string
	reg       *registry
	connected chan struct{}
	claims    chan string
	frozen    bool
	odd       bool // answers without an epoch
	holds     bool
	ended     chan error
	settled   int
}

func (r *registry) start(t *testing.T, epoch string) *nameRun {
	n := &nameRun{epoch: epoch, reg: r, connected: make(chan struct{}, 1), claims: make(chan string, 16), ended: make(chan error, 1)}
	r.do(func() { r.runs = append(r.runs, n) })
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		take := func() error { r.do(func() { n.holds = true }); return nil }
		err := keepName(ctx, epoch, n, slog.New(slog.DiscardHandler), n.connected, n.claims, take, func() { r.do(func() { n.settled++ }) })
		r.do(func() { n.holds = false })
		n.ended <- err
	}()
	t.Cleanup(cancel)
	return n
}

func (n *nameRun) ask(ctx context.Context) (string, bool, error) {
	var epoch string
	odd := false
	n.reg.do(func() {
		for _, o := range n.reg.runs {
			if o != n && o.holds && !o.frozen {
				epoch = o.epoch
				odd = o.odd
			}
		}
	})
	if odd {
		return "", false, errors.New("an answer without an epoch")
	}
	if epoch == "" {
		<-ctx.Done() // nobody: the broker may not know
	}
	return epoch, epoch != "", nil
}

func (n *nameRun) claim() error {
	n.reg.do(func() {
		for _, o := range n.reg.runs {
			if o != n && o.holds {
				o.claims <- n.epoch // a frozen one reads it later
			}
		}
	})
	return nil
}

// times is how often the run settled.
func (n *nameRun) times() (settled int) {
	n.reg.do(func() { settled = n.settled })
	return settled
}

func (n *nameRun) hasEnded() error {
	synctest.Wait()
	select {
	case err := <-n.ended:
		return err
	default:
		return nil
	}
}

const older, younger = "00000000000000a1-00000001", "00000000000000a2-00000001"

func TestARunThatFindsItsNameTakenTwiceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		first := reg.start(t, older)
		signal(first.connected)
		time.Sleep(2 * time.Second)
		second := reg.start(t, younger)
		signal(second.connected)
		time.Sleep(9 * time.Second)
		if err := second.hasEnded(); err != nil {
			t.Fatalf("H10 ended after one answer: %v", err)
		}
		time.Sleep(2 * time.Second)
		if err := second.hasEnded(); !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), older) {
			t.Errorf("H10 ended with %v, want an error that names %s", err, older)
		}
		if first.hasEnded() != nil || first.times() != 1 || second.times() != 0 {
			t.Error("H10 asking ended the run that has the name")
		}
	})
}

func TestARunTakesTheNameThatItsLastRunGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		first := reg.start(t, older)
		signal(first.connected)
		time.Sleep(2 * time.Second)
		second := reg.start(t, younger)
		signal(second.connected)
		time.Sleep(time.Second)
		reg.do(func() { reg.runs = reg.runs[1:] }) // the first is gone
		time.Sleep(12 * time.Second)
		if err := second.hasEnded(); err != nil || second.times() != 1 {
			t.Errorf("H10 ended %v, settled %d times; want the name", err, second.times())
		}
	})
}

func TestTwinsSettleForTheLaterClaim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		a, b := reg.start(t, older), reg.start(t, younger)
		signal(a.connected) // both ask at once and hear nobody
		signal(b.connected)
		time.Sleep(11 * time.Second)
		if err := a.hasEnded(); !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), younger) {
			t.Errorf("H10 the older ended with %v", err)
		}
		if err := b.hasEnded(); err != nil {
			t.Errorf("H10 the younger ended with %v", err)
		}
	})
}

func TestARunThatWakesUpLeavesItsNameToTheLaterOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		a := reg.start(t, older)
		signal(a.connected)
		time.Sleep(2 * time.Second)
		reg.do(func() { a.frozen = true }) // SIGSTOP: it answers nobody
		b := reg.start(t, younger)
		signal(b.connected)
		time.Sleep(2 * time.Second)
		if b.hasEnded() != nil || b.times() != 1 {
			t.Fatal("H10 a frozen run keeps its name")
		}
		reg.do(func() { a.frozen = false })
		time.Sleep(11 * time.Second)
		if err := a.hasEnded(); !errors.Is(err, errNameTaken) {
			t.Errorf("H10 the one that woke ended with %v", err)
		}
		if b.hasEnded() != nil {
			t.Error("H10 the live run ended")
		}
	})
}

func TestANameIsClaimedOnEveryConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		a := reg.start(t, older)
		signal(a.connected)
		time.Sleep(2 * time.Second)
		watcher := &nameRun{epoch: "x", claims: make(chan string, 16), holds: true, frozen: true}
		reg.do(func() { reg.runs = append(reg.runs, watcher) })
		signal(a.connected)
		synctest.Wait()
		if a.times() != 2 || len(watcher.claims) != 1 {
			t.Errorf("H10 settled %d times, %d claims; want 2 and 1", a.times(), len(watcher.claims))
		}
		time.Sleep(30 * time.Second)
		if n := len(watcher.claims); n < 3 || n > 4 {
			t.Errorf("H10 %d claims in 30s more, want about 3", n-1)
		}
	})
}

func TestAnAnswerThatCannotBeReadIsAnAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := registry{runs: []*nameRun{{holds: true, odd: true}}}
		a := reg.start(t, younger)
		signal(a.connected)
		time.Sleep(12 * time.Second)
		if err := a.hasEnded(); !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), "without an epoch") {
			t.Errorf("H10 ended with %v", err)
		}
	})
}
