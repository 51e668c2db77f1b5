package places_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"herd/places"
	"herd/places/nearby"
)

// book is a provider that must load its places first. Each Load takes a second and returns
// what results sends.
type book struct {
	provider
	results chan error
}

func newBook() *book {
	return &book{*fails("book", errors.New("not read yet")), make(chan error, 1)}
}

func (b *book) Instant() {}

func (b *book) Known() int { return 7 }

func (b *book) Load(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Second):
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-b.results:
		if err == nil {
			b.nearby = finds("book", 1).nearby
		}
		return err
	}
}

func isLoaded(f *places.Finder) bool {
	select {
	case <-f.Loaded():
		return true
	default:
		return false
	}
}

func TestTheNextAnswersUntilPlacesAreLoaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBook()
		f := places.NewFinder(silent(), b, &instant{*finds("next", 1)})
		defer f.Close()
		if text, ok := f.FindNow(ucla); !ok || parse(t, text).HTMLAttributions[0] != "next" || isLoaded(f) {
			t.Errorf("%v %s, loaded %v; want the next one's answer", ok, text, isLoaded(f))
		}
		b.results <- nil
		<-f.Loaded()
		if s := f.Stats(); !s[0].Loads || s[0].Known != 7 || s[1].Loads {
			t.Errorf("%+v, want 7 places of the first and no count of the second", s)
		}
		if text, ok := f.FindNow(ucla); !ok || parse(t, text).HTMLAttributions[0] != "book" {
			t.Errorf("%v %s, want what was loaded", ok, text)
		}
	})
}

// instant is an Instant provider.
type instant struct{ provider }

func (*instant) Instant() {}

func TestReloadsThatFailAreToldAndChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := newBook()
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)), b, finds("other", 1))
		b.results <- nil
		<-f.Loaded()
		for range 5 { // the first at once, and one more for all requested meanwhile
			f.Reload()
		}
		synctest.Wait()
		f.Reload()
		for range 2 {
			b.results <- errors.New("cut short")
			time.Sleep(2 * time.Second)
			synctest.Wait()
		}
		if got := parse(t, f.Find(t.Context(), ucla)); got.HTMLAttributions[0] != "book" {
			t.Errorf("answered by %v", got.HTMLAttributions)
		}
		f.Close()
		if n := strings.Count(log.String(), "cut short"); n != 2 || len(b.results) > 0 {
			t.Errorf("%d failures in the log, want 2:\n%s", n, &log)
		}
	})
}

func TestCloseEndsWhatIsLoading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		f := places.NewFinder(slog.New(slog.NewTextHandler(&log, nil)), newBook())
		time.Sleep(time.Minute) // it hangs
		f.Close()
		if !isLoaded(f) || log.Len() > 0 {
			t.Errorf("C19: loaded %v, log %q", isLoaded(f), &log)
		}
		f.Reload()
		if got := parse(t, f.Find(t.Context(), ucla)); got.Status != nearby.UnknownError {
			t.Errorf("after Close: %s", got.Status)
		}
	})
}
