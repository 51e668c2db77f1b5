package herdtest

import (
	"testing"
	"time"
)

// Promise returns how long a test waits for something that the herd promises within d. The time
// is generous, for slow machines and the race detector. It only bounds what would never happen.
// How long something takes is measured by test/bench, beside its floor.
func Promise(d time.Duration) time.Duration { return max(time.Minute, 10*d) }

// Eventually polls ok until it returns nil, and returns how long that took. It fails the test
// after limit.
func Eventually(t testing.TB, limit time.Duration, what string, ok func() error) time.Duration {
	t.Helper()
	start := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ok()
		took := time.Since(start)
		if err == nil {
			return took
		}
		if took > limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		<-tick.C
	}
}

// Throughout polls ok for the whole of span, and fails the test if ok returns an error.
func Throughout(t testing.TB, span time.Duration, what string, ok func() error) {
	t.Helper()
	end := time.Now().Add(span)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := ok(); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if time.Now().After(end) {
			return
		}
		<-tick.C
	}
}
