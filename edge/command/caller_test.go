package command

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/edge/position"
	"herd/edge/wire"
)

// iamat returns a position as a value.
func iamat(t *testing.T, fields string) wire.IAMAT {
	t.Helper()
	m, err := wire.ParseIAMAT([]byte(fields))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// Positions reported as values are answered, stored and counted like the same positions in lines.
func TestValuesAreServedAsLinesAre(t *testing.T) {
	fields := []string{"a +1+1 1", "a +1+1 1", "a +2+2 0.5", "b +1+1 1", "c +1+1 1"}
	limited := func() Config { return Config{Table: position.New(position.Config{MaxClients: 2})} }

	ofLines, lines := open(t, limited())
	lines.s.Remote = "x"
	want := lines.say("IAMAT " + strings.Join(fields, "\nIAMAT ") + "\nWHATSAT a 10 5\nWHATSAT a 0 5\nWHATSAT c 10 5\n")

	ofValues, _ := open(t, limited())
	c := ofValues.Caller(netip.Addr{})
	var positions []wire.IAMAT
	for _, f := range fields {
		positions = append(positions, iamat(t, f))
	}
	reports := c.Report(received, positions...)
	if reports.Waits() || reports.Await(t.Context()) != nil {
		t.Error("waits without a journal")
	}
	var got []string
	for i, r := range reports.Each {
		if answer := string(r.Line); r.Line != nil {
			got = append(got, answer)
		} else {
			got = append(got, string(Refusal(IAMAT, []byte(fields[i]))))
		}
	}
	for _, fields := range []string{"a 10 5", "a 0 5", "c 10 5"} {
		q, err := wire.ParseWHATSAT([]byte(fields))
		if err != nil {
			t.Fatal(err)
		}
		line, places, outcome := c.Where(t.Context(), received, &q)
		if outcome == OK {
			got = append(got, string(line)+string(places)+"\n\n")
		} else {
			got = append(got, string(Refusal(WHATSAT, []byte(fields))))
		}
	}
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("values: %q\nlines: %q", got, want)
	}
	if fmt.Sprint(counted(ofValues)) != fmt.Sprint(counted(ofLines)) {
		t.Errorf("values count as %v, lines as %v", counted(ofValues), counted(ofLines))
	}
}

func TestManyPositionsOfOneReportKeepTheirOrder(t *testing.T) {
	table := position.New(position.Config{})
	h, _ := open(t, Config{Table: table})
	var positions []wire.IAMAT
	const n = 3*takeMost + 7
	for i := range n {
		positions = append(positions, iamat(t, fmt.Sprintf("c%d +1+1 %d", i%10, i)))
	}
	reports := h.Caller(netip.Addr{}).Report(received, positions...)
	for i, r := range reports.Each {
		if want := fmt.Sprintf(" c%d +1+1 %d\n", i%10, i); r.Outcome != OK || !strings.HasSuffix(string(r.Line), want) {
			t.Fatalf("position %d: %v %q, want %q", i, r.Outcome, r.Line, want)
		}
	}
	if _, head, _ := table.Stats(); head != n {
		t.Errorf("%d changes, want %d", head, n)
	}
}

func TestACallerReportsNobodyElse(t *testing.T) {
	h, _ := open(t, Config{})
	c := h.CallerFor(netip.Addr{}, []string{"alice"})
	reports := c.Report(received, iamat(t, "alice +1+1 1"), iamat(t, "bob +1+1 1"), iamat(t, "alice +1+1 2"))
	if e := reports.Each; e[0].Outcome != OK || e[1].Outcome != Forbidden || e[1].Line != nil || e[2].Outcome != OK {
		t.Errorf("%v", e)
	}
	if got := fmt.Sprint(counted(h)); got != "[{iamat ok 2} {iamat forbidden 1}]" {
		t.Errorf("counted %v", got)
	}
	if _, _, outcome := c.Where(t.Context(), received, &wire.WHATSAT{Client: []byte("bob")}); outcome != Unknown {
		t.Errorf("bob is %v", outcome)
	}
}

func TestPromisesOfValuesAreAwaited(t *testing.T) {
	failed := errors.New("away")
	for name, c := range map[string]struct {
		err  error
		lost bool
		want string
	}{
		"kept":     {nil, false, "[{iamat ok 1} {iamat older 1}]"},
		"not kept": {failed, false, "[{iamat unkept 2}]"},
		"gone":     {failed, true, "[{iamat gone 2}]"},
	} {
		t.Run("D3 "+name, func(t *testing.T) {
			k := &kept{asked: make(chan []position.Ref, 1), err: c.err}
			h, _ := open(t, Config{Journal: k, JournalTimeout: time.Second})
			ctx, lose := context.WithCancel(t.Context())
			defer lose()
			reports := h.Caller(netip.Addr{}).Report(received, iamat(t, "a +1+1 2"), iamat(t, "a +1+1 1"))
			if !reports.Waits() || len(counted(h)) != 0 {
				t.Errorf("counted %v before the promise", counted(h))
			}
			if c.lost {
				lose()
			}
			if err := reports.Await(ctx); (err != nil) != (c.err != nil || c.lost) {
				t.Errorf("Await: %v", err)
			}
			if got := fmt.Sprint(counted(h)); got != c.want {
				t.Errorf("counted %v, want %v", got, c.want)
			}
		})
	}
}

func TestAPromiseOfValuesEndsWithItsTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, _ := open(t, Config{Journal: never{}, JournalTimeout: 2 * time.Second})
		begun := time.Now()
		reports := h.Caller(netip.Addr{}).Report(begun, iamat(t, "a +1+1 2"))
		time.Sleep(time.Second) // counts towards the limit
		if err := reports.Await(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 2*time.Second {
			t.Errorf("D3 after %v: %v", time.Since(begun), err)
		}
	})
}
