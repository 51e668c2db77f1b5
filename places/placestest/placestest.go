// Package placestest is the suite that every places.Provider passes (C14, C15). It knows
// nothing of any particular provider: the test says where the provider under test has places.
package placestest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"reflect"
	"regexp"
	"slices"
	"sync"
	"testing"
	"unicode/utf8"

	"herd/places"
	"herd/places/nearby"
)

// Known says where the provider has places.
type Known struct {
	Busy  places.Query // there are more than Max places within Radius; Max is 2 to 19
	Quiet places.Query // there is no place within Radius
}

// Run runs the suite against p.
func Run(t *testing.T, p places.Provider, known Known) {
	t.Run("name is a word for metrics", func(t *testing.T) {
		if !regexp.MustCompile(`^[a-z][a-z0-9-]*$`).MatchString(p.Name()) {
			t.Errorf("Name() = %q", p.Name())
		}
	})
	t.Run("C15 questions", func(t *testing.T) {
		for _, q := range questions(known) {
			if _, err := ask(t.Context(), p, q); err != nil {
				t.Errorf("%+v: %v", q, err)
			}
		}
	})
	t.Run("C15 a smaller max is a shorter answer", func(t *testing.T) { report(t, prefixes(t.Context(), p, known.Busy)) })
	t.Run("C15 a smaller radius leaves out the far ones", func(t *testing.T) { report(t, shrinks(t.Context(), p, known.Busy)) })
	t.Run("C16 nothing near", func(t *testing.T) {
		answer, err := ask(t.Context(), p, known.Quiet)
		if err != nil || answer.Status != nearby.ZeroResults {
			t.Errorf("status %s, %v; want %s", answer.Status, err, nearby.ZeroResults)
		}
	})
	t.Run("asked from many goroutines", func(t *testing.T) { report(t, crowd(t.Context(), p, questions(known))) })
	t.Run("C16 context ended", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := ask(ctx, p, known.Busy); err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("%v; want an answer or an error that is %v", err, context.Canceled)
		}
	})
}

func report(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}

// questions returns questions that a client may ask about the known points.
func questions(known Known) []places.Query {
	var all []places.Query
	for _, q := range []places.Query{known.Busy, known.Quiet} {
		for _, share := range []float64{1e-6, 0.1, 0.5, 1} {
			for _, most := range []int{1, q.Max, 20} {
				all = append(all, places.Query{Lat: q.Lat, Lon: q.Lon, Radius: q.Radius * share, Max: most})
			}
		}
	}
	return all
}

// ask asks q and checks everything that must hold for any answer.
func ask(ctx context.Context, p places.Provider, q places.Query) (nearby.Answer, error) {
	answer, err := p.Nearby(ctx, q)
	if err != nil {
		return answer, err
	}
	if want := nearby.Found(nil, answer.Results).Status; answer.Status != want || answer.ErrorMessage != "" {
		return answer, fmt.Errorf("status %q and message %q with %d results", answer.Status, answer.ErrorMessage, len(answer.Results))
	}
	if len(answer.Results) > q.Max {
		return answer, fmt.Errorf("%d results, more than the %d asked for", len(answer.Results), q.Max)
	}
	seen, last := make(map[string]bool), 0.0
	for _, place := range answer.Results {
		at := place.Geometry.Location
		if place.Name == "" || place.PlaceID == "" || len(place.Types) == 0 {
			return answer, fmt.Errorf("%+v lacks a name, an id or a type", place)
		}
		if seen[place.PlaceID] {
			return answer, fmt.Errorf("%s occurs twice", place.PlaceID)
		}
		seen[place.PlaceID] = true
		if !(math.Abs(at.Lat) <= 90 && math.Abs(at.Lng) <= 180) {
			return answer, fmt.Errorf("%s is nowhere: %+v", place.PlaceID, at)
		}
		d := distance(q, at)
		if d > q.Radius+rounding {
			return answer, fmt.Errorf("%s is %v km away, beyond %v", place.PlaceID, d, q.Radius)
		}
		if d < last-rounding {
			return answer, fmt.Errorf("%s is %v km away, after one %v km away", place.PlaceID, d, last)
		}
		last = d
	}
	return answer, written(answer)
}

// written checks the answer's JSON (C14).
func written(answer nearby.Answer) error {
	text, err := answer.Append(nil)
	if err != nil {
		return err
	}
	if !json.Valid(text) || !utf8.Valid(text) || bytes.Contains(text, []byte("\n\n")) || bytes.HasSuffix(text, []byte("\n")) {
		return fmt.Errorf("breaks C14: %q", text)
	}
	return nil
}

// prefixes checks that a smaller maximum returns the same places, cut at the end.
func prefixes(ctx context.Context, p places.Provider, q places.Query) error {
	most := q
	most.Max = 20
	all, err := ask(ctx, p, most)
	if err != nil {
		return err
	}
	if len(all.Results) <= q.Max {
		return fmt.Errorf("only %d places: Known.Busy is not busy", len(all.Results))
	}
	for q.Max = range 20 {
		if q.Max == 0 {
			continue // C12: no provider is asked
		}
		some, err := ask(ctx, p, q)
		if err != nil {
			return err
		}
		if want := all.Results[:min(q.Max, len(all.Results))]; !reflect.DeepEqual(some.Results, want) {
			return fmt.Errorf("max %d: got %v, want %v", q.Max, ids(some), ids(nearby.Answer{Results: want}))
		}
	}
	return nil
}

// shrinks checks that every radius leaves out exactly the places beyond it.
func shrinks(ctx context.Context, p places.Provider, q places.Query) error {
	q.Max = 20
	all, err := ask(ctx, p, q)
	if err != nil {
		return err
	}
	centre := q
	for i, place := range all.Results {
		q.Radius = distance(centre, place.Geometry.Location) + 2*rounding
		some, err := ask(ctx, p, q)
		if err != nil {
			return err
		}
		got, want := ids(some), ids(all)[:i+1]
		if len(got) < len(want) || !slices.Equal(got[:len(want)], want) {
			return fmt.Errorf("radius %v: got %v, want %v", q.Radius, got, want)
		}
	}
	return nil
}

// crowd asks all questions from several goroutines and checks that the answers do not differ.
func crowd(ctx context.Context, p places.Provider, all []places.Query) error {
	var want [][]string
	for _, q := range all {
		answer, err := ask(ctx, p, q)
		if err != nil {
			return err
		}
		want = append(want, ids(answer))
	}
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for i := range errs {
		wg.Go(func() {
			for j, q := range all {
				answer, err := ask(ctx, p, q)
				if err == nil && !slices.Equal(ids(answer), want[j]) {
					err = fmt.Errorf("%+v: got %v, alone %v", q, ids(answer), want[j])
				}
				errs[i] = errors.Join(errs[i], err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func ids(answer nearby.Answer) []string {
	all := []string{}
	for _, place := range answer.Results {
		all = append(all, place.PlaceID)
	}
	return all
}

// rounding, in kilometres, is a millimetre.
const rounding = 1e-6

// distance is Vincenty's formula on the sphere. It differs from the herd's own formula, so
// that each checks the other.
func distance(q places.Query, at nearby.Location) float64 {
	const degree = math.Pi / 180
	sin1, cos1 := math.Sincos(q.Lat * degree)
	sin2, cos2 := math.Sincos(at.Lat * degree)
	sinLon, cosLon := math.Sincos((at.Lng - q.Lon) * degree)
	return 6371.0088 * math.Atan2(
		math.Hypot(cos2*sinLon, cos1*sin2-sin1*cos2*cosLon),
		sin1*sin2+cos1*cos2*cosLon)
}
