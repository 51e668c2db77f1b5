package places_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"herd/places"
	"herd/places/nearby"
)

// counted is a provider that many callers may ask.
type counted struct {
	asked  atomic.Int64
	most   atomic.Int64 // the last question's Max
	nearby func(ctx context.Context, q places.Query) (nearby.Answer, error)
}

func (c *counted) Name() string { return "counted" }

func (c *counted) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	c.asked.Add(1)
	c.most.Store(int64(q.Max))
	return c.nearby(ctx, q)
}

func TestEqualQuestionsInFlightAreOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{nearby: takes("", time.Second, false).nearby}
		c.nearby = func(ctx context.Context, q places.Query) (nearby.Answer, error) {
			time.Sleep(time.Second)
			return nearby.Found(nil, make([]nearby.Place, q.Max)), nil
		}
		f := places.NewFinder(silent(), c)
		defer f.Close()
		var all sync.WaitGroup
		for i := range 500 {
			all.Go(func() {
				q := ucla
				q.Max = 1 + i%20
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				if got := parse(t, f.Find(ctx, q)); got.Status != nearby.OK || len(got.Results) != q.Max {
					t.Errorf("max %d: %s with %d results", q.Max, got.Status, len(got.Results))
				}
			})
		}
		all.Wait()
		if n := c.asked.Load(); n != 1 || c.most.Load() != 20 {
			t.Errorf("asked %d times, for %d places; want once, for 20", n, c.most.Load())
		}
		if n := f.Stats()[0].Requests["ok"]; n != 1 {
			t.Errorf("counted %d times: what is counted is what goes out", n)
		}
		other := ucla
		for _, change := range []func(){func() { other.Radius += 0.001 }, func() { other.Lat += 1e-6 }, func() { other.Lon += 1e-6 }} {
			other = ucla
			change()
			before := c.asked.Load()
			all.Go(func() { f.Find(t.Context(), ucla) })
			f.Find(t.Context(), other)
			all.Wait()
			if n := c.asked.Load() - before; n != 2 {
				t.Errorf("%+v and %+v were asked %d times", ucla, other, n)
			}
		}
		if f.Find(t.Context(), ucla); c.asked.Load() != 8 {
			t.Errorf("an answer was kept")
		}
	})
}

func TestWhoGoesAwayTakesNobodysAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := &counted{nearby: takes("", 3*time.Second, false).nearby}
		f := places.NewFinder(silent(), c)
		defer f.Close()
		start := time.Now()
		var all sync.WaitGroup
		for i := range 3 { // the first asks for all of them
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			time.AfterFunc(2*time.Second, func() {
				if i == 0 || i == 2 {
					cancel()
				}
			})
			all.Go(func() {
				got := parse(t, f.Find(ctx, ucla))
				if goes := i != 1; goes != (got.Status == nearby.UnknownError) || goes != (time.Since(start) == 2*time.Second) {
					t.Errorf("%d: %s after %v", i, got.Status, time.Since(start))
				}
			})
			synctest.Wait()
		}
		all.Wait()
		if c.asked.Load() != 1 {
			t.Errorf("asked %d times", c.asked.Load())
		}
	})
}

// ask asks one question within limit, and returns the status, the provider that answered, and
// the time taken.
func ask(t *testing.T, f *places.Finder, limit time.Duration) (nearby.Status, string, time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	start := time.Now()
	got := parse(t, f.Find(ctx, ucla))
	synctest.Wait() // until the question itself has ended, so that nobody joins it
	return got.Status, strings.Join(got.HTMLAttributions, ""), time.Since(start)
}

func TestAProviderThatHangsIsLeftAloneAndLetBackIn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		hanging, back := takes("google", time.Hour, false).nearby, finds("google", 1).nearby
		p := &provider{name: "google", nearby: hanging}
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)), p, finds("next", 1))
		defer f.Close()
		const limit = 4 * time.Second
		for i := range 5 {
			if status, by, took := ask(t, f, limit); status != nearby.OK || by != "next" || took != limit/2 {
				t.Errorf("question %d: %s by %s after %v", i, status, by, took)
			}
		}
		if !f.Stats()[0].Open || f.Stats()[1].Open {
			t.Error("not open, or both")
		}
		for range 10 { // nobody waits for the provider any more
			if _, by, took := ask(t, f, limit); by != "next" || took != 0 {
				t.Errorf("open: answered by %s after %v", by, took)
			}
		}
		time.Sleep(5*time.Second + time.Millisecond)
		if _, by, took := ask(t, f, limit); by != "next" || took != limit/2 {
			t.Errorf("tried again in vain: answered by %s after %v", by, took)
		}
		if _, _, took := ask(t, f, limit); took != 0 || p.asked != 6 {
			t.Errorf("open again: took %v, asked %d times", took, p.asked)
		}
		p.nearby = back
		if _, by, _ := ask(t, f, limit); by != "next" {
			t.Error("tried before its time")
		}
		time.Sleep(5*time.Second + time.Millisecond)
		for range 3 {
			if _, by, took := ask(t, f, limit); by != "google" || took != 0 {
				t.Errorf("back: answered by %s after %v", by, took)
			}
		}
		got := f.Stats()[0].Requests
		if f.Stats()[0].Open || got["timeout"] != 6 || got["breaker_open"] != 12 || got["ok"] != 3 {
			t.Errorf("counted %v", got)
		}
		if n := f.Stats()[0].Duration.Count; n != 9 {
			t.Errorf("%d durations, want those of 9 questions that were asked", n)
		}
		if s := log.String(); strings.Count(s, "not asked for a while") != 1 || strings.Count(s, "answers again") != 1 {
			t.Errorf("log:\n%s", s)
		}
	})
}

func TestTheStatusOfAProviderThatIsLeftAloneIsItsLast(t *testing.T) {
	for _, test := range []struct {
		err    error
		opens  bool
		status nearby.Status
	}{
		{fmt.Errorf("%w: HTTP 403", places.ErrDenied), true, nearby.RequestDenied},
		{places.ErrOverQuota, true, nearby.OverQueryLimit},
		{errors.New("broken"), true, nearby.UnknownError},
		{places.ErrInvalid, false, nearby.InvalidRequest}, // the provider did answer
	} {
		synctest.Test(t, func(t *testing.T) {
			p := fails("a", test.err)
			f := places.NewFinder(silent(), p)
			defer f.Close()
			for range 20 {
				if status, _, _ := ask(t, f, time.Second); status != test.status {
					t.Errorf("%v: %s", test.err, status)
				}
			}
			if want := map[bool]int{true: 5, false: 20}[test.opens]; p.asked != want || f.Stats()[0].Open != test.opens {
				t.Errorf("%v: asked %d times, want %d", test.err, p.asked, want)
			}
		})
	}
}

func TestStopsOpenNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := fails("a", fmt.Errorf("ask: %w", context.Canceled))
		f := places.NewFinder(silent(), p)
		defer f.Close()
		for range 20 {
			f.Find(t.Context(), ucla)
		}
		if p.asked != 20 || f.Stats()[0].Open {
			t.Errorf("asked %d times, open %v", p.asked, f.Stats()[0].Open)
		}
	})
}

// budget returns a budget that writes to file, if that is not empty.
func budget(t *testing.T, daily, perSecond int, file string) *places.Budget {
	t.Helper()
	b, err := places.NewBudget(places.BudgetConfig{Daily: daily, PerSecond: perSecond, File: file, Log: silent()})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func left(b *places.Budget) int {
	n, _ := b.Left()
	return n
}

// Setting back a clock that was days ahead must not renew the day's budget.
func TestAClockThatGoesBackIsNoNewDay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "questions")
		if err := os.WriteFile(file, []byte(time.Now().AddDate(0, 0, 9).Format(time.DateOnly)+" 3\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		b := budget(t, 10, 0, file)
		p := finds("google", 1)
		f := places.NewFinder(silent(), places.Limit(p, places.Limits{Budget: b}))
		defer f.Close()
		f.Find(t.Context(), ucla)
		if n := f.Stats()[0].Requests["ok"]; n != 0 || left(b) != 0 {
			t.Errorf("%d were asked, %d left", n, left(b))
		}
		time.Sleep(24 * time.Hour)
		if left(b) != 10 {
			t.Errorf("a day later %d left", left(b))
		}
		f.Find(t.Context(), ucla)
		if n := f.Stats()[0].Requests["ok"]; n != 1 || left(b) != 9 {
			t.Errorf("a day later %d were asked, %d left", n, left(b))
		}
	})
}

func TestTheBudgetIsOfOneDayOfGoogles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b, err := places.NewBudget(places.BudgetConfig{Daily: 7, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		first, second := finds("google", 1), fails("google-legacy", places.ErrInvalid)
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)),
			places.Limit(second, places.Limits{Budget: b}), places.Limit(first, places.Limits{Budget: b}), finds("next", 1))
		defer f.Close()
		for i := range 3 { // two questions each, from one budget
			if _, by, _ := ask(t, f, time.Second); by != "google" {
				t.Errorf("question %d is answered by %s", i, by)
			}
		}
		if n := f.Stats()[0].BudgetLeft; n != 1 || !f.Stats()[0].Budgeted || f.Stats()[1].BudgetLeft != 1 || f.Stats()[2].Budgeted {
			t.Errorf("left: %+v", f.Stats())
		}
		for i := range 20 {
			if _, by, took := ask(t, f, time.Second); by != "next" || took != 0 {
				t.Errorf("over the limit %d: answered by %s after %v", i, by, took)
			}
		}
		got := f.Stats()[1]
		if got.Open || got.Requests["over_query_limit"] != 20 || got.Duration.Count != 3 || left(b) != 0 {
			t.Errorf("%+v: its own limit is no fault of the provider", got)
		}
		if strings.Count(log.String(), "used up") != 1 {
			t.Errorf("log: %s", &log)
		}
		// synctest bubbles begin at midnight UTC, which is 16:00 Pacific time.
		time.Sleep(8*time.Hour - time.Second)
		if left(b) != 0 {
			t.Errorf("%d left before midnight", left(b))
		}
		time.Sleep(time.Second)
		if left(b) != 7 {
			t.Errorf("%d left at midnight", left(b))
		}
		if _, by, _ := ask(t, f, time.Second); by != "google" || left(b) != 5 {
			t.Errorf("the next day: answered by %s, %d left", by, left(b))
		}
	})
}

func TestALimitAloneIsAStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := places.NewFinder(silent(), places.Limit(finds("google", 1), places.Limits{Budget: budget(t, 1, 0, "")}))
		defer f.Close()
		ask(t, f, time.Second)
		if status, _, _ := ask(t, f, time.Second); status != nearby.OverQueryLimit {
			t.Errorf("C16: %s", status)
		}
	})
}

func TestTheRateIsASeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := budget(t, 0, 10, "")
		p := finds("google", 1)
		f := places.NewFinder(silent(), places.Limit(p, places.Limits{Budget: b}), finds("next", 1))
		defer f.Close()
		for range 100 { // all at once
			ask(t, f, time.Second)
		}
		if p.asked != 10 {
			t.Errorf("asked %d times at once, want 10", p.asked)
		}
		for range 100 { // in 10 s
			time.Sleep(100 * time.Millisecond)
			ask(t, f, time.Second)
			ask(t, f, time.Second)
		}
		if p.asked < 109 || p.asked > 110 {
			t.Errorf("asked %d times in 10 s, want 10 and 100", p.asked)
		}
		if _, limited := b.Left(); limited || f.Stats()[0].Budgeted {
			t.Error("a rate is no budget")
		}
	})
}

func TestARestartDoesNotRefillTheBudget(t *testing.T) {
	file := filepath.Join(t.TempDir(), "questions")
	use := func(b *places.Budget, n int) {
		f := places.NewFinder(silent(), places.Limit(finds("google", 1), places.Limits{Budget: b}))
		defer f.Close()
		for range n {
			f.Find(t.Context(), ucla)
		}
	}
	for i := range 4 {
		b := budget(t, 10, 0, file)
		if left(b) != 10-3*i {
			t.Errorf("run %d starts with %d", i, left(b))
		}
		use(b, 3)
	}
	if b := budget(t, 10, 0, file); left(b) != 0 {
		t.Errorf("%d left", left(b))
	}
	if b := budget(t, 20, 0, file); left(b) != 10 { // a larger budget
		t.Errorf("%d left of 20", left(b))
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	for text, want := range map[string]int{
		"1999-12-31 10\n": 10, // of another day
		"2999-12-31 3\n":  0,  // the clock was wrong: no places are better than a bill
		"":                0,  // torn: no places are better than a bill
		"today\n":         0,
		time.Now().Format(time.DateOnly) + " -1\n": 0,
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if b := budget(t, 10, 0, file); left(b) != want {
			t.Errorf("%q: %d left, want %d", text, left(b), want)
		}
	}
	if _, err := places.NewBudget(places.BudgetConfig{Daily: 1, File: t.TempDir(), Log: silent()}); err == nil {
		t.Error("reads a folder")
	}
	// A count that cannot be written still counts.
	b := budget(t, 10, 0, filepath.Join(t.TempDir(), "gone", "questions"))
	if use(b, 3); left(b) != 7 {
		t.Errorf("%d left", left(b))
	}
}

// Google's terms forbid storing its answers: an equal question later is asked again.
func TestNoAnswerIsKept(t *testing.T) {
	p := finds("google", 3)
	f := places.NewFinder(silent(), places.Limit(p, places.Limits{Budget: budget(t, 5, 0, "")}))
	defer f.Close()
	for range 2 {
		f.Find(t.Context(), ucla)
	}
	if p.asked != 2 || f.Stats()[0].BudgetLeft != 3 {
		t.Errorf("asked %d times; %+v", p.asked, f.Stats())
	}
}

// closer is a provider that must be closed.
type closer struct {
	provider
	closed int
}

func (c *closer) Close() error { c.closed++; return nil }

func TestCloseClosesProviders(t *testing.T) {
	a, b := &closer{provider: *finds("a", 1)}, &closer{provider: *finds("b", 1)}
	f := places.NewFinder(silent(), a, places.Limit(b, places.Limits{}))
	f.Close()
	if a.closed != 1 || b.closed != 1 {
		t.Errorf("closed %d and %d times", a.closed, b.closed)
	}
}
