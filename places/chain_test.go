package places_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"herd/places"
	"herd/places/nearby"
)

func TestChain(t *testing.T) {
	const limit = 8 * time.Second
	quota, broken := places.ErrOverQuota, errors.New("broken")
	for _, test := range []struct {
		name   string
		chain  []*provider
		status nearby.Status
		by     string // the provider that answers
		took   time.Duration
		asked  []int
	}{
		{"the preferred one answers", []*provider{finds("a", 1), finds("b", 1)}, nearby.OK, "a", 0, []int{1, 0}},
		{"an empty answer is an answer", []*provider{finds("a", 0), finds("b", 1)}, nearby.ZeroResults, "a", 0, []int{1, 0}},
		{"an error passes to the next", []*provider{fails("a", quota), finds("b", 1)}, nearby.OK, "b", 0, []int{1, 1}},
		{"and its emptiness is the answer", []*provider{fails("a", quota), finds("b", 0)}, nearby.ZeroResults, "b", 0, []int{1, 1}},
		{"all fail: the first's status", []*provider{fails("a", quota), fails("b", broken)}, nearby.OverQueryLimit, "", 0, []int{1, 1}},
		{"a slow one has half of the time", []*provider{takes("a", time.Minute, false), finds("b", 1)}, nearby.OK, "b", limit / 2, []int{1, 1}},
		{"a deaf one too", []*provider{takes("a", time.Minute, true), finds("b", 1)}, nearby.OK, "b", limit / 2, []int{1, 1}},
		{"half of what is left", []*provider{takes("a", time.Minute, false), takes("b", time.Minute, true), finds("c", 1)}, nearby.OK, "c", limit / 2 * 3 / 2, []int{1, 1, 1}},
		{"the last has all that is left", []*provider{takes("a", time.Minute, false), takes("b", limit/2-1, false)}, nearby.OK, "b", limit - 1, []int{1, 1}},
		{"all are late", []*provider{takes("a", time.Minute, true), takes("b", time.Minute, false)}, nearby.UnknownError, "", limit, []int{1, 1}},
		{"the last is late: the first's status", []*provider{fails("a", quota), takes("b", time.Minute, false)}, nearby.OverQueryLimit, "", limit, []int{1, 1}},
		{"nobody", nil, nearby.UnknownError, "", 0, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var chain []places.Provider
				for _, p := range test.chain {
					chain = append(chain, p)
				}
				f := places.NewFinder(silent(), chain...)
				ctx, cancel := context.WithTimeout(t.Context(), limit)
				defer cancel()
				start := time.Now()
				got := parse(t, f.Find(ctx, ucla))
				took := time.Since(start)
				f.Close() // after this no count changes
				if got.Status != test.status || took != test.took {
					t.Errorf("%s after %v, want %s after %v", got.Status, took, test.status, test.took)
				}
				if len(got.HTMLAttributions) != 1 && test.by != "" || test.by != "" && got.HTMLAttributions[0] != test.by {
					t.Errorf("the answer is by %v, want %s", got.HTMLAttributions, test.by)
				}
				for i, p := range test.chain {
					if p.asked != test.asked[i] {
						t.Errorf("%s asked %d times, want %d", p.name, p.asked, test.asked[i])
					}
				}
			})
		})
	}
}

func TestAStopIsNoFailureOfTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := places.NewFinder(silent(), fails("a", places.ErrOverQuota), takes("b", time.Minute, true), finds("c", 1))
		defer f.Close()
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		start := time.Now()
		got := parse(t, f.Find(ctx, ucla))
		if got.Status != nearby.UnknownError || time.Since(start) != time.Second {
			t.Errorf("C19: %s after %v, want %s after 1s", got.Status, time.Since(start), nearby.UnknownError)
		}
		if c := f.Stats()[2].Duration.Count; c != 0 {
			t.Errorf("C19: the next was asked %d times all the same", c)
		}
	})
}
