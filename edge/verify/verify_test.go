package verify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
)

// ring is the default herd with short names.
const ring = "C-J,C-Z,B-J,B-Z,B-O,O-Z"

// told is what a result says, in short.
func told(r Result) string {
	var b strings.Builder
	for _, d := range r.Differences {
		fmt.Fprintf(&b, "%s %s %s by %q;", d.Client, d.Edge, d.Kind, d.By)
	}
	for _, s := range r.Silent {
		fmt.Fprintf(&b, "%s: %s;", s.Edge, s.Why)
	}
	if r.Unexamined > 0 {
		fmt.Fprintf(&b, "and %d;", r.Unexamined)
	}
	return b.String()
}

func TestEqualTablesAreComparedBySumsAlone(t *testing.T) {
	h := newHerd(t, ring, 0)
	h.fill(20_000, time.Unix(1e9, 0))
	r := h.run(t)
	if !r.OK() || !r.Same || len(r.Edges) != 5 || r.Clients != 20_000 || told(r) != "" {
		t.Errorf("%+v", r)
	}
	if h.asked[AskState] != 5 || h.asked[AskSums] != 5 || len(h.asked) != 2 {
		t.Errorf("asked %v", h.asked)
	}
}

func TestTheOneLineThatIsMissingIsFound(t *testing.T) {
	for name, test := range map[string]struct {
		had  bool // an older line was there
		most int  // bytes of an answer
	}{"missing": {}, "older": {had: true}, "through a narrow broker": {most: 64 << 10}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHerd(t, ring, 0)
				h.fill(50_000, time.Unix(1e9, 0))
				for _, f := range h.edges {
					if test.most > 0 {
						f.most = test.most
					}
				}
				old := ""
				if test.had {
					old = string(line("C", "kiwi", "+1+1", time.Unix(1, 0)))
					h.edges["C"].put(position.Source{}, []byte(old))
					h.settle()
				}
				lose := func(l []byte) bool { return bytes.Contains(l, []byte(" kiwi ")) }
				h.edges["B"].links["O"].lose, h.edges["Z"].links["O"].lose = lose, lose
				newest := string(line("C", "kiwi", "+2+2", time.Unix(2, 0)))
				h.edges["C"].put(position.Source{}, []byte(newest))
				h.settle()
				r := h.run(t)
				if told(r) != `kiwi O lost by "B";` || r.Same || r.OK() || r.Differences[0].Newest+"\n" != newest || strings.TrimSuffix(old, "\n") != r.Differences[0].Held || r.Differences[0].At != "B" {
					t.Errorf("%s, %+v", told(r), r)
				}
				if r.Took > 2*time.Second {
					t.Errorf("it took %v beside the work", r.Took)
				}
			})
		})
	}
}

// A line that was lost is missing beyond too, and what is merely late is told apart.
func TestWhatKindOfDifferenceItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHerd(t, "A-B,B-C,C-D", 0)
		h.fill(100, time.Unix(1e9, 0))
		h.edges["A"].put(position.Source{}, line("A", "late", "+1+1", time.Now()), line("A", "ahead", "+1+1", time.Now().Add(3*time.Hour)))
		r := h.run(t)
		if told(r) != `ahead B put off by "";ahead C put off by "";ahead D put off by "";late B late by "";late C late by "";late D late by "";` {
			t.Error(told(r))
		}
		if r.Took < 10*time.Second {
			t.Errorf("late after %v", r.Took)
		}

		h = newHerd(t, "A-B,B-C,C-D", 0)
		h.fill(100, time.Unix(1e9, 0))
		h.edges["A"].put(position.Source{}, line("A", "kiwi", "+1+1", time.Now()))
		h.edges["A"].links["B"].lose = func([]byte) bool { return true }
		h.settle()
		if r := h.run(t); told(r) != `kiwi B lost by "A";kiwi C lost by "";kiwi D lost by "";` || r.Took > 2*time.Second {
			t.Error(told(r), r.Took)
		}
	})
}

// While positions change and are on their way, nothing false is told, and a line that was lost
// before is found.
func TestNothingFalseIsToldWhilePositionsChange(t *testing.T) {
	runs := 30
	if testing.Short() {
		runs = 6
	}
	for seed := range uint64(runs) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 1))
			h := newHerd(t, ring, 0)
			h.fill(3000, time.Unix(1e8, 0))
			h.slow = time.Duration(1+r.IntN(100)) * time.Millisecond
			want := ""
			if seed%3 == 0 {
				lose := func(l []byte) bool { return bytes.Contains(l, []byte(" kiwi ")) }
				h.edges["B"].links["O"].lose, h.edges["Z"].links["O"].lose = lose, lose
				h.edges["C"].put(position.Source{}, line("C", "kiwi", "+2+2", time.Now()))
				h.settle()
				want = `kiwi O lost by "B";`
			}
			ctx, stop := context.WithCancel(t.Context())
			var all sync.WaitGroup
			for i, f := range []string{"B", "C", "J", "O", "Z"} {
				f, r := h.edges[f], rand.New(rand.NewPCG(seed, uint64(i)))
				all.Go(func() { // clients, some of whom never rest, and new ones
					for n := 0; ctx.Err() == nil; n++ {
						f.put(position.Source{}, line(f.name, fmt.Sprint("client-", r.IntN(3000)), "+3+3", time.Now()),
							line(f.name, fmt.Sprint("client-", r.IntN(4)), "+4+4", time.Now()), line(f.name, fmt.Sprint("new-", f.name, n), "+3+3", time.Now()))
						time.Sleep(time.Duration(r.IntN(3_000_000)))
					}
				})
				pauses := rand.New(rand.NewPCG(seed, uint64(10+i)))
				all.Go(func() { // links
					for ctx.Err() == nil {
						time.Sleep(time.Duration(pauses.IntN(40_000_000)))
						h.deliver(f)
					}
				})
			}
			time.Sleep(100 * time.Millisecond)
			result := h.run(t)
			stop()
			all.Wait()
			if told(result) != want {
				t.Errorf("seed %d: %s, want %s", seed, told(result), want)
			}
		})
	}
}

func TestWhatIsAboutToBeForgottenIsLeftOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHerd(t, "A-B", time.Hour)
		now := time.Now()
		h.fill(100, now)
		h.edges["A"].put(position.Source{}, line("A", "past", "+1+1", now.Add(-time.Hour+time.Minute)))
		r := h.run(t)
		if !r.OK() || r.Clients != 100 || !r.LeftOut.Equal(now.Add(-time.Hour+2*time.Minute)) {
			t.Errorf("%s, %+v", told(r), r)
		}
		h.edges["A"].put(position.Source{}, line("A", "young", "+1+1", now.Add(-time.Hour+3*time.Minute)))
		h.edges["A"].links["B"].acked = 1000
		if r := h.run(t); told(r) != `young B lost by "A";` {
			t.Error(told(r))
		}
	})
}

func TestEdgesThatDoNotAnswerAreNamedAndTheOthersCompared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHerd(t, ring, 0)
		h.fill(1000, time.Unix(1e9, 0))
		h.edges["C"].put(position.Source{}, line("C", "kiwi", "+2+2", time.Unix(2, 0)))
		h.edges["C"].links["J"].acked = 2000
		h.edges["C"].links["Z"].acked = 2000
		h.before = func(edge string, q *Question) error {
			switch {
			case edge == "B" && q.Ask != AskState:
				return errors.New("joining: level 1 of 5, waits for J")
			case edge == "J" && q.Ask == AskList:
				h.mu.Lock()
				h.edges["J"].epoch = "J2"
				h.mu.Unlock()
			case edge == "O" && q.Ask == AskClients:
				time.Sleep(time.Minute)
			}
			return nil
		}
		r, err := Run(t.Context(), Config{Ask: func(ctx context.Context, edge string, q []byte) ([]byte, error) {
			type answer struct {
				text []byte
				err  error
			}
			c := make(chan answer, 1)
			go func() { text, err := h.ask(ctx, edge, q); c <- answer{text, err} }()
			select {
			case a := <-c:
				return a.text, a.err
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}}, append(h.names(), "Gone"))
		if err != nil {
			t.Fatal(err)
		}
		want := `kiwi Z lost by "C";B: joining: level 1 of 5, waits for J;Gone: not connected to the broker;J: it restarted meanwhile;O: no answer within 10s;`
		if told(r) != want || fmt.Sprint(r.Edges) != "[C Z]" || r.OK() {
			t.Errorf("got  %s\nwant %s\n%v", told(r), want, r.Edges)
		}
		time.Sleep(time.Minute) // until the slow answer is over
	})
}

func TestAnEdgeThatIsBusyIsAskedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHerd(t, "A-B", 0)
		h.fill(1000, time.Unix(1e9, 0))
		var busy atomic.Int64
		h.before = func(edge string, q *Question) error {
			if busy.Add(1) < 20 || edge == "B" && q.Ask == AskSums {
				return fmt.Errorf("ask: %w", ErrBusy)
			}
			return nil
		}
		if r := h.run(t); told(r) != "B: no answer within 10s;" || r.Took < 10*time.Second || !r.Same {
			t.Error(told(r), r.Took)
		}
	})
}

func TestAnswersThatMakeNoSenseHarmNobody(t *testing.T) {
	for name, mangle := range map[string]func(r *Reply){
		"another name":   func(r *Reply) { r.Edge = "X" },
		"few sums":       func(r *Reply) { r.Sums = r.Sums[:len(r.Sums)/2] },
		"round in sums":  func(r *Reply) { r.Next = uint32(min(5, len(r.Sums))) },
		"round in lists": func(r *Reply) { r.Next = uint32(min(5, len(r.Entries))) },
		"half an entry":  func(r *Reply) { r.Entries = append(r.Entries, 7) },
		"nothing held":   func(r *Reply) { r.Held = nil },
		"more than held": func(r *Reply) { r.Held = append(r.Held, make([]Held, 2000)...) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHerd(t, "A-B,B-C", 0)
				h.fill(1000, time.Unix(1e9, 0))
				h.edges["A"].put(position.Source{}, line("A", "kiwi", "+2+2", time.Unix(2, 0)))
				h.edges["C"].put(position.Source{}, line("A", "kiwi", "+2+2", time.Unix(2, 0)))
				h.edges["B"].put(position.Source{}, line("A", "kiwi", "+2+2", time.Unix(1, 0)))
				h.mangle = func(edge string, r *Reply) {
					if edge == "B" {
						mangle(r)
					}
				}
				r := h.run(t)
				if len(r.Silent) != 1 || r.Silent[0].Edge != "B" || !strings.Contains(r.Silent[0].Why, errReply.Error()) || !r.Same {
					t.Errorf("%s, %+v", told(r), r.Edges)
				}
			})
		})
	}
}

func TestVeryManyDifferencesAreNotAllLookedInto(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHerd(t, "A-B", 0)
		h.fill(10_000, time.Unix(1e9, 0))
		lost := make([][]byte, 8000)
		for i := range lost {
			lost[i] = line("A", fmt.Sprint("lost-", i), "+1+1", time.Unix(1, 0))
		}
		h.edges["A"].put(position.Source{}, lost...)
		h.edges["A"].links["B"].acked = 1 << 60
		r := h.run(t)
		if len(r.Differences) < differencesMost || len(r.Differences)+r.Unexamined != 8000 || r.Same || r.Took > time.Minute {
			t.Errorf("%d differences and %d", len(r.Differences), r.Unexamined)
		}
	})
}

func TestRunEndsWithItsContext(t *testing.T) {
	h := newHerd(t, "A-B", 0)
	h.fill(100, time.Unix(1e9, 0))
	h.edges["A"].put(position.Source{}, line("A", "late", "+1+1", time.Now()))
	ctx, cancel := context.WithTimeoutCause(t.Context(), 100*time.Millisecond, errors.New("enough"))
	defer cancel()
	if _, err := Run(ctx, Config{Ask: h.ask}, h.names()); err == nil || err.Error() != "enough" {
		t.Errorf("got %v", err)
	}
}

func TestQuestionsThatAreRefused(t *testing.T) {
	table := position.New(position.Config{})
	key := make([]byte, position.DigestKey)
	for name, q := range map[string]Question{
		"no kind": {}, "another kind": {Ask: "all"},
		"no key": {Ask: AskSums}, "a short key": {Ask: AskList, Key: key[1:]},
		"too many bits": {Ask: AskSums, Key: key, Bits: 17}, "negative bits": {Ask: AskList, Key: key, Bits: -1},
		"sums without room": {Ask: AskSums, Key: key, Bits: 16},
		"too many slots":    {Ask: AskSlots, Slots: make([]uint32, 1025)}, "too many clients": {Ask: AskClients, Clients: make([][]byte, 1025)},
	} {
		if _, err := Answer(&q, table, State{Largest: 64 << 10}); err == nil {
			t.Errorf("%s: answered", name)
		}
	}
	for name, q := range map[string]Question{
		"beyond the last slot": {Ask: AskSums, Key: key, From: 1<<32 - 1}, "no bitmap": {Ask: AskList, Key: key, Bits: 16, From: 77},
		"a slot that is not there": {Ask: AskSlots, Slots: []uint32{1<<32 - 1}}, "an odd client": {Ask: AskClients, Clients: [][]byte{nil, {' '}}},
	} {
		if r, err := Answer(&q, table, State{}); err != nil || r.Next != 0 {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestADifferenceInJSON(t *testing.T) {
	got, err := json.Marshal([]Difference{{Client: []byte("ki\xffwi"), Edge: "O", Kind: Lost, Held: "AT \xff", Newest: "AT", At: "B", By: "B"}, {Client: []byte("<b>"), Edge: "O", Kind: Late}})
	want := `[{"client":"ki` + "\uFFFD" + `wi","client_base64":"a2n/d2k=","edge":"O","kind":"lost","newest":"AT","at":"B","by":"B"},{"client":"\u003cb\u003e","edge":"O","kind":"late","newest":"","at":""}]`
	if want = strings.Replace(want, `"newest":"AT"`, `"held":"AT `+"\uFFFD"+`","newest":"AT"`, 1); err != nil || string(got) != want {
		t.Errorf("got  %s, %v\nwant %s", got, err, want)
	}
}
