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

	"herd/broker"
	"herd/broker/brokertest"
	"herd/broker/options"
)

// registry plays the broker: it knows which runs live under one name.
type registry struct {
	mu   sync.Mutex // guards all fields here and in the runs
	runs []*nameRun
}

// do calls f while holding the lock.
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
	cut       bool // has no broker
	asked     int
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
	odd, cut := false, false
	n.reg.do(func() {
		n.asked++
		cut = n.cut
		for _, o := range n.reg.runs {
			if o != n && o.holds && !o.frozen {
				epoch = o.epoch
				odd = o.odd
			}
		}
	})
	switch {
	case cut:
		return "", false, broker.ErrNotConnected
	case odd:
		return "", false, errors.New("an answer without an epoch")
	}
	if epoch == "" {
		<-ctx.Done() // nobody answers: the broker may not know of it
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

// times returns how often the run settled.
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

// two starts a run that takes the name, and after two seconds a younger one that asks for it.
func (r *registry) two(t *testing.T) (first, second *nameRun) {
	first = r.start(t, older)
	signal(first.connected)
	time.Sleep(2 * time.Second)
	second = r.start(t, younger)
	signal(second.connected)
	return first, second
}

const older, younger = "00000000000000a1-00000001", "00000000000000a2-00000001"

func TestARunThatFindsItsNameTakenTwiceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		first, second := reg.two(t)
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
		_, second := reg.two(t)
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

// heard waits for the next claim that a watcher hears.
func heard(w *nameRun) string {
	synctest.Wait()
	select {
	case epoch := <-w.claims:
		return epoch
	default:
		return ""
	}
}

// watch adds a watcher, which hears claims and never answers.
func (r *registry) watch(epoch string) *nameRun {
	w := &nameRun{epoch: epoch, reg: r, claims: make(chan string, 100), holds: true, frozen: true}
	r.do(func() { r.runs = append(r.runs, w) })
	return w
}

func TestAnEarlierClaimIsAnsweredAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		a := reg.start(t, younger)
		signal(a.connected)
		time.Sleep(2 * time.Second)
		w := reg.watch(older)
		for range 3 {
			time.Sleep(time.Millisecond)
			a.claims <- older
			if got := heard(w); got != younger {
				t.Errorf("H10 %q is claimed against an earlier claim, want %q", got, younger)
			}
		}
		if err := a.hasEnded(); err != nil {
			t.Errorf("H10 ended by an earlier claim: %v", err)
		}
		a.claims <- younger[:16] + "-00000002" // the same start time, and a later one
		if err := a.hasEnded(); !errors.Is(err, errNameTaken) {
			t.Errorf("H10 ended with %v by a later claim", err)
		}
	})
}

func TestARunWithoutABrokerAsksOnItsFirstConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		w := reg.watch(younger)
		a := reg.start(t, older)
		time.Sleep(time.Hour)
		asked := 0
		reg.do(func() { asked = a.asked })
		if a.times() != 0 || asked != 0 || heard(w) != "" {
			t.Errorf("H10 without a broker: settled %d times, asked %d", a.times(), asked)
		}
		signal(a.connected)
		time.Sleep(2 * time.Second)
		if a.times() != 1 || heard(w) != older {
			t.Error("H10 the name is not claimed on the first connect")
		}
	})
}

func TestAQuestionThatTheBrokerTookWithItIsAskedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reg registry
		_, second := reg.two(t)
		time.Sleep(9 * time.Second)
		reg.do(func() { second.cut = true }) // away when it asks again
		time.Sleep(20 * time.Second)
		reg.do(func() { second.cut = false })
		signal(second.connected)
		time.Sleep(9 * time.Second)
		if err := second.hasEnded(); err != nil || second.times() != 0 {
			t.Errorf("H10 ended with %v, settled %d times; want it to ask twice again", err, second.times())
		}
		time.Sleep(2 * time.Second)
		if err := second.hasEnded(); !errors.Is(err, errNameTaken) {
			t.Errorf("H10 ended with %v", err)
		}
	})
}

// regain calls regainName for a run. ended returns its result, once it has one.
func (n *nameRun) regain(ctx context.Context) func() (error, bool) {
	ended := make(chan error, 1)
	go func() { ended <- regainName(ctx, n.epoch, n, slog.New(slog.DiscardHandler)) }()
	return func() (error, bool) {
		synctest.Wait()
		select {
		case err := <-ended:
			ended <- err
			return err, true
		default:
			return nil, false
		}
	}
}

func TestARunRegainsItsName(t *testing.T) {
	run := func(r *registry, epoch string) *nameRun {
		n := &nameRun{epoch: epoch, reg: r, claims: make(chan string, 100), holds: true}
		r.do(func() { r.runs = append(r.runs, n) })
		return n
	}
	t.Run("D5 nobody else answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reg registry
			ended := run(&reg, younger).regain(t.Context())
			time.Sleep(2 * time.Second)
			if err, over := ended(); err != nil || !over {
				t.Errorf("regained: %v, %v", over, err)
			}
		})
	})
	t.Run("D5 a later run answers", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reg registry
			run(&reg, younger)
			ended := run(&reg, older).regain(t.Context())
			if err, over := ended(); !over || !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), younger) {
				t.Errorf("%v, %v; want an error that names %s", over, err, younger)
			}
		})
	})
	t.Run("D5 an earlier run answers, and ends when it reads the claim", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reg registry
			first := run(&reg, older)
			ended := run(&reg, younger).regain(t.Context())
			time.Sleep(5 * time.Second)
			if err, over := ended(); over {
				t.Fatalf("regained beside a live run: %v", err)
			}
			if got := heard(first); got != younger {
				t.Errorf("the earlier run heard %q, want the claim", got)
			}
			reg.do(func() { first.holds = false }) // it has stopped
			time.Sleep(3 * time.Second)
			if err, over := ended(); err != nil || !over {
				t.Errorf("regained: %v, %v", over, err)
			}
		})
	})
	t.Run("D5 the broker is away", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reg registry
			a := run(&reg, older)
			run(&reg, younger)
			reg.do(func() { a.cut = true })
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ended := a.regain(ctx)
			time.Sleep(time.Hour)
			if err, over := ended(); over {
				t.Fatalf("ended without an answer: %v", err)
			}
			reg.do(func() { a.cut = false })
			time.Sleep(2 * time.Second)
			if err, over := ended(); !over || !errors.Is(err, errNameTaken) {
				t.Errorf("%v, %v", over, err)
			}
		})
	})
	t.Run("C19 the edge stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var reg registry
			run(&reg, older)
			ctx, cancel := context.WithCancel(t.Context())
			ended := run(&reg, younger).regain(ctx)
			time.Sleep(time.Minute)
			cancel()
			if err, over := ended(); !over || !errors.Is(err, context.Canceled) || errors.Is(err, errNameTaken) {
				t.Errorf("%v, %v", over, err)
			}
		})
	})
}

// twinOf answers for the name of edge A until the test ends or it hears a later claim.
func twinOf(t *testing.T, url, epoch string) {
	t.Helper()
	conn, err := broker.Dial(options.Broker{URL: url}, "A", broker.Events{}, brokertest.Log(t))
	if err != nil {
		t.Fatal(err)
	}
	end := sync.OnceFunc(conn.Close)
	t.Cleanup(end)
	if err := conn.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ending sync.WaitGroup
	t.Cleanup(ending.Wait)
	err = conn.AnswerName("herd", "A", epoch, func(other string) {
		if other > epoch {
			ending.Go(end)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAnEdgeRegainsItsNameOverTheBroker(t *testing.T) {
	nats := brokertest.Start(t)
	a := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A").ready()
	if err := a.edge.regainName(t.Context()); err != nil {
		t.Errorf("D5 nobody else has the name: %v", err)
	}
	twinOf(t, nats.URL(), older) // which claims without asking first
	if err := a.edge.regainName(t.Context()); err != nil {
		t.Errorf("D5 an earlier run has the name: %v", err)
	}
	const latest = "ffffffffffffffff-00000001"
	twinOf(t, nats.URL(), latest) // which claims nothing
	if err := a.edge.regainName(t.Context()); !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), latest) {
		t.Errorf("D5 a later run has the name: %v", err)
	}
}

// ownedBy makes a run the owner of A's journal and returns the previous owner. With "" it only
// asks.
func ownedBy(t *testing.T, url, epoch string) (before string) {
	t.Helper()
	bucket := brokertest.Dial(t, url, "another run").Bucket(broker.BucketConfig{Prefix: "herd", Edge: "A", Replicas: 1, Storage: "file"})
	if err := bucket.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, sequence, err := bucket.Owner(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if epoch == "" {
		return before
	}
	if _, err := bucket.Own(t.Context(), epoch, sequence); err != nil {
		t.Fatal(err)
	}
	return before
}

// D5: a run whose journal has another owner promises nothing until it has its name again.
func TestARunWhoseJournalHasAnotherOwner(t *testing.T) {
	const latest = "ffffffffffffffff-00000001"
	told := 0
	promises := func(a *running) func() bool {
		return func() bool { // of a line that the journal does not hold yet
			told++
			return strings.HasPrefix(a.say("IAMAT kiwi +1+1 %d", told), "AT A ")
		}
	}
	begin := func(t *testing.T) (*brokertest.Server, *running) {
		nats := brokertest.Start(t, brokertest.JetStream)
		a := run(t, "A", nats.URL(), "HERD_TOPOLOGY=A", "HERD_DURABILITY=journal", "HERD_JOURNAL_TIMEOUT=500ms").ready()
		eventually(t, "a promise", promises(a))
		return nats, a
	}
	t.Run("nobody answers for the name", func(t *testing.T) {
		nats, a := begin(t)
		ownedBy(t, nats.URL(), latest) // a run that is stopped
		eventually(t, "promises again", promises(a))
		if owner := ownedBy(t, nats.URL(), ""); owner != a.edge.epoch {
			t.Errorf("promised in a journal of %q", owner)
		}
	})
	t.Run("an earlier run answers", func(t *testing.T) {
		nats, a := begin(t)
		twinOf(t, nats.URL(), older)
		ownedBy(t, nats.URL(), older)
		eventually(t, "promises again, when the other has ended", promises(a))
		if owner := ownedBy(t, nats.URL(), ""); owner != a.edge.epoch {
			t.Errorf("promised in a journal of %q", owner)
		}
	})
	t.Run("a later run answers", func(t *testing.T) {
		nats, a := begin(t)
		twinOf(t, nats.URL(), latest)
		ownedBy(t, nats.URL(), latest)
		if got := a.say("IAMAT kiwi +1+1 1000"); !strings.HasPrefix(got, "? ") {
			t.Errorf("promised %q to who another run serves", got)
		}
		var err error
		select {
		case err = <-a.done:
			a.done <- err
		case <-time.After(20 * time.Second):
			err = errors.New("still runs")
		}
		if !errors.Is(err, errNameTaken) || !strings.Contains(err.Error(), latest) {
			t.Errorf("ended with %v, want an error that names %s", err, latest)
		}
	})
}
