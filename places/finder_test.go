package places_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"herd/places"
	"herd/places/nearby"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// provider is a fake that answers by a function and counts its calls.
type provider struct {
	name   string
	asked  int // used by one test goroutine and what it waits for
	nearby func(ctx context.Context, q places.Query) (nearby.Answer, error)
}

func (p *provider) Name() string { return p.name }

func (p *provider) Nearby(ctx context.Context, q places.Query) (nearby.Answer, error) {
	p.asked++
	return p.nearby(ctx, q)
}

// finds returns a provider that finds n places.
func finds(name string, n int) *provider {
	return &provider{name: name, nearby: func(context.Context, places.Query) (nearby.Answer, error) {
		return nearby.Found([]string{name}, make([]nearby.Place, n)), nil
	}}
}

// fails returns a provider that fails at once.
func fails(name string, err error) *provider {
	return &provider{name: name, nearby: func(context.Context, places.Query) (nearby.Answer, error) {
		return nearby.Answer{}, err
	}}
}

// takes returns a provider that answers after d; if deaf, even when its context ends.
func takes(name string, d time.Duration, deaf bool) *provider {
	return &provider{name: name, nearby: func(ctx context.Context, _ places.Query) (nearby.Answer, error) {
		if deaf {
			time.Sleep(d)
			return nearby.Found([]string{name}, make([]nearby.Place, 1)), nil
		}
		select {
		case <-time.After(d):
			return nearby.Found([]string{name}, make([]nearby.Place, 1)), nil
		case <-ctx.Done():
			return nearby.Answer{}, ctx.Err()
		}
	}}
}

var ucla = places.Query{Lat: 34.06893, Lon: -118.445127, Radius: 10, Max: 5}

func silent() *slog.Logger { return slog.New(slog.DiscardHandler) }

// parse parses the result of Find and checks what must hold for any answer (C15, C16).
func parse(t *testing.T, text []byte) nearby.Answer {
	t.Helper()
	var answer nearby.Answer
	if err := json.Unmarshal(text, &answer); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	if answer.Results == nil || answer.HTMLAttributions == nil {
		t.Errorf("a list is missing in %s", text)
	}
	if failed := answer.Status.Failed(); failed != (answer.ErrorMessage != "") || failed && len(answer.Results) > 0 {
		t.Errorf("a failure with places or without a message, or the reverse: %s", text)
	}
	return answer
}

func TestFindGivesTheProvidersAnswer(t *testing.T) {
	for _, test := range []struct {
		name     string
		provider *provider
		query    places.Query
		status   nearby.Status
		results  int
		asked    int
	}{
		{"C15 some", finds("fake", 3), ucla, nearby.OK, 3, 1},
		{"C15 no more than max", finds("fake", 9), ucla, nearby.OK, 5, 1},
		{"C16 none", finds("fake", 0), ucla, nearby.ZeroResults, 0, 1},
		{"C12 radius 0", finds("fake", 3), places.Query{Max: 5}, nearby.ZeroResults, 0, 0},
		{"C12 max 0", finds("fake", 3), places.Query{Radius: 10}, nearby.ZeroResults, 0, 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := places.NewFinder(silent(), test.provider)
			defer f.Close()
			got := parse(t, f.Find(t.Context(), test.query))
			if got.Status != test.status || len(got.Results) != test.results || test.provider.asked != test.asked {
				t.Errorf("%s, %d results, asked %d times; want %s, %d, %d",
					got.Status, len(got.Results), test.provider.asked, test.status, test.results, test.asked)
			}
		})
	}
}

func TestFailuresAreStatuses(t *testing.T) {
	secret := errors.New("GET https://example.org/?key=hunter2: connection refused")
	for _, test := range []struct {
		name    string
		fails   func(context.Context, places.Query) (nearby.Answer, error)
		status  nearby.Status
		message string // "" means any
		outcome string
	}{
		{"C16 over the quota", fails("", places.ErrOverQuota).nearby, nearby.OverQueryLimit, places.ErrOverQuota.Message, "over_query_limit"},
		{"C16 denied", fails("", places.ErrDenied).nearby, nearby.RequestDenied, places.ErrDenied.Message, "request_denied"},
		{"C16 invalid", fails("", places.ErrInvalid).nearby, nearby.InvalidRequest, places.ErrInvalid.Message, "invalid_request"},
		{"C16 unknown", fails("", places.ErrUnknown).nearby, nearby.UnknownError, places.ErrUnknown.Message, "unknown_error"},
		{"C16 wrapped, own words", fails("", fmt.Errorf("%w: %w", secret, &places.Error{Status: nearby.RequestDenied, Message: "the key is not valid"})).nearby,
			nearby.RequestDenied, "the key is not valid", "request_denied"},
		{"C16 without words", fails("", &places.Error{Status: nearby.OverQueryLimit}).nearby, nearby.OverQueryLimit, places.ErrUnknown.Message, "over_query_limit"},
		{"C16 any error", fails("", secret).nearby, nearby.UnknownError, places.ErrUnknown.Message, "unknown_error"},
		{"C16 a status of its own", fails("", &places.Error{Status: "NOT_FOUND", Message: "gone"}).nearby, nearby.UnknownError, "gone", "unknown_error"},
		{"C16 its own time limit", fails("", fmt.Errorf("ask: %w", context.DeadlineExceeded)).nearby, nearby.UnknownError, "", "timeout"},
		{"C16 a failure without an error", func(context.Context, places.Query) (nearby.Answer, error) {
			return nearby.Failure(nearby.OverQueryLimit, "tomorrow again"), nil
		}, nearby.OverQueryLimit, "tomorrow again", "over_query_limit"},
		{"C16 numbers that JSON cannot write", func(context.Context, places.Query) (nearby.Answer, error) {
			return nearby.Found(nil, []nearby.Place{{Rating: math.NaN()}}), nil
		}, nearby.UnknownError, places.ErrUnknown.Message, "unknown_error"},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := places.NewFinder(silent(), &provider{name: "fake", nearby: test.fails})
			defer f.Close()
			text := f.Find(t.Context(), ucla)
			got := parse(t, text)
			if got.Status != test.status || test.message != "" && got.ErrorMessage != test.message {
				t.Errorf("%s %q, want %s %q", got.Status, got.ErrorMessage, test.status, test.message)
			}
			if bytes.Contains(text, []byte("hunter2")) {
				t.Errorf("shows the key: %s", text)
			}
			if n := f.Stats()[0].Requests[test.outcome]; n != 1 {
				t.Errorf("outcome %s counted %d times: %v", test.outcome, n, f.Stats())
			}
		})
	}
}

func TestFindReturnsWhenItsTimeIsUp(t *testing.T) {
	for _, deaf := range []bool{false, true} {
		t.Run(fmt.Sprintf("C16 provider deaf %v", deaf), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := places.NewFinder(silent(), takes("slow", time.Minute, deaf))
				start := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				got := parse(t, f.Find(ctx, ucla))
				if took := time.Since(start); got.Status != nearby.UnknownError || took != 5*time.Second {
					t.Errorf("%s after %v, want %s after 5s", got.Status, took, nearby.UnknownError)
				}
				f.Close()
				if took := time.Since(start); deaf && took != time.Minute {
					t.Errorf("Close returned after %v, before the provider did", took)
				}
				if f.Stats()[0].Requests["timeout"] != 1 {
					t.Errorf("not counted: %v", f.Stats())
				}
			})
		})
	}
}

func TestFindReturnsWhenTheEdgeStops(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)), takes("slow", time.Minute, true))
		ctx, stop := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, stop)
		start := time.Now()
		if got := parse(t, f.Find(ctx, ucla)); got.Status != nearby.UnknownError || time.Since(start) != time.Second {
			t.Errorf("C19: %s after %v, want %s after 1s", got.Status, time.Since(start), nearby.UnknownError)
		}
		if got := parse(t, f.Find(ctx, ucla)); got.Status != nearby.UnknownError {
			t.Errorf("C19: a context that had ended: %s", got.Status)
		}
		f.Close()
		if got := parse(t, f.Find(t.Context(), ucla)); got.Status != nearby.UnknownError {
			t.Errorf("after Close: %s", got.Status)
		}
		if n := f.Stats()[0].Requests["stopped"]; n != 1 || log.Len() > 0 {
			t.Errorf("stopped counted %d times, want 1, for that it was asked once; log %q, want none: no provider's fault", n, log.String())
		}
	})
}

func TestAFailingProviderDoesNotFloodTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)), &instant{*fails("fake", errors.New("no route"))})
		defer f.Close()
		for range 100 { // 50 s
			f.Find(t.Context(), ucla)
			time.Sleep(500 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "\n"); n != 5 || !strings.Contains(log.String(), "failures=20") || !strings.Contains(log.String(), "no route") {
			t.Errorf("%d lines, want one in 10 s with the failures since:\n%s", n, log.String())
		}
	})
}

func TestStatsAreAHistogram(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := places.NewFinder(silent(), takes("slow", 20*time.Millisecond, false))
		defer f.Close()
		for range 3 {
			f.Find(t.Context(), ucla)
		}
		got := f.Stats()[0]
		if got.Provider != "slow" || got.Requests["ok"] != 3 || len(got.Requests) != 9 {
			t.Errorf("got %+v", got)
		}
		d := got.Duration
		if i := slices.Index(d.Buckets, 0.03); d.Count != 3 || math.Abs(d.Sum-0.06) > 1e-9 || i < 0 || d.Counts[i] != 3 {
			t.Errorf("got %+v, want three of 20 ms", d)
		}
	})
}
