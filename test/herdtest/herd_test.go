package herdtest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"herd/edge/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const ucla = "+34.068930-118.445127"

// H1, C19: a position sent to one edge reaches all. The others go on without a stopped edge, and
// it comes back on its address.
func TestAHerdInThisProcess(t *testing.T) {
	h := Start(t, Options{})
	if want := []string{"Bernard", "Clark", "Jaquez", "Johnson", "Juzang"}; !slices.Equal(h.Names(), want) {
		t.Errorf("%q, want %q", h.Names(), want)
	}
	told, err := h.Client(t, "Clark").IAMAT(t.Context(), "kiwi", ucla, time.Now())
	if err != nil || told.Edge != "Clark" {
		t.Fatalf("%+v, %v", told, err)
	}
	knows := func(name string) {
		t.Helper()
		c := h.Client(t, name)
		Eventually(t, Promise(time.Second), name+" knows", func() error {
			at, _, err := c.WHATSAT(t.Context(), "kiwi", 0, 0)
			if err == nil && at != told {
				err = errors.New(at.Line)
			}
			return err
		})
	}
	for _, name := range h.Names() {
		knows(name)
	}
	addr := h.Addr("Clark")
	if err := h.Stop("Clark"); err != nil {
		t.Fatal(err)
	}
	if err := h.Stop("Clark"); err != nil {
		t.Errorf("stopped twice: %v", err)
	}
	at, err := h.Client(t, "Clark", "Juzang").IAMAT(t.Context(), "emu", ucla, time.Now())
	if err != nil || at.Edge != "Juzang" {
		t.Errorf("%+v, %v", at, err)
	}
	if err := h.Restart(t.Context(), "Clark"); err != nil {
		t.Fatal(err)
	}
	if h.Addr("Clark") != addr {
		t.Errorf("%s, was %s", h.Addr("Clark"), addr)
	}
	knows("Clark")
}

// S2, C19: though edges stop and restart, at the end all hold what clients were promised.
func TestTheJudgeFindsNothingWrongWithAHerdWhoseEdgesComeAndGo(t *testing.T) {
	h := Start(t, Options{})
	tracks := make([]Track, 20)
	var clients sync.WaitGroup
	over := make(chan struct{})
	for i := range tracks {
		names := h.Names()
		c := h.Client(t, slices.Concat(names[i%len(names):], names[:i%len(names)])...)
		tr := &tracks[i]
		tr.ID = fmt.Sprint("device-", i)
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-over:
					return
				default:
				}
				now := time.Now()
				where := client.Location(float64(i), float64(n)/1e5)
				tr.Sent = append(tr.Sent, Update{tr.ID + " " + where + " " + posix(now.UnixNano()), now})
				at, err := c.IAMAT(t.Context(), tr.ID, where, now)
				if err != nil {
					t.Errorf("%v", err)
					return
				}
				tr.Got = append(tr.Got, Reply{at.Line, time.Now()})
			}
		})
	}
	for _, name := range []string{"Bernard", "Clark", "Johnson"} {
		if err := h.Stop(name); err != nil {
			t.Error(err)
		}
		if err := h.Restart(t.Context(), name); err != nil {
			t.Error(err)
		}
	}
	close(over)
	clients.Wait()
	Eventually(t, Promise(5*time.Second), "nothing is wrong", func() error {
		held, err := h.Ask(tracks)
		if err != nil {
			return err
		}
		v := Judge(tracks, held, 0)
		if faults := v.Faults(); len(faults) > 0 || v.Judged != len(tracks) || len(held) != 5 {
			return fmt.Errorf("%v: %q", v, faults)
		}
		return nil
	})
}

// D1, D3: with JetStream, what an edge holds of its own clients outlives its run.
func TestAHerdWithJournals(t *testing.T) {
	h := Start(t, Options{Topology: "Clark", JetStream: true, Env: []string{"HERD_DURABILITY=journal"}})
	told, err := h.Client(t).IAMAT(t.Context(), "kiwi", ucla, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Stop("Clark"); err != nil {
		t.Fatal(err)
	}
	if err := h.Restart(t.Context(), "Clark"); err != nil {
		t.Fatal(err)
	}
	if at, _, err := h.Client(t).WHATSAT(t.Context(), "kiwi", 0, 0); err != nil || at != told {
		t.Errorf("%+v, %v, want %+v", at, err, told)
	}
}

func TestHerdsDoNotMeet(t *testing.T) {
	one, other := Start(t, Options{Topology: "A-B"}), Start(t, Options{Topology: "A-B"})
	if _, err := one.Client(t, "A").IAMAT(t.Context(), "kiwi", ucla, time.Now()); err != nil {
		t.Fatal(err)
	}
	_, _, err := other.Client(t, "A").WHATSAT(t.Context(), "kiwi", 0, 0)
	if _, refused := errors.AsType[*client.RefusedError](err); !refused {
		t.Errorf("%v", err)
	}
}

func TestWhatIsWrongWithAHerdIsSaidAtOnce(t *testing.T) {
	for _, c := range []struct {
		o    Options
		says string
	}{
		{Options{Topology: "A-A"}, "HERD_TOPOLOGY"},
		{Options{Topology: "A", Env: []string{"HERD_HEARTBEAT=never"}}, "HERD_HEARTBEAT"},
		{Options{Topology: "A", Env: []string{"HERD_DURABILITY=journal"}}, "HERD_JOURNAL"},
	} {
		h, err := Open(t.Context(), c.o)
		if err == nil {
			h.Close()
			t.Errorf("%+v is a herd", c.o)
		} else if !strings.Contains(err.Error(), c.says) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	h := Start(t, Options{Topology: "A"})
	if err := h.Restart(t.Context(), "A"); err == nil {
		t.Error("a running edge was started")
	}
	if err := h.Restart(t.Context(), "B"); err == nil {
		t.Error("an edge that is not of the herd was started")
	}
}
